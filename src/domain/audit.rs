//! The audit log: who changed what, when, from where, and what it was before.

use std::net::IpAddr;

use super::id::{AuditId, EventId, JobId, TokenId, UserId, WebhookId};
use super::request_id::RequestId;
use super::time::Timestamp;

macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($(#[$own:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind {
            $($(#[$own])* $name,)*
        }

        impl $kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name on the wire and in the store.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

named! {
    /// What was done: the method that does it, whichever dialect or command it was done by.
    Action {
        /// A webhook was registered.
        WebhookCreate = "webhook.create",
        /// Its definition was changed.
        WebhookUpdate = "webhook.update",
        /// It was switched on or off.
        WebhookUpdateStatus = "webhook.update_status",
        /// It was paused.
        WebhookPause = "webhook.pause",
        /// It goes on.
        WebhookResume = "webhook.resume",
        /// A disablement was lifted.
        WebhookEnable = "webhook.enable",
        /// It got another secret.
        WebhookRotateSecret = "webhook.rotate_secret",
        /// It was deleted.
        WebhookDelete = "webhook.delete",
        /// Its numbers are sent again.
        WebhookReplay = "webhook.replay",
        /// Stored events get numbers of it.
        WebhookBackfill = "webhook.backfill",
        /// A delivery is sent again.
        DeliveryRetry = "delivery.retry",
        /// Many are.
        DeliveryRetryMany = "delivery.retry_many",
        /// One was called off.
        DeliveryCancel = "delivery.cancel",
        /// What it was about was forgotten.
        DeliveryForget = "delivery.forget",
        /// An event was erased, or one of its deliveries was along with it.
        EventErase = "event.erase",
        /// A job was called off.
        JobCancel = "job.cancel",
        /// A topic was put into the catalogue.
        TopicRegister = "topic.register",
        /// What is said of it was changed.
        TopicUpdate = "topic.update",
        /// It was taken out.
        TopicRemove = "topic.remove",
        /// A merchant was made.
        MerchantCreate = "merchant.create",
        /// How much it may have was changed.
        MerchantUpdate = "merchant.update",
        /// Nothing is published and delivered for it any more.
        MerchantPause = "merchant.pause",
        /// It goes on.
        MerchantResume = "merchant.resume",
        /// A user was made.
        UserCreate = "user.create",
        /// What it may do was changed.
        UserUpdate = "user.update",
        /// What is told of its application was.
        UserProfile = "user.profile",
        /// It got another API key.
        UserRotateKey = "user.rotate_key",
        /// It is refused.
        UserDisable = "user.disable",
        /// It is let in again.
        UserEnable = "user.enable",
        /// It is refused for ever.
        UserRevoke = "user.revoke",
        /// A token was made.
        TokenCreate = "token.create",
        /// It was taken back.
        TokenRevoke = "token.revoke",
    }
}

named! {
    /// What kind of thing was changed.
    SubjectKind {
        /// A webhook.
        Webhook = "webhook",
        /// A delivery.
        Delivery = "delivery",
        /// An event.
        Event = "event",
        /// A job.
        Job = "job",
        /// A topic of the catalogue.
        Topic = "topic",
        /// A merchant.
        Merchant = "merchant",
        /// A user.
        User = "user",
        /// A token.
        Token = "token",
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What kind of thing it is.
    pub kind: SubjectKind,
    /// Which: the number of a webhook, an event or a job, `webhook:number` of a delivery, and the name of
    /// anything else.
    pub id: String,
}

impl Subject {
    /// One that has a name.
    pub fn named(kind: SubjectKind, name: impl Into<String>) -> Self {
        Self { kind, id: name.into() }
    }
}

impl From<WebhookId> for Subject {
    fn from(id: WebhookId) -> Self {
        Self::named(SubjectKind::Webhook, id.to_string())
    }
}

impl From<EventId> for Subject {
    fn from(id: EventId) -> Self {
        Self::named(SubjectKind::Event, id.to_string())
    }
}

impl From<JobId> for Subject {
    fn from(id: JobId) -> Self {
        Self::named(SubjectKind::Job, id.to_string())
    }
}

/// Who has changed something; nobody of these: an operator, at the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user.
    pub user_id: UserId,
    /// What it logs in as.
    pub name: String,
    /// The token by which it called.
    pub token_id: Option<TokenId>,
    /// Where the call came from.
    pub peer: Option<IpAddr>,
    /// What it was named.
    pub request_id: Option<RequestId>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id. Those of a merchant are in the order of the changes.
    pub audit_id: AuditId,
    /// Whose, by its code.
    pub merchant_code: String,
    /// When it was changed.
    pub at: Timestamp,
    /// By whom; `None`: an operator, at the command line.
    pub actor: Option<Actor>,
    /// What was done.
    pub action: Action,
    /// With what.
    pub subject: Subject,
    /// A JSON object: what was changed, as it was before.
    pub before: String,
    /// The same, as it is since.
    pub after: String,
    /// Some of that was too long to be kept.
    pub is_cut: bool,
}

/// Which entries of the audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only those from then on.
    pub since: Option<Timestamp>,
    /// Only those before then.
    pub until: Option<Timestamp>,
    /// Only what this user has done.
    pub user: Option<UserId>,
    /// Only this.
    pub action: Option<Action>,
    /// Only what was done with things of that kind.
    pub kind: Option<SubjectKind>,
    /// Only what was done with this one of them.
    pub id: Option<String>,
}

impl AuditFilter {
    /// True if all there are are meant.
    pub fn is_everything(&self) -> bool {
        let Self { since, until, user, action, kind, id } = self;
        since.is_none() && until.is_none() && user.is_none() && action.is_none() && kind.is_none() && id.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.name()), Some(*action));
        }
        for kind in SubjectKind::ALL {
            assert_eq!(SubjectKind::from_name(kind.name()), Some(*kind));
        }
    }
}
