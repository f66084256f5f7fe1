//! Deliveries as they go out: signed, in their order, tried again, paused, pulled.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::delivery::connect::Resolve;
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::verify_standard_webhooks;

use crate::common::manual::{SECRET, START, verify, webhook};
use crate::common::{self, Receiver, Reply, Start, TestServer};

#[tokio::test]
async fn an_event_arrives_signed_and_numbered() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"topics": "order:*"})).await;
    let other = webhook(&server, &receiver, json!({"topics": "product:created"})).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"event.publish","params":[null,"order:created",{ "b":1.00, "a":"\u00e9" },{"created_at":"2021-12-07T16:08:15.5Z"}]}"#;
    let basic = common::basic("demo", common::DEMO_KEY);
    let (_, answer) = server.post("/rpc", &[("authorization", &basic)], body.to_owned()).await;
    let expected = format!(
        r#"{{"jsonrpc":"2.0","result":{{"event_id":1,"deliveries":[{{"webhook_id":{id},"increment_id":1}}]}},"id":1}}"#
    );
    assert_eq!(answer, expected);

    let arrived = receiver.arrivals(1).await.remove(0);
    verify(&arrived);
    let body = format!(
        r#"{{"webhook_id": {id}, "increment_id": 1, "event_id": 1, "topic": "order:created", "created_at": "2021-12-07T16:08:15.500Z", "message": {{ "b":1.00, "a":"\u00e9" }}}}"#
    );
    assert_eq!(arrived.body, body);
    assert_eq!(arrived.header("content-type"), "application/json");
    assert_eq!(arrived.header("tallyhook-increment-id"), "1");
    assert_eq!(arrived.header("webhook-timestamp"), "1700000000");
    let message_id = arrived.header("webhook-id");
    let store = message_id.strip_prefix("msg_").and_then(|rest| rest.strip_suffix(&format!("_{id}_1"))).unwrap();
    assert_eq!(store.len(), 8);

    let list = server.settled(id).await;
    assert_eq!(list.len(), 1);
    assert_eq!((&list[0]["state"], &list[0]["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(server.call("delivery.list", json!([other])).await.unwrap(), json!([]));
}

#[tokio::test]
async fn a_retry_keeps_number_id_and_body() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 200 })).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({"order": 7})).await;
    let failed = server.attempts(id, 1, 1).await.remove(0);
    assert_eq!((&failed["status_code"], &failed["error_class"]), (&json!(500), &json!("status")));
    let pending = server.call("delivery.list", json!([id, {"state": "pending"}])).await.unwrap();
    assert_eq!(pending[0]["next_attempt_at"], "2023-11-14T22:13:25.000Z");

    hand.pass(5);
    let arrived = receiver.arrivals(2).await;
    assert_eq!(arrived[0].body, arrived[1].body);
    assert_eq!(arrived[0].header("webhook-id"), arrived[1].header("webhook-id"));
    assert_eq!(arrived[1].header("webhook-timestamp"), "1700000005");
    arrived.iter().for_each(verify);
    assert_eq!(server.settled(id).await[0]["attempts"], 2);
}

#[tokio::test]
async fn the_policy_ends_in_a_tombstone() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({})).await;
    let waits_s = [5, 30, 120, 600, 1_800, 3_600, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
    for (attempt, wait_s) in (1..).zip(waits_s) {
        server.attempts(id, 1, attempt).await;
        hand.pass(wait_s - 1);
        hand.pass(1);
    }
    let tombstone = server.settled(id).await.remove(0);
    assert_eq!((&tombstone["state"], &tombstone["reason"]), (&json!("abandoned"), &json!("retries_exhausted")));
    assert_eq!((&tombstone["attempts"], &tombstone["next_attempt_at"]), (&json!(13), &Value::Null));
    // In PostgreSQL that is written a little later.
    let have_failed = |webhook: &Value| webhook["consecutive_failures"] == 13;
    let get = async || server.call("webhook.get", json!([id])).await.ok().filter(have_failed);
    let webhook = server.until(get).await;
    assert_eq!(webhook["failing_since"], "2023-11-14T22:13:20.000Z");
    assert_eq!(receiver.so_far().len(), 13);
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| match place {
        0 => Reply::status(503).header("retry-after", "90"),
        1 => Reply::status(429).header("retry-after", "Tue, 14 Nov 2023 22:20:00 GMT"),
        _ => Reply::status(200),
    })
    .await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({})).await;
    server.attempts(id, 1, 1).await;
    let due = async || {
        let list = server.call("delivery.list", json!([id])).await.unwrap();
        list[0]["next_attempt_at"].as_str().unwrap().to_owned()
    };
    assert_eq!(due().await, "2023-11-14T22:14:50.000Z");
    hand.pass(90);
    server.attempts(id, 1, 2).await;
    assert_eq!(due().await, "2023-11-14T22:20:00.000Z");
    hand.pass(310);
    assert_eq!(server.settled(id).await[0]["attempts"], 3);
}

#[tokio::test]
async fn gone_pauses_the_webhook_and_its_numbers_go_on() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 410 } else { 200 })).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({"n": 1})).await;
    server.attempts(id, 1, 1).await;
    let paused = server.call("webhook.get", json!([id])).await.unwrap();
    assert_eq!(
        (&paused["disabled"], &paused["disabled_reason"], &paused["is_active"]),
        (&json!(true), &json!("gone"), &json!(1))
    );

    let receipt = server.publish("order:created", json!({"n": 2})).await;
    assert_eq!(receipt["deliveries"], json!([{"webhook_id": id, "increment_id": 2}]));
    let pending = server.call("delivery.list", json!([id, {"state": "pending"}])).await.unwrap();
    assert_eq!(pending.as_array().unwrap().len(), 2);
    assert_eq!(receiver.so_far().len(), 1);

    server.call("webhook.update_status", json!([{"webhook_id": id, "status": 1}])).await.unwrap();
    assert!(server.settled(id).await.iter().all(|delivery| delivery["state"] == "delivered"));
    let mut numbers: Vec<_> = receiver.so_far().iter().map(common::Arrived::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 1, 2]);
}

#[tokio::test]
async fn switched_off_waits_and_is_not_numbered() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 200 })).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({"n": 1})).await;
    server.attempts(id, 1, 1).await;
    server.call("webhook.update_status", json!(["*", 0])).await.unwrap();
    assert_eq!(server.publish("order:created", json!({"n": 2})).await["deliveries"], json!([]));
    hand.pass(3_600);
    server.call("webhook.update_status", json!(["*", 1])).await.unwrap();
    server.publish("order:created", json!({"n": 3})).await;
    let list = server.settled(id).await;
    assert_eq!(list.len(), 2);
    let bodies: Vec<_> = receiver.so_far().iter().map(|arrived| arrived.json()["message"]["n"].clone()).collect();
    assert!(!bodies.contains(&json!(2)) && bodies.contains(&json!(3)), "{bodies:?}");
}

#[tokio::test]
async fn deleting_cancels_what_waits() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({})).await;
    server.attempts(id, 1, 1).await;
    server.call("webhook.delete", json!([id])).await.unwrap();
    assert_eq!(server.call("webhook.get", json!([id])).await.unwrap_err()["code"], 103);
    assert_eq!(server.publish("order:created", json!({})).await["deliveries"], json!([]));
    // The owner can't see a deleted webhook; what became of its deliveries the store tells.
    let sql = format!("SELECT state, reason, next_attempt_at FROM delivery WHERE webhook_id = {id}");
    assert_eq!(server.place.rows(&sql), [["3", "webhook_deleted", ""]]);
    let next = webhook(&server, &receiver, json!({"topics": "*"})).await;
    assert!(next > id, "ids are never reused");
}

#[tokio::test]
async fn extra_headers_go_along_and_are_redacted_in_the_log() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let headers = "Authorization: Basic hunter2\nX-Shop: 7\nUser-Agent: shop";
    let data = json!({"topics": "*", "url": receiver.url(), "extra_headers": headers});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    server.publish("order:created", json!({})).await;
    let arrived = receiver.arrivals(1).await.remove(0);
    assert_eq!(arrived.header("authorization"), "Basic hunter2");
    assert_eq!((arrived.header("x-shop"), arrived.header("user-agent")), ("7", "shop"));
    let log = server.attempts(id, 1, 1).await.remove(0).to_string();
    assert!(!log.contains("hunter2") && log.contains("[redacted]"), "{log}");
    assert!(log.contains("webhook-id"), "{log}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = TestServer::start().await;
    let elsewhere = Receiver::obliging().await;
    let target = elsewhere.url();
    let receiver = Receiver::start(move |_, _| Reply::status(307).header("location", &target)).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    server.publish("order:created", json!({})).await;
    let attempt = server.attempts(id, 1, 1).await.remove(0);
    assert_eq!((&attempt["status_code"], &attempt["error_class"]), (&json!(307), &json!("status")));
    assert!(attempt["error"].as_str().unwrap().contains("redirects are not followed"), "{attempt}");
    assert!(elsewhere.so_far().is_empty());
}

/// Answers each look-up with the next address of a list, and the last for ever.
struct Rebinding {
    answers: Vec<IpAddr>,
    asked: AtomicUsize,
}

impl Resolve for Rebinding {
    fn resolve(
        &self,
        _: tallyhook::domain::id::MerchantId,
        _: String,
    ) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let place = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let answer = self.answers[place];
        async move { Ok(vec![answer]) }.boxed()
    }
}

/// A name passes registration, for it is judged when it is connected to; one
/// that is private then, be it only at the second look-up, is not connected to.
#[tokio::test]
async fn a_name_that_turns_private_is_never_connected_to() {
    // 127.0.0.2 stands for a public address: it is allowed, and takes no connection.
    for answers in [vec!["127.0.0.1"], vec!["127.0.0.2", "127.0.0.1"]] {
        let receiver = Receiver::obliging().await;
        let answers: Vec<IpAddr> = answers.iter().map(|address| address.parse().unwrap()).collect();
        let look_ups = answers.len();
        let resolver = Arc::new(Rebinding { answers, asked: AtomicUsize::new(0) });
        let hooks = Hooks { resolver: Arc::clone(&resolver) as _, ..Hooks::default() };
        let start = Start { hooks, ..Start::default() }.strict().flag("allow_target", "127.0.0.2");
        let (server, hand) = start.manual().await;
        let key = server.user("ann", "acme", "admin");
        let session = server.login_as("ann", &key).await;
        let data =
            json!({"topics": "*", "url": format!("http://shop.example:{}/", receiver.port()), "format": "shipstream"});
        let created = server.rpc("webhook.create", json!([session, data, true])).await.unwrap();
        let id = created["webhook_id"].clone();
        server.rpc("event.publish", json!([session, "order:created", {}])).await.unwrap();
        let attempts = async |count| {
            server
                .until(async || {
                    let found = server.rpc("delivery.attempts", json!([session, id, 1])).await.unwrap();
                    (found.as_array().unwrap().len() >= count).then_some(found)
                })
                .await
        };
        for count in 1..look_ups {
            attempts(count).await;
            hand.pass(5);
        }
        let log = attempts(look_ups).await;
        let last = &log[look_ups - 1];
        assert_eq!(last["error_class"], "address_refused", "{log}");
        // What a name within the network leads to is not its owner's to know.
        let error = last["error"].as_str().unwrap();
        assert!(error.contains("private address") && !log.to_string().contains("127.0.0.1"), "{log}");
        assert_eq!(resolver.asked.load(Ordering::SeqCst), look_ups, "one look-up an attempt");
        assert!(receiver.so_far().is_empty());
    }
}

#[tokio::test]
async fn what_is_pending_resumes_at_the_next_start() {
    let receiver = Receiver::start(|place, _| Reply::status(if place < 3 { 500 } else { 200 })).await;
    let (server, _hand) = Start::default().manual().await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    for n in 1..=3 {
        server.publish("order:created", json!({"n": n})).await;
        server.attempts(id, n, 1).await;
    }
    let place = server.stop().await;

    let later = START.after(Duration::from_secs(60));
    let (server, _hand) = Start { place, ..Start::default() }.manual_at(later).await;
    let list = server.settled(id).await;
    assert!(list.iter().all(|delivery| delivery["state"] == "delivered" && delivery["attempts"] == 2), "{list:?}");
    let receipt = server.publish("order:created", json!({})).await;
    assert_eq!(receipt["deliveries"][0]["increment_id"], 4, "numbers go on");
}

/// One slow endpoint holds its own slots and nobody else's.
#[tokio::test]
async fn a_silent_neighbour_delays_nobody() {
    let server = TestServer::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fast = Receiver::obliging().await;
    let url = format!("http://{}/", silent.local_addr().unwrap());
    server.webhook(json!({"topics": "*", "url": url})).await;
    webhook(&server, &fast, json!({"topics": "*"})).await;
    for n in 0..40 {
        server.publish("order:created", json!({"n": n})).await;
    }
    assert_eq!(fast.arrivals(40).await.len(), 40);
}

/// Numbers in the order in which they arrived.
fn order(receiver: &Receiver) -> Vec<i64> {
    receiver.so_far().iter().map(common::Arrived::number).collect()
}

#[tokio::test]
async fn an_ordered_webhook_waits_for_the_number_in_front() {
    let (server, hand) = Start::default().manual().await;
    // Number 2 fails twice.
    let failures = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_, arrived| {
        let fails = arrived.number() == 2 && failures.fetch_add(1, Ordering::SeqCst) < 2;
        Reply::status(if fails { 500 } else { 200 })
    })
    .await;
    let data = json!({"topics": "*", "url": receiver.url(), "delivery_mode": "ordered", "retry": [10, 20, 30]});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    for n in 1..=50 {
        server.publish("order:created", json!({"n": n})).await;
    }
    server.attempts(id, 2, 1).await;
    assert_eq!(order(&receiver), [1, 2]);
    hand.pass(10);
    server.attempts(id, 2, 2).await;
    assert_eq!(order(&receiver), [1, 2, 2]);
    hand.pass(19);
    server.publish("order:created", json!({"n": 51})).await;
    assert_eq!(order(&receiver), [1, 2, 2], "not before its time, whatever comes in");
    hand.pass(1);
    server.settled(id).await;
    let expected: Vec<i64> = [1, 2, 2].into_iter().chain(2..=51).collect();
    assert_eq!(order(&receiver), expected);
}

#[tokio::test]
async fn an_abandoned_head_lets_the_rest_through() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|_, arrived| Reply::status(if arrived.number() == 1 { 500 } else { 200 })).await;
    let data = json!({"topics": "*", "url": receiver.url(), "delivery_mode": "ordered", "retry": [10]});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    for n in 1..=3 {
        server.publish("order:created", json!({"n": n})).await;
    }
    server.attempts(id, 1, 1).await;
    hand.pass(10);
    let states: Vec<_> = server.settled(id).await.iter().map(|delivery| delivery["state"].clone()).collect();
    assert_eq!(states, ["abandoned", "delivered", "delivered"]);
    assert_eq!(order(&receiver), [1, 1, 2, 3]);
}

/// Both ways, with retries of the old mode still open.
#[tokio::test]
async fn the_mode_may_change_while_deliveries_fail() {
    let (server, hand) = Start::default().manual().await;
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let receiver =
        Receiver::start(move |_, _| Reply::status(if is_down.load(Ordering::SeqCst) { 500 } else { 200 })).await;
    let data = json!({"topics": "*", "url": receiver.url(), "retry": {"max_retries": 9, "interval_seconds": 60}});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    for n in 1..=4 {
        server.publish("order:created", json!({"n": n})).await;
    }
    for n in 1..=4 {
        server.attempts(id, n, 1).await;
    }
    server.call("webhook.update", json!([id, {"delivery_mode": "ordered"}])).await.unwrap();
    hand.pass(60);
    server.attempts(id, 1, 2).await;
    let before = receiver.so_far().len();
    assert_eq!(before, 5, "one try at the number in front, and no other");
    down.store(false, Ordering::SeqCst);
    hand.pass(60);
    server.settled(id).await;
    assert_eq!(order(&receiver)[before..], (1..=4).collect::<Vec<_>>());

    down.store(true, Ordering::SeqCst);
    for n in 5..=8 {
        server.publish("order:created", json!({"n": n})).await;
    }
    server.attempts(id, 5, 1).await;
    server.call("webhook.update", json!([id, {"delivery_mode": "parallel"}])).await.unwrap();
    for n in 6..=8 {
        server.attempts(id, n, 1).await;
    }
    down.store(false, Ordering::SeqCst);
    hand.pass(60);
    assert!(server.settled(id).await.iter().all(|delivery| delivery["state"] == "delivered"));
}

#[tokio::test]
async fn an_ordered_webhook_goes_on_in_order_after_a_restart() {
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 200 })).await;
    let (server, _hand) = Start::default().manual().await;
    let data = json!({"topics": "*", "url": receiver.url(), "delivery_mode": "ordered"});
    let id = server.webhook(data).await["webhook_id"].as_i64().unwrap();
    for n in 1..=5 {
        server.publish("order:created", json!({"n": n})).await;
    }
    server.attempts(id, 1, 1).await;
    let place = server.stop().await;
    let later = START.after(Duration::from_secs(60));
    let (server, _hand) = Start { place, ..Start::default() }.manual_at(later).await;
    server.settled(id).await;
    assert_eq!(order(&receiver), [1, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_pull_brings_what_is_missing_signed() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 200 })).await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    for n in 1..=4 {
        server.publish("order:created", json!({"n": n})).await;
        server.attempts(id, n, 1).await;
    }
    hand.pass(1);
    let pulled = server.call("delivery.pull", json!([id, 0, 3])).await.unwrap();
    let pulled = pulled.as_array().unwrap();
    let states: Vec<_> = pulled.iter().map(|item| (item["increment_id"].clone(), item["state"].clone())).collect();
    assert_eq!(states, [(json!(1), json!("pending")), (json!(2), json!("delivered")), (json!(3), json!("delivered"))]);
    for (item, arrived) in pulled.iter().zip(receiver.so_far()) {
        assert_eq!(item["body"], std::str::from_utf8(&arrived.body).unwrap());
        assert_eq!(item["webhook_id_header"], arrived.header("webhook-id"));
        assert_eq!(item["timestamp"], START.after(Duration::from_secs(1)).unix_seconds());
        let secret = SecretKey::try_new(SECRET).unwrap();
        let (message_id, signature) =
            (item["webhook_id_header"].as_str().unwrap(), item["signature"].as_str().unwrap());
        let timestamp = item["timestamp"].as_i64().unwrap();
        assert!(verify_standard_webhooks(&secret, message_id, timestamp, &arrived.body, signature));
    }
    let rest = server.call("delivery.pull", json!([id, 3])).await.unwrap();
    assert_eq!(rest.as_array().unwrap().len(), 1);
    for (wrong, field) in
        [(json!([id, -1]), "after_increment_id"), (json!([id, 0, 0]), "limit"), (json!([id, 0, 1, -1]), "wait_ms")]
    {
        let fault = server.call("delivery.pull", wrong).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(111), &json!(field)));
    }
}

#[tokio::test]
async fn a_pull_waits_for_the_next_number() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    let wait = server.call("delivery.pull", json!([id, 0, 10, 30_000]));
    let publish = async {
        // Whichever comes first, the pull brings it.
        tokio::task::yield_now().await;
        server.publish("order:created", json!({"n": 1})).await
    };
    let (pulled, _) = tokio::join!(wait, publish);
    assert_eq!(pulled.unwrap()[0]["increment_id"], 1);
    assert_eq!(server.call("delivery.pull", json!([id, 1, 10, 10])).await.unwrap(), json!([]), "the wait ends");
}

/// Whoever waits for a number is sent home when the server stops.
#[tokio::test]
async fn a_stop_ends_the_waiting() {
    let server = Start::default().flag("grace_ms", "600000").flag("pull_wait_max_ms", "600000").go().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"topics": "*"})).await;
    let (url, client) = (server.url(), common::http_client());
    let waiting = tokio::spawn(async move {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "delivery.pull", "params": [null, id, 0, 10, 600_000]});
        let request = http::Request::post(url)
            .header("content-type", "application/json")
            .header("authorization", common::basic("demo", common::DEMO_KEY))
            .body(http_body_util::Full::new(bytes::Bytes::from(body.to_string())))
            .unwrap();
        client.request(request).await
    });
    // Answered on another connection, so the pull has most likely been read by
    // then; if it comes later, there is nobody to take it, which is as good.
    server.publish("product:created", json!({})).await;
    server.call("webhook.list", json!([])).await.unwrap();
    tokio::time::timeout(common::PATIENCE, server.stop()).await.expect("nobody holds the stop up");
    if let Ok(response) = waiting.await.unwrap() {
        assert_eq!(response.status(), 200);
    }
}

/// A call that is never sent to its end holds the listener up, and no longer
/// the worker: that starts nothing once the stop has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_starts_no_more_deliveries() {
    use tokio::io::AsyncWriteExt;
    const IN_FLIGHT: usize = 8;
    let server = Start::default().flag("grace_ms", "1000").go().await;
    let gate = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let theirs = Arc::clone(&gate);
    let (asked, mut asking) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |_, _| {
        asked.send(()).unwrap();
        tokio::task::block_in_place(|| {
            drop(theirs.1.wait_while(theirs.0.lock().unwrap(), |is_open| !*is_open).unwrap());
        });
        Reply::status(204)
    })
    .await;
    // Each webhook begins with one request at a time.
    for _ in 0..IN_FLIGHT {
        webhook(&server, &receiver, json!({"topics": "*"})).await;
    }
    for n in 0..50 {
        server.publish("order:created", json!({"n": n})).await;
    }
    for _ in 0..IN_FLIGHT {
        asking.recv().await.unwrap();
    }
    let mut half = tokio::net::TcpStream::connect(server.url().strip_prefix("http://").unwrap()).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    // Answered on a later connection, so the half call has been accepted.
    server.call("webhook.list", json!([])).await.unwrap();
    let open = async {
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    };
    let (place, ()) = tokio::join!(server.stop(), open);
    assert_eq!(receiver.so_far().len(), IN_FLIGHT);
    let delivered = place.number("SELECT count(*) FROM delivery WHERE state = 1");
    assert_eq!(delivered, IN_FLIGHT as i64, "what arrived is on record");
}
