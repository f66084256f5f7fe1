//! event.*

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::rpc::method::{Method, Request};
use crate::api::rpc::wire::{Object, ReceiptItem, schema};
use crate::domain::event::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::domain::fault::{Fault, FaultCode};
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
