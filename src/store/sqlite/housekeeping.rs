//! Work that nobody waits for, done in bounded steps between the changes, so
//! that it never stalls them: settling, cancelling what a deleted webhook
//! left behind, replays and backfills, sweeping out what has expired, pruning.

use rusqlite::{Connection, OptionalExtension, params};

use super::changes::{batches, fanout, forgetting, jobs, notices, webhooks};
use super::logs;
use super::prune::{self, Retention};
use super::room::Room;
use super::rows::state_code;
use super::tx::{Announcement, Tx};
use crate::domain::delivery::{DeliveryState, EndReason};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::store::StoreError;

/// Numbers of one webhook looked at in a step.
const NUMBERS_PER_STEP: i64 = 500;
/// Webhooks looked at in a step.
const WEBHOOKS_PER_STEP: usize = 16;
/// Rows changed in a step, about.
const ROWS_PER_STEP: u64 = 500;
/// Expired rows of a kind removed in a sweep.
const ROWS_PER_SWEEP: i64 = 500;

/// A kind of housekeeping; false if there was nothing to do.
type Kind = fn(&mut Tx<'_>, Retention) -> Result<bool, StoreError>;

const KINDS: [Kind; 6] = [settle_some, finish_fanouts, work_on_jobs, sweep_out, prune_some, logs::trim_some];

/// Does a little of what there is to do, of one kind, for whatever shares the
/// commit waits for it; the kinds take turns.
pub fn step(tx: &mut Tx<'_>, retention: Retention) -> Result<(), StoreError> {
    for _ in 0..KINDS.len() {
        let kind = KINDS[tx.memory.turn % KINDS.len()];
        tx.memory.turn = tx.memory.turn.wrapping_add(1);
        if kind(tx, retention)? {
            break;
        }
    }
    Ok(())
}

/// Moves `settled_through` of some webhooks on.
fn settle_some(tx: &mut Tx<'_>, _: Retention) -> Result<bool, StoreError> {
    let before = tx.conn.total_changes();
    for count in 0..WEBHOOKS_PER_STEP {
        if tx.conn.total_changes().saturating_sub(before) >= ROWS_PER_STEP {
            break;
        }
        let Some(id) = tx.memory.pop_chore() else { return Ok(count > 0) };
        settle(tx, id)?;
    }
    Ok(true)
}

/// Numbers what was accepted and is not numbered everywhere.
fn finish_fanouts(tx: &mut Tx<'_>, _: Retention) -> Result<bool, StoreError> {
    fanout::finish_some(tx)
}

/// Does a step of a replay or a backfill.
fn work_on_jobs(tx: &mut Tx<'_>, retention: Retention) -> Result<bool, StoreError> {
    if tx.memory.jobs.is_idle() {
        return Ok(false);
    }
    jobs::step(tx, Room::new(retention.bytes_max))?;
    Ok(true)
}

/// Sweeps, and begins to prune if it is time.
fn sweep_out(tx: &mut Tx<'_>, retention: Retention) -> Result<bool, StoreError> {
    if !std::mem::take(&mut tx.memory.wants_sweep) {
        return Ok(false);
    }
    tx.memory.wants_sweep = !sweep(tx)?;
    // There may be room by now.
    tx.memory.jobs.unpark();
    tx.memory.fanouts.try_again();
    if tx.memory.pass.is_none()
        && let Some(pass) = prune::begin(tx.conn, retention, tx.memory.pass_began_at, tx.now)?
    {
        (tx.memory.pass, tx.memory.pass_began_at) = (Some(pass), Some(tx.now));
    }
    Ok(true)
}

/// Does a step of the pass that is under way.
fn prune_some(tx: &mut Tx<'_>, _: Retention) -> Result<bool, StoreError> {
    let Some(pass) = tx.memory.pass.take() else { return Ok(false) };
    tx.memory.pass = prune::step(tx, pass)?;
    Ok(true)
}

/// Moves `settled_through` on, ending on the way what a deleted webhook left
/// behind, and what the receiver of one that is pulled has taken.
fn settle(tx: &mut Tx<'_>, id: WebhookId) -> Result<(), StoreError> {
    let Some(entry) = tx.memory.entry(id) else { return Ok(()) };
    let (is_deleted, counters) = (entry.is_deleted, entry.counters);
    let horizon = IncrementId(counters.last.0.min(counters.settled_through.0 + NUMBERS_PER_STEP));
    let mut are_left = false;
    if is_deleted {
        end(tx, id, counters.settled_through, horizon, DeliveryState::Cancelled)?;
        are_left = cancel_resends(tx, id)?;
    } else if counters.acknowledged_through > counters.settled_through {
        let through = horizon.min(counters.acknowledged_through);
        end(tx, id, counters.settled_through, through, DeliveryState::Delivered)?;
        batches::dissolve(tx, id, through)?;
        let span = Span { first: counters.settled_through.next(), last: through };
        tx.news.push(Announcement::Changed(id, span));
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
    let is_done = settled == counters.last && !are_left;
    if is_done && is_deleted {
        tx.memory.flush(tx.conn)?;
        webhooks::blot_out(tx, id)?;
        tx.memory.forget(id);
    } else if are_left || (settled == horizon && !is_done) {
        tx.memory.add_chore(id);
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

/// Ends the pending ones of some numbers.
fn end(
    tx: &Tx<'_>,
    id: WebhookId,
    after: IncrementId,
    through: IncrementId,
    state: DeliveryState,
) -> rusqlite::Result<()> {
    let reason = (state == DeliveryState::Cancelled).then_some(EndReason::WebhookDeleted.name());
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET state = ?4, ended_at = ?5, reason = ?6, next_attempt_at = NULL
                WHERE webhook_id = ?1 AND increment_id > ?2 AND increment_id <= ?3 AND state = 0",
        )?
        .execute(params![id.0, after.0, through.0, state_code(state), tx.now.0, reason])
        .map(drop)
}

/// Ends some of what a deleted webhook was to be sent again; true if there may
/// be more.
fn cancel_resends(tx: &Tx<'_>, id: WebhookId) -> rusqlite::Result<bool> {
    let cancelled = tx
        .conn
        .prepare_cached(
            "UPDATE delivery SET next_attempt_at = NULL,
                state = CASE state WHEN 0 THEN 3 ELSE state END,
                ended_at = CASE state WHEN 0 THEN ?2 ELSE ended_at END,
                reason = CASE state WHEN 0 THEN ?3 ELSE reason END
                WHERE webhook_id = ?1 AND increment_id IN (SELECT increment_id FROM delivery
                    WHERE webhook_id = ?1 AND next_attempt_at IS NOT NULL ORDER BY increment_id LIMIT ?4)",
        )?
        .execute(params![id.0, tx.now.0, EndReason::WebhookDeleted.name(), NUMBERS_PER_STEP])?;
    Ok(i64::try_from(cancelled).is_ok_and(|cancelled| cancelled == NUMBERS_PER_STEP))
}

/// Removes some expired sessions and idempotency keys, and events that were to
/// be forgotten, and publishes what there is to say; true if that was all.
fn sweep(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let mut is_clean = notices::publish_gathered(tx)?;
    forgetting::sweep(tx)?;
    for sql in [
        "DELETE FROM session WHERE key_hash IN (SELECT key_hash FROM session WHERE expires_at <= ?1 LIMIT ?2)",
        "DELETE FROM idempotency WHERE (merchant_id, key) IN
            (SELECT merchant_id, key FROM idempotency WHERE expires_at <= ?1 LIMIT ?2)",
    ] {
        let removed = tx.conn.prepare_cached(sql)?.execute([tx.now.0, ROWS_PER_SWEEP])?;
        is_clean &= i64::try_from(removed).is_ok_and(|removed| removed < ROWS_PER_SWEEP);
    }
    let forgotten = jobs::forget_old(tx, ROWS_PER_SWEEP)?;
    is_clean &= i64::try_from(forgotten).is_ok_and(|forgotten| forgotten < ROWS_PER_SWEEP);
    Ok(is_clean)
}
