//! Sending again, and not any more.

use async_trait::async_trait;

use super::{SqliteStore, jobs, pages};
use crate::domain::delivery::DeliveryFilter;
use crate::domain::event::EventFilter;
use crate::domain::id::{IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::job::Job;
use crate::domain::page::Slice;
use crate::store::ledger::jobs::{Backfill, CancelJob, Replay, RetryMany};
use crate::store::ledger::resending::{Cancel, Forget, Retry, Target};
use crate::store::resending::{Backfilled, Replayed, Resending};
use crate::store::{Page, PageLimit, StoreError};

#[async_trait]
impl Resending for SqliteStore {
    async fn retry(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError> {
        self.change(merchant, Retry(Target { merchant, webhook_id: id, number })).await
    }

    async fn cancel(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        whole_batch: bool,
    ) -> Result<(), StoreError> {
        let target = Target { merchant, webhook_id: id, number };
        self.change(merchant, Cancel { target, whole_batch }).await
    }

    async fn forget(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError> {
        let (target, mut goes_on) = (Target { merchant, webhook_id: id, number }, false);
        while self.change(merchant, Forget { target, goes_on }).await? {
            goes_on = true;
        }
        Ok(())
    }

    async fn replay(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        span: Span,
        filter: DeliveryFilter,
    ) -> Result<Replayed, StoreError> {
        let looked_for = filter.clone();
        let unavailable = self
            .readers
            .sum(merchant, move |conn, after| jobs::unavailable(conn, merchant, id, span, &looked_for, after))
            .await?;
        let (job_id, span) = self.change(merchant, Replay { merchant, webhook_id: id, span, filter }).await?;
        Ok(Replayed { job_id, span, unavailable })
    }

    async fn retry_many(
        &self,
        merchant: MerchantId,
        id: Option<WebhookId>,
        filter: DeliveryFilter,
    ) -> Result<Job, StoreError> {
        self.change(merchant, RetryMany { merchant, webhook_id: id, filter }).await
    }

    async fn backfill(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: EventFilter,
    ) -> Result<Backfilled, StoreError> {
        self.change(merchant, Backfill { merchant, webhook_id: id, filter }).await
    }

    async fn job(&self, merchant: MerchantId, id: JobId) -> Result<Job, StoreError> {
        self.readers.read(merchant, move |conn| jobs::find(conn, merchant, id)).await
    }

    async fn jobs(&self, merchant: MerchantId, slice: Slice<JobId>) -> Result<Vec<Job>, StoreError> {
        self.readers.read(merchant, move |conn| jobs::list(conn, merchant, slice)).await
    }

    async fn cancel_job(&self, merchant: MerchantId, id: JobId) -> Result<Job, StoreError> {
        self.change(merchant, CancelJob { merchant, job_id: id }).await
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
