//! How all webhooks stand, for whoever follows them by what is announced: an
//! announcement is a hint that may be lost, and what is committed is the truth.

use async_trait::async_trait;

use super::error::StoreError;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Version;

/// A place in the order in which retries fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueKey {
    /// When it is due.
    pub due_at: Timestamp,
    /// Its number, among those that are due at once.
    pub increment_id: IncrementId,
}

impl DueKey {
    /// Before all others.
    pub const START: Self = Self { due_at: Timestamp(i64::MIN), increment_id: IncrementId::ZERO };
}

/// How a webhook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// Which.
    pub webhook_id: WebhookId,
    /// Whose.
    pub merchant_id: MerchantId,
    /// Which of its definitions is in force.
    pub version: Version,
    /// The last number given out.
    pub last_increment_id: IncrementId,
    /// Of what is to be tried or sent again, what falls due first, or did; of a
    /// batch, its first number.
    pub first_due: Option<DueKey>,
}

/// What the delivery worker looks at now and then, whatever it was told.
#[async_trait]
pub trait Glance: Send + Sync + 'static {
    /// Every webhook that this node sends to, in the order of their ids. They are read in parts, so one
    /// may have changed since the others were. Fails as [`super::Store`]'s
    /// methods do.
    async fn glance(&self) -> Result<Vec<Glimpse>, StoreError>;

    /// Merchants for whom nothing is sent, in the order of their ids, read in parts, too.
    async fn paused_merchants(&self) -> Result<Vec<MerchantId>, StoreError>;
}
