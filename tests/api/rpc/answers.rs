//! What answers cost: lists that are cut, answers that are there once, and
//! calls of those who are not logged in.

use serde_json::{Value, json};

use crate::common::{Start, TestServer, get};

/// Posts calls, or one; the whole answer.
async fn whole(server: &TestServer, body: &Value) -> Value {
    let (status, text) = server.post("/", &[], body.to_string()).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn list(id: u64, session: &str, options: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "webhook.list", "params": [session, options]})
}

async fn long_webhooks(server: &TestServer, count: usize, length: usize) {
    for _ in 0..count {
        let url = format!("http://127.0.0.1:9/{}", "x".repeat(length));
        server.webhook(json!({"topics": "order:*", "url": url})).await;
    }
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|item| item["webhook_id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_list_that_is_too_long_is_cut_and_goes_on() {
    let server = Start::default().flag("response_bytes_max", "4096").go().await;
    long_webhooks(&server, 7, 900).await;
    let session = server.login().await;
    let all: Vec<i64> = (1..8).collect();
    for (sort, expected) in [("webhook_id", all.clone()), ("-webhook_id", all.iter().rev().copied().collect())] {
        let (mut found, mut options, mut cuts) = (Vec::new(), json!({"sort": sort}), 0);
        loop {
            let answer = whole(&server, &list(1, &session, options.clone())).await;
            assert!(answer.to_string().len() < 4_096 + 100);
            found.extend(ids(&answer["result"]));
            let Some(cut) = answer.get("cut") else { break };
            assert_eq!(cut, &json!({"after_webhook_id": found.last().unwrap()}));
            options["after_webhook_id"] = cut["after_webhook_id"].clone();
            cuts += 1;
        }
        assert_eq!(found, expected);
        assert!(cuts > 0);
    }
    // Cut by its limit it is a page, and not too long.
    let page = whole(&server, &list(1, &session, json!({"limit": 2}))).await;
    assert_eq!((ids(&page["result"]), page.get("cut")), (vec![1, 2], None));

    // The shape of the version as a number, `call` and batches have it, too.
    let call = json!({"jsonrpc": 2.0, "id": 1, "method": "call", "params": [session, "webhook.list", []]});
    let answers = whole(&server, &json!([call, list(2, &session, json!({"limit": 1}))])).await;
    assert_eq!(answers[0]["error"], Value::Null);
    assert_eq!(answers[0]["cut"]["after_webhook_id"].as_i64(), ids(&answers[0]["result"]).last().copied());
    assert_eq!((ids(&answers[1]["result"]), answers[1].get("cut")), (vec![1], None));
    let many = server.rpc("multiCall", json!([session, [["webhook.list"], ["webhook.count"]]])).await.unwrap();
    assert_eq!((&many[0]["faultCode"], &many[1]), (&json!(111), &json!(7)));
    let by_url = server.rpc("webhook.list", json!([session, {"sort": "url"}])).await.unwrap_err();
    assert_eq!((&by_url["code"], &by_url["data"]["field"]), (&json!(111), &json!("sort")));
}

/// Each of these bytes is six of an answer.
#[tokio::test]
async fn what_is_longer_as_json_counts_as_long() {
    let server = Start::default().flag("response_bytes_max", "16384").go().await;
    let webhook = server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    for _ in 0..4 {
        server.publish("order:created", json!({"text": "\u{1}".repeat(1_000)})).await;
    }
    let session = server.login().await;
    let pull = |after: i64| {
        let params = json!([session, webhook["webhook_id"], after]);
        json!({"jsonrpc": "2.0", "id": 1, "method": "delivery.pull", "params": params})
    };
    let first = whole(&server, &pull(0)).await;
    let through = first["cut"]["after_increment_id"].as_i64().expect("it is cut");
    let rest = whole(&server, &pull(through)).await;
    let numbers = |answer: &Value| answer["result"].as_array().unwrap().len();
    assert!(numbers(&first) < 4 && numbers(&rest) > 0);
}

#[tokio::test]
async fn the_document_is_there_once_for_all() {
    let server = TestServer::start().await;
    let (_, document) = get(&server.url(), "/openrpc.json").await;
    let calls: Vec<_> = (0..3).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "rpc.discover"})).collect();
    let answers = whole(&server, &json!(calls)).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    for (id, answer) in answers.as_array().unwrap().iter().enumerate() {
        assert_eq!((&answer["id"], &answer["result"]), (&json!(id), &document));
    }
}

#[tokio::test]
async fn who_is_not_logged_in_has_a_rate() {
    let start = Start::default().flag("stranger_calls_per_second_max", "2").flag("stranger_calls_burst_max", "3");
    let (server, hand) = start.manual().await;
    let session = server.login().await;
    let discover = json!({"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"});
    let answers = whole(&server, &json!([discover, discover, discover])).await;
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["error"]["code"].clone()).collect();
    assert_eq!(codes, [Value::Null, Value::Null, json!(120)], "login was the first");
    assert_eq!(answers[2]["error"]["data"]["retry_after_ms"], 500);
    let code = |outcome: Result<Value, Value>| outcome.unwrap_err()["code"].clone();
    assert_eq!(code(server.rpc("webhook.list", json!(["no session"])).await), 120);
    let (status, headers, _) = server.exchange("GET", "/v1/webhooks/subscriptions", &[], "").await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "1"));
    // Who is logged in is none of them.
    assert_eq!(server.rpc("webhook.list", json!([session])).await, Ok(json!([])));
    hand.pass(1);
    assert_eq!(code(server.rpc("webhook.list", json!(["no session"])).await), 5);
    assert!(server.rpc("rpc.discover", json!([])).await.is_ok());
    assert_eq!(code(server.rpc("endSession", json!(["no session"])).await), 120);
}

/// Refusing costs as much as answering, so what can't be run counts too.
#[tokio::test]
async fn what_can_not_be_run_counts_as_a_strangers_call() {
    for (method, at, body) in [
        ("POST", "/", "{}"),
        ("POST", "/", "no json"),
        ("POST", "/", "[]"),
        ("POST", "/rpc", r#"{"jsonrpc": "2.0", "id": 1, "method": "no.method"}"#),
        ("GET", "/nothing", ""),
        ("GET", "/docs", ""),
        ("PUT", "/", ""),
    ] {
        let start = Start::default().flag("stranger_calls_per_second_max", "1").flag("stranger_calls_burst_max", "2");
        let (server, _hand) = start.manual().await;
        for _ in 0..2 {
            server.exchange(method, at, &[("content-type", "application/json")], body).await;
        }
        assert_eq!(server.rpc("rpc.discover", json!([])).await.unwrap_err()["code"], 120, "{method} {at} {body}");
    }
}
