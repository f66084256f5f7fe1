//! How large the logs of attempts are, and what goes when they are too large.
//!
//! The rows of attempts stay, with times and statuses: what goes are headers and
//! bodies, in small steps from the lowest number on. A mark says how far a log
//! has been emptied; what is added below it, by a late retry, goes when the mark
//! has come to the end and begins anew. Whoever fills his log faster than that
//! finds new ones left out from a quarter beyond the bound on, so that it holds
//! however fast answers come. The log of a deleted webhook goes as a whole.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::terms::Retention;
use super::turns::Turns;
use super::wants::{AttemptFound, Attempts};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};

/// Attempts looked at in a step.
const PER_STEP: u32 = 250;
/// Bytes that go in a step, about.
const BYTES_PER_STEP: u64 = 1_024 * 1_024;

/// Before all attempts.
const START: (IncrementId, u32) = (IncrementId::ZERO, 0);

/// How large each log is, and whose turn it is to be made smaller.
#[derive(Default)]
pub struct LogSizes {
    logs: HashMap<WebhookId, Log>,
    merchants: HashMap<MerchantId, Merchant>,
    dirty: HashSet<WebhookId>,
    too_large: Turns,
}

#[derive(Clone, Copy, Debug)]
struct Log {
    merchant: MerchantId,
    bytes: u64,
    /// All attempts up to this one have been looked at in this round.
    emptied: (IncrementId, u32),
    /// The round began with the first attempt, has found nothing, and nothing
    /// was added where it has been.
    is_fruitless: bool,
    /// Its webhook was deleted: nobody will see any of it.
    is_abandoned: bool,
}

/// A log, as a store keeps it.
#[derive(Clone, Copy, Debug)]
pub struct LogRow {
    /// Whose.
    pub webhook_id: WebhookId,
    /// And whose that is.
    pub merchant: MerchantId,
    /// What headers and bodies weigh.
    pub bytes: u64,
    /// All attempts up to this one have been looked at.
    pub emptied: (IncrementId, u32),
    /// Its webhook was deleted.
    pub is_deleted: bool,
}

#[derive(Default)]
struct Merchant {
    bytes: u64,
    /// Its logs that hold anything, the largest last.
    by_size: BTreeSet<(u64, WebhookId)>,
}

impl LogSizes {
    /// Of what a store holds.
    pub fn of(rows: impl IntoIterator<Item = LogRow>) -> Self {
        let mut sizes = Self::default();
        sizes.take_over(rows);
        sizes
    }

    /// Adds logs that others have written until now.
    pub fn take_over(&mut self, rows: impl IntoIterator<Item = LogRow>) {
        for LogRow { webhook_id: id, merchant, bytes, emptied, is_deleted } in rows {
            let log = Log { merchant, bytes: 0, emptied, is_fruitless: false, is_abandoned: is_deleted };
            self.logs.entry(id).or_insert(log);
            self.resize(id, bytes);
            self.dirty.remove(&id);
            // Whether it is too large for the bounds of today is looked at once.
            self.too_large.push(merchant, id);
        }
    }

    /// How large those are that hold anything.
    #[cfg(test)]
    pub fn sizes(&self) -> std::collections::BTreeMap<WebhookId, u64> {
        self.logs.iter().filter(|(_, log)| log.bytes > 0).map(|(id, log)| (*id, log.bytes)).collect()
    }

    /// True if a log still takes what was sent and got.
    pub fn has_room(&self, merchant: MerchantId, id: WebhookId, bounds: &Retention) -> bool {
        let is_within = |bytes: u64, max: u64| max == 0 || bytes < max.saturating_add(max / 4);
        !self.logs.get(&id).is_some_and(|log| log.is_abandoned)
            && is_within(self.logs.get(&id).map_or(0, |log| log.bytes), bounds.webhook_log_bytes_max)
            && is_within(self.merchants.get(&merchant).map_or(0, |own| own.bytes), bounds.merchant_log_bytes_max)
    }

    /// An attempt with so many bytes was recorded.
    pub fn grow(
        &mut self,
        merchant: MerchantId,
        id: WebhookId,
        (number, attempt): (IncrementId, u32),
        bytes: u64,
        bounds: &Retention,
    ) {
        let new = Log { merchant, bytes: 0, emptied: START, is_fruitless: false, is_abandoned: false };
        let log = self.logs.entry(id).or_insert(new);
        log.is_fruitless &= (number, attempt) > log.emptied;
        let bytes = log.bytes.saturating_add(bytes);
        self.resize(id, bytes);
        if self.is_too_large(id, bounds) {
            self.too_large.push(merchant, id);
        }
    }

    /// So many bytes of a log went.
    pub fn shrink(&mut self, id: WebhookId, bytes: u64) {
        if let Some(log) = self.logs.get(&id) {
            self.resize(id, log.bytes.saturating_sub(bytes));
        }
    }

    /// The webhook was deleted, and nothing more comes: all of its log is to go,
    /// and then it is forgotten.
    pub fn abandon(&mut self, id: WebhookId) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.is_abandoned = true;
            self.too_large.push(log.merchant, id);
        }
    }

    /// Notes how large a log is now.
    fn resize(&mut self, id: WebhookId, bytes: u64) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        let before = std::mem::replace(&mut log.bytes, bytes);
        let own = self.merchants.entry(log.merchant).or_default();
        own.bytes = own.bytes.saturating_sub(before).saturating_add(bytes);
        own.by_size.remove(&(before, id));
        if bytes > 0 {
            own.by_size.insert((bytes, id));
        }
        self.dirty.insert(id);
    }

    /// Notes that an attempt was looked at, and has lost so many bytes.
    fn pass(&mut self, id: WebhookId, place: (IncrementId, u32), bytes: u64) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        log.emptied = place;
        log.is_fruitless &= bytes == 0;
        self.shrink(id, bytes);
    }

    /// Begins anew with the first attempt, for there are no more behind the mark.
    fn turn_round(&mut self, id: WebhookId) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        log.emptied = START;
        if std::mem::replace(&mut log.is_fruitless, true) {
            // Nothing is left, whatever was counted.
            self.resize(id, 0);
        }
        self.dirty.insert(id);
    }

    /// How many logs are known to be too large.
    pub fn too_large(&self) -> usize {
        self.too_large.len()
    }

    /// True if no log is known to be too large.
    pub fn are_small(&self) -> bool {
        self.too_large.is_empty()
    }

    /// Those that have changed since they were last taken, to be written; `None`:
    /// it is no more.
    pub fn take_changed(&mut self) -> Vec<(WebhookId, Option<LogRow>)> {
        let row = |id, log: &Log| {
            let Log { merchant, bytes, emptied, is_abandoned: is_deleted, .. } = *log;
            LogRow { webhook_id: id, merchant, bytes, emptied, is_deleted }
        };
        self.dirty.drain().map(|id| (id, self.logs.get(&id).map(|log| row(id, log)))).collect()
    }

    fn is_too_large(&self, id: WebhookId, bounds: &Retention) -> bool {
        let Some(log) = self.logs.get(&id) else { return false };
        let is_beyond = |bytes: u64, max: u64| max > 0 && bytes > max;
        let is_left_behind = log.is_abandoned && log.bytes > 0;
        is_left_behind
            || is_beyond(log.bytes, bounds.webhook_log_bytes_max)
            || self.is_merchant_beyond(log.merchant, bounds)
    }

    fn is_merchant_beyond(&self, merchant: MerchantId, bounds: &Retention) -> bool {
        let max = bounds.merchant_log_bytes_max;
        max > 0 && self.merchants.get(&merchant).is_some_and(|own| own.bytes > max)
    }

    /// The next log to be made smaller: one that is too large itself, or the
    /// largest of a merchant who has too much in all. Those that are abandoned
    /// and empty are forgotten on the way.
    fn next(&mut self, bounds: &Retention) -> Option<WebhookId> {
        while let Some((merchant, id)) = self.too_large.pop() {
            if self.is_merchant_beyond(merchant, bounds) {
                // Whether it is too large itself shows when the merchant has less.
                self.too_large.push(merchant, id);
                return self.merchants.get(&merchant)?.by_size.last().map(|(_, id)| *id);
            }
            if self.logs.get(&id).is_some_and(|log| log.is_abandoned && log.bytes == 0) {
                self.logs.remove(&id);
                self.dirty.insert(id);
            }
            if self.is_too_large(id, bounds) {
                return Some(id);
            }
        }
        None
    }

    /// The log whose turn it is, and what is to be read of it; `None` if none is
    /// too large.
    pub fn begin_step(&mut self, bounds: &Retention) -> Option<(WebhookId, Attempts)> {
        let id = self.next(bounds)?;
        let after = self.logs.get(&id)?.emptied;
        Some((id, Attempts { webhook_id: id, after, only: None, max: PER_STEP }))
    }

    /// Which of these attempts, the next ones of the log, are to lose headers and
    /// bodies.
    pub fn step(&mut self, id: WebhookId, found: &[AttemptFound], bounds: &Retention) -> Vec<(IncrementId, u32)> {
        let (mut is_at_end, mut gone, mut emptied) = ((found.len() as u32) < PER_STEP, 0, Vec::new());
        for AttemptFound { place, bytes } in found {
            if *bytes > 0 {
                emptied.push(*place);
            }
            self.pass(id, *place, *bytes);
            gone += bytes;
            if gone >= BYTES_PER_STEP || !self.is_too_large(id, bounds) {
                is_at_end = false;
                break;
            }
        }
        if is_at_end {
            self.turn_round(id);
        }
        if let Some(log) = self.logs.get(&id).copied()
            && (log.is_abandoned || self.is_too_large(id, bounds))
        {
            self.too_large.push(log.merchant, id);
        }
        emptied
    }
}
