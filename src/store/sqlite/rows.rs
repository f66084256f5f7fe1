//! Between rows and the words of the domain.
//!
//! What lies in the store went in through the domain's own constructors, so a
//! row that they refuse means a damaged file: [`damaged`].

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::Type;

use crate::domain::delivery::{Attempt, AttemptError, Delivery, DeliveryState, EndReason, ErrorClass};
use crate::domain::event::{Event, Message};
use crate::domain::fault::Violation;
use crate::domain::headers::ExtraHeaders;
use crate::domain::id::{EventId, IncrementId, MerchantId, UserId, WebhookId};
use crate::domain::secret::{KeyHash, SecretKey};
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::domain::user::{Permissions, User};
use crate::domain::webhook::{DeliveryMode, DisabledReason, Format, TargetUrl, Webhook, WebhookSpec};
use crate::store::{Parcel, Pulled};

/// What [`user`] reads; takes a WHERE behind it.
pub const USER: &str =
    "SELECT user.user_id, user.merchant_id, merchant.code, user.name, user.permissions, user.is_demo,
    user.created_at, user.revoked_at, user.key_hash FROM user JOIN merchant USING (merchant_id)";

/// What [`webhook`] reads; takes a WHERE behind it.
pub const WEBHOOK: &str =
    "SELECT webhook_id, merchant_id, is_active, topics, url, extra_headers, secret_key, format, retry,
    last_increment_id, settled_through, consecutive_failures, failing_since, disabled_reason, created_at, updated_at,
    delivery_mode FROM webhook";

/// What [`parcel`] reads; takes a WHERE behind it.
pub const PARCEL: &str = "SELECT d.increment_id, d.attempts, d.format, e.event_id, e.merchant_id, m.code, e.topic,
    e.message, e.created_at, d.next_attempt_at, d.state
    FROM delivery d JOIN event e USING (event_id) JOIN merchant m ON m.merchant_id = e.merchant_id";

/// What [`delivery`] reads; takes a WHERE behind it.
pub const DELIVERY: &str =
    "SELECT d.webhook_id, d.increment_id, d.event_id, e.topic, d.state, d.attempts, d.created_at,
    d.next_attempt_at, d.ended_at, d.reason FROM delivery d JOIN event e USING (event_id)";

/// What [`attempt`] reads; takes a WHERE behind it.
pub const ATTEMPT: &str = "SELECT attempt, started_at, duration_us, status_code, error_class, error_detail,
    request_headers, response_headers, response_body FROM attempt";

/// A value that the program never writes.
fn damaged(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("damaged store: bad {what}").into())
}

fn checked<T>(column: usize, read: Result<T, Violation>) -> rusqlite::Result<T> {
    read.map_err(|violation| damaged(column, violation.field))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

fn time_if_any(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row str> {
    Ok(row.get_ref(column)?.as_str()?)
}

/// Reads a name that may be missing through `from_name`.
fn named<T>(row: &Row<'_>, column: usize, from_name: fn(&str) -> Option<T>) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        None => Ok(None),
        Some(name) => from_name(name).map(Some).ok_or_else(|| damaged(column, "name")),
    }
}

/// A user, from [`USER`].
pub fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        user_id: UserId(row.get(0)?),
        merchant_id: MerchantId(row.get(1)?),
        merchant_code: row.get(2)?,
        name: row.get(3)?,
        permissions: Permissions::from_bits(row.get(4)?),
        is_demo: row.get(5)?,
        created_at: time(row, 6)?,
        revoked_at: time_if_any(row, 7)?,
    })
}

/// A user and the hash of its key, from [`USER`].
pub fn user_and_key(row: &Row<'_>) -> rusqlite::Result<(User, KeyHash)> {
    Ok((user(row)?, KeyHash(row.get(8)?)))
}

/// A webhook, from [`WEBHOOK`].
pub fn webhook(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    let spec = WebhookSpec {
        is_active: row.get(2)?,
        topics: checked(3, Patterns::try_new(text(row, 3)?))?,
        url: checked(4, TargetUrl::try_new(text(row, 4)?))?,
        extra_headers: checked(5, ExtraHeaders::try_new(text(row, 5)?))?,
        secret_key: checked(6, SecretKey::try_new(text(row, 6)?))?,
        format: Format::from_name(text(row, 7)?).ok_or_else(|| damaged(7, "format"))?,
        retry: checked(8, text(row, 8)?.parse())?,
        delivery_mode: DeliveryMode::from_name(text(row, 16)?).ok_or_else(|| damaged(16, "delivery_mode"))?,
    };
    Ok(Webhook {
        webhook_id: WebhookId(row.get(0)?),
        merchant_id: MerchantId(row.get(1)?),
        spec,
        last_increment_id: IncrementId(row.get(9)?),
        settled_through: IncrementId(row.get(10)?),
        consecutive_failures: row.get(11)?,
        failing_since: time_if_any(row, 12)?,
        disabled: named(row, 13, DisabledReason::from_name)?,
        created_at: time(row, 14)?,
        updated_at: time(row, 15)?,
    })
}

/// A delivery to send, from [`PARCEL`].
pub fn parcel(row: &Row<'_>) -> rusqlite::Result<Parcel> {
    let event = Event {
        event_id: EventId(row.get(3)?),
        merchant_id: MerchantId(row.get(4)?),
        merchant_code: text(row, 5)?.into(),
        topic: checked(6, Topic::try_new(text(row, 6)?))?,
        message: Message::from_store(row.get(7)?),
        created_at: time(row, 8)?,
    };
    Ok(Parcel {
        increment_id: IncrementId(row.get(0)?),
        attempts: row.get(1)?,
        due_at: time_if_any(row, 9)?,
        format: format_from_code(row.get(2)?).ok_or_else(|| damaged(2, "format"))?,
        event: Arc::new(event),
    })
}

/// A number for who pulls, from [`PARCEL`].
pub fn pulled(row: &Row<'_>) -> rusqlite::Result<Pulled> {
    let state = state_from_code(row.get(10)?).ok_or_else(|| damaged(10, "state"))?;
    Ok(Pulled { parcel: parcel(row)?, state })
}

/// A delivery for its owner, from [`DELIVERY`].
pub fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        webhook_id: WebhookId(row.get(0)?),
        increment_id: IncrementId(row.get(1)?),
        event_id: EventId(row.get(2)?),
        topic: checked(3, Topic::try_new(text(row, 3)?))?,
        state: state_from_code(row.get(4)?).ok_or_else(|| damaged(4, "state"))?,
        attempts: row.get(5)?,
        created_at: time(row, 6)?,
        next_attempt_at: time_if_any(row, 7)?,
        ended_at: time_if_any(row, 8)?,
        reason: named(row, 9, EndReason::from_name)?,
    })
}

/// An attempt, from [`ATTEMPT`].
pub fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let detail: Option<String> = row.get(5)?;
    let class = named(row, 4, ErrorClass::from_name)?;
    Ok(Attempt {
        attempt: row.get(0)?,
        started_at: time(row, 1)?,
        duration: Duration::from_micros(row.get::<_, i64>(2)?.unsigned_abs()),
        status_code: row.get(3)?,
        error: class.map(|class| AttemptError { class, detail: detail.unwrap_or_default() }),
        request_headers: row.get(6)?,
        response_headers: row.get(7)?,
        response_body: row.get(8)?,
    })
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

fn state_from_code(code: i64) -> Option<DeliveryState> {
    DeliveryState::ALL.into_iter().find(|state| state_code(*state) == code)
}

/// A format as a delivery keeps it.
pub fn format_code(format: Format) -> i64 {
    match format {
        Format::Envelope => 0,
        Format::Shipstream => 1,
    }
}

fn format_from_code(code: i64) -> Option<Format> {
    [Format::Envelope, Format::Shipstream].into_iter().find(|format| format_code(*format) == code)
}
