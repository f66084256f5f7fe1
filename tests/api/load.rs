//! Many clients at once.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use crate::common::{self, Start, basic};

const CLIENTS: usize = 1_000;
const CALLS: usize = 5;

/// Each holds one connection open from the first call to the last, and no
/// call is made before all are connected.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_keep_their_connections() {
    // Both ends of each connection are open files of this process.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let server = Start::default().go().await;
    server.webhook(json!({"topics": "order:*", "url": "http://127.0.0.1:9/"})).await;
    let address = server.url().strip_prefix("http://").unwrap().to_owned();
    let all_connected = Arc::new(Barrier::new(CLIENTS));
    let clients = (0..CLIENTS).map(|_| {
        let (address, all_connected) = (address.clone(), Arc::clone(&all_connected));
        tokio::spawn(async move {
            let stream = TcpStream::connect(&address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
            let driving = tokio::spawn(connection);
            all_connected.wait().await;
            for id in 0..CALLS {
                let call = json!({"jsonrpc": "2.0", "id": id, "method": "webhook.list", "params": [null]});
                let request = Request::post("/")
                    .header("host", &address)
                    .header("content-type", "application/json")
                    .header("authorization", basic("demo", common::DEMO_KEY))
                    .body(Full::new(Bytes::from(call.to_string())))
                    .unwrap();
                sender.ready().await.unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let answer: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!((&answer["id"], answer["result"].as_array().unwrap().len()), (&json!(id), 1));
            }
            drop(sender);
            driving.await.unwrap().unwrap();
        })
    });
    for client in clients.collect::<Vec<_>>() {
        tokio::time::timeout(common::PATIENCE, client).await.expect("every client is answered").unwrap();
    }
}

/// A client that asks and never reads gives its place up in the end.
#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const WEBHOOKS: usize = 300;
    let server = Start::default().flag("connections_max", "1").flag("idle_timeout_ms", "100").go().await;
    let session = server.login().await;
    for _ in 0..WEBHOOKS {
        server.webhook(json!({"topics": "order:*", "url": format!("http://127.0.0.1:9/{}", "x".repeat(900))})).await;
    }
    let mut hog = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).await.unwrap();
    let calls = vec![json!({"jsonrpc": "2.0", "id": 1, "method": "webhook.list", "params": [session]}); 100];
    let body = json!(calls).to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    hog.write_all(request.as_bytes()).await.unwrap();
    // 30 MB are more than the system's buffers hold: after the first byte the
    // server can't get rid of the rest, and the only place is taken.
    hog.read_u8().await.unwrap();
    let list = server.call("webhook.list", json!([])).await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), WEBHOOKS);
    drop(hog);
}

/// Halves of requests take all places, and keep nobody out.
#[tokio::test]
async fn who_never_sends_a_whole_request_gives_way() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const PLACES: usize = 3;
    let server = Start::default().flag("connections_max", &PLACES.to_string()).go().await;
    let mut halves = Vec::new();
    for head in
        ["POST / HTTP/1.1\r\nhost: local", "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{", ""]
    {
        let mut half = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).await.unwrap();
        half.write_all(head.as_bytes()).await.unwrap();
        halves.push(half);
    }
    assert_eq!(server.call("webhook.list", json!([])).await, Ok(json!([])));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(common::PATIENCE, halves[0].read_to_end(&mut rest)).await.expect("it gave way");
    assert!(ended.is_err() || rest.is_empty(), "without an answer");
    // As many as it takes.
    for _ in 0..PLACES {
        let (status, _) = common::get(&server.url(), "/docs").await;
        assert_eq!(status, 200);
    }
}
