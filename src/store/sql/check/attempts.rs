//! Attempts: each is of a delivery, and no more than that has had.

use super::fault::{Kind, Place};
use super::walk::{Ends, Findings, PART, Part, START, Walk};
use crate::domain::id::{IncrementId, WebhookId};
use crate::store::error::StoreError;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::values;

type Result<T> = std::result::Result<T, StoreError>;

/// Goes through attempts by number. What was sent and got is not read.
pub struct Attempts {
    after: (i64, i64, i64),
    ends: Ends,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { after: (START, START, START), ends: Ends::default() }
    }
}

impl Walk for Attempts {
    fn goes_through(&self) -> &'static str {
        "attempts"
    }

    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part> {
        let sql = format!(
            "SELECT a.webhook_id, a.increment_id, a.attempt, d.attempts FROM attempt a {}
                LEFT JOIN delivery d ON d.webhook_id = a.webhook_id AND d.increment_id = a.increment_id
                WHERE (a.webhook_id, a.increment_id, a.attempt) > ($1, $2, $3)
                ORDER BY a.webhook_id, a.increment_id, a.attempt LIMIT $4",
            db.dialect().by_index("attempt_by_number")
        );
        let mut rows = 0;
        let (id, number, attempt) = self.after;
        db.rows(&sql, values![id, number, attempt, PART], &mut |row| {
            rows += 1;
            let (id, number, attempt) = (row.int(0)?, row.int(1)?, row.int(2)?);
            let is_same = (id, number) == (self.after.0, self.after.1);
            self.after = (id, number, attempt);
            found.looked_at.attempts += 1;
            let (id, number) = (WebhookId(id), IncrementId(number));
            match row.int_if(3)? {
                None if is_same => {}
                None => {
                    let place = Place::Number(id, number);
                    found.add(Kind::Orphan, place, "it has attempts, and is not there", "attempts of deliveries");
                }
                Some(attempts) if !(1..=attempts).contains(&attempt) => {
                    let place = Place::Attempt(id, number, attempt);
                    let said = format!("its delivery has had {attempts}");
                    found.add(Kind::AttemptNotCounted, place, said, "one of those");
                }
                Some(_) => {}
            }
            Ok(true)
        })?;
        let part = Part::of(rows);
        let (id, number, _) = self.after;
        // The last number may have more of them.
        if part == Part::More && self.ends.is_end(db, WebhookId(id), number.saturating_sub(1))? {
            self.after = (id, i64::MAX, i64::MAX);
        }
        Ok(part)
    }
}
