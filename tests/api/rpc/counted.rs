//! What the server counts of itself, by real causes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::json;
use tallyhook::metrics::Metrics;

use crate::common::store::is_postgres;
use crate::common::{Receiver, Reply, Start};

/// The value of a metric, whose labels are written `name=value`.
fn value(metrics: &Metrics, name: &str, labels: &[&str]) -> i64 {
    let text = |(label, value): &(&str, &str)| format!("{label}={value}");
    let samples = metrics.snapshot();
    let is_wanted = |labels_of: &[(&str, &str)]| labels_of.iter().map(text).eq(labels.iter().copied());
    let found = samples.iter().find(|sample| sample.name == name && is_wanted(&sample.labels));
    found.unwrap_or_else(|| panic!("no {name} {labels:?}")).value
}

#[tokio::test]
async fn calls_attempts_and_lanes_are_counted() {
    let server = Start::default().go().await;
    let metrics = server.metrics();
    let (seen, watched) = (Arc::new(AtomicI64::new(0)), Arc::clone(&metrics));
    let noted = Arc::clone(&seen);
    let good = Receiver::start(move |_, _| {
        noted.store(value(&watched, "requests_in_flight", &[]), Ordering::Relaxed);
        Reply::status(204)
    })
    .await;
    let id = server.webhook(json!({"topics": "a:b", "url": good.url()})).await["webhook_id"].as_i64().unwrap();
    server.publish("a:b", json!({})).await;
    server.settled(id).await;
    assert_eq!(seen.load(Ordering::Relaxed), 1, "one request was under way when it came");

    let bad = Receiver::start(|_, _| Reply::status(500)).await;
    let id = server.webhook(json!({"topics": "a:c", "url": bad.url()})).await["webhook_id"].as_i64().unwrap();
    server.publish("a:c", json!({})).await;
    server.attempts(id, 1, 1).await;
    server.call("webhook.get", json!([99])).await.unwrap_err();

    assert_eq!(value(&metrics, "attempts", &["outcome=delivered"]), 1);
    assert_eq!(value(&metrics, "attempts", &["outcome=status"]), 1);
    assert_eq!(value(&metrics, "lanes", &["state=proven"]), 1);
    assert_eq!(value(&metrics, "lanes", &["state=unproven"]), 1);
    assert_eq!(value(&metrics, "calls", &["method=event.publish", "fault=none"]), 2);
    assert_eq!(value(&metrics, "calls", &["method=webhook.get", "fault=NoWebhook"]), 1);
    // That of `call` itself, whose fault is that of the method it calls.
    assert_eq!(value(&metrics, "calls", &["method=call", "fault=other"]), 1);
    assert!(value(&metrics, "connections", &[]) >= 1);

    server.stop().await;
    for name in ["requests_in_flight", "outcomes_unrecorded", "connections"] {
        assert_eq!(value(&metrics, name, &[]), 0, "{name}");
    }
}

#[tokio::test]
async fn commits_and_what_waits_for_them_are_counted() {
    let server = Start::default().flag("busy_timeout_ms", "0").go().await;
    let metrics = server.metrics();
    let commits = |outcome: &str| value(&metrics, "commits", &[&format!("outcome={outcome}")]);
    let id = server.webhook(json!({"topics": "a:b", "delivery_mode": "pull"})).await["webhook_id"].as_i64().unwrap();
    let before = (commits("committed"), value(&metrics, "commit_rows", &["le=+Inf"]));
    assert_eq!(before.0, before.1);
    server.publish("a:b", json!({})).await;
    assert!(commits("committed") > before.0);
    // One may be counted just now, for what goes on beside.
    let counted = |name| value(&metrics, name, &["le=+Inf"]);
    let agree = || ["commit_changes", "commit_rows", "commit_seconds"].map(counted) == [commits("committed"); 3];
    server.until(async || agree().then_some(())).await;
    assert!(value(&metrics, "commit_rows", &["le=4.0"]) > 0);

    assert_eq!(commits("failed"), 0);
    let held = server.hold_store();
    server.call("event.publish", json!(["a:b", {}])).await.unwrap_err();
    // Whoever is held by another node has failed no commit.
    assert_eq!(commits("failed") > 0, !is_postgres());
    drop(held);
    assert_eq!(value(&metrics, "changes_waiting", &[]), 0);
    server.call("webhook.get", json!([id])).await.unwrap();
    server.stop().await;
    for user in ["calls", "lanes"] {
        assert_eq!(value(&metrics, "readers_in_use", &[&format!("user={user}")]), 0, "{user}");
    }
}

#[tokio::test]
async fn refusals_are_counted_by_their_limit() {
    let start = Start::default().flag("login_failures_max", "1").flag("login_slowdown_ms", "0");
    let server = start.flag("body_bytes_max", "2000").flag("calls_per_second_max", "1").go().await;
    let refused = |limit: &str| value(&server.metrics(), "refusals", &[limit]);
    for _ in 0..3 {
        server.rpc("login", json!(["demo", "wrong"])).await.unwrap_err();
    }
    assert_eq!(refused("limit=login_failures"), 1);
    server.post("/", &[], format!("{:2001}", "{}")).await;
    assert_eq!(refused("limit=body_bytes"), 1);
    assert_eq!(refused("limit=calls"), 0);
    let mut count = 0;
    while server.call("webhook.list", json!([])).await.is_ok() {
        count += 1;
        assert!(count < 100, "there is a limit of one a second");
    }
    assert_eq!(refused("limit=calls"), 1);
    assert_eq!(value(&server.metrics(), "calls", &["method=call", "fault=TooManyCalls"]), 1);
}
