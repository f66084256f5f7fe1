//! What a store does to have deliveries sent again, or not any more.

use async_trait::async_trait;

use super::{Page, PageLimit, StoreError};
use crate::domain::delivery::DeliveryFilter;
use crate::domain::event::EventFilter;
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job, Unavailable};
use crate::domain::page::Slice;

/// A replay that has been asked for.
#[derive(Clone, Copy, Debug)]
pub struct Replayed {
    /// What does it.
    pub job_id: JobId,
    /// The numbers concerned, as far as they exist.
    pub span: Span,
    /// Those of them that can't be sent.
    pub unavailable: Unavailable,
}

/// A backfill that has been asked for.
#[derive(Clone, Copy, Debug)]
pub struct Backfilled {
    /// What does it.
    pub job_id: JobId,
    /// The last event that is looked at.
    pub through: EventId,
}

/// What is done to deliveries that have numbers, one or many. Each that names a
/// webhook fails with [`StoreError::NoWebhook`] besides what it says.
#[async_trait]
pub trait Resending: Send + Sync + 'static {
    /// Makes a delivery due now, with all of its batch, whether it has ended or
    /// not; what was delivered stays so. Fails with [`StoreError::NoWebhook`],
    /// [`StoreError::NoDelivery`], or [`StoreError::Pruned`] if the event of any
    /// of them is kept no more.
    async fn retry(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError>;

    /// Ends a pending delivery, and all of its batch if `whole_batch` says so; one
    /// that was delivered, and is to be sent again, is not. Fails with [`StoreError::NoWebhook`], [`StoreError::NoDelivery`],
    /// [`StoreError::HasEnded`] or [`StoreError::InBatch`].
    async fn cancel(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        whole_batch: bool,
    ) -> Result<(), StoreError>;

    /// Ends a pending delivery, and forgets what it sent and got, whatever has
    /// become of it; its tombstone stays. Its event is forgotten, too, once no
    /// other delivery of it is to be sent. Nothing of it stays in the file's
    /// bytes. Many attempts are several changes: if one fails, the message and
    /// some attempts are gone, and asking again does the rest. Fails with
    /// [`StoreError::NoWebhook`], [`StoreError::NoDelivery`], also if it was
    /// forgotten before, or [`StoreError::InBatch`].
    async fn forget(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError>;

    /// Has numbers of a webhook sent again, in steps: those of the span that the
    /// filter admits. What was cancelled is left out, unless the filter says that
    /// state. Fails with [`StoreError::TooManyJobs`].
    async fn replay(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        span: Span,
        filter: DeliveryFilter,
    ) -> Result<Replayed, StoreError>;

    /// The same with all numbers that there are now of one webhook, or of all of
    /// the merchant's. Fails with [`StoreError::TooManyJobs`], and with
    /// [`StoreError::NoWebhook`] also if the merchant has none.
    async fn retry_many(
        &self,
        merchant: MerchantId,
        id: Option<WebhookId>,
        filter: DeliveryFilter,
    ) -> Result<Job, StoreError>;

    /// Gives stored events new numbers of a webhook, in steps: those that
    /// match the topics, or else the webhook's own, and were published within
    /// these times. Fails with [`StoreError::TooManyJobs`].
    async fn backfill(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: EventFilter,
    ) -> Result<Backfilled, StoreError>;

    /// Such a piece of work, until long after its end; fails with
    /// [`StoreError::NoJob`].
    async fn job(&self, merchant: MerchantId, id: JobId) -> Result<Job, StoreError>;

    /// The merchant's, in the order of their ids.
    async fn jobs(&self, merchant: MerchantId, slice: Slice<JobId>) -> Result<Vec<Job>, StoreError>;

    /// Has no more of it done, and returns it; one that has ended stays as it
    /// is. Fails with [`StoreError::NoJob`].
    async fn cancel_job(&self, merchant: MerchantId, id: JobId) -> Result<Job, StoreError>;

    /// The delivery of that number with its batch, if it is to be sent: the page
    /// is empty if not.
    async fn one(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        limit: PageLimit,
    ) -> Result<Page, StoreError>;
}
