//! Deliveries and attempts, as they are written.

use schemars::JsonSchema;
use serde::Serialize;

use super::schema;
use crate::domain::delivery::{Attempt, Delivery};
use crate::domain::time::Timestamp;
use crate::service::delivery::PulledDelivery;
use crate::service::resend::Tested;

/// A delivery: an event on its way to a webhook.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Delivery")]
pub struct DeliveryItem {
    /// The webhook.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// The number in it.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
    /// The event.
    #[schemars(schema_with = "schema::id")]
    event_id: i64,
    /// Its topic; null once the event has been pruned.
    topic: Option<String>,
    /// What has become of it.
    #[schemars(schema_with = "schema::states")]
    state: &'static str,
    /// Tries so far.
    attempts: u32,
    /// When it was numbered.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When it goes out at the earliest, if it was tried before, is sent again, or its receiver is left alone for a
    /// while. Null: in its turn, or not as long as its webhook is off, paused
    /// or disabled, or the server was started with `--paused`.
    #[schemars(schema_with = "schema::time_or_null")]
    next_attempt_at: Option<String>,
    /// When it ended.
    #[schemars(schema_with = "schema::time_or_null")]
    ended_at: Option<String>,
    /// Why it ended undelivered.
    #[schemars(schema_with = "schema::end_reasons")]
    reason: Option<&'static str>,
}

impl From<Delivery> for DeliveryItem {
    fn from(delivery: Delivery) -> Self {
        Self {
            webhook_id: delivery.webhook_id.0,
            increment_id: delivery.increment_id.0,
            event_id: delivery.event_id.0,
            topic: delivery.topic.map(|topic| topic.to_string()),
            state: delivery.state.name(),
            attempts: delivery.attempts,
            created_at: delivery.created_at.rfc3339_ms(),
            next_attempt_at: delivery.next_attempt_at.map(Timestamp::rfc3339_ms),
            ended_at: delivery.ended_at.map(Timestamp::rfc3339_ms),
            reason: delivery.reason.map(|reason| reason.name()),
        }
    }
}

/// A number in `delivery.pull`.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PulledDelivery")]
pub struct PulledItem {
    /// The number.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
    /// The header `webhook-id`.
    webhook_id_header: String,
    /// The header `webhook-timestamp`: the present time, in seconds since 1970.
    timestamp: i64,
    /// The header `webhook-signature`, signed now; null without a body.
    signature: Option<String>,
    /// The header `tallyhook-event-id`; null without a body.
    event_id_header: Option<String>,
    /// The body as it is posted, byte for byte; null once the event has been pruned.
    body: Option<String>,
    /// What has become of it.
    #[schemars(schema_with = "schema::states")]
    state: &'static str,
}

impl From<PulledDelivery> for PulledItem {
    fn from(pulled: PulledDelivery) -> Self {
        Self {
            increment_id: pulled.increment_id.0,
            webhook_id_header: pulled.message_id,
            timestamp: pulled.timestamp,
            signature: pulled.signature,
            event_id_header: pulled.event_name,
            body: pulled.body,
            state: pulled.state.name(),
        }
    }
}

/// An attempt at a delivery.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Attempt")]
pub struct AttemptItem {
    /// Which one, from 1.
    attempt: u32,
    /// When it began.
    #[schemars(schema_with = "schema::time")]
    started_at: String,
    /// How long it had waited after it was due, in milliseconds.
    queue_delay_ms: u64,
    /// How long it took, in milliseconds.
    duration_ms: f64,
    /// The address and port it went to; null if there was no connection.
    address: Option<String>,
    /// The status of the answer; null if none came.
    status_code: Option<u16>,
    /// What went wrong; null: nothing.
    #[schemars(schema_with = "schema::error_classes")]
    error_class: Option<&'static str>,
    /// The same in words.
    error: Option<String>,
    /// The headers sent; credentials read `[redacted]`.
    request_headers: Vec<HeaderItem>,
    /// The headers of the answer; credentials read `[redacted]`.
    response_headers: Vec<HeaderItem>,
    /// The body of the answer, up to `answer_bytes_max`; what is no UTF-8 is replaced.
    response_body: String,
}

/// What came of `webhook.test`.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "TestResult")]
pub struct TestedItem {
    /// The delivery.
    delivery: DeliveryItem,
    /// Its first attempt; null if that took too long to wait for.
    attempt: Option<AttemptItem>,
}

impl From<Tested> for TestedItem {
    fn from(tested: Tested) -> Self {
        Self { delivery: tested.delivery.into(), attempt: tested.attempt.map(AttemptItem::from) }
    }
}

/// A header.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Header")]
struct HeaderItem {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

impl From<Attempt> for AttemptItem {
    fn from(attempt: Attempt) -> Self {
        let (error_class, error) = match attempt.error {
            Some(error) => (Some(error.class.name()), Some(error.detail)),
            None => (None, None),
        };
        Self {
            attempt: attempt.attempt,
            started_at: attempt.started_at.rfc3339_ms(),
            queue_delay_ms: u64::try_from(attempt.queue_delay.as_millis()).unwrap_or(u64::MAX),
            address: attempt.address.map(|address| address.to_string()),
            duration_ms: attempt.duration.as_micros() as f64 / 1_000.0,
            status_code: attempt.status_code,
            error_class,
            error,
            request_headers: headers(&attempt.request_headers),
            response_headers: headers(&attempt.response_headers),
            response_body: String::from_utf8_lossy(&attempt.response_body).into_owned(),
        }
    }
}

fn headers(lines: &str) -> Vec<HeaderItem> {
    lines
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| HeaderItem { name: name.to_owned(), value: value.to_owned() })
        .collect()
}
