//! What may be sent again, and the jobs that do it, as they are read.

use async_trait::async_trait;

use super::jobs;
use super::store::{Backend, SqlStore};
use crate::domain::delivery::DeliveryFilter;
use crate::domain::id::{JobId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job, Unavailable};
use crate::domain::page::Slice;
use crate::store::error::StoreError;
use crate::store::resending::Resending;

#[async_trait]
impl<B: Backend> Resending for SqlStore<B> {
    async fn unavailable(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        span: Span,
        filter: DeliveryFilter,
    ) -> Result<Unavailable, StoreError> {
        self.readers
            .summed(merchant, move |conn, after| jobs::unavailable(conn, merchant, id, span, &filter, after))
            .await
    }

    async fn job(&self, merchant: MerchantId, id: JobId) -> Result<Job, StoreError> {
        self.readers.read(merchant, move |conn| jobs::find(conn, merchant, id)).await
    }

    async fn jobs(&self, merchant: MerchantId, slice: Slice<JobId>) -> Result<Vec<Job>, StoreError> {
        self.readers.read(merchant, move |conn| jobs::list(conn, merchant, slice)).await
    }
}
