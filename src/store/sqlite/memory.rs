//! What the writer knows by heart: who subscribes to what, and the counters
//! of every webhook. It is altered only by the writer, and seen by nobody
//! else before the commit; after a failed one it is read again from the file.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::changes::fanout::Fanouts;
use super::changes::forgetting::Forgetting;
use super::changes::jobs;
use super::extent::Extent;
use super::logs::LogSizes;
use super::prune::Pass;
use super::rows;
use super::turns::{Jobs, Turns};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::subscription::SubscriptionIndex;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::webhook::{Pause, Webhook};

/// The writer's memory.
#[derive(Default)]
pub struct Memory {
    webhooks: HashMap<WebhookId, Entry>,
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
    /// How far the store has come; its ids are those of the last commit.
    pub extent: Extent,
    /// Which kind of housekeeping has the next turn.
    pub turn: usize,
    /// What has expired is to be swept out.
    pub wants_sweep: bool,
    /// The pass of pruning that is under way.
    pub pass: Option<Pass>,
    /// When the last one began.
    pub pass_began_at: Option<Timestamp>,
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

/// What the store keeps of a webhook's deliveries.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The last number given out.
    pub last: IncrementId,
    /// All numbers up to this one have ended.
    pub settled_through: IncrementId,
    /// The highest number that its receiver has pulled and asked beyond.
    pub acknowledged_through: IncrementId,
    /// The highest number that a pull has brought to whoever may ask beyond it.
    pub pulled_through: IncrementId,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// When the present run of failures began.
    pub failing_since: Option<Timestamp>,
    /// Until when nothing is sent after the last attempt, and why.
    pub pause: Option<Pause>,
}

impl Counters {
    /// The webhook with these counters in place of its own.
    pub fn in_webhook(self, webhook: Webhook) -> Webhook {
        Webhook {
            last_increment_id: self.last,
            settled_through: self.settled_through,
            acknowledged_through: self.acknowledged_through,
            pulled_through: self.pulled_through,
            consecutive_failures: self.consecutive_failures,
            failing_since: self.failing_since,
            pause: self.pause,
            ..webhook
        }
    }
}

impl Memory {
    /// Reads what the file holds.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut memory = Self::default();
        let mut statement = conn.prepare(&format!("{} WHERE deleted_at IS NULL", rows::WEBHOOK))?;
        for webhook in statement.query_map([], rows::webhook)? {
            memory.put_webhook(Arc::new(webhook?));
        }
        // Deleted in an earlier life, with deliveries still to be cancelled.
        let unfinished = format!(
            "{} WHERE deleted_at IS NOT NULL AND (settled_through < last_increment_id OR EXISTS
                (SELECT 1 FROM delivery d WHERE d.webhook_id = webhook.webhook_id AND d.next_attempt_at IS NOT NULL))",
            rows::WEBHOOK
        );
        for webhook in conn.prepare(&unfinished)?.query_map([], rows::webhook)? {
            let webhook = Arc::new(webhook?);
            memory.put_webhook(Arc::clone(&webhook));
            memory.delete_webhook(webhook.webhook_id);
        }
        memory.fanouts = Fanouts::load(conn)?;
        memory.forgetting = Forgetting::load(conn)?;
        memory.logs = LogSizes::load(conn)?;
        memory.extent = Extent::read(conn)?;
        jobs::load(conn)?.into_iter().for_each(|job| memory.jobs.add(job));
        Ok(memory)
    }

    /// Adds a webhook, or puts a changed definition in place of the old one.
    pub fn put_webhook(&mut self, webhook: Arc<Webhook>) {
        let (id, merchant) = (webhook.webhook_id, webhook.merchant_id);
        let own = self.by_merchant.entry(merchant).or_default();
        own.ids.insert(id);
        own.bytes += webhook.spec.weight();
        let counters = match self.webhooks.get(&id) {
            Some(old) => {
                own.bytes = own.bytes.saturating_sub(old.webhook.spec.weight());
                self.index.remove(merchant, id, &old.webhook.spec.topics);
                old.counters
            }
            None => Counters {
                last: webhook.last_increment_id,
                settled_through: webhook.settled_through,
                acknowledged_through: webhook.acknowledged_through,
                pulled_through: webhook.pulled_through,
                consecutive_failures: webhook.consecutive_failures,
                failing_since: webhook.failing_since,
                pause: webhook.pause,
            },
        };
        if webhook.spec.is_active {
            self.index.insert(merchant, id, &webhook.spec.topics);
        }
        if counters.settled_through < counters.last {
            // Whatever ended while nobody counted is found by the next step.
            self.chores.push(merchant, id);
        }
        self.webhooks.insert(id, Entry { webhook, counters, is_deleted: false });
    }

    /// Takes a webhook out of sight; its entry stays until all is cancelled.
    pub fn delete_webhook(&mut self, id: WebhookId) {
        let Some(entry) = self.webhooks.get_mut(&id) else { return };
        let merchant = entry.webhook.merchant_id;
        entry.is_deleted = true;
        self.index.remove(merchant, id, &entry.webhook.spec.topics);
        if let Some(own) = self.by_merchant.get_mut(&merchant)
            && own.ids.remove(&id)
        {
            own.bytes = own.bytes.saturating_sub(entry.webhook.spec.weight());
        }
        self.chores.push(merchant, id);
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

    /// Any webhook, deleted or not.
    pub fn entry(&self, id: WebhookId) -> Option<&Entry> {
        self.webhooks.get(&id)
    }

    /// The webhooks an event goes to.
    pub fn matching(&self, merchant: MerchantId, topic: &Topic) -> Vec<WebhookId> {
        self.index.matching(merchant, topic)
    }

    /// The counters, to be altered; they are written with this transaction.
    pub fn counters_mut(&mut self, id: WebhookId) -> Option<&mut Counters> {
        let entry = self.webhooks.get_mut(&id)?;
        self.dirty.insert(id);
        Some(&mut entry.counters)
    }

    /// The merchant's code, read once.
    pub fn merchant_code(&mut self, conn: &Connection, merchant: MerchantId) -> rusqlite::Result<Arc<str>> {
        if let Some(code) = self.codes.get(&merchant) {
            return Ok(Arc::clone(code));
        }
        let code: Option<String> = conn
            .query_row("SELECT code FROM merchant WHERE merchant_id = ?1", [merchant.0], |row| row.get(0))
            .optional()?;
        let code: Arc<str> = code.unwrap_or_default().into();
        self.codes.insert(merchant, Arc::clone(&code));
        Ok(code)
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
            || self.pass.is_some()
    }

    /// Takes the next chore.
    pub fn pop_chore(&mut self) -> Option<WebhookId> {
        self.chores.pop().map(|(_, id)| id)
    }

    /// Forgets a deleted webhook whose deliveries have all ended.
    pub fn forget(&mut self, id: WebhookId) {
        self.dirty.remove(&id);
        self.webhooks.remove(&id);
        self.logs.abandon(id);
    }

    /// Writes the counters that changed, once each, however many deliveries
    /// of the transaction changed them.
    pub fn flush(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut statement = conn.prepare_cached(
            "UPDATE webhook SET last_increment_id = ?2, settled_through = ?3, consecutive_failures = ?4,
                failing_since = ?5, acknowledged_through = ?6, pulled_through = ?7, paused_until = ?8,
                pause_reason = ?9 WHERE webhook_id = ?1",
        )?;
        for id in self.dirty.drain() {
            let Some(Entry { counters, .. }) = self.webhooks.get(&id) else { continue };
            statement.execute(params![
                id.0,
                counters.last.0,
                counters.settled_through.0,
                counters.consecutive_failures,
                counters.failing_since.map(|time| time.0),
                counters.acknowledged_through.0,
                counters.pulled_through.0,
                counters.pause.map(|pause| pause.until.0),
                counters.pause.map(|pause| pause.reason.name()),
            ])?;
        }
        self.extent = self.extent.with_ids(conn)?;
        self.logs.flush(conn)
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
