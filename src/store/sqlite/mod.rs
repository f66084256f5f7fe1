//! The store in one SQLite file.
//!
//! One thread writes ([`writer`]), a pool of connections reads. In WAL mode
//! neither waits for the other.

mod accounts;
pub mod admin;
mod attempt_log;
mod catalogue;
mod config;
mod db;
mod deliveries;
mod engine;
mod events;
mod extent;
mod glance;
mod jobs;
#[cfg(test)]
mod life_tests;
mod live;
mod load;
mod mark;
pub mod open;
mod outbox;
mod pages;
mod place;
mod prune;
mod readers;
mod reads;
mod resending;
mod rows;
mod standings;
pub(super) mod trouble;
mod webhooks;
mod write;
mod writer;

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

pub use self::config::{Config, Durability};
use self::open::{OpenError, ServeLock};
use self::readers::Readers;
pub use self::trouble::Trouble;
use self::writer::{Parts, Serving, Writer};
use super::base::Base;
use super::feed::Feed;
use super::ledger::chores::Sweep;
use super::ledger::queue::{Cost, Queue};
use super::ledger::queued::{Queued, queued};
use super::mailbox::{Mailbox, Waits};
use super::upkeep::Upkeep;
use crate::domain::id::StoreId;
use crate::domain::time::Clock;
use crate::metrics::Metrics;
use crate::work::Account;
use crate::work::apart::Apart;

/// Connections on which the delivery worker reads what is pending.
const LANE_READERS: u32 = 2;
/// Changes that may wait for their answers to be compressed.
const COMPRESSING_MAX: usize = 64;

/// A store in one SQLite file, served by this process alone.
pub struct SqliteStore {
    store_id: StoreId,
    clock: Clock,
    queue: Arc<Queue<Queued>>,
    /// For whoever calls.
    readers: Readers,
    /// For the delivery worker alone, which therefore waits for no caller.
    lane_readers: Readers,
    /// For what is to be compressed.
    apart: Apart,
    mailbox: Arc<Mailbox>,
    feed: Arc<Feed>,
    is_paused: bool,
    commits: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<Trouble>>,
    serving: Mutex<Option<Serving>>,
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
        Ok(Self {
            store_id,
            clock,
            queue,
            readers,
            lane_readers,
            apart: Apart::for_processors(COMPRESSING_MAX),
            mailbox,
            feed,
            commits,
            trouble,
            is_paused: config.is_paused,
            serving: Mutex::new(Some(serving)),
        })
    }

    /// What says when deliveries go out, besides their webhooks.
    fn outlook(&self) -> rows::Outlook {
        rows::Outlook { now: self.clock.now(), is_paused: self.is_paused }
    }
}

impl Base for SqliteStore {
    fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    fn queue(&self) -> &Queue<Queued> {
        &self.queue
    }

    fn waits(&self) -> &Waits {
        self.mailbox.waits()
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}

impl Upkeep for SqliteStore {
    fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    fn trouble(&self) -> Option<Trouble> {
        self.trouble.borrow().clone()
    }

    fn sweep(&self) {
        // If the queue is full, the next one will do.
        let _ = self.queue.push(Account::Server, Cost::SMALL, queued(Sweep, |_| {}));
    }

    /// The file is all there is of the store then.
    fn close(&self) {
        self.queue.close();
        let serving = self.serving.lock().expect("nothing panics while it holds the handle").take();
        if let Some(serving) = serving {
            serving.end([&self.readers, &self.lane_readers]);
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}
