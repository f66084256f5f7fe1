//! What is said in PostgreSQL's words, many keys at once, reads the same as what
//! is said in SQLite's, one by one. Both are standard SQL, so SQLite can hear both.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use r2d2::ManageConnection;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use tokio::sync::watch;

use super::writer::tests::config;
use super::{glance, open, pages};
use crate::domain::catalogue::TopicFilter;
use crate::domain::delivery::{AttemptFilter, AttemptKey, DeliveryFilter};
use crate::domain::event::{EventFilter, IdempotencyKey};
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, Span, StoreId, WebhookId};
use crate::domain::node::Bucket;
use crate::domain::page::{Order, Slice};
use crate::domain::secret::KeyHash;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::topic::{Patterns, Topic};
use crate::metrics::{Gauge, Metrics};
use crate::store::Store;
use crate::store::accounts::UserBy;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::feed::Feed;
use crate::store::glance::Glimpse;
use crate::store::ledger::decision::Other;
use crate::store::ledger::ids::Ids;
use crate::store::ledger::queue::Queue;
use crate::store::ledger::wants::{Loaded, Wants};
use crate::store::outbox::{Page, PageLimit, Want};
use crate::store::sql::conn::{Conn, Manager};
use crate::store::sql::readers::Readers;
use crate::store::sql::steps::Step;
use crate::store::sql::store::{Backend, Made, SqlStore};
use crate::store::sql::{Db, Dialect, Row, Value, load, write};
use crate::store::vault::Vault;
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

const MERCHANT: MerchantId = MerchantId(1);
const NOW: Timestamp = Timestamp(1_000);

/// A connection to SQLite that PostgreSQL's words are said to.
#[derive(Debug)]
pub struct OtherWords<C>(pub C);

impl<C: Borrow<Connection>> Db for OtherWords<C> {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let mut conn: &Connection = self.0.borrow();
        conn.run(sql, values)
    }

    fn rows(&mut self, sql: &str, values: &[Value<'_>], each: &mut dyn FnMut(&dyn Row) -> Result<bool>) -> Result<()> {
        let mut conn: &Connection = self.0.borrow();
        conn.rows(sql, values, each)
    }
}

impl Conn for OtherWords<Connection> {
    fn page(&mut self, id: WebhookId, _: Want, _: Timestamp, limit: PageLimit) -> Result<Page> {
        pages::pending(&self.0, id, IncrementId::ZERO, limit)
    }

    fn next_due(&mut self, id: WebhookId, at: Timestamp) -> Result<Option<Timestamp>> {
        pages::next_due(&self.0, id, at)
    }

    fn pull(&mut self, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Vec<Pulled>> {
        pages::pull(&self.0, id, after, limit)
    }

    fn glimpses(&mut self, after: Option<WebhookId>, _: Option<&[Bucket]>) -> Result<Step<Vec<Glimpse>, WebhookId>> {
        glance::glimpses(&self.0, after)
    }

    fn last_event(&mut self) -> Result<EventId> {
        self.0.last_event()
    }

    fn store_bytes(&mut self) -> Result<u64> {
        self.0.store_bytes()
    }
}

/// Makes them.
struct OtherWordsManager(SqliteConnectionManager);

impl ManageConnection for OtherWordsManager {
    type Connection = OtherWords<Connection>;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<OtherWords<Connection>> {
        let conn = self.0.connect()?;
        conn.execute_batch("CREATE TEMP VIEW webhook_now AS SELECT * FROM webhook")?;
        Ok(OtherWords(conn))
    }

    fn is_valid(&self, conn: &mut OtherWords<Connection>) -> rusqlite::Result<()> {
        self.0.is_valid(&mut conn.0)
    }

    fn has_broken(&self, conn: &mut OtherWords<Connection>) -> bool {
        self.0.has_broken(&mut conn.0)
    }
}

impl Manager for OtherWordsManager {
    const IS_NEAR: bool = false;

    fn with<T>(conn: &mut OtherWords<Connection>, look: impl FnOnce(&mut dyn Conn) -> T) -> T {
        look(conn)
    }

    fn close(_: &mut OtherWords<Connection>) {}
}

impl Backend for OtherWordsManager {
    type Serving = ();

    fn end((): (), _: [&Readers<Self>; 2]) {}
}

/// A store that is only read.
fn store<B: Backend>(pool: &r2d2::Pool<B>) -> SqlStore<B> {
    let readers = || Readers::new(pool.clone(), Gauge::default());
    let made = Made {
        store_id: StoreId("a1b2c3d4".to_owned()),
        queue: Arc::new(Queue::new(1, Gauge::default())),
        readers: [readers(), readers()],
        feed: Arc::new(Feed::new(Metrics::default().subscribers.clone())),
        following: None,
        patience: None,
        commits: watch::Sender::new(0).subscribe(),
        trouble: watch::Sender::new(None).subscribe(),
        serving: None,
        vault: Arc::default(),
    };
    SqlStore::new(made, Clock::manual(NOW).0, Arc::default(), false)
}

/// Two merchants with webhooks; some of their numbers went out in batches.
fn fill(path: &Path) {
    let conn = open::open_current(&config(path.to_owned())).unwrap();
    let rows = "
        INSERT INTO merchant (code, created_at) VALUES ('acme', 0), ('other', 0);
        INSERT INTO user (merchant_id, name, key_hash, permissions, created_at, application_name)
            VALUES (1, 'ann', zeroblob(32), 15, 0, 'Shop'), (2, 'bob', randomblob(32), 15, 0, NULL);
        INSERT INTO session VALUES (zeroblob(32), 1, 2000, NULL);
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60)
            INSERT INTO event SELECT n, 1 + (n % 10 = 0), iif(n % 3, 'a:b', 'c:d'),
                json_object('n', printf('%.*c', n * 5, 'x')), n, n, NULL, NULL FROM n;
        INSERT INTO webhook (webhook_id, merchant_id, user_id, name, description, is_active, topics, extra_headers,
                secret_key, old_secrets, format, retry, delivery_mode, expansions, created_at, updated_at, url,
                last_increment_id)
            SELECT value, iif(value = 4, 2, 1), 1, '', '', 1, 'a:b', '', 'sixteen characters and more', '[]',
                'envelope', 'default', 'ordered', '{}', 0, 0, 'https://example.com/', 60
            FROM json_each('[1, 2, 3, 4]');
        INSERT INTO delivery (webhook_id, increment_id, event_id, format, created_at, state, attempts, ended_at)
            SELECT webhook_id, event_id, event_id, 0, event_id, event_id % 3, event_id % 3,
                iif(event_id % 3, event_id, NULL)
            FROM webhook, event;
        UPDATE delivery SET next_attempt_at = 900 + increment_id WHERE increment_id % 7 = 1;
        UPDATE delivery SET batch_first = increment_id - increment_id % 4, batch_last = increment_id - increment_id % 4 + 3,
            attempts = 1 WHERE webhook_id = 2 AND increment_id BETWEEN 8 AND 47;
        UPDATE delivery SET event_id = -event_id WHERE increment_id IN (5, 42, 43);
        DELETE FROM event WHERE event_id IN (6, 17, 42);
        INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, queue_delay_ms, duration_us, status_code,
                error_class, error_detail, request_headers, response_headers, response_body, is_compressed)
            SELECT webhook_id, increment_id, value, increment_id, 1, 5000, 200 + increment_id, NULL, NULL, 'a: b', 'c: d',
                zeroblob(increment_id), 0
            FROM delivery, json_each('[1, 2]')
            WHERE value <= attempts AND (batch_first IS NULL OR batch_first = increment_id);
        INSERT INTO topic (merchant_id, topic, category, name, description, event_type, message_schema, validation,
                is_deprecated, is_discontinued, created_at, updated_at)
            SELECT 1, printf('t:%02d', value), '', '', '', value, iif(value % 2, '{\"type\":\"object\"}', NULL), 'warn', 0,
                value = 7, 0, 0
            FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]');
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40)
            INSERT INTO idempotency SELECT 1 + n % 2, 'k' || n, randomblob(32), n, '1:' || n, 900 + n * 10 FROM n;
        INSERT INTO log_size VALUES (1, 10, 0, 0), (2, 20, 0, 0);
        INSERT INTO fanout VALUES (1, 1, '[[3, null, [1, 2]]]');
        INSERT INTO job (webhook_id, kind, next_id, last_id, since, topics, merchant_id, created_at)
            VALUES (1, 'replay', 2, 9, 0, '', 1, 0), (2, 'backfill', 1, 5, 4, 'order:*', 1, 0);";
    conn.execute_batch(&format!("PRAGMA foreign_keys = OFF; {rows}")).unwrap();
}

/// What a store says to all that can be asked.
async fn answers(store: &impl Store) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |what: &str, answer: &dyn Debug| said.push(format!("{what}: {answer:?}"));
    let hooks = (1..=4).map(WebhookId);
    let topics = Some(Patterns::try_new("a:*").unwrap());
    for order in [Order::Ascending, Order::Descending] {
        for filter in [
            EventFilter::default(),
            EventFilter { topics: topics.clone(), ..EventFilter::default() },
            EventFilter { since: Some(Timestamp(20)), until: Some(Timestamp(50)), ..EventFilter::default() },
            EventFilter { only: Some(EventId(33)), ..EventFilter::default() },
        ] {
            let slice = Slice { after: None, order, limit: 41 };
            say("events", &store.events(MERCHANT, filter.clone(), slice).await);
            let looked = store.look_into(MERCHANT, filter.clone(), order, None).await;
            say("looked into", &looked);
            let after = looked.unwrap().events.first().map(|(event, _)| event.event_id);
            say("looked into", &store.look_into(MERCHANT, filter.clone(), order, after).await);
            say("count", &store.count_events(MERCHANT, filter).await);
        }
        for is_brief in [false, true] {
            let filter = TopicFilter { is_brief, is_discontinued: Some(false), ..TopicFilter::default() };
            let slice = Slice { after: Some(Topic::try_new("t:10").unwrap()), order, limit: 7 };
            say("topics", &store.topics(MERCHANT, filter, slice).await);
        }
        let slice = Slice { after: Some(WebhookId(2)), order, limit: 7 };
        say("webhooks", &store.webhooks(MERCHANT, slice).await);
        say("jobs", &store.jobs(MERCHANT, Slice { after: Some(JobId(2)), order, limit: 7 }).await);
        for id in hooks.clone() {
            for filter in [
                DeliveryFilter::default(),
                DeliveryFilter { topics: topics.clone(), without_forgotten: true, ..DeliveryFilter::default() },
                DeliveryFilter { since: Some(Timestamp(9)), until: Some(Timestamp(44)), ..DeliveryFilter::default() },
            ] {
                let slice = Slice { after: Some(IncrementId(30)), order, limit: 17 };
                say("deliveries", &store.deliveries(MERCHANT, id, filter.clone(), slice).await);
                say("count", &store.count_deliveries(MERCHANT, id, filter.clone()).await);
                let span = Span { first: IncrementId(3), last: IncrementId(50) };
                say("unavailable", &store.unavailable(MERCHANT, id, span, filter).await);
            }
        }
    }
    let numbers: Vec<_> = (1..=62).rev().chain([9, 9]).map(IncrementId).collect();
    let keys = hooks.clone().flat_map(|id| numbers.iter().map(move |number| (id, *number))).collect();
    say("statuses", &store.statuses(MERCHANT, keys).await);
    let ids: Vec<_> = (1..=62).rev().chain([9, 9]).map(EventId).collect();
    for bytes_max in [1, 100, 2_000, usize::MAX] {
        say("published", &store.published(MERCHANT, ids.clone(), bytes_max).await);
        for id in hooks.clone() {
            say("contents", &store.contents(MERCHANT, id, numbers.clone(), bytes_max).await);
            let filter = AttemptFilter::default();
            let mut keys = store.attempt_keys(MERCHANT, id, filter, None, 1_000).await.unwrap_or_default();
            keys.push(AttemptKey { increment_id: IncrementId(1), attempt: 9 });
            say("attempts", &store.logged_attempts(MERCHANT, id, keys, bytes_max).await);
        }
    }
    for id in hooks {
        let failed = AttemptFilter { is_success: Some(false), status_code: Some(208), ..AttemptFilter::default() };
        say("failed", &store.attempt_keys(MERCHANT, id, failed, None, 9).await);
        for number in [9, 10, 42, 61].map(IncrementId) {
            say("attempts", &store.attempts(MERCHANT, id, number, 0, 9).await);
        }
        say("forgotten", &store.forgotten(MERCHANT, id, IncrementId(5)).await);
        say("backlog", &store.backlog(MERCHANT, id, NOW).await);
        say("stats", &store.stats(MERCHANT, id).await);
    }
    say("ids", &store.webhook_ids(MERCHANT).await);
    say("all", &store.all_webhooks().await);
    say("glance", &store.glance().await);
    say("event", &store.event(MERCHANT, EventId(9), 3).await);
    say("last", &store.last_event().await);
    say("caught up", &store.event_ids(MERCHANT, Patterns::try_new("a:*").unwrap(), EventId(7)).await);
    say("keyed", &store.keyed_event(MERCHANT, IdempotencyKey::try_new("k20").unwrap()).await);
    say("count", &store.count_topics(MERCHANT, TopicFilter::default()).await);
    let topics = ["t:03", "t:99", "t:07", "t:04", "t:03"].map(|topic| Topic::try_new(topic).unwrap());
    say("rules", &store.topic_rules(MERCHANT, topics.to_vec()).await);
    say("rules", &store.topic_rules(MERCHANT, topics[..1].to_vec()).await);
    say("job", &store.job(MERCHANT, JobId(1)).await);
    say("user", &store.user(UserBy::Name("ann"), Account::Server).await);
    say("user", &store.user(UserBy::Key(KeyHash([0; 32])), Account::Server).await);
    say("session", &store.session(KeyHash([0; 32]), Account::Server).await);
    say("profiles", &store.profiles(MERCHANT).await);
    said
}

#[tokio::test]
async fn callers_are_told_the_same_in_both_dialects() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fill(&path);
    let one = store(&open::open_readers(&config(path.clone()), 1).unwrap());
    let manager = OtherWordsManager(SqliteConnectionManager::file(&path));
    let two = store(&r2d2::Pool::builder().max_size(1).build(manager).unwrap());
    let (one, two) = (answers(&one).await, answers(&two).await);
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one, two);
    }
    assert_eq!(one.len(), two.len());
    let failed: Vec<_> = one.iter().filter(|said| said.contains("Err(") && !said.contains("NoWebhook")).collect();
    let without_delivery = failed.iter().filter(|said| said.ends_with("Err(NoDelivery)")).count();
    assert_eq!(failed.len(), without_delivery, "{failed:?}");
    assert_eq!(without_delivery, 3, "number 61 of the merchant's webhooks");
}

#[test]
fn changes_are_told_the_same_in_both_dialects() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fill(&path);
    let (mut conn, vault) = (Connection::open(&path).unwrap(), Vault::default());
    conn.execute_batch("CREATE TEMP VIEW webhook_now AS SELECT * FROM webhook").unwrap();
    let key = |number: i64| (MerchantId(1 + number % 3), IdempotencyKey::try_new(&format!("k{number}")).unwrap());
    let wants = Wants {
        keys: (1..=40).map(key).collect(),
        needed: (1..=60).map(EventId).collect(),
        codes: vec![MERCHANT, MerchantId(9)],
        ..Wants::default()
    };
    fn loaded(db: &mut dyn Db, wants: &Wants) -> String {
        let mut loaded = Loaded::default();
        load::rare(db, wants, NOW, &mut loaded).unwrap();
        let mut keys: Vec<_> = loaded.keys.drain().map(|key| format!("{key:?}")).collect();
        keys.sort_unstable();
        loaded.needed.sort_unstable();
        format!("{keys:?} {loaded:?}")
    }
    let one = loaded(&mut conn, &wants);
    assert_eq!(one, loaded(&mut OtherWords(&conn), &wants));
    assert!(one.contains("k12") && !one.contains("k6\\\""), "k6 counts no more: {one}");
    let books =
        [load::stock(&mut conn, &vault, Ids::default()), load::stock(&mut OtherWords(&conn), &vault, Ids::default())];
    let [one, two] = books.map(|stock| {
        let stock = stock.unwrap();
        let fanouts: Vec<_> = stock.fanouts.iter().map(|(id, fanout)| (*id, fanout.text())).collect();
        format!("{:?}", (stock.webhooks, stock.codes, fanouts, stock.jobs, stock.to_forget, stock.logs, stock.numbers))
    });
    assert_eq!(one, two);

    let left = |conn: &Connection| -> Vec<(i64, i64)> {
        let sql =
            "SELECT count(*), sum(length(response_body)) FROM attempt WHERE webhook_id IN (1, 3) GROUP BY webhook_id";
        let mut statement = conn.prepare(sql).unwrap();
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(std::result::Result::unwrap)
            .collect()
    };
    let before = left(&conn)[0];
    let places = |step: usize| (1..=60).step_by(step).map(|number| (IncrementId(number), 1)).collect::<Vec<_>>();
    for what in [Other::AttemptsEmptied, Other::AttemptsForgotten] {
        let step = if left(&conn)[0] == before { 2 } else { 3 };
        write::other(&mut conn, &vault, &what(WebhookId(1), places(step)), NOW).unwrap();
        write::other(&mut OtherWords(&conn), &vault, &what(WebhookId(3), places(step)), NOW).unwrap();
        let left = left(&conn);
        assert_eq!(left[0], left[1]);
        assert_ne!(left[0], before);
    }
}
