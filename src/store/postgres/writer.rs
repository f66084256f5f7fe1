//! The one thread of a node that writes.
//!
//! As with SQLite, it takes what waits as far as a commit's budget goes, runs it as
//! one transaction, and only then answers everyone and announces the news. What
//! belongs to a merchant whom another node holds is put aside, and gets a
//! transaction of its own, which waits; what comes for him meanwhile stays in the
//! queue. After a commit that fails, what is known by
//! heart is read again, and everyone in it gets a fault: that nothing was done, or,
//! if the COMMIT was sent and not answered, that it is unknown. As long as the database
//! can't be reached, what waits goes on waiting, and whoever asked for it gives it up
//! when he has waited long enough.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::aside::{Aside, Waiting};
use super::config::Config;
use super::desk::Desk;
use super::engine::Postgres;
use super::faults::no_answer;
use super::follower::Follower;
use super::keeper::Keeping;
use super::stock;
use super::telling::{self, ForOthers};
use crate::domain::node::NodeId;
use crate::domain::time::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::store::counts::CommitCounts;
use crate::store::error::StoreError;
use crate::store::following::Following;
use crate::store::ledger::BUSY_RETRY_AFTER;
use crate::store::ledger::book::Book;
use crate::store::ledger::chores;
use crate::store::ledger::commit::{AllChanged, announce, announce_all, answer, run_in_rounds};
use crate::store::ledger::leases::Leases;
use crate::store::ledger::news::Announcement;
use crate::store::ledger::queue::{Queue, Spent, Taken};
use crate::store::ledger::queued::{self, Queued};
use crate::store::ledger::work::{Engine, Work};
use crate::store::mailbox::Mailbox;
use crate::store::trouble::Trouble;
use crate::work;

/// How long to wait before a database that could not be reached is tried again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);
/// How long it stands still before it looks again whether the database can be used.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a store that closes waits for a database that can't be used.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);
/// How long the chores rest after one of them has failed, and the commit with it.
const CHORES_REST: Duration = Duration::from_secs(60);
/// How long those rest that are of merchants whom others hold.
const LITTLE_REST: Duration = Duration::from_millis(100);

/// However the thread ends, nobody waits for it any longer.
struct End(Arc<Queue<Queued>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// A thread that writes, and the leases by which it does.
pub struct Serving {
    thread: JoinHandle<()>,
    keeping: Keeping,
    follower: Follower,
}

impl Serving {
    /// Gives the leases back, so that others go on with what is to be sent. Blocks.
    pub fn hand_over(&self) {
        self.keeping.desk.hand_over();
    }

    /// Waits until the queue, which is closed by now, is empty. Blocks.
    pub fn end(self) {
        if self.thread.join().is_err() {
            error!("the writer thread panicked");
        }
        self.follower.end();
        self.keeping.end();
    }
}

/// What a writer works with besides the database.
pub struct Parts<'a> {
    /// What waits for it.
    pub queue: Arc<Queue<Queued>>,
    /// Where it announces what it has committed.
    pub mailbox: Arc<Mailbox>,
    /// Who tells those who watch.
    pub following: Following,
    /// Where it counts that.
    pub metrics: &'a Metrics,
}

/// The writer thread's own state.
pub struct Writer {
    config: Config,
    clock: Clock,
    queue: Arc<Queue<Queued>>,
    mailbox: Arc<Mailbox>,
    following: Following,
    book: Book,
    /// `None` while the database can't be reached.
    engine: Option<Postgres>,
    aside: Aside,
    /// The last transaction failed as a whole: the chores wait a little.
    is_stuck: bool,
    /// Transactions that failed since one was committed.
    failures: u32,
    /// Nothing is tried before then.
    rests_until: Option<Instant>,
    /// Since when it has been closing without a database that it could use.
    closing_since: Option<Instant>,
    /// The chores rest until then.
    chores_rest_until: Option<Timestamp>,
    desk: Desk,
    commits: watch::Sender<u64>,
    trouble: watch::Sender<Option<Trouble>>,
    counts: CommitCounts,
}

impl Writer {
    /// With what is known by heart, and whoever keeps the leases.
    pub fn new(
        config: Config,
        clock: Clock,
        Parts { queue, mailbox, following, metrics }: Parts<'_>,
        (engine, book, desk): (Postgres, Book, Desk),
    ) -> Self {
        Self {
            desk,
            counts: CommitCounts::new(metrics, config.slow_commit),
            config,
            clock,
            queue,
            mailbox,
            following,
            book,
            engine: Some(engine),
            aside: Aside::default(),
            is_stuck: false,
            failures: 0,
            rests_until: None,
            closing_since: None,
            chores_rest_until: None,
            commits: watch::Sender::new(0),
            trouble: watch::Sender::new(None),
        }
    }

    /// What is known by heart.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// What keeps it from taking changes, at present.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Counts its commits.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Starts its thread, which works until the queue is closed and empty.
    pub fn start(self, keeping: Keeping, follower: Follower) -> std::io::Result<Serving> {
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run())?;
        Ok(Serving { thread, keeping, follower })
    }

    fn run(mut self) {
        let _end = End(Arc::clone(&self.queue));
        while self.queue.wait(self.patience()) || !self.aside.is_empty() {
            if !self.is_ready() {
                self.stand_still();
                continue;
            }
            self.refuse_overdue();
            if let Some(waiting) = self.aside.take(Instant::now()) {
                self.commit_waiting(waiting);
            }
            let are_chores_due = self.chores_wait().is_some_and(|wait| wait.is_zero());
            let first: Vec<_> = self.queue.take(Spent::default()).into_iter().collect();
            if !first.is_empty() || are_chores_due {
                self.commit(first, are_chores_due);
            } else if let Some(rest) = self.aside.rest(Instant::now()).filter(|_| self.queue.is_closed()) {
                // Nothing new comes for which it would wait.
                self.queue.rest(rest);
            }
        }
        info!(commits = *self.commits.borrow(), "the store is closed");
    }

    /// True if a transaction can be tried. Connects anew, if it has to.
    fn is_ready(&mut self) -> bool {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.rests_until = None;
        if self.engine.as_ref().is_none_or(|engine| !engine.is_alive()) {
            self.engine = None;
            self.reconnect();
            if self.engine.is_none() {
                self.rest();
                return false;
            }
        }
        // Without, others may have taken over what it had begun.
        self.mailbox.tending().is_sure()
    }

    /// Lets what waits go on waiting; when the store closes, not for long.
    fn stand_still(&mut self) {
        if self.queue.is_closed() && self.closing_since.get_or_insert_with(Instant::now).elapsed() > CLOSING_PATIENCE {
            let cause = StoreError::unavailable("the database can't be used, and the server stops");
            self.refuse_aside(Duration::ZERO, &cause);
            while let Some(taken) = self.queue.take(Spent::default()) {
                queued::refuse(taken.entry, &cause);
            }
            return;
        }
        self.queue.rest(LOOK_INTERVAL);
    }

    /// Tells those that they have waited too long for a merchant.
    fn refuse_overdue(&mut self) {
        let cause = StoreError::Held { retry_after: BUSY_RETRY_AFTER };
        self.refuse_aside(self.config.database.lock_timeout(), &cause);
    }

    /// Refuses what has been aside for so long.
    fn refuse_aside(&mut self, patience: Duration, cause: &StoreError) {
        let (overdue, done) = self.aside.overdue(patience, Instant::now());
        overdue.into_iter().for_each(|taken| queued::refuse(taken.entry, cause));
        done.into_iter().for_each(|merchant| self.queue.unpark(merchant.into()));
    }

    fn rest(&mut self) {
        self.is_stuck = true;
        self.rests_until = Some(Instant::now() + RECONNECT_INTERVAL);
    }

    /// How long it may wait for changes before there is something else to do.
    fn patience(&self) -> Duration {
        let aside = self.aside.rest(Instant::now()).unwrap_or(Duration::MAX);
        match self.chores_wait() {
            _ if self.engine.is_none() || self.is_stuck => RECONNECT_INTERVAL.min(aside),
            Some(wait) => wait.min(aside),
            None => aside,
        }
    }

    /// How long the chores are to wait; `None` if there are none.
    fn chores_wait(&self) -> Option<Duration> {
        let rest = self.chores_rest_until.map_or(Duration::ZERO, |until| until.since(self.clock.now()));
        // One that is further away was set before the clock went back.
        let wait = if rest > CHORES_REST { Duration::ZERO } else { rest };
        let engine = self.engine.as_ref();
        if self.book.has_chores() || engine.is_some_and(Engine::has_chores) {
            return Some(wait);
        }
        engine.and_then(Postgres::wait)
    }

    /// Runs changes of a merchant who is waited for, and what else finds room beside them.
    fn commit_waiting(&mut self, waiting: Waiting) {
        let (began, now, usual) = (Instant::now(), self.clock.now(), self.config.database.lock_timeout());
        match self.begin(|engine| engine.begin_with(now, waiting.merchant, waiting.wait, usual)) {
            Ok(()) => {
                self.queue.unpark(waiting.merchant.into());
                self.run_and_commit(waiting.into_changes().collect(), false, (began, now));
            }
            Err(StoreError::Held { .. }) => {
                let ended = Instant::now();
                self.aside.put_back(waiting, ended - began, ended);
            }
            Err(cause) => {
                self.aside.restore(waiting);
                self.give_up(&cause);
            }
        }
    }

    /// Runs changes and what else finds room beside them, and maybe a bounded step
    /// of the chores, as one transaction.
    fn commit(&mut self, first: Vec<Taken<Queued>>, does_chores: bool) {
        let (began, now) = (Instant::now(), self.clock.now());
        match self.begin(|engine| engine.begin(now)) {
            Ok(()) => self.run_and_commit(first, does_chores, (began, now)),
            Err(cause) => {
                first.into_iter().rev().for_each(|taken| self.queue.put_back(taken));
                self.give_up(&cause);
            }
        }
    }

    /// There is no transaction at present.
    fn give_up(&mut self, cause: &StoreError) {
        self.counts.failed();
        self.note(cause);
        self.rest();
    }

    fn run_and_commit(&mut self, first: Vec<Taken<Queued>>, does_chores: bool, (began, now): (Instant, Timestamp)) {
        self.is_stuck = false;
        let Some(engine) = &mut self.engine else { return };
        let due = engine.due();
        let mut work = Work::new(engine, &mut self.book, now);
        let aside = &self.aside;
        let (changed, held_up) = run_in_rounds(&self.queue, &mut work, first, &|merchant| aside.has(merchant));
        let mut finished = work.check().and_then(|()| work.hold_all(&due).map(drop));
        if finished.is_ok() && does_chores {
            // Has what the changes have come to written, which is no part of the housekeeping.
            finished = work.read_ahead(&[]).map(drop);
        }
        if finished.is_ok() && does_chores {
            finished = work::step("housekeeping", || chores::step(&mut work));
        }
        let rests = match &finished {
            Err(_) if does_chores => Some(CHORES_REST),
            _ if does_chores && work.is_held_up() => Some(LITTLE_REST),
            _ => None,
        };
        if does_chores {
            self.chores_rest_until = rests.map(|rest| now.after(rest));
        }
        let rows = work.written();
        self.counts.left_out(work.left_out);
        let news = finished.and_then(|()| work.finish());
        let tending = self.mailbox.tending();
        let committed = news.and_then(|news| {
            let left = telling::left(&news, &self.book, tending, &engine.watched());
            engine.commit_with(&left).map(|()| (news, left))
        });
        for (merchant, taken) in held_up {
            self.aside.put(merchant, taken, Instant::now());
        }
        match committed {
            Ok((news, left)) => {
                self.counts.committed(changed.len(), rows, began.elapsed());
                self.tell(news, &left, changed);
            }
            Err(cause) => self.fail(&cause, changed),
        }
        self.counts.has_chores(self.book.chores());
    }

    fn begin(&mut self, begin: impl FnOnce(&mut Postgres) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let Some(engine) = &mut self.engine else { return Err(no_answer()) };
        if let Some(node) = self.mailbox.tending().node()
            && engine.node() != node
        {
            // Others have taken this node to be gone: what it had begun is theirs.
            engine.write_for(node);
            self.book.abandon_work();
        }
        begin(engine).inspect_err(|_| engine.roll_back())
    }

    /// Announces what is committed, and answers.
    fn tell(&mut self, news: Vec<Announcement>, left: &ForOthers, changed: AllChanged) {
        self.failures = 0;
        if self.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
            info!("the database takes changes again");
        }
        self.commits.send_modify(|count| *count += 1);
        if !left.journal.is_empty() {
            self.following.look();
        }
        if self.desk.has_others() {
            self.desk.tell(telling::hints(&news, left));
        }
        announce(&self.mailbox, news);
        answer(&self.queue, changed);
    }

    /// Finds out what the database holds after a commit that failed.
    fn fail(&mut self, cause: &StoreError, changed: AllChanged) {
        self.counts.failed();
        self.note(cause);
        if let Some(engine) = &mut self.engine {
            engine.roll_back();
        }
        self.engine = None;
        self.is_stuck = true;
        // Whoever asks again waits until the store was read again.
        changed.into_iter().for_each(|(_, changed)| changed.fail(cause.clone()));
        self.failures = self.failures.saturating_add(1);
        if self.failures > 1 && is_of_database(cause) {
            // What it did not take it may not take the next time either.
            self.rest();
        }
        self.is_ready();
    }

    /// Tells of what has gone wrong: of what the database does not take at present only
    /// when that begins.
    fn note(&self, cause: &StoreError) {
        if !is_of_database(cause) {
            error!(%cause, "a commit failed; reading the store again");
            return;
        }
        let trouble = match cause {
            StoreError::DiskFull => Trouble::DiskFull,
            cause => Trouble::Refused(cause.to_string().into()),
        };
        let is_new = self.trouble.borrow().is_none();
        if is_new || matches!(cause, StoreError::Unconfirmed(_)) {
            error!(%cause, "a commit failed; reading the store again");
        }
        self.trouble.send_if_modified(|known| {
            known.get_or_insert(trouble);
            is_new
        });
    }

    /// Connects anew, and forgets whatever only memory knew.
    fn reconnect(&mut self) {
        let tending = self.mailbox.tending();
        let leases = tending.leases().unwrap_or_default();
        let node = tending.node().unwrap_or(NodeId(0));
        let database = self.config.database.for_writing();
        let opened = Postgres::open(&database, node, Arc::clone(tending), Arc::clone(&self.config.vault)).and_then(
            |mut engine| {
                let book = stock::read_again(&mut engine, self.config.terms, Leases::of(leases.iter().copied()))?;
                engine.session().bound_transactions(self.config.patience);
                Ok((engine, book))
            },
        );
        match opened {
            Ok((engine, book)) => {
                (self.engine, self.book) = (Some(engine), book);
                info!("the store was read again");
                announce_all(&self.mailbox, &self.book);
                self.desk.take_over(leases);
                self.following.look();
            }
            Err(cause) => {
                let is_new = self.trouble.borrow().is_none();
                if is_new {
                    warn!(%cause, "the database can't be reached; trying on");
                }
                self.trouble.send_if_modified(|trouble| {
                    trouble.get_or_insert(Trouble::Closed(cause.to_string().into()));
                    is_new
                });
            }
        }
    }
}

/// True for what is wrong with the database, and not with what was to be written.
fn is_of_database(cause: &StoreError) -> bool {
    matches!(cause, StoreError::Unavailable { .. } | StoreError::Unconfirmed(_) | StoreError::DiskFull)
}
