//! What the operator decides about the store.

use std::path::PathBuf;
use std::time::Duration;

use crate::store::ledger::terms::{Retention, Terms};

/// How hard a commit is pressed to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every commit survives a power cut (`synchronous = FULL`).
    Full,
    /// Every commit survives a crash of the process; a power cut may take the
    /// last ones (`synchronous = NORMAL`).
    Normal,
}

/// What the operator decides about the store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database file; made if it is missing.
    pub path: PathBuf,
    /// How hard a commit is pressed to disk.
    pub durability: Durability,
    /// How long to wait for another process that writes to the file.
    pub busy_timeout: Duration,
    /// Connections for reading.
    pub readers_max: u32,
    /// Changes that may wait for the writer before more are refused.
    pub write_queue_max: usize,
    /// How long an idempotency key counts.
    pub idempotency_ttl: Duration,
    /// The most bytes of the definitions of a merchant's webhooks.
    pub merchant_webhook_bytes_max: usize,
    /// The most deliveries that one publish may make.
    pub publish_deliveries_max: usize,
    /// A webhook that fails for so long without a success is disabled.
    pub disable_after: Duration,
    /// Whether nothing is sent, however much there is to send.
    pub is_paused: bool,
    /// What is kept, and for how long.
    pub retention: Retention,
}

impl Config {
    /// What of it bounds a change.
    pub fn terms(&self) -> Terms {
        Terms {
            key_ttl: self.idempotency_ttl,
            deliveries_max: self.publish_deliveries_max,
            definition_bytes_max: self.merchant_webhook_bytes_max,
            disable_after: self.disable_after,
            retention: self.retention,
            is_shared: false,
        }
    }
}
