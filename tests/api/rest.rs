//! The REST dialects through the public door: what the vendors' samples ask,
//! what clients depend on, and what becomes of bad requests.

mod babel;
mod long;
mod three_d_cart;
mod together;
mod ultracart;
mod ultracart_refusals;
mod ultracart_requests;

use serde_json::{Value, json};

use crate::common::{TestServer, openapi};

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
        let answer = if status == 204 {
            assert!(text.is_empty() && !head.contains_key("content-type"), "{method} {path}: {text}");
            Value::Null
        } else {
            assert_eq!(head["content-type"], "application/json", "{method} {path}");
            serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{method} {path}: {cause}: {text}"))
        };
        let name = match path.split('/').nth(1) {
            Some("v1") => "babel",
            Some("rest") => "ultracart",
            _ => "3dcart",
        };
        if name == "ultracart" && status >= 400 {
            let plain: String =
                answer["error"]["developer_message"].as_str().unwrap().replace(|c: char| !c.is_ascii(), "?");
            assert_eq!(head["uc-rest-error"], plain, "{method} {path}");
        }
        let (_, _, document) = self.server.exchange("GET", &format!("/openapi/{name}.json"), &[], "").await;
        check_described(&serde_json::from_str(&document).unwrap(), method, path, status, &answer);
        (status, answer)
    }
}

/// An answer is one that the dialect's document tells of, if the path and the
/// method are.
fn check_described(document: &Value, method: &str, path: &str, status: u16, answer: &Value) {
    let Some(operation) = openapi::operation_of(document, method, path) else {
        assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
        return;
    };
    let response = &operation["responses"][status.to_string()];
    if status == 204 {
        assert!(response.is_object() && response["content"].is_null(), "{method} {path}");
        return;
    }
    let schema = &response["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{method} {path}: the document does not tell of {status}");
    let schema = json!({"allOf": [schema], "components": document["components"]});
    let checked = jsonschema::validator_for(&schema).unwrap();
    checked.validate(answer).unwrap_or_else(|wrong| panic!("{method} {path}: {status}: {wrong}: {answer}"));
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
