//! Events that are still to be numbered: a server that starts goes on with them.

use super::fault::{Kind, Place};
use super::walk::{Findings, Part, START, Walk};
use crate::domain::id::MerchantId;
use crate::store::error::StoreError;
use crate::store::ledger::fanout::Fanout;
use crate::store::sql::codes::{bad, topic_at};
use crate::store::sql::conn::Conn;
use crate::store::sql::db::{all, one, values};

type Result<T> = std::result::Result<T, StoreError>;

/// Rows of a part: each may name a thousand events, and all that they go to.
const AT_ONCE: u32 = 4;

/// Goes through what is noted as yet to be numbered.
pub struct Fanouts {
    after: i64,
}

impl Default for Fanouts {
    fn default() -> Self {
        Self { after: START }
    }
}

impl Walk for Fanouts {
    fn goes_through(&self) -> &'static str {
        "events that are yet to be numbered"
    }

    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part> {
        let sql = "SELECT fanout_id, merchant_id, events FROM fanout WHERE fanout_id > $1 ORDER BY fanout_id LIMIT $2";
        let rows = all(db, sql, values![self.after, AT_ONCE], |row| {
            Ok((row.int(0)?, MerchantId(row.int(1)?), row.string(2)?))
        })?;
        for (id, merchant, text) in &rows {
            // What is wrong with the row, and what with the connection.
            let (mut missing, mut failed) = (None, None);
            let read = Fanout::stored(*merchant, text, |event| {
                let sql = "SELECT topic FROM event WHERE event_id = $1 AND merchant_id = $2";
                let topic = one(db, sql, values![event.0, merchant.0], |row| Ok(topic_at(row, 0)));
                match topic.inspect_err(|cause| failed = Some(cause.clone()))? {
                    Some(topic) => topic,
                    None => {
                        missing = Some(event);
                        Err(bad("fanout"))
                    }
                }
            });
            let place = Place::Row("fanout", "fanout_id", *id);
            match (failed, missing, read) {
                (Some(cause), ..) => return Err(cause),
                (_, Some(event), _) => {
                    let said = format!("event {event} is yet to be numbered, and is not there");
                    found.add(Kind::EventMissing, place, said, format!("an event of merchant {merchant}"));
                }
                (_, _, Err(cause)) => {
                    found.add(Kind::Unreadable, place, cause.to_string(), "what the program writes");
                }
                (_, _, Ok(_)) => {}
            }
        }
        self.after = rows.last().map_or(self.after, |(id, ..)| *id);
        Ok(if rows.len() < AT_ONCE as usize { Part::Last } else { Part::More })
    }
}
