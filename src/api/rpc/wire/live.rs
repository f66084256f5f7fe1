//! What subscriptions tell.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery::DeliveryItem;
use super::schema;
use crate::service::live::{DeliveryNews, EventNews, Missed};
use crate::store::feed::MissedEvents;
use crate::store::watched::{DeliveryStatus, LastAttempt, PublishedEvent};

/// What `delivery.changed` tells.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "DeliveryNews")]
#[serde(untagged)]
pub enum DeliveryNewsItem {
    /// A delivery that is new or has changed, as it is now.
    Changed(Box<DeliveryStatusItem>),
    /// What was not told.
    Missed {
        /// These deliveries, and maybe not all of them, have changed and were not told of in time.
        missed: Vec<MissedItem>,
    },
}

/// A delivery, and how the last attempt at it went.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "DeliveryStatus")]
pub struct DeliveryStatusItem {
    #[serde(flatten)]
    delivery: DeliveryItem,
    /// The last attempt; null if there was none, or it was pruned.
    last_attempt: Option<LastAttemptItem>,
}

/// An attempt, in short.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "LastAttempt")]
struct LastAttemptItem {
    /// When it began.
    #[schemars(schema_with = "schema::time")]
    started_at: String,
    /// The status of the answer; null if none came.
    status_code: Option<u16>,
    /// How long it took, in milliseconds.
    duration_ms: f64,
    /// What went wrong; null: nothing.
    #[schemars(schema_with = "schema::error_classes")]
    error_class: Option<&'static str>,
    /// The same in words.
    error: Option<String>,
}

/// Numbers of a webhook that were not told of.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "MissedDeliveries")]
pub struct MissedItem {
    /// The webhook; null: any of the merchant's.
    webhook_id: Option<i64>,
    /// The first.
    #[schemars(schema_with = "schema::id")]
    first_increment_id: i64,
    /// The last; null: all that follow.
    last_increment_id: Option<i64>,
}

/// What `event.published` tells.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "EventNews")]
#[serde(untagged)]
pub enum EventNewsItem {
    /// An event that was published.
    Published(Box<PublishedItem>),
    /// What was not told.
    Missed {
        /// These events, and maybe not all of them, were published and were not told of in time.
        missed: MissedEventsItem,
    },
}

/// A published event.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PublishedEvent")]
pub struct PublishedItem {
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
}

/// Events that were not told of.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "MissedEvents")]
pub struct MissedEventsItem {
    /// The first.
    #[schemars(schema_with = "schema::id")]
    first_event_id: i64,
    /// The last; null: all that follow.
    last_event_id: Option<i64>,
}

impl From<DeliveryNews> for DeliveryNewsItem {
    fn from(news: DeliveryNews) -> Self {
        match news {
            DeliveryNews::Changed(status) => Self::Changed(Box::new((*status).into())),
            DeliveryNews::Missed(missed) => Self::Missed { missed: missed.into_iter().map(MissedItem::from).collect() },
        }
    }
}

impl From<DeliveryStatus> for DeliveryStatusItem {
    fn from(status: DeliveryStatus) -> Self {
        Self { delivery: status.delivery.into(), last_attempt: status.last_attempt.map(LastAttemptItem::from) }
    }
}

impl From<LastAttempt> for LastAttemptItem {
    fn from(attempt: LastAttempt) -> Self {
        let (error_class, error) = match attempt.error {
            Some(error) => (Some(error.class.name()), Some(error.detail)),
            None => (None, None),
        };
        let duration_ms = attempt.duration.as_micros() as f64 / 1_000.0;
        let started_at = attempt.started_at.rfc3339_ms();
        Self { started_at, status_code: attempt.status_code, duration_ms, error_class, error }
    }
}

impl From<Missed> for MissedItem {
    fn from(missed: Missed) -> Self {
        Self {
            webhook_id: missed.webhook_id.map(|id| id.0),
            first_increment_id: missed.first.0,
            last_increment_id: missed.last.map(|number| number.0),
        }
    }
}

impl TryFrom<EventNews> for EventNewsItem {
    type Error = serde_json::Error;

    fn try_from(news: EventNews) -> Result<Self, Self::Error> {
        Ok(match news {
            EventNews::Published(published) => Self::Published(Box::new((*published).try_into()?)),
            EventNews::Missed(MissedEvents { first, last }) => {
                let missed = MissedEventsItem { first_event_id: first.0, last_event_id: last.map(|id| id.0) };
                Self::Missed { missed }
            }
        })
    }
}

impl TryFrom<PublishedEvent> for PublishedItem {
    type Error = serde_json::Error;

    fn try_from(published: PublishedEvent) -> Result<Self, Self::Error> {
        let PublishedEvent { event, published_at } = published;
        Ok(Self {
            event_id: event.event_id.0,
            topic: event.topic.to_string(),
            message: RawValue::from_string(event.message.as_str().to_owned())?,
            created_at: event.created_at.rfc3339_ms(),
            published_at: published_at.rfc3339_ms(),
        })
    }
}
