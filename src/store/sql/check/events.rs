//! Events: each is a merchant's, and has an id that was given out.

use super::fault::{Kind, Place};
use super::walk::{Findings, PART, Part, START, Walk};
use crate::domain::id::EventId;
use crate::store::error::StoreError;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::{all, one, values};
use crate::store::sql::{Dialect, Row};

type Result<T> = std::result::Result<T, StoreError>;

/// Goes through events by merchant, as their index has them. What was published is
/// not read.
pub struct Events {
    after: (i64, i64),
    /// The last event when it began: what comes after that is left, or a busy
    /// merchant would never be.
    through: Option<EventId>,
    /// The merchant that it is at.
    at: Option<i64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { after: (START, START), through: None, at: None }
    }
}

impl Walk for Events {
    fn goes_through(&self) -> &'static str {
        "events"
    }

    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part> {
        let given = db.last_event()?;
        let through = match self.through {
            Some(through) => through,
            None => {
                highest(db, given, found)?;
                *self.through.insert(given)
            }
        };
        let read = |row: &dyn Row| Ok((row.int(0)?, EventId(row.int(1)?), row.flag(2)?));
        let (merchant, event) = self.after;
        let dialect = db.dialect();
        // Each of these goes by the index to its end, and both at once would not.
        let mut rows = all(db, &sql(dialect, OF_ONE), values![merchant, event, PART], read)?;
        if rows.len() < PART as usize {
            let left = PART - rows.len() as u32;
            rows.extend(all(db, &sql(dialect, OF_OTHERS), values![merchant, left], read)?);
        }
        let mut is_orphan = false;
        for (merchant, event, is_there) in &rows {
            self.after = (*merchant, event.0);
            is_orphan = !is_there;
            let is_new = self.at.replace(*merchant) != Some(*merchant);
            if is_orphan && is_new {
                let said = format!("it is of merchant {merchant}, which is not there, like all events of that");
                found.add(Kind::Orphan, Place::Event(*event), said, "a merchant");
            }
            if event.0 < 1 {
                found.add(Kind::EventNotGiven, Place::Event(*event), "it is there", "ids from 1 on");
            }
            found.looked_at.events += u64::from(*is_there);
        }
        let (merchant, event) = self.after;
        if is_orphan || event >= through.0 {
            self.after = (merchant, i64::MAX);
        }
        Ok(Part::of(rows.len()))
    }
}

/// The next events of a merchant, and those of the next ones.
const OF_ONE: &str = "e.merchant_id = $1 AND e.event_id > $2 ORDER BY e.merchant_id, e.event_id LIMIT $3";
const OF_OTHERS: &str = "e.merchant_id > $1 ORDER BY e.merchant_id, e.event_id LIMIT $2";

fn sql(dialect: Dialect, which: &str) -> String {
    format!(
        "SELECT e.merchant_id, e.event_id, m.merchant_id IS NOT NULL FROM event e {}
            LEFT JOIN merchant m ON m.merchant_id = e.merchant_id WHERE {which}",
        dialect.by_index("event_by_merchant")
    )
}

/// The highest id that an event has; those of all others are below it.
fn highest(db: &mut dyn Conn, given: EventId, found: &mut Findings) -> Result<()> {
    let highest = one(db, "SELECT max(event_id) FROM event", &[], |row| row.int_if(0))?.flatten();
    if let Some(highest) = highest.filter(|highest| *highest > given.0) {
        let expected = format!("ids up to {given}, the last that was given out");
        found.add(Kind::EventNotGiven, Place::Event(EventId(highest)), "it is there", expected);
    }
    Ok(())
}
