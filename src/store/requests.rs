//! The log of the requests that were made, as a store keeps it.

use async_trait::async_trait;

use super::base::Base;
use super::{Parcel, StoreError};
use crate::domain::delivery::{Attempt, Backlog, RequestFilter, RequestKey};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;

/// A request that was made.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// The number of the delivery, or those of the batch.
    pub numbers: Span,
    /// Whether it was sent as a batch, be it of one.
    pub is_batch: bool,
    /// What happened.
    pub attempt: Attempt,
    /// What was sent; `None` if some of it was pruned.
    pub parcel: Option<Parcel>,
}

/// What is needed of a store to tell what was sent, and what is yet to be.
/// Each fails with [`StoreError::NoWebhook`].
#[async_trait]
pub trait Requests: Base {
    /// Requests of a webhook as far as they are kept, the last attempt at the
    /// last number first: up to `limit` of those behind `after`.
    async fn request_keys(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: RequestFilter,
        after: Option<RequestKey>,
        limit: usize,
    ) -> Result<Vec<RequestKey>, StoreError>;

    /// The first of these requests, in their order, until they weigh so many
    /// bytes, and at least one; says how many of them it has looked at. Those
    /// that are not there, or not any more, are left out.
    async fn requests(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        keys: Vec<RequestKey>,
        bytes_max: usize,
    ) -> Result<(Vec<LoggedRequest>, usize), StoreError>;

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
