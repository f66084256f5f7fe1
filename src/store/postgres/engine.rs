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
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio_postgres::types::Type;

use super::lazily::{Due, Lazily};
use super::prune::{self, Pass};
use super::reading::{self, Common};
use super::session::Session;
use super::settings::Settings;
use super::values::Parameter;
use super::{bulk, catching_up};
use crate::domain::id::{EventId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::decision::{KeyRow, Other, Rows};
use crate::store::ledger::pruning::CutOff;
use crate::store::ledger::wants::{Loaded, Wants};
use crate::store::ledger::work::{Engine, Held};
use crate::store::sql;

type Result<T> = std::result::Result<T, StoreError>;

/// All that this connection does goes by key. Before the tables have statistics,
/// the planner might think otherwise, and keep the plan while they grow.
const BY_KEY_ALONE: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET plan_cache_mode = force_generic_plan; SET jit = off";

/// The locks that can be had at once, and those that are waited for. They are
/// taken in the order of ids.
const LOCK_AT_ONCE: &str = "SELECT merchant_id FROM merchant WHERE merchant_id = ANY($1)
    ORDER BY merchant_id FOR NO KEY UPDATE SKIP LOCKED";
const LOCK: &str = "SELECT merchant_id FROM merchant WHERE merchant_id = ANY($1)
    ORDER BY merchant_id FOR NO KEY UPDATE";

/// Held by the server that has the store for itself, as long as its connection is
/// there; one that has just gone is waited for.
const SERVE: &str = "SELECT pg_advisory_lock($1, current_schema()::regnamespace::oid::int4)";
const SERVED: i32 = 0x7461_6c6c;

/// What the tables and their indexes take on disk.
const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'";
/// How long that is remembered: to ask for it looks at all files.
const SIZE_FOR: Duration = Duration::from_secs(1);

/// A connection that writes.
pub struct Postgres {
    session: Session,
    /// The transaction that is open.
    open: Option<Open>,
    /// Up to which change of each merchant everything is known by heart.
    generations: HashMap<MerchantId, i64>,
    /// What is not written with every commit.
    lazily: Lazily,
    /// The pass of pruning that is under way.
    pass: Option<Pass>,
    /// How large the store is: as it was found a moment ago, and what was added since.
    size: Option<(u64, Instant)>,
}

/// A transaction.
struct Open {
    /// A statement failed, so nothing of it can be committed.
    has_failed: bool,
    held: HashSet<MerchantId>,
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
            has_failed: false,
            held: HashSet::new(),
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
    /// Connects. Blocks.
    pub fn open(settings: &Settings) -> Result<Self> {
        let mut session = Session::open(settings)?;
        session.batch(BY_KEY_ALONE)?;
        for (sql, types) in bulk::statements().into_iter().chain(reading::statements()) {
            session.prepare(&sql, &types)?;
        }
        for sql in [LOCK_AT_ONCE, LOCK, catching_up::MERCHANTS] {
            session.prepare(sql, &[Type::INT8_ARRAY])?;
        }
        let lazily = Lazily::default();
        Ok(Self { session, open: None, generations: HashMap::new(), lazily, pass: None, size: None })
    }

    /// The same, as the one server that has the store for itself. Fails if another
    /// has it, and keeps it.
    pub fn serve(settings: &Settings) -> Result<Self> {
        let engine = Self::open(settings)?;
        let locked = engine.session.together(engine.session.ask(SERVE, &[(&SERVED, Type::INT4)]));
        locked.map_err(|cause| match cause {
            StoreError::Busy { .. } => StoreError::failed("is being served by another process; stop it first"),
            cause => cause,
        })?;
        Ok(engine)
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
    pub fn knows(&mut self, generations: HashMap<MerchantId, i64>) {
        self.generations = generations;
    }

    /// Begins a transaction.
    pub fn begin(&mut self, now: Timestamp) -> Result<()> {
        self.session.batch("BEGIN")?;
        self.open = Some(Open::at(now));
        Ok(())
    }

    /// Waits until nobody else holds a merchant. Nothing else is held yet.
    pub fn wait_for(&mut self, merchant: MerchantId) -> Result<()> {
        let ids = [merchant.0];
        let values: [Parameter<'_>; 1] = [(&&ids[..], Type::INT8_ARRAY)];
        let locked = self.session.together(self.session.ask(LOCK, &values));
        self.heed(locked).map(drop)
    }

    /// The merchants of whom something has waited long enough to be written.
    pub fn due(&self) -> Vec<MerchantId> {
        self.lazily.due()
    }

    /// How long what waits to be written may wait; `None` if nothing does.
    pub fn wait(&self) -> Option<Duration> {
        self.lazily.wait()
    }

    /// Writes what was gathered, and commits. If it fails, what has become of the
    /// transaction is unknown.
    pub fn commit(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Err(no_transaction()) };
        if open.has_failed {
            return Err(no_transaction());
        }
        self.write_others(&mut open)?;
        let session = &self.session;
        session.together(async {
            let (written, committed) = tokio::join!(biased; write_gathered(session, &open), session.simply("COMMIT"));
            written.and(committed)
        })
    }

    /// Gives up the transaction, if there is one.
    pub fn roll_back(&mut self) {
        if self.open.take().is_some() {
            // A connection on which this fails is not used any more.
            let _ = self.session.batch("ROLLBACK");
        }
    }

    /// Writes all that was gathered, so that what is read next is as it was decided.
    fn write_all(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take().filter(|open| !open.has_failed) else { return Err(no_transaction()) };
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
            sql::write::other(&mut self.session, other, open.now)?;
        }
        let changed: Vec<i64> = others.iter().filter_map(changed_webhook).map(|id| id.0).collect();
        if !changed.is_empty() {
            self.generations.extend(catching_up::raise(&self.session, &changed)?);
        }
        sql::write::logs(&mut self.session, &logs)
    }

    /// Notes a failure: the transaction has failed with it.
    fn heed<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err()
            && let Some(open) = &mut self.open
        {
            open.has_failed = true;
        }
        result
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

    fn lock(&mut self, book: &mut Book, merchants: &[MerchantId]) -> Result<Held> {
        let Some(open) = &self.open else { return Err(no_transaction()) };
        let others: Vec<i64> = merchants.iter().filter(|one| !open.held.contains(one)).map(|one| one.0).collect();
        let mut news = Vec::new();
        if !others.is_empty() {
            let values: [Parameter<'_>; 1] = [(&others, Type::INT8_ARRAY)];
            let locked = self.session.together(self.session.ask(LOCK_AT_ONCE, &values))?;
            let locked: Vec<MerchantId> =
                locked.iter().map(|row| Ok(MerchantId(row.try_get(0)?))).collect::<Result<_>>()?;
            news = catching_up::catch_up(&mut self.session, &mut self.generations, book, &locked)?;
            if let Some(open) = &mut self.open {
                open.held.extend(locked);
            }
        }
        let Some(open) = &self.open else { return Err(no_transaction()) };
        Ok(Held { merchants: merchants.iter().copied().filter(|one| open.held.contains(one)).collect(), news })
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

    fn hold(&mut self, book: &mut Book, merchants: &[MerchantId]) -> Result<Held> {
        let held = self.lock(book, merchants);
        self.heed(held)
    }

    fn write(&mut self, rows: Rows, _now: Timestamp) -> Result<()> {
        let Some(open) = self.open.as_mut().filter(|open| !open.has_failed) else { return Err(no_transaction()) };
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
        open.counters.extend(self.lazily.counters(counters));
        open.rows.logs.extend(self.lazily.logs(logs));
        let held = &open.held;
        let Due { counters, logs } = self.lazily.take(|merchant| held.contains(&merchant));
        open.counters.extend(counters);
        open.rows.logs.extend(logs);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.has_failed)
    }

    fn sweep(&mut self, now: Timestamp, max: u32) -> Result<bool> {
        self.write_all()?;
        // What was pruned may have become room since.
        self.size = None;
        let swept = sql::write::sweep(&mut self.session, now, max);
        self.heed(swept)
    }

    fn begin_pruning(&mut self, before: CutOff) -> Result<()> {
        self.pass = Some(Pass::new(before));
        Ok(())
    }

    fn is_pruning(&self) -> bool {
        self.pass.is_some()
    }

    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>> {
        self.write_all()?;
        let Some(pass) = self.pass.take() else { return Ok(Vec::new()) };
        let pruned = prune::step(&mut self.session, pass, kept_from);
        let (next, shrunk) = self.heed(pruned)?;
        self.pass = next;
        Ok(shrunk)
    }
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
    let messages: usize = rows.events.iter().map(|event| event.message.as_str().len() + ROW_BYTES).sum();
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
