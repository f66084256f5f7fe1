//! Events: accepting, listing and finding them.

use async_trait::async_trait;

use super::base::{Base, change, change_much};
pub use super::ledger::erasing::OfEvent;
use super::ledger::erasing::{EraseDelivery, EraseEvent, Erasing};
use super::ledger::publishing::{Publish, cost};
use crate::domain::by::By;
use crate::domain::event::{EventFilter, EventStory, EventSummary, IdempotencyKey, Message, NewEvent, Receipt};
use crate::domain::id::{EventId, MerchantId};
use crate::domain::page::{Order, Slice};
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
        self.publish_within(by, events, None).await
    }

    /// The same for a merchant who may publish so many events in a day. Fails with
    /// [`StoreError::EventQuota`], too.
    async fn publish_within(
        &self,
        by: By,
        events: Vec<NewEvent>,
        quota: Option<u32>,
    ) -> Result<Vec<Receipt>, StoreError> {
        let cost = cost(&events);
        change_much(self, by.merchant, cost, Publish::new(by, events).within(quota)).await
    }

    /// One of the merchant's events, and what became of it, with up to
    /// `deliveries_max` deliveries; fails with [`StoreError::NoEvent`].
    async fn event(&self, merchant: MerchantId, id: EventId, deliveries_max: u32) -> Result<EventStory, StoreError>;

    /// True if an event with the same idempotency key, topic and message was
    /// accepted before, and its key still counts.
    async fn is_repeated(&self, merchant: MerchantId, event: NewEvent) -> Result<bool, StoreError>;

    /// Deliveries of an event of the merchant, those too that have forgotten it and those of
    /// deleted webhooks, in the order of webhooks and numbers: up to `max` behind one of them.
    async fn deliveries_of(
        &self,
        merchant: MerchantId,
        id: EventId,
        after: Option<OfEvent>,
        max: u32,
    ) -> Result<Vec<OfEvent>, StoreError>;

    /// Erases a delivery: it ends, if it is pending, and has forgotten its event; what was sent
    /// and got is gone, and nothing of that stays in the store's bytes. Those that went out with
    /// it lose their attempts, too, for they are the same. False if there was nothing to do. Many
    /// attempts are several changes: if one fails, asking again does the rest. Fails with
    /// [`StoreError::InBatch`] while something of its batch is to be sent.
    async fn erase_delivery(&self, by: By, which: OfEvent) -> Result<bool, StoreError> {
        let mut has_changed = false;
        loop {
            let Erasing { are_left, did } = change(self, by.merchant, EraseDelivery { by: by.clone(), which }).await?;
            has_changed |= did;
            if !are_left {
                return Ok(has_changed);
            }
        }
    }

    /// Erases an event of the merchant, whose deliveries are erased; false, with nothing done,
    /// while others are to be sent, or it is still being numbered.
    async fn erase_event(&self, by: By, id: EventId) -> Result<bool, StoreError> {
        change(self, by.merchant, EraseEvent { by, event_id: id }).await
    }

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
