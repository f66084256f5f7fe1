//! Reading a bounded part of what there is.

use rusqlite::Connection;

use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::outbox::{DueKey, Page, PageLimit};
use crate::store::parcel::Parcel;
use crate::store::sql::codes::bad;
use crate::store::sql::db::{all, one as first, values};
use crate::store::sql::rows::{self, PARCEL, PARCEL_EVENT};
use crate::store::sql::{Db, Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// Leaves out those that go out with another.
const HEADS: &str = "(batch_first IS NULL OR batch_first = increment_id)";

/// Reads rows, each with what it weighs, until they are as many or weigh as
/// much as they may; true if there are no more behind them.
fn read_bounded<T>(
    mut conn: &Connection,
    sql: &str,
    values: &[Value<'_>],
    limit: PageLimit,
    read: impl Fn(&dyn Row) -> Result<(T, usize)>,
) -> Result<(Vec<T>, bool)> {
    let (mut found, mut bytes, mut is_last) = (Vec::new(), 0, true);
    conn.rows(sql, values, &mut |row| {
        let (item, weight) = read(row)?;
        bytes += weight;
        is_last = found.is_empty() || (found.len() < limit.count && bytes <= limit.bytes);
        if is_last {
            found.push(item);
        }
        Ok(is_last)
    })?;
    Ok((found, is_last))
}

/// A delivery with its batch, from [`PARCEL`]; `None` if an event of it was pruned.
fn parcel_with_batch(mut conn: &Connection, id: WebhookId, row: &dyn Row) -> Result<Option<Parcel>> {
    let Some(parcel) = rows::parcel(row)? else { return Ok(None) };
    let Some(last) = rows::batch_last(row)? else { return Ok(Some(parcel)) };
    let sql = format!(
        "SELECT {PARCEL} FROM delivery d {PARCEL_EVENT}
            WHERE d.webhook_id = $1 AND d.increment_id > $2 AND d.increment_id <= $3 ORDER BY d.increment_id"
    );
    let others = all(&mut conn, &sql, values![id.0, parcel.increment_id.0, last.0], rows::content)?;
    let others: Option<Vec<_>> = others.into_iter().collect();
    Ok(others.map(|others| Parcel { batch: Some(others), ..parcel }))
}

/// Reads deliveries to be sent, each with its batch.
fn read_page(conn: &Connection, id: WebhookId, which: &str, values: &[Value<'_>], limit: PageLimit) -> Result<Page> {
    let sql = format!("SELECT {PARCEL} FROM delivery d {PARCEL_EVENT} WHERE d.webhook_id = $1 AND {which}");
    // What is to be sent was not pruned.
    let read = |row: &dyn Row| {
        let parcel = parcel_with_batch(conn, id, row)?.ok_or_else(|| bad("event"))?;
        let weight = parcel.weight();
        Ok((parcel, weight))
    };
    let (parcels, is_last) = read_bounded(conn, &sql, values, limit, read)?;
    Ok(Page { parcels, is_last })
}

/// Pending deliveries above `after` that were never tried and are not to be
/// sent again, by number.
pub fn fresh(conn: &Connection, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Page> {
    let which = "d.increment_id > $2 AND d.state = 0 AND d.attempts = 0 AND d.next_attempt_at IS NULL
        ORDER BY d.increment_id";
    read_page(conn, id, which, values![id.0, after.0], limit)
}

/// All deliveries above `after` that are pending or to be sent again, by number.
pub fn pending(mut conn: &Connection, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Page> {
    // What is pending lies beyond `settled_through`, or was taken up again and
    // has an index of its own: neither way leads past everything that has ended.
    let which = format!(
        "d.increment_id IN (
            SELECT increment_id FROM (SELECT increment_id FROM delivery
                WHERE webhook_id = $1 AND increment_id > max($2, $4) AND state = 0 AND {HEADS}
                ORDER BY increment_id LIMIT $3)
            UNION
            SELECT increment_id FROM (SELECT increment_id FROM delivery INDEXED BY delivery_again
                WHERE webhook_id = $1 AND increment_id > $2 AND next_attempt_at IS NOT NULL AND {HEADS}
                ORDER BY increment_id LIMIT $3)
            ORDER BY increment_id LIMIT $3)
            ORDER BY d.increment_id"
    );
    let sql = "SELECT settled_through FROM webhook WHERE webhook_id = $1";
    let settled = first(&mut conn, sql, values![id.0], |row| row.int(0))?.ok_or(StoreError::NoWebhook)?;
    // One more than asked for shows whether there are more.
    let count = i64::try_from(limit.count).unwrap_or(i64::MAX).saturating_add(1);
    read_page(conn, id, &which, values![id.0, after.0, count, settled], limit)
}

/// Deliveries that are to be tried or sent again and are due by `now`, those
/// after `after` in the order of due time and number.
pub fn due(conn: &Connection, id: WebhookId, after: DueKey, now: Timestamp, limit: PageLimit) -> Result<Page> {
    let which = format!(
        "d.next_attempt_at <= $4 AND {HEADS} AND (d.next_attempt_at, d.increment_id) > ($2, $3)
            ORDER BY d.next_attempt_at, d.increment_id"
    );
    read_page(conn, id, &which, values![id.0, after.due_at, after.increment_id.0, now], limit)
}

/// The delivery of that number with its batch, if it is to be sent.
pub fn one(conn: &Connection, id: WebhookId, number: IncrementId, limit: PageLimit) -> Result<Page> {
    let which = "d.increment_id =
                (SELECT coalesce(batch_first, increment_id) FROM delivery WHERE webhook_id = $1 AND increment_id = $2)
            AND (d.state = 0 OR d.next_attempt_at IS NOT NULL)";
    read_page(conn, id, which, values![id.0, number.0], limit)
}

/// When the first delivery that is to be tried or sent again, and is not due
/// at `now`, falls due.
pub fn next_due(mut conn: &Connection, id: WebhookId, now: Timestamp) -> Result<Option<Timestamp>> {
    let sql = "SELECT min(next_attempt_at) FROM delivery WHERE webhook_id = $1 AND next_attempt_at > $2";
    Ok(first(&mut conn, sql, values![id.0, now], |row| row.time_if(0))?.flatten())
}

/// A webhook's numbers above `after` in their order, whatever their state.
pub fn pull(conn: &Connection, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Vec<Pulled>> {
    let sql = format!(
        "SELECT {PARCEL} FROM delivery d {PARCEL_EVENT}
            WHERE d.webhook_id = $1 AND d.increment_id > $2 ORDER BY d.increment_id"
    );
    let read = |row: &dyn Row| {
        let pulled = rows::pulled(row)?;
        let weight = pulled.parcel.as_ref().map_or(0, Parcel::weight);
        Ok((pulled, weight))
    };
    Ok(read_bounded(conn, &sql, values![id.0, after.0], limit, read)?.0)
}
