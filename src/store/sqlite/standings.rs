//! Reading where deliveries stand.

use rusqlite::{Connection, Row, params};

use super::rows::{damaged, reason_at, state_from_code, time_if_any, topic_at};
use crate::domain::id::{EventId, IncrementId, Span};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::wants::{Scan, Scanned};

/// The columns that [`standing`] reads, first of all; behind a `d.`.
pub const STANDING: &str =
    "d.increment_id, d.state, d.attempts, d.policy_start, d.next_attempt_at, d.ended_at, d.reason,
    d.batch_first, d.batch_last, d.resends_asked, d.event_id";

/// A delivery's number and where it stands, from [`STANDING`].
pub fn standing(row: &Row<'_>) -> rusqlite::Result<(IncrementId, Standing)> {
    let (first, last): (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    let batch = first.zip(last).map(|(first, last)| Span { first: IncrementId(first), last: IncrementId(last) });
    let standing = Standing {
        state: state_from_code(row.get(1)?).ok_or_else(|| damaged("state"))?,
        attempts: row.get(2)?,
        policy_start: row.get(3)?,
        next_attempt_at: time_if_any(row, 4)?,
        ended_at: time_if_any(row, 5)?,
        reason: reason_at(row, 6)?,
        batch,
        resends_asked: row.get(9)?,
        is_forgotten: row.get::<_, i64>(10)? < 0,
    };
    Ok((IncrementId(row.get(0)?), standing))
}

/// Its event, from the same.
pub fn event_of(row: &Row<'_>) -> rusqlite::Result<EventId> {
    Ok(EventId(row.get::<_, i64>(10)?.abs()))
}

/// Deliveries from a number on, or the first of its batch.
pub fn scanned(conn: &Connection, scan: Scan) -> Result<Vec<Scanned>, StoreError> {
    let sql = format!(
        "SELECT {STANDING}, d.created_at, e.topic FROM delivery d LEFT JOIN event e USING (event_id)
            WHERE d.webhook_id = ?1 AND d.increment_id >= coalesce((SELECT batch_first FROM delivery
                WHERE webhook_id = ?1 AND increment_id = ?2), ?2)
            ORDER BY d.increment_id LIMIT ?3"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params![scan.webhook_id.0, scan.first.0, scan.max], |row| {
        let (number, standing) = standing(row)?;
        let is_kept = row.get_ref(12)?.as_str_or_null()?.is_some();
        let topic = if is_kept { Some(topic_at(row, 12)?) } else { None };
        Ok(Scanned { number, standing, created_at: Timestamp(row.get(11)?), topic })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
