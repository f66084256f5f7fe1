//! Lists and counts: in pages, in both directions, filtered, and longer than
//! one look at the store.

use std::time::Duration;

use tallyhook::domain::catalogue::{TopicChanges, TopicFilter, TopicSpec, Validation};
use tallyhook::domain::delivery::{DeliveryFilter, DeliveryState, StateCounts, Verdict};
use tallyhook::domain::event::EventFilter;
use tallyhook::domain::id::{EventId, IncrementId, WebhookId};
use tallyhook::domain::message_schema::SchemaText;
use tallyhook::domain::page::{Order, Slice};
use tallyhook::domain::topic::{Patterns, Topic};
use tallyhook::store::{DeliveryAlteration, StoreError};

use super::{Bench, Engine, START, by, event, spec};

const ORDERS: [Order; 2] = [Order::Ascending, Order::Descending];

/// Every part of a list, one behind the other.
async fn paged<T, K: Clone>(
    order: Order,
    limit: u32,
    key: impl Fn(&T) -> K,
    part: impl AsyncFn(Slice<K>) -> Vec<T>,
) -> Vec<K> {
    let (mut after, mut keys) = (None, Vec::new());
    loop {
        let found = part(Slice { after, order, limit }).await;
        assert!(found.len() <= limit as usize);
        keys.extend(found.iter().map(&key));
        if found.len() < limit as usize {
            return keys;
        }
        after = keys.last().cloned();
    }
}

impl<E: Engine> Bench<E> {
    async fn numbers(&self, id: WebhookId, filter: &DeliveryFilter, order: Order, limit: u32) -> Vec<i64> {
        let part = async |slice| self.store.deliveries(self.acme, id, filter.clone(), slice).await.unwrap();
        paged(order, limit, |delivery| delivery.increment_id, part).await.into_iter().map(|number| number.0).collect()
    }

    async fn event_ids(&self, filter: &EventFilter, order: Order, limit: u32) -> Vec<i64> {
        let part = async |slice| self.store.events(self.acme, filter.clone(), slice).await.unwrap();
        paged(order, limit, |event| event.event_id, part).await.into_iter().map(|id| id.0).collect()
    }
}

fn in_order(numbers: impl DoubleEndedIterator<Item = i64>, order: Order) -> Vec<i64> {
    match order {
        Order::Ascending => numbers.collect(),
        Order::Descending => numbers.rev().collect(),
    }
}

/// Equal, or told where they part.
fn check(found: &[i64], expected: &[i64]) {
    let place = found.iter().zip(expected).position(|(one, other)| one != other);
    assert_eq!((found.len(), place), (expected.len(), None));
}

/// More than one look covers, so that the seams between looks are among them.
pub async fn long_lists_have_no_seams<E: Engine>() {
    const COUNT: i64 = 20_050;
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..COUNT / 50 {
        let events = (0..50).map(|n| event(if n == 0 { "rare:event" } else { "order:created" }, "{}", None));
        bench.store.publish(by(bench.acme), events.collect()).await.unwrap();
    }
    bench.record(id, 10_000, 1, Verdict::Delivered).await;
    bench
        .store
        .alter_delivery(by(bench.acme), id, IncrementId(10_001), DeliveryAlteration::Cancel { whole_batch: false })
        .await
        .unwrap();
    let rare = Some(Patterns::try_new("rare:*").unwrap());
    for order in ORDERS {
        let all = DeliveryFilter::default();
        check(&bench.numbers(id, &all, order, 7_000).await, &in_order(1..=COUNT, order));
        check(&bench.event_ids(&EventFilter::default(), order, 7_000).await, &in_order(1..=COUNT, order));
        let rare_numbers = || (0..COUNT / 50).map(|n| n * 50 + 1);
        let filter = DeliveryFilter { topics: rare.clone(), ..all.clone() };
        assert_eq!(bench.numbers(id, &filter, order, 100).await, in_order(rare_numbers(), order));
        let filter = EventFilter { topics: rare.clone(), ..EventFilter::default() };
        assert_eq!(bench.event_ids(&filter, order, 100).await, in_order(rare_numbers(), order));
        let delivered = DeliveryFilter { state: Some(DeliveryState::Delivered), ..all };
        assert_eq!(bench.numbers(id, &delivered, order, 1).await, [10_000]);
    }
    let count = async |filter| bench.store.count_deliveries(bench.acme, id, filter).await.unwrap();
    let counts = count(DeliveryFilter::default()).await;
    assert_eq!(counts, StateCounts { pending: COUNT as u64 - 2, delivered: 1, abandoned: 0, cancelled: 1 });
    let rare_counts = count(DeliveryFilter { topics: rare.clone(), ..DeliveryFilter::default() }).await;
    assert_eq!(rare_counts, StateCounts { pending: 400, cancelled: 1, ..StateCounts::default() });
    let count = async |filter| bench.store.count_events(bench.acme, filter).await.unwrap();
    assert_eq!(count(EventFilter::default()).await, COUNT as u64);
    assert_eq!(count(EventFilter { topics: rare, ..EventFilter::default() }).await, COUNT as u64 / 50);

    let stats = bench.store.stats(bench.acme, id).await.unwrap();
    assert_eq!(stats.deliveries, counts);
    assert_eq!(stats.oldest_pending, Some((IncrementId(1), START)));
    assert_eq!((stats.recent.from, stats.recent.succeeded), (IncrementId(COUNT - 999), 0));
}

pub async fn times_bound_lists_from_their_first_millisecond_to_before_their_last<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..4 {
        bench.publish("order:created").await;
        bench.hand.send_modify(|now| *now = now.after(Duration::from_millis(1)));
    }
    let at = |ms| Some(START.after(Duration::from_millis(ms)));
    for (since, until, expected) in [
        (at(1), None, vec![2, 3, 4]),
        (None, at(1), vec![1]),
        (at(1), at(3), vec![2, 3]),
        (at(2), at(2), vec![]),
        (at(9), None, vec![]),
    ] {
        let filter = DeliveryFilter { since, until, ..DeliveryFilter::default() };
        assert_eq!(bench.numbers(id, &filter, Order::Ascending, 2).await, expected);
        let counts = bench.store.count_deliveries(bench.acme, id, filter).await.unwrap();
        assert_eq!(counts.total(), expected.len() as u64);
        let filter = EventFilter { since, until, ..EventFilter::default() };
        assert_eq!(bench.event_ids(&filter, Order::Ascending, 2).await, expected);
        assert_eq!(bench.store.count_events(bench.acme, filter).await.unwrap(), expected.len() as u64);
    }
}

pub async fn statistics_tell_of_attempts_and_of_the_oldest<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..4 {
        bench.publish("order:created").await;
    }
    bench.record(id, 1, 1, Verdict::Delivered).await;
    bench.record(id, 2, 1, Verdict::Abandoned).await;
    bench.record(id, 3, 1, Verdict::Retry(START)).await;
    let stats = bench.store.stats(bench.acme, id).await.unwrap();
    assert_eq!((stats.recent.from, stats.recent.succeeded, stats.recent.failures()), (IncrementId(1), 1, 2));
    assert!(stats.recent.durations.is_some());
    assert_eq!(stats.oldest_pending.map(|(number, _)| number), Some(IncrementId(3)));
    // What is taken up again is pending again, though it lies below what is settled.
    bench.store.alter_delivery(by(bench.acme), id, IncrementId(2), DeliveryAlteration::Retry).await.unwrap();
    let stats = bench.store.stats(bench.acme, id).await.unwrap();
    assert_eq!(stats.oldest_pending.map(|(number, _)| number), Some(IncrementId(2)));
    assert_eq!(stats.deliveries, StateCounts { pending: 3, delivered: 1, ..StateCounts::default() });
    let nothing = bench.webhook("nobody:*").await;
    let stats = bench.store.stats(bench.acme, nothing).await.unwrap();
    assert_eq!((stats.oldest_pending, stats.recent.durations, stats.deliveries.total()), (None, None, 0));
    assert!(matches!(bench.store.stats(bench.other, id).await, Err(StoreError::NoWebhook)));
}

fn topic(text: &str) -> Topic {
    Topic::try_new(text).unwrap()
}

fn said(text: &str) -> TopicSpec {
    TopicSpec::try_new(topic(text), TopicChanges::default()).unwrap()
}

pub async fn a_catalogue_is_its_merchants_own<E: Engine>() {
    let bench = Bench::<E>::new();
    let store = &bench.store;
    let first = store.register_topic(by(bench.acme), said("order:created"), 3).await.unwrap();
    assert_eq!((first.event_type, first.created_at), (1, START));
    let again = store.register_topic(by(bench.acme), said("order:created"), 3).await;
    assert!(matches!(again, Err(StoreError::TopicExists)));
    assert_eq!(store.register_topic(by(bench.other), said("order:created"), 3).await.unwrap().event_type, 1);
    store.register_topic(by(bench.acme), TopicSpec { event_type: Some(7), ..said("a:b") }, 3).await.unwrap();
    let taken = store.register_topic(by(bench.acme), TopicSpec { event_type: Some(7), ..said("c:d") }, 3).await;
    assert!(matches!(taken, Err(StoreError::Violation(violation)) if violation.field == "event_type"));
    let third = store.register_topic(by(bench.acme), said("c:d"), 3).await.unwrap();
    assert_eq!(third.event_type, 8);
    let beyond = store.register_topic(by(bench.acme), said("e:f"), 3).await;
    assert!(matches!(beyond, Err(StoreError::TopicQuota { max: 3 })));

    // A number that is gone is not given again.
    store.remove_topic(by(bench.acme), topic("c:d")).await.unwrap();
    assert!(matches!(store.remove_topic(by(bench.acme), topic("c:d")).await, Err(StoreError::NoTopic)));
    assert_eq!(store.register_topic(by(bench.acme), said("c:d"), 3).await.unwrap().event_type, 9);
    let last = TopicSpec { event_type: Some(2_147_483_647), ..said("g:h") };
    store.register_topic(by(bench.other), last, 3).await.unwrap();
    let none_left = store.register_topic(by(bench.other), said("i:j"), 3).await;
    assert!(matches!(none_left, Err(StoreError::Violation(violation)) if violation.problem.contains("give one")));

    for (order, expected) in ORDERS.into_iter().zip([["a:b", "c:d", "order:created"], ["order:created", "c:d", "a:b"]])
    {
        let part = async |slice| store.topics(bench.acme, TopicFilter::default(), slice).await.unwrap();
        let found = paged(order, 2, |entry| entry.spec.topic.clone(), part).await;
        assert_eq!(found.iter().map(Topic::as_str).collect::<Vec<_>>(), expected);
    }
}

pub async fn rules_follow_the_catalogue<E: Engine>() {
    let bench = Bench::<E>::new();
    let store = &bench.store;
    store.register_topic(by(bench.acme), said("order:created"), 9).await.unwrap();
    let rule = async |merchant| store.topic_rules(merchant, vec![topic("a:b"), topic("order:created")]).await.unwrap();
    let [None, Some(first)] = rule(bench.acme).await[..] else { panic!("one of them is known") };
    // Without a schema there is nothing to reject by.
    assert_eq!((first.validation, first.is_discontinued), (Validation::Off, false));
    assert_eq!(store.topic_schema(bench.acme, first.topic_id).await.unwrap(), None);
    let schema = SchemaText::try_new("{}").unwrap();
    let changes = TopicChanges {
        message_schema: Some(Some(schema.clone())),
        is_discontinued: Some(true),
        ..TopicChanges::default()
    };
    bench.hand.send_modify(|now| *now = now.after(Duration::from_secs(1)));
    let changed = store.update_topic(by(bench.acme), topic("order:created"), changes).await.unwrap();
    assert_eq!((changed.created_at, changed.updated_at), (START, START.after(Duration::from_secs(1))));
    let [None, Some(second)] = rule(bench.acme).await[..] else { panic!("one of them is known") };
    assert_eq!((second.validation, second.is_discontinued), (Validation::Reject, true));
    assert!(second.topic_id == first.topic_id && second.version > first.version);
    assert_eq!(store.topic_schema(bench.acme, first.topic_id).await.unwrap(), Some(schema));
    assert_eq!(rule(bench.other).await, [None, None]);
    let foreign = store.update_topic(by(bench.other), topic("order:created"), TopicChanges::default()).await;
    assert!(matches!(foreign, Err(StoreError::NoTopic)));
    assert!(matches!(store.remove_topic(by(bench.other), topic("order:created")).await, Err(StoreError::NoTopic)));
}

pub async fn lists_are_the_merchants_own<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    let theirs = bench.store.create_webhook(by(bench.other), spec("*"), 9).await.unwrap().webhook_id;
    for merchant in [bench.acme, bench.other, bench.acme] {
        bench.store.publish(by(merchant), vec![event("order:created", "{\"a\": 1}", None)]).await.unwrap();
    }
    let slice = || Slice { after: None, order: Order::Ascending, limit: 9 };
    let found = bench.store.events(bench.other, EventFilter::default(), slice()).await.unwrap();
    assert_eq!(found.iter().map(|event| event.event_id).collect::<Vec<_>>(), [EventId(2)]);
    assert_eq!((found[0].message_bytes, found[0].delivery_count), (8, 1));
    assert_eq!(bench.event_ids(&EventFilter::default(), Order::Descending, 1).await, [3, 1]);
    assert_eq!(bench.store.count_events(bench.other, EventFilter::default()).await.unwrap(), 1);
    for (merchant, id) in [(bench.acme, theirs), (bench.other, id)] {
        let foreign = bench.store.count_deliveries(merchant, id, DeliveryFilter::default()).await;
        assert!(matches!(foreign, Err(StoreError::NoWebhook)));
        let foreign = bench.store.deliveries(merchant, id, DeliveryFilter::default(), slice_of(9)).await;
        assert!(matches!(foreign, Err(StoreError::NoWebhook)));
    }
}

fn slice_of(limit: u32) -> Slice<IncrementId> {
    Slice { after: None, order: Order::Ascending, limit }
}
