//! Events that go far are numbered in shares, and whatever happens in between
//! they are numbered everywhere, once.

use futures_util::FutureExt;

use super::*;

/// Ten webhooks, and events that make three shares of deliveries.
const WEBHOOKS: usize = 10;
const EVENTS: usize = 60;

fn wide() -> Bench {
    Bench::with(|config| config.publish_deliveries_max = WEBHOOKS * EVENTS)
}

async fn webhooks(bench: &Bench) -> Vec<WebhookId> {
    let mut ids = Vec::new();
    for _ in 0..WEBHOOKS {
        ids.push(bench.webhook("order:*").await);
    }
    ids
}

fn events() -> Vec<NewEvent> {
    (0..EVENTS).map(|n| event("order:created", "{}", Some(&format!("key {n}")))).collect()
}

/// What the events come to, if they are the first.
fn expected(ids: &[WebhookId]) -> Vec<Vec<(i64, i64)>> {
    (1..=EVENTS as i64).map(|number| ids.iter().map(|id| (id.0, number)).collect()).collect()
}

fn given(receipts: &[Receipt]) -> Vec<Vec<(i64, i64)>> {
    receipts.iter().map(numbers).collect()
}

/// All numbers of a webhook, from the store.
async fn all_fresh(bench: &Bench, id: WebhookId) -> Vec<i64> {
    bench.fresh(id, 0).await
}

#[tokio::test]
async fn all_are_numbered_and_handed_over_once() {
    let bench = wide();
    let ids = webhooks(&bench).await;
    bench.mailbox.take();
    let before = *bench.sqlite.commits().borrow();
    let receipts = bench.store.publish(bench.acme, events()).await.unwrap();
    assert_eq!(given(&receipts), expected(&ids));
    assert_eq!(*bench.sqlite.commits().borrow() - before, 1, "shares go on as far as a commit has room");
    let mut parcels: Vec<_> =
        bench.mailbox.take().parcels.iter().map(|(id, parcel)| (id.0, parcel.increment_id.0)).collect();
    parcels.sort_unstable();
    let mut all: Vec<_> = expected(&ids).concat();
    all.sort_unstable();
    assert_eq!(parcels, all);
    assert_eq!(bench.store.publish(bench.acme, events()).await.unwrap(), receipts, "its keys stand for it");
    let left: i64 = bench.file().query_row("SELECT count(*) FROM fanout", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn others_have_their_turn_in_between() {
    let bench = wide();
    webhooks(&bench).await;
    let mut wide = bench.store.publish(bench.acme, events());
    let mut own = bench.store.publish(bench.acme, vec![event("order:created", "{}", None)]);
    let mut other = bench.store.publish(bench.other, vec![event("order:created", "{}", None)]);
    // All three are in line before the first answer is looked at.
    for publish in [&mut wide, &mut own, &mut other] {
        let _ = publish.now_or_never();
    }
    let commits = bench.sqlite.commits();
    other.await.unwrap();
    let others = *commits.borrow();
    assert_eq!(numbers(&own.await.unwrap()[0])[0].1, EVENTS as i64 + 1, "the merchant's own go on behind it");
    assert!(*commits.borrow() > others, "another merchant did not wait for all of it");
    drop(wide);
}

#[tokio::test]
async fn what_was_interrupted_is_gone_on_with() {
    let bench = wide();
    let ids = webhooks(&bench).await;
    // The disk fails in the second share.
    bench
        .file()
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON delivery WHEN new.increment_id = 30
                BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
        )
        .unwrap();
    bench.store.publish(bench.acme, events()).await.unwrap_err();
    assert_eq!(all_fresh(&bench, ids[0]).await, (1..=25).collect::<Vec<_>>(), "the first share stands");
    bench.file().execute_batch("DROP TRIGGER broken").unwrap();

    let bench = bench.reopen_with(|config| config.publish_deliveries_max = WEBHOOKS * EVENTS);
    for id in &ids {
        bench.store.numbered_beyond(*id, IncrementId(EVENTS as i64 - 1)).await;
        assert_eq!(all_fresh(&bench, *id).await, (1..=EVENTS as i64).collect::<Vec<_>>());
    }
    let receipts = bench.store.publish(bench.acme, events()).await.unwrap();
    assert_eq!(given(&receipts), expected(&ids), "the keys stand for all of it");
    assert_eq!(bench.publish("order:created").await.deliveries[0].1, IncrementId(EVENTS as i64 + 1));
}

#[tokio::test]
async fn a_key_is_not_answered_for_before_all_is_numbered() {
    let bench = wide();
    let ids = webhooks(&bench).await;
    // As a process leaves it that is killed between two shares.
    bench.store.publish(bench.acme, vec![event("order:created", "{}", Some("key"))]).await.unwrap();
    let file = bench.file();
    file.execute_batch(
        "CREATE TRIGGER broken BEFORE DELETE ON fanout BEGIN SELECT RAISE(ABORT, 'on purpose'); END;
        INSERT INTO fanout (merchant_id, events) VALUES (1, '[[1,\"key\",[1]]]')",
    )
    .unwrap();
    let bench = bench.reopen();
    let again = || bench.store.publish(bench.acme, vec![event("order:created", "{}", Some("key"))]);
    assert!(matches!(again().await, Err(StoreError::Busy { .. })));
    assert!(bench.store.publish(bench.other, events()).await.is_ok(), "it stops nobody else");
    file.execute_batch("DROP TRIGGER broken").unwrap();
    bench.sqlite.sweep();
    bench.store.numbered_beyond(ids[0], IncrementId(1)).await;
    let receipt = again().await.unwrap().remove(0);
    assert_eq!(numbers(&receipt).last(), Some(&(ids[0].0, 2)), "what came later is in it");
}

#[tokio::test]
async fn webhooks_that_are_gone_by_then_are_passed_over() {
    let bench = wide();
    let ids = webhooks(&bench).await;
    let publish = bench.store.publish(bench.acme, events());
    let delete = bench.store.delete_webhook(bench.acme, ids[9]);
    let (receipts, deleted) = tokio::join!(publish, delete);
    deleted.unwrap();
    // It is deleted behind the publish, which is the same merchant's.
    assert_eq!(given(&receipts.unwrap()), expected(&ids));
    let file = bench.file();
    file.execute_batch("INSERT INTO fanout (merchant_id, events) VALUES (1, '[[1,null,[10,9,99]]]')").unwrap();
    let bench = bench.reopen();
    bench.store.numbered_beyond(ids[8], IncrementId(EVENTS as i64)).await;
    let left: i64 = file.query_row("SELECT count(*) FROM fanout", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_notice_goes_to_all_that_want_it() {
    let bench = wide();
    let failing = bench.webhook("order:*").await;
    let mut told = Vec::new();
    for _ in 0..300 {
        let spec = spec("tallyhook:webhook_disabled");
        told.push(bench.store.create_webhook(bench.acme, UserId(1), spec, 1_000).await.unwrap().webhook_id);
    }
    bench.publish("order:created").await;
    bench.record(failing, 1, 1, Verdict::Gone).await;
    for id in &told {
        bench.store.numbered_beyond(*id, IncrementId::ZERO).await;
        assert_eq!(all_fresh(&bench, *id).await, [1]);
    }
    let count = |sql| bench.file().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM event WHERE topic = 'tallyhook:webhook_disabled'"), 1);
    assert_eq!(count("SELECT count(*) FROM fanout"), 0);
}
