//! Webhooks that are exported from one server and imported into another, or into the same again.

use serde_json::{Value, json};
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::verify_standard_webhooks;

use super::{REQUEST_ID, User, rows, webhook_with};
use crate::common::certificates::{authority, pair};
use crate::common::{Receiver, Start, TestServer};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Webhooks that together say all there is to say.
fn definitions(receiver: &Receiver) -> Vec<Value> {
    let url = receiver.url();
    vec![
        json!({
            "name": "shop", "description": "ours", "topics": "order:*, item:made", "url": url, "secret_key": SECRET,
            "extra_headers": "X-Key: hush\nx-other: 7", "format": "envelope", "retry": [5, 30],
            "delivery_mode": "ordered", "rate_limit": {"per_second": 20, "burst": 3},
            "timeouts": {"total_ms": 9_000}, "basic_auth": {"username": "ann", "password": "mum-is-the-word"},
            "batch": {"max_events": 5}, "expansions": {"order:created": "customer,items"}, "labels": {"customer": "42"}, "max_concurrency": 3,
        }),
        json!({"topics": "*", "delivery_mode": "pull", "name": "puller", "is_active": 0}),
        json!({"topics": "*", "url": url, "format": "3dcart", "encoding": "xml", "retry": "shipstream"}),
        json!({"topics": "a:b", "url": url, "retry": {"max_retries": 3, "interval_seconds": 60}, "signing": "ed25519"}),
    ]
}

async fn exported(user: &User<'_>, options: Value) -> Vec<Value> {
    user.done("webhook.export", json!([options])).await.as_array().unwrap().clone()
}

async fn imported(user: &User<'_>, lines: &[Value], options: Value) -> Vec<Value> {
    user.done("webhook.import", json!([lines, options])).await.as_array().unwrap().clone()
}

fn outcomes(imported: &[Value]) -> Vec<&str> {
    imported.iter().map(|item| item["outcome"].as_str().unwrap()).collect()
}

fn webhooks(lines: &[Value]) -> Vec<&Value> {
    lines.iter().map(|line| &line["webhook"]).collect()
}

#[tokio::test]
async fn what_is_exported_makes_the_same_webhooks_elsewhere() {
    let (old, new, receiver) = (TestServer::start().await, TestServer::start().await, Receiver::obliging().await);
    let (from, to) = (User::demo(&old), User::demo(&new));
    // The ids there are others.
    to.webhook(webhook_with(json!({"topics": "x:y"}))).await;
    for definition in definitions(&receiver) {
        from.webhook(definition).await;
    }
    let lines = exported(&from, json!({"with_secrets": 1})).await;
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["left_out"], json!([]));
    assert_eq!(lines[3]["left_out"], json!(["private_key"]));
    let items = imported(&to, &lines, json!({})).await;
    assert_eq!(outcomes(&items), ["created"; 4], "{items:?}");
    assert!(items.iter().all(|item| item.get("secret_key").is_none()), "a secret that was given is not shown again");

    let again = exported(&to, json!({"with_secrets": 1, "after_webhook_id": 1})).await;
    assert_eq!(webhooks(&again), webhooks(&lines));
    for (line, item) in lines.iter().zip(&items) {
        let get = async |user: &User<'_>, id: &Value| user.done("webhook.get", json!([id])).await;
        let (mut was, mut is) = (get(&from, &line["webhook_id"]).await, get(&to, &item["webhook_id"]).await);
        for webhook in [&mut was, &mut is] {
            for own in ["webhook_id", "created_at", "updated_at", "public_key"] {
                webhook.as_object_mut().unwrap().remove(own);
            }
        }
        assert_eq!(is, was);
    }
    assert_eq!(items[3]["public_key"], to.done("webhook.get", json!([items[3]["webhook_id"]])).await["public_key"]);

    // Its receiver verifies by the secret that it has.
    new.publish("order:created", json!({"order": 7, "items": [1], "customer": {"id": 1}})).await;
    let arrived = receiver.arrivals(2).await.into_iter().find(|arrived| arrived.headers.contains_key("x-key")).unwrap();
    let timestamp = arrived.header("webhook-timestamp").parse().unwrap();
    let (id, signature) = (arrived.header("webhook-id"), arrived.header("webhook-signature"));
    let secret = SecretKey::try_new(SECRET).unwrap();
    assert!(verify_standard_webhooks(&secret, id, timestamp, &arrived.body, signature));
    assert_eq!(arrived.header("x-key"), "hush");
    assert_eq!(arrived.header("authorization"), "Basic YW5uOm11bS1pcy10aGUtd29yZA==");
}

#[tokio::test]
async fn secrets_leave_only_for_who_may_write_and_asks() {
    let server = Start::default().go().await;
    let user = User::demo(&server);
    let (certificate, key) = pair(&authority("clients"));
    let receiver = Receiver::obliging().await;
    for definition in definitions(&receiver) {
        user.webhook(definition).await;
    }
    user.webhook(json!({
        "topics": "*", "url": "https://127.0.0.1:1/", "client_certificate": certificate, "client_key": key,
    }))
    .await;
    user.done("webhook.rotate_secret", json!([1])).await;
    user.done("webhook.pause", json!([2])).await;
    let secret_3 = user.done("webhook.get", json!([3])).await["secret_key"].as_str().unwrap().to_owned();

    let reader = User::new(&server, "rae", "demo", "webhook_read");
    reader.refused("webhook.export", json!([{"with_secrets": 1}]), 2).await;
    for lines in [exported(&reader, json!({})).await, exported(&user, json!({"with_secrets": 0})).await] {
        let text = Value::from(lines.clone()).to_string();
        for secret in [SECRET, &secret_3, "hush", "mum-is-the-word", "PRIVATE KEY", "CERTIFICATE", "whsec_"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let left_out: Vec<_> = lines.iter().map(|line| line["left_out"].clone()).collect();
        assert_eq!(
            left_out,
            [
                json!(["secret_key", "basic_auth", "extra_headers.x-key", "extra_headers.x-other", "old_secrets"]),
                json!(["secret_key", "is_paused"]),
                json!(["secret_key"]),
                json!(["secret_key", "private_key"]),
                json!(["secret_key", "client_certificate", "client_key"]),
            ]
        );
    }
    // What is left can be made again, with secrets that are shown if somebody asks.
    let lines = exported(&reader, json!({})).await;
    let items = imported(&user, &lines, json!({"existing": "create", "with_secrets": 1})).await;
    assert_eq!(outcomes(&items), ["created"; 5], "{items:?}");
    for item in &items {
        let made = user.done("webhook.get", json!([item["webhook_id"]])).await;
        assert!(item["secret_key"].as_str().unwrap().starts_with("whsec_") && item["secret_key"] == made["secret_key"]);
    }
    let items = imported(&user, &lines[1..2], json!({"existing": "create"})).await;
    assert!(items[0].get("secret_key").is_none(), "{items:?}");
}

#[tokio::test]
async fn each_line_stands_for_itself() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let url = "http://127.0.0.1:9/";
    let lines = [
        json!({"webhook": {"topics": "a:b", "url": url}, "webhook_id": 7, "left_out": ["secret_key"]}),
        json!({"webhook": {"topics": "a b", "url": url}}),
        json!({"webhook": {"topics": ["a:b", 7], "url": url}}),
        json!({"webhook": {"topics": "a:b"}}),
        json!({"webhook": {"topics": "a:b", "url": url, "colour": "red"}}),
        json!({"webhook": {"topics": "a:b", "url": url, "secret_key": "short"}}),
        json!({"topics": "a:b", "url": url}),
        json!({"webhook": [1]}),
        json!(7),
        json!(null),
        json!({"webhook": {"topics": "c:d", "url": url}}),
        json!({"webhook": {"topics": "", "url": url}}),
    ];
    let items = imported(&user, &lines, json!({})).await;
    let made = ["created", "created", "created"];
    let expected = [&made[..1], &["failed"; 9], &made[..2]].concat();
    assert_eq!(outcomes(&items), expected, "{items:?}");
    let ids: Vec<_> = items.iter().map(|item| item["webhook_id"].clone()).filter(|id| !id.is_null()).collect();
    assert_eq!(ids, [1, 2, 3], "in their order");
    for (line, item) in
        lines.iter().zip(&items).filter(|(line, _)| line["webhook"]["url"] == url || line["webhook"]["topics"] == "a:b")
    {
        let Some(fault) = item.get("fault") else { continue };
        let error = user.call("webhook.create", json!([line["webhook"]])).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["message"]), (&error["code"], &error["message"]), "{line}");
        assert_eq!(fault["field"], error["data"]["field"], "{line}");
    }
    let told = |place: usize| items[place]["fault"]["message"].as_str().unwrap();
    assert!(told(6).contains("unknown field `topics`, expected one of `webhook`"), "{}", told(6));
    assert!(told(7).contains("expected an object"), "{}", told(7));
    assert!(told(8).contains("webhook: invalid type: integer `7`"), "{}", told(8));
    assert_eq!(user.done("webhook.get", json!([3])).await["topics"], "", "it subscribes to nothing");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_would_be() {
    let server = Start::default().flag("webhooks_max", "3").go().await;
    let user = User::demo(&server);
    let line = |topics: &str, url: &str| json!({"webhook": {"topics": topics, "url": url}});
    let (one, two) = ("http://127.0.0.1:9/", "http://127.0.0.1:9/2");
    user.webhook(json!({"topics": "a:b,c:d", "url": one})).await;
    let held = || ["webhook", "audit"].map(|table| rows(&server, table));
    let before = held();
    let lines = [
        line("c:d,a:b", one),
        line("a:b", one),
        line("a:b", one),
        line("a:b", two),
        line("a:b", "nowhere"),
        line("e:f", two),
    ];
    let items = imported(&user, &lines, json!({"dry_run": 1})).await;
    assert_eq!(outcomes(&items), ["failed", "valid", "failed", "valid", "failed", "failed"], "{items:?}");
    let told = |place: usize| (items[place]["fault"]["code"].clone(), items[place]["fault"]["message"].to_string());
    let (code, message) = told(0);
    assert!(code == 106 && message.contains("Webhook 1 has the same URL"), "{message}");
    let (code, message) = told(2);
    assert!(code == 106 && message.contains("One of the definitions before it has the same URL"), "{message}");
    assert!(told(4).0 == 101);
    let (code, message) = told(5);
    assert!(code == 106 && message.contains("has 3 webhooks, the most it may have"), "{message}");
    assert_eq!(held(), before);
    // It is what comes of it without a dry run.
    let done = imported(&user, &lines, json!({})).await;
    assert_eq!(outcomes(&done), ["failed", "created", "failed", "created", "failed", "failed"], "{done:?}");
    assert_eq!(user.done("webhook.count", json!([])).await, 3);
}

#[tokio::test]
async fn what_is_there_already_is_not_doubled_in_silence() {
    let server = TestServer::start().await;
    let (user, other) = (User::demo(&server), User::new(&server, "bob", "acme", super::ALL));
    let lines = [
        json!({"webhook": {"topics": ["a:b", "c:d"], "url": "http://127.0.0.1:9/"}}),
        json!({"webhook": {"topics": "*", "delivery_mode": "pull", "name": "one"}}),
    ];
    let alike = [
        json!({"webhook": {"topics": "c:d, a:b,a:b", "url": "HTTP://127.0.0.1:9", "name": "x", "format": "shipstream"}}),
        json!({"webhook": {"topics": "*", "delivery_mode": "pull", "name": "one"}}),
    ];
    let unlike = [
        json!({"webhook": {"topics": "a:b", "url": "http://127.0.0.1:9/"}}),
        json!({"webhook": {"topics": "*", "delivery_mode": "pull", "name": "two"}}),
    ];
    assert_eq!(outcomes(&imported(&user, &lines, json!({})).await), ["created"; 2]);
    let items = imported(&user, &alike, json!({})).await;
    assert_eq!(outcomes(&items), ["failed"; 2], "{items:?}");
    assert_eq!([&items[0]["same_as"], &items[1]["same_as"]], [&json!([1]), &json!([2])]);
    let items = imported(&user, &alike, json!({"existing": "skip"})).await;
    assert_eq!(outcomes(&items), ["skipped"; 2]);
    assert_eq!(user.done("webhook.count", json!([])).await, 2);
    let items = imported(&user, &alike, json!({"existing": "create"})).await;
    assert_eq!(outcomes(&items), ["created"; 2]);
    assert_eq!([&items[0]["same_as"], &items[1]["same_as"]], [&json!([1]), &json!([2])]);
    assert_eq!(outcomes(&imported(&user, &unlike, json!({"existing": "skip"})).await), ["created"; 2]);
    user.refused_field("webhook.import", json!([[], {"existing": "double"}]), 101, "existing").await;
    // Another merchant's are none.
    assert_eq!(outcomes(&imported(&other, &lines, json!({"existing": "skip"})).await), ["created"; 2]);
    assert_eq!(exported(&other, json!({})).await.len(), 2);
}

#[tokio::test]
async fn exports_have_pages_and_imports_bounds() {
    let server = Start::default().flag("body_bytes_max", "4194304").go().await;
    let user = User::demo(&server);
    let line = |n: usize| json!({"webhook": {"topics": format!("a:b{n}"), "url": "http://127.0.0.1:9/"}});
    let lines: Vec<_> = (0..101).map(line).collect();
    let error = user.refused_field("webhook.import", json!([lines]), 101, "webhooks").await;
    assert!(error["message"].as_str().unwrap().contains("101 are too many for one call; up to 100"), "{error}");
    assert_eq!(user.done("webhook.count", json!([])).await, 0);
    assert_eq!(outcomes(&imported(&user, &lines[..100], json!({})).await), ["created"; 100]);
    assert_eq!(outcomes(&imported(&user, &[], json!({})).await), [""; 0]);
    // Long lines are read; what is too long keeps no other from being made.
    let long =
        |bytes: usize| json!({"webhook": {"topics": "z:z", "url": "http://127.0.0.1:9/", "name": "n".repeat(bytes)}});
    let items = imported(&user, &[long(100_000), long(600_000), line(100)], json!({})).await;
    assert_eq!(outcomes(&items), ["failed", "failed", "created"]);
    let told = |place: usize| items[place]["fault"]["message"].to_string();
    assert!(told(0).contains("name: ") && told(1).contains("up to 524288 are read"), "{items:?}");

    assert_eq!(exported(&user, json!({})).await.len(), 100, "a page, unless more is asked for");
    let mut seen = Vec::new();
    loop {
        let after = seen.last().cloned().unwrap_or(json!(0));
        let page = exported(&user, json!({"after_webhook_id": after, "limit": 40})).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|line| line["webhook_id"].clone()));
    }
    assert_eq!(seen, (1..=101).map(Value::from).collect::<Vec<_>>());
    let of_topic = exported(&user, json!({"topic": "a:b7", "is_active": 1})).await;
    assert_eq!(of_topic.len(), 1);
    assert_eq!(exported(&user, json!({"is_active": 0})).await.len(), 0);
    user.refused("webhook.export", json!([{"limit": 0}]), 111).await;
    user.refused("webhook.export", json!([{"colour": 1}]), 111).await;
}

#[tokio::test]
async fn an_import_needs_who_may_create_and_leaves_the_same_entries() {
    let server = TestServer::start().await;
    let admin = User::demo(&server);
    let line = json!({"webhook": {"topics": "a:b", "url": "http://127.0.0.1:9/", "secret_key": SECRET}});
    for permissions in ["webhook_read", "event_write", "operator"] {
        let user = User::new(&server, permissions, "demo", permissions);
        user.refused("webhook.import", json!([[line]]), 2).await;
    }
    User::new(&server, "pub", "demo", "event_write").refused("webhook.export", json!([]), 2).await;
    // Who may only write can import, and see of no other what it is.
    let writer = User::new(&server, "wes", "demo", "webhook_write");
    let items = imported(&writer, std::slice::from_ref(&line), json!({})).await;
    assert_eq!(outcomes(&items), ["created"]);
    admin.webhook(line["webhook"].clone()).await;
    let entries = admin.done("audit.list", json!([{"kind": "webhook"}])).await;
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!([&entries[0]["user"], &entries[0]["request_id"]], [&json!("wes"), &json!(REQUEST_ID)]);
    let (mut imported, mut created) = (entries[0]["after"].clone(), entries[1]["after"].clone());
    assert_eq!(imported.as_object().map(|it| it.len()), created.as_object().map(|it| it.len()));
    for entry in [&mut imported, &mut created] {
        // Fingerprints are of the webhook, too.
        entry.as_object_mut().unwrap().retain(|_, value| !value.to_string().contains("fingerprint"));
    }
    assert_eq!(imported, created);
    assert!(!Value::from(entries.clone()).to_string().contains("C2FVsBQI"));
}
