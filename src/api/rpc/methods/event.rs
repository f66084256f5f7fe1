//! event.*

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::rpc::args::{optional, required};
use crate::api::rpc::method::{Method, Request, Spec};
use crate::api::rpc::wire::{Object, ReceiptItem};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::user::Permission;
use crate::service::auth::Caller;
use crate::service::event::EventDraft;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session(
            Spec {
                name: "event.publish",
                summary: "Accepts an event; once this answers, it and its numbered deliveries are on disk.",
                params: const { &[required("topic"), required("message"), optional("options")] },
                permission: Some(Permission::EventWrite),
                invalid: FaultCode::InvalidEvent,
            },
            publish,
        ),
        Method::with_session(
            Spec {
                name: "event.publish_many",
                summary: "Accepts events, all or none, and answers in their order.",
                params: const { &[required("events")] },
                permission: Some(Permission::EventWrite),
                invalid: FaultCode::InvalidEvent,
            },
            publish_many,
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    topic: String,
    message: Box<RawValue>,
    options: Option<Object<Options>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    idempotency_key: Option<String>,
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

#[derive(Deserialize)]
struct PublishMany {
    events: Vec<Object<Publish>>,
}

async fn publish_many(request: Request, caller: Caller, params: PublishMany) -> Result<Vec<ReceiptItem>, Fault> {
    let drafts = params.events.into_iter().map(|Object(event)| event.into()).collect();
    let receipts = request.service.publish_many(&caller, drafts).await?;
    Ok(receipts.into_iter().map(ReceiptItem::from).collect())
}
