//! What HTTP asks of a server, the same in every dialect: how bodies are read,
//! and how a request is refused.

mod bodies;
mod ends;
mod hosts;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{DEMO_KEY, PATIENCE, TestServer};

/// Where JSON-RPC is spoken.
const RPC: [&str; 4] = ["/", "/rpc", "/api/jsonrpc", "/backend/api/jsonrpc"];
/// Where the REST dialects make a webhook.
const REST: [&str; 3] = ["/rest/v2/webhook/webhooks", "/3dCartWebAPI/v2/Webhooks", "/v1/webhooks/subscriptions"];
const JSON: &str = "content-type: application/json";

/// Every place where a body is read.
fn doors() -> impl Iterator<Item = &'static str> {
    RPC.into_iter().chain(REST)
}

/// A POST by the demo user, with lines of headers.
fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {DEMO_KEY}\r\n{lines}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap()
}

/// All that comes until the end.
async fn rest(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    tokio::time::timeout(PATIENCE, read).await.expect("the server takes leave")?;
    Ok(String::from_utf8(rest).unwrap())
}

/// The answer to a POST, on a connection of its own.
async fn ask(server: &TestServer, path: &str, headers: &[&str], body: &[u8]) -> String {
    let mut stream = connect(server).await;
    let headers = [headers, &["connection: close"]].concat();
    stream.write_all(&post(path, &headers, body)).await.unwrap();
    rest(&mut stream).await.unwrap()
}
