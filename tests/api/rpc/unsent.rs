//! What waits to be sent: a client that asks and does not read fills its own
//! merchant's part of that, and nobody else's.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::common::{DEMO_KEY, PATIENCE, Start, TestServer, basic};

/// How many calls each batch has, and how long the answer to each is: together
/// twice what one merchant may have waiting.
const CALLS: usize = 80;
const BYTES: usize = 900_000;

fn batch() -> String {
    let call = |id| json!({"jsonrpc": "2.0", "id": id, "method": "call", "params": [null, "event.get", [1]]});
    Value::from_iter((0..CALLS).map(call)).to_string()
}

/// How many calls of a batch are answered, and not refused since too much waits.
async fn answered(server: &TestServer, authorization: &str) -> usize {
    let (status, text) = server.post("/", &[("authorization", authorization)], batch()).await;
    assert_eq!(status, 200, "{text}");
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    let refused = answers.iter().filter(|answer| answer["error"]["code"] == 120).count();
    let well = answers.iter().filter(|answer| answer.get("result").is_some()).count();
    assert_eq!((answers.len(), well + refused), (CALLS, CALLS));
    well
}

/// Sends the batch, and reads nothing of its answer.
async fn deaf(server: &TestServer, authorization: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = server.url().trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let body = batch();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: {authorization}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    // The first of the answer is there, so all of it is counted.
    stream.readable().await.unwrap();
    stream
}

#[tokio::test]
async fn who_reads_nothing_fills_his_own_part() {
    let start = Start::default().flag("unsent_bytes_max", "67108864").flag("response_bytes_max", "134217728");
    let server = start.go().await;
    server.publish("order:created", json!({"text": "x".repeat(BYTES)})).await;
    let demo = basic("demo", DEMO_KEY);
    let alone = answered(&server, &demo).await;
    assert!((30..CALLS / 2).contains(&alone), "one merchant has half of it: {alone}");

    let deaf = deaf(&server, &demo).await;
    let beside = answered(&server, &demo).await;
    assert!(beside < alone / 2, "what waits counts: {beside} of {alone}");
    // Another merchant has as much as is left free, and is answered.
    let other = basic("other", &server.user("other", "globex", "webhook_read,event_write"));
    let call = async |path, args: Value| {
        server.rpc_at("/", &[("authorization", &other)], "call", json!([null, path, args])).await.unwrap()
    };
    let event = call("event.publish", json!(["a:b", {}])).await["event_id"].clone();
    assert_eq!(call("event.get", json!([event])).await["topic"], "a:b");

    // With the connection goes what waited for it.
    drop(deaf);
    let falls_back = async {
        while answered(&server, &demo).await < alone {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, falls_back).await.expect("all of it is free again");
}
