//! How large the logs of attempts are, and what goes when they are too large.
//!
//! The rows of attempts stay, with times and statuses: what goes are headers and
//! bodies, in small steps from the lowest number on. A mark says how far a log
//! has been emptied; what is added below it, by a late retry, goes when the mark
//! has come to the end and begins anew. Whoever fills his log faster than that
//! finds new ones left out from a quarter beyond the bound on, so that it holds
//! however fast answers come. The log of a deleted webhook goes as a whole.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, params};

use super::prune::Retention;
use super::turns::Turns;
use super::tx::Tx;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::store::StoreError;

/// Attempts looked at in a step.
const PER_STEP: i64 = 250;
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

#[derive(Default)]
struct Merchant {
    bytes: u64,
    /// Its logs that hold anything, the largest last.
    by_size: BTreeSet<(u64, WebhookId)>,
}

impl LogSizes {
    /// Reads what the file holds.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut sizes = Self::default();
        let mut statement = conn.prepare(
            "SELECT webhook_id, merchant_id, bytes, emptied_number, emptied_attempt, deleted_at IS NOT NULL
                FROM log_size JOIN webhook USING (webhook_id)",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let (id, merchant) = (WebhookId(row.get(0)?), MerchantId(row.get(1)?));
            let bytes = row.get::<_, i64>(2)?.unsigned_abs();
            let emptied = (IncrementId(row.get(3)?), row.get(4)?);
            let log = Log { merchant, bytes: 0, emptied, is_fruitless: false, is_abandoned: row.get(5)? };
            sizes.logs.insert(id, log);
            sizes.resize(id, bytes);
            // Whether it is too large for the bounds of today is looked at once.
            sizes.too_large.push(merchant, id);
        }
        sizes.dirty.clear();
        Ok(sizes)
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

    /// True if no log is known to be too large.
    pub fn are_small(&self) -> bool {
        self.too_large.is_empty()
    }

    /// Writes those that changed, once each.
    pub fn flush(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut statement = conn.prepare_cached(
            "INSERT INTO log_size (webhook_id, bytes, emptied_number, emptied_attempt) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT DO UPDATE SET bytes = ?2, emptied_number = ?3, emptied_attempt = ?4",
        )?;
        for id in self.dirty.drain() {
            let Some(Log { bytes, emptied: (number, attempt), .. }) = self.logs.get(&id) else {
                conn.prepare_cached("DELETE FROM log_size WHERE webhook_id = ?1")?.execute([id.0])?;
                continue;
            };
            statement.execute(params![id.0, i64::try_from(*bytes).unwrap_or(i64::MAX), number.0, attempt])?;
        }
        Ok(())
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
}

/// Takes some of what is too much out of the log whose turn it is; false if
/// none is too large.
pub fn trim_some(tx: &mut Tx<'_>, bounds: Retention) -> Result<bool, StoreError> {
    let Some(id) = tx.memory.logs.next(&bounds) else { return Ok(false) };
    let Some(log) = tx.memory.logs.logs.get(&id).copied() else { return Ok(false) };
    let (number, attempt) = log.emptied;
    let found = tx
        .conn
        .prepare_cached(
            "SELECT attempt_id, increment_id, attempt,
                    octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body)
                FROM attempt WHERE webhook_id = ?1 AND (increment_id, attempt) > (?2, ?3)
                ORDER BY increment_id, attempt LIMIT ?4",
        )?
        .query_map(params![id.0, number.0, attempt, PER_STEP], |row| {
            let emptied = (IncrementId(row.get(1)?), row.get(2)?);
            Ok((row.get::<_, i64>(0)?, emptied, row.get::<_, i64>(3)?.unsigned_abs()))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut is_at_end = (found.len() as i64) < PER_STEP;
    let mut gone = 0;
    for (attempt_id, place, bytes) in found {
        if bytes > 0 {
            tx.conn
                .prepare_cached(
                    "UPDATE attempt SET request_headers = '', response_headers = '', response_body = x'', is_compressed = 0
                        WHERE attempt_id = ?1",
                )?
                .execute([attempt_id])?;
        }
        tx.memory.logs.pass(id, place, bytes);
        gone += bytes;
        if gone >= BYTES_PER_STEP || !tx.memory.logs.is_too_large(id, &bounds) {
            is_at_end = false;
            break;
        }
    }
    if is_at_end {
        tx.memory.logs.turn_round(id);
    }
    if log.is_abandoned || tx.memory.logs.is_too_large(id, &bounds) {
        tx.memory.logs.too_large.push(log.merchant, id);
    }
    Ok(true)
}
