//! delivery.subscribe: what is told, to whom, and from where on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, Receiver, Reply, Start, TestServer, basic};

async fn webhook(server: &TestServer, receiver: &Receiver, more: Value) -> i64 {
    crate::common::manual::webhook(server, receiver, more).await
}

/// Number, state and attempts.
fn look(news: &Value) -> (i64, &str, i64) {
    let number = |member: &str| news[member].as_i64().unwrap_or_else(|| panic!("{news}"));
    (number("increment_id"), news["state"].as_str().unwrap(), number("attempts"))
}

#[tokio::test]
async fn a_delivery_is_told_from_its_number_to_its_end() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 204 })).await;
    let id = webhook(&server, &receiver, json!({})).await;
    let mut socket = Socket::demo(&server).await;
    let subscription = socket.call("delivery.subscribe", json!([null])).await.unwrap();
    let event = server.publish("order:created", json!({"order_id": 7})).await["event_id"].clone();

    let (method, told_by, news) = socket.told().await;
    assert_eq!((method.as_str(), json!(told_by)), ("delivery.changed", subscription));
    let mut news = news.unwrap();
    if look(&news) == (1, "pending", 0) {
        assert_eq!(news["last_attempt"], Value::Null);
        news = socket.news().await;
    }
    assert_eq!(look(&news), (1, "pending", 1));
    let attempt = &news["last_attempt"];
    assert_eq!((&attempt["status_code"], &attempt["error_class"]), (&json!(500), &json!("status")), "{news}");
    assert!(attempt["duration_ms"].as_f64().unwrap() > 0.0 && attempt["error"].is_string(), "{news}");

    hand.pass(60);
    let news = socket.news().await;
    assert_eq!(look(&news), (1, "delivered", 2));
    assert_eq!(news["last_attempt"]["status_code"], 204);
    assert_eq!(news["last_attempt"]["error"], Value::Null);
    // All that delivery.list tells, and the attempt.
    let mut listed = server.call("delivery.list", json!([id])).await.unwrap()[0].clone();
    listed["last_attempt"] = news["last_attempt"].clone();
    assert_eq!((&news, &news["event_id"]), (&listed, &event));
}

/// Reads on until what is told fits.
async fn until(socket: &mut Socket, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let news = socket.news().await;
        if fits(&news) {
            return news;
        }
    }
}

#[tokio::test]
async fn every_way_to_change_a_delivery_is_told() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    let pulled = server.webhook(json!({"topics": "order:*", "delivery_mode": "pull"})).await["webhook_id"].clone();
    let mut socket = Socket::demo(&server).await;
    socket.call("delivery.subscribe", json!([null])).await.unwrap();
    let fits = |id: i64, number: i64, state: &'static str, attempts: i64| {
        move |news: &Value| news["webhook_id"] == id && look(news) == (number, state, attempts)
    };

    server.call("webhook.test", json!([id])).await.unwrap();
    until(&mut socket, fits(id, 1, "delivered", 1)).await;
    server.call("delivery.retry", json!([id, 1])).await.unwrap();
    until(&mut socket, fits(id, 1, "delivered", 2)).await;
    server.publish("order:created", json!({})).await;
    until(&mut socket, fits(id, 2, "delivered", 1)).await;
    server.call("webhook.backfill", json!([id, {"all": true}])).await.unwrap();
    until(&mut socket, fits(id, 3, "delivered", 1)).await;
    server.call("webhook.replay", json!([id, {"from_increment_id": 2, "to_increment_id": 3}])).await.unwrap();
    until(&mut socket, fits(id, 2, "delivered", 2)).await;

    let pulled = pulled.as_i64().unwrap();
    server.publish("order:created", json!({})).await;
    until(&mut socket, fits(pulled, 2, "pending", 0)).await;
    server.call("delivery.cancel", json!([pulled, 2])).await.unwrap();
    let news = until(&mut socket, fits(pulled, 2, "cancelled", 0)).await;
    assert_eq!(news["reason"], "cancelled_by_owner");
    for after in [0, 1] {
        server.call("delivery.pull", json!([pulled, after])).await.unwrap();
    }
    until(&mut socket, fits(pulled, 1, "delivered", 0)).await;
}

#[tokio::test]
async fn a_batch_has_the_attempt_of_its_first() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let batch = json!({"batch": {"max_events": 2, "max_size": 65_536, "wait_ms": 60_000}});
    webhook(&server, &receiver, batch).await;
    let mut socket = Socket::demo(&server).await;
    socket.call("delivery.subscribe", json!([null])).await.unwrap();
    for _ in 0..2 {
        server.publish("order:created", json!({})).await;
    }
    for number in 1..=2 {
        let news = until(&mut socket, |news| news["state"] == "delivered").await;
        assert_eq!((look(&news).0, &news["last_attempt"]["status_code"]), (number, &json!(204)));
    }
}

/// While events are published as fast as they are taken, subscriptions from
/// many numbers, at many moments, have each number after theirs, once, in
/// order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seam_has_no_hole_and_no_double() {
    const EVENTS: i64 = 1_500;
    const SUBSCRIBERS: i64 = 8;
    let server = TestServer::start().await;
    // Switched off by nobody, pulled by nobody: a number is told once, when it is given out.
    let id = server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await["webhook_id"].as_i64().unwrap();
    let publish = async {
        for _ in 0..EVENTS / 10 {
            let events: Vec<_> = (0..10).map(|n| json!({"topic": "a:b", "message": {"n": n}})).collect();
            server.call("event.publish_many", json!([events])).await.unwrap();
        }
    };
    let subscribe = async |subscriber: i64| {
        let begins_at = subscriber * EVENTS / SUBSCRIBERS;
        server
            .until(async || {
                let webhook = server.call("webhook.get", json!([id])).await.unwrap();
                (webhook["increment_id"].as_i64() >= Some(begins_at)).then_some(())
            })
            .await;
        let mut socket = Socket::demo(&server).await;
        // Some from far behind, some from the last number that there is.
        let after = if subscriber % 2 == 0 { begins_at / 2 } else { begins_at };
        socket.call("delivery.subscribe", json!([null, id, {"after_increment_id": after}])).await.unwrap();
        for number in after + 1..=EVENTS {
            assert_eq!(look(&socket.news().await), (number, "pending", 0), "after {after}");
        }
        // And nothing else.
        socket.call("webhook.count", json!([null])).await.unwrap();
        assert!(!socket.has_early());
    };
    let subscribers = futures_util::future::join_all((0..SUBSCRIBERS).map(subscribe));
    tokio::join!(publish, subscribers);
}

/// The last state of each number is told, and no state twice in a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_is_news() {
    /// No more than it is remembered of what was told of them.
    const EVENTS: usize = 1_000;
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    let mut socket = Socket::demo(&server).await;
    socket.call("delivery.subscribe", json!([null, id])).await.unwrap();
    let publish = async {
        // So many at once that some are delivered before they are told of.
        for _ in 0..EVENTS / 500 {
            let events: Vec<_> = (0..500).map(|n| json!({"topic": "a:b", "message": {"n": n}})).collect();
            server.call("event.publish_many", json!([events])).await.unwrap();
        }
    };
    let read = async {
        let mut known = BTreeMap::new();
        while known.values().filter(|state| **state == ("delivered".to_owned(), 1)).count() < EVENTS {
            let news = socket.news().await;
            let (number, state, attempts) = look(&news);
            let before = known.insert(number, (state.to_owned(), attempts));
            assert_ne!(before.as_ref(), known.get(&number), "{news}");
        }
    };
    tokio::join!(publish, read);
}

#[tokio::test]
async fn one_webhook_or_all_and_never_another_merchants() {
    let server = TestServer::start().await;
    let key = server.user("stranger", "globex", "webhook_read,webhook_write,event_write");
    let pull = json!({"topics": "*", "delivery_mode": "pull"});
    let (one, two) = (server.webhook(pull.clone()).await, server.webhook(pull.clone()).await);
    let mut stranger = Socket::with_basic(&server, "stranger", &key).await;
    for params in [json!([null, one["webhook_id"]]), json!([null, one["webhook_id"], {"after_increment_id": 0}])] {
        let error = stranger.call("delivery.subscribe", params).await.unwrap_err();
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!(103), &json!("Webhook not exists. There is no webhook 1."))
        );
    }
    let theirs = stranger.call("webhook.create", json!([null, pull, true])).await.unwrap();
    stranger.call("delivery.subscribe", json!([null])).await.unwrap();
    let mut all = Socket::demo(&server).await;
    all.call("delivery.subscribe", json!([null])).await.unwrap();
    let mut second = Socket::demo(&server).await;
    second.call("delivery.subscribe", json!([null, two["webhook_id"]])).await.unwrap();

    server.publish("order:created", json!({})).await;
    stranger.call("event.publish", json!([null, "order:created", {}])).await.unwrap();
    let ids = [all.news().await["webhook_id"].clone(), all.news().await["webhook_id"].clone()];
    assert_eq!(ids, [one["webhook_id"].clone(), two["webhook_id"].clone()]);
    assert_eq!(second.news().await["webhook_id"], two["webhook_id"]);
    assert_eq!(stranger.news().await["webhook_id"], theirs["webhook_id"]);
    for socket in [&mut stranger, &mut all, &mut second] {
        socket.call("webhook.count", json!([null])).await.unwrap();
        assert!(!socket.has_early());
    }
}

#[tokio::test]
async fn a_subscription_that_was_ended_tells_nothing_more() {
    let server = TestServer::start().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let mut socket = Socket::demo(&server).await;
    let first = socket.call("delivery.subscribe", json!([null])).await.unwrap();
    let second = socket.call("delivery.subscribe", json!([null])).await.unwrap();
    assert_ne!(first, second);
    server.publish("order:created", json!({})).await;
    for _ in 0..2 {
        socket.news().await;
    }
    for (method, id, expected) in [
        ("event.unsubscribe", &first, false),
        ("delivery.unsubscribe", &first, true),
        ("delivery.unsubscribe", &first, false),
        ("delivery.unsubscribe", &json!(99), false),
    ] {
        assert_eq!(socket.call(method, json!([null, id])).await, Ok(json!(expected)), "{method} {id}");
    }
    server.publish("order:created", json!({})).await;
    let (_, told_by, _) = socket.told().await;
    assert_eq!(json!(told_by), second);
    socket.call("webhook.count", json!([null])).await.unwrap();
    assert!(!socket.has_early());
    // One that is begun and ended in a batch has told nothing.
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "delivery.subscribe", "params": [null, 1, {"after_increment_id": 0}]},
        {"jsonrpc": "2.0", "id": 2, "method": "delivery.unsubscribe", "params": [null, 3]},
    ]);
    socket.send_text(batch.to_string()).await;
    let answers = socket.json().await;
    assert_eq!((&answers[0]["result"], &answers[1]["result"]), (&json!(3), &json!(true)), "{answers}");
    socket.call("webhook.count", json!([null])).await.unwrap();
    assert!(!socket.has_early());
}

#[tokio::test]
async fn a_webhook_that_is_deleted_ends_its_subscription() {
    let server = TestServer::start().await;
    let id = server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await["webhook_id"].clone();
    let mut one =
        Socket::open(&server.url(), "/api/jsonrpc", &[("authorization", &basic("demo", DEMO_KEY))]).await.unwrap();
    one.call("delivery.subscribe", json!([null, id])).await.unwrap();
    server.call("webhook.delete", json!([id])).await.unwrap();
    let (_, _, told) = one.told().await;
    assert_eq!(told, Err(json!({"code": -32103, "message": "Webhook not exists. There is no webhook 1."})));
    assert_eq!(one.call("delivery.unsubscribe", json!([null, 1])).await, Ok(json!(false)));
}

/// Once a user is revoked or disabled, or a session has ended, nothing more is shown.
#[tokio::test]
async fn who_may_no_longer_look_is_told_so_and_nothing_else() {
    let server = TestServer::start().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let key = server.user("ann", "demo", "webhook_read");
    let mut by_key = Socket::with_basic(&server, "ann", &key).await;
    by_key.call("delivery.subscribe", json!([null])).await.unwrap();
    let session = server.login_as("ann", &key).await;
    let mut by_session = Socket::open(&server.url(), "/", &[]).await.unwrap();
    by_session.call("delivery.subscribe", json!([session])).await.unwrap();
    let ended = server.login().await;
    let mut demo = Socket::open(&server.url(), "/", &[]).await.unwrap();
    demo.call("call", json!([ended, "delivery.subscribe", []])).await.unwrap();

    let key = server.user("bob", "demo", "webhook_read");
    let mut disabled = Socket::with_basic(&server, "bob", &key).await;
    disabled.call("delivery.subscribe", json!([null])).await.unwrap();

    server.publish("order:created", json!({})).await;
    for socket in [&mut by_key, &mut by_session, &mut demo, &mut disabled] {
        assert_eq!(look(&socket.news().await), (1, "pending", 0));
    }
    let now = tallyhook::domain::time::Clock::system().now();
    server.place.administer(|admin| {
        admin.revoke_user("ann", now).unwrap();
        admin.set_enabled("bob", false, now).unwrap();
    });
    server.rpc("endSession", json!([ended])).await.unwrap();
    server.publish("order:created", json!({})).await;
    for (socket, code) in [(&mut by_key, 2), (&mut by_session, 5), (&mut demo, 5), (&mut disabled, 119)] {
        let (_, _, told) = socket.told().await;
        assert_eq!(told.unwrap_err()["code"], code);
    }
}

/// What a subscription tells are no calls of its user.
#[tokio::test]
async fn being_told_is_not_counted_as_calls() {
    let (server, _hand) = Start::default().flag("calls_per_second_max", "1").manual().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let key = server.user("ann", "demo", "webhook_read");
    let mut socket = Socket::with_basic(&server, "ann", &key).await;
    socket.call("delivery.subscribe", json!([null])).await.unwrap();
    assert_eq!(socket.call("webhook.list", json!([null])).await.unwrap_err()["code"], 120);
    for number in 1..=3 {
        let publisher = server.user(&format!("publisher-{number}"), "demo", "event_write");
        let header = basic(&format!("publisher-{number}"), &publisher);
        let params = json!([null, "order:created", {}]);
        server.rpc_at("/", &[("authorization", &header)], "event.publish", params).await.unwrap();
        assert_eq!(look(&socket.news().await), (number, "pending", 0));
    }
}

/// A subscription that has nothing to tell is a use of its session all the
/// same; what has ended is noticed though nothing happens.
#[tokio::test]
async fn a_quiet_subscription_is_looked_after() {
    let (server, hand) = Start::default().manual().await;
    let session = server.login().await;
    let mut socket = Socket::open(&server.url(), "/", &[]).await.unwrap();
    socket.call("delivery.subscribe", json!([session])).await.unwrap();
    let expiry = || server.place.number("SELECT max(expires_at) FROM session");
    // A session lives for an hour: three half hours are more than one.
    for _ in 0..3 {
        let before = expiry();
        hand.pass(1_800);
        server.until(async || (expiry() > before).then_some(())).await;
    }
    server.rpc("webhook.count", json!([session])).await.unwrap();
    server.rpc("endSession", json!([session])).await.unwrap();
    hand.pass(61);
    let (_, _, told) = socket.told().await;
    assert_eq!(told, Err(json!({"code": 5, "message": "Session expired. Try to relogin."})));
}

#[tokio::test]
async fn what_can_not_be_subscribed_to() {
    let server = TestServer::start().await;
    let id = server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await["webhook_id"].clone();
    let mut socket = Socket::demo(&server).await;
    for (params, code, field) in [
        (json!([null, 99]), 103, None),
        (json!([null, null, {"after_increment_id": 0}]), 111, Some("after_increment_id")),
        (json!([null, id, {"after_increment_id": -1}]), 111, Some("after_increment_id")),
        (json!([null, id, {"from": 1}]), 111, Some("options.from")),
        (json!([null, "all"]), 111, Some("webhook_id")),
    ] {
        let error = socket.call("delivery.subscribe", params.clone()).await.unwrap_err();
        assert_eq!(error["code"], code, "{params}: {error}");
        if let Some(field) = field {
            assert!(field.ends_with(error["data"]["field"].as_str().unwrap()), "{params}: {error}");
        }
    }
    // A number that has not been given out yet: from then on.
    socket.call("delivery.subscribe", json!([null, id, {"after_increment_id": 5}])).await.unwrap();
    server.publish("order:created", json!({})).await;
    assert_eq!(look(&socket.news().await), (1, "pending", 0));
}
