//! The lane of one webhook: what of it is in memory, and how far it has read.
//!
//! A number is *held* from when it is loaded until its outcome is committed,
//! and what is held is never loaded again. So a lane may read the same part
//! of the store twice without sending anything twice, and dropping what it
//! has loaded is always safe.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::domain::id::IncrementId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::{DueKey, Page, Parcel};

/// A lane asks for more when it has less than this waiting.
const LOW_WATER: usize = 16;

/// One webhook's deliveries.
#[derive(Debug)]
pub struct Lane {
    /// As the store last announced it.
    pub webhook: Arc<Webhook>,
    /// Requests under way.
    pub in_flight: usize,
    /// Whether it stands in line for its turn.
    pub is_listed: bool,
    /// The earliest alarm that is set for it.
    pub armed_for: Option<Timestamp>,
    /// Nothing is read or sent before: the store could not be read.
    pub resting_until: Option<Timestamp>,
    /// The highest number known to be committed.
    committed_through: IncrementId,
    /// All never-tried numbers up to this one have been loaded.
    cursor: IncrementId,
    /// All retries up to this place have been loaded.
    due_cursor: DueKey,
    /// When the next retry beyond `due_cursor` falls due; unknown at first.
    next_due: NextDue,
    is_paging: bool,
    /// The page under way was asked for before the lane let go of something,
    /// and would hide that: it is thrown away.
    is_page_stale: bool,
    waiting: VecDeque<Parcel>,
    waiting_bytes: usize,
    held: HashSet<IncrementId>,
}

/// What a lane knows of retries that are not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextDue {
    Unknown,
    Never,
    At(Timestamp),
}

/// What a lane wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Never-tried deliveries above this number.
    Fresh(IncrementId),
    /// Retries that are due, beyond this place.
    Due(DueKey),
}

impl Lane {
    /// A lane with nothing in memory.
    pub fn new(webhook: Arc<Webhook>) -> Self {
        let (cursor, committed_through) = (webhook.settled_through, webhook.last_increment_id);
        Self {
            in_flight: 0,
            is_listed: false,
            armed_for: None,
            resting_until: None,
            committed_through,
            cursor,
            due_cursor: DueKey::START,
            // A webhook that is settled has nothing to retry.
            next_due: if cursor == committed_through { NextDue::Never } else { NextDue::Unknown },
            is_paging: false,
            is_page_stale: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            held: HashSet::new(),
            webhook,
        }
    }

    /// Takes on a changed definition. A lane that is switched off lets go of
    /// what it has loaded; one that is switched on reads it again.
    pub fn change(&mut self, webhook: Arc<Webhook>) {
        let was_delivering = self.webhook.is_delivering();
        self.webhook = webhook;
        if was_delivering && !self.webhook.is_delivering() {
            self.unload();
        } else if !was_delivering && self.webhook.is_delivering() {
            self.read_due_again();
        }
    }

    /// Learns that all numbers up to this one are committed.
    pub fn commit_through(&mut self, through: IncrementId) {
        self.committed_through = self.committed_through.max(through);
    }

    /// Takes a delivery that was just committed, if it is the very next one
    /// and there is room; else it will be read in its turn.
    pub fn offer(&mut self, parcel: Parcel, page_max: usize) -> bool {
        self.commit_through(parcel.increment_id);
        let fits = self.webhook.is_delivering()
            && !self.is_paging
            && parcel.increment_id == self.cursor.next()
            && self.waiting.len() < page_max;
        if fits {
            self.cursor = parcel.increment_id;
            self.load(parcel);
        }
        fits
    }

    /// What to read next, if anything; the answer goes to [`Self::fresh`],
    /// [`Self::due`] or [`Self::reading_failed`].
    pub fn want(&mut self, now: Timestamp) -> Option<Want> {
        if self.is_paging || !self.may_work(now) || self.waiting.len() >= LOW_WATER {
            return None;
        }
        let want = match self.next_due {
            NextDue::Unknown => Want::Due(self.due_cursor),
            NextDue::At(at) if at <= now => Want::Due(self.due_cursor),
            _ if self.cursor < self.committed_through => Want::Fresh(self.cursor),
            _ => return None,
        };
        self.is_paging = true;
        Some(want)
    }

    /// Takes the page of never-tried deliveries that was asked for when
    /// `through` was committed.
    pub fn fresh(&mut self, page: Page, through: IncrementId) {
        if !self.accepts_page() {
            return;
        }
        let last = page.parcels.last().map(|parcel| parcel.increment_id);
        self.cursor = match last {
            Some(last) if !page.is_last => last,
            _ => through.max(last.unwrap_or(IncrementId::ZERO)).max(self.cursor),
        };
        page.parcels.into_iter().for_each(|parcel| self.load(parcel));
    }

    /// Takes the page of retries that was asked for, and when the next one
    /// behind them falls due.
    pub fn due(&mut self, page: Page, next_due: Option<Timestamp>, now: Timestamp) {
        if !self.accepts_page() {
            return;
        }
        if let Some(last) = page.parcels.last() {
            self.due_cursor = key(last);
        }
        self.next_due = match (page.is_last, next_due) {
            (false, _) => NextDue::At(now),
            (true, Some(at)) => NextDue::At(at),
            (true, None) => NextDue::Never,
        };
        page.parcels.into_iter().for_each(|parcel| self.load(parcel));
    }

    /// The store could not be read: the lane rests.
    pub fn reading_failed(&mut self, until: Timestamp) {
        self.accepts_page();
        self.resting_until = Some(until);
    }

    /// Takes the next delivery to send, if it may send.
    pub fn take(&mut self, now: Timestamp, in_flight_max: usize) -> Option<Parcel> {
        if self.in_flight >= in_flight_max || !self.may_work(now) {
            return None;
        }
        let parcel = self.waiting.pop_front()?;
        self.waiting_bytes -= parcel.weight();
        self.in_flight += 1;
        Some(parcel)
    }

    /// The outcome of a delivery is committed; `retry_at` if it is to be
    /// tried again.
    pub fn recorded(&mut self, number: IncrementId, retry_at: Option<Timestamp>) {
        self.held.remove(&number);
        let Some(at) = retry_at else { return };
        if at <= self.due_cursor.due_at {
            // The clock went back: what was read is not all there is.
            self.read_due_again();
        } else if self.next_due == NextDue::Never || matches!(self.next_due, NextDue::At(next) if at < next) {
            self.next_due = NextDue::At(at);
        }
    }

    /// When the lane must be looked at again although nothing happens.
    pub fn alarm(&self) -> Option<Timestamp> {
        if !self.webhook.is_delivering() {
            return None;
        }
        let due = match self.next_due {
            NextDue::At(at) => Some(at),
            NextDue::Unknown | NextDue::Never => None,
        };
        due.max(self.resting_until)
    }

    /// The highest number known to be committed.
    pub fn committed_through(&self) -> IncrementId {
        self.committed_through
    }

    /// Bytes of messages that wait in memory.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    fn may_work(&self, now: Timestamp) -> bool {
        self.webhook.is_delivering() && self.resting_until.is_none_or(|until| until <= now)
    }

    fn load(&mut self, parcel: Parcel) {
        if self.held.insert(parcel.increment_id) {
            self.waiting_bytes += parcel.weight();
            self.waiting.push_back(parcel);
        }
    }

    /// Lets go of what waits; it will be read again.
    fn unload(&mut self) {
        for parcel in self.waiting.drain(..) {
            self.held.remove(&parcel.increment_id);
            if parcel.attempts == 0 {
                self.cursor = self.cursor.min(IncrementId(parcel.increment_id.0 - 1));
            }
        }
        self.waiting_bytes = 0;
        self.read_due_again();
    }

    /// Ends the reading under way; false if what it brings must not count.
    fn accepts_page(&mut self) -> bool {
        self.is_paging = false;
        !std::mem::take(&mut self.is_page_stale) && self.webhook.is_delivering()
    }

    fn read_due_again(&mut self) {
        self.is_page_stale = self.is_paging;
        self.due_cursor = DueKey::START;
        self.next_due = NextDue::Unknown;
    }
}

/// The place of a retry in the order of falling due.
fn key(parcel: &Parcel) -> DueKey {
    DueKey { due_at: parcel.due_at.unwrap_or(DueKey::START.due_at), increment_id: parcel.increment_id }
}
