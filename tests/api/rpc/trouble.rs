//! Faults whose cause is the store: it can't be written, its queue is full,
//! it is closing. Whatever was refused must have left nothing behind.

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{REQUEST_ID, User, again, code_on, id_of, rows, webhook_data, webhook_with};
use crate::common::{DEMO_KEY, PATIENCE, Receiver, Start, TestServer, basic};

/// A server that has a webhook already, and gives up at once on a store that
/// another process is writing to.
async fn impatient() -> (TestServer, i64) {
    let server = TestServer::start().await;
    let id = id_of(&User::demo(&server).webhook(webhook_with(json!({"is_active": 0}))).await);
    (again(server.stop().await).flag("busy_timeout_ms", "0").go().await, id)
}

#[tokio::test]
async fn a_store_that_cannot_be_written() {
    let (server, id) = impatient().await;
    let user = User::demo(&server);
    let before = user.list_text().await;
    let held = server.place.refuse_changes();
    for (path, args, number, message) in [
        ("webhook.create", json!([webhook_data()]), 102, "An unexpected error occurred while creating the webhook."),
        ("webhook.delete", json!([id]), 104, "An unexpected error occurred while deleting the webhook."),
        (
            "webhook.update_status",
            json!([{"status": 1}]),
            100,
            "Error changing status for specified webhook. The store failed; see the server's log.",
        ),
        ("event.publish", json!(["order:created", {}]), 1, "Internal Error. Please see log for details."),
        (
            "event.publish_many",
            json!([[{"topic": "order:created", "message": {}}]]),
            1,
            "Internal Error. Please see log for details.",
        ),
    ] {
        let error = user.refused(path, args, number).await;
        assert_eq!(error, json!({"code": number, "message": message, "data": {"request_id": REQUEST_ID}}), "{path}");
    }
    for (at, code) in [("/", 1), ("/api/jsonrpc", -32_001)] {
        let error = server.rpc_at(at, &[], "login", json!(["demo", DEMO_KEY])).await.unwrap_err();
        assert_eq!(error["code"], code, "{at}");
    }
    assert_eq!(user.list_text().await, before, "reading goes on");
    drop(held);

    assert_eq!(user.list_text().await, before);
    for table in ["event", "delivery", "session", "idempotency"] {
        assert_eq!(rows(&server, table), 0, "{table}");
    }
    assert_eq!(rows(&server, "webhook"), 1);
    let server = again(server.stop().await).go().await;
    let user = User::demo(&server);
    assert_eq!(user.list_text().await, before);
    // What can be written now takes the first id and the first number.
    user.done("webhook.update_status", json!([{"status": 1}])).await;
    let receipt = user.done("event.publish", json!(["order:created", {}])).await;
    // Ids of events that were not come to be are not given out again by PostgreSQL.
    let event_id = if server.place.is_file() { json!(1) } else { receipt["event_id"].clone() };
    assert_eq!(receipt, json!({"event_id": event_id, "deliveries": [{"webhook_id": id, "increment_id": 1}]}));
}

/// Another server may hold the merchant's data for a while.
#[tokio::test]
async fn a_store_that_somebody_holds() {
    let (server, _) = impatient().await;
    let user = User::demo(&server);
    let held = server.hold_store();
    // A file is held as a whole, by somebody who is no server of ours.
    let publish = async || user.call("event.publish", json!(["order:created", {}])).await;
    let error = publish().await.unwrap_err();
    let expected = if server.place.is_file() {
        json!({"code": 1, "message": "Internal Error. Please see log for details.", "data": {"request_id": REQUEST_ID}})
    } else {
        let message = "Event not accepted. Another server is changing what belongs to the merchant. Retry in 1000 ms.";
        json!({"code": 109, "message": message, "data": {"retry_after_ms": 1_000}})
    };
    assert_eq!(error, expected);
    drop(held);
    assert_eq!(publish().await, Ok(json!({"event_id": 1, "deliveries": []})));
}

mod sqlite_own {
    use super::*;

    /// Whatever is accepted then could not be found again.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_store_that_is_taken_away() {
        let server = TestServer::start().await;
        let user = User::demo(&server);
        let id = id_of(&user.webhook(webhook_data()).await);
        let (path, aside) = (server.place.store_file(), server.place.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        for (path, args, number) in [
            ("event.publish", json!(["order:created", {}]), 109),
            ("event.publish_many", json!([[{"topic": "order:created", "message": {}}]]), 109),
            ("webhook.create", json!([webhook_data()]), 106),
            ("webhook.delete", json!([id]), 105),
            ("webhook.update_status", json!([{"status": 1}]), 100),
            ("topic.register", json!(["order:created", {}]), 118),
        ] {
            let error = user.refused(path, args, number).await;
            assert_eq!(error["data"]["retry_after_ms"], 60_000, "{path}: {error}");
            assert!(error["message"].as_str().unwrap().contains("not where it was"), "{path}: {error}");
        }
        user.list_text().await;
        std::fs::rename(&aside, &path).unwrap();
        let receipt = user.done("event.publish", json!(["order:created", {}])).await;
        assert_eq!(receipt["deliveries"][0]["webhook_id"], id);
    }
}

#[tokio::test]
async fn a_change_that_fails_midway_takes_back_what_it_did() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let first = id_of(&user.webhook(webhook_data()).await);
    let second = id_of(&user.webhook(webhook_with(json!({"topics": "order:created"}))).await);
    let refuse = if server.place.is_file() {
        format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON delivery WHEN NEW.webhook_id = {second}
                BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    } else {
        format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON delivery FOR EACH ROW WHEN (NEW.webhook_id = {second})
                EXECUTE FUNCTION refuse()"
        )
    };
    server.place.rows(&refuse);
    let good = json!({"topic": "order:canceled", "message": {}});
    let bad = json!({"topic": "order:created", "message": {}, "options": {"idempotency_key": "k"}});
    user.refused("event.publish", json!(["order:created", {}, {"idempotency_key": "k"}]), 1).await;
    user.refused("event.publish_many", json!([[good, bad]]), 1).await;
    for table in ["event", "delivery", "idempotency"] {
        assert_eq!(rows(&server, table), 0, "{table}");
    }
    let receipt = user.done("event.publish", json!(["order:canceled", {}])).await;
    assert_eq!(receipt["deliveries"], json!([{"webhook_id": first, "increment_id": 1}]));

    server.place.rows(if server.place.is_file() { "DROP TRIGGER refuse" } else { "DROP FUNCTION refuse CASCADE" });
    let receipt = user.done("event.publish", json!(["order:created", {}, {"idempotency_key": "k"}])).await;
    let expected = json!([{"webhook_id": first, "increment_id": 2}, {"webhook_id": second, "increment_id": 1}]);
    assert_eq!(receipt["deliveries"], expected);
}

/// One of the calls that change something, and what it is when refused.
#[derive(Clone)]
struct Change {
    path: &'static str,
    args: Value,
    refusal: i64,
}

/// How a call is made.
#[derive(Clone, Copy, Debug)]
enum Form {
    Native,
    Vendor,
    Multi,
}

/// How a call ended.
#[derive(Debug, PartialEq)]
enum End {
    Done,
    /// A fault's number, its message, and its data where the form has any.
    Refused(i64, String, Option<Value>),
}

async fn change(user: &User<'_>, change: Change, form: Form) -> (Change, Form, End) {
    let params = json!([null, change.path, change.args]);
    let end = match form {
        Form::Native => end_of(user.ask("/", "call", params).await, false),
        Form::Vendor => end_of(user.ask("/api/jsonrpc", "call", params).await, true),
        Form::Multi => {
            let results = user.ask("/", "multiCall", json!([null, [[change.path, change.args]]])).await.unwrap();
            match results[0].get("isFault") {
                Some(_) => {
                    End::Refused(results[0]["faultCode"].as_i64().unwrap(), text(&results[0]["faultMessage"]), None)
                }
                None => End::Done,
            }
        }
    };
    (change, form, end)
}

fn end_of(outcome: Result<Value, Value>, vendor: bool) -> End {
    let Err(error) = outcome else { return End::Done };
    let code = error["code"].as_i64().unwrap();
    End::Refused(if vendor { -32_000 - code } else { code }, text(&error["message"]), Some(error["data"].clone()))
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is a text").to_owned()
}

/// The webhooks that the changes below are about.
struct Webhooks {
    kept: i64,
    switched: i64,
    doomed: i64,
}

impl Webhooks {
    async fn make(user: &User<'_>, url: &str) -> Self {
        let kept = user.webhook(webhook_with(json!({"url": url}))).await;
        let switched = user.webhook(webhook_with(json!({"topics": "a:b"}))).await;
        let doomed = user.webhook(webhook_with(json!({"topics": "c:d"}))).await;
        Self { kept: id_of(&kept), switched: id_of(&switched), doomed: id_of(&doomed) }
    }

    fn changes(&self) -> [Change; 4] {
        let change = |path, args, refusal| Change { path, args, refusal };
        [
            change("webhook.create", json!([webhook_with(json!({"topics": "e:f"}))]), 106),
            change("webhook.delete", json!([self.doomed]), 105),
            change("webhook.update_status", json!([{"webhook_id": self.switched, "status": 0}]), 100),
            change("event.publish", json!(["order:created", {"order_id": 7}]), 109),
        ]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_write_queue_refuses_and_leaves_nothing_half_done() {
    /// Two that the writer has taken, and two that fill the queue: one for each
    /// call that comes alone, and one for the sweep that may come beside it.
    const WAITING_MAX: usize = 4;
    let start = Start::default().flag("write_queue_max", "2").flag("busy_timeout_ms", "600000");
    let server = start.go().await;
    let receiver = Receiver::obliging().await;
    let user = User::demo(&server);
    let webhooks = Webhooks::make(&user, &receiver.url()).await;

    let held = server.hold_store();
    let mut calls: FuturesUnordered<LocalBoxFuture<'_, _>> = FuturesUnordered::new();
    for each in webhooks.changes() {
        for form in [Form::Native, Form::Vendor, Form::Multi] {
            // One more than can wait, so that at least one of each is refused.
            for _ in 0..=WAITING_MAX {
                calls.push(Box::pin(change(&user, each.clone(), form)));
            }
        }
    }
    // While the store is held, nothing is done, and no more than those wait.
    for _ in WAITING_MAX..calls.len() {
        let (change, form, end) = tokio::time::timeout(PATIENCE, calls.next()).await.unwrap().unwrap();
        check_refusal(&change, form, &end);
    }
    drop(held);
    let mut done = Vec::new();
    while let Some((change, form, end)) = calls.next().await {
        match end {
            End::Done => done.push(change.path),
            // Two deletions of the same webhook may have waited.
            End::Refused(103, ..) => assert_eq!(change.path, "webhook.delete"),
            // It was refused in time, and only heard of later.
            _ => check_refusal(&change, form, &end),
        }
    }
    assert!((1..=WAITING_MAX).contains(&done.len()), "{done:?}");
    check_effects(&server, &webhooks, &done).await;
    check_deliveries(&user, &receiver, webhooks.kept).await;
}

fn check_refusal(change: &Change, form: Form, end: &End) {
    let End::Refused(number, message, data) = end else { panic!("{} {form:?}: {end:?}", change.path) };
    assert_eq!(*number, change.refusal, "{} {form:?}: {message}", change.path);
    assert!(message.ends_with(" The write queue is full. Retry in 1000 ms."), "{message}");
    if let Some(data) = data {
        assert_eq!(*data, json!({"retry_after_ms": 1000}), "{} {form:?}", change.path);
    }
}

/// What the store holds is what was answered, no more and no less.
async fn check_effects(server: &TestServer, webhooks: &Webhooks, done: &[&str]) {
    let times = |path: &str| done.iter().filter(|done| **done == path).count();
    let list = User::demo(server).done("webhook.list", json!([])).await;
    let list = list.as_array().unwrap();
    let find = |id: i64| list.iter().find(|item| item["webhook_id"] == id);
    assert_eq!(list.iter().filter(|item| item["topics"] == "e:f").count(), times("webhook.create"));
    assert_eq!(find(webhooks.doomed).is_none(), times("webhook.delete") > 0);
    let is_off = find(webhooks.switched).unwrap()["is_active"] == 0;
    assert_eq!(is_off, times("webhook.update_status") > 0);
    let published = i64::try_from(times("event.publish")).unwrap();
    assert_eq!(find(webhooks.kept).unwrap()["increment_id"], published);
    assert_eq!((rows(server, "event"), rows(server, "delivery")), (published, published));
}

/// The next number follows the last, and all arrive.
async fn check_deliveries(user: &User<'_>, receiver: &Receiver, webhook_id: i64) {
    let next = user.done("event.publish", json!(["order:created", {}])).await;
    let last = next["deliveries"][0]["increment_id"].as_i64().unwrap();
    let settled = user.server.settled(webhook_id).await;
    let numbers: Vec<_> = settled.iter().map(|delivery| delivery["increment_id"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    let mut arrived: Vec<_> = receiver.so_far().iter().map(|arrived| arrived.number()).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, numbers);
}

/// A call that the server has begun to read: it has asked for the body.
struct HalfSent {
    stream: TcpStream,
    body: String,
}

impl HalfSent {
    async fn start(server: &TestServer, at: &str, method: &str, params: Value) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST {at} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: {}\r\n\
             content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
            basic("demo", DEMO_KEY),
            body.len(),
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body }
    }

    /// Sends the body; the answer.
    async fn finish(mut self) -> Value {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, self.stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        serde_json::from_str(body).unwrap()
    }
}

#[tokio::test]
async fn a_server_that_is_shutting_down() {
    let server = Start::default().flag("grace_ms", "0").go().await;
    let user = User::demo(&server);
    let webhooks = Webhooks::make(&user, "http://127.0.0.1:9/hook").await;
    let before = user.list_text().await;
    let mut calls = Vec::new();
    for change in webhooks.changes() {
        for (at, vendor) in [("/", false), ("/api/jsonrpc", true)] {
            let half = HalfSent::start(&server, at, "call", json!([null, change.path, change.args])).await;
            calls.push((vendor, half));
        }
    }
    let all: Vec<_> = webhooks.changes().into_iter().map(|change| json!([change.path, change.args])).collect();
    let multi = HalfSent::start(&server, "/", "multiCall", json!([null, all])).await;
    let list = HalfSent::start(&server, "/", "webhook.list", json!([null])).await;
    let place = server.stop().await;

    // The grace is over, and the store is closed, for reading too.
    const WHY: &str = " The server is shutting down. Retry once it is back.";
    let vendors = calls.iter().map(|(vendor, _)| *vendor).chain([false, false]).collect::<Vec<_>>();
    let calls = calls.into_iter().map(|(_, half)| half).chain([multi, list]);
    for (vendor, half) in vendors.into_iter().zip(calls) {
        let answer = half.finish().await;
        assert_eq!(answer["error"]["code"], code_on(vendor, 1), "{answer}");
        assert!(text(&answer["error"]["message"]).ends_with(WHY), "{answer}");
    }

    let server = again(place).go().await;
    assert_eq!(User::demo(&server).list_text().await, before);
    assert_eq!((rows(&server, "event"), rows(&server, "delivery")), (0, 0));
}
