//! How a webhook is doing, as it is written.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::breaker::breaker;
use super::schema;
use crate::domain::delivery::{ErrorClass, StateCounts};
use crate::domain::id::IncrementId;
use crate::domain::stats::{AttemptStats, Durations, WebhookStats};
use crate::domain::time::Timestamp;

/// How a webhook is doing.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookStats")]
pub struct StatsItem {
    /// The webhook.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// The last number given out; 0: none so far.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
    /// The highest number up to which all have ended.
    #[schemars(schema_with = "schema::number")]
    settled_through: i64,
    /// Until when nothing is sent to its receiver, but tests and what `delivery.retry` sends; null: it is not left alone.
    #[schemars(schema_with = "schema::time_or_null")]
    paused_until: Option<String>,
    /// Why: it asked for that by Retry-After, or the breaker is open.
    #[schemars(schema_with = "schema::pause_reasons")]
    pause_reason: Option<&'static str>,
    /// `open`: it has failed five times in a row, and one probe at a time goes out until one succeeds.
    #[schemars(schema_with = "schema::breakers")]
    breaker: &'static str,
    /// How many of its deliveries are in each state.
    deliveries: CountsItem,
    /// The lowest number that is pending; null: none is.
    oldest_pending: Option<OldestItem>,
    /// The attempts at its last 1,000 numbers, as far as the log goes back.
    recent: RecentItem,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct CountsItem {
    /// To be sent, or to be pulled.
    pending: u64,
    /// The receiver has them.
    delivered: u64,
    /// Given up after the last retry.
    abandoned: u64,
    /// Called off.
    cancelled: u64,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct OldestItem {
    /// The number.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
    /// When it was numbered.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct RecentItem {
    /// The first of those numbers.
    #[schemars(schema_with = "schema::number")]
    from_increment_id: i64,
    /// Attempts that delivered.
    succeeded: u64,
    /// Attempts that failed.
    failed: u64,
    /// What went wrong, and how often.
    errors: Vec<ErrorCountItem>,
    /// How long attempts took, in milliseconds; null: there were none.
    duration_ms: Option<DurationsItem>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct ErrorCountItem {
    /// What went wrong.
    #[schemars(schema_with = "schema::error_classes_given")]
    error_class: &'static str,
    /// How often.
    count: u64,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct DurationsItem {
    /// Half of them took no longer.
    p50: f64,
    /// 95 of 100 took no longer.
    p95: f64,
    /// 99 of 100 took no longer.
    p99: f64,
    /// None took longer.
    max: f64,
}

impl StatsItem {
    /// As it is at `now`.
    pub fn new(stats: WebhookStats, now: Timestamp) -> Self {
        let pause = stats.webhook.pause_at(now);
        let StateCounts { pending, delivered, abandoned, cancelled } = stats.deliveries;
        let oldest = |(number, created_at): (IncrementId, Timestamp)| OldestItem {
            increment_id: number.0,
            created_at: created_at.rfc3339_ms(),
        };
        Self {
            webhook_id: stats.webhook.webhook_id.0,
            increment_id: stats.webhook.last_increment_id.0,
            settled_through: stats.webhook.settled_through.0,
            paused_until: pause.map(|pause| pause.until.rfc3339_ms()),
            pause_reason: pause.map(|pause| pause.reason.name()),
            breaker: breaker(&stats.webhook),
            deliveries: CountsItem { pending, delivered, abandoned, cancelled },
            oldest_pending: stats.oldest_pending.map(oldest),
            recent: stats.recent.into(),
        }
    }
}

impl From<AttemptStats> for RecentItem {
    fn from(recent: AttemptStats) -> Self {
        let error = |(class, count): &(ErrorClass, u64)| ErrorCountItem { error_class: class.name(), count: *count };
        Self {
            from_increment_id: recent.from.0,
            succeeded: recent.succeeded,
            failed: recent.failures(),
            errors: recent.failed.iter().map(error).collect(),
            duration_ms: recent.durations.map(DurationsItem::from),
        }
    }
}

impl From<Durations> for DurationsItem {
    fn from(durations: Durations) -> Self {
        let millis = |duration: Duration| duration.as_micros() as f64 / 1_000.0;
        let Durations { p50, p95, p99, max } = durations;
        Self { p50: millis(p50), p95: millis(p95), p99: millis(p99), max: millis(max) }
    }
}
