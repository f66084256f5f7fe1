//! Sending again, and not any more.

use async_trait::async_trait;

use super::changes::{jobs, resending};
use super::{SqliteStore, pages};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Patterns;
use crate::store::resending::Resending;
use crate::store::{Page, PageLimit, StoreError};

#[async_trait]
impl Resending for SqliteStore {
    async fn retry(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError> {
        self.write(merchant, move |tx| resending::retry(tx, merchant, id, number)).await
    }

    async fn cancel(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        whole_batch: bool,
    ) -> Result<(), StoreError> {
        self.write(merchant, move |tx| resending::cancel(tx, merchant, id, number, whole_batch)).await
    }

    async fn forget(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError> {
        let mut goes_on = false;
        while self.write(merchant, move |tx| resending::forget(tx, merchant, id, number, goes_on)).await? {
            goes_on = true;
        }
        Ok(())
    }

    async fn replay(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        span: Span,
        since: Timestamp,
    ) -> Result<Span, StoreError> {
        self.write(merchant, move |tx| jobs::replay(tx, merchant, id, span, since)).await
    }

    async fn backfill(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        topics: Option<Patterns>,
        since: Timestamp,
    ) -> Result<EventId, StoreError> {
        self.write(merchant, move |tx| jobs::backfill(tx, merchant, id, topics, since)).await
    }

    async fn one(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.lane_readers.read(merchant, move |conn| pages::one(conn, id, number, limit)).await
    }
}
