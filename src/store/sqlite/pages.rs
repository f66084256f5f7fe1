//! Reading a bounded part of what there is.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::outbox::{DueKey, Page, PageLimit};
use crate::store::parcel::Parcel;

/// Leaves out those that go out with another.
const HEADS: &str = "(batch_first IS NULL OR batch_first = increment_id)";

/// Fails with [`StoreError::NoWebhook`] unless the merchant has that webhook.
pub fn check_webhook(conn: &Connection, merchant: MerchantId, id: WebhookId) -> Result<(), StoreError> {
    let exists = conn
        .prepare_cached("SELECT 1 FROM webhook WHERE webhook_id = ?1 AND merchant_id = ?2 AND deleted_at IS NULL")?
        .exists([id.0, merchant.0])?;
    if exists { Ok(()) } else { Err(StoreError::NoWebhook) }
}

/// The number under which the attempts at a delivery are logged: the first of
/// its batch, if it went out in one. Fails with [`StoreError::NoWebhook`] or
/// [`StoreError::NoDelivery`].
pub fn logged_under(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    number: IncrementId,
) -> Result<i64, StoreError> {
    check_webhook(conn, merchant, id)?;
    conn.prepare_cached(
        "SELECT coalesce(batch_first, increment_id) FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2",
    )?
    .query_row([id.0, number.0], |row| row.get(0))
    .optional()?
    .ok_or(StoreError::NoDelivery)
}

/// Reads rows, each with what it weighs, until they are as many or weigh as
/// much as they may; true if there are no more behind them.
fn read_bounded<T>(
    conn: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    limit: PageLimit,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(T, usize)>,
) -> Result<(Vec<T>, bool), StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut all = statement.query(parameters)?;
    while let Some(row) = all.next()? {
        let (item, weight) = read(row)?;
        bytes += weight;
        if !found.is_empty() && (found.len() >= limit.count || bytes > limit.bytes) {
            return Ok((found, false));
        }
        found.push(item);
    }
    Ok((found, true))
}

/// A delivery with its batch, from [`rows::PARCEL`]; `None` if an event of it
/// was pruned.
pub fn parcel_with_batch(conn: &Connection, id: WebhookId, row: &Row<'_>) -> rusqlite::Result<Option<Parcel>> {
    let Some(parcel) = rows::parcel(row)? else { return Ok(None) };
    let Some(last) = rows::batch_last(row)? else { return Ok(Some(parcel)) };
    let sql = format!("{} WHERE d.webhook_id = ?1 AND d.increment_id > ?2 AND d.increment_id <= ?3", rows::PARCEL);
    let mut others = conn.prepare_cached(&format!("{sql} ORDER BY d.increment_id"))?;
    let others = others.query_map([id.0, parcel.increment_id.0, last.0], rows::content)?;
    let others: Option<Vec<_>> = others.collect::<Result<_, _>>()?;
    Ok(others.map(|others| Parcel { batch: Some(others), ..parcel }))
}

/// Reads deliveries to be sent, each with its batch.
fn read_page(
    conn: &Connection,
    id: WebhookId,
    sql: &str,
    parameters: impl rusqlite::Params,
    limit: PageLimit,
) -> Result<Page, StoreError> {
    // What is to be sent was not pruned.
    let read = |row: &Row<'_>| {
        let parcel = parcel_with_batch(conn, id, row)?.ok_or_else(|| rows::damaged("event"))?;
        let weight = parcel.weight();
        Ok((parcel, weight))
    };
    let (parcels, is_last) = read_bounded(conn, sql, parameters, limit, read)?;
    Ok(Page { parcels, is_last })
}

/// Pending deliveries above `after` that were never tried and are not to be
/// sent again, by number.
pub fn fresh(conn: &Connection, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Page, StoreError> {
    let sql = format!(
        "{} WHERE d.webhook_id = ?1 AND d.increment_id > ?2 AND d.state = 0 AND d.attempts = 0
            AND d.next_attempt_at IS NULL ORDER BY d.increment_id",
        rows::PARCEL
    );
    read_page(conn, id, &sql, params![id.0, after.0], limit)
}

/// All deliveries above `after` that are pending or to be sent again, by number.
pub fn pending(conn: &Connection, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Page, StoreError> {
    // What is pending lies beyond `settled_through`, or was taken up again and
    // has an index of its own: neither way leads past everything that has ended.
    let sql = format!(
        "{} WHERE d.webhook_id = ?1 AND d.increment_id IN (
            SELECT increment_id FROM (SELECT increment_id FROM delivery
                WHERE webhook_id = ?1 AND increment_id > max(?2, ?4) AND state = 0 AND {HEADS}
                ORDER BY increment_id LIMIT ?3)
            UNION
            SELECT increment_id FROM (SELECT increment_id FROM delivery INDEXED BY delivery_again
                WHERE webhook_id = ?1 AND increment_id > ?2 AND next_attempt_at IS NOT NULL AND {HEADS}
                ORDER BY increment_id LIMIT ?3)
            ORDER BY increment_id LIMIT ?3)
            ORDER BY d.increment_id",
        rows::PARCEL
    );
    let settled: i64 = conn
        .prepare_cached("SELECT settled_through FROM webhook WHERE webhook_id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    // One more than asked for shows whether there are more.
    let count = i64::try_from(limit.count).unwrap_or(i64::MAX).saturating_add(1);
    read_page(conn, id, &sql, params![id.0, after.0, count, settled], limit)
}

/// Deliveries that are to be tried or sent again and are due by `now`, those
/// after `after` in the order of due time and number.
pub fn due(
    conn: &Connection,
    id: WebhookId,
    after: DueKey,
    now: Timestamp,
    limit: PageLimit,
) -> Result<Page, StoreError> {
    let sql = format!(
        "{} WHERE d.webhook_id = ?1 AND d.next_attempt_at <= ?4 AND {HEADS}
            AND (d.next_attempt_at, d.increment_id) > (?2, ?3)
            ORDER BY d.next_attempt_at, d.increment_id",
        rows::PARCEL
    );
    read_page(conn, id, &sql, params![id.0, after.due_at.0, after.increment_id.0, now.0], limit)
}

/// The delivery of that number with its batch, if it is to be sent.
pub fn one(conn: &Connection, id: WebhookId, number: IncrementId, limit: PageLimit) -> Result<Page, StoreError> {
    let sql = format!(
        "{} WHERE d.webhook_id = ?1 AND d.increment_id =
                (SELECT coalesce(batch_first, increment_id) FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2)
            AND (d.state = 0 OR d.next_attempt_at IS NOT NULL)",
        rows::PARCEL
    );
    read_page(conn, id, &sql, params![id.0, number.0], limit)
}

/// When the first delivery that is to be tried or sent again, and is not due
/// at `now`, falls due.
pub fn next_due(conn: &Connection, id: WebhookId, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let next: Option<i64> = conn
        .prepare_cached("SELECT min(next_attempt_at) FROM delivery WHERE webhook_id = ?1 AND next_attempt_at > ?2")?
        .query_row(params![id.0, now.0], |row| row.get(0))?;
    Ok(next.map(Timestamp))
}

/// A webhook's numbers above `after` in their order, whatever their state.
pub fn pull(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    after: IncrementId,
    limit: PageLimit,
) -> Result<Vec<Pulled>, StoreError> {
    check_webhook(conn, merchant, id)?;
    let sql = format!("{} WHERE d.webhook_id = ?1 AND d.increment_id > ?2 ORDER BY d.increment_id", rows::PARCEL);
    let read = |row: &Row<'_>| {
        let pulled = rows::pulled(row)?;
        let weight = pulled.parcel.as_ref().map_or(0, Parcel::weight);
        Ok((pulled, weight))
    };
    Ok(read_bounded(conn, &sql, params![id.0, after.0], limit, read)?.0)
}
