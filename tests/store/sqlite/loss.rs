//! A store that is taken away under its server, and one that has lost something
//! while there was none.

use super::*;

#[cfg(unix)]
#[tokio::test]
async fn a_store_that_is_taken_away_accepts_nothing_more() {
    type Take = fn(&Path, &Path);
    let taken: [(&str, Take); 6] = [
        ("the file is moved", |folder, aside| {
            std::fs::rename(folder.join("store.db"), aside.join("store.db")).unwrap()
        }),
        ("the file is deleted", |folder, _| std::fs::remove_file(folder.join("store.db")).unwrap()),
        ("another lies there", |folder, aside| {
            std::fs::rename(folder.join("store.db"), aside.join("store.db")).unwrap();
            std::fs::copy(aside.join("store.db"), folder.join("store.db")).unwrap();
        }),
        ("the log is deleted", |folder, _| std::fs::remove_file(folder.join("store.db-wal")).unwrap()),
        ("its index is deleted", |folder, _| std::fs::remove_file(folder.join("store.db-shm")).unwrap()),
        ("the folder is moved", |folder, aside| std::fs::rename(folder, aside.join("folder")).unwrap()),
    ];
    for (what, take) in taken {
        let bench = Bench::new();
        bench.webhook("*").await;
        bench.publish("order:created").await;
        let aside = tempfile::tempdir().unwrap();
        take(bench.place.path(), aside.path());
        for _ in 0..2 {
            let refused = bench.store.publish(by(bench.acme), vec![event("order:created", "{}", None)]).await;
            assert!(matches!(refused, Err(StoreError::TakenAway)), "{what}: {refused:?}");
        }
        let trouble = bench.store.trouble();
        assert!(matches!(trouble, Some(Trouble::TakenAway(_))), "{what}: {trouble:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_that_is_put_back_goes_on() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    let (path, aside) = (bench.place.path().join("store.db"), bench.place.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    let refused = bench.store.publish(by(bench.acme), vec![event("order:created", "{}", None)]).await;
    assert!(matches!(refused, Err(StoreError::TakenAway)), "{refused:?}");
    std::fs::rename(&aside, &path).unwrap();
    // What was refused is in the file: it could not be told of in time.
    assert_eq!(numbers(&bench.publish("order:created").await), [(id.0, 3)]);
    assert_eq!(bench.fresh(id, 0).await, [1, 2, 3], "without a hole");
    assert_eq!(bench.store.trouble(), None);
}

/// The log has what was committed last; when only its name is gone, the file
/// can still be given it.
#[cfg(unix)]
#[tokio::test]
async fn what_was_accepted_outlives_a_log_that_is_deleted() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    std::fs::remove_file(bench.place.path().join("store.db-wal")).unwrap();
    assert!(bench.store.publish(by(bench.acme), vec![event("order:created", "{}", None)]).await.is_err());
    let copy = copy(&bench, "store.db");
    let store = open(copy.path()).unwrap();
    assert!(store.webhook(bench.acme, id).await.unwrap().last_increment_id >= IncrementId(1));
}

/// What a process that is killed leaves behind, put elsewhere.
fn killed(bench: &Bench) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files(bench.place.path()).into_iter().filter(|name| !name.ends_with("-shm")) {
        std::fs::copy(bench.place.path().join(&name), folder.path().join(&name)).unwrap();
    }
    folder
}

#[tokio::test]
async fn a_store_that_has_lost_what_it_gave_out_takes_another_name() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 4] = [
        ("none", |log| log),
        ("cut in half", |log| log[..log.len() / 2].to_vec()),
        ("a bit flipped", |mut log| {
            let middle = log.len() / 2;
            log[middle] ^= 1;
            log
        }),
        ("gone", |_| Vec::new()),
    ];
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..9 {
        bench.publish("order:created").await;
    }
    for (what, damage) in damages {
        let folder = killed(&bench);
        let log = folder.path().join("store.db-wal");
        let bytes = std::fs::read(&log).unwrap();
        std::fs::write(&log, damage(bytes)).unwrap();
        let store = open(folder.path()).unwrap();
        let is_whole = what == "none";
        assert_eq!(store.store_id() == bench.store.store_id(), is_whole, "{what}");
        let last = store.webhook(bench.acme, id).await.map(|webhook| webhook.last_increment_id.0);
        assert_eq!(last.is_ok_and(|last| last == 9), is_whole, "{what}");
        // It is what it says it is from now on.
        let name = store.store_id().clone();
        drop(store);
        assert_eq!(*open(folder.path()).unwrap().store_id(), name, "{what}");
    }
}

#[tokio::test]
async fn a_copy_of_before_takes_another_name_where_it_is_put_back() {
    let bench = Bench::new();
    bench.webhook("*").await;
    bench.publish("order:created").await;
    let bench = bench.reopen();
    let name = bench.store.store_id().clone();
    bench.store.close();
    let backup = copy(&bench, "store.db");
    assert_eq!(*open(backup.path()).unwrap().store_id(), name, "where nothing tells of more, it is the store");
    let bench = bench.reopen();
    assert_eq!(*bench.store.store_id(), name);
    bench.publish("order:created").await;
    bench.store.close();
    let ahead = killed(&bench);
    std::fs::copy(backup.path().join("store.db"), bench.place.path().join("store.db")).unwrap();
    let bench = bench.reopen();
    assert_ne!(*bench.store.store_id(), name, "numbers that were given out come again");
    assert_eq!(*open(ahead.path()).unwrap().store_id(), name, "a whole folder is the store");
}
