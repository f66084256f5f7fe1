//! Several events in one request: one batch, from before its first attempt
//! for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::common::manual::{SECRET, verify, webhook};
use crate::common::{Arrived, Receiver, Reply, Start, TestServer};

/// A receiver that answers this status.
async fn answering(status: u16) -> (Receiver, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let theirs = Arc::clone(&status);
    (Receiver::start(move |_, _| Reply::status(theirs.load(Ordering::SeqCst))).await, status)
}

async fn publish(server: &TestServer, count: usize) {
    let events: Vec<_> = (1..=count).map(|n| json!({"topic": "order:created", "message": {"n": n}})).collect();
    server.call("event.publish_many", json!([events])).await.unwrap();
}

async fn deliveries(server: &TestServer, id: i64) -> Vec<Value> {
    server.call("delivery.list", json!([id, {"limit": 1000}])).await.unwrap().as_array().unwrap().clone()
}

fn spans(arrived: &[Arrived]) -> Vec<(i64, i64)> {
    let span = |arrival: &Arrived| {
        let body = arrival.json();
        (body["first_increment_id"].as_i64().unwrap(), body["last_increment_id"].as_i64().unwrap())
    };
    arrived.iter().map(span).collect()
}

#[tokio::test]
async fn a_batch_is_posted_signed_and_numbered_as_one() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"batch": {"max_events": 3, "wait_ms": 500}})).await;
    publish(&server, 3).await;
    let arrived = receiver.arrivals(1).await.remove(0);
    verify(&arrived);
    let event = |n| {
        format!(
            r#"{{"increment_id": {n}, "event_id": {n}, "topic": "order:created", "created_at": "2023-11-14T22:13:20.000Z", "message": {{"n":{n}}}}}"#
        )
    };
    let events = [event(1), event(2), event(3)].join(", ");
    let body =
        format!(r#"{{"webhook_id": {id}, "first_increment_id": 1, "last_increment_id": 3, "events": [{events}]}}"#);
    assert_eq!(arrived.body, body);
    assert_eq!(arrived.header("tallyhook-increment-id"), "1-3");
    let store = arrived.header("webhook-id").split('_').nth(1).unwrap().to_owned();
    assert_eq!(arrived.header("tallyhook-event-id"), format!("evt_{store}_1-3"));
    assert!(arrived.header("webhook-id").ends_with(&format!("_{id}_1-3")), "{}", arrived.header("webhook-id"));
    let ended = server.settled(id).await;
    assert!(
        ended.iter().all(|delivery| (&delivery["state"], &delivery["attempts"]) == (&json!("delivered"), &json!(1)))
    );
    let attempts = server.call("delivery.attempts", json!([id, 3])).await.unwrap();
    assert_eq!(attempts, server.call("delivery.attempts", json!([id, 1])).await.unwrap());
    assert_eq!(attempts[0], server.call("delivery.attempt", json!([id, 3, 1])).await.unwrap());
    assert_eq!(attempts.as_array().unwrap().len(), 1);

    // What is less than a batch waits, and not longer than it may.
    server.publish("order:created", json!({"n": 4})).await;
    hand.pass_ms(499);
    server.publish("order:created", json!({"n": 5})).await;
    assert_eq!(receiver.so_far().len(), 1);
    hand.pass_ms(1);
    assert_eq!(spans(&receiver.arrivals(2).await), [(1, 3), (4, 5)]);
    // Pulled, each number is by itself.
    let pulled = server.call("delivery.pull", json!([id, 3])).await.unwrap();
    assert!(pulled[0]["body"].as_str().unwrap().contains(r#""increment_id": 4, "event_id": 4, "topic""#), "{pulled}");
}

#[tokio::test]
async fn a_batch_is_retried_replayed_and_ended_as_one() {
    for mode in ["parallel", "ordered"] {
        let (server, hand) = Start::default().manual().await;
        let (receiver, status) = answering(500).await;
        let batch = json!({"max_events": 4, "wait_ms": 0});
        let more = json!({"delivery_mode": mode, "batch": batch, "retry": [5, 5]});
        let id = webhook(&server, &receiver, more).await;
        publish(&server, 4).await;
        server.attempts(id, 1, 1).await;
        let due: Vec<_> = deliveries(&server, id).await.iter().map(|item| item["next_attempt_at"].clone()).collect();
        assert_eq!(due, vec![json!("2023-11-14T22:13:25.000Z"); 4]);
        hand.pass(5);
        server.attempts(id, 1, 2).await;
        hand.pass(5);
        let ended = server.settled(id).await;
        assert!(ended.iter().all(|item| item["state"] == "abandoned" && item["attempts"] == 3), "{ended:?}");

        status.store(200, Ordering::SeqCst);
        server.call("delivery.retry", json!([id, 3])).await.unwrap();
        receiver.arrivals(4).await;
        server.settled(id).await;
        // From within the batch to its first: all of it, once.
        hand.pass(60);
        server.call("webhook.replay", json!([id, {"from_increment_id": 2, "to_increment_id": 2}])).await.unwrap();
        let arrived = receiver.arrivals(5).await;
        server.attempts(id, 4, 5).await;
        assert_eq!(spans(&arrived), [(1, 4); 5], "{mode}");
        for other in &arrived {
            assert_eq!((&other.body, other.header("webhook-id")), (&arrived[0].body, arrived[0].header("webhook-id")));
        }
        let ended = deliveries(&server, id).await;
        assert!(ended.iter().all(|item| item["state"] == "delivered" && item["attempts"] == 5), "{ended:?}");
        assert_eq!(receiver.so_far().len(), 5);
    }
}

#[tokio::test]
async fn a_batch_is_the_same_after_a_restart_and_a_change() {
    for mode in ["parallel", "ordered"] {
        let (server, _hand) = Start::default().manual().await;
        let (receiver, status) = answering(503).await;
        let more = json!({"delivery_mode": mode, "batch": {"max_events": 2, "wait_ms": 60_000}, "retry": [5, 5]});
        let id = webhook(&server, &receiver, more).await;
        publish(&server, 5).await;
        server.attempts(id, 2, 1).await;
        server.call("webhook.update", json!([id, {"batch": {"max_events": 50, "wait_ms": 0}}])).await.unwrap();
        let place = server.stop().await;
        let before = receiver.so_far().len();
        status.store(200, Ordering::SeqCst);
        let (server, hand) = Start { place, ..Start::default() }.manual().await;
        hand.pass(60);
        server.settled(id).await;
        let mut numbers = Vec::new();
        for (first, last) in spans(&receiver.so_far()[before..]) {
            assert!(first > 2 || (first, last) == (1, 2), "{mode}: {first}-{last}");
            numbers.extend(first..=last);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5], "{mode}");
    }
}

#[tokio::test]
async fn a_member_can_t_be_cancelled_alone() {
    let (server, hand) = Start::default().manual().await;
    let (receiver, _) = answering(500).await;
    let batch = json!({"max_events": 3, "wait_ms": 1_000});
    let id = webhook(&server, &receiver, json!({"batch": batch})).await;
    publish(&server, 5).await;
    server.attempts(id, 1, 1).await;
    let fault = server.call("delivery.cancel", json!([id, 2])).await.unwrap_err();
    assert_eq!(fault["code"], 113);
    assert!(fault["message"].as_str().unwrap().contains("1-3"), "{fault}");
    let cancelled = server.call("delivery.cancel", json!([id, 2, 1])).await.unwrap();
    assert_eq!(cancelled["state"], "cancelled");
    let fault = server.call("delivery.cancel", json!([id, 3])).await.unwrap_err();
    assert!(fault["message"].as_str().unwrap().contains("cancelled already"), "{fault}");
    // What was not sent yet is in no batch: 4 goes alone, 5 was cancelled.
    server.call("delivery.cancel", json!([id, 5])).await.unwrap();
    hand.pass(1);
    receiver.arrivals(2).await;
    let states: Vec<_> = server.attempts(id, 4, 1).await;
    assert_eq!(states.len(), 1);
    assert_eq!(spans(&receiver.so_far()), [(1, 3), (4, 4)]);
    let ended = deliveries(&server, id).await;
    let states: Vec<_> = ended.iter().map(|item| item["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["cancelled", "cancelled", "cancelled", "pending", "cancelled"]);
}

#[tokio::test]
async fn a_test_is_a_batch_of_one_and_a_notice_counts_all() {
    let (server, _hand) = Start::default().manual().await;
    let (receiver, status) = answering(200).await;
    let more = json!({"topics": "order:*", "batch": {"max_events": 10, "wait_ms": 0}, "retry": []});
    let id = webhook(&server, &receiver, more).await;
    let observer = Receiver::obliging().await;
    webhook(&server, &observer, json!({"topics": "tallyhook:*"})).await;
    let tested = server.call("webhook.test", json!([id])).await.unwrap();
    assert_eq!(tested["attempt"]["status_code"], 200);
    assert_eq!(spans(&receiver.so_far()), [(1, 1)]);
    verify(&receiver.so_far()[0]);
    status.store(500, Ordering::SeqCst);
    publish(&server, 7).await;
    let told = observer.arrivals(1).await.remove(0).json();
    assert_eq!(told["topic"], "tallyhook:delivery_abandoned");
    assert_eq!(told["message"], json!({"webhook_id": id, "count": 7, "first_increment_id": 2, "last_increment_id": 8}));
}

#[tokio::test]
async fn a_pulling_receiver_may_take_half_a_batch() {
    let (server, hand) = Start::default().manual().await;
    let (receiver, status) = answering(500).await;
    let id = webhook(&server, &receiver, json!({"batch": {"max_events": 4, "wait_ms": 0}})).await;
    publish(&server, 4).await;
    server.attempts(id, 1, 1).await;
    let pull = json!({"delivery_mode": "pull", "batch": null});
    server.call("webhook.update", json!([id, pull])).await.unwrap();
    for after in [0, 2] {
        server.call("delivery.pull", json!([id, after])).await.unwrap();
    }
    server.until(async || (deliveries(&server, id).await[1]["state"] == "delivered").then_some(())).await;
    status.store(200, Ordering::SeqCst);
    let push = json!({"delivery_mode": "parallel", "url": receiver.url(), "secret_key": SECRET});
    server.call("webhook.update", json!([id, push])).await.unwrap();
    hand.pass(5);
    server.settled(id).await;
    let mut numbers: Vec<_> =
        receiver.so_far()[1..].iter().map(|arrival| arrival.json()["increment_id"].clone()).collect();
    numbers.sort_by_key(Value::as_i64);
    assert_eq!(numbers, [json!(3), json!(4)]);
}

#[tokio::test]
async fn what_does_not_go_with_batches_is_refused() {
    let (server, _hand) = Start::default().manual().await;
    for (more, field) in [
        (json!({"batch": {"max_events": 0}}), "batch.max_events"),
        (json!({"batch": {"max_events": 101}}), "batch.max_events"),
        (json!({"batch": {"max_events": 2, "max_size": 1}}), "batch.max_size"),
        (json!({"batch": {"max_events": 2, "max_size": 10_485_761}}), "batch.max_size"),
        (json!({"batch": {"max_events": 2, "wait_ms": 60_001}}), "batch.wait_ms"),
        (json!({"batch": {"max_events": 2}, "format": "shipstream"}), "batch"),
        (json!({"batch": {"max_events": 2}, "delivery_mode": "pull"}), "batch"),
    ] {
        let mut data = json!({"topics": "*", "url": "http://127.0.0.1:1/"});
        if more["delivery_mode"] == "pull" {
            data.as_object_mut().unwrap().remove("url");
        }
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let fault = server.call("webhook.create", json!([data, true])).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(101), &json!(field)), "{fault}");
    }
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"batch": {"max_events": 2}})).await;
    let detail = server.call("webhook.get", json!([id])).await.unwrap();
    assert_eq!(detail["batch"], json!({"max_events": 2, "max_size": 262_144, "wait_ms": 1_000}));
    let fault = server.call("webhook.update", json!([id, {"format": "shipstream"}])).await.unwrap_err();
    assert_eq!(fault["data"]["field"], "batch");
    let reset = server.call("webhook.update", json!([id, {"batch": null}])).await.unwrap();
    assert_eq!(reset["batch"], Value::Null);
}

/// However much it may hold.
#[tokio::test]
async fn a_batch_is_not_larger_than_a_mebibyte() {
    const MESSAGE: usize = 300_000;
    let (server, _hand) = Start::default().manual().await;
    let (receiver, _) = answering(200).await;
    for n in 1..=12 {
        server.publish("order:created", json!({"n": n, "text": "x".repeat(MESSAGE)})).await;
    }
    let batch = json!({"max_events": 100, "max_size": 10_485_760, "wait_ms": 0});
    let id = webhook(&server, &receiver, json!({"batch": batch})).await;
    // All are there at once.
    server.call("webhook.backfill", json!([id, {"all": true}])).await.unwrap();
    let list = server.settled(id).await;
    assert_eq!((list.len(), list.iter().all(|delivery| delivery["state"] == "delivered")), (12, true));
    let sizes: Vec<_> = receiver.so_far().iter().map(|arrival| arrival.body.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 1_048_576), "{sizes:?}");
    assert!(sizes.iter().any(|size| *size > MESSAGE * 2), "{sizes:?}");
}
