//! Deliveries as callers and receivers see them: lists, attempts, and pulls.

use async_trait::async_trait;

use super::base::{Base, change};
use super::ledger::resending::Test;
use super::ledger::webhooks::{Acknowledge, HandOut};
use crate::domain::by::By;
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, DeliveryState, StateCounts};
use crate::domain::event::Message;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::Slice;
use crate::store::error::StoreError;
use crate::store::outbox::PageLimit;
use crate::store::parcel::Parcel;

/// A number of a webhook with all that belongs to it, for who pulls.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The number.
    pub increment_id: IncrementId,
    /// What it takes to send it; `None` if it has ended and was pruned.
    pub parcel: Option<Parcel>,
    /// Where it is in its life.
    pub state: DeliveryState,
}

/// What a delivery sent and got, as far as that is kept.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The publisher's object.
    pub message: Option<Message>,
    /// The last attempt.
    pub last: Option<Attempt>,
}

impl Contents {
    /// How much there is, in bytes.
    pub fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.as_str().len())
            + self.last.as_ref().map_or(0, |attempt| attempt.response_body.len())
    }

    /// Leaves the message and the body of the answer out.
    pub fn leave_out_bodies(&mut self) {
        self.message = None;
        if let Some(attempt) = &mut self.last {
            attempt.response_body = Vec::new();
        }
    }
}

/// What a store tells of deliveries. Each fails with [`StoreError::NoWebhook`]
/// besides what it says.
#[async_trait]
pub trait Deliveries: Base {
    /// Deliveries of a webhook by number.
    async fn deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
        slice: Slice<IncrementId>,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// How many there are in each state.
    async fn count_deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
    ) -> Result<StateCounts, StoreError>;

    /// The message and the last attempt of the first of these deliveries, in
    /// this order and as far as they are kept: until they weigh `bytes_max`, and
    /// of one at least.
    async fn contents(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        numbers: Vec<IncrementId>,
        bytes_max: usize,
    ) -> Result<Vec<Contents>, StoreError>;

    /// Attempts at a delivery behind one of them, in their order, up to `limit`;
    /// fails with [`StoreError::NoDelivery`].
    async fn attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Attempt>, StoreError>;

    /// A webhook's numbers above `after` in their order, whatever their state,
    /// none left out.
    async fn pull(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Vec<Pulled>, StoreError>;

    /// Notes that a pull brings all up to this number, which may be
    /// acknowledged then.
    async fn hand_out(&self, by: By, id: WebhookId, through: IncrementId) -> Result<(), StoreError> {
        change(self, by.merchant, HandOut { by, webhook_id: id, through }).await
    }

    /// Notes that the receiver of a webhook has pulled what lies at or below
    /// this number: it becomes delivered soon after. Fails with
    /// [`StoreError::NotPulled`].
    async fn acknowledge(&self, by: By, id: WebhookId, through: IncrementId) -> Result<(), StoreError> {
        change(self, by.merchant, Acknowledge { by, webhook_id: id, through }).await
    }

    /// Numbers a test event for one webhook, which is sent at once; fails with
    /// [`StoreError::Full`].
    async fn test(&self, by: By, id: WebhookId, message: Message) -> Result<IncrementId, StoreError> {
        change(self, by.merchant, Test { by, webhook_id: id, message }).await
    }
}
