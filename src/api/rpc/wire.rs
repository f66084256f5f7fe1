//! Values as clients write them, and, in this file, what is written for clients.

mod job;
mod live;
mod policy;
pub mod schema;
mod stats;
mod topic;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

pub use self::job::{BackfillItem, JobItem, ReplayItem};
pub use self::live::{DeliveryNewsItem, EventNewsItem};
pub use self::policy::{Basic, Batch, Rate, Retry, Times, nullable};
pub use self::stats::StatsItem;
pub use self::topic::{TopicData, TopicItem};
pub use self::values::{Flag, Headers, Object, Topics, Whole};
use crate::domain::delivery::{Attempt, Delivery};
use crate::domain::event::{EventStory, EventSummary};
use crate::domain::message_schema::Mismatch;
use crate::domain::policy::Concurrency;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{OldSecret, Webhook};
use crate::service::delivery::PulledDelivery;
use crate::service::event::{Explanation, Published};
use crate::service::resend::Tested;

/// A secret that was replaced and still signs.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OldSecret")]
struct OldSecretItem<'a> {
    /// The secret; empty for a caller without the permission `webhook_write`.
    secret_key: &'a str,
    /// When it stops to sign.
    #[schemars(schema_with = "schema::time")]
    expires_at: String,
}

impl<'a> OldSecretItem<'a> {
    fn new(old: &'a OldSecret, with_secret: bool) -> Self {
        let secret_key = if with_secret { old.secret_key.expose() } else { "" };
        Self { secret_key, expires_at: old.expires_at.rfc3339_ms() }
    }
}

/// What of a webhook its reader is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Secrets and values of headers: only to callers that may write webhooks.
    pub secrets: bool,
    /// How it is doing.
    pub health: bool,
}

/// How a webhook is doing.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookHealth")]
struct HealthItem {
    /// `failing`: the last attempt failed. `disabled`: by the server. `off`: by its owner.
    #[schemars(schema_with = "schema::health")]
    state: &'static str,
    /// Failures since the last success.
    consecutive_failures: u32,
    /// When the present run of failures began.
    #[schemars(schema_with = "schema::time_or_null")]
    failing_since: Option<String>,
    /// Why the server has disabled it.
    #[schemars(schema_with = "schema::disabled_reasons")]
    disabled_reason: Option<&'static str>,
    /// The highest number up to which all have ended.
    #[schemars(schema_with = "schema::number")]
    settled_through: i64,
}

impl From<&Webhook> for HealthItem {
    fn from(webhook: &Webhook) -> Self {
        Self {
            state: webhook.health().name(),
            consecutive_failures: webhook.consecutive_failures,
            failing_since: webhook.failing_since.map(Timestamp::rfc3339_ms),
            disabled_reason: webhook.disabled.map(|reason| reason.name()),
            settled_through: webhook.settled_through.0,
        }
    }
}

// The vendor's members in the vendor's order: docs/wire.md, "webhook.list".
/// A webhook in `webhook.list`.
#[derive(JsonSchema, Serialize)]
pub struct WebhookItem<'a> {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// The last number given out; 0: none so far.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
    /// 1: on. 0: what is pending waits, and later events are not numbered for it.
    #[schemars(schema_with = "schema::flag_given")]
    is_active: u8,
    /// What it subscribes to, as its owner wrote it.
    topics: &'a str,
    /// Where its deliveries are posted to; empty if they are pulled.
    url: &'a str,
    /// Headers that are sent along, one `Name: value` a line; values read `[redacted]` for a caller without the permission `webhook_write`.
    extra_headers: Cow<'a, str>,
    /// What signs; empty for a caller without the permission `webhook_write`.
    secret_key: &'a str,
    /// How it is doing; only in a list that was asked for it with `with_health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthItem>,
}

impl<'a> WebhookItem<'a> {
    /// The webhook, as far as it is shown.
    pub fn new(webhook: &'a Webhook, shown: Shown) -> Self {
        let with_secret = shown.secrets;
        Self {
            webhook_id: webhook.webhook_id.0,
            increment_id: webhook.last_increment_id.0,
            is_active: webhook.spec.is_active.into(),
            topics: webhook.spec.topics.as_str(),
            url: webhook.spec.url.as_ref().map_or("", TargetUrl::as_str),
            extra_headers: match with_secret {
                true => webhook.spec.extra_headers.as_str().into(),
                false => webhook.spec.extra_headers.redacted().into(),
            },
            secret_key: if with_secret { webhook.spec.secret_key.expose() } else { "" },
            health: shown.health.then(|| webhook.into()),
        }
    }
}

/// A webhook, with everything there is to it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Webhook")]
pub struct WebhookDetail<'a> {
    #[serde(flatten)]
    item: WebhookItem<'a>,
    /// What people call it.
    name: &'a str,
    /// What they say of it.
    description: &'a str,
    /// The id of the user who made it.
    #[schemars(schema_with = "schema::id")]
    created_by: i64,
    /// How bodies are built.
    #[schemars(schema_with = "schema::formats")]
    format: &'static str,
    /// What they are written in.
    #[schemars(schema_with = "schema::encodings")]
    encoding: &'static str,
    /// What becomes of deliveries that fail.
    retry: Retry,
    /// In which order deliveries go out.
    #[schemars(schema_with = "schema::modes")]
    delivery_mode: &'static str,
    /// How many requests may be under way at once; null: as the server is configured.
    max_concurrency: Option<u32>,
    /// How many requests a second; null: as fast as it answers.
    rate_limit: Option<Rate>,
    /// How long an attempt may take.
    timeouts: Times,
    /// What is sent along as HTTP Basic.
    basic_auth: Option<Basic>,
    /// How many events go out in one request; null: one.
    batch: Option<Batch>,
    /// By topic, the objects and arrays of a message that go out; messages of other topics go out whole.
    #[schemars(schema_with = "schema::expansions")]
    expansions: BTreeMap<&'a str, &'a str>,
    /// Secrets that it replaced and that still sign.
    old_secrets: Vec<OldSecretItem<'a>>,
    /// The highest number up to which all have ended.
    #[schemars(schema_with = "schema::number")]
    settled_through: i64,
    /// The highest number that its receiver has pulled and asked beyond.
    #[schemars(schema_with = "schema::number")]
    acknowledged_through: i64,
    /// Failures since the last success.
    consecutive_failures: u32,
    /// When the present run of failures began.
    #[schemars(schema_with = "schema::time_or_null")]
    failing_since: Option<String>,
    /// Until when nothing is sent to its receiver, but tests and what `delivery.retry` sends; null: it is not left alone.
    #[schemars(schema_with = "schema::time_or_null")]
    paused_until: Option<String>,
    /// Why: it asked for that by Retry-After, or the breaker is open.
    #[schemars(schema_with = "schema::pause_reasons")]
    pause_reason: Option<&'static str>,
    /// `open`: it has failed five times in a row, and one probe at a time goes out until one succeeds.
    #[schemars(schema_with = "schema::breakers")]
    breaker: &'static str,
    /// 1: `webhook.pause` has stopped it; it goes on being numbered. `webhook.resume` sends what has gathered.
    #[schemars(schema_with = "schema::flag_given")]
    is_paused: u8,
    /// True: the server has disabled it; it goes on being numbered. `webhook.enable` lifts that.
    disabled: bool,
    /// Why: it answered 410 Gone, or failed for days.
    #[schemars(schema_with = "schema::disabled_reasons")]
    disabled_reason: Option<&'static str>,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When its owner last changed it.
    #[schemars(schema_with = "schema::time")]
    updated_at: String,
}

impl<'a> WebhookDetail<'a> {
    /// `with_secret` only for callers that may write webhooks.
    pub fn new(webhook: &'a Webhook, with_secret: bool, now: Timestamp) -> Self {
        let pause = webhook.pause_at(now);
        Self {
            item: WebhookItem::new(webhook, Shown { secrets: with_secret, health: false }),
            name: &webhook.spec.name,
            description: &webhook.spec.description,
            created_by: webhook.created_by.0,
            format: webhook.spec.format.name(),
            encoding: webhook.spec.format.encoding().name(),
            retry: (&webhook.spec.retry).into(),
            delivery_mode: webhook.spec.delivery_mode.name(),
            max_concurrency: webhook.spec.max_concurrency.map(Concurrency::get),
            rate_limit: webhook.spec.rate_limit.map(Rate::from),
            timeouts: webhook.spec.timeouts().into(),
            basic_auth: webhook.spec.basic_auth.as_ref().map(|basic| Basic::new(basic, with_secret)),
            batch: webhook.spec.batch.map(Batch::from),
            expansions: (webhook.spec.expansions.list().iter())
                .map(|(topic, own)| (topic.as_str(), own.as_str()))
                .collect(),
            old_secrets: webhook.old_secrets.iter().map(|old| OldSecretItem::new(old, with_secret)).collect(),
            settled_through: webhook.settled_through.0,
            acknowledged_through: webhook.acknowledged_through.0,
            consecutive_failures: webhook.consecutive_failures,
            failing_since: webhook.failing_since.map(Timestamp::rfc3339_ms),
            paused_until: pause.map(|pause| pause.until.rfc3339_ms()),
            pause_reason: pause.map(|pause| pause.reason.name()),
            breaker: breaker(webhook),
            is_paused: webhook.is_paused.into(),
            disabled: webhook.disabled.is_some(),
            disabled_reason: webhook.disabled.map(|reason| reason.name()),
            created_at: webhook.created_at.rfc3339_ms(),
            updated_at: webhook.updated_at.rfc3339_ms(),
        }
    }
}

/// Whether its breaker is open.
pub(in crate::api::rpc) fn breaker(webhook: &Webhook) -> &'static str {
    BREAKERS[usize::from(webhook.is_breaker_open())]
}

/// What a breaker may be: closed, until a receiver has failed often enough.
pub(in crate::api::rpc) const BREAKERS: [&str; 2] = ["closed", "open"];

/// What a publisher gets: event and deliveries are on disk.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Receipt")]
pub struct ReceiptItem {
    /// The id of the event.
    #[schemars(schema_with = "schema::id")]
    event_id: i64,
    /// The number it has at each webhook it goes to.
    deliveries: Vec<ReceiptDelivery>,
    /// Why the message does not fit its topic's schema; there only if the topic says `warn` and it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<WarningItem>,
}

/// What is wrong with a message that was accepted all the same.
#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct WarningItem {
    /// Where: `message.lines[0].sku`.
    field: String,
    /// What is wrong there, and what would be right.
    problem: String,
}

/// A delivery by its name.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "NumberedDelivery")]
struct ReceiptDelivery {
    /// The webhook.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// The number in it.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
}

impl From<Published> for ReceiptItem {
    fn from(Published { receipt, mismatch }: Published) -> Self {
        let deliveries = receipt.deliveries.into_iter();
        Self {
            event_id: receipt.event_id.0,
            deliveries: deliveries
                .map(|(webhook, number)| ReceiptDelivery { webhook_id: webhook.0, increment_id: number.0 })
                .collect(),
            warning: mismatch.map(|Mismatch { path, problem }| WarningItem { field: path, problem }),
        }
    }
}

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

/// An event, and what became of it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Event")]
pub struct EventItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    event_id: i64,
    /// What happened.
    topic: String,
    /// The publisher's object, byte for byte.
    #[schemars(schema_with = "schema::message")]
    message: Box<RawValue>,
    /// When it happened.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When it was accepted.
    #[schemars(schema_with = "schema::time")]
    published_at: String,
    /// How many deliveries it has.
    delivery_count: u64,
    /// Its deliveries, by webhook and number; the first `list_limit_max` of them.
    deliveries: Vec<DeliveryItem>,
}

impl TryFrom<EventStory> for EventItem {
    type Error = serde_json::Error;

    fn try_from(story: EventStory) -> Result<Self, Self::Error> {
        let EventStory { event, published_at, delivery_count, deliveries } = story;
        Ok(Self {
            event_id: event.event_id.0,
            topic: event.topic.to_string(),
            message: RawValue::from_string(event.message.as_str().to_owned())?,
            created_at: event.created_at.rfc3339_ms(),
            published_at: published_at.rfc3339_ms(),
            delivery_count,
            deliveries: deliveries.into_iter().map(DeliveryItem::from).collect(),
        })
    }
}

/// An event in a list: all but its message.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "EventSummary")]
pub struct EventSummaryItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    event_id: i64,
    /// What happened.
    topic: String,
    /// When it happened.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When it was accepted.
    #[schemars(schema_with = "schema::time")]
    published_at: String,
    /// How long its message is, in bytes; `event.get` has it.
    message_bytes: u64,
    /// How many deliveries it has.
    delivery_count: u64,
}

impl From<EventSummary> for EventSummaryItem {
    fn from(event: EventSummary) -> Self {
        Self {
            event_id: event.event_id.0,
            topic: event.topic.to_string(),
            created_at: event.created_at.rfc3339_ms(),
            published_at: event.published_at.rfc3339_ms(),
            message_bytes: event.message_bytes,
            delivery_count: event.delivery_count,
        }
    }
}

/// What a webhook would do with an event.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Explanation")]
pub struct ExplanationItem {
    /// The webhook.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// True: the event is numbered there.
    is_reached: bool,
    /// What becomes of it: `delivered`; `pulled` and `disabled`: it is numbered, and waits for the receiver or for
    /// `webhook.enable`; `inactive` and `not_subscribed`: it is not numbered.
    #[schemars(schema_with = "schema::reaches")]
    reach: &'static str,
    /// The first entry of its list of topics that matches; null: none does.
    pattern: Option<String>,
}

impl From<Explanation> for ExplanationItem {
    fn from(explanation: Explanation) -> Self {
        let Explanation { webhook_id, reach, pattern } = explanation;
        Self { webhook_id: webhook_id.0, is_reached: reach.is_reached(), reach: reach.name(), pattern }
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
