//! Finding events by what is in them.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::event::{EventFilter, EventSummary, IdempotencyKey, Message};
use crate::domain::id::{EventId, MerchantId};
use crate::domain::page::Order;

/// Events that were read to be looked into.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Those that the filter admits, with their messages.
    pub events: Vec<(EventSummary, Message)>,
    /// Behind which one to go on; `None`: these were the last.
    pub next: Option<EventId>,
}

/// What is needed of a store to find events.
#[async_trait]
pub trait Search: Send + Sync + 'static {
    /// The event that was published with this key, as long as the key counts.
    async fn keyed_event(&self, merchant: MerchantId, key: IdempotencyKey) -> Result<Option<EventId>, StoreError>;

    /// The next events behind one of them, some at a time, however many the
    /// filter admits.
    async fn look_into(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        order: Order,
        after: Option<EventId>,
    ) -> Result<Looked, StoreError>;
}
