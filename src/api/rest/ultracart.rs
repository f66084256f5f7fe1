//! UltraCart's REST API v2 (seed 001, WIRE §3): webhooks, the events they
//! subscribe to, the log of their requests, and reflow.
//!
//! A client reads the list, changes a member and sends the whole back, so what
//! is left out of a PUT is removed, as far as this dialect has it; what it
//! lacks stays. Its typed clients raise at a null, so there is none.

mod events;
mod logs;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::events::{Category, CategoryData, Events};
use self::logs::HttpHeader;
use super::operation::{Asked, Nothing, Operation};
use super::values::{Int, Object, Switch, time};
use super::{Dialect, Refusal, catalogue, key};
use crate::domain::fault::{Fault, Violation};
use crate::domain::id::{UserId, WebhookId};
use crate::domain::policy::{BATCH_EVENTS, BasicAuth, Batching};
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::generate_credential;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Pattern, Patterns};
use crate::domain::user::{Permission, Profile};
use crate::domain::webhook::{Encoding, Format, Webhook, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::service::Service;
use crate::service::auth::Caller;
use crate::service::resend::Backfill;
use crate::service::webhook::{WebhookPage, WebhookSelection};

/// The one version of the objects that there is.
const API_VERSION: &str = "2017-03-01";
/// The longest name that the vendor's clients take, in characters.
const NAME_CHARS_MAX: usize = 80;
/// How many records are shown unless the client says otherwise (seed 001).
const LIMIT_DEFAULT: usize = 100;
/// Categories whose events carry what is known of customers, and so go over
/// https only (WIRE §3).
const CUSTOMER_DATA: [&str; 5] = ["auto_order", "chargeback", "checkout", "customer", "order"];
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
            ("deleteWebhookByUrl", "Deletes the webhook that has been posting to a URL the longest."),
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

/// What is said of an answer.
#[derive(Default, JsonSchema, Serialize)]
#[schemars(rename = "ResponseMetadata")]
struct Metadata {
    /// The member with what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_name: Option<&'static str>,
    /// Which part of a list it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_set: Option<ResultSet>,
}

/// A part of a list.
#[derive(JsonSchema, Serialize)]
struct ResultSet {
    /// How many records there are in it.
    count: usize,
    /// The most there could be.
    limit: usize,
    /// The place of the first, from 0.
    offset: usize,
    /// Whether there are more behind them.
    more: bool,
    /// The place of the next, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<usize>,
    /// How many there are in all, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_records: Option<usize>,
}

impl Metadata {
    fn of_one(payload_name: &'static str) -> Self {
        Self { payload_name: Some(payload_name), result_set: None }
    }

    fn of_list(payload_name: &'static str, page: Page, count: usize, more: bool, total_records: Option<usize>) -> Self {
        let Page { limit, offset } = page;
        let next_offset = more.then_some(offset + count);
        let result_set = ResultSet { count, limit, offset, more, next_offset, total_records };
        Self { payload_name: Some(payload_name), result_set: Some(result_set) }
    }
}

/// Which part of a list.
#[derive(Clone, Copy)]
struct Page {
    limit: usize,
    offset: usize,
}

impl Page {
    fn read(limit: Option<Int>, offset: Option<Int>, max: u32) -> Result<Self, Refusal> {
        let max = max as usize;
        let limit = limit.map_or(Ok(LIMIT_DEFAULT.min(max)), |limit| usize::try_from(limit.0));
        let limit = limit.ok().filter(|limit| (1..=max).contains(limit));
        let offset = offset.map_or(Ok(0), |offset| u32::try_from(offset.0));
        Ok(Self {
            limit: limit.ok_or_else(|| Refusal::bad(format!("_limit: must be 1 to {max}.")))?,
            offset: offset.map_err(|_| Refusal::bad(format!("_offset: must be 0 to {}.", u32::MAX)))? as usize,
        })
    }
}

/// A webhook.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Webhook")]
struct WebhookRow {
    /// Its id.
    webhook_oid: i64,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// What its owner says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    merchant_comments: String,
    /// Where its events are posted to; left out if its receiver pulls.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
    /// The merchant's code.
    merchant_id: String,
    /// The id of the user who made it.
    api_user_oid: i64,
    /// The application of that user, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_profile: Option<ApplicationProfile>,
    /// The version of the objects that are sent.
    api_version: &'static str,
    /// `none` or `basic`.
    authentication_type: &'static str,
    /// The user name that is sent along.
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_username: Option<String>,
    /// The password; left out for a caller who may not change webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_password: Option<String>,
    /// Whether events are sent in gzip.
    compress_events: bool,
    /// The most events in a request; one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_events: Option<u32>,
    /// The most bytes of a request with several events.
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_size: Option<u32>,
    /// What it subscribes to.
    event_categories: Vec<Category>,
    /// Whether nothing is sent to it.
    disabled: bool,
    /// Failures since the last success.
    consecutive_failures: u32,
    /// When it is tried again, if it has been failing.
    #[schemars(schema_with = "time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_retry_after: Option<String>,
    /// How many events are to be sent to it.
    pending: u64,
}

/// The application of a user.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ApiUserApplicationProfile")]
struct ApplicationProfile {
    /// Where its logo is.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_application_logo_url: Option<String>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_description: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_name: Option<String>,
    /// Who makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    developer_name: Option<String>,
    /// Where its makers are on the web.
    #[serde(skip_serializing_if = "Option::is_none")]
    developer_website: Option<String>,
}

impl From<&Profile> for ApplicationProfile {
    fn from(profile: &Profile) -> Self {
        let profile = profile.clone();
        Self {
            api_application_logo_url: profile.application_logo_url,
            application_description: profile.application_description,
            application_name: profile.application_name,
            developer_name: profile.developer_name,
            developer_website: profile.developer_website,
        }
    }
}

/// What it takes to show webhooks.
struct Shown<'a> {
    service: &'a Service,
    caller: &'a Caller,
    events: Events,
    profiles: Vec<(UserId, Profile)>,
    placeholders: bool,
}

impl<'a> Shown<'a> {
    async fn new(service: &'a Service, caller: &'a Caller, placeholders: Option<Switch>) -> Result<Self, Refusal> {
        let events = Events::new(catalogue(service, caller).await?);
        let profiles = service.profiles(caller).await?;
        Ok(Self { service, caller, events, profiles, placeholders: placeholders.is_some_and(|wanted| wanted.0) })
    }

    async fn row(&self, webhook: &Webhook) -> Result<WebhookRow, Refusal> {
        let spec = &webhook.spec;
        let backlog = self.service.backlog(self.caller, webhook.webhook_id).await?;
        let profile = self.profiles.iter().find(|(user, _)| *user == webhook.created_by);
        let sees_secrets = self.caller.permissions.allow(Permission::WebhookWrite);
        let next_attempt_at = backlog.next_attempt_at.filter(|_| webhook.consecutive_failures > 0);
        Ok(WebhookRow {
            webhook_oid: webhook.webhook_id.0,
            name: shown_name(spec),
            merchant_comments: spec.description.clone(),
            webhook_url: spec.url.as_ref().map(|url| url.as_str().to_owned()),
            merchant_id: self.caller.merchant_code.clone(),
            api_user_oid: webhook.created_by.0,
            application_profile: profile.map(|(_, profile)| profile.into()),
            api_version: API_VERSION,
            authentication_type: if spec.basic_auth.is_some() { "basic" } else { "none" },
            basic_username: spec.basic_auth.as_ref().map(|basic| basic.username().to_owned()),
            basic_password: (spec.basic_auth.as_ref().filter(|_| sees_secrets))
                .map(|basic| basic.expose_password().to_owned()),
            compress_events: spec.format == Format::UltraCartGzip,
            maximum_events: spec.batch.map(Batching::max_events),
            maximum_size: spec.batch.map(Batching::max_bytes),
            event_categories: self.events.of(spec, self.placeholders),
            disabled: webhook.disabled.is_some() || !spec.is_active,
            consecutive_failures: webhook.consecutive_failures,
            next_retry_after: next_attempt_at.filter(|_| webhook.is_delivering()).map(Timestamp::rfc3339_ms),
            pending: backlog.pending,
        })
    }
}

fn shown_name(spec: &WebhookSpec) -> String {
    spec.name.chars().take(NAME_CHARS_MAX).collect()
}

/// Whether events that a webhook does not subscribe to are shown.
#[derive(Deserialize, JsonSchema)]
struct Placeholders {
    /// Whether events that a webhook does not subscribe to are shown, too.
    #[serde(rename = "_placeholders")]
    placeholders: Option<Switch>,
}

/// Which webhooks.
#[derive(Deserialize, JsonSchema)]
struct List {
    /// The most records; 100 by default, up to `list_limit_max`.
    #[schemars(range(min = 1))]
    #[serde(rename = "_limit")]
    limit: Option<Int>,
    /// How many to pass over.
    #[schemars(range(min = 0))]
    #[serde(rename = "_offset")]
    offset: Option<Int>,
    /// `webhook_url` or `disabled`, with a `-` in front for the reverse; by default the oldest come first.
    #[serde(rename = "_sort")]
    sort: Option<String>,
    /// Whether events that a webhook does not subscribe to are shown, too.
    #[serde(rename = "_placeholders")]
    placeholders: Option<Switch>,
}

#[derive(JsonSchema, Serialize)]
struct WebhooksResponse {
    metadata: Metadata,
    success: bool,
    webhooks: Vec<WebhookRow>,
}

async fn list(asked: Asked<Nothing, List, Nothing>) -> Result<WebhooksResponse, Refusal> {
    let Asked { service, caller, query, .. } = asked;
    let page = Page::read(query.limit, query.offset, service.list_limit_max())?;
    let mut webhooks = service.list_webhooks(&caller, WebhookSelection::default(), WebhookPage::default()).await?;
    sort(&mut webhooks, query.sort.as_deref())?;
    let total = webhooks.len();
    let shown = Shown::new(&service, &caller, query.placeholders).await?;
    let mut rows = Vec::new();
    for webhook in webhooks.iter().skip(page.offset).take(page.limit) {
        match shown.row(webhook).await {
            Ok(row) => rows.push(row),
            // Deleted in between.
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let more = page.offset.saturating_add(page.limit) < total;
    let metadata = Metadata::of_list("webhooks", page, rows.len(), more, Some(total));
    Ok(WebhooksResponse { metadata, success: true, webhooks: rows })
}

fn sort(webhooks: &mut [Webhook], text: Option<&str>) -> Result<(), Refusal> {
    let Some(text) = text else { return Ok(()) };
    let (name, is_descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    // Stable: those that are equal stay in the order of their ids.
    match name {
        "webhook_url" => webhooks.sort_by(|one, other| {
            let url = |webhook: &Webhook| webhook.spec.url.as_ref().map(|url| url.as_str().to_owned());
            if is_descending { url(other).cmp(&url(one)) } else { url(one).cmp(&url(other)) }
        }),
        "disabled" => webhooks.sort_by_key(|webhook| {
            let is_disabled = webhook.disabled.is_some() || !webhook.spec.is_active;
            is_disabled != is_descending
        }),
        _ => {
            let shown: String = text.chars().take(80).collect();
            let problem = "is nothing to sort by; there are webhook_url, -webhook_url, disabled, -disabled.";
            return Err(Refusal::bad(format!("_sort: {shown:?} {problem}")));
        }
    }
    Ok(())
}

/// What is said of a webhook; what is not listed here is passed over.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookData")]
struct Data {
    /// Where its events are posted to; over https, if they are of customers.
    webhook_url: Option<String>,
    /// Its name.
    #[schemars(length(max = NAME_CHARS_MAX))]
    name: Option<String>,
    /// What its owner says of it.
    merchant_comments: Option<String>,
    /// `none` or `basic`.
    authentication_type: Option<String>,
    /// The user name to send along; one is made for `basic` without one.
    basic_username: Option<String>,
    /// The password to send along; one is made for `basic` without one.
    basic_password: Option<String>,
    /// The version of the objects that are sent: `2017-03-01`.
    api_version: Option<String>,
    /// The most events in a request; one by default.
    #[schemars(range(min = *BATCH_EVENTS.start(), max = *BATCH_EVENTS.end()))]
    maximum_events: Option<Int>,
    /// The most bytes of a request with several events.
    maximum_size: Option<Int>,
    /// Whether events are sent in gzip.
    compress_events: Option<Switch>,
    /// What it subscribes to.
    event_categories: Option<Vec<Object<CategoryData>>>,
}

impl Data {
    /// What it makes of a webhook, or of none: what is left out is removed.
    fn changes(self, events: &Events, old: Option<&WebhookSpec>, is_dev: bool) -> Result<WebhookChanges, Refusal> {
        if let Some(version) =
            self.api_version.as_deref().filter(|version| !version.is_empty() && *version != API_VERSION)
        {
            let shown: String = version.chars().take(80).collect();
            return Err(Refusal::bad(format!("api_version: {shown:?} is none; there is {API_VERSION}.")));
        }
        let basic_auth = self.basic_auth(old.and_then(|old| old.basic_auth.as_ref()))?;
        let batch = self.batch(old.and_then(|old| old.batch))?;
        let (topics, expansions) = events.read(self.event_categories.unwrap_or_default(), old)?;
        let url = self.webhook_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let url = url.map(TargetUrl::try_new).transpose().map_err(named_violation)?;
        if url.is_none() && old.is_none_or(|old| old.url.is_some()) {
            return Err(Refusal::bad("webhook_url: is missing; give one such as https://example.com/hook."));
        }
        // What is as it was is not judged again.
        let url = url.filter(|url| old.is_none_or(|old| old.url.as_ref() != Some(url)));
        if url.is_some() || topics.is_some() {
            let target = url.as_ref().or(old.and_then(|old| old.url.as_ref()));
            let none = Patterns::none();
            let patterns = topics.as_ref().or(old.map(|old| &old.topics)).unwrap_or(&none);
            target.map_or(Ok(()), |target| check_https(target, patterns, is_dev))?;
        }
        let is_own = old.is_none_or(|old| matches!(old.format, Format::UltraCart | Format::UltraCartGzip));
        let encoding = match self.compress_events.is_some_and(|wanted| wanted.0) {
            true => Some(Encoding::Gzip),
            false => is_own.then_some(Encoding::Json),
        };
        let name = self.name.unwrap_or_default();
        let chars = name.chars().count();
        if chars > NAME_CHARS_MAX {
            return Err(Refusal::bad(format!("name: has {chars} characters; up to {NAME_CHARS_MAX} are allowed.")));
        }
        Ok(WebhookChanges {
            // One that was cut to be shown is no other.
            name: Some(name).filter(|name| old.is_none_or(|old| shown_name(old) != *name)),
            description: Some(self.merchant_comments.unwrap_or_default()),
            url,
            topics: topics.or_else(|| old.is_none().then(Patterns::none)),
            expansions: Some(expansions),
            encoding,
            basic_auth: Some(basic_auth),
            batch: Some(batch),
            ..WebhookChanges::default()
        })
    }

    /// Credentials that are missing are made; those of a webhook that has some
    /// stay where nothing is said.
    fn basic_auth(&self, old: Option<&BasicAuth>) -> Result<Option<BasicAuth>, Refusal> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (username, password) = (given(&self.basic_username), given(&self.basic_password));
        match self.authentication_type.as_deref() {
            Some("basic") => {}
            Some("none") => return Ok(None),
            None | Some("") if username.is_none() && password.is_none() => return Ok(None),
            None | Some("") => {}
            Some(other) => {
                let shown: String = other.chars().take(80).collect();
                let problem = "is not supported; there are none and basic.";
                return Err(Refusal::bad(format!("authentication_type: {shown:?} {problem}")));
            }
        }
        let username = username.or_else(|| old.map(|old| old.username().to_owned()));
        let kept = old.filter(|old| username.as_deref() == Some(old.username()));
        let password = password.or_else(|| kept.map(|old| old.expose_password().to_owned()));
        let (username, password) =
            (username.unwrap_or_else(generate_credential), password.unwrap_or_else(generate_credential));
        BasicAuth::try_new(&username, &password).map(Some).map_err(named_violation)
    }

    fn batch(&self, old: Option<Batching>) -> Result<Option<Batching>, Refusal> {
        if self.maximum_events.is_none() && self.maximum_size.is_none() {
            return Ok(None);
        }
        let number = |name: &str, given: Option<Int>| {
            let read = given.map(|given| u32::try_from(given.0)).transpose();
            read.map_err(|_| Refusal::bad(format!("{name}: must be 0 to {}.", u32::MAX)))
        };
        let events = number("maximum_events", self.maximum_events)?.unwrap_or(*BATCH_EVENTS.end());
        let bytes = number("maximum_size", self.maximum_size)?;
        Batching::try_new(events, bytes, old.map(Batching::wait_ms)).map(Some).map_err(named_violation)
    }
}

/// What is known of customers goes over https, or stays on a machine where
/// things are tried out.
fn check_https(url: &TargetUrl, patterns: &Patterns, is_dev: bool) -> Result<(), Refusal> {
    let is_of_customers = |pattern: &Pattern| match pattern {
        Pattern::Everything => true,
        Pattern::Resource(resource) => CUSTOMER_DATA.contains(&resource.as_str()),
        Pattern::Exact(topic) => CUSTOMER_DATA.contains(&topic.resource()),
    };
    let is_loopback = match url.url().host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.url().scheme() == "https" || (is_dev && is_loopback) || !patterns.list().iter().any(is_of_customers) {
        return Ok(());
    }
    Err(Refusal::bad("webhook_url: must be https, since it is to get events with the data of customers."))
}

fn named_violation(violation: Violation) -> Refusal {
    Refusal::bad(format!("{}: {}", own_name(violation.field).unwrap_or(violation.field), violation.problem))
}

/// A fault in the dialect's own names.
fn named(fault: Fault) -> Refusal {
    let own = fault.field.as_deref().and_then(own_name).map(str::to_owned);
    match own {
        Some(own) => Fault { field: Some(own), ..fault }.into(),
        None => fault.into(),
    }
}

fn own_name(field: &str) -> Option<&'static str> {
    Some(match field {
        "url" => "webhook_url",
        "description" => "merchant_comments",
        "topics" | "expansions" => "event_categories",
        "basic_auth" => "authentication_type",
        "basic_auth.username" => "basic_username",
        "basic_auth.password" => "basic_password",
        "batch" | "batch.max_events" => "maximum_events",
        "batch.max_size" => "maximum_size",
        "encoding" => "compress_events",
        _ => return None,
    })
}

#[derive(JsonSchema, Serialize)]
struct WebhookResponse {
    metadata: Metadata,
    success: bool,
    webhook: WebhookRow,
}

impl WebhookResponse {
    fn new(webhook: WebhookRow) -> Self {
        Self { metadata: Metadata::of_one("webhook"), success: true, webhook }
    }
}

async fn insert(asked: Asked<Nothing, Placeholders, Data>) -> Result<WebhookResponse, Refusal> {
    let Asked { service, caller, query, body, .. } = asked;
    let shown = Shown::new(&service, &caller, query.placeholders).await?;
    let changes = body.changes(&shown.events, None, service.is_dev())?;
    let defaults = WebhookDefaults { format: Format::UltraCart, retry: RetryPolicy::Default };
    let webhook = service.create_webhook(&caller, changes, defaults).await.map_err(named)?;
    Ok(WebhookResponse::new(shown.row(&webhook).await?))
}

/// Which webhook.
#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The webhook.
    #[serde(rename = "webhookOid")]
    webhook_oid: Int,
}

impl ById {
    fn webhook(&self) -> WebhookId {
        WebhookId(self.webhook_oid.0)
    }
}

async fn update(asked: Asked<ById, Placeholders, Data>) -> Result<WebhookResponse, Refusal> {
    let Asked { service, caller, path, query, body } = asked;
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
    webhook_url: String,
}

async fn delete_by_url(asked: Asked<Nothing, Nothing, ByUrl>) -> Result<WebhookResponse, Refusal> {
    let Asked { service, caller, body, .. } = asked;
    let webhooks = service.list_webhooks(&caller, WebhookSelection::default(), WebhookPage::default()).await?;
    // As it would be kept.
    let wanted = TargetUrl::try_new(body.webhook_url.trim()).map_err(named_violation)?;
    let found = webhooks.into_iter().find(|webhook| webhook.spec.url.as_ref() == Some(&wanted));
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
    let event_categories = Events::new(catalogue(&asked.service, &asked.caller).await?).all();
    Ok(CategoriesResponse { metadata: Metadata::of_one("event_categories"), success: true, event_categories })
}

/// Which events, and to which webhook.
#[derive(Deserialize, JsonSchema)]
struct ByEvent {
    /// The webhook.
    #[serde(rename = "webhookOid")]
    webhook_oid: Int,
    /// The name of the events: `item_update` or `order_create`.
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

/// The first stored event as it goes out, alone, if nothing else comes before it.
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
    let (id, event_name) = (WebhookId(path.webhook_oid.0), path.event_name);
    let webhook = service.get_webhook(&caller, id).await?;
    let topic = events::reflowed(&event_name)?;
    let sample = service.preview(&caller, &webhook, &topic).await?;
    service.backfill(&caller, id, Backfill { topics: Some(topic.to_string()), since: None }).await?;
    let webhook_sample_request = sample.map(|sample| SampleRequest {
        request: String::from_utf8_lossy(&sample.body).into_owned(),
        request_headers: HttpHeader::list(&sample.headers),
        request_id: logs::request_id_of(&sample.message_id, 1),
        uri: webhook.spec.url.map(|url| url.as_str().to_owned()),
    });
    let reflow = Reflow { event_name, queued: true };
    Ok(WebhookReflowResponse { metadata: Metadata::of_one("reflow"), success: true, reflow, webhook_sample_request })
}
