//! The JSON-RPC envelope: read from the wire, and written to it.
//!
//! Where this differs from jsonrpsee's own reading:
//! - `"jsonrpc": 2.0` as a number is taken, as ShipStream's clients send it,
//!   and answered in that API's shape: the number, and `"error": null` beside a
//!   result (or `"result": null` beside an error). It is always answered, also
//!   without an id (docs/wire.md, "JSON-RPC envelope").
//! - An id is echoed as it came: jsonrpsee takes no negative or broken numbers.
//! - The words of errors are the specification's ("Invalid Request"), and an
//!   empty batch or one that is no valid JSON is answered as it prints it.

use jsonrpsee::types::Params;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::text;

/// The longest id, in bytes as it is written: it is echoed in the answer.
const ID_BYTES_MAX: usize = 1_000;

/// The specification's codes.
pub const PARSE_ERROR: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
pub const INTERNAL_ERROR: i32 = -32603;

/// The specification's words for its codes.
pub fn words(code: i32) -> &'static str {
    match code {
        PARSE_ERROR => "Parse error",
        INVALID_REQUEST => "Invalid Request",
        METHOD_NOT_FOUND => "Method not found",
        INVALID_PARAMS => "Invalid params",
        _ => "Internal error",
    }
}

/// Which of the two shapes a request has, and its answer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `"jsonrpc": "2.0"`, as the specification has it.
    Text,
    /// `"jsonrpc": 2.0`, as ShipStream's API has it.
    Number,
}

/// A call that can be run. It borrows nothing, so the body that it came in
/// need not be kept.
#[derive(Debug)]
pub struct Call {
    pub shape: Shape,
    /// As it came: a string, a number or null.
    pub id: Option<Box<str>>,
    pub method: String,
    /// An array or an object.
    pub params: Params<'static>,
}

impl Call {
    /// True if nobody waits for an answer.
    pub fn is_notification(&self) -> bool {
        self.id.is_none() && self.shape == Shape::Text
    }
}

/// What can't be run, and how to say so.
#[derive(Debug)]
pub struct Malformed {
    pub shape: Shape,
    pub id: Option<Box<str>>,
    /// What was wrong, and what would be right; `None` where there was no JSON
    /// object at all, of which the specification prints no more than that.
    pub problem: Option<&'static str>,
}

/// What stands in the place of a call.
pub type Read = Result<Call, Malformed>;

/// What a body holds.
#[derive(Debug)]
pub enum Body {
    Single(Read),
    Batch(Vec<Read>),
    /// A batch of so many calls, which are too many.
    Crowd(usize),
    /// Nothing, or white space.
    Empty,
    /// No JSON, and why.
    Nonsense(String),
}

/// Reads a body, which may hold up to `calls_max` calls.
pub fn read_body(body: &[u8], calls_max: usize) -> Body {
    let text = match text::as_utf8(text::without_mark(body)) {
        Ok(text) if text.trim_ascii().is_empty() => return Body::Empty,
        Ok(text) => text,
        Err(problem) => return Body::Nonsense(problem),
    };
    let whole = match serde_json::from_str::<&RawValue>(text) {
        Ok(whole) => whole,
        Err(cause) => return Body::Nonsense(text::no_json(text, &cause)),
    };
    if !whole.get().starts_with('[') {
        return Body::Single(read_call(whole));
    }
    match serde_json::from_str::<Vec<&RawValue>>(whole.get()) {
        Ok(calls) if calls.len() > calls_max => Body::Crowd(calls.len()),
        Ok(calls) => Body::Batch(calls.into_iter().map(read_call).collect()),
        Err(cause) => Body::Nonsense(text::no_json(text, &cause)),
    }
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Tells a member that is null from one that is left out.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one call.
fn read_call(raw: &RawValue) -> Read {
    let malformed = |shape, id: Option<&RawValue>, problem| {
        let id = id.map(|id| id.get().into());
        Err(Malformed { shape, id, problem: raw.get().starts_with('{').then_some(problem) })
    };
    let Ok(members) = serde_json::from_str::<Members<'_>>(raw.get()) else {
        return malformed(Shape::Text, None, "A call is an object with each member once.");
    };
    let is_id = |id: &&RawValue| matches!(id.get().as_bytes()[0], b'"' | b'-' | b'0'..=b'9' | b'n');
    let id = members.id.filter(is_id).filter(|id| id.get().len() <= ID_BYTES_MAX);
    let shape = match members.jsonrpc.map(RawValue::get) {
        Some("\"2.0\"") => Shape::Text,
        Some(number) if number.parse::<f64>() == Ok(2.0) => Shape::Number,
        _ => return malformed(Shape::Text, id, "The member jsonrpc must be \"2.0\" (or the number 2.0)."),
    };
    if members.id.is_some() && id.is_none() {
        return malformed(shape, None, "The member id must be a string, a number or null, of up to 1,000 bytes.");
    }
    let Some(method) = members.method.and_then(|method| serde_json::from_str(method.get()).ok()) else {
        return malformed(shape, id, "The member method must be a string.");
    };
    match members.params.map(|params| params.get().as_bytes()[0]) {
        None | Some(b'[' | b'{') => {
            let params = Params::new(members.params.map(RawValue::get)).into_owned();
            Ok(Call { shape, id: id.map(|id| id.get().into()), method, params })
        }
        Some(_) => malformed(shape, id, "The member params must be an array or an object."),
    }
}

/// The id as a member behind others.
fn id_member(shape: Shape, id: Option<&str>) -> String {
    match (shape, id) {
        (_, Some(id)) => format!(",\"id\":{id}"),
        // A specification's answer always has an id; ShipStream's only if the call had one.
        (Shape::Text, None) => ",\"id\":null".to_owned(),
        (Shape::Number, None) => String::new(),
    }
}

/// Writes an answer that is an error, of that text.
pub fn write_error(shape: Shape, id: Option<&str>, error: &str) -> String {
    let id = id_member(shape, id);
    match shape {
        Shape::Text => format!("{{\"jsonrpc\":\"2.0\",\"error\":{error}{id}}}"),
        Shape::Number => format!("{{\"jsonrpc\":2.0{id},\"error\":{error},\"result\":null}}"),
    }
}

/// What stands before and behind a result. Where a list was cut off, that says
/// how to go on.
pub fn result_frame(shape: Shape, id: Option<&str>, cut: Option<&str>) -> (String, String) {
    let id = id_member(shape, id);
    let cut = cut.map(|cut| format!(",\"cut\":{cut}")).unwrap_or_default();
    match shape {
        Shape::Text => ("{\"jsonrpc\":\"2.0\",\"result\":".to_owned(), format!("{cut}{id}}}")),
        Shape::Number => (format!("{{\"jsonrpc\":2.0{id},\"error\":null,\"result\":"), format!("{cut}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn both_versions_are_taken() {
        for (version, shape) in
            [("\"2.0\"", Shape::Text), ("2.0", Shape::Number), ("2", Shape::Number), ("2e0", Shape::Number)]
        {
            let text = raw(&format!(r#"{{"jsonrpc":{version},"method":"a","id":-1.50}}"#));
            let call = read_call(&text).unwrap();
            assert_eq!((call.shape, call.id.as_deref()), (shape, Some("-1.50")));
        }
        for version in ["\"1.0\"", "1.0", "\"2\"", "null", "true", "[2.0]"] {
            assert!(read_call(&raw(&format!(r#"{{"jsonrpc":{version},"method":"a","id":1}}"#))).is_err());
        }
    }

    #[test]
    fn an_id_of_null_is_an_id() {
        assert!(!read_call(&raw(r#"{"jsonrpc":"2.0","method":"a","id":null}"#)).unwrap().is_notification());
        assert!(read_call(&raw(r#"{"jsonrpc":"2.0","method":"a"}"#)).unwrap().is_notification());
        assert!(!read_call(&raw(r#"{"jsonrpc":2.0,"method":"a"}"#)).unwrap().is_notification());
    }

    #[test]
    fn an_id_has_a_bound() {
        let call =
            |length: usize| raw(&format!(r#"{{"jsonrpc":"2.0","method":"a","id":"{}"}}"#, "x".repeat(length - 2)));
        assert!(read_call(&call(ID_BYTES_MAX)).is_ok());
        let long = call(ID_BYTES_MAX + 1);
        let refused = read_call(&long).unwrap_err();
        assert!(refused.id.is_none() && refused.problem.unwrap().contains("1,000 bytes"));
    }

    #[test]
    fn malformed_calls_keep_what_can_be_echoed() {
        let id = |text: &str| read_call(&raw(text)).unwrap_err().id;
        assert_eq!(id(r#"{"jsonrpc":"2.0","method":1,"id":"x"}"#).as_deref(), Some("\"x\""));
        assert_eq!(id(r#"{"jsonrpc":"2.0","method":"a","id":[1]}"#), None);
        assert_eq!(id("1"), None);
        assert_eq!(id(r#"{"jsonrpc":"2.0","jsonrpc":"2.0","method":"a","id":1}"#), None);
    }
}
