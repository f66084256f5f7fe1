//! What a store does to have deliveries sent again, or not any more.

use async_trait::async_trait;

use super::{Page, PageLimit, StoreError};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Patterns;

/// What is done to deliveries that have numbers, one or many. Each fails with
/// [`StoreError::NoWebhook`] besides what it says.
#[async_trait]
pub trait Resending: Send + Sync + 'static {
    /// Makes a delivery due now, with all of its batch, whether it has ended or
    /// not; what was delivered stays so. Fails with [`StoreError::NoWebhook`] or
    /// [`StoreError::NoDelivery`].
    async fn retry(&self, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<(), StoreError>;

    /// Ends a pending delivery, and all of its batch if `whole_batch` says so.
    /// Fails with [`StoreError::NoWebhook`], [`StoreError::NoDelivery`],
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

    /// Has numbers of a webhook sent again, in steps: those of the span that
    /// were given out since then and were not cancelled. Returns the span as
    /// far as there are numbers. Fails with [`StoreError::NoWebhook`] or
    /// [`StoreError::TooManyJobs`].
    async fn replay(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        span: Span,
        since: Timestamp,
    ) -> Result<Span, StoreError>;

    /// Gives stored events new numbers of a webhook, in steps: those that
    /// match `topics`, or else the webhook's own, and were published since
    /// then. Returns the last event there is now, which is the last that is
    /// looked at. Fails with [`StoreError::NoWebhook`] or
    /// [`StoreError::TooManyJobs`].
    async fn backfill(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        topics: Option<Patterns>,
        since: Timestamp,
    ) -> Result<EventId, StoreError>;

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
