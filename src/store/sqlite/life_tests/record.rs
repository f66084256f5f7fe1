//! What is recorded of the cases.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use super::{Answer, Case};
use crate::domain::delivery::EndReason;
use crate::domain::id::IncrementId;
use crate::domain::standing::Standing;
use crate::store::sql::codes::state_code;

/// What the record says of a verb.
#[derive(Default)]
pub struct Line {
    cases: usize,
    changed: usize,
    /// By answer, and by the states of the row spoken of, before and after.
    counts: BTreeMap<(&'static str, &'static str, &'static str), usize>,
    /// What became of those that were changed.
    rows: Vec<u8>,
}

impl Line {
    pub fn add(&mut self, case: &Case, rows: &[Standing], answer: Answer) {
        let letter = |row: &Standing| &row.state.name()[..1];
        let edge = (answer.name(), letter(&case.rows[case.at]), letter(&rows[case.at]));
        *self.counts.entry(edge).or_default() += 1;
        self.cases += 1;
        if case.rows != rows {
            self.changed += 1;
            self.add_number(self.cases as i64);
            rows.iter().for_each(|row| self.add_row(row, case.first));
        }
    }

    fn add_row(&mut self, row: &Standing, first: i64) {
        // As it lies to the first row, for it makes no odds how many cases come before.
        let place = |number: IncrementId| number.0 - first;
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
        numbers.into_iter().for_each(|number| self.add_number(number));
        self.rows.extend(row.reason.map_or("", EndReason::name).as_bytes());
    }

    fn add_number(&mut self, number: i64) {
        self.rows.extend(number.to_le_bytes());
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = Sha256::digest(&self.rows);
        write!(f, "{} of {} changed, ", self.changed, self.cases)?;
        hash[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        self.counts
            .iter()
            .try_for_each(|((answer, before, after), count)| write!(f, ", {answer} {before}>{after} {count}"))
    }
}
