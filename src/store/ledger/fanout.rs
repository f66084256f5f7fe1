//! Events that go far: they are accepted at once, all or none, and numbered in
//! shares, each in a commit of its own, so that others have theirs between.
//!
//! What is still to be numbered stands in the store with the events, so it is
//! gone on with after a crash. Whoever published waits until all is numbered;
//! if that can't be told to him (a share failed, or the server was stopped),
//! the housekeeping does the rest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use super::decision::{Decision, Learned, Other};
use super::numbering::Numbering;
use super::{Result, View};
use crate::domain::event::{Event, IdempotencyKey};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::topic::Topic;
use crate::store::StoreError;

/// The most numbers that are given out in a share.
pub const SHARE: usize = 125;

/// Events of a merchant that were accepted, and where they still have to go.
#[derive(Clone, Debug)]
pub struct Fanout {
    merchant: MerchantId,
    left: VecDeque<Spread>,
    /// Of whoever goes on with it; gone if nobody does.
    owner: Weak<()>,
}

/// One of the events.
#[derive(Clone, Debug)]
pub struct Spread {
    event_id: EventId,
    topic: Topic,
    /// `None` after a restart: its webhooks read it from the store.
    event: Option<Arc<Event>>,
    /// Its receipt is remembered under this.
    key: Option<IdempotencyKey>,
    webhooks: VecDeque<WebhookId>,
}

/// What an event got in a share.
#[derive(Debug)]
pub struct Numbered {
    /// Which event.
    pub event_id: EventId,
    /// Its new numbers.
    pub deliveries: Vec<(WebhookId, IncrementId)>,
    key: Option<IdempotencyKey>,
}

/// The right to go on with what is left. Once it is dropped, the housekeeping does.
#[derive(Debug)]
pub struct Rest {
    fanout_id: i64,
    owner: Arc<()>,
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

    /// Gives out the first numbers, and notes what is left, if anything is. The
    /// book knows of that once the numbering is settled.
    pub fn begin(
        mut self,
        view: &View<'_>,
        out: &mut Decision,
        numbering: &mut Numbering,
    ) -> (Vec<Numbered>, Option<Rest>) {
        let share = self.share(view, out, numbering);
        if self.left.is_empty() {
            return (share, None);
        }
        let rest = Rest { fanout_id: out.next_fanout(), owner: Arc::default() };
        self.owner = Arc::downgrade(&rest.owner);
        out.rows.others.push(Other::Fanout(rest.fanout_id, self.clone()));
        numbering.leave(rest.fanout_id, self);
        (share, Some(rest))
    }

    fn share(&mut self, view: &View<'_>, out: &mut Decision, numbering: &mut Numbering) -> Vec<Numbered> {
        let (mut share, mut count) = (Vec::new(), 0);
        while let Some(spread) = self.left.front_mut() {
            let mut deliveries = Vec::with_capacity(spread.webhooks.len().min(SHARE - count));
            while count < SHARE
                && let Some(id) = spread.webhooks.pop_front()
            {
                count += 1;
                let number = match &spread.event {
                    Some(event) => numbering.deliver(view, out, id, event),
                    None => {
                        let event = (spread.event_id, &spread.topic);
                        numbering.number(view, out, id, event, |_| Standing::NEW)
                    }
                };
                deliveries.extend(number.map(|number| (id, number)));
            }
            share.push(Numbered { event_id: spread.event_id, deliveries, key: spread.key.clone() });
            if !spread.webhooks.is_empty() {
                break;
            }
            self.left.pop_front();
        }
        share
    }

    /// Gives out the next numbers; false if those were the last.
    fn step(mut self, fanout_id: i64, view: &View<'_>, out: &mut Decision) -> (Vec<Numbered>, bool) {
        let mut numbering = Numbering::default();
        let share = self.share(view, out, &mut numbering);
        for Numbered { deliveries, key, .. } in &share {
            if let Some(key) = key {
                out.rows.others.push(Other::KeyGoesOn(self.merchant, key.clone(), deliveries.clone()));
            }
        }
        let are_left = !self.left.is_empty();
        if are_left {
            out.rows.others.push(Other::Fanout(fanout_id, self.clone()));
            numbering.leave(fanout_id, self);
        } else {
            out.rows.others.push(Other::FanoutDone(fanout_id));
            out.learned.push(Learned::FanoutDone(fanout_id));
        }
        numbering.announce(view, out);
        (share, are_left)
    }

    /// What is left, as a store keeps it.
    pub fn text(&self) -> Result<String> {
        let one = |spread: &Spread| {
            let webhooks: Vec<_> = spread.webhooks.iter().map(|id| id.0).collect();
            (spread.event_id.0, spread.key.as_ref().map(|key| key.as_str().to_owned()), webhooks)
        };
        let events: Vec<_> = self.left.iter().map(one).collect();
        serde_json::to_string(&events).map_err(StoreError::failed)
    }

    /// What a store kept, and the topics of its events, which it is asked for.
    pub fn stored(merchant: MerchantId, text: &str, mut topic: impl FnMut(EventId) -> Result<Topic>) -> Result<Self> {
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

impl Rest {
    /// Gives out the next numbers; false if those were the last. Fails if the
    /// store had to be read again meanwhile: then it is unknown what came of
    /// the numbers before.
    pub fn go_on(&self, view: &View<'_>, out: &mut Decision) -> Result<(Vec<Numbered>, bool)> {
        let fanout = view.book.fanouts.all.get(&self.fanout_id);
        let fanout = fanout.filter(|fanout| fanout.owner.ptr_eq(&Arc::downgrade(&self.owner)));
        let Some(fanout) = fanout.cloned() else {
            return Err(StoreError::failed("the store was read again while an event was being numbered"));
        };
        Ok(fanout.step(self.fanout_id, view, out))
    }
}

/// Goes on with one that nobody waits for.
pub fn finish(view: &View<'_>, out: &mut Decision, fanout_id: i64) {
    if let Some(fanout) = view.book.fanouts.all.get(&fanout_id).cloned() {
        fanout.step(fanout_id, view, out);
    }
}

impl Fanouts {
    /// What is not done, as a store has it.
    pub fn of(all: impl IntoIterator<Item = (i64, Fanout)>) -> Self {
        Self { all: all.into_iter().collect(), ..Self::default() }
    }

    /// Notes what is left to be done.
    pub fn put(&mut self, fanout_id: i64, fanout: Fanout) {
        self.all.insert(fanout_id, fanout);
    }

    /// Forgets what is done.
    pub fn remove(&mut self, fanout_id: i64) {
        self.all.remove(&fanout_id);
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

    /// True if there is one that nobody goes on with, unless they rest.
    pub fn are_left(&self) -> bool {
        !self.rest && self.all.values().any(Fanout::is_orphan)
    }

    /// Has those that rest be tried again.
    pub fn try_again(&mut self) {
        self.rest = false;
    }

    /// The first that nobody goes on with, of the merchant whose turn it is.
    pub fn next_orphan(&mut self) -> Option<i64> {
        if self.rest {
            return None;
        }
        let turn = |fanout: &Fanout| (Some(fanout.merchant) <= self.last, fanout.merchant);
        let orphans = self.all.iter().filter(|(_, fanout)| fanout.is_orphan());
        let (id, fanout) = orphans.min_by_key(|(_, fanout)| turn(fanout))?;
        self.last = Some(fanout.merchant);
        Some(*id)
    }

    /// One of them failed: they rest, lest they fail again and again.
    pub fn rest(&mut self) {
        self.rest = true;
    }
}
