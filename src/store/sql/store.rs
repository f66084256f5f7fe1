//! A store in a database: what all engines that speak SQL have in common.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::conn::Manager;
use super::readers::Readers;
use super::sending::Outlook;
use crate::domain::id::StoreId;
use crate::domain::time::Clock;
use crate::store::base::Base;
use crate::store::feed::Feed;
use crate::store::ledger::chores::Sweep;
use crate::store::ledger::queue::{Cost, Queue};
use crate::store::ledger::queued::{Queued, queued};
use crate::store::mailbox::{Mailbox, Waits};
use crate::store::trouble::Trouble;
use crate::store::upkeep::Upkeep;
use crate::work::Account;
use crate::work::apart::Apart;

/// Connections on which the delivery worker reads what is pending.
pub const LANE_READERS: u32 = 2;
/// Changes that may wait for their answers to be compressed.
pub const COMPRESSING_MAX: usize = 64;

/// An engine: what makes its connections, and the one who writes.
pub trait Backend: Manager + Sized {
    /// The one who writes, at work.
    type Serving: Send + 'static;

    /// Has others who share the store send from now on. Blocks.
    fn hand_over(_serving: &Self::Serving) {}

    /// Waits until all that waits is written, for no more comes, and closes the
    /// store, with these readers. Blocks.
    fn end(serving: Self::Serving, readers: [&Readers<Self>; 2]);
}

/// A store in a database.
pub struct SqlStore<B: Backend> {
    pub(crate) store_id: StoreId,
    pub(crate) clock: Clock,
    pub(crate) queue: Arc<Queue<Queued>>,
    /// For whoever calls.
    pub(crate) readers: Readers<B>,
    /// For the delivery worker alone, which therefore waits for no caller.
    pub(crate) lane_readers: Readers<B>,
    /// For what is to be compressed.
    pub(crate) apart: Apart,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) is_paused: bool,
    /// How long a change may wait for its turn; `None`: as long as it takes.
    pub(crate) patience: Option<Duration>,
    pub(crate) commits: watch::Receiver<u64>,
    pub(crate) trouble: watch::Receiver<Option<Trouble>>,
    pub(crate) serving: Mutex<Option<B::Serving>>,
}

impl<B: Backend> SqlStore<B> {
    /// What says when deliveries go out, besides their webhooks.
    pub(super) fn outlook(&self) -> Outlook {
        Outlook { now: self.clock.now(), is_paused: self.is_paused }
    }
}

impl<B: Backend> Base for SqlStore<B> {
    fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    fn queue(&self) -> &Queue<Queued> {
        &self.queue
    }

    fn patience(&self) -> Option<Duration> {
        self.patience
    }

    fn waits(&self) -> &Waits {
        self.mailbox.waits()
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}

impl<B: Backend> Upkeep for SqlStore<B> {
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

    fn hand_over(&self) {
        if let Some(serving) = &*self.serving.lock().expect("nothing panics while it holds the handle") {
            B::hand_over(serving);
        }
    }

    fn close(&self) {
        self.queue.close();
        let serving = self.serving.lock().expect("nothing panics while it holds the handle").take();
        if let Some(serving) = serving {
            B::end(serving, [&self.readers, &self.lane_readers]);
        }
    }
}

impl<B: Backend> Drop for SqlStore<B> {
    fn drop(&mut self) {
        self.close();
    }
}
