//! Nobody sees or changes another merchant's data, and nobody does what it
//! was not permitted to.

use serde_json::{Value, json};

use crate::common::{Receiver, TestServer};
use crate::{ALL, PATHS, User, code_on, id_of, rows, webhook_data, webhook_with};

#[tokio::test]
async fn another_merchants_webhook_is_as_if_there_were_none() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let owner = User::demo(&server);
    let stranger = User::new(&server, "stranger", "globex", "webhook_read,webhook_write,event_write,admin");
    let id = id_of(&owner.webhook(webhook_with(json!({"url": receiver.url()}))).await);
    owner.done("event.publish", json!(["order:created", {"order_id": 7}])).await;
    let deliveries = server.settled(id).await;
    let attempts = owner.done("delivery.attempts", json!([id, 1])).await;
    let webhook = owner.done("webhook.get", json!([id])).await;

    for (path, args, number) in [
        ("webhook.get", json!([id]), 103),
        ("webhook.delete", json!([id]), 103),
        ("webhook.update", json!([id, {"is_active": 0}]), 103),
        ("delivery.list", json!([id]), 103),
        ("delivery.get", json!([id, 1]), 103),
        ("delivery.attempt", json!([id, 1, 1]), 103),
        ("event.get", json!([1]), 114),
        ("delivery.list", json!([id, {"state": "delivered"}]), 103),
        ("delivery.attempts", json!([id, 1]), 103),
        ("delivery.pull", json!([id]), 103),
        ("delivery.attempts", json!([id, 2]), 103),
        ("webhook.enable", json!([id]), 103),
        ("webhook.rotate_secret", json!([id]), 103),
        ("webhook.replay", json!([id]), 103),
        ("webhook.backfill", json!([id]), 103),
        ("webhook.test", json!([id]), 103),
        ("delivery.retry", json!([id, 1]), 103),
        ("delivery.cancel", json!([id, 1]), 103),
        ("webhook.update_status", json!([{"webhook_id": id, "status": 0}]), 100),
        ("webhook.update_status", json!(["order:*", 0]), 100),
        ("webhook.update_status", json!([{"status": 0}]), 100),
    ] {
        let error = stranger.refused(path, args, number).await;
        let absent = stranger.call(path, absent_of(path)).await.unwrap_err();
        // In the words for a webhook that never was, but for its id.
        let words = |error: &Value| error["message"].as_str().unwrap().split(" There is no").next().unwrap().to_owned();
        assert_eq!(error["code"], absent["code"]);
        assert!(words(&error).starts_with(&words(&absent)), "{error} {absent}");
    }
    assert_eq!(stranger.done("webhook.list", json!([])).await, json!([]));
    assert_eq!(stranger.done("webhook.count", json!([])).await, 0);
    assert_eq!(stranger.done("event.explain", json!(["order:created"])).await, json!([]));
    assert_eq!(
        stranger.done("event.publish", json!(["order:created", {}])).await,
        json!({"event_id": 2, "deliveries": []})
    );

    assert_eq!(owner.done("webhook.get", json!([id])).await, webhook);
    assert_eq!(owner.done("delivery.list", json!([id])).await, json!(deliveries));
    assert_eq!(owner.done("delivery.attempts", json!([id, 1])).await, attempts);
    assert_eq!(receiver.so_far().len(), 1);
}

/// Arguments about a webhook that nobody has.
fn absent_of(path: &str) -> Value {
    match path {
        "webhook.update_status" => json!([{"webhook_id": 999, "status": 0}]),
        "delivery.attempts" | "delivery.get" | "delivery.retry" | "delivery.cancel" => json!([999, 1]),
        "delivery.attempt" => json!([999, 1, 1]),
        "webhook.update" => json!([999, {"is_active": 0}]),
        _ => json!([999]),
    }
}

#[tokio::test]
async fn selecting_all_selects_ones_own() {
    let server = TestServer::start().await;
    let owner = User::demo(&server);
    let stranger = User::new(&server, "stranger", "globex", ALL);
    let colleague = User::new(&server, "colleague", "globex", ALL);
    let theirs = owner.webhook(webhook_data()).await;
    let own = id_of(&stranger.webhook(webhook_data()).await);
    for args in [json!([{"status": 0}]), json!(["order:*", 1]), json!(["order:*", 0])] {
        stranger.done("webhook.update_status", args).await;
    }
    assert_eq!(owner.done("webhook.get", json!([id_of(&theirs)])).await, theirs);
    // A merchant's users share what it has.
    let listed = colleague.done("webhook.list", json!([])).await;
    assert_eq!((listed.as_array().unwrap().len(), id_of(&listed[0])), (1, own));
    assert_eq!(listed[0]["is_active"], 0);

    let receipt = owner.done("event.publish", json!(["order:created", {}])).await;
    assert_eq!(receipt["deliveries"], json!([{"webhook_id": id_of(&theirs), "increment_id": 1}]));
    colleague.done("webhook.delete", json!([own])).await;
    assert_eq!(owner.done("webhook.list", json!([])).await.as_array().unwrap().len(), 1);
}

/// Every resource method that the server describes.
async fn methods(user: &User<'_>) -> Vec<String> {
    let resources = user.ask("/", "resources", json!([null])).await.unwrap();
    let paths = resources.as_array().unwrap().iter().flat_map(|resource| resource["methods"].as_array().unwrap());
    paths.map(|method| method["path"].as_str().unwrap().to_owned()).collect()
}

/// Arguments that every method takes.
fn good_args(path: &str, id: i64) -> Value {
    match path {
        "webhook.list" | "webhook.count" => json!([]),
        "webhook.create" => json!([webhook_data()]),
        "webhook.get"
        | "webhook.delete"
        | "delivery.list"
        | "delivery.pull"
        | "webhook.enable"
        | "webhook.rotate_secret"
        | "webhook.replay"
        | "webhook.backfill"
        | "webhook.test" => json!([id]),
        "webhook.update_status" => json!([{"webhook_id": id, "status": 0}]),
        "webhook.update" => json!([id, {"is_active": 0}]),
        "event.publish" => json!(["order:created", {}]),
        "event.publish_many" => json!([[{"topic": "order:created", "message": {}}]]),
        "event.get" => json!([1]),
        "event.explain" => json!(["order:created"]),
        "event.subscribe" => json!(["order:*"]),
        "delivery.subscribe" | "delivery.unsubscribe" | "event.unsubscribe" => json!([id]),
        "delivery.attempts" | "delivery.get" | "delivery.retry" | "delivery.cancel" => json!([id, 1]),
        "delivery.attempt" => json!([id, 1, 1]),
        _ => panic!("{path} is new: say what it takes"),
    }
}

#[tokio::test]
async fn a_user_without_permissions_is_refused_everything() {
    let server = TestServer::start().await;
    let owner = User::demo(&server);
    let nobody = User::new(&server, "nobody", "demo", "");
    let id = id_of(&owner.webhook(webhook_data()).await);
    let before = owner.list_text().await;
    let methods = methods(&nobody).await;
    assert!(methods.len() >= 9, "{methods:?}");
    for path in &methods {
        for args in [good_args(path, id), json!([]), json!([999, "nonsense"])] {
            let error = nobody.refused(path, args, 2).await;
            assert!(error["message"].as_str().unwrap().starts_with("Access denied. This needs the permission "));
        }
    }
    assert_eq!(owner.list_text().await, before);
    assert_eq!(rows(&server, "event"), 0);
    // What describes the interface is open to whoever has logged in.
    for (method, params) in [("globalFaults", json!([null])), ("resourceFaults", json!([null, "webhook"]))] {
        assert!(nobody.ask("/", method, params).await.is_ok(), "{method}");
    }
}

#[tokio::test]
async fn each_permission_opens_its_own_methods() {
    let server = TestServer::start().await;
    let owner = User::demo(&server);
    let id = id_of(&owner.webhook(webhook_with(json!({"is_active": 0}))).await);
    let needs = |path: &str| match path {
        "webhook.list" | "webhook.get" | "webhook.count" | "event.get" | "event.explain" => "webhook_read",
        "delivery.list" | "delivery.get" | "delivery.attempts" | "delivery.attempt" | "delivery.pull" => "webhook_read",
        "event.publish" | "event.publish_many" => "event_write",
        path if path.ends_with("subscribe") => "webhook_read",
        _ => "webhook_write",
    };
    for held in ["webhook_read", "webhook_write", "event_write", "admin"] {
        let user = User::new(&server, held, "demo", held);
        for path in methods(&user).await {
            // Deleted last of all, or there would be nothing to look at.
            let id = if path == "webhook.delete" { id_of(&owner.webhook(webhook_data()).await) } else { id };
            let args = good_args(&path, id);
            let outcome = user.call(&path, args.clone()).await;
            if held == "admin" || held == needs(&path) {
                // The test may have made event and number 1, or not yet.
                let is_fitting = |error: &Value| match path.as_str() {
                    "event.get" => error["code"] == 114,
                    // Permitted, and not over HTTP.
                    path if path.ends_with("subscribe") => error["code"] == 4,
                    "delivery.attempt" => *error == no_delivery(id) || error["code"] == 115,
                    path if path.starts_with("delivery.") && args.as_array().is_some_and(|args| args.len() > 1) => {
                        *error == no_delivery(id) || error["code"] == 113
                    }
                    _ => false,
                };
                let is_right = outcome.as_ref().map_or_else(is_fitting, |_| true);
                assert!(is_right, "{held} at {path}: {outcome:?}");
            } else {
                assert_eq!(outcome.unwrap_err()["code"], 2, "{held} at {path}");
            }
        }
    }
}

fn no_delivery(id: i64) -> Value {
    json!({"code": 110, "message": format!("Delivery not exists. Webhook {id} has given out no number 1.")})
}

#[tokio::test]
async fn a_permission_is_checked_at_each_item_of_a_multi_call() {
    let server = TestServer::start().await;
    let reader = User::new(&server, "reader", "acme", "webhook_read");
    for (at, vendor) in PATHS {
        let calls = json!([["webhook.list"], ["webhook.create", [webhook_data()]], ["event.publish", ["a:b", {}]]]);
        let results = reader.ask(at, "multiCall", json!([null, calls])).await.unwrap();
        assert_eq!(results[0], json!([]), "{at}");
        assert_eq!((&results[1]["faultCode"], &results[2]["faultCode"]), (&json!(2), &json!(2)), "{at}");
        let error = reader.ask(at, "webhook.delete", json!([null, 1])).await.unwrap_err();
        assert_eq!(error["code"], code_on(vendor, 2), "{at}");
    }
    assert_eq!((rows(&server, "webhook"), rows(&server, "event")), (0, 0));
}
