//! Babel's licensing service: subscriptions, and their events.
//!
//! An event's id is its increment_id within the subscription. Deliveries go
//! out in our own format, since nothing is known of the vendor's.

mod rows;
mod search;

use std::collections::BTreeMap;

use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use self::rows::{
    Chosen, EVENT_FIELDS, EVENT_SORTS, Events, SUBSCRIPTION_EXTRAS, SUBSCRIPTION_FIELDS, Subscription, row,
};
use self::search::Search;
use super::listing::{Beside, Listing, Rows};
use super::openapi::LIST_LIMIT_MAX;
use super::operation::{Asked, Nothing, Operation};
use super::query::{Filter, Select, Sort};
use super::values::{ById, Int, Object, Switch};
use super::window::{Paging, Window};
use super::{Dialect, Refusal, key, next_topics};
use crate::api::list::text_of;
use crate::domain::delivery::Attempt;
use crate::domain::fault::{Fault, Violation};
use crate::domain::headers::{EXTRA_HEADERS_BYTES_MAX, EXTRA_HEADERS_MAX, ExtraHeaders};
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::retry::{RETRIES_MAX, RetryPolicy, Waits};
use crate::domain::secret::{SECRET_CHARS_MAX, SECRET_CHARS_MIN, SecretKey};
use crate::domain::target::{TargetUrl, URL_CHARS_MAX};
use crate::domain::topic::{Patterns, TOPIC_WORD};
use crate::domain::webhook::{Format, NAME_CHARS_MAX, Webhook, WebhookChanges, WebhookDefaults};
use crate::service::caller::Caller;

/// What a subscription retries unless it says otherwise, and how often.
const RETRIES_DEFAULT: u32 = 10;
const RETRY_INTERVAL_S: u32 = 300;
/// How clients say which part of a list they want.
const PAGING: Paging = Paging { take: "take", take_min: 0, take_default: 100, skip: "skip", skip_max: None };
/// The most bytes of messages and answers' bodies with the subscriptions of one
/// answer. Further events are shown there without them.
const INCLUDED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much longer a text may be as JSON.
const JSON_TIMES: usize = 8;
/// The most subscriptions that are shown with their events at once.
const INCLUDING_MAX: usize = 20;

const SUBSCRIPTIONS: &str = "/v1/webhooks/subscriptions";
const SUBSCRIPTION: &str = "/v1/webhooks/subscriptions/{id}";
const EVENTS: &str = "/v1/webhooks/subscriptions/{id}/events";

/// The dialect.
pub fn dialect() -> Dialect {
    Dialect {
        name: "babel",
        title: "Babel",
        bases: &["/v1/webhooks"],
        security: || {
            let schemes = json!({
                "ApiKey": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A user's API key." },
                "Bearer": { "type": "http", "scheme": "bearer", "description": "An API key, or a session's key." },
            });
            (schemes, json!([{ "ApiKey": [] }, { "Bearer": [] }]))
        },
        credentials: |headers| key(headers, "x-api-key"),
        admits: |_, _| true,
        read: |_, body| Ok(body),
        wants_xml: |_| false,
        write: |status, answer, _| super::json(status, answer),
        // `application/json-patch+json` is read alike; clients that are made from a document trip over two of one schema.
        media: &["application/json"],
        status: |status| if status == StatusCode::GONE { StatusCode::UNAUTHORIZED } else { status },
        refuse,
        refusal: SchemaGenerator::subschema_for::<Refused>,
        refusal_header: None,
        operations: operations(),
    }
}

fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, SUBSCRIPTIONS, ("getSubscriptions", "Lists subscriptions."), list),
        Operation::new(Method::POST, SUBSCRIPTIONS, ("createSubscription", "Makes a subscription."), create),
        Operation::new(Method::GET, SUBSCRIPTION, ("getSubscription", "Returns a subscription."), get),
        Operation::new(
            Method::PUT,
            SUBSCRIPTION,
            ("updateSubscription", "Changes a subscription; what is left out stays as it is."),
            update,
        ),
        Operation::new(Method::DELETE, SUBSCRIPTION, ("deleteSubscription", "Deletes a subscription."), delete),
        Operation::new(
            Method::GET,
            "/v1/webhooks/event-types",
            ("getEventTypes", "Lists the topics of the catalogue."),
            event_types,
        ),
        Operation::new(
            Method::POST,
            "/v1/webhooks/subscriptions/{id}/test",
            ("sendTestEvent", "Sends a test event at once, and says what became of it."),
            test,
        ),
        Operation::new(Method::GET, EVENTS, ("getEvents", "Lists the events of a subscription."), list_events),
        Operation::new(
            Method::DELETE,
            "/v1/webhooks/subscriptions/{id}/events/{eventId}",
            (
                "deleteEvent",
                "Ends an event that is pending, and forgets it and its bodies; its number is not used again.",
            ),
            delete_event,
        ),
    ]
}

/// What is refused.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Error")]
struct Refused {
    /// False.
    success: bool,
    /// Why.
    message: String,
}

fn refuse(refusal: &Refusal, _: &HeaderMap) -> Response {
    super::json(refusal.status, &Refused { success: false, message: refusal.message.clone() })
}

/// Which rows, in which order, and which members of them.
#[derive(Deserialize, JsonSchema)]
struct List {
    /// The members to show, with commas between them.
    #[schemars(extend("pattern" = Select::pattern(SUBSCRIPTION_FIELDS, SUBSCRIPTION_EXTRAS)), example = &"name,url")]
    select: Option<String>,
    /// Conditions, joined by ` and `. There are eq, ne, gt, ge, lt, le and contains.
    #[schemars(example = &"isActive eq true and name contains shop")]
    filter: Option<String>,
    /// The member to sort by, with a `-` in front for the greatest first.
    #[schemars(extend("enum" = Sort::names(SUBSCRIPTION_FIELDS)), example = &"-createdAt")]
    sort: Option<String>,
    /// What to show besides: `webhookEvents`, with subscriptions.
    #[schemars(extend("enum" = ["webhookEvents"]), example = &"webhookEvents")]
    include: Option<String>,
    /// How many to show; 100 by default, or 20 with `include`, and then no more than 20. Fewer are shown where the answer would be too long; `message` says so.
    #[schemars(range(min = 0), extend("maximum" = LIST_LIMIT_MAX), example = 20)]
    take: Option<Int>,
    /// How many to pass over.
    #[schemars(range(min = 0), example = 0)]
    skip: Option<Int>,
}

/// True if something is to be shown besides, which must be one of those known.
fn check_include(include: Option<&str>, known: &[&str]) -> Result<bool, Refusal> {
    match include.map(str::trim) {
        None => Ok(false),
        Some(name) if known.iter().any(|known| known.eq_ignore_ascii_case(name)) => Ok(true),
        Some(name) if known.is_empty() => Err(Refusal::bad(format!("include: there is no {name:?} to show."))),
        Some(name) => Err(Refusal::bad(format!("include: there is no {name:?}, but {}.", known.join(", ")))),
    }
}

/// What is said of a list that has become shorter than was asked for.
fn told_of_cut(window: Window, shown: usize, is_cut: bool) -> String {
    match is_cut {
        true => format!(
            "The answer would be too long with more than {shown} of them; go on with skip={}.",
            window.skip.saturating_add(shown)
        ),
        false => String::new(),
    }
}

#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscriptions {
    /// How many there are that fit the filter, shown or not.
    total_subscriptions_count: usize,
    success: bool,
    /// Where to go on, if there are fewer than asked for since the answer would be too long.
    message: String,
}

impl Beside for Subscriptions {
    const LIST: &'static str = "subscriptions";
    type Row = Chosen<Subscription>;
}

async fn list(asked: Asked<Nothing, List, Nothing>) -> Result<Listing<Subscriptions>, Refusal> {
    let Asked { service, caller, query, bytes_max, .. } = asked;
    let filter = Filter::read(query.filter.as_deref(), SUBSCRIPTION_FIELDS, service.filter_conditions_max())?;
    let sort = Sort::read(query.sort.as_deref(), SUBSCRIPTION_FIELDS)?;
    let select = Select::read(query.select.as_deref(), SUBSCRIPTION_FIELDS, SUBSCRIPTION_EXTRAS)?;
    let includes = check_include(query.include.as_deref(), &["webhookEvents"])?;
    let default = if includes { INCLUDING_MAX } else { PAGING.take_default };
    let window = Paging { take_default: default, ..PAGING }.read(query.take, query.skip, service.list_limit_max())?;
    let found = search::subscriptions(&service, &caller, filter, sort).await?;
    let total_subscriptions_count = found.len();
    let shown: Vec<WebhookId> = found.into_iter().skip(window.skip).take(window.take).collect();
    if includes && shown.len() > INCLUDING_MAX {
        return Err(Refusal::bad(format!(
            "include: events are shown of up to {INCLUDING_MAX} subscriptions at once; take fewer."
        )));
    }
    let (mut rows, mut is_cut) = (Rows::begin(bytes_max), false);
    let mut bytes_left = INCLUDED_BYTES_MAX.min(bytes_max / JSON_TIMES);
    for id in shown {
        let Some(webhook) = service.find_webhook(&caller, id).await? else { continue };
        let mut row = row(&Subscription::new(&webhook, &caller))?;
        if includes {
            let events = search::last_events(&service, &caller, id, &mut bytes_left).await?;
            row.insert("webhookEvents".to_owned(), events.into());
        }
        select.apply(&mut row);
        // With its events it takes long to write.
        let text = if includes { service.apart(&caller, move || text_of(&row)).await? } else { text_of(&row) };
        is_cut = !rows.write_text(&text?).await;
        if is_cut {
            break;
        }
    }
    let message = told_of_cut(window, rows.count(), is_cut);
    rows.end(&Subscriptions { total_subscriptions_count, success: true, message })
}

/// What is said of a subscription that is to be made.
#[derive(Deserialize, JsonSchema)]
struct New {
    /// The subscription.
    #[schemars(schema_with = "new_subscription")]
    subscription: Object<SubscriptionData>,
}

/// What to change of a subscription.
#[derive(Deserialize, JsonSchema)]
struct Given {
    /// The changes.
    subscription: Object<SubscriptionData>,
}

/// One that is made needs topics and a URL.
fn new_subscription(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = SubscriptionData::json_schema(generator);
    let needed = ["eventType", "url"];
    for name in needed {
        schema.pointer_mut(&format!("/properties/{name}")).expect("it is a member")["type"] = json!("string");
    }
    schema.insert("required".to_owned(), json!(needed));
    schema
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SubscriptionData {
    /// Its name.
    #[schemars(length(max = NAME_CHARS_MAX), example = &"shop")]
    name: Option<String>,
    /// The topics, with commas between them: `order:created`, `order:*`, `*`.
    #[schemars(extend("pattern" = topics_pattern()), example = &"order:created,product:*")]
    event_type: Option<String>,
    /// Where its events are posted to, by http or https.
    #[schemars(extend("format" = "uri"), length(max = URL_CHARS_MAX), example = &"https://example.com/hook")]
    url: Option<String>,
    /// What signs. Without one, a key is made.
    #[schemars(length(min = SECRET_CHARS_MIN, max = SECRET_CHARS_MAX), example = &"at least 8 characters")]
    secret: Option<String>,
    /// Headers to send along; also as a text, one `Name: value` a line.
    #[schemars(example = json!({ "X-Shop": "7" }))]
    headers: Option<HeadersGiven>,
    /// How many retries there are at the most, one every 5 minutes; 10 by default.
    #[schemars(range(min = 0, max = RETRIES_MAX), example = 5)]
    max_retry_count: Option<Int>,
    /// Whether it is on.
    #[schemars(example = true)]
    is_active: Option<Switch>,
}

/// A list of topics as a regular expression.
fn topics_pattern() -> String {
    let entry = format!(r"(\*|{TOPIC_WORD}:(\*|{TOPIC_WORD}))");
    format!("^ *{entry}( *, *{entry})* *$")
}

#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
enum HeadersGiven {
    Pairs(#[schemars(schema_with = "header_pairs")] BTreeMap<String, String>),
    /// As they are shown.
    Lines(#[schemars(schema_with = "header_lines")] String),
}

const HEADER_NAME: &str = "[A-Za-z0-9!#$%&'*+.^_`|~-]+";

fn header_pairs(_: &mut SchemaGenerator) -> Schema {
    let value = json!({ "type": "string", "pattern": "^[ -~]*$" });
    let name = json!({ "pattern": format!("^{HEADER_NAME}$") });
    json_schema!({
        "type": "object", "propertyNames": name, "additionalProperties": value, "maxProperties": EXTRA_HEADERS_MAX,
    })
}

fn header_lines(_: &mut SchemaGenerator) -> Schema {
    let line = format!("( *{HEADER_NAME} *:[ -~]*)?");
    json_schema!({ "type": "string", "pattern": format!("^{line}(\\n{line})*$"), "maxLength": EXTRA_HEADERS_BYTES_MAX })
}

impl HeadersGiven {
    fn read(self) -> Result<ExtraHeaders, Violation> {
        match self {
            Self::Pairs(pairs) => ExtraHeaders::of_pairs(pairs),
            Self::Lines(lines) => ExtraHeaders::try_new(&lines),
        }
    }
}

impl SubscriptionData {
    /// What it changes of a webhook with such a policy.
    fn changes(self, retry: Option<&RetryPolicy>) -> Result<WebhookChanges, Refusal> {
        let wrong = |violation: Violation| {
            let field = match violation.field {
                "topics" => "eventType",
                "extra_headers" => "headers",
                "secret_key" => "secret",
                "retry" => "maxRetryCount",
                field => field,
            };
            Refusal::bad(format!("{field}: {}", violation.problem))
        };
        let policy = |count: Int| {
            let max_retries =
                u32::try_from(count.0).map_err(|_| Refusal::bad("maxRetryCount: must not be below 0."))?;
            // One that retries as often is left as it is.
            if let Some(retry) = retry.filter(|retry| retry.retries() == max_retries) {
                return Ok(retry.clone());
            }
            RetryPolicy::custom(Waits::Fixed { max_retries, interval_s: RETRY_INTERVAL_S }).map_err(wrong)
        };
        let secret = self.secret.filter(|secret| !secret.is_empty());
        Ok(WebhookChanges {
            name: self.name,
            // That of one that subscribes to nothing is shown as an empty text.
            topics: (self.event_type.filter(|topics| !topics.is_empty()))
                .map(|topics| Patterns::try_new(&topics))
                .transpose()
                .map_err(wrong)?,
            // That of one that is pulled is shown as an empty text.
            url: self
                .url
                .filter(|url| !url.is_empty())
                .map(|url| TargetUrl::try_new(url.trim()))
                .transpose()
                .map_err(wrong)?,
            secret_key: secret.map(|secret| SecretKey::try_new(&secret)).transpose().map_err(wrong)?,
            extra_headers: self.headers.map(HeadersGiven::read).transpose().map_err(wrong)?,
            retry: self.max_retry_count.map(policy).transpose()?,
            is_active: self.is_active.map(|is_active| is_active.0),
            ..WebhookChanges::default()
        })
    }
}

#[derive(JsonSchema, Serialize)]
struct One {
    subscription: Subscription,
    success: bool,
    message: String,
}

impl One {
    fn new(webhook: &Webhook, caller: &Caller, message: &str) -> Self {
        Self { subscription: Subscription::new(webhook, caller), success: true, message: message.to_owned() }
    }
}

async fn create(asked: Asked<Nothing, Nothing, New>) -> Result<One, Refusal> {
    let Asked { service, caller, body, .. } = asked;
    let policy = Waits::Fixed { max_retries: RETRIES_DEFAULT, interval_s: RETRY_INTERVAL_S };
    let defaults = WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Custom(policy) };
    let webhook = service.create_webhook(&caller, body.subscription.0.changes(None)?, defaults).await.map_err(named)?;
    Ok(One::new(&webhook, &caller, "The subscription was created."))
}

/// A fault in the dialect's own names.
fn named(fault: Fault) -> Refusal {
    let own = match fault.field.as_deref() {
        Some("topics") => "eventType",
        Some("extra_headers") => "headers",
        _ => return fault.into(),
    };
    Fault { field: Some(own.to_owned()), ..fault }.into()
}

async fn get(asked: Asked<ById, Nothing, Nothing>) -> Result<One, Refusal> {
    let webhook = asked.service.get_webhook(&asked.caller, asked.path.webhook()).await?;
    Ok(One::new(&webhook, &asked.caller, ""))
}

async fn update(asked: Asked<ById, Nothing, Given>) -> Result<One, Refusal> {
    let Asked { service, caller, path, body, .. } = asked;
    let caller = caller.as_writer()?;
    let old = service.get_webhook(&caller, path.webhook()).await?;
    let changes = body.subscription.0.changes(Some(&old.spec.retry))?;
    let webhook = service.update_webhook(&caller, path.webhook(), changes).await.map_err(named)?;
    Ok(One::new(&webhook, &caller, "The subscription was updated."))
}

#[derive(JsonSchema, Serialize)]
struct Done {
    success: bool,
    message: String,
}

impl Done {
    fn new(message: &str) -> Self {
        Self { success: true, message: message.to_owned() }
    }
}

async fn delete(asked: Asked<ById, Nothing, Nothing>) -> Result<Done, Refusal> {
    asked.service.delete_webhook(&asked.caller, asked.path.webhook()).await?;
    Ok(Done::new("The subscription was deleted."))
}

#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventTypes {
    success: bool,
    /// Where to go on, if there are fewer than asked for since the answer would be too long.
    message: String,
}

impl Beside for EventTypes {
    const LIST: &'static str = "eventTypes";
    type Row = EventType;
}

#[derive(JsonSchema, Serialize)]
struct EventType {
    /// The topic.
    name: String,
    /// What it means.
    description: String,
}

/// Which topics; all, if nothing is said.
#[derive(Deserialize, JsonSchema)]
struct ListTypes {
    /// How many to pass over.
    #[schemars(range(min = 0), example = 0)]
    skip: Option<Int>,
}

async fn event_types(asked: Asked<Nothing, ListTypes, Nothing>) -> Result<Listing<EventTypes>, Refusal> {
    let Asked { service, caller, query, bytes_max, .. } = asked;
    let window = Window { skip: PAGING.read_skip(query.skip)?, take: usize::MAX };
    let (mut rows, mut after, mut skip, mut is_cut) = (Rows::begin(bytes_max), None, window.skip, false);
    while !is_cut {
        let mut topics = next_topics(&service, &caller, after, false).await?;
        let Some(last) = topics.last() else { break };
        after = Some(last.spec.topic.to_string());
        let passed = skip.min(topics.len());
        skip -= passed;
        for entry in topics.drain(passed..) {
            let row = EventType { name: entry.spec.topic.to_string(), description: entry.spec.description };
            is_cut = !rows.write(&row).await?;
            if is_cut {
                break;
            }
        }
    }
    let message = told_of_cut(window, rows.count(), is_cut);
    rows.end(&EventTypes { success: true, message })
}

#[derive(Deserialize, JsonSchema)]
struct Test {
    /// The message, an object or one as JSON in a text; the server has one of its own.
    #[schemars(schema_with = "payload", example = json!({ "order_id": 7 }))]
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

fn payload(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "string", "null"] })
}

#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    success: bool,
    message: String,
    /// The number of the event within the subscription.
    event_id: i64,
}

async fn test(asked: Asked<ById, Nothing, Test>) -> Result<Tested, Refusal> {
    let message = match asked.body.payload.as_deref().map(RawValue::get) {
        None | Some("null") => None,
        Some("\"\"") => None,
        Some(text) if text.starts_with('"') => {
            let wrong = |_| Refusal::bad("payload: the text is no JSON object.");
            let inner: String = serde_json::from_str(text).map_err(wrong)?;
            let inner: Box<RawValue> = serde_json::from_str(&inner).map_err(wrong)?;
            Some(inner.get().to_owned())
        }
        Some(text) => Some(text.to_owned()),
    };
    let tested = asked.service.test_webhook(&asked.caller, asked.path.webhook(), message.as_deref()).await?;
    let message = match &tested.attempt {
        Some(Attempt { error: None, .. }) => "The test event was delivered.".to_owned(),
        Some(Attempt { error: Some(error), .. }) => format!("The test event was sent, but failed: {}", error.detail),
        None => "The test event is on its way.".to_owned(),
    };
    Ok(Tested { success: true, message, event_id: tested.delivery.increment_id.0 })
}

/// Which events, in which order, and which members of them.
#[derive(Deserialize, JsonSchema)]
struct ListEvents {
    /// The members to show, with commas between them.
    #[schemars(extend("pattern" = Select::pattern(EVENT_FIELDS, &[])), example = &"id,eventType")]
    select: Option<String>,
    /// Conditions, joined by ` and `. There are eq, ne, gt, ge, lt, le and contains.
    #[schemars(example = &"isSuccess eq false and createdAt ge 2026-01-01T00:00:00Z")]
    filter: Option<String>,
    /// `id` or `createdAt`, with a `-` in front for the last first.
    #[schemars(extend("enum" = Sort::names(EVENT_SORTS)), example = &"-id")]
    sort: Option<String>,
    /// Nothing can be shown besides.
    #[schemars(length(max = 0))]
    include: Option<String>,
    /// How many to show; 100 by default. Fewer are shown where the answer would be too long; `message` says so.
    #[schemars(range(min = 0), extend("maximum" = LIST_LIMIT_MAX), example = 20)]
    take: Option<Int>,
    /// How many to pass over.
    #[schemars(range(min = 0), example = 0)]
    skip: Option<Int>,
}

async fn list_events(asked: Asked<ById, ListEvents, Nothing>) -> Result<Listing<Events>, Refusal> {
    let Asked { service, caller, path, query, bytes_max, .. } = asked;
    let filter = Filter::read(query.filter.as_deref(), EVENT_FIELDS, service.filter_conditions_max())?;
    let sort = Sort::read(query.sort.as_deref(), EVENT_SORTS)?;
    let select = Select::read(query.select.as_deref(), EVENT_FIELDS, &[])?;
    check_include(query.include.as_deref(), &[])?;
    let window = PAGING.read(query.take, query.skip, service.list_limit_max())?;
    let (id, is_descending) = (path.webhook(), sort.is_some_and(Sort::is_descending));
    let search =
        Search { service: &service, caller: &caller, id, filter: filter.into(), select, is_descending, window };
    let mut rows = Rows::begin(bytes_max);
    let (total_events_count, is_cut) = search.run(&mut rows).await?;
    let message = told_of_cut(window, rows.count(), is_cut);
    rows.end(&Events { total_events_count, success: true, message })
}

/// Which event of a subscription.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ByEvent {
    /// The subscription.
    #[schemars(example = 1)]
    id: Int,
    /// The number of the event within it.
    #[schemars(example = 42)]
    event_id: Int,
}

async fn delete_event(asked: Asked<ByEvent, Nothing, Nothing>) -> Result<Done, Refusal> {
    let (id, number) = (WebhookId(asked.path.id.0), IncrementId(asked.path.event_id.0));
    asked.service.forget_delivery(&asked.caller, id, number).await?;
    Ok(Done::new("The event was deleted."))
}
