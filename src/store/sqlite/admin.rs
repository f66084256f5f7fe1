//! An operator's own connection to the file, beside a running server.

use std::sync::Arc;

use rusqlite::Connection;

use super::Config;
use super::engine::Sqlite;
use super::mark::Mark;
use super::open::{OpenError, ServeLock, check_name, open_current};
use crate::domain::id::StoreId;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::work::Engine;
use crate::store::sql::Db;
use crate::store::sql::admin::{Admin, OperatorConn};

impl OperatorConn for Sqlite<Connection> {
    fn db(&mut self) -> &mut dyn Db {
        &mut self.conn
    }

    fn engine(&mut self) -> &mut dyn Engine {
        self
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        Ok(Self::begin(self)?)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Self::commit(self)
    }

    fn roll_back(&mut self) {
        // Fails only if there is no transaction any more, which is what is wanted.
        let _ = self.conn.execute_batch("ROLLBACK");
    }
}

/// Opens the file beside a running server; makes it if there is none.
pub fn open(config: &Config) -> Result<Admin, OpenError> {
    check_name(&config.path)?;
    let failed = |cause| OpenError::Sqlite { path: config.path.clone(), cause };
    let conn = Sqlite::new(open_current(config)?, Arc::clone(&config.vault)).map_err(failed)?;
    Ok(Admin::on(conn, config.terms))
}

/// Gives a store that is not served a new id, so that whatever it sends differs
/// from what was ever sent before: the old one, and the new one. Fails with
/// [`OpenError::InUse`] if a server has it.
pub fn renew_store_id(config: &Config, now: Timestamp) -> Result<(StoreId, StoreId), OpenError> {
    let _lock = ServeLock::take(&config.path)?;
    let conn = open_current(config)?;
    let renewed = Mark::renew_store_id(&config.path, &conn, now);
    renewed.map_err(|cause| OpenError::Sqlite { path: config.path.clone(), cause })
}
