//! Which delivery goes out next: a pure function of what it was told and of
//! `now`, so that days of retries can be played through in milliseconds.
//!
//! Merchants take turns, and within a merchant its lanes, one delivery a turn:
//! a merchant with five hundred webhooks and a million waiting gets no more
//! than one with a single webhook. What is in flight, what waits in memory and
//! what is not yet recorded are all bounded, in all and for each merchant: one
//! may have as much as is left free, so a single one has half, two have a third
//! each, and there is always something left for whoever comes next.

mod absorbing;
pub mod comparison;
mod pausing;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Config;
use super::health::Feedback;
use super::lane::Lane;
use super::load::{LaneStates, Load, Share, Term};
use super::pauses::Pauses;
use super::telling::Doing;
use super::tenant::{Kind, Tenant};
use crate::domain::delivery::Outcome;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Pause, Webhook};
use crate::store::{Loaded, PageLimit, Parcel, Want};
use crate::work::may_take;

/// The most outcomes that wait to be recorded before sending pauses.
const UNRECORDED_MAX: usize = 4_096;
/// How long a lane rests after the store could not be read.
const REST: Duration = Duration::from_secs(1);
/// How long merchants are taken to share the thread once one has sent after
/// another.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// No lane has more than this part of the requests at once: half of what a
/// merchant may have who is alone.
const LANES_AT_LEAST: usize = 4;
/// Lanes whose receivers have yet to show that they answer have this part of the
/// requests: those that never do hold theirs for long.
const SUSPECTS_PART: usize = 4;
/// Merchants that wait for room and are looked at again when some gets free.
/// Each gives back what it takes, so the next ones are looked at then.
const UNBLOCKED_AT_ONCE: usize = 2;

/// The most requests at once that one webhook may have, of so many in all.
pub fn webhook_requests_max(in_flight_max: usize) -> usize {
    (in_flight_max / LANES_AT_LEAST).max(1)
}

/// Something for the worker to do.
#[derive(Debug)]
pub enum Action {
    /// Post this; then call [`Scheduler::sent`], or [`Scheduler::unsent`] if it
    /// is a batch that the store won't seal.
    Send(Arc<Webhook>, Parcel, Term),
    /// Read this; then call [`Scheduler::read`].
    Read {
        /// Whose deliveries.
        webhook_id: WebhookId,
        /// Whose webhook.
        merchant_id: MerchantId,
        /// Which of them.
        want: Want,
        /// What was committed when the lane asked.
        through: IncrementId,
        /// How much.
        limit: PageLimit,
        /// On behalf of which lane.
        term: Term,
    },
}

/// What there is to share.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// As far as the thread keeps up with them, …
    requests: usize,
    /// … and in any case.
    requests_max: usize,
    loaded_bytes: usize,
    sending_bytes: usize,
}

/// All lanes, and whose turn it is.
///
/// Lanes whose receivers have yet to show that they take deliveries, or no
/// longer do, have a quarter of the requests and half of what waits in memory at
/// the most, so that however many of them there are, the others have room.
#[derive(Debug)]
pub struct Scheduler {
    is_paused: bool,
    bounds: Bounds,
    share: Share,
    lanes: HashMap<WebhookId, Lane>,
    /// The term of the last lane that was made.
    term: Term,
    /// Whose lanes there are, so that all can be looked at in parts.
    ids: BTreeSet<WebhookId>,
    tenants: HashMap<MerchantId, Tenant>,
    /// Merchants for whom nothing is sent.
    paused: Pauses,
    /// Merchants that may have something to do, in the order of their turns.
    turns: VecDeque<MerchantId>,
    /// Those of which all that is to be done waits for room.
    blocked: VecDeque<MerchantId>,
    alarms: BinaryHeap<Reverse<(Timestamp, WebhookId)>>,
    /// What the tests weigh that wait, in bytes.
    tests_bytes: usize,
    all: Load,
    suspects: Load,
    states: LaneStates,
    in_flight: usize,
    unrecorded: usize,
    /// Who has sent last, and when that was somebody else before.
    sender: Option<MerchantId>,
    changed_at: Option<Timestamp>,
}

impl Scheduler {
    /// Lanes for these webhooks, with nothing loaded.
    pub fn new(config: &Config, webhooks: Vec<Webhook>) -> Self {
        let mut scheduler = Self {
            is_paused: config.is_paused,
            bounds: Bounds {
                requests: config.in_flight_max,
                requests_max: config.in_flight_max,
                loaded_bytes: config.loaded_bytes_max,
                sending_bytes: config.sending_bytes_max,
            },
            share: Share {
                requests: config.webhook_in_flight_max,
                requests_max: webhook_requests_max(config.in_flight_max),
            },
            lanes: HashMap::new(),
            term: Term::default(),
            ids: BTreeSet::new(),
            tenants: HashMap::new(),
            paused: Pauses::default(),
            turns: VecDeque::new(),
            blocked: VecDeque::new(),
            alarms: BinaryHeap::new(),
            tests_bytes: 0,
            all: Load::default(),
            suspects: Load::default(),
            states: LaneStates::default(),
            in_flight: 0,
            unrecorded: 0,
            sender: None,
            changed_at: None,
        };
        for webhook in webhooks {
            let id = webhook.webhook_id;
            scheduler.add(id, Arc::new(webhook));
            scheduler.list(id);
        }
        scheduler
    }

    /// From now on so many requests may be under way: each merchant may have
    /// one, and more of these as far as others leave them free.
    pub fn allow(&mut self, requests: usize) {
        self.bounds.requests = requests.min(self.bounds.requests_max);
        self.unblock(self.blocked.len());
    }

    /// True if there is something to do that only room is missing for.
    pub fn is_held_up(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// True if several merchants have sent something a moment ago.
    pub fn is_shared(&self, now: Timestamp) -> bool {
        self.changed_at.is_some_and(|at| now.since(at) < SHARED_FOR)
    }

    /// The next thing to do at `now`; `None` until something happens or
    /// [`Self::alarm`] comes.
    pub fn next(&mut self, now: Timestamp) -> Option<Action> {
        if self.is_paused {
            return None;
        }
        self.wake(now);
        if self.in_flight >= self.bounds.requests_max || self.unrecorded() >= UNRECORDED_MAX {
            return None;
        }
        while let Some(merchant) = self.turns.pop_front() {
            let Some(tenant) = self.tenants.get_mut(&merchant) else { continue };
            tenant.is_listed = false;
            let is_recalled = std::mem::take(&mut tenant.is_recalled);
            if self.paused.has(merchant) {
                // It stands in no line until it goes on, and takes nothing of what became free.
                self.forget_if_empty(merchant);
                self.unblock(usize::from(is_recalled));
                continue;
            }
            if let Some(action) = self.next_of(merchant, now) {
                if matches!(action, Action::Send(..)) && self.sender.replace(merchant).is_some_and(|of| of != merchant)
                {
                    self.changed_at = Some(now);
                }
                self.give_turn(merchant);
                return Some(action);
            }
            let Some(tenant) = self.tenants.get_mut(&merchant) else { continue };
            if !tenant.is_waiting_for_room() {
                self.forget_if_empty(merchant);
                if is_recalled {
                    // It takes nothing of what became free.
                    self.unblock(1);
                }
            } else if !tenant.is_blocked {
                tenant.is_blocked = true;
                self.blocked.push_back(merchant);
            }
        }
        None
    }

    /// The next thing to do for a merchant.
    fn next_of(&mut self, merchant: MerchantId, now: Timestamp) -> Option<Action> {
        if let Some(action) = self.next_test(merchant) {
            return Some(action);
        }
        // One that waited goes before those that come; if there is no room for
        // it now, those behind it wait, too.
        for kind in Kind::ALL {
            while let Some(id) = self.tenants.get_mut(&merchant)?.pop_waiting(kind) {
                if let Some(action) = self.next_of_lane(id, now, Some(kind)) {
                    return Some(action);
                }
                if self.tenants.get(&merchant)?.first_waiting(kind) == Some(id) {
                    break;
                }
            }
        }
        while let Some(id) = self.tenants.get_mut(&merchant)?.turns.pop_front() {
            if let Some(action) = self.next_of_lane(id, now, None) {
                return Some(action);
            }
        }
        None
    }

    /// The next thing to do for a lane that has come out of its line, or out
    /// of that for room. If it must wait for room, it stands in line for that,
    /// in front if it was there.
    fn next_of_lane(&mut self, id: WebhookId, now: Timestamp, waited: Option<Kind>) -> Option<Action> {
        let lane = self.lanes.get_mut(&id)?;
        match waited {
            Some(kind) if kind.is_reader() => lane.is_waiting_to_read = false,
            _ => lane.is_listed = false,
        }
        let lane = self.lanes.get(&id)?;
        let (merchant, is_trusted, want) = (lane.webhook.merchant_id, lane.is_trusted(), lane.want(now));
        if let Some(want) = want
            && self.may_load(lane, super::PAGE_BYTES_MAX)
        {
            return self.read_for(id, want);
        }
        let is_ready = lane.is_ready(now, self.share) && self.leaves_room(lane);
        if is_ready && self.may_send(lane, lane.next_bytes(now)) {
            return self.send_from(id, now);
        }
        if !is_ready {
            self.set_alarm(id, now);
        }
        let lane = self.lanes.get_mut(&id)?;
        let (kind, is_in_line) = match (is_ready, want.is_some()) {
            (true, _) => (Kind::sender(is_trusted), &mut lane.is_listed),
            (false, true) => (Kind::reader(is_trusted), &mut lane.is_waiting_to_read),
            (false, false) => return None,
        };
        if !std::mem::replace(is_in_line, true) {
            self.tenants.get_mut(&merchant)?.push_waiting(kind, id, waited == Some(kind));
        }
        None
    }

    fn next_test(&mut self, merchant: MerchantId) -> Option<Action> {
        loop {
            let (id, parcel) = self.tenants.get(&merchant)?.tests.front()?;
            let (id, bytes) = (*id, Lane::bytes_to_send(parcel));
            // Its webhook may have gone meanwhile.
            if self.lanes.get(&id).is_some_and(|lane| !self.may_send(lane, bytes)) {
                return None;
            }
            let tenant = self.tenants.get_mut(&merchant)?;
            let (_, parcel) = tenant.tests.pop_front()?;
            tenant.tests_bytes -= parcel.weight();
            self.tests_bytes -= parcel.weight();
            let mut webhook = None;
            self.with_lane(id, |lane| {
                lane.commit_through(parcel.increment_id);
                webhook = lane.take_test(&parcel).then(|| Arc::clone(&lane.webhook));
            });
            if let Some(webhook) = webhook {
                self.in_flight += 1;
                self.unrecorded += 1;
                return self.lanes.get(&id).map(|lane| Action::Send(webhook, parcel, lane.term));
            }
        }
    }

    fn read_for(&mut self, id: WebhookId, want: Want) -> Option<Action> {
        let mut action = None;
        self.with_lane(id, |lane| {
            let (through, limit) = (lane.committed_through(), lane.begin_reading());
            let merchant_id = lane.webhook.merchant_id;
            action = Some(Action::Read { webhook_id: id, merchant_id, want, through, limit, term: lane.term });
        });
        action
    }

    fn send_from(&mut self, id: WebhookId, now: Timestamp) -> Option<Action> {
        let mut action = None;
        self.with_lane(id, |lane| {
            action = lane.take(now).map(|parcel| Action::Send(Arc::clone(&lane.webhook), parcel, lane.term));
        });
        self.in_flight += 1;
        self.unrecorded += 1;
        action
    }

    /// True if a lane may load so many bytes more.
    fn may_load(&self, lane: &Lane, bytes: usize) -> bool {
        let Some(tenant) = self.tenants.get(&lane.webhook.merchant_id) else { return false };
        let max = self.bounds.loaded_bytes;
        may_take(bytes, tenant.all.loaded_bytes, self.all.loaded_bytes, max)
            && (lane.is_trusted()
                || may_take(bytes, tenant.suspects.loaded_bytes, self.suspects.loaded_bytes, max.div_ceil(2)))
    }

    /// True if a lane may make another request, of so many bytes. The first of
    /// a merchant always may, as far as there are any.
    fn may_send(&self, lane: &Lane, bytes: usize) -> bool {
        let Some(Tenant { all, suspects, .. }) = self.tenants.get(&lane.webhook.merchant_id) else { return false };
        let max = self.bounds.requests;
        let is_first = all.requests == 0;
        let may_request = may_take(1, all.requests, self.all.requests, max)
            && (lane.is_trusted()
                || may_take(1, suspects.requests, self.suspects.requests, max.div_ceil(SUSPECTS_PART)));
        let max = self.bounds.sending_bytes;
        let own = (suspects.sending_bytes, self.suspects.sending_bytes);
        (is_first || may_request)
            && may_take(bytes, all.sending_bytes, self.all.sending_bytes, max)
            && (lane.is_trusted() || may_take(bytes, own.0, own.1, max.div_ceil(2)))
    }

    /// True if a lane that has requests under way leaves some to the others of
    /// its merchant. If not, it goes on when one of its own ends.
    fn leaves_room(&self, lane: &Lane) -> bool {
        let own = lane.load().requests;
        let all = self.tenants.get(&lane.webhook.merchant_id).map_or(0, |tenant| tenant.all.requests);
        own == 0 || may_take(1, own, all, self.bounds.requests_max.div_ceil(2))
    }

    fn set_alarm(&mut self, id: WebhookId, now: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && let Some(at) = lane.alarm(now)
            && lane.armed_for.is_none_or(|armed| at < armed)
        {
            lane.armed_for = Some(at);
            self.alarms.push(Reverse((at, id)));
        }
    }

    /// When to call [`Self::next`] again although nothing happens.
    pub fn alarm(&self) -> Option<Timestamp> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// A request has ended; its number is held until [`Self::recorded`]. Returns
    /// until when its receiver is left alone.
    pub fn sent(
        &mut self,
        term: Term,
        parcel: Parcel,
        outcome: &Outcome,
        feedback: Feedback,
        now: Timestamp,
    ) -> Option<Pause> {
        self.in_flight -= 1;
        let share = self.share;
        let mut pause = None;
        self.with_lane_of(term, outcome.webhook_id, |lane| {
            lane.sent(parcel, outcome.verdict, feedback, share, now);
            pause = lane.pause(now);
        });
        pause
    }

    /// A batch was not sent: it is no longer what it was, or the store could
    /// not be written (`is_failed`).
    pub fn unsent(&mut self, term: Term, id: WebhookId, parcel: &Parcel, is_failed: bool, now: Timestamp) {
        self.in_flight -= 1;
        self.unrecorded -= 1;
        self.with_lane_of(term, id, |lane| lane.unsent(parcel, is_failed.then(|| now.after(REST))));
    }

    /// An outcome is committed.
    pub fn recorded(&mut self, term: Term, outcome: &Outcome) {
        self.unrecorded -= 1;
        self.with_lane_of(term, outcome.webhook_id, |lane| {
            lane.recorded(outcome.numbers, outcome.attempt.attempt, outcome.verdict)
        });
    }

    /// What a lane wanted was read, or could not be.
    pub fn read(
        &mut self,
        term: Term,
        (id, want, through): (WebhookId, Want, IncrementId),
        reading: Option<Loaded>,
        now: Timestamp,
    ) {
        self.with_lane_of(term, id, |lane| match reading {
            None => lane.reading_failed(now.after(REST)),
            Some(Loaded { page, next_due }) => lane.read(want, page, next_due, through, now),
        });
    }

    /// A webhook as it was last announced.
    pub fn webhook(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.lanes.get(&id).map(|lane| &lane.webhook)
    }

    /// How its receiver is doing.
    pub fn doing(&self, id: WebhookId) -> Option<Doing> {
        self.lanes.get(&id).map(Lane::doing)
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Outcomes that are not yet committed.
    pub fn unrecorded(&self) -> usize {
        self.unrecorded - self.in_flight
    }

    /// How many lanes do what.
    pub fn lane_states(&self) -> LaneStates {
        self.states
    }

    /// What the lanes take up together.
    #[cfg(test)]
    pub fn load(&self) -> Load {
        self.all
    }

    /// Does something with a lane, keeps the sums right, and puts the lane in
    /// line, for it may have something to do now.
    fn with_lane(&mut self, id: WebhookId, act: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (before, was_trusted, merchant) = (lane.load(), lane.is_trusted(), lane.webhook.merchant_id);
        self.states.remove(lane.state());
        act(lane);
        self.states.add(lane.state());
        let (after, is_trusted) = (lane.load(), lane.is_trusted());
        self.weigh(merchant, (before, was_trusted), (after, is_trusted));
        self.list(id);
        if after.is_less_than(before) {
            self.unblock(UNBLOCKED_AT_ONCE);
        }
    }

    /// The same with the lane of that term, if it is still there.
    fn with_lane_of(&mut self, term: Term, id: WebhookId, act: impl FnOnce(&mut Lane)) {
        if self.lanes.get(&id).is_some_and(|lane| lane.term == term) {
            self.with_lane(id, act);
        }
    }

    /// The term of a webhook's lane.
    #[cfg(test)]
    pub fn term(&self, id: WebhookId) -> Term {
        self.lanes.get(&id).map_or(Term::default(), |lane| lane.term)
    }

    /// Has the sums follow a lane.
    fn weigh(&mut self, merchant: MerchantId, before: (Load, bool), after: (Load, bool)) {
        let Some(tenant) = self.tenants.get_mut(&merchant) else { return };
        for (all, suspects) in [(&mut self.all, &mut self.suspects), (&mut tenant.all, &mut tenant.suspects)] {
            all.replace(before.0, after.0);
            suspects.replace(
                if before.1 { Load::default() } else { before.0 },
                if after.1 { Load::default() } else { after.0 },
            );
        }
    }

    fn add(&mut self, id: WebhookId, webhook: Arc<Webhook>) {
        self.tenants.entry(webhook.merchant_id).or_default().lanes += 1;
        self.term = self.term.next();
        let lane = Lane::new(webhook, self.term);
        self.states.add(lane.state());
        self.lanes.insert(id, lane);
        self.ids.insert(id);
    }

    fn put_webhook(&mut self, id: WebhookId, webhook: Arc<Webhook>) {
        if !self.lanes.contains_key(&id) {
            self.add(id, Arc::clone(&webhook));
        }
        self.with_lane(id, |lane| lane.change(webhook));
    }

    fn remove(&mut self, id: WebhookId) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        self.ids.remove(&id);
        let merchant = lane.webhook.merchant_id;
        self.states.remove(lane.state());
        self.weigh(merchant, (lane.load(), lane.is_trusted()), (Load::default(), true));
        if let Some(tenant) = self.tenants.get_mut(&merchant) {
            tenant.lanes -= 1;
        }
        self.forget_if_empty(merchant);
        self.unblock(UNBLOCKED_AT_ONCE);
    }

    /// Forgets a merchant without lanes, unless it stands in a line: it is
    /// forgotten when it comes out of that.
    fn forget_if_empty(&mut self, merchant: MerchantId) {
        let is_empty = |tenant: &&Tenant| tenant.lanes == 0 && !tenant.is_listed && !tenant.is_blocked;
        if let Some(tenant) = self.tenants.get(&merchant).filter(is_empty) {
            self.tests_bytes -= tenant.tests_bytes;
            self.tenants.remove(&merchant);
        }
    }

    fn list(&mut self, id: WebhookId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let merchant = lane.webhook.merchant_id;
        if !lane.is_listed {
            lane.is_listed = true;
            self.tenants.entry(merchant).or_default().turns.push_back(id);
        }
        self.give_turn(merchant);
    }

    fn give_turn(&mut self, merchant: MerchantId) {
        if let Some(tenant) = self.tenants.get_mut(&merchant).filter(|tenant| !tenant.is_listed) {
            tenant.is_listed = true;
            self.turns.push_back(merchant);
        }
    }

    /// Something has become free: those that have waited longest are looked at.
    fn unblock(&mut self, count: usize) {
        for _ in 0..count {
            let Some(merchant) = self.blocked.pop_front() else { return };
            if let Some(tenant) = self.tenants.get_mut(&merchant) {
                (tenant.is_blocked, tenant.is_recalled) = (false, true);
                self.give_turn(merchant);
            }
        }
    }

    /// Puts lanes in line whose alarm has come.
    fn wake(&mut self, now: Timestamp) {
        while let Some(&Reverse((at, id))) = self.alarms.peek()
            && at <= now
        {
            self.alarms.pop();
            if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.armed_for == Some(at)) {
                lane.armed_for = None;
            }
            self.list(id);
        }
    }
}

#[cfg(test)]
mod tests;
