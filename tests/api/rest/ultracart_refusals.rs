//! What UltraCart's API refuses: bad requests, wrong people, customers' data
//! over http, and too much of anything.

use serde_json::{Value, json};

use super::Client;
use super::ultracart::{WEBHOOKS, wants};
use crate::common::{DEMO_KEY, Start, TestServer};

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

    server.place.rows(r#"UPDATE "user" SET disabled_at = 1 WHERE name = 'reader'"#);
    let told = reader.is_refused("GET", WEBHOOKS, "", 410).await;
    assert!(told.contains("disabled"), "{told}");
    let burst: Vec<_> = (0..40).map(|_| stranger.send("GET", WEBHOOKS, "")).collect();
    let statuses: Vec<_> = futures_util::future::join_all(burst).await.into_iter().map(|(status, _)| status).collect();
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn the_message_in_a_header_is_short() {
    let server = TestServer::start().await;
    let body = json!({"webhook_url": "https://example.com/hook", "maximum_events": "A".repeat(100_000)}).to_string();
    let headers = [("x-ultracart-simple-key", DEMO_KEY), ("content-type", "application/json")];
    let (status, headers, _) = server.exchange("POST", WEBHOOKS, &headers, &body).await;
    assert_eq!(status, 400);
    assert!(headers["uc-rest-error"].len() <= 1_000, "{} bytes", headers["uc-rest-error"].len());
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
    // What is too long ends sooner, and says where it goes on.
    let (mut offset, mut oids, mut pages) = (Some(0), Vec::new(), 0);
    while let Some(from) = offset {
        let path = format!("{WEBHOOKS}?_placeholders=true&_limit=9&_offset={from}");
        let (status, answer) = client.send("GET", &path, "").await;
        assert_eq!(status, 200, "{answer}");
        let rows = answer["webhooks"].as_array().unwrap();
        assert!(rows.len() == 1 || answer.to_string().len() < 41_000, "{}", rows.len());
        oids.extend(rows.iter().map(|row| row["webhook_oid"].as_i64().unwrap()));
        let result_set = &answer["metadata"]["result_set"];
        assert_eq!((&result_set["count"], &result_set["total_records"]), (&json!(rows.len()), &json!(10)));
        offset = result_set["next_offset"].as_i64();
        assert_eq!(result_set["more"], offset.is_some());
        pages += 1;
    }
    assert_eq!(oids, (1..=10).collect::<Vec<_>>());
    assert!(pages > 2, "{pages}");
    // One that is too long by itself comes alone.
    let expansions: serde_json::Map<_, _> =
        (0..50).map(|n| (format!("order:{n}"), json!("\"".repeat(1_000)))).collect();
    server.call("webhook.update", json!([1, {"topics": "order:*", "expansions": expansions}])).await.unwrap();
    let events: Vec<_> = (0..50).map(|n| format!("order:{n}")).collect();
    server.call("webhook.update", json!([1, {"topics": events}])).await.unwrap();
    let (_, answer) = client.send("GET", WEBHOOKS, "").await;
    let result_set =
        json!({"count": 1, "limit": 100, "offset": 0, "more": true, "next_offset": 1, "total_records": 10});
    assert_eq!(answer["metadata"]["result_set"], result_set);
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
