//! JSON Schemas of messages: what a topic's owner says they look like.
//!
//! Checking a message takes time that is bounded by the product of its size
//! and the schema's. So references within a schema may not lead in a circle,
//! nor fan out without bound: both could take time that doubles with every
//! level of a message. Patterns are matched in linear time, and nothing is
//! ever fetched.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::event::Message;
use super::fault::Violation;

/// The longest text of a schema, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 65_536;
/// The most subschemas there may be once each reference is replaced by what it
/// leads to.
const SUBSCHEMAS_MAX: usize = 5_000;
/// How much a pattern may take once it is compiled, in bytes.
const PATTERN_BYTES_MAX: usize = 262_144;
/// Keywords whose target depends on how it was reached, or moves the root of references.
const REFUSED_KEYWORDS: [&str; 3] = ["$dynamicRef", "$recursiveRef", "$anchor"];

/// The member in which a schema is given.
const FIELD: &str = "message_schema";

/// A schema as its owner wrote it, which is known to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaText(Arc<str>);

impl SchemaText {
    /// Accepts the text of a JSON Schema, of any draft from 4 on (`$schema`
    /// says which; 2020-12 by default), up to [`SCHEMA_BYTES_MAX`]. References
    /// lead to places within it, and not in a circle.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let schema = Self(text.into());
        MessageSchema::compile(&schema)?;
        Ok(schema)
    }

    /// What a store gives back: it went in through [`Self::try_new`].
    pub fn from_store(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A schema that is ready to check messages.
#[derive(Debug)]
pub struct MessageSchema(Validator);

/// The first thing that is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where: `message.lines[0].sku`.
    pub path: String,
    /// What is wrong there, and what would be right; quotes nothing of the message.
    pub problem: String,
}

impl MessageSchema {
    /// Makes it ready. Fails as [`SchemaText::try_new`] does.
    pub fn compile(text: &SchemaText) -> Result<Self, Violation> {
        let text = text.as_str();
        let refused = |problem: String| Violation::new(FIELD, problem);
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(refused(format!("has {} bytes; up to {SCHEMA_BYTES_MAX} are allowed.", text.len())));
        }
        let schema: Value =
            serde_json::from_str(text).map_err(|cause| refused(format!("can't be read as JSON: {cause}.")))?;
        if !schema.is_object() && !schema.is_boolean() {
            return Err(refused("is no JSON Schema; it must be an object such as {\"type\": \"object\"}.".to_owned()));
        }
        Expansion { root: &schema, sizes: HashMap::new() }.size(&schema).map_err(refused)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&schema);
        validator.map(Self).map_err(|cause| {
            let place = cause.instance_path().as_str();
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            refused(format!("is no JSON Schema{place}: {}.", cause.masked_with("the value")))
        })
    }

    /// What is wrong with a message, if anything is.
    pub fn mismatch(&self, message: &Message) -> Option<Mismatch> {
        // Deeper than a parser goes, nothing can be said of it.
        let value: Value = match serde_json::from_str(message.as_str()) {
            Ok(value) => value,
            Err(_) => {
                let problem = "is nested too deeply to be checked against the topic's schema.".to_owned();
                return Some(Mismatch { path: "message".to_owned(), problem });
            }
        };
        let error = self.0.validate(&value).err()?;
        let path = written_path(error.instance_path().as_str());
        Some(Mismatch { path, problem: format!("{}.", error.masked_with("the value")) })
    }
}

/// How many subschemas there are once each reference is replaced by what it
/// leads to.
struct Expansion<'a> {
    root: &'a Value,
    /// By the place that a reference names; `None` while it is being counted.
    sizes: HashMap<&'a str, Option<usize>>,
}

impl<'a> Expansion<'a> {
    fn size(&mut self, value: &'a Value) -> Result<usize, String> {
        let mut size: usize = 1;
        match value {
            Value::Array(items) => {
                for item in items {
                    size = size.saturating_add(self.size(item)?);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    size = size.saturating_add(match member {
                        Value::String(place) if name == "$ref" => self.size_behind(place)?,
                        Value::String(_) if REFUSED_KEYWORDS.contains(&name.as_str()) => {
                            return Err(format!("uses {name}; refer by {{\"$ref\": \"#/$defs/…\"}} instead."));
                        }
                        Value::String(_) if name == "$id" && !std::ptr::eq(value, self.root) => {
                            return Err(
                                "has an $id below its root, which moves what references mean; leave it out.".into()
                            );
                        }
                        member => self.size(member)?,
                    });
                }
            }
            _ => {}
        }
        if size > SUBSCHEMAS_MAX {
            return Err(format!(
                "comes to more than {SUBSCHEMAS_MAX} parts, counting each reference as what it leads to."
            ));
        }
        Ok(size)
    }

    fn size_behind(&mut self, place: &'a str) -> Result<usize, String> {
        match self.sizes.get(place) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                return Err(format!("has a $ref {place:?} that leads back to itself; a schema can't contain itself."));
            }
            None => {}
        }
        let pointer = place.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.ok_or_else(|| {
            format!("has a $ref {place:?} that leads out of it; refer to places within it, such as \"#/$defs/line\".")
        })?;
        let target = self
            .root
            .pointer(pointer)
            .ok_or_else(|| format!("has a $ref {place:?}, and there is nothing at that place."))?;
        self.sizes.insert(place, None);
        let size = self.size(target)?;
        self.sizes.insert(place, Some(size));
        Ok(size)
    }
}

/// A JSON pointer as people write it: `/lines/0/sku` as `message.lines[0].sku`.
fn written_path(pointer: &str) -> String {
    let mut path = "message".to_owned();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let is_word = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !segment.is_empty();
        let written = if segment.bytes().all(|b| b.is_ascii_digit()) && !segment.is_empty() {
            write!(path, "[{segment}]")
        } else if is_word {
            write!(path, ".{segment}")
        } else {
            write!(path, "[{segment:?}]")
        };
        written.expect("a String takes every text");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(schema: &str) -> String {
        let violation = SchemaText::try_new(schema).unwrap_err();
        assert_eq!(violation.field, "message_schema");
        violation.problem
    }

    fn mismatch(schema: &str, message: &str) -> Option<(String, String)> {
        let schema = MessageSchema::compile(&SchemaText::try_new(schema).unwrap()).unwrap();
        schema.mismatch(&Message::try_new(message).unwrap()).map(|wrong| (wrong.path, wrong.problem))
    }

    const ORDER: &str = r##"{
        "type": "object",
        "required": ["order_id"],
        "properties": {
            "order_id": {"type": "integer"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            "strange name": {"type": "string", "pattern": "^a+$"}
        },
        "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}}}}
    }"##;

    #[test]
    fn a_mismatch_says_where_and_what_and_quotes_nothing() {
        assert_eq!(mismatch(ORDER, r#"{"order_id": 7, "lines": [{"sku": "a"}], "more": null}"#), None);
        let told = |message: &str| mismatch(ORDER, message).unwrap();
        assert_eq!(told("{}"), ("message".into(), "\"order_id\" is a required property.".into()));
        let (path, problem) = told(r#"{"order_id": 7, "lines": [{}, {"sku": 5550123}]}"#);
        assert_eq!((path.as_str(), problem.as_str()), ("message.lines[1].sku", "the value is not of type \"string\"."));
        let (path, problem) = told(r#"{"order_id": 7, "strange name": "s3cret"}"#);
        assert_eq!(path, "message[\"strange name\"]");
        assert!(problem.contains("^a+$") && !problem.contains("s3cret"), "{problem}");
    }

    #[test]
    fn drafts_are_told_apart() {
        let exclusive = |draft: &str, rule: &str| {
            format!(r#"{{"$schema": "{draft}", "properties": {{"n": {{"maximum": 5, {rule}}}}}}}"#)
        };
        let fourth = exclusive("http://json-schema.org/draft-04/schema#", r#""exclusiveMaximum": true"#);
        assert!(mismatch(&fourth, r#"{"n": 5}"#).is_some() && mismatch(&fourth, r#"{"n": 4}"#).is_none());
        let newest = r#"{"properties": {"n": {"exclusiveMaximum": 5}}}"#;
        assert!(mismatch(newest, r#"{"n": 5}"#).is_some());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        assert!(problem("[]").contains("must be an object"));
        assert!(problem(r#"{"type": "objekt"}"#).contains("at /type"), "{}", problem(r#"{"type": "objekt"}"#));
        assert!(problem(r#"{"pattern": "("}"#).contains("at /pattern"));
        // Linear time has no look-around.
        assert!(problem(r#"{"pattern": "(?=a)b"}"#).contains("pattern"));
        assert!(problem(r#"{"$schema": "https://example.com/own"}"#).contains("is no JSON Schema"));
        assert!(problem(&format!("{{\"description\": \"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX))).contains("65536"));
        SchemaText::try_new("true").unwrap();
        SchemaText::try_new(r#"{"properties": {"$ref": {"type": "string"}, "$id": {"type": "integer"}}}"#).unwrap();
    }

    #[test]
    fn references_stay_inside_and_come_to_an_end() {
        assert!(problem(r#"{"$ref": "https://example.com/schema"}"#).contains("leads out of it"));
        assert!(problem(r#"{"$ref": "file:///etc/passwd"}"#).contains("leads out of it"));
        assert!(problem(r##"{"$ref": "#"}"##).contains("leads back to itself"));
        assert!(problem(r##"{"$ref": "#/$defs/nowhere"}"##).contains("nothing at that place"));
        let circle = r##"{"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}}}"##;
        assert!(problem(circle).contains("leads back to itself"));
        assert!(problem(r##"{"$dynamicRef": "#x"}"##).contains("$dynamicRef"));
        assert!(problem(r#"{"properties": {"a": {"$id": "https://example.com/a"}}}"#).contains("below its root"));
    }

    /// Thirty levels that each refer to the next twice would be a billion.
    #[test]
    fn references_do_not_multiply_without_bound() {
        let level = |n: usize| {
            format!(r##""l{n}": {{"allOf": [{{"$ref": "#/$defs/l{0}"}}, {{"$ref": "#/$defs/l{0}"}}]}}"##, n + 1)
        };
        let levels: Vec<_> = (0..30).map(level).collect();
        let schema =
            format!(r##"{{"$ref": "#/$defs/l0", "$defs": {{{}, "l30": {{"type": "object"}}}}}}"##, levels.join(", "));
        assert!(problem(&schema).contains("more than 5000 parts"), "{}", problem(&schema));
    }

    #[test]
    fn a_message_deeper_than_a_parser_goes_is_a_mismatch() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
        let (path, problem) = mismatch("true", &deep).unwrap();
        assert_eq!(path, "message");
        assert!(problem.contains("too deeply"));
    }
}
