//! Tokens: keys with fewer rights than whoever makes them.

use super::fault::Violation;
use super::id::{MerchantId, TokenId, WebhookId};
use super::labels::Label;
use super::secret::KeyHash;
use super::time::Timestamp;
use super::user::{Permission, Permissions};
use super::webhook::Webhook;

/// The longest name of a token, in characters.
pub const TOKEN_NAME_CHARS_MAX: usize = 200;
/// The most webhooks that a token names.
pub const TOKEN_WEBHOOKS_MAX: usize = 100;

/// The part of its merchant's webhooks that a token reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// These, in the order of their ids.
    Webhooks(Vec<WebhookId>),
    /// Those that have this label, and those that it makes.
    Label(Label),
}

impl Confinement {
    /// Accepts 1 to [`TOKEN_WEBHOOKS_MAX`] webhooks.
    pub fn webhooks(mut ids: Vec<WebhookId>) -> Result<Self, Violation> {
        ids.sort_unstable();
        ids.dedup();
        match (1..=TOKEN_WEBHOOKS_MAX).contains(&ids.len()) {
            true => Ok(Self::Webhooks(ids)),
            false => Err(Violation::new("webhooks", format!("are {}; name 1 to {TOKEN_WEBHOOKS_MAX}.", ids.len()))),
        }
    }

    /// True if the webhook is within it.
    pub fn admits(&self, webhook: &Webhook) -> bool {
        match self {
            Self::Webhooks(ids) => ids.binary_search(&webhook.webhook_id).is_ok(),
            Self::Label(label) => webhook.spec.labels.has(label),
        }
    }
}

/// A token, without its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub token_id: TokenId,
    /// Whose webhooks it is for.
    pub merchant_id: MerchantId,
    /// The name of the user who made it, and for whom it acts.
    pub user: String,
    /// What people call it.
    pub name: String,
    /// What it may do, as long as its user may.
    pub permissions: Permissions,
    /// What it reaches; `None`: all of the merchant's.
    pub confinement: Option<Confinement>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None`: once it is revoked.
    pub expires_at: Option<Timestamp>,
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// Its key.
    pub key: KeyHash,
    /// What it may do.
    pub permissions: Permissions,
    /// What it reaches.
    pub confinement: Option<Confinement>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl NewToken {
    /// Fails if the name is empty or too long, or if such a token can't be: none administers, and
    /// one that is confined neither publishes nor, confined to webhooks that there are, makes any.
    pub fn checked(self) -> Result<Self, Violation> {
        let chars = self.name.chars().count();
        if !(1..=TOKEN_NAME_CHARS_MAX).contains(&chars) {
            let problem = format!("has {chars} characters; use 1 to {TOKEN_NAME_CHARS_MAX}.");
            return Err(Violation::new("name", problem));
        }
        let has = |permission: Permission| self.permissions.names().any(|name| name == permission.name());
        if has(Permission::Admin) || has(Permission::Operator) {
            let problem = "has admin or operator; a token may have webhook_read, webhook_write and event_write.";
            return Err(Violation::new("permissions", problem));
        }
        if self.confinement.is_some() && has(Permission::EventWrite) {
            let problem = "has event_write, which does not go with webhooks or a label: an event is for all webhooks.";
            return Err(Violation::new("permissions", problem));
        }
        Ok(self)
    }
}
