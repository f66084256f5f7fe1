//! What UltraCart's API tells of requests, and what is sent: batches, gzip,
//! expansions, the log, reflow.

use serde_json::{Value, json};

use super::Client;
use super::together::unpacked;
use super::ultracart::{WEBHOOKS, wants};
use super::without_nulls;
use crate::common::{DEMO_KEY, Receiver, Reply, Start, TestServer};

#[tokio::test]
async fn deliveries_are_batched_expanded_and_packed_as_asked_for() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    let client = Client::ultracart(&server);
    let events =
        json!([{"event_name": "order_create", "expansion": "items,billing.city"}, {"event_name": "order_update"}]);
    let data = json!({"webhook_url": receiver.url(), "maximum_events": 3, "authentication_type": "basic",
        "basic_username": "ann", "basic_password": "b", "event_categories": [{"event_category": "order", "events": events}]});
    let made = client.insert(data).await;
    let message = json!({"order_id": 1, "items": [1], "billing": {"city": "x"}, "shipping": {"city": "y"}});
    let publish: Vec<_> = [("order:created", &message), ("order:updated", &message), ("order:created", &message)]
        .map(|(topic, message)| json!({"topic": topic, "message": message}))
        .into();
    server.call("event.publish_many", json!([publish])).await.unwrap();
    let sent = receiver.arrivals(1).await.remove(0);
    let part = r#"{"order_id":1,"items":[1],"billing":{"city":"x"}}"#;
    let events = format!(r#"[{{"order_create": {part}}}, {{"order_update": {message}}}, {{"order_create": {part}}}]"#);
    assert_eq!(sent.body, format!(r#"{{"events": {events}}}"#));
    assert_eq!(sent.header("authorization"), "Basic YW5uOmI=");
    assert!(sent.header("webhook-id").ends_with("_1_1-3"));

    // A delivery keeps what it was numbered with, in every attempt.
    let mut packed = made.clone();
    packed["compress_events"] = json!(true);
    client.put(&packed).await;
    server.settled(1).await;
    server.call("event.publish_many", json!([publish])).await.unwrap();
    let first = receiver.arrivals(2).await.remove(1);
    assert_eq!(unpacked(&first.json()), events);
    assert_eq!(first.header("content-type"), "application/json");
    server.settled(1).await;
    client.put(&json!({"webhook_oid": 1, "webhook_url": receiver.url()})).await;
    server.call("webhook.replay", json!([1, {"from_increment_id": 1, "to_increment_id": 6}])).await.unwrap();
    let again = receiver.arrivals(4).await;
    for before in &again[..2] {
        let id = before.header("webhook-id");
        let after = again[2..].iter().find(|after| after.header("webhook-id") == id).unwrap();
        assert_eq!(before.body, after.body);
        assert!(after.headers.get("authorization").is_none());
    }

    // A body is never larger than asked for, unless one event alone is.
    let size = json!({"webhook_oid": 1, "webhook_url": receiver.url(), "maximum_size": 1024, "event_categories": wants("order", &["order_create"])});
    let shown = client.put(&size).await;
    assert_eq!((&shown["maximum_events"], &shown["maximum_size"]), (&json!(100), &json!(1024)));
    let long = |length: usize| json!({"topic": "order:created", "message": {"text": "x".repeat(length)}});
    let publish = [300, 300, 300, 2_000].map(long);
    server.call("event.publish_many", json!([publish])).await.unwrap();
    server.settled(1).await;
    let sizes: Vec<_> = receiver.so_far()[4..].iter().map(|sent| sent.body.len()).collect();
    assert!(sizes.len() >= 3 && sizes.iter().filter(|size| **size > 1024).count() == 1, "{sizes:?}");
}

#[tokio::test]
async fn the_log_is_found_by_what_clients_know() {
    let server = TestServer::start().await;
    let receiver = Receiver::start(|place, _| match place {
        1 | 2 => Reply { status: 500, headers: Vec::new(), body: "no\u{e4}".to_owned() },
        _ => Reply::status(200),
    })
    .await;
    let client = Client::ultracart(&server);
    let data =
        json!({"topics": "*", "url": receiver.url(), "format": "ultracart", "retry": [1], "delivery_mode": "ordered"});
    server.webhook(data).await;
    for (topic, message) in [
        ("order:created", json!({"order_id": "A-1"})),
        ("order:updated", json!({"order_id": 17, "note": "in a hurry"})),
        ("product:updated", json!({"order_id": {"no": "id"}})),
    ] {
        server.publish(topic, message).await;
    }
    server.settled(1).await;
    assert_eq!(client.logged("").await, ["3.1", "2.2", "2.1", "1.1"]);
    assert_eq!(client.logged("success=False").await, ["2.2", "2.1"]);
    assert_eq!(client.logged("status=200").await, ["3.1", "1.1"]);
    assert_eq!(client.logged("event=order_update").await, ["2.2", "2.1"]);
    assert_eq!(client.logged("orderId=17&success=false").await, ["2.2", "2.1"]);
    assert_eq!(client.logged("orderId=A-1").await, ["1.1"]);
    assert_eq!(client.logged("request=hurry").await, ["2.2", "2.1"]);
    assert_eq!(client.logged("duration=0").await.len(), 4);
    assert_eq!(client.logged("duration=3600000").await, [""; 0]);
    assert_eq!(client.logged("beginDate=2020-01-01&endDate=2999-12-31").await.len(), 4);
    for query in [
        "endDate=2020-01-01",
        "beginDate=2999-01-01",
        "_since=2999-01-01T00:00:00",
        "event=nothing",
        "requestId=nothing",
    ] {
        assert_eq!(client.logged(query).await, [""; 0], "{query}");
    }
    for (query, expected, more) in [
        ("_limit=2", &["3.1", "2.2"][..], true),
        ("_limit=2&_offset=2", &["2.1", "1.1"], false),
        ("_limit=2&_offset=4", &[], false),
        ("_limit=1&_offset=1&event=order_update", &["2.1"], false),
        ("_limit=1&event=order_update", &["2.2"], true),
    ] {
        assert_eq!(
            (client.logged(query).await, client.summaries(query).await.1),
            (expected.iter().map(|n| (*n).to_owned()).collect(), more),
            "{query}"
        );
    }
    let (all, _) = client.summaries("").await;
    assert_eq!(
        (&all[1]["order_ids"], &all[3]["order_ids"], &all[0]["order_ids"]),
        (&json!(["17"]), &json!(["A-1"]), &json!([]))
    );
    let request_id = all[2]["request_id"].as_str().unwrap();
    assert_eq!(client.logged(&format!("requestId={request_id}")).await, ["2.1"]);
    let log = client.asks("GET", &format!("{WEBHOOKS}/1/logs/{request_id}"), Value::Null, "webhook_log").await;
    assert_eq!((&log["success"], &log["status_code"], &log["response"]), (&json!(false), &json!(500), &json!("noä")));

    // Where there was no answer, the log says why.
    server.webhook(json!({"topics": "own:*", "url": "http://127.0.0.1:1/", "retry": []})).await;
    server.publish("own:thing", json!({})).await;
    let id = server.settled(2).await.remove(0);
    assert_eq!(id["state"], "abandoned");
    let (_, answer) = client.send("GET", &format!("{WEBHOOKS}/2/logs"), "").await;
    let request_id = answer["webhook_log_summaries"][0]["request_id"].as_str().unwrap();
    let log = client.asks("GET", &format!("{WEBHOOKS}/2/logs/{request_id}"), Value::Null, "webhook_log").await;
    assert!(log.get("status_code").is_none() && log["response"].as_str().unwrap().contains("refused"), "{log}");

    // Not with the id of another webhook's request.
    client.is_refused("GET", &format!("{WEBHOOKS}/1/logs/{request_id}"), "", 404).await;
    client.is_refused("GET", &format!("{WEBHOOKS}/1/logs/nothing"), "", 404).await;
    client.is_refused("GET", &format!("{WEBHOOKS}/9/logs"), "", 404).await;
    for query in [
        "beginDate=yesterday",
        "status=99",
        "status=x",
        "success=maybe",
        "duration=-1",
        "_limit=0",
        "_limit=1001",
        "_offset=-1",
        "_since=2026-13-01",
    ] {
        client.is_refused("GET", &format!("{WEBHOOKS}/1/logs?{query}"), "", 400).await;
    }
}

#[tokio::test]
async fn a_search_of_the_log_has_a_bound() {
    let server = Start::default().flag("filter_events_max", "5").go().await;
    let receiver = Receiver::obliging().await;
    server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
    for number in 1..=6 {
        server.publish("order:created", json!({"order_id": number})).await;
    }
    server.settled(1).await;
    let client = Client::ultracart(&server);
    let told = client.is_refused("GET", &format!("{WEBHOOKS}/1/logs?orderId=1"), "", 400).await;
    assert!(told.starts_with("More than 5 requests would have to be looked into"), "{told}");
    // What needs no look at what was sent has none.
    assert_eq!(client.logged("_offset=5&success=true").await, ["1.1"]);
}

#[tokio::test]
async fn reflow_sends_what_is_stored_under_new_numbers() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    let client = Client::ultracart(&server);
    for number in 1..=3 {
        server.publish("product:updated", json!({"number": number})).await;
        server.publish("product:created", json!({"number": number})).await;
    }
    client.insert(json!({"webhook_url": receiver.url(), "authentication_type": "basic"})).await;
    let path = format!("{WEBHOOKS}/1/reflow/item_update");
    let answer = client.send("POST", &path, "").await.1;
    without_nulls(&answer);
    let sample = &answer["webhook_sample_request"];
    let arrived = receiver.arrivals(3).await;
    let numbers: Vec<_> =
        arrived.iter().map(|sent| sent.json()["events"][0]["item_update"]["number"].as_i64()).collect();
    assert_eq!(numbers.iter().flatten().sum::<i64>(), 6, "{numbers:?}");
    let first = arrived.iter().find(|sent| sent.number() == 1).unwrap();
    assert_eq!(sample["request"].as_str().unwrap().as_bytes(), first.body);
    assert_eq!(sample["request_id"], format!("{}.1", first.header("webhook-id")));
    assert_eq!(sample["uri"], receiver.url());
    let header = |name: &str| {
        let headers = sample["request_headers"].as_array().unwrap();
        headers.iter().find(|header| header["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!((header("tallyhook-increment-id"), header("authorization")), (json!("1"), json!("[redacted]")));

    // In batches, it is the first batch.
    let events = json!([{"event_name": "item_update", "expansion": "nothing"}]);
    let batches = json!({"webhook_oid": 1, "webhook_url": receiver.url(), "maximum_events": 2,
        "event_categories": [{"event_category": "item", "events": events}]});
    client.put(&batches).await;
    server.settled(1).await;
    let answer = client.send("POST", &path, "").await.1;
    server.settled(1).await;
    let sample = &answer["webhook_sample_request"];
    let sent = receiver.arrivals(5).await;
    let first = sent.iter().find(|sent| sent.header("webhook-id").ends_with("_4-5")).unwrap();
    assert_eq!(sample["request"].as_str().unwrap().as_bytes(), first.body);
    assert_eq!(sample["request_id"], format!("{}.1", first.header("webhook-id")));

    let answer = client.send("POST", &format!("{WEBHOOKS}/1/reflow/order_create"), "").await.1;
    assert!(answer["success"] == true && answer.get("webhook_sample_request").is_none(), "{answer}");
    for event in ["order_update", "item_created", "x"] {
        let told = client.is_refused("POST", &format!("{WEBHOOKS}/1/reflow/{event}"), "", 400).await;
        assert_eq!(told, "eventName: must be one of item_update, order_create.");
    }
    client.is_refused("POST", &format!("{WEBHOOKS}/9/reflow/item_update"), "", 404).await;
}

#[tokio::test]
async fn failures_are_told_of() {
    let server = TestServer::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let client = Client::ultracart(&server);
    let data = json!({"webhook_url": receiver.url(), "event_categories": wants("item", &["item_update"])});
    client.insert(data).await;
    server.call("webhook.update", json!([1, {"retry": [3_600]}])).await.unwrap();
    server.publish("product:updated", json!({})).await;
    server.publish("product:updated", json!({})).await;
    server.attempts(1, 1, 1).await;
    server.attempts(1, 2, 1).await;
    let list = async || client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await[0].clone();
    // In PostgreSQL that is written a little later.
    let have_failed = |webhook: &Value| webhook["consecutive_failures"].as_i64().unwrap() >= 2;
    let webhook = server.until(async || Some(list().await).filter(have_failed)).await;
    assert!(webhook["next_retry_after"].is_string(), "{webhook}");
    assert_eq!((&webhook["pending"], &webhook["disabled"]), (&json!(2), &json!(false)));
    server.call("webhook.update_status", json!([{"webhook_id": 1, "status": 0}])).await.unwrap();
    let webhook = list().await;
    assert!(webhook["disabled"] == true && webhook.get("next_retry_after").is_none(), "{webhook}");
    assert_eq!(webhook["pending"], 2);
}

#[tokio::test]
async fn reflow_sends_no_data_of_customers_over_http() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    server.publish("order:created", json!({"email": "ann@example.com"})).await;
    client
        .insert(json!({"webhook_url": "http://example.com/hook", "event_categories": wants("item", &["item_update"])}))
        .await;
    let told = client.is_refused("POST", &format!("{WEBHOOKS}/1/reflow/order_create"), "", 400).await;
    assert!(told.starts_with("webhook_url: must be https"), "{told}");
    assert_eq!(server.call("webhook.get", json!([1])).await.unwrap()["increment_id"], 0);
}

#[tokio::test]
async fn a_request_that_is_looked_up_by_its_id_still_has_to_fit_the_other_filters() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let client = Client::ultracart(&server);
    client.insert(json!({"webhook_url": receiver.url(), "event_categories": wants("item", &["item_update"])})).await;
    server.publish("product:updated", json!({"sku": "a"})).await;
    server.settled(1).await;
    let id = client.summaries("").await.0[0]["request_id"].as_str().unwrap().to_owned();
    assert_eq!(client.logged(&format!("requestId={id}&status=204")).await, ["1.1"]);
    for other in ["status=500", "success=false", "beginDate=2990-01-01", "endDate=1990-01-01", "duration=86400000"] {
        assert_eq!(client.logged(&format!("requestId={id}&{other}")).await, [""; 0], "{other}");
    }
}

#[tokio::test]
async fn an_expansion_holds_whatever_the_names_in_the_message() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let client = Client::ultracart(&server);
    let events = json!([{"event_category": "order", "events": [{"event_name": "order_create", "expansion": "items"}]}]);
    client.insert(json!({"webhook_url": receiver.url(), "event_categories": events})).await;
    let body = r#"{"jsonrpc": "2.0", "id": 1, "method": "event.publish",
        "params": [null, "order:created", {"\ud800": 1, "order_id": 5, "payment": {"card": "4111"}}]}"#;
    let basic = crate::common::basic("demo", DEMO_KEY);
    server.post("/", &[("authorization", &basic)], body.to_owned()).await;
    let arrived = receiver.arrivals(1).await;
    assert!(!String::from_utf8_lossy(&arrived[0].body).contains("4111"), "{:?}", arrived[0].body);
}
