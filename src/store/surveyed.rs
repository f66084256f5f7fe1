//! How a store is doing as a whole, for whoever watches the server.

use std::collections::HashMap;

use async_trait::async_trait;

use super::base::Base;
use super::error::StoreError;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::survey::Survey;

/// Up to which number all of a webhook have been tried, or have ended: what is to be sent
/// again says so itself, so nobody need look there any more. It never falls.
pub type Tried = HashMap<WebhookId, IncrementId>;

/// What is read of a whole store, a little at a time.
#[async_trait]
pub trait Surveyed: Base {
    /// Looks through the store in bounded steps, between the look-ups of callers; what an
    /// earlier look found out goes in, and what this one did comes back. Of a webhook of
    /// which much has ended since its lowest open number, several looks may be needed
    /// before what is pending is known; until then what was not looked at counts.
    async fn survey(&self, tried: Tried) -> Result<(Survey, Tried), StoreError>;

    /// How many deliveries of a merchant are to be sent, in the same way and in his turns.
    async fn pending(&self, merchant: MerchantId, tried: Tried) -> Result<(u64, Tried), StoreError>;
}
