//! The ledger's engine: one connection that writes, in one transaction.
//!
//! Each statement is a way there and back, so they are few. What the changes of a
//! commit want is read ahead for all of them, rows are gathered and written in
//! bulk before the commit, and a change that wants something else has what was
//! gathered written first, so that it reads what those before it wrote.
//!
//! A transaction begins with the locks on the rows of its merchants: what a node
//! changes, it changes while it holds the merchant. What is read after that is
//! the newest (READ COMMITTED), and stays so to the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio_postgres::types::Type;

use super::catching_up::Generations;
use super::lazily::{Due, Lazily};
use super::prune::{self, Pass};
use super::reading::{self, Common};
use super::session::Session;
use super::settings::Settings;
use super::telling::{self, ForOthers};
use super::values::Parameter;
use super::{bulk, catching_up, journal, notes, taking_over};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::node::{Bucket, NodeId};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::decision::{KeyRow, Other, Rows};
use crate::store::ledger::news::Announcement;
use crate::store::ledger::pruning::CutOff;
use crate::store::ledger::wants::{Loaded, Wants};
use crate::store::ledger::work::{Counted, Engine, Held};
use crate::store::sql;
use crate::store::sql::codes::bad;
use crate::store::sql::resealing::Resealing;
use crate::store::tending::Tending;
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// The locks that can be had at once, and those that are waited for. They are
/// taken in the order of ids.
const LOCK_AT_ONCE: &str = "SELECT merchant_id FROM merchant WHERE merchant_id = ANY($1)
    ORDER BY merchant_id FOR NO KEY UPDATE SKIP LOCKED";
const LOCK: &str = "SELECT merchant_id FROM merchant WHERE merchant_id = ANY($1)
    ORDER BY merchant_id FOR NO KEY UPDATE";

/// The leases of buckets. Whoever takes one over changes its row, and waits for this;
/// who renews one does not.
const FENCE: &str = "SELECT bucket, epoch FROM lease WHERE bucket = ANY($1) ORDER BY bucket FOR SHARE";

/// What the tables and their indexes take on disk.
pub const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'";
/// How long that is remembered: to ask for it looks at all files.
const SIZE_FOR: Duration = Duration::from_secs(1);

/// A connection that writes.
pub struct Postgres {
    session: Session,
    /// The transaction that is open.
    open: Option<Open>,
    /// Up to which change of each merchant everything is known by heart.
    generations: Generations,
    /// What is not written with every commit.
    lazily: Lazily,
    /// The pass of pruning that is under way.
    pass: Option<Pass>,
    /// For which node it writes.
    node: NodeId,
    /// For whom that sends.
    tending: Arc<Tending>,
    /// How large the store is: as it was found a moment ago, and what was added since.
    size: Option<(u64, Instant)>,
    /// Seals secrets, and has those sealed anew that are not as they would be.
    vault: Arc<Vault>,
    resealing: Resealing,
}

/// A transaction.
struct Open {
    /// Why a statement failed, so that nothing of it can be committed.
    failure: Option<StoreError>,
    held: HashSet<MerchantId>,
    /// Leases that stay as they are.
    fenced: HashSet<Bucket>,
    /// Webhooks of which the counters were read.
    counted: FxHashSet<WebhookId>,
    /// What is to be written.
    rows: Rows,
    keys: Vec<KeyRow>,
    counters: Vec<(WebhookId, Counters)>,
    now: Timestamp,
}

impl Open {
    fn at(now: Timestamp) -> Self {
        Self {
            failure: None,
            held: HashSet::new(),
            fenced: HashSet::new(),
            counted: FxHashSet::default(),
            rows: Rows::default(),
            keys: Vec::new(),
            counters: Vec::new(),
            now,
        }
    }

    /// What was gathered is written.
    fn forget_rows(&mut self) -> Rows {
        self.keys.clear();
        self.counters.clear();
        std::mem::take(&mut self.rows)
    }
}

fn no_transaction() -> StoreError {
    StoreError::failed("an earlier failure undid the transaction")
}

impl Postgres {
    /// Connects, to write for that node. Blocks.
    pub fn open(settings: &Settings, node: NodeId, tending: Arc<Tending>, vault: Arc<Vault>) -> Result<Self> {
        let mut session = Session::open(settings)?;
        session.go_by_key()?;
        session.plan_once()?;
        session.call("tallyhook writer")?;
        for (sql, types) in bulk::statements().into_iter().chain(reading::statements()) {
            session.prepare(&sql, &types)?;
        }
        for sql in [LOCK_AT_ONCE, LOCK, FENCE, catching_up::MERCHANTS] {
            session.prepare(sql, &[Type::INT8_ARRAY])?;
        }
        let (int8, text) = (Type::INT8_ARRAY, Type::TEXT_ARRAY);
        session.prepare(journal::WRITE, &[Type::INT8, int8.clone(), int8.clone(), text.clone(), int8.clone()])?;
        session.prepare(notes::LEAVE, &[int8, text])?;
        let lazily = Lazily::default();
        let generations = Generations::default();
        let resealing = Resealing::new(&vault);
        let (open, pass, size) = (None, None, None);
        Ok(Self { session, open, generations, lazily, pass, node, tending, size, vault, resealing })
    }

    /// Opens what is stored of secrets.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Its connection, for what is read at the start.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// True unless the connection has ended.
    pub fn is_alive(&self) -> bool {
        self.session.is_alive()
    }

    /// Notes up to which change of each merchant the book knows everything.
    pub fn knows(&mut self, generations: Generations) {
        self.generations = generations;
    }

    /// For which node it writes.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// From now on it writes for that one, which has none of the leases of the one
    /// before.
    pub fn write_for(&mut self, node: NodeId) {
        self.node = node;
        self.lazily = Lazily::default();
    }

    /// Begins a transaction.
    pub fn begin(&mut self, now: Timestamp) -> Result<()> {
        self.begin_set(now, &[])
    }

    /// Begins one that holds a merchant, if nobody else does after so long; other locks
    /// are waited for as usual, which is so long. Otherwise fails with
    /// [`StoreError::Held`].
    pub fn begin_with(&mut self, now: Timestamp, merchant: MerchantId, wait: Duration, usual: Duration) -> Result<()> {
        self.begin_set(now, &[format!("lock_timeout = {}", wait.as_millis())])?;
        let (session, ids) = (&self.session, [merchant.0]);
        let values: [Parameter<'_>; 1] = [(&&ids[..], Type::INT8_ARRAY)];
        let usual = format!("SET LOCAL lock_timeout = {}", usual.as_millis());
        let locked = session.together(async {
            let (locked, set) = tokio::join!(biased; session.ask(LOCK, &values), session.batch_with(&usual));
            locked.and(set)
        });
        self.heed(locked)
    }

    fn begin_set(&mut self, now: Timestamp, also: &[String]) -> Result<()> {
        let node = format!("tallyhook.node = '{}'", self.node);
        self.session.begin("", &[&[node], also].concat())?;
        self.open = Some(Open::at(now));
        Ok(())
    }

    /// The merchants of whom something has waited long enough to be written.
    pub fn due(&self) -> Vec<MerchantId> {
        self.lazily.due()
    }

    /// How long what waits to be written may wait; `None` if nothing does.
    pub fn wait(&self) -> Option<Duration> {
        self.lazily.wait()
    }

    /// Of the merchants that are held, those whom somebody watches.
    pub fn watched(&self) -> Vec<MerchantId> {
        let held = self.open.iter().flat_map(|open| &open.held);
        match self.generations.watched.is_empty() {
            true => Vec::new(),
            false => held.filter(|merchant| self.generations.watched.contains(merchant)).copied().collect(),
        }
    }

    /// Writes what was gathered, and commits. Fails with [`StoreError::Unconfirmed`] if it
    /// is unknown what has become of the transaction; if it fails otherwise, it is undone.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_with(&ForOthers::default())
    }

    /// The same with what is left to others.
    pub fn commit_with(&mut self, left: &ForOthers) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Err(no_transaction()) };
        if let Some(cause) = open.failure {
            return Err(cause);
        }
        self.write_others(&mut open)?;
        let session = &self.session;
        if !left.is_empty() {
            session.together(telling::write(session, left))?;
        }
        let ended = session.together(async {
            let (written, committed) = tokio::join!(biased; write_gathered(session, &open), session.commit_with());
            Ok((written, committed?))
        });
        // If what was written was refused, the database has answered the COMMIT by a rollback.
        let (written, ()) = ended.map_err(|cause| StoreError::Unconfirmed(cause.to_string().into()))?;
        written
    }

    /// Gives up the transaction, if there is one.
    pub fn roll_back(&mut self) {
        if self.open.take().is_some() {
            // A connection on which this fails is not used any more.
            let _ = self.session.roll_back();
        }
    }

    /// Writes all that was gathered, so that what is read next is as it was decided.
    fn write_all(&mut self) -> Result<()> {
        if let Some(cause) = self.failure() {
            return Err(cause);
        }
        let Some(mut open) = self.open.take() else { return Err(no_transaction()) };
        let written = self.write_others(&mut open).and_then(|()| {
            let session = &self.session;
            session.together(write_gathered(session, &open))
        });
        open.forget_rows();
        self.open = Some(open);
        self.heed(written)
    }

    /// If there is anything of the rarer kinds, writes all that was gathered.
    fn write_others(&mut self, open: &mut Open) -> Result<()> {
        if open.rows.others.is_empty() && open.rows.logs.is_empty() {
            return Ok(());
        }
        let session = &self.session;
        session.together(write_gathered(session, open))?;
        let Rows { others, logs, .. } = open.forget_rows();
        for other in &others {
            sql::write::other(&mut self.session, &self.vault, other, open.now)?;
        }
        let changed: Vec<i64> = others.iter().filter_map(changed_webhook).map(|id| id.0).collect();
        let paused: Vec<i64> = others.iter().filter_map(changed_merchant).map(|merchant| merchant.0).collect();
        if !changed.is_empty() || !paused.is_empty() {
            catching_up::raise(&self.session, &mut self.generations, &changed, &paused)?;
        }
        sql::write::logs(&mut self.session, &logs)
    }

    /// Notes a failure: the transaction has failed with it.
    fn heed<T>(&mut self, result: Result<T>) -> Result<T> {
        if let (Err(cause), Some(open)) = (&result, &mut self.open) {
            open.failure.get_or_insert_with(|| cause.clone());
        }
        result
    }

    /// Why nothing can be done in the transaction, if that is so.
    fn failure(&self) -> Option<StoreError> {
        self.open.as_ref().map_or_else(|| Some(no_transaction()), |open| open.failure.clone())
    }

    /// How large the store is, about.
    fn used_bytes(&mut self) -> Result<u64> {
        if let Some((bytes, at)) = self.size
            && at.elapsed() < SIZE_FOR
        {
            return Ok(bytes);
        }
        let rows = self.session.together(self.session.ask(SIZE, &[]))?;
        let bytes = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.unsigned_abs();
        self.size = Some((bytes, Instant::now()));
        Ok(bytes)
    }

    fn load_now(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded> {
        let Some(open) = &mut self.open else { return Err(no_transaction()) };
        let mut common = Common::default();
        common.add(wants, &mut open.counted);
        let mut loaded = common.read(&self.session, now)?.share(wants);
        if !reading::is_common(wants) {
            sql::load::rare(&mut self.session, wants, now, &mut loaded)?;
            loaded.needed.extend(under_way(&self.session, wants)?);
        }
        if wants.used_bytes {
            loaded.used_bytes = Some(self.used_bytes()?);
        }
        Ok(loaded)
    }

    fn read_common(&mut self, all: &[Wants], now: Timestamp) -> Result<Vec<Option<Loaded>>> {
        let Some(open) = &mut self.open else { return Err(no_transaction()) };
        let (are_ahead, mut common) = (reading::plan(all), Common::default());
        for (wants, _) in all.iter().zip(&are_ahead).filter(|(_, is_ahead)| **is_ahead) {
            common.add(wants, &mut open.counted);
        }
        let mut read = common.read(&self.session, now)?;
        let used = if all.iter().any(|wants| wants.used_bytes) { Some(self.used_bytes()?) } else { None };
        let share = |(wants, is_ahead): (&Wants, bool)| {
            is_ahead.then(|| Loaded { used_bytes: used.filter(|_| wants.used_bytes), ..read.share(wants) })
        };
        Ok(all.iter().zip(are_ahead).map(share).collect())
    }

    fn lock(&mut self, book: &mut Book, merchants: &[MerchantId], sent_for: &[Bucket]) -> Result<Held> {
        let Some(open) = &self.open else { return Err(no_transaction()) };
        let others: Vec<i64> = merchants.iter().filter(|one| !open.held.contains(one)).map(|one| one.0).collect();
        let buckets: Vec<Bucket> = sent_for
            .iter()
            .copied()
            .filter(|one| !open.fenced.contains(one) && book.leases.epoch(*one).is_some())
            .collect();
        let mut news = Vec::new();
        if !others.is_empty() || !buckets.is_empty() {
            let (locked, leases) = self.lock_rows(&others, &buckets)?;
            for bucket in &buckets {
                if leases.get(bucket).copied() != book.leases.epoch(*bucket) {
                    book.leases.set(*bucket, None);
                    self.tending.set(*bucket, None);
                    self.lazily.forget_all(&[*bucket]);
                    news.push(Announcement::LeaseLost(*bucket));
                }
            }
            news.extend(catching_up::catch_up(&mut self.session, &self.vault, &mut self.generations, book, &locked)?);
            if let Some(open) = &mut self.open {
                open.held.extend(locked);
                open.fenced.extend(buckets);
            }
        }
        let Some(open) = &self.open else { return Err(no_transaction()) };
        Ok(Held { merchants: merchants.iter().copied().filter(|one| open.held.contains(one)).collect(), news })
    }
}

impl Postgres {
    /// Locks those merchants that can be had at once, and these leases; the merchants,
    /// and the epochs.
    fn lock_rows(&self, merchants: &Vec<i64>, leases: &[Bucket]) -> Result<(Vec<MerchantId>, HashMap<Bucket, i64>)> {
        let (session, numbers) = (&self.session, taking_over::numbers(leases));
        let ids: [Parameter<'_>; 1] = [(merchants, Type::INT8_ARRAY)];
        let buckets: [Parameter<'_>; 1] = [(&numbers, Type::INT8_ARRAY)];
        let (locked, fenced) = session.together(async {
            let fence = async { if numbers.is_empty() { Ok(Vec::new()) } else { session.ask(FENCE, &buckets).await } };
            let lock =
                async { if merchants.is_empty() { Ok(Vec::new()) } else { session.ask(LOCK_AT_ONCE, &ids).await } };
            let (fenced, locked) = tokio::join!(biased; fence, lock);
            Ok((locked?, fenced?))
        })?;
        let locked = locked.iter().map(|row| Ok(MerchantId(row.try_get(0)?))).collect::<Result<_>>()?;
        let epoch = |row: &tokio_postgres::Row| {
            let bucket = u8::try_from(row.try_get::<_, i64>(0)?).map_err(|_| bad("bucket"))?;
            Ok((Bucket(bucket), row.try_get(1)?))
        };
        Ok((locked, fenced.iter().map(epoch).collect::<Result<_>>()?))
    }
}

impl Engine for Postgres {
    fn load(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded> {
        self.write_all()?;
        let loaded = self.load_now(wants, now);
        self.heed(loaded)
    }

    fn read_ahead(&mut self, all: &[Wants], now: Timestamp) -> Result<Vec<Option<Loaded>>> {
        self.write_all()?;
        let read = self.read_common(all, now);
        self.heed(read)
    }

    fn hold(&mut self, book: &mut Book, merchants: &[MerchantId], sent_for: &[Bucket]) -> Result<Held> {
        let held = self.lock(book, merchants, sent_for);
        self.heed(held)
    }

    fn catch_up(&mut self, book: &mut Book, buckets: &[Bucket], _now: Timestamp) -> Result<Vec<Announcement>> {
        let news = catching_up::look_around(&mut self.session, &self.vault, &mut self.generations, book);
        let left =
            news.and_then(|news| Ok((news, taking_over::left(&mut self.session, &self.vault, buckets, self.node)?)));
        let (news, left) = self.heed(left)?;
        book.take_over_work(left);
        Ok(news)
    }

    fn counters_of(&mut self, buckets: &[Bucket], after: WebhookId) -> Result<Counted> {
        let found = taking_over::webhooks(&self.session, buckets, after);
        self.heed(found)
    }

    fn tend(&mut self, bucket: Bucket, epoch: i64) {
        self.tending.set(bucket, Some(epoch));
    }

    fn let_go(&mut self, buckets: &[Bucket]) {
        self.lazily.forget_all(buckets);
        buckets.iter().for_each(|bucket| self.tending.set(*bucket, None));
    }

    fn write(&mut self, rows: Rows, _now: Timestamp) -> Result<()> {
        if let Some(cause) = self.failure() {
            return Err(cause);
        }
        let Some(open) = &mut self.open else { return Err(no_transaction()) };
        if let Some((size, _)) = &mut self.size {
            *size += weight(&rows);
        }
        let Rows { events, numbered, standings, attempts, counters, logs, others } = rows;
        // Tests are numbered, and are due from the beginning.
        let due = numbered.iter().filter_map(bulk::standing_of);
        open.rows.standings.extend(due);
        open.rows.standings.extend(standings);
        open.rows.events.extend(events);
        open.rows.numbered.extend(numbered);
        open.rows.attempts.extend(attempts);
        for other in others {
            match other {
                Other::Key(row) => open.keys.push(row),
                other => open.rows.others.push(other),
            }
        }
        let gone: Vec<_> = open.rows.others.iter().filter_map(gone_webhook).collect();
        let (last, counters): (Vec<_>, Vec<_>) = counters.into_iter().partition(|(_, id, _)| gone.contains(id));
        for (_, id, counters) in last {
            self.lazily.forget(id);
            open.counters.push((id, counters));
        }
        open.counters.extend(self.lazily.counters(counters, |merchant| self.tending.has(merchant)));
        open.rows.logs.extend(self.lazily.logs(logs));
        let held = &open.held;
        let Due { counters, logs } = self.lazily.take(|merchant| held.contains(&merchant));
        open.counters.extend(counters);
        open.rows.logs.extend(logs);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.failure().is_none()
    }

    fn sweep(&mut self, now: Timestamp, audited_before: Timestamp, max: u32) -> Result<bool> {
        self.write_all()?;
        // What was pruned may have become room since.
        self.size = None;
        let swept = sql::write::sweep(&mut self.session, now, audited_before, max);
        self.heed(swept)
    }

    fn begin_pruning(&mut self, before: CutOff) -> Result<()> {
        self.pass = Some(Pass::new(before));
        Ok(())
    }

    fn is_pruning(&self) -> bool {
        self.pass.is_some()
    }

    fn is_resealing(&self) -> bool {
        self.resealing.is_due(&self.vault)
    }

    fn reseal(&mut self) -> Result<usize> {
        self.write_all()?;
        let sealed = self.resealing.step(&mut self.session, &self.vault);
        self.heed(sealed)
    }

    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>> {
        self.write_all()?;
        let Some(pass) = self.pass.take() else { return Ok(Vec::new()) };
        let own = self.tending.leases().unwrap_or_default().into_iter().map(|(bucket, _)| bucket);
        let own = taking_over::numbers(&own.collect::<Vec<_>>());
        let pruned = prune::step(&mut self.session, pass, kept_from, &own);
        let (next, shrunk) = self.heed(pruned)?;
        self.pass = next;
        Ok(shrunk)
    }
}

/// Events of those that are asked for which are still being numbered, by whatever node.
fn under_way(session: &Session, wants: &Wants) -> Result<Vec<EventId>> {
    const SQL: &str = "SELECT e.id FROM (SELECT unnest($1) UNION SELECT abs(event_id) FROM delivery
            WHERE webhook_id = $2 AND increment_id = $3) AS e (id)
        WHERE EXISTS (SELECT 1 FROM fanout f WHERE f.events::jsonb @> jsonb_build_array(jsonb_build_array(e.id)))";
    if wants.needed.is_empty() && wants.needed_beside.is_none() {
        return Ok(Vec::new());
    }
    let events: Vec<_> = wants.needed.iter().map(|event| event.0).collect();
    let (id, number) = wants.needed_beside.unwrap_or((WebhookId(0), IncrementId(0)));
    let values: [Parameter<'_>; 3] = [(&events, Type::INT8_ARRAY), (&id.0, Type::INT8), (&number.0, Type::INT8)];
    let rows = session.together(session.ask(SQL, &values))?;
    rows.iter().map(|row| Ok(EventId(row.try_get(0)?))).collect()
}

/// Writes the rows that were gathered, each kind in one statement.
async fn write_gathered(session: &Session, Open { rows, keys, counters, now, .. }: &Open) -> Result<()> {
    let (events, numbered, standings, attempts, counters, keys) = tokio::join!(biased; bulk::events(session, &rows.events, *now),
        bulk::numbered(session, &rows.numbered, *now),
        bulk::standings(session, &rows.standings),
        bulk::attempts(session, &rows.attempts),
        bulk::counters(session, counters),
        bulk::keys(session, keys),
    );
    events.and(numbered).and(standings).and(attempts).and(counters).and(keys)
}

/// What rows add to the store, about, until its size is asked for again.
fn weight(rows: &Rows) -> u64 {
    const ROW_BYTES: usize = 200;
    let messages: usize = rows.events.iter().map(|row| row.event.message.as_str().len() + ROW_BYTES).sum();
    let attempts: u64 = rows.attempts.iter().map(|attempt| attempt.bytes() + ROW_BYTES as u64).sum();
    (messages + rows.numbered.len() * ROW_BYTES) as u64 + attempts
}

/// The webhook of which nothing is left to be done.
fn gone_webhook(other: &Other) -> Option<WebhookId> {
    match other {
        Other::WebhookBlotted(id) => Some(*id),
        _ => None,
    }
}

/// The webhook whose definition a row changes.
fn changed_webhook(other: &Other) -> Option<WebhookId> {
    match other {
        Other::NewWebhook(webhook) | Other::Webhook(webhook) => Some(webhook.webhook_id),
        Other::WebhookDeleted(id) => Some(*id),
        _ => None,
    }
}

/// The merchant that is paused by a row, or goes on by it.
fn changed_merchant(other: &Other) -> Option<MerchantId> {
    match other {
        Other::MerchantTerms(merchant, _) => Some(*merchant),
        _ => None,
    }
}
