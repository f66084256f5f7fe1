//! The engine in memory does what SQLite does: the same changes leave the same
//! rows, give the same answers and news, and are read alike.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;

use super::do_chores;
use crate::domain::audit::{Action, Subject, SubjectKind};
use crate::domain::by::By;
use crate::domain::catalogue::{TopicChanges, TopicSpec};
use crate::domain::delivery::{Attempt, AttemptError, DeliveryFilter, DeliveryState, ErrorClass, Outcome, Verdict};
use crate::domain::event::{EventFilter, IdempotencyKey, Message, NewEvent};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, Span, UserId, WebhookId};
use crate::domain::labels::Labels;
use crate::domain::merchant::{QuotaChanges, Quotas};
use crate::domain::policy::Batching;
use crate::domain::retry::{RetryPolicy, Waits};
use crate::domain::secret::{KeyHash, SecretKey};
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::domain::trace::TraceParent;
use crate::domain::user::{Permissions, Profile};
use crate::domain::webhook::{DeliveryMode, Format, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::store::ledger::accounts::{
    AlterUser, CreateUser, EndSession, NewUserRow, OpenSession, RenewSession, UserAlteration, UserFound,
};
use crate::store::ledger::book::Book;
use crate::store::ledger::jobs::{Backfill, CancelJob, Replay, RetryMany};
use crate::store::ledger::memory::{AuditRow, Memory, UserRow};
use crate::store::ledger::merchants::{AlterMerchant, CreateMerchant, FirstUser, MerchantAlteration};
use crate::store::ledger::news::Announcement;
use crate::store::ledger::notices::Notice;
use crate::store::ledger::outcomes::Record;
use crate::store::ledger::publishing::Publish;
use crate::store::ledger::resending::{Cancel, Forget, Retry, Seal, Target, Test};
use crate::store::ledger::terms::{Retention, Terms};
use crate::store::ledger::wants::{Attempts, Events, Loaded, Pending, Scan, TopicWant, Wants};
use crate::store::ledger::webhooks::{Acknowledge, Alter, Alteration, Create, Delete, HandOut};
use crate::store::ledger::work::{Engine, Work};
use crate::store::ledger::{Change, Step, chores, topics};
use crate::store::sqlite::engine::Sqlite;
use crate::store::sqlite::{load, pages};
use crate::store::vault::Vault;
use crate::store::{DueKey, NewSession, Page, PageLimit};

const ANN: MerchantId = MerchantId(1);
const USER: UserId = UserId(1);
const BY: By = by(ANN);
const TOPICS: [&str; 3] = ["order:created", "order:paid", "tallyhook:delivery_abandoned"];
const KINDS: u32 = 21;
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const LIMIT: PageLimit = PageLimit { count: 3, bytes: 5_000 };

const TERMS: Terms = Terms {
    key_ttl: Duration::from_secs(4_000),
    deliveries_max: 200,
    definition_bytes_max: 10_000,
    disable_after: Duration::from_secs(60),
    retention: Retention {
        attempts: Duration::from_secs(5_000),
        bodies: Duration::from_secs(9_000),
        audit: Duration::from_secs(7_000),
        bytes_max: 0,
        webhook_log_bytes_max: 300,
        merchant_log_bytes_max: 500,
    },
    fingerprint_key: FingerprintKey::OPEN,
    is_shared: false,
};

/// Labels of events, or none of them.
fn labels(place: u32) -> Labels {
    let pairs = place.is_multiple_of(2).then(|| ("customer".to_owned(), place.to_string()));
    Labels::try_new(pairs.into_iter().collect()).unwrap()
}

const fn by(merchant: MerchantId) -> By {
    By { merchant, user: USER, token: None, within: None, sender: None }
}

/// Two stores of which the same is asked.
struct Both {
    sqlite: Sqlite,
    memory: Memory,
    books: [Book; 2],
    now: Timestamp,
    said: u32,
}

/// The same whichever map it came from.
fn told(all: impl IntoIterator<Item = impl Debug>) -> Vec<String> {
    let mut all: Vec<_> = all.into_iter().map(|one| format!("{one:?}")).collect();
    all.sort_unstable();
    all
}

impl Both {
    fn new() -> Self {
        let conn = Connection::open_in_memory().unwrap();
        conn.set_prepared_statement_cache_capacity(100);
        conn.execute_batch(include_str!("../../../../schema.sql")).unwrap();
        conn.execute_batch(
            "INSERT INTO merchant (code, created_at) VALUES ('m1', 0), ('m2', 0);
            INSERT INTO user (merchant_id, name, key_hash, permissions, created_at)
                VALUES (1, 'ann', zeroblob(32), 15, 0);",
        )
        .unwrap();
        let mut memory = Memory::of([1, 2].map(|id| (MerchantId(id), Arc::from(format!("m{id}")))));
        let permissions = Permissions::from_bits(15);
        let user = UserFound {
            name: "ann".to_owned(),
            permissions,
            is_demo: false,
            disabled_at: None,
            key: KeyHash([0; 32]),
            profile: Profile::default(),
        };
        memory.tables.users.put(USER, UserRow { merchant: ANN, user, revoked_at: None, old: None });
        memory.tables.users.keep();
        let books = [
            Book::new(TERMS, load::stock(&conn, &Vault::default()).unwrap()),
            Book::new(TERMS, memory.stock().unwrap()),
        ];
        Self { sqlite: Sqlite::new(conn, Arc::default()).unwrap(), memory, books, now: Timestamp(1_000_000), said: 0 }
    }

    /// Has both do a change, in a commit of its own, with all chores there are.
    fn run<C: Change>(&mut self, make: impl Fn() -> C)
    where
        C::Answer: Debug,
    {
        self.commit(|work| {
            let mut change = make();
            loop {
                match work.run(&mut change) {
                    Ok(Step::Done(answer)) => return format!("{answer:?}"),
                    Ok(Step::More(_)) => {}
                    Err(cause) => return format!("{cause:?}"),
                }
            }
        });
    }

    fn commit(&mut self, act: impl Fn(&mut Work<'_>) -> String) {
        let now = self.now;
        let [book, other] = &mut self.books;
        let done = |engine: &mut dyn Engine, book: &mut Book| {
            let mut work = Work::new(engine, book, now);
            let answer = act(&mut work);
            do_chores(&mut work);
            let news: Vec<Announcement> = work.finish().unwrap();
            (answer, told(news))
        };
        self.sqlite.begin().unwrap();
        let one = done(&mut self.sqlite, book);
        self.sqlite.commit().unwrap();
        self.memory.begin().unwrap();
        let two = done(&mut self.memory, other);
        self.memory.commit().unwrap();
        assert_eq!(one, two, "left: SQLite");
    }

    /// A webhook and a number of it, whether there are such or not.
    fn pick(&self, dice: u32) -> (WebhookId, IncrementId) {
        let id = WebhookId(i64::from(dice % 4) + 1);
        let last = self.books[0].entry(id).map_or(0, |entry| entry.counters.last.0);
        (id, IncrementId(1 + i64::from(dice / 4) % (last + 1)))
    }

    fn step(&mut self, kind: u32, dice: u32) {
        let (id, number) = self.pick(dice);
        let (high, by) = (dice >> 16, by(MerchantId(i64::from(id.0 == 4) + 1)));
        let target = Target { by: by.clone(), webhook_id: id, number };
        match kind {
            0 => self.run(|| Create { by: by.clone(), spec: spec(dice), quota: 3 }),
            1..4 => self.publish(by, high),
            4..7 => self.record(id, number, high),
            7 => self.run(|| Retry(target.clone())),
            8 => self.run(|| Cancel { target: target.clone(), whole_batch: high % 2 == 0 }),
            9 => self.run(|| Forget { target: target.clone(), goes_on: false }),
            10 => self.run(|| {
                let said = WebhookChanges { is_active: Some(high % 3 > 0), ..changes(high) };
                Alter { by: by.clone(), webhook_id: id, what: Alteration::Update(Box::new(said)) }
            }),
            11 => {
                let span = Span { first: number, last: IncrementId(number.0 + i64::from(high % 4)) };
                self.run(|| Seal { merchant_id: ANN, webhook_id: id, batch: Some(span) });
            }
            12 => self.run(|| Delete { by: by.clone(), webhook_id: if high % 4 == 0 { id } else { WebhookId(9) } }),
            13 => {
                self.run(|| HandOut { by: by.clone(), webhook_id: id, through: number });
                self.run(|| Acknowledge { by: by.clone(), webhook_id: id, through: number });
            }
            14 => {
                let state = (high % 2 == 0).then(|| DeliveryState::ALL[high as usize % 4]);
                let filter = DeliveryFilter { state, ..DeliveryFilter::default() };
                let span = Span { first: number, last: IncrementId(i64::from(high)) };
                self.run(|| Replay { by: by.clone(), webhook_id: id, span, filter: filter.clone() });
                self.run(|| RetryMany { by: by.clone(), webhook_id: None, filter: filter.clone() });
            }
            15 => {
                self.run(|| Backfill { by: by.clone(), webhook_id: id, filter: EventFilter::default() });
                self.run(|| CancelJob { by: by.clone(), job_id: JobId(number.0) });
            }
            16 => self.run(|| {
                let message = Message::try_new("{\"is\":\"a test\"}").unwrap();
                Test { by: by.clone(), webhook_id: id, message }
            }),
            17 => self.now.0 += i64::from(high) * 100,
            18 => self.run(|| chores::Sweep),
            19 => self.catalogue(dice),
            _ => self.accounts(dice),
        }
        self.compare();
    }

    fn publish(&mut self, by: By, dice: u32) {
        self.said += 1;
        let count = if dice.is_multiple_of(8) { 70 } else { 1 + dice % 3 };
        let said = self.said;
        self.run(|| {
            let one = |place: u32| NewEvent {
                topic: Topic::try_new(TOPICS[(dice + place) as usize % 2]).unwrap(),
                message: Message::try_new(&format!("{{\"n\":{}}}", said * (dice % 5) + place)).unwrap(),
                created_at: Timestamp(1),
                idempotency_key: (dice % 5 < 2)
                    .then(|| IdempotencyKey::try_new(&format!("k{}", place + dice % 2)).unwrap()),
                trace: TraceParent::try_new(TRACE.as_bytes()).filter(|_| place % 2 == 1),
                labels: dice.is_multiple_of(3).then(|| Arc::new(labels(place))),
            };
            Publish::new(by.clone(), (0..count).map(one)).within((dice % 4 > 1).then_some(150 * (dice % 4)))
        });
    }

    fn record(&mut self, id: WebhookId, number: IncrementId, dice: u32) {
        let wants = Wants { batches: vec![(id, number)], ..Wants::default() };
        let found = self.memory.loaded(&wants, self.now).deliveries;
        let Some(found) = found.get(&(id, number)) else { return };
        let verdicts = [
            Verdict::Delivered,
            Verdict::Retry(self.now.after(Duration::from_secs(30))),
            Verdict::Abandoned,
            Verdict::Delivered,
            Verdict::Retry(self.now.after(Duration::from_secs(3))),
            Verdict::Gone,
        ];
        let verdict = verdicts[dice as usize % 6];
        let error = AttemptError { class: ErrorClass::Status, detail: "no".to_owned() };
        let outcome = Outcome {
            merchant_id: ANN,
            webhook_id: id,
            numbers: found.standing.batch.unwrap_or(Span::one(number)),
            attempt: Attempt {
                attempt: found.standing.attempts + 1,
                started_at: self.now,
                queue_delay: Duration::ZERO,
                duration: Duration::ZERO,
                address: None,
                status_code: Some(500),
                error: (verdict != Verdict::Delivered).then_some(error),
                request_headers: "a: b".to_owned(),
                response_headers: "c: d".to_owned(),
                response_body: vec![b'x'; dice as usize % 64],
            },
            verdict,
            ended_at: self.now,
            pause: None,
            resends_asked: found.standing.resends_asked.saturating_sub(dice / 6 % 2),
        };
        let outcomes: Arc<[Outcome]> = vec![outcome; 1 + dice as usize % 2].into();
        self.run(|| Record::new(Arc::clone(&outcomes), vec![None; outcomes.len()]));
    }

    fn catalogue(&mut self, dice: u32) {
        let topic = || Topic::try_new(TOPICS[dice as usize % 2]).unwrap();
        let changes = || TopicChanges {
            event_type: dice.is_multiple_of(3).then_some(i64::from(dice % 5) + 1),
            description: Some(format!("{dice}")),
            ..TopicChanges::default()
        };
        match dice / 2 % 3 {
            0 => {
                let spec = || TopicSpec::try_new(topic(), changes()).unwrap();
                self.run(|| topics::Register { merchant: ANN, by: Some(BY), spec: spec(), quota: 2 });
            }
            1 => self.run(|| topics::Update { merchant: ANN, by: Some(BY), topic: topic(), changes: changes() }),
            _ => self.run(|| topics::Remove { by: BY, topic: topic() }),
        }
    }

    fn accounts(&mut self, dice: u32) {
        let key = KeyHash([(dice % 5) as u8; 32]);
        let at = self.now.after(Duration::from_secs(u64::from(dice % 900)));
        let alter = |what| AlterUser { merchant: ANN, by: Some(BY), by_operator: false, user: USER, what };
        match dice / 5 % 9 {
            0 => {
                // Whoever has that key is known already.
                if !self.memory.tables.sessions.has(&key.0) {
                    let session = NewSession { user: USER, key, expires_at: at, ends_at: None };
                    self.run(|| OpenSession { by: BY, session, quota: 3 });
                }
            }
            1 => self.run(|| RenewSession { key, expires_at: at }),
            2 => self.run(|| EndSession(key)),
            3 => self.run(|| alter(UserAlteration::Permissions(Permissions::from_bits((dice % 32) as u8)))),
            4 => self.run(|| alter(UserAlteration::Enabled(dice.is_multiple_of(2)))),
            5 => self.run(|| {
                let application_name = Some(["", "a shop"][dice as usize / 45 % 2].to_owned());
                alter(UserAlteration::Profile(Profile { application_name, ..Profile::default() }))
            }),
            6 => self.create_user(dice / 45),
            7 => self.merchants(dice / 45),
            _ => self.run(|| alter(UserAlteration::Key(key, at))),
        }
    }

    /// The code may be given, and the name of the first user.
    fn merchants(&mut self, dice: u32) {
        let merchant = MerchantId(i64::from(1 + dice / 4 % 5));
        let alter = |what| AlterMerchant { merchant, by: Some(BY), what };
        match dice % 4 {
            0 => self.run(|| CreateMerchant {
                by: Some(BY),
                code: format!("m{}", 1 + dice / 4 % 5),
                quotas: Quotas { webhooks: dice.is_multiple_of(8).then_some(7), ..Quotas::default() },
                user: dice.is_multiple_of(3).then(|| FirstUser {
                    name: format!("first{}", dice / 4 % 5),
                    key: KeyHash([200 + (dice / 4 % 5) as u8; 32]),
                    permissions: Permissions::from_bits(8),
                }),
            }),
            1 => self.run(|| {
                let webhooks = Some((!(dice / 20).is_multiple_of(3)).then_some(i64::from(dice / 20 % 5)));
                alter(MerchantAlteration::Quotas(QuotaChanges { webhooks, ..QuotaChanges::default() }))
            }),
            paused => self.run(|| alter(MerchantAlteration::Paused(paused == 2))),
        }
    }

    /// The name may be given; who is made is revoked at once, or not.
    fn create_user(&mut self, dice: u32) {
        let user = || NewUserRow {
            merchant: ANN,
            name: format!("user{}", dice % 4),
            key: KeyHash([100 + (dice % 4) as u8; 32]),
            permissions: Permissions::from_bits((dice % 32) as u8),
            is_demo: dice.is_multiple_of(3),
            profile: Profile::default(),
        };
        self.run(|| CreateUser { by: Some(BY), user: user(), quota: Some(4) });
        let user = UserId(1 + i64::from(dice % 4));
        if user != USER {
            self.run(|| AlterUser { merchant: ANN, by: None, by_operator: true, user, what: UserAlteration::Revoked });
        }
    }

    /// Both hold and give the same.
    fn compare(&mut self) {
        let stored = Book::new(TERMS, load::stock(&self.sqlite.conn, &Vault::default()).unwrap());
        let topics = TOPICS.map(|topic| Topic::try_new(topic).unwrap());
        for book in [&self.books[0], &self.books[1], &Book::new(TERMS, self.memory.stock().unwrap())] {
            assert_eq!(book.difference(&stored, &topics), None);
        }
        let wants = self.everything();
        let one = load::load(&self.sqlite.conn, &wants, self.now).unwrap();
        assert_same(one, self.memory.loaded(&wants, self.now));
        for id in (1..=4).map(WebhookId) {
            self.compare_pages(id);
        }
        let count = |table: &str| {
            let count =
                self.sqlite.conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
            usize::try_from(count.unwrap()).unwrap()
        };
        let tables = &self.memory.tables;
        let counts = [tables.events.iter().count(), tables.deliveries.iter().count(), tables.attempts.iter().count()];
        assert_eq!(counts, ["event", "delivery", "attempt"].map(count));
        let counts = [tables.keys.iter().count(), tables.jobs.iter().count(), tables.notices.iter().count()];
        assert_eq!(counts, ["idempotency", "job", "notice"].map(count));
        let days = load::stock(&self.sqlite.conn, &Vault::default()).unwrap().event_days;
        assert_eq!(days, self.memory.stock().unwrap().event_days);
        self.compare_accounts();
        self.compare_audit();
    }

    /// All that a change could want.
    fn everything(&self) -> Wants {
        let mut wants = Wants::default();
        let last = |id| self.books[0].entry(id).map_or(IncrementId(60), |entry| entry.counters.last);
        let id = WebhookId(1 + i64::from(self.said % 4));
        for id in (1..=4).map(WebhookId) {
            let span = Span { first: IncrementId(1), last: last(id) };
            wants.deliveries.push((id, span));
            wants.topics.push((id, span));
            wants.notices.extend(Notice::ALL.map(|notice| (id, notice)));
        }
        let middle = IncrementId(last(id).0 / 2);
        wants.batches.push((id, middle));
        wants.scan = Some(Scan { webhook_id: id, first: middle, max: 30 });
        wants.pending = Some(Pending { webhook_id: id, after: middle, through: last(id), max: 5 });
        wants.again = Some((id, 5));
        wants.events = Some(Events { merchant: ANN, first: 2, last: 50, max: 20, bytes_max: 200 });
        wants.due_notices = Some(100);
        wants.keys = (0..3).map(|key| (ANN, IdempotencyKey::try_new(&format!("k{key}")).unwrap())).collect();
        wants.job = Some((ANN, JobId(2)));
        wants.topic = Some(TopicWant { merchant: ANN, topic: Topic::try_new(TOPICS[0]).unwrap(), event_type: Some(2) });
        wants.user = Some((ANN, USER));
        wants.user_name = Some((ANN, "user1".to_owned()));
        wants.merchant = Some(MerchantId(1 + i64::from(self.said % 5)));
        wants.merchant_code = Some("m3".to_owned());
        wants.needed = (1..=self.books[0].ids.event).map(EventId).collect();
        wants.needed_beside = Some((id, middle));
        wants.attempts = Some(Attempts { webhook_id: id, after: (middle, 0), only: None, max: 10 });
        wants
    }

    fn compare_pages(&self, id: WebhookId) {
        let (conn, memory, now) = (&self.sqlite.conn, &self.memory, self.now);
        if !memory.tables.hooks.has(&id) {
            return;
        }
        let same = |one: Page, two: Page| assert_eq!(format!("{one:?}"), format!("{two:?}"), "of {id}; left: SQLite");
        for after in [0, 2, 7].map(IncrementId) {
            same(pages::fresh(conn, id, after, LIMIT).unwrap(), memory.fresh(id, after, LIMIT).unwrap());
            same(pages::pending(conn, id, after, LIMIT).unwrap(), memory.pending(id, after, LIMIT).unwrap());
            same(pages::one(conn, id, after, LIMIT).unwrap(), memory.one(id, after, LIMIT).unwrap());
            let key = DueKey { due_at: Timestamp(now.0 - 10_000 * after.0), increment_id: after };
            for after in [DueKey::START, key] {
                same(pages::due(conn, id, after, now, LIMIT).unwrap(), memory.due(id, after, now, LIMIT).unwrap());
            }
            let hook = memory.tables.hooks.get(&id).filter(|hook| hook.deleted_at.is_none());
            if hook.is_some() {
                let one = pages::pull(conn, id, after, PageLimit { bytes: usize::MAX, ..LIMIT }).unwrap();
                assert_eq!(format!("{one:?}"), format!("{:?}", memory.pull(id, after, LIMIT.count)));
            }
        }
        assert_eq!(pages::next_due(conn, id, now).unwrap(), memory.next_due(id, now));
    }

    fn compare_accounts(&self) {
        let sessions = "SELECT key_hash, expires_at, ends_at FROM session ORDER BY key_hash";
        let mut statement = self.sqlite.conn.prepare_cached(sessions).unwrap();
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?, row.get(2)?));
        let one: Vec<(_, i64, Option<i64>)> = statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap();
        let own = self.memory.tables.sessions.iter();
        let two: Vec<_> = own.map(|(key, row)| (*key, row.expires_at.0, row.ends_at.map(|at| at.0))).collect();
        assert_eq!(one, two);
        let users = "SELECT permissions, key_hash, old_key_hash, old_key_until, name, is_demo, disabled_at, revoked_at,
            application_name, merchant_id FROM user ORDER BY user_id";
        let read = |row: &rusqlite::Row<'_>| {
            let old: Option<[u8; 32]> = row.get(2)?;
            let until: Option<i64> = row.get(3)?;
            let old = old.zip(until).map(|(key, until)| (KeyHash(key), Timestamp(until)));
            let user = UserFound {
                name: row.get(4)?,
                permissions: Permissions::from_bits(row.get(0)?),
                is_demo: row.get(5)?,
                disabled_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
                key: KeyHash(row.get(1)?),
                profile: Profile { application_name: row.get(8)?, ..Profile::default() },
            };
            let revoked_at = row.get::<_, Option<i64>>(7)?.map(Timestamp);
            Ok(UserRow { merchant: MerchantId(row.get(9)?), user, revoked_at, old })
        };
        let mut statement = self.sqlite.conn.prepare_cached(users).unwrap();
        let one: Vec<_> = statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap();
        let two: Vec<_> = self.memory.tables.users.iter().map(|(_, row)| row.clone()).collect();
        assert_eq!(one, two);
    }

    fn compare_audit(&self) {
        let audit = "SELECT at, user_id, action, kind, subject, before, after FROM audit ORDER BY audit_id";
        let read = |row: &rusqlite::Row<'_>| {
            let [action, kind]: [String; 2] = [row.get(2)?, row.get(3)?];
            Ok(AuditRow {
                at: Timestamp(row.get(0)?),
                user: row.get::<_, Option<i64>>(1)?.map(UserId),
                action: Action::from_name(&action).unwrap(),
                subject: Subject { kind: SubjectKind::from_name(&kind).unwrap(), id: row.get(4)? },
                change: (row.get(5)?, row.get(6)?),
            })
        };
        let mut statement = self.sqlite.conn.prepare_cached(audit).unwrap();
        let one: Vec<_> = statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap();
        let two: Vec<_> = self.memory.tables.audit.iter().map(|(_, row)| row.clone()).collect();
        assert_eq!(one, two);
    }
}

fn assert_same(one: Loaded, two: Loaded) {
    fn map<K: Debug, V: Debug>(all: HashMap<K, V>) -> BTreeMap<String, String> {
        all.into_iter().map(|(key, value)| (format!("{key:?}"), format!("{value:?}"))).collect()
    }
    assert_eq!(map(one.keys), map(two.keys));
    assert_eq!(map(one.deliveries), map(two.deliveries));
    assert_eq!(map(one.topics), map(two.topics));
    assert_eq!(map(one.notices), map(two.notices));
    assert_eq!(told(one.scanned), told(two.scanned));
    assert_eq!((one.pending, one.again), (two.pending, two.again));
    assert_eq!((told(one.events), one.is_last_event), (told(two.events), two.is_last_event));
    assert_eq!(told(one.due_notices), told(two.due_notices));
    assert_eq!((told(one.job), told(one.topic)), (told(two.job), told(two.topic)));
    assert_eq!((one.user, one.is_name_given, one.users), (two.user, two.is_name_given, two.users));
    assert_eq!((one.merchant, one.new_merchant), (two.merchant, two.new_merchant));
    assert_eq!(one.needed, two.needed);
    assert_eq!(told(one.attempts), told(two.attempts));
}

fn changes(dice: u32) -> WebhookChanges {
    let batching = || Batching::try_new(3, Some(2_000), Some(0)).unwrap();
    let patterns = ["*", "order:paid", "order:*,tallyhook:delivery_abandoned"];
    WebhookChanges {
        topics: Some(Patterns::try_new(patterns[dice as usize % 3]).unwrap()),
        description: Some(format!("{dice}")),
        batch: Some(dice.is_multiple_of(2).then(batching)),
        retry: Some(RetryPolicy::custom(Waits::List(vec![5, 30])).unwrap()),
        secret_key: Some(SecretKey::try_new("a secret that signs").unwrap()),
        ..WebhookChanges::default()
    }
}

fn spec(dice: u32) -> WebhookSpec {
    let is_pulled = dice.is_multiple_of(3);
    let said = WebhookChanges {
        url: (!is_pulled).then(|| TargetUrl::try_new("https://example.com/").unwrap()),
        delivery_mode: is_pulled.then_some(DeliveryMode::Pull),
        batch: None,
        ..changes(dice)
    };
    WebhookSpec::try_new(said, WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default }).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_do_the_same(steps in prop::collection::vec((0..KINDS, any::<u32>()), 1..60)) {
        let mut both = Both::new();
        for dice in [1, 2, 3] {
            both.step(0, dice);
        }
        for (kind, dice) in steps {
            both.step(kind, dice);
        }
    }
}
