//! The log of attempts.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::pages::{check_webhook, parcel_with_batch};
use super::reads::{ROWS_PER_STEP, Step, last_number, times};
use super::{SqliteStore, pages, rows};
use crate::domain::delivery::{AttemptFilter, AttemptKey, Backlog};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::attempt_log::{AttemptLog, LoggedAttempt};
use crate::store::error::StoreError;
use crate::store::parcel::Parcel;

#[async_trait]
impl AttemptLog for SqliteStore {
    async fn attempt_keys(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: AttemptFilter,
        mut after: Option<AttemptKey>,
        limit: usize,
    ) -> Result<Vec<AttemptKey>, StoreError> {
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
    ) -> Result<(Vec<LoggedAttempt>, usize), StoreError> {
        self.readers
            .read(merchant, move |conn| {
                check_webhook(conn, merchant, id)?;
                let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
                for key in keys {
                    if bytes >= bytes_max {
                        break;
                    }
                    looked_at += 1;
                    if let Some((request, weight)) = request(conn, id, key)? {
                        bytes += weight;
                        found.push(request);
                    }
                }
                Ok((found, looked_at))
            })
            .await
    }

    async fn forgotten(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
    ) -> Result<Vec<IncrementId>, StoreError> {
        let sql = "SELECT increment_id FROM delivery INDEXED BY delivery_forgotten
            WHERE webhook_id = ?1 AND increment_id > ?2 AND event_id < 0 ORDER BY increment_id LIMIT ?3";
        self.readers
            .read(merchant, move |conn| {
                check_webhook(conn, merchant, id)?;
                let mut statement = conn.prepare_cached(sql)?;
                let found = statement.query_map([id.0, after.0, ROWS_PER_STEP], |row| row.get(0).map(IncrementId))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn backlog(&self, merchant: MerchantId, id: WebhookId, now: Timestamp) -> Result<Backlog, StoreError> {
        let fresh = self.readers.summed(merchant, move |conn, after| pending(conn, merchant, id, after)).await?;
        let again = self.readers.summed(merchant, move |conn, after| pending_again(conn, id, after)).await?;
        let pending = fresh + again;
        let outlook = rows::Outlook { now, ..self.outlook() };
        let next_attempt_at = self
            .readers
            .read(merchant, move |conn| {
                let sending = rows::Sending::of(conn, id, outlook)?;
                // What is due already waits, too, while there is a pause.
                let after = if sending.is_paused() { Timestamp(i64::MIN) } else { now };
                Ok(sending.goes_out_at(pages::next_due(conn, id, after)?, true).filter(|_| pending > 0))
            })
            .await?;
        Ok(Backlog { pending, next_attempt_at })
    }
}

/// The last requests behind `after`, of the numbers that one step looks at.
fn keys(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    filter: &AttemptFilter,
    after: Option<AttemptKey>,
    limit: usize,
) -> Result<Step<Vec<AttemptKey>, AttemptKey>, StoreError> {
    check_webhook(conn, merchant, id)?;
    let last = last_number(conn, id)?;
    let after = after.unwrap_or(AttemptKey { increment_id: IncrementId(last.saturating_add(1)), attempt: 0 });
    let first = after.increment_id.0.saturating_sub(ROWS_PER_STEP);
    let mut statement = conn.prepare_cached(
        "SELECT increment_id, attempt FROM attempt
            WHERE webhook_id = ?1 AND increment_id >= ?2 AND (increment_id, attempt) < (?3, ?4)
                AND started_at >= ?5 AND started_at < ?6 AND (?7 IS NULL OR status_code = ?7)
                AND (?8 IS NULL OR (error_class IS NULL) = ?8) AND duration_us >= ?9
            ORDER BY increment_id DESC, attempt DESC LIMIT ?10",
    )?;
    let (since, until) = times(filter.since, filter.until);
    let duration_us = i64::try_from(filter.duration_min.as_micros()).unwrap_or(i64::MAX);
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters = params![
        id.0,
        first,
        after.increment_id.0,
        after.attempt,
        since,
        until,
        filter.status_code,
        filter.is_success,
        duration_us,
        count
    ];
    let read = |row: &Row<'_>| Ok(AttemptKey { increment_id: IncrementId(row.get(0)?), attempt: row.get(1)? });
    let found = statement.query_map(parameters, read)?.collect::<Result<Vec<_>, _>>()?;
    let is_done = found.len() >= limit || first <= 1;
    Ok(Step { found, next: (!is_done).then_some(AttemptKey { increment_id: IncrementId(first), attempt: 0 }) })
}

/// A request, if it is there, and what it weighs.
fn request(conn: &Connection, id: WebhookId, key: AttemptKey) -> Result<Option<(LoggedAttempt, usize)>, StoreError> {
    let number = key.increment_id;
    let sql = format!("{} WHERE webhook_id = ?1 AND increment_id = ?2 AND attempt = ?3", rows::ATTEMPT);
    let attempt = conn.prepare_cached(&sql)?.query_row(params![id.0, number.0, key.attempt], rows::attempt);
    let Some(attempt) = attempt.optional()? else { return Ok(None) };
    let sql = format!("{} WHERE d.webhook_id = ?1 AND d.increment_id = ?2", rows::PARCEL);
    let found = conn.prepare_cached(&sql)?.query_row([id.0, number.0], |row| {
        let batch_last = rows::batch_last(row)?;
        Ok((batch_last, parcel_with_batch(conn, id, row)?))
    });
    let Some((batch_last, parcel)) = found.optional()? else { return Ok(None) };
    let weight = parcel.as_ref().map_or(0, Parcel::weight) + attempt.weight();
    let numbers = Span { first: number, last: batch_last.unwrap_or(number) };
    Ok(Some((LoggedAttempt { numbers, is_batch: batch_last.is_some(), attempt, parcel }, weight)))
}

/// How many deliveries beyond `settled_through` are to be sent, of the numbers
/// that one step looks at.
fn pending(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    after: Option<IncrementId>,
) -> Result<Step<u64, IncrementId>, StoreError> {
    check_webhook(conn, merchant, id)?;
    let (last, first) = (last_number(conn, id)?, after.map_or(settled_through(conn, id)?, |after| after.0));
    let through = first.saturating_add(ROWS_PER_STEP);
    let found: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM delivery
                WHERE webhook_id = ?1 AND increment_id > ?2 AND increment_id <= ?3 AND state = 0",
        )?
        .query_row([id.0, first, through], |row| row.get(0))?;
    Ok(Step { found: found.unsigned_abs(), next: (through < last).then_some(IncrementId(through)) })
}

/// How many of those up to there were taken up again, which have an index of
/// their own.
fn pending_again(
    conn: &Connection,
    id: WebhookId,
    after: Option<IncrementId>,
) -> Result<Step<u64, IncrementId>, StoreError> {
    let sql = "SELECT count(*), coalesce(sum(state = 0), 0), max(increment_id) FROM (
            SELECT increment_id, state FROM delivery INDEXED BY delivery_again
                WHERE webhook_id = ?1 AND next_attempt_at IS NOT NULL AND increment_id > ?2 AND increment_id <= ?3
                ORDER BY increment_id LIMIT ?4)";
    let parameters = [id.0, after.map_or(0, |after| after.0), settled_through(conn, id)?, ROWS_PER_STEP];
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?));
    let (looked_at, found, last) = conn.prepare_cached(sql)?.query_row(parameters, read)?;
    let next = last.filter(|_| looked_at == ROWS_PER_STEP).map(IncrementId);
    Ok(Step { found: found.unsigned_abs(), next })
}

fn settled_through(conn: &Connection, id: WebhookId) -> Result<i64, StoreError> {
    let sql = "SELECT settled_through FROM webhook WHERE webhook_id = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([id.0], |row| row.get(0))?)
}
