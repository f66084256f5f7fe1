//! Retention: what has ended is pruned in small steps, the oldest first. The
//! rows of deliveries stay as tombstones; their attempts and events go.
//!
//! A pass walks attempts, then events, from the oldest on, and skips those
//! whose deliveries have not ended or have ended too lately. So what pends for
//! long is looked at again by every pass, which is why passes are rare.

use rusqlite::{Connection, params};

use crate::domain::id::{EventId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::ledger::pruning::CutOff;

/// Rows looked at in a step.
const PER_STEP: i64 = 250;
/// Bytes that the rows of a step may have: what is deleted frees a page for
/// every 4 kB.
const BYTES_PER_STEP: i64 = 4 * 1_024 * 1_024;
/// Pages given back to the file system in a step.
const PAGES_PER_STEP: u32 = 64;

/// A pass, and how far it is.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    phase: Phase,
    /// All rows up to this one have been looked at.
    after: i64,
    before: CutOff,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Attempts,
    Events,
    /// What is free is more than a quarter, and goes back to the file system.
    Vacuum,
}

impl Pass {
    /// One that begins.
    pub fn new(before: CutOff) -> Self {
        Self { phase: Phase::Attempts, after: 0, before }
    }
}

/// Logs that became smaller, and by how much.
pub type Shrunk = Vec<(WebhookId, u64)>;

/// Does a step of a pass; gives it back unless it is done.
pub fn step(conn: &Connection, pass: Pass, kept_from: Option<EventId>) -> rusqlite::Result<(Option<Pass>, Shrunk)> {
    let mut shrunk = Vec::new();
    let (next, phase) = match pass.phase {
        Phase::Attempts => (walk(conn, &ATTEMPTS, pass.after, pass.before.attempts, None, &mut shrunk)?, Phase::Events),
        Phase::Events => (walk(conn, &EVENTS, pass.after, pass.before.bodies, kept_from, &mut shrunk)?, Phase::Vacuum),
        Phase::Vacuum => return Ok((vacuum_step(conn)?.then_some(pass), shrunk)),
    };
    let pass = match next {
        Some(after) => Pass { after, ..pass },
        None => Pass { phase, after: 0, ..pass },
    };
    Ok((Some(pass), shrunk))
}

/// How the rows of a phase are walked and deleted.
struct Walk {
    /// The next rows, when they came to be, and how large they are.
    next: &'static str,
    /// Deletes those up to a row that are old enough, and whose deliveries are;
    /// returns whose log became smaller, and by how much.
    delete: &'static str,
}

const ATTEMPTS: Walk = Walk {
    next: "SELECT attempt_id, started_at,
            octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body)
        FROM attempt WHERE attempt_id > ?1 ORDER BY attempt_id LIMIT ?2",
    delete: "DELETE FROM attempt WHERE attempt_id > ?1 AND attempt_id <= ?2 AND EXISTS (SELECT 1 FROM delivery d
        WHERE d.webhook_id = attempt.webhook_id AND d.increment_id = attempt.increment_id
            AND d.state <> 0 AND d.next_attempt_at IS NULL AND d.ended_at < ?3 AND attempt.started_at < ?3)
        RETURNING webhook_id, octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body)",
};

const EVENTS: Walk = Walk {
    next: "SELECT event_id, published_at, octet_length(message)
        FROM event WHERE event_id > ?1 ORDER BY event_id LIMIT ?2",
    delete: "DELETE FROM event WHERE event_id > ?1 AND event_id <= ?2 AND published_at < ?3
        AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event_id = event.event_id
            AND (d.state = 0 OR d.next_attempt_at IS NOT NULL OR d.ended_at >= ?3))
        RETURNING NULL, 0",
};

/// Looks at the next rows, and deletes what may go; the last one looked at.
fn walk(
    conn: &Connection,
    walk: &Walk,
    after: i64,
    before: Timestamp,
    kept_from: Option<EventId>,
    shrunk: &mut Shrunk,
) -> rusqlite::Result<Option<i64>> {
    let through = next_rows(conn, walk.next, after, before)?;
    if let Some(through) = through {
        let through = kept_from.map_or(through, |kept| through.min(kept.0 - 1));
        let mut statement = conn.prepare_cached(walk.delete)?;
        let mut deleted = statement.query(params![after, through, before.0])?;
        while let Some(row) = deleted.next()? {
            if let Some(id) = row.get(0)? {
                shrunk.push((WebhookId(id), row.get::<_, i64>(1)?.unsigned_abs()));
            }
        }
    }
    Ok(through)
}

/// The last of the next rows, unless there are none, or all of them are young.
fn next_rows(conn: &Connection, sql: &str, after: i64, before: Timestamp) -> rusqlite::Result<Option<i64>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = statement.query(params![after, PER_STEP])?;
    let (mut last, mut is_any_old, mut bytes) = (None, false, 0);
    while bytes < BYTES_PER_STEP
        && let Some(row) = found.next()?
    {
        last = Some(row.get(0)?);
        is_any_old |= row.get::<_, i64>(1)? < before.0;
        bytes += row.get::<_, i64>(2)?;
    }
    Ok(last.filter(|_| is_any_old))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_still_being_numbered_stays_whatever_its_age() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../../../schema.sql")).unwrap();
        conn.execute_batch(
            "INSERT INTO merchant (code, created_at) VALUES ('acme', 0);
            INSERT INTO event (merchant_id, topic, message, created_at, published_at)
                VALUES (1, 'a:b', '{}', 0, 0), (1, 'a:b', '{}', 0, 0), (1, 'a:b', '{}', 0, 0);",
        )
        .unwrap();
        let left = || -> Vec<i64> {
            let mut statement = conn.prepare("SELECT event_id FROM event ORDER BY event_id").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let prune = |kept_from: Option<EventId>| {
            let before = CutOff { attempts: Timestamp(1_000), bodies: Timestamp(1_000) };
            let mut pass = Some(Pass::new(before));
            while let Some(under_way) = pass {
                (pass, _) = step(&conn, under_way, kept_from).unwrap();
            }
        };
        prune(Some(EventId(2)));
        assert_eq!(left(), [2, 3]);
        prune(None);
        assert!(left().is_empty());
    }
}
