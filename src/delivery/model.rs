//! The scheduler against a model of the store: whatever happens in whatever
//! order, nothing is sent twice at once, nothing that has ended is sent again
//! unless somebody asks for it, order is kept where it is asked for, and in
//! the end everything has been sent, and what was asked for while it was under
//! way once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::health::Feedback;
use super::load::Load;
use super::scheduler::comparison::{Compared, Comparison};
use super::scheduler::{Action, Scheduler};
use super::{Config, PAGE_BYTES_MAX};
use crate::domain::delivery::{Attempt, AttemptError, ErrorClass, Outcome, Verdict};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::policy::Batching;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DeliveryMode, DisabledReason, Webhook};
use crate::render::samples::{NOW, parcel, webhook};
use crate::store::mailbox::News;
use crate::store::{Content, DueKey, Glimpse, Loaded, Page, PageLimit, Parcel, Want};

const WEBHOOKS: usize = 3;
const REQUESTS_MAX: usize = 16;
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A number is given out, and handed over if there is room; or nobody is told.
    Publish { hook: usize, is_handed_over: bool, is_told: bool },
    /// The clock is moved, forwards or back.
    Pass { ms: i64 },
    /// A request ends.
    End { pick: usize, how: How },
    /// An outcome is committed.
    Commit,
    /// The worker hears of a commit.
    Hear,
    /// A look into the store ends, with what there was at its start or is now.
    Read { pick: usize, is_old: bool, has_failed: bool },
    /// The store seals a batch, or can't.
    Seal { pick: usize, has_failed: bool },
    /// An owner cancels a number.
    Cancel { hook: usize, number: i64 },
    /// An owner has a number sent again, now or in its turn; or nobody is told.
    Retry { hook: usize, number: i64, is_now: bool, is_told: bool },
    /// An owner switches a webhook on or off.
    Switch { hook: usize, on: bool },
    /// An owner changes how a webhook is sent to.
    Change { hook: usize, is_ordered: bool, batch: u32 },
    /// The store is looked at; what is seen was so at the last look, or is now.
    Glance { is_old: bool },
    /// The thread keeps up with so many requests.
    Allow { requests: usize },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Well,
    Badly,
    GivenUp,
    TooMuch,
    Gone,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hook = 0..WEBHOOKS;
    let how = prop_oneof![
        6 => Just(How::Well), 3 => Just(How::Badly), 1 => Just(How::GivenUp), 1 => Just(How::TooMuch), 1 => Just(How::Gone)
    ];
    let step = prop_oneof![
        8 => (hook.clone(), any::<bool>(), prop::bool::weighted(0.9))
            .prop_map(|(hook, is_handed_over, is_told)| Step::Publish { hook, is_handed_over, is_told }),
        4 => (0..8_000_i64).prop_map(|ms| Step::Pass { ms }),
        1 => (-20_000..100_000_i64).prop_map(|ms| Step::Pass { ms }),
        8 => (any::<usize>(), how).prop_map(|(pick, how)| Step::End { pick, how }),
        6 => Just(Step::Commit),
        6 => Just(Step::Hear),
        6 => (any::<usize>(), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(pick, is_old, has_failed)| Step::Read { pick, is_old, has_failed }),
        6 => (any::<usize>(), prop::bool::weighted(0.1))
            .prop_map(|(pick, has_failed)| Step::Seal { pick, has_failed }),
        1 => (hook.clone(), 1..40_i64).prop_map(|(hook, number)| Step::Cancel { hook, number }),
        2 => (hook.clone(), 1..40_i64, any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(hook, number, is_now, is_told)| Step::Retry { hook, number, is_now, is_told }),
        1 => any::<bool>().prop_map(|is_old| Step::Glance { is_old }),
        1 => (hook.clone(), any::<bool>()).prop_map(|(hook, on)| Step::Switch { hook, on }),
        2 => (hook, any::<bool>(), 0..4_u32).prop_map(|(hook, is_ordered, batch)| Step::Change { hook, is_ordered, batch }),
        1 => (1..=REQUESTS_MAX).prop_map(|requests| Step::Allow { requests }),
    ];
    prop::collection::vec(step, 1..250)
}

/// A row of the store.
#[derive(Clone, Copy, Debug)]
struct Row {
    has_ended: bool,
    is_cancelled: bool,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    batch: Option<Span>,
    resends_asked: u32,
    /// It was asked to be sent again, and nothing has been sent since.
    is_owed: bool,
    /// The same of one that was to be sent now.
    is_urgent: bool,
}

impl Row {
    fn is_open(&self) -> bool {
        !self.has_ended || self.next_attempt_at.is_some()
    }

    fn is_fresh(&self) -> bool {
        !self.has_ended && self.attempts == 0 && self.next_attempt_at.is_none()
    }
}

/// A webhook as the store has it.
#[derive(Clone, Debug)]
struct Hook {
    webhook: Webhook,
    rows: BTreeMap<i64, Row>,
}

impl Hook {
    fn id(&self) -> WebhookId {
        self.webhook.webhook_id
    }

    fn is_ordered(&self) -> bool {
        self.webhook.spec.delivery_mode == DeliveryMode::Ordered
    }

    fn parcel(&self, number: i64, row: &Row) -> Parcel {
        let event = |number| parcel(number, 0, None);
        let others = |batch: Span| (batch.first.0 + 1..=batch.last.0).map(event).map(Content::from).collect();
        let parcel = parcel(number, row.attempts, row.next_attempt_at);
        Parcel { batch: row.batch.map(others), resends_asked: row.resends_asked, ..parcel }
    }

    fn glimpse(&self) -> Glimpse {
        let due = |(number, row): (&i64, &Row)| {
            let is_head = row.batch.is_none_or(|batch| batch.first.0 == *number);
            let due_at = row.next_attempt_at.filter(|_| is_head)?;
            Some(DueKey { due_at, increment_id: IncrementId(*number) })
        };
        Glimpse {
            webhook_id: self.id(),
            merchant_id: self.webhook.merchant_id,
            version: self.webhook.version(),
            last_increment_id: self.webhook.last_increment_id,
            first_due: self.rows.iter().filter_map(due).min(),
        }
    }

    fn page(&self, want: Want, now: Timestamp, limit: PageLimit) -> Loaded {
        let heads = self.rows.iter().filter(|(number, row)| row.batch.is_none_or(|batch| batch.first.0 == **number));
        let mut found: Vec<_> = heads
            .filter(|(number, row)| match want {
                Want::Fresh(after) => **number > after.0 && row.is_fresh(),
                Want::Pending(after) => **number > after.0 && row.is_open(),
                Want::One(one) => row.batch.unwrap_or(Span::one(IncrementId(**number))).contains(one) && row.is_open(),
                Want::Due(after) => row
                    .next_attempt_at
                    .is_some_and(|at| at <= now && (at, IncrementId(**number)) > (after.due_at, after.increment_id)),
            })
            .collect();
        if matches!(want, Want::Due(_)) {
            found.sort_by_key(|(number, row)| (row.next_attempt_at, **number));
        }
        let is_last = found.len() <= limit.count;
        let parcels = found.into_iter().take(limit.count).map(|(number, row)| self.parcel(*number, row)).collect();
        let later = self.rows.values().filter_map(|row| row.next_attempt_at).filter(|at| *at > now);
        Loaded { page: Page { parcels, is_last }, next_due: later.min() }
    }
}

/// A look into the store that is under way.
struct Look {
    hook: usize,
    want: Want,
    through: IncrementId,
    limit: PageLimit,
    at_start: Loaded,
}

struct World {
    now: Timestamp,
    scheduler: Scheduler,
    hooks: Vec<Hook>,
    looks: Vec<Look>,
    /// On their way; those that are to be sealed first are not sent yet.
    sealing: Vec<(usize, Parcel)>,
    in_flight: Vec<(usize, Parcel)>,
    ended: Vec<Outcome>,
    committed: Vec<Outcome>,
    /// What the last look at the store saw.
    glimpses: Vec<Glimpse>,
    /// There was something that nobody was told of.
    was_silent: bool,
}

impl World {
    fn new() -> Self {
        let config = Config {
            // So little that lanes often wait for room.
            loaded_bytes_max: 2 * PAGE_BYTES_MAX,
            sending_bytes_max: 3_000,
            ..Config::sample(REQUESTS_MAX, 4)
        };
        let webhook = |id: usize| Webhook {
            merchant_id: MerchantId(id as i64 / 2),
            ..Webhook::clone(&webhook(id as i64 + 1, DeliveryMode::Parallel, 0, 0))
        };
        let webhooks: Vec<_> = (0..WEBHOOKS).map(webhook).collect();
        let scheduler = Scheduler::new(&config, webhooks.clone());
        let hooks = webhooks.into_iter().map(|webhook| Hook { webhook, rows: BTreeMap::new() }).collect();
        Self {
            now: NOW,
            scheduler,
            hooks,
            looks: Vec::new(),
            sealing: Vec::new(),
            in_flight: Vec::new(),
            ended: Vec::new(),
            committed: Vec::new(),
            glimpses: Vec::new(),
            was_silent: false,
        }
    }

    /// Takes a step, and whatever the scheduler has to say to it.
    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { hook, is_handed_over, is_told } => self.publish(hook, is_handed_over, is_told),
            Step::Pass { ms } => self.now = Timestamp(self.now.0 + ms),
            Step::End { pick, how } => self.end(pick, how),
            Step::Commit => self.commit(),
            Step::Hear => {
                if !self.committed.is_empty() {
                    let outcome = self.committed.remove(0);
                    self.scheduler.recorded(self.scheduler.term(outcome.webhook_id), &outcome);
                }
            }
            Step::Read { pick, is_old, has_failed } => self.read(pick, is_old, has_failed),
            Step::Seal { pick, has_failed } => self.seal(pick, has_failed),
            Step::Cancel { hook, number } => self.cancel(hook, number),
            Step::Retry { hook, number, is_now, is_told } => self.retry(hook, number, is_now, is_told),
            Step::Glance { is_old } => self.glance(is_old),
            Step::Switch { hook, on } => self.change(hook, |webhook| {
                webhook.spec.is_active = on;
                webhook.disabled = None;
            }),
            Step::Change { hook, is_ordered, batch } => self.change(hook, |webhook| {
                webhook.spec.delivery_mode = if is_ordered { DeliveryMode::Ordered } else { DeliveryMode::Parallel };
                let batching = || Batching::try_new(batch, None, Some(1_000)).unwrap();
                webhook.spec.batch = (batch > 0).then(batching);
            }),
            Step::Allow { requests } => self.scheduler.allow(requests),
        }
        while let Some(action) = self.scheduler.next(self.now) {
            self.act(action);
        }
        assert_eq!(self.scheduler.in_flight(), self.in_flight.len() + self.sealing.len());
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read { webhook_id, want, through, limit, .. } => {
                let hook = webhook_id.0 as usize - 1;
                let at_start = self.hooks[hook].page(want, self.now, limit);
                self.looks.push(Look { hook, want, through, limit, at_start });
            }
            Action::Send(webhook, parcel, _) => {
                let hook = webhook.webhook_id.0 as usize - 1;
                self.check_send(hook, &parcel);
                for number in parcel.numbers().numbers() {
                    let row = self.hooks[hook].rows.get_mut(&number.0).unwrap();
                    (row.is_owed, row.is_urgent) = (false, false);
                }
                let is_new_batch = parcel.batch.is_some() && parcel.attempts == 0 && parcel.due_at.is_none();
                if is_new_batch { &mut self.sealing } else { &mut self.in_flight }.push((hook, parcel));
            }
        }
    }

    fn check_send(&self, id: usize, sent: &Parcel) {
        let hook = &self.hooks[id];
        let mut rows = sent.numbers().numbers().map(|number| &hook.rows[&number.0]);
        assert!(hook.webhook.is_delivering() || rows.any(|row| row.is_urgent), "{id} is off");
        let under_way = || self.in_flight.iter().chain(&self.sealing).filter(|(other, _)| *other == id);
        for number in sent.numbers().numbers() {
            assert!(!under_way().any(|(_, other)| other.numbers().contains(number)), "{number} is under way");
            let unheard = self.ended.iter().chain(&self.committed);
            let mut unheard = unheard.filter(|outcome| outcome.webhook_id == hook.id());
            let is_retried = |outcome: &Outcome| matches!(outcome.verdict, Verdict::Retry(_)) && hook.is_ordered();
            assert!(
                !unheard.any(|outcome| outcome.numbers.contains(number) && !is_retried(outcome)),
                "{number} has an outcome that is not on record"
            );
        }
        if !hook.is_ordered() {
            return;
        }
        assert_eq!(under_way().count(), 0, "one at a time");
        let has_end = |number: i64| {
            let mut unheard = self.ended.iter().filter(|outcome| outcome.webhook_id == hook.id());
            unheard.any(|outcome| {
                outcome.numbers.contains(IncrementId(number))
                    && matches!(outcome.verdict, Verdict::Delivered | Verdict::Abandoned)
            })
        };
        let open = hook.rows.range(..sent.increment_id.0).find(|(number, row)| row.is_open() && !has_end(**number));
        assert!(open.is_none(), "{} overtakes {open:?}", sent.increment_id);
    }

    fn glance(&mut self, is_old: bool) {
        let now: Vec<_> = self.hooks.iter().map(Hook::glimpse).collect();
        let before = std::mem::replace(&mut self.glimpses, now.clone());
        let seen = if is_old && !before.is_empty() { before } else { now };
        let mut news = News::default();
        let compared =
            self.scheduler.compare(Comparison::new(seen), |id, last| news.committed_through.extend([(id, last)]));
        self.scheduler.absorb(news);
        let Compared::Whole(stale) = compared else { panic!("there are few webhooks") };
        for redefine in stale {
            let webhook = self.hooks[redefine.webhook_id.0 as usize - 1].webhook.clone();
            self.scheduler.redefine(redefine, Some(Arc::new(webhook)));
        }
    }

    fn publish(&mut self, id: usize, is_handed_over: bool, is_told: bool) {
        let hook = &mut self.hooks[id];
        if !hook.webhook.spec.is_active {
            return;
        }
        let number = hook.webhook.last_increment_id.next();
        hook.webhook.last_increment_id = number;
        let row = Row {
            has_ended: false,
            is_cancelled: false,
            attempts: 0,
            next_attempt_at: None,
            batch: None,
            resends_asked: 0,
            is_owed: false,
            is_urgent: false,
        };
        hook.rows.insert(number.0, row);
        let mut news = News::default();
        news.committed_through.insert(hook.id(), number);
        if is_handed_over {
            let parcel = Parcel { numbered_at: self.now, ..hook.parcel(number.0, &row) };
            news.parcels.push((hook.id(), parcel));
        }
        if is_told {
            self.scheduler.absorb(news);
        }
        self.was_silent |= !is_told;
    }

    fn end(&mut self, pick: usize, how: How) {
        if self.in_flight.is_empty() {
            return;
        }
        let (hook, parcel) = self.in_flight.remove(pick % self.in_flight.len());
        let retry = Verdict::Retry(self.now.after(RETRY_AFTER));
        let (verdict, feedback) = match how {
            How::Well => (Verdict::Delivered, Feedback::Good(Duration::from_millis(1))),
            How::Badly => (retry, Feedback::Bad),
            How::GivenUp => (Verdict::Abandoned, Feedback::Bad),
            How::TooMuch => (retry, Feedback::TooMuch(Some(Duration::from_secs(2)))),
            How::Gone => (Verdict::Gone, Feedback::Bad),
        };
        let error = || AttemptError { class: ErrorClass::Status, detail: String::new() };
        let attempt = Attempt {
            attempt: parcel.attempts + 1,
            started_at: self.now,
            queue_delay: Duration::ZERO,
            duration: Duration::ZERO,
            address: None,
            status_code: None,
            error: (verdict != Verdict::Delivered).then(error),
            request_headers: String::new(),
            response_headers: String::new(),
            response_body: Vec::new(),
        };
        let (webhook_id, resends_asked) = (self.hooks[hook].id(), parcel.resends_asked);
        let outcome = Outcome {
            merchant_id: MerchantId(1),
            webhook_id,
            numbers: parcel.numbers(),
            attempt,
            verdict,
            ended_at: self.now,
            pause: None,
            resends_asked,
        };
        self.scheduler.sent(self.scheduler.term(outcome.webhook_id), parcel, &outcome, feedback, self.now);
        self.ended.push(outcome);
    }

    fn commit(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let outcome = self.ended.remove(0);
        let (now, mut is_sent_again) = (self.now, false);
        let hook = &mut self.hooks[outcome.webhook_id.0 as usize - 1];
        for number in outcome.numbers.numbers() {
            let row = hook.rows.get_mut(&number.0).unwrap();
            if row.attempts + 1 != outcome.attempt.attempt {
                continue;
            }
            row.attempts += 1;
            if row.resends_asked > outcome.resends_asked {
                is_sent_again = true;
                row.next_attempt_at = (!row.has_ended || row.next_attempt_at.is_some()).then_some(now);
                row.has_ended |= outcome.verdict == Verdict::Delivered;
                continue;
            }
            (row.has_ended, row.next_attempt_at) = match outcome.verdict {
                Verdict::Delivered | Verdict::Abandoned => (true, None),
                _ if !row.is_open() => (true, None),
                Verdict::Retry(at) => (row.has_ended, Some(at)),
                Verdict::Gone => (row.has_ended, Some(now)),
            };
        }
        if is_sent_again {
            self.reread(outcome.webhook_id.0 as usize - 1, outcome.numbers.first);
        }
        if outcome.verdict == Verdict::Gone {
            self.change(outcome.webhook_id.0 as usize - 1, |webhook| webhook.disabled = Some(DisabledReason::Gone));
        }
        self.committed.push(outcome);
    }

    fn read(&mut self, pick: usize, is_old: bool, has_failed: bool) {
        if self.looks.is_empty() {
            return;
        }
        let look = self.looks.remove(pick % self.looks.len());
        let hook = &self.hooks[look.hook];
        let fresh = || hook.page(look.want, self.now, look.limit);
        let reading = (!has_failed).then(|| if is_old { look.at_start } else { fresh() });
        let term = self.scheduler.term(hook.id());
        self.scheduler.read(term, (hook.id(), look.want, look.through), reading, self.now);
    }

    fn seal(&mut self, pick: usize, has_failed: bool) {
        if self.sealing.is_empty() {
            return;
        }
        let (id, parcel) = self.sealing.remove(pick % self.sealing.len());
        let (hook, numbers, now) = (&mut self.hooks[id], parcel.numbers(), self.now);
        let is_whole = numbers.numbers().all(|number| hook.rows[&number.0].is_fresh());
        if has_failed || !is_whole {
            self.scheduler.unsent(self.scheduler.term(hook.id()), hook.id(), &parcel, has_failed, now);
            return;
        }
        let asked = numbers.numbers().map(|number| hook.rows[&number.0].resends_asked).sum();
        for number in numbers.numbers() {
            let row = hook.rows.get_mut(&number.0).unwrap();
            (row.batch, row.next_attempt_at, row.resends_asked) = (Some(numbers), Some(now), asked);
        }
        self.in_flight.push((id, parcel));
    }

    /// The numbers that stand and fall with this one, if it exists.
    fn batch_of(&self, id: usize, number: i64) -> Option<Span> {
        self.hooks[id].rows.get(&number).map(|row| row.batch.unwrap_or(Span::one(IncrementId(number))))
    }

    fn cancel(&mut self, id: usize, number: i64) {
        let Some(batch) = self.batch_of(id, number) else { return };
        for number in batch.numbers() {
            let row = self.hooks[id].rows.get_mut(&number.0).unwrap();
            (row.is_cancelled, row.has_ended) = (row.is_cancelled || !row.has_ended, true);
            (row.next_attempt_at, row.is_owed, row.is_urgent) = (None, false, false);
        }
        self.reread(id, batch.first);
    }

    fn retry(&mut self, id: usize, number: i64, is_now: bool, is_told: bool) {
        let Some(batch) = self.batch_of(id, number) else { return };
        let now = self.now;
        for number in batch.numbers() {
            let row = self.hooks[id].rows.get_mut(&number.0).unwrap();
            row.next_attempt_at = (!row.is_fresh()).then_some(now);
            (row.has_ended, row.is_cancelled) = (row.has_ended && !row.is_cancelled, false);
            (row.resends_asked, row.is_owed) = (row.resends_asked + 1, true);
            row.is_urgent |= is_now;
        }
        // An ordered lane that is not told may have gone past it.
        if !is_told && !self.hooks[id].is_ordered() {
            self.was_silent = true;
            return;
        }
        self.reread(id, batch.first);
        if is_now {
            let now = vec![(self.hooks[id].id(), batch.first)];
            self.scheduler.absorb(News { now, ..News::default() });
        }
    }

    fn reread(&mut self, id: usize, from: IncrementId) {
        let mut news = News::default();
        news.reread.insert(self.hooks[id].id(), from);
        self.scheduler.absorb(news);
    }

    fn change(&mut self, id: usize, change: impl FnOnce(&mut Webhook)) {
        let hook = &mut self.hooks[id];
        change(&mut hook.webhook);
        let mut news = News::default();
        news.changed.insert(hook.id(), Some(Arc::new(hook.webhook.clone())));
        self.scheduler.absorb(news);
    }

    /// From now on all goes well: everything is sent, and nothing stays behind.
    fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            for hook in 0..WEBHOOKS {
                if !self.hooks[hook].webhook.is_delivering() {
                    self.take(Step::Switch { hook, on: true });
                }
            }
            let is_done = self.hooks.iter().all(|hook| !hook.rows.values().any(Row::is_open));
            if is_done && self.in_flight.is_empty() && self.looks.is_empty() && self.committed.is_empty() {
                let load = self.scheduler.load();
                assert_eq!(load, Load::default(), "requests and bytes of nothing");
                let mut rows = self.hooks.iter().flat_map(|hook| &hook.rows);
                let owed = rows.find(|(_, row)| row.is_owed);
                assert!(owed.is_none(), "it was to be sent again: {owed:?}");
                return;
            }
            for step in [
                Step::Read { pick: 0, is_old: false, has_failed: false },
                Step::Seal { pick: 0, has_failed: false },
                Step::End { pick: 0, how: How::Well },
                Step::Commit,
                Step::Hear,
            ] {
                self.take(step);
            }
            if self.was_silent {
                self.take(Step::Glance { is_old: false });
            }
            let is_idle = self.looks.is_empty() && self.in_flight.is_empty() && self.sealing.is_empty();
            if is_idle && self.ended.is_empty() && self.committed.is_empty() {
                let alarm = self.scheduler.alarm().filter(|alarm| *alarm > self.now);
                let ms = alarm.map_or(1, |alarm| alarm.0 - self.now.0);
                self.take(Step::Pass { ms });
            }
        }
        let open: Vec<_> = self
            .hooks
            .iter()
            .map(|hook| hook.rows.iter().filter(|(_, row)| row.is_open()).collect::<Vec<_>>())
            .collect();
        panic!("these are never sent: {open:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.come_to_rest();
    }
}

#[test]
fn who_asks_for_one_of_a_batch_that_is_being_sealed_is_heard() {
    let mut world = World::new();
    for step in [
        Step::Change { hook: 0, is_ordered: false, batch: 2 },
        Step::Publish { hook: 0, is_handed_over: false, is_told: true },
        Step::Publish { hook: 0, is_handed_over: false, is_told: true },
        // Of another one in it, which the batch knows of.
        Step::Retry { hook: 0, number: 2, is_now: false, is_told: true },
    ] {
        world.take(step);
    }
    while world.sealing.is_empty() {
        assert!(!world.looks.is_empty(), "it is loaded and sent");
        world.take(Step::Read { pick: 0, is_old: false, has_failed: false });
    }
    world.take(Step::Retry { hook: 0, number: 1, is_now: false, is_told: true });
    world.come_to_rest();
}
