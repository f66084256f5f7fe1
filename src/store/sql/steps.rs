//! Lists and counts in steps.
//!
//! A list or a count may have to look at many rows to find a few. So it goes
//! in steps, each a bounded use of a reader, and others get their turns in
//! between.

use crate::domain::id::IncrementId;
use crate::domain::page::Order;
use crate::domain::time::Timestamp;

/// How many rows a step looks at.
pub const ROWS_PER_STEP: u32 = 1_000;

/// What a step has found, and where the next one begins; `None`: there is no more.
pub struct Step<T, K> {
    /// What it has found.
    pub found: T,
    /// Behind what the next one begins.
    pub next: Option<K>,
}

/// Numbers of a webhook that one step looks at: those behind `after`.
pub fn numbers(last: i64, after: Option<IncrementId>, order: Order) -> (i64, i64, Option<IncrementId>) {
    let rows = i64::from(ROWS_PER_STEP);
    match order {
        Order::Ascending => {
            let first = after.map_or(1, |after| after.0.saturating_add(1));
            let through = first.saturating_add(rows - 1);
            (first, through, (through < last).then_some(IncrementId(through)))
        }
        Order::Descending => {
            let through = after.map_or(last, |after| after.0.saturating_sub(1).min(last));
            let first = through.saturating_sub(rows - 1);
            (first, through, (first > 1).then_some(IncrementId(first)))
        }
    }
}

/// How an order is said, and what lies behind a place in it.
pub fn words(order: Order) -> (&'static str, &'static str) {
    match order {
        Order::Ascending => ("ASC", ">"),
        Order::Descending => ("DESC", "<"),
    }
}

/// The id behind which a list of ids begins.
pub fn behind(after: Option<i64>, order: Order) -> i64 {
    after.unwrap_or(match order {
        Order::Ascending => i64::MIN,
        Order::Descending => i64::MAX,
    })
}

/// Times as a range that leaves nothing out where there are none.
pub fn times(since: Option<Timestamp>, until: Option<Timestamp>) -> (i64, i64) {
    (since.map_or(i64::MIN, |since| since.0), until.map_or(i64::MAX, |until| until.0))
}
