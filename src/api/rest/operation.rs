//! An operation of a dialect: what it takes and gives as types, and the code.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};
use url::form_urlencoded;

use super::listing::{IntoReply, Reply};
use super::refusal::Refusal;
use crate::api::text;
use crate::service::Service;
use crate::service::caller::Caller;

/// Nothing: no path parameters, no query, or no body.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(inline)]
pub struct Nothing {}

/// A request whose caller is known, before it was read.
pub struct Call<'a> {
    pub service: Arc<Service>,
    pub caller: Caller,
    pub path: Vec<(String, String)>,
    pub query: &'a str,
    pub body: Bytes,
    pub bytes_max: usize,
    pub wants_xml: bool,
}

/// A request that was read.
pub struct Asked<P, Q, B> {
    /// The use cases.
    pub service: Arc<Service>,
    /// Who asks.
    pub caller: Caller,
    /// What stands in the path.
    pub path: P,
    /// What stands behind it.
    pub query: Q,
    /// The body.
    pub body: B,
    /// The most bytes that a list in the answer may have.
    pub bytes_max: usize,
    /// Whether the answer is to be XML.
    pub wants_xml: bool,
}

/// What runs an operation.
pub type Answer = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;
type Run = Box<dyn Fn(Call<'_>) -> Result<Answer, Refusal> + Send + Sync>;
/// Makes a schema of a type.
pub type Describe = fn(&mut SchemaGenerator) -> Schema;

/// An operation: its description and its code.
pub struct Operation {
    pub method: Method,
    pub path: &'static str,
    pub summary: &'static str,
    /// The name of it, unique within the dialect.
    pub id: String,
    pub path_schema: Describe,
    pub query_schema: Describe,
    /// `None`: it has no body.
    pub body_schema: Option<Describe>,
    /// Whether the body may be left out.
    pub needs_body: bool,
    pub result_schema: Describe,
    /// The status of the answer if all goes well.
    pub status: StatusCode,
    run: Run,
}

impl Operation {
    /// An operation that answers 200 with what the code gives.
    pub fn new<P, Q, B, R, F>(
        method: Method,
        path: &'static str,
        (id, summary): (&'static str, &'static str),
        run: impl Fn(Asked<P, Q, B>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        Q: DeserializeOwned + JsonSchema,
        B: DeserializeOwned + JsonSchema,
        R: IntoReply,
        F: Future<Output = Result<R, Refusal>> + Send + 'static,
    {
        let has_body = B::schema_name() != Nothing::schema_name();
        let run: Run = Box::new(move |call| {
            let asked = Asked {
                path: read_path(&call.path)?,
                query: read_query(call.query)?,
                body: read_body(if has_body { &call.body } else { b"{}" })?,
                bytes_max: call.bytes_max,
                wants_xml: call.wants_xml,
                service: call.service,
                caller: call.caller,
            };
            let answer = run(asked);
            Ok(Box::pin(async move { answer.await?.into_reply() }))
        });
        Self {
            method,
            path,
            summary,
            id: id.to_owned(),
            path_schema: P::json_schema,
            query_schema: Q::json_schema,
            needs_body: has_body && B::json_schema(&mut SchemaGenerator::default()).get("required").is_some(),
            body_schema: has_body.then_some(SchemaGenerator::subschema_for::<B>),
            result_schema: SchemaGenerator::subschema_for::<R>,
            status: StatusCode::OK,
            run,
        }
    }

    /// The same operation, which answers with that status if all goes well.
    pub fn answers(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same operation under another name, for where it stands at several paths.
    pub fn named(self, suffix: &str) -> Self {
        Self { id: format!("{}{suffix}", self.id), ..self }
    }

    /// Reads the request; what it gives back runs the operation, and owns what
    /// was read.
    pub fn begin(&self, call: Call<'_>) -> Result<Answer, Refusal> {
        (self.run)(call)
    }
}

/// Names a member that could not be read.
fn misread(place: &str, cause: &impl std::fmt::Display) -> Refusal {
    const CHARS_MAX: usize = 300;
    let text = cause.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    // It repeats the value, which may be long; what was expected stands at the end.
    let chars = text.chars().count();
    let text = match chars > CHARS_MAX {
        true => {
            let part = |skip, take| text.chars().skip(skip).take(take).collect::<String>();
            format!("{}…{}", part(0, CHARS_MAX / 2), part(chars - CHARS_MAX / 2, CHARS_MAX / 2))
        }
        false => text.to_owned(),
    };
    Refusal::bad(if place.is_empty() || place == "." { format!("{text}.") } else { format!("{place}: {text}.") })
}

fn read_path<P: DeserializeOwned>(path: &[(String, String)]) -> Result<P, Refusal> {
    read_pairs(path.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// What is empty counts as left out, and what nobody knows is passed over.
fn read_query<Q: DeserializeOwned>(query: &str) -> Result<Q, Refusal> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()).collect();
    // Of what is given twice, the last counts.
    let mut last: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
    for (name, value) in &pairs {
        last.retain(|(other, _)| other != name);
        last.push((name, value));
    }
    read_pairs(last.into_iter())
}

/// A text in a path or a query, which may be what is optional.
struct Text<'a>(&'a str);

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn read_pairs<'a, T: DeserializeOwned>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<T, Refusal> {
    let pairs = MapDeserializer::new(pairs.map(|(name, value)| (name, Text(value))));
    serde_path_to_error::deserialize(pairs).map_err(|cause| misread(&cause.path().to_string(), cause.inner()))
}

/// An empty body counts as `{}`.
fn read_body<B: DeserializeOwned>(body: &[u8]) -> Result<B, Refusal> {
    let body = text::as_utf8(text::without_mark(body)).map_err(Refusal::bad)?;
    let body = if body.trim_ascii().is_empty() { "{}" } else { body };
    // A derived type would take an array for its members in their order.
    if body.trim_ascii_start().starts_with(|first| matches!(first, '[' | '"' | 't' | 'f' | 'n' | '0'..='9')) {
        return Err(Refusal::bad("The body must be an object."));
    }
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let read = serde_path_to_error::deserialize(&mut deserializer);
    let value = read.map_err(|cause| {
        let place = cause.path().to_string();
        // What is wrong with a member may stand before what is no JSON.
        match serde_json::from_str::<IgnoredAny>(body) {
            Ok(_) => misread(&place, cause.inner()),
            Err(cause) => Refusal::bad(text::no_json(body, &cause)),
        }
    })?;
    deserializer.end().map_err(|cause| Refusal::bad(text::no_json(body, &cause)))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::super::values::{Int, Switch};
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Query {
        take: Option<Int>,
        on: Option<Switch>,
    }

    #[test]
    fn queries_are_read_leniently_and_told_of_by_name() {
        let read = |query: &str| read_query::<Query>(query).map_err(|refusal| refusal.message);
        assert_eq!(read(""), Ok(Query { take: None, on: None }));
        assert_eq!(read("take=&on=&other=1"), Ok(Query { take: None, on: None }));
        assert_eq!(read("take=5&take=7&on=True"), Ok(Query { take: Some(Int(7)), on: Some(Switch(true)) }));
        assert_eq!(read("on=%66alse"), Ok(Query { take: None, on: Some(Switch(false)) }));
        assert!(read("take=x").unwrap_err().starts_with("take: "), "{}", read("take=x").unwrap_err());
        assert!(read("on=maybe").unwrap_err().starts_with("on: "));
    }

    #[test]
    fn bodies_are_told_of_by_place() {
        let read = |body: &str| read_body::<Query>(body.as_bytes()).map_err(|refusal| refusal.message);
        assert_eq!(read("  "), Ok(Query { take: None, on: None }));
        assert_eq!(read(r#"{"take": 5, "other": [1]}"#), Ok(Query { take: Some(Int(5)), on: None }));
        assert!(read(r#"{"take": "x"}"#).unwrap_err().starts_with("take: "));
        assert!(read(r#"{"take": 5"#).unwrap_err().starts_with("The body is no JSON: "));
        assert!(read(r#"{"take": 5} x"#).unwrap_err().starts_with("The body is no JSON: "));
        assert_eq!(read("[]").unwrap_err(), "The body must be an object.");
        assert_eq!(read(r#"{"take": 69.0}"#).unwrap().take, Some(Int(69)));
        assert!(read(r#"{"take": 69.5}"#).is_err() && read(r#"{"take": 1e300}"#).is_err());
    }
}
