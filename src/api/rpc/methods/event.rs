//! event.*

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::rpc::method::{Method, Request};
use crate::api::rpc::wire::{EventItem, ExplanationItem, Object, ReceiptItem, Whole, schema};
use crate::domain::event::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::EventId;
use crate::domain::user::Permission;
use crate::service::auth::Caller;
use crate::service::event::EventDraft;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session(
            "event.publish",
            "Accepts an event; once this answers, it and its numbered deliveries are on disk.",
            publish,
        )
        .needs(Permission::EventWrite)
        .faults(FaultCode::InvalidEvent, &[FaultCode::IdempotencyConflict, FaultCode::EventRefused]),
        Method::with_session(
            "event.publish_many",
            "Accepts events, all or none, and answers in their order.",
            publish_many,
        )
        .needs(Permission::EventWrite)
        .faults(FaultCode::InvalidEvent, &[FaultCode::IdempotencyConflict, FaultCode::EventRefused]),
        Method::with_session("event.get", "Returns an event, and what became of it.", get)
            .needs(Permission::WebhookRead)
            .faults(FaultCode::InvalidEvent, &[FaultCode::NoEvent]),
        Method::with_session(
            "event.explain",
            "Says which webhooks an event of a topic would reach, and why not the others; publishes nothing.",
            explain,
        )
        .needs(Permission::WebhookRead)
        .faults(FaultCode::InvalidEvent, &[]),
    ]
}

/// An event to publish.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewEvent")]
#[serde(deny_unknown_fields)]
struct Publish {
    /// What happened: two words joined by a colon, such as `order:created`.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
    /// The publisher's object; receivers get it byte for byte.
    #[schemars(schema_with = "schema::message")]
    message: Box<RawValue>,
    /// What else there is to say of it.
    options: Option<Object<Options>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Makes a repeated publish the same publish.
    #[schemars(length(min = 1, max = IDEMPOTENCY_KEY_CHARS_MAX))]
    idempotency_key: Option<String>,
    /// When it happened (RFC 3339); now, if left out.
    #[schemars(extend("format" = "date-time"))]
    created_at: Option<String>,
}

impl From<Publish> for EventDraft {
    fn from(publish: Publish) -> Self {
        let Object(options) = publish.options.unwrap_or_default();
        Self {
            topic: publish.topic,
            message: publish.message.into(),
            created_at: options.created_at,
            idempotency_key: options.idempotency_key,
        }
    }
}

async fn publish(request: Request, caller: Caller, params: Publish) -> Result<ReceiptItem, Fault> {
    request.service.publish(&caller, params.into()).await.map(ReceiptItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct PublishMany {
    /// The events, in order.
    events: Vec<Object<Publish>>,
}

async fn publish_many(request: Request, caller: Caller, params: PublishMany) -> Result<Vec<ReceiptItem>, Fault> {
    let drafts = params.events.into_iter().map(|Object(event)| event.into()).collect();
    let receipts = request.service.publish_many(&caller, drafts).await?;
    Ok(receipts.into_iter().map(ReceiptItem::from).collect())
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The event.
    event_id: Whole,
}

async fn get(request: Request, caller: Caller, params: ById) -> Result<EventItem, Fault> {
    let story = request.service.get_event(&caller, EventId(params.event_id.0)).await?;
    EventItem::try_from(story).map_err(|cause| {
        tracing::error!(%cause, "a stored message is no JSON");
        FaultCode::Internal.into()
    })
}

#[derive(Deserialize, JsonSchema)]
struct Explain {
    /// The topic.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
}

async fn explain(request: Request, caller: Caller, params: Explain) -> Result<Vec<ExplanationItem>, Fault> {
    let explained = request.service.explain(&caller, &params.topic).await?;
    Ok(explained.into_iter().map(ExplanationItem::from).collect())
}
