//! Webhooks, as they are read.

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::{SqliteStore, reads, rows};
use crate::domain::delivery::DeliveryFilter;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::stats::WebhookStats;
use crate::domain::webhook::Webhook;
use crate::store::deliveries::Deliveries;
use crate::store::error::StoreError;
use crate::store::webhooks::Webhooks;

#[async_trait]
impl Webhooks for SqliteStore {
    async fn webhook_ids(&self, merchant: MerchantId) -> Result<Vec<WebhookId>, StoreError> {
        let all = Slice { after: None, order: Order::Ascending, limit: u32::MAX };
        self.readers.in_steps(merchant, all, move |conn, part| reads::webhook_ids(conn, merchant, part.after)).await
    }

    async fn webhooks(&self, merchant: MerchantId, slice: Slice<WebhookId>) -> Result<Vec<Webhook>, StoreError> {
        self.readers.read(merchant, move |conn| reads::webhook_page(conn, merchant, slice)).await
    }

    async fn webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook, StoreError> {
        self.readers
            .read(merchant, move |conn| {
                let sql =
                    format!("{} WHERE webhook_id = ?1 AND merchant_id = ?2 AND deleted_at IS NULL", rows::WEBHOOK);
                let found = conn.prepare_cached(&sql)?.query_row([id.0, merchant.0], rows::webhook).optional()?;
                found.ok_or(StoreError::NoWebhook)
            })
            .await
    }

    async fn stats(&self, merchant: MerchantId, id: WebhookId) -> Result<WebhookStats, StoreError> {
        let deliveries = self.count_deliveries(merchant, id, DeliveryFilter::default()).await?;
        let webhook = self.webhook(merchant, id).await?;
        self.readers
            .read(merchant, move |conn| {
                let oldest_pending = reads::oldest_pending(conn, &webhook)?;
                let recent = reads::recent_attempts(conn, &webhook)?;
                Ok(WebhookStats { webhook, deliveries, oldest_pending, recent })
            })
            .await
    }
}
