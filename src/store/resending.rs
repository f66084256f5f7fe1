//! Having deliveries sent again, or not any more: one, or many by a job.

use async_trait::async_trait;

use super::base::{Base, change};
pub use super::ledger::jobs::Backfilled;
use super::ledger::jobs::{Backfill, CancelJob, Replay, RetryMany};
use super::ledger::resending::{Cancel, Forget, Retry, Target};
use crate::domain::by::By;
use crate::domain::delivery::DeliveryFilter;
use crate::domain::event::EventFilter;
use crate::domain::id::{IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job, Unavailable};
use crate::domain::page::Slice;
use crate::store::error::StoreError;

/// What is done to one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryAlteration {
    /// It is due now, with all of its batch, whether it has ended or not; what
    /// was delivered stays so. Fails with [`StoreError::Pruned`] if the event of
    /// any of them is kept no more.
    Retry,
    /// It ends, if it is pending; one that was delivered, and is to be sent
    /// again, is not. Fails with [`StoreError::HasEnded`] or
    /// [`StoreError::InBatch`].
    Cancel {
        /// All of its batch is meant.
        whole_batch: bool,
    },
    /// It ends, if it is pending, and what it sent and got is forgotten, whatever
    /// has become of it; its tombstone stays. Its event is forgotten, too, once
    /// no other delivery of it is to be sent. Nothing of it stays in the store's
    /// bytes. Many attempts are several changes: if one fails, the message and
    /// some attempts are gone, and asking again does the rest. Fails with
    /// [`StoreError::NoDelivery`] also if it was forgotten before, or with
    /// [`StoreError::InBatch`].
    Forget,
}

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

/// What a store does to deliveries that have numbers, one or many. Each that
/// names a webhook fails with [`StoreError::NoWebhook`] besides what it says.
#[async_trait]
pub trait Resending: Base {
    /// Does that to one delivery; fails with [`StoreError::NoDelivery`] besides.
    async fn alter_delivery(
        &self,
        by: By,
        id: WebhookId,
        number: IncrementId,
        what: DeliveryAlteration,
    ) -> Result<(), StoreError> {
        let (merchant, target) = (by.merchant, Target { by, webhook_id: id, number });
        match what {
            DeliveryAlteration::Retry => change(self, merchant, Retry(target)).await,
            DeliveryAlteration::Cancel { whole_batch } => change(self, merchant, Cancel { target, whole_batch }).await,
            DeliveryAlteration::Forget => {
                let mut goes_on = false;
                while change(self, merchant, Forget { target: target.clone(), goes_on }).await? {
                    goes_on = true;
                }
                Ok(())
            }
        }
    }

    /// Has numbers of a webhook sent again, in steps: those of the span that the
    /// filter admits. What was cancelled is left out, unless the filter says that
    /// state. Fails with [`StoreError::TooManyJobs`].
    async fn replay(&self, by: By, id: WebhookId, span: Span, filter: DeliveryFilter) -> Result<Replayed, StoreError> {
        let unavailable = self.unavailable(by.merchant, id, span, filter.clone()).await?;
        let (job_id, span) = change(self, by.merchant, Replay { by, webhook_id: id, span, filter }).await?;
        Ok(Replayed { job_id, span, unavailable })
    }

    /// Those of the numbers of such a replay that can't be sent.
    async fn unavailable(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        span: Span,
        filter: DeliveryFilter,
    ) -> Result<Unavailable, StoreError>;

    /// The same with all numbers that there are now of one webhook, or of all of
    /// the merchant's. Fails with [`StoreError::TooManyJobs`], and with
    /// [`StoreError::NoWebhook`] also if the merchant has none.
    async fn retry_many(&self, by: By, id: Option<WebhookId>, filter: DeliveryFilter) -> Result<Job, StoreError> {
        change(self, by.merchant, RetryMany { by, webhook_id: id, filter }).await
    }

    /// Gives stored events new numbers of a webhook, in steps: those that
    /// match the topics, or else the webhook's own, and were published within
    /// these times. Fails with [`StoreError::TooManyJobs`].
    async fn backfill(&self, by: By, id: WebhookId, filter: EventFilter) -> Result<Backfilled, StoreError> {
        change(self, by.merchant, Backfill { by, webhook_id: id, filter }).await
    }

    /// Such a piece of work, until long after its end; fails with
    /// [`StoreError::NoJob`].
    async fn job(&self, merchant: MerchantId, id: JobId) -> Result<Job, StoreError>;

    /// The merchant's, in the order of their ids.
    async fn jobs(&self, merchant: MerchantId, slice: Slice<JobId>) -> Result<Vec<Job>, StoreError>;

    /// Has no more of it done, and returns it; one that has ended stays as it
    /// is. Fails with [`StoreError::NoJob`].
    async fn cancel_job(&self, by: By, id: JobId) -> Result<Job, StoreError> {
        change(self, by.merchant, CancelJob { by, job_id: id }).await
    }
}
