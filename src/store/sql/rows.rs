//! Rows of events, deliveries and attempts as words of the domain.

use std::sync::Arc;
use std::time::Duration;

use super::bodies::inflate;
use super::codes::{bad, format_at, named, state_at, topic_at};
use super::db::Row;
use crate::domain::delivery::{Attempt, AttemptError, ErrorClass};
use crate::domain::event::{Event, Message};
use crate::domain::expansion::Expansion;
use crate::domain::id::{EventId, IncrementId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceParent;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::parcel::{Content, Parcel};

type Result<T> = std::result::Result<T, StoreError>;

/// The columns that [`parcel`] reads; behind [`PARCEL_EVENT`].
pub const PARCEL: &str = "d.increment_id, d.attempts, d.format, e.event_id, e.merchant_id, m.code, e.topic, e.message,
    e.created_at, e.traceparent, d.next_attempt_at, d.state, d.policy_start, d.created_at, d.batch_last, d.expansion,
    d.resends_asked";

/// What a delivery `d` is about, if that is kept.
pub const PARCEL_EVENT: &str =
    "LEFT JOIN event e ON e.event_id = d.event_id LEFT JOIN merchant m ON m.merchant_id = e.merchant_id";

/// What [`event`] reads from its first column on, and when it was accepted;
/// takes a WHERE behind it.
pub const EVENT: &str = "SELECT e.event_id, e.merchant_id, m.code, e.topic, e.message, e.created_at,
        e.traceparent, e.published_at
    FROM event e JOIN merchant m USING (merchant_id)";

/// The columns that [`attempt`] reads; behind an `a.`.
pub const ATTEMPT: &str = "a.attempt, a.started_at, a.duration_us, a.status_code, a.error_class, a.error_detail,
    a.request_headers, a.response_headers, a.response_body, a.queue_delay_ms, a.address, a.is_compressed";

/// What an attempt weighs as it is stored; behind an `a.`.
pub const ATTEMPT_BYTES: &str =
    "octet_length(a.request_headers) + octet_length(a.response_headers) + octet_length(a.response_body)";

/// What happened, from [`PARCEL`] or [`EVENT`]: seven columns, the `first` of
/// them its id.
pub fn event(row: &dyn Row, first: usize) -> Result<Event> {
    Ok(Event {
        event_id: EventId(row.int(first)?),
        merchant_id: MerchantId(row.int(first + 1)?),
        merchant_code: row.text(first + 2)?.into(),
        topic: topic_at(row, first + 3)?,
        message: Message::from_store(row.text(first + 4)?),
        created_at: row.time(first + 5)?,
        trace: row.text_if(first + 6)?.and_then(|text| TraceParent::try_new(text.as_bytes())),
    })
}

/// What happened, and what of it goes out, from [`PARCEL`]; `None` if it was
/// pruned.
pub fn content(row: &dyn Row) -> Result<Option<Content>> {
    if row.int_if(3)?.is_none() {
        return Ok(None);
    }
    let event = Arc::new(event(row, 3)?);
    let expansion = row.text_if(15)?.map(Expansion::from_store).map(Arc::new);
    Ok(Some(Content { event, expansion }))
}

/// When an event was accepted, from [`EVENT`].
pub fn published_at(row: &dyn Row) -> Result<Timestamp> {
    row.time(7)
}

/// A delivery, from [`PARCEL`], apart from its batch; `None` if its event was
/// pruned.
pub fn parcel(row: &dyn Row) -> Result<Option<Parcel>> {
    let Some(Content { event, expansion }) = content(row)? else { return Ok(None) };
    Ok(Some(Parcel {
        increment_id: IncrementId(row.int(0)?),
        attempts: row.count(1)?,
        policy_start: row.count(12)?,
        resends_asked: row.count(16)?,
        due_at: row.time_if(10)?,
        numbered_at: row.time(13)?,
        format: format_at(row, 2)?,
        event,
        expansion,
        batch: None,
    }))
}

/// The last number of the batch that it is in, from [`PARCEL`].
pub fn batch_last(row: &dyn Row) -> Result<Option<IncrementId>> {
    Ok(row.int_if(14)?.map(IncrementId))
}

/// A number for who pulls, from [`PARCEL`].
pub fn pulled(row: &dyn Row) -> Result<Pulled> {
    Ok(Pulled { increment_id: IncrementId(row.int(0)?), parcel: parcel(row)?, state: state_at(row, 11)? })
}

/// An attempt, from [`ATTEMPT`] at that column.
pub fn attempt(row: &dyn Row, first: usize) -> Result<Attempt> {
    let column = |column: usize| first + column;
    let body = row.bytes(column(8))?;
    Ok(Attempt {
        attempt: row.count(first)?,
        started_at: row.time(column(1))?,
        duration: duration(row, column(2))?,
        status_code: status(row, column(3))?,
        error: error(row, column(4))?,
        request_headers: row.string(column(6))?,
        response_headers: row.string(column(7))?,
        response_body: if row.flag(column(11))? { inflate(body)? } else { body.to_vec() },
        queue_delay: Duration::from_millis(row.amount(column(9))?),
        address: row.text_if(column(10))?.and_then(|address| address.parse().ok()),
    })
}

/// How long an attempt took.
pub fn duration(row: &dyn Row, column: usize) -> Result<Duration> {
    row.amount(column).map(Duration::from_micros)
}

/// The status of an answer, if there was one.
pub fn status(row: &dyn Row, column: usize) -> Result<Option<u16>> {
    row.int_if(column)?.map(|status| u16::try_from(status).map_err(|_| bad("status_code"))).transpose()
}

/// What went wrong, from the columns of its class and its details.
pub fn error(row: &dyn Row, first: usize) -> Result<Option<AttemptError>> {
    let class = named(row, first, ErrorClass::from_name)?;
    let detail = row.text_if(first + 1)?;
    Ok(class.map(|class| AttemptError { class, detail: detail.unwrap_or_default().to_owned() }))
}
