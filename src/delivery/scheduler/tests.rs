use super::*;
use crate::domain::delivery::{Attempt, Verdict};
use crate::domain::node::Bucket;
use crate::domain::webhook::DeliveryMode;
use crate::render::samples::{NOW, parcel, webhook};
use crate::store::Page;
use crate::store::mailbox::News;

const IN_FLIGHT_MAX: usize = 32;

/// A scheduler of so many webhooks, which have never had a delivery; their
/// merchants are those of [`merchant_of`].
fn scheduler(webhooks: i64) -> Scheduler {
    let webhook =
        |id| Webhook { merchant_id: merchant_of(id), ..Webhook::clone(&webhook(id, DeliveryMode::Parallel, 0, 0)) };
    Scheduler::new(&Config::sample(IN_FLIGHT_MAX, 8), (1..=webhooks).map(webhook).collect())
}

fn publish(scheduler: &mut Scheduler, id: i64, number: i64) {
    let parcels = vec![(WebhookId(id), parcel(number, 0, None))];
    scheduler.absorb(News { parcels, ..News::default() });
}

/// All that is to be sent now.
fn sends(scheduler: &mut Scheduler) -> Vec<(WebhookId, Parcel)> {
    std::iter::from_fn(|| scheduler.next(NOW))
        .map(|action| match action {
            Action::Send(webhook, parcel, _) => (webhook.webhook_id, parcel),
            Action::Read { .. } => panic!("everything was handed over"),
        })
        .collect()
}

fn delivered(id: WebhookId, parcel: &Parcel) -> Outcome {
    let attempt = Attempt {
        attempt: 1,
        started_at: NOW,
        queue_delay: Duration::ZERO,
        duration: Duration::ZERO,
        address: None,
        status_code: Some(204),
        error: None,
        request_headers: String::new(),
        response_headers: String::new(),
        response_body: Vec::new(),
    };
    Outcome {
        merchant_id: MerchantId(1),
        webhook_id: id,
        numbers: parcel.numbers(),
        attempt,
        verdict: Verdict::Delivered,
        ended_at: NOW,
        pause: None,
        resends_asked: 0,
    }
}

fn end(scheduler: &mut Scheduler, (id, parcel): (WebhookId, Parcel)) {
    let outcome = delivered(id, &parcel);
    let term = scheduler.term(id);
    scheduler.sent(term, parcel, &outcome, Feedback::Good(Duration::from_millis(1)), NOW);
    scheduler.recorded(term, &outcome);
}

/// The merchant's lanes end, and begin anew with what the store has.
#[test]
fn what_an_earlier_lane_had_begun_is_nothing_to_the_next() {
    let mut scheduler = scheduler(1);
    let (id, merchant) = (WebhookId(1), merchant_of(1));
    publish(&mut scheduler, 1, 1);
    let Some(Action::Send(own, sent, term)) = scheduler.next(NOW) else { panic!("it is sent") };
    let lost = [Bucket::of(merchant)].into();
    let again = Webhook { last_increment_id: IncrementId(1), ..Webhook::clone(&own) };
    scheduler.absorb(News { lost, changed: [(id, Some(again.into()))].into(), ..News::default() });
    let (outcome, feedback) = (delivered(id, &sent), Feedback::Good(Duration::from_millis(1)));
    scheduler.sent(term, sent.clone(), &outcome, feedback, NOW);
    scheduler.recorded(term, &outcome);
    assert_eq!((scheduler.in_flight(), scheduler.unrecorded()), (0, 0));
    let Some(Action::Read { want, through, term, .. }) = scheduler.next(NOW) else { panic!("it is looked up") };
    let page = Page { parcels: vec![sent], is_last: true };
    scheduler.read(term, (id, want, through), Some(Loaded { page, next_due: None }), NOW);
    let Some(Action::Send(_, sent, _)) = scheduler.next(NOW) else { panic!("it is sent by the lane that is there") };
    assert_eq!(sent.increment_id, IncrementId(1));
}

fn pause(scheduler: &mut Scheduler, merchant: MerchantId, is_paused: bool) {
    scheduler.absorb(News { paused: [(merchant, is_paused)].into(), ..News::default() });
}

/// What had been loaded is let go of, so that others have the room, and is read again.
#[test]
fn nothing_is_sent_for_a_paused_merchant_until_it_goes_on() {
    let mut scheduler = scheduler(10);
    let (own, other) = (merchant_of(1), merchant_of(10));
    publish(&mut scheduler, 1, 1);
    publish(&mut scheduler, 10, 1);
    pause(&mut scheduler, own, true);
    publish(&mut scheduler, 2, 1);
    let tests = vec![(WebhookId(3), parcel(1, 0, Some(NOW)))];
    scheduler.absorb(News { tests, now: vec![(WebhookId(1), IncrementId(1))], ..News::default() });
    assert_eq!(owners(&sends(&mut scheduler)), [other]);
    assert!(scheduler.alarm().is_none_or(|at| at > NOW) && !scheduler.is_held_up());
    assert_eq!(scheduler.load().loaded_bytes, 0);

    pause(&mut scheduler, own, false);
    let mut asked = Vec::new();
    let mut tested = 0;
    while let Some(action) = scheduler.next(NOW) {
        match action {
            Action::Read { webhook_id, .. } => asked.push(webhook_id),
            Action::Send(webhook, ..) => tested += i64::from(webhook.webhook_id == WebhookId(3)),
        }
    }
    asked.sort_unstable();
    assert!(tested == 1 && asked.contains(&WebhookId(1)) && asked.contains(&WebhookId(2)), "{tested} {asked:?}");
}

#[test]
fn who_is_paused_is_found_by_looking_unless_it_was_told_since() {
    let mut scheduler = scheduler(1);
    let own = merchant_of(1);
    scheduler.begin_look();
    scheduler.heed_paused(vec![own]);
    publish(&mut scheduler, 1, 1);
    assert!(sends(&mut scheduler).is_empty());
    scheduler.begin_look();
    pause(&mut scheduler, own, false);
    // It was read before that.
    scheduler.heed_paused(vec![own]);
    assert!(matches!(scheduler.next(NOW), Some(Action::Read { .. })), "it goes on");
    scheduler.begin_look();
    scheduler.heed_paused(vec![own]);
    publish(&mut scheduler, 1, 2);
    assert!(scheduler.next(NOW).is_none(), "the look is newer");
}

/// Webhooks 1 to 9 are one merchant's, 10 to 19 the next one's, and so on.
fn merchant_of(id: i64) -> MerchantId {
    MerchantId(id / 10 + 1)
}

/// Has a receiver take a delivery, so that it is trusted.
fn prove(scheduler: &mut Scheduler, id: i64) {
    publish(scheduler, id, 1);
    let sent = sends(scheduler).remove(0);
    assert_eq!(sent.0, WebhookId(id));
    end(scheduler, sent);
}

fn owners(sent: &[(WebhookId, Parcel)]) -> Vec<MerchantId> {
    sent.iter().map(|(id, _)| merchant_of(id.0)).collect()
}

#[test]
fn a_lane_that_the_pace_holds_back_is_held_up_until_more_is_allowed() {
    let mut scheduler = scheduler(1);
    prove(&mut scheduler, 1);
    (2..=60).for_each(|number| publish(&mut scheduler, 1, number));
    for _ in 0..4 {
        sends(&mut scheduler).into_iter().for_each(|sent| end(&mut scheduler, sent));
    }
    scheduler.allow(4);
    let few = sends(&mut scheduler);
    assert!(few.len() == 2 && scheduler.is_held_up(), "{}", few.len());
    scheduler.allow(IN_FLIGHT_MAX);
    assert_eq!(few.len() + sends(&mut scheduler).len(), IN_FLIGHT_MAX / LANES_AT_LEAST, "as many as the lane may have");
    assert!(!scheduler.is_held_up());
}

#[test]
fn the_thread_is_shared_for_a_while_after_several_merchants_have_sent() {
    let mut scheduler = scheduler(39);
    (1..=2).for_each(|id| publish(&mut scheduler, id, 1));
    let own = sends(&mut scheduler);
    assert!(own.len() == 2 && !scheduler.is_shared(NOW), "both are one merchant's");
    publish(&mut scheduler, 39, 1);
    assert_ne!(owners(&sends(&mut scheduler))[0], owners(&own)[0]);
    assert!(scheduler.is_shared(NOW) && scheduler.is_shared(NOW.after(SHARED_FOR - Duration::from_millis(1))));
    assert!(!scheduler.is_shared(NOW.after(SHARED_FOR)));
}

#[test]
fn merchants_have_what_is_left_free_and_the_first_of_each_goes_at_once() {
    let mut scheduler = scheduler(39);
    // None of the first merchant's receivers ever answers, and it has an eighth: half of what suspects have.
    (1..=9).for_each(|id| publish(&mut scheduler, id, 1));
    let silent = sends(&mut scheduler);
    assert_eq!(silent.len(), IN_FLIGHT_MAX / 8);
    // The next has half of what the suspects have left, and so on; but one each has always.
    let mut others = Vec::new();
    for (first, expected) in [(10, 2), (20, 1), (30, 1)] {
        (first..first + 9).for_each(|id| publish(&mut scheduler, id, 1));
        let sent = sends(&mut scheduler);
        assert_eq!(sent.len(), expected, "{first}");
        others.extend(sent);
    }
    // Each that gives its request back makes room for others, until all have had their turn.
    let (mut under_way, mut ended): (VecDeque<_>, _) = (silent.into_iter().chain(others).collect(), 0);
    while let Some(sent) = under_way.pop_front() {
        end(&mut scheduler, sent);
        ended += 1;
        under_way.extend(sends(&mut scheduler));
    }
    assert_eq!(ended, 36);
}

#[test]
fn those_that_never_answer_leave_room_to_those_of_the_same_merchant_that_do() {
    let mut scheduler = scheduler(9);
    prove(&mut scheduler, 1);
    (2..=9).for_each(|id| publish(&mut scheduler, id, 1));
    assert_eq!(sends(&mut scheduler).len(), IN_FLIGHT_MAX / 8);
    publish(&mut scheduler, 1, 2);
    assert_eq!(sends(&mut scheduler)[0].0, WebhookId(1));
}

#[test]
fn merchants_take_turns_however_many_webhooks_they_have() {
    let mut scheduler = scheduler(19);
    (1..=10).for_each(|id| prove(&mut scheduler, id));
    for number in 2..=3 {
        (1..=10).for_each(|id| publish(&mut scheduler, id, number));
    }
    let sent = owners(&sends(&mut scheduler));
    assert!(sent[0] != sent[1] && sent[2] != sent[3], "{sent:?}");
    assert_eq!(sent.iter().filter(|owner| **owner == MerchantId(2)).count(), 2);
}

#[test]
fn loaded_bytes_are_shared_by_merchant() {
    let mut scheduler = scheduler(19);
    scheduler.bounds.loaded_bytes = 8 * super::super::PAGE_BYTES_MAX;
    let through = |id| (WebhookId(id), IncrementId(5));
    let readings = |scheduler: &mut Scheduler| {
        let actions = std::iter::from_fn(|| scheduler.next(NOW));
        actions.map(|action| matches!(action, Action::Read { .. })).filter(|is_read| *is_read).count()
    };
    scheduler.absorb(News { committed_through: (1..=9).map(through).collect(), ..News::default() });
    assert_eq!(readings(&mut scheduler), 2, "suspects have half, and one merchant half of that");
    scheduler.absorb(News { committed_through: (10..=19).map(through).collect(), ..News::default() });
    assert_eq!(readings(&mut scheduler), 1, "half of what is left to them");
    // What was read is nothing, so that the next may read.
    let reading = Loaded { page: Page { parcels: Vec::new(), is_last: true }, next_due: None };
    let read = (WebhookId(1), Want::Fresh(IncrementId::ZERO), IncrementId(5));
    scheduler.read(scheduler.term(WebhookId(1)), read, Some(reading), NOW);
    assert_eq!(readings(&mut scheduler), 1);
}

#[test]
fn a_large_body_is_no_more_than_its_merchants_share() {
    let mut scheduler = scheduler(19);
    [1, 2, 10].into_iter().for_each(|id| prove(&mut scheduler, id));
    let large = Lane::bytes_to_send(&parcel(2, 0, None));
    scheduler.bounds.sending_bytes = 3 * large;
    for id in [1, 2, 10] {
        publish(&mut scheduler, id, 2);
    }
    let sent = sends(&mut scheduler);
    let mut ids: Vec<_> = sent.iter().map(|(id, _)| id.0).collect();
    ids.sort();
    assert_eq!(ids, [1, 10], "one each; the second of the first merchant waits");
    sent.into_iter().for_each(|sent| end(&mut scheduler, sent));
    assert_eq!(sends(&mut scheduler)[0].0, WebhookId(2));
}

#[test]
fn no_lane_has_more_than_its_part() {
    let mut scheduler = scheduler(1);
    let (mut number, mut most) = (0, 0);
    for _ in 0..20 {
        for _ in 0..8 {
            number += 1;
            publish(&mut scheduler, 1, number);
        }
        loop {
            let sent = sends(&mut scheduler);
            if sent.is_empty() {
                break;
            }
            most = most.max(sent.len());
            sent.into_iter().for_each(|sent| end(&mut scheduler, sent));
        }
    }
    assert_eq!(most, IN_FLIGHT_MAX / LANES_AT_LEAST);
}

#[test]
fn a_test_that_may_be_cancelled_is_not_sent_before_it_is_read_again() {
    let first = IncrementId(1);
    for is_known in [false, true] {
        let mut scheduler = scheduler(1);
        let mut news = News { tests: vec![(WebhookId(1), parcel(1, 0, Some(NOW)))], ..News::default() };
        if is_known {
            scheduler.absorb(std::mem::take(&mut news));
        }
        scheduler.absorb(News { reread: [(WebhookId(1), first)].into(), ..news });
        let action = scheduler.next(NOW);
        assert!(matches!(action, Some(Action::Read { want: Want::One(number), .. }) if number == first), "{action:?}");
        assert_eq!((scheduler.in_flight(), scheduler.tests_bytes), (0, 0));
    }
}

#[test]
fn a_look_goes_in_parts_and_finds_what_is_new_ahead_due_and_gone() {
    use super::comparison::{Compared, Comparison, PER_PART};
    use crate::store::{DueKey, Glimpse};
    let count = 2 * PER_PART as i64 + 10;
    let mut scheduler = scheduler(count);
    let version = webhook(1, DeliveryMode::Parallel, 0, 0).version();
    let (gone, ahead, due, new) = ([5, PER_PART as i64, count], [7, count - 1], [8, count - 2], count + 1);
    let glimpse = |id: i64| Glimpse {
        webhook_id: WebhookId(id),
        merchant_id: merchant_of(id),
        version,
        last_increment_id: IncrementId(if ahead.contains(&id) { 3 } else { 0 }),
        first_due: due.contains(&id).then_some(DueKey { due_at: NOW, increment_id: IncrementId(1) }),
    };
    let seen = (1..=new).filter(|id| !gone.contains(id)).map(glimpse).collect();
    let (mut told, mut parts, mut look) = (Vec::new(), 0, Comparison::new(seen));
    let stale = loop {
        parts += 1;
        match scheduler.compare(look, |id, through| told.push((id.0, through.0))) {
            Compared::Goes(further) => look = further,
            Compared::Whole(stale) => break stale,
        }
    };
    assert_eq!(parts, 3);
    assert_eq!(told, ahead.map(|id| (id, 3)));
    let stale: Vec<_> = stale.into_iter().map(|redefine| redefine.webhook_id.0).collect();
    assert_eq!(stale, [gone.as_slice(), &[new]].concat());
    let mut read: Vec<_> = std::iter::from_fn(|| scheduler.next(NOW))
        .map(|action| match action {
            Action::Read { webhook_id, want: Want::Due(_), .. } => webhook_id.0,
            other => panic!("{other:?}"),
        })
        .collect();
    read.sort();
    assert_eq!(read, due);
}
