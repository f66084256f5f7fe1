//! What `docs/wire.md` shows of deliveries is what goes out, to the byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::{shipstream, standard_webhooks};

use super::pages::{Block, docs};
use crate::common::manual::{SECRET, verify, webhook};
use crate::common::{Arrived, Receiver, Start};

/// Before a block that is the body of a delivery, or its headers.
pub const MARKER: &str = "delivery: ";
const PAGE: &str = "docs/wire.md";
/// The store's id on the page; each store has its own.
const STORE: &str = "a1b2c3d4";

fn shown() -> Vec<Block> {
    docs().into_iter().find(|page| page.path == PAGE).expect("there is such a page").blocks()
}

/// What a webhook of that name says of itself besides.
fn definition(name: &str) -> Value {
    match name {
        "envelope" => json!({}),
        "batch" => json!({"batch": {"max_events": 2, "wait_ms": 60_000}}),
        "shipstream" => json!({"format": "shipstream"}),
        "ultracart" => json!({"format": "ultracart"}),
        "3dcart" => json!({"format": "3dcart"}),
        "3dcart in xml" => json!({"format": "3dcart", "encoding": "xml"}),
        _ => panic!("{PAGE} shows {name}, which nothing here makes"),
    }
}

async fn delivered(name: &str) -> Arrived {
    let (server, _hand) = Start::default().manual().await;
    let receiver = Receiver::obliging().await;
    webhook(&server, &receiver, definition(name)).await;
    let event = json!({
        "topic": "order:created",
        "message": {"order_id": 7, "items": [{"sku": "A-1"}]},
        "options": {"created_at": "2026-11-22T03:04:05.678Z"},
    });
    let count = if name == "batch" { 2 } else { 1 };
    server.call("event.publish_many", json!([vec![event; count]])).await.expect("the events are accepted");
    let arrived = receiver.arrivals(1).await.remove(0);
    verify(&arrived);
    arrived
}

/// Headers as the page has them: what differs each time is left out.
fn headers(arrived: &Arrived) -> BTreeMap<String, String> {
    let id = arrived.header("webhook-id");
    let store = id.split('_').nth(1).expect("the id names the store");
    let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let text = value.to_str().expect("it is ASCII").replace(store, STORE);
        let text = match name.as_str() {
            "host" => "127.0.0.1:9000".to_owned(),
            "webhook-signature" | "x-plugin-hmac-sha256" => {
                format!("{}…", if text.starts_with("v1,") { "v1," } else { "" })
            }
            "user-agent" => text.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
            _ => text,
        };
        (name.to_string(), text)
    };
    arrived.headers.iter().map(shown).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_as_shown() {
    let mut count = 0;
    for block in shown() {
        let Some(name) = block.marker.as_deref().and_then(|marker| marker.strip_prefix(MARKER)) else { continue };
        count += 1;
        let arrived = delivered(name).await;
        if block.language == "http" {
            let lines = block.text.lines().map(|line| line.split_once(": ").expect("a line is a header"));
            let expected: BTreeMap<_, _> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(headers(&arrived), expected, "the headers of {name}");
        } else {
            assert_eq!(String::from_utf8_lossy(&arrived.body), block.text.trim_end(), "the body of {name}");
        }
        if name == "shipstream" {
            let secret = SecretKey::try_new(SECRET).expect("it is one");
            assert_eq!(arrived.header("x-plugin-hmac-sha256"), shipstream(&secret, &arrived.body));
        }
    }
    assert_eq!(count, 8, "six bodies and two lists of headers");
}

/// Whoever writes a verifier of his own tries it with these.
#[test]
fn signatures_are_as_shown() {
    let mut count = 0;
    for block in shown().into_iter().filter(|block| block.marker.as_deref() == Some("signature")) {
        let lines = block.text.lines().map(|line| line.split_once(' ').expect("a line is a name and a value"));
        let told: BTreeMap<&str, &str> = lines.map(|(name, value)| (name, value.trim())).collect();
        let secret = SecretKey::try_new(told["secret"]).expect("it is one");
        let timestamp = told["timestamp"].parse().expect("it is a number");
        let signature = standard_webhooks(&secret, told["webhook-id"], timestamp, told["body"].as_bytes());
        assert_eq!(signature, told["signature"]);
        count += 1;
    }
    assert!(count >= 2, "{count} are shown");
}
