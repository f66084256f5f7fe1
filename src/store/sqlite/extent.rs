//! How far a store has come: what it has given out, and never gives out again.

use std::fmt;

use rusqlite::Connection;

/// The highest ids that a store has given, whether what had them is still
/// there or not, and how many numbers its webhooks have given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The last merchant.
    pub merchants: i64,
    /// The last user.
    pub users: i64,
    /// The last webhook.
    pub webhooks: i64,
    /// The last event.
    pub events: i64,
    /// The last topic.
    pub topics: i64,
    /// The last numbers of all webhooks, deleted ones too, added up.
    pub numbers: i64,
}

impl Extent {
    /// Reads what the file holds. It looks at every webhook.
    pub fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let numbers =
            conn.query_row("SELECT coalesce(sum(last_increment_id), 0) FROM webhook", [], |row| row.get(0))?;
        Self::of(conn, numbers)
    }

    /// Of so many numbers, and what the file says otherwise.
    pub fn of(conn: &Connection, numbers: i64) -> rusqlite::Result<Self> {
        Self { numbers, ..Self::default() }.with_ids(conn)
    }

    /// The same with the highest ids that the file knows of.
    fn with_ids(self, conn: &Connection) -> rusqlite::Result<Self> {
        let mut extent = self;
        let mut statement = conn.prepare_cached("SELECT name, seq FROM sqlite_sequence")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let place = match row.get_ref(0)?.as_str()? {
                "merchant" => &mut extent.merchants,
                "user" => &mut extent.users,
                "webhook" => &mut extent.webhooks,
                "event" => &mut extent.events,
                "topic" => &mut extent.topics,
                _ => continue,
            };
            *place = row.get(1)?;
        }
        Ok(extent)
    }

    /// True if it has not come as far as the other in everything.
    pub fn is_behind(&self, other: &Self) -> bool {
        self.members().iter().zip(other.members()).any(|((_, own), (_, others))| *own < others)
    }

    /// Each by its name.
    pub fn members(&self) -> [(&'static str, i64); 6] {
        let mut copy = *self;
        copy.members_mut().map(|(name, value)| (name, *value))
    }

    /// The same, to be set.
    pub fn members_mut(&mut self) -> [(&'static str, &mut i64); 6] {
        let Self { merchants, users, webhooks, events, topics, numbers } = self;
        [
            ("merchants", merchants),
            ("users", users),
            ("webhooks", webhooks),
            ("events", events),
            ("topics", topics),
            ("numbers", numbers),
        ]
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.members().iter().enumerate() {
            write!(f, "{}{value} {name}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
