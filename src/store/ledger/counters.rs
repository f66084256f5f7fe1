//! The counters of a webhook, which change with every delivery.

use crate::domain::id::IncrementId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Pause, Webhook};

/// What the store keeps of a webhook's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The last number given out.
    pub last: IncrementId,
    /// All numbers up to this one have ended.
    pub settled_through: IncrementId,
    /// The highest number that its receiver has pulled and asked beyond.
    pub acknowledged_through: IncrementId,
    /// The highest number that a pull has brought to whoever may ask beyond it.
    pub pulled_through: IncrementId,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// When the present run of failures began.
    pub failing_since: Option<Timestamp>,
    /// Until when nothing is sent after the last attempt, and why.
    pub pause: Option<Pause>,
}

impl Counters {
    /// Those that stand in a webhook.
    pub fn of(webhook: &Webhook) -> Self {
        Self {
            last: webhook.last_increment_id,
            settled_through: webhook.settled_through,
            acknowledged_through: webhook.acknowledged_through,
            pulled_through: webhook.pulled_through,
            consecutive_failures: webhook.consecutive_failures,
            failing_since: webhook.failing_since,
            pause: webhook.pause,
        }
    }

    /// True if nothing but the last number is other than there.
    pub fn is_but_for_last(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| Self { last: other.last, ..*self } == *other)
    }

    /// The webhook with these counters in place of its own.
    pub fn in_webhook(self, webhook: Webhook) -> Webhook {
        Webhook {
            last_increment_id: self.last,
            settled_through: self.settled_through,
            acknowledged_through: self.acknowledged_through,
            pulled_through: self.pulled_through,
            consecutive_failures: self.consecutive_failures,
            failing_since: self.failing_since,
            pause: self.pause,
            ..webhook
        }
    }
}
