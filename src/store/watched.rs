//! What those read who watch what is committed.

use std::time::Duration;

use async_trait::async_trait;

use super::base::Base;
use super::committed::EventIds;
use crate::domain::delivery::{AttemptError, Delivery};
use crate::domain::event::Event;
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Patterns;
use crate::store::error::StoreError;

/// A delivery, and how the last attempt at it went.
#[derive(Clone, Debug)]
pub struct DeliveryStatus {
    /// The delivery.
    pub delivery: Delivery,
    /// The last attempt; `None` if there was none, or it was pruned.
    pub last_attempt: Option<LastAttempt>,
}

/// An attempt, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAttempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, to the end of the answer.
    pub duration: Duration,
    /// The answer's status, if there was an answer.
    pub status_code: Option<u16>,
    /// What went wrong; `None` for a success.
    pub error: Option<AttemptError>,
}

/// An event, and when it was accepted.
#[derive(Clone, Debug)]
pub struct PublishedEvent {
    /// The event.
    pub event: Event,
    /// When it was accepted.
    pub published_at: Timestamp,
}

/// What watchers read of a store, once its [feed](super::feed::Feed) has told them of it.
#[async_trait]
pub trait Watched: Base {
    /// Has the [feed](super::feed::Feed) tell of all that is committed of a merchant
    /// from now on, whoever commits it, as long as he is wanted there: to be called
    /// once somebody watches him, and before anything is read. What the feed has told
    /// until then is older.
    async fn hear(&self, merchant: MerchantId) -> Result<(), StoreError>;

    /// What has become of these deliveries, in their order. Those that the
    /// merchant does not have, or whose webhook was deleted, are left out.
    async fn statuses(
        &self,
        merchant: MerchantId,
        keys: Vec<(WebhookId, IncrementId)>,
    ) -> Result<Vec<DeliveryStatus>, StoreError>;

    /// The first of these events, in their order, until they weigh so many
    /// bytes, and at least one; says how many of them it has looked at. Those
    /// that the merchant does not have, or that were pruned, are left out.
    async fn published(
        &self,
        merchant: MerchantId,
        ids: Vec<EventId>,
        bytes_max: usize,
    ) -> Result<(Vec<PublishedEvent>, usize), StoreError>;

    /// The last event that was accepted, stored or not any more; 0: none.
    async fn last_event(&self) -> Result<EventId, StoreError>;

    /// Looks at some stored events after one, in their order, and says which
    /// of them are the merchant's and of these topics; tests aside.
    async fn event_ids(&self, merchant: MerchantId, topics: Patterns, after: EventId) -> Result<EventIds, StoreError>;
}
