//! The lane of one webhook: what of it is in memory, and how far it has read.
//!
//! A number is *held* from when it is loaded until its last outcome is
//! committed, and what is held is never loaded again. So a lane may read the
//! same part of the store twice without sending anything twice, and dropping
//! what it has loaded is always safe.
//!
//! A parallel lane sends whatever is ready, and reads retries when they are
//! due. An ordered lane has one request in flight and sends nothing before
//! the number in front has ended: a failed one goes back to the front, and is
//! sent again once its last outcome is on record.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::PAGE_BYTES_MAX;
use super::health::{Feedback, ReceiverHealth};
use super::held::{HeldNumbers, Taken};
use super::load::{LaneState, Load, Share, Term};
use super::reading::{NextDue, PendingRead, Retries};
use super::telling::Doing;
use crate::domain::delivery::Verdict;
use crate::domain::id::{IncrementId, Span};
use crate::domain::rate::RateGate;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DeliveryMode, Pause, Webhook};
use crate::render;
use crate::render::batch::{self, Growth, Head};
use crate::store::{Content, DueKey, Page, PageLimit, Parcel, Want};

/// A lane asks for more when it has less than this waiting, or than half of its window.
const LOW_WATER: usize = 16;
/// The most deliveries a lane loads at once while its window is not larger.
const PAGE_MAX: usize = 128;
/// The same, however large its window is.
const WIDE_PAGE_MAX: usize = 512;
/// The same while its receiver is not to be trusted: it may never be sent any.
const SUSPECT_PAGE_MAX: usize = 8;

/// The most that is to be sent now: what is beyond goes out in its turn.
const URGENT_MAX: usize = 64;

/// One webhook's deliveries.
#[derive(Debug)]
pub struct Lane {
    /// Which of its webhook's lanes it is.
    pub term: Term,
    /// As the store last announced it.
    pub webhook: Arc<Webhook>,
    /// Requests under way.
    pub in_flight: usize,
    /// How its receiver is doing.
    health: ReceiverHealth,
    rate: RateGate,
    /// Whether it stands in line for its turn, or for room to send.
    pub is_listed: bool,
    /// Whether it stands in line for room to read; it may have turns meanwhile.
    pub is_waiting_to_read: bool,
    /// The earliest alarm that is set for it.
    pub armed_for: Option<Timestamp>,
    /// Nothing is read or sent before: the store could not be read.
    resting_until: Option<Timestamp>,
    /// The highest number known to be committed.
    committed_through: IncrementId,
    /// All numbers up to this one have been loaded: all never-tried ones in a
    /// parallel lane, all pending ones in an ordered lane.
    cursor: IncrementId,
    retries: Retries,
    reading: Option<PendingRead>,
    waiting: VecDeque<Parcel>,
    waiting_bytes: usize,
    /// Of what is under way, as [`Lane::bytes_to_send`] has it.
    sending_bytes: usize,
    /// In an ordered lane: numbers that were sent, are still pending, and are
    /// not waiting here. Nothing overtakes them before the store has them.
    barriers: HashSet<IncrementId>,
    held: HeldNumbers,
    /// What somebody wants to be sent now: it waits for no pause, no rate, and
    /// not for the webhook to be switched on; in an ordered lane, only for those
    /// before it.
    urgent: BTreeSet<IncrementId>,
}

impl Lane {
    /// A lane with nothing in memory.
    pub fn new(webhook: Arc<Webhook>, term: Term) -> Self {
        let committed_through = webhook.last_increment_id;
        // What never had a number has nothing to be sent again.
        let next = if committed_through == IncrementId::ZERO { NextDue::Never } else { NextDue::Unknown };
        Self {
            term,
            in_flight: 0,
            health: ReceiverHealth::new(webhook.consecutive_failures, webhook.pause),
            rate: RateGate::default(),
            is_listed: false,
            is_waiting_to_read: false,
            armed_for: None,
            resting_until: None,
            committed_through,
            cursor: first_cursor(&webhook),
            retries: Retries { cursor: DueKey::START, next },
            reading: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sending_bytes: 0,
            barriers: HashSet::new(),
            held: HeldNumbers::default(),
            urgent: BTreeSet::new(),
            webhook,
        }
    }

    /// Takes on a changed definition. A lane that is switched off, or changes
    /// its order, lets go of what it has loaded and reads it again; one that
    /// is switched on, or leads elsewhere, begins with one request at a time.
    pub fn change(&mut self, webhook: Arc<Webhook>) {
        let before = std::mem::replace(&mut self.webhook, webhook);
        self.commit_through(self.webhook.last_increment_id);
        let is_switched = before.is_delivering() != self.webhook.is_delivering();
        if self.webhook.begins_anew(&before) {
            self.health = ReceiverHealth::new(0, None);
        }
        if before.spec.delivery_mode != self.webhook.spec.delivery_mode {
            self.unload();
            self.cursor = self.cursor.min(first_cursor(&self.webhook));
            if self.is_ordered() {
                // Whatever becomes of those that are on their way, or came back just now.
                self.barriers.extend(self.held.numbers());
            }
        } else if is_switched || before.spec.batch != self.webhook.spec.batch {
            self.unload();
        }
    }

    /// Learns that deliveries from that number on are no longer as they were.
    pub fn reread(&mut self, from: IncrementId) {
        self.unload();
        if self.is_ordered() {
            self.cursor = self.cursor.min(IncrementId(from.0 - 1));
        }
    }

    /// Learns that somebody wants a number to be sent now.
    pub fn send_now(&mut self, number: IncrementId) {
        if self.urgent.len() >= URGENT_MAX {
            return;
        }
        self.urgent.insert(number);
        // It may have been read in its turn before this was heard of.
        let place = self.waiting.iter().position(|parcel| parcel.numbers().contains(number));
        if let Some(parcel) = place.filter(|_| !self.is_ordered()).and_then(|place| self.waiting.remove(place)) {
            self.waiting.push_front(parcel);
        }
    }

    /// Learns that all numbers up to this one are committed.
    pub fn commit_through(&mut self, through: IncrementId) {
        self.committed_through = self.committed_through.max(through);
    }

    /// Learns what falls due first in the store, of which nobody has told. What
    /// is held hides what comes behind it until that has been sent.
    pub fn heed_due(&mut self, first: DueKey) {
        match self.webhook.spec.delivery_mode {
            DeliveryMode::Pull => {}
            DeliveryMode::Ordered => self.reread(first.increment_id),
            DeliveryMode::Parallel if first <= self.retries.cursor => self.read_retries_again(),
            DeliveryMode::Parallel => match &mut self.reading {
                Some(reading) => reading.note_due(first.due_at),
                None => self.note_due(Some(first.due_at)),
            },
        }
    }

    /// True if what falls due first is held, or will be read as things are.
    pub fn knows_due(&self, first: DueKey) -> bool {
        let comes_to = match (self.webhook.spec.delivery_mode, self.retries.next) {
            (DeliveryMode::Pull, _) | (DeliveryMode::Parallel, NextDue::Unknown) => true,
            (DeliveryMode::Ordered, _) => first.increment_id > self.cursor,
            (DeliveryMode::Parallel, NextDue::Never) => false,
            (DeliveryMode::Parallel, NextDue::At(next)) => next <= first.due_at && first > self.retries.cursor,
        };
        comes_to || self.held.contains(first.increment_id)
    }

    /// Takes a delivery that was just committed, if it is the very next one
    /// and there is room; else it will be read in its turn.
    pub fn offer(&mut self, parcel: Parcel) {
        self.commit_through(parcel.increment_id);
        let has_room = self.waiting.is_empty() || self.waiting_bytes + parcel.weight() <= PAGE_BYTES_MAX;
        let fits = self.webhook.is_delivering()
            && self.reading.is_none()
            && parcel.increment_id == self.cursor.next()
            && self.waiting.len() < self.page_max()
            && has_room;
        if fits {
            self.cursor = parcel.increment_id;
            self.admit(parcel);
        }
    }

    /// What to read next, if anything; see [`Self::begin_reading`].
    pub fn want(&self, now: Timestamp) -> Option<Want> {
        let low_water = if self.is_trusted() { LOW_WATER.max(self.page_max() / 2) } else { 1 };
        let is_full = self.waiting.len() >= low_water.max(self.batch_max()) || self.waiting_bytes >= PAGE_BYTES_MAX;
        if self.reading.is_some() || self.is_resting(now) {
            return None;
        }
        // An ordered lane comes by it in its order.
        let urgent = self.urgent.iter().find(|number| !self.held.contains(**number));
        if let Some(number) = urgent.filter(|_| self.webhook.spec.delivery_mode == DeliveryMode::Parallel) {
            return Some(Want::One(*number));
        }
        if is_full || !(self.webhook.is_delivering() || urgent.is_some()) {
            return None;
        }
        let has_more = self.cursor < self.committed_through;
        match (self.webhook.spec.delivery_mode, self.retries.next) {
            (DeliveryMode::Ordered, _) if has_more => Some(Want::Pending(self.cursor)),
            (DeliveryMode::Ordered | DeliveryMode::Pull, _) => None,
            (DeliveryMode::Parallel, NextDue::Unknown) => Some(Want::Due(self.retries.cursor)),
            (DeliveryMode::Parallel, NextDue::At(at)) if at <= now => Some(Want::Due(self.retries.cursor)),
            (DeliveryMode::Parallel, _) if has_more => Some(Want::Fresh(self.cursor)),
            (DeliveryMode::Parallel, _) => None,
        }
    }

    /// What it wants is being read, so much of it; the answer goes to
    /// [`Self::read`] or [`Self::reading_failed`].
    pub fn begin_reading(&mut self) -> PageLimit {
        self.reading = Some(PendingRead::default());
        PageLimit { count: self.page_max(), bytes: PAGE_BYTES_MAX }
    }

    /// Takes the page that was asked for when `through` was committed, and for
    /// retries also when the next one behind them falls due.
    pub fn read(&mut self, want: Want, page: Page, next_due: Option<Timestamp>, through: IncrementId, now: Timestamp) {
        let Some(reading) = self.reading.take().filter(|reading| !reading.is_stale) else { return };
        let last = page.parcels.last();
        match want {
            Want::Fresh(_) | Want::Pending(_) => {
                self.cursor = match last.map(|parcel| parcel.increment_id) {
                    Some(last) if !page.is_last => last,
                    last => self.cursor.max(through).max(last.unwrap_or(IncrementId::ZERO)),
                };
                self.note_due(reading.next_due);
            }
            Want::One(number) => {
                if page.parcels.is_empty() {
                    self.urgent.remove(&number);
                }
                self.note_due(reading.next_due);
            }
            Want::Due(_) => {
                if let Some(last) = last {
                    self.retries.cursor = key(last);
                }
                self.retries.next = match (page.is_last, next_due) {
                    (false, _) => NextDue::At(now),
                    (true, Some(at)) => NextDue::At(at),
                    (true, None) => NextDue::Never,
                };
                self.note_due(reading.next_due);
            }
        }
        for parcel in page.parcels {
            let is_older = |number| reading.recorded.get(&number).is_some_and(|attempts| parcel.attempts < *attempts);
            if !parcel.numbers().numbers().any(is_older) {
                self.admit(parcel);
            }
        }
    }

    /// The store could not be read: the lane rests.
    pub fn reading_failed(&mut self, until: Timestamp) {
        self.resting_until = Some(until);
        if let Some(reading) = self.reading.take() {
            self.note_due(reading.next_due);
        }
    }

    /// True if something is to be sent now.
    pub fn is_ready(&self, now: Timestamp, share: Share) -> bool {
        let (Some(front), Some(Head::Whole(_))) = (self.waiting.front(), self.head(now)) else { return false };
        let is_ordered = self.is_ordered();
        if self.is_resting(now) || (is_ordered && self.is_held_back(front)) {
            return false;
        }
        if self.is_urgent(front) {
            return self.webhook.spec.url.is_some();
        }
        let is_due = !is_ordered || front.due_at.is_none_or(|at| at <= now);
        let has_place = is_ordered || self.in_flight < self.requests(share);
        let is_paused = self.pause_of(front, now).is_some();
        let is_in_rate = self.rate_opens_at(now).is_none();
        self.webhook.is_delivering() && is_due && has_place && !is_paused && is_in_rate
    }

    /// True if an ordered lane sends nothing before something else is known: while
    /// a request is under way, and while the last outcome of what is in front is
    /// not on record, for one that came to the store before it would not count.
    fn is_held_back(&self, front: &Parcel) -> bool {
        self.in_flight > 0 || !self.barriers.is_empty() || self.held.is_claimed_again(front.increment_id)
    }

    /// Until when a delivery waits because of how its receiver is doing. An
    /// ordered lane's retries have times that its owner chose, and are one at a
    /// time: they are their own probes of an open breaker.
    fn pause_of(&self, parcel: &Parcel, now: Timestamp) -> Option<Timestamp> {
        let is_retry = parcel.due_at.is_some() && parcel.attempts > parcel.policy_start;
        match self.is_ordered() && is_retry {
            true => self.health.asked_pause(now),
            false => self.health.pause(now).map(|pause| pause.until),
        }
    }

    /// When its owner's rate lets the next one out, if not now.
    fn rate_opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let limit = self.webhook.spec.rate_limit?;
        let at = self.rate.opens_at(limit.rate(), now.since(Timestamp(0)))?;
        // Rounded up, or it would be looked at too early.
        Some(Timestamp(0).after(at + Duration::from_nanos(999_999)))
    }

    fn is_urgent(&self, parcel: &Parcel) -> bool {
        let Span { first, last } = parcel.numbers();
        !self.urgent.is_empty() && self.urgent.range(first..=last).next().is_some()
    }

    /// Takes the next delivery to send, or batch of them. The lane is ready.
    pub fn take(&mut self, now: Timestamp) -> Option<Parcel> {
        let Some(Head::Whole(count)) = self.head(now) else { return None };
        let mut parcel = self.waiting.pop_front()?;
        if batch::is_batched(&parcel, self.webhook.spec.batch) {
            let others: Vec<_> = self.waiting.drain(..count - 1).collect();
            parcel.resends_asked += others.iter().map(|other| other.resends_asked).sum::<u32>();
            parcel.batch = Some(others.into_iter().map(Content::from).collect());
        }
        self.waiting_bytes -= parcel.weight();
        if let Some(limit) = self.webhook.spec.rate_limit {
            self.rate.pass(limit.rate(), now.since(Timestamp(0)));
        }
        self.urgent.retain(|number| !parcel.numbers().contains(*number));
        self.begin(&parcel);
        Some(parcel)
    }

    fn begin(&mut self, parcel: &Parcel) {
        self.in_flight += 1;
        self.sending_bytes += Self::bytes_to_send(parcel);
    }

    fn end(&mut self, parcel: &Parcel) {
        self.in_flight -= 1;
        self.sending_bytes -= Self::bytes_to_send(parcel);
    }

    /// What a request takes up in memory at the most: its messages and the
    /// body that is made of them.
    pub fn bytes_to_send(parcel: &Parcel) -> usize {
        parcel.weight() + render::body_bytes_max(parcel)
    }

    /// The same of what goes out next.
    pub fn next_bytes(&self, now: Timestamp) -> usize {
        let Some(Head::Whole(count)) = self.head(now) else { return 0 };
        self.waiting.iter().take(count).map(Self::bytes_to_send).sum()
    }

    /// Takes on a delivery that is to be sent at once, whatever the lane's
    /// state; false if it is on its way already.
    pub fn take_test(&mut self, parcel: &Parcel) -> bool {
        let is_new = self.held.take_on(Span::one(parcel.increment_id), 0) == Taken::New;
        if is_new {
            self.begin(parcel);
        }
        is_new
    }

    /// What was taken was not sent: its numbers are no longer as they were
    /// loaded, or (`until`) the store can't be written. They are read again.
    pub fn unsent(&mut self, parcel: &Parcel, until: Option<Timestamp>) {
        self.end(parcel);
        let numbers = parcel.numbers();
        self.resting_until = until.or(self.resting_until);
        self.held.release(numbers);
        self.barriers.retain(|barrier| !numbers.contains(*barrier));
        self.unload();
        self.cursor = self.cursor.min(IncrementId(numbers.first.0 - 1));
    }

    /// A request has ended, and its outcome is on the way to the store. An
    /// ordered lane puts a delivery that is to be tried again back in front.
    pub fn sent(&mut self, parcel: Parcel, verdict: Verdict, feedback: Feedback, share: Share, now: Timestamp) {
        self.end(&parcel);
        self.health.heed(feedback, self.in_flight, self.requests_max(share), now);
        if self.is_ordered() {
            match verdict {
                Verdict::Delivered | Verdict::Abandoned => {}
                // Unless there may be others before it that were not read again yet.
                Verdict::Retry(at) if self.webhook.is_delivering() && parcel.increment_id <= self.cursor => {
                    let again = Parcel { attempts: parcel.attempts + 1, due_at: Some(at), ..parcel };
                    self.held.claim_again(again.numbers(), again.attempts);
                    self.barriers.retain(|barrier| !again.numbers().contains(*barrier));
                    self.enqueue(again);
                }
                Verdict::Retry(_) | Verdict::Gone => {
                    self.barriers.insert(parcel.increment_id);
                }
            }
        }
        if !self.is_trusted() && self.waiting.len() > self.page_max() + self.batch_max() {
            self.unload();
        }
    }

    /// The outcome of a delivery, or of a batch, is committed: there are so
    /// many attempts on record. What is still pending, and is not waiting here,
    /// will be read again.
    pub fn recorded(&mut self, numbers: Span, attempts: u32, verdict: Verdict) {
        let number = numbers.first;
        let is_outdated = self.held.release(numbers);
        let held = &self.held;
        // An earlier outcome than the last says nothing.
        self.barriers.retain(|barrier| !numbers.contains(*barrier) || held.contains(*barrier));
        if let Some(reading) = &mut self.reading {
            reading.recorded.extend(numbers.numbers().map(|number| (number, attempts)));
        }
        match (verdict, self.webhook.spec.delivery_mode) {
            (Verdict::Delivered | Verdict::Abandoned, _) => {}
            (Verdict::Retry(_) | Verdict::Gone, DeliveryMode::Ordered) => {
                if !self.held.contains(number) {
                    // What waits comes after it.
                    self.unload();
                    self.cursor = self.cursor.min(IncrementId(number.0 - 1));
                }
            }
            (Verdict::Gone, DeliveryMode::Parallel) => self.read_retries_again(),
            (_, DeliveryMode::Pull) => {}
            (Verdict::Retry(at), DeliveryMode::Parallel) => match &mut self.reading {
                Some(reading) => reading.note_due(at),
                None => self.note_due(Some(at)),
            },
        }
        if is_outdated {
            self.reread(number);
        }
    }

    /// When, after `now`, the lane must be looked at again although nothing
    /// happens.
    pub fn alarm(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.webhook.is_delivering() && self.urgent.is_empty() {
            return None;
        }
        let due = match (self.webhook.spec.delivery_mode, self.retries.next) {
            (DeliveryMode::Ordered, _) => self.waiting.front().and_then(|parcel| parcel.due_at),
            (DeliveryMode::Parallel, NextDue::At(at)) => Some(at),
            (DeliveryMode::Pull, _) | (DeliveryMode::Parallel, NextDue::Unknown | NextDue::Never) => None,
        };
        let gates = match self.head(now) {
            None => [None, None],
            Some(Head::Growing(until)) => [until, None],
            Some(Head::Whole(_)) => {
                let pause = self.waiting.front().and_then(|front| self.pause_of(front, now));
                [pause, self.rate_opens_at(now)]
            }
        };
        [due, self.resting_until].into_iter().chain(gates).flatten().filter(|at| *at > now).min()
    }

    /// Until when its receiver is left alone, if that is later than `now`.
    pub fn pause(&self, now: Timestamp) -> Option<Pause> {
        self.health.pause(now)
    }

    /// True if its receiver took the last deliveries.
    pub fn is_trusted(&self) -> bool {
        self.health.is_trusted()
    }

    /// How its receiver is doing.
    pub fn doing(&self) -> Doing {
        Doing { is_failing: self.health.is_failing(), is_open: self.health.is_open() }
    }

    /// What it is doing.
    pub fn state(&self) -> LaneState {
        match () {
            () if !self.webhook.is_delivering() => LaneState::Stopped,
            () if self.health.is_open() => LaneState::Open,
            () if self.is_trusted() => LaneState::Proven,
            () => LaneState::Unproven,
        }
    }

    /// How many requests at once its receiver has earned.
    fn requests(&self, share: Share) -> usize {
        self.requests_max(share).min(self.health.window())
    }

    fn requests_max(&self, share: Share) -> usize {
        let own = self.webhook.spec.max_concurrency.map(|own| own.get() as usize);
        own.unwrap_or(share.requests).min(share.requests_max)
    }

    fn page_max(&self) -> usize {
        let own = match self.is_trusted() {
            true => self.health.window().clamp(PAGE_MAX, WIDE_PAGE_MAX),
            false => SUSPECT_PAGE_MAX,
        };
        own.max(self.batch_max())
    }

    /// The most deliveries in one request.
    fn batch_max(&self) -> usize {
        self.webhook.spec.batch.map_or(1, |batching| batching.max_events() as usize)
    }

    /// What goes out next, of what waits.
    fn head(&self, now: Timestamp) -> Option<Head> {
        let growth = match &self.reading {
            Some(_) => Growth::Reading,
            None if self.waiting_bytes >= PAGE_BYTES_MAX => Growth::Impossible,
            None => Growth::Possible,
        };
        match self.waiting.front() {
            // It waits for no others.
            Some(first) if self.is_urgent(first) => Some(Head::Whole(1)),
            _ => batch::head(&self.waiting, self.webhook.spec.batch, growth, now),
        }
    }

    /// The highest number known to be committed.
    pub fn committed_through(&self) -> IncrementId {
        self.committed_through
    }

    /// What it takes up.
    pub fn load(&self) -> Load {
        let expected = if self.reading.is_some() { PAGE_BYTES_MAX } else { 0 };
        Load {
            requests: self.in_flight,
            loaded_bytes: self.waiting_bytes + expected,
            sending_bytes: self.sending_bytes,
        }
    }

    fn is_ordered(&self) -> bool {
        self.webhook.spec.delivery_mode == DeliveryMode::Ordered
    }

    fn is_resting(&self, now: Timestamp) -> bool {
        self.resting_until.is_some_and(|until| until > now)
    }

    fn admit(&mut self, parcel: Parcel) {
        match self.held.take_on(parcel.numbers(), parcel.attempts) {
            Taken::New => self.enqueue(parcel),
            // It was taken up again before its last outcome was heard of, which will have it read.
            Taken::Outdated if self.is_ordered() => drop(self.barriers.insert(parcel.increment_id)),
            Taken::Held | Taken::Outdated => {}
        }
    }

    /// Puts a held delivery among those that wait: in an ordered lane by its
    /// number, else at the end; but what is sent again doesn't wait for a
    /// batch to grow, nor stand between two that could be one.
    fn enqueue(&mut self, parcel: Parcel) {
        self.waiting_bytes += parcel.weight();
        let is_again = |parcel: &Parcel| parcel.due_at.is_some();
        let place = match self.webhook.spec.delivery_mode {
            DeliveryMode::Parallel if self.is_urgent(&parcel) => 0,
            DeliveryMode::Parallel if self.webhook.spec.batch.is_some() && is_again(&parcel) => {
                self.waiting.partition_point(is_again)
            }
            DeliveryMode::Parallel | DeliveryMode::Pull => self.waiting.len(),
            DeliveryMode::Ordered => self.waiting.partition_point(|other| other.increment_id < parcel.increment_id),
        };
        self.waiting.insert(place, parcel);
    }

    /// Lets go of what waits; it will be read again.
    pub fn unload(&mut self) {
        for parcel in std::mem::take(&mut self.waiting) {
            let is_held = self.held.let_go(parcel.numbers());
            if parcel.due_at.is_none() || self.is_ordered() {
                self.cursor = self.cursor.min(IncrementId(parcel.increment_id.0 - 1));
            }
            if self.is_ordered() && is_held {
                // Its last outcome is not on record: what is read now is older.
                self.barriers.insert(parcel.increment_id);
            }
        }
        self.waiting_bytes = 0;
        self.read_retries_again();
    }

    fn note_due(&mut self, retry_at: Option<Timestamp>) {
        let Some(at) = retry_at else { return };
        if at <= self.retries.cursor.due_at {
            // The clock went back: what was read is not all there is.
            self.read_retries_again();
        } else if self.retries.next == NextDue::Never || matches!(self.retries.next, NextDue::At(next) if at < next) {
            self.retries.next = NextDue::At(at);
        }
    }

    fn read_retries_again(&mut self) {
        self.retries = Retries { cursor: DueKey::START, next: NextDue::Unknown };
        self.mark_reading_stale();
    }

    fn mark_reading_stale(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.is_stale = true;
        }
    }
}

/// Where a lane begins to read. What is sent again may lie anywhere, and an
/// ordered lane comes by it as it goes; a parallel lane has another way to it.
fn first_cursor(webhook: &Webhook) -> IncrementId {
    match webhook.spec.delivery_mode {
        DeliveryMode::Ordered => IncrementId::ZERO,
        DeliveryMode::Parallel | DeliveryMode::Pull => webhook.settled_through,
    }
}

/// The place of a retry in the order of falling due.
fn key(parcel: &Parcel) -> DueKey {
    DueKey { due_at: parcel.due_at.unwrap_or(DueKey::START.due_at), increment_id: parcel.increment_id }
}

#[cfg(test)]
mod tests;
