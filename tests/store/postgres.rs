//! PostgreSQL, by the suite.

mod encrypted;
mod held;
mod news;
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tallyhook::domain::delivery::{DeliveryFilter, DeliveryState, Verdict};
use tallyhook::domain::id::MerchantId;
use tallyhook::domain::page::{Order, Slice};
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::Clock;
use tallyhook::domain::webhook::WebhookSpec;
use tallyhook::metrics::Metrics;
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::postgres::{Config, PostgresStore, Settings as Database};
use tallyhook::store::tending::Tending;
use tallyhook::store::{Deliveries, Events, NodeSettings, Outbox, Terms, Upkeep, Webhooks};

use crate::common::postgres::Postgres;
use crate::suite::{Engine, QUOTA, START, Settings, by, event, outcome, spec, suite};
use crate::tools::left_out;

type Bench = crate::suite::Bench<PostgresStore>;

suite!(PostgresStore);

impl Engine for PostgresStore {
    /// The URL of a schema.
    type Place = String;

    fn is_there() -> bool {
        let is_there = Postgres::shared().is_some();
        if !is_there {
            left_out("the store in PostgreSQL: it is not installed; tests/run installs it");
        }
        is_there
    }

    fn make(names: [&str; 2]) -> (String, [MerchantId; 2]) {
        let server = Postgres::shared().expect("PostgreSQL is installed");
        let url = server.schema();
        PostgresStore::prepare(&database(&url)).unwrap();
        let merchants = names.map(|name| {
            let key: String = KeyHash::of(name).0.iter().map(|byte| format!("{byte:02x}")).collect();
            let id = server.run_in(
                &url,
                &format!(
                    "WITH m AS (INSERT INTO merchant (code, created_at) VALUES ('{name}', 0) RETURNING merchant_id)
                    INSERT INTO \"user\" (merchant_id, name, key_hash, permissions, created_at)
                    SELECT merchant_id, '{name}', '\\x{key}', 15, 0 FROM m RETURNING merchant_id"
                ),
            );
            MerchantId(id.parse().unwrap())
        });
        (url, merchants)
    }

    fn open(url: &String, settings: &Settings, clock: Clock, mailbox: Arc<Mailbox>) -> Self {
        Self::open(config(url, settings), clock, mailbox, &Metrics::default()).unwrap()
    }

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Arc::new(Tending::by_leases())))
    }

    /// As the database does some time by itself, for others to use it again.
    fn give_back(url: &String) {
        Postgres::shared().expect("PostgreSQL is installed").run_in(url, "VACUUM FULL event");
    }

    fn unfinished(url: &String) -> i64 {
        let sql = "SELECT (SELECT count(*) FROM fanout) + (SELECT count(*) FROM notice WHERE count > 0)";
        Postgres::shared().expect("PostgreSQL is installed").run_in(url, sql).parse().unwrap()
    }
}

impl crate::suite::Place for String {
    fn config(&self) -> tallyhook::store::Config {
        tallyhook::store::Config::Database(Box::new(config(self, &Settings::default())))
    }
}

/// False, and says so, if what a test looks at is not to be seen behind a pooler.
fn has_own_sessions() -> bool {
    let is_pooled = std::env::var_os("TALLYHOOK_POOLED").is_some();
    if is_pooled {
        left_out("sessions of the store in PostgreSQL: TALLYHOOK_POOLED is set");
    }
    PostgresStore::is_there() && !is_pooled
}

fn database(url: &str) -> Database {
    Database::parse(url).unwrap()
}

/// For an operator.
pub fn admin_config(url: &str) -> tallyhook::store::Config {
    tallyhook::store::Config::Database(Box::new(config(url, &Settings::default())))
}

fn config(url: &str, settings: &Settings) -> Config {
    Config {
        database: database(url),
        node: NodeSettings {
            name: "test".to_owned(),
            takes_calls: true,
            sends: true,
            // Many servers start at once, and are slow then.
            lease_ttl: Duration::from_secs(60),
            poll: Duration::from_secs(1),
            notifies: true,
            notify_database: None,
        },
        readers_max: 2,
        write_queue_max: 100,
        slow_commit: Duration::ZERO,
        patience: Duration::from_secs(60),
        is_paused: false,
        vault: Arc::default(),
        terms: Terms { is_shared: true, ..settings.terms() },
    }
}

/// A store in the same place as another's, of a node of its own.
struct Node {
    store: PostgresStore,
    mailbox: Arc<Mailbox>,
}

impl Node {
    fn beside(bench: &Bench) -> Self {
        Self::with(bench, |_| {})
    }

    fn with(bench: &Bench, change: impl FnOnce(&mut Config)) -> Self {
        let (clock, _hand) = Clock::manual(START);
        let mailbox = PostgresStore::mailbox();
        let mut config = config(&bench.place, &Settings::default());
        change(&mut config);
        let store = PostgresStore::open(config, clock, Arc::clone(&mailbox), &Metrics::default()).unwrap();
        Self { store, mailbox }
    }
}

/// How many leases a node has.
fn leases(mailbox: &Mailbox) -> usize {
    mailbox.tending().leases().unwrap().len()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nodes_share_the_leases_and_hand_them_over() {
    if !has_own_sessions() {
        return;
    }
    let bench = Bench::new();
    bench.webhook("*").await;
    assert_eq!(leases(&bench.mailbox), 256, "the only one has all");
    let other = Node::beside(&bench);
    until("the leases are shared", || {
        leases(&bench.mailbox) + leases(&other.mailbox) == 256 && leases(&other.mailbox) > 0
    })
    .await;
    let own: Vec<_> = bench.mailbox.tending().leases().unwrap().into_iter().map(|(bucket, _)| bucket).collect();
    let theirs = other.mailbox.tending().leases().unwrap();
    assert!(theirs.iter().all(|(bucket, _)| !own.contains(bucket)), "each has one node");
    assert!((80..=176).contains(&own.len()), "{} of 256", own.len());

    let begun = Instant::now();
    other.store.close();
    until("the other takes all back", || leases(&bench.mailbox) == 256).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?} is a long pause", begun.elapsed());
    let api_only = Node::with(&bench, |config| config.node.sends = false);
    let third = Node::beside(&bench);
    let are_shared = || leases(&bench.mailbox) + leases(&third.mailbox) == 256 && leases(&third.mailbox) > 0;
    until("two of the three share the leases", are_shared).await;
    assert_eq!(leases(&api_only.mailbox), 0, "one that does not send gets none");
}

/// Both publish to the same webhook at once.
#[tokio::test]
async fn nodes_number_without_holes_and_in_the_order_of_events() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let other = Node::beside(&bench);
    let many = |store| publish_many(store, bench.acme, 100);
    let (ours, theirs) = tokio::join!(many(&*bench.store), many(&other.store));
    let mut all: Vec<_> = ours.into_iter().chain(theirs).collect();
    all.sort();
    let numbers: Vec<_> = all.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>(), "in the order of events");
    let list = other.store.deliveries(bench.acme, id, DeliveryFilter::default(), everything()).await.unwrap();
    assert_eq!(list.len(), 200);
}

/// What a commit has numbered is not numbered once more because it takes leases over,
/// too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_taken_over_while_events_are_numbered() {
    const PUBLISHERS: usize = 16;
    const ROUNDS: usize = 8;
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    bench.webhook("*").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let publish = || {
        let (store, merchant, is_over) = (Arc::clone(&bench.store), bench.acme, Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut all = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                all.extend(publish_many(&store, merchant, 10).await);
            }
            all
        })
    };
    let publishers: Vec<_> = (0..PUBLISHERS).map(|_| publish()).collect();
    for _ in 0..ROUNDS {
        let other = Node::beside(&bench);
        until("it has some leases", || leases(&other.mailbox) > 0 && leases(&bench.mailbox) < 256).await;
        tokio::task::block_in_place(|| other.store.close());
        until("it has given all back", || leases(&bench.mailbox) == 256).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut numbers = Vec::new();
    for publisher in publishers {
        numbers.extend(publisher.await.unwrap().into_iter().map(|(_, number)| number));
    }
    numbers.sort_unstable();
    assert!((1..).zip(&numbers).all(|(number, own)| number == *own), "{} numbers", numbers.len());
}

/// Events, and the numbers that they got of the only webhook.
async fn publish_many(store: &PostgresStore, merchant: MerchantId, count: usize) -> Vec<(i64, i64)> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let receipt = store.publish(by(merchant), vec![event("order:created", "{}", None)]).await.unwrap().remove(0);
        all.push((receipt.event_id.0, receipt.deliveries[0].1.0));
    }
    all
}

#[tokio::test]
async fn what_one_node_changes_of_webhooks_others_know_at_once() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let other = Node::beside(&bench);
    for round in 0..20 {
        let id = bench.webhook("order:*").await;
        let receipt =
            other.store.publish(by(bench.acme), vec![event("order:paid", "{}", None)]).await.unwrap().remove(0);
        assert!(receipt.deliveries.iter().any(|(to, _)| *to == id), "round {round}: the new one gets it");
        bench.store.delete_webhook(by(bench.acme), id).await.unwrap();
        let receipt =
            other.store.publish(by(bench.acme), vec![event("order:paid", "{}", None)]).await.unwrap().remove(0);
        assert_eq!(receipt.deliveries, [], "round {round}: the deleted one gets none");
    }
}

/// What others have numbered meanwhile has not ended.
#[tokio::test]
async fn a_node_settles_no_further_than_it_has_looked() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let other = Node::with(&bench, |config| config.node.sends = false);
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    publish_many(&other.store, bench.acme, 2).await;
    bench.record(id, 1, 1, Verdict::Delivered).await;
    bench.settles_at(id, 1).await;
    bench.record(id, 2, 1, Verdict::Delivered).await;
    bench.record(id, 3, 1, Verdict::Delivered).await;
    bench.settles_at(id, 3).await;
}

/// A node that has lost a lease without knowing.
#[tokio::test]
async fn what_was_sent_by_a_lease_that_others_have_does_not_count() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    bench.publish("order:created").await;
    bench.record(id, 1, 1, Verdict::Delivered).await;
    let server = Postgres::shared().expect("it is there");
    server.run_in(&bench.place, "UPDATE lease SET node_id = 0, epoch = epoch + 1 WHERE bucket = 1");
    bench.record(id, 2, 1, Verdict::Delivered).await;
    assert_eq!(bench.states(id).await, [DeliveryState::Delivered, DeliveryState::Pending]);
    assert!(!bench.mailbox.tending().has(bench.acme), "it notices");
    assert_eq!(leases(&bench.mailbox), 255, "and has the others");
}

/// Whoever takes a lease over waits for what is being recorded by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_not_taken_over_in_the_middle_of_a_record() {
    if !has_own_sessions() {
        return;
    }
    let bench = Bench::new();
    let server = Postgres::shared().expect("it is there");
    let waits = |whose: &str| {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {whose}");
        server.run_in(&bench.place, &sql) != "0"
    };
    let writer = "application_name = 'tallyhook writer in ' || current_schema()";
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    bench.publish("order:created").await;

    // What is being recorded stands still, for somebody else has the row.
    let row = server.begin(&bench.place, "SELECT FROM delivery WHERE increment_id = 1 FOR UPDATE");
    let store = Arc::clone(&bench.store);
    let recording = tokio::spawn(async move { store.record([outcome(id, 1, 1, Verdict::Delivered)].into()).await });
    until("it is recording", || waits(writer)).await;
    let (place, sql) = (bench.place.clone(), "UPDATE lease SET epoch = epoch + 1 WHERE bucket = 1");
    let taking = std::thread::spawn(move || Postgres::shared().expect("it is there").run_in(&place, sql));
    until("whoever takes it over waits", || waits(&format!("query = '{sql}'"))).await;
    row.commit();
    recording.await.unwrap().unwrap();
    taking.join().unwrap();
    assert_eq!(bench.states(id).await, [DeliveryState::Delivered, DeliveryState::Pending]);
    let epoch = server.run_in(&bench.place, "SELECT epoch FROM lease WHERE bucket = 1");

    // And the other way round: what is recorded meanwhile waits, and sees that it is too late.
    server.run_in(&bench.place, "UPDATE lease SET epoch = epoch - 1 WHERE bucket = 1");
    let taking = server.begin(&bench.place, &format!("UPDATE lease SET epoch = {epoch} WHERE bucket = 1"));
    let store = Arc::clone(&bench.store);
    let recording = tokio::spawn(async move { store.record([outcome(id, 2, 1, Verdict::Delivered)].into()).await });
    until("what is recorded waits", || waits(writer)).await;
    taking.commit();
    recording.await.unwrap().unwrap();
    assert_eq!(bench.states(id).await, [DeliveryState::Delivered, DeliveryState::Pending]);
}

/// A node that stops goes on with what it has begun to the end, and is there until then.
#[tokio::test]
async fn a_node_that_has_handed_over_is_there_until_it_is_closed() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let other = Node::beside(&bench);
    until("the leases are shared", || leases(&other.mailbox) > 0).await;
    let nodes = || Postgres::shared().expect("it is there").run_in(&bench.place, "SELECT count(*) FROM node");
    let other = tokio::task::spawn_blocking(move || {
        other.store.hand_over();
        other
    });
    let other = other.await.unwrap();
    until("it has handed over", || leases(&bench.mailbox) == 256).await;
    assert_eq!((leases(&other.mailbox), &*nodes()), (0, "2"));
    bench.webhook("*").await;
    assert_eq!(publish_many(&other.store, bench.acme, 1).await.len(), 1, "it still takes what comes");
    let other = tokio::task::spawn_blocking(move || other.store.close());
    other.await.unwrap();
    assert_eq!(nodes(), "1");
}

/// What the keeper did not hear that it has got, it finds.
#[tokio::test]
async fn a_lease_that_a_node_has_without_knowing_is_not_lost() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let server = Postgres::shared().expect("it is there");
    let before = bench.mailbox.tending().leases().unwrap()[7];
    server.run_in(&bench.place, "UPDATE lease SET epoch = epoch + 1 WHERE bucket = 7");
    // It looks when another comes.
    let other = Node::with(&bench, |config| config.node.sends = false);
    until("it is taken again", || bench.mailbox.tending().leases().unwrap().get(7).is_some_and(|now| *now > before))
        .await;
    drop(other);
}

/// The connection that writes is cut; numbers go on where they were.
#[tokio::test]
async fn a_server_connects_again() {
    if !has_own_sessions() {
        return;
    }
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..3 {
        bench.publish("order:created").await;
        let ended = Postgres::shared().expect("it is there").run_in(
            &bench.place,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'tallyhook writer in ' || current_schema()",
        );
        assert_eq!(ended, "1");
        while bench.store.publish(by(bench.acme), vec![event("order:paid", "{}", None)]).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    let list = bench.store.deliveries(bench.acme, id, DeliveryFilter::default(), everything()).await.unwrap();
    let numbers: Vec<_> = list.iter().map(|delivery| delivery.increment_id.0).collect();
    let topics: Vec<_> = list.iter().map(|delivery| delivery.topic.as_ref().unwrap().as_str()).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    assert_eq!(topics.iter().filter(|topic| **topic == "order:created").count(), 3);
}

#[tokio::test]
async fn a_text_keeps_all_but_the_character_of_code_zero() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let spec = WebhookSpec { name: "a\0b é".to_owned(), ..spec("*") };
    let id = bench.store.create_webhook(by(bench.acme), spec, QUOTA).await.unwrap().webhook_id;
    assert_eq!(bench.store.webhook(bench.acme, id).await.unwrap().spec.name, "a\u{fffd}b é");
}

fn everything<K>() -> Slice<K> {
    Slice { after: None, order: Order::Ascending, limit: 1_000 }
}

/// What an older program has made becomes what this one makes, once somebody opens it.
#[test]
fn a_migrated_database_is_like_a_fresh_one() {
    let Some(server) = Postgres::shared() else { return };
    let [fresh, older] = [server.schema(), server.schema()];
    PostgresStore::prepare(&database(&fresh)).unwrap();
    // The tables as they first were.
    server.run_in(&older, include_str!("postgres/schema_1.sql"));
    server.run_in(&older, "INSERT INTO meta (key, value) VALUES ('schema_version', '1'), ('store_id', 'abcdefgh')");
    let version = |url: &str| server.run_in(url, "SELECT value FROM meta WHERE key = 'schema_version'");
    let objects = |url: &str| {
        let sql = "SELECT string_agg(line, chr(10) ORDER BY line) FROM (
            SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default, is_identity) AS line
                FROM information_schema.columns WHERE table_schema = current_schema()
            UNION ALL SELECT replace(indexdef, current_schema() || '.', '') FROM pg_indexes
                WHERE schemaname = current_schema()) AS lines";
        server.run_in(url, sql)
    };
    let newest = version(&fresh);
    assert_ne!(objects(&older), objects(&fresh));
    PostgresStore::prepare(&database(&older)).unwrap();
    assert_eq!((version(&older), objects(&older)), (newest, objects(&fresh)));
}
