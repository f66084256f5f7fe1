//! The ledger's engine: one connection that writes, in one transaction.

use std::borrow::Borrow;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, ffi};

use super::prune::{self, Pass};
use super::{load, write};
use crate::domain::id::{EventId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::decision::Rows;
use crate::store::ledger::pruning::CutOff;
use crate::store::ledger::wants::{Loaded, Wants};
use crate::store::ledger::work::Engine;
use crate::store::sql;
use crate::store::sql::resealing::Resealing;
use crate::store::sql::write::sweep;
use crate::store::vault::Vault;

/// A connection that writes, and what it is about besides the changes.
#[derive(Debug)]
pub struct Sqlite<C = Connection> {
    pub conn: C,
    /// What was deleted to be forgotten may still be read in the log that lies
    /// beside the file.
    pub leaves_traces: bool,
    /// The pass of pruning that is under way.
    pass: Option<Pass>,
    /// Seals secrets, and has those sealed anew that are not as they would be.
    vault: Arc<Vault>,
    resealing: Resealing,
}

impl<C: Borrow<Connection>> Sqlite<C> {
    /// With a file that is open.
    pub fn new(conn: C, vault: Arc<Vault>) -> rusqlite::Result<Self> {
        // An earlier life may have ended before its log was emptied.
        let sql = "SELECT EXISTS (SELECT 1 FROM delivery WHERE event_id < 0)";
        let leaves_traces = conn.borrow().query_row(sql, [], |row| row.get(0))?;
        let resealing = Resealing::new(&vault);
        Ok(Self { conn, leaves_traces, pass: None, vault, resealing })
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> rusqlite::Result<()> {
        self.conn.borrow().execute_batch("BEGIN IMMEDIATE")
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.conn.borrow().prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    fn write_all(&mut self, rows: &Rows, now: Timestamp) -> Result<(), StoreError> {
        let (conn, vault) = (self.conn.borrow(), &self.vault);
        let forgotten = write::write(conn, vault, rows, now)?;
        if !forgotten.is_empty() {
            self.leaves_traces = true;
            write::overwriting(conn, |db| {
                forgotten.into_iter().try_for_each(|other| sql::write::other(db, vault, other, now))
            })?;
        }
        Ok(())
    }

    /// Commits it.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.conn.borrow().execute_batch("COMMIT")?)
    }
}

impl<C: Borrow<Connection>> Engine for Sqlite<C> {
    fn load(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded, StoreError> {
        // As in writing, but it needs no place to go back to.
        if self.conn.borrow().is_autocommit() {
            return Err(StoreError::failed("an earlier failure undid the transaction"));
        }
        load::load(self.conn.borrow(), wants, now)
    }

    fn write(&mut self, rows: Rows, now: Timestamp) -> Result<(), StoreError> {
        // Some failures (a full disk, say) undo the whole transaction, and what
        // came after would each be a transaction of its own.
        if self.conn.borrow().is_autocommit() {
            return Err(StoreError::failed("an earlier failure undid the transaction"));
        }
        self.run("SAVEPOINT change")?;
        let written = self.write_all(&rows, now);
        let undone = if written.is_err() { self.run("ROLLBACK TO change") } else { Ok(()) };
        if let Err(cause) = undone.and_then(|()| self.run("RELEASE change")) {
            // Fails only if there is no transaction any more, which is what is wanted.
            let _ = self.conn.borrow().execute_batch("ROLLBACK");
            return Err(written.err().unwrap_or(cause));
        }
        written
    }

    fn is_open(&self) -> bool {
        !self.conn.borrow().is_autocommit()
    }

    fn sweep(&mut self, now: Timestamp, audited_before: Timestamp, max: u32) -> Result<bool, StoreError> {
        let mut conn: &Connection = self.conn.borrow();
        sweep(&mut conn, now, audited_before, max)
    }

    fn begin_pruning(&mut self, before: CutOff) -> Result<(), StoreError> {
        self.pass = Some(Pass::new(before));
        Ok(())
    }

    fn is_pruning(&self) -> bool {
        self.pass.is_some()
    }

    fn is_resealing(&self) -> bool {
        self.resealing.is_due(&self.vault)
    }

    fn reseal(&mut self) -> Result<usize, StoreError> {
        let (resealing, vault) = (&mut self.resealing, &self.vault);
        let sealed = write::overwriting(self.conn.borrow(), |db| resealing.step(db, vault))?;
        // What was not sealed may still be read in the log.
        self.leaves_traces |= sealed > 0;
        Ok(sealed)
    }

    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>, StoreError> {
        let Some(pass) = self.pass.take() else { return Ok(Vec::new()) };
        let (next, shrunk) = prune::step(self.conn.borrow(), pass, kept_from)?;
        self.pass = next;
        Ok(shrunk)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(cause: rusqlite::Error) -> Self {
        let is_full = cause.sqlite_error().is_some_and(|failure| {
            // A quota that is used up is no full disk to SQLite, but a write that failed.
            let unwritten = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];
            failure.code == ErrorCode::DiskFull || unwritten.contains(&failure.extended_code)
        });
        if is_full { Self::DiskFull } else { Self::failed(cause) }
    }
}
