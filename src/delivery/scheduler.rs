//! Which delivery goes out next: a pure function of what it was told and of
//! `now`, so that days of retries can be played through in milliseconds.
//!
//! Lanes take turns, one delivery a turn, so a lane with a million waiting
//! gets no more than its share. What is in flight, what waits in memory and
//! what is not yet recorded are all bounded.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Config;
use super::health::Sign;
use super::lane::{Lane, Share, Want};
use crate::domain::delivery::Outcome;
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::mailbox::News;
use crate::store::{Page, PageLimit, Parcel};

/// The most outcomes that wait to be recorded before sending pauses.
const UNRECORDED_MAX: usize = 4_096;
/// The most they weigh together, in bytes.
const UNRECORDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a lane rests after the store could not be read.
const REST: Duration = Duration::from_secs(1);
/// No lane has more than this part of the requests at once.
const LANES_AT_LEAST: usize = 8;

/// Something for the worker to do.
#[derive(Debug)]
pub enum Action {
    /// Post this; then call [`Scheduler::sent`], or [`Scheduler::unsent`] if it
    /// is a batch that the store won't seal.
    Send(Arc<Webhook>, Parcel),
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
    },
}

/// What the store gave for a [`Want`]; `None` if it could not be read.
#[derive(Debug)]
pub struct Reading {
    /// The page.
    pub page: Page,
    /// When the next retry behind it falls due, if retries were asked for.
    pub next_due: Option<Timestamp>,
}

/// All lanes, and whose turn it is.
///
/// What is in flight and what waits in memory is bounded twice: in all, and
/// for lanes whose receivers have yet to show that they take deliveries, or no
/// longer do. These have half of it at the most, so that however many of them
/// there are, the others have room.
#[derive(Debug)]
pub struct Scheduler {
    in_flight_max: usize,
    loaded_bytes_max: usize,
    share: Share,
    lanes: HashMap<WebhookId, Lane>,
    turns: VecDeque<WebhookId>,
    /// Lanes that have something to send, but there are too many such.
    parked_senders: VecDeque<WebhookId>,
    /// Lanes that have something to read, but there is no room.
    parked_readers: VecDeque<WebhookId>,
    /// The same for those that are not trusted.
    parked_suspects: VecDeque<WebhookId>,
    tests: VecDeque<(WebhookId, Parcel)>,
    alarms: BinaryHeap<Reverse<(Timestamp, WebhookId)>>,
    all: Load,
    suspects: Load,
    in_flight: usize,
    unrecorded: usize,
    unrecorded_bytes: usize,
}

/// What lanes take up together.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, (requests, bytes): (usize, usize)) {
        self.requests += requests;
        self.bytes += bytes;
    }

    fn remove(&mut self, (requests, bytes): (usize, usize)) {
        self.requests -= requests;
        self.bytes -= bytes;
    }
}

impl Scheduler {
    /// Lanes for these webhooks, with nothing loaded.
    pub fn new(config: &Config, webhooks: Vec<Webhook>) -> Self {
        let requests_max = (config.in_flight_max / LANES_AT_LEAST).max(1);
        let mut scheduler = Self {
            in_flight_max: config.in_flight_max,
            loaded_bytes_max: config.loaded_bytes_max,
            share: Share { requests: config.webhook_in_flight_max, requests_max },
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            parked_senders: VecDeque::new(),
            parked_readers: VecDeque::new(),
            parked_suspects: VecDeque::new(),
            tests: VecDeque::new(),
            alarms: BinaryHeap::new(),
            all: Load::default(),
            suspects: Load::default(),
            in_flight: 0,
            unrecorded: 0,
            unrecorded_bytes: 0,
        };
        for webhook in webhooks {
            let id = webhook.webhook_id;
            scheduler.lanes.insert(id, Lane::new(Arc::new(webhook)));
            scheduler.list(id);
        }
        scheduler
    }

    /// Takes in what the store has committed.
    pub fn absorb(&mut self, news: News) {
        for (id, webhook) in news.changed {
            match webhook {
                Some(webhook) => self.put_webhook(id, webhook),
                None => self.remove(id),
            }
        }
        for (id, parcel) in news.parcels {
            let (room, room_for_suspects) = (self.has_room(true), self.has_room(false));
            self.with_lane(id, |lane| {
                if if lane.is_trusted() { room } else { room_for_suspects } {
                    lane.offer(parcel);
                } else {
                    lane.commit_through(parcel.increment_id);
                }
            });
        }
        for (id, through) in news.committed_through {
            self.with_lane(id, |lane| lane.commit_through(through));
        }
        for (id, from) in news.reread {
            self.with_lane(id, |lane| lane.reread(from));
        }
        self.tests.extend(news.tests);
    }

    /// The next thing to do at `now`; `None` until something happens or
    /// [`Self::alarm`] comes.
    pub fn next(&mut self, now: Timestamp) -> Option<Action> {
        self.wake(now);
        if self.in_flight >= self.in_flight_max
            || self.unrecorded >= UNRECORDED_MAX
            || self.unrecorded_bytes >= UNRECORDED_BYTES_MAX
        {
            return None;
        }
        if let Some(action) = self.next_test() {
            return Some(action);
        }
        loop {
            let id = self.turns.pop_front().or_else(|| self.unpark())?;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.is_listed = false;
            let (is_trusted, want) = (lane.is_trusted(), lane.want(now));
            if let Some(want) = want
                && self.has_room(is_trusted)
            {
                return self.read_for(id, want);
            }
            let is_ready = self.lanes.get(&id).is_some_and(|lane| lane.is_ready(now, self.share));
            if is_ready && (is_trusted || self.has_slot_for_suspects()) {
                return self.send_from(id, now);
            }
            match (is_ready, want.is_some(), is_trusted) {
                (true, _, _) => self.parked_senders.push_back(id),
                (false, true, true) => self.parked_readers.push_back(id),
                (false, true, false) => self.parked_suspects.push_back(id),
                (false, false, _) => {
                    self.set_alarm(id, now);
                    continue;
                }
            }
            self.lanes.entry(id).and_modify(|lane| lane.is_listed = true);
        }
    }

    fn next_test(&mut self) -> Option<Action> {
        while let Some((id, parcel)) = self.tests.pop_front() {
            let mut webhook = None;
            self.with_lane(id, |lane| {
                lane.commit_through(parcel.increment_id);
                webhook = lane.take_test(parcel.increment_id).then(|| Arc::clone(&lane.webhook));
            });
            if let Some(webhook) = webhook {
                self.in_flight += 1;
                self.unrecorded += 1;
                return Some(Action::Send(webhook, parcel));
            }
        }
        None
    }

    fn read_for(&mut self, id: WebhookId, want: Want) -> Option<Action> {
        let mut action = None;
        self.with_lane(id, |lane| {
            let (through, limit) = (lane.committed_through(), lane.begin_reading());
            let merchant_id = lane.webhook.merchant_id;
            action = Some(Action::Read { webhook_id: id, merchant_id, want, through, limit });
        });
        action
    }

    fn send_from(&mut self, id: WebhookId, now: Timestamp) -> Option<Action> {
        let mut action = None;
        self.with_lane(id, |lane| {
            action = lane.take(now).map(|parcel| Action::Send(Arc::clone(&lane.webhook), parcel));
        });
        self.in_flight += 1;
        self.unrecorded += 1;
        action
    }

    /// True if a lane may load more.
    fn has_room(&self, is_trusted: bool) -> bool {
        let for_suspects = self.loaded_bytes_max.div_ceil(2);
        self.all.bytes < self.loaded_bytes_max && (is_trusted || self.suspects.bytes < for_suspects)
    }

    fn has_slot_for_suspects(&self) -> bool {
        self.suspects.requests < self.in_flight_max.div_ceil(2)
    }

    /// A lane that waited for room, if there may be some now.
    fn unpark(&mut self) -> Option<WebhookId> {
        let sender = if self.has_slot_for_suspects() { self.parked_senders.pop_front() } else { None };
        if sender.is_some() {
            return sender;
        }
        let reader = if self.has_room(true) { self.parked_readers.pop_front() } else { None };
        if reader.is_some() || !self.has_room(false) {
            return reader;
        }
        self.parked_suspects.pop_front()
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

    /// A request has ended; its number is held until [`Self::recorded`].
    pub fn sent(&mut self, parcel: Parcel, outcome: &Outcome, sign: Sign, now: Timestamp) {
        self.in_flight -= 1;
        self.unrecorded_bytes += outcome.attempt.weight();
        let share = self.share;
        self.with_lane(outcome.webhook_id, |lane| lane.sent(parcel, outcome.verdict, sign, share, now));
    }

    /// A batch was not sent: it is no longer what it was, or the store could
    /// not be written (`is_failed`).
    pub fn unsent(&mut self, id: WebhookId, numbers: Span, is_failed: bool, now: Timestamp) {
        self.in_flight -= 1;
        self.unrecorded -= 1;
        self.with_lane(id, |lane| lane.unsent(numbers, is_failed.then(|| now.after(REST))));
    }

    /// An outcome is committed.
    pub fn recorded(&mut self, outcome: &Outcome) {
        self.unrecorded -= 1;
        self.unrecorded_bytes -= outcome.attempt.weight();
        self.with_lane(outcome.webhook_id, |lane| {
            lane.recorded(outcome.numbers, outcome.attempt.attempt, outcome.verdict)
        });
    }

    /// What a lane wanted was read, or could not be.
    pub fn read(&mut self, id: WebhookId, want: Want, through: IncrementId, reading: Option<Reading>, now: Timestamp) {
        self.with_lane(id, |lane| match reading {
            None => lane.reading_failed(now.after(REST)),
            Some(Reading { page, next_due }) => lane.read(want, page, next_due, through, now),
        });
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Requests and bytes that the lanes take up together.
    #[cfg(test)]
    pub fn load(&self) -> (usize, usize) {
        (self.all.requests, self.all.bytes)
    }

    /// Does something with a lane, keeps the sums right, and puts the lane in
    /// line, for it may have something to do now.
    fn with_lane(&mut self, id: WebhookId, act: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (load, is_trusted) = (lane.load(), lane.is_trusted());
        act(lane);
        self.all.remove(load);
        self.all.add(lane.load());
        if !is_trusted {
            self.suspects.remove(load);
        }
        if !lane.is_trusted() {
            self.suspects.add(lane.load());
        }
        self.list(id);
    }

    fn put_webhook(&mut self, id: WebhookId, webhook: Arc<Webhook>) {
        self.lanes.entry(id).or_insert_with(|| Lane::new(Arc::clone(&webhook)));
        self.with_lane(id, |lane| lane.change(webhook));
    }

    fn remove(&mut self, id: WebhookId) {
        if let Some(lane) = self.lanes.remove(&id) {
            self.all.remove(lane.load());
            if !lane.is_trusted() {
                self.suspects.remove(lane.load());
            }
        }
    }

    fn list(&mut self, id: WebhookId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.is_listed) {
            lane.is_listed = true;
            self.turns.push_back(id);
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
mod tests {
    use super::*;
    use crate::delivery::samples::{NOW, parcel, webhook};
    use crate::domain::delivery::{Attempt, Verdict};
    use crate::domain::webhook::DeliveryMode;

    const IN_FLIGHT_MAX: usize = 16;

    /// A scheduler of so many webhooks, which have never had a delivery.
    fn scheduler(webhooks: i64) -> Scheduler {
        let config = Config {
            in_flight_max: IN_FLIGHT_MAX,
            webhook_in_flight_max: 8,
            loaded_bytes_max: 64 * 1024 * 1024,
            answer_bytes_max: 0,
            allow_targets: Vec::new(),
        };
        let webhook = |id| Webhook::clone(&webhook(id, DeliveryMode::Parallel, 0, 0));
        Scheduler::new(&config, (1..=webhooks).map(webhook).collect())
    }

    fn publish(scheduler: &mut Scheduler, id: i64, number: i64) {
        let parcels = vec![(WebhookId(id), parcel(number, 0, None))];
        scheduler.absorb(News { parcels, ..News::default() });
    }

    /// All that is to be sent now.
    fn sends(scheduler: &mut Scheduler) -> Vec<(WebhookId, Parcel)> {
        std::iter::from_fn(|| scheduler.next(NOW))
            .map(|action| match action {
                Action::Send(webhook, parcel) => (webhook.webhook_id, parcel),
                Action::Read { .. } => panic!("everything was handed over"),
            })
            .collect()
    }

    fn end(scheduler: &mut Scheduler, (id, parcel): (WebhookId, Parcel)) {
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
        let outcome = Outcome { webhook_id: id, numbers: parcel.numbers(), attempt, verdict: Verdict::Delivered };
        scheduler.sent(parcel, &outcome, Sign::Good, NOW);
        scheduler.recorded(&outcome);
    }

    #[test]
    fn those_that_never_answered_leave_half_to_those_that_do() {
        let mut scheduler = scheduler(40);
        // Webhook 1 answers; the others never do.
        publish(&mut scheduler, 1, 1);
        let first = sends(&mut scheduler).remove(0);
        end(&mut scheduler, first);
        for id in 2..=40 {
            publish(&mut scheduler, id, 1);
        }
        let silent = sends(&mut scheduler);
        assert_eq!(silent.len(), IN_FLIGHT_MAX / 2);
        publish(&mut scheduler, 1, 2);
        let sent = sends(&mut scheduler);
        assert_eq!(sent.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [WebhookId(1)]);
        // Each that gives its request back makes room for the next.
        for (place, ended) in silent.into_iter().enumerate() {
            end(&mut scheduler, ended);
            assert_eq!(sends(&mut scheduler).len(), 1, "{place}");
        }
    }

    #[test]
    fn no_lane_has_more_than_its_part() {
        let mut scheduler = scheduler(1);
        let mut number = 0;
        let mut most = 0;
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
}
