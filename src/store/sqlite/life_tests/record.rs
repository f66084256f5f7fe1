//! What is recorded of the cases.

use std::collections::BTreeMap;
use std::fmt;

use super::{Answer, Case};
use crate::domain::delivery::EndReason;
use crate::domain::id::IncrementId;
use crate::domain::standing::Standing;
use crate::store::sqlite::rows::state_code;

/// What the record says of a verb.
#[derive(Default)]
pub struct Line {
    cases: usize,
    changed: usize,
    /// By answer, and by the states of the row spoken of, before and after.
    counts: BTreeMap<String, usize>,
    hash: Hash,
}

/// FNV-1a.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Line {
    pub fn add(&mut self, case: &Case, rows: &[Standing], answer: Answer) {
        let letter = |row: &Standing| &row.state.name()[..1];
        let edge = format!("{} {}>{}", answer.name(), letter(&case.rows[case.at]), letter(&rows[case.at]));
        self.cases += 1;
        self.changed += usize::from(case.rows != rows);
        self.hash.add(edge.as_bytes());
        *self.counts.entry(edge).or_default() += 1;
        for row in rows {
            // As it lies to the first row, for it makes no odds how many cases come before.
            let place = |number: IncrementId| number.0 - case.first;
            let numbers = [
                state_code(row.state),
                row.attempts.into(),
                row.policy_start.into(),
                row.next_attempt_at.map_or(-1, |at| at.0),
                row.ended_at.map_or(-1, |at| at.0),
                row.batch.map_or(-1, |batch| place(batch.first)),
                row.batch.map_or(-1, |batch| place(batch.last)),
                row.resends_asked.into(),
                row.is_forgotten.into(),
            ];
            numbers.iter().for_each(|number| self.hash.add(&number.to_le_bytes()));
            self.hash.add(row.reason.map_or("", EndReason::name).as_bytes());
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} changed, {:016x}", self.changed, self.cases, self.hash.0)?;
        self.counts.iter().try_for_each(|(edge, count)| write!(f, ", {edge} {count}"))
    }
}
