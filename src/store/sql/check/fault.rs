//! What is wrong in a store, and where.

use std::fmt;

use crate::domain::id::{EventId, IncrementId, Span, WebhookId};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The file is damaged.
    Damaged,
    /// A number that was given out has no row.
    NumberMissing,
    /// A number has several rows.
    NumberTwice,
    /// A row has a number that was not given out.
    NumberNotGiven,
    /// A mark of a webhook lies where it can't.
    Mark,
    /// A number is open, and the mark says that it has ended.
    NotSettled,
    /// A row can't be read as what it is.
    Unreadable,
    /// A delivery stands where none can.
    Standing,
    /// A batch is not whole, or a delivery not in its own.
    Batch,
    /// What is to be sent has no event.
    EventMissing,
    /// What is to be sent is another merchant's.
    EventOfOther,
    /// An event has an id that was not given out.
    EventNotGiven,
    /// An attempt is more than its delivery has had.
    AttemptNotCounted,
    /// A row belongs to something that is not there.
    Orphan,
}

impl Kind {
    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::NumberMissing => "number_missing",
            Self::NumberTwice => "number_twice",
            Self::NumberNotGiven => "number_not_given",
            Self::Mark => "mark",
            Self::NotSettled => "not_settled",
            Self::Unreadable => "unreadable",
            Self::Standing => "standing",
            Self::Batch => "batch",
            Self::EventMissing => "event_missing",
            Self::EventOfOther => "event_of_other",
            Self::EventNotGiven => "event_not_given",
            Self::AttemptNotCounted => "attempt_not_counted",
            Self::Orphan => "orphan",
        }
    }
}

/// Where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the file.
    File,
    /// In a webhook's row.
    Webhook(WebhookId),
    /// In a delivery.
    Number(WebhookId, IncrementId),
    /// In deliveries.
    Numbers(WebhookId, Span),
    /// In an attempt.
    Attempt(WebhookId, IncrementId, i64),
    /// In an event.
    Event(EventId),
    /// In another row: of which kind, the column that names it, and which it is.
    Row(&'static str, &'static str, i64),
}

impl Place {
    /// What names it, for programs.
    pub fn members(self) -> Vec<(&'static str, i64)> {
        match self {
            Self::File => Vec::new(),
            Self::Webhook(id) => vec![("webhook_id", id.0)],
            Self::Number(id, number) => vec![("webhook_id", id.0), ("increment_id", number.0)],
            Self::Numbers(id, Span { first, last }) => {
                vec![("webhook_id", id.0), ("first_increment_id", first.0), ("last_increment_id", last.0)]
            }
            Self::Attempt(id, number, attempt) => {
                vec![("webhook_id", id.0), ("increment_id", number.0), ("attempt", attempt)]
            }
            Self::Event(id) => vec![("event_id", id.0)],
            Self::Row(_, column, id) => vec![(column, id)],
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the file"),
            Self::Webhook(id) => write!(f, "webhook {id}"),
            Self::Number(id, number) => write!(f, "webhook {id} number {number}"),
            Self::Numbers(id, span) if span.first == span.last => write!(f, "webhook {id} number {span}"),
            Self::Numbers(id, span) => write!(f, "webhook {id} numbers {span}"),
            Self::Attempt(id, number, attempt) => write!(f, "webhook {id} number {number} attempt {attempt}"),
            Self::Event(id) => write!(f, "event {id}"),
            Self::Row(kind, _, id) => write!(f, "{kind} {id}"),
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// What there is.
    pub found: String,
    /// What there should be.
    pub expected: String,
}

/// A line for people.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected: {}", self.place, self.found, self.expected)
    }
}
