//! Between rows and the words of the domain.
//!
//! What lies in the store went in through the domain's own constructors, so a
//! row that they refuse means a damaged file: [`damaged`].

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Connection, Row};

use crate::domain::catalogue::{CatalogueEntry, TopicRule, TopicSpec, Validation};
use crate::domain::delivery::{Attempt, AttemptError, Delivery, DeliveryState, EndReason, ErrorClass};
use crate::domain::event::{Event, EventSummary, Message};
use crate::domain::expansion::{Expansion, Expansions};
use crate::domain::fault::Violation;
use crate::domain::headers::ExtraHeaders;
use crate::domain::id::{EventId, IncrementId, MerchantId, TopicId, UserId, WebhookId};
use crate::domain::message_schema::SchemaText;
use crate::domain::policy::{BasicAuth, Batching, Concurrency, OwnTimeouts, RateLimit};
use crate::domain::secret::{KeyHash, SecretKey};
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::domain::user::{Keys, OldKey, Permissions, Profile, User};
use crate::domain::webhook::{
    DeliveryMode, DisabledReason, Format, OldSecret, Pause, PauseReason, Webhook, WebhookSpec,
};
use crate::store::deliveries::Pulled;
use crate::store::parcel::{Content, Parcel};

/// What [`user`] reads; takes a WHERE behind it.
pub const USER: &str =
    "SELECT user.user_id, user.merchant_id, merchant.code, user.name, user.permissions, user.is_demo,
    user.created_at, user.disabled_at, user.revoked_at, user.key_hash, user.old_key_hash, user.old_key_until FROM user JOIN merchant USING (merchant_id)";

/// What [`profile`] reads; takes a WHERE behind it.
pub const PROFILE: &str = "SELECT user_id, application_name, application_description, application_logo_url,
    developer_name, developer_website FROM user";

/// What [`webhook`] reads; takes a WHERE behind it.
pub const WEBHOOK: &str = "SELECT * FROM webhook";

/// What a webhook's owner and the server say of it, apart from its counters:
/// the columns that [`definition`] has the values for.
pub const DEFINITION: &str =
    "name, description, is_active, topics, url, extra_headers, secret_key, old_secrets, format, retry,
    delivery_mode, max_concurrency, rate_per_second, rate_burst, connect_timeout_ms, timeout_ms, basic_username,
    basic_password, batch_events, batch_bytes, batch_wait_ms, expansions, disabled_reason, is_recovering,
    updated_at, is_paused";

/// What [`parcel`] reads; takes a WHERE behind it.
pub const PARCEL: &str = "SELECT d.increment_id, d.attempts, d.format, e.event_id, e.merchant_id, m.code, e.topic,
    e.message, e.created_at, d.next_attempt_at, d.state, d.policy_start, d.created_at, d.batch_last,
    d.expansion, d.resends_asked
    FROM delivery d LEFT JOIN event e USING (event_id) LEFT JOIN merchant m ON m.merchant_id = e.merchant_id";

/// What [`event`] reads from its first column on, and when it was accepted;
/// takes a WHERE behind it.
pub const EVENT: &str = "SELECT e.event_id, e.merchant_id, m.code, e.topic, e.message, e.created_at, e.published_at
    FROM event e JOIN merchant m USING (merchant_id)";

/// What [`delivery`] reads; takes a WHERE behind it.
pub const DELIVERY: &str =
    "SELECT d.webhook_id, d.increment_id, d.event_id, e.topic, d.state, d.attempts, d.created_at,
    d.next_attempt_at, d.ended_at, d.reason, d.policy_start FROM delivery d LEFT JOIN event e USING (event_id)";

/// What [`attempt`] reads; takes a WHERE behind it.
pub const ATTEMPT: &str = "SELECT attempt, started_at, duration_us, status_code, error_class, error_detail,
    request_headers, response_headers, response_body, queue_delay_ms, address, is_compressed FROM attempt";

/// What [`event_summary`] reads; takes a WHERE behind it.
pub const EVENT_SUMMARY: &str = "SELECT event_id, topic, created_at, published_at, octet_length(message) FROM event";

/// What [`topic`] reads; takes a WHERE behind it.
pub const TOPIC: &str = "SELECT topic, category, name, description, event_type, message_schema, validation,
    is_deprecated, is_discontinued, created_at, updated_at FROM topic";

/// The same for who has no use for schemas.
pub const TOPIC_BUT_SCHEMA: &str = "SELECT topic, category, name, description, event_type, NULL, validation,
    is_deprecated, is_discontinued, created_at, updated_at FROM topic";

/// What [`topic_rule`] reads, of a merchant and a topic.
pub const TOPIC_RULE: &str = "SELECT topic_id, version, validation, is_discontinued, message_schema IS NOT NULL
    FROM topic WHERE merchant_id = ?1 AND topic = ?2";

/// Bodies below this size are kept as they are, in bytes.
const COMPRESSED_BYTES_MIN: usize = 512;

/// A value that the program never writes.
pub fn damaged(what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(usize::MAX, Type::Text, format!("damaged store: bad {what}").into())
}

pub fn checked<T>(read: Result<T, Violation>) -> rusqlite::Result<T> {
    read.map_err(|violation| damaged(violation.field))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

pub fn time_if_any(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row str> {
    Ok(row.get_ref(column)?.as_str()?)
}

/// Reads a name that may be missing through `from_name`.
pub fn named<T>(row: &Row<'_>, column: usize, from_name: fn(&str) -> Option<T>) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        None => Ok(None),
        Some(name) => from_name(name).map(Some).ok_or_else(|| damaged("name")),
    }
}

/// Why a delivery ended, in any row.
pub fn reason_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<EndReason>> {
    named(row, column, EndReason::from_name)
}

/// A user, from [`USER`].
pub fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        user_id: UserId(row.get(0)?),
        merchant_id: MerchantId(row.get(1)?),
        merchant_code: row.get(2)?,
        name: row.get(3)?,
        permissions: Permissions::from_bits(row.get(4)?),
        is_demo: row.get(5)?,
        created_at: time(row, 6)?,
        disabled_at: time_if_any(row, 7)?,
        revoked_at: time_if_any(row, 8)?,
        keys: keys(row)?,
    })
}

fn keys(row: &Row<'_>) -> rusqlite::Result<Keys> {
    let (hash, until) = (row.get::<_, Option<_>>(10)?.map(KeyHash), time_if_any(row, 11)?);
    Ok(Keys { current: KeyHash(row.get(9)?), old: hash.zip(until).map(|(hash, until)| OldKey { hash, until }) })
}

/// A user's profile, empty or not, from [`PROFILE`].
pub fn profile(row: &Row<'_>) -> rusqlite::Result<(UserId, Profile)> {
    let profile = Profile {
        application_name: row.get(1)?,
        application_description: row.get(2)?,
        application_logo_url: row.get(3)?,
        developer_name: row.get(4)?,
        developer_website: row.get(5)?,
    };
    Ok((UserId(row.get(0)?), checked(Profile::default().changed(profile))?))
}

/// A webhook, from [`WEBHOOK`].
pub fn webhook(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    let column = |name: &str| row.as_ref().column_index(name);
    let words = |name: &str| column(name).and_then(|column| text(row, column));
    let url: Option<String> = row.get("url")?;
    let timeouts = OwnTimeouts::try_new(row.get("connect_timeout_ms")?, row.get("timeout_ms")?);
    let rate: Option<u32> = row.get("rate_per_second")?;
    let burst: Option<u32> = row.get("rate_burst")?;
    let username: Option<String> = row.get("basic_username")?;
    let password: Option<String> = row.get("basic_password")?;
    let concurrency: Option<u32> = row.get("max_concurrency")?;
    let batch_events: Option<u32> = row.get("batch_events")?;
    let (batch_bytes, batch_wait_ms) = (row.get("batch_bytes")?, row.get("batch_wait_ms")?);
    let spec = WebhookSpec {
        name: row.get("name")?,
        description: row.get("description")?,
        is_active: row.get("is_active")?,
        topics: patterns(words("topics")?)?,
        url: checked(url.map(|url| TargetUrl::stored(&url)).transpose())?,
        extra_headers: checked(ExtraHeaders::stored(words("extra_headers")?))?,
        secret_key: checked(SecretKey::stored(words("secret_key")?))?,
        format: format_from_words(words("format")?).ok_or_else(|| damaged("format"))?,
        retry: checked(words("retry")?.parse())?,
        delivery_mode: DeliveryMode::from_name(words("delivery_mode")?).ok_or_else(|| damaged("delivery_mode"))?,
        max_concurrency: checked(concurrency.map(Concurrency::try_new).transpose())?,
        rate_limit: checked(rate.map(|rate| RateLimit::try_new(rate, burst)).transpose())?,
        timeouts: checked(timeouts)?,
        basic_auth: checked(
            username.zip(password).map(|(name, password)| BasicAuth::try_new(&name, &password)).transpose(),
        )?,
        batch: checked(batch_events.map(|max| Batching::try_new(max, batch_bytes, batch_wait_ms)).transpose())?,
        expansions: expansions(words("expansions")?)?,
    };
    Ok(Webhook {
        webhook_id: WebhookId(row.get("webhook_id")?),
        merchant_id: MerchantId(row.get("merchant_id")?),
        created_by: UserId(row.get("user_id")?),
        spec,
        old_secrets: old_secrets(words("old_secrets")?)?,
        last_increment_id: IncrementId(row.get("last_increment_id")?),
        settled_through: IncrementId(row.get("settled_through")?),
        acknowledged_through: IncrementId(row.get("acknowledged_through")?),
        pulled_through: IncrementId(row.get("pulled_through")?),
        consecutive_failures: row.get("consecutive_failures")?,
        failing_since: time_if_any(row, column("failing_since")?)?,
        pause: pause(row, column("paused_until")?, column("pause_reason")?)?,
        is_paused: row.get("is_paused")?,
        disabled: named(row, column("disabled_reason")?, DisabledReason::from_name)?,
        is_recovering: row.get("is_recovering")?,
        created_at: time(row, column("created_at")?)?,
        updated_at: time(row, column("updated_at")?)?,
    })
}

fn pause(row: &Row<'_>, until: usize, reason: usize) -> rusqlite::Result<Option<Pause>> {
    let until = time_if_any(row, until)?;
    Ok(until.zip(named(row, reason, PauseReason::from_name)?).map(|(until, reason)| Pause { until, reason }))
}

/// The values for the columns of [`DEFINITION`].
pub fn definition(webhook: &Webhook) -> Vec<Value> {
    let Webhook { spec, old_secrets, disabled, is_recovering, updated_at, is_paused, .. } = webhook;
    let number = |number: Option<u32>| number.map_or(Value::Null, |number| Value::Integer(number.into()));
    let words = |text: Option<&str>| text.map_or(Value::Null, |text| Value::Text(text.to_owned()));
    let old_secrets = serde_json::Value::from_iter(
        old_secrets.iter().map(|old| serde_json::json!([old.expires_at.0, old.secret_key.expose()])),
    );
    vec![
        words(Some(&spec.name)),
        words(Some(&spec.description)),
        Value::Integer(spec.is_active.into()),
        words(Some(spec.topics.as_str())),
        words(spec.url.as_ref().map(TargetUrl::as_str)),
        words(Some(spec.extra_headers.as_str())),
        words(Some(spec.secret_key.expose())),
        Value::Text(old_secrets.to_string()),
        words(Some(format_words(spec.format))),
        Value::Text(spec.retry.to_string()),
        words(Some(spec.delivery_mode.name())),
        number(spec.max_concurrency.map(Concurrency::get)),
        number(spec.rate_limit.map(RateLimit::per_second)),
        number(spec.rate_limit.map(RateLimit::burst)),
        number(spec.timeouts.connect_ms()),
        number(spec.timeouts.total_ms()),
        words(spec.basic_auth.as_ref().map(BasicAuth::username)),
        words(spec.basic_auth.as_ref().map(BasicAuth::expose_password)),
        number(spec.batch.map(Batching::max_events)),
        number(spec.batch.map(Batching::max_bytes)),
        number(spec.batch.map(Batching::wait_ms)),
        Value::Text(expansions_text(&spec.expansions)),
        words(disabled.map(DisabledReason::name)),
        Value::Integer((*is_recovering).into()),
        Value::Integer(updated_at.0),
        Value::Integer((*is_paused).into()),
    ]
}

/// As `[[expires_at, "secret"], …]`.
fn old_secrets(text: &str) -> rusqlite::Result<Vec<OldSecret>> {
    let pairs: Vec<(i64, String)> = serde_json::from_str(text).map_err(|_| damaged("old_secrets"))?;
    let read = |(expires_at, secret): (i64, String)| {
        Ok(OldSecret { secret_key: checked(SecretKey::stored(&secret))?, expires_at: Timestamp(expires_at) })
    };
    pairs.into_iter().map(read).collect()
}

/// As `{"order:created": "billing,items", …}`.
fn expansions_text(expansions: &Expansions) -> String {
    let pairs = expansions.list().iter().map(|(topic, own)| (topic.as_str(), own.as_str().into()));
    serde_json::Value::Object(pairs.map(|(topic, own)| (topic.to_owned(), own)).collect()).to_string()
}

fn expansions(text: &str) -> rusqlite::Result<Expansions> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| damaged("expansions"))?;
    let read = |(topic, own): (String, String)| Ok((checked(Topic::try_new(&topic))?, Expansion::from_store(&own)));
    checked(Expansions::try_new(pairs.into_iter().map(read).collect::<rusqlite::Result<_>>()?))
}

/// A list of patterns, which may be empty.
pub fn patterns(text: &str) -> rusqlite::Result<Patterns> {
    if text.is_empty() { Ok(Patterns::none()) } else { checked(Patterns::try_new(text)) }
}

/// What happened, from [`PARCEL`] or [`EVENT`]: six columns, the `first` of
/// them its id.
pub fn event(row: &Row<'_>, first: usize) -> rusqlite::Result<Event> {
    Ok(Event {
        event_id: EventId(row.get(first)?),
        merchant_id: MerchantId(row.get(first + 1)?),
        merchant_code: text(row, first + 2)?.into(),
        topic: checked(Topic::try_new(text(row, first + 3)?))?,
        message: Message::from_store(row.get(first + 4)?),
        created_at: time(row, first + 5)?,
    })
}

/// What happened, and what of it goes out, from [`PARCEL`]; `None` if it was
/// pruned.
pub fn content(row: &Row<'_>) -> rusqlite::Result<Option<Content>> {
    if matches!(row.get_ref(3)?, ValueRef::Null) {
        return Ok(None);
    }
    let event = Arc::new(event(row, 3)?);
    let expansion = row.get_ref(14)?.as_str_or_null()?.map(Expansion::from_store).map(Arc::new);
    Ok(Some(Content { event, expansion }))
}

/// When an event was accepted, from [`EVENT`].
pub fn published_at(row: &Row<'_>) -> rusqlite::Result<Timestamp> {
    time(row, 6)
}

/// A delivery, from [`PARCEL`], apart from its batch; `None` if its event was
/// pruned.
pub fn parcel(row: &Row<'_>) -> rusqlite::Result<Option<Parcel>> {
    let Some(Content { event, expansion }) = content(row)? else { return Ok(None) };
    Ok(Some(Parcel {
        increment_id: IncrementId(row.get(0)?),
        attempts: row.get(1)?,
        policy_start: row.get(11)?,
        resends_asked: row.get(15)?,
        due_at: time_if_any(row, 9)?,
        numbered_at: time(row, 12)?,
        format: format_from_code(row.get(2)?).ok_or_else(|| damaged("format"))?,
        event,
        expansion,
        batch: None,
    }))
}

/// The last number of the batch that it is in, from [`PARCEL`].
pub fn batch_last(row: &Row<'_>) -> rusqlite::Result<Option<IncrementId>> {
    Ok(row.get::<_, Option<i64>>(13)?.map(IncrementId))
}

/// A number for who pulls, from [`PARCEL`].
pub fn pulled(row: &Row<'_>) -> rusqlite::Result<Pulled> {
    let state = state_from_code(row.get(10)?).ok_or_else(|| damaged("state"))?;
    Ok(Pulled { increment_id: IncrementId(row.get(0)?), parcel: parcel(row)?, state })
}

/// When it is looked when deliveries go out, and whether the server sends any.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    pub now: Timestamp,
    pub is_paused: bool,
}

/// What of a webhook says when its deliveries go out.
pub struct Sending {
    webhook_id: WebhookId,
    is_delivering: bool,
    is_ordered: bool,
    /// Unless it is over.
    pause: Option<Pause>,
}

impl Sending {
    /// As it is now, of a webhook that was deleted, too.
    pub fn of(conn: &Connection, webhook_id: WebhookId, outlook: Outlook) -> rusqlite::Result<Self> {
        let sql =
            "SELECT is_active AND NOT is_paused AND disabled_reason IS NULL AND url IS NOT NULL AND deleted_at IS NULL,
            delivery_mode, paused_until, pause_reason FROM webhook WHERE webhook_id = ?1";
        conn.prepare_cached(sql)?.query_row([webhook_id.0], |row| {
            let mode = named(row, 1, DeliveryMode::from_name)?;
            Ok(Self {
                webhook_id,
                is_delivering: row.get(0)? && !outlook.is_paused,
                is_ordered: mode == Some(DeliveryMode::Ordered),
                pause: pause(row, 2, 3)?.filter(|pause| pause.until > outlook.now),
            })
        })
    }

    /// True if its receiver is left alone for a while.
    pub fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// When a delivery that is due then goes out: not as long as nothing of its
    /// webhook is sent, and not before a pause is over. An ordered webhook's
    /// retries are their own probes of an open breaker.
    pub fn goes_out_at(&self, due_at: Option<Timestamp>, is_retry: bool) -> Option<Timestamp> {
        let is_probe = self.is_ordered && is_retry;
        let pause = self.pause.filter(|pause| !(is_probe && pause.reason == PauseReason::Failures));
        due_at.max(pause.map(|pause| pause.until)).filter(|_| self.is_delivering)
    }
}

/// Reads deliveries for their owners, each with what is known of its webhook at
/// that time.
pub struct Deliveries<'a> {
    conn: &'a Connection,
    outlook: Outlook,
    sending: Option<Sending>,
}

impl<'a> Deliveries<'a> {
    pub fn new(conn: &'a Connection, outlook: Outlook) -> Self {
        Self { conn, outlook, sending: None }
    }

    /// A delivery, from [`DELIVERY`].
    pub fn read(&mut self, row: &Row<'_>) -> rusqlite::Result<Delivery> {
        let id = WebhookId(row.get(0)?);
        let sending = match self.sending.take().filter(|sending| sending.webhook_id == id) {
            Some(sending) => sending,
            None => Sending::of(self.conn, id, self.outlook)?,
        };
        let delivery = delivery(row, &sending);
        self.sending = Some(sending);
        delivery
    }
}

fn delivery(row: &Row<'_>, sending: &Sending) -> rusqlite::Result<Delivery> {
    let state = state_from_code(row.get(4)?).ok_or_else(|| damaged("state"))?;
    let (attempts, due_at, policy_start): (u32, _, u32) = (row.get(5)?, time_if_any(row, 7)?, row.get(10)?);
    let is_to_be_sent = due_at.is_some() || state == DeliveryState::Pending;
    let goes_out_at = sending.goes_out_at(due_at, due_at.is_some() && attempts > policy_start);
    Ok(Delivery {
        webhook_id: sending.webhook_id,
        increment_id: IncrementId(row.get(1)?),
        event_id: EventId(row.get::<_, i64>(2)?.abs()),
        topic: (row.get::<_, Option<String>>(3)?).map(|topic| checked(Topic::try_new(&topic))).transpose()?,
        state,
        attempts,
        created_at: time(row, 6)?,
        next_attempt_at: goes_out_at.filter(|_| is_to_be_sent),
        ended_at: time_if_any(row, 8)?,
        reason: named(row, 9, EndReason::from_name)?,
    })
}

/// An attempt, from [`ATTEMPT`].
pub fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let detail: Option<String> = row.get(5)?;
    let class = named(row, 4, ErrorClass::from_name)?;
    Ok(Attempt {
        attempt: row.get(0)?,
        started_at: time(row, 1)?,
        duration: Duration::from_micros(row.get::<_, i64>(2)?.unsigned_abs()),
        status_code: row.get(3)?,
        error: class.map(|class| AttemptError { class, detail: detail.unwrap_or_default() }),
        request_headers: row.get(6)?,
        response_headers: row.get(7)?,
        response_body: match row.get(11)? {
            true => inflate(row.get_ref(8)?.as_blob()?)?,
            false => row.get(8)?,
        },
        queue_delay: Duration::from_millis(row.get::<_, i64>(9)?.unsigned_abs()),
        address: (row.get::<_, Option<String>>(10)?).and_then(|address| address.parse().ok()),
    })
}

/// How long an attempt took, and what went wrong.
pub fn outcome(row: &Row<'_>) -> rusqlite::Result<(Duration, Option<ErrorClass>)> {
    let duration = Duration::from_micros(row.get::<_, i64>(0)?.unsigned_abs());
    Ok((duration, named(row, 1, ErrorClass::from_name)?))
}

/// A topic in any row.
pub fn topic_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Topic> {
    checked(Topic::try_new(text(row, column)?))
}

/// An event in a list, from [`EVENT_SUMMARY`].
pub fn event_summary(conn: &Connection, row: &Row<'_>) -> rusqlite::Result<EventSummary> {
    let event_id = EventId(row.get(0)?);
    Ok(EventSummary {
        event_id,
        topic: topic_at(row, 1)?,
        created_at: time(row, 2)?,
        published_at: time(row, 3)?,
        message_bytes: row.get::<_, i64>(4)?.unsigned_abs(),
        delivery_count: delivery_count(conn, event_id)?,
    })
}

/// How many deliveries an event has.
pub fn delivery_count(conn: &Connection, id: EventId) -> rusqlite::Result<u64> {
    let mut statement = conn.prepare_cached("SELECT count(*) FROM delivery WHERE event_id = ?1")?;
    statement.query_row([id.0], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// A topic in a catalogue, from [`TOPIC`].
pub fn topic(row: &Row<'_>) -> rusqlite::Result<CatalogueEntry> {
    let event_type = row.get(4)?;
    Ok(CatalogueEntry {
        spec: TopicSpec {
            topic: topic_at(row, 0)?,
            category: row.get(1)?,
            name: row.get(2)?,
            description: row.get(3)?,
            event_type: Some(event_type),
            message_schema: row.get::<_, Option<String>>(5)?.map(SchemaText::from_store),
            validation: named(row, 6, Validation::from_name)?.ok_or_else(|| damaged("validation"))?,
            is_deprecated: row.get(7)?,
            is_discontinued: row.get(8)?,
        },
        event_type,
        created_at: time(row, 9)?,
        updated_at: time(row, 10)?,
    })
}

/// What the catalogue demands, from [`TOPIC_RULE`].
pub fn topic_rule(row: &Row<'_>) -> rusqlite::Result<TopicRule> {
    let validation = named(row, 2, Validation::from_name)?.ok_or_else(|| damaged("validation"))?;
    let has_schema: bool = row.get(4)?;
    Ok(TopicRule {
        topic_id: TopicId(row.get(0)?),
        version: row.get(1)?,
        validation: if has_schema { validation } else { Validation::Off },
        is_discontinued: row.get(3)?,
    })
}

/// The body in zlib's format, if that is worth it.
pub fn deflate(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < COMPRESSED_BYTES_MIN {
        return None;
    }
    let mut writer = ZlibEncoder::new(Vec::new(), Compression::fast());
    let deflated = writer.write_all(body).and_then(|()| writer.finish()).ok()?;
    (deflated.len() < body.len()).then_some(deflated)
}

fn inflate(deflated: &[u8]) -> rusqlite::Result<Vec<u8>> {
    let mut body = Vec::new();
    ZlibDecoder::new(deflated).read_to_end(&mut body).map_err(|_| damaged("response_body"))?;
    Ok(body)
}

/// A state as the store keeps it.
pub fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Delivered => 1,
        DeliveryState::Abandoned => 2,
        DeliveryState::Cancelled => 3,
    }
}

pub fn state_from_code(code: i64) -> Option<DeliveryState> {
    DeliveryState::ALL.into_iter().find(|state| state_code(*state) == code)
}

/// A format as it is kept: the words in a webhook's row, and the code in a
/// delivery's, for ever. No code is used again.
fn kept_format(format: Format) -> (&'static str, i64) {
    match format {
        Format::Envelope => ("envelope", 0),
        Format::Shipstream => ("shipstream", 1),
        Format::ThreeDCart => ("3dcart json", 2),
        Format::ThreeDCartXml => ("3dcart xml", 3),
        Format::UltraCart => ("ultracart", 4),
        Format::UltraCartGzip => ("ultracart gzip", 5),
    }
}

fn format_words(format: Format) -> &'static str {
    kept_format(format).0
}

fn format_from_words(words: &str) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format_words(*format) == words)
}

/// The code of a format in the row of a delivery.
pub fn format_code(format: Format) -> i64 {
    kept_format(format).1
}

fn format_from_code(code: i64) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format_code(*format) == code)
}
