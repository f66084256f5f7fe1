//! The catalogue of topics, and the schemas that messages are checked against.

use serde_json::{Value, json};

use super::{User, rows};
use crate::common::{Start, TestServer};

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["order_id"],
        "properties": {
            "order_id": {"type": "integer"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}
        },
        "$defs": {"line": {"type": "object", "required": ["sku"]}}
    })
}

#[tokio::test]
async fn a_topic_lives_its_life() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let registered = user.done("topic.register", json!(["order:created", {"message_schema": schema()}])).await;
    assert_eq!(registered["category"], "order");
    assert_eq!(registered["name"], "Order created");
    assert_eq!((&registered["event_type"], &registered["validation"]), (&json!(1), &json!("reject")));
    assert_eq!(registered["message_schema"], schema());
    let all = user.done("topic.list", json!([])).await;
    assert_eq!(all, json!([registered]));
    user.refused("topic.register", json!(["order:created"]), 118).await;

    // What is left out stays; null takes the schema away.
    let changed = user.done("topic.update", json!(["order:created", {"deprecated": 1, "event_type": 40}])).await;
    let expected = |key: &str| match key {
        "deprecated" => json!(true),
        "event_type" => json!(40),
        "updated_at" => changed[key].clone(),
        _ => registered[key].clone(),
    };
    for key in changed.as_object().unwrap().keys() {
        assert_eq!(changed[key], expected(key), "{key}");
    }
    let changed = user.done("topic.update", json!(["order:created", {"message_schema": null}])).await;
    assert_eq!(changed["message_schema"], Value::Null);
    assert_eq!(user.done("topic.register", json!(["order:canceled"])).await["event_type"], 41);
    assert_eq!(user.done("topic.count", json!([{"deprecated": 0}])).await, 1);
    assert_eq!(user.done("topic.count", json!([{"topics": "order:*"}])).await, 2);
    assert_eq!(user.done("topic.remove", json!(["order:created"])).await, true);
    user.refused("topic.remove", json!(["order:created"]), 116).await;
    user.refused("topic.update", json!(["order:created", {}]), 116).await;
}

#[tokio::test]
async fn topics_are_listed_in_pages() {
    let server = Start::default().flag("topics_max", "5").go().await;
    let user = User::demo(&server);
    for name in ["c:c", "a:a", "e:e", "b:b", "d:d"] {
        user.done("topic.register", json!([name, {"category": if name < "c" { "early" } else { "late" }}])).await;
    }
    let error = user.refused("topic.register", json!(["f:f"]), 118).await;
    assert!(error["message"].as_str().unwrap().contains("has 5 topics, the most it may have"), "{error}");
    let names = async |options: Value| -> Vec<String> {
        let found = user.done("topic.list", json!([options])).await;
        found.as_array().unwrap().iter().map(|topic| topic["topic"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(json!({"limit": 2})).await, ["a:a", "b:b"]);
    assert_eq!(names(json!({"limit": 2, "after_topic": "b:b"})).await, ["c:c", "d:d"]);
    assert_eq!(names(json!({"limit": 2, "after_topic": "d:d"})).await, ["e:e"]);
    assert_eq!(names(json!({"sort": "-topic", "after_topic": "c:c"})).await, ["b:b", "a:a"]);
    // The place is known though the topic is gone.
    user.done("topic.remove", json!(["c:c"])).await;
    assert_eq!(names(json!({"after_topic": "c:c", "category": "late"})).await, ["d:d", "e:e"]);
    for (options, field) in [
        (json!({"sort": "name"}), "sort"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 101}), "limit"),
        (json!({"after_topic": "order"}), "after_topic"),
        (json!({"topics": "order"}), "topics"),
    ] {
        user.refused_field("topic.list", json!([options]), 111, field).await;
    }
    user.refused_field("topic.count", json!([{"colour": 1}]), 111, "colour").await;
}

#[tokio::test]
async fn a_topic_is_checked() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (data, field) in [
        (json!({"category": "two words"}), "category"),
        (json!({"name": ""}), "name"),
        (json!({"description": "x".repeat(2_001)}), "description"),
        (json!({"event_type": 0}), "event_type"),
        (json!({"validation": "maybe"}), "validation"),
        (json!({"message_schema": {"type": "objekt"}}), "message_schema"),
        (json!({"message_schema": "order"}), "message_schema"),
        (json!({"message_schema": {"$ref": "https://example.com/schema"}}), "message_schema"),
        (json!({"deprecated": "maybe"}), "deprecated"),
        (json!({"colour": 1}), "colour"),
    ] {
        user.refused_field("topic.register", json!(["order:created", data]), 117, field).await;
    }
    user.refused_field("topic.register", json!(["order"]), 117, "topic").await;
    assert_eq!(rows(&server, "topic"), 0);
}

#[tokio::test]
async fn messages_are_checked_as_the_topic_says() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let bad = json!({"order_id": 7, "lines": [{"sku": "a"}, {}]});
    user.done("topic.register", json!(["order:created", {"message_schema": schema()}])).await;
    let error = user.refused("event.publish", json!(["order:created", bad]), 107).await;
    assert_eq!(error["data"], json!({"field": "message.lines[1]"}));
    assert_eq!(error["message"], "Invalid event. message.lines[1]: \"sku\" is a required property.");
    let good = json!({"topic": "order:created", "message": {"order_id": 7}});
    let events = json!([good, {"topic": "free:topic", "message": {}}, {"topic": "order:created", "message": bad}]);
    let error = user.refused("event.publish_many", json!([events]), 107).await;
    assert_eq!(error["data"], json!({"field": "message.lines[1]", "index": 2}));
    assert_eq!(rows(&server, "event"), 0);
    user.refused("event.explain", json!(["order:created", bad]), 107).await;
    assert_eq!(user.done("event.explain", json!(["order:created", {"order_id": 7}])).await, json!([]));

    // The very next publish goes by what the catalogue says then.
    user.done("topic.update", json!(["order:created", {"validation": "warn"}])).await;
    let receipts = user.done("event.publish_many", json!([events])).await;
    assert_eq!((&receipts[0].get("warning"), &receipts[1].get("warning")), (&None, &None));
    let warning = json!({"field": "message.lines[1]", "problem": "\"sku\" is a required property."});
    assert_eq!(receipts[2]["warning"], warning);
    user.done("topic.update", json!(["order:created", {"validation": "off"}])).await;
    assert!(user.done("event.publish", json!(["order:created", bad])).await.get("warning").is_none());
    user.done("topic.update", json!(["order:created", {"validation": "reject", "message_schema": true}])).await;
    user.done("event.publish", json!(["order:created", bad])).await;

    user.done("topic.update", json!(["order:created", {"discontinued": 1}])).await;
    user.refused_field("event.publish", json!(["order:created", {}]), 107, "topic").await;
    user.done("topic.remove", json!(["order:created"])).await;
    user.done("event.publish", json!(["order:created", {}])).await;
    // Registered anew, it is another entry, and what was kept of the old one does not count.
    user.done("topic.register", json!(["order:created", {"message_schema": {"required": ["other"]}}])).await;
    user.refused("event.publish", json!(["order:created", {"order_id": 7}]), 107).await;
}

/// Whoever lost the answer asks again, and is not told that nothing was accepted.
#[tokio::test]
async fn a_repeated_publish_is_not_refused_for_what_was_said_since() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let publish = |key: &str| json!(["order:created", {"n": 1}, {"idempotency_key": key}]);
    let first = user.done("event.publish", publish("k")).await;
    user.done("topic.register", json!(["order:created", {"message_schema": {"required": ["other"]}}])).await;
    assert_eq!(user.done("event.publish", publish("k")).await, first);
    user.refused("event.publish", publish("new"), 107).await;
    let other = json!(["order:created", {"n": 2}, {"idempotency_key": "k"}]);
    user.refused("event.publish", other, 107).await;
    user.done("topic.update", json!(["order:created", {"discontinued": 1}])).await;
    assert_eq!(user.done("event.publish", publish("k")).await, first);
    let events = json!([[
        {"topic": "order:created", "message": {"n": 1}, "options": {"idempotency_key": "k"}},
        {"topic": "order:created", "message": {"n": 3}}
    ]]);
    assert_eq!(user.refused("event.publish_many", events, 107).await["data"]["index"], 1);
    assert_eq!(rows(&server, "event"), 1);
}

#[tokio::test]
async fn attempts_are_listed_in_pages() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = super::id_of(&user.webhook(super::webhook_data()).await);
    user.done("event.publish", json!(["order:created", {}])).await;
    for count in 1..=3 {
        server.attempts(id, 1, count).await;
        user.done("delivery.retry", json!([id, 1])).await;
    }
    server.attempts(id, 1, 4).await;
    let attempts = async |options: Value| -> Vec<i64> {
        let found = user.done("delivery.attempts", json!([id, 1, options])).await;
        found.as_array().unwrap().iter().map(|attempt| attempt["attempt"].as_i64().unwrap()).collect()
    };
    assert_eq!(attempts(json!({"limit": 2})).await, [1, 2]);
    assert_eq!(attempts(json!({"limit": 2, "after_attempt": 2})).await, [3, 4]);
    assert_eq!(attempts(json!({"after_attempt": 9})).await, [0; 0]);
    user.refused_field("delivery.attempts", json!([id, 1, {"after_attempt": -1}]), 111, "after_attempt").await;
    user.refused_field("delivery.attempts", json!([id, 1, {"limit": 0}]), 111, "limit").await;
}

#[tokio::test]
async fn numbers_that_cannot_be_are_no_deliveries() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = super::id_of(&user.webhook(super::webhook_data()).await);
    for number in [0, -1, -100_000_000, i64::MIN, i64::MAX] {
        user.refused("delivery.get", json!([id, number]), 110).await;
    }
}

/// What takes long is checked elsewhere, with the same result.
#[tokio::test]
async fn large_messages_are_checked_too() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    user.done("topic.register", json!(["order:created", {"message_schema": schema()}])).await;
    let mut lines = vec![json!({"sku": "x".repeat(100)}); 1_000];
    let receipt = user.done("event.publish", json!(["order:created", {"order_id": 7, "lines": lines}])).await;
    assert_eq!(receipt["event_id"], 1);
    lines.push(json!({}));
    let error = user.refused("event.publish", json!(["order:created", {"order_id": 7, "lines": lines}]), 107).await;
    assert_eq!(error["data"]["field"], "message.lines[1000]");
}

#[tokio::test]
async fn lists_of_webhooks_events_and_deliveries_have_pages() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (topics, url, on) in [
        ("order:*", "https://c.example.com/", 1),
        ("*", "https://a.example.com/", 0),
        ("product:updated", "https://b.example.com/", 1),
    ] {
        user.webhook(json!({"topics": topics, "url": url, "is_active": on})).await;
    }
    let ids = async |options: Value| -> Vec<i64> {
        let found = user.done("webhook.list", json!([options])).await;
        found.as_array().unwrap().iter().map(|webhook| webhook["webhook_id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(json!({})).await, [1, 2, 3]);
    assert_eq!(ids(json!({"sort": "url"})).await, [2, 3, 1]);
    assert_eq!(ids(json!({"sort": "-url", "limit": 2})).await, [1, 3]);
    assert_eq!(ids(json!({"sort": "-webhook_id", "after_webhook_id": 3})).await, [2, 1]);
    assert_eq!(ids(json!({"topic": "order:created"})).await, [1, 2]);
    assert_eq!(ids(json!({"topic": "order:created", "is_active": 1, "disabled": 0})).await, [1]);
    assert_eq!(ids(json!({"disabled": 1})).await, [0; 0]);
    assert_eq!(user.done("webhook.count", json!([{"is_active": 1}])).await, 2);
    user.done("webhook.delete", json!([2])).await;
    assert_eq!(ids(json!({"after_webhook_id": 2})).await, [3]);
    for (options, field) in [
        (json!({"sort": "url", "after_webhook_id": 2}), "after_webhook_id"),
        (json!({"sort": "topics"}), "sort"),
        (json!({"topic": "order"}), "topic"),
    ] {
        user.refused_field("webhook.list", json!([options]), 111, field).await;
    }

    for topic in ["order:created", "order:canceled", "product:updated", "order:created"] {
        user.done("event.publish", json!([topic, {}])).await;
    }
    let keys = async |method: &str, args: Value, key: &str| -> Vec<i64> {
        let found = user.done(method, args).await;
        found.as_array().unwrap().iter().map(|item| item[key].as_i64().unwrap()).collect()
    };
    assert_eq!(keys("event.list", json!([{"sort": "-event_id", "limit": 2}]), "event_id").await, [4, 3]);
    assert_eq!(keys("event.list", json!([{"topics": ["order:*"], "after_event_id": 1}]), "event_id").await, [2, 4]);
    assert_eq!(user.done("event.count", json!([{"topics": "order:created", "limit": 1}])).await, 2);
    let numbers = async |options: Value| keys("delivery.list", json!([1, options]), "increment_id").await;
    assert_eq!(numbers(json!({"sort": "-increment_id", "limit": 2})).await, [3, 2]);
    assert_eq!(numbers(json!({"sort": "-increment_id", "after_increment_id": 2})).await, [1]);
    assert_eq!(numbers(json!({"topics": "order:created"})).await, [1, 3]);
    assert_eq!(user.done("delivery.count", json!([1, {"topics": "order:canceled"}])).await, 1);
    for method in ["event.list", "event.count"] {
        user.refused_field(method, json!([{"since": "yesterday"}]), 111, "since").await;
    }
    user.refused_field("event.list", json!([{"sort": "topic"}]), 111, "sort").await;
    user.refused_field("delivery.count", json!([1, {"until": "tomorrow"}]), 111, "until").await;
    user.refused("delivery.count", json!([9]), 103).await;
    user.refused("webhook.stats", json!([9]), 103).await;
}
