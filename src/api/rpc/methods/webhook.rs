//! webhook.*

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::NoParams;
use crate::api::rpc::args::{from_raw, optional, required};
use crate::api::rpc::fault::Codes;
use crate::api::rpc::method::{Method, Request, Spec};
use crate::api::rpc::wire::{Flag, Headers, Object, Retry, Topics, WebhookDetail, WebhookItem, Whole};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::WebhookId;
use crate::domain::retry::RetryPolicy;
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, Format, Webhook};
use crate::service::auth::Caller;
use crate::service::webhook::{StatusTarget, WebhookDefaults, WebhookDraft};

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session(
            Spec {
                name: "webhook.list",
                summary: "Lists the merchant's webhooks.",
                params: &[],
                permission: Some(Permission::WebhookRead),
                invalid: FaultCode::InvalidWebhook,
            },
            list,
        ),
        Method::with_session(
            Spec {
                name: "webhook.create",
                summary: "Registers a webhook.",
                params: const { &[required("webhook"), optional("return_webhook")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidWebhook,
            },
            create,
        ),
        Method::with_session(
            Spec {
                name: "webhook.update",
                summary: "Changes a webhook and returns it; what is left out stays as it is.",
                params: const { &[required("webhook_id"), required("changes")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidWebhook,
            },
            update,
        ),
        Method::with_session(
            Spec {
                name: "webhook.update_status",
                summary: "Switches webhooks on or off, by topic, by id, or all of them.",
                params: const { &[optional("topic"), optional("status"), optional("webhook_id")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::StatusNotChanged,
            },
            update_status,
        ),
        Method::with_session(
            Spec {
                name: "webhook.delete",
                summary: "Deletes a webhook; what is pending for it becomes cancelled.",
                params: const { &[required("webhook_id")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::NoWebhook,
            },
            delete,
        ),
        Method::with_session(
            Spec {
                name: "webhook.get",
                summary: "Returns a webhook with everything there is to it.",
                params: const { &[required("webhook_id")] },
                permission: Some(Permission::WebhookRead),
                invalid: FaultCode::NoWebhook,
            },
            get,
        ),
    ]
}

fn sees_secrets(caller: &Caller) -> bool {
    caller.permissions.allow(Permission::WebhookWrite)
}

async fn list(request: Request, caller: Caller, _: NoParams) -> Result<Box<RawValue>, Fault> {
    let webhooks = request.service.list_webhooks(&caller).await?;
    let items: Vec<_> = webhooks.iter().map(|webhook| WebhookItem::new(webhook, sees_secrets(&caller))).collect();
    written(&items)
}

#[derive(Deserialize)]
struct ById {
    webhook_id: Whole,
}

async fn get(request: Request, caller: Caller, params: ById) -> Result<Box<RawValue>, Fault> {
    let webhook = request.service.get_webhook(&caller, WebhookId(params.webhook_id.0)).await?;
    detail(&webhook, &caller)
}

fn detail(webhook: &Webhook, caller: &Caller) -> Result<Box<RawValue>, Fault> {
    written(&WebhookDetail::new(webhook, sees_secrets(caller)))
}

/// Written at once, for it borrows from what it shows.
fn written(result: &impl serde::Serialize) -> Result<Box<RawValue>, Fault> {
    to_raw_value(result).map_err(|_| FaultCode::Internal.into())
}

async fn delete(request: Request, caller: Caller, params: ById) -> Result<bool, Fault> {
    request.service.delete_webhook(&caller, WebhookId(params.webhook_id.0)).await.map(|()| true)
}

#[derive(Deserialize)]
struct Create {
    webhook: Object<Data>,
    return_webhook: Option<Flag>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    is_active: Option<Flag>,
    topics: Option<Topics>,
    url: Option<String>,
    extra_headers: Option<Headers>,
    secret_key: Option<String>,
    format: Option<String>,
    retry: Option<Retry>,
    delivery_mode: Option<String>,
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<Box<RawValue>, Fault> {
    // On the vendor's paths a webhook starts as the vendor's do.
    let defaults = match request.context.codes {
        Codes::Native => WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default },
        Codes::Vendor => WebhookDefaults { format: Format::Shipstream, retry: RetryPolicy::Shipstream },
    };
    let webhook = request.service.create_webhook(&caller, draft(params.webhook.0)?, defaults).await?;
    match params.return_webhook {
        Some(Flag(true)) => detail(&webhook, &caller),
        _ => written(&true),
    }
}

#[derive(Deserialize)]
struct Update {
    webhook_id: Whole,
    changes: Object<Data>,
}

async fn update(request: Request, caller: Caller, params: Update) -> Result<Box<RawValue>, Fault> {
    let id = WebhookId(params.webhook_id.0);
    let webhook = request.service.update_webhook(&caller, id, draft(params.changes.0)?).await?;
    detail(&webhook, &caller)
}

fn draft(data: Data) -> Result<WebhookDraft, Fault> {
    let refused = |violation: Violation| violation.into_fault(FaultCode::InvalidWebhook);
    let unknown = |field, known: &str| refused(Violation::new(field, format!("is unknown; there are {known}.")));
    let format = |name: String| Format::from_name(&name).ok_or_else(|| unknown("format", "envelope, shipstream"));
    let mode =
        |name: String| DeliveryMode::from_name(&name).ok_or_else(|| unknown("delivery_mode", "parallel, ordered"));
    Ok(WebhookDraft {
        is_active: data.is_active.map(|flag| flag.0),
        topics: data.topics.map(|topics| topics.0),
        url: data.url,
        extra_headers: data.extra_headers.map(|headers| headers.0),
        secret_key: data.secret_key.filter(|key| !key.is_empty()),
        format: data.format.map(format).transpose()?,
        retry: data.retry.map(RetryPolicy::try_from).transpose().map_err(refused)?,
        delivery_mode: data.delivery_mode.map(mode).transpose()?,
    })
}

/// The seed's signature is `(topic, status)` and its example `[{"status": 1}]`;
/// both work, and so does an object with a topic or an id.
#[derive(Deserialize)]
struct UpdateStatus {
    topic: Option<Box<RawValue>>,
    status: Option<Flag>,
    webhook_id: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusData {
    topic: Option<String>,
    status: Option<Flag>,
    webhook_id: Option<Whole>,
}

async fn update_status(request: Request, caller: Caller, params: UpdateStatus) -> Result<bool, Fault> {
    let invalid = FaultCode::StatusNotChanged;
    let data = match params.topic {
        Some(object) if object.get().starts_with('{') => {
            if params.status.is_some() || params.webhook_id.is_some() {
                return Err(Fault::new(invalid).detail("Give one object, or topic and status, not both."));
            }
            from_raw(&object, "topic", invalid)?
        }
        Some(topic) => StatusData {
            topic: Some(from_raw(&topic, "topic", invalid)?),
            status: params.status,
            webhook_id: params.webhook_id,
        },
        None => StatusData { topic: None, status: params.status, webhook_id: params.webhook_id },
    };
    let Some(Flag(on)) = data.status else {
        return Err(Fault::new(invalid).field("status").detail("is missing; it must be 0 (inactive) or 1 (active)."));
    };
    let target = match (data.topic, data.webhook_id) {
        (None, None) => StatusTarget::All,
        (Some(topic), None) => StatusTarget::Topic(topic),
        (None, Some(Whole(id))) => StatusTarget::Webhook(WebhookId(id)),
        (Some(_), Some(_)) => {
            return Err(Fault::new(invalid).detail("Select by topic or by webhook_id, not by both."));
        }
    };
    request.service.set_status(&caller, target, on).await.map(|()| true)
}
