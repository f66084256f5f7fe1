//! A merchant whom another node holds, and everybody else.

use std::sync::Arc;
use std::time::Duration;

use tallyhook::domain::delivery::{DeliveryFilter, DeliveryState, Outcome, Verdict};
use tallyhook::domain::id::MerchantId;
use tallyhook::store::postgres::{Prepare, Timeouts};
use tallyhook::store::{Deliveries, Events, Outbox, StoreError, Webhooks};

use super::{Bench, Node, PostgresStore, everything, publish_many};
use crate::common::postgres::{Postgres, Transaction};
use crate::suite::{Engine, QUOTA, by, event, outcome, spec};

/// As a node does that has stopped in the middle of a transaction.
fn hold(bench: &Bench, merchant: MerchantId) -> Transaction {
    let sql = format!("SELECT FROM merchant WHERE merchant_id = {merchant} FOR NO KEY UPDATE");
    Postgres::shared().expect("it is there").begin(&bench.place, &sql)
}

/// A node that publishes, and waits so long for a merchant.
fn publisher(bench: &Bench, lock: Duration) -> Node {
    Node::with(bench, |config| {
        config.node.sends = false;
        let timeouts = Timeouts { lock, statement: Duration::from_secs(60), ..Timeouts::default() };
        config.database = config.database.clone().with(timeouts, Prepare::Auto);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_held_keeps_nobody_else_waiting_and_misses_nothing() {
    const EACH: usize = 3;
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let node = Arc::new(publisher(&bench, Duration::from_secs(60)));
    let held = hold(&bench, bench.acme);
    let publishers: Vec<_> = (0..10)
        .map(|_| {
            let (node, merchant) = (Arc::clone(&node), bench.acme);
            tokio::spawn(async move { publish_many(&node.store, merchant, EACH).await })
        })
        .collect();
    for _ in 0..100 {
        node.store.publish(by(bench.other), vec![event("order:created", "{}", None)]).await.unwrap();
    }
    assert!(publishers.iter().all(|publisher| !publisher.is_finished()), "they wait for their merchant");
    held.commit();
    let mut all = Vec::new();
    for publisher in publishers {
        all.extend(publisher.await.unwrap());
    }
    all.sort_unstable();
    let numbers: Vec<_> = all.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (1..=10 * EACH as i64).collect::<Vec<_>>(), "in the order of events");
    assert_eq!(bench.states(id).await.len(), numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_held_for_too_long_is_told_and_then_goes_on() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    bench.webhook("*").await;
    let node = publisher(&bench, Duration::from_millis(300));
    let publish = || node.store.publish(by(bench.acme), vec![event("order:created", "{}", None)]);
    let held = hold(&bench, bench.acme);
    for _ in 0..2 {
        let (one, other) = tokio::join!(publish(), publish());
        for refused in [one, other] {
            assert!(matches!(refused, Err(StoreError::Held { .. })), "{refused:?}");
        }
    }
    held.commit();
    assert_eq!(publish_many(&node.store, bench.acme, 2).await.into_iter().map(|(_, n)| n).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_others_are_recorded_without_those_of_one_who_is_held() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let theirs = bench.store.create_webhook(by(bench.other), spec("*"), QUOTA).await.unwrap().webhook_id;
    for merchant in [bench.acme, bench.other] {
        publish_many(&bench.store, merchant, 1).await;
    }
    let of_acme = outcome(id, 1, 1, Verdict::Delivered);
    let of_other = Outcome { merchant_id: bench.other, ..outcome(theirs, 1, 1, Verdict::Delivered) };

    let held = hold(&bench, bench.acme);
    let put_off = bench.store.record([of_acme.clone(), of_other].into()).await.unwrap();
    assert_eq!(put_off, [bench.acme]);
    let states = |merchant, id| bench.store.deliveries(merchant, id, DeliveryFilter::default(), everything());
    assert_eq!(states(bench.other, theirs).await.unwrap()[0].state, DeliveryState::Delivered);
    assert_eq!(states(bench.acme, id).await.unwrap()[0].state, DeliveryState::Pending);
    let store = Arc::clone(&bench.store);
    let waits = tokio::spawn(async move { store.record([of_acme].into()).await });
    held.commit();
    assert_eq!(waits.await.unwrap().unwrap(), []);
    assert_eq!(states(bench.acme, id).await.unwrap()[0].state, DeliveryState::Delivered);
}
