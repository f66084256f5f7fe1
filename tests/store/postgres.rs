//! PostgreSQL, by the suite.

use std::sync::Arc;

use tallyhook::domain::delivery::DeliveryFilter;
use tallyhook::domain::id::MerchantId;
use tallyhook::domain::page::{Order, Slice};
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::Clock;
use tallyhook::domain::webhook::WebhookSpec;
use tallyhook::metrics::Metrics;
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::postgres::{Config, PostgresStore, Settings as Database};
use tallyhook::store::{Deliveries, Events, Terms, Webhooks};

use crate::common::postgres::Postgres;
use crate::suite::{Engine, QUOTA, START, Settings, by, event, spec, suite};
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

    /// As the database does some time by itself, for others to use it again.
    fn give_back(url: &String) {
        Postgres::shared().expect("PostgreSQL is installed").run_in(url, "VACUUM FULL event");
    }

    fn unfinished(url: &String) -> i64 {
        let sql = "SELECT (SELECT count(*) FROM fanout) + (SELECT count(*) FROM notice WHERE count > 0)";
        Postgres::shared().expect("PostgreSQL is installed").run_in(url, sql).parse().unwrap()
    }
}

fn database(url: &str) -> Database {
    Database::parse(url).unwrap()
}

fn config(url: &str, settings: &Settings) -> Config {
    Config {
        database: database(url),
        readers_max: 2,
        write_queue_max: 100,
        is_paused: false,
        terms: Terms { is_shared: true, ..settings.terms() },
    }
}

#[tokio::test]
async fn one_server_serves_a_database() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let open = || {
        let (clock, _hand) = Clock::manual(START);
        PostgresStore::open(config(&bench.place, &Settings::default()), clock, Arc::default(), &Metrics::default())
    };
    let refused = open().map(drop).unwrap_err().to_string();
    assert!(refused.contains("is being served by another process"), "{refused}");
    bench.webhook("*").await;
    let bench = bench.reopen();
    assert_eq!(bench.store.webhook_ids(bench.acme).await.unwrap().len(), 1, "and the next one has it");
}

/// The connection that writes is cut; numbers go on where they were.
#[tokio::test]
async fn a_server_connects_again() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..3 {
        bench.publish("order:created").await;
        let ended = Postgres::shared().expect("it is there").run_in(
            &bench.place,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'
                AND objid = current_schema()::regnamespace::oid",
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
