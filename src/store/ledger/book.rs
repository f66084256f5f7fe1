//! What is known by heart: who subscribes to what, and the counters of every
//! webhook. It is altered only by what was decided, and seen by nobody else
//! before the commit; after a failed one it is read again from the store.

#[cfg(test)]
mod likeness;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::bulk::Job;
pub use super::counters::Counters;
use super::decision::{Decision, Learned};
use super::event_days::EventDays;
use super::fanout::{Fanout, Fanouts};
use super::forgetting::Forgetting;
use super::ids::Ids;
use super::leases::Leases;
use super::logs::{LogRow, LogSizes};
use super::news::Announcement;
use super::pruning::Pruning;
use super::terms::Terms;
use super::turns::{Jobs, Turns};
use super::wants::Wants;
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::labels::Labels;
use crate::domain::merchant::EventDay;
use crate::domain::subscription::SubscriptionIndex;
use crate::domain::topic::Topic;
use crate::domain::webhook::Webhook;

/// What is known by heart.
pub struct Book {
    /// What bounds a change.
    pub terms: Terms,
    /// For whom this node sends.
    pub leases: Leases,
    webhooks: FxHashMap<WebhookId, Entry>,
    /// Those that were enabled again, and have had no success since.
    recovering: HashSet<WebhookId>,
    by_merchant: HashMap<MerchantId, Own>,
    index: SubscriptionIndex,
    codes: HashMap<MerchantId, Arc<str>>,
    dirty: HashSet<WebhookId>,
    chores: Turns,
    /// Events that are not numbered everywhere yet.
    pub fanouts: Fanouts,
    /// Replays and backfills.
    pub jobs: Jobs,
    /// What is still to be forgotten.
    pub forgetting: Forgetting,
    /// How large the logs of attempts are.
    pub logs: LogSizes,
    /// How many events merchants publish in a day.
    pub event_days: EventDays,
    /// The last ids that were given out.
    pub ids: Ids,
    /// The last numbers of all webhooks, deleted ones too, added up.
    pub numbers: i64,
    /// Which kind of housekeeping has the next turn.
    pub turn: usize,
    /// When passes of pruning begin.
    pub pruning: Pruning,
    /// What has expired is to be swept out.
    pub wants_sweep: bool,
}

/// All that a store holds of what is known by heart.
#[derive(Default)]
pub struct Stock {
    /// Webhooks that are not deleted.
    pub webhooks: Vec<Webhook>,
    /// Deleted ones of which something is left to be cancelled.
    pub deleted: Vec<Webhook>,
    /// The codes of merchants.
    pub codes: Vec<(MerchantId, Arc<str>)>,
    /// Events that are not numbered everywhere, by the ids of their fan-outs.
    pub fanouts: Vec<(i64, Fanout)>,
    /// Replays and backfills that are not done.
    pub jobs: Vec<Job>,
    /// Events that are to be forgotten, and whose they are.
    pub to_forget: Vec<(MerchantId, EventId)>,
    /// How large the logs are.
    pub logs: Vec<LogRow>,
    /// How many events merchants have published in a day.
    pub event_days: Vec<(MerchantId, EventDay)>,
    /// The last ids.
    pub ids: Ids,
    /// The last numbers of all webhooks, deleted ones too, added up.
    pub numbers: i64,
}

/// What is to be gone on with for merchants, by a node that begins to send for them.
#[derive(Default)]
pub struct Left {
    /// Deleted webhooks of which something is left to be cancelled.
    pub deleted: Vec<Webhook>,
    /// Events that are not numbered everywhere, of nodes that are no more.
    pub fanouts: Vec<(i64, Fanout)>,
    /// Replays and backfills, likewise.
    pub jobs: Vec<Job>,
    /// Events that are to be forgotten.
    pub to_forget: Vec<(MerchantId, EventId)>,
}

/// The webhooks of a merchant that are not deleted.
#[derive(Default)]
struct Own {
    ids: BTreeSet<WebhookId>,
    /// What their definitions weigh.
    bytes: usize,
}

/// One webhook: its definition as announced, and its counters, which change
/// with every delivery and so are kept beside it.
pub struct Entry {
    /// As it was last announced; its counters are those of that moment.
    pub webhook: Arc<Webhook>,
    /// The counters as they are now.
    pub counters: Counters,
    /// Deleted, and its pending deliveries are being cancelled.
    pub is_deleted: bool,
}

impl Book {
    /// Of what the store holds.
    pub fn new(terms: Terms, stock: Stock) -> Self {
        let mut book = Self {
            terms,
            leases: if terms.is_shared { Leases::none() } else { Leases::Unshared },
            webhooks: FxHashMap::default(),
            recovering: HashSet::new(),
            by_merchant: HashMap::new(),
            index: SubscriptionIndex::default(),
            codes: stock.codes.into_iter().collect(),
            dirty: HashSet::new(),
            chores: Turns::default(),
            fanouts: Fanouts::of(stock.fanouts),
            jobs: Jobs::default(),
            forgetting: Forgetting::of(stock.to_forget),
            logs: LogSizes::of(stock.logs),
            event_days: EventDays::of(stock.event_days),
            ids: stock.ids,
            numbers: stock.numbers,
            turn: 0,
            pruning: Pruning::default(),
            wants_sweep: false,
        };
        for webhook in stock.webhooks {
            book.put_webhook(Arc::new(webhook));
        }
        for webhook in stock.deleted {
            let id = webhook.webhook_id;
            book.put_webhook(Arc::new(webhook));
            book.delete_webhook(id);
        }
        stock.jobs.into_iter().for_each(|job| book.jobs.add(job));
        book
    }

    /// Learns what a change has come to, once its rows are written; returns
    /// what is to be announced.
    pub fn learn(&mut self, decision: Decision) -> Vec<Announcement> {
        self.ids = decision.ids;
        for learned in decision.learned {
            self.learn_one(learned);
        }
        decision.news
    }

    fn learn_one(&mut self, learned: Learned) {
        match learned {
            Learned::Webhook(webhook) => self.put_webhook(webhook),
            Learned::Deleted(id) => self.delete_webhook(id),
            Learned::Gone(id) => self.forget(id),
            Learned::Last(id, last) => {
                if let Some(counters) = self.counters_mut(id) {
                    let before = std::mem::replace(&mut counters.last, last);
                    self.numbers += last.0 - before.0;
                }
            }
            Learned::Counters(id, others) => {
                if let Some(counters) = self.counters_mut(id) {
                    *counters = Counters { last: counters.last, ..others };
                }
            }
            Learned::Chore(id) => self.add_chore(id),
            Learned::Fanout(id, fanout) => self.fanouts.put(id, fanout),
            Learned::FanoutDone(id) => self.fanouts.remove(id),
            Learned::Job(job) => self.jobs.add(job),
            Learned::JobCancelled(id, job) => self.jobs.cancel(id, job),
            Learned::Logged { merchant, webhook_id, place, bytes } => {
                self.logs.grow(merchant, webhook_id, place, bytes, &self.terms.retention);
            }
            Learned::LogShrunk(id, bytes) => self.logs.shrink(id, bytes),
            Learned::ToForget(merchant, event) => self.forgetting.add(merchant, event),
            Learned::EventDay(merchant, day) => self.event_days.put(merchant, day),
            Learned::Sweep => self.wants_sweep = true,
        }
    }

    /// Adds a webhook, or puts a changed definition in place of the old one; of
    /// its counters those of failures are taken over.
    fn put_webhook(&mut self, webhook: Arc<Webhook>) {
        let (id, merchant) = (webhook.webhook_id, webhook.merchant_id);
        let own = self.by_merchant.entry(merchant).or_default();
        own.ids.insert(id);
        own.bytes += webhook.spec.weight();
        let counters = match self.webhooks.get(&id) {
            Some(old) => {
                own.bytes = own.bytes.saturating_sub(old.webhook.spec.weight());
                self.index.remove(merchant, id, &old.webhook.spec.topics);
                let (consecutive_failures, failing_since, pause) =
                    (webhook.consecutive_failures, webhook.failing_since, webhook.pause);
                let counters = Counters { consecutive_failures, failing_since, pause, ..old.counters };
                if counters != old.counters {
                    self.dirty.insert(id);
                }
                counters
            }
            None => Counters::of(&webhook),
        };
        if webhook.is_recovering {
            self.recovering.insert(id);
        } else {
            self.recovering.remove(&id);
        }
        if webhook.spec.is_active {
            self.index.insert(merchant, id, &webhook.spec.topics);
        }
        if counters.settled_through < counters.last && self.leases.cover(merchant) {
            // Whatever ended while nobody counted is found by the next step.
            self.chores.push(merchant, id);
        }
        self.webhooks.insert(id, Entry { webhook, counters, is_deleted: false });
    }

    /// Takes a webhook out of sight; its entry stays until all is cancelled.
    fn delete_webhook(&mut self, id: WebhookId) {
        let Some(entry) = self.webhooks.get_mut(&id) else { return };
        let merchant = entry.webhook.merchant_id;
        entry.is_deleted = true;
        self.recovering.remove(&id);
        self.index.remove(merchant, id, &entry.webhook.spec.topics);
        if let Some(own) = self.by_merchant.get_mut(&merchant)
            && own.ids.remove(&id)
        {
            own.bytes = own.bytes.saturating_sub(entry.webhook.spec.weight());
        }
        // Elsewhere, whoever sends for the merchant cancels what is left.
        if self.leases.cover(merchant) {
            self.chores.push(merchant, id);
        }
    }

    /// How many webhooks the merchant has.
    pub fn webhook_count(&self, merchant: MerchantId) -> usize {
        self.by_merchant.get(&merchant).map_or(0, |own| own.ids.len())
    }

    /// What their definitions weigh, in bytes.
    pub fn definition_bytes(&self, merchant: MerchantId) -> usize {
        self.by_merchant.get(&merchant).map_or(0, |own| own.bytes)
    }

    /// The merchant's webhooks that lie behind one, in the order of their ids.
    pub fn webhooks_behind(&self, merchant: MerchantId, after: WebhookId) -> impl Iterator<Item = &Entry> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let own = self.by_merchant.get(&merchant);
        own.into_iter().flat_map(move |own| own.ids.range(behind)).filter_map(|id| self.webhooks.get(id))
    }

    /// A webhook that is not deleted, if it is the merchant's.
    pub fn webhook_of(&self, merchant: MerchantId, id: WebhookId) -> Option<&Entry> {
        self.webhooks.get(&id).filter(|entry| entry.webhook.merchant_id == merchant && !entry.is_deleted)
    }

    /// True if a webhook was enabled again, and has had no success since.
    pub fn is_recovering(&self, id: WebhookId) -> bool {
        self.recovering.contains(&id)
    }

    /// Any webhook, deleted or not.
    pub fn entry(&self, id: WebhookId) -> Option<&Entry> {
        self.webhooks.get(&id)
    }

    /// The webhooks an event goes to: those that subscribe to its topic and, if it has labels, all
    /// of whose own are among them.
    pub fn matching(&self, merchant: MerchantId, topic: &Topic, labels: Option<&Labels>) -> Vec<WebhookId> {
        let mut matching = self.index.matching(merchant, topic);
        if let Some(labels) = labels {
            let agree = |entry: &Entry| entry.webhook.spec.labels.are_all_in(labels);
            matching.retain(|id| self.webhooks.get(id).is_some_and(agree));
        }
        matching
    }

    /// Learns of a webhook that somebody else has made or changed.
    pub fn learn_webhook(&mut self, webhook: Arc<Webhook>) {
        self.put_webhook(webhook);
    }

    /// Learns of one that somebody else has deleted.
    pub fn learn_deleted(&mut self, id: WebhookId) {
        self.delete_webhook(id);
    }

    /// Notes what was read of a webhook that others count, too: nothing of it goes
    /// back, and what its receiver did stays as whoever sends to it knows it.
    pub fn learn_counters(&mut self, id: WebhookId, read: Counters) {
        let Some(Entry { counters, webhook, .. }) = self.webhooks.get_mut(&id) else { return };
        self.numbers += read.last.0 - counters.last.0;
        if !self.leases.cover(webhook.merchant_id) {
            let Counters { consecutive_failures, failing_since, pause, .. } = read;
            *counters = Counters { consecutive_failures, failing_since, pause, ..*counters };
        }
        counters.last = read.last;
        counters.settled_through = counters.settled_through.max(read.settled_through);
        counters.acknowledged_through = counters.acknowledged_through.max(read.acknowledged_through);
        counters.pulled_through = counters.pulled_through.max(read.pulled_through);
    }

    /// Notes the same of one that this node begins to send to: others have counted it
    /// until now. What the transaction has done itself may not be written yet.
    pub fn take_over_counters(&mut self, id: WebhookId, read: Counters) {
        let Some(Entry { counters, webhook, .. }) = self.webhooks.get_mut(&id) else { return };
        let before = *counters;
        *counters = Counters {
            last: read.last.max(before.last),
            settled_through: read.settled_through.max(before.settled_through),
            acknowledged_through: read.acknowledged_through.max(before.acknowledged_through),
            pulled_through: read.pulled_through.max(before.pulled_through),
            ..read
        };
        self.numbers += counters.last.0 - before.last.0;
        if counters.settled_through < counters.last {
            self.chores.push(webhook.merchant_id, id);
        }
    }

    /// Adds what another node has begun, or left.
    pub fn take_over_work(&mut self, left: Left) {
        for webhook in left.deleted {
            let id = webhook.webhook_id;
            self.put_webhook(Arc::new(webhook));
            self.delete_webhook(id);
        }
        left.fanouts.into_iter().for_each(|(id, fanout)| self.fanouts.put(id, fanout));
        left.jobs.into_iter().for_each(|job| self.jobs.add(job));
        left.to_forget.into_iter().for_each(|(merchant, event)| self.forgetting.add(merchant, event));
    }

    /// Forgets what it has begun: others go on with it.
    pub fn abandon_work(&mut self) {
        (self.fanouts, self.jobs) = (Fanouts::default(), Jobs::default());
        self.leases = Leases::none();
    }

    /// Asks how a webhook is counted, if others count, too.
    pub fn want_counters(&self, id: WebhookId, wants: &mut Wants) {
        if self.terms.is_shared {
            wants.counters.push(id);
        }
    }

    fn counters_mut(&mut self, id: WebhookId) -> Option<&mut Counters> {
        let entry = self.webhooks.get_mut(&id)?;
        self.dirty.insert(id);
        Some(&mut entry.counters)
    }

    /// The counters that have changed since they were last taken, to be written.
    pub fn take_changed(&mut self) -> Vec<(MerchantId, WebhookId, Counters)> {
        let entry = |id| self.webhooks.get(&id).map(|entry| (entry.webhook.merchant_id, id, entry.counters));
        self.dirty.drain().filter_map(entry).collect()
    }

    /// The merchant's code, if it has been read.
    pub fn code(&self, merchant: MerchantId) -> Option<&Arc<str>> {
        self.codes.get(&merchant)
    }

    /// Asks for the merchant's code, unless it is known.
    pub fn want_code(&self, merchant: MerchantId, wants: &mut Wants) {
        if self.code(merchant).is_none() {
            wants.codes.push(merchant);
        }
    }

    /// Asks how much the store holds, if that is bounded.
    pub fn want_room(&self, wants: &mut Wants) {
        wants.used_bytes |= self.terms.retention.bytes_max > 0;
    }

    /// Notes what was read.
    pub fn learn_code(&mut self, merchant: MerchantId, code: Arc<str>) {
        self.codes.insert(merchant, code);
    }

    /// Marks a webhook whose lowest open number has ended, or that is deleted:
    /// the next step finds out how far it is settled.
    pub fn add_chore(&mut self, id: WebhookId) {
        if let Some(entry) = self.webhooks.get(&id) {
            self.chores.push(entry.webhook.merchant_id, id);
        }
    }

    /// True while a step of the chores and jobs would find something to do.
    pub fn has_chores(&self) -> bool {
        !self.chores.is_empty()
            || self.fanouts.are_left()
            || !self.jobs.is_idle()
            || !self.logs.are_small()
            || self.wants_sweep
    }

    /// How many webhooks, events, jobs and logs there is something to do for; what
    /// somebody goes on with himself is not counted.
    pub fn chores(&self) -> usize {
        self.chores.len() + self.fanouts.orphans() + self.jobs.waiting() + self.logs.too_large()
    }

    /// True while there is a webhook that may be settled further.
    pub fn has_settling(&self) -> bool {
        !self.chores.is_empty()
    }

    /// Takes the next chore, and whose it is.
    pub fn pop_chore(&mut self) -> Option<(MerchantId, WebhookId)> {
        self.chores.pop()
    }

    /// Forgets a deleted webhook whose deliveries have all ended.
    fn forget(&mut self, id: WebhookId) {
        self.dirty.remove(&id);
        self.webhooks.remove(&id);
        self.logs.abandon(id);
    }

    /// How many webhooks there are, and how many of their numbers, at the most,
    /// have not ended.
    pub fn webhooks_and_open(&self) -> (usize, i64) {
        let there = self.webhooks.values().filter(|entry| !entry.is_deleted);
        there.fold((0, 0), |(webhooks, open), Entry { counters, .. }| {
            (webhooks + 1, open + (counters.last.0 - counters.settled_through.0))
        })
    }

    /// Every webhook that is not deleted, and its last number.
    pub fn webhooks(&self) -> impl Iterator<Item = (&Arc<Webhook>, IncrementId)> {
        self.webhooks.values().filter(|entry| !entry.is_deleted).map(|entry| (&entry.webhook, entry.counters.last))
    }
}
