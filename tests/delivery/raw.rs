//! Receivers that write their answers byte by byte, and see requests as they
//! came: what HTTP libraries on either side would not show.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::manual::SECRET;
use crate::common::{Start, TestServer};

pub const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Keeps the heads of requests.
pub struct RawReceiver {
    pub url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl RawReceiver {
    /// Answers the n-th request, from 0, with these bytes; without any, it
    /// breaks the connection off.
    pub async fn start(answer: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, answer) = (Arc::clone(&heads), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                tokio::spawn(async move {
                    while let Some(head) = read_request(&mut stream).await {
                        let place = {
                            let mut kept = kept.lock().unwrap();
                            kept.push(head);
                            kept.len() - 1
                        };
                        match answer(place) {
                            Some(answer) => stream.write_all(&answer).await.unwrap(),
                            None => return stream.set_zero_linger().unwrap(),
                        }
                    }
                });
            }
        });
        Self { url, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Registers a webhook to everything, with these members.
    pub async fn webhook(&self, server: &TestServer, more: Value) -> i64 {
        let mut data = json!({"topics": "*", "url": self.url, "secret_key": SECRET});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.webhook(data).await["webhook_id"].as_i64().unwrap()
    }
}

/// The head of the next request, whose body is read too; none if the sender has gone.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(request[..end].to_vec()).unwrap();
            let length = value(&head, "content-length").unwrap().parse::<usize>().unwrap();
            if request.len() >= end + 4 + length {
                return Some(head);
            }
        }
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// The value of a header, whatever its spelling.
pub fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A receiver may close a connection that it has kept whenever it likes.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_attempt() {
    for more in [json!({}), json!({"delivery_mode": "ordered"}), json!({"batch": {"max_events": 2, "wait_ms": 0}})] {
        let server = Start::default().go().await;
        let receiver = RawReceiver::start(|place| (place != 1).then(|| NO_CONTENT.to_vec())).await;
        let mut members = json!({"retry": []});
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = receiver.webhook(&server, members).await;
        for n in 1..=2 {
            server.publish("order:created", json!({"n": n})).await;
            server.settled(id).await;
        }
        let ended = server.settled(id).await;
        let ends: Vec<_> = ended.iter().map(|delivery| (&delivery["state"], &delivery["attempts"])).collect();
        assert_eq!(ends, [(&json!("delivered"), &json!(1)); 2], "{more}");
        let heads = receiver.heads();
        assert_eq!(heads.len(), 3, "{more}");
        assert_eq!(heads[1], heads[2], "the same again, with the same webhook-id");
    }
}

/// Some receivers compare names letter by letter.
#[tokio::test]
async fn headers_are_spelled_as_their_owners_spell_them() {
    let (server, _hand) = Start::default().manual().await;
    for format in ["shipstream", "envelope"] {
        let receiver = RawReceiver::start(|_| Some(NO_CONTENT.to_vec())).await;
        let extra = "X-My-Shop: 7\nX-API-KEY: abc\nx-plain: d\nCONTENT-type: text/x\nX-My-Shop: 8\nx-My-shop: 9";
        let id = receiver.webhook(&server, json!({"format": format, "extra_headers": extra})).await;
        let data = json!({"topics": "*", "url": receiver.url, "secret_key": SECRET, "format": format});
        let plain = server.webhook(data).await["webhook_id"].as_i64().unwrap();
        // On a new connection and on a kept one.
        for n in 1..=2 {
            server.publish("order:created", json!({"n": n})).await;
            server.settled(id).await;
            server.settled(plain).await;
        }
        let (own, others): (Vec<_>, Vec<_>) = receiver.heads().into_iter().partition(|head| head.contains(": abc"));
        assert_eq!((own.len(), others.len()), (2, 2));
        for head in own {
            let lines: Vec<_> = head.lines().collect();
            for line in extra.lines() {
                assert!(lines.contains(&line), "{line} in {head}");
            }
            assert!(lines.contains(&"webhook-timestamp: 1700000000"), "{head}");
            assert_eq!(head.contains("\r\nX-Plugin-Hmac-Sha256: "), format == "shipstream", "{head}");
        }
        for head in others {
            assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
            assert_eq!(head.contains("\r\nX-Plugin-Hmac-Sha256: "), format == "shipstream", "{head}");
        }
        let logged = server.attempts(id, 1, 1).await.remove(0);
        let logged = logged["request_headers"].to_string();
        assert!(logged.contains("\"X-My-Shop\"") && logged.contains("\"X-API-KEY\""), "{logged}");
    }
}

/// Some compress whatever they are asked, and some answer in the charset of
/// their page of errors.
#[tokio::test]
async fn answers_are_logged_as_text() {
    let server = Start::default().go().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, b"no such caf\xe9").unwrap();
    let gzip = gzip.finish().unwrap();
    let receiver = RawReceiver::start(move |_| {
        let headers = "content-encoding: gzip\r\ncontent-type: text/plain; charset=iso-8859-1";
        let head = format!("HTTP/1.1 404 Not Found\r\n{headers}\r\ncontent-length: {}\r\n\r\n", gzip.len());
        Some([head.as_bytes(), &gzip].concat())
    })
    .await;
    let id = receiver.webhook(&server, json!({"retry": []})).await;
    server.publish("order:created", json!({})).await;
    server.settled(id).await;
    assert_eq!(server.attempts(id, 1, 1).await[0]["response_body"], "no such café");
    assert_eq!(value(&receiver.heads()[0], "accept-encoding"), Some("identity"));
}

/// Pages of errors that show what was sent are common, and whoever may read
/// the log need not know what its owner sends along.
#[tokio::test]
async fn what_a_receiver_repeats_of_credentials_is_blotted_out() {
    const TOKEN: &str = "t0k3n/of+the+shop==";
    let server = Start::default().go().await;
    let receiver = RawReceiver::start(move |place| {
        let escaped = TOKEN.replace('/', "\\/");
        let body = format!(r#"{{"you sent": "Bearer {escaped}", "signed by": "{SECRET}", "n": 7}}"#);
        let head = format!("x-echo: Bearer {TOKEN}\r\nlocation: https://ann:{TOKEN}@example.com/a?b={TOKEN}");
        Some(match place {
            0 => format!("HTTP/1.1 302 Found\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
            // It begins so, and the rest is not shown.
            _ => format!("{}Bearer {TOKEN}\r\n\r\n", "?".repeat(90)).into_bytes(),
        })
    })
    .await;
    let headers = format!("Authorization: Bearer {TOKEN}\nX-Shop: 7");
    let id = receiver.webhook(&server, json!({"retry": [], "extra_headers": headers})).await;
    for n in 1..=2 {
        server.publish("order:created", json!({"n": n})).await;
        server.settled(id).await;
    }
    let first = server.attempts(id, 1, 1).await.remove(0);
    assert_eq!(first["response_body"], r#"{"you sent": "[redacted]", "signed by": "[redacted]", "n": 7}"#);
    let headers = first["response_headers"].to_string();
    assert!(headers.contains("[redacted]@example.com/a?[redacted]"), "{headers}");
    let second = server.attempts(id, 2, 1).await.remove(0);
    let error = second["error"].to_string();
    assert!(error.contains("[redacted]"), "{error}");
    for attempt in [first, second] {
        assert!(!attempt.to_string().contains("t0k3n"), "{attempt}");
    }
}
