//! What is known outside of the server, and outlives it: what publishers were
//! told, what receivers got, what owners asked for. Every promise is checked
//! against this, and against the rows of each commit.

use std::collections::{BTreeMap, BTreeSet};

use super::kept::Kept;
use crate::domain::delivery::{DeliveryState, EndReason};
use crate::domain::event::Receipt;
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::store::StoreError;
use crate::store::ledger::memory::{Before, DeliveryRow, EventRow, Hook, Memory};
use crate::store::ledger::terms::Retention;
use crate::store::{Parcel, Pulled};

/// A number of a webhook.
pub type Key = (WebhookId, IncrementId);

/// A publish that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose.
    pub merchant: MerchantId,
    /// Which events.
    pub events: Vec<AskedEvent>,
    /// How often webhooks had been touched by then.
    pub touches: u64,
}

/// One of its events.
#[derive(Clone, Debug)]
pub struct AskedEvent {
    /// Unlike any other's, unless it has a key.
    pub message: String,
    /// What it is about.
    pub topic: Topic,
    /// Its idempotency key.
    pub key: Option<String>,
    /// Whom it goes to, if no webhook is touched meanwhile.
    pub webhooks: Vec<WebhookId>,
}

/// What was answered under a key.
#[derive(Clone, Debug)]
struct Answered {
    message: String,
    receipt: Receipt,
    expires_at: Timestamp,
}

/// What is known.
pub struct Outside {
    /// Counts what happens.
    clock: u64,
    /// How often owners have touched webhooks.
    pub touches: u64,
    /// What each number is about, as it was first told.
    seen: BTreeMap<Key, (EventId, String)>,
    /// The batches that receivers saw.
    batches: BTreeMap<Key, Span>,
    /// What receivers have said that they have.
    taken: BTreeSet<Key>,
    /// What the policy has given up.
    given_up: BTreeSet<Key>,
    /// Requests that were begun.
    sends: BTreeMap<Key, u32>,
    /// What is to be sent once more, since when.
    owed: BTreeMap<Key, u64>,
    /// What owners wanted to be cancelled or forgotten.
    pub called_off: BTreeSet<Key>,
    /// Webhooks that owners wanted to be deleted.
    pub deleted: BTreeSet<WebhookId>,
    /// Webhooks that are pulled, or once were.
    pulled: BTreeSet<WebhookId>,
    /// What is kept, and what finds room.
    pub kept: Kept,
    /// Changed since the worker was last told of anything.
    pub unheard: BTreeSet<Key>,
    /// The same of webhooks.
    pub unheard_hooks: BTreeSet<WebhookId>,
    /// What owners wanted to be sent at once.
    pub urgent: BTreeSet<Key>,
    /// Events that were ever committed, by message, and when.
    accepted: BTreeMap<String, (EventId, Timestamp)>,
    answered: BTreeMap<(MerchantId, String), Answered>,
    /// Publishes of which nobody knows whether they were accepted, and those
    /// that were not.
    doubtful: Vec<Asked>,
    refused: Vec<Asked>,
    last_event: Option<EventId>,
    /// The latest time that there was: what has expired by then may be gone, though
    /// the clock goes back.
    latest: Option<Timestamp>,
}

impl Outside {
    /// Of a server that keeps things so long.
    pub fn new(retention: Retention) -> Self {
        Self {
            kept: Kept::new(retention),
            clock: 0,
            touches: 0,
            seen: BTreeMap::new(),
            batches: BTreeMap::new(),
            taken: BTreeSet::new(),
            given_up: BTreeSet::new(),
            sends: BTreeMap::new(),
            owed: BTreeMap::new(),
            called_off: BTreeSet::new(),
            deleted: BTreeSet::new(),
            pulled: BTreeSet::new(),
            unheard: BTreeSet::new(),
            unheard_hooks: BTreeSet::new(),
            urgent: BTreeSet::new(),
            accepted: BTreeMap::new(),
            answered: BTreeMap::new(),
            doubtful: Vec::new(),
            refused: Vec::new(),
            last_event: None,
            latest: None,
        }
    }

    /// Notes that something happens, and when.
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Somebody is told what a number is about: always the same.
    fn note(&mut self, key: Key, event: EventId, message: &str) {
        let known = self.seen.entry(key).or_insert_with(|| (event, message.to_owned()));
        assert!((known.0, &*known.1) == (event, message), "{key:?} is {event} {message}, and was {known:?}");
    }

    // Commits.

    /// What a commit has changed was allowed to change so.
    pub fn check_commit(&mut self, before: &Before, memory: &Memory, now: Timestamp) {
        self.latest = self.latest.max(Some(now));
        self.kept.check_commit(before, memory, now);
        let are_pulled = memory.tables.hooks.iter().filter(|(_, hook)| hook.webhook.spec.url.is_none());
        self.pulled.extend(are_pulled.map(|(id, _)| *id));
        for (id, old) in &before.events {
            let new = memory.tables.events.get(id);
            if let (None, Some(row)) = (old, new.or(before.passed.get(id))) {
                self.accept(*id, row);
            }
            if new.is_none() {
                let mut all = memory.tables.deliveries.iter();
                let needed = all.find(|(_, row)| row.event_id == *id && row.standing.is_to_be_sent());
                assert!(needed.is_none(), "event {id} is gone, and to be sent: {needed:?}");
            }
        }
        for (key, old) in &before.deliveries {
            let Some(new) = memory.tables.deliveries.get(key) else { panic!("the row of {key:?} is gone") };
            self.unheard.insert(*key);
            match old {
                None => {
                    let (id, IncrementId(number)) = *key;
                    let has_before = number == 1 || memory.tables.deliveries.has(&(id, IncrementId(number - 1)));
                    assert!(has_before, "a hole before {key:?}");
                    let forgotten = before.passed.get(&new.event_id).filter(|_| new.standing.is_forgotten);
                    let event = memory.tables.events.get(&new.event_id).or(forgotten);
                    let event = event.unwrap_or_else(|| panic!("{key:?} has no event"));
                    self.note(*key, new.event_id, event.event.message.as_str());
                }
                Some(old) if old != new => self.check_change(*key, old, new),
                Some(_) => {}
            }
        }
        for (id, old) in &before.hooks {
            let Some(new) = memory.tables.hooks.get(id) else { panic!("webhook {id} is gone") };
            self.unheard_hooks.insert(*id);
            check_counters(*id, old.as_ref(), new, memory);
        }
    }

    /// An event is committed: behind all others, and once.
    fn accept(&mut self, id: EventId, row: &EventRow) {
        assert!(self.last_event < Some(id), "event {id} comes after {:?}", self.last_event);
        self.last_event = Some(id);
        let message = row.event.message.as_str().to_owned();
        let known = self.accepted.insert(message.clone(), (id, row.published_at));
        let counts = |at: Timestamp| self.latest < Some(at.after(super::KEY_TTL));
        let is_repeated = known.is_some_and(|(_, at)| {
            message.starts_with(super::PLAIN) || (message.starts_with(super::KEYED) && counts(at))
        });
        assert!(!is_repeated, "{message} was accepted twice: {known:?} and {id}");
    }

    fn check_change(&mut self, key: Key, old: &DeliveryRow, new: &DeliveryRow) {
        let what = || format!("{key:?} was {old:?} and is {new:?}");
        let pinned = |row: &DeliveryRow| (row.event_id, row.format, row.created_at, row.expansion.clone());
        assert!(pinned(old) == pinned(new), "{}", what());
        let (before, after) = (old.standing, new.standing);
        let sends = self.sends.get(&key).copied().unwrap_or(0);
        assert!(before.attempts <= after.attempts && after.attempts <= sends, "{sends} requests: {}", what());
        let is_asked = after.resends_asked > before.resends_asked && after.batch == before.batch;
        if before.state != after.state {
            match (before.state, after.state) {
                (DeliveryState::Delivered, _) => panic!("it was delivered: {}", what()),
                (DeliveryState::Cancelled | DeliveryState::Abandoned, DeliveryState::Pending) => {
                    assert!(after.resends_asked > before.resends_asked, "nobody asked for it: {}", what());
                }
                (_, DeliveryState::Delivered) => assert!(self.taken.contains(&key), "nobody has it: {}", what()),
                (_, DeliveryState::Abandoned) => assert!(self.given_up.contains(&key), "too early: {}", what()),
                (_, DeliveryState::Cancelled) => self.check_cancelled(key, new),
                (DeliveryState::Pending, DeliveryState::Pending) => {}
            }
        }
        let is_lost = before.is_due(Timestamp(i64::MAX)) && after.is_pending() && after.next_attempt_at.is_none();
        assert!(!is_lost, "it is tried again no more: {}", what());
        let is_pulled = self.pulled.contains(&key.0);
        let is_sealed = before.batch.is_none() && before.is_fresh();
        assert!(before.batch == after.batch || is_sealed || is_pulled, "another batch: {}", what());
        if is_asked && after.is_to_be_sent() {
            let now = self.tick();
            self.owed.insert(key, now);
        }
        let span = after.batch.unwrap_or(Span::one(key.1));
        let is_called_off = || span.numbers().any(|number| self.called_off.contains(&(key.0, number)));
        if !after.is_to_be_sent() && (before.attempts == after.attempts || is_called_off()) {
            // Called off, or pulled.
            self.owed.remove(&key);
        }
    }

    fn check_cancelled(&self, key: Key, row: &DeliveryRow) {
        let span = row.standing.batch.unwrap_or(Span::one(key.1));
        let is_wanted = match row.standing.reason {
            Some(EndReason::CancelledByOwner) => {
                span.numbers().any(|number| self.called_off.contains(&(key.0, number)))
            }
            Some(EndReason::WebhookDeleted) => self.deleted.contains(&key.0),
            _ => false,
        };
        assert!(is_wanted, "nobody wanted {key:?} to be cancelled: {row:?}");
    }

    // Requests.

    /// A request is begun; returns when.
    pub fn send(&mut self, id: WebhookId, parcel: &Parcel) -> u64 {
        for number in parcel.numbers().numbers() {
            *self.sends.entry((id, number)).or_default() += 1;
        }
        self.tick()
    }

    /// A request that was begun then reaches its receiver.
    pub fn arrive(&mut self, id: WebhookId, parcel: &Parcel, begun_at: u64) {
        let numbers = parcel.numbers();
        for (number, event) in numbers.numbers().zip(parcel.events()) {
            let key = (id, number);
            self.note(key, event.event_id, event.message.as_str());
            if self.owed.get(&key).is_some_and(|since| *since < begun_at) {
                self.owed.remove(&key);
            }
            // What was sent alone without an answer that counted may become one of a batch.
            let batch = parcel.batch.as_ref().map(|_| numbers);
            let known = self.batches.get(&key).copied();
            assert!(known.is_none() || known == batch, "{key:?} came in {known:?}, and now in {batch:?}");
            self.batches.extend(batch.map(|batch| (key, batch)));
        }
    }

    /// Its receiver says that it has it.
    pub fn take(&mut self, id: WebhookId, numbers: Span) {
        self.taken.extend(numbers.numbers().map(|number| (id, number)));
    }

    /// It was the last of the policy.
    pub fn give_up(&mut self, id: WebhookId, numbers: Span, begun_at: u64) {
        for number in numbers.numbers() {
            self.given_up.insert((id, number));
            if self.owed.get(&(id, number)).is_some_and(|since| *since < begun_at) {
                self.owed.remove(&(id, number));
            }
        }
    }

    /// A page comes to whoever pulls: the next numbers, none left out.
    pub fn pull(&mut self, id: WebhookId, after: IncrementId, page: &[Pulled]) {
        for (place, Pulled { increment_id, parcel, .. }) in (1..).zip(page) {
            assert_eq!(increment_id.0, after.0 + place, "a pull of {id} leaves something out");
            let key = (id, *increment_id);
            if let Some(parcel) = parcel {
                self.note(key, parcel.event.event_id, parcel.event.message.as_str());
            }
            self.taken.insert(key);
            self.owed.remove(&key);
        }
    }

    // Publishers.

    /// A publisher is told what has become of his events.
    pub fn told(&mut self, asked: Asked, result: Result<Vec<Receipt>, StoreError>, now: Timestamp, memory: &Memory) {
        match result {
            Ok(receipts) => {
                assert_eq!(receipts.len(), asked.events.len());
                for (event, receipt) in asked.events.iter().zip(receipts) {
                    self.receipt(&asked, event, receipt, now, memory);
                }
            }
            // It may have been accepted.
            Err(StoreError::Failed(_) | StoreError::Unconfirmed(_) | StoreError::TakenAway) => {
                self.doubtful.push(asked)
            }
            Err(_) => self.refused.push(asked),
        }
    }

    fn receipt(&mut self, asked: &Asked, event: &AskedEvent, receipt: Receipt, now: Timestamp, memory: &Memory) {
        let id = receipt.event_id;
        if let Some(row) = memory.tables.events.get(&id) {
            assert_eq!(row.event.message.as_str(), event.message, "{id} is another event");
        }
        let accepted = self.accepted.get(&event.message).copied();
        let Some((_, accepted_at)) = accepted.filter(|(accepted, _)| *accepted == id) else {
            panic!("{event:?} was not accepted as {id}, but {accepted:?}")
        };
        for key in &receipt.deliveries {
            let row = memory.tables.deliveries.get(key);
            assert!(row.is_some_and(|row| row.event_id == id), "{key:?} of {receipt:?} is {row:?}");
            self.note(*key, id, &event.message);
        }
        let answered = event.key.clone().map(|key| (asked.merchant, key));
        if let Some(known) = answered.as_ref().and_then(|key| self.answered.get(key))
            && self.latest.max(Some(now)) < Some(known.expires_at)
        {
            assert_eq!(known.message, event.message, "under one key");
            assert_eq!(known.receipt, receipt, "of one key");
            return;
        }
        let is_untouched = self.touches == asked.touches && answered.is_none();
        if is_untouched {
            let webhooks: Vec<_> = receipt.deliveries.iter().map(|(id, _)| *id).collect();
            assert_eq!(webhooks, event.webhooks, "{event:?} goes to others");
        }
        if let Some(key) = answered {
            // However often it is repeated.
            let expires_at = accepted_at.after(super::KEY_TTL);
            self.answered.insert(key, Answered { message: event.message.clone(), receipt, expires_at });
        }
    }

    // The end.

    /// Everything has come to rest, and all receivers were good for long.
    pub fn check_rest(&self, memory: &Memory) {
        for (key, row) in memory.tables.deliveries.iter() {
            let is_right = match row.standing.state {
                DeliveryState::Pending => false,
                DeliveryState::Delivered => self.taken.contains(key),
                DeliveryState::Abandoned => self.given_up.contains(key),
                DeliveryState::Cancelled => true,
            };
            assert!(is_right && row.standing.has_ended(), "{key:?} is left: {row:?}");
            let (event, _) = &self.seen[key];
            assert_eq!(row.event_id, *event, "of {key:?}");
        }
        for key in self.seen.keys() {
            assert!(memory.tables.deliveries.has(key), "{key:?} was there, and is not");
        }
        for (id, hook) in memory.tables.hooks.iter() {
            let counters = hook.counters;
            assert_eq!(counters.settled_through, counters.last, "of {id}, where all has ended");
        }
        let owed = self.owed.keys().find(|(id, _)| !self.deleted.contains(id));
        assert!(owed.is_none(), "it was to be sent once more: {owed:?}");
        let is_there = |asked: &Asked| {
            let plain = asked.events.iter().filter(|event| event.key.is_none());
            plain.filter(|event| self.accepted.contains_key(&event.message)).count()
        };
        for asked in &self.refused {
            assert_eq!(is_there(asked), 0, "it was refused: {asked:?}");
        }
        for asked in &self.doubtful {
            let all = asked.events.iter().filter(|event| event.key.is_none()).count();
            let found = is_there(asked);
            assert!(found == 0 || found == all, "{found} of {all} were accepted: {asked:?}");
        }
    }
}

fn check_counters(id: WebhookId, old: Option<&Hook>, new: &Hook, memory: &Memory) {
    let last = new.counters.last;
    let is_last = last == IncrementId::ZERO || memory.tables.deliveries.has(&(id, last));
    assert!(is_last && !memory.tables.deliveries.has(&(id, last.next())), "{last} is not the last of {id}");
    let Some(old) = old else { return };
    assert!(old.deleted_at.is_none() || new.deleted_at.is_some(), "{id} was deleted");
    let (before, after) = (old.counters, new.counters);
    let marks = |counters: crate::store::ledger::counters::Counters| {
        [counters.last, counters.settled_through, counters.acknowledged_through, counters.pulled_through]
    };
    let has_fallen = marks(before).into_iter().zip(marks(after)).any(|(before, after)| after < before);
    assert!(!has_fallen && after.settled_through <= last, "{id}: {before:?}, and then {after:?}");
    for number in (before.settled_through.0 + 1)..=after.settled_through.0 {
        let row = memory.tables.deliveries.get(&(id, IncrementId(number)));
        assert!(row.is_some_and(|row| !row.standing.is_pending()), "{id} is not settled through {number}: {row:?}");
    }
}
