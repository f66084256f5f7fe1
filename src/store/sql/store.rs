//! A store in a database: what all engines that speak SQL have in common.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::conn::Manager;
use super::readers::Readers;
use super::sending::Outlook;
use super::together::Together;
use crate::domain::catalogue::TopicRule;
use crate::domain::id::{MerchantId, StoreId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Clock;
use crate::domain::topic::Topic;
use crate::store::accounts::Session;
use crate::store::base::Base;
use crate::store::feed::Feed;
use crate::store::following::Following;
use crate::store::ledger::chores::Sweep;
use crate::store::ledger::queue::{Cost, Queue};
use crate::store::ledger::queued::{Queued, queued};
use crate::store::mailbox::{Mailbox, Waits};
use crate::store::trouble::Trouble;
use crate::store::upkeep::Upkeep;
use crate::store::vault::Vault;
use crate::work::Account;
use crate::work::apart::Apart;

/// Connections on which the delivery worker reads what is pending.
pub const LANE_READERS: u32 = 2;
/// Changes that may wait for their answers to be compressed.
const COMPRESSING_MAX: usize = 64;

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
    store_id: StoreId,
    pub(super) clock: Clock,
    queue: Arc<Queue<Queued>>,
    /// For whoever calls.
    pub(super) readers: Readers<B>,
    /// For the delivery worker alone, which therefore waits for no caller.
    pub(super) lane_readers: Readers<B>,
    /// Whose each call is, and what is demanded of each event.
    pub(super) sessions: Arc<Together<B, KeyHash, Option<Session>>>,
    pub(super) topic_rules: Arc<Together<B, (MerchantId, Topic), Option<TopicRule>>>,
    /// For what is to be compressed.
    pub(super) apart: Apart,
    pub(super) mailbox: Arc<Mailbox>,
    feed: Arc<Feed>,
    /// Has the feed hear of what others commit, where there may be others.
    pub(super) following: Option<Following>,
    pub(super) is_paused: bool,
    /// Opens what is stored of secrets.
    pub(super) vault: Arc<Vault>,
    /// How long a change may wait for its turn; `None`: as long as it takes.
    patience: Option<Duration>,
    commits: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<Trouble>>,
    serving: Mutex<Option<B::Serving>>,
}

/// What an engine makes of a store that is opened.
pub struct Made<B: Backend> {
    /// Which store it is.
    pub store_id: StoreId,
    /// What waits for its writer.
    pub queue: Arc<Queue<Queued>>,
    /// For whoever calls, and for the delivery worker.
    pub readers: [Readers<B>; 2],
    /// Tells of its writer's commits.
    pub feed: Arc<Feed>,
    /// Has that hear of what others commit, where there may be others.
    pub following: Option<Following>,
    /// How long a change may wait for its turn; `None`: as long as it takes.
    pub patience: Option<Duration>,
    /// Counts them.
    pub commits: watch::Receiver<u64>,
    /// What keeps its writer from taking changes.
    pub trouble: watch::Receiver<Option<Trouble>>,
    /// Its writer, at work; a store that is only read has none.
    pub serving: Option<B::Serving>,
    /// Opens what is stored of secrets.
    pub vault: Arc<Vault>,
}

impl<B: Backend> SqlStore<B> {
    /// Puts together what an engine has made.
    pub fn new(made: Made<B>, clock: Clock, mailbox: Arc<Mailbox>, is_paused: bool) -> Self {
        let Made {
            store_id,
            queue,
            readers: [readers, lane_readers],
            feed,
            following,
            patience,
            commits,
            trouble,
            serving,
            vault,
        } = made;
        Self {
            store_id,
            clock,
            queue,
            sessions: Together::new(readers.clone()),
            topic_rules: Together::new(readers.clone()),
            readers,
            lane_readers,
            apart: Apart::for_processors(COMPRESSING_MAX),
            mailbox,
            feed,
            following,
            is_paused,
            vault,
            patience,
            commits,
            trouble,
            serving: Mutex::new(serving),
        }
    }

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
