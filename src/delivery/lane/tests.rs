//! Lanes, without a store or a network.

use super::*;
use crate::domain::policy::Batching;
use crate::render::samples::{NOW, parcel, webhook};

const LATER: Timestamp = Timestamp(1_005_000);
const SHARE: Share = Share { requests: 8, requests_max: 64 };
const MS: std::time::Duration = std::time::Duration::from_millis(1);
const MUCH_LATER: Timestamp = Timestamp(9_000_000);

fn page(parcels: Vec<Parcel>) -> Page {
    Page { parcels, is_last: true }
}

/// A parallel lane that has read all there is, which is nothing.
fn idle() -> Lane {
    Lane::new(webhook(1, DeliveryMode::Parallel, 0, 0), Term::default())
}

fn one(number: i64) -> Span {
    Span::one(IncrementId(number))
}

fn take(lane: &mut Lane, now: Timestamp) -> Option<Parcel> {
    if lane.is_ready(now, SHARE) { lane.take(now) } else { None }
}

fn asked(lane: &mut Lane, now: Timestamp) -> Want {
    let want = lane.want(now).expect("there is something to read");
    lane.begin_reading();
    want
}

fn end(lane: &mut Lane, parcel: Parcel, verdict: Verdict) {
    let feedback = if verdict == Verdict::Delivered { Feedback::Good(MS) } else { Feedback::Bad };
    lane.sent(parcel, verdict, feedback, SHARE, NOW);
}

/// Sends what is in front, and gives it back.
fn send(lane: &mut Lane) -> Parcel {
    take(lane, NOW).expect("something is ready")
}

#[test]
fn a_retry_committed_during_a_reading_is_not_forgotten() {
    let mut lane = idle();
    lane.offer(parcel(1, 0, None));
    let sent = send(&mut lane);
    end(&mut lane, sent, Verdict::Retry(LATER));
    // Another retry is due, so the lane reads; what it reads is older than this outcome.
    lane.retries.next = NextDue::At(NOW);
    let want = asked(&mut lane, NOW);
    lane.recorded(one(1), 1, Verdict::Retry(LATER));
    lane.read(want, page(Vec::new()), None, IncrementId(1), NOW);
    assert_eq!(lane.alarm(NOW), Some(LATER));
}

#[test]
fn an_old_page_brings_nothing_back_that_has_ended() {
    let mut lane = idle();
    lane.retries.next = NextDue::At(NOW);
    let want = asked(&mut lane, NOW);
    lane.read(want, page(vec![parcel(1, 1, Some(NOW))]), None, IncrementId(1), NOW);
    let sent = send(&mut lane);
    lane.retries.next = NextDue::At(NOW);
    let want = asked(&mut lane, NOW);
    end(&mut lane, sent, Verdict::Delivered);
    lane.recorded(one(1), 2, Verdict::Delivered);
    lane.read(want, page(vec![parcel(1, 1, Some(NOW))]), None, IncrementId(1), NOW);
    assert!(take(&mut lane, NOW).is_none(), "number 1 was delivered");
}

#[test]
fn a_rest_ends_before_the_next_retry() {
    let mut lane = idle();
    lane.note_due(Some(MUCH_LATER));
    lane.commit_through(IncrementId(1));
    asked(&mut lane, NOW);
    lane.reading_failed(LATER);
    assert_eq!(lane.want(NOW), None);
    assert_eq!(lane.alarm(NOW), Some(LATER));
    assert_eq!(lane.want(LATER), Some(Want::Fresh(IncrementId(0))));
    assert_eq!(lane.alarm(LATER), Some(MUCH_LATER));
}

#[test]
fn gone_and_enabled_in_one_breath_is_tried_again() {
    for mode in [DeliveryMode::Parallel, DeliveryMode::Ordered] {
        let mut lane = Lane::new(webhook(1, mode, 0, 0), Term::default());
        lane.offer(parcel(1, 0, None));
        let sent = send(&mut lane);
        end(&mut lane, sent, Verdict::Gone);
        // The lane saw only the last of two announcements.
        lane.change(webhook(1, mode, 0, 1));
        lane.recorded(one(1), 1, Verdict::Gone);
        assert!(lane.want(NOW).is_some(), "{mode:?}");
    }
}

#[test]
fn nothing_overtakes_a_number_that_was_answered_410() {
    let mut lane = Lane::new(webhook(1, DeliveryMode::Ordered, 0, 0), Term::default());
    lane.offer(parcel(1, 0, None));
    lane.offer(parcel(2, 0, None));
    let sent = send(&mut lane);
    end(&mut lane, sent, Verdict::Gone);
    assert!(take(&mut lane, NOW).is_none(), "the store does not know yet");
    lane.recorded(one(1), 1, Verdict::Gone);
    let want = asked(&mut lane, NOW);
    assert_eq!(want, Want::Pending(IncrementId(0)));
    lane.read(want, page(vec![parcel(1, 1, Some(NOW)), parcel(2, 0, None)]), None, IncrementId(2), NOW);
    assert_eq!(send(&mut lane).increment_id, IncrementId(1));
}

#[test]
fn an_ordered_lane_keeps_its_order_whatever_is_read_again() {
    let mut lane = Lane::new(webhook(1, DeliveryMode::Ordered, 0, 3), Term::default());
    let want = asked(&mut lane, NOW);
    lane.read(want, page((1..=3).map(|n| parcel(n, 0, None)).collect()), None, IncrementId(3), NOW);
    let sent = send(&mut lane);
    assert!(take(&mut lane, NOW).is_none(), "one at a time");
    // Off and on again while number 1 is on its way.
    let mut off = Webhook::clone(&lane.webhook);
    off.spec.is_active = false;
    lane.change(Arc::new(off));
    lane.change(webhook(1, DeliveryMode::Ordered, 0, 3));
    let want = asked(&mut lane, NOW);
    lane.read(want, page((1..=3).map(|n| parcel(n, 0, None)).collect()), None, IncrementId(3), NOW);
    end(&mut lane, sent, Verdict::Retry(LATER));
    lane.recorded(one(1), 1, Verdict::Retry(LATER));
    assert!(take(&mut lane, NOW).is_none(), "number 1 is not due");
    let order: Vec<_> = std::iter::from_fn(|| {
        let parcel = take(&mut lane, LATER)?;
        let number = parcel.increment_id;
        end(&mut lane, parcel, Verdict::Delivered);
        lane.recorded(Span::one(number), 1, Verdict::Delivered);
        Some(number.0)
    })
    .collect();
    assert_eq!(order, [1, 2, 3]);
    assert!(lane.held.is_empty() && lane.waiting_bytes == 0);
}

#[test]
fn what_is_let_go_of_before_its_outcome_is_heard_is_read_once_it_is() {
    // Number 1 has failed once, and is due.
    let read_all = |lane: &mut Lane| {
        while let Some(want) = lane.want(NOW) {
            lane.begin_reading();
            let is_found = match want {
                Want::Fresh(_) => false,
                Want::Due(after) => after.due_at < NOW,
                Want::Pending(after) => after < IncrementId(1),
                Want::One(_) => false,
            };
            let found = is_found.then(|| parcel(1, 1, Some(NOW)));
            lane.read(want, page(found.into_iter().collect()), None, IncrementId(1), NOW);
        }
    };
    for ordered_again in [false, true] {
        let mut lane = Lane::new(webhook(1, DeliveryMode::Ordered, 0, 0), Term::default());
        lane.offer(parcel(1, 0, None));
        let sent = send(&mut lane);
        end(&mut lane, sent, Verdict::Retry(LATER));
        // It is committed, then its owner has it sent at once, and makes the
        // lane parallel; the news of all that overtake the outcome.
        lane.reread(IncrementId(1));
        let mode = if ordered_again { DeliveryMode::Ordered } else { DeliveryMode::Parallel };
        lane.change(webhook(1, DeliveryMode::Parallel, 0, 1));
        lane.change(webhook(1, mode, 0, 1));
        read_all(&mut lane);
        assert!(take(&mut lane, NOW).is_none(), "its outcome is not on record, for all the lane knows");
        lane.recorded(one(1), 1, Verdict::Retry(LATER));
        read_all(&mut lane);
        assert_eq!(send(&mut lane).attempts, 1, "{mode:?}");
    }
}

#[test]
fn a_batch_that_was_not_sealed_is_read_again() {
    let spec_with = |mode| {
        let mut webhook = Webhook::clone(&webhook(1, mode, 0, 3));
        webhook.spec.batch = Some(Batching::try_new(3, None, Some(0)).unwrap());
        Arc::new(webhook)
    };
    for (mode, again) in
        [(DeliveryMode::Parallel, Want::Fresh(IncrementId(0))), (DeliveryMode::Ordered, Want::Pending(IncrementId(0)))]
    {
        let mut lane = Lane::new(spec_with(mode), Term::default());
        lane.retries.next = NextDue::Never;
        let want = asked(&mut lane, NOW);
        lane.read(want, page((1..=3).map(|n| parcel(n, 0, None)).collect()), None, IncrementId(3), NOW);
        let sent = send(&mut lane);
        assert_eq!(sent.numbers(), Span { first: IncrementId(1), last: IncrementId(3) });
        // The store could not be written.
        lane.unsent(&sent, Some(LATER));
        assert_eq!((lane.want(NOW), lane.alarm(NOW)), (None, Some(LATER)));
        lane.retries.next = NextDue::Never;
        let want = asked(&mut lane, LATER);
        assert_eq!(want, again, "{mode:?}");
        // Number 2 was cancelled meanwhile.
        lane.read(want, page([1, 3].map(|n| parcel(n, 0, None)).into()), None, IncrementId(3), LATER);
        assert_eq!(take(&mut lane, LATER).expect("a batch of one").numbers(), one(1));
    }
}

#[test]
fn what_is_to_be_sent_now_waits_for_no_pause_no_rate_and_no_switch() {
    let asks = Feedback::TooMuch(Some(std::time::Duration::from_secs(600)));
    let off = |on: bool, mode| {
        let mut other = Webhook::clone(&webhook(1, mode, 0, 3));
        other.spec.is_active = on;
        Arc::new(other)
    };
    for (mode, on) in [DeliveryMode::Parallel, DeliveryMode::Ordered].map(|mode| [(mode, true), (mode, false)]).concat()
    {
        let mut lane = Lane::new(off(true, mode), Term::default());
        lane.offer(parcel(1, 0, None));
        let sent = send(&mut lane);
        lane.sent(sent, Verdict::Retry(MUCH_LATER), asks, SHARE, NOW);
        lane.recorded(one(1), 1, Verdict::Retry(MUCH_LATER));
        lane.change(off(on, mode));
        // Its owner has it sent now: the store shows it as due.
        lane.reread(IncrementId(1));
        lane.send_now(IncrementId(1));
        let again = Parcel { policy_start: 1, ..parcel(1, 1, Some(NOW)) };
        let want = asked(&mut lane, NOW);
        let (is_one, others) = match want {
            Want::One(number) => (number == IncrementId(1), Vec::new()),
            _ => (mode == DeliveryMode::Ordered, vec![parcel(2, 0, None), parcel(3, 0, None)]),
        };
        assert!(is_one, "{want:?}");
        lane.read(want, page([vec![again], others].concat()), None, IncrementId(3), NOW);
        let sent = send(&mut lane);
        assert_eq!(sent.increment_id, IncrementId(1));
        assert!(take(&mut lane, NOW).is_none(), "{mode:?} {on}: the others wait");
        // It succeeds, and so the others go.
        end(&mut lane, sent, Verdict::Delivered);
        lane.recorded(one(1), 2, Verdict::Delivered);
        assert_eq!((lane.pause(NOW), lane.urgent.is_empty()), (None, true));
    }
}

#[test]
fn what_was_read_before_it_is_known_to_be_wanted_now_goes_first() {
    let mut lane = idle();
    (1..=3).for_each(|number| lane.offer(parcel(number, 0, None)));
    let mut other = Webhook::clone(&lane.webhook);
    other.spec.is_active = false;
    lane.webhook = Arc::new(other);
    assert!(take(&mut lane, NOW).is_none());
    lane.send_now(IncrementId(3));
    assert_eq!(send(&mut lane).increment_id, IncrementId(3));
    assert!(take(&mut lane, NOW).is_none());
}

/// The store counts an outcome only if it follows those on record.
#[test]
fn an_ordered_retry_waits_until_its_last_outcome_is_on_record() {
    let mut lane = Lane::new(webhook(1, DeliveryMode::Ordered, 0, 0), Term::default());
    lane.offer(parcel(1, 0, None));
    lane.offer(parcel(2, 0, None));
    let sent = send(&mut lane);
    end(&mut lane, sent, Verdict::Retry(LATER));
    assert!(take(&mut lane, MUCH_LATER).is_none());
    lane.recorded(one(1), 1, Verdict::Retry(LATER));
    assert!(take(&mut lane, NOW).is_none(), "it is not due");
    let again = take(&mut lane, MUCH_LATER).map(|parcel| (parcel.increment_id, parcel.attempts));
    assert_eq!(again, Some((IncrementId(1), 1)));
}
