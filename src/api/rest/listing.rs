//! Answers with a list, which is written a row at a time, and what other
//! answers are.

use std::borrow::Cow;
use std::marker::PhantomData;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;

use super::refusal::Refusal;
use super::xml;
use crate::api::list::{ListText, text_of};

/// What an operation answers.
pub enum Reply {
    /// Something short, which the dialect writes.
    One(Value),
    /// What is written already, and its media type.
    Written(Vec<u8>, &'static str),
}

/// What can be an answer.
pub trait IntoReply: JsonSchema {
    /// As an answer. Fails if it can't be written.
    fn into_reply(self) -> Result<Reply, Refusal>;
}

impl<T: Serialize + JsonSchema> IntoReply for T {
    fn into_reply(self) -> Result<Reply, Refusal> {
        value_of(&self).map(Reply::One)
    }
}

fn value_of(answer: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|cause| {
        tracing::error!(%cause, "an answer could not be written");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be written; see the server's log.")
    })
}

/// What an object has beside its list.
pub trait Beside: Serialize + JsonSchema {
    /// The member with the list.
    const LIST: &'static str;
    /// What is in the list.
    type Row: JsonSchema;
}

/// An object with a list, being written: first the list, then the rest, which
/// tells how long the list became.
pub struct Rows<B> {
    text: ListText,
    _beside: PhantomData<fn(B)>,
}

/// The same, written.
pub struct Listing<B> {
    text: Vec<u8>,
    _beside: PhantomData<fn() -> B>,
}

impl<B: Beside> Rows<B> {
    /// Of up to so many bytes, or one row.
    pub fn begin(bytes_max: usize) -> Self {
        let text = ListText::begin(format!("{{\"{}\":[", B::LIST), ",", bytes_max);
        Self { text, _beside: PhantomData }
    }

    /// Writes a row, and lets others have their turn. False if there was no
    /// room for it, which there always is for the first.
    pub async fn write(&mut self, row: &impl Serialize) -> Result<bool, Refusal> {
        Ok(self.write_text(&text_of(row)?).await)
    }

    /// The same for a row whose text is there already.
    pub async fn write_text(&mut self, row: &[u8]) -> bool {
        let is_written = self.text.write(row);
        self.text.pause().await;
        is_written
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.text.count()
    }

    /// The whole object.
    pub fn end(self, beside: &B) -> Result<Listing<B>, Refusal> {
        let mut rest = text_of(beside)?;
        rest.splice(..1, *b"],");
        Ok(Listing { text: self.text.end(&rest), _beside: PhantomData })
    }
}

impl<B: Beside> IntoReply for Listing<B> {
    fn into_reply(self) -> Result<Reply, Refusal> {
        Ok(Reply::Written(self.text, "application/json"))
    }
}

/// The rest's, with the list.
impl<B: Beside> JsonSchema for Listing<B> {
    fn inline_schema() -> bool {
        B::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        B::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({ "type": "array", "items": generator.subschema_for::<B::Row>() });
        let mut schema = B::json_schema(generator);
        let object = schema.ensure_object();
        object["properties"][B::LIST] = list.into();
        if let Some(Value::Array(required)) = object.get_mut("required") {
            required.push(B::LIST.into());
        }
        schema
    }
}

/// A list that is the whole answer, being written in JSON or XML.
pub struct Plain<T> {
    text: ListText,
    /// The name of an element; `None`: it is JSON.
    element: Option<&'static str>,
    _row: PhantomData<fn(T)>,
}

/// The same, written.
pub struct PlainListing<T> {
    text: Vec<u8>,
    media: &'static str,
    _row: PhantomData<fn() -> T>,
}

impl<T: Serialize> Plain<T> {
    /// Of up to so many bytes, or one row: in elements of that name, or in JSON.
    pub fn begin(element: Option<&'static str>, bytes_max: usize) -> Self {
        let text = match element {
            None => ListText::begin("[", ",", bytes_max),
            Some(element) => ListText::begin(xml::list_begin(element), "", bytes_max),
        };
        Self { text, element, _row: PhantomData }
    }

    /// Writes a row, and lets others have their turn. False if there was no
    /// room for it, which there always is for the first.
    pub async fn write(&mut self, row: &T) -> Result<bool, Refusal> {
        let row = match self.element {
            None => text_of(row)?,
            Some(element) => xml::row(element, &value_of(row)?),
        };
        let is_written = self.text.write(&row);
        self.text.pause().await;
        Ok(is_written)
    }

    /// The whole list.
    pub fn end(self) -> PlainListing<T> {
        let (end, media) = match self.element {
            None => ("]".to_owned(), "application/json"),
            Some(element) => (xml::list_end(element), xml::MEDIA),
        };
        PlainListing { text: self.text.end(end.as_bytes()), media, _row: PhantomData }
    }
}

impl<T: JsonSchema> IntoReply for PlainListing<T> {
    fn into_reply(self) -> Result<Reply, Refusal> {
        Ok(Reply::Written(self.text, self.media))
    }
}

impl<T: JsonSchema> JsonSchema for PlainListing<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}
