//! The log of a webhook's requests: the last attempt at the last number first.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{ById, Metadata, PAGING};
use crate::api::rest::listing::{Beside, Listing, Rows};
use crate::api::rest::openapi::LIST_LIMIT_MAX;
use crate::api::rest::operation::{Asked, Nothing};
use crate::api::rest::values::{Int, Switch, time};
use crate::api::rest::window::Window;
use crate::api::rest::{Refusal, shown};
use crate::domain::delivery::{AttemptFilter, AttemptKey};
use crate::domain::event::Event;
use crate::domain::expansion::members;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::time::Timestamp;
use crate::render::ultracart::event_name;
use crate::service::Service;
use crate::service::caller::Caller;
use crate::store::attempt_log::LoggedAttempt;

/// How much of a payload is shown, in characters.
const PAYLOAD_CHARS_MAX: usize = 100_000;
/// The ways a client may write a time, as a regular expression.
const TIME_PATTERN: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?$";
/// How many requests are passed over at once, and how many looked into.
const PASSED_OVER_AT_ONCE: usize = 10_000;
const LOOKED_INTO_AT_ONCE: usize = 200;
/// How many bytes of them are held at once.
const BYTES_AT_ONCE: usize = 1_024 * 1_024;

/// Which requests.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// Only that of this id.
    #[schemars(example = &"msg_a1b2c3d4_1_42.1")]
    request_id: Option<String>,
    /// Only those made then or later: a time, in UTC if it has no zone, or a date.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"2026-11-25T16:08:15Z")]
    begin_date: Option<String>,
    /// Only those made then or before; with a date, on that day or before.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"2026-11-25")]
    end_date: Option<String>,
    /// Only those that were answered with this HTTP status.
    #[schemars(range(min = 100, max = 999), example = 200)]
    status: Option<Int>,
    /// Only those that succeeded, or failed.
    #[schemars(example = true)]
    success: Option<Switch>,
    /// Only those that held an event of this name.
    #[schemars(example = &"order_create")]
    event: Option<String>,
    /// Only those that held an event whose message has this `order_id`.
    #[schemars(example = &"DEMO-1")]
    order_id: Option<String>,
    /// Only those that held a message with this text in it.
    #[schemars(example = &"DEMO")]
    request: Option<String>,
    /// Only those that took so many milliseconds at least.
    #[schemars(range(min = 0), example = 0)]
    duration: Option<Int>,
    /// The most records; 100 by default. There are fewer where the answer would be too long; `more` says so.
    #[schemars(range(min = 1), extend("maximum" = LIST_LIMIT_MAX), example = 200)]
    #[serde(rename = "_limit")]
    limit: Option<Int>,
    /// How many to pass over.
    #[schemars(range(min = 0, max = u32::MAX), example = 0)]
    #[serde(rename = "_offset")]
    offset: Option<Int>,
    /// Only those made then or later, like `beginDate`.
    #[schemars(extend("pattern" = TIME_PATTERN), example = &"2026-11-25T16:08:15+00:00")]
    #[serde(rename = "_since")]
    since: Option<String>,
}

/// A request in a list.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookLogSummary")]
pub struct Summary {
    /// Its id.
    request_id: String,
    /// When it was made.
    #[schemars(schema_with = "time")]
    delivery_dts: String,
    /// How long it took, in milliseconds.
    duration: u64,
    /// Whether the receiver took it.
    success: bool,
    /// The status of the answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    /// The events it held; empty once they were pruned.
    event_names: Vec<String>,
    /// Each `order_id` of their messages.
    order_ids: Vec<String>,
}

/// A request.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookLog")]
struct Log {
    #[serde(flatten)]
    summary: Summary,
    /// How long it had been due when it was made, in milliseconds.
    queue_delay: u64,
    /// What was sent, up to 100,000 characters; left out once it was pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// The headers that were sent; credentials read `[redacted]`.
    request_headers: Vec<HttpHeader>,
    /// What was answered, up to 100,000 characters; why not, if there was no answer.
    response: String,
    /// The headers of the answer.
    response_headers: Vec<HttpHeader>,
    /// The URL of the webhook as it is now; left out if its receiver pulls.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// The webhook.
    webhook_oid: i64,
}

/// A header.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "HTTPHeader")]
pub struct HttpHeader {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

impl HttpHeader {
    /// Reads one `name: value` a line.
    pub fn list(lines: &str) -> Vec<Self> {
        let pairs = lines.lines().filter_map(|line| line.split_once(": "));
        pairs.map(|(name, value)| Self { name: name.to_owned(), value: value.to_owned() }).collect()
    }
}

/// Which request.
#[derive(Deserialize, JsonSchema)]
pub struct ByRequest {
    /// The webhook.
    #[schemars(example = 1)]
    #[serde(rename = "webhookOid")]
    webhook_oid: Int,
    /// The id of the request.
    #[schemars(example = &"msg_a1b2c3d4_1_42.1")]
    #[serde(rename = "requestId")]
    request_id: String,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookLogSummariesResponse")]
pub struct Summaries {
    metadata: Metadata,
    success: bool,
}

impl Beside for Summaries {
    const LIST: &'static str = "webhook_log_summaries";
    type Row = Summary;
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookLogResponse")]
pub struct LogAnswer {
    metadata: Metadata,
    success: bool,
    webhook_log: Log,
}

pub async fn list(asked: Asked<ById, List, Nothing>) -> Result<Listing<Summaries>, Refusal> {
    let Asked { service, caller, path, query, bytes_max, .. } = asked;
    let window = PAGING.read(query.limit, query.offset, service.list_limit_max())?;
    let id = path.webhook();
    let search = Search { service: &service, caller: &caller, id, window, wanted: Wanted::read(query)?.into() };
    let mut rows = Rows::begin(bytes_max);
    let more = search.run(&mut rows).await?;
    let metadata = Metadata::of_list("webhook_log_summaries", window, rows.count(), more, None);
    rows.end(&Summaries { metadata, success: true })
}

pub async fn get(asked: Asked<ByRequest, Nothing, Nothing>) -> Result<LogAnswer, Refusal> {
    let Asked { service, caller, path, .. } = asked;
    let id = WebhookId(path.webhook_oid.0);
    let webhook = service.get_webhook(&caller, id).await?;
    let found = find(&service, &caller, id, &path.request_id).await?;
    let found = found.ok_or_else(|| {
        let shown = shown(&path.request_id);
        Refusal::new(
            http::StatusCode::NOT_FOUND,
            format!("Webhook {id} has made no request {shown:?}, or it was pruned."),
        )
    })?;
    let body = service.body_of(&webhook, &found).await?;
    let attempt = &found.attempt;
    let response = match (&attempt.error, attempt.status_code) {
        (Some(error), None) => error.detail.clone(),
        _ => cut(&attempt.response_body),
    };
    let webhook_log = Log {
        summary: Summary::new(&service, id, &found),
        queue_delay: millis(attempt.queue_delay),
        request: body.map(|body| cut(&body)),
        request_headers: HttpHeader::list(&attempt.request_headers),
        response,
        response_headers: HttpHeader::list(&attempt.response_headers),
        uri: webhook.spec.url.map(|url| url.as_str().to_owned()),
        webhook_oid: id.0,
    };
    Ok(LogAnswer { metadata: Metadata::of("webhook_log"), success: true, webhook_log })
}

/// The request of that id, if there is one.
async fn find(
    service: &Service,
    caller: &Caller,
    id: WebhookId,
    request_id: &str,
) -> Result<Option<LoggedAttempt>, Refusal> {
    // Without a key this only sees whether there is such a webhook.
    let keys = key(request_id).into_iter().collect();
    let (found, _) = service.requests(caller, id, keys, BYTES_AT_ONCE).await?;
    Ok(found.into_iter().next().filter(|found| self::request_id(service, id, found) == request_id))
}

/// The `webhook-id` that was sent, a dot, and the number of the attempt.
pub fn request_id_of(message_id: &str, attempt: u32) -> String {
    format!("{message_id}.{attempt}")
}

fn request_id(service: &Service, id: WebhookId, request: &LoggedAttempt) -> String {
    request_id_of(&service.message_id(id, request), request.attempt.attempt)
}

/// What a request is looked up by. That the id is its own is seen when it was found.
fn key(request_id: &str) -> Option<AttemptKey> {
    let (message_id, attempt) = request_id.rsplit_once('.')?;
    let (_, numbers) = message_id.rsplit_once('_')?;
    let first = numbers.split('-').next()?;
    Some(AttemptKey { increment_id: IncrementId(first.parse().ok()?), attempt: attempt.parse().ok()? })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is shown of a payload.
fn cut(payload: &[u8]) -> String {
    // No character has more bytes.
    let first = &payload[..payload.len().min(PAYLOAD_CHARS_MAX * 4)];
    String::from_utf8_lossy(first).chars().take(PAYLOAD_CHARS_MAX).collect()
}

impl Summary {
    fn new(service: &Service, id: WebhookId, request: &LoggedAttempt) -> Self {
        let attempt = &request.attempt;
        let mut event_names: Vec<String> = events(request).map(|event| event_name(&event.topic)).collect();
        let mut order_ids: Vec<String> = events(request).filter_map(order_id).collect();
        event_names.sort();
        event_names.dedup();
        order_ids.sort();
        order_ids.dedup();
        Self {
            request_id: request_id(service, id, request),
            delivery_dts: attempt.started_at.rfc3339_ms(),
            duration: millis(attempt.duration),
            success: attempt.error.is_none(),
            status_code: attempt.status_code,
            event_names,
            order_ids,
        }
    }
}

fn events(request: &LoggedAttempt) -> impl Iterator<Item = &Event> {
    request.parcel.iter().flat_map(|parcel| parcel.events().map(AsRef::as_ref))
}

/// The `order_id` of a message, a text or a number.
fn order_id(event: &Event) -> Option<String> {
    let found = members(&event.message).into_iter().find(|member| member.name.get() == r#""order_id""#)?;
    let raw = found.value.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

/// What a client asks for.
struct Wanted {
    request_id: Option<String>,
    filter: AttemptFilter,
    event: Option<String>,
    order_id: Option<String>,
    text: Option<String>,
}

impl Wanted {
    fn read(query: List) -> Result<Self, Refusal> {
        let begin = query.begin_date.as_deref().map(|text| read_time("beginDate", text)).transpose()?;
        let since = query.since.as_deref().map(|text| read_time("_since", text)).transpose()?;
        let end = query.end_date.as_deref().map(|text| read_time("endDate", text)).transpose()?;
        let duration = query.duration.map(|duration| u64::try_from(duration.0)).transpose();
        let duration = duration.map_err(|_| Refusal::bad("duration: must not be below 0."))?;
        let status = query.status.map(|status| u16::try_from(status.0)).transpose();
        let status_code = status.ok().filter(|status| status.is_none_or(|status| (100..=999).contains(&status)));
        let starts = begin.into_iter().chain(since).map(|(start, _)| start);
        let filter = AttemptFilter {
            since: starts.max(),
            until: end.map(|(start, unit)| start.after(unit)),
            status_code: status_code.ok_or_else(|| Refusal::bad("status: must be an HTTP status, 100 to 999."))?,
            is_success: query.success.map(|success| success.0),
            duration_min: Duration::from_millis(duration.unwrap_or(0)),
        };
        let List { request_id, event, order_id, request: text, .. } = query;
        Ok(Self { request_id, filter, event, order_id, text })
    }

    /// True if what was sent has to be looked into.
    fn is_of_contents(&self) -> bool {
        self.event.is_some() || self.order_id.is_some() || self.text.is_some()
    }

    /// True of a request that is wanted.
    fn admits(&self, request: &LoggedAttempt) -> bool {
        self.filter.admits(&request.attempt)
            && self.event.as_ref().is_none_or(|name| events(request).any(|event| event_name(&event.topic) == *name))
            && self.order_id.as_ref().is_none_or(|id| events(request).any(|event| order_id(event).as_ref() == Some(id)))
            && self.text.as_ref().is_none_or(|text| events(request).any(|event| event.message.as_str().contains(text)))
    }
}

/// A time and the unit it is told in: RFC 3339, the same without a zone, or a date.
fn read_time(name: &str, text: &str) -> Result<(Timestamp, Duration), Refusal> {
    const DAY: Duration = Duration::from_secs(86_400);
    // A client that gives fractions means them.
    let unit = Duration::from_millis(if text.contains('.') { 1 } else { 1_000 });
    // A `+` that was not escaped arrives as a space, and some write one for the T.
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10).unwrap_or((text, ""));
    let is_date = rest.is_empty();
    let rest = rest.strip_prefix([' ', 't', 'T']).unwrap_or(rest).replace(' ', "+");
    let ways = match is_date {
        true => vec![(format!("{date}T00:00:00Z"), DAY)],
        false => vec![(format!("{date}T{rest}"), unit), (format!("{date}T{rest}Z"), unit)],
    };
    let read = ways.into_iter().find_map(|(text, unit)| Some((Timestamp::parse_bound(&text)?, unit)));
    read.ok_or_else(|| {
        let shown = shown(text);
        Refusal::bad(format!("{name}: {shown:?} is no time such as 2026-11-25T16:08:15Z."))
    })
}

/// What to look for, and where.
struct Search<'a> {
    service: &'a Arc<Service>,
    caller: &'a Caller,
    id: WebhookId,
    window: Window,
    wanted: Arc<Wanted>,
}

impl Search<'_> {
    /// Writes the requests of the page, as far as there is room for them;
    /// whether there are more behind those.
    async fn run(&self, rows: &mut Rows<Summaries>) -> Result<bool, Refusal> {
        if let Some(request_id) = &self.wanted.request_id {
            let found = find(self.service, self.caller, self.id, request_id).await?;
            let found = found.iter().filter(|found| self.wanted.admits(found)).skip(self.window.skip);
            for found in found {
                rows.write(&Summary::new(self.service, self.id, found)).await?;
            }
            return Ok(false);
        }
        match self.wanted.is_of_contents() {
            true => self.scan(rows).await,
            false => self.take(rows).await,
        }
    }

    async fn keys(&self, after: Option<AttemptKey>, limit: usize) -> Result<Vec<AttemptKey>, Refusal> {
        Ok(self.service.list_requests(self.caller, self.id, self.wanted.filter, after, limit).await?)
    }

    /// Writes those of these requests that are wanted, apart from the first
    /// `skip`; true if the page ends before one of them. What was sent is looked
    /// into apart, since a message may be long.
    async fn write(
        &self,
        rows: &mut Rows<Summaries>,
        mut keys: Vec<AttemptKey>,
        skip: &mut usize,
    ) -> Result<bool, Refusal> {
        while !keys.is_empty() {
            let read = self.service.requests(self.caller, self.id, keys.clone(), BYTES_AT_ONCE).await?;
            let (found, looked_at) = read;
            let (service, id, wanted) = (Arc::clone(self.service), self.id, Arc::clone(&self.wanted));
            let summarise = move || {
                let found = found.iter().filter(|request| wanted.admits(request));
                found.map(|request| Summary::new(&service, id, request)).collect::<Vec<_>>()
            };
            for summary in self.service.apart(self.caller, summarise).await? {
                if *skip > 0 {
                    *skip -= 1;
                } else if rows.count() == self.window.take || !rows.write(&summary).await? {
                    return Ok(true);
                }
            }
            keys.drain(..looked_at);
        }
        Ok(false)
    }

    /// Where what was sent does not matter, a request that is passed over is
    /// not read.
    async fn take(&self, rows: &mut Rows<Summaries>) -> Result<bool, Refusal> {
        let (mut skip, mut after) = (self.window.skip, None);
        while skip > 0 {
            let passed = self.keys(after, skip.min(PASSED_OVER_AT_ONCE)).await?;
            if passed.len() < skip.min(PASSED_OVER_AT_ONCE) {
                return Ok(false);
            }
            skip -= passed.len();
            after = passed.last().copied();
        }
        let mut keys = self.keys(after, self.window.take + 1).await?;
        let more = keys.len() > self.window.take;
        keys.truncate(self.window.take);
        Ok(self.write(rows, keys, &mut 0).await? || more)
    }

    async fn scan(&self, rows: &mut Rows<Summaries>) -> Result<bool, Refusal> {
        let looked_at_max = self.service.filter_events_max() as usize;
        let (mut skip, mut looked_at, mut after) = (self.window.skip, 0, None);
        loop {
            let keys = self.keys(after, LOOKED_INTO_AT_ONCE).await?;
            let is_last = keys.len() < LOOKED_INTO_AT_ONCE;
            (after, looked_at) = (keys.last().copied(), looked_at + keys.len());
            if looked_at > looked_at_max {
                let problem = "would have to be looked into; narrow it by beginDate, endDate, status or success";
                return Err(Refusal::bad(format!("More than {looked_at_max} requests {problem}.")));
            }
            let more = self.write(rows, keys, &mut skip).await?;
            if more || is_last {
                return Ok(more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        let read = |text: &str| read_time("x", text).map(|(time, unit)| (time.rfc3339_ms(), unit.as_secs()));
        assert_eq!(read("2026-11-25").unwrap(), ("2026-11-25T00:00:00.000Z".to_owned(), 86_400));
        assert_eq!(read("2026-11-25T01:02:03").unwrap(), ("2026-11-25T01:02:03.000Z".to_owned(), 1));
        assert_eq!(read_time("x", "2026-11-25T01:02:03.004Z").unwrap().1, Duration::from_millis(1));
        assert_eq!(read("2026-11-25T01:02:03+02:00").unwrap().0, "2026-11-24T23:02:03.000Z");
        assert_eq!(read("2026-11-25T01:02:03 02:00").unwrap().0, "2026-11-24T23:02:03.000Z");
        assert_eq!(read("2026-11-25 01:02:03").unwrap().0, "2026-11-25T01:02:03.000Z");
        // What some write for no bound at all.
        assert_eq!(read("0001-01-01").unwrap().0, "1970-01-01T00:00:00.000Z");
        assert_eq!(read("9999-12-31T23:59:59.999").unwrap().0, "9999-12-30T22:00:00.000Z");
        for wrong in ["2026-11-25T12:00:00ZZZ", "2026-11-25T12:00:00[America/New_York]", "0001-13-01"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("2026-02-30").is_err() && read("2026-11-25T").is_err() && read("").is_err());
        assert!(read("yesterday").unwrap_err().message.starts_with("x: \"yesterday\" is no time"));
    }

    #[test]
    fn a_request_is_found_by_its_id() {
        let key = |text: &str| key(text).map(|key| (key.increment_id.0, key.attempt));
        assert_eq!(key("msg_a1b2c3d4_1_42.3"), Some((42, 3)));
        assert_eq!(key("msg_a1b2c3d4_1_42-44.1"), Some((42, 1)));
        for other in ["", "42", "msg_a1b2c3d4_1_42", "msg_a1b2c3d4_1_x.1", "msg_a1b2c3d4_1_42.x", "42.1"] {
            assert_eq!(key(other), None, "{other}");
        }
    }
}
