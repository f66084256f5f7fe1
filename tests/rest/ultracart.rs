//! UltraCart's API (seed 001).

use serde_json::{Value, json};

use crate::common::{DEMO_KEY, Receiver, Reply, Start, TestServer};
use crate::together::unpacked;
use crate::{Client, without_nulls};

const WEBHOOKS: &str = "/rest/v2/webhook/webhooks";

impl<'a> Client<'a> {
    pub fn ultracart(server: &'a TestServer) -> Self {
        Self::ultracart_with(server, DEMO_KEY)
    }

    fn ultracart_with(server: &'a TestServer, key: &str) -> Self {
        let headers = [
            ("accept", "application/json"),
            ("X-UltraCart-Api-Version", "2017-03-01"),
            ("x-ultracart-simple-key", key),
        ];
        Self { server, headers: headers.map(|(name, value)| (name, value.to_owned())).into() }
    }

    /// A request that must succeed: the member with what was asked for.
    async fn asks(&self, method: &str, path: &str, body: Value, member: &str) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.send(method, path, &body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{method} {path}: {answer}");
        assert_eq!(answer["metadata"]["payload_name"], member, "{answer}");
        without_nulls(&answer);
        answer[member].clone()
    }

    async fn insert(&self, data: Value) -> Value {
        self.asks("POST", WEBHOOKS, data, "webhook").await
    }

    async fn put(&self, webhook: &Value) -> Value {
        self.asks("PUT", &format!("{WEBHOOKS}/{}", webhook["webhook_oid"]), webhook.clone(), "webhook").await
    }

    /// A request that must be refused, in the dialect's shape; the message.
    async fn is_refused(&self, method: &str, path: &str, body: &str, status: u16) -> String {
        let (found, answer) = self.send(method, path, body).await;
        assert_eq!(found, status, "{method} {path} {body}: {answer}");
        let error = &answer["error"];
        let mut expected = json!({"error": {"developer_message": error["developer_message"],
            "error_code": status.to_string(), "more_info": error["more_info"], "user_message": error["user_message"]},
            "metadata": {}, "success": false});
        // Which webhook it is about, where the path names one.
        let oid = path.strip_prefix(&format!("{WEBHOOKS}/")).and_then(|rest| rest.split(['/', '?']).next());
        if let Some(oid) = oid.filter(|_| ![405, 410, 429].contains(&status)) {
            expected["error"]["object_id"] = json!(oid);
        }
        assert_eq!(answer, expected, "{method} {path}");
        assert!(error["user_message"].is_string() && error["more_info"].is_string(), "{answer}");
        error["developer_message"].as_str().unwrap().to_owned()
    }

    /// What a list of log summaries has, and whether it says that there are more.
    async fn summaries(&self, query: &str) -> (Vec<Value>, bool) {
        let path = format!("{WEBHOOKS}/1/logs?{query}");
        let (status, answer) = self.send("GET", &path, "").await;
        assert_eq!(status, 200, "{path}: {answer}");
        without_nulls(&answer);
        let list = answer["webhook_log_summaries"].as_array().unwrap().clone();
        let result_set = &answer["metadata"]["result_set"];
        assert_eq!(result_set["count"], list.len(), "{answer}");
        (list, result_set["more"].as_bool().unwrap())
    }

    /// The numbers of the requests in such a list: `3.1` is the first attempt at number 3.
    async fn logged(&self, query: &str) -> Vec<String> {
        let number = |summary: &Value| summary["request_id"].as_str().unwrap().rsplit('_').next().unwrap().to_owned();
        self.summaries(query).await.0.iter().map(number).collect()
    }
}

/// Events of a category, each of which is subscribed to.
fn wants(category: &str, names: &[&str]) -> Value {
    let events: Vec<_> = names.iter().map(|name| json!({"event_name": name, "subscribed": true})).collect();
    json!([{"event_category": category, "events": events}])
}

/// The names of the events that a webhook subscribes to.
fn subscribed(webhook: &Value) -> Vec<&str> {
    let categories = webhook["event_categories"].as_array().unwrap().iter();
    let events = categories.flat_map(|category| category["events"].as_array().unwrap());
    events.filter(|event| event["subscribed"] == true).map(|event| event["event_name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_request_of_the_seed_is_answered_in_its_shape() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    server.publish("order:created", json!({"order_id": "DEMO-1"})).await;
    let client = Client::ultracart(&server);
    let data = json!({"webhook_url": receiver.url(), "authentication_type": "basic", "api_version": "2017-03-01",
        "maximum_events": 10, "maximum_size": 5_242_880, "event_categories": wants("item", &["item_update"])});
    let made = client.insert(data).await;
    let members: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "webhook_oid",
        "webhook_url",
        "merchant_id",
        "api_user_oid",
        "api_version",
        "authentication_type",
        "basic_username",
        "basic_password",
        "compress_events",
        "maximum_events",
        "maximum_size",
        "event_categories",
        "disabled",
        "consecutive_failures",
        "pending",
    ];
    assert_eq!(members, expected);
    assert_eq!((&made["webhook_oid"], &made["merchant_id"], &made["pending"]), (&json!(1), &json!("demo"), &json!(0)));
    let event = json!({"event_name": "item_update", "event_description": "Item update", "deprecated_flag": false,
        "discontinued_flag": false, "subscribed": true, "supports_reflow": true, "webhook_event_oid": 20});
    let category = json!({"event_category": "item", "events": [event], "subscribed": false, "any_subscribed": true,
        "available_expansions": []});
    assert_eq!(made["event_categories"], json!([category]));

    let (_, listed) = client.send("GET", &format!("{WEBHOOKS}?_limit=200&_offset=0&_placeholders=True"), "").await;
    let result_set = json!({"count": 1, "limit": 200, "offset": 0, "more": false, "total_records": 1});
    assert_eq!(listed["metadata"], json!({"payload_name": "webhooks", "result_set": result_set}));
    assert_eq!(listed["webhooks"][0]["event_categories"].as_array().unwrap().len(), 10);
    assert_eq!(subscribed(&listed["webhooks"][0]), ["item_update"]);

    let mut changed = made.clone();
    changed["webhook_url"] = json!(format!("{}/new", receiver.url()));
    let expected = changed.clone();
    assert_eq!(client.put(&changed).await, expected);

    server.publish("product:updated", json!({"sku": "a"})).await;
    server.settled(1).await;
    let (summaries, _) = client.summaries("_limit=200&_offset=0&_since=2020-01-01T00:00:00%2B00:00").await;
    let request_id = summaries[0]["request_id"].as_str().unwrap().to_owned();
    let expected = json!([{"request_id": request_id, "delivery_dts": summaries[0]["delivery_dts"],
        "duration": summaries[0]["duration"], "success": true, "status_code": 204, "event_names": ["item_update"],
        "order_ids": []}]);
    assert_eq!(json!(summaries), expected);
    let sent = receiver.arrivals(1).await.remove(0);
    assert_eq!(request_id, format!("{}.1", sent.header("webhook-id")));
    let log = client.asks("GET", &format!("{WEBHOOKS}/1/logs/{request_id}"), Value::Null, "webhook_log").await;
    let members: Vec<_> = log.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "request_id",
        "delivery_dts",
        "duration",
        "success",
        "status_code",
        "event_names",
        "order_ids",
        "queue_delay",
        "request",
        "request_headers",
        "response",
        "response_headers",
        "uri",
        "webhook_oid",
    ];
    assert_eq!(members, expected);
    assert_eq!(log["request"].as_str().unwrap().as_bytes(), sent.body);
    assert_eq!((&log["uri"], &log["response"]), (&changed["webhook_url"], &json!("")));
    let header = json!({"name": "webhook-id", "value": sent.header("webhook-id")});
    assert!(log["request_headers"].as_array().unwrap().contains(&header), "{log}");

    let path = format!("{WEBHOOKS}/1/reflow/order_create");
    let (status, answer) = client.send("POST", &path, "").await;
    assert_eq!((status, &answer["reflow"]), (200, &json!({"event_name": "order_create", "queued": true})));
    let sample = &answer["webhook_sample_request"];
    let members: Vec<_> = sample.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["request", "request_headers", "request_id", "uri"]);

    assert_eq!(client.send("DELETE", &format!("{WEBHOOKS}/1"), "").await, (204, Value::Null));
    client.is_refused("DELETE", &format!("{WEBHOOKS}/1"), "", 404).await;
}

#[tokio::test]
async fn subscriptions_keep_the_patterns_that_stay_true() {
    let server = TestServer::start().await;
    server.call("topic.register", json!(["shelf:emptied", {"name": "Shelf empty", "description": "Nothing is left.",
        "message_schema": {"type": "object", "properties": {"shelf": {"type": "object"}, "items": {"type": ["array", "null"]},
        "level": {"type": "number"}}}}])).await.unwrap();
    let client = Client::ultracart(&server);
    let topics = "order:*, product:updated, own:topic, shelf:*";
    server.webhook(json!({"topics": topics, "url": "https://example.com/hook"})).await;
    let list = client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await;
    let webhook = list[0].clone();
    let names = subscribed(&webhook);
    assert!(names.starts_with(&["item_update", "order_abandon_recovery", "order_create"]), "{names:?}");
    assert!(names.ends_with(&["order_update", "own_topic", "shelf_emptied"]), "{names:?}");
    let category = |webhook: &Value, name: &str| {
        let categories = webhook["event_categories"].as_array().unwrap();
        categories.iter().find(|category| category["event_category"] == name).unwrap().clone()
    };
    assert_eq!(category(&webhook, "order")["subscribed"], true);
    let shelf = category(&webhook, "shelf");
    assert_eq!(shelf["available_expansions"], json!(["items", "shelf"]));
    let shown = &shelf["events"][0];
    assert_eq!((&shown["event_description"], &shown["comments"]), (&json!("Shelf empty"), &json!("Nothing is left.")));
    assert!(shown.get("webhook_event_oid").is_none(), "{shown}");

    // The whole is sent back, and nothing is lost.
    let topics_now = async || server.call("webhook.get", json!([1])).await.unwrap()["topics"].clone();
    client.put(&webhook).await;
    assert_eq!(topics_now().await, topics);

    // An event less, and the pattern gives way to those that are left.
    let mut less = webhook.clone();
    for category in less["event_categories"].as_array_mut().unwrap() {
        for event in category["events"].as_array_mut().unwrap() {
            if ["order_refund", "own_topic"].contains(&event["event_name"].as_str().unwrap()) {
                event["subscribed"] = json!(false);
            }
        }
    }
    let changed = client.put(&less).await;
    assert_eq!(subscribed(&changed).len(), names.len() - 2);
    let topics = topics_now().await;
    let topics: Vec<_> = topics.as_str().unwrap().split(',').collect();
    assert!(
        topics.starts_with(&["product:updated", "shelf:*", "order:abandon_recovery", "order:created"]),
        "{topics:?}"
    );
    assert!(!topics.contains(&"order:refund") && !topics.contains(&"own:topic"), "{topics:?}");

    // What no catalogue lists goes by its category.
    let mut other = webhook.clone();
    other["event_categories"] =
        json!([{"event_category": "own", "events": [{"event_name": "own_thing", "subscribed": "True"}]}]);
    assert_eq!(subscribed(&client.put(&other).await), ["own_thing"]);
    assert_eq!(topics_now().await, "own:thing");
    other.as_object_mut().unwrap().remove("event_categories");
    assert_eq!(client.put(&other).await["event_categories"], json!([]));
    assert_eq!(topics_now().await, "");

    let all = client.asks("GET", "/rest/v2/webhook/webhook_event_categories", Value::Null, "event_categories").await;
    let names: Vec<_> =
        all.as_array().unwrap().iter().map(|category| category["event_category"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "auto_order",
            "chargeback",
            "checkout",
            "customer",
            "fulfillment",
            "item",
            "order",
            "shelf",
            "storefront",
            "user",
            "workflow_task"
        ]
    );
}

/// What the dialect lacks keeps its value through its PUT.
#[tokio::test]
async fn a_webhook_of_another_dialect_is_shown_and_keeps_what_it_has() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    let data = [
        json!({"topics": "order:*,item:create,own:topic", "url": "https://shop.example.com/x", "extra_headers": "X-A: 1",
            "retry": [5, 60], "batch": {"max_events": 5, "max_size": 100_000, "wait_ms": 7}, "description": "kept",
            "name": "n".repeat(200), "basic_auth": {"username": "ann", "password": "secret"},
            "expansions": {"order:created": "billing", "item:create": "x", "user:login": "y"}, "max_concurrency": 3, "is_active": 0}),
        json!({"topics": "*", "url": "http://shop.example.com/x", "format": "3dcart", "encoding": "xml"}),
        json!({"topics": "product:*", "delivery_mode": "pull", "format": "shipstream"}),
        json!({"topics": "order:created", "url": "https://example.com/", "format": "ultracart", "encoding": "gzip"}),
    ];
    for (oid, data) in (1..).zip(data) {
        let before = server.webhook(data).await;
        for query in ["", "?_placeholders=true"] {
            let list = client.asks("GET", &format!("{WEBHOOKS}{query}"), Value::Null, "webhooks").await;
            let shown = list.as_array().unwrap().iter().find(|webhook| webhook["webhook_oid"] == oid).unwrap();
            client.put(shown).await;
            let after = server.call("webhook.get", json!([oid])).await.unwrap();
            for (key, value) in before.as_object().unwrap().iter().filter(|(key, _)| *key != "updated_at") {
                assert_eq!(after[key], *value, "{oid} {key}");
            }
        }
    }
    // Through the other dialects, too.
    let made = json!({"webhook_url": "https://example.com/", "compress_events": true, "maximum_events": 3});
    client.insert(made).await;
    let before = server.call("webhook.get", json!([5])).await.unwrap();
    let (_, rows) = Client::shop(&server).send("GET", "/3dCartWebAPI/v2/Webhooks/5", "").await;
    Client::shop(&server).send("PUT", "/3dCartWebAPI/v2/Webhooks/5", &rows[0].to_string()).await;
    let babel = Client::babel(&server, DEMO_KEY);
    let (_, row) = babel.send("GET", "/v1/webhooks/subscriptions/5", "").await;
    let body = json!({"subscription": row["subscription"]}).to_string();
    assert_eq!(babel.send("PUT", "/v1/webhooks/subscriptions/5", &body).await.0, 200);
    let after = server.call("webhook.get", json!([5])).await.unwrap();
    for (key, value) in before.as_object().unwrap().iter().filter(|(key, _)| *key != "updated_at") {
        assert_eq!(after[key], *value, "{key}");
    }
}

#[tokio::test]
async fn credentials_are_made_kept_replaced_and_removed() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    let url = "https://example.com/hook";
    let made = client.insert(json!({"webhook_url": url, "authentication_type": "basic"})).await;
    let (username, password) = (made["basic_username"].as_str().unwrap(), made["basic_password"].as_str().unwrap());
    assert!(username.len() == 32 && password.len() == 32 && username != password);
    let other = client.insert(json!({"webhook_url": url, "authentication_type": "basic"})).await;
    assert_ne!(other["basic_password"], password);
    let own = client.insert(json!({"webhook_url": url, "basic_username": "ann", "basic_password": ""})).await;
    assert_eq!((&own["authentication_type"], &own["basic_username"]), (&json!("basic"), &json!("ann")));
    assert_eq!(own["basic_password"].as_str().unwrap().len(), 32);

    let put = async |more: Value| {
        let mut data = json!({"webhook_oid": 1, "webhook_url": url});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let shown = client.put(&data).await;
        [&shown["authentication_type"], &shown["basic_username"], &shown["basic_password"]].map(Clone::clone)
    };
    let expected = |kind: &str, name: &str, password: &str| [json!(kind), json!(name), json!(password)];
    assert_eq!(put(json!({"authentication_type": "basic"})).await, expected("basic", username, password));
    assert_eq!(
        put(json!({"basic_username": username, "basic_password": "new"})).await,
        expected("basic", username, "new")
    );
    assert_eq!(put(json!({"basic_username": username})).await, expected("basic", username, "new"));
    let renamed = put(json!({"authentication_type": "basic", "basic_username": "bob"})).await;
    assert!(renamed[1] == "bob" && renamed[2].as_str().unwrap().len() == 32, "{renamed:?}");
    let nothing = [json!("none"), Value::Null, Value::Null];
    assert_eq!(put(json!({"authentication_type": "none", "basic_username": "bob"})).await, nothing);
    assert_eq!(put(json!({})).await, nothing);

    let before = client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await;
    for kind in ["api user", "aws iam", "digest", "Basic"] {
        let body = json!({"webhook_url": url, "authentication_type": kind}).to_string();
        for (method, path) in [("POST", WEBHOOKS.to_owned()), ("PUT", format!("{WEBHOOKS}/1"))] {
            let told = client.is_refused(method, &path, &body, 400).await;
            assert!(told.contains("there are none and basic"), "{told}");
        }
    }
    assert_eq!(client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await, before);
    let reader = server.user("reader", "demo", "webhook_read");
    let seen = Client::ultracart_with(&server, &reader).asks("GET", WEBHOOKS, Value::Null, "webhooks").await;
    assert!(seen[2]["basic_username"] == "ann" && seen[2].get("basic_password").is_none(), "{seen}");
}

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
async fn data_of_customers_goes_over_https() {
    let server = Start::default().strict().go().await;
    let key = server.user("ann", "acme", "webhook_read,webhook_write");
    let client = Client::ultracart_with(&server, &key);
    for (url, category, event) in [
        ("http://example.com/hook", "order", "order_create"),
        ("http://example.com/hook", "customer", "customer_update"),
        ("http://example.com/hook", "auto_order", "auto_order_cancel"),
        ("http://localhost/hook", "checkout", "checkout_cart_abandon"),
        ("http://example.com/hook", "chargeback", "chargeback_create"),
    ] {
        let body = json!({"webhook_url": url, "event_categories": wants(category, &[event])}).to_string();
        let told = client.is_refused("POST", WEBHOOKS, &body, 400).await;
        assert!(told.starts_with("webhook_url: must be https"), "{told}");
    }
    let made = client
        .insert(json!({"webhook_url": "http://example.com/hook", "event_categories": wants("item", &["item_update"])}))
        .await;
    let mut more = made.clone();
    more["event_categories"] = wants("order", &["order_create"]);
    client.is_refused("PUT", &format!("{WEBHOOKS}/1"), &more.to_string(), 400).await;
    assert_eq!(client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await, json!([made]));
    more["webhook_url"] = json!("https://example.com/hook");
    client.put(&more).await;
    more["webhook_url"] = json!("http://example.com/hook");
    client.is_refused("PUT", &format!("{WEBHOOKS}/1"), &more.to_string(), 400).await;
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
async fn webhooks_are_sorted_paged_and_found_by_url() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    for name in ["b", "c", "a", "b"] {
        client.insert(json!({"webhook_url": format!("https://example.com/{name}")})).await;
    }
    server.call("webhook.update_status", json!([{"webhook_id": 2, "status": 0}])).await.unwrap();
    let oids = async |query: &str| -> Vec<i64> {
        let list = client.asks("GET", &format!("{WEBHOOKS}?{query}"), Value::Null, "webhooks").await;
        list.as_array().unwrap().iter().map(|row| row["webhook_oid"].as_i64().unwrap()).collect()
    };
    assert_eq!(oids("").await, [1, 2, 3, 4]);
    assert_eq!(oids("_sort=webhook_url").await, [3, 1, 4, 2]);
    assert_eq!(oids("_sort=-webhook_url").await, [2, 1, 4, 3]);
    assert_eq!(oids("_sort=disabled").await, [1, 3, 4, 2]);
    assert_eq!(oids("_sort=-disabled&_limit=2").await, [2, 1]);
    let (_, page) = client.send("GET", &format!("{WEBHOOKS}?_limit=3&_offset=0"), "").await;
    let result_set = json!({"count": 3, "limit": 3, "offset": 0, "more": true, "next_offset": 3, "total_records": 4});
    assert_eq!(page["metadata"]["result_set"], result_set);
    assert_eq!(oids("_limit=3&_offset=3").await, [4]);
    assert_eq!(oids("_offset=99").await, [0; 0]);

    let by_url = async |url: &str| {
        client.asks("DELETE", WEBHOOKS, json!({"webhook_url": url, "disabled": false}), "webhook").await
    };
    assert_eq!(by_url("https://example.com/b").await["webhook_oid"], 1);
    assert_eq!(by_url("HTTPS://example.com:443/b").await["webhook_oid"], 4);
    client.is_refused("DELETE", WEBHOOKS, r#"{"webhook_url": "https://example.com/b"}"#, 404).await;
    client.is_refused("DELETE", WEBHOOKS, "{}", 400).await;
    assert_eq!(oids("").await, [2, 3]);
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
    let webhook = client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await[0].clone();
    assert!(webhook["consecutive_failures"].as_i64().unwrap() >= 2, "{webhook}");
    assert!(webhook["next_retry_after"].is_string(), "{webhook}");
    assert_eq!((&webhook["pending"], &webhook["disabled"]), (&json!(2), &json!(false)));
    server.call("webhook.update_status", json!([{"webhook_id": 1, "status": 0}])).await.unwrap();
    let webhook = client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await[0].clone();
    assert!(webhook["disabled"] == true && webhook.get("next_retry_after").is_none(), "{webhook}");
    assert_eq!(webhook["pending"], 2);
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_dialects_shape() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    let url = "https://example.com/hook";
    client.insert(json!({"webhook_url": url, "event_categories": wants("order", &["order_create"])})).await;
    let before = server.call("webhook.get", json!([1])).await.unwrap();
    let with = |key: &str, value: Value| {
        let mut data = json!({"webhook_url": url});
        data[key] = value;
        data.to_string()
    };
    let event = |event: Value| with("event_categories", json!([{"event_category": "order", "events": [event]}]));
    for (body, problem) in [
        (String::new(), "webhook_url: is missing"),
        ("{".to_owned(), "The body is no JSON"),
        ("[]".to_owned(), "The body must be an object."),
        (with("webhook_url", json!("")), "webhook_url: is missing"),
        (with("webhook_url", json!("no url")), "webhook_url: is no absolute URL"),
        (with("webhook_url", json!("http://10.0.0.1/")), "webhook_url: "),
        (with("webhook_url", json!(7)), "webhook_url: "),
        (with("name", json!("x".repeat(81))), "name: has 81 characters"),
        (with("merchant_comments", json!("x".repeat(2_001))), "merchant_comments: has 2001 characters"),
        (with("api_version", json!("2018-01-01")), "api_version: \"2018-01-01\" is none"),
        (with("maximum_events", json!(0)), "maximum_events: 0 is outside"),
        (with("maximum_events", json!(-1)), "maximum_events: "),
        (with("maximum_events", json!(101)), "maximum_events: 101 is outside"),
        (with("maximum_size", json!(1)), "maximum_size: 1 is outside"),
        (with("maximum_size", json!(1.5)), "maximum_size: "),
        (with("compress_events", json!("maybe")), "compress_events: "),
        (with("basic_username", json!("a:b")), "basic_username: "),
        (with("basic_password", json!("x".repeat(257))), "basic_password: "),
        (with("event_categories", json!({})), "event_categories: "),
        (with("event_categories", json!([["order", []]])), "event_categories[0]: "),
        (event(json!({})), "missing field `event_name`"),
        (event(json!({"event_name": "nothing"})), "\"nothing\" is no event of the catalogue"),
        (event(json!({"event_name": "order_"})), "\"order_\" is no event of the catalogue"),
        (event(json!({"event_name": "order_create", "subscribed": 2})), "subscribed: "),
        (event(json!({"event_name": "order_create", "event_ruler": "{\"a\": [1]}"})), "event_ruler of order_create: "),
        (event(json!({"event_name": "order_create", "expansion": "x".repeat(1_001)})), "expansion of order_create: "),
    ] {
        let told = client.is_refused("POST", WEBHOOKS, &body, 400).await;
        assert!(told.contains(problem), "{body}: {told}");
        let told = client.is_refused("PUT", &format!("{WEBHOOKS}/1"), &body, 400).await;
        assert!(told.contains(problem), "{body}: {told}");
    }
    for (method, path, body, status) in [
        ("PUT", "/rest/v2/webhook/webhooks/9", "{}", 404),
        ("PUT", "/rest/v2/webhook/webhooks/x", "{}", 400),
        ("DELETE", "/rest/v2/webhook/webhooks/9", "", 404),
        ("GET", "/rest/v2/webhook/webhooks/1", "", 405),
        ("GET", "/rest/v2/webhook", "", 404),
        ("GET", "/rest/v2/order/orders", "", 404),
        ("GET", "/rest/v2/webhook/webhooks?_limit=100000", "", 400),
        ("GET", "/rest/v2/webhook/webhooks?_limit=x", "", 400),
        ("GET", "/rest/v2/webhook/webhooks?_offset=-1", "", 400),
        ("GET", "/rest/v2/webhook/webhooks?_sort=\u{fc}", "", 400),
        ("GET", "/rest/v2/webhook/webhooks?_placeholders=2", "", 400),
    ] {
        client.is_refused(method, &path.replace('\u{fc}', "%C3%BC"), body, status).await;
    }
    assert_eq!(server.call("webhook.get", json!([1])).await.unwrap(), before);
    assert_eq!(server.call("webhook.count", json!([])).await.unwrap(), 1);
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_or_further_than_allowed() {
    let server = Start::default().flag("calls_per_second_max", "1").flag("calls_burst_max", "20").go().await;
    let url = json!({"webhook_url": "https://example.com/hook"});
    Client::ultracart(&server).insert(url.clone()).await;
    Client { server: &server, headers: vec![] }.is_refused("GET", WEBHOOKS, "", 401).await;
    Client::ultracart_with(&server, "wrong").is_refused("GET", WEBHOOKS, "", 401).await;
    let bearer = Client { server: &server, headers: vec![("authorization", format!("Bearer {DEMO_KEY}"))] };
    assert_eq!(bearer.asks("GET", WEBHOOKS, Value::Null, "webhooks").await.as_array().unwrap().len(), 1);

    let reader = server.user("reader", "demo", "webhook_read");
    let reader = Client::ultracart_with(&server, &reader);
    reader.asks("GET", WEBHOOKS, Value::Null, "webhooks").await;
    for (method, path, body) in [
        ("POST", WEBHOOKS.to_owned(), url.to_string()),
        ("PUT", format!("{WEBHOOKS}/1"), url.to_string()),
        ("DELETE", WEBHOOKS.to_owned(), url.to_string()),
        ("DELETE", format!("{WEBHOOKS}/1"), String::new()),
        ("POST", format!("{WEBHOOKS}/1/reflow/item_update"), String::new()),
    ] {
        reader.is_refused(method, &path, &body, 401).await;
    }
    let stranger = server.user("stranger", "globex", "admin");
    let stranger = Client::ultracart_with(&server, &stranger);
    assert_eq!(stranger.asks("GET", WEBHOOKS, Value::Null, "webhooks").await, json!([]));
    for (method, path, body) in [
        ("PUT", format!("{WEBHOOKS}/1"), url.to_string()),
        ("DELETE", WEBHOOKS.to_owned(), url.to_string()),
        ("DELETE", format!("{WEBHOOKS}/1"), String::new()),
        ("GET", format!("{WEBHOOKS}/1/logs"), String::new()),
        ("GET", format!("{WEBHOOKS}/1/logs/msg_a_1_1.1"), String::new()),
        ("POST", format!("{WEBHOOKS}/1/reflow/item_update"), String::new()),
    ] {
        stranger.is_refused(method, &path, &body, 404).await;
    }
    assert_eq!(
        Client::ultracart(&server).asks("GET", WEBHOOKS, Value::Null, "webhooks").await.as_array().unwrap().len(),
        1
    );

    server.database().execute("UPDATE user SET disabled_at = 1 WHERE name = 'reader'", []).unwrap();
    let told = reader.is_refused("GET", WEBHOOKS, "", 410).await;
    assert!(told.contains("disabled"), "{told}");
    let burst: Vec<_> = (0..40).map(|_| stranger.send("GET", WEBHOOKS, "")).collect();
    let statuses: Vec<_> = futures_util::future::join_all(burst).await.into_iter().map(|(status, _)| status).collect();
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn the_application_of_who_made_it_is_shown() {
    let server = TestServer::start().await;
    let made = server.user("maker", "demo", "webhook_read,webhook_write");
    let client = Client::ultracart_with(&server, &made);
    let webhook = client.insert(json!({"webhook_url": "https://example.com/hook"})).await;
    assert!(webhook.get("application_profile").is_none(), "{webhook}");
    let sql =
        "UPDATE user SET application_name = 'Shelves', developer_website = 'https://example.com/' WHERE name = 'maker'";
    server.database().execute(sql, []).unwrap();
    let profile = json!({"application_name": "Shelves", "developer_website": "https://example.com/"});
    let seen = Client::ultracart(&server).asks("GET", WEBHOOKS, Value::Null, "webhooks").await;
    assert_eq!((&seen[0]["application_profile"], &seen[0]["api_user_oid"]), (&profile, &webhook["api_user_oid"]));
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

#[tokio::test]
async fn the_message_in_a_header_is_short() {
    let server = TestServer::start().await;
    let body = json!({"webhook_url": "https://example.com/hook", "maximum_events": "A".repeat(100_000)}).to_string();
    let headers = [("x-ultracart-simple-key", DEMO_KEY), ("content-type", "application/json")];
    let (status, headers, _) = server.exchange("POST", WEBHOOKS, &headers, &body).await;
    assert_eq!(status, 400);
    assert!(headers["uc-rest-error"].len() <= 8_192, "{} bytes", headers["uc-rest-error"].len());
}

#[tokio::test]
async fn who_may_only_write_can_make_change_and_reflow() {
    let server = TestServer::start().await;
    let key = server.user("writer", "demo", "webhook_write");
    let client = Client::ultracart_with(&server, &key);
    let made = client.insert(json!({"webhook_url": "https://example.com/hook"})).await;
    client.put(&made).await;
    client.asks("POST", &format!("{WEBHOOKS}/1/reflow/item_update"), Value::Null, "reflow").await;
}

#[tokio::test]
async fn what_is_sent_back_as_it_was_shown_loses_no_expansion() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    let data =
        json!({"url": "https://example.com/", "topics": "product:updated", "expansions": {"order:created": "billing"}});
    let before = server.webhook(data).await;
    let shown = client.asks("GET", &format!("{WEBHOOKS}?_placeholders=true"), Value::Null, "webhooks").await;
    client.put(&shown[0]).await;
    let after = server.call("webhook.get", json!([1])).await.unwrap();
    assert_eq!(after["expansions"], before["expansions"]);
}

#[tokio::test]
async fn one_of_many_events_can_be_left() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    for place in 0..70 {
        server.call("topic.register", json!([format!("own{place}:thing"), {}])).await.unwrap();
    }
    server.webhook(json!({"url": "https://example.com/", "topics": "*"})).await;
    let mut shown = client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await[0].clone();
    shown["event_categories"].as_array_mut().unwrap().retain(|category| category["event_category"] != "user");
    client.put(&shown).await;
    let topics = server.call("webhook.get", json!([1])).await.unwrap()["topics"].clone();
    let topics: Vec<_> = topics.as_str().unwrap().split(',').collect();
    assert!(["order:*", "product:*", "own0:*", "own69:*"].iter().all(|wanted| topics.contains(wanted)), "{topics:?}");
    assert!(!topics.iter().any(|topic| topic.starts_with("user") || *topic == "*"), "{topics:?}");
}

#[tokio::test]
async fn two_changes_at_once_bring_no_data_of_customers_to_http() {
    let server = TestServer::start().await;
    let client = Client::ultracart(&server);
    for oid in 1..=20 {
        let item = wants("item", &["item_update"]);
        client.insert(json!({"webhook_url": "https://example.com/hook", "event_categories": item})).await;
        let path = format!("{WEBHOOKS}/{oid}");
        let plain = json!({"webhook_url": "http://example.com/hook", "event_categories": item}).to_string();
        let wanted = wants("customer", &["customer_create"]);
        let more = json!({"webhook_url": "https://example.com/hook", "event_categories": wanted}).to_string();
        tokio::join!(client.send("PUT", &path, &plain), client.send("PUT", &path, &more));
        let webhook = server.call("webhook.get", json!([oid])).await.unwrap();
        let (url, topics) = (webhook["url"].as_str().unwrap(), webhook["topics"].as_str().unwrap());
        assert!(url.starts_with("https:") || !topics.contains("customer"), "{url} {topics}");
    }
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let server = Start::default().flag("response_bytes_max", "40000").go().await;
    let client = Client::ultracart(&server);
    for _ in 0..10 {
        client.insert(json!({"webhook_url": "https://example.com/hook"})).await;
    }
    assert_eq!(client.asks("GET", WEBHOOKS, Value::Null, "webhooks").await.as_array().unwrap().len(), 10);
    let path = format!("{WEBHOOKS}?_placeholders=true");
    let told = client.is_refused("GET", &path, "", 400).await;
    assert!(told.contains("more than response_bytes_max, 40000 bytes; ask for fewer"), "{told}");
    client.asks("GET", &format!("{path}&_limit=1"), Value::Null, "webhooks").await;
    // Whatever it is that is long.
    let expansions: serde_json::Map<_, _> =
        (0..50).map(|n| (format!("order:{n}"), json!("\"".repeat(1_000)))).collect();
    server.call("webhook.update", json!([1, {"topics": "order:*", "expansions": expansions}])).await.unwrap();
    let events: Vec<_> = (0..50).map(|n| format!("order:{n}")).collect();
    server.call("webhook.update", json!([1, {"topics": events}])).await.unwrap();
    client.is_refused("GET", &format!("{WEBHOOKS}?_limit=1"), "", 400).await;
}

#[tokio::test]
async fn far_too_many_events_are_refused_at_once() {
    let server = TestServer::start().await;
    let events: Vec<_> = (0..30_000).map(|n| json!({"event_name": format!("q_{n}")})).collect();
    let body =
        json!({"webhook_url": "https://example.com/", "event_categories": [{"event_category": "q", "events": events}]});
    let told = Client::ultracart(&server).is_refused("POST", WEBHOOKS, &body.to_string(), 400).await;
    assert!(told.contains("101 topics are too many"), "{told}");
}
