//! Shares that were interrupted, put into the file as a process leaves them.

use super::*;
use crate::suite::fanout::{EVENTS, WEBHOOKS, all_fresh, events, expected, given, webhooks, wide};

#[tokio::test]
async fn what_was_interrupted_is_gone_on_with() {
    let bench = wide::<SqliteStore>();
    let ids = webhooks(&bench).await;
    // The disk fails in the second share.
    bench
        .file()
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON delivery WHEN new.increment_id = 30
                BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
        )
        .unwrap();
    bench.store.publish(by(bench.acme), events()).await.unwrap_err();
    assert_eq!(all_fresh(&bench, ids[0]).await, (1..=25).collect::<Vec<_>>(), "the first share stands");
    bench.file().execute_batch("DROP TRIGGER broken").unwrap();

    let bench = bench.reopen_with(|settings| settings.publish_deliveries_max = WEBHOOKS * EVENTS);
    for id in &ids {
        bench.store.waits().numbered_beyond(*id, IncrementId(EVENTS as i64 - 1)).await;
        assert_eq!(all_fresh(&bench, *id).await, (1..=EVENTS as i64).collect::<Vec<_>>());
    }
    let receipts = bench.store.publish(by(bench.acme), events()).await.unwrap();
    assert_eq!(given(&receipts), expected(&ids), "the keys stand for all of it");
    assert_eq!(bench.publish("order:created").await.deliveries[0].1, IncrementId(EVENTS as i64 + 1));
}

#[tokio::test]
async fn a_key_is_not_answered_for_before_all_is_numbered() {
    let bench = wide::<SqliteStore>();
    let ids = webhooks(&bench).await;
    // As a process leaves it that is killed between two shares.
    bench.store.publish(by(bench.acme), vec![event("order:created", "{}", Some("key"))]).await.unwrap();
    let file = bench.file();
    file.execute_batch(
        "CREATE TRIGGER broken BEFORE DELETE ON fanout BEGIN SELECT RAISE(ABORT, 'on purpose'); END;
        INSERT INTO fanout (merchant_id, events) VALUES (1, '[[1,\"key\",[1]]]')",
    )
    .unwrap();
    let bench = bench.reopen();
    let again = || bench.store.publish(by(bench.acme), vec![event("order:created", "{}", Some("key"))]);
    assert!(matches!(again().await, Err(StoreError::Busy { .. })));
    assert!(bench.store.publish(by(bench.other), events()).await.is_ok(), "it stops nobody else");
    file.execute_batch("DROP TRIGGER broken").unwrap();
    bench.store.sweep();
    bench.store.waits().numbered_beyond(ids[0], IncrementId(1)).await;
    let receipt = again().await.unwrap().remove(0);
    assert_eq!(numbers(&receipt).last(), Some(&(ids[0].0, 2)), "what came later is in it");
}

#[tokio::test]
async fn webhooks_that_are_gone_by_then_are_passed_over() {
    let bench = wide::<SqliteStore>();
    let ids = webhooks(&bench).await;
    let publish = bench.store.publish(by(bench.acme), events());
    let delete = bench.store.delete_webhook(by(bench.acme), ids[9]);
    let (receipts, deleted) = tokio::join!(publish, delete);
    deleted.unwrap();
    // It is deleted behind the publish, which is the same merchant's.
    assert_eq!(given(&receipts.unwrap()), expected(&ids));
    let file = bench.file();
    file.execute_batch("INSERT INTO fanout (merchant_id, events) VALUES (1, '[[1,null,[10,9,99]]]')").unwrap();
    let bench = bench.reopen();
    bench.store.waits().numbered_beyond(ids[8], IncrementId(EVENTS as i64)).await;
    assert_eq!(SqliteStore::unfinished(&bench.place), 0);
}
