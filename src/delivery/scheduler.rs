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
use super::lane::{Lane, Want};
use crate::domain::delivery::Verdict;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::mailbox::News;
use crate::store::{Page, PageLimit, Parcel};

/// The most deliveries a lane loads at once.
const PAGE_MAX: usize = 128;
/// The most bytes of messages a lane loads at once; one delivery always fits.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most outcomes that wait to be recorded before sending pauses.
const UNRECORDED_MAX: usize = 4_096;
/// How long a lane rests after the store could not be read.
const REST: Duration = Duration::from_secs(1);

/// Something for the worker to do.
#[derive(Debug)]
pub enum Action {
    /// Post this; then call [`Scheduler::sent`].
    Send(Arc<Webhook>, Parcel),
    /// Read this; then call [`Scheduler::read`].
    Read {
        /// Whose deliveries.
        webhook_id: WebhookId,
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
#[derive(Debug)]
pub struct Scheduler {
    in_flight_max: usize,
    lane_in_flight_max: usize,
    loaded_bytes_max: usize,
    lanes: HashMap<WebhookId, Lane>,
    turns: VecDeque<WebhookId>,
    alarms: BinaryHeap<Reverse<(Timestamp, WebhookId)>>,
    in_flight: usize,
    unrecorded: usize,
    loaded_bytes: usize,
}

impl Scheduler {
    /// Lanes for these webhooks, with nothing loaded.
    pub fn new(config: &Config, webhooks: Vec<Webhook>) -> Self {
        let mut scheduler = Self {
            in_flight_max: config.in_flight_max,
            lane_in_flight_max: config.webhook_in_flight_max,
            loaded_bytes_max: config.loaded_bytes_max,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            alarms: BinaryHeap::new(),
            in_flight: 0,
            unrecorded: 0,
            loaded_bytes: 0,
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
            let has_room = self.loaded_bytes < self.loaded_bytes_max;
            self.with_lane(id, |lane| {
                if has_room {
                    lane.offer(parcel, PAGE_MAX);
                } else {
                    lane.commit_through(parcel.increment_id);
                }
            });
        }
        for (id, through) in news.committed_through {
            self.with_lane(id, |lane| lane.commit_through(through));
        }
    }

    /// The next thing to do at `now`; `None` until something happens or
    /// [`Self::alarm`] comes.
    pub fn next(&mut self, now: Timestamp) -> Option<Action> {
        self.wake(now);
        let may_send = self.in_flight < self.in_flight_max && self.unrecorded < UNRECORDED_MAX;
        let may_read = self.loaded_bytes < self.loaded_bytes_max;
        // Each lane in line is looked at once at the most.
        for _ in 0..self.turns.len() {
            let id = self.turns.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if may_read && let Some(want) = lane.want(now) {
                let through = lane.committed_through();
                self.turns.push_back(id);
                let limit = PageLimit { count: PAGE_MAX, bytes: PAGE_BYTES_MAX };
                return Some(Action::Read { webhook_id: id, want, through, limit });
            }
            if !may_send {
                self.turns.push_back(id);
                continue;
            }
            if let Some(parcel) = lane.take(now, self.lane_in_flight_max) {
                self.loaded_bytes -= parcel.weight();
                self.in_flight += 1;
                self.unrecorded += 1;
                self.turns.push_back(id);
                return Some(Action::Send(Arc::clone(&lane.webhook), parcel));
            }
            if !may_read && lane.waiting_bytes() == 0 {
                // It may only want to read, which it can't now; it keeps its turn.
                self.turns.push_back(id);
                continue;
            }
            lane.is_listed = false;
            if let Some(at) = lane.alarm(now)
                && at > now
                && lane.armed_for.is_none_or(|armed| at < armed)
            {
                lane.armed_for = Some(at);
                self.alarms.push(Reverse((at, id)));
            }
        }
        None
    }

    /// When to call [`Self::next`] again although nothing happens.
    pub fn alarm(&self) -> Option<Timestamp> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// A request has ended; its number is held until [`Self::recorded`].
    pub fn sent(&mut self, id: WebhookId, parcel: Parcel, verdict: Verdict) {
        self.in_flight -= 1;
        self.with_lane(id, |lane| lane.sent(parcel, verdict));
    }

    /// An outcome is committed.
    pub fn recorded(&mut self, id: WebhookId, number: IncrementId, verdict: Verdict) {
        self.unrecorded -= 1;
        self.with_lane(id, |lane| lane.recorded(number, verdict));
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

    /// Does something with a lane, keeps the sum of bytes right, and puts the
    /// lane in line, for it may have something to do now.
    fn with_lane(&mut self, id: WebhookId, act: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let before = lane.waiting_bytes();
        act(lane);
        self.loaded_bytes = self.loaded_bytes - before + lane.waiting_bytes();
        self.list(id);
    }

    fn put_webhook(&mut self, id: WebhookId, webhook: Arc<Webhook>) {
        self.lanes.entry(id).or_insert_with(|| Lane::new(Arc::clone(&webhook)));
        self.with_lane(id, |lane| lane.change(webhook));
    }

    fn remove(&mut self, id: WebhookId) {
        if let Some(lane) = self.lanes.remove(&id) {
            self.loaded_bytes -= lane.waiting_bytes();
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
