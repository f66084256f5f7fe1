//! JSON-RPC through the public door: a real server, requests as clients write
//! them, answers asserted down to their bytes where clients depend on those.

mod administration;
mod answers;
mod audit;
mod bounds;
mod carrying;
mod counted;
mod documented;
mod erasing;
mod events;
mod faults;
mod fuzz;
mod http_level;
mod merchants;
mod middleware;
mod order;
mod tenancy;
mod tokens;
mod topics;
mod trouble;
mod unsent;
mod values;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::store::Place;
use crate::common::{DEMO_KEY, Start, TestServer, basic};

/// What each request is called.
const REQUEST_ID: &str = "probe";
/// The specification's code for what a registered method makes of fault 6.
const INVALID_PARAMS: i64 = -32_602;
/// What a merchant's user needs for everything.
const ALL: &str = "webhook_read,webhook_write,event_write";
/// Where JSON-RPC is spoken, and whether faults carry the vendor's codes there.
const PATHS: [(&str, bool); 4] =
    [("/", false), ("/rpc", false), ("/api/jsonrpc", true), ("/backend/api/jsonrpc", true)];

/// What goes over the wire for a fault's number at a path.
fn code_on(vendor: bool, number: i64) -> i64 {
    if vendor { -(32_000 + number) } else { number }
}

/// Somebody who calls with HTTP Basic.
struct User<'a> {
    server: &'a TestServer,
    authorization: String,
}

impl<'a> User<'a> {
    /// The demo user of a server in dev mode.
    fn demo(server: &'a TestServer) -> Self {
        Self { server, authorization: basic("demo", DEMO_KEY) }
    }

    /// Makes a user beside the running server.
    fn new(server: &'a TestServer, name: &str, merchant: &str, permissions: &str) -> Self {
        let key = server.user(name, merchant, permissions);
        Self { server, authorization: basic(name, &key) }
    }

    /// Calls any registered method with these params, at a path.
    async fn ask(&self, at: &str, method: &str, params: Value) -> Result<Value, Value> {
        let headers = [("authorization", &*self.authorization), ("x-request-id", REQUEST_ID)];
        self.server.rpc_at(at, &headers, method, params).await
    }

    /// Calls a resource method through `call`.
    async fn call(&self, path: &str, args: Value) -> Result<Value, Value> {
        self.ask("/", "call", json!([null, path, args])).await
    }

    /// Calls a resource method that must succeed.
    async fn done(&self, path: &str, args: Value) -> Value {
        self.call(path, args.clone()).await.unwrap_or_else(|error| panic!("{path} {args}: {error}"))
    }

    /// Posts a body as it is; the text of the answer.
    async fn post(&self, at: &str, body: impl Into<String>) -> String {
        let (status, text) = self.server.post(at, &[("authorization", &self.authorization)], body.into()).await;
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Registers a webhook, and returns it whole.
    async fn webhook(&self, data: Value) -> Value {
        self.done("webhook.create", json!([data, true])).await
    }

    /// The raw text of the list of webhooks.
    async fn list_text(&self) -> String {
        self.post("/", r#"{"jsonrpc":"2.0","id":1,"method":"webhook.list","params":[null]}"#).await
    }

    /// Checks that a resource method is refused by this fault in every form
    /// and on every path, in the same words; returns the error seen at `/`.
    async fn refused(&self, path: &str, args: Value, number: i64) -> Value {
        let error = self.call(path, args.clone()).await.expect_err(&format!("{path} {args}"));
        assert_eq!(error["code"], number, "{path} {args}: {error}");
        for (at, vendor) in PATHS {
            let same = self.ask(at, "call", json!([null, path, args])).await.expect_err(at);
            let mut expected = error.clone();
            expected["code"] = code_on(vendor, number).into();
            assert_eq!(same, expected, "{path} {args} at {at}");

            let results = self.ask(at, "multiCall", json!([null, [[path, args]]])).await.expect(at);
            let mut item = json!({"isFault": true, "faultCode": number, "faultMessage": error["message"]});
            if matches!(number, 3 | 4 | 6) || error.pointer("/data/request_id").is_some() {
                item["faultData"] = error["data"].clone();
            }
            assert_eq!(results, json!([item]), "{path} {args} in multiCall at {at}");

            self.refused_registered(at, vendor, path, &args, &error).await;
        }
        error
    }

    /// As a registered method a missing parameter has the specification's
    /// code; what `call` alone can be given (3 and 4) there is not.
    async fn refused_registered(&self, at: &str, vendor: bool, method: &str, args: &Value, error: &Value) {
        let number = error["code"].as_i64().expect("a code is a number");
        if matches!(number, 3 | 4) {
            return;
        }
        let mut params = vec![Value::Null];
        params.extend(args.as_array().cloned().unwrap_or_else(|| vec![args.clone()]));
        let same = self.ask(at, method, params.into()).await.expect_err(at);
        assert_eq!(same["data"], error["data"], "{method} {args} at {at}");
        if number == 6 {
            assert_eq!(same["code"], INVALID_PARAMS, "{method} {args} at {at}: {same}");
        } else {
            assert_eq!(same["code"], code_on(vendor, number), "{method} {args} at {at}: {same}");
            assert_eq!(same["message"], error["message"], "{method} {args} at {at}");
        }
    }

    /// Like [`Self::refused`], naming the field that was wrong in data and message.
    async fn refused_field(&self, path: &str, args: Value, number: i64, field: &str) -> Value {
        let error = self.refused(path, args.clone(), number).await;
        assert_eq!(error["data"]["field"], field, "{path} {args}: {error}");
        let message = error["message"].as_str().expect("a message is a text");
        assert!(message.contains(&format!(" {field}: ")), "{path} {args}: {message}");
        error
    }
}

/// A webhook's data that breaks no rule; nothing listens there.
fn webhook_data() -> Value {
    json!({"topics": "order:*", "url": "http://127.0.0.1:9/hook"})
}

/// The same data with some members other than they were.
fn webhook_with(changes: Value) -> Value {
    let mut data = webhook_data();
    for (name, value) in changes.as_object().expect("changes are an object") {
        data[name] = value.clone();
    }
    data
}

/// The id of a webhook that was returned whole.
fn id_of(webhook: &Value) -> i64 {
    webhook["webhook_id"].as_i64().expect("a webhook has an id")
}

/// How many rows of a table lie in the store.
fn rows(server: &TestServer, table: &str) -> i64 {
    server.place.number(&format!("SELECT count(*) FROM {table}"))
}

/// An event that comes after others has the next id. In PostgreSQL, ids that were drawn
/// for what was refused, or had been published, are left out.
fn is_next_event(server: &TestServer, receipt: &Value, id: i64) -> bool {
    let given = receipt["event_id"].as_i64().unwrap();
    given == id || (given > id && !server.place.is_file())
}

/// Starts again on the store of a server that has been stopped.
fn again(place: Arc<Place>) -> Start {
    Start { place, ..Start::default() }
}
