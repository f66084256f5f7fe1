//! Looking at the database beside running servers.

use super::config::Config;
use super::migrating;
use super::session::Session;
use crate::store::error::StoreError;
use crate::store::sql::check::{Checker, Moment};
use crate::store::sql::conn::Conn;

/// All of it goes by key, whatever the planner thinks of the sizes of tables.
const BY_KEY_ALONE: [&str; 6] = [
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "enable_sort = off",
    "jit = off",
];

/// A connection that only reads.
struct Reading(Session);

impl Moment for Reading {
    fn look(&mut self, look: &mut dyn FnMut(&mut dyn Conn) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", &[])?;
        let looked = look(&mut self.0);
        let ended = self.0.roll_back();
        looked.and(ended)
    }
}

/// Connects to a database that holds a store.
pub fn open(config: &Config) -> Result<Checker, StoreError> {
    let mut session = Session::open(&config.database)?;
    session.set(&BY_KEY_ALONE)?;
    session.only_read()?;
    migrating::check_version(&mut session)?;
    Ok(Checker::on(Reading(session)))
}
