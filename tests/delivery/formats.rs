//! What a delivery looks like in the formats of others.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::shipstream;

use crate::common::manual::{SECRET, verify, webhook};
use crate::common::{DEMO_KEY, Receiver, Reply, Start, basic};

#[tokio::test]
async fn the_vendors_format_on_the_vendors_path() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let data = json!({"topics": "order:created", "url": receiver.url(), "secret_key": SECRET});
    let basic = basic("demo", DEMO_KEY);
    let headers = [("authorization", basic.as_str())];
    let created = server.rpc_at("/api/jsonrpc", &headers, "webhook.create", json!([null, data, true])).await.unwrap();
    assert_eq!((&created["format"], &created["retry"]), (&json!("shipstream"), &json!("shipstream")));

    server.publish("order:created", json!({"order": 7})).await;
    let arrived = receiver.arrivals(1).await.remove(0);
    verify(&arrived);
    assert_eq!(arrived.header("x-plugin-hmac-sha256"), shipstream(&SecretKey::try_new(SECRET).unwrap(), &arrived.body));
    let expected = json!({
        "topic": "order:created",
        "message": {"order": 7, "webhook_increment_id": 1, "event_timestamp": "2023-11-14T22:13:20+00:00"},
        "merchant_id": 1,
        "merchant_code": "demo",
    });
    assert_eq!(arrived.json(), expected);
}

#[tokio::test]
async fn the_format_of_ultracart_alone_and_in_batches() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"topics": "*", "format": "ultracart"})).await;
    server.publish("product:updated", json!({"sku": "a"})).await;
    let arrived = receiver.arrivals(1).await.remove(0);
    assert_eq!(arrived.json(), json!({"events": [{"item_update": {"sku": "a"}}]}));
    verify(&arrived);
    assert_eq!(
        server.call("webhook.get", json!([id])).await.unwrap()["timeouts"],
        json!({"connect_ms": 5000, "total_ms": 30_000})
    );

    // What was numbered in another format goes out in that.
    server.call("webhook.update", json!([id, {"is_active": 0}])).await.unwrap();
    server
        .call("webhook.update", json!([id, {"batch": {"max_events": 10, "max_size": 100_000, "wait_ms": 0}}]))
        .await
        .unwrap();
    server.call("webhook.update", json!([id, {"is_active": 1}])).await.unwrap();
    let events = json!([
        {"topic": "order:created", "message": {"order_id": 7}},
        {"topic": "own:topic", "message": {}},
    ]);
    server.call("event.publish_many", json!([events])).await.unwrap();
    let arrived = receiver.arrivals(2).await.remove(1);
    assert_eq!(arrived.json(), json!({"events": [{"order_create": {"order_id": 7}}, {"own_topic": {}}]}));
    assert_eq!(arrived.header("tallyhook-increment-id"), "2-3");
    verify(&arrived);
}

#[tokio::test]
async fn the_format_of_3dcart_in_json_and_xml() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 200 })).await;
    let id = webhook(&server, &receiver, json!({"topics": "*", "format": "3dcart"})).await;
    server.publish("order_item:created", json!({"OrderID": 7, "Tags": ["a", "b"]})).await;
    server.attempts(id, 1, 1).await;

    // What has a number keeps its format.
    let changed = server.call("webhook.update", json!([id, {"encoding": "xml"}])).await.unwrap();
    assert_eq!((&changed["format"], &changed["encoding"]), (&json!("3dcart"), &json!("xml")));
    hand.pass(5);
    receiver.arrivals(2).await;
    server.publish("order_item:created", json!({"OrderID": 7, "Tags": ["a", "b"]})).await;
    let arrived = receiver.arrivals(3).await;
    let json = (r#"[{"OrderID":7,"Tags":["a","b"]}]"#, "application/json");
    let xml = (
        r#"<?xml version="1.0" encoding="utf-8"?><ArrayOfOrderItem><OrderItem><OrderID>7</OrderID><Tags><Item>a</Item><Item>b</Item></Tags></OrderItem></ArrayOfOrderItem>"#,
        "application/xml",
    );
    for (arrived, expected) in arrived.iter().zip([json, json, xml]) {
        assert_eq!((str::from_utf8(&arrived.body).unwrap(), arrived.header("content-type")), expected);
        verify(arrived);
    }
    let pulled = server.call("delivery.pull", json!([id, 1])).await.unwrap();
    assert_eq!(pulled[0]["body"], xml.0);
}

#[tokio::test]
async fn an_encoding_goes_with_its_format() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"format": "3dcart", "encoding": "xml"})).await;
    let update = async |changes: Value| server.call("webhook.update", json!([id, changes])).await;
    for (changes, field) in [
        (json!({"format": "envelope", "encoding": "xml"}), "encoding"),
        (json!({"encoding": "yaml"}), "encoding"),
        (json!({"format": "4dcart"}), "format"),
        (json!({"batch": {"max_events": 2}}), "batch"),
    ] {
        let fault = update(changes).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(101), &json!(field)), "{fault}");
    }
    for (changes, format, encoding) in [
        (json!({"format": "3dcart"}), "3dcart", "xml"),
        (json!({"format": "envelope"}), "envelope", "json"),
        (json!({"format": "3dcart"}), "3dcart", "json"),
        (json!({"format": "shipstream", "encoding": "json"}), "shipstream", "json"),
        (json!({"format": "3dcart", "encoding": "xml"}), "3dcart", "xml"),
    ] {
        let changed = update(changes).await.unwrap();
        assert_eq!((&changed["format"], &changed["encoding"]), (&json!(format), &json!(encoding)));
    }
}

/// What is left out of a message is settled when it is numbered, and the same
/// in every attempt, in a pull and after a backfill.
#[tokio::test]
async fn expansions_say_which_parts_of_a_message_go_out() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 204 })).await;
    let expansions = json!({"order:created": "items, billing.city"});
    let id = webhook(&server, &receiver, json!({"topics": "order:*", "expansions": expansions})).await;
    assert_eq!(server.call("webhook.get", json!([id])).await.unwrap()["expansions"], expansions);
    let message = json!({"id": 1, "items": [{"sku": "a"}], "billing": {"city": "x"}, "shipping": {}, "note": null});
    server.publish("order:created", message.clone()).await;
    let first = receiver.arrivals(1).await.remove(0);
    let part = json!({"id": 1, "items": [{"sku": "a"}], "billing": {"city": "x"}, "note": null});
    assert_eq!(first.json()["message"], part);
    verify(&first);

    // Other topics go out whole, and what is pending keeps what it was numbered with.
    server.attempts(id, 1, 1).await;
    server.call("webhook.update", json!([id, {"expansions": {"order:updated": "shipping"}}])).await.unwrap();
    server.call("delivery.retry", json!([id, 1])).await.unwrap();
    let again = receiver.arrivals(2).await.remove(1);
    assert_eq!(again.body, first.body);
    let pulled = server.call("delivery.pull", json!([id, 0])).await.unwrap();
    assert_eq!(pulled[0]["body"].as_str().unwrap().as_bytes(), first.body);
    server.publish("order:created", message.clone()).await;
    assert_eq!(receiver.arrivals(3).await.remove(2).json()["message"], message);
    server.publish("order:updated", message.clone()).await;
    let cut = json!({"id": 1, "shipping": {}, "note": null});
    assert_eq!(receiver.arrivals(4).await.remove(3).json()["message"], cut);
    server.call("webhook.backfill", json!([id, {"topics": "order:updated"}])).await.unwrap();
    let filled = receiver.arrivals(5).await.remove(4);
    assert_eq!((filled.number(), &filled.json()["message"]), (4, &cut));

    for (wrong, problem) in [
        (json!({"order": "x"}), "is no topic"),
        (json!({"order:created": " , "}), "is empty"),
        (json!({"order:created": "x".repeat(1_001)}), "has 1001 characters"),
        (json!([["order:created", "x"]]), "invalid type"),
        (json!({"order:created": 7}), "invalid type"),
    ] {
        let fault = server.call("webhook.update", json!([id, {"expansions": wrong}])).await.unwrap_err();
        let message = fault["message"].as_str().unwrap();
        assert!(fault["code"] == 101 && message.contains("expansions") && message.contains(problem), "{fault}");
    }
    server.call("webhook.update", json!([id, {"expansions": {}}])).await.unwrap();
    assert_eq!(server.call("webhook.get", json!([id])).await.unwrap()["expansions"], json!({}));
}

/// What is cut is read from the store, what goes out whole is handed over, and
/// both may come with one commit.
#[tokio::test]
async fn what_is_cut_goes_out_beside_what_is_whole() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    let expansions = json!({"order:canceled": "items"});
    let ordered = json!({"topics": "order:*", "expansions": expansions, "delivery_mode": "ordered"});
    webhook(&server, &receiver, ordered).await;
    webhook(&server, &receiver, json!({"topics": "order:*", "expansions": expansions})).await;
    for round in 1..=20 {
        let held = server.hold_store();
        let publish = |topic: &'static str| server.publish(topic, json!({"items": [], "rest": {}}));
        let publishing = async {
            tokio::join!(
                publish("order:created"),
                publish("order:canceled"),
                publish("order:created"),
                publish("order:canceled")
            );
        };
        let release = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        tokio::join!(publishing, release);
        receiver.arrivals(round * 8).await;
    }
    for id in [1, 2] {
        assert_eq!(server.settled(id).await.len(), 80);
    }
}

/// They are built on another thread, and are the same.
#[tokio::test]
async fn large_messages_go_out_in_gzip_and_xml() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    webhook(&server, &receiver, json!({"format": "ultracart", "encoding": "gzip"})).await;
    webhook(&server, &receiver, json!({"format": "3dcart", "encoding": "xml"})).await;
    let text = "long ".repeat(40_000);
    server.publish("order:created", json!({ "text": text })).await;
    let arrived = receiver.arrivals(2).await;
    arrived.iter().for_each(verify);
    let of = |kind: &str| arrived.iter().find(|arrival| arrival.header("content-type") == kind).unwrap();
    let gzip = STANDARD.decode(of("application/json").json()["events"].as_str().unwrap()).unwrap();
    let mut events = String::new();
    GzDecoder::new(gzip.as_slice()).read_to_string(&mut events).unwrap();
    assert_eq!(events, format!(r#"[{{"order_create": {{"text":"{text}"}}}}]"#));
    let xml = String::from_utf8(of("application/xml").body.to_vec()).unwrap();
    assert!(xml.ends_with(&format!("<Order><text>{text}</text></Order></ArrayOfOrder>")), "{}", xml.len());
}
