//! How a request and its answer end.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::common::TestServer;
use crate::{JSON, RPC, connect, doors, post, rest};

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
