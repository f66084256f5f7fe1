//! Tokens: keys with fewer rights, and labels by which they are confined. A walk over every method,
//! every operation of the dialects and what is told over WebSockets: a token sees and changes
//! nothing beyond its reach.

use serde_json::{Value, json};

use super::{ALL, PATHS, User, id_of, rows, webhook_with};
use crate::common::manual::Hand;
use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, Receiver, Start, TestServer, basic, openapi};

/// Makes a token, and returns it and somebody who calls with it.
async fn token<'a>(maker: &User<'a>, data: Value) -> (Value, User<'a>) {
    let made = maker.done("token.create", json!([data])).await;
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("tht_") && key.len() == 68, "{key}");
    (made["token"].clone(), User { server: maker.server, authorization: format!("Bearer {key}") })
}

fn bearer(user: &User<'_>) -> String {
    user.authorization.trim_start_matches("Bearer ").to_owned()
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(id_of).collect()
}

/// A token of one label, for webhooks.
fn of_customer(number: &str) -> Value {
    json!({"name": "portal", "permissions": ["webhook_read", "webhook_write"], "label": {"customer": number}})
}

#[tokio::test]
async fn a_token_does_what_it_may_and_its_user_may() {
    let server = TestServer::start().await;
    let ann = User::new(&server, "ann", "acme", "webhook_read,event_write");
    let admin = User::new(&server, "boss", "acme", "admin");
    let data = json!({"name": "ci", "permissions": ["event_write"]});
    let (made, publisher) = token(&ann, data).await;
    assert_eq!([&made["name"], &made["user"], &made["expires_at"]], [&json!("ci"), &json!("ann"), &Value::Null]);
    assert_eq!([&made["webhooks"], &made["label"]], [&Value::Null, &Value::Null]);
    publisher.done("event.publish", json!(["order:created", {}])).await;
    publisher.refused("webhook.list", json!([]), 2).await;
    // In every place of a key.
    let key = bearer(&publisher);
    for (at, _) in PATHS {
        assert!(server.rpc_at(at, &[], "event.publish", json!([key, "order:created", {}])).await.is_ok(), "{at}");
    }
    let in_basic = User { server: &server, authorization: basic("ann", &key) };
    in_basic.done("event.publish", json!(["order:created", {}])).await;
    let anothers = User { server: &server, authorization: basic("boss", &key) };
    assert_eq!(anothers.call("event.publish", json!(["order:created", {}])).await.unwrap_err()["code"], 2);
    // It opens nothing that lives longer than itself, and no others of its kind.
    for (method, params) in [("login", json!(["ann", key])), ("startSession", json!([]))] {
        let error = publisher.ask("/", method, params).await.unwrap_err();
        assert!(error["message"].as_str().unwrap().contains("opens no session"), "{method}: {error}");
    }
    for (method, args) in
        [("token.create", json!([of_customer("42")])), ("token.list", json!([])), ("token.revoke", json!([1]))]
    {
        publisher.refused(method, args, 2).await;
    }
    // As soon as its user may not, it may not.
    admin.done("user.update", json!(["ann", {"permissions": ["webhook_read"]}])).await;
    publisher.refused("event.publish", json!(["order:created", {}]), 2).await;
    admin.done("user.update", json!(["ann", {"permissions": ["admin"]}])).await;
    publisher.done("event.publish", json!(["order:created", {}])).await;
    publisher.refused("user.list", json!([]), 2).await;
    admin.done("user.disable", json!(["ann"])).await;
    assert_eq!(publisher.call("event.publish", json!(["order:created", {}])).await.unwrap_err()["code"], 119);
    admin.done("user.enable", json!(["ann"])).await;
    publisher.done("event.publish", json!(["order:created", {}])).await;
    admin.done("user.revoke", json!(["ann"])).await;
    assert_eq!(publisher.call("event.publish", json!(["order:created", {}])).await.unwrap_err()["code"], 2);
    assert_eq!(rows(&server, "token"), 0);
}

#[tokio::test]
async fn tokens_are_listed_and_taken_back_and_the_audit_log_knows() {
    let server = TestServer::start().await;
    let (ann, bob) = (User::new(&server, "ann", "acme", ALL), User::new(&server, "bob", "acme", ALL));
    let admin = User::new(&server, "boss", "acme", "admin");
    let stranger = User::new(&server, "stranger", "globex", "admin");
    let (first, with_first) =
        token(&ann, json!({"name": "one", "permissions": ["webhook_write", "webhook_read"]})).await;
    let (second, _) = token(&bob, json!({"name": "two", "permissions": ["webhook_read"]})).await;
    let names = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(ann.done("token.list", json!([])).await), ["one"]);
    assert_eq!(names(admin.done("token.list", json!([])).await), ["one", "two"]);
    assert_eq!(names(admin.done("token.list", json!([{"sort": "-token_id", "limit": 1}])).await), ["two"]);
    let behind = json!([{"after_token_id": first["token_id"]}]);
    assert_eq!(names(admin.done("token.list", behind).await), ["two"]);
    assert_eq!(names(stranger.done("token.list", json!([])).await), [""; 0]);
    let listed = admin.done("token.list", json!([])).await.to_string();
    assert!(!listed.contains("tht_"), "{listed}");

    let webhook = id_of(&with_first.webhook(webhook_with(json!({}))).await);
    for (user, id) in [(&ann, &second["token_id"]), (&stranger, &first["token_id"]), (&admin, &json!(999))] {
        user.refused("token.revoke", json!([id]), 131).await;
    }
    assert_eq!(ann.done("token.revoke", json!([first["token_id"]])).await, true);
    assert_eq!(with_first.call("webhook.list", json!([])).await.unwrap_err()["code"], 2);
    assert_eq!(server.rpc("webhook.list", json!([bearer(&with_first)])).await.unwrap_err()["code"], 5);
    ann.refused("token.revoke", json!([first["token_id"]]), 131).await;
    admin.done("token.revoke", json!([second["token_id"]])).await;

    let found = admin.done("audit.list", json!([])).await;
    let told: Vec<_> = found.as_array().unwrap().iter().filter(|entry| entry["user"] != Value::Null).collect();
    let expected = [
        ("token.create", "ann", json!("one"), Value::Null),
        ("token.create", "bob", json!("two"), Value::Null),
        ("webhook.create", "ann", json!(webhook.to_string()), first["token_id"].clone()),
        ("token.revoke", "ann", json!("one"), Value::Null),
        ("token.revoke", "boss", json!("two"), Value::Null),
    ];
    assert_eq!(told.len(), expected.len(), "{found}");
    for (entry, (action, user, id, by)) in told.into_iter().zip(expected) {
        assert_eq!([&entry["action"], &entry["user"], &entry["id"]], [&json!(action), &json!(user), &id], "{entry}");
        assert_eq!(entry["token_id"], by, "{entry}");
    }
    let created = &found.as_array().unwrap().iter().find(|entry| entry["action"] == "token.create").unwrap()["after"];
    assert_eq!(created["permissions"], json!(["webhook_read", "webhook_write"]));
    assert!(created["key"].as_str().unwrap().starts_with("hmac:") || !found.to_string().contains("tht_"), "{created}");
}

#[tokio::test]
async fn what_makes_no_token_is_said() {
    let server = Start::default().flag("tokens_max", "2").go().await;
    let ann = User::new(&server, "ann", "acme", "webhook_read,event_write");
    let theirs = User::demo(&server).webhook(webhook_with(json!({}))).await;
    let with = |more: Value| {
        let mut data = json!({"name": "x", "permissions": ["webhook_read"]});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([data])
    };
    for (args, field) in [
        (with(json!({"name": ""})), "name"),
        (with(json!({"name": "x".repeat(201)})), "name"),
        (with(json!({"permissions": []})), "permissions"),
        (with(json!({"permissions": ["root"]})), "permissions"),
        (with(json!({"permissions": ["webhook_write"]})), "permissions"),
        (with(json!({"permissions": ["event_write"], "label": {"a": "b"}})), "permissions"),
        (with(json!({"permissions": ["event_write"], "webhooks": [1]})), "permissions"),
        (with(json!({"label": {}})), "label"),
        (with(json!({"label": {"a": "b", "c": "d"}})), "label"),
        (with(json!({"label": {"a b": "c"}})), "label"),
        (with(json!({"label": {"a": ""}})), "label"),
        (with(json!({"webhooks": []})), "webhooks"),
        (with(json!({"webhooks": [id_of(&theirs)]})), "webhooks"),
        (with(json!({"webhooks": [1], "label": {"a": "b"}})), "label"),
        (with(json!({"ttl_s": 0})), "ttl_s"),
        (with(json!({"ttl_s": 315_360_001})), "ttl_s"),
        (with(json!({"colour": 1})), "colour"),
    ] {
        ann.refused_field("token.create", args, 132, field).await;
    }
    let admin = User::new(&server, "boss", "acme", "admin");
    for held in ["admin", "operator"] {
        admin.refused_field("token.create", with(json!({"permissions": [held]})), 132, "permissions").await;
    }
    for name in ["one", "two"] {
        token(&ann, json!({"name": name, "permissions": ["webhook_read"]})).await;
    }
    let error = admin.refused("token.create", with(json!({})), 132).await;
    assert!(error["message"].as_str().unwrap().contains("2 tokens"), "{error}");
    assert_eq!(rows(&server, "token"), 2);
}

#[tokio::test]
async fn a_token_with_an_end_ends_and_goes() {
    let (server, hand): (TestServer, Hand) = Start::default().flag("tokens_max", "1").manual().await;
    let demo = User::demo(&server);
    let (made, guest) = token(&demo, json!({"name": "hour", "permissions": ["webhook_read"], "ttl_s": 3_600})).await;
    assert!(made["expires_at"].is_string(), "{made}");
    guest.done("webhook.list", json!([])).await;
    hand.pass(3_599);
    guest.done("webhook.list", json!([])).await;
    hand.pass(1);
    assert_eq!(guest.call("webhook.list", json!([])).await.unwrap_err()["code"], 2);
    // It takes no place, and is swept out.
    token(&demo, json!({"name": "next", "permissions": ["webhook_read"]})).await;
    hand.pass(86_400);
    server.until(async || (rows(&server, "token") == 1).then_some(())).await;
}

#[tokio::test]
async fn events_with_labels_reach_webhooks_whose_labels_they_have() {
    let server = TestServer::start().await;
    let demo = User::demo(&server);
    let mut webhooks = Vec::new();
    for labels in
        [json!({}), json!({"customer": "42"}), json!({"customer": "43"}), json!({"customer": "42", "env": "live"})]
    {
        let made = demo.webhook(webhook_with(json!({"labels": labels}))).await;
        assert_eq!(made["labels"], labels);
        webhooks.push(id_of(&made));
    }
    let [all, of_42, of_43, live] = webhooks[..] else { panic!("{webhooks:?}") };
    let reached = |receipt: &Value| -> Vec<i64> {
        receipt["deliveries"].as_array().unwrap().iter().map(|one| one["webhook_id"].as_i64().unwrap()).collect()
    };
    for (labels, expected) in [
        (Value::Null, vec![all, of_42, of_43, live]),
        (json!({}), vec![all]),
        (json!({"customer": "42"}), vec![all, of_42]),
        (json!({"customer": "43", "env": "live"}), vec![all, of_43]),
        (json!({"customer": "42", "env": "live", "x": "y"}), vec![all, of_42, live]),
        (json!({"env": "live"}), vec![all]),
    ] {
        let options = if labels.is_null() { json!({}) } else { json!({ "labels": labels }) };
        let receipt = demo.done("event.publish", json!(["order:created", {}, options])).await;
        assert_eq!(reached(&receipt), expected, "{labels}");
        let event = demo.done("event.get", json!([receipt["event_id"]])).await;
        assert_eq!(event["labels"], labels);
        let listed = demo.done("event.list", json!([{"sort": "-event_id", "limit": 1}])).await;
        assert_eq!(listed[0]["labels"], labels);
        let args = if labels.is_null() { json!(["order:created"]) } else { json!(["order:created", {}, labels]) };
        let explained = demo.done("event.explain", args).await;
        for one in explained.as_array().unwrap() {
            let is_reached = expected.contains(&one["webhook_id"].as_i64().unwrap());
            let reach = if is_reached { "delivered" } else { "labels_differ" };
            assert_eq!([&one["is_reached"], &one["reach"]], [&json!(is_reached), &json!(reach)], "{labels}: {one}");
        }
    }
    // Its key is for the same event, so with the same labels.
    let publish = async |labels: Value| {
        demo.call("event.publish", json!(["order:created", {}, {"idempotency_key": "k", "labels": labels}])).await
    };
    let first = publish(json!({"customer": "42"})).await.unwrap();
    assert_eq!(publish(json!({"customer": "42"})).await.unwrap(), first);
    assert_eq!(publish(json!({"customer": "43"})).await.unwrap_err()["code"], 108);
    for labels in [json!({"a b": "c"}), json!({"a": ""}), json!({"a": "x".repeat(129)})] {
        let args = json!(["order:created", {}, {"labels": labels}]);
        demo.refused_field("event.publish", args, 107, "labels").await;
    }
    let many: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
    demo.refused_field("webhook.update", json!([all, {"labels": many}]), 101, "labels").await;

    // A backfill brings nobody what was for others.
    let mine = id_of(&demo.webhook(webhook_with(json!({"labels": {"customer": "43"}}))).await);
    demo.done("webhook.backfill", json!([mine, {"all": true}])).await;
    let is_filled = async || {
        let is_done = demo.done("job.list", json!([])).await[0]["state"] == "done";
        let numbered = demo.done("webhook.get", json!([mine])).await["increment_id"].as_i64().unwrap();
        is_done.then_some(numbered)
    };
    // The first, which had none, and the one for customer 43.
    assert_eq!(server.until(is_filled).await, 2);
    let listed = demo.done("webhook.list", json!([{"labels": {"customer": "42"}}])).await;
    assert_eq!(ids(&listed), [of_42, live]);
    assert_eq!(demo.done("webhook.count", json!([{"labels": {"customer": "42", "env": "live"}}])).await, 1);
}

#[tokio::test]
async fn what_is_told_of_a_webhook_is_for_those_who_may_know() {
    let server = TestServer::start().await;
    let demo = User::demo(&server);
    let gone = Receiver::start(|_, _| crate::common::Reply::status(410)).await;
    let operational = |labels: Value| webhook_with(json!({"topics": "tallyhook:*", "labels": labels}));
    let all = id_of(&demo.webhook(operational(json!({}))).await);
    let own = id_of(&demo.webhook(operational(json!({"customer": "42"}))).await);
    let other = id_of(&demo.webhook(operational(json!({"customer": "43"}))).await);
    let told = async |id: i64| demo.done("webhook.get", json!([id])).await["increment_id"].as_i64().unwrap();
    for (labels, before) in [(json!({"customer": "42"}), 0), (json!({}), 1)] {
        let data = webhook_with(json!({"url": gone.url(), "labels": labels, "topics": "order:created"}));
        let broken = id_of(&demo.webhook(data).await);
        server.publish("order:created", json!({})).await;
        let is_disabled = async || {
            let webhook = demo.done("webhook.get", json!([broken])).await;
            (webhook["disabled"] == true).then_some(())
        };
        server.until(is_disabled).await;
        server.until(async || (told(all).await > before).then_some(())).await;
        demo.done("webhook.delete", json!([broken])).await;
    }
    // What happened to the webhook without labels is for those without.
    let notices =
        |number: i64| server.place.number(&format!("SELECT count(*) FROM delivery WHERE webhook_id = {number}"));
    assert!(told(own).await >= 1 && told(own).await < told(all).await, "{} {}", notices(own), notices(all));
    assert_eq!(told(other).await, 0);
}

/// What belongs to others, and is beyond the reach of the token.
struct Beyond {
    webhook: i64,
    event: i64,
    job: i64,
}

/// A server with a webhook that two tokens do not reach, and those tokens with a webhook each.
async fn furnished(server: &TestServer, receiver: &Receiver) -> Beyond {
    let demo = User::demo(server);
    let url = format!("{}/beyond-reach", receiver.url());
    let data = json!({"name": "beyond-reach", "url": url, "labels": {"customer": "43"}});
    let webhook = id_of(&demo.webhook(webhook_with(data)).await);
    let receipt = server.publish("order:created", json!({"note": "beyond-reach"})).await;
    server.settled(webhook).await;
    let replay = demo.done("webhook.replay", json!([webhook, {"all": true, "state": "cancelled"}])).await;
    let job = replay["job_id"].as_i64().unwrap();
    let is_done = async || demo.done("job.get", json!([job])).await["state"] == "done";
    server.until(async || is_done().await.then_some(())).await;
    // In PostgreSQL it is written a little later.
    let sql = format!("SELECT settled_through FROM webhook WHERE webhook_id = {webhook}");
    server.until(async || (server.place.number(&sql) == 1).then_some(())).await;
    Beyond { webhook, event: receipt["event_id"].as_i64().unwrap(), job }
}

/// All that is beyond, row by row.
fn all_of(server: &TestServer, beyond: &Beyond) -> Vec<String> {
    let of_webhook = format!("webhook_id = {}", beyond.webhook);
    let mut all = Vec::new();
    for (table, condition) in [
        ("webhook", of_webhook.as_str()),
        ("delivery", &of_webhook),
        ("attempt", &of_webhook),
        ("job", &of_webhook),
        ("event", "topic = 'order:created'"),
        ("topic", "1 = 1"),
        ("\"user\"", "1 = 1"),
        ("token", "1 = 1"),
    ] {
        let mut found = server.place.rows(&format!("SELECT * FROM {table} WHERE {condition}"));
        found.sort();
        all.extend(found.iter().map(|row| format!("{table}: {}", row.join(", "))));
    }
    all
}

/// For every resource method, how one may try to get beyond; and the fault, unless it works on what
/// is within reach. A method that is new has to be told of here.
fn tries(method: &str, beyond: &Beyond) -> Vec<(Value, Option<i64>)> {
    let Beyond { webhook: id, event, job } = beyond;
    let beyond_it = |args: Value| vec![(args, Some(103))];
    let refused = |args: Value| vec![(args, Some(2))];
    match method {
        "webhook.list" => vec![
            (json!([]), None),
            (json!([{"sort": "url"}]), None),
            (json!([{"sort": "-webhook_id", "after_webhook_id": id + 1}]), None),
            (json!([{"labels": {"customer": "43"}}]), None),
        ],
        "webhook.count" => vec![(json!([]), None), (json!([{"labels": {"customer": "43"}}]), None)],
        "webhook.create" => vec![],
        "webhook.export" => vec![(json!([]), None), (json!([{"with_secrets": 1, "after_webhook_id": id - 1}]), None)],
        // One may be like it, and is not told so.
        "webhook.import" => vec![],
        "webhook.update" => beyond_it(json!([id, {"name": "mine"}])),
        "webhook.update_status" => vec![
            (json!([{"webhook_id": id, "status": 0}]), Some(100)),
            (json!([{"status": 0}]), None),
            (json!(["order:*", 0]), None),
            (json!([{"status": 1}]), None),
        ],
        "webhook.get"
        | "webhook.stats"
        | "webhook.enable"
        | "webhook.pause"
        | "webhook.resume"
        | "webhook.delete"
        | "webhook.rotate_secret"
        | "webhook.test"
        | "delivery.list"
        | "delivery.count"
        | "delivery.pull" => beyond_it(json!([id])),
        "webhook.replay" | "webhook.backfill" => beyond_it(json!([id, {"all": true}])),
        "delivery.retry_many" => {
            vec![(json!([{"webhook_id": id, "state": "delivered"}]), Some(103)), (json!([{"all": true}]), Some(2))]
        }
        "delivery.attempts" | "delivery.get" | "delivery.retry" | "delivery.cancel" => beyond_it(json!([id, 1])),
        "delivery.attempt" => beyond_it(json!([id, 1, 1])),
        "job.list" => refused(json!([])),
        "job.get" | "job.cancel" => vec![(json!([job]), Some(123))],
        "event.publish" => refused(json!(["order:created", {}])),
        "event.publish_many" => refused(json!([[{"topic": "order:created", "message": {}}]])),
        "event.list" => vec![
            (json!([]), Some(2)),
            (json!([{"idempotency_key": "k"}]), Some(2)),
            (json!([{"pointer": "/note", "value": "beyond-reach"}]), Some(2)),
        ],
        "event.count" => refused(json!([])),
        "event.get" | "event.erase" => refused(json!([event])),
        "event.explain" => vec![(json!(["order:created"]), None), (json!(["order:created", {}]), None)],
        "topic.list" | "topic.count" => vec![(json!([]), None)],
        "topic.register" | "topic.remove" => refused(json!(["order:created"])),
        "topic.update" => refused(json!(["order:created", {"deprecated": 1}])),
        // Over a WebSocket only, below.
        "delivery.subscribe" | "delivery.unsubscribe" | "event.unsubscribe" => vec![(json!([id]), Some(4))],
        "event.subscribe" => vec![(json!(["order:created"]), Some(4))],
        "user.update" => refused(json!(["demo", {"permissions": ["admin"]}])),
        "user.create" => refused(json!(["eve", {"permissions": ["webhook_read"]}])),
        "merchant.list" => refused(json!([])),
        "merchant.create" => refused(json!(["eve", {"user": "eve.first"}])),
        "merchant.update" => refused(json!(["demo", {"quotas": {"webhooks": 5}}])),
        "merchant.get" | "merchant.pause" | "merchant.resume" => refused(json!(["demo"])),
        "token.create" => refused(json!([of_customer("43")])),
        "token.revoke" => refused(json!([1])),
        "audit.list" | "audit.count" | "node.list" | "user.list" | "token.list" => refused(json!([])),
        method if method.starts_with("user.") => refused(json!(["demo"])),
        _ => panic!("{method} is new: say how it might lead beyond the reach of a token"),
    }
}

/// Every resource method that the server describes.
async fn methods(user: &User<'_>) -> Vec<String> {
    let resources = user.ask("/", "resources", json!([null])).await.unwrap();
    let paths = resources.as_array().unwrap().iter().flat_map(|resource| resource["methods"].as_array().unwrap());
    paths.map(|method| method["path"].as_str().unwrap().to_owned()).collect()
}

/// The two kinds of confined tokens, each with a webhook within its reach.
async fn confined<'a>(server: &'a TestServer) -> [(User<'a>, i64); 2] {
    let demo = User::demo(server);
    let (_, by_label) = token(&demo, of_customer("42")).await;
    let labelled = id_of(&by_label.webhook(webhook_with(json!({"is_active": 0}))).await);
    let plain = id_of(&demo.webhook(webhook_with(json!({"is_active": 0}))).await);
    let permissions = ["webhook_read", "webhook_write"];
    let (_, by_id) = token(&demo, json!({"name": "one", "permissions": permissions, "webhooks": [plain]})).await;
    [(by_label, labelled), (by_id, plain)]
}

#[tokio::test]
async fn a_confined_token_finds_nothing_beyond_by_any_method() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    let beyond = furnished(&server, &receiver).await;
    let tokens = confined(&server).await;
    let before = all_of(&server, &beyond);
    assert!(before.len() >= 7, "{before:?}");
    let mut attempts = 0;
    for (user, own) in &tokens {
        for method in methods(user).await {
            for (args, fault) in tries(&method, &beyond) {
                let told = match fault {
                    Some(number) => user.refused(&method, args.clone(), number).await,
                    None => user.done(&method, args.clone()).await,
                };
                let told = told.to_string();
                assert!(!told.contains("beyond-reach"), "{method} {args}: {told}");
                if fault.is_none() {
                    let theirs = format!("\"webhook_id\":{}", beyond.webhook);
                    assert!(!told.contains(&theirs), "{method} {args}: {told}");
                }
                attempts += 1;
                assert_eq!(all_of(&server, &beyond), before, "{method} {args}");
            }
        }
        assert_eq!(ids(&user.done("webhook.list", json!([])).await), [*own]);
        assert_eq!(ids(&user.done("webhook.list", json!([{"sort": "-url"}])).await), [*own]);
        assert_eq!(user.done("webhook.count", json!([])).await, 1);
        // As if there were none.
        let absent = user.call("webhook.get", json!([999])).await.unwrap_err()["message"].clone();
        let error = user.call("webhook.get", json!([beyond.webhook])).await.unwrap_err()["message"].clone();
        let same = error.as_str().unwrap().replace(&beyond.webhook.to_string(), "999");
        assert_eq!(absent, same.as_str());
    }
    assert!(attempts >= 100, "{attempts}");
    assert_eq!(receiver.so_far().len(), 1);
}

#[tokio::test]
async fn a_confined_token_does_all_within_its_reach() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    furnished(&server, &receiver).await;
    let [(user, own), (by_id, plain)] = confined(&server).await;
    let get = async |id: i64| user.done("webhook.get", json!([id])).await;
    assert_eq!(get(own).await["labels"], json!({"customer": "42"}));
    // It can't get out.
    let changed = user.done("webhook.update", json!([own, {"labels": {"env": "live"}, "is_active": 1}])).await;
    assert_eq!(changed["labels"], json!({"customer": "42", "env": "live"}));
    user.refused_field("webhook.update", json!([own, {"labels": {"customer": "43"}}]), 101, "labels").await;
    user.refused_field("webhook.create", json!([webhook_with(json!({"labels": {"customer": "43"}}))]), 101, "labels")
        .await;
    user.done("webhook.update", json!([own, {"url": receiver.url(), "labels": {}}])).await;
    assert_eq!(get(own).await["labels"], json!({"customer": "42"}));
    // Nor is it told what is like what it brings.
    let line = json!([[{"webhook": webhook_with(json!({"url": format!("{}/beyond-reach", receiver.url())}))}]]);
    let imported = user.done("webhook.import", line.clone()).await;
    assert_eq!([&imported[0]["outcome"], &imported[0]["same_as"]], [&json!("created"), &json!([])], "{imported}");
    let brought = imported[0]["webhook_id"].as_i64().unwrap();
    assert_eq!(get(brought).await["labels"], json!({"customer": "42"}));
    user.done("webhook.delete", json!([brought])).await;
    by_id.refused("webhook.import", line, 2).await;
    by_id.refused("webhook.create", json!([webhook_with(json!({}))]), 2).await;
    // Labels keep what is for others from a webhook, so who reaches it by its id leaves them alone.
    for labels in [json!({}), json!({"customer": "43"})] {
        by_id.refused_field("webhook.update", json!([plain, {"labels": labels}]), 101, "labels").await;
    }
    by_id.done("webhook.update", json!([plain, {"url": receiver.url(), "is_active": 1}])).await;

    let demo = User::demo(&server);
    let receipt = demo.done("event.publish", json!(["order:created", {}, {"labels": {"customer": "42"}}])).await;
    let reached: Vec<_> = receipt["deliveries"].as_array().unwrap().iter().map(|one| &one["webhook_id"]).collect();
    assert_eq!(reached, [own, plain]);
    for (user, id) in [(&user, own), (&by_id, plain)] {
        server.settled(id).await;
        assert_eq!(user.done("delivery.list", json!([id])).await[0]["state"], "delivered");
        assert_eq!(user.done("delivery.attempts", json!([id, 1])).await[0]["status_code"], 204);
        // To forget one would take the event from the others, too.
        let path = format!("/v1/webhooks/subscriptions/{id}/events/1");
        let headers = [("authorization", user.authorization.as_str())];
        let (status, _, text) = server.exchange("DELETE", &path, &headers, "").await;
        assert_eq!(status, 403, "{text}");
        demo.done("event.get", json!([receipt["event_id"]])).await;
        assert_eq!(user.done("delivery.pull", json!([id])).await[0]["increment_id"], 1);
        let job = user.done("webhook.replay", json!([id, {"all": true}])).await["job_id"].clone();
        let is_done = async || (user.done("job.get", json!([job])).await["state"] == "done").then_some(());
        server.until(is_done).await;
        assert_eq!(user.done("job.cancel", json!([job])).await["state"], "done");
        assert_eq!(user.done("webhook.test", json!([id])).await["delivery"]["state"], "delivered");
        user.done("webhook.rotate_secret", json!([id])).await;
        user.done("webhook.pause", json!([id])).await;
        user.done("webhook.resume", json!([id])).await;
        user.done("webhook.delete", json!([id])).await;
        assert_eq!(user.done("webhook.list", json!([])).await, json!([]));
    }
}

#[tokio::test]
async fn a_confined_token_is_not_told_how_much_there_is() {
    let server = Start::default().flag("webhooks_max", "2").go().await;
    let demo = User::demo(&server);
    for _ in 0..2 {
        demo.webhook(webhook_with(json!({}))).await;
    }
    let (_, user) = token(&demo, of_customer("42")).await;
    let error = user.refused("webhook.create", json!([webhook_with(json!({}))]), 106).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("as many webhooks as it may") && !message.contains('2'), "{message}");
    let imported = user.done("webhook.import", json!([[{"webhook": webhook_with(json!({}))}], {"dry_run": 1}])).await;
    assert_eq!(imported[0]["fault"]["message"], message, "{imported}");
}

/// Every operation of every dialect, with the id of what is beyond in each place for one.
#[tokio::test]
async fn a_confined_token_finds_nothing_beyond_in_any_dialect() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    server.call("topic.register", json!(["order:created", {"event_type": 7}])).await.unwrap();
    let beyond = furnished(&server, &receiver).await;
    let tokens = confined(&server).await;
    let before = all_of(&server, &beyond);
    let (mut operations, mut answered) = (0, 0);
    for (user, _) in &tokens {
        for dialect in ["babel", "3dcart", "ultracart"] {
            let (_, _, document) = server.exchange("GET", &format!("/openapi/{dialect}.json"), &[], "").await;
            let document: Value = serde_json::from_str(&document).unwrap();
            assert!(openapi::operations(&document).count() >= 5, "{dialect}");
            for (path, methods) in document["paths"].as_object().unwrap() {
                for method in methods.as_object().unwrap().keys() {
                    let filled = path.split('/').map(|part| match part.starts_with('{') {
                        true => beyond.webhook.to_string(),
                        false => part.to_owned(),
                    });
                    let path = filled.collect::<Vec<_>>().join("/");
                    let headers =
                        [("authorization", user.authorization.as_str()), ("content-type", "application/json")];
                    let method = method.to_ascii_uppercase();
                    let bodies = if method == "GET" || method == "DELETE" { [""].as_slice() } else { &["{}", "[]"] };
                    for body in bodies {
                        let (status, _, text) = server.exchange(&method, &path, &headers, body).await;
                        operations += 1;
                        answered += usize::from(status < 300);
                        assert!(!text.contains("beyond-reach"), "{dialect} {method} {path}: {status} {text}");
                        assert_eq!(all_of(&server, &beyond), before, "{dialect} {method} {path} {body}");
                    }
                }
            }
        }
    }
    // It gets at its own, so it is let in.
    assert!(operations >= 60 && answered >= 6, "{operations} {answered}");
    assert_eq!(receiver.so_far().len(), 1);
}

#[tokio::test]
async fn a_confined_token_is_told_of_its_own() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    let beyond = furnished(&server, &receiver).await;
    let [(user, own), (by_id, plain)] = confined(&server).await;
    for (user, id) in [(&user, own), (&by_id, plain)] {
        let headers = [("authorization", user.authorization.as_str())];
        let mut socket = Socket::open(&server.url(), "/", &headers).await.unwrap();
        let code = |told: Result<Value, Value>| told.unwrap_err()["code"].as_i64().unwrap();
        assert_eq!(code(socket.call("delivery.subscribe", json!([null])).await), 2);
        assert_eq!(code(socket.call("delivery.subscribe", json!([null, beyond.webhook])).await), 103);
        assert_eq!(code(socket.call("event.subscribe", json!([null])).await), 2);
        socket.call("delivery.subscribe", json!([null, id])).await.unwrap();
        user.done("webhook.update", json!([id, {"url": receiver.url(), "is_active": 1}])).await;
        server.publish("order:created", json!({})).await;
        assert_eq!(socket.news().await["webhook_id"], id);
        user.done("webhook.update", json!([id, {"is_active": 0}])).await;
    }
    // Whose label is taken away is told no more.
    let headers = [("authorization", user.authorization.as_str())];
    let mut socket = Socket::open(&server.url(), "/", &headers).await.unwrap();
    socket.call("delivery.subscribe", json!([null, own])).await.unwrap();
    let demo = User { server: &server, authorization: basic("demo", DEMO_KEY) };
    demo.done("webhook.update", json!([own, {"labels": {}, "is_active": 1}])).await;
    server.publish("order:created", json!({})).await;
    let (_, _, told) = socket.told().await;
    assert_eq!(told.unwrap_err()["code"], 103);
}
