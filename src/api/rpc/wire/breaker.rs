//! Whether a webhook's breaker is open, as it is written.

use crate::domain::webhook::Webhook;

/// Whether its breaker is open.
pub fn breaker(webhook: &Webhook) -> &'static str {
    BREAKERS[usize::from(webhook.is_breaker_open())]
}

/// What a breaker may be: closed, until a receiver has failed often enough.
pub const BREAKERS: [&str; 2] = ["closed", "open"];
