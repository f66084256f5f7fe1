//! An operator's own connection to the database, beside running servers. Each call
//! blocks, and must not come from a thread that drives others.

use std::fmt;
use std::sync::Arc;

use super::config::Config;
use super::engine::Postgres;
use super::migrating;
use super::session::Session;
use crate::domain::id::StoreId;
use crate::domain::node::NodeId;
use crate::domain::time::{Clock, Timestamp};
use crate::store::error::StoreError;
use crate::store::ledger::work::Engine;
use crate::store::sql::Db;
use crate::store::sql::admin::{Admin, OperatorConn};
use crate::store::sql::db::one;

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

impl OperatorConn for Postgres {
    fn db(&mut self) -> &mut dyn Db {
        self.session()
    }

    fn engine(&mut self) -> &mut dyn Engine {
        self
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let now: Timestamp = Clock::system().now();
        Self::begin(self, now)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Self::commit(self)
    }

    fn roll_back(&mut self) {
        Self::roll_back(self);
    }
}

/// Connects to the database, and makes the tables if there are none.
pub fn open(config: &Config) -> Result<Admin, StoreError> {
    migrating::migrate(&config.database)?;
    Ok(Admin::on(Postgres::open(&config.database, NodeId(0), Arc::default(), Arc::clone(&config.vault))?, config.terms))
}

/// True if the database holds a store.
pub fn is_there(config: &Config) -> Result<bool, StoreError> {
    let mut session = Session::open(&config.database)?;
    Ok(one(&mut session, "SELECT to_regclass('meta') IS NOT NULL", &[], |row| row.flag(0))? == Some(true))
}

/// Gives the store a new id; the old one, and the new one.
pub fn renew_store_id(config: &Config) -> Result<(StoreId, StoreId), StoreError> {
    migrating::renew_store_id(&config.database)
}
