//! Subscriptions and events as rows of an answer.

use std::borrow::Cow;
use std::marker::PhantomData;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

use crate::api::rest::Refusal;
use crate::api::rest::listing::Beside;
use crate::api::rest::query::{Field, Kind, Row};
use crate::api::rest::values::time;
use crate::domain::delivery::{Attempt, DeliveryState};
use crate::domain::time::Timestamp;
use crate::domain::user::Permission;
use crate::domain::webhook::Webhook;
use crate::service::caller::Caller;
use crate::service::delivery::DeliveryContents;

/// A subscription.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its id.
    id: i64,
    /// Its name.
    name: String,
    /// The topics, with commas between them.
    event_type: String,
    /// Where its events are posted to; empty if they are pulled.
    url: String,
    /// What signs; empty for a caller who may not change subscriptions.
    secret: String,
    /// How many retries there are at the most.
    max_retry_count: u32,
    /// Whether it is on.
    is_active: bool,
    /// The id of the user who made it.
    user_id: String,
    /// Headers that are sent along, one `Name: value` a line; values read `[redacted]` for a caller who may not change subscriptions.
    headers: String,
    /// When it was made.
    #[schemars(schema_with = "time")]
    created_at: String,
    /// When it was last changed.
    #[schemars(schema_with = "time")]
    updated_at: String,
    /// Its last events, if they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_events: Option<Vec<WebhookEvent>>,
}

pub const SUBSCRIPTION_FIELDS: &[Field] = &[
    ("id", Kind::Number),
    ("name", Kind::Text),
    ("eventType", Kind::Text),
    ("url", Kind::Text),
    ("maxRetryCount", Kind::Number),
    ("isActive", Kind::Flag),
    ("userId", Kind::Text),
    ("headers", Kind::Text),
    ("createdAt", Kind::Time),
    ("updatedAt", Kind::Time),
];
/// What can be shown besides, though not filtered or sorted by.
pub const SUBSCRIPTION_EXTRAS: &[&str] = &["secret", "webhookEvents"];

impl Subscription {
    pub fn new(webhook: &Webhook, caller: &Caller) -> Self {
        let spec = &webhook.spec;
        let sees_secret = caller.permissions.allow(Permission::WebhookWrite);
        Self {
            id: webhook.webhook_id.0,
            name: spec.name.clone(),
            event_type: spec.topics.as_str().to_owned(),
            url: spec.url.as_ref().map_or_else(String::new, |url| url.as_str().to_owned()),
            secret: if sees_secret { spec.secret_key.expose().to_owned() } else { String::new() },
            max_retry_count: spec.retry.retries(),
            // One that the server has disabled is not on, and putting it on enables it.
            is_active: spec.is_active && webhook.disabled.is_none(),
            user_id: webhook.created_by.to_string(),
            headers: match sees_secret {
                true => spec.extra_headers.as_str().to_owned(),
                false => spec.extra_headers.redacted(),
            },
            created_at: webhook.created_at.rfc3339_ms(),
            updated_at: webhook.updated_at.rfc3339_ms(),
            webhook_events: None,
        }
    }
}

/// An event of a subscription.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    /// Its number within the subscription.
    id: i64,
    /// The subscription.
    webhook_subscription_id: i64,
    /// The topic; left out once it was pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// The message, as JSON in a text; left out once it was pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// The status of the last answer; left out if none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    /// The body of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    /// Whether it was delivered.
    is_success: bool,
    /// How many retries there were.
    retry_count: u32,
    /// When it was last sent.
    #[schemars(schema_with = "time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<String>,
    /// When it is sent again.
    #[schemars(schema_with = "time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_retry_at: Option<String>,
    /// When it was numbered.
    #[schemars(schema_with = "time")]
    created_at: String,
}

pub const EVENT_FIELDS: &[Field] = &[
    ("id", Kind::Number),
    ("webhookSubscriptionId", Kind::Number),
    ("eventType", Kind::Text),
    ("payload", Kind::Text),
    ("statusCode", Kind::Number),
    ("response", Kind::Text),
    ("errorMessage", Kind::Text),
    ("isSuccess", Kind::Flag),
    ("retryCount", Kind::Number),
    ("sentAt", Kind::Time),
    ("nextRetryAt", Kind::Time),
    ("createdAt", Kind::Time),
];
/// Those that go up with the number, by which events are read.
pub const EVENT_SORTS: &[Field] = &[("id", Kind::Number), ("createdAt", Kind::Time)];

impl From<DeliveryContents> for WebhookEvent {
    fn from(DeliveryContents { delivery, contents }: DeliveryContents) -> Self {
        let (message, last) = (contents.message, contents.last);
        let error = |attempt: &Attempt| attempt.error.as_ref().map(|error| error.detail.clone());
        Self {
            id: delivery.increment_id.0,
            webhook_subscription_id: delivery.webhook_id.0,
            event_type: delivery.topic.map(|topic| topic.to_string()),
            payload: message.map(|message| message.as_str().to_owned()),
            status_code: last.as_ref().and_then(|attempt| attempt.status_code),
            response: last.as_ref().map(|attempt| String::from_utf8_lossy(&attempt.response_body).into_owned()),
            error_message: last.as_ref().and_then(error),
            is_success: delivery.state == DeliveryState::Delivered,
            retry_count: delivery.attempts.saturating_sub(1),
            sent_at: last.map(|attempt| attempt.started_at.rfc3339_ms()),
            next_retry_at: delivery.next_attempt_at.map(Timestamp::rfc3339_ms),
            created_at: delivery.created_at.rfc3339_ms(),
        }
    }
}

/// A row of which a client may have chosen the members: as the type has it, but
/// any member may be missing.
pub struct Chosen<T>(PhantomData<fn(&T)>);

impl<T: JsonSchema> JsonSchema for Chosen<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Chosen{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.remove("required");
        schema
    }
}

pub fn row(item: &impl Serialize) -> Result<Row, Refusal> {
    match serde_json::to_value(item) {
        Ok(Value::Object(row)) => Ok(row),
        _ => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be written.")),
    }
}

/// What stands beside a list of events.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    /// How many there are that fit the filter, shown or not.
    pub total_events_count: u64,
    pub success: bool,
    /// Where to go on, if there are fewer than asked for since the answer would be too long.
    pub message: String,
}

impl Beside for Events {
    const LIST: &'static str = "events";
    type Row = Chosen<WebhookEvent>;
}
