//! Events, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery::DeliveryItem;
use super::schema;
use crate::domain::event::{EventStory, EventSummary};
use crate::domain::message_schema::Mismatch;
use crate::service::event::{Explanation, Published};

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
    /// Of which trace it is a part, as the header `traceparent` of W3C Trace Context says it; null: of none.
    traceparent: Option<String>,
    /// For whom it is; null: for whoever subscribes to its topic.
    #[schemars(schema_with = "schema::labels_or_null")]
    labels: Option<BTreeMap<String, String>>,
    /// How many deliveries it has.
    delivery_count: u64,
    /// Its deliveries, by webhook and number; the first `list_limit_max` of them.
    deliveries: Vec<DeliveryItem>,
}

impl TryFrom<EventStory> for EventItem {
    type Error = serde_json::Error;

    fn try_from(story: EventStory) -> Result<Self, Self::Error> {
        let EventStory { event, published_at, labels, delivery_count, deliveries } = story;
        Ok(Self {
            event_id: event.event_id.0,
            topic: event.topic.to_string(),
            message: RawValue::from_string(event.message.as_str().to_owned())?,
            created_at: event.created_at.rfc3339_ms(),
            published_at: published_at.rfc3339_ms(),
            traceparent: event.trace.map(|trace| trace.to_string()),
            labels: labels.map(|labels| labels.owned_pairs()),
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
    /// For whom it is; null: for whoever subscribes to its topic.
    #[schemars(schema_with = "schema::labels_or_null")]
    labels: Option<BTreeMap<String, String>>,
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
            labels: event.labels.map(|labels| labels.owned_pairs()),
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
    /// `webhook.enable`; `inactive`, `labels_differ` and `not_subscribed`: it is not numbered.
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
