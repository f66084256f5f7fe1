//! Merchants by calls: operators make, change and pause them, and nobody else.

use serde_json::{Value, json};

use super::{ALL, User, id_of, webhook_data, webhook_with};
use crate::common::{Receiver, Start, TestServer};

/// Permissions of somebody who has both an own merchant and the server.
const EVERYTHING: &str = "webhook_read,webhook_write,event_write,admin,operator";

fn codes(merchants: &Value) -> Vec<&str> {
    merchants.as_array().unwrap().iter().map(|merchant| merchant["merchant"].as_str().unwrap()).collect()
}

/// As they are shown, with these two.
fn quotas(webhooks: Value, calls: Value) -> Value {
    json!({"webhooks": webhooks, "pending_deliveries": null, "events_per_day": null, "calls_per_second": calls})
}

/// What the audit log has of a merchant itself: the actions, by whom, and what is since.
async fn audited(admin: &User<'_>, code: &str) -> Vec<(String, Value, Value)> {
    let found = admin.done("audit.list", json!([{"kind": "merchant", "id": code}])).await;
    let entry =
        |entry: &Value| (entry["action"].as_str().unwrap().to_owned(), entry["user"].clone(), entry["after"].clone());
    found.as_array().unwrap().iter().map(entry).collect()
}

#[tokio::test]
async fn an_operator_makes_lists_and_changes_merchants() {
    let server = TestServer::start().await;
    let operator = User::new(&server, "boss", "ops", "operator");
    let made = operator.done("merchant.create", json!(["acme"])).await;
    assert_eq!([&made["merchant"]["merchant"], &made["user"]], [&json!("acme"), &Value::Null]);
    assert_eq!(made["merchant"]["quotas"], quotas(Value::Null, Value::Null));
    let data = json!({"quotas": {"webhooks": 2}, "user": "ann"});
    let made = operator.done("merchant.create", json!(["globex", data])).await;
    assert_eq!(made["merchant"]["quotas"]["webhooks"], 2);
    let (user, key) = (&made["user"]["user"], made["user"]["api_key"].as_str().unwrap());
    assert_eq!([&user["merchant"], &user["permissions"]], [&json!("globex"), &json!(["admin"])]);
    server.login_as("ann", key).await;
    // A user of one that has none yet.
    operator.done("user.create", json!(["bob", {"permissions": ["admin"], "merchant": "acme"}])).await;

    assert_eq!(codes(&operator.done("merchant.list", json!([])).await), ["demo", "ops", "acme", "globex"]);
    let last = operator.done("merchant.list", json!([{"sort": "-merchant_id", "limit": 1}])).await;
    assert_eq!(last, json!([made["merchant"]]));
    let behind = json!([{"after_merchant_id": last[0]["merchant_id"].as_i64().unwrap() - 1}]);
    assert_eq!(operator.done("merchant.list", behind).await, last);

    let updated = operator.done("merchant.update", json!(["globex", {"quotas": {"calls_per_second": 50}}])).await;
    assert_eq!(updated["quotas"], quotas(json!(2), json!(50)), "what is left out stays");
    let updated = operator.done("merchant.update", json!(["globex", {"quotas": {"webhooks": null}}])).await;
    assert_eq!(updated["quotas"], quotas(Value::Null, json!(50)));
    operator.done("merchant.update", json!(["globex", {"quotas": {}}])).await;
    let shown = operator.done("merchant.get", json!(["globex"])).await;
    assert_eq!(
        [&shown["quotas"], &shown["used"]],
        [&updated["quotas"], &json!({"webhooks": 0, "users": 1, "pending_deliveries": 0, "events_today": null})]
    );

    let admin = User { server: &server, authorization: crate::common::basic("ann", key) };
    let expected = [
        ("merchant.create", quotas(json!(2), Value::Null)),
        ("merchant.update", json!({"calls_per_second": 50})),
        ("merchant.update", json!({"webhooks": null})),
    ];
    let expected = expected.map(|(action, after)| (action.to_owned(), json!("boss"), after));
    assert_eq!(audited(&admin, "globex").await, expected);
    let made = admin.done("audit.list", json!([{"kind": "user", "id": "ann"}])).await;
    assert_eq!([&made[0]["action"], &made[0]["user"]], [&json!("user.create"), &json!("boss")]);
    assert!(!made.to_string().contains(key));
}

#[tokio::test]
async fn what_can_not_be_is_said_and_changes_nothing() {
    let server = TestServer::start().await;
    let operator = User::new(&server, "boss", "ops", "operator");
    operator.done("merchant.create", json!(["acme", {"user": "ann"}])).await;
    let before = ["merchant", "\"user\"", "audit"].map(|table| super::rows(&server, table));
    for (args, field) in [
        (json!(["two words"]), "merchant"),
        (json!(["acme"]), "merchant"),
        (json!(["new", {"quotas": {"webhooks": 0}}]), "quotas.webhooks"),
        (json!(["new", {"quotas": {"calls_per_second": 1_000_001}}]), "quotas.calls_per_second"),
        (json!(["new", {"quotas": {"colour": 1}}]), "quotas.colour"),
        (json!(["new", {"user": "two words"}]), "user"),
        (json!(["new", {"user": "eve", "permissions": ["root"]}]), "permissions"),
        (json!(["new", {"user": "eve", "permissions": []}]), "permissions"),
        (json!(["new", {"permissions": ["admin"]}]), "permissions"),
    ] {
        operator.refused_field("merchant.create", args, 125, field).await;
    }
    let error = operator.refused("merchant.create", json!(["new", {"user": "ann"}]), 125).await;
    assert!(error["message"].as_str().unwrap().contains("take another name"), "{error}");
    operator
        .refused_field("merchant.update", json!(["acme", {"quotas": {"webhooks": -1}}]), 125, "quotas.webhooks")
        .await;
    for method in ["merchant.get", "merchant.pause", "merchant.resume"] {
        operator.refused(method, json!(["nowhere"]), 124).await;
    }
    operator.refused("merchant.update", json!(["nowhere", {"quotas": {"webhooks": 1}}]), 124).await;
    assert_eq!(["merchant", "\"user\"", "audit"].map(|table| super::rows(&server, table)), before);
}

#[tokio::test]
async fn an_admin_sees_his_own_and_changes_nothing() {
    let server = TestServer::start().await;
    let admin = User::new(&server, "ann", "acme", "admin");
    admin.webhook(webhook_with(json!({}))).await;
    let own = admin.done("merchant.get", json!([])).await;
    assert_eq!(
        [&own["merchant"], &own["used"]],
        [&json!("acme"), &json!({"webhooks": 1, "users": 1, "pending_deliveries": 0, "events_today": null})]
    );
    assert_eq!(admin.done("merchant.get", json!(["acme"])).await, own);
    for code in ["demo", "nowhere"] {
        admin.refused("merchant.get", json!([code]), 124).await;
    }
    for (method, args) in [
        ("merchant.list", json!([])),
        ("merchant.create", json!(["mine"])),
        ("merchant.update", json!(["acme", {"quotas": {"webhooks": 5}}])),
        ("merchant.pause", json!(["acme"])),
        ("merchant.resume", json!(["acme"])),
    ] {
        admin.refused(method, args, 2).await;
    }
    let reader = User::new(&server, "reader", "acme", ALL);
    reader.refused("merchant.get", json!([]), 2).await;
}

#[tokio::test]
async fn a_paused_merchant_publishes_nothing_and_reads_on() {
    let server = TestServer::start().await;
    let operator = User::new(&server, "boss", "ops", "operator");
    let owner = User::new(&server, "ann", "acme", "admin");
    let webhook = id_of(&owner.webhook(webhook_data()).await);
    let paused = operator.done("merchant.pause", json!(["acme"])).await;
    assert!(paused["paused_at"].is_string(), "{paused}");
    assert_eq!(operator.done("merchant.pause", json!(["acme"])).await, paused, "since when, stays");
    for (method, args) in [
        ("event.publish", json!(["order:created", {}])),
        ("event.publish_many", json!([[{"topic": "order:created", "message": {}}]])),
        ("webhook.test", json!([webhook])),
        ("delivery.pull", json!([webhook])),
    ] {
        let error = owner.refused(method, args, 126).await;
        let message = error["message"].as_str().unwrap();
        let since = paused["paused_at"].as_str().unwrap();
        assert!(message.starts_with("The merchant is paused. ") && message.contains(since), "{message}");
    }
    assert_eq!(super::rows(&server, "event"), 0);
    owner.done("webhook.get", json!([webhook])).await;
    owner.done("webhook.update", json!([webhook, {"name": "While it is paused"}])).await;
    assert_eq!(owner.done("event.list", json!([])).await, json!([]));
    assert_eq!(owner.done("merchant.get", json!([])).await["paused_at"], paused["paused_at"]);
    owner.ask("/", "startSession", json!([])).await.expect("its users may log in");
    // Others go on.
    User::demo(&server).done("event.publish", json!(["order:created", {}])).await;

    assert_eq!(operator.done("merchant.resume", json!(["acme"])).await["paused_at"], Value::Null);
    operator.done("merchant.resume", json!(["acme"])).await;
    owner.done("event.publish", json!(["order:created", {}])).await;
    let actions: Vec<_> = audited(&owner, "acme").await.into_iter().map(|(action, ..)| action).collect();
    assert_eq!(actions, ["merchant.create", "merchant.pause", "merchant.resume"], "what changed nothing is not told");
}

/// What has become of a webhook's deliveries, once none is pending.
async fn settled(owner: &User<'_>, id: i64) -> Vec<String> {
    let look = async || {
        let found = owner.done("delivery.list", json!([id])).await;
        let states = found.as_array().unwrap().iter().map(|delivery| delivery["state"].as_str().unwrap().to_owned());
        let states: Vec<_> = states.collect();
        (!states.contains(&"pending".to_owned())).then_some(states)
    };
    owner.server.until(look).await
}

/// Has the delivery worker come by everything once: another merchant's delivery went out.
async fn a_round(server: &TestServer, other: &User<'_>) {
    let receiver = Receiver::obliging().await;
    let topic = "a:round";
    let id = id_of(&other.webhook(webhook_with(json!({"url": receiver.url(), "topics": topic}))).await);
    other.done("event.publish", json!([topic, {}])).await;
    receiver.arrivals(1).await;
    server.settled(id).await;
    other.done("webhook.delete", json!([id])).await;
}

#[tokio::test]
async fn what_is_numbered_waits_for_the_merchant_and_then_goes_out() {
    let server = TestServer::start().await;
    let boss = User::new(&server, "boss", "acme", EVERYTHING);
    let receiver = Receiver::obliging().await;
    let mut webhooks = Vec::new();
    for mode in ["parallel", "ordered"] {
        let said = json!({"url": receiver.url(), "topics": "order:created", "delivery_mode": mode});
        let id = id_of(&boss.webhook(webhook_with(said)).await);
        boss.done("webhook.pause", json!([id])).await;
        webhooks.push(id);
    }
    for _ in 0..3 {
        boss.done("event.publish", json!(["order:created", {}])).await;
    }
    boss.done("merchant.pause", json!(["acme"])).await;
    for id in &webhooks {
        boss.done("webhook.resume", json!([id])).await;
        // What somebody wants now waits, too.
        let asked = boss.done("delivery.retry", json!([id, 2])).await;
        assert_eq!(asked["next_attempt_at"], Value::Null, "nobody can say when: {asked}");
    }
    a_round(&server, &User::demo(&server)).await;
    assert!(receiver.so_far().is_empty(), "nothing is sent for it");

    // It is so after a restart.
    let authorization = boss.authorization.clone();
    let server = super::again(server.stop().await).go().await;
    let boss = User { server: &server, authorization };
    a_round(&server, &User::demo(&server)).await;
    assert!(receiver.so_far().is_empty(), "nothing is sent for it");
    boss.refused("event.publish", json!(["order:created", {}]), 126).await;

    boss.done("merchant.resume", json!(["acme"])).await;
    receiver.arrivals(6).await;
    for id in webhooks {
        assert_eq!(settled(&boss, id).await, ["delivered", "delivered", "delivered"]);
    }
}

#[tokio::test]
async fn a_merchant_has_so_many_webhooks() {
    let server = Start::default().flag("webhooks_max", "3").go().await;
    let boss = User::new(&server, "boss", "acme", EVERYTHING);
    boss.done("merchant.update", json!(["acme", {"quotas": {"webhooks": 1}}])).await;
    let id = id_of(&boss.webhook(webhook_data()).await);
    let error = boss.refused("webhook.create", json!([webhook_data()]), 127).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("Quota of webhooks used up. The merchant has 1 webhooks, of the 1 that"), "{message}");
    // More than every merchant may have, if an operator says so.
    boss.done("merchant.update", json!(["acme", {"quotas": {"webhooks": 5}}])).await;
    for _ in 0..4 {
        boss.webhook(webhook_data()).await;
    }
    assert_eq!(boss.done("merchant.get", json!([])).await["used"]["webhooks"], 5);
    boss.refused("webhook.create", json!([webhook_data()]), 127).await;
    boss.done("merchant.update", json!(["acme", {"quotas": {"webhooks": null}}])).await;
    boss.refused("webhook.create", json!([webhook_data()]), 106).await;
    boss.done("webhook.get", json!([id])).await;
}

#[tokio::test]
async fn the_users_of_a_merchant_make_so_many_calls_together() {
    // The clock stands still, however slow the machine is.
    let (server, hand) = Start::default().manual().await;
    let operator = User::new(&server, "boss", "ops", "operator");
    let [ann, bob] = ["ann", "bob"].map(|name| User::new(&server, name, "acme", ALL));
    operator.done("merchant.update", json!(["acme", {"quotas": {"calls_per_second": 3}}])).await;
    for user in [&ann, &bob, &ann] {
        user.done("webhook.list", json!([])).await;
    }
    for user in [&ann, &bob] {
        let error = user.call("webhook.list", json!([])).await.unwrap_err();
        let message = error["message"].as_str().unwrap();
        assert!(error["code"] == 128 && message.contains("3 calls a second"), "{error}");
        assert_eq!(error["data"]["retry_after_ms"], 334);
        // Whoever logs in calls, too.
        assert_eq!(user.ask("/", "startSession", json!([])).await.unwrap_err()["code"], 128);
    }
    // Others do not notice, and what is raised counts at once.
    User::demo(&server).done("webhook.list", json!([])).await;
    hand.pass_ms(334);
    ann.done("webhook.list", json!([])).await;
    assert_eq!(bob.call("webhook.list", json!([])).await.unwrap_err()["code"], 128);
    operator.done("merchant.update", json!(["acme", {"quotas": {"calls_per_second": null}}])).await;
    for _ in 0..9 {
        bob.done("webhook.list", json!([])).await;
    }
}

#[tokio::test]
async fn a_merchant_publishes_so_many_events_a_day() {
    let (server, hand) = Start::default().manual().await;
    let boss = User::new(&server, "boss", "acme", EVERYTHING);
    boss.done("merchant.update", json!(["acme", {"quotas": {"events_per_day": 5}}])).await;
    let many = |count: usize| json!([vec![json!({"topic": "order:created", "message": {}}); count]]);
    boss.done("event.publish_many", many(3)).await;
    let error = boss.refused("event.publish_many", many(3), 129).await;
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("has published 3 events today, of the 5 that") && message.contains("T00:00:00"),
        "{message}"
    );
    let left_ms = error["data"]["retry_after_ms"].as_i64().unwrap();
    assert!((1..=86_400_000).contains(&left_ms), "{left_ms}");
    // What was published before is no new event.
    let keyed = json!(["order:created", {}, {"idempotency_key": "k"}]);
    let receipt = boss.done("event.publish", keyed.clone()).await;
    assert_eq!(boss.done("event.publish", keyed.clone()).await, receipt);
    boss.done("event.publish", json!(["order:created", {}])).await;
    boss.refused("event.publish", json!(["order:created", {}]), 129).await;
    assert_eq!(boss.done("event.publish", keyed.clone()).await, receipt);
    assert_eq!(boss.done("merchant.get", json!([])).await["used"]["events_today"], 5);
    // Others may.
    User::demo(&server).done("event.publish_many", many(9)).await;

    // It is so after a restart, and until the day ends.
    let (authorization, now) = (boss.authorization.clone(), hand.now());
    let (server, hand) = super::again(server.stop().await).manual_at(now).await;
    let boss = User { server: &server, authorization };
    boss.refused("event.publish", json!(["order:created", {}]), 129).await;
    hand.pass_ms(u64::try_from(left_ms).unwrap() - 1);
    boss.refused("event.publish", json!(["order:created", {}]), 129).await;
    hand.pass_ms(1);
    boss.done("event.publish_many", many(5)).await;
    boss.refused("event.publish", json!(["order:created", {}]), 129).await;
    boss.done("merchant.update", json!(["acme", {"quotas": {"events_per_day": 6}}])).await;
    boss.done("event.publish", json!(["order:created", {}])).await;
    boss.refused("event.publish", json!(["order:created", {}]), 129).await;
    boss.done("merchant.update", json!(["acme", {"quotas": {"events_per_day": null}}])).await;
    boss.done("event.publish_many", many(20)).await;
}

/// What a server has taken ahead of a large quota is gone with it: there are fewer, never more.
#[tokio::test]
async fn a_quota_that_is_taken_ahead_is_never_exceeded() {
    let (server, hand) = Start::default().manual().await;
    let boss = User::new(&server, "boss", "acme", EVERYTHING);
    boss.done("merchant.update", json!(["acme", {"quotas": {"events_per_day": 400}}])).await;
    let many = |count: usize| json!([vec![json!({"topic": "order:created", "message": {}}); count]]);
    boss.done("event.publish", json!(["order:created", {}])).await;
    assert_eq!(boss.done("merchant.get", json!([])).await["used"]["events_today"], 4, "a hundredth is taken at once");
    boss.done("event.publish_many", many(3)).await;
    assert_eq!(boss.done("merchant.get", json!([])).await["used"]["events_today"], 4);
    boss.done("event.publish", json!(["order:created", {}])).await;
    let (authorization, now) = (boss.authorization.clone(), hand.now());
    let (server, _hand) = super::again(server.stop().await).manual_at(now).await;
    let boss = User { server: &server, authorization };
    boss.refused("event.publish_many", many(393), 129).await;
    boss.done("event.publish_many", many(392)).await;
    let error = boss.refused("event.publish", json!(["order:created", {}]), 129).await;
    assert!(error["message"].as_str().unwrap().contains("has published 400 events today"), "{error}");
}

#[tokio::test]
async fn a_merchant_has_so_many_deliveries_pending() {
    let (server, hand) = Start::default().manual().await;
    let boss = User::new(&server, "boss", "acme", EVERYTHING);
    let receiver = Receiver::obliging().await;
    let id = id_of(&boss.webhook(webhook_with(json!({"url": receiver.url(), "topics": "order:created"}))).await);
    boss.done("webhook.pause", json!([id])).await;
    boss.done("merchant.update", json!(["acme", {"quotas": {"pending_deliveries": 3}}])).await;
    for _ in 0..3 {
        boss.done("event.publish", json!(["order:created", {}])).await;
    }
    let error = boss.refused("event.publish", json!(["order:created", {}]), 130).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("3 deliveries of the merchant are pending, of the 3 that"), "{message}");
    assert_eq!(error["data"]["retry_after_ms"], 1_000);
    assert_eq!(boss.done("merchant.get", json!([])).await["used"]["pending_deliveries"], 3);
    User::demo(&server).done("event.publish", json!(["order:created", {}])).await;

    // It is so after a restart.
    let (authorization, now) = (boss.authorization.clone(), hand.now());
    let (server, hand) = super::again(server.stop().await).manual_at(now).await;
    let boss = User { server: &server, authorization };
    boss.refused("event.publish", json!(["order:created", {}]), 130).await;
    boss.done("webhook.resume", json!([id])).await;
    receiver.arrivals(3).await;
    settled(&boss, id).await;
    // What has ended is found by the next count.
    hand.pass_ms(30_000);
    boss.done("event.publish", json!(["order:created", {}])).await;
    receiver.arrivals(4).await;
    settled(&boss, id).await;
    assert_eq!(boss.done("merchant.get", json!([])).await["used"]["pending_deliveries"], 0);
    // What was cancelled is pending no more.
    boss.done("webhook.pause", json!([id])).await;
    for _ in 0..3 {
        hand.pass_ms(30_000);
        boss.done("event.publish", json!(["order:created", {}])).await;
    }
    hand.pass_ms(30_000);
    boss.refused("event.publish", json!(["order:created", {}]), 130).await;
    boss.done("delivery.cancel", json!([id, 6])).await;
    hand.pass_ms(30_000);
    boss.done("event.publish", json!(["order:created", {}])).await;
    boss.refused("event.publish", json!(["order:created", {}]), 130).await;
}
