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
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::config::Config;
use super::engine::Sqlite;
use super::extent::Extent;
use super::load;
use super::mark::Mark;
use super::open::{OpenError, ServeLock, checkpoint, has_other_names, reopen};
use super::place::Place;
use crate::domain::id::StoreId;
use crate::domain::time::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::store::counts::CommitCounts;
use crate::store::error::StoreError;
use crate::store::feed::Feed;
use crate::store::ledger::book::Book;
use crate::store::ledger::chores;
use crate::store::ledger::commit::{announce, announce_all, answer, committed, refuse, run_changes};
use crate::store::ledger::news::Announcement;
use crate::store::ledger::queue::{Queue, Spent, Taken};
use crate::store::ledger::queued::{Changed, Queued};
use crate::store::ledger::work::{Engine, Work};
use crate::store::mailbox::Mailbox;
use crate::store::sql::readers::Readers;
use crate::store::trouble::{Trouble, Troubles};
use crate::work::{self, Account};

/// How long to wait before a file that could not be reopened is tried again.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

/// How long the chores rest after one of them has failed, and the commit with it.
const CHORES_REST: Duration = Duration::from_secs(60);

/// However the thread ends, nobody waits for it any longer.
struct End(Arc<Queue<Queued>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// A store that is open: what ends when it is closed.
pub struct Serving {
    thread: JoinHandle<Writer>,
    lock: ServeLock,
}

impl Serving {
    /// Waits until the queue, which is closed by now, is empty, and closes the
    /// file. The connections that read go before the one that writes: the last
    /// one takes the log beside the file away, and they may not. Blocks.
    pub fn end(self, readers: [&Readers<SqliteConnectionManager>; 2]) {
        let writer = self.thread.join();
        readers.into_iter().for_each(Readers::close);
        match writer {
            Ok(writer) => writer.close(),
            Err(_) => error!("the writer thread panicked"),
        }
        drop(self.lock);
    }
}

/// What a writer works with besides its file.
pub struct Parts<'a> {
    /// What waits for it.
    pub queue: Arc<Queue<Queued>>,
    /// Where it announces what it has committed.
    pub mailbox: Arc<Mailbox>,
    /// Where it counts that.
    pub metrics: &'a Metrics,
}

/// The writer thread's own state.
pub struct Writer {
    config: Config,
    clock: Clock,
    queue: Arc<Queue<Queued>>,
    mailbox: Arc<Mailbox>,
    feed: Arc<Feed>,
    book: Book,
    /// How far the store has come, by the last commit.
    extent: Extent,
    /// `None` after a failed COMMIT, until the file could be opened again.
    engine: Option<Sqlite>,
    /// Where its files were when it was opened.
    place: Place,
    /// They were not there any more after a commit.
    is_taken_away: bool,
    mark: Mark,
    troubles: Troubles,
    /// The last transaction failed as a whole: the chores wait a little.
    is_stuck: bool,
    /// One of the chores has failed. They rest until then, and then have
    /// commits of their own, lest a change fails with them, until all are done.
    chores_rest_until: Option<Timestamp>,
    commits: watch::Sender<u64>,
    counts: CommitCounts,
}

impl Writer {
    /// Reads the memory from the file.
    pub fn new(
        config: Config,
        clock: Clock,
        Parts { queue, mailbox, metrics }: Parts<'_>,
        conn: Connection,
    ) -> Result<Self, OpenError> {
        let failed = |cause| OpenError::Sqlite { path: config.path.clone(), cause };
        let mark = Mark::open(&config.path, &conn, clock.now()).map_err(failed)?;
        let (book, extent) =
            read(&config, &conn).map_err(|cause| OpenError::Unreadable { path: config.path.clone(), cause })?;
        let engine = Sqlite::new(conn, Arc::clone(&config.vault)).map_err(failed)?;
        let place = Place::of(&config.path).map_err(|cause| OpenError::Io { path: config.path.clone(), cause })?;
        tell_what_is_there(&config, mark.store_id(), &book, extent);
        Ok(Self {
            troubles: Troubles::of(config.path.clone()),
            place,
            is_taken_away: false,
            mark,
            counts: CommitCounts::new(metrics, config.slow_commit),
            config,
            clock,
            queue,
            mailbox,
            feed: Arc::new(Feed::new(metrics.subscribers.clone())),
            book,
            extent,
            engine: Some(engine),
            is_stuck: false,
            chores_rest_until: None,
            commits: watch::Sender::new(0),
        })
    }

    /// The id of the store.
    pub fn store_id(&self) -> &StoreId {
        self.mark.store_id()
    }

    /// What keeps it from taking changes, at present.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.troubles.present()
    }

    /// Counts its commits.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Tells of its commits.
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }

    /// Starts its thread, which works until the queue is closed and empty.
    pub fn start(self, lock: ServeLock) -> std::io::Result<Serving> {
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run())?;
        Ok(Serving { thread, lock })
    }

    /// Works until the queue is closed and empty.
    fn run(mut self) -> Self {
        let _end = End(Arc::clone(&self.queue));
        while self.queue.wait(self.patience()) {
            if self.engine.is_none() {
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
        self
    }

    /// Closes the file, and leaves all in it.
    fn close(mut self) {
        let Some(Sqlite { conn, .. }) = self.engine else { return };
        let (now, is_whole) = (self.clock.now(), checkpoint(&conn));
        if let Some(lost) = self.place.lost() {
            self.troubles.begin(Trouble::TakenAway(lost.to_owned()), now);
            // To close it would delete whatever lies where its log was, which may be another's by now.
            std::mem::forget(conn);
            return;
        }
        match is_whole {
            Ok(true) => self.mark.sync(&self.extent, now),
            Ok(false) => warn!("another process has the store open: a part of it is in the log beside the file"),
            Err(cause) => error!(%cause, "a part of the store stays in the log beside the file"),
        }
        if let Err((_, cause)) = conn.close() {
            error!(%cause, "the store could not be closed");
        }
        info!(commits = *self.commits.borrow(), "the store is closed");
    }

    /// How long it may wait for changes before there is something else to do.
    fn patience(&self) -> Duration {
        match self.chores_wait() {
            _ if self.engine.is_none() || self.is_stuck => REOPEN_INTERVAL,
            Some(wait) => wait,
            None => Duration::MAX,
        }
    }

    /// How long the chores are to wait; `None` if there are none.
    fn chores_wait(&self) -> Option<Duration> {
        let rest = self.chores_rest_until.map_or(Duration::ZERO, |until| until.since(self.clock.now()));
        // One that is further away was set before the clock went back.
        let wait = if rest > CHORES_REST { Duration::ZERO } else { rest };
        let has_own = self.engine.as_ref().is_some_and(Engine::has_chores);
        (self.book.has_chores() || has_own).then_some(wait)
    }

    /// Runs a change and what else finds room beside it, and maybe a bounded
    /// step of the chores, as one transaction.
    fn commit(&mut self, first: Option<Taken<Queued>>, does_chores: bool) {
        let began = Instant::now();
        let begun = self.begin();
        self.is_stuck = begun.is_err();
        let (Ok(()), Some(engine)) = (&begun, &mut self.engine) else {
            let cause = begun.err().unwrap_or_else(|| StoreError::failed("the store is closed"));
            self.counts.failed();
            refuse(&self.queue, first, &cause);
            return;
        };

        let now = self.clock.now();
        let mut work = Work::new(engine, &mut self.book, now);
        let changed = run_changes(&self.queue, &mut work, first);
        let mut finished = work.check();
        if finished.is_ok() && does_chores {
            finished = work::step("housekeeping", || chores::step(&mut work));
            self.chores_rest_until = match &finished {
                Err(_) => Some(now.after(CHORES_REST)),
                // It may be the turn of others than the one that failed.
                Ok(()) => self.chores_rest_until.filter(|_| work.has_chores()),
            };
        }
        let rows = work.written();
        match finished.and_then(|()| work.finish()).and_then(|news| self.finish(news)) {
            Ok(news) => {
                self.counts.committed(changed.len(), rows, began.elapsed());
                self.tell(news, changed, now);
            }
            Err(cause) => self.fail(&cause, changed, now),
        }
        self.counts.has_chores(self.book.chores());
    }

    /// Commits, and looks where that has gone.
    fn finish(&mut self, news: Vec<Announcement>) -> Result<Vec<Announcement>, StoreError> {
        let Some(engine) = &mut self.engine else { return Err(StoreError::failed("the store is closed")) };
        let extent = Extent::of(&engine.conn, self.book.numbers)?;
        engine.commit()?;
        self.extent = extent;
        self.look(self.clock.now()).map(|()| news)
    }

    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), StoreError> {
        if self.is_taken_away {
            self.come_back()?;
        }
        let Some(engine) = &mut self.engine else {
            return Err(StoreError::failed("the store could not be opened again after a failed commit"));
        };
        engine.begin().map_err(|cause| {
            error!(%cause, "the store can't be written");
            cause.into()
        })
    }

    /// Fails if what was committed is not where it will be looked for. Then it
    /// counts as if it had not been, for it may be lost.
    fn look(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(lost) = self.place.lost() else { return Ok(()) };
        self.troubles.begin(Trouble::TakenAway(lost.to_owned()), now);
        self.is_taken_away = true;
        // If it is only the log, all that was ever accepted can be saved.
        if lost != self.config.path
            && let Some(Err(cause)) = self.engine.as_ref().map(|engine| checkpoint(&engine.conn))
        {
            error!(%cause, "what was in the store's log could not be saved");
        }
        Err(StoreError::TakenAway)
    }

    /// Looks whether a store that was taken away is back.
    fn come_back(&mut self) -> Result<(), StoreError> {
        if let Some(lost) = self.place.lost() {
            self.troubles.begin(Trouble::TakenAway(lost.to_owned()), self.clock.now());
            return Err(StoreError::TakenAway);
        }
        self.is_taken_away = false;
        self.engine = None;
        self.reopen();
        Ok(())
    }

    /// Announces what is on disk, and answers.
    fn tell(&mut self, news: Vec<Announcement>, changed: Vec<(Option<Account>, Changed)>, now: Timestamp) {
        if let Some(engine) = &mut self.engine {
            empty_log(engine, &self.config);
        }
        self.mark.write(&self.extent, now);
        self.troubles.end();
        self.commits.send_modify(|count| *count += 1);
        if self.feed.is_watched() {
            self.feed.tell(&committed(&news, &self.book));
        }
        announce(&self.mailbox, news);
        answer(&self.queue, changed);
    }

    /// Finds out what the disk holds after a commit that failed.
    fn fail(&mut self, cause: &StoreError, changed: Vec<(Option<Account>, Changed)>, now: Timestamp) {
        self.counts.failed();
        if matches!(cause, StoreError::DiskFull) {
            self.troubles.begin(Trouble::DiskFull, now);
        }
        if !cause.is_logged() {
            error!(%cause, "a commit failed; reading the store again");
        }
        if !self.is_taken_away {
            self.engine = None;
            self.reopen();
            if self.engine.is_some() && !cause.is_logged() {
                info!("the store is open again");
            }
        }
        self.feed.tell_unknown();
        // What failed may be a chore that comes back at once.
        self.is_stuck = true;
        changed.into_iter().for_each(|(_, changed)| changed.fail(cause.clone()));
    }

    /// Opens the file again and forgets whatever only memory knew.
    fn reopen(&mut self) {
        let opened = reopen(&self.config, self.mark.store_id(), &self.place).map_err(|cause| cause.to_string());
        let loaded = opened.and_then(|conn| {
            let (book, extent) = read(&self.config, &conn).map_err(|cause| cause.to_string())?;
            let engine = Sqlite::new(conn, Arc::clone(&self.config.vault)).map_err(|cause| cause.to_string())?;
            Ok((engine, book, extent))
        });
        match loaded {
            Ok((engine, book, extent)) => {
                (self.engine, self.book, self.extent) = (Some(engine), book, extent);
                announce_all(&self.mailbox, &self.book);
            }
            Err(cause) => self.troubles.begin(Trouble::Closed(cause.into()), self.clock.now()),
        }
    }
}

/// A store that holds less than was expected is best noticed at the start.
fn tell_what_is_there(config: &Config, store_id: &StoreId, book: &Book, extent: Extent) {
    let store = config.path.display();
    if has_other_names(&config.path) {
        warn!(%store, "the store has hard links; always use one name of it, for its log lies beside that");
    }
    // To count what is really pending would take the longer the more numbers there are.
    let (webhooks, pending_at_most) = book.webhooks_and_open();
    let last_event = extent.events;
    info!(%store, %store_id, webhooks, pending_at_most, last_event, "the store is open");
}

/// What is known by heart, and how far the store has come.
fn read(config: &Config, conn: &Connection) -> Result<(Book, Extent), StoreError> {
    let book = Book::new(config.terms, load::stock(conn, &config.vault)?);
    let extent = Extent::of(conn, book.numbers)?;
    Ok((book, extent))
}

/// Empties the log beside the file if what was forgotten may be read in it. If
/// a reader is in the way, the next commit tries again, which is the next
/// sweep's at the latest.
fn empty_log(engine: &mut Sqlite, config: &Config) {
    /// How long readers are waited for.
    const PATIENCE: Duration = Duration::from_millis(5);
    if !engine.leaves_traces {
        return;
    }
    let conn = &engine.conn;
    let emptied = conn.busy_timeout(PATIENCE).and_then(|()| {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        conn.query_row(sql, [], |row| row.get(0)).map(|is_busy: bool| !is_busy)
    });
    match emptied.and_then(|is_empty| conn.busy_timeout(config.busy_timeout).map(|()| is_empty)) {
        Ok(is_empty) => engine.leaves_traces = !is_empty,
        Err(cause) => warn!(%cause, "the log of the store can't be emptied of what was forgotten; trying on"),
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::fingerprint::FingerprintKey;
    use crate::domain::id::MerchantId;
    use crate::domain::time::Timestamp;
    use crate::store::base::{Base, change};
    use crate::store::ledger::decision::Decision;
    use crate::store::ledger::queue::Cost;
    use crate::store::ledger::queued::queued;
    use crate::store::ledger::terms::{Retention, Terms};
    use crate::store::ledger::{Change, Step, View};
    use crate::store::sqlite::{Durability, SqliteStore};

    const MERCHANT: MerchantId = MerchantId(1);

    /// A change that waits for its hour, and then does nothing, or panics.
    struct Waits(mpsc::Receiver<()>, fn());

    impl Change for Waits {
        type Answer = ();

        fn decide(&mut self, _: &View<'_>, _: &mut Decision) -> Result<Step<()>, StoreError> {
            let _ = self.0.recv();
            self.1();
            Ok(Step::Done(()))
        }
    }

    /// A change of two steps, of which the second finds no room in the same commit.
    struct Long(bool);

    impl Change for Long {
        type Answer = ();

        fn decide(&mut self, _: &View<'_>, _: &mut Decision) -> Result<Step<()>, StoreError> {
            match std::mem::replace(&mut self.0, true) {
                false => Ok(Step::More(Cost::of(1_000_000, 0))),
                true => Ok(Step::Done(())),
            }
        }
    }

    fn nothing() -> Waits {
        Waits(mpsc::channel().1, || {})
    }

    /// A small store at that path.
    pub fn config(path: PathBuf) -> Config {
        Config {
            path,
            durability: Durability::Normal,
            busy_timeout: Duration::from_secs(5),
            readers_max: 1,
            write_queue_max: 10,
            slow_commit: Duration::ZERO,
            is_paused: false,
            vault: Arc::default(),
            terms: Terms {
                key_ttl: Duration::from_secs(60),
                deliveries_max: 10,
                definition_bytes_max: 1_024,
                disable_after: Duration::from_secs(60),
                retention: Retention {
                    attempts: Duration::MAX,
                    bodies: Duration::MAX,
                    audit: Duration::MAX,
                    bytes_max: 0,
                    webhook_log_bytes_max: 0,
                    merchant_log_bytes_max: 0,
                },
                fingerprint_key: FingerprintKey::OPEN,
                is_shared: false,
            },
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_a_writer_that_panics_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path().join("store.db"));
        let (clock, _hand) = Clock::manual(Timestamp(0));
        let store = SqliteStore::open(config, clock, Arc::default(), &Metrics::default()).unwrap();
        let (go_on, held) = mpsc::channel::<()>();
        let panics = change(&store, MERCHANT, Waits(held, || panic!("on purpose")));
        let waits = change(&store, MERCHANT, nothing());
        let (panics, waits, ()) = tokio::join!(panics, waits, async { drop(go_on) });
        let comes = change(&store, MERCHANT, nothing()).await;
        for told in [panics, waits, comes] {
            assert!(matches!(told, Err(StoreError::Failed(_))), "{told:?}");
        }
    }

    /// The second commit of one change fails, as by a disk that is full.
    #[cfg(unix)]
    #[tokio::test]
    async fn of_what_is_begun_nobody_is_told_that_nothing_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("store.db"), dir.path().join("aside"));
        let (clock, _hand) = Clock::manual(Timestamp(0));
        let store = SqliteStore::open(config(path.clone()), clock, Arc::default(), &Metrics::default()).unwrap();
        let push = |change| store.queue().push(MERCHANT.into(), Cost::SMALL, change).unwrap();
        let (told, hears) = oneshot::channel();
        let goes_on = queued(Long(false), move |result| drop(told.send(result)));
        let (go_on, held) = mpsc::channel::<()>();
        push(queued(Waits(held, || {}), |_| {}));
        push(queued(nothing(), move |_| std::fs::rename(path, aside).unwrap()));
        push(goes_on);
        drop(go_on);
        let told = hears.await.unwrap();
        assert!(matches!(told, Err(StoreError::Failed(_))), "{told:?}");
    }
}
