//! What many events a second go through: a statement for all rows of a kind.
//!
//! Each column is an array, so a statement's text is the same however many rows
//! there are. The sessions that run them may not scan tables (see
//! [`super::engine`]): all of it goes by key.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio_postgres::types::Type;

use super::session::Session;
use super::values::{Parameter, storable};
use crate::domain::delivery::EndReason;
use crate::domain::expansion::Expansion;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::decision::{AttemptRow, KeyRow, NewEventRow, NumberedRow, StandingRow};
use crate::store::ledger::wants::FirstHeard;
use crate::store::sql::codes::{format_code, state_code, write_pairs};
use crate::store::sql::definition::labels_text;

type Result<T> = std::result::Result<T, StoreError>;

const EVENTS: &str = "INSERT INTO event (event_id, merchant_id, topic, message, created_at, traceparent, labels,
    published_at)
    SELECT *, $8 FROM unnest($1, $2, $3, $4, $5, $6, $7)";

const NUMBERED: &str = "INSERT INTO delivery (webhook_id, increment_id, event_id, format, expansion, created_at)
    SELECT *, $6 FROM unnest($1, $2, $3, $4, $5)";

const STANDINGS: &str = "UPDATE delivery d SET state = s.state, attempts = s.attempts, policy_start = s.policy_start,
        next_attempt_at = s.next_attempt_at, ended_at = s.ended_at, reason = s.reason, batch_first = s.batch_first,
        batch_last = s.batch_last, resends_asked = s.resends_asked
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS s (webhook_id, increment_id, state, attempts,
        policy_start, next_attempt_at, ended_at, reason, batch_first, batch_last, resends_asked)
    WHERE d.webhook_id = s.webhook_id AND d.increment_id = s.increment_id";

/// Compare-and-set of deliveries that nobody has heard of before; gives those
/// that were so. The sign of the event is asked for in a way that no index has, since
/// a plan made for an empty table might go by the events.
const FIRST_HEARD: &str = "UPDATE delivery d SET state = h.state, attempts = h.attempts,
        next_attempt_at = h.next_attempt_at, ended_at = h.ended_at, reason = h.reason
    FROM unnest($1, $2, $3, $4, $5, $6, $7) AS h (webhook_id, increment_id, state, attempts, next_attempt_at, ended_at,
        reason)
    WHERE d.webhook_id = h.webhook_id AND d.increment_id = h.increment_id AND d.state = 0 AND d.attempts = 0
        AND d.policy_start = 0 AND d.next_attempt_at IS NULL AND d.ended_at IS NULL AND d.reason IS NULL
        AND d.batch_first IS NULL AND d.resends_asked = 0 AND sign(d.event_id) > 0
    RETURNING d.webhook_id, d.increment_id";

const ATTEMPTS: &str = "INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, duration_us, status_code,
        error_class, error_detail, request_headers, response_headers, response_body, is_compressed, queue_delay_ms,
        address)
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

const KEYS: &str = "INSERT INTO idempotency (merchant_id, key, content_hash, event_id, receipt, expires_at)
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6)
    ON CONFLICT (merchant_id, key) DO UPDATE SET content_hash = excluded.content_hash, event_id = excluded.event_id,
        receipt = excluded.receipt, expires_at = excluded.expires_at";

/// The last number is not among them: it is the head of the key. What another node has
/// written meanwhile of those that only go up stays.
const COUNTERS: &str = "UPDATE webhook w SET settled_through = greatest(w.settled_through, c.settled_through),
        acknowledged_through = greatest(w.acknowledged_through, c.acknowledged_through),
        pulled_through = greatest(w.pulled_through, c.pulled_through), consecutive_failures = c.consecutive_failures,
        failing_since = c.failing_since, paused_until = c.paused_until, pause_reason = c.pause_reason
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS c (webhook_id, settled_through, acknowledged_through, pulled_through,
        consecutive_failures, failing_since, paused_until, pause_reason)
    WHERE w.webhook_id = c.webhook_id";

/// All of these statements, with the types of their values.
pub fn statements() -> [(String, Vec<Type>); 7] {
    use Type as T;
    let (int8, int4, int2, text) = (T::INT8_ARRAY, T::INT4_ARRAY, T::INT2_ARRAY, T::TEXT_ARRAY);
    let of = |types: &[&Type]| types.iter().copied().cloned().collect();
    let all = [
        (EVENTS, of(&[&int8, &int8, &text, &text, &int8, &text, &text, &T::INT8])),
        (NUMBERED, of(&[&int8, &int8, &int8, &int2, &text, &T::INT8])),
        (STANDINGS, of(&[&int8, &int8, &int2, &int4, &int4, &int8, &int8, &text, &int8, &int8, &int4])),
        (FIRST_HEARD, of(&[&int8, &int8, &int2, &int4, &int8, &int8, &text])),
        (
            ATTEMPTS,
            of(&[
                &int8,
                &int8,
                &int4,
                &int8,
                &int8,
                &int4,
                &text,
                &text,
                &text,
                &text,
                &T::BYTEA_ARRAY,
                &T::BOOL_ARRAY,
                &int8,
                &text,
            ]),
        ),
        (KEYS, of(&[&int8, &text, &T::BYTEA_ARRAY, &int8, &text, &int8])),
        (COUNTERS, of(&[&int8, &int8, &int8, &int8, &int8, &int8, &int8, &text])),
    ];
    all.map(|(sql, types)| (sql.to_owned(), types))
}

/// Small numbers that the tables keep small.
fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Stores events.
pub async fn events(session: &Session, events: &[NewEventRow], now: Timestamp) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = events.iter().map(|row| row.event.event_id.0).collect();
    let merchants: Vec<_> = events.iter().map(|row| row.event.merchant_id.0).collect();
    let topics: Vec<_> = events.iter().map(|row| row.event.topic.as_str()).collect();
    let messages: Vec<_> = events.iter().map(|row| row.event.message.as_str()).collect();
    let created: Vec<_> = events.iter().map(|row| row.event.created_at.0).collect();
    let traces: Vec<_> = events.iter().map(|row| row.event.trace.map(|trace| trace.to_string())).collect();
    let labels: Vec<_> = events.iter().map(|row| row.labels.as_deref().map(labels_text)).collect();
    let values: [Parameter<'_>; 8] = [
        (&ids, Type::INT8_ARRAY),
        (&merchants, Type::INT8_ARRAY),
        (&topics, Type::TEXT_ARRAY),
        (&messages, Type::TEXT_ARRAY),
        (&created, Type::INT8_ARRAY),
        (&traces, Type::TEXT_ARRAY),
        (&labels, Type::TEXT_ARRAY),
        (&now.0, Type::INT8),
    ];
    session.tell(EVENTS, &values).await.map(drop)
}

/// Stores deliveries as they are when they get their numbers.
pub async fn numbered(session: &Session, rows: &[NumberedRow], now: Timestamp) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let webhooks: Vec<_> = rows.iter().map(|row| row.webhook_id.0).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.number.0).collect();
    let events: Vec<_> = rows.iter().map(|row| row.event_id.0).collect();
    let formats: Vec<_> = rows.iter().map(|row| format_code(row.format) as i16).collect();
    let expansions: Vec<_> = rows.iter().map(|row| row.expansion.as_deref().map(Expansion::as_str)).collect();
    let values: [Parameter<'_>; 6] = [
        (&webhooks, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&events, Type::INT8_ARRAY),
        (&formats, Type::INT2_ARRAY),
        (&expansions, Type::TEXT_ARRAY),
        (&now.0, Type::INT8),
    ];
    session.tell(NUMBERED, &values).await.map(drop)
}

/// Where a new delivery stands, if that is not where it is when it is stored.
pub fn standing_of(row: &NumberedRow) -> Option<StandingRow> {
    let NumberedRow { webhook_id, number, standing, .. } = *row;
    (standing != Standing::NEW).then_some(StandingRow { webhook_id, number, standing })
}

/// Writes where deliveries stand; of several rows of one the last counts.
pub async fn standings(session: &Session, rows: &[StandingRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let last: HashMap<(WebhookId, IncrementId), &Standing> =
        rows.iter().map(|row| ((row.webhook_id, row.number), &row.standing)).collect();
    let webhooks: Vec<_> = last.keys().map(|(id, _)| id.0).collect();
    let numbers: Vec<_> = last.keys().map(|(_, number)| number.0).collect();
    let all = || last.values();
    let states: Vec<_> = all().map(|standing| state_code(standing.state) as i16).collect();
    let attempts: Vec<_> = all().map(|standing| small(standing.attempts)).collect();
    let starts: Vec<_> = all().map(|standing| small(standing.policy_start)).collect();
    let next: Vec<_> = all().map(|standing| standing.next_attempt_at.map(|at| at.0)).collect();
    let ended: Vec<_> = all().map(|standing| standing.ended_at.map(|at| at.0)).collect();
    let reasons: Vec<_> = all().map(|standing| standing.reason.map(EndReason::name)).collect();
    let firsts: Vec<_> = all().map(|standing| standing.batch.map(|batch| batch.first.0)).collect();
    let lasts: Vec<_> = all().map(|standing| standing.batch.map(|batch| batch.last.0)).collect();
    let resends: Vec<_> = all().map(|standing| small(standing.resends_asked)).collect();
    let values: [Parameter<'_>; 11] = [
        (&webhooks, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&states, Type::INT2_ARRAY),
        (&attempts, Type::INT4_ARRAY),
        (&starts, Type::INT4_ARRAY),
        (&next, Type::INT8_ARRAY),
        (&ended, Type::INT8_ARRAY),
        (&reasons, Type::TEXT_ARRAY),
        (&firsts, Type::INT8_ARRAY),
        (&lasts, Type::INT8_ARRAY),
        (&resends, Type::INT4_ARRAY),
    ];
    session.tell(STANDINGS, &values).await.map(drop)
}

/// Writes deliveries that were heard of for the first time, as far as they are as
/// they were numbered; returns which.
pub async fn first_heard(session: &Session, rows: &[FirstHeard]) -> Result<Vec<(WebhookId, IncrementId)>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let webhooks: Vec<_> = rows.iter().map(|row| row.webhook_id.0).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.number.0).collect();
    let states: Vec<_> = rows.iter().map(|row| state_code(row.standing.state) as i16).collect();
    let attempts: Vec<_> = rows.iter().map(|row| small(row.standing.attempts)).collect();
    let next: Vec<_> = rows.iter().map(|row| row.standing.next_attempt_at.map(|at| at.0)).collect();
    let ended: Vec<_> = rows.iter().map(|row| row.standing.ended_at.map(|at| at.0)).collect();
    let reasons: Vec<_> = rows.iter().map(|row| row.standing.reason.map(EndReason::name)).collect();
    let values: [Parameter<'_>; 7] = [
        (&webhooks, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&states, Type::INT2_ARRAY),
        (&attempts, Type::INT4_ARRAY),
        (&next, Type::INT8_ARRAY),
        (&ended, Type::INT8_ARRAY),
        (&reasons, Type::TEXT_ARRAY),
    ];
    let written = session.ask(FIRST_HEARD, &values).await?;
    written.iter().map(|row| Ok((WebhookId(row.try_get(0)?), IncrementId(row.try_get(1)?)))).collect()
}

/// Stores attempts.
pub async fn attempts(session: &Session, rows: &[AttemptRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let all = || rows.iter().map(|row| (row, row.outcome(), &row.outcome().attempt));
    let webhooks: Vec<_> = all().map(|(_, outcome, _)| outcome.webhook_id.0).collect();
    let numbers: Vec<_> = all().map(|(_, outcome, _)| outcome.numbers.first.0).collect();
    let which: Vec<_> = all().map(|(.., attempt)| small(attempt.attempt)).collect();
    let started: Vec<_> = all().map(|(.., attempt)| attempt.started_at.0).collect();
    let large = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
    let durations: Vec<_> = all().map(|(.., attempt)| large(attempt.duration.as_micros())).collect();
    let statuses: Vec<_> = all().map(|(.., attempt)| attempt.status_code.map(i32::from)).collect();
    let classes: Vec<_> = all().map(|(.., attempt)| attempt.error.as_ref().map(|error| error.class.name())).collect();
    let details: Vec<Option<Cow<'_, str>>> =
        all().map(|(.., attempt)| attempt.error.as_ref().map(|error| storable(&error.detail))).collect();
    let kept = |row: &AttemptRow, text| if row.is_whole { storable(text) } else { Cow::Borrowed("") };
    let requests: Vec<_> = all().map(|(row, _, attempt)| kept(row, &attempt.request_headers)).collect();
    let responses: Vec<_> = all().map(|(row, _, attempt)| kept(row, &attempt.response_headers)).collect();
    let bodies: Vec<&[u8]> = all()
        .map(|(row, _, attempt)| match row.is_whole {
            true => row.compressed.as_deref().unwrap_or(&attempt.response_body),
            false => &[],
        })
        .collect();
    let compressed: Vec<_> = rows.iter().map(|row| row.is_whole && row.compressed.is_some()).collect();
    let delays: Vec<_> = all().map(|(.., attempt)| large(attempt.queue_delay.as_millis())).collect();
    let addresses: Vec<_> = all().map(|(.., attempt)| attempt.address.map(|address| address.to_string())).collect();
    let values: [Parameter<'_>; 14] = [
        (&webhooks, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&which, Type::INT4_ARRAY),
        (&started, Type::INT8_ARRAY),
        (&durations, Type::INT8_ARRAY),
        (&statuses, Type::INT4_ARRAY),
        (&classes, Type::TEXT_ARRAY),
        (&details, Type::TEXT_ARRAY),
        (&requests, Type::TEXT_ARRAY),
        (&responses, Type::TEXT_ARRAY),
        (&bodies, Type::BYTEA_ARRAY),
        (&compressed, Type::BOOL_ARRAY),
        (&delays, Type::INT8_ARRAY),
        (&addresses, Type::TEXT_ARRAY),
    ];
    session.tell(ATTEMPTS, &values).await.map(drop)
}

/// Remembers idempotency keys.
pub async fn keys(session: &Session, rows: &[KeyRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let merchants: Vec<_> = rows.iter().map(|row| row.merchant.0).collect();
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| &row.content_hash[..]).collect();
    let events: Vec<_> = rows.iter().map(|row| row.event_id.0).collect();
    let receipts: Vec<_> = rows.iter().map(|row| write_pairs(&row.deliveries)).collect();
    let expire: Vec<_> = rows.iter().map(|row| row.expires_at.0).collect();
    let values: [Parameter<'_>; 6] = [
        (&merchants, Type::INT8_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&hashes, Type::BYTEA_ARRAY),
        (&events, Type::INT8_ARRAY),
        (&receipts, Type::TEXT_ARRAY),
        (&expire, Type::INT8_ARRAY),
    ];
    session.tell(KEYS, &values).await.map(drop)
}

/// Writes how webhooks are doing; of several rows of one the last counts.
pub async fn counters(session: &Session, rows: &[(WebhookId, Counters)]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let last: HashMap<WebhookId, &Counters> = rows.iter().map(|(id, counters)| (*id, counters)).collect();
    let webhooks: Vec<_> = last.keys().map(|id| id.0).collect();
    let all = || last.values();
    let settled: Vec<_> = all().map(|counters| counters.settled_through.0).collect();
    let acknowledged: Vec<_> = all().map(|counters| counters.acknowledged_through.0).collect();
    let pulled: Vec<_> = all().map(|counters| counters.pulled_through.0).collect();
    let failures: Vec<_> = all().map(|counters| i64::from(counters.consecutive_failures)).collect();
    let since: Vec<_> = all().map(|counters| counters.failing_since.map(|at| at.0)).collect();
    let until: Vec<_> = all().map(|counters| counters.pause.map(|pause| pause.until.0)).collect();
    let reasons: Vec<_> = all().map(|counters| counters.pause.map(|pause| pause.reason.name())).collect();
    let values: [Parameter<'_>; 8] = [
        (&webhooks, Type::INT8_ARRAY),
        (&settled, Type::INT8_ARRAY),
        (&acknowledged, Type::INT8_ARRAY),
        (&pulled, Type::INT8_ARRAY),
        (&failures, Type::INT8_ARRAY),
        (&since, Type::INT8_ARRAY),
        (&until, Type::INT8_ARRAY),
        (&reasons, Type::TEXT_ARRAY),
    ];
    session.tell(COUNTERS, &values).await.map(drop)
}
