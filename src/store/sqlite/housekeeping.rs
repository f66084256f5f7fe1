//! Work that nobody waits for, done in bounded steps between the changes, so
//! that it never stalls them: settling, cancelling what a deleted webhook
//! left behind, sweeping out what has expired.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::state_code;
use super::tx::Tx;
use crate::domain::delivery::{DeliveryState, EndReason};
use crate::domain::id::{IncrementId, WebhookId};

/// Numbers of one webhook looked at in a step.
const NUMBERS_PER_STEP: i64 = 2_000;
/// Webhooks looked at in a step.
const WEBHOOKS_PER_STEP: usize = 16;
/// Expired rows of a kind removed in a sweep.
const ROWS_PER_SWEEP: i64 = 500;

/// Moves `settled_through` of some webhooks on, cancelling on the way what
/// deleted ones left behind.
pub fn step(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    for _ in 0..WEBHOOKS_PER_STEP {
        let Some(id) = tx.memory.pop_chore() else { break };
        let Some(entry) = tx.memory.entry(id) else { continue };
        let (is_deleted, counters) = (entry.is_deleted, entry.counters);
        let horizon = IncrementId(counters.last.0.min(counters.settled_through.0 + NUMBERS_PER_STEP));
        if is_deleted {
            cancel(tx, id, counters.settled_through, horizon)?;
        }
        let settled = match first_pending(tx.conn, id, counters.settled_through, horizon)? {
            Some(pending) => IncrementId(pending.0 - 1),
            None => horizon,
        };
        if settled > counters.settled_through
            && let Some(counters) = tx.memory.counters_mut(id)
        {
            counters.settled_through = settled;
        }
        let is_done = settled == counters.last;
        if settled == horizon && !is_done {
            tx.memory.add_chore(id);
        }
        if is_done && is_deleted {
            tx.memory.flush(tx.conn)?;
            tx.memory.forget(id);
        }
    }
    Ok(())
}

fn first_pending(
    conn: &Connection,
    id: WebhookId,
    after: IncrementId,
    through: IncrementId,
) -> rusqlite::Result<Option<IncrementId>> {
    conn.prepare_cached(
        "SELECT increment_id FROM delivery WHERE webhook_id = ?1 AND increment_id > ?2 AND increment_id <= ?3
            AND state = 0 ORDER BY increment_id LIMIT 1",
    )?
    .query_row(params![id.0, after.0, through.0], |row| row.get(0).map(IncrementId))
    .optional()
}

fn cancel(tx: &Tx<'_>, id: WebhookId, after: IncrementId, through: IncrementId) -> rusqlite::Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET state = ?4, ended_at = ?5, reason = ?6, next_attempt_at = NULL
                WHERE webhook_id = ?1 AND increment_id > ?2 AND increment_id <= ?3 AND state = 0",
        )?
        .execute(params![
            id.0,
            after.0,
            through.0,
            state_code(DeliveryState::Cancelled),
            tx.now.0,
            EndReason::WebhookDeleted.name(),
        ])
        .map(drop)
}

/// Removes some expired sessions and idempotency keys; true if those were all.
pub fn sweep(tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
    let mut is_clean = true;
    for sql in [
        "DELETE FROM session WHERE key_hash IN (SELECT key_hash FROM session WHERE expires_at <= ?1 LIMIT ?2)",
        "DELETE FROM idempotency WHERE (merchant_id, key) IN
            (SELECT merchant_id, key FROM idempotency WHERE expires_at <= ?1 LIMIT ?2)",
    ] {
        let removed = tx.conn.prepare_cached(sql)?.execute([tx.now.0, ROWS_PER_SWEEP])?;
        is_clean &= i64::try_from(removed).is_ok_and(|removed| removed < ROWS_PER_SWEEP);
    }
    Ok(is_clean)
}
