//! The log of attempts.

use async_trait::async_trait;

use super::conn::Conn;
use super::db::{Db, Row, Value, all, one, values};
use super::keys::{Asked, bounded};
use super::rows::{self, ATTEMPT, ATTEMPT_BYTES, PARCEL, PARCEL_EVENT};
use super::sending::{Outlook, SENDING, Sending};
use super::steps::{ROWS_PER_STEP, Step, times};
use super::store::{Backend, SqlStore};
use super::webhooks::{check_webhook, place};
use crate::domain::delivery::{Attempt, AttemptFilter, AttemptKey, Backlog};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::attempt_log::{AttemptLog, LoggedAttempt};
use crate::store::error::StoreError;
use crate::store::parcel::{Content, Parcel};

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
impl<B: Backend> AttemptLog for SqlStore<B> {
    async fn attempt_keys(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: AttemptFilter,
        mut after: Option<AttemptKey>,
        limit: usize,
    ) -> Result<Vec<AttemptKey>> {
        let mut found = Vec::new();
        loop {
            let limit = limit - found.len();
            let step = self.readers.read(merchant, move |conn| keys(conn, merchant, id, &filter, after, limit)).await?;
            found.extend(step.found);
            after = step.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    async fn logged_attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        keys: Vec<AttemptKey>,
        bytes_max: usize,
    ) -> Result<(Vec<LoggedAttempt>, usize)> {
        self.readers
            .read(merchant, move |conn| {
                check_webhook(conn, merchant, id)?;
                let found = logged_attempts(conn, id, &keys, bytes_max)?;
                let looked_at = found.len();
                Ok((found.into_iter().flatten().collect(), looked_at))
            })
            .await
    }

    async fn forgotten(&self, merchant: MerchantId, id: WebhookId, after: IncrementId) -> Result<Vec<IncrementId>> {
        self.readers
            .read(merchant, move |conn| {
                check_webhook(conn, merchant, id)?;
                let sql = format!(
                    "SELECT increment_id FROM delivery {} WHERE webhook_id = $1 AND increment_id > $2 AND event_id < 0
                        ORDER BY increment_id LIMIT $3",
                    conn.dialect().by_index("delivery_forgotten")
                );
                all(conn, &sql, values![id.0, after.0, ROWS_PER_STEP], |row| row.int(0).map(IncrementId))
            })
            .await
    }

    async fn backlog(&self, merchant: MerchantId, id: WebhookId, now: Timestamp) -> Result<Backlog> {
        let fresh = self.readers.summed(merchant, move |conn, after| pending(conn, merchant, id, after)).await?;
        let again = self.readers.summed(merchant, move |conn, after| pending_again(conn, id, after)).await?;
        let pending = fresh + again;
        let outlook = Outlook { now, ..self.outlook() };
        let next_attempt_at =
            self.readers.read(merchant, move |conn: &mut dyn Conn| next_attempt_at(conn, id, outlook)).await?;
        Ok(Backlog { pending, next_attempt_at: next_attempt_at.filter(|_| pending > 0) })
    }
}

/// The last requests behind `after`, of the numbers that one step looks at.
fn keys(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    filter: &AttemptFilter,
    after: Option<AttemptKey>,
    limit: usize,
) -> Result<Step<Vec<AttemptKey>, AttemptKey>> {
    let last = place(db, merchant, id)?.last;
    let after = after.unwrap_or(AttemptKey { increment_id: IncrementId(last.saturating_add(1)), attempt: 0 });
    let first = after.increment_id.0.saturating_sub(ROWS_PER_STEP.into());
    let sql = "SELECT increment_id, attempt FROM attempt
            WHERE webhook_id = $1 AND increment_id >= $2 AND (increment_id, attempt) < ($3, $4)
                AND started_at >= $5 AND started_at < $6 AND ($7 IS NULL OR status_code = $7)
                AND ($8 IS NULL OR (error_class IS NULL) = $8) AND duration_us >= $9
            ORDER BY increment_id DESC, attempt DESC LIMIT $10";
    let (since, until) = times(filter.since, filter.until);
    let duration_us = i64::try_from(filter.duration_min.as_micros()).unwrap_or(i64::MAX);
    let values = values![
        id.0,
        first,
        after.increment_id.0,
        after.attempt,
        since,
        until,
        filter.status_code,
        filter.is_success,
        duration_us,
        i64::try_from(limit).unwrap_or(i64::MAX)
    ];
    let found = all(db, sql, values, key)?;
    let is_done = found.len() >= limit || first <= 1;
    Ok(Step { found, next: (!is_done).then_some(AttemptKey { increment_id: IncrementId(first), attempt: 0 }) })
}

/// The first of these attempts at deliveries of a webhook, with what was sent:
/// until they weigh so many bytes, and one at least.
fn logged_attempts(
    db: &mut dyn Db,
    id: WebhookId,
    keys: &[AttemptKey],
    bytes_max: usize,
) -> Result<Vec<Option<LoggedAttempt>>> {
    let asked = |db: &mut dyn Db, columns: &str, keys: &[AttemptKey]| {
        let keys = keys.iter().map(|key| [Value::from(key.increment_id.0), Value::from(key.attempt)]);
        let asked = Asked::of(db.dialect(), values![id.0], ["a.increment_id", "a.attempt"], keys);
        let sql =
            format!("SELECT a.increment_id, {columns} FROM attempt a WHERE a.webhook_id = $1 AND {}", asked.condition);
        (sql, asked.values)
    };
    let weigh = |db: &mut dyn Db, keys: &[AttemptKey]| {
        let messages = "SELECT sum(octet_length(e.message)) FROM delivery h
            JOIN delivery d ON d.webhook_id = h.webhook_id
                AND d.increment_id BETWEEN h.increment_id AND coalesce(h.batch_last, h.increment_id)
            JOIN event e ON e.event_id = d.event_id
            WHERE h.webhook_id = a.webhook_id AND h.increment_id = a.increment_id";
        let columns = format!("a.attempt, {ATTEMPT_BYTES} + CAST(coalesce(({messages}), 0) AS BIGINT)");
        let (sql, values) = asked(db, &columns, keys);
        all(db, &sql, &values, |row| Ok((key(row)?, row.amount(2)? as usize)))
    };
    let read = |db: &mut dyn Db, keys: &[AttemptKey]| {
        let (sql, values) = asked(db, ATTEMPT, keys);
        let attempts = all(db, &sql, &values, |row| Ok((key(row)?, rows::attempt(row, 1)?)))?;
        let numbers: Vec<_> = attempts.iter().map(|(key, _)| key.increment_id).collect();
        let sent = sent(db, id, &numbers)?;
        let logged = |(key, attempt): (AttemptKey, Attempt)| {
            let sent = sent.iter().find(|sent| sent.number == key.increment_id)?;
            let weight = sent.parcel.as_ref().map_or(0, Parcel::weight) + attempt.weight();
            let numbers = Span { first: sent.number, last: sent.batch_last.unwrap_or(sent.number) };
            let is_batch = sent.batch_last.is_some();
            Some((key, (LoggedAttempt { numbers, is_batch, attempt, parcel: sent.parcel.clone() }, weight)))
        };
        Ok(attempts.into_iter().filter_map(logged).collect())
    };
    bounded(db, keys, bytes_max, weigh, read)
}

fn key(row: &dyn Row) -> Result<AttemptKey> {
    Ok(AttemptKey { increment_id: IncrementId(row.int(0)?), attempt: row.count(1)? })
}

/// What was sent of a delivery, or of a batch.
struct Sent {
    number: IncrementId,
    batch_last: Option<IncrementId>,
    /// `None` if some of it was pruned.
    parcel: Option<Parcel>,
}

/// What was sent under these numbers of a webhook, each the first of its batch,
/// if it is in one.
fn sent(db: &mut dyn Db, id: WebhookId, numbers: &[IncrementId]) -> Result<Vec<Sent>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let keys = numbers.iter().map(|number| [Value::from(number.0)]);
    let asked = Asked::of(db.dialect(), values![id.0], ["d.increment_id"], keys);
    let sql = format!("SELECT {PARCEL} FROM delivery d {PARCEL_EVENT} WHERE d.webhook_id = $1 AND {}", asked.condition);
    let mut found = all(db, &sql, &asked.values, |row| {
        let (number, batch_last) = (IncrementId(row.int(0)?), rows::batch_last(row)?);
        Ok(Sent { number, batch_last, parcel: rows::parcel(row)? })
    })?;
    for Sent { number, batch_last, parcel } in &mut found {
        if let Some(last) = *batch_last
            && let Some(whole) = parcel.take()
        {
            *parcel = others(db, id, *number, last)?.map(|others| Parcel { batch: Some(others), ..whole });
        }
    }
    Ok(found)
}

/// What has the numbers of a batch behind its first; `None` if some of it was
/// pruned. One batch at a time: PostgreSQL, asked for several ranges at once, may
/// take them for most of the table.
fn others(db: &mut dyn Db, id: WebhookId, first: IncrementId, last: IncrementId) -> Result<Option<Vec<Content>>> {
    if first >= last {
        return Ok(Some(Vec::new()));
    }
    let sql = format!(
        "SELECT {PARCEL} FROM delivery d {PARCEL_EVENT}
            WHERE d.webhook_id = $1 AND d.increment_id > $2 AND d.increment_id <= $3 ORDER BY d.increment_id"
    );
    Ok(all(db, &sql, values![id.0, first.0, last.0], rows::content)?.into_iter().collect())
}

/// How many deliveries beyond `settled_through` are to be sent, of the numbers
/// that one step looks at.
fn pending(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    after: Option<IncrementId>,
) -> Result<Step<u64, IncrementId>> {
    let place = place(db, merchant, id)?;
    let first = after.map_or(place.settled_through, |after| after.0);
    let through = first.saturating_add(ROWS_PER_STEP.into());
    let sql = "SELECT count(*) FROM delivery
        WHERE webhook_id = $1 AND increment_id > $2 AND increment_id <= $3 AND state = 0";
    let found = one(db, sql, values![id.0, first, through], |row| row.amount(0))?;
    Ok(Step { found: found.unwrap_or(0), next: (through < place.last).then_some(IncrementId(through)) })
}

/// How many of those up to there were taken up again, which have an index of
/// their own.
fn pending_again(db: &mut dyn Db, id: WebhookId, after: Option<IncrementId>) -> Result<Step<u64, IncrementId>> {
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE state = 0), max(increment_id) FROM (
            SELECT increment_id, state FROM delivery {}
                WHERE webhook_id = $1 AND next_attempt_at IS NOT NULL AND increment_id > $2
                    AND increment_id <= (SELECT settled_through FROM webhook WHERE webhook_id = $1)
                ORDER BY increment_id LIMIT $3) AS again",
        db.dialect().by_index("delivery_again")
    );
    let values = values![id.0, after.map_or(0, |after| after.0), ROWS_PER_STEP];
    let read = |row: &dyn Row| Ok((row.amount(0)?, row.amount(1)?, row.int_if(2)?.map(IncrementId)));
    let (looked_at, found, last) = one(db, &sql, values, read)?.unwrap_or_default();
    Ok(Step { found, next: last.filter(|_| looked_at == u64::from(ROWS_PER_STEP)) })
}

/// When something is tried or sent again.
fn next_attempt_at(conn: &mut dyn Conn, id: WebhookId, outlook: Outlook) -> Result<Option<Timestamp>> {
    let sql = format!("SELECT {SENDING} FROM webhook w WHERE w.webhook_id = $1");
    let sending = one(conn, &sql, values![id.0], |row| Sending::read(row, 0, outlook))?.ok_or(StoreError::NoWebhook)?;
    // What is due already waits, too, while there is a pause.
    let after = if sending.is_paused() { Timestamp(i64::MIN) } else { outlook.now };
    Ok(sending.goes_out_at(conn.next_due(id, after)?, true))
}
