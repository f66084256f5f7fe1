//! What the operator decides about a store in a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::store::ledger::terms::Terms;
use crate::store::vault::Vault;

/// How hard a commit is pressed to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every commit survives a power cut (`synchronous = FULL`).
    Full,
    /// Every commit survives a crash of the process; a power cut may take the
    /// last ones (`synchronous = NORMAL`).
    Normal,
}

/// What the operator decides about a store in a file.
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
    /// Commits that take so long are told of; zero: none.
    pub slow_commit: Duration,
    /// Whether nothing is sent, however much there is to send.
    pub is_paused: bool,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// What bounds a change.
    pub terms: Terms,
}
