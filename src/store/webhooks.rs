//! Webhooks as their merchants define them.

use std::sync::Arc;

use async_trait::async_trait;

use super::base::{Base, change};
use super::ledger::webhooks::{Alter, Create, Delete, SetActive};
pub use super::ledger::webhooks::{Alteration, Rotation, WebhookSelector};
use crate::domain::by::By;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::page::Slice;
use crate::domain::signing::PublicKey;
use crate::domain::stats::WebhookStats;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Webhook, WebhookSpec};
use crate::store::error::StoreError;
use crate::work::Account;

/// Public keys, each with the time when it stops to be used.
pub type PublicKeys = Vec<(PublicKey, Option<Timestamp>)>;

/// What a store does with webhooks.
#[async_trait]
pub trait Webhooks: Base {
    /// The ids of the merchant's webhooks, in their order.
    async fn webhook_ids(&self, merchant: MerchantId) -> Result<Vec<WebhookId>, StoreError>;

    /// Some of its webhooks, in the order of their ids.
    async fn webhooks(&self, merchant: MerchantId, slice: Slice<WebhookId>) -> Result<Vec<Webhook>, StoreError>;

    /// One of them; fails with [`StoreError::NoWebhook`].
    async fn webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook, StoreError>;

    /// What anybody may know of the webhook with that id, whosesoever it is: the public keys by
    /// which its deliveries are verified at `now`, its own first, each with the time when it stops
    /// to be. None, if there is no such webhook, or a secret signs.
    async fn public_keys(&self, id: WebhookId, now: Timestamp, asker: Account) -> Result<PublicKeys, StoreError>;

    /// How one is doing; fails with [`StoreError::NoWebhook`].
    async fn stats(&self, merchant: MerchantId, id: WebhookId) -> Result<WebhookStats, StoreError>;

    /// Registers a webhook; events published after the answer go to it. Fails
    /// with [`StoreError::WebhookQuota`] if the merchant has `quota` already, with
    /// [`StoreError::WebhookBytes`] if its definitions become too long together,
    /// or with [`StoreError::Full`].
    async fn create_webhook(&self, by: By, spec: WebhookSpec, quota: u32) -> Result<Webhook, StoreError> {
        change(self, by.merchant, Create { by, spec, quota }).await
    }

    /// Changes a webhook, and returns it as it is then. Fails with
    /// [`StoreError::NoWebhook`]; an update also with [`StoreError::Violation`] or
    /// [`StoreError::WebhookBytes`], and another secret with
    /// [`StoreError::TooManySecrets`].
    async fn alter_webhook(&self, by: By, id: WebhookId, what: Alteration) -> Result<Webhook, StoreError> {
        change(self, by.merchant, Alter { by, webhook_id: id, what }).await
    }

    /// Switches webhooks on (which also lifts a disablement) or off, and says
    /// how many were selected. Many are several changes, in the order of their
    /// ids: if one fails, those before it stand, and asking again does the rest.
    async fn set_active(&self, by: By, which: WebhookSelector, on: bool) -> Result<usize, StoreError> {
        let (which, mut count, mut after) = (Arc::new(which), 0, WebhookId(0));
        loop {
            let switch = SetActive { by: by.clone(), which: Arc::clone(&which), on, after };
            let (selected, next) = change(self, by.merchant, switch).await?;
            count += selected;
            match next {
                Some(next) => after = next,
                None => return Ok(count),
            }
        }
    }

    /// Deletes a webhook. Its number is never reused; what is pending becomes
    /// cancelled soon after. Fails with [`StoreError::NoWebhook`].
    async fn delete_webhook(&self, by: By, id: WebhookId) -> Result<(), StoreError> {
        change(self, by.merchant, Delete { by, webhook_id: id }).await
    }
}
