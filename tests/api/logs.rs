//! What a server tells its log of those who call, however often they do.

use serde_json::json;

use crate::common::log::{keep, lines_with};
use crate::common::store::is_postgres;
use crate::common::{PATIENCE, Start, TestServer, basic};

#[tokio::test]
async fn what_others_cause_has_few_lines() {
    keep();
    let (server, hand) = Start::default().flag("login_failures_max", "3").flag("login_slowdown_ms", "0").manual().await;
    server.user("log-probe", "acme", "");
    for _ in 0..30 {
        server.rpc("login", json!(["log-probe", "a-wrong-key"])).await.unwrap_err();
        server.rpc("login", json!(["tk_a_key_in_its_place", "log-probe"])).await.unwrap_err();
    }
    let told = lines_with("a login failed");
    let own: Vec<_> = told.iter().filter(|line| line.contains("user=\"log-probe\"")).collect();
    assert!((1..=10).contains(&own.len()), "{own:?}");
    assert!(lines_with("a-wrong-key").is_empty() && lines_with("tk_a_key_in_its_place").is_empty());

    // 26 of either name were one too many.
    hand.pass(60);
    let look = async {
        while lines_with("refused=\"login_failures 52\"").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it is told");
}

/// By whichever door: with a key, by a session from before, and by the key alone.
#[tokio::test]
async fn who_is_disabled_and_calls_is_told() {
    keep();
    let server = TestServer::start().await;
    let admin = basic("disabling-probe", &server.user("disabling-probe", "acme", "admin"));
    let key = server.user("disabled-probe", "acme", "webhook_read");
    let session = server.login_as("disabled-probe", &key).await;
    let call = json!([null, "user.disable", ["disabled-probe"]]);
    server.rpc_at("/", &[("authorization", &admin)], "call", call).await.unwrap();
    let (basic, bearer) = (basic("disabled-probe", &key), format!("Bearer {key}"));
    for (headers, session) in
        [(vec![("authorization", &*basic)], None), (vec![], Some(&session)), (vec![("authorization", &*bearer)], None)]
    {
        let error = server.rpc_at("/", &headers, "webhook.list", json!([session])).await.unwrap_err();
        assert_eq!(error["code"], 119, "{error}");
    }
    let told = lines_with("a user who is disabled was refused");
    let own: Vec<_> = told.iter().filter(|line| line.contains("user=\"disabled-probe\"")).collect();
    assert_eq!(own.len(), 3, "{told:?}");
    assert!(own.iter().all(|line| line.contains("peer=127.0.0.1") && line.contains("request_id=")), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_is_told() {
    keep();
    let slow = Start::default().flag("slow_call_ms", "20").flag("slow_commit_ms", "20");
    let server = std::sync::Arc::new(slow.go().await);
    let held = server.hold_store();
    let began = std::time::Instant::now();
    let calling = std::sync::Arc::clone(&server);
    let call = tokio::spawn(async move { calling.call("topic.register", json!(["slow:one"])).await });
    while began.elapsed().as_millis() < 60 {
        tokio::task::yield_now().await;
    }
    drop(held);
    call.await.unwrap().unwrap();
    let told = lines_with("a call took long");
    assert!(told.iter().any(|line| line.contains("method=\"topic.register\" took_ms=")), "{told:?}");
    // A database has the merchant waited for before a transaction, and not in it.
    if !is_postgres() {
        let told = lines_with("a commit took long");
        assert!(told.iter().any(|line| line.contains("changes=1")), "{told:?}");
    }
}
