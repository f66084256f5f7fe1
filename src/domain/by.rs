//! Who changes something.

use std::sync::Arc;

use super::id::{MerchantId, TokenId, UserId};
use super::request_id::Sender;
use super::token::Confinement;
use super::webhook::Webhook;

/// On whose behalf something is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// The merchant: all that is named is looked up within it.
    pub merchant: MerchantId,
    /// The user who asked for it.
    pub user: UserId,
    /// The token of that user by which it was asked for.
    pub token: Option<TokenId>,
    /// What that token is confined to: of webhooks beyond it nothing is changed.
    pub within: Option<Arc<Confinement>>,
    /// Whose call it was, if it came over a network.
    pub sender: Option<Sender>,
}

impl By {
    /// Whose things are changed, and by whom, for the audit log.
    pub fn whose(&self) -> (MerchantId, Option<Self>) {
        (self.merchant, Some(self.clone()))
    }

    /// True if it may change the webhook, which has to be its merchant's.
    pub fn reaches(&self, webhook: &Webhook) -> bool {
        self.within.as_ref().is_none_or(|within| within.admits(webhook))
    }
}
