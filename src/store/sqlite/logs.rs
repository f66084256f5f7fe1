//! How large the logs of attempts are, and what goes when they are too large.
//!
//! The rows of attempts stay, with times and statuses: what goes are headers and
//! bodies, those of the lowest numbers first, in small steps. Whoever fills his
//! log faster than that finds new ones left out from a quarter beyond the bound
//! on, so that it holds however fast answers come.

use std::collections::{HashMap, HashSet};

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
    /// Attempts up to this one have nothing left.
    emptied: (IncrementId, u32),
}

#[derive(Default)]
struct Merchant {
    bytes: u64,
    webhooks: HashSet<WebhookId>,
}

impl LogSizes {
    /// Reads what the file holds.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut sizes = Self::default();
        let mut statement = conn.prepare(
            "SELECT webhook_id, merchant_id, bytes, emptied_number, emptied_attempt
                FROM log_size JOIN webhook USING (webhook_id)",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let (id, merchant) = (WebhookId(row.get(0)?), MerchantId(row.get(1)?));
            let bytes = row.get::<_, i64>(2)?.unsigned_abs();
            let emptied = (IncrementId(row.get(3)?), row.get(4)?);
            sizes.logs.insert(id, Log { merchant, bytes, emptied });
            let own = sizes.merchants.entry(merchant).or_default();
            own.bytes += bytes;
            own.webhooks.insert(id);
            // Whether it is too large for the bounds of today is looked at once.
            sizes.too_large.push(merchant, id);
        }
        Ok(sizes)
    }

    /// True if a log still takes what was sent and got.
    pub fn has_room(&self, merchant: MerchantId, id: WebhookId, bounds: &Retention) -> bool {
        let is_within = |bytes: u64, max: u64| max == 0 || bytes < max.saturating_add(max / 4);
        is_within(self.logs.get(&id).map_or(0, |log| log.bytes), bounds.webhook_log_bytes_max)
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
        let log = self.logs.entry(id).or_insert(Log { merchant, bytes: 0, emptied: (IncrementId::ZERO, 0) });
        log.bytes += bytes;
        log.emptied = log.emptied.min((number, attempt.saturating_sub(1)));
        let own = self.merchants.entry(merchant).or_default();
        own.bytes += bytes;
        own.webhooks.insert(id);
        self.dirty.insert(id);
        if self.is_too_large(id, bounds) {
            self.too_large.push(merchant, id);
        }
    }

    /// So many bytes of a log went.
    pub fn shrink(&mut self, id: WebhookId, bytes: u64) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        log.bytes = log.bytes.saturating_sub(bytes);
        self.dirty.insert(id);
        if let Some(own) = self.merchants.get_mut(&log.merchant) {
            own.bytes = own.bytes.saturating_sub(bytes);
        }
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
            let Some(Log { bytes, emptied: (number, attempt), .. }) = self.logs.get(&id) else { continue };
            statement.execute(params![id.0, i64::try_from(*bytes).unwrap_or(i64::MAX), number.0, attempt])?;
        }
        Ok(())
    }

    fn is_too_large(&self, id: WebhookId, bounds: &Retention) -> bool {
        let Some(log) = self.logs.get(&id) else { return false };
        let is_beyond = |bytes: u64, max: u64| max > 0 && bytes > max;
        is_beyond(log.bytes, bounds.webhook_log_bytes_max) || self.is_merchant_beyond(log.merchant, bounds)
    }

    fn is_merchant_beyond(&self, merchant: MerchantId, bounds: &Retention) -> bool {
        let max = bounds.merchant_log_bytes_max;
        max > 0 && self.merchants.get(&merchant).is_some_and(|own| own.bytes > max)
    }

    /// The next log to be made smaller: one that is too large itself, or the
    /// largest of a merchant who has too much in all.
    fn next(&mut self, bounds: &Retention) -> Option<WebhookId> {
        while let Some((merchant, id)) = self.too_large.pop() {
            if self.is_merchant_beyond(merchant, bounds) {
                // Whether it is too large itself shows when the merchant has less.
                self.too_large.push(merchant, id);
                let own = self.merchants.get(&merchant)?;
                return own.webhooks.iter().copied().max_by_key(|id| self.logs.get(id).map_or(0, |log| log.bytes));
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
    if found.is_empty() {
        // Nothing is left, whatever was counted.
        tx.memory.logs.shrink(id, log.bytes);
    }
    let mut gone = 0;
    for (attempt_id, emptied, bytes) in found {
        if bytes > 0 {
            tx.conn
                .prepare_cached(
                    "UPDATE attempt SET request_headers = '', response_headers = '', response_body = x'', is_compressed = 0
                        WHERE attempt_id = ?1",
                )?
                .execute([attempt_id])?;
        }
        tx.memory.logs.shrink(id, bytes);
        if let Some(log) = tx.memory.logs.logs.get_mut(&id) {
            log.emptied = emptied;
        }
        gone += bytes;
        if gone >= BYTES_PER_STEP || !tx.memory.logs.is_too_large(id, &bounds) {
            break;
        }
    }
    if tx.memory.logs.is_too_large(id, &bounds) {
        tx.memory.logs.too_large.push(log.merchant, id);
    }
    Ok(true)
}
