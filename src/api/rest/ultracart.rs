//! UltraCart's REST API v2: webhooks, the events they
//! subscribe to, the log of their requests, and reflow.
//!
//! A client reads the list, changes a member and sends the whole back, so what
//! is left out of a PUT is removed, as far as this dialect has it; what it
//! lacks stays. Its typed clients raise at a null, so there is none.

mod events;
mod logs;
mod shared;
mod webhook;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::events::{Category, Events, REFLOWED, reflowed};
use self::logs::HttpHeader;
use self::shared::{ById, Metadata, PAGING};
use self::webhook::{Data, Shown, WebhookRow, check_https, named, named_violation};
use super::listing::{Beside, Listing, Rows};
use super::openapi::LIST_LIMIT_MAX;
use super::operation::{Asked, Nothing, Operation};
use super::values::{Int, Switch};
use super::{Dialect, Refusal, key, shown};
use crate::api::list::text_of;
use crate::domain::id::WebhookId;
use crate::domain::retry::RetryPolicy;
use crate::domain::target::{TargetUrl, URL_CHARS_MAX};
use crate::domain::webhook::{Format, Webhook, WebhookDefaults};
use crate::service::Service;
use crate::service::caller::Caller;
use crate::service::resend::Backfill;

/// What webhooks can be sorted by.
const SORTS: [&str; 4] = ["webhook_url", "-webhook_url", "disabled", "-disabled"];
/// Holds what is wrong, for clients that read no further; up to so many characters.
const UC_REST_ERROR: HeaderName = HeaderName::from_static("uc-rest-error");
const UC_REST_ERROR_CHARS_MAX: usize = 1_000;

const WEBHOOKS: &str = "/rest/v2/webhook/webhooks";
const WEBHOOK: &str = "/rest/v2/webhook/webhooks/{webhookOid}";

/// The dialect.
pub fn dialect() -> Dialect {
    Dialect {
        name: "ultracart",
        title: "UltraCart",
        bases: &["/rest/v2"],
        security: || {
            let schemes = json!({
                "SimpleKey": { "type": "apiKey", "in": "header", "name": "x-ultracart-simple-key", "description": "A user's API key." },
                "Bearer": { "type": "http", "scheme": "bearer", "description": "An API key, or a session's key." },
            });
            (schemes, json!([{ "SimpleKey": [] }, { "Bearer": [] }]))
        },
        credentials: |headers| key(headers, "x-ultracart-simple-key"),
        admits: |_, _| true,
        read: |_, body| Ok(body),
        wants_xml: |_| false,
        write: |status, answer, _| super::json(status, answer),
        media: &["application/json"],
        // The vendor knows no 403.
        status: |status| if status == StatusCode::FORBIDDEN { StatusCode::UNAUTHORIZED } else { status },
        refuse,
        refusal: SchemaGenerator::subschema_for::<ErrorResponse>,
        refusal_header: Some((UC_REST_ERROR, "What is wrong, in ASCII.")),
        operations: operations(),
    }
}

fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, WEBHOOKS, ("getWebhooks", "Lists webhooks."), list),
        Operation::new(Method::POST, WEBHOOKS, ("insertWebhook", "Makes a webhook."), insert),
        Operation::new(
            Method::DELETE,
            WEBHOOKS,
            ("deleteWebhookByUrl", "Deletes the oldest webhook with a URL."),
            delete_by_url,
        ),
        Operation::new(
            Method::PUT,
            WEBHOOK,
            ("updateWebhook", "Changes a webhook; what is left out is removed."),
            update,
        ),
        Operation::new(Method::DELETE, WEBHOOK, ("deleteWebhook", "Deletes a webhook."), delete)
            .answers(StatusCode::NO_CONTENT),
        Operation::new(
            Method::GET,
            "/rest/v2/webhook/webhook_event_categories",
            ("getWebhookEventCategories", "Lists what a webhook can subscribe to."),
            list_categories,
        ),
        Operation::new(
            Method::GET,
            "/rest/v2/webhook/webhooks/{webhookOid}/logs",
            ("getWebhookLogSummaries", "Lists the requests that were made to a webhook, the last first."),
            logs::list,
        ),
        Operation::new(
            Method::GET,
            "/rest/v2/webhook/webhooks/{webhookOid}/logs/{requestId}",
            ("getWebhookLog", "Returns a request that was made to a webhook."),
            logs::get,
        ),
        Operation::new(
            Method::POST,
            "/rest/v2/webhook/webhooks/{webhookOid}/reflow/{eventName}",
            ("resendEvent", "Sends all stored events of a name to a webhook, as new ones."),
            reflow,
        ),
    ]
}

/// What is said of a failure.
#[derive(JsonSchema, Serialize)]
struct Error {
    /// For developers.
    developer_message: String,
    /// The status of the answer.
    error_code: String,
    /// Where to read more.
    more_info: &'static str,
    /// The webhook that it is about, as the path names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<String>,
    /// For everybody else.
    user_message: &'static str,
}

/// What is refused.
#[derive(JsonSchema, Serialize)]
struct ErrorResponse {
    error: Error,
    metadata: Metadata,
    /// False.
    success: bool,
}

fn refuse(refusal: &Refusal, _: &HeaderMap) -> Response {
    let error = Error {
        developer_message: refusal.message.clone(),
        error_code: refusal.status.as_str().to_owned(),
        more_info: "/openapi/ultracart.json",
        object_id: refusal.object.as_deref().map(shown),
        user_message: match refusal.status {
            StatusCode::UNAUTHORIZED => "You are not allowed to do this.",
            StatusCode::NOT_FOUND => "This does not exist.",
            StatusCode::GONE => "This application has been disabled.",
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "Please try again in a moment.",
            status if status.is_server_error() => "Something went wrong on the server.",
            _ => "The request can't be carried out as it is.",
        },
    };
    // A header holds no other characters, and clients take a short one only.
    let chars = refusal.message.chars().take(UC_REST_ERROR_CHARS_MAX);
    let plain: String = chars.map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    let body = ErrorResponse { error, metadata: Metadata::default(), success: false };
    let mut response = super::json(refusal.status, &body).into_response();
    response.headers_mut().insert(UC_REST_ERROR, HeaderValue::from_str(&plain).expect("these characters are allowed"));
    response
}

/// Whether events that a webhook does not subscribe to are shown.
#[derive(Deserialize, JsonSchema)]
struct Placeholders {
    /// Whether events that a webhook does not subscribe to are shown, too.
    #[schemars(example = false)]
    #[serde(rename = "_placeholders")]
    placeholders: Option<Switch>,
}

/// Which webhooks.
#[derive(Deserialize, JsonSchema)]
struct List {
    /// The most records; 100 by default. There are fewer where the answer would be too long; `more` says so.
    #[schemars(range(min = 1), extend("maximum" = LIST_LIMIT_MAX), example = 200)]
    #[serde(rename = "_limit")]
    limit: Option<Int>,
    /// How many to pass over.
    #[schemars(range(min = 0, max = u32::MAX), example = 0)]
    #[serde(rename = "_offset")]
    offset: Option<Int>,
    /// `webhook_url` or `disabled`, with a `-` in front for the reverse; by default the oldest come first.
    #[schemars(extend("enum" = SORTS), example = &"-webhook_url")]
    #[serde(rename = "_sort")]
    sort: Option<String>,
    /// Whether events that a webhook does not subscribe to are shown, too.
    #[schemars(example = true)]
    #[serde(rename = "_placeholders")]
    placeholders: Option<Switch>,
}

#[derive(JsonSchema, Serialize)]
struct WebhooksResponse {
    metadata: Metadata,
    success: bool,
}

impl Beside for WebhooksResponse {
    const LIST: &'static str = "webhooks";
    type Row = WebhookRow;
}

async fn list(asked: Asked<Nothing, List, Nothing>) -> Result<Listing<WebhooksResponse>, Refusal> {
    let Asked { service, caller, query, bytes_max, .. } = asked;
    let window = PAGING.read(query.limit, query.offset, service.list_limit_max())?;
    let ids = sorted(&service, &caller, query.sort.as_deref()).await?;
    let total = ids.len();
    let shown = Shown::new(&service, &caller, query.placeholders).await?;
    let mut rows = Rows::begin(bytes_max);
    let mut more = window.skip.saturating_add(window.take) < total;
    for id in ids.into_iter().skip(window.skip).take(window.take) {
        let Some(webhook) = service.find_webhook(&caller, id).await? else { continue };
        let row = match shown.row(&webhook).await {
            // Deleted in between.
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => continue,
            row => row?,
        };
        // With a large catalogue it takes long to write.
        let text = service.apart(&caller, move || text_of(&row)).await??;
        if !rows.write_text(&text).await {
            more = true;
            break;
        }
    }
    let metadata = Metadata::of_list("webhooks", window, rows.count(), more, Some(total));
    rows.end(&WebhooksResponse { metadata, success: true })
}

/// The ids of all webhooks in the order that a client asks for.
async fn sorted(service: &Service, caller: &Caller, text: Option<&str>) -> Result<Vec<WebhookId>, Refusal> {
    let Some(text) = text else { return Ok(service.webhook_ids(caller).await?) };
    let (name, is_descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    let key = match name {
        "webhook_url" => |webhook: &Webhook| webhook.spec.url.as_ref().map(|url| url.as_str().to_owned()),
        "disabled" => |webhook: &Webhook| {
            let is_disabled = webhook.disabled.is_some() || !webhook.spec.is_active;
            is_disabled.then(String::new)
        },
        _ => {
            let shown = shown(text);
            let problem = format!("is nothing to sort by; there are {}.", SORTS.join(", "));
            return Err(Refusal::bad(format!("_sort: {shown:?} {problem}")));
        }
    };
    let mut keys = service.pick_webhooks(caller, |webhook| Some((key(webhook), webhook.webhook_id))).await?;
    // Stable: those that are equal stay in the order of their ids.
    keys.sort_by(|(one, _), (other, _)| if is_descending { other.cmp(one) } else { one.cmp(other) });
    Ok(keys.into_iter().map(|(_, id)| id).collect())
}

#[derive(JsonSchema, Serialize)]
struct WebhookResponse {
    metadata: Metadata,
    success: bool,
    webhook: WebhookRow,
}

impl WebhookResponse {
    fn new(webhook: WebhookRow) -> Self {
        Self { metadata: Metadata::of("webhook"), success: true, webhook }
    }
}

async fn insert(asked: Asked<Nothing, Placeholders, Data>) -> Result<WebhookResponse, Refusal> {
    let Asked { service, caller, query, body, .. } = asked;
    let caller = caller.as_writer()?;
    let shown = Shown::new(&service, &caller, query.placeholders).await?;
    let changes = body.changes(&shown.events, None, service.is_dev())?;
    let defaults = WebhookDefaults { format: Format::UltraCart, retry: RetryPolicy::Default };
    let webhook = service.create_webhook(&caller, changes, defaults).await.map_err(named)?;
    Ok(WebhookResponse::new(shown.row(&webhook).await?))
}

async fn update(asked: Asked<ById, Placeholders, Data>) -> Result<WebhookResponse, Refusal> {
    let Asked { service, caller, path, query, body, .. } = asked;
    let caller = caller.as_writer()?;
    let old = service.get_webhook(&caller, path.webhook()).await?;
    let shown = Shown::new(&service, &caller, query.placeholders).await?;
    let changes = body.changes(&shown.events, Some(&old.spec), service.is_dev())?;
    let webhook = service.update_webhook(&caller, path.webhook(), changes).await.map_err(named)?;
    Ok(WebhookResponse::new(shown.row(&webhook).await?))
}

async fn delete(asked: Asked<ById, Nothing, Nothing>) -> Result<Nothing, Refusal> {
    asked.service.delete_webhook(&asked.caller, asked.path.webhook()).await?;
    Ok(Nothing {})
}

/// Which webhook; whatever else a webhook has is passed over.
#[derive(Deserialize, JsonSchema)]
struct ByUrl {
    /// Its URL.
    #[schemars(extend("format" = "uri"), length(max = URL_CHARS_MAX), example = &"https://example.com/old-hook")]
    webhook_url: String,
}

async fn delete_by_url(asked: Asked<Nothing, Nothing, ByUrl>) -> Result<WebhookResponse, Refusal> {
    let Asked { service, caller, body, .. } = asked;
    let caller = caller.as_writer()?;
    let wanted = TargetUrl::try_new(body.webhook_url.trim()).map_err(named_violation)?;
    let posts_there = |webhook: &Webhook| webhook.spec.url.as_ref().is_some_and(|url| url.url() == wanted.url());
    let pick = |webhook: &Webhook| posts_there(webhook).then_some(webhook.webhook_id);
    let found = match service.pick_webhooks(&caller, pick).await?.first() {
        Some(id) => service.find_webhook(&caller, *id).await?.filter(posts_there),
        None => None,
    };
    let found = found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "No webhook posts to this URL."))?;
    let row = Shown::new(&service, &caller, None).await?.row(&found).await?;
    service.delete_webhook(&caller, found.webhook_id).await?;
    Ok(WebhookResponse::new(row))
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookEventCategoriesResponse")]
struct CategoriesResponse {
    metadata: Metadata,
    success: bool,
    event_categories: Vec<Category>,
}

async fn list_categories(asked: Asked<Nothing, Nothing, Nothing>) -> Result<CategoriesResponse, Refusal> {
    let Asked { service, caller, bytes_max, .. } = asked;
    let events = Events::load(&service, &caller).await?;
    let event_categories = service.apart(&caller, move || events.all(bytes_max)).await?;
    Ok(CategoriesResponse { metadata: Metadata::of("event_categories"), success: true, event_categories })
}

/// Which events, and to which webhook.
#[derive(Deserialize, JsonSchema)]
struct ByEvent {
    /// The webhook.
    #[schemars(example = 1)]
    #[serde(rename = "webhookOid")]
    webhook_oid: Int,
    /// The name of the events.
    #[schemars(extend("enum" = REFLOWED), example = &"order_create")]
    #[serde(rename = "eventName")]
    event_name: String,
}

#[derive(JsonSchema, Serialize)]
struct WebhookReflowResponse {
    metadata: Metadata,
    success: bool,
    reflow: Reflow,
    /// The first request; left out if there is no such event.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_sample_request: Option<SampleRequest>,
}

/// What is sent again.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookReflow")]
struct Reflow {
    /// The name of the events.
    event_name: String,
    /// True.
    queued: bool,
}

/// The first request, unless something else comes before it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookSampleRequest")]
struct SampleRequest {
    /// The body.
    request: String,
    /// The headers; credentials read `[redacted]`.
    request_headers: Vec<HttpHeader>,
    /// Its id.
    request_id: String,
    /// Where it goes; left out if the receiver pulls.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
}

async fn reflow(asked: Asked<ByEvent, Nothing, Nothing>) -> Result<WebhookReflowResponse, Refusal> {
    let Asked { service, caller, path, .. } = asked;
    let caller = caller.as_writer()?;
    let (id, event_name) = (WebhookId(path.webhook_oid.0), path.event_name);
    let webhook = service.get_webhook(&caller, id).await?;
    let topic = reflowed(&event_name)?;
    webhook.spec.url.as_ref().map_or(Ok(()), |url| check_https(url, &(&topic).into(), service.is_dev()))?;
    let sample = service.preview(&caller, &webhook, &topic).await?;
    service.backfill(&caller, id, Backfill { topics: Some(topic.to_string()), ..Backfill::default() }).await?;
    let webhook_sample_request = sample.map(|sample| SampleRequest {
        request: String::from_utf8_lossy(&sample.body).into_owned(),
        request_headers: HttpHeader::list(&sample.headers),
        request_id: logs::request_id_of(&sample.message_id, 1),
        uri: webhook.spec.url.map(|url| url.as_str().to_owned()),
    });
    let reflow = Reflow { event_name, queued: true };
    Ok(WebhookReflowResponse { metadata: Metadata::of("reflow"), success: true, reflow, webhook_sample_request })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_refusal_is_plain_and_bounded() {
        let headers = |message: String| {
            let response = refuse(&Refusal::bad(message), &HeaderMap::new());
            response.headers()[UC_REST_ERROR].to_str().unwrap().to_owned()
        };
        assert_eq!(headers("no \u{e4}\r\nat all".to_owned()), "no ???at all");
        assert_eq!(headers("x".repeat(5_000)).len(), UC_REST_ERROR_CHARS_MAX);
    }
}
