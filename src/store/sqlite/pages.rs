//! Reading a bounded part of what there is.

use rusqlite::{Connection, OptionalExtension, Row};

use super::rows;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::store::{Page, PageLimit, Parcel, StoreError};

/// Leaves out those that go out with another.
pub const HEADS: &str = "(batch_first IS NULL OR batch_first = increment_id)";

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

/// Reads rows until they are as many or weigh as much as they may; true if
/// there are no more behind them.
pub fn read_bounded<T>(
    conn: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    limit: PageLimit,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    weight: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, bool), StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    for row in statement.query_map(parameters, read)? {
        let row = row?;
        bytes += weight(&row);
        if !found.is_empty() && (found.len() >= limit.count || bytes > limit.bytes) {
            return Ok((found, false));
        }
        found.push(row);
    }
    Ok((found, true))
}

/// Reads deliveries to be sent, each with its batch.
pub fn read_page(
    conn: &Connection,
    id: WebhookId,
    sql: &str,
    parameters: impl rusqlite::Params,
    limit: PageLimit,
) -> Result<Page, StoreError> {
    let read = |row: &Row<'_>| {
        let parcel = rows::parcel(row)?;
        let Some(last) = rows::batch_last(row)? else { return Ok(parcel) };
        let sql = format!("{} WHERE d.webhook_id = ?1 AND d.increment_id > ?2 AND d.increment_id <= ?3", rows::PARCEL);
        let mut others = conn.prepare_cached(&format!("{sql} ORDER BY d.increment_id"))?;
        let others = others.query_map([id.0, parcel.increment_id.0, last.0], rows::parcel_event)?;
        Ok(Parcel { batch: Some(others.collect::<Result<_, _>>()?), ..parcel })
    };
    let (parcels, is_last) = read_bounded(conn, sql, parameters, limit, read, Parcel::weight)?;
    Ok(Page { parcels, is_last })
}
