//! Deliveries that go out together, from before their first attempt on.

use rusqlite::{OptionalExtension, params};

use super::Result;
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::store::StoreError;
use crate::store::sqlite::tx::Tx;

/// Makes these numbers one batch. False, with nothing done, unless all are
/// pending, were never tried, and are in no batch yet.
pub fn seal(tx: &mut Tx<'_>, id: WebhookId, Span { first, last }: Span) -> Result<bool> {
    const FRESH: &str = "webhook_id = ?1 AND increment_id BETWEEN ?2 AND ?3
        AND state = 0 AND attempts = 0 AND next_attempt_at IS NULL";
    let fresh: i64 = tx
        .conn
        .prepare_cached(&format!("SELECT count(*) FROM delivery WHERE {FRESH}"))?
        .query_row([id.0, first.0, last.0], |row| row.get(0))?;
    if fresh != last.0 - first.0 + 1 {
        return Ok(false);
    }
    // Due, so that it is found again after a crash. What was asked of one of them was asked of all.
    let sql = format!(
        "UPDATE delivery SET batch_first = ?2, batch_last = ?3, next_attempt_at = ?4,
            resends_asked = (SELECT max(resends_asked) FROM delivery
                WHERE webhook_id = ?1 AND increment_id BETWEEN ?2 AND ?3)
            WHERE {FRESH}"
    );
    tx.conn.prepare_cached(&sql)?.execute([id.0, first.0, last.0, tx.now.0])?;
    Ok(true)
}

/// The numbers that go out with this one, itself included; fails with
/// [`StoreError::NoDelivery`].
pub fn of(tx: &Tx<'_>, id: WebhookId, number: IncrementId) -> Result<Span> {
    tx.conn
        .prepare_cached(
            "SELECT coalesce(batch_first, increment_id), coalesce(batch_last, increment_id) FROM delivery
                WHERE webhook_id = ?1 AND increment_id = ?2",
        )?
        .query_row(params![id.0, number.0], |row| {
            Ok(Span { first: IncrementId(row.get(0)?), last: IncrementId(row.get(1)?) })
        })
        .optional()?
        .ok_or(StoreError::NoDelivery)
}

/// Lets go of what remains of a batch whose numbers up to this one ended by
/// themselves.
pub fn dissolve(tx: &Tx<'_>, id: WebhookId, through: IncrementId) -> rusqlite::Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET batch_first = NULL, batch_last = NULL WHERE webhook_id = ?1 AND increment_id > ?2
                AND increment_id <= (SELECT batch_last FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2)",
        )?
        .execute([id.0, through.0])
        .map(drop)
}
