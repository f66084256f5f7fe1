//! Reading where deliveries stand.

use super::codes::{reason_at, state_at, topic_if};
use super::db::{Db, Row, all, values};
use crate::domain::id::{EventId, IncrementId, Span};
use crate::domain::standing::Standing;
use crate::store::error::StoreError;
use crate::store::ledger::wants::{Scan, Scanned};

type Result<T> = std::result::Result<T, StoreError>;

/// The columns that [`standing`] reads, first of all; behind a `d.`.
pub const STANDING: &str =
    "d.increment_id, d.state, d.attempts, d.policy_start, d.next_attempt_at, d.ended_at, d.reason,
    d.batch_first, d.batch_last, d.resends_asked, d.event_id";

/// A delivery's number and where it stands, from [`STANDING`].
pub fn standing(row: &dyn Row) -> Result<(IncrementId, Standing)> {
    let (first, last) = (row.int_if(7)?, row.int_if(8)?);
    let batch = first.zip(last).map(|(first, last)| Span { first: IncrementId(first), last: IncrementId(last) });
    let standing = Standing {
        state: state_at(row, 1)?,
        attempts: row.count(2)?,
        policy_start: row.count(3)?,
        next_attempt_at: row.time_if(4)?,
        ended_at: row.time_if(5)?,
        reason: reason_at(row, 6)?,
        batch,
        resends_asked: row.count(9)?,
        is_forgotten: row.int(10)? < 0,
    };
    Ok((IncrementId(row.int(0)?), standing))
}

/// Its event, from the same.
pub fn event_of(row: &dyn Row) -> Result<EventId> {
    Ok(EventId(row.int(10)?.abs()))
}

/// Deliveries from a number on, or the first of its batch.
pub fn scanned(db: &mut dyn Db, scan: Scan) -> Result<Vec<Scanned>> {
    let sql = format!(
        "SELECT {STANDING}, d.created_at, e.topic FROM delivery d LEFT JOIN event e USING (event_id)
            WHERE d.webhook_id = $1 AND d.increment_id >= coalesce((SELECT batch_first FROM delivery
                WHERE webhook_id = $1 AND increment_id = $2), $2)
            ORDER BY d.increment_id LIMIT $3"
    );
    all(db, &sql, values![scan.webhook_id.0, scan.first.0, scan.max], |row| {
        let (number, standing) = standing(row)?;
        Ok(Scanned { number, standing, created_at: row.time(11)?, topic: topic_if(row, 12)? })
    })
}
