//! What there is to say of a webhook, and what of it has gathered.

use crate::domain::id::{IncrementId, Span};
use crate::domain::time::Timestamp;

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The server disabled the webhook.
    WebhookDisabled,
    /// The first success after a disablement was lifted.
    WebhookRecovered,
    /// A delivery ended undelivered.
    DeliveryAbandoned,
}

impl Notice {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebhookDisabled, Self::WebhookRecovered, Self::DeliveryAbandoned];

    /// The word behind `tallyhook:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookRecovered => "webhook_recovered",
            Self::DeliveryAbandoned => "delivery_abandoned",
        }
    }

    /// The notice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|notice| notice.name() == name)
    }
}

/// What gathered: how often, the first and the last number it was about, and
/// when it is published.
#[derive(Clone, Copy, Debug)]
pub struct Gathered {
    /// How often.
    pub count: i64,
    /// The first number.
    pub first: IncrementId,
    /// The last.
    pub last: IncrementId,
    /// When it is published.
    pub due_at: Timestamp,
}

impl Gathered {
    /// The same, after so much more of these numbers.
    pub fn with(self, count: i64, numbers: Span) -> Self {
        let first = if self.count == 0 { numbers.first } else { self.first.min(numbers.first) };
        Self { count: self.count + count, first, last: self.last.max(numbers.last), due_at: self.due_at }
    }
}
