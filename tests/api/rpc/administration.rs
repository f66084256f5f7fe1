//! Users by calls: an admin those of his merchant, an operator those of all, and nobody gives what
//! he does not have.

use serde_json::{Value, json};

use super::{User, rows, webhook_with};
use crate::common::{Start, TestServer};

fn names(users: &Value) -> Vec<&str> {
    users.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect()
}

/// Whether a key opens something.
async fn opens(server: &TestServer, name: &str, key: &str) -> Result<(), i64> {
    let opened = server.rpc("login", json!([name, key])).await;
    opened.map(drop).map_err(|error| error["code"].as_i64().unwrap())
}

#[tokio::test]
async fn an_admin_makes_and_changes_users_of_his_merchant() {
    let server = TestServer::start().await;
    let admin = User::new(&server, "ann", "acme", "admin");
    let made = admin.done("user.create", json!(["bob", {"permissions": ["webhook_read", "event_write"]}])).await;
    let key = made["api_key"].as_str().unwrap().to_owned();
    let user = &made["user"];
    assert_eq!([&user["name"], &user["merchant"]], [&json!("bob"), &json!("acme")]);
    assert_eq!(user["permissions"], json!(["webhook_read", "event_write"]));
    assert_eq!(opens(&server, "bob", &key).await, Ok(()));

    let disabled = admin.done("user.disable", json!(["bob"])).await;
    assert!(disabled["disabled_at"].is_string(), "{disabled}");
    assert_eq!(opens(&server, "bob", &key).await, Err(119));
    assert_eq!(admin.done("user.disable", json!(["bob"])).await, disabled, "since when, stays");
    assert_eq!(admin.done("user.enable", json!(["bob"])).await["disabled_at"], Value::Null);
    assert_eq!(opens(&server, "bob", &key).await, Ok(()));
    let rotated = admin.done("user.rotate_key", json!(["bob", 3_600])).await;
    let second = rotated["api_key"].as_str().unwrap();
    for key in [&key, second] {
        assert_eq!(opens(&server, "bob", key).await, Ok(()), "both keys count");
    }
    let updated = admin.done("user.update", json!(["bob", {"permissions": ["webhook_read"]}])).await;
    assert_eq!(updated["permissions"], json!(["webhook_read"]));
    assert!(admin.done("user.revoke", json!(["bob"])).await["revoked_at"].is_string());
    for key in [&key, second] {
        assert_eq!(opens(&server, "bob", key).await, Err(2));
    }
    for method in ["user.enable", "user.disable", "user.revoke", "user.rotate_key"] {
        admin.refused(method, json!(["bob"]), 121).await;
    }
    let error = admin.refused("user.create", json!(["bob", {"permissions": ["admin"]}]), 122).await;
    assert!(error["message"].as_str().unwrap().contains("take another name"), "{error}");
    assert_eq!(names(&admin.done("user.list", json!([])).await), ["ann", "bob"]);
    let found = admin.done("audit.list", json!([{"kind": "user", "id": "bob"}])).await;
    let actions: Vec<_> = found.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = ["user.create", "user.disable", "user.enable", "user.rotate_key", "user.update", "user.revoke"];
    assert_eq!(actions, expected);
    assert!(found.as_array().unwrap().iter().all(|entry| entry["user"] == "ann"), "{found}");
}

#[tokio::test]
async fn an_admin_reaches_no_further() {
    let server = TestServer::start().await;
    let admin = User::new(&server, "ann", "acme", "admin");
    server.user("boss", "acme", "operator");
    server.user("theirs", "globex", "webhook_read");
    let before = (rows(&server, "audit"), rows(&server, "\"user\""));
    for method in ["user.enable", "user.disable", "user.revoke", "user.rotate_key"] {
        admin.refused(method, json!(["theirs"]), 121).await;
        // Whoever gets the key of an operator is one.
        admin.refused(method, json!(["boss"]), 2).await;
    }
    admin.refused("user.update", json!(["boss", {"permissions": ["webhook_read"]}]), 2).await;
    for args in [json!(["ann", {"permissions": ["admin", "operator"]}]), json!(["boss", {"permissions": ["operator"]}])]
    {
        admin.refused_field("user.update", args, 122, "permissions").await;
    }
    admin.refused_field("user.create", json!(["eve", {"permissions": ["operator"]}]), 122, "permissions").await;
    let other = json!(["eve", {"permissions": ["admin"], "merchant": "globex"}]);
    admin.refused_field("user.create", other, 122, "merchant").await;
    admin.refused_field("user.list", json!([{"merchant": "globex"}]), 111, "merchant").await;
    for (args, field) in [
        (json!(["two words", {"permissions": ["admin"]}]), "user"),
        (json!(["eve", {"permissions": []}]), "permissions"),
        (json!(["eve", {"permissions": ["root"]}]), "permissions"),
        (json!(["eve", {"permissions": ["webhook_read, admin"]}]), "permissions"),
        (json!(["eve", {"permissions": ["webhook_read,admin"]}]), "permissions"),
        (json!(["eve", {"permissions": ["admin"], "colour": 1}]), "colour"),
    ] {
        admin.refused_field("user.create", args, 122, field).await;
    }
    let writer = User::new(&server, "writer", "globex", "webhook_read,webhook_write,event_write");
    writer.refused("user.list", json!([]), 2).await;
    writer.refused("user.create", json!(["eve", {"permissions": ["webhook_read"]}]), 2).await;
    assert_eq!((rows(&server, "audit"), rows(&server, "\"user\"")), (before.0 + 1, before.1 + 1), "but the writer");
}

#[tokio::test]
async fn an_operator_has_users_and_nothing_else() {
    let server = TestServer::start().await;
    let operator = User::new(&server, "boss", "ops", "operator");
    let admin = User::new(&server, "ann", "acme", "admin");
    admin.webhook(webhook_with(json!({}))).await;
    let data = json!({"permissions": ["admin"], "merchant": "acme"});
    let made = operator.done("user.create", json!(["carl", data])).await;
    assert_eq!(made["user"]["merchant"], "acme");
    let data = json!({"permissions": ["admin"], "merchant": "nowhere"});
    operator.refused_field("user.create", json!(["dora", data]), 122, "merchant").await;
    operator.done("user.create", json!(["second", {"permissions": ["operator"]}])).await;
    operator.done("user.update", json!(["ann", {"permissions": ["admin", "operator"]}])).await;
    operator.done("user.update", json!(["ann", {"permissions": ["admin"]}])).await;
    operator.done("user.disable", json!(["second"])).await;
    assert_eq!(names(&operator.done("user.list", json!([])).await), ["demo", "boss", "ann", "carl", "second"]);
    assert_eq!(names(&operator.done("user.list", json!([{"merchant": "acme"}])).await), ["ann", "carl"]);
    let pages = json!([{"merchant": "acme", "sort": "-user_id", "limit": 1}]);
    assert_eq!(names(&operator.done("user.list", pages).await), ["carl"]);
    let behind = json!([{"after_user_id": made["user"]["user_id"]}]);
    assert_eq!(names(&operator.done("user.list", behind).await), ["second"]);
    // Whose user is made or changed has it in his own log.
    let found = admin.done("audit.list", json!([{"kind": "user", "id": "carl"}])).await;
    assert_eq!([&found[0]["action"], &found[0]["user"]], [&json!("user.create"), &json!("boss")]);
    operator.refused("user.rotate_key", json!(["demo"]), 122).await;
    for (method, args) in [
        ("webhook.list", json!([])),
        ("webhook.get", json!([1])),
        ("event.publish", json!(["order:created", {}])),
        ("event.list", json!([])),
        ("topic.register", json!(["order:created"])),
        ("audit.list", json!([])),
        ("node.list", json!([])),
    ] {
        operator.refused(method, args, 2).await;
    }
}

#[tokio::test]
async fn a_merchant_has_so_many_users() {
    let server = Start::default().flag("users_max", "3").go().await;
    let admin = User::new(&server, "ann", "acme", "admin");
    for name in ["bob", "carl"] {
        admin.done("user.create", json!([name, {"permissions": ["webhook_read"]}])).await;
    }
    admin.done("user.revoke", json!(["bob"])).await;
    let error = admin.refused("user.create", json!(["dora", {"permissions": ["webhook_read"]}]), 122).await;
    assert!(error["message"].as_str().unwrap().contains("has 3 users, revoked ones too"), "{error}");
    // The command line is not bounded.
    server.user("dora", "acme", "webhook_read");
}
