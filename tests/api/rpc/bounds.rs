//! What callers send is bounded in all, and so is what they are sent while it
//! is being made.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, PATIENCE, Start, TestServer, basic, http_client, send};

const MIB: usize = 1_048_576;
/// More than half of the room there is.
const LONG: usize = 600_000;

/// A call that is `length` bytes long, whose answer is 0.
fn padded(length: usize) -> String {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"webhook.count","params":[null]}"#;
    format!("{call}{}", " ".repeat(length - call.len()))
}

/// A server with room for little.
async fn narrow() -> TestServer {
    Start::default().flag("received_bytes_max", &MIB.to_string()).go().await
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap()
}

/// A long call all of which has been sent but for the last byte.
async fn almost_sent(server: &TestServer) -> TcpStream {
    let mut stream = connect(server).await;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\nconnection: close\r\ncontent-length: {LONG}\r\n\r\n",
        basic("demo", DEMO_KEY)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&padded(LONG).as_bytes()[..LONG - 1]).await.unwrap();
    stream
}

/// All that comes until the end; a reset is one, too.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server takes leave");
    String::from_utf8(rest).unwrap()
}

/// Sends calls of that length until one is answered so.
async fn until_answered(server: &TestServer, length: usize, status: u16) -> (http::HeaderMap, String) {
    let authorization = basic("demo", DEMO_KEY);
    let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
    let answered = async {
        loop {
            let answer = send(&http_client(), "POST", &server.url(), &headers, padded(length)).await;
            if answer.0 == status {
                return (answer.1, answer.2);
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it comes to be")
}

#[tokio::test]
async fn what_finds_no_room_is_refused_and_small_calls_always_find_some() {
    let server = narrow().await;
    until_answered(&server, LONG, 200).await;
    let mut first = almost_sent(&server).await;
    let (headers, text) = until_answered(&server, LONG, 503).await;
    assert!(headers["retry-after"] == "1" && headers["content-type"] == "application/json", "{headers:?}");
    let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
    assert_eq!((&error["code"], &error["data"]), (&json!(-32_000), &json!({"retry_after_ms": 1_000})), "{text}");
    assert!(error["message"].as_str().unwrap().contains("no room"), "{text}");

    // In the shape of its dialect, where the body is read.
    let key = [("x-api-key", DEMO_KEY), ("content-type", "application/json")];
    let path = format!("{}/v1/webhooks/subscriptions", server.url());
    let (status, headers, text) = send(&http_client(), "POST", &path, &key, padded(LONG)).await;
    assert!(status == 503 && headers["retry-after"] == "1", "{status} {headers:?} {text}");
    assert!(text.contains("no room") && !text.contains("jsonrpc"), "{text}");

    // Over a WebSocket, too.
    let mut socket = Socket::demo(&server).await;
    socket.send_text(padded(LONG)).await;
    let refused = socket.json().await;
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["data"]["retry_after_ms"]),
        (&json!(-32_000), &json!(1_000))
    );
    assert_eq!(socket.closed().await.0, 1013);

    until_answered(&server, 15_000, 200).await;
    first.write_all(b" ").await.unwrap();
    let answer = rest(&mut first).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"jsonrpc":"2.0","result":0,"id":1}"#),
        "{answer}"
    );
    until_answered(&server, LONG, 200).await;
}

#[tokio::test]
async fn who_breaks_off_leaves_no_trace() {
    let server = narrow().await;
    let first = almost_sent(&server).await;
    until_answered(&server, LONG, 503).await;
    drop(first);
    until_answered(&server, LONG, 200).await;
    let mut socket = Socket::demo(&server).await;
    for _ in 0..5 {
        socket.send_text(padded(LONG)).await;
        assert_eq!(socket.json().await["result"], 0);
    }
}

/// What is longer than all the room goes alone.
#[tokio::test]
async fn a_body_may_be_longer_than_the_room() {
    let server =
        Start::default().flag("received_bytes_max", &MIB.to_string()).flag("body_bytes_max", "4194304").go().await;
    until_answered(&server, 3 * MIB, 200).await;
}

#[tokio::test]
async fn heads_have_a_bound_and_count() {
    let server = narrow().await;
    let ask = async |length: usize| {
        let mut stream = connect(&server).await;
        let head = format!(
            "GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-long: {}\r\n\r\n",
            "x".repeat(length)
        );
        // One that is refused is not read to its end.
        let _ = stream.write_all(head.as_bytes()).await;
        rest(&mut stream).await
    };
    assert!(ask(100_000).await.starts_with("HTTP/1.1 404 "));
    let refused = ask(200_000).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431 "), "{refused}");
    let _first = almost_sent(&server).await;
    // As soon as all of that has arrived there is no room for one, and no call to answer yet.
    let broken_off = async { while !ask(100_000).await.is_empty() {} };
    tokio::time::timeout(PATIENCE, broken_off).await.expect("it comes to be");
    assert!(ask(15_000).await.starts_with("HTTP/1.1 404 "), "what is short is not counted");
}

/// What is long is read apart, whatever way it comes.
#[tokio::test]
async fn long_calls_are_answered_like_short_ones() {
    let server = TestServer::start().await;
    let session = server.login().await;
    let (headers, message) = ([("authorization", &*basic("demo", DEMO_KEY))], json!({"filling": "x".repeat(200_000)}));
    let publish = json!(["a:b", message]);
    let named = json!({"session": session, "topic": "a:b", "message": message});
    let mut socket = Socket::demo(&server).await;
    for (method, params) in [
        ("event.publish", json!([session, "a:b", message])),
        ("event.publish", named),
        ("call", json!([session, "event.publish", publish])),
        ("multiCall", json!([session, [["event.publish", publish], ["event.publish", publish]]])),
    ] {
        let over_http = server.rpc(method, params.clone()).await.unwrap();
        let over_socket = socket.call(method, params).await.unwrap();
        assert_eq!(over_http[0]["isFault"], over_socket[0]["isFault"], "{method}: {over_http}");
        assert!(!over_http.to_string().contains("isFault"), "{over_http}");
    }
    assert_eq!(server.call("event.count", json!([])).await, Ok(json!(10)));

    // So are mistakes.
    let none = server.rpc("event.publish", json!(["no session", "a:b", message])).await.unwrap_err();
    assert_eq!(none["code"], 5);
    let wrong = server.rpc("event.publish", json!([session, "a:b:c", message])).await.unwrap_err();
    assert_eq!((&wrong["code"], &wrong["data"]["field"]), (&json!(107), &json!("topic")));
    let wrong = server.rpc("event.publish", json!([session, "a:b", "x".repeat(200_000)])).await.unwrap_err();
    assert_eq!((&wrong["code"], &wrong["data"]["field"]), (&json!(107), &json!("message")));
    for body in [format!("[{}", "1,".repeat(100_000)), format!("{{{}", " ".repeat(100_000))] {
        let (_, text) = server.post("/", &headers, body).await;
        assert!(text.contains("-32700"), "{text}");
    }
    let batch = format!("[{}]", vec!["1"; 100_000].join(","));
    assert!(server.post("/", &headers, batch).await.1.contains("100000 calls are too many"));
}

/// An answer counts while it is being made, so that several of one merchant
/// can't be begun that have room only one by one.
#[tokio::test]
async fn answers_that_are_being_made_count() {
    let server = Start::default().flag("unsent_bytes_max", &MIB.to_string()).go().await;
    server.webhook(json!({"topics": "order:*", "delivery_mode": "pull"})).await;
    let event = server.publish("a:b", json!({"filling": "x".repeat(100_000)})).await["event_id"].clone();
    let mut calls = vec![json!(["event.get", [event]]); 6];
    calls.push(json!(["delivery.pull", [1, 0, 1, 30_000]]));
    let mut socket = Socket::demo(&server).await;
    let waiting = socket.begin("multiCall", json!([null, calls])).await;
    let refused = async {
        loop {
            if let Err(error) = server.call("webhook.count", json!([])).await {
                return error;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("it is counted");
    assert_eq!((&refused["code"], &refused["data"]["retry_after_ms"]), (&json!(120), &json!(1_000)));
    // Others have their answers.
    let key = server.user("ann", "acme", "event_write");
    let header = format!("Bearer {key}");
    let publish = json!([null, "order:created", {}]);
    let headers = [("authorization", header.as_str())];
    assert!(server.rpc_at("/", &headers, "event.publish", publish).await.is_ok());
    drop((socket, waiting));
    let count = async { while server.call("webhook.count", json!([])).await.is_err() {} };
    tokio::time::timeout(PATIENCE, count).await.expect("nothing is counted any more");
}

/// When to come back stands where clients of HTTP look for it.
#[tokio::test]
async fn a_refusal_says_when_to_retry_in_a_header() {
    let start = Start::default().flag("stranger_calls_per_second_max", "2").flag("stranger_calls_burst_max", "1");
    let (server, _hand) = start.manual().await;
    let discover = json!({"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"});
    let post = async |body: Value| {
        server.exchange("POST", "/", &[("content-type", "application/json")], &body.to_string()).await
    };
    assert_eq!(post(discover.clone()).await.1.get("retry-after"), None);
    let (status, headers, text) = post(discover.clone()).await;
    assert!(status == 200 && headers["retry-after"] == "1", "{status} {headers:?}");
    assert!(text.contains(r#""retry_after_ms":500"#), "{text}");
    assert_eq!(post(json!([discover])).await.1.get("retry-after"), None, "of a batch each says its own");
}

/// Of one merchant so many calls run at once; another's are not behind them.
#[tokio::test]
async fn calls_of_one_merchant_wait_for_their_turns() {
    let server = Start::default().flag("merchant_calls_max", "1").go().await;
    let other = format!("Bearer {}", server.user("bob", "globex", "webhook_read"));
    let headers = [("authorization", other.as_str())];
    // While the store is held, a publish is under way.
    let held = server.hold_store();
    let publish = server.call("event.publish", json!(["order:created", {}]));
    let others = async || {
        for _ in 0..20 {
            server.rpc_at("/", &headers, "webhook.count", json!([null])).await.unwrap();
        }
    };
    // Once that has its turn, no further call of its merchant has one.
    let waits = async {
        loop {
            tokio::select! {
                biased;
                counted = server.call("webhook.count", json!([])) => assert_eq!(counted, Ok(json!(0))),
                () = others() => break,
            }
        }
        drop(held);
    };
    let waits = tokio::time::timeout(PATIENCE, waits);
    let (published, waited) = tokio::join!(publish, waits);
    waited.expect("a call waits for its turn");
    assert!(published.is_ok());
    assert_eq!(server.call("webhook.count", json!([])).await, Ok(json!(0)));
}

/// Each keeps a connection, so one merchant leaves some to others.
#[tokio::test]
async fn pulls_that_wait_have_a_bound() {
    let server = Start::default().flag("waiting_pulls_max", "3").go().await;
    let pulled = async |headers: &[(&str, &str)]| {
        let params = json!([null, {"topics": "*", "delivery_mode": "pull"}, true]);
        server.rpc_at("/", headers, "webhook.create", params).await.unwrap()["webhook_id"].clone()
    };
    let demo = basic("demo", DEMO_KEY);
    let id = pulled(&[("authorization", &demo)]).await;
    let other = format!("Bearer {}", server.user("bob", "globex", "webhook_read,webhook_write"));
    let others = pulled(&[("authorization", &other)]).await;

    let wait = async || {
        // Another may have the place for a moment.
        loop {
            match server.call("delivery.pull", json!([id, 0, 10, 30_000])).await {
                Err(refusal) => assert_eq!(refusal["code"], 111),
                Ok(pulled) => break pulled,
            }
        }
    };
    let refused = async {
        // Until both of those wait.
        let refusal = loop {
            if let Err(refusal) = server.call("delivery.pull", json!([id, 0, 10, 1])).await {
                break refusal;
            }
        };
        let text = "Invalid selection. The merchant has 2 waiting pulls, the most it may. Retry once some have ended.";
        assert_eq!((&refusal["code"], refusal["message"].as_str()), (&json!(111), Some(text)));
        assert_eq!(server.call("delivery.pull", json!([id, 0])).await, Ok(json!([])), "who does not wait may pull");
        let params = json!([null, others, 0, 10, 1]);
        assert_eq!(server.rpc_at("/", &[("authorization", &other)], "delivery.pull", params).await, Ok(json!([])));
        server.publish("order:created", json!({})).await;
    };
    let (first, second, ()) = tokio::join!(wait(), wait(), refused);
    for pulled in [first, second] {
        assert_eq!(pulled[0]["increment_id"], 1);
    }
    assert_eq!(server.call("delivery.pull", json!([id, 1, 10, 1])).await, Ok(json!([])), "there is room again");
}
