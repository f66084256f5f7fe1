//! The same calls as over HTTP, with the same answers.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, Start, TestServer, basic};

const PATHS: [&str; 4] = ["/", "/rpc", "/api/jsonrpc", "/backend/api/jsonrpc"];

/// Bodies whose answers do not depend on what was called before; the first
/// are those of the specification's section 7 that need no method of its own.
const BODIES: &[&str] = &[
    r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#,
    r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#,
    r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
    r#"[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method" ]"#,
    "[]",
    "[1]",
    "[1,2,3]",
    r#"[{"jsonrpc": "2.0", "method": "webhook.count", "params": [null], "id": "1"}, {"jsonrpc": "2.0", "method": "webhook.count", "params": [null]}, {"foo": "boo"}, {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"}]"#,
    r#"{"jsonrpc": 2.0, "id": 1234, "method": "call", "params": [null, "webhook.list", []]}"#,
    r#"{"jsonrpc": 2.0, "method": "webhook.count", "params": [null]}"#,
    r#"{"jsonrpc":"2.0","id":-1.50,"method":"webhook.get","params":{"session":"","webhook_id":99}}"#,
    r#"{"jsonrpc":"2.0","id":null,"method":"webhook.get","params":[null]}"#,
    r#"{"jsonrpc":"2.0","id":7,"method":"multiCall","params":[null,[["webhook.count"],["webhook.get",[99]],["nothing"]]]}"#,
    r#"{"jsonrpc":"2.0","id":7,"method":"webhook.count","params":["no session"]}"#,
    "",
    "nonsense",
];

#[tokio::test]
async fn answers_are_those_of_http_to_the_byte() {
    let server = TestServer::start().await;
    let headers = [("authorization", &*basic("demo", DEMO_KEY))];
    for path in PATHS {
        let mut socket = Socket::open(&server.url(), path, &headers).await.unwrap();
        for body in BODIES {
            let (_, expected) = server.post(path, &headers, (*body).to_owned()).await;
            socket.send_text(*body).await;
            assert_eq!(socket.text().await, expected, "{body} at {path}");
            socket.send(Message::binary(body.as_bytes().to_vec())).await;
            assert_eq!(socket.text().await, expected, "{body} at {path} as bytes");
        }
        socket.send(Message::binary([b'"', 0xff, b'"'].as_slice())).await;
        assert_eq!(socket.json().await["error"]["code"], -32_700);
    }
}

#[tokio::test]
async fn what_asks_for_no_answer_gets_none() {
    let server = TestServer::start().await;
    let mut socket = Socket::demo(&server).await;
    let publish = r#"{"jsonrpc":"2.0","method":"event.publish","params":[null,"a:b",{}]}"#;
    socket.send_text(publish).await;
    socket.send_text(format!("[{publish},{publish}]")).await;
    server.until(async || server.call("event.get", json!([3])).await.ok()).await;
    assert_eq!(socket.call("webhook.count", json!([null])).await, Ok(json!(0)));
}

#[tokio::test]
async fn a_session_says_who_calls_where_no_header_does() {
    let server = TestServer::start().await;
    let key = server.user("ann", "acme", "webhook_read");
    let mut socket = Socket::open(&server.url(), "/", &[]).await.unwrap();
    assert_eq!(socket.call("webhook.count", json!([null])).await.unwrap_err()["code"], 5);
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let demo = socket.call("login", json!(["demo", DEMO_KEY])).await.unwrap();
    let ann = socket.call("login", json!(["ann", key])).await.unwrap();
    assert_eq!(socket.call("webhook.count", json!([demo])).await, Ok(json!(1)));
    assert_eq!(socket.call("webhook.count", json!([ann])).await, Ok(json!(0)));
    for key in [demo.as_str().unwrap(), DEMO_KEY] {
        let mut socket =
            Socket::open(&server.url(), "/", &[("authorization", &format!("Bearer {key}"))]).await.unwrap();
        assert_eq!(socket.call("webhook.count", json!([null])).await, Ok(json!(1)));
    }
}

/// A call that waits holds up no other, until there are as many as may be.
#[tokio::test]
async fn calls_run_side_by_side_up_to_a_bound() {
    let server = Start::default().flag("ws_calls_max", "2").go().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let mut socket = Socket::demo(&server).await;
    let pull = json!([null, 1, 0, 10, 30_000]);
    let waiting = socket.begin("delivery.pull", pull.clone()).await;
    assert_eq!(socket.call("webhook.count", json!([null])).await, Ok(json!(1)));
    let second = socket.begin("delivery.pull", pull).await;
    let third = socket.begin("webhook.count", json!([null])).await;
    server.publish("a:b", json!({})).await;
    let mut answered = Vec::new();
    for _ in 0..3 {
        answered.push(socket.json().await["id"].as_i64().unwrap());
    }
    assert_ne!(answered[0], third, "it was not read before one of the others had ended: {answered:?}");
    answered.sort_unstable();
    assert_eq!(answered, [waiting, second, third]);
}

/// Answers that are long, many at once: none of it holds a thread for long,
/// which the guard of steps would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_long_answers_come_whole() {
    const CALLS: usize = 16;
    const EVENTS: usize = 500;
    let server = TestServer::start().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let filler = "\u{e4}".repeat(1_500);
    for _ in 0..EVENTS / 100 {
        let events: Vec<_> = (0..100).map(|_| json!({"topic": "a:b", "message": {"filler": filler}})).collect();
        server.call("event.publish_many", json!([events])).await.unwrap();
    }
    let mut socket = Socket::demo(&server).await;
    for _ in 0..CALLS {
        socket.begin("delivery.pull", json!([null, 1, 0, EVENTS])).await;
    }
    let mut answered = Vec::new();
    for _ in 0..CALLS {
        let answer = socket.json().await;
        let pulled = answer["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
        assert!(pulled.len() == EVENTS || answer.get("cut").is_some(), "{} came", pulled.len());
        answered.push(answer["id"].as_i64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=CALLS as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn subscriptions_need_a_websocket() {
    let server = TestServer::start().await;
    const WORDS: &str = "Resource path is not callable.";
    const WHY: &str = "It needs a WebSocket: open one at this URL, with ws:// in place of http://, and call it there.";
    for (method, args) in [
        ("delivery.subscribe", json!([])),
        ("delivery.unsubscribe", json!([1])),
        ("event.subscribe", json!(["*"])),
        ("event.unsubscribe", json!([1])),
    ] {
        let error = server.call(method, args.clone()).await.unwrap_err();
        assert_eq!(error, json!({"code": 4, "message": WORDS, "data": {"problem": WHY}}), "{method}");
        let headers = [("authorization", &*basic("demo", DEMO_KEY))];
        let mut params = vec![Value::Null];
        params.extend(args.as_array().unwrap().clone());
        let error = server.rpc_at("/api/jsonrpc", &headers, method, params.into()).await.unwrap_err();
        assert_eq!(error["code"], -32_004, "{method}");
        let calls = json!([null, [[method, args]]]);
        let results = server.rpc_at("/", &headers, "multiCall", calls).await.unwrap();
        assert_eq!(
            results,
            json!([{"isFault": true, "faultCode": 4, "faultMessage": WORDS, "faultData": {"problem": WHY}}])
        );
    }
}

/// Through `call`, `multiCall` and batches, too; the answer comes before all
/// that is told.
#[tokio::test]
async fn subscriptions_begin_after_their_answer() {
    let server = TestServer::start().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    server.publish("a:b", json!({})).await;
    let mut socket = Socket::demo(&server).await;
    let args = json!([1, {"after_increment_id": 0}]);
    let registered = json!([null, 1, {"after_increment_id": 0}]);
    let call =
        |id: i64, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    for (body, subscriptions) in [
        (call(1, "delivery.subscribe", registered.clone()), 1),
        (call(2, "call", json!([null, "delivery.subscribe", args])), 1),
        (call(3, "multiCall", json!([null, [["delivery.subscribe", args], ["delivery.subscribe", args]]])), 2),
        (json!([call(4, "delivery.subscribe", registered.clone()), call(5, "delivery.subscribe", registered)]), 2),
    ] {
        socket.send_text(body.to_string()).await;
        let answer = socket.json().await;
        assert!(answer.get("method").is_none() && !answer.to_string().contains("isFault"), "{answer}");
        for _ in 0..subscriptions {
            assert_eq!(socket.news().await["increment_id"], 1, "{body}");
        }
    }
}

#[tokio::test]
async fn subscriptions_have_a_bound() {
    let server = Start::default().flag("ws_subscriptions_max", "2").flag("subscriptions_max", "5").go().await;
    let refused = |why: &str| Err(json!({"code": 111, "message": format!("Invalid selection. {why}")}));
    let mut first = Socket::demo(&server).await;
    for _ in 0..2 {
        first.call("event.subscribe", json!([null])).await.unwrap();
    }
    let refusal = refused("The connection has 2 subscriptions, the most it may. End one first.");
    assert_eq!(first.call("delivery.subscribe", json!([null])).await, refusal);
    let mut second = Socket::demo(&server).await;
    second.call("event.subscribe", json!([null])).await.unwrap();
    let refusal = refused("The merchant has 3 subscriptions, the most it may. Retry once some have ended.");
    assert_eq!(second.call("event.subscribe", json!([null])).await, refusal);
    // Whatever one has, there is something left for others.
    let key = server.user("stranger", "globex", "webhook_read");
    let mut stranger = Socket::with_basic(&server, "stranger", &key).await;
    stranger.call("delivery.subscribe", json!([null])).await.unwrap();
    let refusal = refused("The merchant has 1 subscriptions, the most it may. Retry once some have ended.");
    assert_eq!(stranger.call("delivery.subscribe", json!([null])).await, refusal);
    let key = server.user("other", "initech", "webhook_read");
    let mut other = Socket::with_basic(&server, "other", &key).await;
    other.call("event.subscribe", json!([null])).await.unwrap();
    let key = server.user("last", "umbrella", "webhook_read");
    let mut last = Socket::with_basic(&server, "last", &key).await;
    let refusal = refused("The server has 5 subscriptions, the most it may. Retry once some have ended.");
    assert_eq!(last.call("event.subscribe", json!([null])).await, refusal);

    // Ended, or left behind, they make room.
    assert_eq!(first.call("event.unsubscribe", json!([null, 2])).await, Ok(json!(true)));
    while last.call("event.subscribe", json!([null])).await.is_err() {}
    drop((first, second));
    while last.call("event.subscribe", json!([null])).await.is_err() {}
}
