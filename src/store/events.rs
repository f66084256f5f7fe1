//! Events: accepting, listing and finding them.

use async_trait::async_trait;

use super::base::{Base, change_much};
use super::ledger::publishing::{Publish, cost};
use crate::domain::event::{EventFilter, EventStory, EventSummary, IdempotencyKey, Message, NewEvent, Receipt};
use crate::domain::id::{EventId, MerchantId};
use crate::domain::page::{Order, Slice};
use crate::domain::user::By;
use crate::store::error::StoreError;

/// Events that were read to be looked into.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Those that the filter admits, with their messages.
    pub events: Vec<(EventSummary, Message)>,
    /// Behind which one to go on; `None`: these were the last.
    pub next: Option<EventId>,
}

/// What a store does with events.
#[async_trait]
pub trait Events: Base {
    /// Accepts events, all or none: each is stored once, and numbered for each
    /// webhook that matches. What an event with the same idempotency key came to
    /// is answered again. Fails with [`StoreError::IdempotencyConflict`],
    /// [`StoreError::TooManyDeliveries`] or [`StoreError::Full`], and with
    /// [`StoreError::Busy`] also while an event with the same key is still being
    /// numbered. When it has failed, none of the events was accepted, unless it
    /// failed with [`StoreError::Failed`] or [`StoreError::TakenAway`]: then a
    /// commit may have stood.
    async fn publish(&self, by: By, events: Vec<NewEvent>) -> Result<Vec<Receipt>, StoreError> {
        let cost = cost(&events);
        change_much(self, by, cost, Publish::new(by, events)).await
    }

    /// One of the merchant's events, and what became of it, with up to
    /// `deliveries_max` deliveries; fails with [`StoreError::NoEvent`].
    async fn event(&self, merchant: MerchantId, id: EventId, deliveries_max: u32) -> Result<EventStory, StoreError>;

    /// True if an event with the same idempotency key, topic and message was
    /// accepted before, and its key still counts.
    async fn is_repeated(&self, merchant: MerchantId, event: NewEvent) -> Result<bool, StoreError>;

    /// The event that was published with this key, as long as the key counts.
    async fn keyed_event(&self, merchant: MerchantId, key: IdempotencyKey) -> Result<Option<EventId>, StoreError>;

    /// Events of the merchant by id.
    async fn events(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        slice: Slice<EventId>,
    ) -> Result<Vec<EventSummary>, StoreError>;

    /// How many there are.
    async fn count_events(&self, merchant: MerchantId, filter: EventFilter) -> Result<u64, StoreError>;

    /// The next events behind one of them with their messages, some at a time,
    /// however many the filter admits.
    async fn look_into(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        order: Order,
        after: Option<EventId>,
    ) -> Result<Looked, StoreError>;
}
