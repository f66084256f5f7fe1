//! What one merchant may take of the store, and of its writer.

use super::*;

fn count(file: &rusqlite::Connection, sql: &str) -> i64 {
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Has the writer do a step of what it does beside the changes.
async fn step(bench: &Bench) {
    bench.store.set_active(bench.other, WebhookSelector::All, true).await.unwrap();
}

/// What was accepted from then on.
fn since(at: Timestamp) -> EventFilter {
    EventFilter { since: Some(at), ..EventFilter::default() }
}

/// So many events of a merchant that go nowhere yet.
async fn publish_many(bench: &Bench, merchant: MerchantId, count: usize, message: &str) {
    bench.store.publish(merchant, vec![event("order:created", message, None); count]).await.unwrap();
}

#[tokio::test]
async fn jobs_take_turns_by_merchant() {
    let bench = Bench::new();
    publish_many(&bench, bench.acme, 600, "{}").await;
    publish_many(&bench, bench.other, 1, "{}").await;
    let mut webhooks = Vec::new();
    for _ in 0..5 {
        webhooks.push((bench.acme, bench.webhook("*").await));
    }
    let other = bench.store.create_webhook(bench.other, UserId(2), spec("*"), QUOTA).await.unwrap().webhook_id;
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
            tokio::spawn(async move { store.backfill(merchant, id, since(START)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    file.execute_batch("COMMIT").unwrap();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    while count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL") > 0 {
        step(&bench).await;
    }
    let place = count(&file, &format!("SELECT rowid FROM step WHERE webhook_id = {other}"));
    let steps = count(&file, "SELECT count(*) FROM step");
    assert!(place <= 2 && steps == 26, "the other merchant's one step was number {place} of {steps}");
}

#[tokio::test]
async fn a_merchant_may_have_so_many_jobs() {
    // Without room none of them is ever done.
    let bench = Bench::with(|config| config.retention.bytes_max = 2_000_000);
    let filling = format!("{{\"filling\": \"{}\"}}", "x".repeat(160_000));
    publish_many(&bench, bench.acme, 10, &filling).await;
    let mut refused = Vec::new();
    for _ in 0..17 {
        let id = bench.store.create_webhook(bench.acme, UserId(1), spec("*"), 20).await.unwrap().webhook_id;
        for _ in 0..17 {
            refused.extend(bench.store.backfill(bench.acme, id, since(START)).await.err());
        }
    }
    let of = |whose: &str| {
        let is = |refused: &&StoreError| matches!(refused, StoreError::TooManyJobs { whose: of, .. } if *of == whose);
        refused.iter().filter(is).count()
    };
    assert_eq!((of("webhook"), of("merchant"), refused.len()), (16, 17, 33), "16 of each webhook, 256 in all");
    let other = bench.store.create_webhook(bench.other, UserId(2), spec("*"), QUOTA).await.unwrap().webhook_id;
    bench.store.backfill(bench.other, other, since(START)).await.unwrap();
}

#[tokio::test]
async fn backfills_wait_for_room_and_tests_are_refused() {
    let bench = Bench::with(|config| config.retention.bytes_max = 2_000_000);
    let filling = format!("{{\"filling\": \"{}\"}}", "x".repeat(160_000));
    publish_many(&bench, bench.acme, 10, &filling).await;
    let id = bench.webhook("*").await;
    bench.store.backfill(bench.acme, id, since(START)).await.unwrap();
    let file = bench.file();
    for _ in 0..5 {
        step(&bench).await;
    }
    assert_eq!(bench.fresh(id, 0).await, [0; 0], "eight tenths are full, and the rest is for what is new");
    assert_eq!(count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL"), 1);
    let message = || Message::try_new(&filling).unwrap();
    let mut tests = 0;
    let refused = loop {
        match bench.store.test(bench.acme, id, message()).await {
            Ok(_) => tests += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StoreError::Full { max: 2_000_000, .. }), "{refused}");
    assert!((1..5).contains(&tests), "{tests}");

    // The operator gives it more room.
    let bench = bench.reopen();
    while count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL") > 0 {
        step(&bench).await;
    }
    let last = bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id.0;
    assert_eq!(last, tests + 10);
}

/// One over all webhooks goes past those that have no numbers, some at a time.
#[tokio::test]
async fn a_job_goes_past_webhooks_without_numbers() {
    let bench = Bench::new();
    let create = async |topics: &str| {
        bench.store.create_webhook(bench.acme, UserId(1), spec(topics), 1_000).await.unwrap().webhook_id
    };
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
    let job_id = bench.store.retry_many(bench.acme, None, filter).await.unwrap().job_id;
    let job = loop {
        step(&bench).await;
        let job = bench.store.job(bench.acme, job_id).await.unwrap();
        if job.state != JobState::Running {
            break job;
        }
    };
    assert_eq!((job.state, job.progress.queued), (JobState::Done, 2));
    let rested: i64 = count(&file, &format!("SELECT count(*) FROM step WHERE webhook_id = {}", others[499]));
    assert_eq!(rested, 1, "it has looked at 500, and goes on behind them");
}

/// A job that was called off does no more, not after a restart either, and
/// leaves its place to others.
#[tokio::test]
async fn a_job_that_was_called_off_does_no_more() {
    let bench = Bench::with(|config| config.retention.bytes_max = 2_000_000);
    let filling = format!("{{\"filling\": \"{}\"}}", "x".repeat(160_000));
    publish_many(&bench, bench.acme, 10, &filling).await;
    let id = bench.store.create_webhook(bench.acme, UserId(1), spec("*"), QUOTA).await.unwrap().webhook_id;
    let mut asked = Vec::new();
    for _ in 0..16 {
        asked.push(bench.store.backfill(bench.acme, id, EventFilter::default()).await.unwrap().job_id);
    }
    let refused = bench.store.backfill(bench.acme, id, EventFilter::default()).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyJobs { .. }));
    step(&bench).await;
    for job_id in &asked {
        let refused = bench.store.cancel_job(bench.other, *job_id).await.unwrap_err();
        assert!(matches!(refused, StoreError::NoJob), "another merchant's");
        let cancelled = bench.store.cancel_job(bench.acme, *job_id).await.unwrap();
        assert_eq!((cancelled.state, cancelled.progress.queued), (JobState::Cancelled, 0));
        assert_eq!(bench.store.cancel_job(bench.acme, *job_id).await.unwrap().ended_at, cancelled.ended_at);
    }
    let last = bench.store.backfill(bench.acme, id, EventFilter::default()).await.unwrap().job_id;
    // The operator gives it more room.
    let bench = bench.reopen_with(|config| config.retention.bytes_max = 0);
    while bench.store.job(bench.acme, last).await.unwrap().state == JobState::Running {
        step(&bench).await;
    }
    assert_eq!(bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id, IncrementId(10));
    let after = Slice { after: Some(asked[14]), order: Order::Ascending, limit: 9 };
    let states: Vec<_> = bench.store.jobs(bench.acme, after).await.unwrap().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Cancelled, JobState::Done]);
}

/// What is put aside is taken up again by a sweep.
#[tokio::test]
async fn backfills_go_on_when_there_is_room() {
    let bench = Bench::with(|config| config.retention.bytes_max = 2_000_000);
    let filling = format!("{{\"filling\": \"{}\"}}", "x".repeat(200_000));
    let all = bench.webhook("order:*").await;
    publish_many(&bench, bench.acme, 9, &filling).await;
    let id = bench.webhook("*").await;
    bench.store.backfill(bench.acme, id, since(START)).await.unwrap();
    step(&bench).await;
    let file = bench.file();
    assert_eq!(count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL"), 1);
    // Three quarters end, and are pruned, for space is short.
    for number in 1..=7 {
        bench.record(all, number, 1, Verdict::Delivered).await;
    }
    bench.sqlite.sweep();
    while count(&file, "SELECT count(*) FROM event") > 2 {
        step(&bench).await;
    }
    bench.sqlite.sweep();
    while count(&file, "SELECT count(*) FROM job WHERE ended_at IS NULL") > 0 {
        step(&bench).await;
    }
    assert_eq!(bench.fresh(id, 0).await, [1, 2], "what was left");
}

#[tokio::test]
async fn one_session_more_than_may_be_ends_the_oldest() {
    let bench = Bench::new();
    let user = bench.store.user_by_name("acme", Account::Server).await.unwrap().unwrap().user_id;
    let at = |seconds| START.after(Duration::from_secs(seconds));
    let keys: Vec<_> = ["a", "b", "c", "d"].map(KeyHash::of).into();
    let session = |user, key, expires_at| NewSession { user, key, expires_at, ends_at: None };
    let open = |key, end| bench.store.open_session(bench.acme, session(user, key, end), 3);
    for (key, end) in keys[..3].iter().zip([60, 61, 62]) {
        open(*key, at(end)).await.unwrap();
    }
    bench.store.renew_session(bench.acme, keys[0], at(90));
    bench.store.open_session(bench.other, session(UserId(2), KeyHash::of("other"), at(1)), 3).await.unwrap();
    open(keys[3], at(63)).await.unwrap();
    let mut live = Vec::new();
    for key in &keys {
        live.push(bench.store.session(*key, Account::Server).await.unwrap().is_some());
    }
    assert_eq!(live, [true, false, true, true], "the one that was renewed is in use");
    assert!(
        bench.store.session(KeyHash::of("other"), Account::Server).await.unwrap().is_some(),
        "another's do not count"
    );
}

/// An attempt whose log holds so many bytes that can't be compressed.
fn large(id: WebhookId, number: i64, attempt: u32, bytes: usize, verdict: Verdict) -> Outcome {
    let mut outcome = outcome(id, number, attempt, verdict);
    let mut state = u64::try_from(number).unwrap() + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    outcome.attempt.response_body = std::iter::repeat_with(next).take(bytes).collect();
    outcome
}

impl Bench {
    /// How long the bodies of a webhook's log are, by number.
    async fn bodies(&self, merchant: MerchantId, id: WebhookId, numbers: std::ops::RangeInclusive<i64>) -> Vec<usize> {
        let mut found = Vec::new();
        for number in numbers {
            for attempt in self.store.attempts(merchant, id, IncrementId(number), 0, 100).await.unwrap() {
                assert_eq!(attempt.response_body.is_empty(), attempt.response_headers.is_empty());
                found.push(attempt.response_body.len());
            }
        }
        found
    }
}

#[tokio::test]
async fn a_log_loses_the_oldest_bodies_and_no_status() {
    const BODY: usize = 10_000;
    let bench = Bench::with(|config| config.retention.webhook_log_bytes_max = 35_000);
    let id = bench.webhook("*").await;
    for _ in 0..6 {
        bench.publish("order:created").await;
    }
    for number in 1..=6 {
        bench.store.record([large(id, number, 1, BODY, Verdict::Retry(START))].into()).await.unwrap();
        step(&bench).await;
        step(&bench).await;
    }
    assert_eq!(bench.bodies(bench.acme, id, 1..=6).await, [0, 0, 0, BODY, BODY, BODY]);
    // What is tried again long after waits for the next round: nothing is looked at twice for it.
    bench.store.record([large(id, 2, 2, BODY, Verdict::Delivered)].into()).await.unwrap();
    step(&bench).await;
    step(&bench).await;
    assert_eq!(bench.bodies(bench.acme, id, 1..=6).await, [0, 0, BODY, 0, 0, BODY, BODY]);
    assert_eq!(count(&bench.file(), "SELECT emptied_number FROM log_size"), 4);
    let attempts = bench.store.attempts(bench.acme, id, IncrementId(1), 0, 100).await.unwrap();
    assert_eq!((attempts[0].status_code, attempts[0].started_at), (Some(500), START));
    let sum = "SELECT sum(octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body))
        = (SELECT bytes FROM log_size) FROM attempt";
    assert_eq!(count(&bench.file(), sum), 1);

    // However many come at once, the bound holds.
    let bench = bench.reopen_with(|config| config.retention.webhook_log_bytes_max = 35_000);
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
    let sum: usize = bench.bodies(bench.acme, id, 1..=6).await.iter().sum();
    assert!(sum <= 35_000 / 4 * 5 + BODY, "{sum}");
    // And what came behind the mark goes with the next round.
    for _ in 0..6 {
        step(&bench).await;
    }
    let sum: usize = bench.bodies(bench.acme, id, 1..=6).await.iter().sum();
    assert!((BODY..=35_000).contains(&sum), "{sum}");
    assert_eq!(
        bench.store.attempts(bench.acme, id, IncrementId(1), 0, 100).await.unwrap().len(),
        40,
        "no status is lost"
    );
}

#[tokio::test]
async fn the_logs_of_a_merchant_are_bounded_together() {
    const BODY: usize = 10_000;
    let bench = Bench::with(|config| config.retention.merchant_log_bytes_max = 35_000);
    let (large_one, small_one) = (bench.webhook("*").await, bench.webhook("*").await);
    let other = bench.store.create_webhook(bench.other, UserId(2), spec("*"), QUOTA).await.unwrap().webhook_id;
    for _ in 0..3 {
        bench.publish("order:created").await;
        publish_many(&bench, bench.other, 1, "{}").await;
    }
    let record = async |id, number| {
        bench.store.record([large(id, number, 1, BODY, Verdict::Delivered)].into()).await.unwrap();
        step(&bench).await;
        step(&bench).await;
    };
    for (id, number) in [(other, 1), (large_one, 1), (large_one, 2), (small_one, 1), (other, 2), (large_one, 3)] {
        record(id, number).await;
    }
    assert_eq!(bench.bodies(bench.acme, large_one, 1..=3).await, [0, BODY, BODY], "the largest log gives");
    assert_eq!(bench.bodies(bench.acme, small_one, 1..=1).await, [BODY]);
    assert_eq!(bench.bodies(bench.other, other, 1..=2).await, [BODY, BODY], "another merchant's is his own");
}

/// More than a change alters, or looks at.
#[tokio::test]
async fn many_webhooks_are_switched_in_several_changes() {
    const WEBHOOKS: usize = 230;
    let bench = Bench::new();
    let mut ids = Vec::new();
    for n in 0..WEBHOOKS {
        let topics = if n % 2 == 0 { "order:*" } else { "order:*,product:*" };
        let made = bench.store.create_webhook(bench.acme, UserId(1), spec(topics), 300).await.unwrap();
        ids.push(made.webhook_id);
    }
    let is_active = async |id| bench.store.webhook(bench.acme, id).await.unwrap().spec.is_active;
    let active = async || {
        let mut active = 0;
        for id in &ids {
            active += usize::from(is_active(*id).await);
        }
        active
    };
    let commits = bench.sqlite.commits();
    let before = *commits.borrow();
    assert_eq!(bench.store.set_active(bench.acme, WebhookSelector::All, false).await.unwrap(), WEBHOOKS);
    assert!(*commits.borrow() >= before + 3, "others had their turns in between");
    assert_eq!(active().await, 0);
    let products = WebhookSelector::Listing(Pattern::try_new("product:*").unwrap());
    assert_eq!(bench.store.set_active(bench.acme, products, true).await.unwrap(), WEBHOOKS / 2);
    assert_eq!(active().await, WEBHOOKS / 2);
    let one = |id| WebhookSelector::Id(id);
    assert_eq!(bench.store.set_active(bench.acme, one(ids[0]), true).await.unwrap(), 1);
    assert_eq!(bench.store.set_active(bench.acme, one(WebhookId(9_999)), true).await.unwrap(), 0);
    bench.store.delete_webhook(bench.acme, ids[1]).await.unwrap();
    assert_eq!(bench.store.set_active(bench.acme, one(ids[1]), true).await.unwrap(), 0, "and not the next one");
    assert!(is_active(ids[0]).await && !is_active(ids[2]).await);
}

/// What goes into the index is what such a change costs most.
#[tokio::test]
async fn webhooks_with_long_lists_are_switched_in_smaller_changes() {
    let bench = Bench::new();
    let topics: Vec<_> = (0..100).map(|n| format!("order:t{n}")).collect();
    for _ in 0..30 {
        bench.store.create_webhook(bench.acme, UserId(1), spec(&topics.join(",")), 300).await.unwrap();
    }
    let commits = bench.sqlite.commits();
    let before = *commits.borrow();
    assert_eq!(bench.store.set_active(bench.acme, WebhookSelector::All, false).await.unwrap(), 30);
    assert!(*commits.borrow() >= before + 3, "a thousand entries each");
}

#[tokio::test]
async fn many_attempts_are_forgotten_in_several_changes() {
    const ATTEMPTS: u32 = 600;
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    bench.publish("order:created").await;
    for first in (1..=ATTEMPTS).step_by(100) {
        let some: Vec<_> = (first..first + 100).map(|n| large(id, 1, n, 50, Verdict::Retry(START))).collect();
        bench.store.record(some.into()).await.unwrap();
    }
    bench.record(id, 2, 1, Verdict::Delivered).await;
    let commits = bench.sqlite.commits();
    let before = *commits.borrow();
    bench.store.forget(bench.acme, id, IncrementId(1)).await.unwrap();
    assert!(*commits.borrow() >= before + 3, "others had their turns in between");
    assert!(bench.store.attempts(bench.acme, id, IncrementId(1), 0, 1_000).await.unwrap().is_empty());
    assert_eq!(bench.store.attempts(bench.acme, id, IncrementId(2), 0, 1_000).await.unwrap().len(), 1);
    let file = bench.file();
    let sum = "SELECT sum(octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body))
        = (SELECT bytes FROM log_size) FROM attempt";
    assert_eq!(count(&file, sum), 1, "what is gone counts no more");
    assert_eq!(count(&file, "SELECT count(*) FROM delivery WHERE event_id < 0 AND state = 3"), 1);
    let again = bench.store.forget(bench.acme, id, IncrementId(1)).await;
    assert!(matches!(again, Err(StoreError::NoDelivery)), "{again:?}");
    // As if it had ended in between: asking again does the rest.
    let columns =
        "started_at, queue_delay_ms, duration_us, request_headers, response_headers, response_body, is_compressed";
    let left = format!(
        "INSERT INTO attempt (webhook_id, increment_id, attempt, {columns})
            SELECT webhook_id, 1, 1, {columns} FROM attempt WHERE increment_id = 2"
    );
    file.execute(&left, []).unwrap();
    bench.store.forget(bench.acme, id, IncrementId(1)).await.unwrap();
    assert!(bench.store.attempts(bench.acme, id, IncrementId(1), 0, 1_000).await.unwrap().is_empty());
}

/// Nobody sees it any more, so it neither stays nor counts.
#[tokio::test]
async fn the_log_of_a_deleted_webhook_goes() {
    const BODY: usize = 10_000;
    let bounds = |config: &mut Config| config.retention.merchant_log_bytes_max = 35_000;
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
    bench.store.delete_webhook(bench.acme, gone).await.unwrap();
    let file = bench.file();
    let left = format!("SELECT count(*) FROM attempt WHERE webhook_id = {gone} AND octet_length(response_body) > 0");
    let sizes = "SELECT count(*) FROM log_size";
    while count(&file, &left) > 0 || count(&file, sizes) > 0 {
        step(&bench).await;
    }
    for number in 1..=3 {
        record(&bench, stays, number).await;
        step(&bench).await;
        step(&bench).await;
    }
    assert_eq!(bench.bodies(bench.acme, stays, 1..=3).await, [BODY; 3], "it has all the room");
    assert_eq!(count(&file, "SELECT count(*) FROM attempt"), 5, "no row is lost");
    // The next process knows no more of it.
    let bench = bench.reopen_with(bounds);
    step(&bench).await;
    assert_eq!((bench.bodies(bench.acme, stays, 1..=3).await, count(&file, sizes)), (vec![BODY; 3], 1));
}

/// Many webhooks that fail at once, each of which is told of all of them.
#[tokio::test]
async fn notices_beyond_a_step_are_not_lost() {
    const WEBHOOKS: i64 = 30;
    let bench = Bench::new();
    let mut outcomes = Vec::new();
    for _ in 0..WEBHOOKS {
        let id = bench
            .store
            .create_webhook(bench.acme, UserId(1), spec("order:*,tallyhook:*"), 40)
            .await
            .unwrap()
            .webhook_id;
        outcomes.push(outcome(id, 1, 1, Verdict::Abandoned));
    }
    bench.publish("order:created").await;
    bench.store.record(outcomes.into()).await.unwrap();
    for _ in 0..10 {
        step(&bench).await;
    }
    let file = bench.file();
    assert_eq!(count(&file, "SELECT count(*) FROM event WHERE topic = 'tallyhook:delivery_abandoned'"), WEBHOOKS);
    assert_eq!(count(&file, "SELECT count(*) FROM delivery"), WEBHOOKS + WEBHOOKS * WEBHOOKS);
    assert_eq!(count(&file, "SELECT count(*) FROM notice WHERE count > 0"), 0, "nothing is left to be said");
}

#[tokio::test]
async fn a_chore_that_fails_rests_and_then_fails_alone() {
    let bench = Bench::new();
    publish_many(&bench, bench.acme, 600, "{}").await;
    let id = bench.webhook("*").await;
    let file = bench.file();
    file.execute_batch(
        "CREATE TRIGGER broken BEFORE UPDATE ON job WHEN NEW.next_id > 200
            BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
    )
    .unwrap();
    bench.store.backfill(bench.acme, id, since(START)).await.unwrap();
    let refusals = async || {
        let mut refused = 0;
        for _ in 0..20 {
            let published = bench.store.publish(bench.other, vec![event("order:created", "{}", None)]).await;
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
        step(&bench).await;
    }
    assert_eq!(numbered(), 600);
}
