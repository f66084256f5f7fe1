//! What the operator decides about a store in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use super::settings::Settings;
use crate::store::ledger::terms::Terms;
use crate::store::vault::Vault;

/// What the operator decides about a store in PostgreSQL.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub database: Settings,
    /// What this node is.
    pub node: NodeSettings,
    /// Connections for reading.
    pub readers_max: u32,
    /// Changes that may wait for the writer before more are refused.
    pub write_queue_max: usize,
    /// Commits that take so long are told of; zero: none.
    pub slow_commit: Duration,
    /// How long a change may wait for its turn, and its transaction may take.
    pub patience: Duration,
    /// Whether nothing is sent, however much there is to send.
    pub is_paused: bool,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// What bounds a change.
    pub terms: Terms,
}

/// A node says so many times that it is there in the time that its word counts for.
const RENEWALS: u32 = 4;

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// What its operator calls it.
    pub name: String,
    /// Whether it takes calls.
    pub takes_calls: bool,
    /// Whether it sends, so that leases are for it.
    pub sends: bool,
    /// How long its word counts.
    pub lease_ttl: Duration,
    /// How often it looks what others have committed, whatever it was told.
    pub poll: Duration,
    /// Whether it tells others of what it has committed, and hears of theirs.
    pub notifies: bool,
    /// Where it hears of them, if not where the database is.
    pub notify_database: Option<Settings>,
}

impl NodeSettings {
    /// Its roles, as they are shown.
    pub fn roles(&self) -> String {
        let roles = [(self.takes_calls, "api"), (self.sends, "send")];
        roles.iter().filter(|(has, _)| *has).map(|(_, role)| *role).collect::<Vec<_>>().join(",")
    }

    /// How long it relies on its leases after it has asked for them.
    pub fn relied_on(&self) -> Duration {
        self.renewal() * (RENEWALS - 1)
    }

    /// How often it says that it is there.
    pub fn renewal(&self) -> Duration {
        self.lease_ttl / RENEWALS
    }
}
