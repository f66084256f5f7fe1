//! The PROXY protocol, as proxies speak it: whose connection it is, who is believed, and what
//! becomes of a header that does not come.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::common::certificates::{Pair, authority};
use super::common::{DEMO_KEY, PATIENCE, Start, TestServer};

const LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A second wrong key of an address is one too many.
fn start() -> Start {
    Start::default()
        .flag("proxy_protocol", "true")
        .flag("trusted_proxies", "127.0.0.1/32")
        .flag("login_failures_max", "1")
        .flag("login_slowdown_ms", "0")
}

fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.99 56324 443\r\n").into_bytes()
}

fn binary(client: Ipv4Addr) -> Vec<u8> {
    let addresses = [&client.octets()[..], &[192, 0, 2, 99, 0xdc, 0x04, 0x01, 0xbb]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

fn login(key: &str) -> Vec<u8> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "login", "params": ["demo", key]}).to_string();
    let head = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn answered(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: &[u8]) -> String {
    let exchange = async {
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Whoever is refused may be told so by a reset.
        _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the connection ends")
}

fn address(server: &TestServer) -> String {
    server.url().split_once("://").unwrap().1.to_owned()
}

/// Sends these bytes; all that is answered.
async fn send(server: &TestServer, bytes: &[u8]) -> String {
    answered(TcpStream::connect(address(server)).await.unwrap(), bytes).await
}

/// The fault of a login with a wrong key, behind this header.
async fn wrong_key(server: &TestServer, header: &[u8]) -> i64 {
    let answer = send(server, &[header, &login("wrong")].concat()).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    serde_json::from_str::<Value>(body).unwrap()["error"]["code"].as_i64().unwrap()
}

const DENIED: i64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_named_is_who_calls() {
    let server = start().go().await;
    let guesser = Ipv4Addr::new(192, 0, 2, 1);
    // The log tells of the many, too; a fault of the same number does, by its data.
    let counted = async |header: &[u8]| -> Value {
        let answer = send(&server, &[header, &login("wrong")].concat()).await;
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()["error"]["data"].clone()
    };
    assert!(counted(&line("192.0.2.1")).await.is_null());
    assert!(counted(&binary(guesser)).await.is_null());
    for header in [line("192.0.2.1"), binary(guesser)] {
        assert!(counted(&header).await["retry_after_ms"].is_number(), "both forms name the same client");
    }
    for header in
        [line("192.0.2.2"), binary(Ipv4Addr::new(192, 0, 2, 3)), LOCAL.to_vec(), b"PROXY UNKNOWN\r\n".to_vec()]
    {
        assert_eq!(wrong_key(&server, &header).await, DENIED);
        let answer = send(&server, &[&header[..], &login(DEMO_KEY)].concat()).await;
        assert!(answer.contains("\"result\""), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_has_to_say_and_nobody_else_can() {
    let server = start().flag("handshake_timeout_ms", "500").go().await;
    for bytes in [&login(DEMO_KEY)[..], b"PROXY TCP4 a b c d\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.99 ", b"P", b""] {
        assert_eq!(send(&server, bytes).await, "", "{}", String::from_utf8_lossy(bytes));
    }
    let elsewhere = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(address(&server).parse().unwrap()).await.unwrap()
    };
    let answer = answered(elsewhere().await, &login(DEMO_KEY)).await;
    assert!(answer.contains("\"result\""), "who is no proxy is served as it comes: {answer}");
    let answer = answered(elsewhere().await, &[&line("192.0.2.1")[..], &login(DEMO_KEY)].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("\"result\""), "and is not believed: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_those_of_who_is_named() {
    let server = start().flag("address_connections_max", "2").go().await;
    let mut held = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        stream.write_all(&line(client)).await.unwrap();
        // Answered, and kept.
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        held.push(stream);
    }
    assert_eq!(send(&server, &[&line("192.0.2.1")[..], &login(DEMO_KEY)].concat()).await, "", "it has two");
    let answer = send(&server, &[&line("192.0.2.2")[..], &login(DEMO_KEY)].concat()).await;
    assert!(answer.contains("\"result\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_tls() {
    let pair = Pair::new(&authority("ours"));
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let server = start().flag("tls_cert", &path(pair.certificate())).flag("tls_key", &path(pair.key())).go().await;
    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(pair.client(None)));
    let through = async |header: &[u8]| {
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        stream.write_all(header).await.unwrap();
        tls.connect(rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap(), stream).await
    };
    let answer = answered(through(&line("192.0.2.1")).await.unwrap(), &login(DEMO_KEY)).await;
    assert!(answer.contains("\"result\""), "{answer}");
    assert!(through(b"").await.is_err(), "without it, what TLS begins with is no header");
}
