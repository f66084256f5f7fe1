//! Rows of merchants.

use async_trait::async_trait;

use super::db::{Db, ROWS_AT_ONCE, Row, all, in_parts, one, values};
use super::steps::{Step, behind, words};
use super::store::{Backend, SqlStore};
use crate::domain::id::MerchantId;
use crate::domain::merchant::{EventDay, Merchant, MerchantTerms, Quotas};
use crate::domain::page::Slice;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::decision::Other;
use crate::store::ledger::wants::MerchantFound;
use crate::store::merchants::{Holdings, Merchants};
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// Paused merchants that one step reads.
const PAUSED_PER_STEP: u32 = 1_000;

/// The columns that [`terms_at`] reads, of a merchant `m`.
pub const TERMS: &str =
    "m.paused_at, m.webhooks_max, m.pending_deliveries_max, m.events_per_day_max, m.calls_per_second_max";

/// What [`merchant`] reads; takes a WHERE behind it.
pub fn merchant_sql() -> String {
    format!("SELECT m.merchant_id, m.code, m.created_at, {TERMS} FROM merchant m")
}

/// A merchant, from [`merchant_sql`].
pub fn merchant(row: &dyn Row) -> Result<Merchant> {
    let (merchant_id, code, created_at) = (MerchantId(row.int(0)?), row.string(1)?, row.time(2)?);
    Ok(Merchant { merchant_id, code, created_at, terms: terms_at(row, 3)? })
}

/// What operators say of a merchant, from the columns from that one on.
pub fn terms_at(row: &dyn Row, first: usize) -> Result<MerchantTerms> {
    let quotas = Quotas {
        webhooks: row.count_if(first + 1)?,
        pending_deliveries: row.count_if(first + 2)?,
        events_per_day: row.count_if(first + 3)?,
        calls_per_second: row.count_if(first + 4)?,
    };
    Ok(MerchantTerms { paused_at: row.time_if(first)?, quotas })
}

#[async_trait]
impl<B: Backend> Merchants for SqlStore<B> {
    async fn merchants(&self, slice: Slice<MerchantId>, asker: Account) -> Result<Vec<Merchant>> {
        self.readers.read(asker, move |conn| merchants(conn, &slice)).await
    }

    async fn merchant(&self, code: &str, asker: Account) -> Result<Option<Merchant>> {
        let code = code.to_owned();
        self.readers.by_key(asker, move |conn| named(conn, &code)).await
    }

    async fn holdings(&self, merchant: MerchantId, asker: Account) -> Result<Holdings> {
        self.readers.read(asker, move |conn| holdings(conn, merchant)).await
    }
}

/// Merchants, in the order of their ids.
pub fn merchants(db: &mut dyn Db, slice: &Slice<MerchantId>) -> Result<Vec<Merchant>> {
    let ((direction, lies_behind), after) = (words(slice.order), behind(slice.after.map(|after| after.0), slice.order));
    let sql =
        format!("{} WHERE m.merchant_id {lies_behind} $1 ORDER BY m.merchant_id {direction} LIMIT $2", merchant_sql());
    all(db, &sql, values![after, slice.limit], merchant)
}

/// The merchant of that code.
pub fn named(db: &mut dyn Db, code: &str) -> Result<Option<Merchant>> {
    one(db, &format!("{} WHERE m.code = $1", merchant_sql()), values![code], merchant)
}

/// What a merchant has: as many webhooks and users as it may, so not many.
pub fn holdings(db: &mut dyn Db, merchant: MerchantId) -> Result<Holdings> {
    let count = |db: &mut dyn Db, sql| -> Result<u32> {
        Ok(one(db, sql, values![merchant.0], |row| row.count(0))?.unwrap_or(0))
    };
    let webhooks = count(db, "SELECT count(*) FROM webhook WHERE merchant_id = $1 AND deleted_at IS NULL")?;
    let users = count(db, "SELECT count(*) FROM \"user\" WHERE merchant_id = $1")?;
    let sql = "SELECT event_day, event_day_events FROM merchant WHERE merchant_id = $1 AND event_day IS NOT NULL";
    let read = |row: &dyn Row| Ok(EventDay { day: row.int(0)?, events: row.count(1)? });
    let event_day = one(db, sql, values![merchant.0], read)?;
    Ok(Holdings { webhooks, users, event_day })
}

/// Merchants that are paused, those of one step.
pub fn paused(db: &mut dyn Db, after: Option<MerchantId>) -> Result<Step<Vec<MerchantId>, MerchantId>> {
    let sql = "SELECT merchant_id FROM merchant WHERE paused_at IS NOT NULL AND merchant_id > $1
        ORDER BY merchant_id LIMIT $2";
    let values = values![after.map_or(0, |after| after.0), PAUSED_PER_STEP];
    let found = all(db, sql, values, |row| row.int(0).map(MerchantId))?;
    let next = found.last().copied().filter(|_| found.len() == PAUSED_PER_STEP as usize);
    Ok(Step { found, next })
}

/// A merchant, as changes see it.
pub fn find(db: &mut dyn Db, merchant: MerchantId) -> Result<Option<MerchantFound>> {
    let sql = format!("SELECT m.code, {TERMS} FROM merchant m WHERE m.merchant_id = $1");
    let read = |row: &dyn Row| Ok(MerchantFound { code: row.string(0)?, terms: terms_at(row, 1)? });
    one(db, &sql, values![merchant.0], read)
}

/// How many events of each merchant were published in a day, as far as they are counted.
pub fn event_days(db: &mut dyn Db) -> Result<Vec<(MerchantId, EventDay)>> {
    let sql = "SELECT merchant_id, event_day, event_day_events FROM merchant
        WHERE event_day IS NOT NULL AND merchant_id > $1 ORDER BY merchant_id LIMIT $2";
    let read = |row: &dyn Row| Ok((MerchantId(row.int(0)?), EventDay { day: row.int(1)?, events: row.count(2)? }));
    in_parts(db, sql, ROWS_AT_ONCE, read, |(merchant, _)| merchant.0)
}

/// The id of a merchant to be made with that code; `None` if another has it.
pub fn next_id(db: &mut dyn Db, code: &str) -> Result<Option<MerchantId>> {
    if let Some(sql) = db.dialect().lock_name() {
        // Names of users are locked by themselves, so no name is locked by this.
        one(db, sql, values![&format!("merchant {code}")], |_| Ok(()))?;
    }
    if one(db, "SELECT merchant_id FROM merchant WHERE code = $1", values![code], |row| row.int(0))?.is_some() {
        return Ok(None);
    }
    let sql = db.dialect().next_merchant();
    let next = one(db, sql, &[], |row| row.int(0))?;
    next.map(MerchantId).map(Some).ok_or_else(|| StoreError::failed("there is no next merchant"))
}

/// Writes what becomes of a merchant; nothing of what is anything else.
pub fn write(db: &mut dyn Db, other: &Other, now: Timestamp) -> Result<()> {
    match other {
        Other::NewMerchant { merchant, code, quotas } => {
            let sql = "INSERT INTO merchant (merchant_id, code, created_at) VALUES ($1, $2, $3)";
            db.run(sql, values![merchant.0, code, now])?;
            match *quotas == Quotas::default() {
                true => Ok(()),
                false => terms(db, *merchant, MerchantTerms { paused_at: None, quotas: *quotas }),
            }
        }
        Other::MerchantTerms(merchant, new) => terms(db, *merchant, *new),
        Other::EventDay(merchant, EventDay { day, events }) => {
            let sql = "UPDATE merchant SET event_day = $2, event_day_events = $3 WHERE merchant_id = $1";
            db.run(sql, values![merchant.0, *day, *events]).map(drop)
        }
        _ => Ok(()),
    }
}

fn terms(db: &mut dyn Db, merchant: MerchantId, MerchantTerms { paused_at, quotas }: MerchantTerms) -> Result<()> {
    let sql = "UPDATE merchant SET paused_at = $2, webhooks_max = $3, pending_deliveries_max = $4,
            events_per_day_max = $5, calls_per_second_max = $6 WHERE merchant_id = $1";
    let Quotas { webhooks, pending_deliveries, events_per_day, calls_per_second } = quotas;
    let values = values![merchant.0, paused_at, webhooks, pending_deliveries, events_per_day, calls_per_second];
    db.run(sql, values).map(drop)
}
