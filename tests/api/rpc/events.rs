//! Publishing: idempotency keys, all or none, times, topics, and messages
//! that keep their bytes all the way to a receiver.

use std::time::Duration;

use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::domain::time::{Clock, Timestamp};

use super::{ALL, PATHS, User, again, code_on, id_of, is_next_event, rows, webhook_data, webhook_with};
use crate::common::socket::Socket;
use crate::common::{Receiver, Reply, Start, TestServer};

fn keyed(topic: &str, message: Value, key: &str) -> Value {
    json!([topic, message, {"idempotency_key": key}])
}

fn item(topic: &str, message: Value, key: &str) -> Value {
    json!({"topic": topic, "message": message, "options": {"idempotency_key": key}})
}

/// A webhook where nothing listens: what goes to it is numbered all the same.
async fn numbering(user: &User<'_>) -> i64 {
    id_of(&user.webhook(webhook_data()).await)
}

#[tokio::test]
async fn the_same_key_and_content_get_the_same_receipt() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_with(json!({"url": receiver.url()}))).await);
    let first = user.done("event.publish", keyed("order:created", json!({"order_id": 7}), "k1")).await;
    assert_eq!(first, json!({"event_id": 1, "deliveries": [{"webhook_id": id, "increment_id": 1}]}));
    // Whatever else has happened to the webhooks since.
    user.webhook(webhook_data()).await;
    assert_eq!(user.done("event.publish", keyed("order:created", json!({"order_id": 7}), "k1")).await, first);
    let other_time = json!({"idempotency_key": "k1", "created_at": "2021-12-07T16:08:15Z"});
    assert_eq!(user.done("event.publish", json!(["order:created", {"order_id": 7}, other_time])).await, first);
    assert_eq!((rows(&server, "event"), rows(&server, "delivery")), (1, 1));

    // A restart changes nothing about it.
    let server = again(server.stop().await).go().await;
    let user = User::demo(&server);
    assert_eq!(user.done("event.publish", keyed("order:created", json!({"order_id": 7}), "k1")).await, first);
    let second = user.done("event.publish", keyed("order:created", json!({"order_id": 7}), "k2")).await;
    assert!(is_next_event(&server, &second, 2), "{second}");
    assert_eq!(second["deliveries"][0], json!({"webhook_id": id, "increment_id": 2}));
    let mut numbers: Vec<_> = receiver.arrivals(2).await.iter().map(|arrived| arrived.number()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn the_same_key_for_other_content_is_refused() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    numbering(&user).await;
    user.done("event.publish", keyed("order:created", json!({"order_id": 7}), "k")).await;
    for (topic, message) in [
        ("order:created", json!({"order_id": 8})),
        ("order:canceled", json!({"order_id": 7})),
        ("order:created", json!({})),
    ] {
        let error = user.refused_field("event.publish", keyed(topic, message, "k"), 108, "idempotency_key").await;
        assert_eq!(
            error["message"],
            "Idempotency key already used for another event. idempotency_key: \
             was used for event 1 with another topic, message or labels; use a new key for a new event."
        );
        assert_eq!(error["data"], json!({"field": "idempotency_key"}));
    }
    // The bytes count: a message that only means the same is another one.
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"event.publish","params":[null,"order:created",{"order_id": 7},{"idempotency_key":"k"}]}"#;
    let answer: Value = serde_json::from_str(&user.post("/", body).await).unwrap();
    assert_eq!(answer["error"]["code"], 108);
    assert_eq!((rows(&server, "event"), rows(&server, "delivery")), (1, 1));
}

#[tokio::test]
async fn keys_count_per_merchant() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let colleague = User::new(&server, "colleague", "demo", ALL);
    let stranger = User::new(&server, "stranger", "globex", ALL);
    let event = keyed("order:created", json!({"order_id": 7}), "k");
    let first = user.done("event.publish", event.clone()).await;
    assert_eq!(colleague.done("event.publish", event.clone()).await, first);
    let theirs = stranger.done("event.publish", event).await;
    assert!(is_next_event(&server, &theirs, 2) && theirs["deliveries"] == json!([]), "{theirs}");
    let other = keyed("order:created", json!({"order_id": 8}), "k");
    colleague.refused("event.publish", other.clone(), 108).await;
    stranger.refused("event.publish", other, 108).await;
}

#[tokio::test]
async fn keys_are_forgotten_when_their_time_is_over() {
    let (clock, hand) = Clock::manual(Timestamp(1_700_000_000_000));
    let start = Start { hooks: Hooks { clock, ..Hooks::default() }, ..Start::default() };
    let server = start.flag("idempotency_ttl_s", "3600").go().await;
    let user = User::demo(&server);
    let pass = |time: Duration| hand.send_modify(|now| *now = now.after(time));
    user.done("event.publish", keyed("a:b", json!({"n": 1}), "k")).await;
    pass(Duration::from_millis(3_599_999));
    user.refused("event.publish", keyed("a:b", json!({"n": 2}), "k"), 108).await;
    pass(Duration::from_millis(1));
    let second = user.done("event.publish", keyed("a:b", json!({"n": 2}), "k")).await;
    assert!(is_next_event(&server, &second, 2), "{second}");
    assert_eq!(user.done("event.publish", keyed("a:b", json!({"n": 2}), "k")).await, second);
    user.refused("event.publish", keyed("a:b", json!({"n": 1}), "k"), 108).await;
}

#[tokio::test]
async fn keys_have_bounds() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    user.done("event.publish", keyed("a:b", json!({}), &"ä".repeat(255))).await;
    user.done("event.publish", keyed("a:b", json!({}), "x")).await;
    for bad in [json!(""), json!("x".repeat(256)), json!(5), json!(["x"])] {
        let args = json!(["a:b", {}, {"idempotency_key": bad}]);
        user.refused_field("event.publish", args, 107, "idempotency_key").await;
    }
    assert_eq!(rows(&server, "event"), 2);
}

/// A message with so many objects and arrays in each other, as text.
fn nested(levels: usize) -> String {
    let inner = (2..levels).fold("[\"{[\\\"{[\"]".to_owned(), |inner, level| match level % 2 {
        0 => format!("[1, {inner}]"),
        _ => format!("{{\"a\": {inner}}}"),
    });
    format!("{{\"a\": {inner}}}")
}

/// Parsers of many languages give up, or break, at some depth.
#[tokio::test]
async fn a_message_is_only_so_deep() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = numbering(&user).await;
    let message = |levels| serde_json::from_str::<Value>(&nested(levels)).unwrap();
    user.done("event.publish", json!(["order:created", message(100)])).await;
    user.done("event.explain", json!(["order:created", message(100)])).await;
    let error = user.refused_field("event.publish", json!(["order:created", message(101)]), 107, "message").await;
    assert!(error["message"].as_str().unwrap().contains("101 levels of objects and arrays; up to 100 "), "{error}");
    user.refused_field("event.explain", json!(["order:created", message(101)]), 107, "message").await;
    user.refused_field("webhook.test", json!([id, message(101)]), 107, "message").await;
    let good = json!({"topic": "order:created", "message": {}});
    let bad = json!({"topic": "order:created", "message": message(101)});
    let error = user.refused("event.publish_many", json!([[good, bad]]), 107).await;
    assert_eq!(error["data"], json!({"field": "message", "index": 1}), "{error}");

    // Deeper than any parser goes, and long.
    let mut socket = Socket::demo(&server).await;
    for levels in [2_000, 100_000] {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"event.publish","params":[null,"order:created",{}]}}"#,
            nested(levels)
        );
        for (at, vendor) in PATHS {
            let batch: Value = serde_json::from_str(&user.post(at, format!("[{call}]")).await).unwrap();
            let error = &batch[0]["error"];
            assert_eq!((&error["code"], &error["data"]["field"]), (&code_on(vendor, 107).into(), &"message".into()));
        }
        socket.send_text(call).await;
        assert_eq!(socket.json().await["error"]["code"], 107);
    }
    assert_eq!(rows(&server, "event"), 1);

    let server = Start::default().flag("message_depth_max", "2").go().await;
    let user = User::demo(&server);
    user.done("event.publish", json!(["order:created", {"a": [1], "b": {}}])).await;
    user.refused_field("event.publish", json!(["order:created", {"a": [{}]}]), 107, "message").await;
}

#[tokio::test]
async fn many_events_are_accepted_in_order() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = numbering(&user).await;
    assert_eq!(user.done("event.publish_many", json!([[]])).await, json!([]));
    let events = json!([
        item("order:created", json!({"n": 1}), "k1"),
        {"topic": "product:created", "message": {"n": 2}},
        {"topic": "order:canceled", "message": {"n": 3}, "options": null},
        item("order:created", json!({"n": 1}), "k1"),
    ]);
    let delivery = |number: i64| json!([{"webhook_id": id, "increment_id": number}]);
    let expected = json!([
        {"event_id": 1, "deliveries": delivery(1)},
        {"event_id": 2, "deliveries": []},
        {"event_id": 3, "deliveries": delivery(2)},
        {"event_id": 1, "deliveries": delivery(1)},
    ]);
    assert_eq!(user.done("event.publish_many", json!([events])).await, expected);
    assert_eq!(rows(&server, "event"), 3);
}

#[tokio::test]
async fn many_events_are_accepted_all_or_none() {
    let server = Start::default().flag("events_max", "4").go().await;
    let user = User::demo(&server);
    let id = numbering(&user).await;
    let good = || json!({"topic": "order:created", "message": {}});
    let refused = async |events: Value, number: i64, index: Option<u64>, field: &str| {
        let error = user.refused("event.publish_many", json!([events]), number).await;
        assert_eq!(error["data"].get("index").and_then(Value::as_u64), index, "{events}: {error}");
        assert_eq!(error["data"]["field"], field, "{events}: {error}");
        let place = index.map_or_else(|| format!(" {field}: "), |index| format!(" Item {index}: {field}: "));
        assert!(error["message"].as_str().unwrap().contains(&place), "{events}: {error}");
    };
    let bad_topic = json!({"topic": "order", "message": {}});
    refused(json!([good(), good(), bad_topic]), 107, Some(2), "topic").await;
    refused(json!([json!({"topic": 5, "message": {}}), good()]), 107, Some(0), "topic").await;
    refused(json!([good(), {"topic": "a:b", "message": []}]), 107, Some(1), "message").await;
    refused(json!([good(), {"topic": "a:b", "message": {}, "colour": 1}]), 107, Some(1), "colour").await;
    let bad_time = json!({"topic": "a:b", "message": {}, "options": {"created_at": "yesterday"}});
    refused(json!([good(), bad_time]), 107, Some(1), "created_at").await;
    let bad_option = json!({"topic": "a:b", "message": {}, "options": {"key": "x"}});
    refused(json!([good(), bad_option]), 107, Some(1), "options.key").await;
    refused(json!([good(), good(), good(), good(), good()]), 107, None, "events").await;
    refused(json!("order:created"), 107, None, "events").await;
    let twice =
        json!([good(), item("order:created", json!({"n": 1}), "k"), item("order:created", json!({"n": 2}), "k")]);
    if server.place.is_file() {
        refused(twice, 108, Some(2), "idempotency_key").await;
    } else {
        // Each try draws ids of its own, and one is named.
        assert_eq!(user.call("event.publish_many", json!([twice])).await.unwrap_err()["data"]["index"], 2);
    }

    for table in ["event", "delivery", "idempotency"] {
        assert_eq!(rows(&server, table), 0, "{table}");
    }
    // Neither an id nor a number was used up, nor the key taken.
    let receipt = user.done("event.publish", keyed("order:created", json!({"n": 2}), "k")).await;
    assert!(is_next_event(&server, &receipt, 1), "{receipt}");
    assert_eq!(receipt["deliveries"], json!([{"webhook_id": id, "increment_id": 1}]));
    refused(json!([good(), item("order:created", json!({"n": 1}), "k")]), 108, Some(1), "idempotency_key").await;
    assert_eq!((rows(&server, "event"), rows(&server, "delivery")), (1, 1));
}

#[tokio::test]
async fn an_item_that_lacks_a_member_is_named() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (lacking, member) in
        [(json!({"message": {}}), "topic"), (json!({"topic": "a:b"}), "message"), (json!({}), "topic")]
    {
        let events = json!([{"topic": "a:b", "message": {}}, lacking]);
        let error = user.refused("event.publish_many", json!([events]), 107).await;
        assert_eq!(error["data"]["index"], 1, "{error}");
        assert!(error["message"].as_str().unwrap().contains(&format!("`{member}`")), "{error}");
    }
    let events = json!([5]);
    assert_eq!(user.refused("event.publish_many", json!([events]), 107).await["data"]["index"], 0);
    assert_eq!(rows(&server, "event"), 0);
}

#[tokio::test]
async fn created_at() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    user.webhook(webhook_with(json!({"url": receiver.url()}))).await;
    let times = [
        ("2021-12-07T16:08:15Z", "2021-12-07T16:08:15.000Z"),
        ("2021-12-07T18:08:15.5+02:00", "2021-12-07T16:08:15.500Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ("9998-12-31T23:59:59.999999Z", "9998-12-31T23:59:59.999Z"),
    ];
    for (given, _) in times {
        user.done("event.publish", json!(["order:created", {}, {"created_at": given}])).await;
    }
    for arrived in receiver.arrivals(times.len()).await {
        let (_, expected) = times[usize::try_from(arrived.number()).unwrap() - 1];
        assert_eq!(arrived.json()["created_at"], expected);
    }
    for bad in ["", "yesterday", "2021-12-07", "2021-12-07T16:08:15", "1969-12-31T23:59:59Z", "1700000000"] {
        let args = json!(["order:created", {}, {"created_at": bad}]);
        user.refused_field("event.publish", args, 107, "created_at").await;
    }
    let args = json!(["order:created", {}, {"created_at": 1_700_000_000}]);
    user.refused_field("event.publish", args, 107, "created_at").await;
    assert_eq!(rows(&server, "event"), 4);
}

#[tokio::test]
async fn topics_of_events() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    user.done("event.publish", json!(["never.heard-of:THIS_1", {}])).await;
    user.done("event.publish", json!(["tests:ping", {}])).await;
    for reserved in ["tallyhook:webhook_disabled", "test:ping", "test:x"] {
        let error = user.refused_field("event.publish", json!([reserved, {}]), 107, "topic").await;
        assert!(error["message"].as_str().unwrap().contains(&format!("{reserved} is reserved for the server")));
    }
    for bad in [json!("order"), json!("*"), json!("order:*"), json!("a:b:c"), json!(""), json!("a b:c"), json!(5)] {
        user.refused_field("event.publish", json!([bad, {}]), 107, "topic").await;
    }
    assert_eq!(rows(&server, "event"), 2);
}

#[tokio::test]
async fn a_message_is_an_object() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (bad, kind) in [
        (json!([]), "an array"),
        (json!([{"a": 1}]), "an array"),
        (json!("text"), "a string"),
        (json!("{}"), "a string"),
        (json!(7), "a number"),
        (json!(-1.5), "a number"),
        (json!(true), "a boolean"),
    ] {
        let error = user.refused_field("event.publish", json!(["a:b", bad]), 107, "message").await;
        let expected = format!("message: is {kind}; it must be a JSON object, such as {{\"order_id\": 7}}.");
        assert_eq!(error["message"], format!("Invalid event. {expected}"));
    }
    let events = json!([{"topic": "a:b", "message": null}]);
    user.refused_field("event.publish_many", json!([events]), 107, "message").await;
    for (options, field) in [(json!({"key": "x"}), "key"), (json!(7), "options"), (json!("x"), "options")] {
        user.refused_field("event.publish", json!(["a:b", {}, options]), 107, field).await;
    }
    assert_eq!(rows(&server, "event"), 0);
}

/// Number formats, the order of keys, a key twice, escapes, white space.
const MESSAGES: [&str; 6] = [
    r#"{}"#,
    r#"{ "b":1.00,"a" : 1e3, "c":-0.0, "d":1E+2 }"#,
    r#"{"big":123456789012345678901234567890,"tiny":1e-400,"huge":1e400}"#,
    r#"{"z":1,"a":2,"z":3}"#,
    r#"{"e":"\u00e9 \u0000 \/ \ud83d\ude00","f":"é 😀","\u0061":"\"\\"}"#,
    "{\n\t\"nested\": [ {\"x\" : null} , [] , true ]\r\n}",
];

/// The ways to publish that there are.
fn bodies(message: &str) -> [(&'static str, String); 6] {
    let call =
        |method: &str, params: String| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    [
        ("event.publish", call("event.publish", format!(r#"[null,"order:created",{message}]"#))),
        ("by name", call("event.publish", format!(r#"{{"message":{message},"topic":"order:created"}}"#))),
        ("call", call("call", format!(r#"[null,"event.publish",["order:created",{message}]]"#))),
        ("multiCall", call("multiCall", format!(r#"[null,[["event.publish",["order:created",{message}]]]]"#))),
        ("many", call("event.publish_many", format!(r#"[null,[{{"topic":"order:created","message":{message}}}]]"#))),
        (
            "numeric",
            format!(r#"{{"jsonrpc":2.0,"method":"call","params":[null,"event.publish",["order:created",{message}]]}}"#),
        ),
    ]
}

#[tokio::test]
async fn messages_keep_their_bytes_all_the_way() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    user.webhook(webhook_with(json!({"url": receiver.url()}))).await;
    let mut published = Vec::new();
    for message in MESSAGES {
        for (way, body) in bodies(message) {
            let text = user.post("/", body).await;
            assert!(text.contains(&format!(r#""increment_id":{}}}"#, published.len() + 1)), "{way}: {text}");
            published.push((way, message));
        }
    }
    let arrivals = receiver.arrivals(published.len()).await;
    for arrived in arrivals {
        let (way, message) = published[usize::try_from(arrived.number()).unwrap() - 1];
        let body = std::str::from_utf8(&arrived.body).unwrap();
        assert!(body.ends_with(&format!(r#""message": {message}}}"#)), "{way}: {message} became {body}");
    }
}

#[tokio::test]
async fn the_vendors_format_keeps_them_too() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    let data = webhook_with(json!({"url": receiver.url()}));
    user.ask("/api/jsonrpc", "webhook.create", json!([null, data])).await.unwrap();
    for message in MESSAGES {
        user.post("/", bodies(message)[0].1.clone()).await;
    }
    for arrived in receiver.arrivals(MESSAGES.len()).await {
        let number = arrived.number();
        let message = MESSAGES[usize::try_from(number).unwrap() - 1];
        let members = message.strip_suffix('}').unwrap();
        let comma = if message == "{}" { "" } else { ", " };
        let start =
            format!(r#"{{"topic": "order:created", "message": {members}{comma}"webhook_increment_id": {number}, "#);
        let body = std::str::from_utf8(&arrived.body).unwrap();
        assert!(body.starts_with(&start), "{message} became {body}");
    }
}

/// What `event.explain` foretells is what a publish then does.
#[tokio::test]
async fn an_explanation_is_what_then_happens() {
    let server = TestServer::start().await;
    let gone = Receiver::start(|_, _| Reply::status(410)).await;
    let user = User::demo(&server);
    let made = [
        (json!({"topics": "order:*,order:created"}), "delivered", json!("order:*")),
        (json!({"topics": "product:*"}), "not_subscribed", json!(null)),
        (json!({"topics": "*", "is_active": 0}), "inactive", json!("*")),
        (json!({"topics": "product:*", "is_active": 0}), "not_subscribed", json!(null)),
        (json!({"topics": "order:created", "url": gone.url()}), "disabled", json!("order:created")),
        (json!({"topics": "*", "delivery_mode": "pull"}), "pulled", json!("*")),
    ];
    let mut expected = Vec::new();
    for (data, reach, pattern) in made {
        let mut webhook = webhook_with(data);
        if reach == "pulled" {
            webhook.as_object_mut().unwrap().remove("url");
        }
        let id = id_of(&user.webhook(webhook).await);
        let is_reached = !matches!(reach, "inactive" | "not_subscribed");
        expected.push(json!({"webhook_id": id, "is_reached": is_reached, "reach": reach, "pattern": pattern}));
        if reach == "disabled" {
            user.done("event.publish", json!(["order:created", {}])).await;
            server
                .until(async || user.done("webhook.get", json!([id])).await["disabled"].as_bool().filter(|on| *on))
                .await;
        }
    }
    let explained = user.done("event.explain", json!(["order:created"])).await;
    assert_eq!(explained, json!(expected));
    let events = rows(&server, "event");
    let receipt = user.done("event.publish", json!(["order:created", {}])).await;
    let ids = |list: &Value, reached: fn(&Value) -> bool| -> Vec<i64> {
        list.as_array().unwrap().iter().filter(|item| reached(item)).map(id_of).collect()
    };
    assert_eq!(ids(&receipt["deliveries"], |_| true), ids(&explained, |item| item["is_reached"] == true));
    assert_eq!(rows(&server, "event"), events + 1, "explaining publishes nothing");

    let operational = user.done("event.explain", json!(["tallyhook:webhook_disabled"])).await;
    assert!(ids(&operational, |item| item["is_reached"] == true).is_empty(), "{operational}");
    assert_eq!(user.done("webhook.count", json!([])).await, 6);
}

#[tokio::test]
async fn an_event_is_shown_with_no_more_deliveries_than_a_list_has() {
    let server = Start::default().flag("list_limit_max", "2").go().await;
    let user = User::demo(&server);
    for _ in 0..3 {
        numbering(&user).await;
    }
    user.done("event.publish", json!(["order:created", {}])).await;
    let event = user.done("event.get", json!([1])).await;
    let shown: Vec<_> = event["deliveries"].as_array().unwrap().iter().map(id_of).collect();
    assert_eq!((&event["delivery_count"], shown), (&json!(3), vec![1, 2]));
}

#[tokio::test]
async fn an_event_is_shown_with_its_bytes_and_its_deliveries() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_with(json!({"url": receiver.url()}))).await);
    let message = r#"{ "b": 1.00, "a":"\u00e9", "a": [ ] }"#;
    let options = r#"{"created_at": "2021-12-07T16:08:15Z"}"#;
    let publish = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"event.publish","params":[null,"order:created",{message},{options}]}}"#
    );
    user.post("/", publish).await;
    server.settled(id).await;
    let shown = user.post("/", r#"{"jsonrpc":"2.0","id":1,"method":"event.get","params":[null,1]}"#).await;
    assert!(shown.contains(&format!(r#""message":{message},"#)), "{shown}");
    let event = user.done("event.get", json!([1])).await;
    assert_eq!((&event["topic"], &event["created_at"]), (&json!("order:created"), &json!("2021-12-07T16:08:15.000Z")));
    let delivery = user.done("delivery.get", json!([id, 1])).await;
    assert_eq!((&event["deliveries"], &delivery["state"]), (&json!([delivery]), &json!("delivered")));
    let attempts = user.done("delivery.attempts", json!([id, 1])).await;
    assert_eq!(user.done("delivery.attempt", json!([id, 1, 1])).await, attempts[0]);
}

/// Ids of the events of a list, and what the answer says of its cut.
async fn found(server: &TestServer, options: Value) -> (Vec<i64>, Value) {
    let session = server.login().await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "event.list", "params": [session, options]});
    let (_, text) = server.post("/", &[], call.to_string()).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let events = answer["result"].as_array().unwrap_or_else(|| panic!("{text}"));
    (events.iter().map(|event| event["event_id"].as_i64().unwrap()).collect(), answer["cut"].clone())
}

/// Where is order 54321?
#[tokio::test]
async fn events_are_found_by_their_key_and_by_a_value() {
    let server = Start::default().flag("filter_events_max", "4").go().await;
    for n in 1..=10 {
        let message = json!({"order": {"id": n % 5, "name": format!("#{n}")}});
        let topic = if n == 9 { "order:late" } else { "order:created" };
        server.call("event.publish", keyed(topic, message, &format!("key-{n}"))).await.unwrap();
    }
    let at = |pointer: &str, value: Value| json!({"pointer": pointer, "value": value});
    let and = |mut options: Value, more: Value| {
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    for (options, expected) in [
        (json!({"idempotency_key": "key-3"}), (vec![3], Value::Null)),
        (json!({"idempotency_key": "key-3", "topics": "order:late"}), (vec![], Value::Null)),
        (json!({"idempotency_key": "key-3", "after_event_id": 3}), (vec![], Value::Null)),
        (json!({"idempotency_key": "key-11"}), (vec![], Value::Null)),
    ] {
        assert_eq!(found(&server, options.clone()).await, expected, "{options}");
    }
    // Whoever goes on finds all, however little one call may look at.
    let all = async |options: Value| {
        let (mut ids, mut after, mut calls) = (Vec::new(), json!({}), 0);
        loop {
            let (some, cut) = found(&server, and(options.clone(), after)).await;
            (ids, calls) = ([ids, some].concat(), calls + 1);
            if cut.is_null() {
                return (ids, calls);
            }
            after = cut;
        }
    };
    assert_eq!(all(at("/order/id", json!(3))).await.0, [3, 8]);
    assert_eq!(all(at("/order/id", json!(3.0))).await.0, [3, 8]);
    assert_eq!(all(and(at("/order/id", json!(3)), json!({"sort": "-event_id"}))).await.0, [8, 3]);
    assert!(all(at("/order/id", json!("3"))).await.0.is_empty());
    assert_eq!(all(and(at("/order/name", json!("#9")), json!({"topics": "order:late"}))).await, (vec![9], 1));
    let first = and(at("/order/id", json!(3)), json!({"limit": 1}));
    assert_eq!(found(&server, first.clone()).await, (vec![3], Value::Null));
    assert_eq!(found(&server, and(first, json!({"after_event_id": 3}))).await.0, [8]);

    for (options, field) in [
        (json!({"pointer": "/order"}), "pointer"),
        (json!({"value": 1}), "value"),
        (at("order", json!(1)), "pointer"),
        (at("/order", json!({})), "value"),
        (json!({"idempotency_key": ""}), "idempotency_key"),
        (and(at("/order/id", json!(3)), json!({"limit": 0})), "limit"),
    ] {
        let refused = server.call("event.list", json!([options])).await.unwrap_err();
        assert_eq!((&refused["code"], &refused["data"]["field"]), (&json!(111), &json!(field)), "{options}");
    }
    assert_eq!(server.call("event.count", json!([{"idempotency_key": "key-3"}])).await, Ok(json!(1)));
    let refused = server.call("event.count", json!([at("/order/id", json!(3))])).await.unwrap_err();
    assert_eq!(refused["data"]["field"], "pointer");
    // Nobody finds what is not his own.
    let other = User::new(&server, "other", "globex", ALL);
    for options in [json!({"idempotency_key": "key-3"}), at("/order/id", json!(3))] {
        assert_eq!(other.done("event.list", json!([options])).await, json!([]));
    }
}

/// Which of many webhooks fail is one call.
#[tokio::test]
async fn webhooks_are_found_by_their_health() {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::start(|_, arrived| match arrived.path.as_str() {
        "/failing" => Reply::status(500),
        "/gone" => Reply::status(410),
        _ => Reply::status(204),
    })
    .await;
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", receiver.port());
    let mut ids = Vec::new();
    for path in ["fine", "failing", "gone", "off"] {
        ids.push(id_of(&server.webhook(json!({"topics": "*", "url": url(path), "is_active": path != "off"})).await));
    }
    server.publish("order:created", json!({})).await;
    server.settled(ids[0]).await;
    server.attempts(ids[1], 1, 1).await;
    let is_disabled = async || {
        let gone = server.call("webhook.get", json!([ids[2]])).await.unwrap();
        gone["disabled"].as_bool().filter(|disabled| *disabled)
    };
    server.until(is_disabled).await;
    for (health, id) in [("healthy", ids[0]), ("failing", ids[1]), ("disabled", ids[2]), ("off", ids[3])] {
        let listed = server.call("webhook.list", json!([{"health": health}])).await.unwrap();
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["webhook_id"]), (1, &json!(id)), "{health}");
        assert_eq!(listed[0].get("health"), None, "the vendor's clients know seven members");
        assert_eq!(server.call("webhook.count", json!([{"health": health}])).await, Ok(json!(1)));
        let by_url = json!([{"health": health, "with_health": 1, "sort": "url"}]);
        let shown = server.call("webhook.list", by_url).await.unwrap();
        assert_eq!(shown[0]["health"]["state"], health);
    }
    let shown = server.call("webhook.list", json!([{"with_health": 1}])).await.unwrap();
    let expected = json!({
        "state": "failing", "consecutive_failures": 1, "failing_since": "2023-11-14T22:13:20.000Z",
        "disabled_reason": null, "settled_through": 0
    });
    assert_eq!(shown[1]["health"], expected);
    assert_eq!(shown[2]["health"]["disabled_reason"], "gone");
    let refused = server.call("webhook.list", json!([{"health": "ill"}])).await.unwrap_err();
    assert_eq!((&refused["code"], &refused["data"]["field"]), (&json!(111), &json!("health")));
}
