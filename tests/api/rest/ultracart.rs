//! UltraCart's API.

use serde_json::{Value, json};

use super::{Client, without_nulls};
use crate::common::{DEMO_KEY, Receiver, TestServer};

pub const WEBHOOKS: &str = "/rest/v2/webhook/webhooks";

impl<'a> Client<'a> {
    pub fn ultracart(server: &'a TestServer) -> Self {
        Self::ultracart_with(server, DEMO_KEY)
    }

    pub fn ultracart_with(server: &'a TestServer, key: &str) -> Self {
        let headers = [
            ("accept", "application/json"),
            ("X-UltraCart-Api-Version", "2017-03-01"),
            ("x-ultracart-simple-key", key),
        ];
        Self { server, headers: headers.map(|(name, value)| (name, value.to_owned())).into() }
    }

    /// A request that must succeed: the member with what was asked for.
    pub async fn asks(&self, method: &str, path: &str, body: Value, member: &str) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.send(method, path, &body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{method} {path}: {answer}");
        assert_eq!(answer["metadata"]["payload_name"], member, "{answer}");
        without_nulls(&answer);
        answer[member].clone()
    }

    pub async fn insert(&self, data: Value) -> Value {
        self.asks("POST", WEBHOOKS, data, "webhook").await
    }

    pub async fn put(&self, webhook: &Value) -> Value {
        self.asks("PUT", &format!("{WEBHOOKS}/{}", webhook["webhook_oid"]), webhook.clone(), "webhook").await
    }

    /// A request that must be refused, in the dialect's shape; the message.
    pub async fn is_refused(&self, method: &str, path: &str, body: &str, status: u16) -> String {
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
    pub async fn summaries(&self, query: &str) -> (Vec<Value>, bool) {
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
    pub async fn logged(&self, query: &str) -> Vec<String> {
        let number = |summary: &Value| summary["request_id"].as_str().unwrap().rsplit('_').next().unwrap().to_owned();
        self.summaries(query).await.0.iter().map(number).collect()
    }
}

/// Events of a category, each of which is subscribed to.
pub fn wants(category: &str, names: &[&str]) -> Value {
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
async fn every_documented_request_is_answered_in_its_shape() {
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
async fn the_application_of_who_made_it_is_shown() {
    let server = TestServer::start().await;
    let made = server.user("maker", "demo", "webhook_read,webhook_write");
    let client = Client::ultracart_with(&server, &made);
    let webhook = client.insert(json!({"webhook_url": "https://example.com/hook"})).await;
    assert!(webhook.get("application_profile").is_none(), "{webhook}");
    server.place.rows(
        r#"UPDATE "user" SET application_name = 'Shelves', developer_website = 'https://example.com/' WHERE name = 'maker'"#,
    );
    let profile = json!({"application_name": "Shelves", "developer_website": "https://example.com/"});
    let seen = Client::ultracart(&server).asks("GET", WEBHOOKS, Value::Null, "webhooks").await;
    assert_eq!((&seen[0]["application_profile"], &seen[0]["api_user_oid"]), (&profile, &webhook["api_user_oid"]));
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
