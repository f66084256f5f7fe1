//! Events that go far are numbered in shares, and whatever happens in between
//! they are numbered everywhere, once.

use futures_util::FutureExt;

use super::*;

/// Ten webhooks, and events that make three shares of deliveries.
pub const WEBHOOKS: usize = 10;
pub const EVENTS: usize = 60;

pub fn wide<E: Engine>() -> Bench<E> {
    Bench::<E>::with(|settings| settings.publish_deliveries_max = WEBHOOKS * EVENTS)
}

pub async fn webhooks(bench: &Bench<impl Engine>) -> Vec<WebhookId> {
    let mut ids = Vec::new();
    for _ in 0..WEBHOOKS {
        ids.push(bench.webhook("order:*").await);
    }
    ids
}

pub fn events() -> Vec<NewEvent> {
    (0..EVENTS).map(|n| event("order:created", "{}", Some(&format!("key {n}")))).collect()
}

/// What the events come to, if they are the first.
pub fn expected(ids: &[WebhookId]) -> Vec<Vec<(i64, i64)>> {
    (1..=EVENTS as i64).map(|number| ids.iter().map(|id| (id.0, number)).collect()).collect()
}

pub fn given(receipts: &[Receipt]) -> Vec<Vec<(i64, i64)>> {
    receipts.iter().map(numbers).collect()
}

/// All numbers of a webhook, from the store.
pub async fn all_fresh(bench: &Bench<impl Engine>, id: WebhookId) -> Vec<i64> {
    bench.fresh(id, 0).await
}

pub async fn all_are_numbered_and_handed_over_once<E: Engine>() {
    let bench = wide::<E>();
    let ids = webhooks(&bench).await;
    bench.mailbox.take();
    let before = *bench.store.commits().borrow();
    let receipts = bench.store.publish(by(bench.acme), events()).await.unwrap();
    assert_eq!(given(&receipts), expected(&ids));
    assert_eq!(*bench.store.commits().borrow() - before, 1, "shares go on as far as a commit has room");
    let mut parcels: Vec<_> =
        bench.mailbox.take().parcels.iter().map(|(id, parcel)| (id.0, parcel.increment_id.0)).collect();
    parcels.sort_unstable();
    let mut all: Vec<_> = expected(&ids).concat();
    all.sort_unstable();
    assert_eq!(parcels, all);
    assert_eq!(bench.store.publish(by(bench.acme), events()).await.unwrap(), receipts, "its keys stand for it");
    assert_eq!(E::unfinished(&bench.place), 0);
}

pub async fn others_have_their_turn_in_between<E: Engine>() {
    let bench = wide::<E>();
    webhooks(&bench).await;
    let mut wide = bench.store.publish(by(bench.acme), events());
    let mut own = bench.store.publish(by(bench.acme), vec![event("order:created", "{}", None)]);
    let mut other = bench.store.publish(by(bench.other), vec![event("order:created", "{}", None)]);
    // All three are in line before the first answer is looked at.
    for publish in [&mut wide, &mut own, &mut other] {
        let _ = publish.now_or_never();
    }
    let commits = bench.store.commits();
    other.await.unwrap();
    let others = *commits.borrow();
    assert_eq!(numbers(&own.await.unwrap()[0])[0].1, EVENTS as i64 + 1, "the merchant's own go on behind it");
    assert!(*commits.borrow() > others, "another merchant did not wait for all of it");
    drop(wide);
}

pub async fn a_notice_goes_to_all_that_want_it<E: Engine>() {
    let bench = wide::<E>();
    let failing = bench.webhook("order:*").await;
    let mut told = Vec::new();
    for _ in 0..300 {
        let spec = spec("tallyhook:webhook_disabled");
        told.push(bench.store.create_webhook(by(bench.acme), spec, 1_000).await.unwrap().webhook_id);
    }
    bench.publish("order:created").await;
    bench.record(failing, 1, 1, Verdict::Gone).await;
    for id in &told {
        bench.store.waits().numbered_beyond(*id, IncrementId::ZERO).await;
        assert_eq!(all_fresh(&bench, *id).await, [1]);
    }
    assert_eq!(bench.count_events("tallyhook:webhook_disabled").await, 1);
    assert_eq!(E::unfinished(&bench.place), 0);
}
