//! What the operator decides, as far as it bounds a change.

use std::time::Duration;

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::time::Timestamp;

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Attempts, after their delivery has ended.
    pub attempts: Duration,
    /// Events, after all their deliveries have ended.
    pub bodies: Duration,
    /// The audit log.
    pub audit: Duration,
    /// The most bytes that the store may hold; 0: as many as there are. From
    /// nine tenths on, what has ended is pruned whatever its age.
    pub bytes_max: u64,
    /// Headers and bodies of the log of one webhook, in bytes; 0: all of them.
    pub webhook_log_bytes_max: u64,
    /// Those of all logs of one merchant; 0: all of them.
    pub merchant_log_bytes_max: u64,
}

impl Retention {
    /// What was audited before is kept no more.
    pub fn audited_before(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(i64::try_from(self.audit.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// What bounds a change.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long an idempotency key counts.
    pub key_ttl: Duration,
    /// The most deliveries that a publish may make.
    pub deliveries_max: usize,
    /// The most bytes of the definitions of a merchant's webhooks.
    pub definition_bytes_max: usize,
    /// A webhook that fails for so long without a success is disabled.
    pub disable_after: Duration,
    /// What is kept.
    pub retention: Retention,
    /// By what secrets are told from one another in the audit log.
    pub fingerprint_key: FingerprintKey,
    /// Other nodes change the same store: what is known by heart of a merchant is
    /// as it was when this node last held him.
    pub is_shared: bool,
}
