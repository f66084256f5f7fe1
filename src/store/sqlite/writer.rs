//! The one thread that writes.
//!
//! It takes what waits as far as a commit's budget goes, runs it as one
//! transaction (group commit), presses that to disk, and only then answers
//! everyone and announces the news. So no change waits for more than a budget,
//! whatever others have had written, or for one change that is larger. Each
//! change runs in a savepoint of its own, so one that fails takes nothing else
//! with it. A COMMIT that fails leaves it unknown what the disk holds: the
//! connection is closed, the file is read again, and everyone gets a fault.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use tracing::{error, info};

use super::memory::Memory;
use super::open::{ServeLock, read_store_id, reopen};
use super::queue::{Cost, Queue, Spent, Taken};
use super::tx::{Announcement, Tx};
use super::{Config, housekeeping};
use crate::domain::id::{Span, StoreId};
use crate::domain::time::{Clock, Timestamp};
use crate::store::StoreError;
use crate::store::feed::{Committed, Feed};
use crate::store::mailbox::Mailbox;
use crate::work::{self, Account};

/// How long to wait before a file that could not be reopened is tried again.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

/// How long the chores rest after one of them has failed, and the commit with it.
const CHORES_REST: Duration = Duration::from_secs(60);

/// A change to the store. It gets the transaction, or why there is none.
pub type Change = Box<dyn FnOnce(Result<&mut Tx<'_>, StoreError>) -> Changed + Send>;
/// Tells whoever asked for a change.
pub type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What has come of a change.
pub enum Changed {
    /// It is done: this is to be told once the commit's fate is known.
    Whole(Answer),
    /// It goes on in a later commit, at this cost, and if this one fails is
    /// told so.
    Goes(Cost, Change),
}

impl Changed {
    /// Tells of a commit that failed.
    fn fail(self, cause: StoreError) {
        match self {
            Self::Whole(answer) => answer(Err(cause)),
            Self::Goes(_, change) => change(Err(cause.clone())).fail(cause),
        }
    }
}

/// However the thread ends, nobody waits for it any longer.
struct End(Arc<Queue<Change>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The writer thread's own state.
pub struct Writer {
    config: Config,
    store_id: StoreId,
    clock: Clock,
    queue: Arc<Queue<Change>>,
    mailbox: Arc<Mailbox>,
    feed: Arc<Feed>,
    memory: Memory,
    /// `None` after a failed COMMIT, until the file could be opened again.
    conn: Option<Connection>,
    /// The last transaction failed as a whole: the chores wait a little.
    is_stuck: bool,
    /// One of the chores has failed. They rest until then, and then have
    /// commits of their own, lest a change fails with them, until all are done.
    chores_rest_until: Option<Timestamp>,
    commits: watch::Sender<u64>,
    _lock: ServeLock,
}

impl Writer {
    /// Reads the memory from the file.
    pub fn new(
        config: Config,
        clock: Clock,
        queue: Arc<Queue<Change>>,
        mailbox: Arc<Mailbox>,
        conn: Connection,
        lock: ServeLock,
    ) -> rusqlite::Result<Self> {
        let memory = Memory::load(&conn)?;
        let store_id = read_store_id(&conn)?;
        Ok(Self {
            config,
            store_id,
            clock,
            queue,
            mailbox,
            feed: Arc::default(),
            memory,
            conn: Some(conn),
            is_stuck: false,
            chores_rest_until: None,
            commits: watch::Sender::new(0),
            _lock: lock,
        })
    }

    /// Counts its commits.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Tells of its commits.
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }

    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        let _end = End(Arc::clone(&self.queue));
        while self.queue.wait(self.patience()) {
            if self.conn.is_none() {
                self.reopen();
            }
            let are_chores_due = self.chores_wait().is_some_and(|wait| wait.is_zero());
            let are_chores_apart = self.chores_rest_until.is_some();
            if are_chores_apart && are_chores_due {
                self.commit(None, true);
            }
            let first = self.queue.take(Spent::default());
            if first.is_some() || (are_chores_due && !are_chores_apart) {
                self.commit(first, !are_chores_apart);
            }
        }
        info!(commits = *self.commits.borrow(), "the store is closed");
    }

    /// How long it may wait for changes before there is something else to do.
    fn patience(&self) -> Duration {
        match self.chores_wait() {
            _ if self.conn.is_none() || self.is_stuck => REOPEN_INTERVAL,
            Some(wait) => wait,
            None => Duration::MAX,
        }
    }

    /// How long the chores are to wait; `None` if there are none.
    fn chores_wait(&self) -> Option<Duration> {
        let rest = self.chores_rest_until.map_or(Duration::ZERO, |until| until.since(self.clock.now()));
        // One that is further away was set before the clock went back.
        let wait = if rest > CHORES_REST { Duration::ZERO } else { rest };
        self.memory.has_chores().then_some(wait)
    }

    /// Runs a change and what else finds room beside it, and maybe a bounded
    /// step of the chores, as one transaction.
    fn commit(&mut self, first: Option<Taken<Change>>, does_chores: bool) {
        let begun = match &self.conn {
            Some(conn) => conn.execute_batch("BEGIN IMMEDIATE").map_err(|cause| {
                error!(%cause, "the store can't be written");
                StoreError::failed(cause)
            }),
            None => Err(StoreError::failed("the store could not be opened again after a failed commit")),
        };
        self.is_stuck = begun.is_err();
        let (Ok(()), Some(conn)) = (&begun, &self.conn) else {
            let cause = begun.err().unwrap_or_else(|| StoreError::failed("the store is closed"));
            self.refuse(first, &cause);
            return;
        };

        let mut news = Vec::new();
        let mut tx = Tx { conn, memory: &mut self.memory, now: self.clock.now(), news: &mut news };
        let changed = run_changes(&self.queue, &mut tx, first);
        let mut finished = if conn.is_autocommit() { Err(undone()) } else { Ok(()) };
        if finished.is_ok() && does_chores {
            finished = work::step("housekeeping", || housekeeping::step(&mut tx, self.config.retention));
            self.chores_rest_until = match &finished {
                Err(_) => Some(tx.now.after(CHORES_REST)),
                // It may be the turn of others than the one that failed.
                Ok(()) => self.chores_rest_until.filter(|_| tx.memory.has_chores()),
            };
        }
        let finished = finished.and_then(|()| finish(&mut tx));
        match finished {
            Ok(()) => {
                self.commits.send_modify(|count| *count += 1);
                if self.feed.is_watched() {
                    self.feed.tell(&committed(&news, &self.memory));
                }
                announce(&self.mailbox, news);
                for (account, changed) in changed {
                    match (account, changed) {
                        (_, Changed::Whole(answer)) => answer(Ok(())),
                        (Some(account), Changed::Goes(cost, rest)) => self.queue.go_on(account, cost, rest),
                        (None, rest) => rest.fail(StoreError::failed("no outcome is recorded in several commits")),
                    }
                }
            }
            Err(cause) => {
                error!(%cause, "a commit failed; reading the store again");
                self.conn = None;
                self.reopen();
                self.feed.tell_unknown();
                // What failed may be a chore that comes back at once.
                self.is_stuck = true;
                changed.into_iter().for_each(|(_, changed)| changed.fail(cause.clone()));
            }
        }
    }

    /// Tells all that a commit would have had room for.
    fn refuse(&self, first: Option<Taken<Change>>, cause: &StoreError) {
        let (mut spent, mut next) = (Spent::default(), first);
        while let Some(Taken { entry: change, cost, account }) = next {
            change(Err(cause.clone())).fail(cause.clone());
            spent.add(account, cost);
            next = self.queue.take(spent);
        }
    }

    /// Opens the file again and forgets whatever only memory knew.
    fn reopen(&mut self) {
        let opened = reopen(&self.config, &self.store_id).map_err(|cause| cause.to_string());
        let loaded = opened.and_then(|conn| match Memory::load(&conn) {
            Ok(memory) => Ok((conn, memory)),
            Err(cause) => Err(cause.to_string()),
        });
        match loaded {
            Ok((conn, memory)) => {
                info!("the store is open again");
                self.conn = Some(conn);
                self.memory = memory;
                for (webhook, through) in self.memory.webhooks() {
                    self.mailbox.announce_webhook(webhook.webhook_id, Some(Arc::clone(webhook)));
                    self.mailbox.announce_through(webhook.webhook_id, through);
                }
            }
            Err(cause) => error!(cause, "the store can't be opened again; trying on"),
        }
    }
}

/// Some failures (a full disk, say) undo the whole transaction, and what came
/// after would each be a transaction of its own.
fn undone() -> StoreError {
    StoreError::failed("an earlier failure undid the transaction")
}

/// Runs a change and what else finds room beside it in a commit. Whose each
/// was, and what has come of it.
fn run_changes(
    queue: &Queue<Change>,
    tx: &mut Tx<'_>,
    first: Option<Taken<Change>>,
) -> Vec<(Option<Account>, Changed)> {
    let (mut spent, mut changed, mut next) = (Spent::default(), Vec::new(), first);
    while let Some(Taken { entry: change, cost, account }) = next {
        let conn = tx.conn;
        let written = conn.total_changes();
        let may_change = if conn.is_autocommit() { Err(undone()) } else { Ok(&mut *tx) };
        // Kept outside the step: an answer that a step gives back and then
        // panics is never dropped, and whoever waits for it would wait for ever.
        work::step("a change", || changed.push((account, change(may_change))));
        let written = usize::try_from(conn.total_changes().saturating_sub(written)).unwrap_or(usize::MAX);
        // How far an event spreads shows only here.
        let really = cost.max(Cost::of(written, 0));
        queue.charge(account, cost, really);
        spent.add(account, really);
        next = match changed.pop() {
            Some((Some(account), Changed::Goes(cost, rest))) if queue.may_go_on(account, cost, spent) => {
                queue.charge(Some(account), Cost::default(), cost);
                Some(Taken { entry: rest, cost, account: Some(account) })
            }
            last => {
                // What comes behind one that goes on waits for all of it.
                let goes_on = matches!(last, Some((_, Changed::Goes(..))));
                changed.extend(last);
                if goes_on { None } else { queue.take(spent) }
            }
        };
    }
    changed
}

/// What every transaction ends with: the counters that changed, and the commit.
fn finish(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.memory.flush(tx.conn)?;
    Ok(tx.conn.execute_batch("COMMIT")?)
}

/// The news, as those who watch are told.
fn committed(news: &[Announcement], memory: &Memory) -> Committed {
    let mut committed = Committed::default();
    for item in news {
        let (id, span) = match item {
            Announcement::Parcel(id, parcel) => (*id, parcel.numbers()),
            Announcement::Attempted(id, number) => (*id, Span::one(*number)),
            Announcement::Changed(id, span) => (*id, *span),
            Announcement::Published(event) => {
                committed.events.push(Arc::clone(event));
                continue;
            }
            Announcement::Webhook(id, None) => {
                committed.deleted.push(*id);
                continue;
            }
            Announcement::Webhook(..)
            | Announcement::Through(..)
            | Announcement::Test(..)
            | Announcement::Reread(..) => continue,
        };
        if let Some(entry) = memory.entry(id).filter(|entry| !entry.is_deleted) {
            committed.deliveries.push((entry.webhook.merchant_id, id, span));
        }
    }
    committed
}

fn announce(mailbox: &Mailbox, news: Vec<Announcement>) {
    let (mut parcels, mut attempted) = (Vec::new(), Vec::new());
    for item in news {
        match item {
            Announcement::Webhook(id, webhook) => mailbox.announce_webhook(id, webhook),
            Announcement::Through(id, through) => mailbox.announce_through(id, through),
            Announcement::Parcel(id, parcel) => parcels.push((id, parcel)),
            Announcement::Test(id, parcel) => mailbox.announce_test(id, parcel),
            Announcement::Reread(id, from) => mailbox.announce_reread(id, from),
            Announcement::Attempted(id, number) => attempted.push((id, number)),
            Announcement::Changed(..) | Announcement::Published(_) => {}
        }
    }
    mailbox.announce_parcels(parcels);
    mailbox.announce_attempts(&attempted);
}

/// Wraps `work` as a change in a savepoint of its own, whose result goes to
/// `reply` once the commit's fate is known.
pub fn change<T: Send + 'static>(
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    reply: impl FnOnce(Result<T, StoreError>) + Send + 'static,
) -> Change {
    Box::new(move |tx| {
        let result = tx.and_then(|tx| tx.in_savepoint(work));
        Changed::Whole(Box::new(move |committed| reply(committed.and(result))))
    })
}

#[cfg(test)]
pub mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use super::*;
    use crate::domain::id::MerchantId;
    use crate::domain::time::Timestamp;
    use crate::store::sqlite::{Durability, Retention, SqliteStore};

    const MERCHANT: MerchantId = MerchantId(1);

    /// A small store at that path.
    pub fn config(path: PathBuf) -> Config {
        Config {
            path,
            durability: Durability::Normal,
            busy_timeout: Duration::from_secs(5),
            readers_max: 1,
            write_queue_max: 10,
            idempotency_ttl: Duration::from_secs(60),
            merchant_webhook_bytes_max: 1_024,
            publish_deliveries_max: 10,
            disable_after: Duration::from_secs(60),
            retention: Retention {
                attempts: Duration::MAX,
                bodies: Duration::MAX,
                bytes_max: 0,
                webhook_log_bytes_max: 0,
                merchant_log_bytes_max: 0,
            },
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_a_writer_that_panics_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path().join("store.db"));
        let (clock, _hand) = Clock::manual(Timestamp(0));
        let store = SqliteStore::open(config, clock, Arc::default()).unwrap();
        let (go_on, held) = mpsc::channel::<()>();
        let panics = store.write(MERCHANT, move |_| -> Result<(), StoreError> {
            let _ = held.recv();
            panic!("on purpose")
        });
        let waits = store.write(MERCHANT, |_| Ok(()));
        let (panics, waits, ()) = tokio::join!(panics, waits, async { drop(go_on) });
        let comes = store.write(MERCHANT, |_| Ok(())).await;
        for told in [panics, waits, comes] {
            assert!(matches!(told, Err(StoreError::Failed(_))), "{told:?}");
        }
    }
}
