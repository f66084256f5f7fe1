//! Sending many again: what has to be said, what is left out, how it is watched
//! and called off, and what comes of two actions at one number.

use std::time::Duration;

use serde_json::{Value, json};

use super::under_way::Slow;
use super::{breakable, deliveries, get, order, publish, states};
use crate::common::manual::{START, webhook};
use crate::common::{Receiver, Start, TestServer};

async fn done(server: &TestServer, asked: &Value) -> Value {
    let look = async || server.call("job.get", json!([asked["job_id"]])).await.unwrap();
    server.until(async || Some(look().await).filter(|job| job["state"] == "done")).await
}

async fn refused(server: &TestServer, method: &str, args: Value) -> Value {
    server.call(method, args).await.unwrap_err()
}

#[tokio::test]
async fn everything_is_sent_again_only_if_somebody_says_so() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    publish(&server, 2).await;
    server.settled(id).await;
    for (method, args) in [
        ("webhook.replay", json!([id])),
        ("webhook.replay", json!([id, {}])),
        ("webhook.replay", json!([id, {"state": "delivered"}])),
        ("webhook.replay", json!([id, {"all": 0}])),
        ("webhook.backfill", json!([id])),
        ("webhook.backfill", json!([id, {"all": false}])),
        ("delivery.retry_many", json!([])),
        ("delivery.retry_many", json!([{"state": "delivered"}])),
    ] {
        let fault = refused(&server, method, args.clone()).await;
        assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(111), &json!("all")), "{method} {args}");
    }
    let fault = refused(&server, "webhook.replay", json!([id, {"all": 1, "state": "lost"}])).await;
    assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(111), &json!("state")));
    assert_eq!(server.call("job.list", json!([])).await.unwrap(), json!([]));
    let asked = server.call("webhook.replay", json!([id, {"all": true}])).await.unwrap();
    let job = done(&server, &asked).await;
    let told = ["kind", "webhook_id", "looked_at", "queued", "unavailable", "first_unavailable", "ended_at"];
    let at = START.rfc3339_ms();
    assert_eq!(
        told.map(|member| job[member].clone()),
        [json!("replay"), json!(id), json!(2), json!(2), json!(0), Value::Null, json!(at)]
    );
    server.attempts(id, 1, 2).await;
    server.attempts(id, 2, 2).await;
}

#[tokio::test]
async fn only_what_is_asked_for_is_sent_again() {
    let (server, hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    let id = webhook(&server, &receiver, json!({"delivery_mode": "ordered", "retry": []})).await;
    publish(&server, 2).await;
    server.settled(id).await;
    is_down.store(true, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..3 {
        hand.pass(60);
        publish(&server, 1).await;
        server.settled(id).await;
    }
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        states(&deliveries(&server, id).await),
        ["delivered", "delivered", "abandoned", "abandoned", "abandoned"]
    );
    let until = START.after(Duration::from_secs(121)).rfc3339_ms();
    let failed = json!([id, {"state": "abandoned", "until": until}]);
    let job = done(&server, &server.call("webhook.replay", failed).await.unwrap()).await;
    assert_eq!((&job["looked_at"], &job["queued"]), (&json!(5), &json!(2)));
    server.settled(id).await;
    assert_eq!(order(&receiver.so_far())[5..], [3, 4]);
    assert_eq!(states(&deliveries(&server, id).await)[4], "abandoned");
}

#[tokio::test]
async fn what_has_failed_at_all_webhooks_is_sent_again_by_one_job() {
    let (server, _hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    is_down.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut ids = Vec::new();
    for topics in ["*", "nothing:*", "order:*", "*"] {
        ids.push(webhook(&server, &receiver, json!({"topics": topics, "retry": []})).await);
    }
    server.publish("order:created", json!({})).await;
    server.publish("product:created", json!({})).await;
    for place in [0, 2, 3] {
        server.settled(ids[place]).await;
    }
    server.call("webhook.delete", json!([ids[3]])).await.unwrap();
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    let asked = server.call("delivery.retry_many", json!([{"topics": "order:*"}])).await.unwrap();
    assert_eq!((&asked["kind"], &asked["webhook_id"]), (&json!("retry_many"), &Value::Null));
    let job = done(&server, &asked).await;
    assert_eq!((&job["looked_at"], &job["queued"]), (&json!(3), &json!(2)));
    server.settled(ids[0]).await;
    let all =
        async |id| states(&deliveries(&server, id).await).iter().map(|state| state.to_string()).collect::<Vec<_>>();
    server.until(async || (all(ids[0]).await == ["delivered", "abandoned"]).then_some(())).await;
    server.until(async || (all(ids[2]).await == ["delivered"]).then_some(())).await;

    // What is numbered after the asking is not meant, and one webhook is one webhook.
    let asked =
        server.call("delivery.retry_many", json!([{"webhook_id": ids[0], "state": "delivered"}])).await.unwrap();
    assert_eq!(done(&server, &asked).await["queued"], 1);
    let list = server.call("job.list", json!([{"after_job_id": 1, "sort": "job_id", "limit": 9}])).await.unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["job_id"]), (1, &json!(2)));
    let last = server.call("job.list", json!([{"sort": "-job_id", "limit": 1}])).await.unwrap();
    assert_eq!(last[0]["job_id"], 2);
    assert_eq!(server.call("job.cancel", json!([2])).await.unwrap()["state"], "done", "it stays as it is");
    assert_eq!(refused(&server, "job.cancel", json!([3])).await["code"], 123);
    assert_eq!(refused(&server, "job.get", json!([3])).await["code"], 123);
}

#[tokio::test]
async fn a_job_is_forgotten_a_day_after_its_end() {
    let (server, hand) = Start::default().manual().await;
    let id = webhook(&server, &Receiver::obliging().await, json!({})).await;
    let asked = server.call("webhook.replay", json!([id, {"all": true}])).await.unwrap();
    done(&server, &asked).await;
    hand.pass(86_399);
    server.call("job.get", json!([asked["job_id"]])).await.unwrap();
    hand.pass(61);
    let look = async || server.call("job.get", json!([asked["job_id"]])).await;
    server.until(async || look().await.err()).await;
}

/// The table of docs/receiving.md.
#[tokio::test]
async fn two_actions_at_one_number_have_one_outcome() {
    let off = json!({"is_active": 0});
    // First, then, how the request ends that is under way; the state, and how often it went out.
    for (first, then, state, sent) in [
        ("cancel", "cancel", "cancelled", 0),
        ("cancel", "replay", "cancelled", 0),
        ("cancel", "replay cancelled", "delivered", 1),
        ("cancel", "retry", "delivered", 1),
        ("replay", "cancel", "cancelled", 0),
        ("replay", "replay", "delivered", 1),
        ("replay", "retry", "delivered", 1),
    ] {
        let (server, _hand) = Start::default().manual().await;
        let receiver = Receiver::obliging().await;
        let id = webhook(&server, &receiver, json!({})).await;
        // It is numbered, and is not sent yet.
        server.call("webhook.pause", json!([id])).await.unwrap();
        publish(&server, 1).await;
        for action in [first, then] {
            act(&server, id, action).await;
        }
        server.call("webhook.resume", json!([id])).await.unwrap();
        server.call("webhook.test", json!([id])).await.unwrap();
        server.until(async || (states(&deliveries(&server, id).await)[0] == state).then_some(())).await;
        server.call("webhook.test", json!([id])).await.unwrap();
        let of_it = order(&receiver.so_far()).iter().filter(|number| **number == 1).count();
        assert_eq!(of_it, sent, "{first}, {then}");
    }
    // Of what was delivered: it stays so, and cancelling only calls off what is to be sent again.
    for (first, then, sent) in [("replay", "cancel", 1), ("replay", "retry", 2), ("replay", "replay", 2)] {
        let (server, _hand) = Start::default().manual().await;
        let receiver = Receiver::obliging().await;
        let id = webhook(&server, &receiver, json!({})).await;
        publish(&server, 1).await;
        server.settled(id).await;
        server.call("webhook.update", json!([id, off])).await.unwrap();
        for action in [first, then] {
            act(&server, id, action).await;
        }
        server.call("webhook.update", json!([id, {"is_active": 1}])).await.unwrap();
        server.call("webhook.test", json!([id])).await.unwrap();
        server.until(async || (receiver.so_far().len() > sent).then_some(())).await;
        server.call("webhook.test", json!([id])).await.unwrap();
        let of_it = order(&receiver.so_far()).iter().filter(|number| **number == 1).count();
        assert_eq!((of_it, states(&deliveries(&server, id).await)[0]), (sent, "delivered"), "{first}, {then}");
    }
}

/// Cancels, retries or replays number 1, and waits until that is done.
async fn act(server: &TestServer, id: i64, action: &str) {
    let range = |state: Option<&str>| {
        let mut range = json!({"from_increment_id": 1, "to_increment_id": 1});
        if let Some(state) = state {
            range["state"] = json!(state);
        }
        json!([id, range])
    };
    match action {
        "cancel" => {
            let was = get(server, id).await["settled_through"].clone();
            let cancelled = server.call("delivery.cancel", json!([id, 1])).await;
            assert!(cancelled.as_ref().is_ok_and(|_| true) || cancelled.unwrap_err()["code"] == 113, "{was}");
        }
        "retry" => drop(server.call("delivery.retry", json!([id, 1])).await.unwrap()),
        "replay" => drop(done(server, &server.call("webhook.replay", range(None)).await.unwrap()).await),
        _ => drop(done(server, &server.call("webhook.replay", range(Some("cancelled"))).await.unwrap()).await),
    }
}

/// The same while a request is under way.
#[tokio::test(flavor = "multi_thread")]
async fn two_actions_while_a_request_is_under_way_have_one_outcome() {
    for (first, then, status, state, sent) in [
        ("retry", "cancel", 204, "delivered", 1),
        ("retry", "cancel", 500, "cancelled", 1),
        ("replay", "cancel", 204, "delivered", 1),
        ("replay", "cancel", 500, "cancelled", 1),
        ("cancel", "retry", 204, "delivered", 2),
        ("cancel", "retry", 500, "abandoned", 2),
        ("cancel", "replay", 204, "delivered", 1),
        ("cancel", "replay", 500, "cancelled", 1),
        ("retry", "retry", 204, "delivered", 2),
        ("retry", "replay", 500, "abandoned", 2),
    ] {
        let (server, _hand) = Start::default().manual().await;
        let slow = Slow::start().await;
        let id = webhook(&server, &slow.receiver, json!({"retry": []})).await;
        publish(&server, 1).await;
        slow.requests(1).await;
        for action in [first, then] {
            act(&server, id, action).await;
        }
        slow.answer(status);
        let attempts = server.attempts(id, 1, sent).await;
        server.call("webhook.test", json!([id])).await.unwrap();
        let found = deliveries(&server, id).await;
        let told = (attempts.len(), found[0]["attempts"].as_u64(), states(&found)[0]);
        assert_eq!(told, (sent, Some(sent as u64), state), "{first}, {then} {status}");
    }
}
