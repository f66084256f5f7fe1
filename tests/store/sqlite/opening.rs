//! Opening a store: one server at a time, and nothing that is not ours.

use tallyhook::store::{Nodes, admin};

use super::*;

#[test]
fn one_server_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let refused = open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("served by another process"), "{refused}");
    drop(first);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_file_is_shared_with_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(store.nodes(MerchantId(1).into()).await.unwrap(), None);
    assert_eq!(admin::nodes(&Config::File(config(dir.path(), &Settings::default()).into())).unwrap(), None);
}

#[test]
fn what_is_not_ours_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let refuse = |what: &str| {
        let before = std::fs::read(&path).unwrap();
        let refused = open(dir.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains(what) && refused.contains("store.db"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "the file is untouched");
        assert!(matches!(
            Admin::open(&Config::File(config(dir.path(), &Settings::default()).into())),
            Err(tallyhook::store::OpenError::File(OpenError::Foreign { .. } | OpenError::Newer { .. }))
        ));
    };
    std::fs::write(&path, "Dear diary").unwrap();
    refuse("no database at all");
    std::fs::write(&path, [0; 5_000]).unwrap();
    refuse("no database at all");

    std::fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE recipe (name TEXT); INSERT INTO recipe VALUES ('soup')").unwrap();
    drop(foreign);
    refuse("a database of another program");

    std::fs::remove_file(&path).unwrap();
    drop(open(dir.path()).unwrap());
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.execute_batch("PRAGMA user_version = 999; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(newer);
    refuse("newer tallyhook (schema 999");
}

#[cfg(unix)]
#[test]
fn a_link_leads_to_the_same_lock_and_a_new_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _served = open(dir.path()).unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        if !file.path().to_string_lossy().ends_with("-lock") {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
        }
    }
    let link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(dir.path().join("store.db"), link.path().join("store.db")).unwrap();
    assert!(matches!(open(link.path()), Err(OpenError::InUse { .. })));
}

/// SQLite keeps a log beside each name, so two processes that come by two names
/// write past each other.
#[cfg(target_os = "linux")]
#[test]
fn a_hard_link_leads_to_the_same_lock() {
    let dir = tempfile::tempdir().unwrap();
    let served = open(dir.path()).unwrap();
    let link = tempfile::tempdir_in(dir.path()).unwrap();
    std::fs::hard_link(dir.path().join("store.db"), link.path().join("store.db")).unwrap();
    assert!(matches!(open(link.path()), Err(OpenError::InUse { .. })));
    let beside =
        Admin::open(&Config::File(config(link.path(), &Settings::default()).into())).map(drop).unwrap_err().to_string();
    assert!(beside.contains("another name"), "{beside}");
    drop(Admin::open(&Config::File(config(dir.path(), &Settings::default()).into())).unwrap());
    drop(served);
    drop(open(link.path()).unwrap());
}

/// After a failed commit the file is opened again; one that is gone by then is
/// not made anew.
#[tokio::test]
async fn a_store_that_is_gone_is_not_replaced_by_an_empty_one() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    let (path, aside) = (bench.place.path().join("store.db"), bench.place.path().join("aside"));
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TRIGGER undo BEFORE INSERT ON event BEGIN SELECT RAISE(ROLLBACK, 'undone'); END")
        .unwrap();
    std::fs::rename(&path, &aside).unwrap();
    for _ in 0..2 {
        let refused = bench.store.publish(by(bench.acme), vec![event("order:created", "{}", None)]).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    }
    assert!(!path.exists());
    other.execute_batch("DROP TRIGGER undo").unwrap();
    drop(other);
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(numbers(&bench.publish("order:created").await), [(id.0, 2)], "it is opened again when it is needed");
}

#[test]
fn a_missing_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = open(&dir.path().join("nowhere")).map(drop).unwrap_err().to_string();
    assert!(refused.contains("nowhere"), "{refused}");
}

#[tokio::test]
async fn a_clean_stop_leaves_one_whole_file() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    assert_eq!(bench.fresh(id, 0).await, [1]);
    bench.store.close();
    let left = files(bench.place.path());
    assert!(!left.iter().any(|name| name.ends_with("-wal") || name.ends_with("-shm")), "{left:?}");
    let refused = bench.store.webhook(bench.acme, id).await.map(drop);
    assert!(matches!(refused, Err(StoreError::ShuttingDown)), "whoever still has it is told: {refused:?}");

    let copy = copy(&bench, "store.db");
    let store = open(copy.path()).unwrap();
    assert_eq!(store.webhook(bench.acme, id).await.unwrap().last_increment_id, IncrementId(1));
    let receipt = store.publish(by(bench.acme), vec![event("order:created", "{}", None)]).await.unwrap();
    assert_eq!(numbers(&receipt[0]), [(id.0, 2)]);
}
