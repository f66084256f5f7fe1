//! delivery.*

use serde::Deserialize;

use crate::api::rpc::args::{optional, required};
use crate::api::rpc::method::{Method, Request, Spec};
use crate::api::rpc::wire::{AttemptItem, DeliveryItem, Flag, Object, PulledItem, Whole};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::user::Permission;
use crate::service::auth::Caller;
use crate::service::delivery::{DeliverySelection, Pull};

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session(
            Spec {
                name: "delivery.list",
                summary: "Lists a webhook's deliveries in the order of their numbers.",
                params: const { &[required("webhook_id"), optional("options")] },
                permission: Some(Permission::WebhookRead),
                invalid: FaultCode::InvalidSelection,
            },
            list,
        ),
        Method::with_session(
            Spec {
                name: "delivery.attempts",
                summary: "Lists the attempts at a delivery, with what was sent and answered.",
                params: const { &[required("webhook_id"), required("increment_id")] },
                permission: Some(Permission::WebhookRead),
                invalid: FaultCode::InvalidSelection,
            },
            attempts,
        ),
        Method::with_session(
            Spec {
                name: "delivery.pull",
                summary: "Returns all numbers after one, bodies included and signed now; waits if there are none.",
                params: const {
                    &[required("webhook_id"), optional("after_increment_id"), optional("limit"), optional("wait_ms")]
                },
                permission: Some(Permission::WebhookRead),
                invalid: FaultCode::InvalidSelection,
            },
            pull,
        ),
        Method::with_session(
            Spec {
                name: "delivery.retry",
                summary: "Sends a delivery again now, whatever has become of it, and returns it.",
                params: const { &[required("webhook_id"), required("increment_id")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidSelection,
            },
            retry,
        ),
        Method::with_session(
            Spec {
                name: "delivery.cancel",
                summary: "Ends a pending delivery, and returns it; its number stays as a tombstone.",
                params: const { &[required("webhook_id"), required("increment_id"), optional("whole_batch")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidSelection,
            },
            cancel,
        ),
    ]
}

#[derive(Deserialize)]
struct List {
    webhook_id: Whole,
    options: Option<Object<Options>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    after_increment_id: Option<Whole>,
    state: Option<String>,
    limit: Option<Whole>,
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Vec<DeliveryItem>, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let selection = DeliverySelection {
        after_increment_id: options.after_increment_id.map(|number| number.0),
        state: options.state,
        limit: options.limit.map(|number| number.0),
    };
    let found = request.service.list_deliveries(&caller, WebhookId(params.webhook_id.0), selection).await?;
    Ok(found.into_iter().map(DeliveryItem::from).collect())
}

#[derive(Deserialize)]
struct ByNumber {
    webhook_id: Whole,
    increment_id: Whole,
}

async fn attempts(request: Request, caller: Caller, params: ByNumber) -> Result<Vec<AttemptItem>, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    let found = request.service.list_attempts(&caller, id, number).await?;
    Ok(found.into_iter().map(AttemptItem::from).collect())
}

#[derive(Deserialize)]
struct PullParams {
    webhook_id: Whole,
    after_increment_id: Option<Whole>,
    limit: Option<Whole>,
    wait_ms: Option<Whole>,
}

async fn pull(request: Request, caller: Caller, params: PullParams) -> Result<Vec<PulledItem>, Fault> {
    let pull = Pull {
        after_increment_id: params.after_increment_id.map(|number| number.0),
        limit: params.limit.map(|number| number.0),
        wait_ms: params.wait_ms.map(|number| number.0),
    };
    let found = request.service.pull(&caller, WebhookId(params.webhook_id.0), pull).await?;
    Ok(found.into_iter().map(PulledItem::from).collect())
}

async fn retry(request: Request, caller: Caller, params: ByNumber) -> Result<DeliveryItem, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    request.service.retry_delivery(&caller, id, number).await.map(DeliveryItem::from)
}

#[derive(Deserialize)]
struct Cancel {
    webhook_id: Whole,
    increment_id: Whole,
    whole_batch: Option<Flag>,
}

async fn cancel(request: Request, caller: Caller, params: Cancel) -> Result<DeliveryItem, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    let whole_batch = params.whole_batch.is_some_and(|flag| flag.0);
    request.service.cancel_delivery(&caller, id, number, whole_batch).await.map(DeliveryItem::from)
}
