//! How bodies are read.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::AsyncWriteExt;

use super::{JSON, REST, RPC, ask, connect, doors, rest};
use crate::common::{DEMO_KEY, TestServer};

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

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let server = TestServer::start().await;
    let marked = |text: &str| format!("\u{feff}{text}");
    for path in RPC {
        let answer = ask(&server, path, &[JSON], marked(LIST).as_bytes()).await;
        assert!(answer.contains(r#""result":[]"#), "{path}: {answer}");
        let answer = ask(&server, path, &[JSON], marked(&format!("[{LIST}]")).as_bytes()).await;
        assert!(answer.contains(r#"[{"jsonrpc":"2.0","result":[]"#), "{path}: {answer}");
    }
    let samples = [
        r#"{"webhook_url": "https://example.com/", "event_categories": []}"#,
        r#"{"Name": "a", "Url": "https://example.com/", "EventType": 1, "Enabled": true}"#,
        r#"{"subscription": {"name": "a", "url": "https://example.com/", "eventType": "order:created", "secret": "eight or more", "isActive": true}}"#,
    ];
    server.call("topic.register", serde_json::json!(["order:created"])).await.unwrap();
    for (path, sample) in REST.into_iter().zip(samples) {
        let answer = ask(&server, path, &[JSON], marked(sample).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    }
    let xml =
        "<Webhook><Name>a</Name><Url>https://example.com/</Url><EventType>1</EventType><Enabled>1</Enabled></Webhook>";
    let answer = ask(&server, REST[1], &["content-type: application/xml"], marked(xml).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

/// A text in UTF-16, with the bytes of each unit in that order.
fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// What is said of a body that is no JSON in UTF-8.
fn broken() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (utf16("\u{feff}{\"a\": 1}", u16::to_le_bytes), "The body is UTF-16; send it in UTF-8."),
        (utf16("\u{feff}{\"a\": 1}", u16::to_be_bytes), "The body is UTF-16; send it in UTF-8."),
        (utf16("{\"a\": 1}", u16::to_le_bytes), "The body is UTF-16; send it in UTF-8."),
        (utf16("{\"a\": 1}", u16::to_be_bytes), "The body is UTF-16; send it in UTF-8."),
        (
            b"{\"a\": 1,\n \"caf\xe9\": 2}".to_vec(),
            "The body is no UTF-8: at line 2, column 6 stands the byte 0xE9. Was it written in another encoding, such as Latin-1?",
        ),
        (b"{\"a\": \"\xc3\"}".to_vec(), "at line 1, column 8 stands the byte 0xC3."),
        (b"{\"a\": 1,}".to_vec(), " at line 1, column 9, where '}' stands."),
        (b"{\"b\": 1,\n  \"caf\xc3\xa9\": [1, 2,]\n}".to_vec(), " at line 2, column 17, where ']' stands."),
        (b"{\"a\": 1} {\"b\": 2}".to_vec(), " at line 1, column 10, where '{' stands."),
        (b"{'a': 1}".to_vec(), " at line 1, column 2, where '\\'' stands."),
        (b"{\"a\": \"b\nc\"}".to_vec(), " at line 1, column 9, where '\\n' stands."),
        (b"{\"a\": 1".to_vec(), " at line 1, column 7, where it ends."),
        (b"{\"a\":\n\"".to_vec(), " at line 2, column 1, where it ends."),
    ]
}

#[tokio::test]
async fn what_is_no_json_is_told_of_with_its_place() {
    let server = TestServer::start().await;
    for (body, problem) in broken() {
        for path in RPC {
            let answer = ask(&server, path, &[JSON], &body).await;
            let error = answer.split_once("\r\n\r\n").unwrap().1;
            let error: serde_json::Value = serde_json::from_str(error).unwrap_or_else(|_| panic!("{answer}"));
            let error = &error["error"];
            assert_eq!((&error["code"], &error["message"]), (&(-32_700).into(), &"Parse error".into()), "{answer}");
            let told = error["data"]["problem"].as_str().unwrap_or_else(|| panic!("{path} {body:?}: {answer}"));
            assert!(told.starts_with("The body is ") && told.contains(problem), "{path} {body:?}: {told}");
        }
        for path in REST {
            let answer = ask(&server, path, &[JSON], &body).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path} {body:?}: {answer}");
            let text = answer.split_once("\r\n\r\n").unwrap().1;
            let quoted = serde_json::to_string(problem).unwrap();
            assert!(
                text.contains("The body is ") && text.contains(quoted.trim_matches('"')),
                "{path} {body:?}: {text}"
            );
        }
    }
    let xml = ["content-type: application/xml"];
    for (body, problem) in [
        (utf16("\u{feff}<A/>", u16::to_le_bytes), "The body is UTF-16; send it in UTF-8."),
        (b"<A>\n<B>\xe9</B></A>".to_vec(), "The body is no UTF-8: at line 2, column 4 stands the byte 0xE9."),
    ] {
        let answer = ask(&server, REST[1], &xml, &body).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(problem), "{body:?}: {answer}");
    }
}
