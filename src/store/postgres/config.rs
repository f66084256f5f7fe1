//! What the operator decides about a store in PostgreSQL.

use super::settings::Settings;
use crate::store::ledger::terms::Terms;

/// What the operator decides about a store in PostgreSQL.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub database: Settings,
    /// Connections for reading.
    pub readers_max: u32,
    /// Changes that may wait for the writer before more are refused.
    pub write_queue_max: usize,
    /// Whether nothing is sent, however much there is to send.
    pub is_paused: bool,
    /// What bounds a change.
    pub terms: Terms,
}
