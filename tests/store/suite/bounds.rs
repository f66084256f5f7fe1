//! What one merchant may take of the store, and of whoever writes.

use super::*;

pub const BODY: usize = 10_000;
pub const LOG_BYTES_MAX: u64 = 35_000;

/// A log of six numbers with room for three bodies; the second was tried again
/// long after.
pub async fn six_in_a_log<E: Engine>() -> (Bench<E>, WebhookId) {
    let bench = Bench::<E>::with(|settings| settings.webhook_log_bytes_max = LOG_BYTES_MAX);
    let id = bench.webhook("*").await;
    for _ in 0..6 {
        bench.publish("order:created").await;
    }
    for number in 1..=6 {
        bench.store.record([large(id, number, 1, BODY, Verdict::Retry(START))].into()).await.unwrap();
        bench.step().await;
        bench.step().await;
    }
    assert_eq!(bench.bodies(bench.acme, id, 1..=6).await, [0, 0, 0, BODY, BODY, BODY]);
    bench.store.record([large(id, 2, 2, BODY, Verdict::Delivered)].into()).await.unwrap();
    bench.step().await;
    bench.step().await;
    (bench, id)
}

pub async fn a_log_loses_the_oldest_bodies_and_no_status<E: Engine>() {
    let (bench, id) = six_in_a_log::<E>().await;
    // What was tried again waits for the next round: nothing is looked at twice for it.
    assert_eq!(bench.bodies(bench.acme, id, 1..=6).await, [0, 0, BODY, 0, 0, BODY, BODY]);
    let attempts = bench.store.attempts(bench.acme, id, IncrementId(1), 0, 100).await.unwrap();
    assert_eq!((attempts[0].status_code, attempts[0].started_at), (Some(500), START));
}

pub async fn the_logs_of_a_merchant_are_bounded_together<E: Engine>() {
    let bench = Bench::<E>::with(|settings| settings.merchant_log_bytes_max = LOG_BYTES_MAX);
    let (large_one, small_one) = (bench.webhook("*").await, bench.webhook("*").await);
    let other = bench.store.create_webhook(by(bench.other), spec("*"), QUOTA).await.unwrap().webhook_id;
    for _ in 0..3 {
        bench.publish("order:created").await;
        bench.publish_many(bench.other, 1, "{}").await;
    }
    let record = async |id, number| {
        bench.store.record([large(id, number, 1, BODY, Verdict::Delivered)].into()).await.unwrap();
        bench.step().await;
        bench.step().await;
    };
    for (id, number) in [(other, 1), (large_one, 1), (large_one, 2), (small_one, 1), (other, 2), (large_one, 3)] {
        record(id, number).await;
    }
    assert_eq!(bench.bodies(bench.acme, large_one, 1..=3).await, [0, BODY, BODY], "the largest log gives");
    assert_eq!(bench.bodies(bench.acme, small_one, 1..=1).await, [BODY]);
    assert_eq!(bench.bodies(bench.other, other, 1..=2).await, [BODY, BODY], "another merchant's is his own");
}

/// More than a change alters, or looks at.
pub async fn many_webhooks_are_switched_in_several_changes<E: Engine>() {
    const WEBHOOKS: usize = 230;
    let bench = Bench::<E>::new();
    let mut ids = Vec::new();
    for n in 0..WEBHOOKS {
        let topics = if n % 2 == 0 { "order:*" } else { "order:*,product:*" };
        let made = bench.store.create_webhook(by(bench.acme), spec(topics), 300).await.unwrap();
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
    let commits = bench.store.commits();
    let before = *commits.borrow();
    assert_eq!(bench.store.set_active(by(bench.acme), WebhookSelector::All, false).await.unwrap(), WEBHOOKS);
    assert!(*commits.borrow() >= before + 3, "others had their turns in between");
    assert_eq!(active().await, 0);
    let products = WebhookSelector::Listing(Pattern::try_new("product:*").unwrap());
    assert_eq!(bench.store.set_active(by(bench.acme), products, true).await.unwrap(), WEBHOOKS / 2);
    assert_eq!(active().await, WEBHOOKS / 2);
    let one = |id| WebhookSelector::Id(id);
    assert_eq!(bench.store.set_active(by(bench.acme), one(ids[0]), true).await.unwrap(), 1);
    assert_eq!(bench.store.set_active(by(bench.acme), one(WebhookId(9_999)), true).await.unwrap(), 0);
    bench.store.delete_webhook(by(bench.acme), ids[1]).await.unwrap();
    assert_eq!(bench.store.set_active(by(bench.acme), one(ids[1]), true).await.unwrap(), 0, "and not the next one");
    assert!(is_active(ids[0]).await && !is_active(ids[2]).await);
}

/// What goes into the index is what such a change costs most.
pub async fn webhooks_with_long_lists_are_switched_in_smaller_changes<E: Engine>() {
    let bench = Bench::<E>::new();
    let topics: Vec<_> = (0..100).map(|n| format!("order:t{n}")).collect();
    for _ in 0..30 {
        bench.store.create_webhook(by(bench.acme), spec(&topics.join(",")), 300).await.unwrap();
    }
    let commits = bench.store.commits();
    let before = *commits.borrow();
    assert_eq!(bench.store.set_active(by(bench.acme), WebhookSelector::All, false).await.unwrap(), 30);
    assert!(*commits.borrow() >= before + 3, "a thousand entries each");
}

/// A webhook whose first number has so many attempts, and whose second has one.
pub async fn attempts<E: Engine>(count: u32) -> (Bench<E>, WebhookId) {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    bench.publish("order:created").await;
    for first in (1..=count).step_by(100) {
        let some: Vec<_> = (first..first + 100).map(|n| large(id, 1, n, 50, Verdict::Retry(START))).collect();
        bench.store.record(some.into()).await.unwrap();
    }
    bench.record(id, 2, 1, Verdict::Delivered).await;
    (bench, id)
}

pub async fn many_attempts_are_forgotten_in_several_changes<E: Engine>() {
    let (bench, id) = attempts::<E>(600).await;
    let commits = bench.store.commits();
    let before = *commits.borrow();
    bench.store.alter_delivery(by(bench.acme), id, IncrementId(1), DeliveryAlteration::Forget).await.unwrap();
    assert!(*commits.borrow() >= before + 3, "others had their turns in between");
    assert!(bench.store.attempts(bench.acme, id, IncrementId(1), 0, 1_000).await.unwrap().is_empty());
    assert_eq!(bench.store.attempts(bench.acme, id, IncrementId(2), 0, 1_000).await.unwrap().len(), 1);
    let again = bench.store.alter_delivery(by(bench.acme), id, IncrementId(1), DeliveryAlteration::Forget).await;
    assert!(matches!(again, Err(StoreError::NoDelivery)), "{again:?}");
}

/// Many webhooks that fail at once, each of which is told of all of them.
pub async fn notices_beyond_a_step_are_not_lost<E: Engine>() {
    const WEBHOOKS: u64 = 30;
    let bench = Bench::<E>::new();
    let mut ids = Vec::new();
    for _ in 0..WEBHOOKS {
        let spec = spec("order:*,tallyhook:*");
        ids.push(bench.store.create_webhook(by(bench.acme), spec, 40).await.unwrap().webhook_id);
    }
    bench.publish("order:created").await;
    let outcomes: Vec<_> = ids.iter().map(|id| outcome(*id, 1, 1, Verdict::Abandoned)).collect();
    bench.store.record(outcomes.into()).await.unwrap();
    for _ in 0..10 {
        bench.step().await;
    }
    let notices = bench.count_events("tallyhook:delivery_abandoned").await;
    let mut deliveries = 0;
    for id in ids {
        let counts = bench.store.count_deliveries(bench.acme, id, DeliveryFilter::default()).await.unwrap();
        deliveries += counts.total();
    }
    assert_eq!((notices, deliveries), (WEBHOOKS, WEBHOOKS + WEBHOOKS * WEBHOOKS));
    assert_eq!(E::unfinished(&bench.place), 0, "nothing is left to be said");
}
