//! The log of attempts: what was sent, and what came of it.

use async_trait::async_trait;

use super::base::Base;
use crate::domain::delivery::{Attempt, AttemptFilter, AttemptKey, Backlog};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::parcel::Parcel;

/// An attempt, and what it sent.
#[derive(Clone, Debug)]
pub struct LoggedAttempt {
    /// The number of the delivery, or those of the batch.
    pub numbers: Span,
    /// Whether it was sent as a batch, be it of one.
    pub is_batch: bool,
    /// What happened.
    pub attempt: Attempt,
    /// What was sent; `None` if some of it was pruned.
    pub parcel: Option<Parcel>,
}

/// What a store tells of what was sent, and of what is yet to be.
/// Each fails with [`StoreError::NoWebhook`].
#[async_trait]
pub trait AttemptLog: Base {
    /// Attempts for a webhook as far as they are kept, the last one at the last
    /// number first: up to `limit` of those behind `after`.
    async fn attempt_keys(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: AttemptFilter,
        after: Option<AttemptKey>,
        limit: usize,
    ) -> Result<Vec<AttemptKey>, StoreError>;

    /// The first of these attempts, in their order, until they weigh so many
    /// bytes, and at least one; says how many of them it has looked at. Those
    /// that are not there, or not any more, are left out.
    async fn logged_attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        keys: Vec<AttemptKey>,
        bytes_max: usize,
    ) -> Result<(Vec<LoggedAttempt>, usize), StoreError>;

    /// Numbers of the webhook that were forgotten, in their order: some of those
    /// behind `after`; none if there are no more.
    async fn forgotten(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
    ) -> Result<Vec<IncrementId>, StoreError>;

    /// What is to be sent, and when. The time of what is due at `now` is told of
    /// only if it waits for the end of a pause.
    async fn backlog(&self, merchant: MerchantId, id: WebhookId, now: Timestamp) -> Result<Backlog, StoreError>;
}
