//! A transaction in which changes are decided and written.

use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Rows};
use super::news::Announcement;
use super::pruning::CutOff;
use super::wants::{Loaded, Wants};
use crate::domain::id::{EventId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

/// What keeps the rows. All happens within the transaction that is open.
pub trait Engine {
    /// Reads what is wanted, and writes what was heard of for the first time. If
    /// it fails, nothing is done, or the transaction has failed.
    fn load(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded>;

    /// Writes rows, all or none. If it fails and that can't be had, the
    /// transaction has failed.
    fn write(&mut self, rows: &Rows, now: Timestamp) -> Result<()>;

    /// True while the transaction is open, so that it can be committed.
    fn is_open(&self) -> bool;

    /// Removes some of what has expired, up to so many rows of a kind; true if
    /// there may be more.
    fn sweep(&mut self, now: Timestamp, max: u32) -> Result<bool>;

    /// Begins to prune what ended before; nothing is being pruned.
    fn begin_pruning(&mut self, before: CutOff) -> Result<()>;

    /// True while something is being pruned.
    fn is_pruning(&self) -> bool;

    /// Prunes a little, but no event from `kept_from` on; whose log became
    /// smaller, and by how much.
    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>>;
}

/// A transaction, what is known by heart, and the news to announce after the
/// commit.
pub struct Work<'a> {
    engine: &'a mut dyn Engine,
    /// What is known by heart.
    pub book: &'a mut Book,
    /// One time for the whole transaction.
    pub now: Timestamp,
    news: Vec<Announcement>,
    /// Rows that were written.
    written: usize,
    /// Why the transaction can't be committed any more.
    failed: Option<StoreError>,
}

impl<'a> Work<'a> {
    /// In the transaction that the engine has begun.
    pub fn new(engine: &'a mut dyn Engine, book: &'a mut Book, now: Timestamp) -> Self {
        Self { engine, book, now, news: Vec::new(), written: 0, failed: None }
    }

    /// Does a step of a change. If it fails, nothing of the change is done, or
    /// nothing of the whole transaction.
    pub fn run<C: Change>(&mut self, change: &mut C) -> Result<Step<C::Answer>> {
        self.check()?;
        let mut wants = Wants::default();
        change.wants(self.book, &mut wants);
        let loaded = self.engine.load(&wants, self.now);
        self.written += wants.first_heard.len();
        let step = loaded.and_then(|loaded| self.decide(change, loaded));
        if let Err(cause) = &step
            && (!wants.first_heard.is_empty() || !self.engine.is_open())
        {
            // A part of it may be written.
            self.failed = Some(cause.clone());
        }
        step
    }

    fn decide<C: Change>(&mut self, change: &mut C, mut loaded: Loaded) -> Result<Step<C::Answer>> {
        for (merchant, code) in std::mem::take(&mut loaded.codes) {
            self.book.learn_code(merchant, code);
        }
        let mut out = Decision::after(self.book.ids);
        let view = View { book: self.book, loaded: &loaded, now: self.now };
        let step = change.decide(&view, &mut out)?;
        self.written += out.rows.count();
        self.engine.write(&out.rows, self.now)?;
        self.news.extend(self.book.learn(out));
        Ok(step)
    }

    /// What every transaction ends with: the counters that changed, and how large
    /// logs are now.
    pub fn finish(self) -> Result<Vec<Announcement>> {
        self.check()?;
        let mut rows = Rows { counters: self.book.take_changed(), ..Rows::default() };
        rows.logs = self.book.logs.take_changed();
        self.engine.write(&rows, self.now)?;
        Ok(self.news)
    }

    /// True while a step of the chores would find something to do.
    pub fn has_chores(&self) -> bool {
        self.book.has_chores() || self.engine.is_pruning()
    }

    /// Rows that were written so far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Fails if the transaction has.
    pub fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// What keeps the rows, for what is no change.
    pub fn engine(&mut self) -> &mut dyn Engine {
        self.engine
    }

    /// Passes on a result of the engine; a failure is one of the whole
    /// transaction.
    pub fn note<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|cause| self.failed = Some(cause.clone()))
    }
}
