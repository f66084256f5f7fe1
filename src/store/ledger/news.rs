//! What is announced of a change once it is committed.

use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::node::Bucket;
use crate::domain::webhook::Webhook;
use crate::store::parcel::Parcel;

/// Something to announce once it is committed.
#[derive(Debug)]
pub enum Announcement {
    /// A webhook is new, changed, or (`None`) deleted.
    Webhook(WebhookId, Option<Arc<Webhook>>),
    /// A webhook is as another node has made it, or as this one finds it that begins to
    /// send to it.
    Learned(WebhookId, Option<Arc<Webhook>>),
    /// All numbers of a webhook up to this one are committed.
    Through(WebhookId, IncrementId),
    /// The same, as a node finds it that begins to send to it.
    Found(WebhookId, IncrementId),
    /// A new delivery.
    Parcel(WebhookId, Parcel),
    /// A delivery to be sent at once, whatever the webhook's state.
    Test(WebhookId, Parcel),
    /// Deliveries of a webhook from that number on are to be sent that were
    /// not before, or the other way round.
    Reread(WebhookId, IncrementId),
    /// A delivery is to be sent now, whatever holds the others up.
    Now(WebhookId, IncrementId),
    /// An attempt at a delivery is on record.
    Attempted(WebhookId, IncrementId),
    /// Deliveries of a webhook are new or changed, other than those of which a
    /// parcel or an attempt says so.
    Changed(WebhookId, Span),
    /// More of the numbers of a webhook have ended, to which another node sends.
    Settled(WebhookId),
    /// Another node sends for the merchants of that bucket.
    LeaseLost(Bucket),
    /// Nothing is sent for a merchant any more, or (false) it goes on.
    Paused(MerchantId, bool),
    /// The same, as another node has had it.
    LearnedPaused(MerchantId, bool),
    /// An event was published.
    Published(Arc<Event>),
}
