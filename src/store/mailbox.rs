//! How the store tells the delivery worker what it has committed, without
//! ever waiting for it: news of the same webhook merge, and deliveries are
//! handed over only while there is room; the rest the worker pages. Callers
//! wait here, too: receivers that pull for numbers they do not have, and
//! whoever tests a webhook for the first attempt.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::node::Bucket;
use crate::domain::webhook::Webhook;
use crate::store::parcel::Parcel;
use crate::store::tending::Tending;
use crate::work::may_take;

/// The most deliveries that wait in the mailbox.
const PARCELS_MAX: usize = 4_096;
/// The most they weigh together, in bytes.
const PARCEL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most tests that wait in the mailbox.
const TESTS_MAX: usize = 256;

/// The most deliveries to be sent now that wait in the mailbox.
const NOW_MAX: usize = 1_024;

/// What has been committed since the worker last looked.
#[derive(Debug, Default)]
pub struct News {
    /// Which webhooks there are, once all were read again; the lanes of others
    /// end, before all else that is told here.
    pub present: Option<HashSet<WebhookId>>,
    /// Buckets for whose merchants others send; the lanes of those end, too.
    pub lost: HashSet<Bucket>,
    /// Merchants for whom nothing is sent any more, or (false) who go on.
    pub paused: HashMap<MerchantId, bool>,
    /// Webhooks that are new or changed, as they are now; `None`: deleted.
    pub changed: HashMap<WebhookId, Option<Arc<Webhook>>>,
    /// The last number committed for each webhook that got any.
    pub committed_through: HashMap<WebhookId, IncrementId>,
    /// New deliveries in the order of their numbers; some may be left out.
    pub parcels: Vec<(WebhookId, Parcel)>,
    /// To be sent at once, whatever the webhook's state.
    pub tests: Vec<(WebhookId, Parcel)>,
    /// What is to be sent now, if it is to be sent at all.
    pub now: Vec<(WebhookId, IncrementId)>,
    /// From which number on a webhook's deliveries are no longer as they were.
    pub reread: HashMap<WebhookId, IncrementId>,
}

/// Holds the news until the worker takes them.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// For whom this node sends: of others the worker is told nothing.
    tending: Arc<Tending>,
    untaken: Mutex<Untaken>,
    arrived: Notify,
    waits: Waits,
    is_look_asked: AtomicBool,
}

/// What callers wait for: receivers that pull, and who tests a webhook.
#[derive(Debug, Default)]
pub struct Waits {
    state: Mutex<WaitState>,
}

#[derive(Debug, Default)]
struct WaitState {
    /// The last number of each webhook that got any since the start.
    latest: HashMap<WebhookId, IncrementId>,
    /// Webhooks that are waited for: a commit wakes those it concerns.
    waited_for: HashMap<WebhookId, Arc<Notify>>,
    /// Deliveries whose next attempt is waited for.
    attempts: HashMap<(WebhookId, IncrementId), Arc<Notify>>,
}

/// What the worker has yet to take.
#[derive(Debug, Default)]
struct Untaken {
    news: News,
    parcel_bytes: usize,
    /// How many deliveries of each merchant there are, and what they weigh.
    own: HashMap<MerchantId, (usize, usize)>,
}

impl Untaken {
    /// Takes a delivery, unless its merchant has as much as is left free: what
    /// is left out the worker reads from the store, which takes longer.
    fn take(&mut self, id: WebhookId, parcel: Parcel) {
        let (count, bytes) = self.own.entry(parcel.event.merchant_id).or_default();
        let weight = parcel.weight();
        if may_take(1, *count, self.news.parcels.len(), PARCELS_MAX)
            && may_take(weight, *bytes, self.parcel_bytes, PARCEL_BYTES_MAX)
        {
            (*count, *bytes) = (*count + 1, *bytes + weight);
            self.parcel_bytes += weight;
            self.news.parcels.push((id, parcel));
        }
    }
}

impl News {
    /// What a commit announces comes in no certain order.
    fn note_through(&mut self, id: WebhookId, through: IncrementId) {
        let known = self.committed_through.entry(id).or_insert(through);
        *known = through.max(*known);
    }

    fn note_reread(&mut self, id: WebhookId, from: IncrementId) {
        let known = self.reread.entry(id).or_insert(from);
        *known = from.min(*known);
    }
}

impl WaitState {
    /// Wakes those who wait for numbers of the webhook.
    fn note_number(&mut self, id: WebhookId, through: IncrementId) {
        let known = self.latest.entry(id).or_insert(IncrementId::ZERO);
        if through <= *known {
            return;
        }
        *known = through;
        if let Some(waiters) = self.waited_for.remove(&id) {
            waiters.notify_waiters();
        }
    }
}

impl Waits {
    /// Ends when an attempt at the delivery is announced after this call,
    /// whether it was polled before or not.
    pub fn next_attempt(&self, id: WebhookId, number: IncrementId) -> OwnedNotified {
        let mut waits = self.state();
        // Whoever gave up waiting left only the entry behind.
        waits.attempts.retain(|_, waiters| Arc::strong_count(waiters) > 1);
        Arc::clone(waits.attempts.entry((id, number)).or_default()).notified_owned()
    }

    /// Waits until the webhook has been given a number beyond `after`; does
    /// not see those that were given out before the start, so look first.
    pub async fn numbered_beyond(&self, id: WebhookId, after: IncrementId) {
        loop {
            let notified = {
                let mut waits = self.state();
                if waits.latest.get(&id).is_some_and(|last| *last > after) {
                    return;
                }
                // Made under the lock, so it hears of every number that comes after.
                Arc::clone(waits.waited_for.entry(id).or_default()).notified_owned()
            };
            notified.await;
        }
    }

    /// The webhooks for whose numbers somebody waits.
    pub fn waited_for(&self) -> Vec<WebhookId> {
        let mut waits = self.state();
        // Whoever gave up waiting left only the entry behind.
        waits.waited_for.retain(|_, waiters| Arc::strong_count(waiters) > 1);
        waits.waited_for.keys().copied().collect()
    }

    /// Wakes those who wait for numbers of a webhook up to this one, or before it.
    pub fn note_number(&self, id: WebhookId, through: IncrementId) {
        self.state().note_number(id, through);
    }

    /// Wakes those who wait for an attempt at one of these deliveries: there may have
    /// been one.
    pub fn note_changed(&self, id: WebhookId, span: Span) {
        let is_changed = |key: &(WebhookId, IncrementId)| key.0 == id && span.contains(key.1);
        self.state().attempts.retain(|key, waiters| {
            let is_changed = is_changed(key);
            if is_changed {
                waiters.notify_waiters();
            }
            !is_changed
        });
    }

    fn state(&self) -> MutexGuard<'_, WaitState> {
        self.state.lock().expect("nothing panics while it holds what is waited for")
    }
}

impl Mailbox {
    /// For a worker who sends for these merchants.
    pub fn new(tending: Arc<Tending>) -> Self {
        Self { tending, ..Self::default() }
    }

    /// For whom the worker sends.
    pub fn tending(&self) -> &Arc<Tending> {
        &self.tending
    }

    /// Has the worker look whether it may go on.
    pub fn nudge(&self) {
        self.arrived.notify_one();
    }

    /// Has the worker look at the store, for there is something new there.
    pub fn ask_to_look(&self) {
        self.is_look_asked.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// True if the worker was asked to look since this was called last.
    pub fn is_to_look(&self) -> bool {
        self.is_look_asked.swap(false, Ordering::AcqRel)
    }

    /// Announces that another node sends for the merchants of a bucket.
    pub fn announce_lost(&self, bucket: Bucket) {
        self.untaken().news.lost.insert(bucket);
        self.arrived.notify_one();
    }

    /// Announces that nothing is sent for a merchant any more, or that it goes on.
    pub fn announce_paused(&self, merchant: MerchantId, is_paused: bool) {
        self.untaken().news.paused.insert(merchant, is_paused);
        self.arrived.notify_one();
    }

    /// Announces a new, changed or deleted webhook.
    pub fn announce_webhook(&self, id: WebhookId, webhook: Option<Arc<Webhook>>) {
        if webhook.is_none() {
            self.waits.state().latest.remove(&id);
        }
        self.untaken().news.changed.insert(id, webhook);
        self.arrived.notify_one();
    }

    /// Announces that there are these webhooks and no others.
    pub fn announce_present(&self, ids: HashSet<WebhookId>) {
        let mut untaken = self.untaken();
        untaken.news.changed.retain(|id, _| ids.contains(id));
        untaken.news.present = Some(ids);
        drop(untaken);
        self.arrived.notify_one();
    }

    /// Announces that all numbers of a webhook up to this one are committed.
    pub fn announce_through(&self, id: WebhookId, through: IncrementId) {
        self.waits.state().note_number(id, through);
        self.untaken().news.note_through(id, through);
        self.arrived.notify_one();
    }

    /// Announces the deliveries of one commit, in the order of their numbers.
    pub fn announce_parcels(&self, parcels: Vec<(WebhookId, Parcel)>) {
        if parcels.is_empty() {
            return;
        }
        let mut waits = self.waits.state();
        for (id, parcel) in &parcels {
            waits.note_number(*id, parcel.increment_id);
        }
        drop(waits);
        let mut untaken = self.untaken();
        for (id, parcel) in parcels.into_iter().filter(|(_, parcel)| self.tending.has(parcel.event.merchant_id)) {
            untaken.news.note_through(id, parcel.increment_id);
            untaken.take(id, parcel);
        }
        drop(untaken);
        self.arrived.notify_one();
    }

    /// Announces a delivery to be sent at once. If there is no room, it is
    /// sent in its turn.
    pub fn announce_test(&self, id: WebhookId, parcel: Parcel) {
        let mut untaken = self.untaken();
        match untaken.news.tests.len() < TESTS_MAX {
            true => untaken.news.tests.push((id, parcel)),
            false => untaken.news.note_reread(id, parcel.increment_id),
        }
        drop(untaken);
        self.arrived.notify_one();
    }

    /// Announces that deliveries from that number on are no longer as they were.
    pub fn announce_reread(&self, id: WebhookId, from: IncrementId) {
        self.untaken().news.note_reread(id, from);
        self.arrived.notify_one();
    }

    /// Announces that a delivery is to be sent now. If there is no room, it is
    /// sent in its turn.
    pub fn announce_now(&self, id: WebhookId, number: IncrementId) {
        let mut untaken = self.untaken();
        if untaken.news.now.len() < NOW_MAX {
            untaken.news.now.push((id, number));
        }
        drop(untaken);
        self.arrived.notify_one();
    }

    /// Announces attempts that are on record, to those who wait for them.
    pub fn announce_attempts(&self, attempted: &[(WebhookId, IncrementId)]) {
        let mut waits = self.waits.state();
        if !waits.attempts.is_empty() {
            for waiters in attempted.iter().filter_map(|key| waits.attempts.remove(key)).collect::<Vec<_>>() {
                waiters.notify_waiters();
            }
        }
    }

    /// Waits until there may be news. An announcement made before the call
    /// counts, so nothing is missed between [`Self::take`] and this.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes all there is.
    pub fn take(&self) -> News {
        let mut news = std::mem::take(&mut *self.untaken()).news;
        let is_own = |webhook: &Option<Arc<Webhook>>| {
            webhook.as_ref().is_none_or(|webhook| self.tending.has(webhook.merchant_id))
        };
        news.changed.retain(|_, webhook| is_own(webhook));
        news
    }

    fn untaken(&self) -> MutexGuard<'_, Untaken> {
        self.untaken.lock().expect("nothing panics while it holds the news")
    }

    /// For callers who wait.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }
}
