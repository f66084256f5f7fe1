//! How a request and its answer end: half-closed connections, and refusals
//! before a body was read.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{JSON, REST, RPC, connect, doors, post, rest};
use crate::common::{DEMO_KEY, Start, TestServer};

/// More than sockets hold.
const LONG: usize = 8 * 1_048_576;

#[tokio::test]
async fn who_sends_no_more_is_answered() {
    let server = TestServer::start().await;
    let webhook = server.webhook(json!({"topics": "*", "url": "http://127.0.0.1:9/"})).await;
    let pull = json!({"jsonrpc": "2.0", "id": 1, "method": "delivery.pull", "params": [null, webhook["webhook_id"], 0, 1, 30_000]});
    let mut streams = Vec::new();
    for path in RPC {
        let mut stream = connect(&server).await;
        stream.write_all(&post(path, &[JSON], pull.to_string().as_bytes())).await.unwrap();
        stream.shutdown().await.unwrap();
        streams.push(stream);
    }
    server.publish("order:created", json!({})).await;
    for stream in &mut streams {
        let answer = rest(stream).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""increment_id":1"#), "{answer}");
    }
    for path in doors() {
        let mut stream = connect(&server).await;
        stream.write_all(&post(path, &[JSON], b"{}")).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
    }
}

/// The head of a POST of a long body, whoever calls.
fn head(path: &str, key: &str, headers: &[&str]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{lines}content-length: {LONG}\r\n\r\n"
    )
}

/// Most clients read nothing before they have sent everything.
#[tokio::test]
async fn who_sends_all_before_it_reads_is_told_of_a_refusal() {
    let server = TestServer::start().await;
    let ask = async |head: String, status: &str| {
        let mut stream = connect(&server).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let body = vec![b' '; LONG];
        stream.write_all(&body).await.unwrap_or_else(|cause| panic!("{head}: {cause}"));
        let answer = rest(&mut stream).await.unwrap_or_else(|cause| panic!("{head}: {cause}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{head}: {answer}");
    };
    for path in doors() {
        ask(head(path, DEMO_KEY, &[JSON]), "413").await;
        ask(head(path, DEMO_KEY, &[JSON, "content-encoding: gzip"]), "415").await;
        ask(head(path, DEMO_KEY, &["host: localhost"]), "400").await;
    }
    for path in RPC {
        ask(head(path, DEMO_KEY, &["content-type: text/plain"]), "415").await;
    }
    for path in REST {
        ask(head(path, "wrong", &[JSON]), "401").await;
    }
    for path in ["/nothing", "/rest/v2/nothing", "/3dCartWebAPI/nothing", "/v1/webhooks/nothing"] {
        ask(head(path, DEMO_KEY, &[JSON]), "404").await;
    }
    ask(head("/docs", DEMO_KEY, &[JSON]), "405").await;
}

/// What is longer than is read on for is broken off.
#[tokio::test]
async fn what_follows_a_refusal_has_a_bound() {
    let server = Start::default().flag("linger_bytes_max", "65536").go().await;
    let mut stream = connect(&server).await;
    stream.write_all(head("/", DEMO_KEY, &[JSON]).as_bytes()).await.unwrap();
    let sent = async { while stream.write_all(&[b' '; 65_536]).await.is_ok() {} };
    tokio::time::timeout(super::PATIENCE, sent).await.expect("it is broken off");
}

#[tokio::test]
async fn who_asks_first_need_not_send_what_is_too_long() {
    let server = TestServer::start().await;
    for path in doors() {
        let mut stream = connect(&server).await;
        stream.write_all(head(path, DEMO_KEY, &[JSON, "expect: 100-continue"]).as_bytes()).await.unwrap();
        let mut first = [0; 13];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 413 ", "{path}: {}", String::from_utf8_lossy(&first));
        // Whose body is short enough may send it.
        let mut stream = connect(&server).await;
        let asked = post(path, &[JSON, "expect: 100-continue"], b"");
        let asked = String::from_utf8(asked).unwrap().replace("content-length: 0", "content-length: 2");
        stream.write_all(asked.as_bytes()).await.unwrap();
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 100 ", "{path}");
    }
}
