//! Every fault that needs no trouble with the store, by a real cause: on all
//! paths, through `call` and `multiCall`, and as a registered method.

use serde_json::{Value, json};

use super::{ALL, INVALID_PARAMS, PATHS, REQUEST_ID, User, again, code_on, id_of, rows, webhook_data, webhook_with};
use crate::common::{DEMO_KEY, Start, TestServer, basic};

#[tokio::test]
async fn fault_1_a_store_that_cannot_be_read() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_data()).await);
    server.place.rows("UPDATE webhook SET topics = 'damaged'");
    for (path, args) in [("webhook.list", json!([])), ("webhook.get", json!([id]))] {
        let error = user.refused(path, args, 1).await;
        // The store's own words are for the log.
        assert_eq!(
            error,
            json!({"code": 1, "message": "Internal Error. Please see log for details.", "data": {"request_id": REQUEST_ID}})
        );
    }
    server.place.rows("UPDATE webhook SET topics = 'order:*'");
    assert_eq!(user.done("webhook.get", json!([id])).await["topics"], "order:*");
}

#[tokio::test]
async fn fault_2_a_missing_permission() {
    let server = TestServer::start().await;
    let reader = User::new(&server, "reader", "acme", "webhook_read");
    for (path, args, needed) in [
        ("webhook.create", json!([webhook_data()]), "webhook_write"),
        ("event.publish", json!(["order:created", {}]), "event_write"),
    ] {
        let error = reader.refused(path, args, 2).await;
        assert_eq!(error["message"], format!("Access denied. This needs the permission {needed}."));
    }
    assert_eq!((rows(&server, "webhook"), rows(&server, "event")), (0, 0));
}

#[tokio::test]
async fn fault_2_a_wrong_key() {
    let server = Start::default().flag("login_failures_max", "1000").go().await;
    let key = basic("demo", "wrong");
    for (at, vendor) in PATHS {
        for (headers, method, params) in [
            (&[][..], "login", json!(["demo", "wrong"])),
            (&[("authorization", key.as_str())][..], "startSession", json!([])),
            (&[("authorization", key.as_str())][..], "call", json!([null, "webhook.list"])),
            (&[("authorization", key.as_str())][..], "multiCall", json!([null, [["webhook.list"]]])),
            (&[("authorization", key.as_str())][..], "webhook.list", json!([null])),
        ] {
            let error = server.rpc_at(at, headers, method, params).await.unwrap_err();
            assert_eq!(error, json!({"code": code_on(vendor, 2), "message": "Access denied."}), "{method} at {at}");
        }
    }
}

#[tokio::test]
async fn fault_3_paths_that_do_not_exist() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (path, nearest) in [
        ("webhook.paint", None),
        ("nothing.list", None),
        ("nothing", None),
        ("", None),
        (".", None),
        ("webhook.", None),
        (".list", None),
        ("WEBHOOK.LIST", Some("webhook.list")),
        ("webhook/list", Some("webhook.list")),
        ("webhook.lst", Some("webhook.list")),
        ("event.publsih", Some("event.publish")),
    ] {
        let error = user.refused(path, json!([]), 3).await;
        assert_eq!((&error["code"], &error["message"]), (&json!(3), &json!("Invalid api path.")), "{path:?}");
        assert_eq!(error["data"]["nearest"], json!(nearest), "{path:?}");
        let problem = error["data"]["problem"].as_str().unwrap();
        assert!(problem.starts_with(&format!("There is no method {path:?}. ")), "{problem}");
        // A name that is no method of its own, either.
        let error = user.ask("/", path, json!([null])).await.unwrap_err();
        assert_eq!((&error["code"], &error["message"]), (&json!(-32601), &json!("Method not found")), "{path:?}");
        assert_eq!(error["data"]["nearest"], json!(nearest), "{path:?}");
    }
    let long = user.refused(&"webhook.list".repeat(1_000), json!([]), 3).await;
    assert!(long["data"]["problem"].as_str().unwrap().len() < 600, "{long}");
    for (at, vendor) in PATHS {
        let error = user.ask(at, "resourceFaults", json!([null, "nothing"])).await.unwrap_err();
        assert_eq!(error["code"], code_on(vendor, 3), "{at}");
    }
}

#[tokio::test]
async fn fault_4_paths_that_cannot_be_called() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for path in ["webhook", "event", "delivery", "login", "call", "multiCall", "resources", "endSession"] {
        let error = user.refused(path, json!([]), 4).await;
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!(4), &json!("Resource path is not callable.")),
            "{path}"
        );
        assert!(error["data"]["problem"].as_str().unwrap().starts_with(&format!("{path} is ")), "{error}");
    }
}

#[tokio::test]
async fn fault_5_sessions_that_are_none() {
    let server = TestServer::start().await;
    let ended = server.login().await;
    server.rpc("endSession", json!([ended])).await.unwrap();
    let unknown = json!("be1c13ed4e03f0ed7f1e4053dfff9658");
    for session in [unknown, json!(ended), json!(null), json!(""), json!(5), json!(["x"]), json!({"key": "x"})] {
        for (at, vendor) in PATHS {
            for (method, params) in [
                ("call", json!([session, "webhook.list"])),
                ("multiCall", json!([session, [["webhook.list"]]])),
                ("webhook.list", json!([session])),
                ("webhook.create", json!({"session": session, "webhook": webhook_data()})),
                ("resources", json!([session])),
                ("resourceFaults", json!([session, "webhook"])),
                ("globalFaults", json!([session])),
            ] {
                let error = server.rpc_at(at, &[], method, params).await.unwrap_err();
                let expected = json!({"code": code_on(vendor, 5), "message": "Session expired. Try to relogin."});
                assert_eq!(error, expected, "{method} with {session} at {at}");
            }
        }
    }
    assert_eq!(rows(&server, "webhook"), 0);
}

#[tokio::test]
async fn fault_6_parameters_that_are_missing() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (path, args, missing) in [
        ("webhook.create", json!([]), "webhook"),
        ("webhook.create", json!([null, true]), "webhook"),
        ("webhook.get", json!([]), "webhook_id"),
        ("webhook.delete", json!([null]), "webhook_id"),
        ("event.publish", json!([]), "topic"),
        ("event.publish", json!(["order:created"]), "message"),
        ("event.publish", json!(["order:created", null]), "message"),
        ("event.publish_many", json!([]), "events"),
        ("delivery.list", json!([]), "webhook_id"),
        ("delivery.attempts", json!([]), "webhook_id"),
        ("delivery.attempts", json!([1]), "increment_id"),
    ] {
        let error = user.refused(path, args, 6).await;
        let words = "Required parameter is missing, for more details see \"exception.log\".";
        assert_eq!((&error["message"], &error["data"]["field"]), (&json!(words), &json!(missing)));
        let problem = error["data"]["problem"].as_str().unwrap();
        assert!(problem.starts_with(&format!("{missing} is missing; {path} takes (")), "{problem}");
    }
    assert_eq!(rows(&server, "event"), 0);
}

#[tokio::test]
async fn a_registered_method_says_what_is_missing_by_the_specifications_code() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (method, params, missing) in [
        ("login", json!([]), "username"),
        ("login", json!(["demo"]), "api_key"),
        ("login", json!({"api_key": DEMO_KEY}), "username"),
        ("call", json!([null]), "path"),
        ("call", json!({"args": []}), "path"),
        ("multiCall", json!([null]), "calls"),
        ("resourceFaults", json!([null]), "resource"),
        ("webhook.create", json!([null]), "webhook"),
        ("webhook.create", json!({"return_webhook": true}), "webhook"),
        ("webhook.get", json!({}), "webhook_id"),
        ("webhook.delete", json!([null]), "webhook_id"),
        ("event.publish", json!({"topic": "order:created"}), "message"),
        ("event.publish", json!({"message": {}}), "topic"),
        ("event.publish_many", json!([null]), "events"),
        ("delivery.list", json!({"options": {}}), "webhook_id"),
        ("delivery.attempts", json!({"webhook_id": 1}), "increment_id"),
    ] {
        for (at, _) in PATHS {
            let error = user.ask(at, method, params.clone()).await.unwrap_err();
            assert_eq!(error["code"], INVALID_PARAMS, "{method} {params} at {at}: {error}");
            assert_eq!(error["data"]["field"], missing, "{method} {params} at {at}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("Invalid params: {missing} is missing; ")), "{message}");
        }
    }
}

#[tokio::test]
async fn fault_100_nothing_selected() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let error = user.refused("webhook.update_status", json!([{"status": 1}]), 100).await;
    assert_eq!(error["message"], "Error changing status for specified webhook. There is no webhook yet.");
}

#[tokio::test]
async fn fault_101_data_that_breaks_a_rule() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let data = webhook_with(json!({"url": "ftp://example.com/"}));
    let error = user.refused_field("webhook.create", json!([data]), 101, "url").await;
    let expected = "Invalid data given. url: has the scheme ftp; only http and https are delivered to.";
    assert_eq!(error["message"], expected);
    assert_eq!(rows(&server, "webhook"), 0);
}

#[tokio::test]
async fn fault_103_webhooks_that_do_not_exist() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_data()).await);
    user.done("webhook.delete", json!([id])).await;
    for id in [id, id + 1, 0, -1, i64::MAX] {
        for (path, args) in [
            ("webhook.delete", json!([id])),
            ("webhook.get", json!([id])),
            ("delivery.list", json!([id])),
            ("delivery.attempts", json!([id, 1])),
        ] {
            let error = user.refused(path, args, 103).await;
            let expected = format!("Webhook not exists. There is no webhook {id}.");
            assert_eq!(error, json!({"code": 103, "message": expected}), "{path}");
        }
    }
}

#[tokio::test]
async fn fault_106_as_many_webhooks_as_there_may_be() {
    let server = Start::default().flag("webhooks_max", "1").go().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_data()).await);
    let error = user.refused("webhook.create", json!([webhook_data()]), 106).await;
    assert_eq!(
        error["message"],
        "Webhook not created. The merchant has 1 webhooks, the most it may have. Delete one first."
    );
    assert_eq!(rows(&server, "webhook"), 1);
    let other = User::new(&server, "other", "globex", ALL);
    assert!(id_of(&other.webhook(webhook_data()).await) > id, "each merchant has a quota of its own");
    user.done("webhook.delete", json!([id])).await;
    user.webhook(webhook_data()).await;

    // It still holds after a restart, when it is counted anew.
    let server = again(server.stop().await).flag("webhooks_max", "1").go().await;
    User::demo(&server).refused("webhook.create", json!([webhook_data()]), 106).await;
}

#[tokio::test]
async fn a_merchants_webhooks_are_no_longer_together_than_they_may_be() {
    let server = Start::default().flag("merchant_webhook_bytes_max", "3200").go().await;
    let user = User::demo(&server);
    let long = |bytes: usize| webhook_with(json!({"description": "d".repeat(bytes)}));
    let id = id_of(&user.webhook(long(1_500)).await);
    let other = id_of(&user.webhook(long(1_500)).await);
    let error = user.refused("webhook.create", json!([long(1_500)]), 106).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("of the 3200 that they may"), "{message}");
    let error = user.refused("webhook.update", json!([id, {"description": "d".repeat(2_000)}]), 112).await;
    assert!(error["message"].as_str().unwrap().contains("of the 3200 that they may"), "{error}");
    assert_eq!(rows(&server, "webhook"), 2);
    User::new(&server, "other", "globex", ALL).webhook(long(1_500)).await;

    // What has become shorter, or is deleted, makes room.
    user.done("webhook.update", json!([id, {"description": ""}])).await;
    user.done("webhook.update", json!([other, {"description": "d".repeat(2_000)}])).await;
    user.done("webhook.delete", json!([other])).await;
    user.webhook(long(2_000)).await;

    // All that are there count after a restart; what makes one no longer is done all the same.
    let server = again(server.stop().await).flag("merchant_webhook_bytes_max", "1024").go().await;
    let user = User::demo(&server);
    user.refused("webhook.create", json!([webhook_data()]), 106).await;
    user.done("webhook.update", json!([id, {"is_active": 0}])).await;
}

#[tokio::test]
async fn faults_110_and_111_of_deliveries() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_with(json!({"is_active": 0}))).await);
    let error = user.refused("delivery.attempts", json!([id, 1]), 110).await;
    assert_eq!(error["message"], format!("Delivery not exists. Webhook {id} has given out no number 1."));
    for (options, field) in [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 1001}), "limit"),
        (json!({"limit": "many"}), "limit"),
        (json!({"state": "lost"}), "state"),
        (json!({"after_increment_id": -1}), "after_increment_id"),
        (json!({"after": 1}), "after"),
    ] {
        user.refused_field("delivery.list", json!([id, options]), 111, field).await;
    }
    user.refused_field("delivery.list", json!(["one"]), 111, "webhook_id").await;
}

#[tokio::test]
async fn faults_114_and_115_of_what_is_not_there() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let id = id_of(&user.webhook(webhook_with(json!({"is_active": 0}))).await);
    user.refused_field("event.get", json!(["one"]), 107, "event_id").await;
    user.refused_field("event.explain", json!(["order"]), 107, "topic").await;
    let error = user.refused("event.get", json!([7]), 114).await;
    assert_eq!(error["message"], "Event not exists. There is no event 7, or no more.");
    for number in [-1, 0, 1, i64::MIN, i64::MAX] {
        user.refused("delivery.get", json!([id, number]), 110).await;
        user.refused("delivery.attempt", json!([id, number, 1]), 110).await;
    }
    // Numbered while it was on, and off before any attempt.
    user.done("webhook.update", json!([id, {"is_active": 1, "delivery_mode": "pull"}])).await;
    user.done("event.publish", json!(["order:created", {}])).await;
    for attempt in [-1, 0, 1, i64::MAX] {
        let error = user.refused("delivery.attempt", json!([id, 1, attempt]), 115).await;
        let words = format!("Attempt not exists. Delivery 1 of webhook {id} has no attempt {attempt} on record.");
        assert_eq!(error["message"], words);
    }
}

#[tokio::test]
async fn the_faults_are_described_as_they_are_raised() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let ask = async |method: &str, params: Value| user.ask("/", method, params).await.unwrap();
    let codes = |faults: Value| -> Vec<i64> {
        faults.as_array().unwrap().iter().map(|fault| fault["code"].as_i64().unwrap()).collect()
    };
    assert_eq!(codes(ask("globalFaults", json!([null])).await), [0, 1, 2, 3, 4, 5, 6, 119, 120, 128]);
    let webhook = ask("resourceFaults", json!([null, "webhook"])).await;
    // ShipStream's table, in its words, and one of ours.
    let table = [
        (100, "Error changing status for specified webhook. Details in error message."),
        (101, "Invalid data given. Details in error message."),
        (102, "An unexpected error occurred while creating the webhook."),
        (103, "Webhook not exists."),
        (104, "An unexpected error occurred while deleting the webhook."),
        (105, "Webhook not deleted. Details in error message."),
        (106, "Webhook not created. Details in error message."),
        (112, "Webhook not changed. Details in error message."),
    ];
    let table: Vec<Value> = table.map(|(code, message)| json!({"code": code, "message": message})).into();
    assert_eq!(webhook, Value::from(table));
    assert_eq!(codes(ask("resourceFaults", json!([null, "event"])).await), [107, 108, 109, 114]);
    assert_eq!(codes(ask("resourceFaults", json!([null, "delivery"])).await), [110, 111, 113, 115]);
}
