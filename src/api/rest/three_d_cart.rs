//! 3dcart, later Shift4Shop: webhooks and the kinds of
//! events, under two versions and two spellings, in JSON and XML.
//!
//! A webhook has one kind of event here. One that has several, or a pattern,
//! shows 0, and keeps what it has.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::listing::{IntoReply, Plain, PlainListing, Reply};
use super::openapi::LIST_LIMIT_MAX;
use super::operation::{Asked, Nothing, Operation};
use super::values::{ById, Int, Switch};
use super::window::{Paging, Window};
use super::{Dialect, Refusal, bearer, catalogue, header as text_of, xml};
use crate::api::text;
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::fault::{Fault, Violation};
use crate::domain::id::WebhookId;
use crate::domain::retry::RetryPolicy;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::Pattern;
use crate::domain::webhook::{Encoding, Format, Webhook, WebhookChanges, WebhookDefaults};
use crate::service::caller::{Caller, Credentials};

/// The longest name and URL of a webhook, in characters.
const NAME_CHARS_MAX: usize = 80;
const URL_CHARS_MAX: usize = 1_000;
/// How clients say which part of a list they want.
const PAGING: Paging = Paging { take: "limit", take_min: 1, take_default: 10, skip: "offset", skip_max: None };
/// How times are shown, and how a client writes them.
const TIME: &str = "%m/%d/%Y %H:%M";
const TIME_GIVEN: &str = "%m/%d/%Y %H:%M:%S";
/// The ways a client may write them, as a regular expression.
const TIME_PATTERN: &str =
    r"^(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])/[0-9]{4}( ([01]?[0-9]|2[0-3]):[0-5]?[0-9](:[0-5]?[0-9])?)?$";
/// The formats by their names here.
const FORMATS: [&str; 2] = ["JSON", "XML"];
/// In a body, null counts as left out.
const FORMATS_GIVEN: [Option<&str>; 3] = [Some("JSON"), Some("XML"), None];
/// What clients look for when they have seen the last page.
const BEYOND: &str = "Offset amount exceeds the total number of records";

/// The vendor's names for kinds of events, by topic.
const EVENT_NAMES: [(&str, &str); 7] = [
    ("customer:created", "Customer New"),
    ("order:created", "Order New"),
    ("order:status_changed", "Order Status Change"),
    ("product:updated", "Product Changed"),
    ("product:deleted", "Product Deleted"),
    ("product:created", "Product New"),
    ("inventory:adjustment", "Product Stock Changed"),
];

/// The dialect.
pub fn dialect() -> Dialect {
    Dialect {
        name: "3dcart",
        // Clients that are made from the document are named after it, and names begin with a letter.
        title: "Shift4Shop (3dcart)",
        bases: &["/3dCartWebAPI"],
        security: || {
            let key = |name: &str, description: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": description });
            let schemes = json!({
                "SecureURL": key("SecureURL", "The merchant's code."),
                "PrivateKey": key("PrivateKey", "The user's name."),
                "Token": key("Token", "The user's API key."),
                "Bearer": { "type": "http", "scheme": "bearer", "description": "An API key, or a session's key." },
            });
            (schemes, json!([{ "SecureURL": [], "PrivateKey": [], "Token": [] }, { "Bearer": [] }]))
        },
        credentials,
        admits,
        read,
        wants_xml: |headers| wants_xml(text_of(headers, "accept").unwrap_or_default()),
        write,
        media: &["application/json", "application/xml"],
        status,
        refuse,
        refusal: SchemaGenerator::subschema_for::<Vec<Told>>,
        refusal_header: None,
        operations: operations(),
    }
}

/// Where webhooks and kinds of events are: the text of the vendor's
/// documentation has the one spelling, its samples have the other
/// (docs/wire.md, "3dcart").
const PLACES: [(&str, [&str; 3]); 4] = [
    ("V2", ["/3dCartWebAPI/v2/Webhooks", "/3dCartWebAPI/v2/Webhooks/{id}", "/3dCartWebAPI/v2/Webhooks/Events"]),
    ("V2Singular", ["/3dCartWebAPI/v2/Webhook", "/3dCartWebAPI/v2/Webhook/{id}", "/3dCartWebAPI/v2/Webhook/Events"]),
    ("V1", ["/3dCartWebAPI/v1/Webhooks", "/3dCartWebAPI/v1/Webhooks/{id}", "/3dCartWebAPI/v1/Webhooks/Events"]),
    ("V1Singular", ["/3dCartWebAPI/v1/Webhook", "/3dCartWebAPI/v1/Webhook/{id}", "/3dCartWebAPI/v1/Webhook/Events"]),
];

fn operations() -> Vec<Operation> {
    let at = |(suffix, [webhooks, webhook, events]): (&'static str, [&'static str; 3])| {
        let operations = [
            Operation::new(Method::GET, webhooks, ("list", "Lists webhooks."), list),
            Operation::new(Method::POST, webhooks, ("create", "Makes a webhook."), create).answers(StatusCode::CREATED),
            Operation::new(Method::GET, webhook, ("get", "Returns a webhook."), get),
            Operation::new(Method::PUT, webhook, ("update", "Changes a webhook; what is left out stays."), update),
            Operation::new(Method::DELETE, webhook, ("delete", "Deletes a webhook."), delete),
            Operation::new(Method::GET, events, ("events", "Lists the kinds of events."), list_events),
        ];
        operations.map(|operation| operation.named(suffix))
    };
    PLACES.into_iter().flat_map(at).collect()
}

/// The three headers of the vendor's, or a bearer alone.
fn credentials(headers: &HeaderMap) -> Credentials {
    match (text_of(headers, "privatekey"), text_of(headers, "token")) {
        (Some(name), Some(key)) => Credentials::Basic { name: name.to_owned(), key: key.to_owned() },
        _ => bearer(headers),
    }
}

/// With the vendor's headers, the store has to be the merchant's own.
fn admits(headers: &HeaderMap, caller: &Caller) -> bool {
    if text_of(headers, "token").is_none() {
        return true;
    }
    let plain = |url: &str| {
        let url = url.trim().to_ascii_lowercase();
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        host.trim_end_matches('/').trim_start_matches("www.").to_owned()
    };
    text_of(headers, "secureurl").is_some_and(|url| plain(url) == plain(&caller.merchant_code))
}

fn is_xml(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.contains("/xml") || value.contains("+xml"))
}

fn read(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    if !is_xml(text_of(headers, "content-type")) || body.trim_ascii().is_empty() {
        return Ok(body);
    }
    let text = text::as_utf8(text::without_mark(&body)).map_err(Refusal::bad)?;
    let value = xml::read(text).map_err(|problem| Refusal::bad(format!("The XML can't be read: {problem}.")))?;
    Ok(value.to_string().into())
}

/// True if a client wants XML more than JSON, or as much and says so first.
fn wants_xml(accept: &str) -> bool {
    let quality = |kind: &str| {
        let value = kind.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q="));
        value.map_or(1.0, |value| value.trim().parse::<f64>().unwrap_or(0.0))
    };
    let (mut best, mut best_is_xml) = (0.0, false);
    for kind in accept.split(',') {
        let name = kind.split(';').next().unwrap_or_default().trim();
        let (xml, json) = (is_xml(Some(name)), name.contains("json") || name == "*/*");
        if (xml || json) && quality(kind) > best {
            (best, best_is_xml) = (quality(kind), xml);
        }
    }
    best_is_xml
}

/// In XML if the client wants that before JSON.
fn write(status: StatusCode, answer: &Value, headers: &HeaderMap) -> Response {
    if !wants_xml(text_of(headers, "accept").unwrap_or_default()) {
        return super::json(status, answer);
    }
    let first = if answer.is_array() { &answer[0] } else { answer };
    let item = ["EventName", "Key", "TotalCount"].into_iter().find(|member| first.get(member).is_some());
    let item = match item {
        Some("EventName") => "Event",
        Some("Key") => "Response",
        Some(_) => "Count",
        None => "Webhook",
    };
    (status, [(header::CONTENT_TYPE, xml::MEDIA)], xml::write(item, answer)).into_response()
}

/// What came of a request.
// Not by its name in XML alone: clients that are made from the document have a `Response` already.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WriteResponse", extend("xml" = { "name": "Response" }))]
#[serde(rename_all = "PascalCase")]
struct Told {
    /// `Id`, or `Error`.
    key: &'static str,
    /// The id of the webhook; empty for an error.
    value: String,
    /// The status of the answer.
    status: String,
    /// In words.
    message: String,
}

impl Told {
    fn done(id: WebhookId, status: StatusCode, message: &str) -> Vec<Self> {
        let status = status.as_str().to_owned();
        vec![Self { key: "Id", value: id.to_string(), status, message: message.to_owned() }]
    }
}

/// The vendor knows neither 403 nor 410.
fn status(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::FORBIDDEN | StatusCode::GONE => StatusCode::UNAUTHORIZED,
        status => status,
    }
}

fn refuse(refusal: &Refusal, headers: &HeaderMap) -> Response {
    let (value, message) = (String::new(), refusal.message.clone());
    let told = Told { key: "Error", value, status: refusal.status.as_str().to_owned(), message };
    write(refusal.status, &json!([told]), headers)
}

/// A webhook.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Webhook")]
#[serde(rename_all = "PascalCase")]
struct WebhookRow {
    /// Its id.
    id: i64,
    /// Its name; the host of its URL if it has none.
    name: String,
    /// Where its events are posted to.
    url: String,
    /// The number of the kind of events; 0 if they are of several kinds.
    event_type: i64,
    /// When it was made, in UTC: `04/25/2019 16:24`.
    date_created: String,
    /// When it was last changed, in UTC.
    date_updated: String,
    /// `JSON` or `XML`.
    format: &'static str,
    /// Whether it is on.
    enabled: bool,
}

impl WebhookRow {
    fn new(webhook: &Webhook, topics: &[CatalogueEntry]) -> Self {
        let spec = &webhook.spec;
        let number = match spec.topics.list() {
            [Pattern::Exact(topic)] => topics.iter().find(|entry| entry.spec.topic == *topic),
            _ => None,
        };
        let host = || spec.url.as_ref().and_then(|url| url.url().host_str()).unwrap_or_default().to_owned();
        Self {
            id: webhook.webhook_id.0,
            name: if spec.name.is_empty() { host() } else { spec.name.clone() },
            url: spec.url.as_ref().map_or_else(String::new, |url| url.as_str().to_owned()),
            event_type: number.map_or(0, |entry| entry.event_type),
            date_created: webhook.created_at.print(TIME),
            date_updated: webhook.updated_at.print(TIME),
            format: match spec.format.encoding() {
                Encoding::Json | Encoding::Gzip => "JSON",
                Encoding::Xml => "XML",
            },
            // One that the server has disabled is not on, and putting it on enables it.
            enabled: spec.is_active && webhook.disabled.is_none(),
        }
    }
}

/// Rows, or how many there are.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
enum Listed<T> {
    Rows(PlainListing<T>),
    Count(TotalCount),
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(rename_all = "PascalCase")]
struct TotalCount {
    /// How many there are.
    total_count: usize,
}

impl<T: JsonSchema> IntoReply for Listed<T> {
    fn into_reply(self) -> Result<Reply, Refusal> {
        match self {
            Self::Rows(rows) => rows.into_reply(),
            Self::Count(count) => count.into_reply(),
        }
    }
}

/// Which part of a list, or only how many there are.
#[derive(Clone, Copy)]
struct Part {
    window: Window,
    counts_only: bool,
}

impl Part {
    fn read(limit: Option<Int>, offset: Option<Int>, counts_only: Option<Switch>, max: u32) -> Result<Self, Refusal> {
        let Window { skip, take } = PAGING.read(limit, offset, max)?;
        // It counts from 1, and 0 means 1.
        let window = Window { skip: skip.saturating_sub(1), take };
        Ok(Self { window, counts_only: counts_only.is_some_and(|only| only.0) })
    }

    /// Those of this part, of which there is one at least; or how many there are
    /// in all, if that is what is asked for.
    fn of<T>(self, all: Vec<T>) -> Result<Result<Vec<T>, TotalCount>, Refusal> {
        let total_count = all.len();
        if self.counts_only {
            return Ok(Err(TotalCount { total_count }));
        }
        if all.is_empty() {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "Nothing was found."));
        }
        if self.window.skip >= total_count {
            return Err(Refusal::bad(BEYOND));
        }
        Ok(Ok(all.into_iter().skip(self.window.skip).take(self.window.take).collect()))
    }
}

/// Nothing in an answer says that it was cut, and clients go on behind as many
/// as they asked for: so it is whole, or there is none.
fn too_long(bytes_max: usize) -> Refusal {
    let problem = "the answer would have more than response_bytes_max";
    Refusal::bad(format!("limit: {problem}, {bytes_max} bytes; ask for fewer at once."))
}

/// Which webhooks.
#[derive(Deserialize, JsonSchema)]
struct List {
    /// The most rows; 10 by default.
    #[schemars(range(min = 1), extend("maximum" = LIST_LIMIT_MAX), example = 10)]
    limit: Option<Int>,
    /// The place of the first, from 1.
    #[schemars(range(min = 0), example = 1)]
    offset: Option<Int>,
    /// 1: only how many there are.
    #[schemars(example = false)]
    countonly: Option<Switch>,
    /// Only those of this name.
    #[schemars(example = &"shop")]
    name: Option<String>,
    /// Only those of this URL.
    #[schemars(example = &"https://example.com/hook")]
    url: Option<String>,
    /// 1: only those that are on. 0: only those that are off. -1: any.
    #[schemars(schema_with = "any_switch", example = 1)]
    #[serde(default)]
    enabled: Option<String>,
    /// Only those in this format.
    #[schemars(extend("enum" = FORMATS), example = &"JSON")]
    format: Option<String>,
    /// Only those made then or later: `mm/dd/yyyy hh:mm:ss`.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"04/25/2019 16:24:00")]
    datecreatedstart: Option<String>,
    /// Only those made then or before.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"04/25/2019 16:24:00")]
    datecreatedend: Option<String>,
    /// Only those last changed then or later.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"04/25/2019 16:24:00")]
    dateupdatedstart: Option<String>,
    /// Only those last changed then or before.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"04/25/2019 16:24:00")]
    dateupdatedend: Option<String>,
}

fn any_switch(_: &mut SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["integer", "null"], "enum": [-1, 0, 1] })
}

/// A time as clients write it, to the second, the minute or the day: when that
/// begins, or as an end when it is over.
fn read_time(name: &str, text: Option<&str>, is_end: bool) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let whole_day = format!("{text} 00:00:00");
    let ways = [(TIME_GIVEN, text, 1), (TIME, text, 60), (TIME_GIVEN, whole_day.as_str(), 86_400)];
    let read = ways.into_iter().find_map(|(format, text, unit_s)| {
        let time = Timestamp::parse_utc_bound(format, text)?;
        Some(if is_end { time.after(Duration::from_millis(unit_s * 1_000 - 1)) } else { time })
    });
    read.map(Some).ok_or_else(|| Refusal::bad(format!("{name}: {text:?} is no time such as 04/25/2019 16:24:00.")))
}

async fn list(asked: Asked<Nothing, List, Nothing>) -> Result<Listed<WebhookRow>, Refusal> {
    let Asked { service, caller, query, bytes_max, wants_xml, .. } = asked;
    let part = Part::read(query.limit, query.offset, query.countonly, service.list_limit_max())?;
    let is_active = match query.enabled.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("-1") => None,
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        Some(other) => return Err(Refusal::bad(format!("enabled: {other:?} is none of -1, 0 and 1."))),
    };
    let encoding = query.format.as_deref().map(read_format).transpose()?;
    let created = (
        read_time("datecreatedstart", query.datecreatedstart.as_deref(), false)?,
        read_time("datecreatedend", query.datecreatedend.as_deref(), true)?,
    );
    let updated = (
        read_time("dateupdatedstart", query.dateupdatedstart.as_deref(), false)?,
        read_time("dateupdatedend", query.dateupdatedend.as_deref(), true)?,
    );
    let lies_in = |time: Timestamp, (start, end): (Option<Timestamp>, Option<Timestamp>)| {
        start.is_none_or(|start| time >= start) && end.is_none_or(|end| time <= end)
    };
    let is_wanted = |webhook: &Webhook| {
        let row = WebhookRow::new(webhook, &[]);
        lies_in(webhook.created_at, created)
            && lies_in(webhook.updated_at, updated)
            && encoding.is_none_or(|encoding| webhook.spec.format.encoding() == encoding)
            && query.name.as_ref().is_none_or(|name| row.name == *name)
            && query.url.as_ref().is_none_or(|url| row.url == *url)
            && is_active.is_none_or(|is_active| row.enabled == is_active)
    };
    let pick = |webhook: &Webhook| is_wanted(webhook).then_some(webhook.webhook_id);
    let ids = match part.of(service.pick_webhooks(&caller, pick).await?)? {
        Ok(ids) => ids,
        Err(count) => return Ok(Listed::Count(count)),
    };
    let topics = catalogue(&service, &caller).await?;
    let mut rows = Plain::begin(wants_xml.then_some("Webhook"), bytes_max);
    for id in ids {
        let Some(webhook) = service.find_webhook(&caller, id).await? else { continue };
        if !rows.write(&WebhookRow::new(&webhook, &topics)).await? {
            return Err(too_long(bytes_max));
        }
    }
    Ok(Listed::Rows(rows.end()))
}

fn read_format(text: &str) -> Result<Encoding, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "json" => Ok(Encoding::Json),
        "xml" => Ok(Encoding::Xml),
        _ => Err(Refusal::bad("Format: must be JSON or XML.")),
    }
}

/// A webhook that is to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct WebhookPost {
    /// Its name.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX), example = &"shop")]
    name: String,
    /// Where its events are posted to, by http or https.
    #[schemars(extend("format" = "uri"), length(max = URL_CHARS_MAX), example = &"https://example.com/hook")]
    url: String,
    /// The number of the kind of events, one of those that are listed.
    #[schemars(range(min = 1), example = 1)]
    event_type: Int,
    /// `JSON`, the default, or `XML`.
    #[schemars(extend("enum" = FORMATS_GIVEN), example = &"JSON")]
    format: Option<String>,
    /// Whether it is on.
    #[schemars(example = true)]
    enabled: Switch,
}

/// What to change of a webhook.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct WebhookPut {
    /// Its id, if it is said, is that of the path.
    #[schemars(example = 1)]
    id: Option<Int>,
    /// Its name.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX), example = &"shop")]
    name: Option<String>,
    /// Where its events are posted to, by http or https.
    #[schemars(extend("format" = "uri"), length(max = URL_CHARS_MAX), example = &"https://example.com/hook")]
    url: Option<String>,
    /// `JSON` or `XML`.
    #[schemars(extend("enum" = FORMATS_GIVEN), example = &"XML")]
    format: Option<String>,
    /// Whether it is on.
    #[schemars(example = false)]
    enabled: Option<Switch>,
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let chars = name.chars().count();
    match chars {
        1..=NAME_CHARS_MAX => Ok(()),
        _ => Err(Refusal::bad(format!("Name: has {chars} characters; use 1 to {NAME_CHARS_MAX}."))),
    }
}

fn read_url(url: &str) -> Result<TargetUrl, Refusal> {
    let chars = url.chars().count();
    if chars > URL_CHARS_MAX {
        return Err(Refusal::bad(format!("Url: has {chars} characters; up to {URL_CHARS_MAX} are allowed.")));
    }
    TargetUrl::try_new(url.trim()).map_err(|Violation { problem, .. }| Refusal::bad(format!("Url: {problem}")))
}

async fn create(asked: Asked<Nothing, Nothing, WebhookPost>) -> Result<Vec<Told>, Refusal> {
    let Asked { service, caller, body, .. } = asked;
    let caller = caller.as_writer()?;
    check_name(&body.name)?;
    let url = read_url(&body.url)?;
    let encoding = body.format.as_deref().filter(|format| !format.is_empty()).map(read_format).transpose()?;
    let topics = catalogue(&service, &caller).await?;
    let topic = topics.into_iter().find(|entry| entry.event_type == body.event_type.0);
    let topic = topic
        .ok_or_else(|| Refusal::bad(format!("EventType: there is no {}; see Webhooks/Events.", body.event_type.0)))?;
    let said = WebhookChanges {
        name: Some(body.name),
        url: Some(url),
        topics: Some((&topic.spec.topic).into()),
        is_active: Some(body.enabled.0),
        ..WebhookChanges::default()
    };
    let format = if encoding == Some(Encoding::Xml) { Format::ThreeDCartXml } else { Format::ThreeDCart };
    let webhook =
        service.create_webhook(&caller, said, WebhookDefaults { format, retry: RetryPolicy::Default }).await?;
    Ok(Told::done(webhook.webhook_id, StatusCode::CREATED, "Created successfully"))
}

/// One of them, in an array.
async fn get(asked: Asked<ById, Nothing, Nothing>) -> Result<Vec<WebhookRow>, Refusal> {
    let Asked { service, caller, path, .. } = asked;
    let webhook = service.get_webhook(&caller, path.webhook()).await?;
    Ok(vec![WebhookRow::new(&webhook, &catalogue(&service, &caller).await?)])
}

async fn update(asked: Asked<ById, Nothing, WebhookPut>) -> Result<Vec<Told>, Refusal> {
    let Asked { service, caller, path, body, .. } = asked;
    let caller = caller.as_writer()?;
    if let Some(other) = body.id.filter(|id| id.0 != path.id.0) {
        return Err(Refusal::bad(format!("Id: is {} in the body and {} in the path.", other.0, path.id.0)));
    }
    let id = path.webhook();
    let old = service.get_webhook(&caller, id).await?;
    // What comes back as it was shown is no change: a name that only stands for
    // the host, or is longer than here allowed, no URL of what is pulled, and JSON
    // for what is written in it by a format of another dialect.
    let shown = WebhookRow::new(&old, &[]);
    let name = body.name.filter(|name| *name != shown.name);
    name.as_deref().map(check_name).transpose()?;
    let url = body.url.filter(|url| *url != shown.url);
    let format = body.format.filter(|format| !format.is_empty() && !format.eq_ignore_ascii_case(shown.format));
    let changes = WebhookChanges {
        name,
        url: url.as_deref().map(read_url).transpose()?,
        encoding: format.as_deref().map(read_format).transpose()?,
        is_active: body.enabled.map(|enabled| enabled.0),
        ..WebhookChanges::default()
    };
    service.update_webhook(&caller, id, changes).await.map_err(named)?;
    Ok(Told::done(id, StatusCode::OK, "updated successfully"))
}

/// A fault in the dialect's own names.
fn named(fault: Fault) -> Refusal {
    match fault.field.as_deref() {
        Some("encoding") => Fault { field: Some("Format".to_owned()), ..fault }.into(),
        _ => fault.into(),
    }
}

async fn delete(asked: Asked<ById, Nothing, Nothing>) -> Result<Vec<Told>, Refusal> {
    asked.service.delete_webhook(&asked.caller, asked.path.webhook()).await?;
    Ok(Told::done(asked.path.webhook(), StatusCode::OK, "Deleted successfully"))
}

/// Which kinds of events.
#[derive(Deserialize, JsonSchema)]
struct ListEvents {
    /// The most rows; 10 by default.
    #[schemars(range(min = 1), extend("maximum" = LIST_LIMIT_MAX), example = 10)]
    limit: Option<Int>,
    /// The place of the first, from 1.
    #[schemars(range(min = 0), example = 1)]
    offset: Option<Int>,
    /// 1: only how many there are.
    #[schemars(example = false)]
    countonly: Option<Switch>,
    /// Only that of this name.
    #[schemars(example = &"Order New")]
    name: Option<String>,
}

/// A kind of events.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Event")]
#[serde(rename_all = "PascalCase")]
struct EventRow {
    /// Its number.
    event_type: i64,
    /// Its name.
    event_name: String,
}

async fn list_events(asked: Asked<Nothing, ListEvents, Nothing>) -> Result<Listed<EventRow>, Refusal> {
    let Asked { service, caller, query, bytes_max, wants_xml, .. } = asked;
    let part = Part::read(query.limit, query.offset, query.countonly, service.list_limit_max())?;
    let rows = catalogue(&service, &caller).await?.into_iter().map(|entry| {
        let own = EVENT_NAMES.iter().find(|(topic, _)| *topic == entry.spec.topic.as_str());
        let event_name = own.map_or(entry.spec.name, |(_, name)| (*name).to_owned());
        EventRow { event_type: entry.event_type, event_name }
    });
    let rows = rows.filter(|row| query.name.as_ref().is_none_or(|name| row.event_name == *name)).collect();
    let found = match part.of(rows)? {
        Ok(found) => found,
        Err(count) => return Ok(Listed::Count(count)),
    };
    let mut rows = Plain::begin(wants_xml.then_some("Event"), bytes_max);
    for row in found {
        if !rows.write(&row).await? {
            return Err(too_long(bytes_max));
        }
    }
    Ok(Listed::Rows(rows.end()))
}
