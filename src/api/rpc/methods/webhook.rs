//! webhook.*

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::NoParams;
use crate::api::rpc::args::{from_raw, optional, required};
use crate::api::rpc::fault::Codes;
use crate::api::rpc::method::{Method, Request, Spec};
use crate::api::rpc::wire::{
    Basic, Batch, Flag, Headers, Object, Rate, Retry, SpanItem, TestedItem, Times, Topics, WebhookDetail, WebhookItem,
    Whole, nullable,
};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::headers::ExtraHeaders;
use crate::domain::id::WebhookId;
use crate::domain::policy::{BasicAuth, Batching, Concurrency, OwnTimeouts, RateLimit};
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::SecretKey;
use crate::domain::target::TargetUrl;
use crate::domain::topic::Patterns;
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, Encoding, Format, Webhook, WebhookChanges, WebhookDefaults};
use crate::service::auth::Caller;
use crate::service::resend::{Backfill, Replay};
use crate::service::webhook::StatusTarget;

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
        Method::with_session(
            Spec {
                name: "webhook.enable",
                summary: "Lifts a disablement by the server, and returns the webhook.",
                params: const { &[required("webhook_id")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::NoWebhook,
            },
            enable,
        ),
        Method::with_session(
            Spec {
                name: "webhook.rotate_secret",
                summary: "Gives a webhook a new secret; the old one signs beside it for a while.",
                params: const { &[required("webhook_id"), optional("secret_key"), optional("overlap_s")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidWebhook,
            },
            rotate_secret,
        ),
        Method::with_session(
            Spec {
                name: "webhook.replay",
                summary: "Sends numbers again that were given out: a range of them, or those since a time.",
                params: const { &[required("webhook_id"), optional("options")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidSelection,
            },
            replay,
        ),
        Method::with_session(
            Spec {
                name: "webhook.backfill",
                summary: "Sends stored events to a webhook as new numbers.",
                params: const { &[required("webhook_id"), optional("options")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidSelection,
            },
            backfill,
        ),
        Method::with_session(
            Spec {
                name: "webhook.test",
                summary: "Sends a webhook a numbered test:ping at once, and waits for the outcome.",
                params: const { &[required("webhook_id"), optional("message")] },
                permission: Some(Permission::WebhookWrite),
                invalid: FaultCode::InvalidEvent,
            },
            test,
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
    encoding: Option<String>,
    retry: Option<Retry>,
    delivery_mode: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    max_concurrency: Option<Option<u32>>,
    #[serde(default, deserialize_with = "nullable")]
    rate_limit: Option<Option<Object<Rate>>>,
    #[serde(default, deserialize_with = "nullable")]
    timeouts: Option<Option<Object<Times>>>,
    #[serde(default, deserialize_with = "nullable")]
    basic_auth: Option<Option<Object<Basic>>>,
    #[serde(default, deserialize_with = "nullable")]
    batch: Option<Option<Object<Batch>>>,
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<Box<RawValue>, Fault> {
    // On the vendor's paths a webhook starts as the vendor's do.
    let defaults = match request.context.codes {
        Codes::Native => WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default },
        Codes::Vendor => WebhookDefaults { format: Format::Shipstream, retry: RetryPolicy::Shipstream },
    };
    let webhook = request.service.create_webhook(&caller, changes(params.webhook.0)?, defaults).await?;
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
    let webhook = request.service.update_webhook(&caller, id, changes(params.changes.0)?).await?;
    detail(&webhook, &caller)
}

fn changes(data: Data) -> Result<WebhookChanges, Fault> {
    checked(data).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))
}

fn checked(data: Data) -> Result<WebhookChanges, Violation> {
    let unknown = |field, known: &str| Violation::new(field, format!("is unknown; there are {known}."));
    let format =
        |name: String| Format::from_name(&name).ok_or_else(|| unknown("format", "envelope, shipstream, 3dcart"));
    let encoding = |name: String| Encoding::from_name(&name).ok_or_else(|| unknown("encoding", "json, xml"));
    let mode = |name: String| {
        DeliveryMode::from_name(&name).ok_or_else(|| unknown("delivery_mode", "parallel, ordered, pull"))
    };
    Ok(WebhookChanges {
        is_active: data.is_active.map(|flag| flag.0),
        topics: data.topics.map(|topics| Patterns::try_new(&topics.0)).transpose()?,
        url: data.url.map(|url| TargetUrl::try_new(&url)).transpose()?,
        extra_headers: data.extra_headers.map(|headers| ExtraHeaders::try_new(&headers.0)).transpose()?,
        secret_key: secret(data.secret_key)?,
        format: data.format.map(format).transpose()?,
        encoding: data.encoding.map(encoding).transpose()?,
        retry: data.retry.map(RetryPolicy::try_from).transpose()?,
        delivery_mode: data.delivery_mode.map(mode).transpose()?,
        max_concurrency: data.max_concurrency.map(|own| own.map(Concurrency::try_new).transpose()).transpose()?,
        rate_limit: data.rate_limit.map(|own| own.map(|own| RateLimit::try_from(own.0)).transpose()).transpose()?,
        timeouts: (data.timeouts)
            .map(|own| own.map_or(Ok(OwnTimeouts::default()), |own| OwnTimeouts::try_from(own.0)))
            .transpose()?,
        basic_auth: data.basic_auth.map(|own| own.map(|own| BasicAuth::try_from(own.0)).transpose()).transpose()?,
        batch: data.batch.map(|own| own.map(|own| Batching::try_from(own.0)).transpose()).transpose()?,
    })
}

/// An empty one means that none was given.
fn secret(text: Option<String>) -> Result<Option<SecretKey>, Violation> {
    text.filter(|text| !text.is_empty()).map(|text| SecretKey::try_new(&text)).transpose()
}

async fn enable(request: Request, caller: Caller, params: ById) -> Result<Box<RawValue>, Fault> {
    let webhook = request.service.enable_webhook(&caller, WebhookId(params.webhook_id.0)).await?;
    detail(&webhook, &caller)
}

#[derive(Deserialize)]
struct RotateSecret {
    webhook_id: Whole,
    secret_key: Option<String>,
    overlap_s: Option<Whole>,
}

async fn rotate_secret(request: Request, caller: Caller, params: RotateSecret) -> Result<Box<RawValue>, Fault> {
    let secret = secret(params.secret_key).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
    let (id, overlap_s) = (WebhookId(params.webhook_id.0), params.overlap_s.map(|seconds| seconds.0));
    let webhook = request.service.rotate_secret(&caller, id, secret, overlap_s).await?;
    detail(&webhook, &caller)
}

#[derive(Deserialize)]
struct ReplayParams {
    webhook_id: Whole,
    options: Option<Object<ReplayOptions>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayOptions {
    from_increment_id: Option<Whole>,
    to_increment_id: Option<Whole>,
    since: Option<String>,
}

async fn replay(request: Request, caller: Caller, params: ReplayParams) -> Result<SpanItem, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let replay = Replay {
        from_increment_id: options.from_increment_id.map(|number| number.0),
        to_increment_id: options.to_increment_id.map(|number| number.0),
        since: options.since,
    };
    request.service.replay(&caller, WebhookId(params.webhook_id.0), replay).await.map(SpanItem::from)
}

#[derive(Deserialize)]
struct BackfillParams {
    webhook_id: Whole,
    options: Option<Object<BackfillOptions>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackfillOptions {
    topics: Option<Topics>,
    since: Option<String>,
}

#[derive(Serialize)]
struct Backfilled {
    through_event_id: i64,
}

async fn backfill(request: Request, caller: Caller, params: BackfillParams) -> Result<Backfilled, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let backfill = Backfill { topics: options.topics.map(|topics| topics.0), since: options.since };
    let through = request.service.backfill(&caller, WebhookId(params.webhook_id.0), backfill).await?;
    Ok(Backfilled { through_event_id: through.0 })
}

#[derive(Deserialize)]
struct Test {
    webhook_id: Whole,
    message: Option<Box<RawValue>>,
}

async fn test(request: Request, caller: Caller, params: Test) -> Result<TestedItem, Fault> {
    let message = params.message.as_deref().map(RawValue::get);
    request.service.test_webhook(&caller, WebhookId(params.webhook_id.0), message).await.map(TestedItem::from)
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
