//! What rows of the smaller tables belong to.

use super::fault::{Kind, Place};
use super::walk::{Findings, PART, Part, START, Walk};
use crate::store::error::StoreError;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::{all, values};

type Result<T> = std::result::Result<T, StoreError>;

/// Rows of a table, each of which belongs to a row of another.
pub struct Belonging {
    what: Rows,
    after: i64,
}

/// Which rows. A table may have several for an `id`, if they all belong to the same.
#[derive(Clone, Copy)]
struct Rows {
    /// What one is, for people, and what many are.
    names: (&'static str, &'static str),
    table: &'static str,
    /// The column whose order they are looked at in.
    id: &'static str,
    /// What it belongs to: the column, and the table, whose key has that name.
    owner: (&'static str, &'static str),
}

const USERS: Rows =
    Rows { names: ("user", "users"), table: "\"user\"", id: "user_id", owner: ("merchant_id", "merchant") };
const TOKENS: Rows =
    Rows { names: ("token", "tokens"), table: "token", id: "token_id", owner: ("merchant_id", "merchant") };
const TOPICS: Rows =
    Rows { names: ("topic", "topics"), table: "topic", id: "topic_id", owner: ("merchant_id", "merchant") };
const FANOUTS: Rows =
    Rows { names: ("fanout", "fanouts"), table: "fanout", id: "fanout_id", owner: ("merchant_id", "merchant") };
const JOBS: Rows = Rows { names: ("job", "jobs"), table: "job", id: "job_id", owner: ("webhook_id", "webhook") };
const NOTICES: Rows = Rows {
    names: ("notice of webhook", "notices"),
    table: "notice",
    id: "webhook_id",
    owner: ("webhook_id", "webhook"),
};
const LOG_SIZES: Rows = Rows {
    names: ("log size of webhook", "log sizes"),
    table: "log_size",
    id: "webhook_id",
    owner: ("webhook_id", "webhook"),
};
const AUDIT: Rows = Rows {
    names: ("entry of the audit log", "entries of the audit log"),
    table: "audit",
    id: "audit_id",
    owner: ("merchant_id", "merchant"),
};

impl Belonging {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        [USERS, TOKENS, TOPICS, FANOUTS, JOBS, NOTICES, LOG_SIZES, AUDIT]
            .into_iter()
            .map(|what| Self { what, after: START })
    }
}

impl Walk for Belonging {
    fn goes_through(&self) -> &'static str {
        self.what.names.1
    }

    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part> {
        let Rows { names: (name, _), table, id, owner: (column, owners) } = self.what;
        let sql = format!(
            "SELECT t.{id}, t.{column}, o.{column} IS NOT NULL FROM {table} t
                LEFT JOIN {owners} o ON o.{column} = t.{column} WHERE t.{id} > $1 ORDER BY t.{id} LIMIT $2"
        );
        let rows = all(db, &sql, values![self.after, PART], |row| Ok((row.int(0)?, row.int(1)?, row.flag(2)?)))?;
        let mut told = None;
        for (row, owner, is_there) in &rows {
            if !is_there && told.replace(*row) != Some(*row) {
                let said = format!("it is of {owners} {owner}, which is not there");
                found.add(Kind::Orphan, Place::Row(name, id, *row), said, format!("a {owners}"));
            }
        }
        self.after = rows.last().map_or(self.after, |(row, ..)| *row);
        Ok(Part::of(rows.len()))
    }
}
