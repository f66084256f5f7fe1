//! Values as clients write them: what is taken, what is refused, and how it
//! is given back.

use serde_json::{Value, json};

use super::{ALL, User, id_of, rows, webhook_data, webhook_with};
use crate::common::{Receiver, Start, TestServer};

/// Registers webhooks with each of these values of a member, and says how the
/// member is given back.
async fn given_back(user: &User<'_>, field: &str, values: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for value in values {
        let webhook = user.webhook(webhook_with(json!({ field: value }))).await;
        let listed = user.done("webhook.list", json!([])).await;
        assert_eq!(listed.as_array().unwrap().last().unwrap()[field], webhook[field], "{value}");
        all.push(webhook[field].clone());
    }
    all
}

/// Each of these values of a member is refused as 101, and nothing is registered.
async fn all_refused(user: &User<'_>, field: &str, values: &[Value]) {
    let before = rows(user.server, "webhook");
    for value in values {
        let error = user.refused("webhook.create", json!([webhook_with(json!({ field: value }))]), 101).await;
        // Of a list's item, or an object's member, the place is told as well.
        let told = error["data"]["field"].as_str().unwrap_or_else(|| panic!("{value}: {error}"));
        assert_eq!(told.split(['[', '.']).next(), Some(field), "{value}: {error}");
    }
    assert_eq!(rows(user.server, "webhook"), before);
}

#[tokio::test]
async fn is_active() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let on = [json!(1), json!("1"), json!(true), json!(1.0), json!(null)];
    assert_eq!(given_back(&user, "is_active", &on).await, vec![json!(1); on.len()]);
    let off = [json!(0), json!("0"), json!(false), json!(0.0)];
    assert_eq!(given_back(&user, "is_active", &off).await, vec![json!(0); off.len()]);
    let bad =
        [json!(2), json!("on"), json!(-1), json!("2"), json!(""), json!("true"), json!(0.5), json!([]), json!({})];
    all_refused(&user, "is_active", &bad).await;
}

#[tokio::test]
async fn topics() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let values = [
        json!("order:*"),
        json!("order:created"),
        json!("*"),
        json!("order:created,product:*"),
        json!("order:created, product:*"),
        json!(["order:created"]),
        json!(["order:created", "product:*"]),
    ];
    let expected = [
        json!("order:*"),
        json!("order:created"),
        json!("*"),
        json!("order:created,product:*"),
        // The string as it was given.
        json!("order:created, product:*"),
        json!("order:created"),
        json!("order:created,product:*"),
    ];
    assert_eq!(given_back(&user, "topics", &values).await, expected);
    let receivers = async |topic: &str| -> Vec<i64> {
        let receipt = user.done("event.publish", json!([topic, {}])).await;
        receipt["deliveries"].as_array().unwrap().iter().map(id_of).collect()
    };
    assert_eq!(receivers("order:created").await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(receivers("order:canceled").await, [1, 3]);
    assert_eq!(receivers("product:created").await, [3, 4, 5, 7]);
    assert_eq!(receivers("Order:created").await, [3]);

    let bad = [
        json!(""),
        json!("order"),
        json!("order:"),
        json!("order:cre*"),
        json!("*:created"),
        json!("order:created,"),
        json!("order:created;product:*"),
        json!("a:b:c"),
        json!(format!("{}:b", "a".repeat(65))),
        json!(5),
        json!(true),
        json!({"0": "order:*"}),
        json!([]),
        json!([""]),
        json!(["order:*", 5]),
        json!([["order:*"]]),
    ];
    all_refused(&user, "topics", &bad).await;
    user.refused_field("webhook.create", json!([{"url": "http://127.0.0.1:9/"}]), 101, "topics").await;
}

#[tokio::test]
async fn a_hundred_topics_but_no_more() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let list = |count: usize| -> Vec<String> { (0..count).map(|n| format!("order:step_{n}")).collect() };
    let given = [json!(list(100)), json!(list(100).join(","))];
    assert_eq!(given_back(&user, "topics", &given).await, vec![json!(list(100).join(",")); 2]);
    all_refused(&user, "topics", &[json!(list(101)), json!(list(101).join(","))]).await;
}

#[tokio::test]
async fn extra_headers_come_back_to_the_byte() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let texts = [
        "",
        "X-Shop: 7",
        "Authorization: Basic dXNlcjpwYXNz\nX-Shop:  7 : 8 ",
        "A: 1\r\n\r\nB: 2\r\n",
        "  spaced : yes",
        "X-Quote: \"a\\b\"\t",
    ];
    let values = texts.map(Value::from);
    assert_eq!(given_back(&user, "extra_headers", &values).await, values);
    let list = user.list_text().await;
    for text in texts {
        let raw = format!(r#""extra_headers":{},"#, serde_json::to_string(text).unwrap());
        assert!(list.contains(&raw), "{raw} in {list}");
    }
}

#[tokio::test]
async fn extra_headers_in_other_forms() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    // In text, for `json!` would sort the members.
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"webhook.create","params":[null,
        {"topics":"order:*","url":"http://127.0.0.1:9/","extra_headers":{"X-Shop":"7","Authorization":"Basic a"}},true]}"#;
    let created: Value = serde_json::from_str(&user.post("/", body).await).unwrap();
    assert_eq!(created["result"]["extra_headers"], "X-Shop: 7\nAuthorization: Basic a");

    let nothing = [json!(null), json!([]), json!({})];
    assert_eq!(given_back(&user, "extra_headers", &nothing).await, vec![json!(""); nothing.len()]);
    assert_eq!(user.webhook(webhook_data()).await["extra_headers"], "");
    let bad = [
        json!("no colon"),
        json!(": value"),
        json!("Bad Name: 1"),
        json!("X: ä"),
        json!("X: a\u{7}b"),
        json!("X: 1\nno colon"),
        json!("Host: example.com"),
        json!("content-length: 1"),
        json!("Transfer-Encoding: chunked"),
        json!("Connection: close"),
        json!("Webhook-Id: 1"),
        json!("webhook-timestamp: 1"),
        json!("Webhook-Signature: v1,x"),
        json!("X-Plugin-Hmac-Sha256: x"),
        json!("Tallyhook-Increment-Id: 1"),
        json!("A: 1\n".repeat(51)),
        json!(format!("A: {}", "b".repeat(8_192))),
        json!(5),
        json!(["X: 1"]),
        json!({"X": 5}),
        json!({"X": "1\nHost: example.com"}),
        json!({"X": "1\r"}),
        json!({"X: 1\nY": "2"}),
        json!({"X: 1": "2"}),
        json!({"": "1"}),
        json!({"Host": "example.com"}),
    ];
    all_refused(&user, "extra_headers", &bad).await;
}

#[tokio::test]
async fn extra_headers_arrive() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    let headers = "Authorization: Basic dXNlcjpwYXNz\r\n\nX-Shop:  7 : 8 \nX-Many: 1\nX-Many: 2";
    user.webhook(webhook_with(json!({"url": receiver.url(), "extra_headers": headers}))).await;
    user.done("event.publish", json!(["order:created", {}])).await;
    let arrived = &receiver.arrivals(1).await[0];
    assert_eq!(arrived.header("authorization"), "Basic dXNlcjpwYXNz");
    assert_eq!(arrived.header("x-shop"), "7 : 8");
    let many: Vec<_> = arrived.headers.get_all("x-many").iter().collect();
    assert_eq!(many, ["1", "2"]);
}

#[tokio::test]
async fn ids_may_be_texts() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let receiver = Receiver::obliging().await;
    let webhook = user.webhook(webhook_with(json!({"url": receiver.url()}))).await;
    let id = id_of(&webhook).to_string();
    user.done("event.publish", json!(["order:created", {}])).await;
    let deliveries = user.server.settled(id_of(&webhook)).await;
    assert_eq!(user.done("webhook.get", json!([id])).await["topics"], "order:*");
    assert_eq!(
        user.done("delivery.list", json!([id, {"limit": "1", "after_increment_id": "0"}])).await,
        json!(deliveries)
    );
    assert_eq!(user.done("delivery.attempts", json!([id, "1"])).await[0]["status_code"], 204);
    assert_eq!(user.done("webhook.update_status", json!([{"webhook_id": id, "status": "0"}])).await, true);
    for bad in [json!("five"), json!(""), json!(" 1"), json!(1.5), json!([1]), json!(true), json!(u64::MAX)] {
        user.refused_field("webhook.get", json!([bad]), 103, "webhook_id").await;
        user.refused_field("webhook.delete", json!([bad]), 103, "webhook_id").await;
        user.refused_field("webhook.update_status", json!([{"webhook_id": bad, "status": 1}]), 100, "webhook_id").await;
        user.refused_field("delivery.attempts", json!([1, bad]), 111, "increment_id").await;
    }
    assert_eq!(user.done("webhook.delete", json!([id])).await, true);
    assert_eq!(user.done("webhook.list", json!([])).await, json!([]));
}

/// Which webhooks are on, by id.
async fn on(user: &User<'_>) -> Vec<i64> {
    let list = user.done("webhook.list", json!([])).await;
    list.as_array().unwrap().iter().filter(|item| item["is_active"] == 1).map(id_of).collect()
}

/// Four webhooks with different lists of topics, all on.
async fn four(user: &User<'_>) {
    for topics in ["order:*", "order:created", "product:*, order:created", "*"] {
        user.webhook(webhook_with(json!({"topics": topics}))).await;
    }
}

#[tokio::test]
async fn update_status_in_its_four_shapes() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    four(&user).await;
    // Each step, and which are on after it.
    for (args, expected) in [
        (json!(["order:created", 0]), vec![1, 4]),
        (json!(["order:*", "0"]), vec![4]),
        (json!(["*", false]), vec![]),
        (json!([{"topic": "product:*", "status": 1}]), vec![3]),
        (json!([{"topic": "product:*", "status": 1}]), vec![3]),
        (json!([{"webhook_id": 2, "status": true}]), vec![2, 3]),
        (json!([{"webhook_id": "3", "status": "0"}]), vec![2]),
        (json!([{"status": 1}]), vec![1, 2, 3, 4]),
        (json!([{"status": "0"}]), vec![]),
        // Without the brackets around it.
        (json!({"status": 1}), vec![1, 2, 3, 4]),
    ] {
        assert_eq!(user.done("webhook.update_status", args.clone()).await, true, "{args}");
        assert_eq!(on(&user).await, expected, "{args}");
    }
    for (params, expected) in [
        (json!({"session": null, "topic": "order:*", "status": 0}), vec![2, 3, 4]),
        (json!({"webhook_id": 4, "status": 0}), vec![2, 3]),
        (json!({"status": 0}), vec![]),
        (json!([null, {"status": 1}]), vec![1, 2, 3, 4]),
        (json!([null, "order:*", 0]), vec![2, 3, 4]),
    ] {
        assert_eq!(user.ask("/", "webhook.update_status", params.clone()).await, Ok(json!(true)), "{params}");
        assert_eq!(on(&user).await, expected, "{params}");
    }
}

#[tokio::test]
async fn update_status_refuses_what_selects_nothing_or_means_nothing() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    four(&user).await;
    user.done("webhook.delete", json!([4])).await;
    let message = "Error changing status for specified webhook.";
    for (args, why) in [
        // Only an entry of its own counts, whatever would match.
        (json!(["order:canceled", 0]), "No webhook lists the topic order:canceled as an entry of its own."),
        (json!(["product:created", 0]), "No webhook lists the topic product:created as an entry of its own."),
        (json!(["*", 0]), "No webhook lists the topic * as an entry of its own."),
        (json!([{"webhook_id": 4, "status": 0}]), "There is no webhook 4."),
        (json!([{"webhook_id": 99, "status": 0}]), "There is no webhook 99."),
        (json!([{"topic": "order:*", "webhook_id": 1, "status": 0}]), "Select by topic or by webhook_id, not by both."),
        (json!([{"topic": "order:*"}, 0]), "Give one object, or topic and status, not both."),
    ] {
        let error = user.refused("webhook.update_status", args, 100).await;
        assert_eq!(error["message"], format!("{message} {why}"));
    }
    for (args, field) in [
        (json!([{"status": 2}]), "status"),
        (json!([{"status": "on"}]), "status"),
        (json!([{"status": null}]), "status"),
        (json!(["order:*", 2]), "status"),
        (json!(["order:*", "off"]), "status"),
        (json!(["order:*"]), "status"),
        (json!([]), "status"),
        (json!([{}]), "status"),
        (json!([{"webhook_id": 1}]), "status"),
        (json!([{"status": 0, "colour": "red"}]), "colour"),
        (json!([{"webhookId": 1, "status": 0}]), "webhookId"),
        (json!(["order", 0]), "topic"),
        (json!([5, 0]), "topic"),
        (json!([{"topic": 5, "status": 0}]), "topic"),
    ] {
        user.refused_field("webhook.update_status", args, 100, field).await;
    }
    assert_eq!(on(&user).await, [1, 2, 3]);
}

#[tokio::test]
async fn create_returns_the_webhook_where_asked() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for no in [json!(null), json!(false), json!(0), json!("0")] {
        assert_eq!(user.done("webhook.create", json!([webhook_data(), no])).await, true, "{no}");
    }
    for yes in [json!(true), json!(1), json!("1")] {
        let webhook = user.done("webhook.create", json!([webhook_data(), yes])).await;
        assert_eq!(user.done("webhook.get", json!([id_of(&webhook)])).await, webhook, "{yes}");
    }
    let params = json!({"webhook": webhook_data(), "return_webhook": true});
    assert_eq!(id_of(&user.ask("/", "webhook.create", params).await.unwrap()), 8);
    user.refused_field("webhook.create", json!([webhook_data(), "yes"]), 101, "return_webhook").await;
    assert_eq!(rows(&server, "webhook"), 8);
}

#[tokio::test]
async fn unknown_keys_are_refused_by_name() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for key in ["colour", "Url", "webhook_id", "increment_id"] {
        user.refused_field("webhook.create", json!([webhook_with(json!({ key: 1 }))]), 101, key).await;
    }
    for (method, params, number, field) in [
        ("webhook.create", json!({"webhook": webhook_data(), "colour": 1}), 101, "colour"),
        ("webhook.list", json!({"colour": 1}), 111, "colour"),
        ("webhook.get", json!({"webhook_id": 1, "colour": 1}), 103, "colour"),
        ("webhook.update_status", json!({"status": 1, "colour": 1}), 100, "colour"),
        ("event.publish", json!({"topic": "a:b", "message": {}, "colour": 1}), 107, "colour"),
        ("delivery.list", json!({"webhook_id": 1, "colour": 1}), 111, "colour"),
    ] {
        let error = user.ask("/", method, params).await.unwrap_err();
        assert_eq!((&error["code"], &error["data"]["field"]), (&json!(number), &json!(field)), "{method}: {error}");
    }
    for data in [json!("order:*"), json!(5), json!(true), json!([webhook_data()])] {
        user.refused_field("webhook.create", json!([data]), 101, "webhook").await;
    }
    assert_eq!((rows(&server, "webhook"), rows(&server, "event")), (0, 0));
}

#[tokio::test]
async fn an_empty_array_is_an_empty_object_and_no_other_array_is_one() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_data()).await);
    // What PHP makes of an empty object.
    user.done("event.publish", json!(["a:b", {}, []])).await;
    user.done("event.publish_many", json!([[{"topic": "a:b", "message": {}, "options": []}]])).await;
    assert_eq!(user.done("delivery.list", json!([id, []])).await, json!([]));
    user.refused_field("webhook.create", json!([[]]), 101, "topics").await;
    // Never the members in their order.
    let error =
        user.refused_field("webhook.create", json!([[1, "order:*", "http://127.0.0.1:9/"]]), 101, "webhook").await;
    assert!(error["message"].as_str().unwrap().ends_with("invalid type: sequence, expected an object."), "{error}");
    user.refused_field("event.publish", json!(["a:b", {}, ["k", null]]), 107, "options").await;
    user.refused_field("event.publish_many", json!([[["a:b", {}, null]]]), 107, "events").await;
    user.refused_field("delivery.list", json!([id, [0, null, 1]]), 111, "options").await;
    let params = json!([null, [["webhook.list"]], [1]]);
    assert_eq!(user.ask("/", "multiCall", params).await.unwrap_err()["data"]["field"], "options");
    assert_eq!((rows(&server, "webhook"), rows(&server, "event")), (1, 2));
}

#[tokio::test]
async fn secret_keys() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let kept = [
        json!("12345678"),
        json!("ä".repeat(8)),
        json!("x".repeat(256)),
        json!("2RUJ8NXLnLRrAj3"),
        json!("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
    ];
    assert_eq!(given_back(&user, "secret_key", &kept).await, kept);
    let made = given_back(&user, "secret_key", &[json!(""), json!(null), json!(null)]).await;
    for (n, secret) in made.iter().enumerate() {
        let secret = secret.as_str().unwrap();
        let base64 = secret.strip_prefix("whsec_").unwrap();
        assert!(base64.len() == 44 && base64.ends_with('='), "{secret} is 32 bytes in base64");
        assert!(!made[..n].contains(&json!(secret)), "each is another");
    }
    let bad = [
        json!("1234567"),
        json!("ä".repeat(7)),
        json!("x".repeat(257)),
        json!("whsec_!!!!"),
        json!("whsec_abcde"),
        json!("whsec_AQ=="),
        json!(" whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        json!("v1,whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        json!("whsk_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        json!("whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD"),
        json!(12_345_678),
        json!(["12345678"]),
    ];
    all_refused(&user, "secret_key", &bad).await;
}

#[tokio::test]
async fn secrets_are_for_those_who_may_write() {
    let server = TestServer::start().await;
    let writer = User::new(&server, "writer", "acme", ALL);
    let reader = User::new(&server, "reader", "acme", "webhook_read,event_write");
    let admin = User::new(&server, "boss", "acme", "admin");
    let data = json!({"secret_key": "2RUJ8NXLnLRrAj3", "extra_headers": "Authorization: Bearer hunter2\n\nX-Shop:7"});
    let id = id_of(&writer.webhook(webhook_with(data.clone())).await);
    let hidden = json!({"secret_key": "", "extra_headers": "Authorization: [redacted]\nX-Shop: [redacted]"});
    for (user, expected) in [(&writer, &data), (&reader, &hidden), (&admin, &data)] {
        let seen = [
            user.done("webhook.list", json!([])).await[0].clone(),
            user.done("webhook.list", json!([{"sort": "url"}])).await[0].clone(),
            user.done("webhook.get", json!([id])).await,
        ];
        for seen in seen {
            assert_eq!(seen["secret_key"], expected["secret_key"]);
            assert_eq!(seen["extra_headers"], expected["extra_headers"]);
        }
    }
    let text = reader.list_text().await;
    assert!(!text.contains("2RUJ8NXLnLRrAj3") && !text.contains("hunter2"));
}

#[tokio::test]
async fn urls() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let long = |chars: usize| format!("http://example.com/{}", "a".repeat(chars - "http://example.com/".len()));
    let good = [
        json!("http://example.com"),
        json!("https://example.com:8443/hook?shop=7#top"),
        json!("HTTPS://EXAMPLE.com/%41"),
        json!("http://[2606:4700:4700::1111]/"),
        json!(long(1_000)),
    ];
    assert_eq!(given_back(&user, "url", &good).await, good);
    let bad = [
        json!(""),
        json!("example.com"),
        json!("/hook"),
        json!("//example.com/hook"),
        json!("http://"),
        json!("ftp://example.com/"),
        json!("file:///etc/passwd"),
        json!("javascript:alert(1)"),
        json!("http://user@example.com/"),
        json!("http://user:secret@example.com/"),
        json!("http://example.com:0/"),
        json!("http://example.com:65536/"),
        json!("http://exa mple.com/"),
        json!(" http://example.com/"),
        json!("http://example.com/a\n"),
        json!("http://example.com/\ta"),
        json!("http://example.com/a b"),
        json!("http://exa{mple.com/"),
        json!("http://example.com:25/"),
        json!("https://example.com:5432/"),
        json!("http://example..com/"),
        json!(long(1_001)),
        json!(5),
        json!(["http://example.com/"]),
    ];
    all_refused(&user, "url", &bad).await;
    user.refused_field("webhook.create", json!([{"topics": "order:*"}]), 101, "url").await;
    let data = webhook_with(json!({"url": "http://user:secret@example.com/"}));
    let error = user.call("webhook.create", json!([data])).await.unwrap_err();
    assert!(!error.to_string().contains("secret@"), "{error}");
}

#[tokio::test]
async fn addresses_that_are_forbidden_are_refused_in_any_notation() {
    let server = Start::default().strict().go().await;
    let user = User::new(&server, "user", "acme", ALL);
    let bad = [
        "http://2130706433/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://0/",
        "http://0.0.0.0/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1:8080/hook",
        "https://127.255.255.254/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[::7f00:1]/",
        "http://localhost/",
        "http://LOCALHOST:9000/",
        "http://localhost./",
        "http://shop.localhost/",
        "http://[::]/",
        "http://[::1]/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://192.0.2.1/",
        "http://255.255.255.255/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
        "http://%31%32%37.0.0.1/",
        "http://①②⑦.0.0.1/",
    ];
    all_refused(&user, "url", &bad.map(Value::from)).await;
    // Public ones pass; names are judged when they are connected to.
    for good in
        ["http://1.1.1.1/", "http://[2606:4700:4700::1111]/", "http://hooks.example.com/", "http://localhost.example/"]
    {
        user.webhook(webhook_with(json!({"url": good, "is_active": 0}))).await;
    }
}

#[tokio::test]
async fn what_the_operator_allows_is_not_refused() {
    let server = Start::default().strict().flag("allow_target", "10.1.0.0/16").go().await;
    let user = User::new(&server, "user", "acme", ALL);
    for good in ["http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://0x0a010203/"] {
        user.webhook(webhook_with(json!({"url": good, "is_active": 0}))).await;
    }
    let bad = ["http://10.2.0.1/", "http://127.0.0.1/", "http://[::ffff:10.2.0.1]/"];
    all_refused(&user, "url", &bad.map(Value::from)).await;
}
