//! What each kind of check is: a walk through rows, part by part.

use super::fault::{Fault, Kind, Place};
use crate::domain::id::WebhookId;
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::{ROWS_AT_ONCE, one, values};

type Result<T> = std::result::Result<T, StoreError>;

/// Rows of a part.
pub const PART: u32 = ROWS_AT_ONCE;
/// Before all ids and numbers, also those that were never given out.
pub const START: i64 = i64::MIN;

/// One kind of check.
pub trait Walk: Send {
    /// What it goes through, for people.
    fn goes_through(&self) -> &'static str;

    /// Looks at the next rows, at most [`PART`] of them, all as they were at one
    /// moment: whatever is compared is read in the same part.
    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part>;
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is more.
    More,
    /// There is not.
    Last,
}

impl Part {
    /// After so many rows of which [`PART`] were asked for.
    pub fn of(rows: usize) -> Self {
        if rows < PART as usize { Self::Last } else { Self::More }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Webhooks, deleted ones too.
    pub webhooks: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Events.
    pub events: u64,
    /// Attempts.
    pub attempts: u64,
}

/// What parts have found.
#[derive(Debug, Default)]
pub struct Findings {
    /// How much was looked at.
    pub looked_at: LookedAt,
    /// What is wrong, and nobody was told of yet.
    pub faults: Vec<Fault>,
}

impl Findings {
    /// Something is wrong.
    pub fn add(&mut self, kind: Kind, place: Place, found: impl Into<String>, expected: impl Into<String>) {
        self.faults.push(Fault { kind, place, found: found.into(), expected: expected.into() });
    }
}

/// Where webhooks are left that are given numbers while they are walked through:
/// behind the last that each had when the walk came to its end of a part in it. A
/// busy server would else never be left.
#[derive(Debug, Default)]
pub struct Ends {
    last: Option<(WebhookId, i64)>,
}

impl Ends {
    /// True if nothing of a webhook behind this number is looked at.
    pub fn is_end(&mut self, db: &mut dyn Db, id: WebhookId, number: i64) -> Result<bool> {
        let last = match self.last {
            Some((own, last)) if own == id => last,
            _ => {
                let sql = "SELECT max(increment_id) FROM delivery WHERE webhook_id = $1";
                one(db, sql, values![id.0], |row| row.int_if(0))?.flatten().unwrap_or(0)
            }
        };
        self.last = Some((id, last));
        Ok(number >= last)
    }
}
