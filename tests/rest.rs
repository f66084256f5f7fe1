//! The REST dialects through the public door: what the seed's samples ask,
//! what clients depend on, and what becomes of bad requests.

mod common;

#[path = "rest/babel.rs"]
mod babel;
#[path = "rest/three_d_cart.rs"]
mod three_d_cart;

use common::TestServer;
use serde_json::Value;

/// Somebody who calls with headers of a dialect.
struct Client<'a> {
    server: &'a TestServer,
    headers: Vec<(&'static str, String)>,
}

impl Client<'_> {
    /// Sends a request; the status and the answer.
    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let (status, head, text) = self.server.exchange(method, path, &headers, body).await;
        assert_eq!(head["content-type"], "application/json", "{method} {path}");
        (status, serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{method} {path}: {cause}: {text}")))
    }
}

/// No member is null, however deep it lies: strict clients raise at one.
fn without_nulls(value: &Value) {
    match value {
        Value::Null => panic!("a null"),
        Value::Array(items) => items.iter().for_each(without_nulls),
        Value::Object(members) => members.values().for_each(without_nulls),
        _ => {}
    }
}
