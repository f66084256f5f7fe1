//! What the delivery worker reads, and what it records.

use super::*;

pub async fn an_outcome_counts_once<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    let retry_at = START.after(Duration::from_secs(5));
    bench.record(id, 1, 1, Verdict::Retry(retry_at)).await;
    bench.record(id, 1, 1, Verdict::Delivered).await;
    assert_eq!(bench.states(id).await, [DeliveryState::Pending], "attempt 1 is on record already");
    assert!(bench.fresh(id, 0).await.is_empty(), "what was tried is no longer fresh");
    bench.record(id, 1, 2, Verdict::Delivered).await;
    bench.record(id, 1, 3, Verdict::Abandoned).await;
    assert_eq!(bench.states(id).await, [DeliveryState::Delivered], "what has ended stays ended");

    let attempts = bench.store.attempts(bench.acme, id, IncrementId(1), 0, 100).await.unwrap();
    let made = [(1, Verdict::Retry(retry_at)), (2, Verdict::Delivered), (3, Verdict::Abandoned)];
    let expected = made.map(|(attempt, verdict)| outcome(id, 1, attempt, verdict).attempt);
    assert_eq!(attempts, expected);
}

pub async fn retries_are_found_when_they_are_due<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    let at = |seconds| START.after(Duration::from_secs(seconds));
    for (number, seconds) in [(1, 30), (2, 10), (3, 20)] {
        bench.publish("order:created").await;
        bench.record(id, number, 1, Verdict::Retry(at(seconds))).await;
    }
    let due = async |after, now, count| {
        let page = bench.load(id, Want::Due(after), now, PageLimit { count, bytes: 1_000_000 }).await.page;
        (page.parcels.iter().map(|parcel| parcel.increment_id.0).collect::<Vec<_>>(), page.is_last)
    };
    assert_eq!(due(DueKey::START, at(9), 9).await, (vec![], true));
    assert_eq!(due(DueKey::START, at(20), 9).await, (vec![2, 3], true));
    assert_eq!(due(DueKey::START, at(99), 2).await, (vec![2, 3], false));
    let after = DueKey { due_at: at(20), increment_id: IncrementId(3) };
    assert_eq!(due(after, at(99), 2).await, (vec![1], true));
    let next_due = async |now| bench.load(id, Want::Due(DueKey::START), now, LIMIT).await.next_due;
    assert_eq!(next_due(at(9)).await, Some(at(10)));
    assert_eq!(next_due(at(30)).await, None);
}

pub async fn a_batch_is_sealed_once_and_read_as_one<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..6 {
        bench.publish("order:created").await;
    }
    let span = |first, last| Span { first: IncrementId(first), last: IncrementId(last) };
    let seal = |first, last| bench.store.seal(bench.acme, id, span(first, last));
    assert!(seal(2, 4).await.unwrap());
    assert!(!seal(4, 5).await.unwrap(), "4 is in a batch");
    assert!(!seal(6, 7).await.unwrap(), "7 was not given out");
    bench.record(id, 1, 1, Verdict::Delivered).await;
    assert!(!seal(1, 1).await.unwrap(), "1 was tried");
    assert_eq!(bench.fresh(id, 0).await, [5, 6]);
    let due = bench.load(id, Want::Due(DueKey::START), START, LIMIT).await.page;
    let numbers = |page: &Page| page.parcels.iter().map(Parcel::numbers).collect::<Vec<_>>();
    assert_eq!(numbers(&due), [span(2, 4)]);
    let two = PageLimit { count: 2, bytes: 1_000_000 };
    let pending = bench.load(id, Want::Pending(IncrementId::ZERO), START, two).await.page;
    assert_eq!(numbers(&pending), [span(2, 4), span(5, 5)]);
    assert!(!pending.is_last && pending.parcels[1].batch.is_none());
}

pub async fn a_page_is_bounded_by_weight_and_never_empty_for_it<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    let big = format!("{{\"x\": \"{}\"}}", "y".repeat(10_000));
    for _ in 0..3 {
        bench.store.publish(by(bench.acme), vec![event("order:created", &big, None)]).await.unwrap();
    }
    let page =
        async |bytes| bench.load(id, Want::Fresh(IncrementId::ZERO), START, PageLimit { count: 9, bytes }).await.page;
    let page_of_one = page(1).await;
    assert_eq!((page_of_one.parcels.len(), page_of_one.is_last), (1, false));
    let page_of_two = page(21_000).await;
    assert_eq!((page_of_two.parcels.len(), page_of_two.is_last), (2, false));
    assert_eq!(page_of_two.parcels[0].event.message.as_str(), big);
}

pub async fn settled_through_follows_the_lowest_open_number<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.webhook("*").await;
    for _ in 0..4 {
        bench.publish("order:created").await;
    }
    bench.record(id, 2, 1, Verdict::Delivered).await;
    bench.record(id, 3, 1, Verdict::Abandoned).await;
    bench.settles_at(id, 0).await;
    bench.record(id, 1, 1, Verdict::Retry(START)).await;
    bench.settles_at(id, 0).await;
    bench.record(id, 1, 2, Verdict::Delivered).await;
    bench.settles_at(id, 3).await;
    let bench = bench.reopen();
    bench.record(id, 4, 1, Verdict::Delivered).await;
    bench.settles_at(id, 4).await;
}

pub async fn deleting_cancels_and_frees_a_place<E: Engine>() {
    let bench = Bench::<E>::new();
    let id = bench.store.create_webhook(by(bench.acme), spec("*"), 1).await.unwrap().webhook_id;
    let refused = bench.store.create_webhook(by(bench.acme), spec("*"), 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::WebhookQuota { used: 1, max: 1 }));
    for _ in 0..3 {
        bench.publish("order:created").await;
    }
    assert!(matches!(bench.store.delete_webhook(by(bench.other), id).await, Err(StoreError::NoWebhook)));
    bench.store.delete_webhook(by(bench.acme), id).await.unwrap();
    assert!(matches!(bench.store.delete_webhook(by(bench.acme), id).await, Err(StoreError::NoWebhook)));
    assert!(matches!(bench.store.webhook(bench.acme, id).await, Err(StoreError::NoWebhook)));
    assert!(bench.publish("order:created").await.deliveries.is_empty());
    assert!(bench.fresh(id, 0).await.is_empty(), "nothing of it is pending");
    // One was on its way and arrived: that is recorded.
    bench.record(id, 2, 1, Verdict::Delivered).await;
    bench.record(id, 3, 1, Verdict::Retry(START)).await;
    let next = bench.store.create_webhook(by(bench.acme), spec("*"), 1).await.unwrap().webhook_id;
    assert!(next > id);

    let bench = bench.reopen();
    assert_eq!(bench.publish("order:created").await.deliveries.len(), 1, "to the one that is left");
}
