//! From a body to an answer: reads the envelope, has jsonrpsee run each call,
//! writes the envelope.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jsonrpsee::types::Id;
use jsonrpsee::{ConnectionId, MethodCallback, Methods};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Answer, Reply};
use super::envelope::{
    Body, Call, INVALID_REQUEST, METHOD_NOT_FOUND, Malformed, PARSE_ERROR, Read, Shape, result_frame, write_error,
};
use super::fault::{
    Codes, internal_error, named_error, protocol_error, refused_error, retry_after, specification_error,
};
use super::method::{Context, Outlet};
use crate::domain::nearest::{nearest, shortened};

/// The vendor's words for a body with nothing in it.
const NO_METHOD: &str = "No method specified.";

/// Runs calls against a set of methods.
pub struct Dispatcher {
    methods: Methods,
    batch_calls_max: usize,
    response_bytes_max: usize,
}

/// The part of jsonrpsee's answer that matters; the envelope is ours.
#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Dispatcher {
    /// Runs these methods; a batch may hold up to `batch_calls_max` calls, of
    /// which none is run once the answers fill `response_bytes_max`.
    pub fn new(methods: impl Into<Methods>, batch_calls_max: usize, response_bytes_max: usize) -> Self {
        Self { methods: methods.into(), batch_calls_max, response_bytes_max }
    }

    /// The most calls that one body may hold.
    pub fn batch_calls_max(&self) -> usize {
        self.batch_calls_max
    }

    /// The answer to a body; empty if there is nothing to answer.
    pub async fn run(&self, body: Body, context: &Context) -> Answer {
        let whole = |code, problem| {
            let mut answer = Answer::from(write_error(Shape::Text, None, &specification_error(code, problem)));
            answer.note_strange();
            answer
        };
        let mut answer = Answer::default();
        match body {
            // So the vendor's own middleware finds out that somebody answers: docs/wire.md, "Paths".
            Body::Empty if context.codes == Codes::Vendor => protocol_error(INVALID_REQUEST, NO_METHOD, None).into(),
            Body::Empty => whole(PARSE_ERROR, Some("The body is empty; a call is a JSON object.")),
            Body::Nonsense(problem) => whole(PARSE_ERROR, Some(&problem)),
            Body::Single(read) => {
                let retry_after = self.answer(&mut answer, "", read, context).await;
                answer.with_retry_after(retry_after)
            }
            Body::Batch(calls) if calls.is_empty() => whole(INVALID_REQUEST, None),
            Body::Crowd(count) => {
                let problem =
                    format!("{count} calls are too many for one batch; up to {} are run.", self.batch_calls_max);
                whole(INVALID_REQUEST, Some(&problem))
            }
            Body::Batch(calls) => {
                for read in calls {
                    let before = if answer.is_empty() { "[" } else { "," };
                    match answer.len() < self.response_bytes_max {
                        true => drop(self.answer(&mut answer, before, read, context).await),
                        false => self.refuse(&mut answer, before, read),
                    }
                }
                if !answer.is_empty() {
                    answer.text("]");
                }
                answer
            }
        }
    }

    /// Adds what is said to a call, if anything is, with `before` in front;
    /// when trying again makes sense, if it is refused and says so.
    async fn answer(&self, answer: &mut Answer, before: &str, read: Read, context: &Context) -> Option<Duration> {
        let call = match read {
            Ok(call) => call,
            Err(Malformed { shape, id, problem }) => {
                let error = specification_error(INVALID_REQUEST, problem);
                answer.note_strange();
                answer.text(before);
                answer.text(&write_error(shape, id.as_deref(), &error));
                return None;
            }
        };
        let (shape, id, is_notification) = (call.shape, call.id.clone(), call.is_notification());
        if self.methods.method(&call.method).is_none() {
            answer.note_strange();
        }
        let outcome = self.call(call, context).await;
        if is_notification {
            return None;
        }
        answer.text(before);
        match outcome {
            Ok(Reply { result, cut, payer, .. }) => {
                answer.put_down_to(payer);
                let (front, back) = result_frame(shape, id.as_deref(), cut.map(|cut| cut.text()).as_deref());
                answer.text(&front);
                answer.result(result);
                answer.text(&back);
                None
            }
            Err(error) => {
                answer.text(&write_error(shape, id.as_deref(), &error));
                retry_after(&error)
            }
        }
    }

    /// Adds the answer to a call that is not run, since those before it have
    /// filled the response.
    fn refuse(&self, answer: &mut Answer, before: &str, read: Read) {
        let max = self.response_bytes_max;
        let problem =
            format!("Not run: the answers before this one fill the {max} bytes of a response. Send it again.");
        let error = refused_error(&problem, None);
        let (shape, id) = match read {
            Ok(call) if call.is_notification() => return,
            Ok(call) => (call.shape, call.id),
            Err(malformed) => (malformed.shape, malformed.id),
        };
        answer.text(before);
        answer.text(&write_error(shape, id.as_deref(), &error));
    }

    /// Has jsonrpsee run a call. The id it is given is a stand-in.
    async fn call(&self, call: Call, context: &Context) -> Result<Reply, String> {
        let Some(MethodCallback::Async(callback)) = self.methods.method(&call.method) else {
            let nearest = nearest(&call.method, self.methods.method_names());
            let problem = format!("There is no method {:?}.", shortened(&call.method));
            return Err(named_error(METHOD_NOT_FOUND, Some(&problem), nearest));
        };
        let mut extensions = http::Extensions::new();
        extensions.insert(context.clone());
        let outlet = Outlet::default();
        extensions.insert(Arc::clone(&outlet));
        let running = callback(Id::Number(0), call.params, ConnectionId(0), usize::MAX, extensions);
        let Ok(response) = AssertUnwindSafe(running).catch_unwind().await else {
            tracing::error!(method = call.method, "a method panicked");
            return Err(internal_error(context.sender.request_id));
        };
        if let Some(reply) = outlet.lock().expect("nothing panics while it holds an answer").take() {
            return Ok(reply);
        }
        let outcome: Outcome<'_> = serde_json::from_str(response.as_json().get()).map_err(|cause| {
            tracing::error!(%cause, method = call.method, "a method's answer is no answer");
            internal_error(context.sender.request_id)
        })?;
        match (outcome.error, outcome.result) {
            (Some(error), _) => Err(error.get().to_owned()),
            (None, result) => Ok(result.map_or_else(|| RawValue::NULL.to_owned(), RawValue::to_owned).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use jsonrpsee::RpcModule;
    use jsonrpsee::types::Params;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::rpc::envelope::read_body;
    use crate::api::rpc::fault::Codes;
    use crate::domain::request_id::{RequestId, Sender};
    use crate::service::caller::Credentials;

    /// The methods that the specification's examples call.
    fn specification() -> Dispatcher {
        let mut module = RpcModule::new(());
        #[derive(Deserialize)]
        struct Subtract {
            minuend: i64,
            subtrahend: i64,
        }
        let register = |module: &mut RpcModule<()>, name, run: fn(Params<'_>) -> Value| {
            module.register_async_method(name, move |params, _, _| async move { run(params) }).unwrap();
        };
        register(&mut module, "subtract", |params| {
            let Subtract { minuend, subtrahend } = params.parse().unwrap();
            json!(minuend - subtrahend)
        });
        register(&mut module, "sum", |params| json!(params.parse::<Vec<i64>>().unwrap().iter().sum::<i64>()));
        register(&mut module, "get_data", |_| json!(["hello", 5]));
        for name in ["update", "notify_hello", "notify_sum"] {
            register(&mut module, name, |_| Value::Null);
        }
        register(&mut module, "nothing", |_| Value::Null);
        register(&mut module, "long", |_| json!("x".repeat(1_500)));
        register(&mut module, "panics", |_| panic!("on purpose"));
        Dispatcher::new(module, 10, 2_000)
    }

    async fn run(body: &str) -> Option<String> {
        let sender = Sender { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), request_id: RequestId::generate(), trace: None };
        let context = Context { credentials: Credentials::None, sender, codes: Codes::Native, live: None, body: None };
        let dispatcher = specification();
        let body = read_body(body.as_bytes(), dispatcher.batch_calls_max());
        let answer = dispatcher.run(body, &context).await;
        (!answer.is_empty()).then(|| answer.into_text())
    }

    /// Equal but for the `data` that says what was wrong with a request.
    async fn check(body: &str, expected: Option<&str>) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut answer = run(body).await.map(|text| parse(&text));
        for error in answer.iter_mut().flat_map(|answer| match answer {
            Value::Array(items) => items.iter_mut().collect(),
            single => vec![single],
        }) {
            if let Some(error) = error.get_mut("error").and_then(Value::as_object_mut) {
                error.remove("data");
            }
        }
        assert_eq!(answer, expected.map(parse), "{body}");
    }

    /// Section 7 of the JSON-RPC 2.0 specification, in its order.
    #[tokio::test]
    async fn the_examples_of_the_specification() {
        const PARSE: &str = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}"#;
        const INVALID: &str = r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}"#;
        for (body, answer) in [
            (
                r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#,
                Some(r#"{"jsonrpc": "2.0", "result": 19, "id": 1}"#),
            ),
            (
                r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#,
                Some(r#"{"jsonrpc": "2.0", "result": -19, "id": 2}"#),
            ),
            (
                r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
                Some(r#"{"jsonrpc": "2.0", "result": 19, "id": 3}"#),
            ),
            (
                r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}"#,
                Some(r#"{"jsonrpc": "2.0", "result": 19, "id": 4}"#),
            ),
            (r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#, None),
            (r#"{"jsonrpc": "2.0", "method": "foobar"}"#, None),
            (
                r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#,
                Some(r#"{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}"#),
            ),
            (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, Some(PARSE)),
            (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, Some(INVALID)),
            (
                r#"[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method" ]"#,
                Some(PARSE),
            ),
            ("[]", Some(INVALID)),
            ("[1]", Some(&format!("[{INVALID}]"))),
            ("[1,2,3]", Some(&format!("[{INVALID},{INVALID},{INVALID}]"))),
            (
                r#"[
                    {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                    {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                    {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
                    {"foo": "boo"},
                    {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                    {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
                ]"#,
                Some(&format!(
                    r#"[
                        {{"jsonrpc": "2.0", "result": 7, "id": "1"}},
                        {{"jsonrpc": "2.0", "result": 19, "id": "2"}},
                        {INVALID},
                        {{"jsonrpc": "2.0", "error": {{"code": -32601, "message": "Method not found"}}, "id": "5"}},
                        {{"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}}
                    ]"#
                )),
            ),
            (
                r#"[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]}, {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]"#,
                None,
            ),
        ] {
            check(body, answer).await;
        }
    }

    #[tokio::test]
    async fn the_shape_of_the_version_as_a_number() {
        let answer = run(r#"{"jsonrpc": 2.0, "method": "sum", "params": [1]}"#).await;
        assert_eq!(answer.as_deref(), Some(r#"{"jsonrpc":2.0,"error":null,"result":1}"#));
        let answer = run(r#"{"jsonrpc": 2.0, "id": 1234, "method": "foobar"}"#).await;
        let expected = r#"{"jsonrpc":2.0,"id":1234,"error":{"code":-32601,"message":"Method not found","data":{"problem":"There is no method \"foobar\"."}},"result":null}"#;
        assert_eq!(answer.as_deref(), Some(expected));
        let answer = run(r#"[{"jsonrpc": 2.0, "id": "a", "method": "nothing"}, {"jsonrpc": "2.0", "id": -1.5, "method": "nothing"}]"#).await;
        let expected =
            r#"[{"jsonrpc":2.0,"id":"a","error":null,"result":null},{"jsonrpc":"2.0","result":null,"id":-1.5}]"#;
        assert_eq!(answer.as_deref(), Some(expected));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        check(
            r#"{"jsonrpc": "2.0", "method": "panics", "id": 1}"#,
            Some(r#"{"jsonrpc": "2.0", "error": {"code": -32603, "message": "Internal error"}, "id": 1}"#),
        )
        .await;
    }

    #[tokio::test]
    async fn a_batch_has_a_bound() {
        let call = r#"{"jsonrpc":"2.0","method":"get_data","id":1}"#;
        assert!(run(&format!("[{}]", [call; 10].join(","))).await.unwrap().starts_with('['));
        let refused = run(&format!("[{}]", [call; 11].join(","))).await.unwrap();
        assert!(refused.contains("-32600") && refused.contains("up to 10"), "{refused}");
    }

    #[tokio::test]
    async fn a_response_has_a_bound() {
        let call = |id: u8| format!(r#"{{"jsonrpc":"2.0","method":"long","id":{id}}}"#);
        let notification = r#"{"jsonrpc":"2.0","method":"long"}"#;
        let body = format!("[{},{},{notification},{}]", call(1), call(2), call(3));
        let answers: Vec<Value> = serde_json::from_str(&run(&body).await.unwrap()).unwrap();
        let told: Vec<_> =
            answers.iter().map(|answer| (answer["id"].clone(), answer["error"]["code"].clone())).collect();
        assert_eq!(told, [(json!(1), Value::Null), (json!(2), Value::Null), (json!(3), json!(-32000))]);
        assert!(answers[2]["error"]["message"].as_str().unwrap().contains("2000 bytes"));
    }
}
