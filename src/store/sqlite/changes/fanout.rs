//! Events that go far: they are accepted at once, all or none, and numbered in
//! shares, each in a commit of its own, so that others have theirs between.
//!
//! What is still to be numbered stands in the store with the events, so it is
//! gone on with after a crash. Whoever published waits until all is numbered;
//! if that can't be told to him (a share failed, or the server was stopped),
//! the housekeeping does the rest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use rusqlite::{Connection, params};

use super::Result;
use super::publishing::{Numbering, write_pairs};
use crate::domain::event::{Event, IdempotencyKey};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::topic::Topic;
use crate::store::StoreError;
use crate::store::sqlite::rows::{checked, damaged, topic_at};
use crate::store::sqlite::tx::Tx;

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

    /// Gives out the first numbers, and notes what is left, if anything is.
    /// Memory knows of that once the numbering is settled.
    pub fn begin(mut self, tx: &Tx<'_>, numbering: &mut Numbering<'_>) -> Result<(Vec<Numbered>, Option<Rest>)> {
        let share = self.share(tx, numbering)?;
        if self.left.is_empty() {
            return Ok((share, None));
        }
        tx.conn
            .prepare_cached("INSERT INTO fanout (merchant_id, events) VALUES (?1, ?2)")?
            .execute(params![self.merchant.0, self.text()?])?;
        let rest = Rest { fanout_id: tx.conn.last_insert_rowid(), owner: Arc::default() };
        self.owner = Arc::downgrade(&rest.owner);
        numbering.leave(rest.fanout_id, self);
        Ok((share, Some(rest)))
    }

    fn share(&mut self, tx: &Tx<'_>, numbering: &mut Numbering<'_>) -> Result<Vec<Numbered>> {
        let (mut share, mut count) = (Vec::new(), 0);
        while let Some(spread) = self.left.front_mut() {
            let mut deliveries = Vec::with_capacity(spread.webhooks.len().min(SHARE - count));
            while count < SHARE
                && let Some(id) = spread.webhooks.pop_front()
            {
                count += 1;
                let number = match &spread.event {
                    Some(event) => numbering.deliver(tx, id, event)?,
                    None => numbering.number(tx, id, spread.event_id, &spread.topic)?,
                };
                deliveries.extend(number.map(|number| (id, number)));
            }
            share.push(Numbered { event_id: spread.event_id, deliveries, key: spread.key.clone() });
            if !spread.webhooks.is_empty() {
                break;
            }
            self.left.pop_front();
        }
        Ok(share)
    }

    fn text(&self) -> Result<String> {
        let one = |spread: &Spread| {
            let webhooks: Vec<_> = spread.webhooks.iter().map(|id| id.0).collect();
            (spread.event_id.0, spread.key.as_ref().map(|key| key.as_str().to_owned()), webhooks)
        };
        let events: Vec<_> = self.left.iter().map(one).collect();
        serde_json::to_string(&events).map_err(StoreError::failed)
    }
}

impl Rest {
    /// Gives out the next numbers; false if those were the last. Fails if the
    /// store had to be read again meanwhile: then it is unknown what came of
    /// the numbers before.
    pub fn go_on(&self, tx: &mut Tx<'_>) -> Result<(Vec<Numbered>, bool)> {
        let fanout = tx.memory.fanouts.all.get(&self.fanout_id);
        let fanout = fanout.filter(|fanout| fanout.owner.ptr_eq(&Arc::downgrade(&self.owner)));
        let Some(fanout) = fanout.cloned() else {
            return Err(StoreError::failed("the store was read again while an event was being numbered"));
        };
        step(tx, self.fanout_id, fanout)
    }
}

/// Goes on with one that nobody waits for; false if there is none. Merchants
/// take turns. One that fails takes nothing else of the commit with it.
pub fn finish_some(tx: &mut Tx<'_>) -> Result<bool> {
    let Some((fanout_id, fanout)) = tx.memory.fanouts.next() else { return Ok(false) };
    tx.memory.fanouts.last = Some(fanout.merchant);
    if let Err(cause) = tx.in_savepoint(|tx| step(tx, fanout_id, fanout)) {
        if !cause.is_logged() {
            tracing::error!(%cause, fanout_id, "accepted events could not be numbered; trying again in a minute");
        }
        tx.memory.fanouts.rest = true;
    }
    Ok(true)
}

fn step(tx: &mut Tx<'_>, fanout_id: i64, mut fanout: Fanout) -> Result<(Vec<Numbered>, bool)> {
    let mut numbering = Numbering::of(tx)?;
    let share = fanout.share(tx, &mut numbering)?;
    let mut receipt = tx
        .conn
        .prepare_cached("UPDATE idempotency SET receipt = receipt || ' ' || ?3 WHERE merchant_id = ?1 AND key = ?2")?;
    for Numbered { deliveries, key, .. } in &share {
        if let Some(key) = key {
            receipt.execute(params![fanout.merchant.0, key.as_str(), write_pairs(deliveries)])?;
        }
    }
    drop(receipt);
    let are_left = !fanout.left.is_empty();
    if are_left {
        tx.conn
            .prepare_cached("UPDATE fanout SET events = ?2 WHERE fanout_id = ?1")?
            .execute(params![fanout_id, fanout.text()?])?;
        numbering.leave(fanout_id, fanout);
    } else {
        tx.conn.prepare_cached("DELETE FROM fanout WHERE fanout_id = ?1")?.execute([fanout_id])?;
        tx.memory.fanouts.all.remove(&fanout_id);
    }
    numbering.settle(tx);
    Ok((share, are_left))
}

impl Fanouts {
    /// What is not done, as the file has it.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut topic = conn.prepare("SELECT topic FROM event WHERE event_id = ?1")?;
        let mut found = conn.prepare("SELECT fanout_id, merchant_id, events FROM fanout")?;
        let mut rows = found.query([])?;
        let mut all = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let events: Vec<(i64, Option<String>, Vec<i64>)> =
                serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(|_| damaged("fanout"))?;
            let mut left = VecDeque::with_capacity(events.len());
            for (event_id, key, webhooks) in events {
                left.push_back(Spread {
                    event_id: EventId(event_id),
                    topic: topic.query_row([event_id], |row| topic_at(row, 0))?,
                    event: None,
                    key: key.map(|key| checked(IdempotencyKey::try_new(&key))).transpose()?,
                    webhooks: webhooks.into_iter().map(WebhookId).collect(),
                });
            }
            all.insert(row.get(0)?, Fanout { merchant: MerchantId(row.get(1)?), left, owner: Weak::new() });
        }
        Ok(Self { all, ..Self::default() })
    }

    /// Notes what is left to be done.
    pub fn put(&mut self, fanout_id: i64, fanout: Fanout) {
        self.all.insert(fanout_id, fanout);
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
    fn next(&self) -> Option<(i64, Fanout)> {
        if self.rest {
            return None;
        }
        let turn = |fanout: &Fanout| (Some(fanout.merchant) <= self.last, fanout.merchant);
        let orphans = self.all.iter().filter(|(_, fanout)| fanout.is_orphan());
        orphans.min_by_key(|(_, fanout)| turn(fanout)).map(|(id, fanout)| (*id, fanout.clone()))
    }
}

impl Fanout {
    fn is_orphan(&self) -> bool {
        self.owner.strong_count() == 0
    }
}
