//! Turns, logs and chores, seen in the file.

use super::*;
use crate::suite::bounds::{BODY, LOG_BYTES_MAX, attempts, six_in_a_log};

/// True if the log's size is the sum of its rows.
const LOG_IS_COUNTED: &str =
    "SELECT sum(octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body))
        = (SELECT bytes FROM log_size) FROM attempt";

#[tokio::test]
async fn jobs_take_turns_by_merchant() {
    let bench = Bench::new();
    bench.publish_many(bench.acme, 600, "{}").await;
    bench.publish_many(bench.other, 1, "{}").await;
    let mut webhooks = Vec::new();
    for _ in 0..5 {
        webhooks.push((bench.acme, bench.webhook("*").await));
    }
    let other = bench.store.create_webhook(by(bench.other), spec("*"), QUOTA).await.unwrap().webhook_id;
    webhooks.push((bench.other, other));
    let file = bench.file();
    file.execute_batch(
        "CREATE TABLE step (webhook_id INTEGER);
        CREATE TRIGGER did UPDATE ON job BEGIN INSERT INTO step VALUES (NEW.webhook_id); END;
        BEGIN IMMEDIATE",
    )
    .unwrap();
    // While the store is held, all of them gather for one transaction.
    let asked: Vec<_> = webhooks
        .into_iter()
        .map(|(merchant, id)| {
            let store = Arc::clone(&bench.store);
            tokio::spawn(async move { store.backfill(by(merchant), id, since(START)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    file.execute_batch("COMMIT").unwrap();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    while count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL") > 0 {
        bench.step().await;
    }
    let place = count(&file, &format!("SELECT rowid FROM step WHERE webhook_id = {other}"));
    let steps = count(&file, "SELECT count(*) FROM step");
    assert!(place <= 2 && steps == 26, "the other merchant's one step was number {place} of {steps}");
}

/// One over all webhooks goes past those that have no numbers, some at a time.
#[tokio::test]
async fn a_job_goes_past_webhooks_without_numbers() {
    let bench = Bench::new();
    let create =
        async |topics: &str| bench.store.create_webhook(by(bench.acme), spec(topics), 1_000).await.unwrap().webhook_id;
    let first = create("order:*").await;
    let mut others = Vec::new();
    for _ in 0..600 {
        others.push(create("none:*").await.0);
    }
    let last = create("order:*").await;
    bench.publish("order:created").await;
    for id in [first, last] {
        bench.record(id, 1, 1, Verdict::Delivered).await;
    }
    let file = bench.file();
    file.execute_batch(
        "CREATE TABLE step (webhook_id INTEGER); CREATE TRIGGER job_step AFTER UPDATE ON job
            BEGIN INSERT INTO step VALUES (new.webhook_id); END",
    )
    .unwrap();
    let filter = DeliveryFilter { state: Some(DeliveryState::Delivered), ..DeliveryFilter::default() };
    let job_id = bench.store.retry_many(by(bench.acme), None, filter).await.unwrap().job_id;
    let job = loop {
        bench.step().await;
        let job = bench.store.job(bench.acme, job_id).await.unwrap();
        if job.state != JobState::Running {
            break job;
        }
    };
    assert_eq!((job.state, job.progress.queued), (JobState::Done, 2));
    let rested: i64 = count(&file, &format!("SELECT count(*) FROM step WHERE webhook_id = {}", others[499]));
    assert_eq!(rested, 1, "it has looked at 500, and goes on behind them");
}

#[tokio::test]
async fn a_chore_that_fails_rests_and_then_fails_alone() {
    let bench = Bench::new();
    bench.publish_many(bench.acme, 600, "{}").await;
    let id = bench.webhook("*").await;
    let file = bench.file();
    file.execute_batch(
        "CREATE TRIGGER broken BEFORE UPDATE ON job WHEN NEW.next_id > 200
            BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
    )
    .unwrap();
    bench.store.backfill(by(bench.acme), id, since(START)).await.unwrap();
    let refusals = async || {
        let mut refused = 0;
        for _ in 0..20 {
            let published = bench.store.publish(by(bench.other), vec![event("order:created", "{}", None)]).await;
            refused += usize::from(published.is_err());
        }
        refused
    };
    assert!(refusals().await <= 1, "the one that shared a commit with it");
    let numbered = || count(&file, &format!("SELECT count(*) FROM delivery WHERE webhook_id = {id}"));
    let before = numbered();
    assert!(before < 600);
    for _ in 0..3 {
        bench.hand.send_modify(|now| *now = now.after(Duration::from_secs(60)));
        assert_eq!(refusals().await, 0, "it is tried again without anybody else");
    }
    assert_eq!(numbered(), before, "it fails as before");

    file.execute_batch("DROP TRIGGER broken").unwrap();
    bench.hand.send_modify(|now| *now = now.after(Duration::from_secs(60)));
    while count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL") > 0 {
        bench.step().await;
    }
    assert_eq!(numbered(), 600);
}

/// Nobody sees it any more, so it neither stays nor counts.
#[tokio::test]
async fn the_log_of_a_deleted_webhook_goes() {
    let bounds = |settings: &mut Settings| settings.merchant_log_bytes_max = LOG_BYTES_MAX;
    let bench = Bench::with(bounds);
    let (gone, stays) = (bench.webhook("*").await, bench.webhook("*").await);
    for _ in 0..3 {
        bench.publish("order:created").await;
    }
    let record = async |bench: &Bench, id, number| {
        bench.store.record([large(id, number, 1, BODY, Verdict::Delivered)].into()).await.unwrap();
    };
    record(&bench, gone, 1).await;
    record(&bench, gone, 2).await;
    bench.store.delete_webhook(by(bench.acme), gone).await.unwrap();
    let file = bench.file();
    let left = format!("SELECT count(*) FROM attempt WHERE webhook_id = {gone} AND octet_length(response_body) > 0");
    let sizes = "SELECT count(*) FROM log_size";
    while count(&file, &left) > 0 || count(&file, sizes) > 0 {
        bench.step().await;
    }
    for number in 1..=3 {
        record(&bench, stays, number).await;
        bench.step().await;
        bench.step().await;
    }
    assert_eq!(bench.bodies(bench.acme, stays, 1..=3).await, [BODY; 3], "it has all the room");
    assert_eq!(count(&file, "SELECT count(*) FROM attempt"), 5, "no row is lost");
    // The next process knows no more of it.
    let bench = bench.reopen_with(bounds);
    bench.step().await;
    assert_eq!((bench.bodies(bench.acme, stays, 1..=3).await, count(&file, sizes)), (vec![BODY; 3], 1));
}

#[tokio::test]
async fn a_flood_keeps_to_the_bound_of_a_log() {
    let (bench, id) = six_in_a_log::<SqliteStore>().await;
    assert_eq!(count(&bench.file(), "SELECT emptied_number FROM log_size"), 4);
    assert_eq!(count(&bench.file(), LOG_IS_COUNTED), 1);
    // However many come at once, the bound holds.
    let bench = bench.reopen_with(|settings| settings.webhook_log_bytes_max = LOG_BYTES_MAX);
    let flood: Vec<_> = (2..=40).map(|attempt| vec![large(id, 1, attempt, BODY, Verdict::Retry(START))]).collect();
    let file = bench.file();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let recorded: Vec<_> = flood
        .into_iter()
        .map(|outcome| {
            let store = Arc::clone(&bench.store);
            tokio::spawn(async move { store.record(outcome.into()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    file.execute_batch("COMMIT").unwrap();
    for recorded in recorded {
        recorded.await.unwrap().unwrap();
    }
    let max = usize::try_from(LOG_BYTES_MAX).unwrap();
    let sum: usize = bench.bodies(bench.acme, id, 1..=6).await.iter().sum();
    assert!(sum <= max / 4 * 5 + BODY, "{sum}");
    // And what came behind the mark goes with the next round.
    for _ in 0..6 {
        bench.step().await;
    }
    let sum: usize = bench.bodies(bench.acme, id, 1..=6).await.iter().sum();
    assert!((BODY..=max).contains(&sum), "{sum}");
    let found = bench.store.attempts(bench.acme, id, IncrementId(1), 0, 100).await.unwrap();
    assert_eq!(found.len(), 40, "no status is lost");
}

#[tokio::test]
async fn what_is_forgotten_counts_no_more_and_is_forgotten_to_the_end() {
    let (bench, id) = attempts::<SqliteStore>(100).await;
    bench.store.alter_delivery(by(bench.acme), id, IncrementId(1), DeliveryAlteration::Forget).await.unwrap();
    let file = bench.file();
    assert_eq!(count(&file, LOG_IS_COUNTED), 1);
    assert_eq!(count(&file, "SELECT count(*) FROM delivery WHERE event_id < 0 AND state = 3"), 1);
    // As if it had ended in between: asking again does the rest.
    let columns =
        "started_at, queue_delay_ms, duration_us, request_headers, response_headers, response_body, is_compressed";
    let left = format!(
        "INSERT INTO attempt (webhook_id, increment_id, attempt, {columns})
            SELECT webhook_id, 1, 1, {columns} FROM attempt WHERE increment_id = 2"
    );
    file.execute(&left, []).unwrap();
    bench.store.alter_delivery(by(bench.acme), id, IncrementId(1), DeliveryAlteration::Forget).await.unwrap();
    assert!(bench.store.attempts(bench.acme, id, IncrementId(1), 0, 1_000).await.unwrap().is_empty());
}
