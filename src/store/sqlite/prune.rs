//! Retention: what has ended is pruned in small steps, the oldest first. The
//! rows of deliveries stay as tombstones; their attempts and events go.
//!
//! A pass walks attempts, then events, from the oldest on, and skips those
//! whose deliveries have not ended or have ended too lately. So what pends for
//! long is looked at again by every pass, which is why passes are rare.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::tx::Tx;
use crate::domain::time::Timestamp;

/// How often a pass begins, unless space is short.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// Rows looked at in a step.
const PER_STEP: i64 = 250;
/// Pages given back to the file system in a step.
const PAGES_PER_STEP: u32 = 64;

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Attempts, after their delivery has ended.
    pub attempts: Duration,
    /// Events, after all their deliveries have ended.
    pub bodies: Duration,
    /// The most bytes that the store may hold; 0: as many as there are. From
    /// nine tenths on, what has ended is pruned whatever its age.
    pub bytes_max: u64,
}

/// A pass, and how far it is.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    phase: Phase,
    /// All rows up to this one have been looked at.
    after: i64,
    /// What ended before is pruned.
    attempts_before: Timestamp,
    bodies_before: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Attempts,
    Events,
    /// What is free is more than a quarter, and goes back to the file system.
    Vacuum,
}

/// A pass, if it is time for one: an hour after the last, or at once if space
/// is short.
pub fn begin(
    conn: &Connection,
    retention: Retention,
    last: Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<Option<Pass>> {
    let is_short = retention.bytes_max > 0 && used_bytes(conn)? >= retention.bytes_max / 10 * 9;
    // One that lies in the future was before the clock went back.
    let is_time = last.is_none_or(|last| last > now || now.since(last) >= INTERVAL);
    if !is_short && !is_time {
        return Ok(None);
    }
    let before = |age: Duration| match is_short {
        true => Timestamp(now.0 + 1),
        false => Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))),
    };
    let (attempts_before, bodies_before) = (before(retention.attempts), before(retention.bodies));
    Ok(Some(Pass { phase: Phase::Attempts, after: 0, attempts_before, bodies_before }))
}

/// Does a step of a pass; gives it back unless it is done.
pub fn step(tx: &Tx<'_>, pass: Pass) -> rusqlite::Result<Option<Pass>> {
    let (next, phase) = match pass.phase {
        Phase::Attempts => (walk(tx.conn, &ATTEMPTS, pass.after, pass.attempts_before)?, Phase::Events),
        Phase::Events => (walk(tx.conn, &EVENTS, pass.after, pass.bodies_before)?, Phase::Vacuum),
        Phase::Vacuum => return Ok(vacuum_step(tx.conn)?.then_some(pass)),
    };
    Ok(Some(match next {
        Some(after) => Pass { after, ..pass },
        None => Pass { phase, after: 0, ..pass },
    }))
}

/// What the store holds; what is free within its file does not count.
pub fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let pages = read("PRAGMA page_count")?.saturating_sub(read("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(read("PRAGMA page_size")?).unsigned_abs())
}

/// How the rows of a phase are walked and deleted.
struct Walk {
    /// Of the next rows, the last, and when the oldest of them came to be.
    next: &'static str,
    /// Deletes those up to a row that are old enough, and whose deliveries are.
    delete: &'static str,
}

const ATTEMPTS: Walk = Walk {
    next: "SELECT max(attempt_id), min(started_at) FROM
        (SELECT attempt_id, started_at FROM attempt WHERE attempt_id > ?1 ORDER BY attempt_id LIMIT ?2)",
    delete: "DELETE FROM attempt WHERE attempt_id > ?1 AND attempt_id <= ?2 AND EXISTS (SELECT 1 FROM delivery d
        WHERE d.webhook_id = attempt.webhook_id AND d.increment_id = attempt.increment_id
            AND d.state <> 0 AND d.next_attempt_at IS NULL AND d.ended_at < ?3 AND attempt.started_at < ?3)",
};

const EVENTS: Walk = Walk {
    next: "SELECT max(event_id), min(published_at) FROM
        (SELECT event_id, published_at FROM event WHERE event_id > ?1 ORDER BY event_id LIMIT ?2)",
    delete: "DELETE FROM event WHERE event_id > ?1 AND event_id <= ?2 AND published_at < ?3
        AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event_id = event.event_id
            AND (d.state = 0 OR d.next_attempt_at IS NOT NULL OR d.ended_at >= ?3))",
};

/// Looks at the next rows, and deletes what may go; the last one looked at.
fn walk(conn: &Connection, walk: &Walk, after: i64, before: Timestamp) -> rusqlite::Result<Option<i64>> {
    let through = next_rows(conn, walk.next, after, before)?;
    if let Some(through) = through {
        conn.prepare_cached(walk.delete)?.execute(params![after, through, before.0])?;
    }
    Ok(through)
}

/// The last of the next rows, unless there are none, or all of them are young.
fn next_rows(conn: &Connection, sql: &str, after: i64, before: Timestamp) -> rusqlite::Result<Option<i64>> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
    let (last, oldest) = conn.prepare_cached(sql)?.query_row(params![after, PER_STEP], row)?;
    Ok(last.filter(|_| oldest.is_some_and(|oldest| oldest < before.0)))
}

/// Gives some pages back if much is free; true if there may be more to give.
fn vacuum_step(conn: &Connection) -> rusqlite::Result<bool> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let (pages, free) = (read("PRAGMA page_count")?, read("PRAGMA freelist_count")?);
    if free <= pages / 4 {
        return Ok(false);
    }
    conn.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
    Ok(read("PRAGMA freelist_count")? < free)
}
