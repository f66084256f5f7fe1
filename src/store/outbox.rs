//! What is to be sent, as the delivery worker takes it from the store, and what
//! it gives back.

use std::sync::Arc;

use async_trait::async_trait;

use super::base::change_first;
pub use super::glance::DueKey;
use super::glance::Glance;
use super::ledger::queue::Cost;
use super::ledger::resending::Seal;
use super::webhooks::Webhooks;
use crate::domain::delivery::Outcome;
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::error::StoreError;
use crate::store::parcel::Parcel;

/// Which deliveries of a webhook to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Pending ones above this number that were never tried and are not to be
    /// sent again, by number.
    Fresh(IncrementId),
    /// Those that are to be tried or sent again and are due, beyond this place in
    /// the order of due time and number.
    Due(DueKey),
    /// All above this number that are pending or to be sent again, by number.
    Pending(IncrementId),
    /// That one with its batch, if it is to be sent: the page is empty if not.
    One(IncrementId),
}

/// How much to read at once.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// At most so many.
    pub count: usize,
    /// No further once they weigh this much; at least one is read.
    pub bytes: usize,
}

/// Some pending deliveries of a webhook.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order asked for.
    pub parcels: Vec<Parcel>,
    /// True if there are no more behind these.
    pub is_last: bool,
}

/// What the store gave for a [`Want`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The page.
    pub page: Page,
    /// If what is due was asked for: when the first of those falls due that are
    /// to be tried or sent again and are not due yet.
    pub next_due: Option<Timestamp>,
}

/// What sending needs of a store.
#[async_trait]
pub trait Outbox: Glance + Webhooks {
    /// Every webhook that this node sends to, for the lanes at the start.
    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError>;

    /// A page of what is wanted of a webhook, as it is at `now`.
    async fn load(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        want: Want,
        now: Timestamp,
        limit: PageLimit,
    ) -> Result<Loaded, StoreError>;

    /// Has these numbers go out as one from now on: every attempt, retry and
    /// replay of one of them is one of all. False, with nothing done, unless
    /// all are pending, were never tried, and are in no batch yet, and unless this
    /// node is the one that sends for the merchant.
    async fn seal(&self, merchant: MerchantId, id: WebhookId, batch: Span) -> Result<bool, StoreError> {
        let seal = Seal { merchant_id: merchant, webhook_id: id, batch: Some(batch) };
        change_first(self, Cost::of(batch.numbers().count(), 0), seal).await
    }

    /// Records attempts, and disables webhooks that are gone or have failed
    /// for long. Each counts only if it is the attempt that follows those on
    /// record, so recording twice is recording once. What was sent for merchants
    /// that another node sends for by now is left out.
    ///
    /// Returns the merchants of whom nothing was recorded since other nodes hold them:
    /// those are waited for only if all outcomes are of one merchant.
    async fn record(&self, outcomes: Arc<[Outcome]>) -> Result<Vec<MerchantId>, StoreError>;
}
