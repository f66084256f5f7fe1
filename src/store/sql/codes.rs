//! How rows write words of the domain: by names, and by codes that are kept for
//! ever.
//!
//! What lies in the store went in through the domain's own constructors, so what
//! they refuse means a damaged store.

use super::db::{Row, damaged};
use crate::domain::delivery::{DeliveryState, EndReason};
use crate::domain::fault::Violation;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::topic::{Patterns, Topic};
use crate::domain::webhook::Format;
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// A value of that kind that the program never writes.
pub fn bad(what: &str) -> StoreError {
    damaged(&format!("bad {what}"))
}

/// What the domain has made of what was stored.
pub fn checked<T>(read: std::result::Result<T, Violation>) -> Result<T> {
    read.map_err(|violation| bad(violation.field))
}

/// Reads a name that may be missing through `from_name`.
pub fn named<T>(row: &dyn Row, column: usize, from_name: fn(&str) -> Option<T>) -> Result<Option<T>> {
    row.text_if(column)?.map(|name| from_name(name).ok_or_else(|| bad("name"))).transpose()
}

/// Why a delivery ended, in any row.
pub fn reason_at(row: &dyn Row, column: usize) -> Result<Option<EndReason>> {
    named(row, column, EndReason::from_name)
}

/// A topic in any row.
pub fn topic_at(row: &dyn Row, column: usize) -> Result<Topic> {
    checked(Topic::try_new(row.text(column)?))
}

/// The same, if there is one.
pub fn topic_if(row: &dyn Row, column: usize) -> Result<Option<Topic>> {
    row.text_if(column)?.map(|topic| checked(Topic::try_new(topic))).transpose()
}

/// A list of patterns, which may be empty.
pub fn patterns(text: &str) -> Result<Patterns> {
    if text.is_empty() { Ok(Patterns::none()) } else { checked(Patterns::try_new(text)) }
}

/// `1:42 7:3` for number 42 of webhook 1 and number 3 of webhook 7.
pub fn write_pairs(pairs: &[(WebhookId, IncrementId)]) -> String {
    pairs.iter().map(|(id, number)| format!("{id}:{number}")).collect::<Vec<_>>().join(" ")
}

/// What [`write_pairs`] has written.
pub fn read_pairs(text: &str) -> Result<Vec<(WebhookId, IncrementId)>> {
    let read = |pair: &str| {
        let (id, number) = pair.split_once(':')?;
        Some((WebhookId(id.parse().ok()?), IncrementId(number.parse().ok()?)))
    };
    text.split_whitespace().map(read).collect::<Option<_>>().ok_or_else(|| bad("receipt"))
}

/// A state as the store keeps it.
pub fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Delivered => 1,
        DeliveryState::Abandoned => 2,
        DeliveryState::Cancelled => 3,
    }
}

/// The state of that code.
pub fn state_from_code(code: i64) -> Option<DeliveryState> {
    DeliveryState::ALL.into_iter().find(|state| state_code(*state) == code)
}

/// A state in any row.
pub fn state_at(row: &dyn Row, column: usize) -> Result<DeliveryState> {
    state_from_code(row.int(column)?).ok_or_else(|| bad("state"))
}

/// A format as it is kept: the words in a webhook's row, and the code in a
/// delivery's, for ever. No code is used again.
fn kept_format(format: Format) -> (&'static str, i64) {
    match format {
        Format::Envelope => ("envelope", 0),
        Format::Shipstream => ("shipstream", 1),
        Format::ThreeDCart => ("3dcart json", 2),
        Format::ThreeDCartXml => ("3dcart xml", 3),
        Format::UltraCart => ("ultracart", 4),
        Format::UltraCartGzip => ("ultracart gzip", 5),
    }
}

/// The words for a format in the row of a webhook.
pub fn format_words(format: Format) -> &'static str {
    kept_format(format).0
}

/// The format of these words.
pub fn format_from_words(words: &str) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format_words(*format) == words)
}

/// The code of a format in the row of a delivery.
pub fn format_code(format: Format) -> i64 {
    kept_format(format).1
}

/// A format in the row of a delivery.
pub fn format_at(row: &dyn Row, column: usize) -> Result<Format> {
    let code = row.int(column)?;
    Format::ALL.into_iter().find(|format| format_code(*format) == code).ok_or_else(|| bad("format"))
}
