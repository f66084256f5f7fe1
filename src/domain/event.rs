//! Events: what a publisher says happened.

use std::sync::Arc;

use super::delivery::Delivery;
use super::fault::Violation;
use super::id::{EventId, IncrementId, MerchantId, WebhookId};
use super::labels::Labels;
use super::time::Timestamp;
use super::topic::{Patterns, Topic};
use super::trace::TraceParent;

/// The longest idempotency key, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// The publisher's object, byte for byte as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Arc<str>);

impl Message {
    /// Accepts the text of a JSON object. `text` must be valid JSON without
    /// white space around it, as `serde_json`'s `RawValue` holds it.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        if text.starts_with('{') {
            return Ok(Self(text.into()));
        }
        let kind = match text.as_bytes().first() {
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        };
        Err(Violation::new("message", format!("is {kind}; it must be a JSON object, such as {{\"order_id\": 7}}.")))
    }

    /// The same, of an object with up to `depth_max` levels of objects and
    /// arrays, itself included.
    pub fn try_new_within(text: &str, depth_max: usize) -> Result<Self, Violation> {
        let depth = depth(text);
        if depth > depth_max {
            let problem = format!("has {depth} levels of objects and arrays; up to {depth_max} are accepted.");
            return Err(Violation::new("message", problem));
        }
        Self::try_new(text)
    }

    /// What a store gives back: it went in through [`Self::try_new`].
    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    /// The object's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How many objects and arrays of a JSON text lie in each other.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_in_text, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            _ if is_in_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A key that makes a repeated publish the same publish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Accepts 1 to [`IDEMPOTENCY_KEY_CHARS_MAX`] characters.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let chars = text.chars().count();
        if (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&chars) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Violation::new(
                "idempotency_key",
                format!("has {chars} characters; use 1 to {IDEMPOTENCY_KEY_CHARS_MAX}."),
            ))
        }
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event to publish.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What kind of thing happened.
    pub topic: Topic,
    /// The publisher's object.
    pub message: Message,
    /// When it happened; the publisher may say so, else now.
    pub created_at: Timestamp,
    /// Makes a repetition harmless.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Of which trace it is a part, if of any.
    pub trace: Option<TraceParent>,
    /// For whom it is; `None`: for whoever subscribes to its topic.
    pub labels: Option<Arc<Labels>>,
}

/// A published event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub event_id: EventId,
    /// Who published it.
    pub merchant_id: MerchantId,
    /// The merchant's code.
    pub merchant_code: Arc<str>,
    /// What kind of thing happened.
    pub topic: Topic,
    /// The publisher's object.
    pub message: Message,
    /// When it happened.
    pub created_at: Timestamp,
    /// Of which trace it is a part, if of any.
    pub trace: Option<TraceParent>,
}

/// Which events of a merchant.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only those of these topics.
    pub topics: Option<Patterns>,
    /// Only what was accepted then or later.
    pub since: Option<Timestamp>,
    /// Only what was accepted before then.
    pub until: Option<Timestamp>,
    /// Only this one.
    pub only: Option<EventId>,
}

/// A published event in a list: all but its message.
#[derive(Clone, Debug)]
pub struct EventSummary {
    /// Its id.
    pub event_id: EventId,
    /// What kind of thing happened.
    pub topic: Topic,
    /// When it happened.
    pub created_at: Timestamp,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// For whom it is.
    pub labels: Option<Labels>,
    /// How long its message is.
    pub message_bytes: u64,
    /// How many deliveries it has.
    pub delivery_count: u64,
}

/// A published event, and what became of it.
#[derive(Clone, Debug)]
pub struct EventStory {
    /// The event.
    pub event: Event,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// For whom it is.
    pub labels: Option<Labels>,
    /// How many deliveries it has.
    pub delivery_count: u64,
    /// The first of them, by webhook and number.
    pub deliveries: Vec<Delivery>,
}

/// What a publisher gets for an event: its id, and the number each matching
/// webhook gave it. All of it is on disk by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id.
    pub event_id: EventId,
    /// One delivery for each matching webhook, in the order of their ids.
    pub deliveries: Vec<(WebhookId, IncrementId)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_of_a_text_is_that_of_its_objects_and_arrays() {
        for (text, expected) in [
            ("7", 0),
            ("{}", 1),
            (r#"{"a":[],"b":{"c":[1,[]]},"d":[]}"#, 4),
            (r#"{"a":"{[{[","b\"]}{[":"\\"}"#, 1),
            (r#"[{"\\":[]}]"#, 3),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
        assert!(Message::try_new_within(r#"{"a":[]}"#, 2).is_ok());
        let problem = Message::try_new_within(r#"{"a":[{}]}"#, 2).unwrap_err();
        assert_eq!((problem.field, problem.problem.contains("3 levels")), ("message", true));
    }

    #[test]
    fn messages_are_objects() {
        assert_eq!(Message::try_new("{ \"b\":1.0, \"a\":2 }").unwrap().as_str(), "{ \"b\":1.0, \"a\":2 }");
        for bad in ["[]", "\"x\"", "null", "true", "7"] {
            assert!(Message::try_new(bad).is_err());
        }
    }
}
