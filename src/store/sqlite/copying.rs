//! Copying a store out of a file, and into one.

use rusqlite::Connection;

use super::Config;
use super::check::Reading;
use super::mark::Mark;
use super::open::{OpenError, ServeLock, check_magic, make_private, open_to_copy_into};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::copying::{Batch, COUNTED, LastIds, Side, TABLES, Table, Target, check_is_own};
use crate::store::sql::db::{all, values};

type Result<T> = std::result::Result<T, StoreError>;

/// A file that is copied from. The lock goes when the file is closed, not before.
pub struct CopiedFrom {
    reading: Reading,
    _lock: ServeLock,
}

/// Opens a file to be copied from. Fails with [`OpenError::InUse`] if it is served.
pub fn from(config: &Config) -> std::result::Result<CopiedFrom, OpenError> {
    check_magic(&config.path)?;
    let lock = ServeLock::take(&config.path)?;
    Ok(CopiedFrom { reading: Reading::open(config)?, _lock: lock })
}

impl Side for CopiedFrom {
    fn db(&mut self) -> &mut dyn Db {
        self.reading.conn().expect("it is open until it is dropped")
    }

    fn last_ids(&mut self) -> Result<LastIds> {
        last_ids(self.reading.conn()?)
    }

    /// The system keeps the lock as long as the process lives.
    fn check_kept(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A file that is copied into.
pub struct CopiedInto {
    conn: Connection,
    config: Config,
    now: Timestamp,
    /// How rows of each table are added.
    inserts: Vec<(&'static str, String)>,
    _lock: ServeLock,
}

/// Opens a file to be copied into, and makes it if it is missing; it then begins with
/// these facts.
pub fn into(
    config: &Config,
    facts: &[(&'static str, String)],
    now: Timestamp,
) -> std::result::Result<CopiedInto, OpenError> {
    let path = &config.path;
    check_magic(path)?;
    make_private(path)?;
    let lock = ServeLock::take(path)?;
    let mut conn = open_to_copy_into(config, facts)?;
    check_is_own(&mut conn, facts).map_err(|cause| OpenError::Unreadable { path: path.clone(), cause })?;
    let inserts = TABLES.iter().map(|table| (table.name, insert(table))).collect();
    Ok(CopiedInto { conn, config: config.clone(), now, inserts, _lock: lock })
}

/// Pruning begins with the attempts that ended first, and takes their ids to be in that
/// order; another engine has no ids. So an id follows from the millisecond of the end,
/// with room for a million in each.
fn insert(table: &Table) -> String {
    let places: Vec<_> = (1..=table.columns.len()).map(|place| format!("?{place}")).collect();
    let (Table { name, .. }, names, places) = (table, table.names(), places.join(", "));
    if *name != "attempt" {
        return format!("INSERT INTO {name} ({names}) VALUES ({places})");
    }
    let place = |column: &str| table.columns.iter().position(|(name, _)| *name == column).map_or(0, |place| place + 1);
    let (started_at, duration_us) = (place("started_at"), place("duration_us"));
    let first = format!("((?{started_at} + ?{duration_us} / 1000) * 1048576)");
    format!(
        "INSERT INTO attempt (attempt_id, {names}) VALUES ((SELECT coalesce(max(attempt_id) + 1, {first}) FROM attempt
            WHERE attempt_id BETWEEN {first} AND {first} + 1048575), {places})"
    )
}

impl Side for CopiedInto {
    fn db(&mut self) -> &mut dyn Db {
        &mut self.conn
    }

    fn last_ids(&mut self) -> Result<LastIds> {
        last_ids(&mut self.conn)
    }

    fn check_kept(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Target for CopiedInto {
    /// It holds every text.
    fn held(&self, _: &str) -> Option<String> {
        None
    }

    fn begin(&mut self) -> Result<()> {
        Ok(self.conn.execute_batch("BEGIN IMMEDIATE")?)
    }

    fn commit(&mut self) -> Result<()> {
        Ok(self.conn.execute_batch("COMMIT")?)
    }

    fn insert(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        let sql = self.inserts.iter().find(|(name, _)| *name == table.name).map(|(_, sql)| sql);
        let sql = sql.ok_or_else(|| StoreError::failed("no such table"))?;
        let mut statement = self.conn.prepare_cached(sql)?;
        for row in 0..rows.rows {
            for (place, cells) in rows.columns.iter().enumerate() {
                statement.raw_bind_parameter(place + 1, cells.value(row))?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn set_last_ids(&mut self, last: &LastIds) -> Result<()> {
        for (name, id) in last.members().filter(|(_, id)| *id > 0) {
            let known = self.conn.run("UPDATE sqlite_sequence SET seq = $2 WHERE name = $1", values![name, id])?;
            if known == 0 {
                self.conn.run("INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)", values![name, id])?;
            }
        }
        Ok(())
    }

    /// A mark that another store may have left does not make this one take another name.
    fn finish(&mut self) -> Result<()> {
        Ok(Mark::make(&self.config.path, &self.conn, self.now)?)
    }
}

/// Where AUTOINCREMENT notes them.
fn last_ids(conn: &mut Connection) -> Result<LastIds> {
    let noted = all(conn, "SELECT name, seq FROM sqlite_sequence", &[], |row| Ok((row.string(0)?, row.int(1)?)))?;
    let last = |name: &str| noted.iter().find(|(noted, _)| noted == name).map_or(0, |(_, last)| *last);
    Ok(LastIds { ids: COUNTED.map(last) })
}
