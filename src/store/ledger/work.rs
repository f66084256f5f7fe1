//! A transaction in which changes are decided and written.

use super::book::{Book, Counters};
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Rows};
use super::logs::LogRow;
use super::news::Announcement;
use super::pruning::CutOff;
use super::wants::{Loaded, Wants};
use crate::domain::id::{EventId, MerchantId, WebhookId};
use crate::domain::node::Bucket;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

/// What keeps the rows. All happens within the transaction that is open.
pub trait Engine {
    /// Reads what is wanted, and writes what was heard of for the first time. If
    /// it fails, nothing is done, or the transaction has failed.
    fn load(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded>;

    /// Reads ahead, in one go, what several changes want that follow one another:
    /// those of which that can be had.
    fn read_ahead(&mut self, all: &[Wants], _now: Timestamp) -> Result<Vec<Option<Loaded>>> {
        Ok(all.iter().map(|_| None).collect())
    }

    /// Makes sure that nobody else changes what belongs to merchants until the end
    /// of the transaction, and that the book knows what others have changed before.
    /// Those that others are at are left out: nothing of theirs may be changed.
    /// Where there is one writer, it holds all of them.
    ///
    /// Makes sure besides, until the end of the transaction, that this node is the one
    /// that sends for the merchants of these buckets; leases of others that the book
    /// still has are taken out of it.
    fn hold(&mut self, _book: &mut Book, merchants: &[MerchantId], _sent_for: &[Bucket]) -> Result<Held> {
        Ok(Held { merchants: merchants.to_vec(), news: Vec::new() })
    }

    /// Has the book learn what others have changed of webhooks, and what nobody goes
    /// on with any more that is for this node to go on with, in these buckets; the
    /// news.
    fn catch_up(&mut self, _book: &mut Book, _buckets: &[Bucket], _now: Timestamp) -> Result<Vec<Announcement>> {
        Ok(Vec::new())
    }

    /// How webhooks of these buckets are counted, some of those behind one, in the
    /// order of their ids, and how large their logs are; none if there are no more.
    fn counters_of(&mut self, _buckets: &[Bucket], _after: WebhookId) -> Result<Counted> {
        Ok(Counted::default())
    }

    /// Notes that this node sends for a bucket's merchants, by a lease of that epoch.
    fn tend(&mut self, _bucket: Bucket, _epoch: i64) {}

    /// Notes that it does not any more, and writes nothing more of how their webhooks
    /// are doing.
    fn let_go(&mut self, _buckets: &[Bucket]) {}

    /// Writes rows, all or none, now or before the commit. If it fails and that
    /// can't be had, the transaction has failed.
    fn write(&mut self, rows: Rows, now: Timestamp) -> Result<()>;

    /// True while the transaction is open, so that it can be committed.
    fn is_open(&self) -> bool;

    /// Removes some of what has expired, and of what was audited before then, up to so many
    /// rows of a kind; true if there may be more.
    fn sweep(&mut self, now: Timestamp, audited_before: Timestamp, max: u32) -> Result<bool>;

    /// Begins to prune what ended before; nothing is being pruned.
    fn begin_pruning(&mut self, before: CutOff) -> Result<()>;

    /// True while something is being pruned.
    fn is_pruning(&self) -> bool;

    /// True while secrets may have to be sealed anew.
    fn is_resealing(&self) -> bool {
        false
    }

    /// Seals those of some webhooks anew; of how many.
    fn reseal(&mut self) -> Result<usize> {
        Ok(0)
    }

    /// True while a step of the chores would find something to do that the book knows
    /// nothing of.
    fn has_chores(&self) -> bool {
        self.is_pruning() || self.is_resealing()
    }

    /// Prunes a little, but no event from `kept_from` on; whose log became
    /// smaller, and by how much.
    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>>;
}

/// How webhooks are counted, and how large their logs are.
#[derive(Default)]
pub struct Counted {
    /// In the order of their ids.
    pub counters: Vec<(WebhookId, Counters)>,
    /// Of those that have any.
    pub logs: Vec<LogRow>,
}

/// Merchants whose data nobody else changes until the end of a transaction.
pub struct Held {
    /// Which.
    pub merchants: Vec<MerchantId>,
    /// What others have changed, for whoever follows the news.
    pub news: Vec<Announcement>,
}

/// A transaction, what is known by heart, and the news to announce after the
/// commit.
pub struct Work<'a> {
    engine: &'a mut dyn Engine,
    /// What is known by heart.
    pub book: &'a mut Book,
    /// One time for the whole transaction.
    pub now: Timestamp,
    /// Outcomes that are left out, for others send for their merchants.
    pub left_out: usize,
    news: Vec<Announcement>,
    /// Rows that were written.
    written: usize,
    is_held_up: bool,
    /// Why the transaction can't be committed any more.
    failed: Option<StoreError>,
}

impl<'a> Work<'a> {
    /// In the transaction that the engine has begun.
    pub fn new(engine: &'a mut dyn Engine, book: &'a mut Book, now: Timestamp) -> Self {
        Self { engine, book, now, left_out: 0, news: Vec::new(), written: 0, is_held_up: false, failed: None }
    }

    /// Does a step of a change. If it fails, nothing of the change is done, or
    /// nothing of the whole transaction.
    pub fn run<C: Change>(&mut self, change: &mut C) -> Result<Step<C::Answer>> {
        self.run_with(change, None)
    }

    /// The same, if what it wants was read already.
    pub fn run_with<C: Change>(&mut self, change: &mut C, loaded: Option<Loaded>) -> Result<Step<C::Answer>> {
        self.check()?;
        // What was heard of for the first time is written when it is read.
        let (heard, loaded) = match loaded {
            Some(loaded) => (loaded.first_heard.len(), Ok(loaded)),
            None => {
                let mut wants = Wants::default();
                change.wants(self.book, &mut wants);
                (wants.first_heard.len(), self.engine.load(&wants, self.now))
            }
        };
        self.written += heard;
        let step = loaded.and_then(|loaded| self.decide(change, loaded));
        if let Err(cause) = &step
            && (heard > 0 || !self.engine.is_open())
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
        self.learn_counters(&mut loaded);
        let mut out = Decision::new(self.book.ids, loaded.drawn.take());
        let view = View { book: self.book, loaded: &loaded, now: self.now };
        let step = change.decide(&view, &mut out)?;
        let rows = std::mem::take(&mut out.rows);
        self.written += rows.count();
        self.engine.write(rows, self.now)?;
        self.news.extend(self.book.learn(out));
        Ok(step)
    }

    /// What every transaction ends with: the counters that changed, and how large
    /// logs are now.
    pub fn finish(self) -> Result<Vec<Announcement>> {
        self.check()?;
        let mut rows = Rows { counters: self.book.take_changed(), ..Rows::default() };
        rows.logs = self.book.logs.take_changed();
        self.engine.write(rows, self.now)?;
        Ok(self.news)
    }

    /// True while a step of the chores would find something to do.
    pub fn has_chores(&self) -> bool {
        self.book.has_chores() || self.engine.has_chores()
    }

    /// True if somebody else held a merchant that was to be held.
    pub fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// Rows that were written so far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Fails if the transaction has.
    pub fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Makes sure that nobody else changes what is these merchants', as
    /// [`Engine::hold`] says; returns those that are held.
    pub fn hold_all(&mut self, merchants: &[MerchantId]) -> Result<Vec<MerchantId>> {
        self.hold_to_record(merchants, &[])
    }

    /// The same for what says what sending has come to: for these buckets it is made
    /// sure that this node is the one that sends. Those for which it is not are not
    /// covered by the book's leases any more.
    pub fn hold_to_record(&mut self, merchants: &[MerchantId], sent_for: &[Bucket]) -> Result<Vec<MerchantId>> {
        let (held, wanted) = (self.engine.hold(self.book, merchants, sent_for), merchants.len());
        let Held { merchants, news } = self.note(held)?;
        self.news.extend(news);
        self.is_held_up |= merchants.len() < wanted;
        Ok(merchants)
    }

    /// Has the book learn what others have changed, as [`Engine::catch_up`] says.
    pub fn catch_up(&mut self, buckets: &[Bucket]) -> Result<()> {
        let news = self.engine.catch_up(self.book, buckets, self.now);
        let news = self.note(news)?;
        self.news.extend(news);
        Ok(())
    }

    /// Tells of some of the webhooks of these buckets behind one; the last of them,
    /// unless there are no more.
    pub fn look_at_webhooks(&mut self, buckets: &[Bucket], after: WebhookId) -> Result<Option<WebhookId>> {
        let counters = self.engine.counters_of(buckets, after);
        let Counted { counters, logs } = self.note(counters)?;
        self.book.logs.take_over(logs);
        for (id, counters) in &counters {
            self.book.take_over_counters(*id, *counters);
            self.tell_of(*id);
        }
        Ok(counters.last().map(|(id, _)| *id))
    }

    /// Has the delivery worker begin with a webhook, or go on with it.
    fn tell_of(&mut self, id: WebhookId) {
        let Some(entry) = self.book.entry(id).filter(|entry| !entry.is_deleted) else { return };
        let webhook = entry.counters.in_webhook(entry.webhook.as_ref().clone());
        let through = entry.counters.last;
        self.news.push(Announcement::Learned(id, Some(webhook.into())));
        self.news.push(Announcement::Found(id, through));
    }

    /// Begins to send for a bucket's merchants.
    pub fn tend(&mut self, bucket: Bucket, epoch: i64) {
        self.book.leases.set(bucket, Some(epoch));
        self.engine.tend(bucket, epoch);
    }

    /// Lets go of leases.
    pub fn let_go(&mut self, buckets: &[Bucket]) {
        for bucket in buckets {
            self.book.leases.set(*bucket, None);
        }
        self.engine.let_go(buckets);
        self.news.extend(buckets.iter().map(|bucket| Announcement::LeaseLost(*bucket)));
    }

    /// The same of one; true if it is held.
    pub fn hold(&mut self, merchant: MerchantId) -> Result<bool> {
        Ok(!self.hold_all(&[merchant])?.is_empty())
    }

    /// Reads ahead what changes want, as [`Engine::read_ahead`] says.
    pub fn read_ahead(&mut self, all: &[Wants]) -> Result<Vec<Option<Loaded>>> {
        let now = self.now;
        let read = self.engine.read_ahead(all, now);
        let mut read = self.note(read)?;
        // Whoever is the first that wants them, all go by them from now on.
        for loaded in read.iter_mut().flatten() {
            self.learn_counters(loaded);
        }
        Ok(read)
    }

    fn learn_counters(&mut self, loaded: &mut Loaded) {
        for (id, counters) in std::mem::take(&mut loaded.counters) {
            self.book.learn_counters(id, counters);
        }
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
