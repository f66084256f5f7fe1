//! Merchants, their users and sessions.

use tallyhook::domain::labels::Label;
use tallyhook::domain::token::Confinement;
use tallyhook::store::Alteration;

use super::*;

pub async fn tenants_see_their_own<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    assert!(bench.store.webhook_ids(bench.other).await.unwrap().is_empty());
    assert!(matches!(bench.store.webhook(bench.other, id).await, Err(StoreError::NoWebhook)));
    assert_eq!(bench.store.webhook(bench.acme, id).await.unwrap().created_by, by(bench.acme).user);
    assert!(matches!(
        bench.store.deliveries(bench.other, id, DeliveryFilter::default(), all()).await,
        Err(StoreError::NoWebhook)
    ));
    let attempts = bench.store.attempts(bench.other, id, IncrementId(1), 0, 100).await;
    assert!(matches!(attempts, Err(StoreError::NoWebhook)));
    let missing = bench.store.attempts(bench.acme, id, IncrementId(2), 0, 100).await;
    assert!(matches!(missing, Err(StoreError::NoDelivery)));
}

/// A caller was looked at before its change; what it reaches may be another when that is made.
pub async fn what_is_beyond_reach_is_changed_by_nothing<E: Engine>() {
    let bench = Bench::<E>::new();
    let [own, beyond] = ["42", "43"].map(|number| {
        let labels = Labels::try_new([("customer".to_owned(), number.to_owned())].into()).unwrap();
        WebhookSpec { labels, ..spec("order:*") }
    });
    let mut ids = Vec::new();
    for spec in [own, beyond] {
        ids.push(bench.store.create_webhook(by(bench.acme), spec, 10).await.unwrap().webhook_id);
    }
    bench.publish("order:created").await;
    let label = Label::try_new("customer", "42").unwrap();
    for within in [Confinement::Label(label), Confinement::webhooks(vec![ids[0]]).unwrap()] {
        let by = || By { within: Some(Arc::new(within.clone())), ..by(bench.acme) };
        let (store, id, one) = (&bench.store, ids[1], IncrementId(1));
        let before = store.webhook(bench.acme, id).await.unwrap();
        let span = Span::one(one);
        let refused = [
            store.alter_webhook(by(), id, Alteration::Pause(true)).await.err(),
            store.delete_webhook(by(), id).await.err(),
            store.alter_delivery(by(), id, one, DeliveryAlteration::Retry).await.err(),
            store.alter_delivery(by(), id, one, DeliveryAlteration::Cancel { whole_batch: false }).await.err(),
            store.alter_delivery(by(), id, one, DeliveryAlteration::Forget).await.err(),
            store.replay(by(), id, span, DeliveryFilter::default()).await.err(),
            store.retry_many(by(), Some(id), DeliveryFilter::default()).await.err(),
            store.backfill(by(), id, since(START)).await.err(),
            store.acknowledge(by(), id, IncrementId(0)).await.err(),
            store.hand_out(by(), id, one).await.err(),
            store.test(by(), id, Message::try_new("{}").unwrap()).await.err(),
        ];
        for (place, refused) in refused.into_iter().enumerate() {
            assert!(matches!(refused, Some(StoreError::NoWebhook)), "{place}: {refused:?}");
        }
        assert_eq!(store.set_active(by(), WebhookSelector::Id(id), false).await.unwrap(), 0);
        assert_eq!(store.set_active(by(), WebhookSelector::All, true).await.unwrap(), 1, "its own");
        let after = store.webhook(bench.acme, id).await.unwrap();
        assert_eq!((after.spec, after.is_paused, after.updated_at), (before.spec, false, before.updated_at));
        assert_eq!(bench.states(id).await, [DeliveryState::Pending]);
        store.alter_webhook(by(), ids[0], Alteration::Pause(true)).await.unwrap();
        store.alter_webhook(by(), ids[0], Alteration::Pause(false)).await.unwrap();
    }
}

pub async fn sessions_live_end_and_are_swept<E: Engine>() {
    let bench = Bench::<E>::new();
    let user = bench.store.user(UserBy::Name("acme"), Account::Server).await.unwrap().unwrap().user_id;
    let key = KeyHash::of("session");
    let at = |seconds| START.after(Duration::from_secs(seconds));
    let open = |key, expires_at| {
        bench.store.open_session(by(bench.acme), NewSession { user, key, expires_at, ends_at: None }, 100)
    };
    open(key, at(60)).await.unwrap();
    bench.store.renew_session(bench.acme, key, at(90));
    bench.store.renew_session(bench.acme, key, at(70));
    bench.store.end_session(KeyHash::of("nobody's"), Account::Server).await.unwrap();
    // The writer works through a merchant's line in order: when this is done, so is the renewal.
    open(KeyHash::of("another"), at(60)).await.unwrap();
    assert_eq!(
        bench.store.session(key, Account::Server).await.unwrap().unwrap().expires_at,
        at(90),
        "an end never comes nearer"
    );
    bench.store.end_session(key, Account::Server).await.unwrap();
    assert!(bench.store.session(key, Account::Server).await.unwrap().is_none());
    // One that was opened with a key that was replaced ends with it, however much it is used.
    let session = NewSession { user, key, expires_at: at(60), ends_at: Some(at(80)) };
    bench.store.open_session(by(bench.acme), session, 100).await.unwrap();
    bench.store.renew_session(bench.acme, key, at(90));
    open(KeyHash::of("a third"), at(60)).await.unwrap();
    let found = bench.store.session(key, Account::Server).await.unwrap().unwrap();
    assert_eq!((found.expires_at, found.ends_at), (at(80), Some(at(80))));
}

pub async fn one_session_more_than_may_be_ends_the_oldest<E: Engine>() {
    let bench = Bench::<E>::new();
    let user = bench.store.user(UserBy::Name("acme"), Account::Server).await.unwrap().unwrap().user_id;
    let at = |seconds| START.after(Duration::from_secs(seconds));
    let keys: Vec<_> = ["a", "b", "c", "d"].map(KeyHash::of).into();
    let session = |user, key, expires_at| NewSession { user, key, expires_at, ends_at: None };
    let open = |key, end| bench.store.open_session(by(bench.acme), session(user, key, end), 3);
    for (key, end) in keys[..3].iter().zip([60, 61, 62]) {
        open(*key, at(end)).await.unwrap();
    }
    bench.store.renew_session(bench.acme, keys[0], at(90));
    bench.store.open_session(by(bench.other), session(UserId(2), KeyHash::of("other"), at(1)), 3).await.unwrap();
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
