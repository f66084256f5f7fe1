//! What the log is told of those who call: who could not log in, what was refused, what took
//! long, and who changed which webhook. Each is bounded, however much is called.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::domain::by::By;
use crate::domain::id::WebhookId;
use crate::metrics::Metrics;
use crate::work::sparing::Sparing;

/// Failed logins that are told of in a minute.
const LOGINS_TOLD_MAX: u32 = 10;
/// Slow calls that are told of in a minute.
const SLOW_TOLD_MAX: u32 = 10;
/// Changes of webhooks that are told of in a minute.
const CHANGES_TOLD_MAX: u32 = 600;

/// What was told lately, and of how much.
pub struct Telling {
    logins: Sparing,
    slow: Sparing,
    changes: Sparing,
    /// What had been refused when that was told last, by its limit.
    refused: Mutex<Vec<(&'static str, u64)>>,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            logins: Sparing::new(LOGINS_TOLD_MAX),
            slow: Sparing::new(SLOW_TOLD_MAX),
            changes: Sparing::new(CHANGES_TOLD_MAX),
            refused: Mutex::default(),
        }
    }
}

impl Telling {
    /// Somebody has shown a wrong key; the user, if there is one of that name. Whatever else
    /// was given as a name may be a key in the wrong place.
    pub fn login_failed(&self, user: Option<&str>, peer: IpAddr) {
        if let Some(withheld) = self.logins.admit(Instant::now()) {
            warn!(user, %peer, withheld, "a login failed");
        }
    }

    /// Somebody has shown what would let a user in who is disabled.
    pub fn login_refused(&self, user: &str, peer: IpAddr) {
        if let Some(withheld) = self.logins.admit(Instant::now()) {
            warn!(user, %peer, withheld, "a user who is disabled was refused");
        }
    }

    /// A call took so long, without the wait for its turn: it is told of if that is `slow` or more,
    /// unless that is zero.
    pub fn call_ended(&self, method: &str, took: Duration, slow: Duration) {
        if !slow.is_zero()
            && took >= slow
            && let Some(withheld) = self.slow.admit(Instant::now())
        {
            let took_ms = took.as_millis() as u64;
            warn!(method, took_ms, withheld, "a call took long");
        }
    }

    /// Somebody of the merchant of that code has done that with a webhook.
    pub fn webhook_changed(&self, by: By, merchant: &str, webhook_id: WebhookId, what: &str) {
        if let Some(withheld) = self.changes.admit(Instant::now()) {
            info!(%webhook_id, merchant, user_id = %by.user, peer = by.sender.map(|sender| display(sender.peer)), withheld, "a webhook was {what}");
        }
    }

    /// The same with several, which were switched on or off.
    pub fn webhooks_switched(&self, by: By, merchant: &str, webhooks: u64, what: &str) {
        if let Some(withheld) = self.changes.admit(Instant::now()) {
            info!(webhooks, merchant, user_id = %by.user, peer = by.sender.map(|sender| display(sender.peer)), withheld, "webhooks were switched {what}");
        }
    }

    /// Tells what was refused since that was told last, if anything was.
    pub fn refusals(&self, metrics: &Metrics) {
        let now = metrics.refused_so_far();
        let mut before = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = |name| before.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
        let new = now.iter().map(|(name, count)| (*name, count - earlier(*name))).filter(|(_, count)| *count > 0);
        let refused: Vec<_> = new.map(|(name, count)| format!("{name} {count}")).collect();
        *before = now;
        if !refused.is_empty() {
            let refused = refused.join(", ");
            warn!(refused, "calls were refused in the last minute, by limit and how many");
        }
    }
}
