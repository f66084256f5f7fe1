//! Retention: what has ended is pruned in small steps. The rows of deliveries stay
//! as tombstones; their attempts and events go.
//!
//! A pass walks the attempts of each webhook and then all events, from the oldest
//! on. What belongs to a merchant whom somebody else holds is left to the next pass,
//! and what is for another node, to that.

use tokio_postgres::types::Type;

use super::session::Session;
use super::values::Parameter;
use crate::domain::id::{EventId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::pruning::CutOff;
use crate::store::sql::db::{all, values};

type Result<T> = std::result::Result<T, StoreError>;

/// Rows looked at in a step.
const PER_STEP: i64 = 250;

/// A pass, and how far it is.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    place: Place,
    before: CutOff,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// All attempts up to this one have been looked at.
    Attempts { webhook: i64, number: i64, attempt: i64 },
    /// All events up to this one have.
    Events(i64),
}

impl Pass {
    /// One that begins.
    pub fn new(before: CutOff) -> Self {
        Self { place: Place::Attempts { webhook: 0, number: 0, attempt: 0 }, before }
    }
}

/// Logs that became smaller, and by how much.
pub type Shrunk = Vec<(WebhookId, u64)>;

/// Does a step of a pass, for the merchants of these buckets; gives it back unless it
/// is done.
pub fn step(
    session: &mut Session,
    pass: Pass,
    kept_from: Option<EventId>,
    buckets: &Vec<i64>,
) -> Result<(Option<Pass>, Shrunk)> {
    let before = pass.before;
    match pass.place {
        Place::Attempts { webhook, number, attempt } => {
            let (next, shrunk) = attempts(session, (webhook, number, attempt), before.attempts, buckets)?;
            let place = next.map_or(Place::Events(0), |(webhook, number, attempt)| Place::Attempts {
                webhook,
                number,
                attempt,
            });
            Ok((Some(Pass { place, before }), shrunk))
        }
        Place::Events(after) => {
            let next = events(session, after, before.bodies, (kept_from, buckets))?;
            Ok((next.map(|through| Pass { place: Place::Events(through), before }), Vec::new()))
        }
    }
}

/// Of the merchants of these webhooks, or of these themselves, those of the buckets
/// that can be held are.
fn hold(session: &Session, sql: &str, ids: &Vec<i64>, buckets: &Vec<i64>) -> Result<Vec<i64>> {
    let values: [Parameter<'_>; 2] = [(ids, Type::INT8_ARRAY), (buckets, Type::INT8_ARRAY)];
    let held = session.together(session.ask(sql, &values))?;
    held.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

type AttemptPlace = (i64, i64, i64);

/// Deletes those of the next attempts that are old enough, and whose deliveries
/// are; where to go on.
fn attempts(
    session: &mut Session,
    after: AttemptPlace,
    before: Timestamp,
    buckets: &Vec<i64>,
) -> Result<(Option<AttemptPlace>, Shrunk)> {
    const NEXT: &str = "SELECT webhook_id, increment_id, attempt, started_at FROM attempt
        WHERE (webhook_id, increment_id, attempt) > ($1, $2, $3) ORDER BY webhook_id, increment_id, attempt LIMIT $4";
    const HOLD: &str = "SELECT w.webhook_id FROM webhook w JOIN merchant m USING (merchant_id)
        WHERE w.webhook_id = ANY($1) AND (m.merchant_id & 255) = ANY($2) ORDER BY m.merchant_id FOR NO KEY UPDATE OF m SKIP LOCKED";
    const DELETE: &str = "DELETE FROM attempt a USING unnest($1, $2, $3) AS k (webhook_id, increment_id, attempt)
        WHERE a.webhook_id = k.webhook_id AND a.increment_id = k.increment_id AND a.attempt = k.attempt
            AND a.started_at < $4 AND EXISTS (SELECT 1 FROM delivery d WHERE d.webhook_id = a.webhook_id
                AND d.increment_id = a.increment_id AND d.state <> 0 AND d.next_attempt_at IS NULL AND d.ended_at < $4)
        RETURNING a.webhook_id,
            octet_length(a.request_headers) + octet_length(a.response_headers) + octet_length(a.response_body)";
    let (webhook, number, attempt) = after;
    let found = all(session, NEXT, values![webhook, number, attempt, PER_STEP], |row| {
        Ok(((row.int(0)?, row.int(1)?, row.int(2)?), row.int(3)?))
    })?;
    let Some(((last, last_number, last_attempt), _)) = found.last().copied() else { return Ok((None, Vec::new())) };
    let old: Vec<_> = found.iter().filter(|(_, started_at)| *started_at < before.0).map(|(place, _)| *place).collect();
    // Within a webhook, what follows is younger, as a rule.
    let is_young = old.iter().all(|(id, ..)| *id != last);
    let next = if is_young { (last, i64::MAX, i64::MAX) } else { (last, last_number, last_attempt) };
    let mut webhooks: Vec<_> = old.iter().map(|(id, ..)| *id).collect();
    webhooks.dedup();
    let held = hold(session, HOLD, &webhooks, buckets)?;
    let old: Vec<_> = old.into_iter().filter(|(id, ..)| held.contains(id)).collect();
    let ids: Vec<_> = old.iter().map(|(id, ..)| *id).collect();
    let numbers: Vec<_> = old.iter().map(|(_, number, _)| *number).collect();
    let attempts: Vec<_> = old.iter().map(|(.., attempt)| i32::try_from(*attempt).unwrap_or(i32::MAX)).collect();
    let values: [Parameter<'_>; 4] = [
        (&ids, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&attempts, Type::INT4_ARRAY),
        (&before.0, Type::INT8),
    ];
    let deleted = session.together(session.ask(DELETE, &values))?;
    let shrunk =
        |row: &tokio_postgres::Row| Ok((WebhookId(row.try_get(0)?), row.try_get::<_, i32>(1)?.unsigned_abs().into()));
    Ok((Some(next), deleted.iter().map(shrunk).collect::<Result<_>>()?))
}

/// Deletes those of the next events that are old enough, and whose deliveries are;
/// where to go on.
fn events(
    session: &mut Session,
    after: i64,
    before: Timestamp,
    (kept_from, buckets): (Option<EventId>, &Vec<i64>),
) -> Result<Option<i64>> {
    const NEXT: &str = "SELECT event_id, merchant_id, published_at FROM event WHERE event_id > $1
        ORDER BY event_id LIMIT $2";
    const HOLD: &str = "SELECT merchant_id FROM merchant WHERE merchant_id = ANY($1)
        AND (merchant_id & 255) = ANY($2) ORDER BY merchant_id FOR NO KEY UPDATE SKIP LOCKED";
    const DELETE: &str = "DELETE FROM event e USING unnest($1) AS k (event_id) WHERE e.event_id = k.event_id
        AND e.published_at < $2 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event_id = e.event_id
            AND (d.state = 0 OR d.next_attempt_at IS NOT NULL OR d.ended_at >= $2))
        AND NOT EXISTS (SELECT 1 FROM fanout f WHERE f.merchant_id = e.merchant_id)";
    let found = all(session, NEXT, values![after, PER_STEP], |row| Ok((row.int(0)?, row.int(1)?, row.int(2)?)))?;
    let old: Vec<_> = found.iter().filter(|(.., published_at)| *published_at < before.0).collect();
    if old.is_empty() {
        return Ok(None);
    }
    let mut merchants: Vec<_> = old.iter().map(|(_, merchant, _)| *merchant).collect();
    merchants.sort_unstable();
    merchants.dedup();
    let held = hold(session, HOLD, &merchants, buckets)?;
    let is_kept = |id: i64| kept_from.is_some_and(|kept| id >= kept.0);
    let ids: Vec<i64> =
        old.iter().filter(|(id, merchant, _)| held.contains(merchant) && !is_kept(*id)).map(|(id, ..)| *id).collect();
    let values: [Parameter<'_>; 2] = [(&ids, Type::INT8_ARRAY), (&before.0, Type::INT8)];
    session.together(session.tell(DELETE, &values))?;
    Ok(found.last().map(|(id, ..)| *id))
}
