//! Forgetting: what is deleted so leaves no trace in the file.
//!
//! An event that one of its deliveries has forgotten goes at once, or when the
//! last of its other deliveries has been sent: what pends is whole. Which ones
//! wait for that stands in memory, and follows from the file.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::Result;
use crate::domain::id::EventId;
use crate::store::StoreError;
use crate::store::sqlite::tx::Tx;

/// Events looked at in a sweep.
const EVENTS_PER_SWEEP: usize = 100;

/// What is still to be forgotten.
#[derive(Default)]
pub struct Forgetting {
    /// Events of which another delivery is to be sent.
    waiting: VecDeque<EventId>,
    /// What was deleted may still be read in the log that lies beside the file.
    pub leaves_traces: bool,
}

impl Forgetting {
    /// What an earlier life left. It may have ended before its log was emptied.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut statement = conn.prepare(
            "SELECT DISTINCT -d.event_id FROM delivery d
                WHERE d.event_id < 0 AND EXISTS (SELECT 1 FROM event e WHERE e.event_id = -d.event_id)",
        )?;
        let waiting = statement.query_map([], |row| row.get(0).map(EventId))?.collect::<rusqlite::Result<_>>()?;
        let is_any =
            conn.query_row("SELECT EXISTS (SELECT 1 FROM delivery WHERE event_id < 0)", [], |row| row.get(0))?;
        Ok(Self { waiting, leaves_traces: is_any })
    }
}

/// Runs what deletes, and has it overwrite what it frees.
pub fn overwriting<T>(tx: &mut Tx<'_>, delete: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
    tx.conn.pragma_update(None, "secure_delete", true)?;
    let deleted = delete(tx);
    tx.conn.pragma_update(None, "secure_delete", false)?;
    tx.memory.forgetting.leaves_traces = true;
    deleted
}

/// Deletes an event that one of its deliveries has forgotten, now or when no
/// other is to be sent any more.
pub fn forget_event(tx: &mut Tx<'_>, event: EventId) -> Result<()> {
    if !try_to_forget(tx, event)? && !tx.memory.forgetting.waiting.contains(&event) {
        tx.memory.forgetting.waiting.push_back(event);
    }
    Ok(())
}

/// Looks again at some events that wait.
pub fn sweep(tx: &mut Tx<'_>) -> Result<()> {
    for _ in 0..EVENTS_PER_SWEEP.min(tx.memory.forgetting.waiting.len()) {
        let Some(event) = tx.memory.forgetting.waiting.pop_front() else { break };
        if !try_to_forget(tx, event)? {
            tx.memory.forgetting.waiting.push_back(event);
        }
    }
    Ok(())
}

/// Deletes an event unless it is needed; false if it is.
fn try_to_forget(tx: &mut Tx<'_>, event: EventId) -> Result<bool> {
    let sql = "SELECT EXISTS
        (SELECT 1 FROM delivery WHERE event_id = ?1 AND (state = 0 OR next_attempt_at IS NOT NULL))";
    let is_pending = tx.conn.prepare_cached(sql)?.query_row([event.0], |row| row.get(0))?;
    if is_pending || tx.memory.fanouts.has(event) {
        return Ok(false);
    }
    overwriting(tx, |tx| {
        tx.conn.prepare_cached("DELETE FROM event WHERE event_id = ?1")?.execute([event.0])?;
        Ok(())
    })?;
    Ok(true)
}

/// Moves the log that lies beside the file into it, and empties it. True if
/// that could be done; a reader may be in the way.
pub fn empty_log(conn: &Connection) -> std::result::Result<bool, StoreError> {
    let is_busy: bool = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!is_busy)
}
