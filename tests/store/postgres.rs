//! PostgreSQL, by the suite.

use std::sync::Arc;

use tallyhook::domain::id::MerchantId;
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::Clock;
use tallyhook::metrics::Metrics;
use tallyhook::store::Terms;
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::postgres::{Config, PostgresStore, Settings as Database};

use crate::common::postgres::Postgres;
use crate::suite::{Engine, Settings, suite};
use crate::tools::left_out;

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
        let config = Config {
            database: database(url),
            readers_max: 2,
            write_queue_max: 100,
            is_paused: false,
            terms: Terms { is_shared: true, ..settings.terms() },
        };
        Self::open(config, clock, mailbox, &Metrics::default()).unwrap()
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
