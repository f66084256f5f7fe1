//! JSON Schemas of messages: what a topic's owner says they look like.
//!
//! Publishers share the server, so what it costs to read a schema and to check
//! a message against it is bounded, however contrived the two are. A library
//! does the checking; what could make it take time or memory without bound is
//! refused here: references that lead in a circle or multiply, depth, patterns
//! that need backtracking, and the `unevaluated…` keywords, whose cost doubles
//! with each level. Nothing is ever fetched.

mod survey;

use std::fmt::Write;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use self::survey::{Survey, survey};
use super::event::Message;
use super::fault::Violation;

/// The longest text of a schema, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 32_768;
/// How much a pattern may take once it is compiled, in bytes; and what may be
/// kept to match it faster.
const PATTERN_BYTES_MAX: usize = 65_536;
const PATTERN_CACHE_BYTES_MAX: usize = 131_072;
/// The most that checking may cost: bytes of the message, times parts of the
/// schema.
const COST_MAX: usize = 500_000_000;
/// The most that it may cost to say where a message is wrong, if the schema has
/// alternatives: the library's error holds those of all of them, each some
/// hundred bytes.
const PLACE_COST_MAX: usize = 200_000;
/// What a pattern weighs beside a part.
const PATTERN_WEIGHT: usize = 64;
/// What is wrong is told in so many characters.
const PROBLEM_CHARS_MAX: usize = 300;

/// The member in which a schema is given.
const FIELD: &str = "message_schema";

/// A schema as its owner wrote it, which is known to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaText(Arc<str>);

impl SchemaText {
    /// Accepts the text of a JSON Schema, of any draft from 4 on (`$schema`
    /// says which; 2020-12 by default), up to [`SCHEMA_BYTES_MAX`], within the
    /// bounds of this module. Takes some milliseconds of a thread.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let schema = Self(text.into());
        MessageSchema::compile(&schema)?;
        Ok(schema)
    }

    /// What a store gives back: it went in through [`Self::try_new`].
    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A schema that is ready to check messages.
#[derive(Debug)]
pub struct MessageSchema {
    validator: Validator,
    /// How many parts it has, counting each reference as what it leads to.
    parts: usize,
    has_alternatives: bool,
    /// How much of memory it takes, in units of a part.
    weight: usize,
}

/// The first thing that is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where: `message.lines[0].sku`.
    pub path: String,
    /// What is wrong there, and what would be right. May name members of the
    /// message, but shows no value of it.
    pub problem: String,
}

impl Mismatch {
    fn whole(problem: impl Into<String>) -> Self {
        Self { path: "message".to_owned(), problem: problem.into() }
    }
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
        let survey = survey(&schema).map_err(refused)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_CACHE_BYTES_MAX);
        let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&schema);
        let validator = validator.map_err(|cause| refused(no_schema(&cause)))?;
        let Survey { parts, patterns, has_alternatives } = survey;
        Ok(Self { validator, parts, has_alternatives, weight: parts + patterns * PATTERN_WEIGHT })
    }

    /// How much of memory it takes, in units of a part.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// What it costs to check so many bytes of messages, in units of a byte and
    /// a part.
    pub fn cost(&self, bytes: usize) -> usize {
        self.parts.saturating_mul(bytes)
    }

    /// What is wrong with a message, if anything is. One that costs too much to
    /// check counts as wrong.
    pub fn mismatch(&self, message: &Message) -> Option<Mismatch> {
        let text = message.as_str();
        let cost = self.cost(text.len());
        if cost > COST_MAX {
            return Some(Mismatch::whole("is too large to be checked against its topic's schema."));
        }
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(cause) => {
                let cause = cause.to_string();
                let cause = cause.split(" at line ").next().unwrap_or_default();
                return Some(Mismatch::whole(format!("can't be checked against its topic's schema: {cause}.")));
            }
        };
        if self.validator.is_valid(&value) {
            return None;
        }
        if self.has_alternatives && cost > PLACE_COST_MAX {
            return Some(Mismatch::whole("does not fit its topic's schema; it is too large to say where."));
        }
        let error = self.validator.validate(&value).err()?;
        let path = written_path(error.instance_path().as_str());
        Some(Mismatch { path, problem: told(&error) })
    }
}

/// What a library says is wrong, without the value that is.
fn told(error: &ValidationError<'_>) -> String {
    let text = error.masked_with("the value").to_string();
    if text.chars().count() <= PROBLEM_CHARS_MAX {
        format!("{text}.")
    } else {
        format!("{}….", text.chars().take(PROBLEM_CHARS_MAX).collect::<String>())
    }
}

/// Why something is no schema: where, and what, as far as the words help.
fn no_schema(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().as_str();
    let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
    let why = match error.kind() {
        // They speak of a schema that its author never saw.
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            "the keyword does not take this value.".to_owned()
        }
        ValidationErrorKind::Format { format } if format == "regex" => format!(
            "the pattern is none, needs backtracking (as look-around and back-references do), or comes to more than \
             {PATTERN_BYTES_MAX} bytes."
        ),
        _ => told(error),
    };
    format!("is no JSON Schema{place}: {why}")
}

/// A JSON pointer as people write it: `/lines/0/sku` as `message.lines[0].sku`.
fn written_path(pointer: &str) -> String {
    let mut path = "message".to_owned();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let is_word = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let written = if is_word && segment.bytes().all(|b| b.is_ascii_digit()) {
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
mod tests;
