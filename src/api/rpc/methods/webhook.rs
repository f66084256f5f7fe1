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
use crate::domain::webhook::{Format, Webhook};
use crate::service::auth::Caller;
use crate::service::webhook::{StatusTarget, WebhookDraft};

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
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<Box<RawValue>, Fault> {
    let webhook = request.service.create_webhook(&caller, draft(params.webhook.0, request.context.codes)?).await?;
    match params.return_webhook {
        Some(Flag(true)) => detail(&webhook, &caller),
        _ => written(&true),
    }
}

/// On the vendor's paths a webhook starts as the vendor's do.
fn draft(data: Data, codes: Codes) -> Result<WebhookDraft, Fault> {
    let (format, retry) = match codes {
        Codes::Native => (Format::Envelope, RetryPolicy::Default),
        Codes::Vendor => (Format::Shipstream, RetryPolicy::Shipstream),
    };
    let invalid = |field: &str, problem: &str| Fault::new(FaultCode::InvalidWebhook).field(field).detail(problem);
    let missing = |field, example: &str| invalid(field, &format!("is missing; give one such as {example}."));
    let named_format = |name: String| {
        Format::from_name(&name).ok_or_else(|| invalid("format", "is no format; there are envelope, shipstream."))
    };
    let refused = |violation: Violation| violation.into_fault(FaultCode::InvalidWebhook);
    let checked_retry = |retry| RetryPolicy::try_from(retry).map_err(refused);
    Ok(WebhookDraft {
        is_active: data.is_active.is_none_or(|flag| flag.0),
        topics: data.topics.ok_or_else(|| missing("topics", "order:*"))?.0,
        url: data.url.ok_or_else(|| missing("url", "https://example.com/hook"))?,
        extra_headers: data.extra_headers.map_or_else(String::new, |headers| headers.0),
        secret_key: data.secret_key.filter(|key| !key.is_empty()),
        format: data.format.map_or(Ok(format), named_format)?,
        retry: data.retry.map_or(Ok(retry), checked_retry)?,
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
