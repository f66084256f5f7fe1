//! Why a store did not do what it was asked to.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::delivery::DeliveryState;
use crate::domain::fault::Violation;
use crate::domain::id::{EventId, IncrementId, Span};
use crate::domain::time::Timestamp;

/// When to try again what the database did not take.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a store did not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The write queue is full; nothing was done.
    #[error("the write queue is full")]
    Busy {
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// Another server holds what was to be changed, and took too long; nothing was done.
    #[error("another server holds what was to be changed")]
    Held {
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// The database can't be reached, or takes no changes at present; nothing was done.
    /// The store tells the log itself.
    #[error("{cause}")]
    Unavailable {
        /// What is wrong, for the log.
        cause: Arc<str>,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// A commit was asked for and not confirmed: it is unknown whether it was done.
    #[error("it is unknown whether a commit was done: {0}")]
    Unconfirmed(Arc<str>),
    /// The store is closing; nothing was done.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The merchant has no such webhook.
    #[error("no such webhook")]
    NoWebhook,
    /// The merchant has no such delivery.
    #[error("no such delivery")]
    NoDelivery,
    /// The merchant has no such event.
    #[error("no such event")]
    NoEvent,
    /// The delivery has had no such attempt.
    #[error("no such attempt")]
    NoAttempt,
    /// The merchant has no such job.
    #[error("no such job")]
    NoJob,
    /// The merchant's catalogue has no such topic.
    #[error("no such topic")]
    NoTopic,
    /// The merchant has no such user, or it was revoked.
    #[error("no such user")]
    NoUser,
    /// The merchant has no such token, or it is another user's.
    #[error("no such token")]
    NoToken,
    /// The merchant has as many tokens as it may.
    #[error("the merchant has {max} tokens, the most it may have")]
    TokenQuota {
        /// The most it may have.
        max: u32,
    },
    /// The merchant would have published more events today than it may.
    #[error("the merchant has published {used} events today, of the {max} that it may")]
    EventQuota {
        /// How many it has.
        used: u32,
        /// The most it may.
        max: u32,
        /// When the day ends.
        ends_at: Timestamp,
    },
    /// There is no such merchant.
    #[error("no such merchant")]
    NoMerchant,
    /// Another merchant has the code.
    #[error("the code is given")]
    CodeTaken,
    /// Another user is called so, or was.
    #[error("the name is given")]
    NameTaken,
    /// Whoever reads the documents knows the key of the demo user, which can't be replaced.
    #[error("the key of the demo user can't be replaced")]
    DemoKey,
    /// What an operator may do is changed by operators alone.
    #[error("the user is an operator")]
    IsOperator,
    /// The merchant has as many users as it may.
    #[error("the merchant has {max} users, the most it may have")]
    UserQuota {
        /// The most it may have.
        max: u32,
    },
    /// The merchant's catalogue has the topic already.
    #[error("the topic is registered already")]
    TopicExists,
    /// The merchant's catalogue has as many topics as it may.
    #[error("the merchant has {max} topics, the most it may have")]
    TopicQuota {
        /// The most it may have.
        max: u32,
    },
    /// The merchant has as many webhooks as it may.
    #[error("the merchant has {used} webhooks of the {max} it may have")]
    WebhookQuota {
        /// How many it has.
        used: usize,
        /// The most it may have.
        max: u32,
    },
    /// The definitions of the merchant's webhooks would be longer together than they may.
    #[error("the merchant's webhooks would be {used} bytes long, of the {max} that they may")]
    WebhookBytes {
        /// What they would be.
        used: usize,
        /// The most they may be.
        max: usize,
    },
    /// The idempotency key was used before, for another event.
    #[error("the idempotency key was used before, for another event")]
    IdempotencyConflict {
        /// Which of the events, from 0.
        index: usize,
        /// The event it was used for.
        event_id: EventId,
    },
    /// The events of one publish go to more webhooks than it may.
    #[error("the publish makes more than {max} deliveries, the most it may")]
    TooManyDeliveries {
        /// The most it may make.
        max: usize,
    },
    /// The store holds as many bytes as it may; nothing was done.
    #[error("the store holds {used} bytes of the {max} it may")]
    Full {
        /// What it holds.
        used: u64,
        /// What it may hold.
        max: u64,
    },
    /// The disk takes no more; nothing was done. The store tells the log itself.
    #[error("the disk of the store is full")]
    DiskFull,
    /// The store's file is not where it was. Nothing is done until it is back;
    /// what the last commit before did may be in it. The store tells the log
    /// itself.
    #[error("the store was taken away from where it was")]
    TakenAway,
    /// The delivery has ended and was pruned: there is nothing to send.
    #[error("the delivery was pruned")]
    Pruned,
    /// The delivery is one of a batch, which is cancelled as a whole or not at all.
    #[error("it goes out in one request with {}", .0)]
    InBatch(Span),
    /// The delivery has ended, so there is nothing to cancel.
    #[error("the delivery has ended: it is {}", state.name())]
    HasEnded {
        /// How.
        state: DeliveryState,
    },
    /// The webhook has as many old secrets that still sign as it may.
    #[error("{max} old secrets still sign, the most that may")]
    TooManySecrets {
        /// The most.
        max: usize,
    },
    /// As many jobs of the webhook, or of the merchant, wait as may.
    #[error("{max} jobs of the {whose} wait, the most that may")]
    TooManyJobs {
        /// The most.
        max: usize,
        /// Of one webhook, or of one merchant.
        whose: &'static str,
    },
    /// No pull has brought the number that was acknowledged.
    #[error("no pull has brought more than number {through}")]
    NotPulled {
        /// The highest that may be acknowledged.
        through: IncrementId,
    },
    /// A rule of the domain that only the store could check was broken.
    #[error("{}: {}", .0.field, .0.problem)]
    Violation(Violation),
    /// Anything else; whether it was done is unknown only after a failed
    /// commit of a file. The text is for the log, not for callers.
    #[error("{0}")]
    Failed(Arc<str>),
}

impl StoreError {
    /// A failure to be logged where it is handled.
    pub fn failed(cause: impl ToString) -> Self {
        Self::Failed(cause.to_string().into())
    }

    /// The database can't be reached, or takes no changes at present.
    pub fn unavailable(cause: impl ToString) -> Self {
        Self::Unavailable { cause: cause.to_string().into(), retry_after: UNAVAILABLE_RETRY_AFTER }
    }

    /// True if the log has been told, so that whoever meets it need not.
    pub fn is_logged(&self) -> bool {
        matches!(self, Self::DiskFull | Self::TakenAway | Self::Unavailable { .. })
    }
}
