//! What a server tells its log of those who call, however often they do.

use serde_json::json;

use crate::common::log::{keep, lines_with};
use crate::common::store::is_postgres;
use crate::common::{PATIENCE, Start};

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
