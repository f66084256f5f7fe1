//! Receivers that ask to be left alone, or fail so often that they are: what is
//! shown of that, what goes out all the same, and what ends it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{breakable, deliveries, get, has_gone, order, publish, states};
use crate::common::manual::{START, webhook};
use crate::common::{Receiver, Reply, Start, TestServer};

const PAUSE_S: u64 = 600;

fn at_s(seconds: u64) -> Value {
    json!(START.after(Duration::from_secs(seconds)).rfc3339_ms())
}

/// A receiver that asks to be left alone, and takes what comes after that.
async fn busy() -> Receiver {
    Receiver::start(|n, _| match n {
        0 => Reply::status(429).header("retry-after", "600"),
        _ => Reply::status(204),
    })
    .await
}

/// Waits until what may go out of anything has gone out.
async fn come_to_rest(server: &TestServer, other: i64) {
    server.call("webhook.test", json!([other])).await.unwrap();
}

async fn shown(server: &TestServer, id: i64) -> [Value; 3] {
    let all = [get(server, id).await, server.call("webhook.stats", json!([id])).await.unwrap()];
    let [webhook, stats] = all.map(|shown| ["paused_until", "pause_reason", "breaker"].map(|name| shown[name].clone()));
    assert_eq!(webhook, stats);
    webhook
}

async fn next_attempts(server: &TestServer, id: i64) -> Vec<Value> {
    deliveries(server, id).await.iter().map(|delivery| delivery["next_attempt_at"].clone()).collect()
}

#[tokio::test]
async fn a_pause_is_shown_and_a_retry_goes_out_in_it_and_ends_it() {
    for kind in [json!({}), json!({"delivery_mode": "ordered"}), json!({"batch": {"max_events": 1}})] {
        let (server, _hand) = Start::default().manual().await;
        let other = webhook(&server, &Receiver::obliging().await, json!({"topics": "nothing:*"})).await;
        let receiver = busy().await;
        let id = webhook(&server, &receiver, kind.clone()).await;
        assert_eq!(shown(&server, id).await, [Value::Null, Value::Null, json!("closed")]);
        publish(&server, 1).await;
        server.attempts(id, 1, 1).await;
        publish(&server, 2).await;
        assert_eq!(shown(&server, id).await, [at_s(PAUSE_S), json!("retry_after"), json!("closed")]);
        assert_eq!(next_attempts(&server, id).await, [at_s(PAUSE_S), at_s(PAUSE_S), at_s(PAUSE_S)], "{kind}");
        // A replay waits like the others.
        let range = json!({"from_increment_id": 1, "to_increment_id": 1});
        server.call("webhook.replay", json!([id, range])).await.unwrap();
        come_to_rest(&server, other).await;
        assert_eq!(next_attempts(&server, id).await[0], at_s(PAUSE_S), "{kind}");
        assert_eq!(receiver.so_far().len(), 1, "{kind}");

        let retried = server.call("delivery.retry", json!([id, 1])).await.unwrap();
        assert!(has_gone(&retried, 1) || retried["next_attempt_at"] == at_s(0), "{kind}: {retried}");
        assert_eq!(states(&server.settled(id).await), ["delivered"; 3], "{kind}");
        let sent: Vec<_> = receiver.so_far().iter().map(|arrived| arrived.events()[0].0).collect();
        assert_eq!(sent[..2], [1, 1], "{kind}");
        assert_eq!(shown(&server, id).await, [Value::Null, Value::Null, json!("closed")], "{kind}");
    }
}

#[tokio::test]
async fn what_was_never_sent_goes_out_in_a_pause_if_it_is_asked_to_and_a_failure_ends_nothing() {
    for batch in [json!(null), json!({"max_events": 10, "wait_ms": 60000})] {
        let (server, _hand) = Start::default().manual().await;
        let other = webhook(&server, &Receiver::obliging().await, json!({"topics": "nothing:*"})).await;
        let receiver = Receiver::start(|n, _| match n {
            0 => Reply::status(503).header("retry-after", "600"),
            1 => Reply::status(500),
            _ => Reply::status(204),
        })
        .await;
        let id = webhook(&server, &receiver, json!({})).await;
        publish(&server, 1).await;
        server.attempts(id, 1, 1).await;
        server.call("webhook.update", json!([id, {"batch": batch}])).await.unwrap();
        publish(&server, 3).await;
        let retried = server.call("delivery.retry", json!([id, 3])).await.unwrap();
        assert!(has_gone(&retried, 0) || retried["next_attempt_at"] == at_s(0), "{retried}");
        server.attempts(id, 3, 1).await;
        come_to_rest(&server, other).await;
        let sent: Vec<_> = receiver.so_far().iter().map(|arrived| arrived.events()[0].0).collect();
        assert_eq!(sent, [1, 3], "{batch}");
        assert_eq!(shown(&server, id).await, [at_s(PAUSE_S), json!("retry_after"), json!("closed")]);
        // As a test does, it goes out while its webhook is off, too.
        server.call("webhook.update", json!([id, {"is_active": 0}])).await.unwrap();
        assert_eq!(next_attempts(&server, id).await, [Value::Null, Value::Null, Value::Null, Value::Null]);
        server.call("delivery.retry", json!([id, 3])).await.unwrap();
        server.attempts(id, 3, 2).await;
        assert_eq!(states(&deliveries(&server, id).await), ["pending", "pending", "delivered", "pending"]);
    }
}

#[tokio::test]
async fn a_pause_that_was_asked_for_outlives_a_restart() {
    for mode in ["parallel", "ordered"] {
        let (server, _hand) = Start::default().manual().await;
        let receiver = busy().await;
        let other = webhook(&server, &Receiver::obliging().await, json!({"topics": "nothing:*"})).await;
        let id = webhook(&server, &receiver, json!({"delivery_mode": mode})).await;
        publish(&server, 1).await;
        server.attempts(id, 1, 1).await;
        let (server, hand) = Start { place: server.stop().await, ..Start::default() }.manual().await;
        publish(&server, 1).await;
        come_to_rest(&server, other).await;
        assert_eq!(receiver.so_far().len(), 1, "{mode}");
        assert_eq!(shown(&server, id).await, [at_s(PAUSE_S), json!("retry_after"), json!("closed")]);
        hand.pass(PAUSE_S);
        assert_eq!(states(&server.settled(id).await), ["delivered"; 2], "{mode}");
        let mut numbers = order(&receiver.so_far());
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 1, 2]);
        // Another receiver is not left alone for what this one has asked.
        let again = busy().await;
        server.call("webhook.update", json!([id, {"url": again.url()}])).await.unwrap();
        publish(&server, 1).await;
        server.attempts(id, 3, 1).await;
        assert_ne!(shown(&server, id).await[0], Value::Null);
        server.call("webhook.update", json!([id, {"url": receiver.url()}])).await.unwrap();
        assert_eq!(shown(&server, id).await[0], Value::Null);
    }
}

#[tokio::test]
async fn an_open_breaker_is_shown_and_says_when_it_is_tried_again() {
    let (server, hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    is_down.store(true, std::sync::atomic::Ordering::SeqCst);
    let id = webhook(&server, &receiver, json!({})).await;
    publish(&server, 6).await;
    server.until(async || (get(&server, id).await["consecutive_failures"] == 5).then_some(())).await;
    assert_eq!(shown(&server, id).await, [at_s(1), json!("failures"), json!("open")]);
    let next = next_attempts(&server, id).await;
    assert_eq!((&next[0], &next[5]), (&at_s(5), &at_s(1)), "after its own retry time, and with the next probe");
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    hand.pass(5);
    server.settled(id).await;
    assert_eq!(shown(&server, id).await, [Value::Null, Value::Null, json!("closed")]);
}

#[tokio::test]
async fn a_paused_webhook_is_numbered_and_sent_to_when_it_is_resumed() {
    for mode in ["parallel", "ordered"] {
        let (server, _hand) = Start::default().manual().await;
        let other = webhook(&server, &Receiver::obliging().await, json!({"topics": "nothing:*"})).await;
        let receiver = Receiver::obliging().await;
        let id = webhook(&server, &receiver, json!({"delivery_mode": mode})).await;
        let off = webhook(&server, &receiver, json!({"is_active": 0})).await;
        let paused = server.call("webhook.pause", json!([id])).await.unwrap();
        assert_eq!(
            (&paused["is_paused"], &paused["is_active"], &paused["disabled"]),
            (&json!(1), &json!(1), &json!(false))
        );
        assert_eq!(server.call("webhook.pause", json!([id])).await.unwrap(), paused, "once is enough");
        let receipt = server.publish("order:created", json!({"n": 1})).await;
        assert_eq!(receipt["deliveries"], json!([{"webhook_id": id, "increment_id": 1}]), "one that is off has none");
        come_to_rest(&server, other).await;
        let server = Start { place: server.stop().await, ..Start::default() }.go().await;
        server.publish("order:created", json!({"n": 2})).await;
        come_to_rest(&server, other).await;
        assert_eq!(next_attempts(&server, id).await, [Value::Null, Value::Null]);
        assert!(receiver.so_far().is_empty(), "{mode}");
        let resumed = server.call("webhook.resume", json!([id])).await.unwrap();
        assert_eq!(resumed["is_paused"], 0);
        assert_eq!(states(&server.settled(id).await), ["delivered"; 2]);
        let mut numbers = order(&receiver.so_far());
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2], "{mode}");
        assert_eq!(get(&server, off).await["increment_id"], 0);
    }
}

/// What the receiver has asked for holds, whatever its webhook's owner does meanwhile.
#[tokio::test]
async fn a_resumed_webhook_keeps_to_the_pause_that_its_receiver_asked_for() {
    let (server, _hand) = Start::default().manual().await;
    let id = webhook(&server, &busy().await, json!({})).await;
    publish(&server, 1).await;
    server.attempts(id, 1, 1).await;
    server.call("webhook.pause", json!([id])).await.unwrap();
    server.call("webhook.resume", json!([id])).await.unwrap();
    assert_eq!(shown(&server, id).await, [at_s(PAUSE_S), json!("retry_after"), json!("closed")]);
    server.call("webhook.update", json!([id, {"is_active": 0}])).await.unwrap();
    server.call("webhook.update", json!([id, {"is_active": 1}])).await.unwrap();
    assert_eq!(shown(&server, id).await[0], Value::Null, "switched on, it begins anew");
}

#[tokio::test]
async fn a_server_that_was_started_paused_takes_in_and_sends_nothing() {
    let server = Start::default().flag("paused", "true").go().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    publish(&server, 3).await;
    let fault = server.call("webhook.test", json!([id])).await.unwrap_err();
    assert_eq!((&fault["code"], fault["message"].as_str().unwrap().contains("--paused")), (&json!(112), true));
    let retried = server.call("delivery.retry", json!([id, 2])).await.unwrap();
    assert_eq!(retried["next_attempt_at"], Value::Null);
    assert_eq!(states(&deliveries(&server, id).await), ["pending"; 3]);
    assert!(receiver.so_far().is_empty());
    let server = Start { place: server.stop().await, ..Start::default() }.go().await;
    assert_eq!(states(&server.settled(id).await), ["delivered"; 3]);
}
