//! Jobs over many deliveries: how many a merchant may have, room, and calling off.

use super::*;

/// So many bytes that an empty store is next to nothing of them.
const ROOM: u64 = 20_000_000;

/// A message of so many bytes, which no engine makes smaller.
fn filling(bytes: usize) -> String {
    let mut state = 1_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 58) as u8)
    });
    let letters: String = letters.filter(char::is_ascii_alphanumeric).take(bytes).collect();
    format!("{{\"filling\": \"{letters}\"}}")
}

pub async fn a_merchant_may_have_so_many_jobs<E: Engine>() {
    // Without room none of them is ever done.
    let bench = Bench::<E>::with(|settings| settings.bytes_max = ROOM);
    let filling = filling(160_000);
    for _ in 0..10 {
        bench.publish_many(bench.acme, 10, &filling).await;
    }
    let mut refused = Vec::new();
    for _ in 0..17 {
        let id = bench.store.create_webhook(by(bench.acme), spec("*"), 20).await.unwrap().webhook_id;
        for _ in 0..17 {
            refused.extend(bench.store.backfill(by(bench.acme), id, since(START)).await.err());
        }
    }
    let of = |whose: &str| {
        let is = |refused: &&StoreError| matches!(refused, StoreError::TooManyJobs { whose: of, .. } if *of == whose);
        refused.iter().filter(is).count()
    };
    assert_eq!((of("webhook"), of("merchant"), refused.len()), (16, 17, 33), "16 of each webhook, 256 in all");
    let other = bench.store.create_webhook(by(bench.other), spec("*"), QUOTA).await.unwrap().webhook_id;
    bench.store.backfill(by(bench.other), other, since(START)).await.unwrap();
}

pub async fn backfills_wait_for_room_and_tests_are_refused<E: Engine>() {
    let bench = Bench::<E>::with(|settings| settings.bytes_max = ROOM);
    let filling = filling(160_000);
    for _ in 0..10 {
        bench.publish_many(bench.acme, 10, &filling).await;
    }
    let id = bench.webhook("*").await;
    bench.store.backfill(by(bench.acme), id, since(START)).await.unwrap();
    for _ in 0..5 {
        bench.step().await;
    }
    assert_eq!(bench.fresh(id, 0).await, [0; 0], "eight tenths are full, and the rest is for what is new");
    assert_eq!(bench.running_jobs().await, 1);
    let message = || Message::try_new(&filling).unwrap();
    let mut tests = 0;
    let refused = loop {
        match bench.store.test(by(bench.acme), id, message()).await {
            Ok(_) => tests += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StoreError::Full { max: ROOM, .. }), "{refused}");
    assert!((5..30).contains(&tests), "{tests}");

    // The operator gives it more room.
    let bench = bench.reopen();
    while bench.running_jobs().await > 0 {
        bench.step().await;
    }
    let last = bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id.0;
    assert_eq!(last, tests + 100);
}

/// A job that was called off does no more, not after a restart either, and
/// leaves its place to others.
pub async fn a_job_that_was_called_off_does_no_more<E: Engine>() {
    let bench = Bench::<E>::with(|settings| settings.bytes_max = ROOM);
    let filling = filling(160_000);
    for _ in 0..10 {
        bench.publish_many(bench.acme, 10, &filling).await;
    }
    let id = bench.store.create_webhook(by(bench.acme), spec("*"), QUOTA).await.unwrap().webhook_id;
    let mut asked = Vec::new();
    for _ in 0..16 {
        asked.push(bench.store.backfill(by(bench.acme), id, EventFilter::default()).await.unwrap().job_id);
    }
    let refused = bench.store.backfill(by(bench.acme), id, EventFilter::default()).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyJobs { .. }));
    bench.step().await;
    for job_id in &asked {
        let refused = bench.store.cancel_job(by(bench.other), *job_id).await.unwrap_err();
        assert!(matches!(refused, StoreError::NoJob), "another merchant's");
        let cancelled = bench.store.cancel_job(by(bench.acme), *job_id).await.unwrap();
        assert_eq!((cancelled.state, cancelled.progress.queued), (JobState::Cancelled, 0));
        assert_eq!(bench.store.cancel_job(by(bench.acme), *job_id).await.unwrap().ended_at, cancelled.ended_at);
    }
    let last = bench.store.backfill(by(bench.acme), id, EventFilter::default()).await.unwrap().job_id;
    // The operator gives it more room.
    let bench = bench.reopen_with(|settings| settings.bytes_max = 0);
    while bench.store.job(bench.acme, last).await.unwrap().state == JobState::Running {
        bench.step().await;
    }
    assert_eq!(bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id, IncrementId(100));
    let after = Slice { after: Some(asked[14]), order: Order::Ascending, limit: 9 };
    let states: Vec<_> = bench.store.jobs(bench.acme, after).await.unwrap().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Cancelled, JobState::Done]);
}

/// What is put aside is taken up again by a sweep.
pub async fn backfills_go_on_when_there_is_room<E: Engine>() {
    let bench = Bench::<E>::with(|settings| settings.bytes_max = ROOM);
    let filling = filling(200_000);
    let all = bench.webhook("order:*").await;
    for _ in 0..9 {
        bench.publish_many(bench.acme, 10, &filling).await;
    }
    let id = bench.webhook("*").await;
    bench.store.backfill(by(bench.acme), id, since(START)).await.unwrap();
    bench.step().await;
    assert_eq!(bench.running_jobs().await, 1);
    // Three quarters end, and are pruned, for space is short.
    for number in 1..=70 {
        bench.record(all, number, 1, Verdict::Delivered).await;
    }
    bench.store.sweep();
    while bench.count_events("*").await > 20 {
        bench.step().await;
    }
    E::give_back(&bench.place);
    bench.store.sweep();
    while bench.running_jobs().await > 0 {
        bench.step().await;
    }
    let last = bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id;
    assert_eq!(last, IncrementId(20), "what was left");
}
