//! Babel's management API.

use serde_json::{Value, json};
use tallyhook::domain::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Client, without_nulls};
use crate::common::{DEMO_KEY, Receiver, Reply, Start, TestServer};

const SUBSCRIPTIONS: &str = "/v1/webhooks/subscriptions";

impl<'a> Client<'a> {
    pub fn babel(server: &'a TestServer, key: &str) -> Self {
        Self { server, headers: vec![("accept", "text/plain".to_owned()), ("x-api-key", key.to_owned())] }
    }

    /// A request that must succeed.
    async fn well(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.send(method, path, &body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{method} {path}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
        without_nulls(&answer);
        answer
    }

    /// A request that must be refused, in the dialect's shape; the message.
    async fn badly(&self, method: &str, path: &str, body: &str, expected: u16) -> String {
        let (status, answer) = self.send(method, path, body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
        let members: Vec<_> = answer.as_object().unwrap().keys().collect();
        assert_eq!(members, ["success", "message"], "{answer}");
        assert_eq!(answer["success"], false, "{answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    async fn subscription(&self, data: Value) -> Value {
        self.well("POST", SUBSCRIPTIONS, json!({"subscription": data})).await["subscription"].clone()
    }
}

/// The sample of the vendor's documentation, with values that can be.
fn sample(url: &str) -> Value {
    json!({
        "name": "string",
        "eventType": "order:created",
        "url": url,
        "secret": "eight or more",
        "headers": {"property1": "string", "property2": "string"},
        "maxRetryCount": 0,
        "isActive": true
    })
}

#[tokio::test]
async fn every_documented_request_is_answered_in_its_shape() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let client = Client::babel(&server, DEMO_KEY);
    let made = client.subscription(sample(&receiver.url())).await;
    let members: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "id",
        "name",
        "eventType",
        "url",
        "secret",
        "maxRetryCount",
        "isActive",
        "userId",
        "headers",
        "createdAt",
        "updatedAt",
    ];
    assert_eq!(members, expected);
    assert_eq!(made["id"], 1);
    assert_eq!(made["headers"], "property1: string\nproperty2: string");
    assert_eq!((&made["maxRetryCount"], &made["userId"]), (&json!(0), &json!("1")));
    for (key, value) in sample(&receiver.url()).as_object().unwrap().iter().filter(|(key, _)| *key != "headers") {
        assert_eq!(made[key], *value, "{key}");
    }
    let one = format!("{SUBSCRIPTIONS}/1");
    assert_eq!(client.well("GET", &one, Value::Null).await["subscription"], made);
    let all = client.well("GET", SUBSCRIPTIONS, Value::Null).await;
    assert_eq!((&all["subscriptions"], &all["totalSubscriptionsCount"]), (&json!([made]), &json!(1)));

    let tested = client.well("POST", &format!("{one}/test"), json!({"payload": null})).await;
    assert_eq!((&tested["eventId"], &tested["message"]), (&json!(1), &json!("The test event was delivered.")));
    client.well("POST", &format!("{one}/test"), Value::Null).await;
    client.well("POST", &format!("{one}/test"), json!({"payload": {"n": 1}})).await;
    client.well("POST", &format!("{one}/test"), json!({"payload": "{\"n\": 2}"})).await;
    server.publish("order:created", json!({"order_id": 7})).await;
    server.settled(1).await;
    let events = client.well("GET", &format!("{one}/events"), Value::Null).await;
    assert_eq!(events["totalEventsCount"], 5);
    let event = &events["events"][4];
    let expected = json!({
        "id": 5, "webhookSubscriptionId": 1, "eventType": "order:created", "payload": "{\"order_id\":7}",
        "statusCode": 204, "response": "", "isSuccess": true, "retryCount": 0, "sentAt": event["sentAt"],
        "createdAt": event["createdAt"]
    });
    assert_eq!(*event, expected);
    assert!(event["sentAt"].is_string());
    let with_events = client.well("GET", &format!("{SUBSCRIPTIONS}?include=webhookEvents"), Value::Null).await;
    let included = with_events["subscriptions"][0]["webhookEvents"].as_array().unwrap();
    assert_eq!((included.len(), &included[0]), (5, event));

    client.well("DELETE", &format!("{one}/events/5"), Value::Null).await;
    let events = client.well("GET", &format!("{one}/events?skip=4"), Value::Null).await;
    assert_eq!((&events["events"], &events["totalEventsCount"]), (&json!([]), &json!(4)));
    let pulled = server.call("delivery.pull", json!([1, 4])).await.unwrap();
    assert_eq!((&pulled[0]["state"], &pulled[0]["body"]), (&json!("delivered"), &Value::Null));

    let types = client.well("GET", "/v1/webhooks/event-types", Value::Null).await;
    assert_eq!(types["eventTypes"], json!([]));
    server.call("topic.register", json!(["order:created", {"description": "An order."}])).await.unwrap();
    let types = client.well("GET", "/v1/webhooks/event-types", Value::Null).await;
    assert_eq!(types["eventTypes"], json!([{"name": "order:created", "description": "An order."}]));

    let changed = client.well("PUT", &one, json!({"subscription": {"name": "other", "isActive": false}})).await;
    let changed = &changed["subscription"];
    assert_eq!((&changed["name"], &changed["isActive"]), (&json!("other"), &json!(false)));
    for key in ["eventType", "url", "secret", "headers", "maxRetryCount", "createdAt"] {
        assert_eq!(changed[key], made[key], "{key}");
    }
    client.well("DELETE", &one, Value::Null).await;
    client.badly("GET", &one, "", 404).await;
    client.badly("DELETE", &one, "", 404).await;
}

/// What the dialect lacks keeps its value through its PUT.
#[tokio::test]
async fn a_put_leaves_what_it_does_not_speak_of() {
    let server = TestServer::start().await;
    let client = Client::babel(&server, DEMO_KEY);
    let before = server
        .webhook(json!({
            "topics": "order:*,product:updated", "url": "https://example.com/", "extra_headers": "X-A: 1",
            "delivery_mode": "ordered", "rate_limit": {"per_second": 5}, "basic_auth": {"username": "u", "password": "p"},
            "description": "kept", "timeouts": {"connect_ms": 100, "total_ms": 200}
        }))
        .await;
    let shown = client.well("GET", &format!("{SUBSCRIPTIONS}/1"), Value::Null).await["subscription"].clone();
    assert_eq!((&shown["eventType"], &shown["maxRetryCount"]), (&json!("order:*,product:updated"), &json!(12)));
    // As clients do: what they got, with one member changed.
    let mut data = shown.clone();
    data["name"] = json!("new");
    client.well("PUT", &format!("{SUBSCRIPTIONS}/1"), json!({"subscription": data})).await;
    let after = server.call("webhook.get", json!([1])).await.unwrap();
    for (key, value) in before.as_object().unwrap() {
        match key.as_str() {
            "name" => assert_eq!(after[key], "new"),
            "updated_at" => {}
            _ => assert_eq!(after[key], *value, "{key}"),
        }
    }
    client
        .well("PUT", &format!("{SUBSCRIPTIONS}/1"), json!({"subscription": {"maxRetryCount": 3, "headers": {}}}))
        .await;
    let after = server.call("webhook.get", json!([1])).await.unwrap();
    assert_eq!(after["retry"], json!({"max_retries": 3, "interval_seconds": 300}));
    assert_eq!(after["extra_headers"], "");
}

#[tokio::test]
async fn a_subscription_is_a_webhook_in_every_dialect() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let client = Client::babel(&server, DEMO_KEY);
    client.subscription(json!({"eventType": "order:*", "url": receiver.url()})).await;
    let webhook = server.call("webhook.get", json!([1])).await.unwrap();
    assert_eq!((&webhook["format"], &webhook["topics"]), (&json!("envelope"), &json!("order:*")));
    assert_eq!(webhook["retry"], json!({"max_retries": 10, "interval_seconds": 300}));
    server.publish("order:created", json!({"order_id": 7})).await;
    assert_eq!(receiver.arrivals(1).await[0].json()["message"], json!({"order_id": 7}));
}

#[tokio::test]
async fn lists_are_chosen_ordered_and_cut() {
    let server = TestServer::start().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place % 3 == 2 { 500 } else { 204 })).await;
    let client = Client::babel(&server, DEMO_KEY);
    for (name, on) in [("c", true), ("a", false), ("b", true)] {
        let data = json!({"name": name, "eventType": "order:*", "url": "https://example.com/", "isActive": on});
        client.subscription(data).await;
    }
    let names = async |query: &str| -> Vec<String> {
        let found = client.well("GET", &format!("{SUBSCRIPTIONS}?{query}"), Value::Null).await;
        found["subscriptions"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("sort=name").await, ["a", "b", "c"]);
    assert_eq!(names("sort=-name&take=1&skip=1").await, ["b"]);
    assert_eq!(names("filter=isActive%20eq%20true&sort=id").await, ["c", "b"]);
    assert_eq!(names("filter=name+ge+b+and+id+lt+3").await, ["c"]);
    assert_eq!(names("take=0").await, [""; 0]);
    assert_eq!(names("take=&skip=&filter=&sort=&select=&include=").await, ["c", "a", "b"]);
    let found =
        client.well("GET", &format!("{SUBSCRIPTIONS}?select=name,url&filter=id+gt+1&take=1"), Value::Null).await;
    assert_eq!(found["subscriptions"], json!([{"name": "a", "url": "https://example.com/"}]));
    assert_eq!(found["totalSubscriptionsCount"], 2);

    let data = json!({"eventType": "product:*", "url": receiver.url(), "maxRetryCount": 0});
    let id = client.subscription(data).await["id"].as_i64().unwrap();
    for n in 0..9 {
        server.publish(if n % 2 == 0 { "product:created" } else { "product:updated" }, json!({"n": n})).await;
        server.settled(id).await;
    }
    let ids = async |query: &str| -> (Vec<i64>, i64) {
        let found = client.well("GET", &format!("{SUBSCRIPTIONS}/{id}/events?{query}"), Value::Null).await;
        let rows = found["events"].as_array().unwrap();
        (rows.iter().map(|row| row["id"].as_i64().unwrap()).collect(), found["totalEventsCount"].as_i64().unwrap())
    };
    assert_eq!(ids("").await, ((1..=9).collect(), 9));
    assert_eq!(ids("take=2&skip=3").await, (vec![4, 5], 9));
    assert_eq!(ids("take=2&skip=3&sort=-createdAt").await, (vec![6, 5], 9));
    assert_eq!(ids("skip=9").await, (vec![], 9));
    assert_eq!(ids("skip=8&sort=-id").await, (vec![1], 9));
    assert_eq!(ids("filter=isSuccess+eq+false").await, (vec![3, 6, 9], 3));
    assert_eq!(ids("filter=statusCode+eq+500&take=1&skip=1&sort=-id").await, (vec![6], 3));
    assert_eq!(ids("filter=eventType+eq+product:updated+and+id+gt+4").await, (vec![6, 8], 2));
    assert_eq!(ids("filter=payload+contains+'%22n%22:3'").await, (vec![4], 1));
    let found = client
        .well("GET", &format!("{SUBSCRIPTIONS}/{id}/events?select=errorMessage&skip=2&take=1"), Value::Null)
        .await;
    assert!(found["events"][0]["errorMessage"].as_str().unwrap().contains("500"), "{found}");
}

/// Times are found as they are shown, and nothing that was shown is lost for
/// being large.
#[tokio::test]
async fn what_is_shown_is_found() {
    let server = Start::default().flag("list_limit_max", "5").flag("filter_events_max", "5").go().await;
    let client = Client::babel(&server, DEMO_KEY);
    let receiver = Receiver::obliging().await;
    client.subscription(json!({"eventType": "*", "url": receiver.url()})).await;
    let large = "x".repeat(900_000);
    for n in 0..6 {
        server.publish("a:b", json!({"n": n, "large": large})).await;
    }
    receiver.arrivals(6).await;
    let events = format!("{SUBSCRIPTIONS}/1/events");
    let found = client.well("GET", &events, Value::Null).await;
    let rows = found["events"].as_array().unwrap();
    let with_payload = rows.iter().filter(|row| row.get("payload").is_some()).count();
    assert_eq!((rows.len(), with_payload, &found["totalEventsCount"]), (5, 5, &json!(6)));
    assert_eq!(client.well("GET", &format!("{events}?skip=5"), Value::Null).await["events"][0]["id"], 6);
    let at = rows[2]["createdAt"].as_str().unwrap();
    let found =
        client.well("GET", &format!("{events}?select=id&filter=createdAt+eq+{at}+and+id+eq+3"), Value::Null).await;
    assert_eq!((&found["events"], &found["totalEventsCount"]), (&json!([{"id": 3}]), &json!(1)));
    let found = client.well("GET", &format!("{events}?select=id&filter=createdAt+lt+{at}"), Value::Null).await;
    assert!(found["totalEventsCount"].as_u64().unwrap() <= 2, "{found}");
    client.badly("GET", &format!("{events}?take=6"), "", 400).await;
    let told = client.badly("GET", &format!("{events}?filter=isSuccess+eq+true"), "", 400).await;
    assert!(told.contains("more than 5 events would have to be looked at"), "{told}");
    client.well("GET", &format!("{events}?filter=isSuccess+eq+true+and+id+gt+1"), Value::Null).await;
}

/// An event that is deleted while it is being sent stays deleted.
#[tokio::test]
async fn what_is_forgotten_stays_so() {
    let server = TestServer::start().await;
    let client = Client::babel(&server, DEMO_KEY);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    client.subscription(json!({"eventType": "*", "url": url})).await;
    server.publish("a:b", json!({"secret": "forget me"})).await;
    let (mut receiver, _) = socket.accept().await.unwrap();
    receiver.read_u8().await.unwrap();
    client.well("DELETE", &format!("{SUBSCRIPTIONS}/1/events/1"), Value::Null).await;
    receiver.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    // Outcomes are recorded in their order.
    server.publish("a:b", json!({})).await;
    let (mut receiver, _) = socket.accept().await.unwrap();
    // An answer that comes before the request is none.
    receiver.read_u8().await.unwrap();
    receiver.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    server.settled(1).await;
    let found = client.well("GET", &format!("{SUBSCRIPTIONS}/1/events"), Value::Null).await;
    assert_eq!((&found["totalEventsCount"], &found["events"][0]["id"]), (&json!(1), &json!(2)), "{found}");
    assert_eq!(found["events"][0]["response"], "ok", "of the other it was recorded");
    assert_eq!(server.call("delivery.attempts", json!([1, 1])).await, Ok(json!([])));
}

/// Whoever deletes an event wants nothing of it to be found any more, not even in the
/// bytes of a file. PostgreSQL keeps them until it has vacuumed.
#[tokio::test]
async fn what_is_deleted_is_gone_from_the_store_too() {
    const WORDS: &str = "forget-me-0d41";
    let (server, hand) = Start::default().manual().await;
    let client = Client::babel(&server, DEMO_KEY);
    let first = Receiver::start(|_, _| Reply { body: format!("thanks for {WORDS}"), ..Reply::status(200) }).await;
    let second = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 204 })).await;
    client.subscription(json!({"eventType": "*", "url": first.url()})).await;
    client.subscription(json!({"eventType": "late:*", "url": second.url()})).await;
    let is_in_store = || {
        if !server.place.is_file() {
            let sql = format!(
                "SELECT (SELECT count(*) FROM event WHERE message LIKE '%{WORDS}%')
                    + (SELECT count(*) FROM attempt WHERE position('{WORDS}'::bytea IN response_body) > 0)"
            );
            return server.place.number(&sql) > 0;
        }
        let bytes = |ending: &str| std::fs::read(format!("{}{ending}", server.config.store)).unwrap();
        let is_in = |bytes: Vec<u8>| bytes.windows(WORDS.len()).any(|some| some == WORDS.as_bytes());
        is_in(bytes("")) || is_in(bytes("-wal"))
    };
    let long = WORDS.repeat(2_000);
    let short = server.publish("a:b", json!({"text": WORDS})).await["event_id"].clone();
    let late = server.publish("late:b", json!({"text": long})).await["event_id"].clone();
    server.publish("a:b", json!({})).await;
    server.settled(1).await;
    server.attempts(2, 1, 1).await;
    if server.place.is_file() {
        // What was checkpointed lies in the file, the rest beside it.
        server.place.rows("PRAGMA wal_checkpoint");
    }
    assert!(is_in_store());

    let delete = |id: i64| format!("{SUBSCRIPTIONS}/1/events/{id}");
    client.well("DELETE", &delete(1), Value::Null).await;
    client.badly("DELETE", &delete(1), "", 404).await;
    assert_eq!(server.call("event.get", json!([short])).await.unwrap_err()["code"], 114);
    client.well("DELETE", &delete(2), Value::Null).await;
    client.badly("DELETE", &delete(2), "", 404).await;
    let listed = client.well("GET", &format!("{SUBSCRIPTIONS}/1/events"), Value::Null).await;
    assert_eq!((&listed["totalEventsCount"], &listed["events"][0]["id"]), (&json!(1), &json!(3)));

    // Of the third, what the receiver said. The second is still to be sent to somebody else.
    client.well("DELETE", &delete(3), Value::Null).await;
    assert_eq!(server.call("event.get", json!([late])).await.unwrap()["topic"], "late:b");
    hand.pass(300);
    second.arrivals(2).await;
    server.settled(2).await;
    hand.pass(60);
    let is_gone = async || server.call("event.get", json!([late])).await.err().map(|fault| fault["code"].clone());
    assert_eq!(server.until(is_gone).await, 114);
    // A reader may have been in the way of the last commit.
    let is_overwritten = async || {
        hand.pass(60);
        (!is_in_store()).then_some(())
    };
    server.until(is_overwritten).await;
    assert_eq!(server.call("event.list", json!([])).await, Ok(json!([])));
    let state = server.call("delivery.get", json!([2, 1])).await.unwrap();
    assert_eq!((&state["state"], &state["topic"]), (&json!("delivered"), &Value::Null));
}

/// Pages and filters pass over what was deleted, in both directions.
#[tokio::test]
async fn deleted_events_are_neither_listed_nor_counted() {
    let server = TestServer::start().await;
    let client = Client::babel(&server, DEMO_KEY);
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    for n in 1..=10 {
        server.publish("a:b", json!({"n": n})).await;
    }
    for n in [1, 2, 5, 9] {
        client.well("DELETE", &format!("{SUBSCRIPTIONS}/1/events/{n}"), Value::Null).await;
    }
    let ids = async |query: &str| {
        let found = client.well("GET", &format!("{SUBSCRIPTIONS}/1/events?{query}"), Value::Null).await;
        let ids: Vec<_> = found["events"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
        (ids, found["totalEventsCount"].as_i64().unwrap())
    };
    for (query, expected, total) in [
        ("", &[3, 4, 6, 7, 8, 10][..], 6),
        ("skip=1&take=2", &[4, 6], 6),
        ("skip=5", &[10], 6),
        ("skip=6", &[], 6),
        ("sort=-id", &[10, 8, 7, 6, 4, 3], 6),
        ("sort=-id&skip=1&take=3", &[8, 7, 6], 6),
        ("sort=-id&skip=5", &[3], 6),
        ("sort=-id&skip=6", &[], 6),
        ("take=0", &[], 6),
        ("filter=id%20gt%204", &[6, 7, 8, 10], 4),
        ("filter=id%20le%202", &[], 0),
    ] {
        assert_eq!(ids(query).await, (expected.to_vec(), total), "{query}");
    }
    let with_events = client.well("GET", &format!("{SUBSCRIPTIONS}?include=webhookEvents"), Value::Null).await;
    assert_eq!(with_events["subscriptions"][0]["webhookEvents"].as_array().unwrap().len(), 6);
    // What is numbered goes on behind them.
    server.publish("a:b", json!({})).await;
    assert_eq!(ids("skip=6").await, (vec![11], 7));
}

/// A webhook that the server has given up is shown as what it is: off.
#[tokio::test]
async fn a_disabled_subscription_is_not_active() {
    let server = TestServer::start().await;
    let client = Client::babel(&server, DEMO_KEY);
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 410 } else { 204 })).await;
    client.subscription(json!({"eventType": "*", "url": receiver.url()})).await;
    server.publish("a:b", json!({})).await;
    let is_disabled = async || {
        server.call("webhook.get", json!([1])).await.unwrap()["disabled"].as_bool().filter(|disabled| *disabled)
    };
    server.until(is_disabled).await;
    let shown = client.well("GET", &format!("{SUBSCRIPTIONS}/1"), Value::Null).await;
    assert_eq!(shown["subscription"]["isActive"], false);
    let found = client.well("GET", &format!("{SUBSCRIPTIONS}?filter=isActive+eq+true"), Value::Null).await;
    assert_eq!(found["totalSubscriptionsCount"], 0);
    client.well("PUT", &format!("{SUBSCRIPTIONS}/1"), json!({"subscription": {"isActive": true}})).await;
    let shown = client.well("GET", &format!("{SUBSCRIPTIONS}/1"), Value::Null).await;
    assert_eq!(shown["subscription"]["isActive"], true, "putting it on enables it");
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_dialects_shape() {
    let server = TestServer::start().await;
    let client = Client::babel(&server, DEMO_KEY);
    client.subscription(sample("https://example.com/")).await;
    let before = client.well("GET", SUBSCRIPTIONS, Value::Null).await;
    for (body, problem) in [
        ("", "subscription"),
        ("{", "The body is no JSON"),
        ("[]", "The body must be an object."),
        (r#"{"subscription": {"name": 5}}"#, "subscription.name: "),
        (r#"{"subscription": {"eventType": "order:created", "url": "string"}}"#, "url: is no absolute URL"),
        (
            r#"{"subscription": {"eventType": "string", "url": "https://example.com/"}}"#,
            "eventType: \"string\" is no topic",
        ),
        (r#"{"subscription": {"url": "https://example.com/"}}"#, "eventType: is missing"),
        (r#"{"subscription": {"eventType": "a:b"}}"#, "url: is missing"),
        (r#"{"subscription": {"maxRetryCount": -1}}"#, "maxRetryCount: must not be below 0"),
        (r#"{"subscription": {"maxRetryCount": 101}}"#, "maxRetryCount: has 101 retries"),
        (r#"{"subscription": {"maxRetryCount": 3000000000}}"#, "maxRetryCount: has 3000000000 retries"),
        (r#"{"subscription": {"headers": {"a:b": "c"}}}"#, "headers: has a name with a colon"),
        (r#"{"subscription": {"headers": {"Host": "c"}}}"#, "headers: host is set by the server"),
        (r#"{"subscription": {"isActive": "maybe"}}"#, "subscription.isActive: "),
    ] {
        let told = client.badly("POST", SUBSCRIPTIONS, body, 400).await;
        assert!(told.contains(problem), "{body}: {told}");
    }
    for (method, path, body, status) in [
        ("GET", "/v1/webhooks/subscriptions/999", "", 404),
        ("PUT", "/v1/webhooks/subscriptions/999", r#"{"subscription": {}}"#, 404),
        ("GET", "/v1/webhooks/subscriptions/x", "", 400),
        ("GET", "/v1/webhooks/subscriptions/99999999999", "", 404),
        ("GET", "/v1/webhooks/subscriptions/1/nothing", "", 404),
        ("GET", "/v1/webhooks/nothing", "", 404),
        ("PATCH", "/v1/webhooks/subscriptions", "", 405),
        ("POST", "/v1/webhooks/event-types", "", 405),
        ("DELETE", "/v1/webhooks/subscriptions/1/events/1", "", 404),
        ("GET", "/v1/webhooks/subscriptions/999/events", "", 404),
        ("POST", "/v1/webhooks/subscriptions/1/test", r#"{"payload": [1]}"#, 400),
        ("POST", "/v1/webhooks/subscriptions/1/test", r#"{"payload": "no JSON"}"#, 400),
        ("GET", "/v1/webhooks/subscriptions?take=1001", "", 400),
        ("GET", "/v1/webhooks/subscriptions?take=-1", "", 400),
        ("GET", "/v1/webhooks/subscriptions?skip=-1", "", 400),
        ("GET", "/v1/webhooks/subscriptions?take=many", "", 400),
        ("GET", "/v1/webhooks/subscriptions?filter=colour+eq+red", "", 400),
        ("GET", "/v1/webhooks/subscriptions?sort=colour", "", 400),
        ("GET", "/v1/webhooks/subscriptions?select=colour", "", 400),
        ("GET", "/v1/webhooks/subscriptions?include=everything", "", 400),
        ("GET", "/v1/webhooks/subscriptions/1/events?sort=statusCode", "", 400),
        ("GET", "/v1/webhooks/subscriptions/1/events?include=webhookEvents", "", 400),
    ] {
        client.badly(method, path, body, status).await;
    }
    let long = format!("{{\"subscription\": {{\"name\": \"{}\"}}}}", "x".repeat(1_100_000));
    client.badly("POST", SUBSCRIPTIONS, &long, 413).await;
    assert_eq!(client.well("GET", SUBSCRIPTIONS, Value::Null).await, before);
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_or_further_than_allowed() {
    let server = TestServer::start().await;
    let owner = Client::babel(&server, DEMO_KEY);
    owner.subscription(sample("https://example.com/")).await;
    for headers in [
        vec![],
        vec![("x-api-key", "wrong".to_owned())],
        vec![("authorization", "Bearer wrong".to_owned())],
        vec![("authorization", "nonsense".to_owned())],
    ] {
        let nobody = Client { server: &server, headers };
        nobody.badly("GET", SUBSCRIPTIONS, "", 401).await;
        nobody.badly("POST", SUBSCRIPTIONS, "{", 401).await;
    }
    let session = server.login().await;
    let bearer = Client { server: &server, headers: vec![("authorization", format!("Bearer {session}"))] };
    bearer.well("GET", SUBSCRIPTIONS, Value::Null).await;

    let reader = Client::babel(&server, &server.user("reader", "demo", "webhook_read"));
    let seen = reader.well("GET", SUBSCRIPTIONS, Value::Null).await;
    assert_eq!(seen["subscriptions"][0]["secret"], "");
    assert_eq!(seen["subscriptions"][0]["headers"], "property1: [redacted]\nproperty2: [redacted]");
    // Nor can it be guessed from what a filter finds.
    let guess = reader.well("GET", &format!("{SUBSCRIPTIONS}?filter=headers%20contains%20string"), Value::Null).await;
    assert_eq!(guess["totalSubscriptionsCount"], 0);
    for (method, path, body) in [
        ("POST", SUBSCRIPTIONS, json!({"subscription": sample("https://example.com/")}).to_string()),
        ("PUT", "/v1/webhooks/subscriptions/1", r#"{"subscription": {}}"#.to_owned()),
        ("DELETE", "/v1/webhooks/subscriptions/1", String::new()),
        ("POST", "/v1/webhooks/subscriptions/1/test", String::new()),
        ("DELETE", "/v1/webhooks/subscriptions/1/events/1", String::new()),
    ] {
        let told = reader.badly(method, path, &body, 403).await;
        assert!(told.contains("needs the permission webhook_write"), "{told}");
    }
    server.place.administer(|admin| admin.set_enabled("reader", false, Timestamp(0))).unwrap();
    let told = reader.badly("GET", SUBSCRIPTIONS, "", 401).await;
    assert!(told.starts_with("The user is disabled."), "{told}");
    let stranger = Client::babel(&server, &server.user("stranger", "globex", "admin"));
    assert_eq!(stranger.well("GET", SUBSCRIPTIONS, Value::Null).await["totalSubscriptionsCount"], 0);
    for path in ["", "/events", "/events?filter=id+eq+1"] {
        stranger.badly("GET", &format!("{SUBSCRIPTIONS}/1{path}"), "", 404).await;
    }
    stranger.badly("DELETE", &format!("{SUBSCRIPTIONS}/1"), "", 404).await;
    stranger.badly("DELETE", &format!("{SUBSCRIPTIONS}/1/events/1"), "", 404).await;
}

#[tokio::test]
async fn a_filter_has_so_many_conditions() {
    let server = Start::default().flag("filter_conditions_max", "3").go().await;
    let id = server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await["webhook_id"].as_i64().unwrap();
    for at in ["/v1/webhooks/subscriptions".to_owned(), format!("/v1/webhooks/subscriptions/{id}/events")] {
        for (count, expected) in [(3, 200), (4, 400)] {
            let filter = vec!["id%20ge%200"; count].join("%20and%20");
            let path = format!("{at}?filter={filter}");
            let (status, _, text) = server.exchange("GET", &path, &[("x-api-key", DEMO_KEY)], "").await;
            assert_eq!(status, expected, "{path}: {text}");
            assert!(status == 200 || text.contains("up to 3"), "{text}");
        }
    }
}
