//! Batches: all that go out together say so, and they are neighbours.

use std::collections::BTreeMap;

use super::fault::{Kind, Place};
use super::walk::Findings;
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::policy::BATCH_EVENTS;
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::db::{one, values};

type Result<T> = std::result::Result<T, StoreError>;

/// The batches that rows of a part say they are in.
#[derive(Default)]
pub struct Batches {
    /// In how many rows each was found, and in which first.
    found: BTreeMap<(i64, i64, i64), (i64, IncrementId)>,
}

impl Batches {
    /// A row says where its batch begins and ends.
    pub fn add(&mut self, id: WebhookId, number: IncrementId, batch: (Option<i64>, Option<i64>), found: &mut Findings) {
        let place = Place::Number(id, number);
        let (first, last) = match batch {
            (None, None) => return,
            (Some(first), Some(last)) => (first, last),
            (Some(_), None) => return found.add(Kind::Batch, place, "it has a batch_first alone", "both ends"),
            (None, Some(_)) => return found.add(Kind::Batch, place, "it has a batch_last alone", "both ends"),
        };
        let max = i64::from(*BATCH_EVENTS.end());
        if !(first..=last).contains(&number.0) || first < 1 || last - first >= max {
            let expected = format!("itself in it, and at most {max} numbers");
            return found.add(Kind::Batch, place, format!("its batch is {first}-{last}"), expected);
        }
        self.found.entry((id.0, first, last)).or_insert((0, number)).0 += 1;
    }

    /// Compares how many are in each with how many say so. Of one that lies in this
    /// part only in part, the other rows are asked for: at most one at each end of
    /// the part, unless something is wrong.
    pub fn judge(self, db: &mut dyn Db, found: &mut Findings) -> Result<()> {
        let sql = "SELECT count(*), min(increment_id) FROM delivery
            WHERE webhook_id = $1 AND increment_id BETWEEN $2 AND $3 AND batch_first = $2 AND batch_last = $3";
        for ((id, first, last), (mut count, number)) in self.found {
            let expected = last - first + 1;
            if count == expected {
                continue;
            }
            let mut first_found = number.0;
            if let Some((all, lowest)) =
                one(db, sql, values![id, first, last], |row| Ok((row.int(0)?, row.int_if(1)?)))?
            {
                (count, first_found) = (all, lowest.unwrap_or(first_found));
            }
            // Whoever comes by its other rows need not tell of it again.
            if count != expected && first_found == number.0 {
                let span = Span { first: IncrementId(first), last: IncrementId(last) };
                let place = Place::Numbers(WebhookId(id), span);
                found.add(
                    Kind::Batch,
                    place,
                    format!("{count} say that this is their batch"),
                    format!("all {expected}"),
                );
            }
        }
        Ok(())
    }
}
