//! Events are numbered, and told of: each webhook counts its own.

use std::collections::BTreeSet;

use super::*;

pub async fn each_webhook_counts_its_own<E: Engine>() {
    let bench = Bench::<E>::new();
    let (a, b) = (bench.webhook("order:*").await, bench.webhook("*").await);
    assert_eq!(numbers(&bench.publish("order:created").await), [(a.0, 1), (b.0, 1)]);
    assert_eq!(numbers(&bench.publish("product:created").await), [(b.0, 2)]);
    assert_eq!(numbers(&bench.publish("order:created").await), [(a.0, 2), (b.0, 3)]);
    let foreign = bench.store.publish(by(bench.other), vec![event("order:created", "{}", None)]).await.unwrap();
    assert!(foreign[0].deliveries.is_empty(), "another merchant's events are not ours");

    let bench = bench.reopen();
    assert_eq!(numbers(&bench.publish("order:created").await), [(a.0, 3), (b.0, 4)], "numbers go on");
    assert_eq!(bench.fresh(a, 0).await, [1, 2, 3]);
    assert_eq!(bench.fresh(b, 2).await, [3, 4]);
}

pub async fn many_events_are_numbered_in_their_order<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("order:*").await;
    let events = ["order:a", "product:b", "order:c"].map(|topic| event(topic, "{}", None));
    let receipts = bench.store.publish(by(bench.acme), events.to_vec()).await.unwrap();
    let given: Vec<_> = receipts.iter().map(numbers).collect();
    assert_eq!(given, [vec![(id.0, 1)], vec![], vec![(id.0, 2)]]);
}

pub async fn a_publish_makes_no_more_deliveries_than_it_may<E: Engine>() {
    let bench = Bench::<E>::new();
    let (a, b) = (bench.webhook("*").await, bench.webhook("*").await);
    let events = |count| vec![event("order:created", "{}", None); count];
    let refused = bench.store.publish(by(bench.acme), events(26)).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyDeliveries { max: 50 }), "{refused}");
    let receipts = bench.store.publish(by(bench.acme), events(25)).await.unwrap();
    assert_eq!(numbers(&receipts[0]), [(a.0, 1), (b.0, 1)], "the refused one took no number");

    // What is answered again counts too, and takes nothing new.
    let repeated = |count| vec![event("order:created", "{}", Some("k")); count];
    let refused = bench.store.publish(by(bench.acme), repeated(26)).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyDeliveries { max: 50 }), "{refused}");
    let first = bench.store.publish(by(bench.acme), repeated(25)).await.unwrap();
    assert_eq!(bench.store.publish(by(bench.acme), repeated(25)).await.unwrap(), first);
    assert!(first.iter().all(|receipt| numbers(receipt) == [(a.0, 26), (b.0, 26)]), "it is one event");
    assert!(bench.store.publish(by(bench.acme), repeated(26)).await.is_err());
}

pub async fn an_idempotency_key_makes_two_publishes_one<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    let keyed = |message| vec![event("order:created", message, Some("k1"))];
    let first = bench.store.publish(by(bench.acme), keyed("{\"n\": 1}")).await.unwrap();
    assert_eq!(bench.store.publish(by(bench.acme), keyed("{\"n\": 1}")).await.unwrap(), first);
    assert_eq!(bench.fresh(id, 0).await, [1]);

    // One event of several conflicts: none is accepted.
    let mixed = vec![event("order:created", "{}", None), keyed("{\"n\": 2}").remove(0)];
    let refused = bench.store.publish(by(bench.acme), mixed).await.unwrap_err();
    assert!(matches!(refused, StoreError::IdempotencyConflict { index: 1, event_id } if event_id == first[0].event_id));
    assert_eq!(bench.fresh(id, 0).await, [1]);
    assert_eq!(numbers(&bench.publish("order:created").await), [(id.0, 2)], "the refused one took no number");

    let elsewhere = bench.store.publish(by(bench.other), keyed("{\"n\": 2}")).await.unwrap();
    assert_ne!(elsewhere[0].event_id, first[0].event_id, "keys count per merchant");
    bench.hand.send_modify(|now| *now = now.after(Duration::from_secs(3_600)));
    let later = bench.store.publish(by(bench.acme), keyed("{\"n\": 2}")).await.unwrap();
    assert_eq!(numbers(&later[0]), [(id.0, 3)], "keys expire");
}

pub async fn two_events_with_one_key_in_one_publish_are_one<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    let twice = vec![event("order:created", "{}", Some("k")), event("order:created", "{}", Some("k"))];
    let receipts = bench.store.publish(by(bench.acme), twice).await.unwrap();
    assert_eq!(receipts[0], receipts[1]);
    assert_eq!(bench.fresh(id, 0).await, [1]);
}

pub async fn off_is_not_numbered_and_disabled_is<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("order:*").await;
    let listing = WebhookSelector::Listing(Pattern::try_new("order:*").unwrap());
    assert_eq!(bench.store.set_active(by(bench.acme), listing.clone(), false).await.unwrap(), 1);
    assert_eq!(bench.store.set_active(by(bench.other), WebhookSelector::All, true).await.unwrap(), 0);
    assert!(bench.publish("order:created").await.deliveries.is_empty());
    assert_eq!(bench.store.set_active(by(bench.acme), WebhookSelector::Id(id), true).await.unwrap(), 1);
    bench.publish("order:created").await;

    bench.record(id, 1, 1, Verdict::Gone).await;
    let gone = bench.store.webhook(bench.acme, id).await.unwrap();
    assert_eq!((gone.disabled, gone.spec.is_active), (Some(DisabledReason::Gone), true));
    assert_eq!(numbers(&bench.publish("order:created").await), [(id.0, 2)]);
    let exact = WebhookSelector::Listing(Pattern::try_new("order:created").unwrap());
    assert_eq!(bench.store.set_active(by(bench.acme), exact, true).await.unwrap(), 0, "matching is not listing");
    assert_eq!(bench.store.set_active(by(bench.acme), listing, true).await.unwrap(), 1);
    assert_eq!(bench.store.webhook(bench.acme, id).await.unwrap().disabled, None);
}

pub async fn news_come_after_the_commit_and_in_order<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..3 {
        bench.publish("order:created").await;
    }
    bench.mailbox.arrived().await;
    let news = bench.mailbox.take();
    assert!(news.changed[&id].is_some());
    assert_eq!(news.committed_through[&id], IncrementId(3));
    let handed: Vec<_> = news.parcels.iter().map(|(_, parcel)| parcel.increment_id.0).collect();
    assert_eq!(handed, [1, 2, 3]);
    bench.store.delete_webhook(by(bench.acme), id).await.unwrap();
    assert!(bench.mailbox.take().changed[&id].is_none());
}

/// Whoever has seen an event never sees a new one with a lower id, however many
/// publish at once: cursors rest on that.
pub async fn events_can_be_read_in_the_order_of_their_ids<E: Engine>() {
    const PUBLISHERS: usize = 6;
    const PUBLISHES: usize = 12;
    let bench = Bench::<E>::new();
    bench.webhook("order:*").await;
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let (store, merchant) = (Arc::clone(&bench.store), bench.acme);
        tokio::spawn(async move {
            for place in 0..PUBLISHES {
                // Some go on in further commits.
                let message = format!("{{\"filler\": \"{}\"}}", "x".repeat(place * 40_000));
                let events = vec![event("order:created", &message, None); 1 + (publisher + place) % 3];
                store.publish(by(merchant), events).await.unwrap();
            }
        })
    });
    let mut commits = bench.store.commits();
    let mut publishers = std::pin::pin!(futures_util::future::try_join_all(publishers.collect::<Vec<_>>()));
    let (mut seen, mut is_done, mut looks) = (Vec::new(), false, 0);
    while !is_done {
        tokio::select! {
            ended = &mut publishers => {
                ended.unwrap();
                is_done = true;
            }
            changed = commits.changed() => changed.unwrap(),
        }
        let slice = Slice { after: None, order: Order::Ascending, limit: 1_000 };
        let found = bench.store.events(bench.acme, EventFilter::default(), slice).await.unwrap();
        let ids: Vec<_> = found.iter().map(|event| event.event_id).collect();
        assert!(ids.starts_with(&seen), "behind {:?} there came {ids:?}", seen.last());
        looks += usize::from(ids.len() > seen.len());
        seen = ids;
    }
    let total: usize = (0..PUBLISHERS * PUBLISHES).map(|n| 1 + (n / PUBLISHES + n % PUBLISHES) % 3).sum();
    assert_eq!(seen.len(), total);
    assert!(looks > 2, "they came in several commits");
}

/// Watchers are told of what was committed after they began, and read what the
/// merchant may see of it.
pub async fn watchers_are_told_of_every_commit<E: Engine>() {
    const BACKLOG: usize = 100;
    let bench = Bench::<E>::new();
    let id = bench.webhook("order:*").await;
    bench.publish("order:created").await;
    let deliveries = bench.store.feed().watch_deliveries(bench.acme, None, BACKLOG);
    let strangers = bench.store.feed().watch_deliveries(bench.other, None, BACKLOG);
    let events = bench.store.feed().watch_events(bench.acme, Patterns::try_new("*").unwrap(), None, BACKLOG);
    bench.store.hear(bench.acme).await.unwrap();
    bench.store.hear(bench.other).await.unwrap();
    // What is told of a commit may come a moment later than its answer.
    let taken = async |count| {
        let mut changed = BTreeSet::new();
        while changed.len() < count {
            deliveries.arrived().await;
            changed.extend(deliveries.take().changed);
        }
        changed.into_iter().collect::<Vec<_>>()
    };
    let number = |number| (id, IncrementId(number));
    assert!(deliveries.take().changed.is_empty());

    bench.publish("order:created").await;
    let unnumbered = bench.publish("product:created").await.event_id;
    assert_eq!(taken(1).await, [number(2)]);
    bench.record(id, 1, 1, Verdict::Retry(START)).await;
    bench.record(id, 2, 1, Verdict::Delivered).await;
    assert_eq!(taken(2).await, [number(1), number(2)]);
    // Recorded twice is recorded once.
    bench.record(id, 2, 1, Verdict::Delivered).await;
    assert!(deliveries.take().changed.is_empty());
    bench
        .store
        .alter_delivery(by(bench.acme), id, IncrementId(1), DeliveryAlteration::Cancel { whole_batch: false })
        .await
        .unwrap();
    assert_eq!(taken(1).await, [number(1)]);
    assert!(strangers.take().changed.is_empty());
    let published: Vec<_> = events.take().published.into_iter().collect();
    assert_eq!(published.last(), Some(&unnumbered));

    let keys = vec![number(2), number(9), number(1)];
    let found = bench.store.statuses(bench.acme, keys.clone()).await.unwrap();
    let seen: Vec<_> = found.iter().map(|status| (status.delivery.increment_id.0, status.delivery.state)).collect();
    assert_eq!(seen, [(2, DeliveryState::Delivered), (1, DeliveryState::Cancelled)]);
    let attempt = found[1].last_attempt.as_ref().unwrap();
    assert_eq!(attempt.error.as_ref().unwrap().class, ErrorClass::Status);
    assert!(bench.store.statuses(bench.other, keys.clone()).await.unwrap().is_empty());

    let (found, looked_at) = bench.store.published(bench.acme, published.clone(), 1).await.unwrap();
    assert_eq!((found.len(), found[0].event.event_id, looked_at), (1, published[0], 1), "at least one");
    assert!(bench.store.published(bench.other, published.clone(), 1).await.unwrap().0.is_empty());
    let all = |merchant| bench.store.event_ids(merchant, Patterns::try_new("product:*").unwrap(), EventId(0));
    let found = all(bench.acme).await.unwrap();
    assert_eq!((found.ids, found.through, found.is_last), (vec![unnumbered], unnumbered, true));
    let found = all(bench.other).await.unwrap();
    assert_eq!((found.ids, found.through, found.is_last), (vec![], EventId(0), true), "none of its own");

    bench.store.delete_webhook(by(bench.acme), id).await.unwrap();
    assert!(bench.store.statuses(bench.acme, keys).await.unwrap().is_empty(), "it is no more");
}
