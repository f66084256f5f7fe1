//! How bodies are read.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::AsyncWriteExt;

use crate::common::{DEMO_KEY, TestServer};
use crate::{JSON, REST, RPC, ask, connect, doors, rest};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"webhook.list","params":[null]}"#;

fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn a_body_that_is_encoded_is_refused_with_what_is_read() {
    let server = TestServer::start().await;
    for path in doors() {
        for encoding in ["gzip", "BR", "identity, gzip", "x"] {
            let encoding = format!("content-encoding: {encoding}");
            let answer = ask(&server, path, &[JSON, &encoding], &packed(LIST)).await;
            assert!(answer.starts_with("HTTP/1.1 415 "), "{path} {encoding}: {answer}");
            assert!(answer.contains("\r\naccept-encoding: identity\r\n"), "{path} {encoding}: {answer}");
            assert!(answer.contains("Content-Encoding"), "{path} {encoding}: {answer}");
            let is_rpc = RPC.contains(&path);
            assert_eq!(answer.contains(r#""error":{"code":-32600,"#), is_rpc, "{path} {encoding}: {answer}");
        }
        // What says that it is not encoded is read.
        for encoding in ["content-encoding: identity", "content-encoding: Identity", "content-encoding:"] {
            let answer = ask(&server, path, &[JSON, encoding], b"{").await;
            assert!(answer.contains("JSON") || answer.contains("Parse error"), "{path} {encoding}: {answer}");
        }
        // Twice is no better than once.
        let answer = ask(&server, path, &[JSON, "content-encoding: identity", "content-encoding: gzip"], b"{}").await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{path}: {answer}");
    }
    for path in REST {
        let mut stream = connect(&server).await;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {DEMO_KEY}\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await.unwrap();
        assert!(!answer.starts_with("HTTP/1.1 415 "), "without a body nothing is encoded: {answer}");
    }
}
