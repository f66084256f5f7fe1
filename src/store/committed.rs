//! What a commit changed, as those are told who watch.

use crate::domain::event::Event;
use crate::domain::id::{EventId, MerchantId, Span, WebhookId};
use crate::domain::topic::Topic;

/// Some of what is stored.
#[derive(Clone, Debug)]
pub struct EventIds {
    /// Those that were asked for.
    pub ids: Vec<EventId>,
    /// The last that was looked at.
    pub through: EventId,
    /// True if there were no more behind it.
    pub is_last: bool,
}

/// What a commit changed.
#[derive(Debug, Default)]
pub struct Committed {
    /// Deliveries that are new or changed.
    pub deliveries: Vec<(MerchantId, WebhookId, Span)>,
    /// Events that were published.
    pub events: Vec<Accepted>,
    /// Webhooks that were deleted.
    pub deleted: Vec<WebhookId>,
}

/// An event that was published, for those who watch.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Which.
    pub event_id: EventId,
    /// Whose.
    pub merchant_id: MerchantId,
    /// What it is about.
    pub topic: Topic,
}

impl Accepted {
    /// In short.
    pub fn of(event: &Event) -> Self {
        Self { event_id: event.event_id, merchant_id: event.merchant_id, topic: event.topic.clone() }
    }
}
