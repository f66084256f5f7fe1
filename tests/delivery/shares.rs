//! What one merchant's deliveries leave to others, and what a receiver gets.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::common::manual::webhook;
use crate::common::{PATIENCE, Receiver, Start, TestServer, basic};

/// Takes requests, and answers none until the gate is opened.
struct Gate {
    port: u16,
    waiting: watch::Receiver<usize>,
    is_open: watch::Sender<bool>,
}

impl Gate {
    async fn start(is_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (count, waiting) = watch::channel(0);
        let is_open = watch::Sender::new(is_open);
        let gate = is_open.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, mut open) = (count.clone(), gate.subscribe());
                tokio::spawn(async move {
                    let mut request = [0; 65_536];
                    // Small requests come in one piece.
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        count.send_modify(|count| *count += 1);
                        if open.wait_for(|is_open| *is_open).await.is_err() {
                            return;
                        }
                        count.send_modify(|count| *count -= 1);
                        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, waiting, is_open }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Waits until as many requests wait for their answers.
    async fn waiting(&self, enough: impl Fn(usize) -> bool) -> usize {
        let mut waiting = self.waiting.clone();
        let wait = waiting.wait_for(|count| enough(*count));
        *tokio::time::timeout(PATIENCE, wait).await.expect("they come").unwrap()
    }
}

/// Calls as another user.
async fn call(server: &TestServer, name: &str, key: &str, path: &str, args: Value) -> Result<Value, Value> {
    server.rpc_at("/", &[("authorization", &basic(name, key))], "call", json!([null, path, args])).await
}

#[tokio::test]
async fn what_the_owner_sets_is_what_he_gets_or_he_is_told() {
    let server = Start::default().flag("in_flight_max", "400").go().await;
    let gate = Gate::start(true).await;
    let wish = |requests: u32| json!({"topics": "*", "url": gate.url(), "max_concurrency": requests});
    let fault = server.call("webhook.create", json!([wish(101)])).await.unwrap_err();
    assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(101), &json!("max_concurrency")));
    assert!(fault["message"].as_str().unwrap().contains("101 is more than 100"), "{fault}");
    let id = server.webhook(wish(100)).await["webhook_id"].as_i64().unwrap();
    let fault = server.call("webhook.update", json!([id, {"max_concurrency": 101}])).await.unwrap_err();
    assert_eq!(fault["code"], 101);
}

#[tokio::test]
async fn silent_receivers_of_one_merchant_leave_room_for_the_first_of_another() {
    let server = Start::default().flag("in_flight_max", "64").go().await;
    let gate = Gate::start(false).await;
    for _ in 0..40 {
        let wish = json!({"topics": "*", "url": gate.url(), "timeouts": {"total_ms": 120_000}});
        server.webhook(wish).await;
    }
    server.publish("order:created", json!({})).await;
    // A quarter of the requests is for those that have shown no success yet, and half of it for one merchant.
    gate.waiting(|waiting| waiting == 8).await;
    let key = server.user("bob", "other", "webhook_read,webhook_write,event_write");
    let receiver = Receiver::obliging().await;
    let wish = json!({"topics": "*", "url": receiver.url()});
    call(&server, "bob", &key, "webhook.create", json!([wish])).await.unwrap();
    call(&server, "bob", &key, "event.publish", json!(["order:created", {}])).await.unwrap();
    receiver.arrivals(1).await;
    assert_eq!(*gate.waiting.borrow(), 8, "the silent ones still wait");
    gate.is_open.send_replace(true);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_abandoned_with_its_reason() {
    let server = Start::default().flag("delivery_bytes_max", "1048576").go().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({"format": "3dcart", "encoding": "xml"})).await;
    let name = "!".repeat(100_000);
    server.publish("order:created", json!({ name: 1 })).await;
    server.publish("order:created", json!({"a": 1})).await;
    let list = server.settled(id).await;
    assert_eq!((&list[0]["state"], &list[0]["reason"]), (&json!("abandoned"), &json!("body_too_large")));
    assert_eq!(list[1]["state"], "delivered");
    let attempts = server.call("delivery.attempts", json!([id, 1])).await.unwrap();
    assert_eq!(attempts[0]["error_class"], "body_too_large");
    let words = attempts[0]["error"].as_str().unwrap();
    assert!(words.contains("1048576") && words.contains("delivery_bytes_max"), "{words}");
    // Its receiver was not asked, and is none the worse for it.
    assert_eq!(server.call("webhook.get", json!([id])).await.unwrap()["consecutive_failures"], 0);
    assert_eq!(receiver.so_far().len(), 1);
}

/// What is pulled is bounded by what it becomes, not by what it was.
#[tokio::test]
async fn a_pull_brings_no_more_than_fits() {
    let server = TestServer::start().await;
    let wish = json!({"topics": "*", "delivery_mode": "pull", "format": "3dcart", "encoding": "xml"});
    let id = server.webhook(wish).await["webhook_id"].as_i64().unwrap();
    let name = "!".repeat(200_000);
    for _ in 0..4 {
        server.publish("order:created", json!({ name.clone(): 1 })).await;
    }
    // 2.8 MB each, of 4 MiB.
    let (mut after, mut pulls) = (0, Vec::new());
    while after < 4 {
        let pulled = server.call("delivery.pull", json!([id, after])).await.unwrap();
        let pulled = pulled.as_array().unwrap();
        after = pulled.last().unwrap()["increment_id"].as_i64().unwrap();
        pulls.push(pulled.len());
    }
    assert_eq!(pulls, [2, 2]);
}

#[tokio::test]
async fn many_long_answers_cost_the_log_their_bodies_and_nobody_a_delivery() {
    let server = Start::default().flag("answers_bytes_max", "1048576").go().await;
    let long = "x".repeat(90_000);
    let receiver = Receiver::start(move |_, _| {
        let mut reply = crate::common::Reply::status(200).header("x-long", &"y".repeat(30_000));
        reply.body = long.clone();
        reply
    })
    .await;
    let id = webhook(&server, &receiver, json!({})).await;
    let events: Vec<_> = (0..100).map(|n| json!({"topic": "order:created", "message": {"n": n}})).collect();
    server.call("event.publish_many", json!([events])).await.unwrap();
    let list = server.settled(id).await;
    assert!(list.iter().all(|delivery| delivery["state"] == "delivered"));
    let attempt = &server.call("delivery.attempts", json!([id, 1])).await.unwrap()[0];
    assert_eq!(attempt["response_headers"].to_string().matches('y').count() / 1_000, 16, "no more of the headers");
    tokio::time::timeout(Duration::from_secs(60), server.stop()).await.unwrap();
}
