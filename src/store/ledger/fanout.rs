//! Events that were accepted and are not numbered everywhere yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::domain::event::{Event, IdempotencyKey};
use crate::domain::id::{EventId, MerchantId, WebhookId};
use crate::domain::topic::Topic;
use crate::store::error::StoreError;

/// Events of a merchant that were accepted, and where they still have to go.
#[derive(Clone, Debug)]
pub struct Fanout {
    pub(super) merchant: MerchantId,
    pub(super) left: VecDeque<Spread>,
    /// Of whoever goes on with it; gone if nobody does.
    pub(super) owner: Weak<()>,
}

/// One of the events.
#[derive(Clone, Debug)]
pub struct Spread {
    pub(super) event_id: EventId,
    pub(super) topic: Topic,
    /// `None` after a restart: its webhooks read it from the store.
    pub(super) event: Option<Arc<Event>>,
    /// Its receipt is remembered under this.
    pub(super) key: Option<IdempotencyKey>,
    pub(super) webhooks: VecDeque<WebhookId>,
}

/// What is not done yet.
#[derive(Debug, Default)]
pub struct Fanouts {
    all: BTreeMap<i64, Fanout>,
    /// Whose was gone on with last by the housekeeping.
    last: Option<MerchantId>,
    /// One of them failed: they rest until the next sweep, lest they fail again
    /// and again.
    rest: bool,
}

impl Spread {
    /// An event that goes to these webhooks.
    pub fn new(event: Arc<Event>, key: Option<IdempotencyKey>, webhooks: Vec<WebhookId>) -> Self {
        let (event_id, topic) = (event.event_id, event.topic.clone());
        Self { event_id, topic, event: Some(event), key, webhooks: webhooks.into() }
    }
}

impl Fanout {
    /// Of events in the order of their ids.
    pub fn new(merchant: MerchantId, events: impl IntoIterator<Item = Spread>) -> Self {
        Self { merchant, left: events.into_iter().collect(), owner: Weak::new() }
    }

    /// Whose events.
    pub fn merchant(&self) -> MerchantId {
        self.merchant
    }

    /// What is left, as a store keeps it.
    pub fn text(&self) -> Result<String, StoreError> {
        let one = |spread: &Spread| {
            let webhooks: Vec<_> = spread.webhooks.iter().map(|id| id.0).collect();
            (spread.event_id.0, spread.key.as_ref().map(|key| key.as_str().to_owned()), webhooks)
        };
        let events: Vec<_> = self.left.iter().map(one).collect();
        serde_json::to_string(&events).map_err(StoreError::failed)
    }

    /// What a store kept, and the topics of its events, which it is asked for.
    pub fn stored(
        merchant: MerchantId,
        text: &str,
        mut topic: impl FnMut(EventId) -> Result<Topic, StoreError>,
    ) -> Result<Self, StoreError> {
        let damaged = || StoreError::failed("damaged store: bad fanout");
        let events: Vec<(i64, Option<String>, Vec<i64>)> = serde_json::from_str(text).map_err(|_| damaged())?;
        let mut left = VecDeque::with_capacity(events.len());
        for (event_id, key, webhooks) in events {
            let event_id = EventId(event_id);
            let key = key.map(|key| IdempotencyKey::try_new(&key)).transpose().map_err(|_| damaged())?;
            let webhooks = webhooks.into_iter().map(WebhookId).collect();
            left.push_back(Spread { event_id, topic: topic(event_id)?, event: None, key, webhooks });
        }
        Ok(Self { merchant, left, owner: Weak::new() })
    }

    fn is_orphan(&self) -> bool {
        self.owner.strong_count() == 0
    }
}

impl Fanouts {
    /// What is not done, as a store has it.
    pub fn of(all: impl IntoIterator<Item = (i64, Fanout)>) -> Self {
        Self { all: all.into_iter().collect(), ..Self::default() }
    }

    /// That one, if it is not done.
    pub fn get(&self, fanout_id: i64) -> Option<&Fanout> {
        self.all.get(&fanout_id)
    }

    /// Notes what is left to be done.
    pub fn put(&mut self, fanout_id: i64, fanout: Fanout) {
        self.all.insert(fanout_id, fanout);
    }

    /// Forgets what is done.
    pub fn remove(&mut self, fanout_id: i64) {
        self.all.remove(&fanout_id);
    }

    /// What is left of each, as a store keeps it.
    #[cfg(test)]
    pub fn texts(&self) -> BTreeMap<i64, String> {
        let text = |fanout: &Fanout| fanout.text().expect("all of it can be written");
        self.all.iter().map(|(id, fanout)| (*id, text(fanout))).collect()
    }

    /// True if the event of a merchant is still being numbered.
    pub fn is_under_way(&self, merchant: MerchantId, event: EventId) -> bool {
        let mut own = self.all.values().filter(|fanout| fanout.merchant == merchant);
        own.any(|fanout| fanout.left.iter().any(|spread| spread.event_id == event))
    }

    /// True if an event is still being numbered.
    pub fn has(&self, event: EventId) -> bool {
        self.all.values().any(|fanout| fanout.left.iter().any(|spread| spread.event_id == event))
    }

    /// The first event that is still being numbered.
    pub fn first_event(&self) -> Option<EventId> {
        self.all.values().filter_map(|fanout| fanout.left.front()).map(|spread| spread.event_id).min()
    }

    /// How many there are that nobody goes on with.
    pub fn orphans(&self) -> usize {
        self.all.values().filter(|fanout| fanout.is_orphan()).count()
    }

    /// True if there is one that nobody goes on with, unless they rest.
    pub fn are_left(&self) -> bool {
        !self.rest && self.all.values().any(Fanout::is_orphan)
    }

    /// Has those that rest be tried again.
    pub fn try_again(&mut self) {
        self.rest = false;
    }

    /// The first that nobody goes on with, of the merchant whose turn it is.
    pub fn next_orphan(&mut self) -> Option<(MerchantId, i64)> {
        if self.rest {
            return None;
        }
        let turn = |fanout: &Fanout| (Some(fanout.merchant) <= self.last, fanout.merchant);
        let orphans = self.all.iter().filter(|(_, fanout)| fanout.is_orphan());
        let (id, fanout) = orphans.min_by_key(|(_, fanout)| turn(fanout))?;
        self.last = Some(fanout.merchant);
        Some((fanout.merchant, *id))
    }

    /// One of them failed: they rest, lest they fail again and again.
    pub fn rest(&mut self) {
        self.rest = true;
    }
}
