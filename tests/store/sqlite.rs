//! What is SQLite's alone, beside the suite: the file, and what becomes of it.

mod bounds;
mod fanout;
mod loss;
mod opening;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tallyhook::domain::delivery::{DeliveryFilter, DeliveryState, EndReason, Verdict};
use tallyhook::domain::id::{IncrementId, MerchantId, UserId};
use tallyhook::domain::job::JobState;
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::Clock;
use tallyhook::domain::user::{Permissions, Profile};
use tallyhook::metrics::Metrics;
use tallyhook::store::admin::{Admin, AdminError, NewUser};
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::sqlite::SqliteStore;
use tallyhook::store::sqlite::open::OpenError;
use tallyhook::store::{
    Accounts, Base, Config, Deliveries, DeliveryAlteration, Durability, Events, FileConfig, Outbox, Resending,
    StoreError, Trouble, Upkeep, Webhooks,
};
use tempfile::TempDir;

use crate::suite::{Engine, QUOTA, START, Settings, by, event, large, numbers, since, spec, suite};

type Bench = crate::suite::Bench<SqliteStore>;

suite!(SqliteStore);

impl Engine for SqliteStore {
    /// The folder of the file.
    type Place = TempDir;

    fn make(names: [&str; 2]) -> (TempDir, [MerchantId; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let mut admin = Admin::open(&Config::File(config(folder.path(), &Settings::default()).into())).unwrap();
        let merchants = names.map(|name| {
            let (permissions, key, profile) = (Permissions::all(), KeyHash::of(name), Profile::default());
            let user = NewUser { name, merchant: name, permissions, key, is_demo: false, profile };
            admin.create_user(&user, START).unwrap().merchant_id
        });
        (folder, merchants)
    }

    fn open(folder: &TempDir, settings: &Settings, clock: Clock, mailbox: Arc<Mailbox>) -> Self {
        Self::open(config(folder.path(), settings), clock, mailbox, &Metrics::default()).unwrap()
    }

    fn give_back(_: &TempDir) {}

    fn unfinished(folder: &TempDir) -> i64 {
        count(&file(folder), "SELECT (SELECT count(*) FROM fanout) + (SELECT count(*) FROM notice WHERE count > 0)")
    }
}

impl crate::suite::Place for TempDir {
    fn config(&self) -> Config {
        Config::File(config(self.path(), &Settings::default()).into())
    }
}

impl Bench {
    /// The store's file, beside the store.
    fn file(&self) -> rusqlite::Connection {
        file(&self.place)
    }
}

fn config(folder: &Path, settings: &Settings) -> FileConfig {
    FileConfig {
        path: folder.join("store.db"),
        durability: Durability::Full,
        busy_timeout: Duration::from_secs(5),
        readers_max: 2,
        write_queue_max: 100,
        slow_commit: Duration::ZERO,
        is_paused: false,
        vault: Arc::default(),
        terms: settings.terms(),
    }
}

fn file(folder: &TempDir) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.path().join("store.db")).unwrap()
}

fn open(folder: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(config(folder, &Settings::default()), Clock::system(), Arc::default(), &Metrics::default())
}

fn count(file: &rusqlite::Connection, sql: &str) -> i64 {
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The names of what lies in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder with a copy of one file of a store.
fn copy(bench: &Bench, name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(bench.place.path().join(name), folder.path().join(name)).unwrap();
    folder
}

/// Some failures, such as a full disk, undo the whole transaction and not only
/// the change that met them.
#[tokio::test]
async fn a_transaction_that_is_undone_leaves_no_hole() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let other = bench.file();
    let trigger = "CREATE TRIGGER undo BEFORE INSERT ON event WHEN NEW.topic = 'undo:all'
        BEGIN SELECT RAISE(ROLLBACK, 'undone'); END";
    other.execute_batch(trigger).unwrap();
    for round in 0..3 {
        // While the store is held, what comes gathers for one transaction.
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let topics = ["order:first", "order:a", "order:b", "undo:all", "order:c"];
        let publishes: Vec<_> = topics
            .iter()
            .map(|topic| {
                let (store, acme, topic) = (Arc::clone(&bench.store), bench.acme, (*topic).to_owned());
                tokio::spawn(async move { store.publish(by(acme), vec![event(&topic, "{}", None)]).await })
            })
            .collect();
        tokio::task::yield_now().await;
        other.execute_batch("COMMIT").unwrap();
        let mut accepted = Vec::new();
        let mut refused = 0;
        for publish in publishes {
            match publish.await.unwrap() {
                Ok(receipts) => accepted.extend(numbers(&receipts[0]).iter().map(|(_, number)| *number)),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= 1, "round {round}");
        let last = bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id.0;
        assert_eq!(bench.fresh(id, 0).await, (1..=last).collect::<Vec<_>>(), "round {round}: no hole, none invented");
        assert!(accepted.iter().all(|number| *number <= last));
    }
    let next = numbers(&bench.publish("order:created").await)[0].1;
    assert_eq!(bench.fresh(id, 0).await, (1..=next).collect::<Vec<_>>());
}

/// What is left of it in the file.
#[tokio::test]
async fn a_deleted_webhook_leaves_its_tombstones_and_no_secret() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..3 {
        bench.publish("order:created").await;
    }
    bench.store.delete_webhook(by(bench.acme), id).await.unwrap();
    bench.record(id, 2, 1, Verdict::Delivered).await;
    bench.record(id, 3, 1, Verdict::Retry(START)).await;
    let rows = bench.file();
    let mut statement = rows.prepare("SELECT state, reason FROM delivery WHERE webhook_id = ?1").unwrap();
    let found: Vec<(i64, Option<String>)> =
        statement.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let cancelled = (3, Some(EndReason::WebhookDeleted.name().to_owned()));
    assert_eq!(found, [cancelled.clone(), (1, None), cancelled]);
    let sql = "SELECT secret_key || topics || coalesce(url, '') FROM webhook WHERE webhook_id = ?1";
    let left: String = rows.query_row(sql, [id.0], |row| row.get(0)).unwrap();
    assert_eq!(left, "", "nothing is kept of what nobody asks for");
}

#[tokio::test]
async fn profiles_are_those_of_the_merchants_users() {
    let bench = Bench::new();
    let mut admin = Admin::open(&Config::File(config(bench.place.path(), &Settings::default()).into())).unwrap();
    let name = |name: &str| Profile { application_name: Some(name.to_owned()), ..Profile::default() };
    let maker = Profile { developer_name: Some("Ann".to_owned()), ..Profile::default() };
    assert_eq!(bench.store.profiles(bench.acme).await.unwrap(), []);
    admin.change_profile("acme", name("Shop"), START).unwrap();
    admin.change_profile("other", name("Other"), START).unwrap();
    let both = admin.change_profile("acme", maker.clone(), START).unwrap();
    assert_eq!(both, Profile { application_name: Some("Shop".to_owned()), ..maker.clone() });
    assert_eq!(bench.store.profiles(bench.acme).await.unwrap(), [(UserId(1), both)]);
    assert_eq!(bench.store.profiles(bench.other).await.unwrap(), [(UserId(2), name("Other"))]);

    let profile = name("Second");
    let (permissions, key) = (Permissions::all(), KeyHash::of("second"));
    let second =
        NewUser { name: "second", merchant: "acme", permissions, key, is_demo: false, profile: profile.clone() };
    admin.create_user(&second, START).unwrap();
    admin.change_profile("acme", name(""), START).unwrap();
    let found = bench.store.profiles(bench.acme).await.unwrap();
    assert_eq!(found, [(UserId(1), maker.clone()), (UserId(3), profile)]);
    assert!(matches!(admin.change_profile("nobody", maker, START), Err(AdminError::NoUser(_))));
    assert!(matches!(admin.change_profile("acme", name(&"x".repeat(201)), START), Err(AdminError::Profile(_))));
    assert_eq!(bench.store.profiles(bench.acme).await.unwrap(), found);
}
