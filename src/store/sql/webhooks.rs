//! Webhooks, as they are read.

use std::sync::Arc;

use async_trait::async_trait;

use super::codes::named;
use super::db::{Db, all, one, values};
use super::definition::{webhook, webhook_sql};
use super::rows;
use super::steps::{ROWS_PER_STEP, Step, behind, words};
use super::store::{Backend, SqlStore};
use crate::domain::delivery::{DeliveryFilter, ErrorClass};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::stats::{AttemptStats, WebhookStats};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::deliveries::Deliveries;
use crate::store::error::StoreError;
use crate::store::vault::Vault;
use crate::store::webhooks::{PublicKeys, Webhooks};
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// How many of a webhook's last numbers its statistics of attempts cover, as
/// far as there are no more attempts at them than these.
const STATS_NUMBERS: i64 = 1_000;
const ATTEMPTS_MAX: u32 = 10_000;

#[async_trait]
impl<B: Backend> Webhooks for SqlStore<B> {
    async fn webhook_ids(&self, merchant: MerchantId) -> Result<Vec<WebhookId>> {
        let all = Slice { after: None, order: Order::Ascending, limit: u32::MAX };
        self.readers.in_steps(merchant, all, move |conn, part| webhook_ids(conn, merchant, part.after)).await
    }

    async fn webhooks(&self, merchant: MerchantId, slice: Slice<WebhookId>) -> Result<Vec<Webhook>> {
        let vault = Arc::clone(&self.vault);
        self.readers.read(merchant, move |conn| webhook_page(conn, &vault, merchant, &slice)).await
    }

    async fn webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook> {
        let vault = Arc::clone(&self.vault);
        self.readers.read(merchant, move |conn| find(conn, &vault, merchant, id)).await
    }

    async fn public_keys(&self, id: WebhookId, now: Timestamp, asker: Account) -> Result<PublicKeys> {
        let vault = Arc::clone(&self.vault);
        self.readers.by_key(asker, move |conn| public_keys(conn, &vault, id, now)).await
    }

    async fn stats(&self, merchant: MerchantId, id: WebhookId) -> Result<WebhookStats> {
        let deliveries = self.count_deliveries(merchant, id, DeliveryFilter::default()).await?;
        let webhook = self.webhook(merchant, id).await?;
        self.readers
            .read(merchant, move |conn| {
                let oldest_pending = oldest_pending(conn, &webhook)?;
                let recent = recent_attempts(conn, &webhook)?;
                Ok(WebhookStats { webhook, deliveries, oldest_pending, recent })
            })
            .await
    }
}

/// Fails with [`StoreError::NoWebhook`] unless the merchant has that webhook.
pub fn check_webhook(db: &mut dyn Db, merchant: MerchantId, id: WebhookId) -> Result<()> {
    let sql = "SELECT 1 FROM webhook WHERE webhook_id = $1 AND merchant_id = $2 AND deleted_at IS NULL";
    one(db, sql, values![id.0, merchant.0], |_| Ok(()))?.ok_or(StoreError::NoWebhook)
}

/// How far a webhook is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The last number that it was given.
    pub last: i64,
    /// All numbers up to this one have ended, but for those that were taken up
    /// again.
    pub settled_through: i64,
}

/// How far one is that the merchant has; fails with [`StoreError::NoWebhook`].
pub fn place(db: &mut dyn Db, merchant: MerchantId, id: WebhookId) -> Result<Place> {
    let sql = format!(
        "SELECT w.last_increment_id, w.settled_through FROM {} w
            WHERE w.webhook_id = $1 AND w.merchant_id = $2 AND w.deleted_at IS NULL",
        db.dialect().webhooks()
    );
    let found =
        one(db, &sql, values![id.0, merchant.0], |row| Ok(Place { last: row.int(0)?, settled_through: row.int(1)? }))?;
    found.ok_or(StoreError::NoWebhook)
}

/// The number under which the attempts at a delivery are logged: the first of
/// its batch, if it went out in one. Fails with [`StoreError::NoWebhook`] or
/// [`StoreError::NoDelivery`].
pub fn logged_under(db: &mut dyn Db, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<i64> {
    let sql = "SELECT (SELECT coalesce(d.batch_first, d.increment_id) FROM delivery d
            WHERE d.webhook_id = w.webhook_id AND d.increment_id = $3)
        FROM webhook w WHERE w.webhook_id = $1 AND w.merchant_id = $2 AND w.deleted_at IS NULL";
    let found = one(db, sql, values![id.0, merchant.0, number.0], |row| row.int_if(0))?;
    found.ok_or(StoreError::NoWebhook)?.ok_or(StoreError::NoDelivery)
}

/// The ids of a merchant's webhooks in their order, those of one step.
fn webhook_ids(
    db: &mut dyn Db,
    merchant: MerchantId,
    after: Option<WebhookId>,
) -> Result<Step<Vec<WebhookId>, WebhookId>> {
    let sql = "SELECT webhook_id FROM webhook WHERE merchant_id = $1 AND deleted_at IS NULL AND webhook_id > $2
        ORDER BY webhook_id LIMIT $3";
    let values = values![merchant.0, after.map_or(0, |after| after.0), ROWS_PER_STEP];
    let found = all(db, sql, values, |row| row.int(0).map(WebhookId))?;
    let next = found.last().copied().filter(|_| found.len() == ROWS_PER_STEP as usize);
    Ok(Step { found, next })
}

/// Some webhooks of a merchant, in the order of their ids.
fn webhook_page(
    db: &mut dyn Db,
    vault: &Vault,
    merchant: MerchantId,
    slice: &Slice<WebhookId>,
) -> Result<Vec<Webhook>> {
    let (direction, lies_behind) = words(slice.order);
    let sql = format!(
        "{} WHERE w.merchant_id = $1 AND w.deleted_at IS NULL AND w.webhook_id {lies_behind} $2
            ORDER BY w.webhook_id {direction} LIMIT $3",
        webhook_sql(db.dialect())
    );
    let after = behind(slice.after.map(|after| after.0), slice.order);
    all(db, &sql, values![merchant.0, after, slice.limit], webhook(vault))
}

/// A webhook of the merchant; fails with [`StoreError::NoWebhook`].
fn find(db: &mut dyn Db, vault: &Vault, merchant: MerchantId, id: WebhookId) -> Result<Webhook> {
    let sql = format!(
        "{} WHERE w.webhook_id = $1 AND w.merchant_id = $2 AND w.deleted_at IS NULL",
        webhook_sql(db.dialect())
    );
    one(db, &sql, values![id.0, merchant.0], webhook(vault))?.ok_or(StoreError::NoWebhook)
}

/// The public keys of a webhook, whosesoever it is.
fn public_keys(db: &mut dyn Db, vault: &Vault, id: WebhookId, now: Timestamp) -> Result<PublicKeys> {
    let sql = format!("{} WHERE w.webhook_id = $1 AND w.deleted_at IS NULL", webhook_sql(db.dialect()));
    let found = one(db, &sql, values![id.0], webhook(vault))?;
    Ok(found.map(|webhook| webhook.public_keys(now).collect()).unwrap_or_default())
}

/// The lowest number of a webhook that is pending, and when it was numbered.
fn oldest_pending(db: &mut dyn Db, webhook: &Webhook) -> Result<Option<(IncrementId, Timestamp)>> {
    // One that was taken up again may lie below `settled_through`.
    let sql = format!(
        "SELECT increment_id, created_at FROM (
            SELECT * FROM (SELECT increment_id, created_at FROM delivery
                WHERE webhook_id = $1 AND increment_id > $2 AND state = 0 ORDER BY increment_id LIMIT 1) AS fresh
            UNION ALL
            SELECT * FROM (SELECT increment_id, created_at FROM delivery {}
                WHERE webhook_id = $1 AND next_attempt_at IS NOT NULL AND state = 0
                ORDER BY increment_id LIMIT 1) AS again) AS pending
        ORDER BY increment_id LIMIT 1",
        db.dialect().by_index("delivery_again")
    );
    let values = values![webhook.webhook_id.0, webhook.settled_through.0];
    one(db, &sql, values, |row| Ok((IncrementId(row.int(0)?), row.time(1)?)))
}

/// The attempts at a webhook's last numbers, as far as they are kept.
fn recent_attempts(db: &mut dyn Db, webhook: &Webhook) -> Result<AttemptStats> {
    let from = webhook.last_increment_id.0.saturating_sub(STATS_NUMBERS).saturating_add(1).max(1);
    let sql = "SELECT duration_us, error_class, increment_id FROM attempt WHERE webhook_id = $1 AND increment_id >= $2
            ORDER BY increment_id DESC, attempt DESC LIMIT $3";
    let mut attempts = all(db, sql, values![webhook.webhook_id.0, from, ATTEMPTS_MAX], |row| {
        Ok(((rows::duration(row, 0)?, named(row, 1, ErrorClass::from_name)?), row.int(2)?))
    })?;
    // The last of those that were read may lack attempts.
    let is_cut = attempts.len() == ATTEMPTS_MAX as usize;
    let cut = attempts.last().filter(|_| is_cut).map_or(0, |(_, number)| *number);
    attempts.retain(|(_, number)| *number > cut);
    let attempts = attempts.into_iter().map(|(outcome, _)| outcome);
    Ok(AttemptStats::new(IncrementId(from.max(cut + 1)), attempts))
}
