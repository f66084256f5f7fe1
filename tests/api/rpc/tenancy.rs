//! Nobody sees or changes another merchant's data, and nobody does what it
//! was not permitted to.

use serde_json::{Value, json};

use super::{ALL, PATHS, User, code_on, id_of, rows, webhook_data, webhook_with};
use crate::common::{Receiver, TestServer};

/// What the owner has, and others may try to get at.
struct Things {
    webhook: i64,
    event: i64,
    topic: &'static str,
    job: i64,
    token: i64,
}

/// What becomes of a call that names what belongs to another merchant.
enum Expected {
    /// The fault that it would be if there were no such thing.
    Fault(i64),
    /// What somebody who has nothing gets.
    Nothing(Value),
    /// It works, on the caller's own.
    Own,
}

/// For every method, the ways to name what there is; each works for its owner.
/// A method that is new has to be told of here, or the walk fails.
fn uses(method: &str, things: &Things) -> Vec<(Value, Expected)> {
    use Expected::{Fault, Nothing, Own};
    let Things { webhook: id, event, topic, job, token } = things;
    let webhook = |args| vec![(args, Fault(103))];
    match method {
        "webhook.list" => vec![
            (json!([]), Nothing(json!([]))),
            (json!([{"topic": topic}]), Nothing(json!([]))),
            (json!([{"after_webhook_id": 0, "sort": "-webhook_id"}]), Nothing(json!([]))),
            (json!([{"after_webhook_id": id - 1}]), Nothing(json!([]))),
        ],
        "webhook.count" => vec![(json!([]), Nothing(json!(0))), (json!([{"topic": topic}]), Nothing(json!(0)))],
        "webhook.create" => vec![(json!([webhook_data()]), Own)],
        "webhook.update_status" => vec![
            (json!([{"webhook_id": id, "status": 0}]), Fault(100)),
            (json!(["order:*", 0]), Fault(100)),
            (json!([{"status": 0}]), Fault(100)),
        ],
        "webhook.update" => webhook(json!([id, {"is_active": 0}])),
        "webhook.get" | "webhook.stats" | "webhook.enable" | "webhook.pause" | "webhook.resume" => webhook(json!([id])),
        "webhook.rotate_secret" => webhook(json!([id])),
        "webhook.replay" => webhook(json!([id, {"all": true}])),
        "webhook.backfill" => {
            vec![(json!([id, {"all": true}]), Fault(103)), (json!([id, {"topics": topic}]), Fault(103))]
        }
        "delivery.retry_many" => vec![
            (json!([{"webhook_id": id, "state": "delivered"}]), Fault(103)),
            // Of all that who has none has.
            (json!([{"all": true}]), Fault(103)),
        ],
        "job.list" => vec![(json!([]), Nothing(json!([])))],
        "job.get" | "job.cancel" => vec![(json!([job]), Fault(123))],
        "webhook.test" => vec![(json!([id]), Fault(103)), (json!([id, {"n": 1}]), Fault(103))],
        "webhook.export" => {
            vec![(json!([]), Nothing(json!([]))), (json!([{"topic": topic, "limit": 5}]), Nothing(json!([])))]
        }
        "webhook.import" => vec![(json!([[{"webhook": webhook_data(), "webhook_id": id}]]), Own)],
        "webhook.delete" => webhook(json!([id])),
        "delivery.list" | "delivery.count" => {
            vec![(json!([id]), Fault(103)), (json!([id, {"state": "delivered"}]), Fault(103))]
        }
        "delivery.pull" => vec![(json!([id]), Fault(103)), (json!([id, 1, 1]), Fault(103))],
        "delivery.attempts" | "delivery.get" | "delivery.retry" | "delivery.cancel" => webhook(json!([id, 1])),
        "delivery.attempt" => webhook(json!([id, 1, 1])),
        "event.publish" => vec![(json!([topic, message(), {"idempotency_key": "k"}]), Own)],
        "event.publish_many" => vec![(json!([[{"topic": topic, "message": {}}]]), Own)],
        "event.list" => vec![
            (json!([]), Nothing(json!([]))),
            (json!([{"topics": topic, "after_event_id": event - 1}]), Nothing(json!([]))),
        ],
        "event.count" => vec![(json!([{"topics": topic}]), Nothing(json!(0)))],
        "event.get" | "event.erase" => vec![(json!([event]), Fault(114))],
        // The owner's schema would refuse this message.
        "event.explain" => {
            vec![(json!([topic]), Nothing(json!([]))), (json!([topic, {"order_id": "seven"}]), Nothing(json!([])))]
        }
        "topic.list" => {
            vec![(json!([]), Nothing(json!([]))), (json!([{"topics": topic}]), Nothing(json!([])))]
        }
        "topic.count" => vec![(json!([]), Nothing(json!(0)))],
        "topic.register" => vec![(json!([format!("{topic}.new")]), Own)],
        "topic.update" => vec![(json!([topic, {"deprecated": 1}]), Fault(116))],
        "topic.remove" => vec![(json!([topic]), Fault(116))],
        // Over a WebSocket only; tests/ws has who is told what there.
        "delivery.subscribe" | "delivery.unsubscribe" | "event.unsubscribe" => vec![(json!([id]), Fault(4))],
        "event.subscribe" => vec![(json!([topic]), Fault(4))],
        // For operators alone.
        "merchant.list" => vec![(json!([]), Fault(2))],
        "merchant.create" => vec![(json!(["of.their.own", {"user": "their.first"}]), Fault(2))],
        "merchant.update" => vec![(json!(["demo", {"quotas": {"webhooks": 5}}]), Fault(2))],
        "merchant.pause" | "merchant.resume" => vec![(json!(["demo"]), Fault(2))],
        "merchant.get" => vec![(json!(["demo"]), Fault(124)), (json!([]), Own)],
        "user.update" => vec![(json!(["theirs", {"permissions": ["admin"]}]), Fault(121))],
        "user.rotate_key" => vec![(json!(["theirs", 0]), Fault(121))],
        "user.enable" | "user.disable" | "user.revoke" => vec![(json!(["theirs"]), Fault(121))],
        "user.create" => vec![(json!(["of.their.own", {"permissions": ["webhook_read"]}]), Own)],
        "user.list" => vec![(json!([]), Own), (json!([{"merchant": "globex"}]), Own)],
        "token.list" => vec![(json!([]), Nothing(json!([])))],
        "token.revoke" => vec![(json!([token]), Fault(131))],
        "token.create" => vec![(json!([{"name": "own", "permissions": ["webhook_read"]}]), Own)],
        // Whoever has a user has entries of his own.
        "audit.list" => {
            vec![(json!([]), Own), (json!([{"kind": "webhook", "id": id.to_string()}]), Nothing(json!([])))]
        }
        "audit.count" => vec![(json!([{"kind": "topic", "id": topic}]), Nothing(json!(0)))],
        // Of the server, which is everybody's.
        "node.list" => vec![(json!([]), Own)],
        _ => panic!("{method} is new: say what it takes"),
    }
}

/// Everything that a merchant has, row by row.
fn everything_of(server: &TestServer, merchant: i64) -> Vec<String> {
    let by_merchant = format!("merchant_id = {merchant}");
    let by_webhook = format!("webhook_id IN (SELECT webhook_id FROM webhook WHERE {by_merchant})");
    let tables = [
        (
            &by_merchant,
            ["webhook", "event", "topic", "idempotency", "audit", "\"user\"", "token", "merchant"].as_slice(),
        ),
        (&by_webhook, &["delivery", "attempt", "job", "notice"]),
    ];
    let mut all = Vec::new();
    for (condition, table) in
        tables.iter().flat_map(|(condition, tables)| tables.iter().map(move |one| (condition, one)))
    {
        let mut rows = server.place.rows(&format!("SELECT * FROM {table} WHERE {condition}"));
        rows.sort();
        all.extend(rows.iter().map(|row| format!("{table}: {}", row.join(", "))));
    }
    all
}

/// What the owner has published.
fn message() -> Value {
    json!({"order_id": 7, "note": "nobody else's"})
}

/// A server whose demo user has one of everything.
async fn furnished() -> (TestServer, Receiver, Things) {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let owner = User::demo(&server);
    let webhook = id_of(&owner.webhook(webhook_with(json!({"url": receiver.url()}))).await);
    let topic = "order:created";
    let schema = json!({"properties": {"order_id": {"type": "integer"}}});
    owner.done("topic.register", json!([topic, {"message_schema": schema}])).await;
    let receipt = owner.done("event.publish", json!([topic, message(), {"idempotency_key": "k"}])).await;
    server.settled(webhook).await;
    // It finds nothing to send.
    let replay = owner.done("webhook.replay", json!([webhook, {"all": true, "state": "cancelled"}])).await;
    let job = replay["job_id"].as_i64().unwrap();
    let is_done = async || owner.done("job.get", json!([job])).await["state"] == "done";
    server.until(async || is_done().await.then_some(())).await;
    // In PostgreSQL it is written a little later.
    let sql = format!("SELECT settled_through FROM webhook WHERE webhook_id = {webhook}");
    server.until(async || (server.place.number(&sql) == 1).then_some(())).await;
    let made = owner.done("token.create", json!([{"name": "theirs", "permissions": ["webhook_read"]}])).await;
    let token = made["token"]["token_id"].as_i64().unwrap();
    (server, receiver, Things { webhook, event: receipt["event_id"].as_i64().unwrap(), topic, job, token })
}

/// A message with nothing in it that tells which thing it speaks of.
fn without_names(error: &Value, topics: [&str; 2]) -> String {
    let text =
        topics.iter().fold(error["message"].as_str().unwrap().to_owned(), |text, topic| text.replace(topic, "…"));
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Walks the methods of the server: somebody of another merchant, with every
/// permission, tries each on what is not theirs, in every form and on every
/// path. The answers are those for what does not exist, and nothing changes.
#[tokio::test]
async fn another_merchants_things_are_as_if_there_were_none() {
    let (server, receiver, things) = furnished().await;
    let stranger = User::new(&server, "stranger", "globex", "webhook_read,webhook_write,event_write,admin");
    let absent = Things { webhook: 999, event: 999, topic: "absent:topic", job: 999, token: 999 };
    let before = everything_of(&server, 1);
    assert!(before.len() >= 8, "{before:?}");
    let (mut methods_tried, mut attempts) = (0, 0);
    for method in methods(&stranger).await {
        methods_tried += 1;
        for (place, (args, expected)) in uses(&method, &things).into_iter().enumerate() {
            match expected {
                Expected::Fault(number) => {
                    let error = stranger.refused(&method, args.clone(), number).await;
                    let (missing, _) = uses(&method, &absent).swap_remove(place);
                    let missing = stranger.call(&method, missing).await.unwrap_err();
                    let names = [things.topic, absent.topic];
                    assert_eq!(without_names(&error, names), without_names(&missing, names), "{method} {args}");
                    attempts += 1 + 3 * PATHS.len();
                }
                Expected::Nothing(nothing) => {
                    for (at, _) in PATHS {
                        let mut params = vec![Value::Null];
                        params.extend(args.as_array().unwrap().clone());
                        let found = stranger.ask(at, &method, params.into()).await;
                        assert_eq!(found, Ok(nothing.clone()), "{method} {args} at {at}");
                        let found = stranger.ask(at, "call", json!([null, method, args])).await;
                        assert_eq!(found, Ok(nothing.clone()), "{method} {args} at {at}");
                        attempts += 2;
                    }
                }
                // Done at the end, or there would be something of their own to see.
                Expected::Own => {}
            }
            assert_eq!(everything_of(&server, 1), before, "{method} {args}");
        }
    }
    for method in methods(&stranger).await {
        for (args, expected) in uses(&method, &things) {
            if let Expected::Own = expected {
                let done = stranger.done(&method, args.clone()).await.to_string();
                // The number is the first of their own webhook, or there is none.
                assert!(!done.contains(&format!("\"webhook_id\":{}", things.webhook)), "{method} {args}: {done}");
                attempts += 1;
                assert_eq!(everything_of(&server, 1), before, "{method} {args}");
            }
        }
    }
    assert_eq!(receiver.so_far().len(), 1);
    println!("another merchant: {attempts} attempts at {methods_tried} methods");
    assert!(methods_tried >= 32 && attempts >= 480, "{methods_tried} {attempts}");
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

/// Somebody of the same merchant who may do nothing tries everything.
#[tokio::test]
async fn a_user_without_permissions_is_refused_everything() {
    let (server, receiver, things) = furnished().await;
    let nobody = User::new(&server, "nobody", "demo", "");
    let before = everything_of(&server, 1);
    let methods = methods(&nobody).await;
    let mut attempts = 0;
    for method in &methods {
        let senseless = [json!([]), json!([999, "nonsense"])];
        for args in uses(method, &things).into_iter().map(|(args, _)| args).chain(senseless) {
            let error = nobody.refused(method, args.clone(), 2).await;
            assert!(error["message"].as_str().unwrap().starts_with("Access denied. This needs the permission "));
            assert_eq!(everything_of(&server, 1), before, "{method} {args}");
            attempts += 1 + 3 * PATHS.len();
        }
    }
    assert_eq!(receiver.so_far().len(), 1);
    println!("without a permission: {attempts} attempts at {} methods", methods.len());
    assert!(methods.len() >= 32 && attempts >= 1_400, "{} {attempts}", methods.len());
    // What describes the interface is open to whoever has logged in.
    for (method, params) in [("globalFaults", json!([null])), ("resourceFaults", json!([null, "webhook"]))] {
        assert!(nobody.ask("/", method, params).await.is_ok(), "{method}");
    }
}

#[tokio::test]
async fn each_permission_opens_its_own_methods() {
    let needs = |method: &str| match method {
        "event.publish" | "event.publish_many" => "event_write",
        "topic.register" | "topic.update" | "topic.remove" | "node.list" => "admin",
        "audit.list" | "audit.count" | "event.erase" => "admin",
        "merchant.get" => "admin",
        method if method.starts_with("merchant.") => "operator",
        method if method.starts_with("user.") => "admin",
        "delivery.retry" | "delivery.retry_many" | "delivery.cancel" | "job.cancel" => "webhook_write",
        "webhook.list" | "webhook.count" | "webhook.get" | "webhook.stats" | "webhook.export" => "webhook_read",
        method if method.starts_with("webhook.") => "webhook_write",
        _ => "webhook_read",
    };
    for held in ["webhook_read", "webhook_write", "event_write", "admin", "operator"] {
        let (server, _receiver, things) = furnished().await;
        let user = User::new(&server, held, "demo", held);
        let mut methods = methods(&user).await;
        // What takes away goes last, or there would be nothing to look at.
        methods.sort_by_key(|method| matches!(method.as_str(), "webhook.delete" | "topic.remove" | "event.erase"));
        for method in methods {
            let (args, _) = uses(&method, &things).swap_remove(0);
            let outcome = user.call(&method, args).await;
            let is_permitted = match held {
                "admin" => needs(&method) != "operator",
                "operator" => method.starts_with("user.") || method.starts_with("merchant."),
                _ if method.starts_with("token.") => true,
                held => held == needs(&method),
            };
            if is_permitted {
                // What was delivered can't be cancelled.
                let is_fitting = |error: &Value| match error["code"].as_i64() {
                    Some(113) => method == "delivery.cancel",
                    Some(121) => method.starts_with("user."),
                    // It is another's, or gives what its maker has not.
                    Some(131) => method == "token.revoke",
                    Some(132) => method == "token.create",
                    // They are permitted, and not over HTTP.
                    Some(4) => method.ends_with("subscribe"),
                    _ => false,
                };
                assert!(outcome.as_ref().map_or_else(is_fitting, |_| true), "{held} at {method}: {outcome:?}");
            } else {
                assert_eq!(outcome.unwrap_err()["code"], 2, "{held} at {method}");
            }
        }
    }
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
