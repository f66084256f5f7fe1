//! What requests are called: in answers, in faults, and in the log.

use std::collections::HashSet;

use serde_json::json;

use crate::common::log::{keep, lines_with};
use crate::common::{DEMO_KEY, Start, TestServer, basic};

/// What the answer to a request says that it is called, which may have given a name.
async fn name(server: &TestServer, (method, path): (&str, &str), given: Option<&str>) -> String {
    let headers: Vec<_> = given.into_iter().map(|given| ("x-request-id", given)).collect();
    let (_, headers, _) = server.exchange(method, path, &headers, "").await;
    let names: Vec<_> = headers.get_all("x-request-id").iter().collect();
    assert_eq!(names.len(), 1, "{method} {path}");
    names[0].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_answer_says_what_its_request_is_called() {
    let server = TestServer::start().await;
    let mut made = HashSet::new();
    for request in [
        ("POST", "/"),
        ("POST", "/rpc"),
        ("POST", "/api/jsonrpc"),
        ("DELETE", "/rpc"),
        ("GET", "/openrpc.json"),
        ("GET", "/docs"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("GET", "/rest/v2/webhook/webhooks"),
        ("GET", "/3dCartWebAPI/v2/Webhooks"),
        ("GET", "/v1/webhooks/subscriptions"),
    ] {
        assert_eq!(
            name(&server, request, Some("Root=1-67891233-abcdef01.a/b+c@d:e_f")).await,
            "Root=1-67891233-abcdef01.a/b+c@d:e_f"
        );
        for given in [None, Some(""), Some("two words"), Some("a\"b"), Some("a\tb"), Some(&*"x".repeat(65))] {
            let own = name(&server, request, given).await;
            assert!(own.len() == 16 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{own}");
            assert!(made.insert(own), "each has another name");
        }
    }
}

#[tokio::test]
async fn what_the_server_failed_at_is_found_in_its_log() {
    keep();
    let server = Start::default().flag("busy_timeout_ms", "0").go().await;
    let webhook = server.webhook(json!({"url": "http://127.0.0.1:9/", "topics": "a:*"})).await;
    let authorization = basic("demo", DEMO_KEY);
    let held = server.place.refuse_changes();
    for (place, (method, args)) in [
        ("webhook.create", json!([{"url": "http://127.0.0.1:9/", "topics": "a:*"}])),
        ("webhook.delete", json!([webhook["webhook_id"]])),
        ("webhook.update", json!([webhook["webhook_id"], {"name": "other"}])),
        ("webhook.update_status", json!([{"status": 0}])),
        ("event.publish", json!(["a:b", {}])),
        ("topic.register", json!(["a:b"])),
    ]
    .into_iter()
    .enumerate()
    {
        let given = format!("probe-{place}");
        let headers = [("authorization", &*authorization), ("x-request-id", &*given)];
        let one = server.rpc_at("/", &headers, "call", json!([null, method, args])).await.unwrap_err();
        assert_eq!(one["data"]["request_id"], given, "{method}: {one}");
        let many = server.rpc_at("/", &headers, "multiCall", json!([null, [[method, args]]])).await.unwrap();
        assert_eq!(many[0]["faultData"]["request_id"], given, "{method}: {many}");
        let told = lines_with(&format!("request_id={given}"));
        assert_eq!(told.iter().filter(|line| line.contains("the store failed")).count(), 2, "{method}: {told:?}");
    }
    drop(held);

    // What is wrong with a call is no affair of the log.
    let wrong = server.call("webhook.delete", json!([4711])).await.unwrap_err();
    assert_eq!(wrong.pointer("/data/request_id"), None, "{wrong}");
}

#[tokio::test]
async fn who_changed_what_is_told_with_the_request() {
    keep();
    let server = TestServer::start().await;
    let headers = [("authorization", &*basic("demo", DEMO_KEY)), ("x-request-id", "probe-of-a-change")];
    let data = json!([null, "webhook.create", [{"url": "http://127.0.0.1:9/", "topics": "a:*"}]]);
    server.rpc_at("/", &headers, "call", data).await.unwrap();
    let told = lines_with("request_id=probe-of-a-change");
    assert!(told.iter().any(|line| line.contains("a webhook was made")), "{told:?}");
}
