//! Sending again, not sending any more, tests, rotation, receivers that fail:
//! the hard cases of the delivery engine, through the public doors.

mod jobs;
mod pauses;
mod under_way;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::standard_webhooks;

use crate::common::manual::{DAY_S, SECRET, START, webhook};
use crate::common::{self, Arrived, Receiver, Reply, Start, TestServer};

async fn publish(server: &TestServer, count: usize) {
    for n in 0..count {
        server.publish("order:created", json!({"n": n})).await;
    }
}

/// A receiver that answers 500 while the switch is on.
async fn breakable() -> (Receiver, Arc<AtomicBool>) {
    let is_down = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&is_down);
    let receiver =
        Receiver::start(move |_, _| Reply::status(if theirs.load(Ordering::SeqCst) { 500 } else { 204 })).await;
    (receiver, is_down)
}

fn order(arrived: &[Arrived]) -> Vec<i64> {
    arrived.iter().map(Arrived::number).collect()
}

fn states(list: &[Value]) -> Vec<&str> {
    list.iter().map(|delivery| delivery["state"].as_str().unwrap()).collect()
}

async fn deliveries(server: &TestServer, id: i64) -> Vec<Value> {
    server.call("delivery.list", json!([id])).await.unwrap().as_array().unwrap().clone()
}

async fn get(server: &TestServer, id: i64) -> Value {
    server.call("webhook.get", json!([id])).await.unwrap()
}

#[tokio::test]
async fn a_replay_sends_the_same_numbers_ids_and_bodies() {
    for mode in ["parallel", "ordered"] {
        let (server, hand) = Start::default().manual().await;
        let receiver = Receiver::obliging().await;
        let id = webhook(&server, &receiver, json!({"delivery_mode": mode})).await;
        publish(&server, 6).await;
        server.settled(id).await;
        let mut first = receiver.so_far();
        hand.pass(60);
        let span = server.call("webhook.replay", json!([id, {"from_increment_id": 2, "to_increment_id": 4}])).await;
        let expected = json!({"job_id": 1, "from_increment_id": 2, "to_increment_id": 4, "unavailable": 0,
            "first_unavailable_increment_id": null});
        assert_eq!(span.unwrap(), expected);
        let mut again = receiver.arrivals(9).await.split_off(6);
        if mode == "ordered" {
            assert_eq!(order(&again), [2, 3, 4]);
        }
        first.sort_by_key(Arrived::number);
        again.sort_by_key(Arrived::number);
        for (sent, before) in again.iter().zip(&first[1..4]) {
            assert_eq!((sent.header("webhook-id"), &sent.body), (before.header("webhook-id"), &before.body));
        }
        server.attempts(id, 4, 2).await;
        let list = deliveries(&server, id).await;
        assert_eq!(states(&list), ["delivered"; 6]);
        server.until(async || (get(&server, id).await["settled_through"] == 6).then_some(())).await;

        hand.pass(60);
        server.publish("order:created", json!({"n": 6})).await;
        server.settled(id).await;
        let since = START.after(Duration::from_secs(100)).rfc3339_ms();
        server.call("webhook.replay", json!([id, {"since": since}])).await.unwrap();
        assert_eq!(receiver.arrivals(11).await[10].number(), 7, "{mode}: only what was numbered since");
    }
}

/// True if a delivery that had so many attempts, and was asked for once more, has gone out before
/// the answer to that was read.
fn has_gone(retried: &Value, attempts: u64) -> bool {
    retried["attempts"].as_u64().is_some_and(|now| now > attempts)
}

#[tokio::test]
async fn what_was_delivered_stays_so_and_what_was_abandoned_is_taken_up_again() {
    let (server, hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    let id = webhook(&server, &receiver, json!({"retry": []})).await;
    publish(&server, 1).await;
    server.settled(id).await;
    is_down.store(true, Ordering::SeqCst);
    publish(&server, 1).await;
    assert_eq!(states(&server.settled(id).await), ["delivered", "abandoned"]);
    assert_eq!(server.until(async || (get(&server, id).await["settled_through"] == 2).then_some(2)).await, 2);

    server.call("webhook.replay", json!([id, {"all": true}])).await.unwrap();
    server.attempts(id, 1, 2).await;
    server.attempts(id, 2, 2).await;
    assert_eq!(states(&deliveries(&server, id).await), ["delivered", "abandoned"], "the re-sends failed for good");

    is_down.store(false, Ordering::SeqCst);
    let retried = server.call("delivery.retry", json!([id, 2])).await.unwrap();
    assert!(has_gone(&retried, 2) || retried["state"] == "pending", "{retried}");
    assert_eq!(retried["reason"], Value::Null);
    server.until(async || (states(&deliveries(&server, id).await) == ["delivered"; 2]).then_some(())).await;
    assert_eq!(get(&server, id).await["settled_through"], 2, "it never falls");
    drop(hand);
}

#[tokio::test]
async fn a_cancelled_head_lets_the_next_one_go() {
    let (server, _hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    is_down.store(true, Ordering::SeqCst);
    let id = webhook(&server, &receiver, json!({"delivery_mode": "ordered"})).await;
    publish(&server, 3).await;
    server.attempts(id, 1, 1).await;
    is_down.store(false, Ordering::SeqCst);
    let cancelled = server.call("delivery.cancel", json!([id, 1])).await.unwrap();
    assert_eq!((&cancelled["state"], &cancelled["reason"]), (&json!("cancelled"), &json!("cancelled_by_owner")));
    assert_eq!(states(&server.settled(id).await), ["cancelled", "delivered", "delivered"]);
    assert_eq!(order(&receiver.so_far()), [1, 2, 3]);
    assert_eq!(server.call("delivery.cancel", json!([id, 2])).await.unwrap_err()["code"], 113);
    assert_eq!(server.call("delivery.cancel", json!([id, 4])).await.unwrap_err()["code"], 110);

    server.call("webhook.replay", json!([id, {"all": true}])).await.unwrap();
    assert_eq!(order(&receiver.arrivals(5).await)[3..], [2, 3], "what was cancelled is left out");
    server.call("delivery.retry", json!([id, 1])).await.unwrap();
    server.until(async || (states(&deliveries(&server, id).await) == ["delivered"; 3]).then_some(())).await;
}

#[tokio::test]
async fn a_replay_goes_on_after_a_restart() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    let events: Vec<Value> = (0..1000).map(|n| json!({"topic": "a:b", "message": {"n": n}})).collect();
    server.call("event.publish_many", json!([events])).await.unwrap();
    receiver.arrivals(1000).await;
    server.settled(id).await;
    server.call("webhook.replay", json!([id, {"all": true}])).await.unwrap();
    let place = server.stop().await;
    let server = Start { place, ..Start::default() }.go().await;
    server
        .until(async || {
            let list = server.call("delivery.list", json!([id, {"limit": 1000}])).await.unwrap();
            list.as_array().unwrap().iter().all(|delivery| delivery["attempts"] == 2).then_some(())
        })
        .await;
    let mut numbers = order(&receiver.so_far());
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=1000).flat_map(|n| [n, n]).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_backfill_gives_stored_events_new_numbers() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let old = webhook(&server, &receiver, json!({"topics": "order:*"})).await;
    server.call("webhook.test", json!([old])).await.unwrap();
    server.publish("order:created", json!({"n": 1})).await;
    server.publish("product:created", json!({"n": 2})).await;
    hand.pass(60);
    server.publish("order:canceled", json!({"n": 3})).await;
    let late = Receiver::obliging().await;
    let id = webhook(&server, &late, json!({"topics": "order:*", "delivery_mode": "ordered"})).await;
    let messages = |arrived: Vec<Arrived>| -> Vec<(i64, Value)> {
        arrived.iter().map(|arrived| (arrived.number(), arrived.json()["message"]["n"].clone())).collect()
    };
    server.call("webhook.backfill", json!([id, {"all": true}])).await.unwrap();
    assert_eq!(messages(late.arrivals(2).await), [(1, json!(1)), (2, json!(3))]);
    server.call("webhook.backfill", json!([id, {"topics": "*"}])).await.unwrap();
    assert_eq!(messages(late.arrivals(5).await)[2..], [(3, json!(1)), (4, json!(2)), (5, json!(3))]);
    // The same events under other numbers, as their names say.
    let names = |arrived: Vec<Arrived>| -> Vec<(i64, String)> {
        let name = |arrived: &Arrived| {
            let (event_id, header) =
                (arrived.json()["event_id"].as_i64().unwrap(), arrived.header("tallyhook-event-id"));
            assert!(header.starts_with("evt_") && header.ends_with(&format!("_{event_id}")), "{header}");
            (event_id, header.to_owned())
        };
        arrived.iter().map(name).collect()
    };
    let (late_names, old_names) = (names(late.arrivals(5).await), names(receiver.arrivals(3).await));
    assert_eq!((&late_names[0], &late_names[1]), (&late_names[2], &late_names[4]));
    assert_eq!(old_names[1..], late_names[..2], "another webhook has them under other numbers still");
    let since = START.after(Duration::from_secs(1)).rfc3339_ms();
    server.call("webhook.backfill", json!([id, {"since": since}])).await.unwrap();
    assert_eq!(messages(late.arrivals(6).await)[5..], [(6, json!(3))]);
}

#[tokio::test]
async fn a_test_goes_out_at_once_even_while_the_webhook_is_off() {
    let (server, _hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    let id = webhook(&server, &receiver, json!({"delivery_mode": "ordered"})).await;
    is_down.store(true, Ordering::SeqCst);
    publish(&server, 2).await;
    server.attempts(id, 1, 1).await;
    let tested = server.call("webhook.test", json!([id, {"hello": "world"}])).await.unwrap();
    assert_eq!((&tested["delivery"]["increment_id"], &tested["attempt"]["status_code"]), (&json!(3), &json!(500)));
    assert_eq!(tested["delivery"]["state"], "pending", "it is a delivery like any other");
    server.call("webhook.update", json!([id, {"is_active": 0}])).await.unwrap();
    is_down.store(false, Ordering::SeqCst);
    let tested = server.call("webhook.test", json!([id])).await.unwrap();
    assert_eq!(
        (&tested["delivery"]["state"], &tested["delivery"]["topic"]),
        (&json!("delivered"), &json!("test:ping"))
    );
    assert_eq!(order(&receiver.so_far()), [1, 3, 4]);
}

#[tokio::test]
async fn old_secrets_sign_until_the_overlap_is_over() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    let rotated = server.call("webhook.rotate_secret", json!([id, "the-new-secret", 3600])).await.unwrap();
    assert_eq!(rotated["secret_key"], "the-new-secret");
    assert_eq!(rotated["old_secrets"][0]["secret_key"], SECRET);
    let signed_with = |arrived: &Arrived| -> Vec<&str> {
        let (message_id, time) = (arrived.header("webhook-id"), arrived.header("webhook-timestamp").parse().unwrap());
        let items: Vec<_> = arrived.header("webhook-signature").split(' ').collect();
        let secret_of = |item: &&str| {
            let all = ["the-new-secret", SECRET, "another-secret"];
            let signs = |secret: &&str| {
                standard_webhooks(&SecretKey::try_new(secret).unwrap(), message_id, time, &arrived.body) == *item
            };
            all.into_iter().find(signs).expect("one of them signed")
        };
        items.iter().map(secret_of).collect()
    };
    publish(&server, 1).await;
    assert_eq!(signed_with(&receiver.arrivals(1).await[0]), ["the-new-secret", SECRET]);
    hand.pass(3601);
    publish(&server, 1).await;
    assert_eq!(signed_with(&receiver.arrivals(2).await[1]), ["the-new-secret"]);

    server.call("webhook.rotate_secret", json!([id, "another-secret"])).await.unwrap();
    server.call("webhook.update", json!([id, {"secret_key": SECRET}])).await.unwrap();
    publish(&server, 1).await;
    assert_eq!(signed_with(&receiver.arrivals(3).await[2]), [SECRET], "an update ends those before it");
    for n in 0..4 {
        server.call("webhook.rotate_secret", json!([id, format!("secret-number-{n}")])).await.unwrap();
    }
    assert_eq!(server.call("webhook.rotate_secret", json!([id])).await.unwrap_err()["code"], 112);
}

#[tokio::test]
async fn a_pulled_webhook_is_delivered_when_its_receiver_asks_beyond() {
    let (server, _hand) = Start::default().manual().await;
    let data = json!({"topics": "*", "delivery_mode": "pull", "secret_key": SECRET});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    publish(&server, 3).await;
    let pulled = server.call("delivery.pull", json!([id, 0])).await.unwrap();
    assert_eq!(pulled.as_array().unwrap().len(), 3);
    assert_eq!(states(&deliveries(&server, id).await), ["pending"; 3]);
    assert_eq!(server.call("delivery.pull", json!([id, 2])).await.unwrap().as_array().unwrap().len(), 1);
    server.until(async || (get(&server, id).await["settled_through"] == 2).then_some(())).await;
    assert_eq!(states(&deliveries(&server, id).await), ["delivered", "delivered", "pending"]);
    assert_eq!(server.call("webhook.test", json!([id])).await.unwrap_err()["code"], 112);

    let fault = server.call("webhook.update", json!([id, {"delivery_mode": "parallel"}])).await.unwrap_err();
    assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(101), &json!("url")));
    let receiver = Receiver::obliging().await;
    server.call("webhook.update", json!([id, {"delivery_mode": "parallel", "url": receiver.url()}])).await.unwrap();
    assert_eq!(order(&receiver.arrivals(1).await), [3], "what was not pulled is posted");
    let back = server.call("webhook.update", json!([id, {"delivery_mode": "pull"}])).await.unwrap();
    assert_eq!(back["url"], "");
}

/// What nobody has fetched has not arrived, and whoever may only read says
/// nothing of that.
#[tokio::test]
async fn a_pull_acknowledges_what_was_brought_to_those_who_may_change_webhooks() {
    let server = TestServer::start().await;
    let data = json!({"topics": "*", "delivery_mode": "pull"});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    publish(&server, 3).await;
    let key = server.user("reader", "demo", "webhook_read");
    let read = |after: i64| {
        let header = common::basic("reader", &key);
        let server = &server;
        async move { server.rpc_at("/", &[("authorization", &header)], "delivery.pull", json!([null, id, after])).await }
    };
    assert_eq!(read(0).await.unwrap().as_array().unwrap().len(), 3);
    assert_eq!(read(3).await.unwrap_err()["code"], 2);
    for after in [1, 3, 99] {
        let fault = server.call("delivery.pull", json!([id, after])).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(111), &json!("after_increment_id")), "{after}");
        assert!(fault["message"].as_str().unwrap().contains("more than number 0"), "{fault}");
    }
    assert_eq!(server.call("delivery.pull", json!([id, 0, 2])).await.unwrap().as_array().unwrap().len(), 2);
    assert_eq!(server.call("delivery.pull", json!([id, 3])).await.unwrap_err()["code"], 111);
    assert_eq!(states(&deliveries(&server, id).await), ["pending"; 3]);

    let server = Start { place: server.stop().await, ..Start::default() }.go().await;
    assert_eq!(server.call("delivery.pull", json!([id, 2])).await.unwrap().as_array().unwrap().len(), 1);
    server.until(async || (get(&server, id).await["settled_through"] == 2).then_some(())).await;
    assert_eq!(states(&deliveries(&server, id).await), ["delivered", "delivered", "pending"]);
}

#[tokio::test]
async fn an_open_breaker_lets_one_probe_through_at_a_time() {
    let (server, hand) = Start::default().manual().await;
    let (receiver, is_down) = breakable().await;
    is_down.store(true, Ordering::SeqCst);
    let id = webhook(&server, &receiver, json!({"retry": {"max_retries": 100, "interval_seconds": 1}})).await;
    publish(&server, 50).await;
    receiver.arrivals(5).await;
    for (wait, probe) in [(1, 6), (2, 7), (4, 8), (8, 9), (16, 10)] {
        server.until(async || (get(&server, id).await["consecutive_failures"] == probe - 1).then_some(())).await;
        assert_eq!(receiver.so_far().len(), probe - 1, "the breaker is open");
        hand.pass(wait);
        receiver.arrivals(probe).await;
    }
    server.until(async || (get(&server, id).await["consecutive_failures"] == 10).then_some(())).await;
    is_down.store(false, Ordering::SeqCst);
    hand.pass(32);
    assert_eq!(states(&server.settled(id).await), ["delivered"; 50]);
}

#[tokio::test]
async fn a_webhook_that_fails_for_days_is_disabled_and_told_of() {
    let (server, hand) = Start::default().manual().await;
    let operators = Receiver::obliging().await;
    let operator = webhook(&server, &operators, json!({"topics": "tallyhook:*"})).await;
    let everything = Receiver::obliging().await;
    let all = webhook(&server, &everything, json!({"topics": "*"})).await;
    let (receiver, is_down) = breakable().await;
    is_down.store(true, Ordering::SeqCst);
    let retry = json!({"max_retries": 100, "interval_seconds": DAY_S});
    let id = webhook(&server, &receiver, json!({"delivery_mode": "ordered", "retry": retry})).await;
    publish(&server, 3).await;
    for day in 1..=5 {
        server.attempts(id, 1, day).await;
        hand.pass(DAY_S);
    }
    server.attempts(id, 1, 6).await;
    let disabled = get(&server, id).await;
    assert_eq!((&disabled["disabled"], &disabled["disabled_reason"]), (&json!(true), &json!("failing")));
    assert_eq!(disabled["is_active"], 1);
    publish(&server, 1).await;
    assert_eq!(deliveries(&server, id).await.len(), 4, "numbers go on");
    let told = operators.arrivals(1).await.remove(0).json();
    assert_eq!(told["topic"], "tallyhook:webhook_disabled");
    let message = json!({"webhook_id": id, "count": 1, "first_increment_id": 1, "last_increment_id": 1});
    assert_eq!(told["message"], message);

    is_down.store(false, Ordering::SeqCst);
    let enabled = server.call("webhook.enable", json!([id])).await.unwrap();
    assert_eq!((&enabled["disabled"], &enabled["consecutive_failures"]), (&json!(false), &json!(0)));
    hand.pass(DAY_S);
    assert_eq!(states(&server.settled(id).await), ["delivered"; 4]);
    assert_eq!(order(&receiver.so_far())[6..], [1, 2, 3, 4], "it drains in order");
    assert_eq!(operators.arrivals(2).await[1].json()["topic"], "tallyhook:webhook_recovered");
    server.settled(operator).await;
    server.settled(all).await;
    assert!(everything.so_far().iter().all(|arrived| arrived.json()["topic"] == "order:created"), "* leaves them out");
}

#[tokio::test]
async fn what_is_abandoned_within_a_minute_is_told_of_as_one() {
    let (server, hand) = Start::default().manual().await;
    let operators = Receiver::obliging().await;
    webhook(&server, &operators, json!({"topics": "tallyhook:delivery_abandoned"})).await;
    let failing = Receiver::start(|_, _| Reply::status(404)).await;
    let id = webhook(&server, &failing, json!({"retry": []})).await;
    publish(&server, 4).await;
    assert_eq!(states(&server.settled(id).await), ["abandoned"; 4]);
    let spans = |arrived: Vec<Arrived>| -> Vec<Value> {
        let message = |arrived: &Arrived| arrived.json()["message"].clone();
        let span =
            |message: Value| json!([message["count"], message["first_increment_id"], message["last_increment_id"]]);
        arrived.iter().map(message).map(span).collect()
    };
    assert_eq!(spans(operators.arrivals(1).await), [json!([1, 1, 1])]);
    hand.pass(61);
    assert_eq!(spans(operators.arrivals(2).await), [json!([1, 1, 1]), json!([3, 2, 4])]);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"rate_limit": {"per_second": 1, "burst": 3}})).await;
    publish(&server, 6).await;
    let mut tests = 0;
    for sent in 3..=6 {
        receiver.arrivals(sent + tests).await;
        // A test does not wait for its turn, and what else may go out is out by its end.
        server.call("webhook.test", json!([id])).await.unwrap();
        tests += 1;
        assert_eq!(receiver.so_far().len(), sent + tests);
        hand.pass(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_bounded_and_credentials_are_sent_and_blotted_out() {
    let (server, _hand) = Start::default().manual().await;
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let theirs = Arc::clone(&gate);
    let (asked, mut asking) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |_, _| {
        asked.send(()).unwrap();
        tokio::task::block_in_place(|| drop(theirs.1.wait_while(theirs.0.lock().unwrap(), |is_open| !*is_open)));
        Reply::status(204)
    })
    .await;
    let other = webhook(&server, &Receiver::obliging().await, json!({"topics": "nothing:*"})).await;
    let auth = json!({"username": "shop", "password": "open sesame"});
    let id = webhook(&server, &receiver, json!({"max_concurrency": 2, "basic_auth": auth})).await;
    publish(&server, 20).await;
    server.settled(id).await;
    while asking.try_recv().is_ok() {}
    *gate.0.lock().unwrap() = false;
    publish(&server, 20).await;
    for _ in 0..2 {
        asking.recv().await.unwrap();
    }
    // Whatever else may go out has done so before this is answered.
    server.call("webhook.test", json!([other])).await.unwrap();
    let has_third = asking.try_recv().is_ok();
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert!(!has_third);
    server.settled(id).await;
    assert_eq!(receiver.so_far()[0].header("authorization"), common::basic("shop", "open sesame"));
    let attempts = server.call("delivery.attempts", json!([id, 1])).await.unwrap().to_string();
    assert!(!attempts.contains(&common::basic("shop", "open sesame")) && attempts.contains("authorization"));
    let reset =
        server.call("webhook.update", json!([id, {"max_concurrency": null, "basic_auth": null}])).await.unwrap();
    assert_eq!((&reset["max_concurrency"], &reset["basic_auth"]), (&Value::Null, &Value::Null));
    for (member, value) in [
        ("max_concurrency", json!(0)),
        ("rate_limit", json!({"per_second": 0})),
        ("timeouts", json!({"total_ms": 1})),
        ("basic_auth", json!({"username": "a:b", "password": ""})),
    ] {
        let mut changes = json!({});
        changes[member] = value;
        let fault = server.call("webhook.update", json!([id, changes])).await.unwrap_err();
        assert_eq!(fault["code"], 101);
        assert!(fault["data"]["field"].as_str().unwrap().starts_with(member), "{fault}");
    }
}
