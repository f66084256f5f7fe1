//! The audit log: each change leaves its entry, in the transaction of the change.

use serde_json::{Value, json};

use super::{User, rows, webhook_with};
use crate::common::manual::DAY_S;
use crate::common::{DEMO_KEY, Receiver, Reply, Start, TestServer};

const EVERYTHING: &str = "webhook_read,webhook_write,event_write,admin";

/// The entries behind one.
async fn behind(user: &User<'_>, after: i64) -> Vec<Value> {
    let found = user.done("audit.list", json!([{"after_audit_id": after}])).await;
    found.as_array().unwrap().clone()
}

/// The last entry there is.
async fn last(user: &User<'_>) -> i64 {
    let found = user.done("audit.list", json!([{"sort": "-audit_id", "limit": 1}])).await;
    found[0]["audit_id"].as_i64().unwrap()
}

/// What was done, with what, and what was before and is since.
fn told(entry: &Value) -> Value {
    json!([entry["action"], entry["kind"], entry["id"], entry["before"], entry["after"]])
}

/// Somebody who does one thing after the other, and each leaves the entries that are said.
struct Walk<'a> {
    user: User<'a>,
    after: i64,
}

impl Walk<'_> {
    async fn leaves(&mut self, method: &str, args: Value, expected: Value) -> Value {
        let answer = self.user.done(method, args.clone()).await;
        let found = behind(&self.user, self.after).await;
        let seen: Vec<_> = found.iter().map(told).collect();
        assert_eq!(Value::from(seen), expected, "{method} {args}");
        self.after = found.last().map_or(self.after, |last| last["audit_id"].as_i64().unwrap());
        for entry in found {
            assert_eq!((&entry["user_id"], &entry["user"]), (&json!(1), &json!("demo")), "{entry}");
            assert_eq!((&entry["peer"], &entry["is_cut"]), (&json!("127.0.0.1"), &json!(false)), "{entry}");
            assert_eq!(entry["request_id"], super::REQUEST_ID, "{entry}");
        }
        answer
    }
}

#[tokio::test]
async fn each_change_of_a_webhook_leaves_its_entry() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let after = last(&user).await;
    let mut walk = Walk { user, after };
    let id = walk.user.webhook(webhook_with(json!({"is_active": 0, "topics": "order:*"}))).await["webhook_id"].clone();
    let made = behind(&walk.user, walk.after).await;
    assert_eq!(made.len(), 1);
    assert_eq!(
        (&made[0]["action"], &made[0]["id"], &made[0]["before"]),
        (&json!("webhook.create"), &json!("1"), &json!({}))
    );
    assert_eq!(made[0]["after"]["topics"], "order:*");
    assert_eq!(made[0]["after"]["retry"], "default");
    walk.after = made[0]["audit_id"].as_i64().unwrap();

    let changes = json!({"name": "shop", "topics": ["order:*", "item:*"], "retry": [5, 30], "max_concurrency": 3});
    let before = json!({"name": "", "topics": "order:*", "retry": "default", "max_concurrency": null});
    let after = json!({"name": "shop", "topics": "order:*,item:*", "retry": [5, 30], "max_concurrency": 3});
    let expected = json!([["webhook.update", "webhook", "1", before, after]]);
    walk.leaves("webhook.update", json!([id, changes]), expected).await;
    walk.leaves("webhook.update", json!([id, {"name": "shop"}]), json!([])).await;
    // What it was can be given back as it is told.
    let before = json!({"retry": [5, 30], "batch": null});
    let batch = json!({"max_events": 5, "max_size": 65_536, "wait_ms": 10});
    let after = json!({"retry": {"max_retries": 3, "interval_seconds": 60}, "batch": batch});
    let there = json!([["webhook.update", "webhook", "1", before, after]]);
    walk.leaves("webhook.update", json!([id, after]), there).await;
    let back = json!([["webhook.update", "webhook", "1", after, before]]);
    walk.leaves("webhook.update", json!([id, before]), back).await;
    let (on, off) = (json!({"is_active": true}), json!({"is_active": false}));
    let switched = json!([["webhook.update_status", "webhook", "1", off, on]]);
    walk.leaves("webhook.update_status", json!([{"webhook_id": id, "status": 1}]), switched).await;
    walk.leaves("webhook.update_status", json!([{"status": 1}]), json!([])).await;
    let (going, paused) = (json!({"is_paused": false}), json!({"is_paused": true}));
    walk.leaves("webhook.pause", json!([id]), json!([["webhook.pause", "webhook", "1", going, paused]])).await;
    walk.leaves("webhook.pause", json!([id]), json!([])).await;
    walk.leaves("webhook.resume", json!([id]), json!([["webhook.resume", "webhook", "1", paused, going]])).await;
    walk.leaves("webhook.enable", json!([id]), json!([])).await;

    walk.user.done("webhook.rotate_secret", json!([id, "another secret", 3_600])).await;
    let rotated = behind(&walk.user, walk.after).await;
    assert_eq!((rotated.len(), &rotated[0]["action"]), (1, &json!("webhook.rotate_secret")));
    let secret = |entry: &Value, side: &str| entry[side]["secret_key"].as_str().unwrap().to_owned();
    let (before, after) = (secret(&rotated[0], "before"), secret(&rotated[0], "after"));
    assert!(before != after && after.starts_with("fingerprint:") && after.len() == 16, "{rotated:?}");
    assert_eq!(before, secret(&made[0], "after"), "it is the same as before");
    let old = rotated[0]["after"]["old_secrets"][0].as_str().unwrap();
    assert!(old.ends_with(&before), "the old one signs yet: {old}");
    walk.after = rotated[0]["audit_id"].as_i64().unwrap();

    walk.user.done("webhook.delete", json!([id])).await;
    let deleted = behind(&walk.user, walk.after).await;
    assert_eq!((deleted.len(), &deleted[0]["action"]), (1, &json!("webhook.delete")));
    assert_eq!((&deleted[0]["before"]["name"], &deleted[0]["after"]), (&json!("shop"), &json!({})));
}

#[tokio::test]
async fn a_disablement_that_is_lifted_is_told() {
    let server = TestServer::start().await;
    let gone = Receiver::start(|_, _| Reply::status(410)).await;
    let user = User::demo(&server);
    let id = user.webhook(webhook_with(json!({"url": gone.url()}))).await["webhook_id"].clone();
    user.done("event.publish", json!(["order:created", {}])).await;
    let is_disabled = async || {
        let webhook = user.done("webhook.get", json!([id])).await;
        (webhook["disabled"] == true).then_some(())
    };
    server.until(is_disabled).await;
    let after = last(&user).await;
    let expected = json!([[
        "webhook.enable", "webhook", "1", {"disabled_reason": "gone"}, {"disabled_reason": null},
    ]]);
    Walk { user, after }.leaves("webhook.enable", json!([id]), expected).await;
}

#[tokio::test]
async fn what_is_done_to_deliveries_and_jobs_leaves_its_entry() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = user.webhook(webhook_with(json!({}))).await["webhook_id"].clone();
    user.done("webhook.pause", json!([id])).await;
    for _ in 0..3 {
        user.done("event.publish", json!(["order:created", {}])).await;
    }
    let after = last(&user).await;
    let mut walk = Walk { user, after };
    let state = |state: &str| json!({"state": state});
    let cancelled = json!([["delivery.cancel", "delivery", "1:1", state("pending"), state("cancelled")]]);
    walk.leaves("delivery.cancel", json!([id, 1]), cancelled).await;
    let retried = json!([["delivery.retry", "delivery", "1:1", state("cancelled"), state("pending")]]);
    walk.leaves("delivery.retry", json!([id, 1]), retried).await;

    let replay = |job: i64| {
        json!({
            "job_id": job, "from_increment_id": 2, "to_increment_id": 3, "state": "abandoned", "topics": null,
            "since": null, "until": null,
        })
    };
    let args = json!([id, {"from_increment_id": 2, "state": "abandoned"}]);
    let expected = json!([["webhook.replay", "webhook", "1", {}, replay(1)]]);
    walk.leaves("webhook.replay", args, expected).await;
    walk.user.done("webhook.backfill", json!([id, {"topics": "other:*"}])).await;
    let found = behind(&walk.user, walk.after).await;
    assert_eq!((found.len(), &found[0]["action"], &found[0]["id"]), (1, &json!("webhook.backfill"), &json!("1")));
    assert_eq!(found[0]["after"]["topics"], "other:*");
    walk.after = found[0]["audit_id"].as_i64().unwrap();
    let many = walk.user.done("delivery.retry_many", json!([{"all": true}])).await;
    let found = behind(&walk.user, walk.after).await;
    assert_eq!(
        (found.len(), &found[0]["action"], &found[0]["kind"]),
        (1, &json!("delivery.retry_many"), &json!("job"))
    );
    assert_eq!(found[0]["id"], many["job_id"].to_string());
    walk.after = found[0]["audit_id"].as_i64().unwrap();

    // One that goes on until it is called off, for the store is held back meanwhile or not: what
    // matters is that its entry is there if and only if it was called off.
    let job = walk.user.done("delivery.retry_many", json!([{"webhook_id": id, "state": "pending"}])).await;
    walk.after = last(&walk.user).await;
    let called_off = walk.user.done("job.cancel", json!([job["job_id"]])).await;
    let found: Vec<_> = behind(&walk.user, walk.after).await.iter().map(told).collect();
    let expected = match called_off["state"].as_str() {
        Some("cancelled") => {
            vec![json!(["job.cancel", "job", job["job_id"].to_string(), state("running"), state("cancelled")])]
        }
        _ => Vec::new(),
    };
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_done_in_a_dialect_leaves_its_entry_too() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = user.webhook(webhook_with(json!({"is_active": 1}))).await["webhook_id"].clone();
    user.done("webhook.pause", json!([id])).await;
    user.done("event.publish", json!(["order:created", {}])).await;
    let after = last(&user).await;
    for path in ["/v1/webhooks/subscriptions/1/events/1", "/v1/webhooks/subscriptions/1"] {
        let (status, _, text) = server.exchange("DELETE", path, &[("x-api-key", DEMO_KEY)], "").await;
        assert_eq!(status, 200, "{text}");
    }
    let found = behind(&user, after).await;
    let seen: Vec<_> = found.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["id"].clone())).collect();
    assert_eq!(seen, [("delivery.forget", json!("1:1")), ("webhook.delete", json!("1"))]);
    assert_eq!(found[0]["before"], json!({"state": "pending"}));
}

#[tokio::test]
async fn topics_and_users_leave_their_entries() {
    let server = TestServer::start().await;
    server.user("ann", "demo", "webhook_read");
    let user = User::demo(&server);
    let after = last(&user).await;
    let mut walk = Walk { user, after };
    let topic = |deprecated: bool| {
        json!({
            "category": "order", "name": "Order created", "description": "", "event_type": 1, "message_schema": null,
            "validation": "reject", "deprecated": deprecated, "discontinued": false,
        })
    };
    let expected = json!([["topic.register", "topic", "order:created", {}, topic(false)]]);
    walk.leaves("topic.register", json!(["order:created"]), expected).await;
    let (before, after) = (json!({"deprecated": false}), json!({"deprecated": true}));
    let expected = json!([["topic.update", "topic", "order:created", before, after]]);
    walk.leaves("topic.update", json!(["order:created", {"deprecated": 1}]), expected).await;
    walk.leaves("topic.update", json!(["order:created", {"deprecated": 1}]), json!([])).await;
    let expected = json!([["topic.remove", "topic", "order:created", topic(true), {}]]);
    walk.leaves("topic.remove", json!(["order:created"]), expected).await;

    let (before, after) = (json!({"permissions": ["webhook_read"]}), json!({"permissions": ["event_write"]}));
    let expected = json!([["user.update", "user", "ann", before, after]]);
    walk.leaves("user.update", json!(["ann", {"permissions": ["event_write"]}]), expected).await;
    let rotated = walk.user.done("user.rotate_key", json!(["ann", 60])).await;
    let found = behind(&walk.user, walk.after).await;
    assert_eq!((found.len(), &found[0]["action"], &found[0]["id"]), (1, &json!("user.rotate_key"), &json!("ann")));
    assert_eq!(found[0]["after"]["old_key_until"], rotated["old_key_until"]);
    assert_ne!(found[0]["after"]["api_key"], found[0]["before"]["api_key"]);
}

#[tokio::test]
async fn what_is_no_change_or_is_refused_leaves_none() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    let id = user.webhook(webhook_with(json!({"url": receiver.url()}))).await["webhook_id"].clone();
    let pulled = user.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await["webhook_id"].clone();
    let before = rows(&server, "audit");
    // Publishing, outcomes, pulling and acknowledging, tests, sessions, whatever is only read.
    user.done("event.publish", json!(["order:created", {}])).await;
    user.done("event.publish_many", json!([[{"topic": "order:created", "message": {}}]])).await;
    server.settled(id.as_i64().unwrap()).await;
    user.done("webhook.test", json!([id])).await;
    user.done("delivery.pull", json!([pulled, 0, 10])).await;
    user.done("delivery.pull", json!([pulled, 2, 10])).await;
    let session = server.login().await;
    server.rpc("endSession", json!([session])).await.unwrap();
    assert_eq!(user.done("audit.count", json!([])).await, before);
    for (method, args, number) in [
        ("webhook.create", json!([{"topics": "order"}]), 101),
        ("webhook.update", json!([id, {"url": "ftp://example.com/"}]), 101),
        ("webhook.update", json!([99, {"name": "x"}]), 103),
        ("webhook.delete", json!([99]), 103),
        ("webhook.update_status", json!([{"webhook_id": 99, "status": 1}]), 100),
        ("webhook.rotate_secret", json!([id, "short"]), 101),
        ("delivery.cancel", json!([id, 1]), 113),
        ("delivery.retry", json!([id, 99]), 110),
        ("webhook.replay", json!([99, {"all": true}]), 103),
        ("job.cancel", json!([99]), 123),
        ("topic.update", json!(["no:topic", {"deprecated": 1}]), 116),
        ("topic.remove", json!(["no:topic"]), 116),
        ("user.update", json!(["nobody", {"permissions": ["admin"]}]), 121),
        ("user.rotate_key", json!(["demo"]), 122),
    ] {
        user.refused(method, args, number).await;
    }
    assert_eq!(rows(&server, "audit"), before);
}

/// Without room for the entry there is no change, and the other way round: they are one
/// transaction.
#[tokio::test]
async fn there_is_no_change_without_its_entry() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = user.webhook(webhook_with(json!({"is_active": 0}))).await["webhook_id"].clone();
    user.done("topic.register", json!(["order:created"])).await;
    let before = [user.done("webhook.get", json!([id])).await, user.done("topic.list", json!([])).await];
    let count = rows(&server, "audit");
    server.place.rows("ALTER TABLE audit RENAME TO hidden");
    for (method, args, number) in [
        ("webhook.create", json!([webhook_with(json!({}))]), 102),
        ("webhook.update", json!([id, {"name": "another"}]), 112),
        ("webhook.pause", json!([id]), 112),
        ("webhook.update_status", json!([{"status": 1}]), 100),
        ("webhook.delete", json!([id]), 104),
        ("topic.remove", json!(["order:created"]), 118),
    ] {
        let error = user.call(method, args).await.unwrap_err();
        assert_eq!(error["code"], number, "{method}: {error}");
    }
    server.place.rows("ALTER TABLE hidden RENAME TO audit");
    assert_eq!([user.done("webhook.get", json!([id])).await, user.done("topic.list", json!([])).await], before);
    assert_eq!((rows(&server, "audit"), rows(&server, "webhook")), (count, 1));
    user.done("webhook.update", json!([id, {"name": "another"}])).await;
    assert_eq!(rows(&server, "audit"), count + 1);
}

#[tokio::test]
async fn no_secret_is_in_the_rows() {
    const SECRETS: [&str; 6] =
        ["signs-5b1f2c", "signs-later-77aa", "password-31c9", "header-e5d0", "header-later-9b", "tk_test_ann"];
    let server = TestServer::start().await;
    server.user("ann", "demo", "webhook_read");
    let user = User::demo(&server);
    let data = json!({
        "secret_key": SECRETS[0], "basic_auth": {"username": "shop", "password": SECRETS[2]},
        "extra_headers": {"X-Key": SECRETS[3]},
    });
    let id = user.webhook(webhook_with(data)).await["webhook_id"].clone();
    user.done("webhook.rotate_secret", json!([id, SECRETS[1]])).await;
    user.done("webhook.update", json!([id, {"extra_headers": {"X-Key": SECRETS[4]}}])).await;
    let rotated = user.done("user.rotate_key", json!(["ann"])).await;
    user.done("webhook.delete", json!([id])).await;
    let all = server.place.rows("SELECT * FROM audit").concat().concat();
    for secret in SECRETS.into_iter().chain(rotated["api_key"].as_str()) {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    assert!(all.contains("X-Key: fingerprint:") && all.contains(r#""basic_username":"shop""#), "{all}");
}

#[tokio::test]
async fn only_an_admin_sees_what_is_his_merchants() {
    let server = TestServer::start().await;
    let demo = User::demo(&server);
    demo.webhook(webhook_with(json!({}))).await;
    let stranger = User::new(&server, "stranger", "globex", EVERYTHING);
    let own: Vec<_> = behind(&stranger, 0).await.iter().map(told).collect();
    assert_eq!(own[0], json!(["merchant.create", "merchant", "globex", {}, {}]));
    assert_eq!((own.len(), &own[1][0], &own[1][2]), (2, &json!("user.create"), &json!("stranger")));
    assert_eq!(stranger.done("audit.count", json!([])).await, 2);
    assert_eq!(stranger.done("audit.count", json!([{"kind": "webhook", "id": "1"}])).await, 0);
    // Made at the command line.
    let entry = &behind(&stranger, 0).await[1];
    assert_eq!(["user_id", "user", "peer", "request_id"].map(|member| &entry[member]), [&Value::Null; 4]);
    let writer = User::new(&server, "writer", "demo", "webhook_read,webhook_write,event_write");
    for method in ["audit.list", "audit.count"] {
        writer.refused(method, json!([]), 2).await;
    }
}

#[tokio::test]
async fn entries_are_found_and_paged() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let first = user.webhook(webhook_with(json!({}))).await["webhook_id"].clone();
    let second = user.webhook(webhook_with(json!({}))).await["webhook_id"].clone();
    for id in [&first, &second, &first] {
        user.done("webhook.pause", json!([id])).await;
        user.done("webhook.resume", json!([id])).await;
    }
    let actions = async |options: Value| -> Vec<String> {
        let found = user.done("audit.list", json!([options])).await;
        let count = user.done("audit.count", json!([options])).await;
        let found = found.as_array().unwrap();
        if options.get("limit").is_none() && options.get("after_audit_id").is_none() {
            assert_eq!(count, found.len(), "{options}");
        }
        found.iter().map(|entry| entry["action"].as_str().unwrap().replace("webhook.", "")).collect()
    };
    let of_first = json!({"kind": "webhook", "id": "1"});
    assert_eq!(actions(of_first).await, ["create", "pause", "resume", "pause", "resume"]);
    assert_eq!(actions(json!({"action": "webhook.pause"})).await, ["pause"; 3]);
    assert_eq!(actions(json!({"action": "webhook.pause", "limit": 2})).await, ["pause"; 2]);
    let all = user.done("audit.list", json!([{"user_id": 1}])).await;
    let all = all.as_array().unwrap().clone();
    assert_eq!(all.len(), 8, "without what was done at the command line");
    let (place, at) = (&all[5]["audit_id"], all[5]["at"].as_str().unwrap());
    assert_eq!(actions(json!({"after_audit_id": place})).await, ["pause", "resume"]);
    assert_eq!(actions(json!({"after_audit_id": place, "sort": "-audit_id", "limit": 1})).await, ["pause"]);
    assert!(actions(json!({"since": at})).await.len() >= 3);
    assert!(actions(json!({"until": "2020-01-01T00:00:00Z"})).await.is_empty());
    assert!(actions(json!({"user_id": 99})).await.is_empty());
    for (options, field) in [
        (json!({"action": "webhook.paint"}), "action"),
        (json!({"kind": "colour"}), "kind"),
        (json!({"id": "1"}), "id"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"sort": "at"}), "sort"),
        (json!({"limit": 0}), "limit"),
        (json!({"colour": 1}), "colour"),
    ] {
        user.refused_field("audit.list", json!([options]), 111, field).await;
    }
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_says_so() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let schema = json!({"type": "object", "description": "x".repeat(20_000)});
    user.done("topic.register", json!(["order:created", {"message_schema": schema, "description": "short"}])).await;
    let found = user.done("audit.list", json!([{"action": "topic.register"}])).await;
    assert_eq!((&found[0]["is_cut"], &found[0]["after"]["description"]), (&json!(true), &json!("short")));
    let cut = found[0]["after"]["message_schema"].as_str().unwrap();
    assert!(cut.starts_with("[cut: ") && cut.ends_with(" bytes]"), "{cut}");
}

#[tokio::test]
async fn old_entries_go() {
    let (server, hand) = Start::default().flag("audit_retention_days", "10").manual().await;
    let user = User::demo(&server);
    user.done("topic.register", json!(["order:created"])).await;
    hand.pass(9 * DAY_S);
    user.done("topic.register", json!(["order:paid"])).await;
    hand.pass(2 * DAY_S);
    let left = server
        .until(async || {
            hand.pass(60);
            let found = user.done("audit.list", json!([{"kind": "topic"}])).await;
            (found.as_array().unwrap().len() == 1).then_some(found)
        })
        .await;
    assert_eq!(left[0]["id"], "order:paid");
}
