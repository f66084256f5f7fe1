//! A connection to SQLite, as what is said in SQL knows it.

use std::io::Write;
use std::path::Path;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};

use super::place::beside;
use super::{glance, pages};
use crate::domain::id::{EventId, IncrementId, WebhookId};
use crate::domain::node::Bucket;
use crate::domain::time::Timestamp;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::glance::Glimpse;
use crate::store::outbox::{Page, PageLimit, Want};
use crate::store::sql::conn::{Conn, Manager};
use crate::store::sql::db::{damaged, one};
use crate::store::sql::steps::Step;
use crate::store::sql::{Db, Dialect, Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

impl Db for &Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let mut statement = self.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }

    fn rows(&mut self, sql: &str, values: &[Value<'_>], each: &mut dyn FnMut(&dyn Row) -> Result<bool>) -> Result<()> {
        let mut statement = self.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }
}

impl Db for Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        (&*self).run(sql, values)
    }

    fn rows(&mut self, sql: &str, values: &[Value<'_>], each: &mut dyn FnMut(&dyn Row) -> Result<bool>) -> Result<()> {
        (&*self).rows(sql, values, each)
    }
}

impl Conn for Connection {
    fn page(&mut self, id: WebhookId, want: Want, now: Timestamp, limit: PageLimit) -> Result<Page> {
        match want {
            Want::Fresh(after) => pages::fresh(self, id, after, limit),
            Want::Due(after) => pages::due(self, id, after, now, limit),
            Want::Pending(after) => pages::pending(self, id, after, limit),
            Want::One(number) => pages::one(self, id, number, limit),
        }
    }

    fn next_due(&mut self, id: WebhookId, at: Timestamp) -> Result<Option<Timestamp>> {
        pages::next_due(self, id, at)
    }

    fn pull(&mut self, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Vec<Pulled>> {
        pages::pull(self, id, after, limit)
    }

    fn glimpses(&mut self, after: Option<WebhookId>, _: Option<&[Bucket]>) -> Result<Step<Vec<Glimpse>, WebhookId>> {
        glance::glimpses(self, after)
    }

    fn last_event(&mut self) -> Result<EventId> {
        // Where AUTOINCREMENT notes it; empty until the first.
        let sql = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'";
        Ok(EventId(one(self, sql, &[], |row| row.int_if(0))?.flatten().unwrap_or(0)))
    }

    fn store_bytes(&mut self) -> Result<u64> {
        let Some(path) = self.path().map(Path::new) else { return Ok(0) };
        // There is no log before the first commit, and none after a clean stop.
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        Ok(size(path) + size(&beside(path, "-wal")))
    }
}

impl Manager for SqliteConnectionManager {
    const IS_NEAR: bool = true;

    fn with<T>(conn: &mut Connection, look: impl FnOnce(&mut dyn Conn) -> T) -> T {
        look(conn)
    }

    fn close(conn: &mut Connection) {
        match Connection::open_in_memory() {
            Ok(nothing) => drop(std::mem::replace(conn, nothing)),
            Err(cause) => tracing::error!(%cause, "a connection that reads the store could not be closed"),
        }
    }
}

/// `$1` is a name to SQLite: those that come first in the text are its first
/// parameters.
fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> Result<()> {
    let mut buffer = [0; 8];
    for (index, value) in values.iter().enumerate() {
        if let Some(place) = statement.parameter_index(name(index + 1, &mut buffer)?)? {
            statement.raw_bind_parameter(place, value)?;
        }
    }
    Ok(())
}

/// `$1` for 1. Look-ups by key are so many that nothing is allocated for it.
fn name(number: usize, buffer: &mut [u8; 8]) -> Result<&str> {
    let mut rest = &mut buffer[..];
    write!(rest, "${number}").map_err(StoreError::failed)?;
    let left = rest.len();
    std::str::from_utf8(&buffer[..buffer.len() - left]).map_err(StoreError::failed)
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match *self {
            Self::Int(value) => value.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Text(value) => value.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::Flag(value) => value.map_or(ValueRef::Null, |flag| ValueRef::Integer(flag.into())),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl Row for rusqlite::Row<'_> {
    fn int_if(&self, column: usize) -> Result<Option<i64>> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => Ok(Some(value)),
            _ => Err(damaged("no number")),
        }
    }

    fn text_if(&self, column: usize) -> Result<Option<&str>> {
        self.get_ref(column)?.as_str_or_null().map_err(StoreError::failed)
    }

    fn bytes_if(&self, column: usize) -> Result<Option<&[u8]>> {
        self.get_ref(column)?.as_blob_or_null().map_err(StoreError::failed)
    }

    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.get(column)?)
    }
}
