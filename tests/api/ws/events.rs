//! event.subscribe: what is told, to whom, and from where on.

use serde_json::{Value, json};

use crate::common::TestServer;
use crate::common::socket::Socket;

#[tokio::test]
async fn events_of_the_topics_are_told_whole() {
    let server = TestServer::start().await;
    let key = server.user("stranger", "globex", "event_write");
    let mut socket = Socket::demo(&server).await;
    let orders = socket.call("event.subscribe", json!([null, "order:*,product:deleted"])).await.unwrap();
    let all = socket.call("event.subscribe", json!([null])).await.unwrap();
    let mut stranger = Socket::with_basic(&server, "stranger", &key).await;
    stranger.call("event.publish", json!([null, "order:created", {}])).await.unwrap();

    // The message to the byte, as it is never read into values.
    let text = r#"{"jsonrpc":"2.0","id":9,"method":"event.publish","params":[null,"order:created",{"b":1.00,"a":[]},{"created_at":"2026-11-22T03:04:05.678Z"}]}"#;
    let mut publisher = Socket::demo(&server).await;
    publisher.send_text(text).await;
    let receipt = publisher.json().await;
    let mut told = [socket.text().await, socket.text().await];
    told.sort();
    for (text, id) in told.iter().zip([&orders, &all]) {
        assert!(text.contains(r#""message":{"b":1.00,"a":[]}"#), "{text}");
        let told: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&told["method"], &told["params"]["subscription"]), (&json!("event.published"), id));
        let mut event = server.call("event.get", json!([receipt["result"]["event_id"]])).await.unwrap();
        for member in ["deliveries", "delivery_count", "traceparent", "labels"] {
            event.as_object_mut().unwrap().remove(member);
        }
        assert_eq!((&told["params"]["result"], &event["created_at"]), (&event, &json!("2026-11-22T03:04:05.678Z")));
    }
    server.publish("product:created", json!({})).await;
    server.publish("product:deleted", json!({})).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let (_, id, news) = socket.told().await;
        told.push((id, news.unwrap()["topic"].as_str().unwrap().to_owned()));
    }
    told.sort();
    assert_eq!(
        told,
        [(1, "product:deleted".to_owned()), (2, "product:created".to_owned()), (2, "product:deleted".to_owned())]
    );
    assert_eq!(socket.call("event.unsubscribe", json!([null, orders])).await, Ok(json!(true)));
    assert_eq!(socket.call("event.unsubscribe", json!([null, orders])).await, Ok(json!(false)));
}

/// From an earlier event on, while others are published: each once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seam_has_no_hole_and_no_double() {
    const EVENTS: i64 = 3_000;
    let server = TestServer::start().await;
    let publish = async |count: i64| {
        for _ in 0..count / 10 {
            // Every other one is of no interest.
            let topic = |n: i64| if n % 2 == 0 { "order:created" } else { "product:created" };
            let events: Vec<_> = (0..10).map(|n| json!({"topic": topic(n), "message": {}})).collect();
            server.call("event.publish_many", json!([events])).await.unwrap();
        }
    };
    // More than are looked at in one go.
    publish(EVENTS / 2).await;
    let subscribe = async |after: i64| {
        let mut socket = Socket::demo(&server).await;
        socket.call("event.subscribe", json!([null, "order:*", {"after_event_id": after}])).await.unwrap();
        for id in after + 1..=EVENTS {
            if id % 2 == 1 {
                assert_eq!(socket.news().await["event_id"], id, "after {after}");
            }
        }
        socket.call("webhook.count", json!([null])).await.unwrap();
        assert!(!socket.has_early());
    };
    tokio::join!(publish(EVENTS / 2), subscribe(0), subscribe(700), subscribe(EVENTS / 2), subscribe(EVENTS / 2 - 1));
}

/// The server's own events are told to those who ask for them, tests to none.
#[tokio::test]
async fn the_servers_own_events() {
    let server = TestServer::start().await;
    let id =
        server.webhook(json!({"topics": "a:b", "url": "http://127.0.0.1:9/", "retry": []})).await["webhook_id"].clone();
    let mut socket = Socket::demo(&server).await;
    socket.call("event.subscribe", json!([null])).await.unwrap();
    socket.call("event.subscribe", json!([null, "tallyhook:*"])).await.unwrap();
    server.call("webhook.test", json!([id])).await.unwrap();
    server.publish("a:b", json!({})).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let (_, id, news) = socket.told().await;
        let news = news.unwrap();
        told.push((id, news["topic"].as_str().unwrap().to_owned()));
    }
    told.sort();
    assert_eq!(told, [(1, "a:b".to_owned()), (2, "tallyhook:delivery_abandoned".to_owned())]);
    // Nor are they told when they are read.
    socket.call("event.subscribe", json!([null, "test:*,a:*", {"after_event_id": 0}])).await.unwrap();
    assert_eq!(socket.news().await["topic"], "a:b");
    socket.call("webhook.count", json!([null])).await.unwrap();
    assert!(!socket.has_early());
}

#[tokio::test]
async fn what_can_not_be_subscribed_to() {
    let server = TestServer::start().await;
    server.publish("a:b", json!({})).await;
    let mut socket = Socket::demo(&server).await;
    for (params, field) in [
        (json!([null, "order"]), "topics"),
        (json!([null, 7]), "topics"),
        (json!([null, "*", {"after_event_id": -1}]), "after_event_id"),
        (json!([null, "*", {"after_event_id": 2}]), "after_event_id"),
        (json!([null, "*", {"after_increment_id": 1}]), "after_increment_id"),
    ] {
        let error = socket.call("event.subscribe", params.clone()).await.unwrap_err();
        assert_eq!((&error["code"], &error["data"]["field"]), (&json!(111), &json!(field)), "{params}: {error}");
    }
    let key = server.user("publisher", "demo", "event_write");
    let mut socket = Socket::with_basic(&server, "publisher", &key).await;
    let error = socket.call("event.subscribe", json!([null])).await.unwrap_err();
    assert_eq!(error["code"], 2);
}
