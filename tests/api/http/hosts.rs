//! Which host a request is for.

use tokio::io::AsyncWriteExt;

use super::{connect, doors, rest};
use crate::common::TestServer;

/// A gateway and the server behind it could take each another one.
#[tokio::test]
async fn a_request_names_one_host() {
    let server = TestServer::start().await;
    let ask = async |path: &str, version: &str, hosts: &str| {
        let mut stream = connect(&server).await;
        let head = format!("GET {path} HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        rest(&mut stream).await.unwrap()
    };
    for path in doors().chain(["/docs", "/openrpc.json", "/openapi/babel.json", "/nothing"]) {
        for hosts in [
            "",
            "host: localhost\r\nhost: localhost\r\n",
            "host: localhost\r\nHost: 127.0.0.1\r\n",
            "host: local host\r\n",
            "host: a@localhost\r\n",
            "host: localhost/\r\n",
        ] {
            let answer = ask(path, "1.1", hosts).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Host"), "{path} {hosts:?}: {answer}");
        }
        for (version, hosts) in [("1.1", "host: localhost\r\n"), ("1.1", "host: [::1]:8080\r\n"), ("1.0", "")] {
            let answer = ask(path, version, hosts).await;
            assert!(!answer.is_empty() && !answer.contains(" 400 "), "{path} {version} {hosts:?}: {answer}");
        }
    }
}
