//! Bulk work, as it is written.

use schemars::JsonSchema;
use serde::Serialize;

use super::schema;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::job::{Job, Progress};
use crate::domain::time::Timestamp;
use crate::store::resending::{Backfilled, Replayed};

/// A piece of bulk work, which goes on after its caller was answered.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Job")]
pub struct JobItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    job_id: i64,
    /// What does it: `webhook.replay`, `delivery.retry_many` or `webhook.backfill`.
    #[schemars(schema_with = "schema::job_kinds")]
    kind: &'static str,
    /// Whose deliveries; null: those of all webhooks.
    #[schemars(schema_with = "schema::id_or_null")]
    webhook_id: Option<i64>,
    /// Whether it goes on.
    #[schemars(schema_with = "schema::job_states")]
    state: &'static str,
    /// Numbers, or of a backfill events, that it has looked at.
    looked_at: u64,
    /// Those that it has queued to be sent.
    queued: u64,
    /// Those that were asked for and can't be sent, since what they sent was pruned or forgotten.
    unavailable: u64,
    /// The first of these; null: there are none.
    first_unavailable: Option<NumberItem>,
    /// When it was asked for.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When it was done, or called off.
    #[schemars(schema_with = "schema::time_or_null")]
    ended_at: Option<String>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct NumberItem {
    /// The webhook.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// The number in it.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
}

impl From<Job> for JobItem {
    fn from(job: Job) -> Self {
        let Progress { looked_at, queued, unavailable } = job.progress;
        let number = |(id, number): (WebhookId, IncrementId)| NumberItem { webhook_id: id.0, increment_id: number.0 };
        Self {
            job_id: job.job_id.0,
            kind: job.kind.name(),
            webhook_id: job.webhook_id.map(|id| id.0),
            state: job.state.name(),
            looked_at,
            queued,
            unavailable: unavailable.count,
            first_unavailable: unavailable.first.map(number),
            created_at: job.created_at.rfc3339_ms(),
            ended_at: job.ended_at.map(Timestamp::rfc3339_ms),
        }
    }
}

/// Which numbers a replay sends again.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Replay")]
pub struct ReplayItem {
    /// What does it; see `job.get`.
    #[schemars(schema_with = "schema::id")]
    job_id: i64,
    /// The first number that is looked at.
    #[schemars(schema_with = "schema::number")]
    from_increment_id: i64,
    /// The last.
    #[schemars(schema_with = "schema::number")]
    to_increment_id: i64,
    /// How many of those that were asked for can't be sent, since what they sent was pruned or forgotten.
    unavailable: u64,
    /// The first of these; null: there are none.
    #[schemars(schema_with = "schema::number_or_null")]
    first_unavailable_increment_id: Option<i64>,
}

impl From<Replayed> for ReplayItem {
    fn from(Replayed { job_id, span, unavailable }: Replayed) -> Self {
        Self {
            job_id: job_id.0,
            from_increment_id: span.first.0,
            to_increment_id: span.last.0,
            unavailable: unavailable.count,
            first_unavailable_increment_id: unavailable.first.map(|(_, number)| number.0),
        }
    }
}

/// How far a backfill goes.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Backfill")]
pub struct BackfillItem {
    /// What does it; see `job.get`.
    #[schemars(schema_with = "schema::id")]
    job_id: i64,
    /// The last event that is looked at.
    #[schemars(schema_with = "schema::number")]
    through_event_id: i64,
}

impl From<Backfilled> for BackfillItem {
    fn from(Backfilled { job_id, through }: Backfilled) -> Self {
        Self { job_id: job_id.0, through_event_id: through.0 }
    }
}
