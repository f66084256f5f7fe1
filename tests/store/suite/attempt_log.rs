//! The log of attempts, and what is yet to be sent: longer than one look at
//! the store.

use std::time::Duration;

use tallyhook::domain::delivery::{AttemptFilter, AttemptKey, DeliveryFilter, Verdict};
use tallyhook::domain::id::{IncrementId, WebhookId};
use tallyhook::domain::time::Timestamp;
use tallyhook::store::{DeliveryAlteration, StoreError};

use super::{Bench, Engine, START, by, event, outcome};

const COUNT: i64 = 20_050;
const PATIENCE: Duration = Duration::from_secs(60);

impl<E: Engine> Bench<E> {
    /// Publishes as many, and records an attempt at each of these numbers.
    async fn with_requests(&self, id: WebhookId, numbers: impl Iterator<Item = i64>, verdict: Verdict) {
        let outcomes: Vec<_> = numbers.map(|number| outcome(id, number, 1, verdict)).collect();
        // As many at once as the worker records.
        for some in outcomes.chunks(512) {
            self.store.record(some.into()).await.unwrap();
        }
    }

    /// All keys of requests, read in parts.
    async fn keys(&self, id: WebhookId, filter: AttemptFilter, limit: usize) -> Vec<(i64, u32)> {
        let (mut keys, mut after) = (Vec::<AttemptKey>::new(), None);
        loop {
            let found = self.store.attempt_keys(self.acme, id, filter, after, limit).await.unwrap();
            let is_last = found.len() < limit;
            keys.extend(found);
            after = keys.last().copied();
            if is_last {
                return keys.into_iter().map(|key| (key.increment_id.0, key.attempt)).collect();
            }
        }
    }

    async fn pending(&self, id: WebhookId) -> u64 {
        self.store.backlog(self.acme, id, START).await.unwrap().pending
    }
}

pub async fn a_long_log_and_a_long_backlog_have_no_seams<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..COUNT / 50 {
        let events = (0..50).map(|_| event("order:created", "{}", None));
        bench.store.publish(by(bench.acme), events.collect()).await.unwrap();
    }
    assert_eq!(bench.pending(id).await, COUNT as u64);
    let none = AttemptFilter::default();
    assert_eq!(bench.keys(id, none, 100).await, []);

    // Every third succeeds, the others are given up; two at the seams of looks are tried twice.
    let later = START.after(Duration::from_secs(60));
    bench.with_requests(id, (1..=COUNT).filter(|number| number % 3 == 0), Verdict::Delivered).await;
    bench.with_requests(id, (1..=COUNT).filter(|number| number % 3 != 0), Verdict::Abandoned).await;
    assert_eq!(bench.pending(id).await, 0);
    let (first, second) = (COUNT - 10_000, COUNT - 9_999);
    for number in [first, second] {
        bench.store.alter_delivery(by(bench.acme), id, IncrementId(number), DeliveryAlteration::Retry).await.unwrap();
        let mut outcome = outcome(id, number, 2, Verdict::Delivered);
        outcome.attempt.started_at = later;
        outcome.attempt.duration = Duration::from_millis(500);
        bench.store.record([outcome].into()).await.unwrap();
    }
    let attempts = |number| if number == first || number == second { 2 } else { 1 };
    let all: Vec<_> =
        (1..=COUNT).rev().flat_map(|number| (1..=attempts(number)).rev().map(move |n| (number, n))).collect();
    for limit in [7_000, 10_000, 50_000] {
        let found = bench.keys(id, none, limit).await;
        assert_eq!((found.len(), found == all), (all.len(), true), "{limit}");
    }
    let twice = [(second, 2), (first, 2)];
    for filter in [
        AttemptFilter { since: Some(later), ..none },
        AttemptFilter { duration_min: Duration::from_millis(500), ..none },
    ] {
        assert_eq!(bench.keys(id, filter, 100).await, twice, "{filter:?}");
    }
    assert_eq!(bench.keys(id, AttemptFilter { until: Some(START), ..none }, 100).await, []);
    let until = Some(Timestamp(START.0 + 1));
    let failed = AttemptFilter { until, is_success: Some(false), ..none };
    let expected: Vec<_> = (1..=COUNT).rev().filter(|number| number % 3 != 0).map(|number| (number, 1)).collect();
    assert!(bench.keys(id, failed, 9_000).await == expected);
    assert!(bench.keys(id, AttemptFilter { until, status_code: Some(500), ..none }, 9_000).await == expected);
    let stranger = bench.store.attempt_keys(bench.other, id, none, None, 1).await;
    assert!(matches!(stranger, Err(StoreError::NoWebhook)));
    assert!(matches!(bench.store.backlog(bench.other, id, START).await, Err(StoreError::NoWebhook)));

    // What had ended, and is taken up again, lies below what is settled.
    let span = tallyhook::domain::id::Span { first: IncrementId(1), last: IncrementId(COUNT) };
    bench.store.replay(by(bench.acme), id, span, DeliveryFilter::default()).await.unwrap();
    let expected = expected.len() as u64 - twice.iter().filter(|(number, _)| number % 3 != 0).count() as u64;
    let replayed = async {
        while bench.pending(id).await != expected {
            bench.mailbox.arrived().await;
        }
    };
    tokio::time::timeout(PATIENCE, replayed).await.expect("all are taken up again");
    let counts = bench.store.count_deliveries(bench.acme, id, DeliveryFilter::default()).await.unwrap();
    assert_eq!(counts.pending, expected, "both ways to count");
}
