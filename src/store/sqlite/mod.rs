//! The store in one SQLite file.
//!
//! One thread writes ([`writer`]), a pool of connections reads. In WAL mode
//! neither waits for the other. What is read for callers is said in
//! [`sql`](super::sql), as for every engine.

pub mod admin;
pub(super) mod backup;
pub(super) mod check;
mod config;
pub(super) mod copying;
mod db;
#[cfg(test)]
mod dialect_tests;
mod engine;
mod extent;
mod glance;
#[cfg(test)]
mod life_tests;
mod load;
mod mark;
pub mod open;
mod pages;
mod place;
mod prune;
mod write;
mod writer;

use std::sync::Arc;

use r2d2_sqlite::SqliteConnectionManager;

pub use self::config::{Config, Durability};
use self::open::{OpenError, ServeLock};
use self::writer::{Parts, Serving, Writer};
use super::ledger::queue::Queue;
use super::mailbox::Mailbox;
use super::sql::readers::Readers;
use super::sql::store::{Backend, LANE_READERS, Made, SqlStore};
use crate::domain::time::Clock;
use crate::metrics::Metrics;

/// A store in one SQLite file, served by this process alone.
pub type SqliteStore = SqlStore<SqliteConnectionManager>;

impl Backend for SqliteConnectionManager {
    type Serving = Serving;

    /// The file is all there is of the store then.
    fn end(serving: Serving, readers: [&Readers<Self>; 2]) {
        serving.end(readers);
    }
}

impl SqliteStore {
    /// Opens the file, makes it if it is missing, and starts the writer, which
    /// announces in `mailbox` what it commits. How it is doing is counted in
    /// `metrics`. Fails if the file is not ours,
    /// is newer than this program, or is being served by another process.
    pub fn open(config: Config, clock: Clock, mailbox: Arc<Mailbox>, metrics: &Metrics) -> Result<Self, OpenError> {
        open::check_magic(&config.path)?;
        open::make_private(&config.path)?;
        let lock = ServeLock::take(&config.path)?;
        let conn = open::open_current(&config)?;
        let in_use = |user| metrics.readers_in_use.child(&[user]);
        let readers = Readers::new(open::open_readers(&config, config.readers_max)?, in_use("calls"));
        let lane_readers = Readers::new(open::open_readers(&config, LANE_READERS)?, in_use("lanes"));
        let queue = Arc::new(Queue::new(config.write_queue_max, metrics.changes_waiting.clone()));
        let parts = Parts { queue: Arc::clone(&queue), mailbox: Arc::clone(&mailbox), metrics };
        let writer = Writer::new(config.clone(), clock.clone(), parts, conn)?;
        let (store_id, trouble) = (writer.store_id().clone(), writer.trouble());
        let (commits, feed) = (writer.commits(), writer.feed());
        let serving = writer.start(lock).map_err(|cause| OpenError::Io { path: config.path.clone(), cause })?;
        let (readers, serving) = ([readers, lane_readers], Some(serving));
        let (following, patience) = (None, None);
        let vault = Arc::clone(&config.vault);
        let made = Made { store_id, queue, readers, feed, following, patience, commits, trouble, serving, vault };
        Ok(Self::new(made, clock, mailbox, config.is_paused))
    }
}
