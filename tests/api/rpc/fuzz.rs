//! The envelope, and `call` within it, given whatever can be written: calls
//! that are almost right, values of any kind in any place, broken text. Each
//! request gets an answer of the specification's form, and none an internal
//! error. PROPTEST_CASES makes it run longer.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::value::RawValue;

use super::*;

/// Requests for each of proptest's cases, which are 256 unless PROPTEST_CASES
/// says otherwise.
const REQUESTS_PER_CASE: u32 = 20;
/// The specification's codes but for the internal error. Of the faults, 0 and
/// 1 say that the server itself has failed.
const CODES: [i64; 4] = [-32_700, -32_600, -32_601, -32_602];

/// Texts that mean something somewhere.
const TEXTS: &[&str] = &[
    "",
    "*",
    "order:created",
    "order:*",
    "a,b",
    "a: b",
    "url",
    "topics",
    "status",
    "message",
    "id",
    "session",
    "path",
    "args",
    "7",
    "-1",
    "2026-11-22T03:04:05Z",
    "ordered",
    "\u{0}",
    "\u{1f98a}",
    "jsonrpc",
    "break",
    "webhook_id",
];
const METHODS: &[&str] = &[
    "call",
    "call",
    "call",
    "multiCall",
    "resources",
    "resourceFaults",
    "login",
    "endSession",
    "startSession",
    "rpc.x",
    "webhook.list",
    "webhook.create",
    "",
];
const PATHS: &[&str] = &[
    "webhook.list",
    "webhook.get",
    "webhook.create",
    "webhook.update",
    "webhook.update_status",
    "webhook.delete",
    "webhook.replay",
    "event.publish",
    "event.publish_many",
    "delivery.list",
    "delivery.pull",
    "delivery.attempts",
    "webhook",
    "call",
    "multiCall",
    "login",
    "webhook.nothing",
    ".",
    "",
];

/// A value as it is written.
fn value() -> impl Strategy<Value = String> + Clone {
    let text = select(TEXTS).prop_map(|text| json!(text).to_string());
    let plain = select(&["null", "true", "false", "0", "1", "-1", "1.5", "1e400", "9223372036854775808", "2.0"][..]);
    let leaf = prop_oneof![plain.prop_map(str::to_owned), text.clone()];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let object = proptest::collection::vec((text.clone(), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            object.prop_map(|members| object_of(&members)),
        ]
    })
}

fn object_of(members: &[(String, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Something likely most of the time, and anything otherwise.
fn likely(choices: &'static [&'static str]) -> BoxedStrategy<String> {
    prop_oneof![4 => select(choices).prop_map(str::to_owned), 1 => value()].boxed()
}

fn quoted(choices: &'static [&'static str]) -> BoxedStrategy<String> {
    prop_oneof![8 => select(choices).prop_map(|text| json!(text).to_string()), 1 => value()].boxed()
}

/// A call, or what comes close to one.
#[derive(Clone, Debug)]
struct Written {
    text: String,
    /// The id that its answer must have; `None` if it may have none.
    id: Option<String>,
}

fn call() -> impl Strategy<Value = Written> + Clone {
    let params = (likely(&["null", "\"\""]), quoted(PATHS), value());
    let params = prop_oneof![
        4 => params.clone().prop_map(|(session, path, args)| format!("[{session},{path},{args}]")),
        2 => params.prop_map(|(session, path, args)| {
            format!(r#"{{"session":{session},"path":{path},"args":{args}}}"#)
        }),
        1 => value(),
    ];
    let members = (
        likely(&[r#""2.0""#, r#""2.0""#, "2.0", "2"]),
        quoted(METHODS),
        params,
        likely(&["1", "-1.50", "null", r#""x""#, "18446744073709551616"]),
        // Which of the members are left out, or given twice.
        proptest::collection::vec(prop_oneof![1 => Just(0), 12 => Just(1), 1 => Just(2)], 4),
    );
    members.prop_map(|(version, method, params, id, times)| {
        let is_id = times[3] == 1 && !times.contains(&2) && !id.starts_with(['[', '{', 't', 'f']);
        let members = [("jsonrpc", version), ("method", method), ("params", params), ("id", id.clone())];
        let members = members.into_iter().zip(times);
        let members = members.flat_map(|((name, value), times)| vec![(json!(name).to_string(), value); times]);
        Written { text: object_of(&members.collect::<Vec<_>>()), id: is_id.then_some(id) }
    })
}

/// What is posted: a call, several, or anything.
#[derive(Clone, Debug)]
enum Body {
    Single(Written),
    Batch(Vec<Written>),
    /// Something else, or a call with a character that is not its own.
    Broken(String),
}

fn body() -> impl Strategy<Value = Body> {
    let broken = (call(), any::<prop::sample::Index>(), any::<char>()).prop_map(|(whole, place, wrong)| {
        let mut chars: Vec<char> = whole.text.chars().collect();
        let place = place.index(chars.len());
        chars[place] = wrong;
        chars.into_iter().collect()
    });
    prop_oneof![
        6 => call().prop_map(Body::Single),
        2 => proptest::collection::vec(call(), 0..5).prop_map(Body::Batch),
        1 => value().prop_map(Body::Broken),
        1 => broken.prop_map(Body::Broken),
    ]
}

impl Body {
    fn text(&self) -> String {
        match self {
            Self::Single(call) => call.text.clone(),
            Self::Batch(calls) => {
                let texts: Vec<_> = calls.iter().map(|call| call.text.as_str()).collect();
                format!(" [{}]\n", texts.join(", "))
            }
            Self::Broken(text) => text.clone(),
        }
    }

    /// Checks that each call that has an id got the answer with that id, in
    /// the order of the calls.
    fn check(&self, answer: &str) {
        let ids: Vec<_> = if answer.is_empty() {
            Vec::new()
        } else if answer.starts_with('[') {
            serde_json::from_str::<Vec<Answer<'_>>>(answer).unwrap().iter().map(Answer::check).collect()
        } else {
            vec![serde_json::from_str::<Answer<'_>>(answer).unwrap().check()]
        };
        let calls = match self {
            Self::Single(call) => std::slice::from_ref(call),
            Self::Batch(calls) => calls,
            Self::Broken(_) => return,
        };
        let mut rest = ids.iter();
        for id in calls.iter().filter_map(|call| call.id.as_deref()) {
            assert!(rest.any(|answered| *answered == id), "no answer with id {id}, in its turn");
        }
        assert!(ids.len() <= calls.len().max(1), "more answers than calls");
    }
}

/// An answer as it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    #[serde(borrow)]
    jsonrpc: &'a RawValue,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Problem>,
}

#[derive(serde::Deserialize)]
struct Problem {
    code: i64,
    message: String,
}

impl<'a> Answer<'a> {
    /// Its id as it is written, or null, once the rest has been checked.
    fn check(&self) -> &'a str {
        assert!(matches!(self.jsonrpc.get(), r#""2.0""# | "2.0"), "{}", self.jsonrpc);
        if let Some(Problem { code, message }) = &self.error {
            let is_known = CODES.contains(code) || (2..=113).contains(code);
            assert!(is_known && !message.is_empty(), "{code} {message}");
            assert!(self.result.is_none_or(|result| result.get() == "null"), "both a result and an error");
        }
        self.id.map_or("null", RawValue::get)
    }
}

#[test]
fn fuzz_call() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Start::default().flag("login_failures_max", "1000000").go());
    let authorization = basic("demo", DEMO_KEY);
    let config = Config::default();
    let config = Config { cases: config.cases.saturating_mul(REQUESTS_PER_CASE), failure_persistence: None, ..config };
    let ran = TestRunner::new(config).run(&body(), |body| {
        let headers = [("authorization", authorization.as_str())];
        let (status, answer) = runtime.block_on(server.post("/", &headers, body.text()));
        assert_eq!(status, 200, "{answer}");
        body.check(&answer);
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}
