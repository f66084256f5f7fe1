//! Who a call is made by, and how far that reaches.
//!
//! A merchant's id is had of its caller only by saying how far is looked: into all that is the
//! merchant's, which one that is confined may not, or into one webhook, which has to be within its
//! reach. So no use case can forget to ask.

use std::fmt;
use std::sync::Arc;

use crate::domain::by::By;
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{MerchantId, TokenId, UserId};
use crate::domain::labels::Labels;
use crate::domain::merchant::MerchantTerms;
use crate::domain::request_id::Sender;
use crate::domain::token::{Confinement, Token};
use crate::domain::trace::TraceParent;
use crate::domain::user::{Counts, Permission, Permissions, User};
use crate::domain::webhook::Webhook;
use crate::work::Account;

/// What a call brings along to say who makes it.
#[derive(Clone)]
pub enum Credentials {
    /// A session key or a token, as a parameter.
    Session(String),
    /// A user's name, and its API key or a token of it, from HTTP Basic.
    Basic {
        /// The user's name.
        name: String,
        /// The key or the token.
        key: String,
    },
    /// A session key, an API key or a token, from `Authorization: Bearer`.
    Bearer(String),
    /// An Authorization header that is neither.
    Unreadable,
    /// Nothing.
    None,
}

/// Whom credentials belong to, and how long they count.
pub(super) struct Known {
    pub user: User,
    pub counts: Counts,
    /// By which of the user's tokens; `None`: by a key or a session.
    pub token: Option<Token>,
}

/// Who a call is made by.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user; the one who made it, of a token.
    pub user_id: UserId,
    merchant_id: MerchantId,
    /// The code of the merchant it acts for.
    pub merchant_code: String,
    /// What operators say of that merchant.
    pub merchant_terms: MerchantTerms,
    /// What it may do.
    pub permissions: Permissions,
    token: Option<TokenId>,
    /// What that is confined to.
    within: Option<Arc<Confinement>>,
    /// How long what it has shown counts; a session that it opens ends then.
    counts: Counts,
    shown: Arc<Shown>,
}

/// By what a caller was known, and can be again.
struct Shown {
    credentials: Credentials,
    sender: Sender,
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl Caller {
    pub(super) fn new(known: Known, credentials: &Credentials, sender: Sender) -> Self {
        let Known { user, counts, token } = known;
        let User { user_id, merchant_id, merchant_code, merchant_terms, permissions, .. } = user;
        let shown = Arc::new(Shown { credentials: credentials.clone(), sender });
        let own = Self {
            user_id,
            merchant_id,
            merchant_code,
            merchant_terms,
            permissions,
            token: None,
            within: None,
            counts,
            shown,
        };
        match token {
            None => own,
            Some(Token { token_id, permissions, confinement, .. }) => Self {
                permissions: permissions.within(own.permissions),
                token: Some(token_id),
                within: confinement.map(Arc::new),
                ..own
            },
        }
    }

    /// The merchant it acts for, of what is no webhook's and hidden from nobody there: the lines in
    /// which its work waits, and the catalogue of topics.
    pub fn merchant(&self) -> MerchantId {
        self.merchant_id
    }

    /// The merchant it acts for, all of whose things it may look at. Fails with fault 2 of one that
    /// is confined.
    pub fn everywhere(&self) -> Result<MerchantId, Fault> {
        match self.confinement() {
            None => Ok(self.merchant_id),
            Some(_) => Err(Fault::new(FaultCode::AccessDenied)
                .detail("The token is confined to some webhooks, and this is about more than those.")),
        }
    }

    /// On whose behalf all that is the merchant's is changed. Fails with fault 2 of one that is
    /// confined.
    pub fn by(&self) -> Result<By, Fault> {
        self.everywhere().map(|_| self.author())
    }

    /// On whose behalf one webhook is made or changed: within the change the store looks whether it
    /// is within reach.
    pub fn author(&self) -> By {
        let (merchant, user, sender) = (self.merchant_id, self.user_id, Some(self.shown.sender));
        By { merchant, user, token: self.token, within: self.within.clone(), sender }
    }

    /// True if it has shown a token.
    pub fn is_token(&self) -> bool {
        self.token.is_some()
    }

    /// The part of the merchant's webhooks that it reaches; `None`: all.
    pub fn confinement(&self) -> Option<&Confinement> {
        self.within.as_deref()
    }

    /// True if it reaches the webhook, which has to be its merchant's.
    pub fn reaches(&self, webhook: &Webhook) -> bool {
        self.confinement().is_none_or(|confinement| confinement.admits(webhook))
    }

    /// Fails with fault 2 of a token that reaches webhooks by their ids: it makes no others.
    pub(super) fn makes_webhooks(&self) -> Result<(), Fault> {
        match self.confinement() {
            Some(Confinement::Webhooks(_)) => Err(Fault::new(FaultCode::AccessDenied)
                .detail("The token is confined to webhooks that there are, and makes no others.")),
            _ => Ok(()),
        }
    }

    /// The labels of a webhook that it makes or changes, with the one that it is confined to. Fails
    /// if they contradict that, and of a token that is confined to webhooks: by their labels others
    /// keep from them what is not for them.
    pub(super) fn labelled(&self, labels: Labels) -> Result<Labels, Violation> {
        match self.confinement() {
            None => Ok(labels),
            Some(Confinement::Label(label)) => labels.with(label),
            Some(Confinement::Webhooks(_)) => {
                Err(Violation::new("labels", "are not changed by a token that is confined to webhooks."))
            }
        }
    }

    /// Of which trace its request is a part, if of any.
    pub fn trace(&self) -> Option<TraceParent> {
        self.shown.sender.trace
    }

    /// How long what it has shown counts.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// What it has shown, and from where.
    pub(super) fn shown(&self) -> (&Credentials, Sender) {
        (&self.shown.credentials, self.shown.sender)
    }

    /// Fails with fault 2 unless the caller has the permission.
    pub fn check(&self, permission: Permission) -> Result<(), Fault> {
        if self.permissions.allow(permission) {
            Ok(())
        } else {
            Err(Fault::new(FaultCode::AccessDenied).detail(format!("This needs the permission {}.", permission.name())))
        }
    }

    /// The same caller, who may see what it may change. Fails with fault 2
    /// unless it may change webhooks.
    pub fn as_writer(&self) -> Result<Self, Fault> {
        self.check(Permission::WebhookWrite)?;
        let permissions = self.permissions.with(Permission::WebhookRead);
        Ok(Self { permissions, ..self.clone() })
    }
}

impl From<&Caller> for Account {
    fn from(caller: &Caller) -> Self {
        caller.merchant_id.into()
    }
}
