//! The nodes that share a store, and what one has to know of all of them.

use std::time::Duration;

use super::node::{BUCKETS, NodeId};
use super::time::Timestamp;

/// The nodes that share a store, and how they are doing together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Those that are there, in the order in which they began.
    pub nodes: Vec<Member>,
    /// Leases that none of them holds: nothing is sent for the merchants of those.
    pub free_leases: u32,
    /// What the database tells of itself; `None`: the store is in a file.
    pub database: Option<DatabaseHealth>,
}

/// A node, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which; `None`: it has the store for itself, and needs no number.
    pub node_id: Option<NodeId>,
    /// What its operator calls it.
    pub name: String,
    /// Of which version the program is.
    pub version: String,
    /// What it does, in the words of the configuration: `api`, `send`.
    pub roles: Vec<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long its word counts yet, in milliseconds; below zero: it should have said
    /// by now that it is there, and whoever notices takes it out. `None`: nobody waits
    /// for its word.
    pub expires_in_ms: Option<i64>,
    /// Whether it is the one that answers.
    pub is_self: bool,
    /// How many leases it holds.
    pub leases: u32,
}

/// What makes a database slow in which rows come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseHealth {
    /// The oldest that holds vacuum back; `None`: nothing does.
    pub oldest_snapshot: Option<Snapshot>,
    /// Rows that are to be vacuumed away, as far as the database has counted.
    pub dead_rows: DeadRows,
}

/// What somebody may still want to see: no row that was deleted since can be
/// vacuumed away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Who holds it.
    pub holder: SnapshotHolder,
    /// How many transactions that write have begun since, in all databases of the server.
    pub transactions: u64,
    /// How long its transaction has been open; `None`: it has no beginning that can be
    /// told, or the database does not show it to this user.
    pub open_for: Option<Duration>,
}

/// Who may hold a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotHolder {
    /// A connection, of whichever program.
    Session,
    /// A transaction that was prepared, and neither committed nor rolled back.
    PreparedTransaction,
    /// A replica, by its slot or by what it feeds back.
    Replica,
}

/// Rows that nobody sees any more, by the tables in which most come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadRows {
    /// Of events.
    pub event: u64,
    /// Of deliveries.
    pub delivery: u64,
    /// Of attempts.
    pub attempt: u64,
}

impl Cluster {
    /// Of one server that has the store for itself, and sends for all.
    pub fn of_one(name: String, version: &str, started_at: Timestamp) -> Self {
        let alone = Member {
            node_id: None,
            name,
            version: version.to_owned(),
            roles: vec!["api".to_owned(), "send".to_owned()],
            started_at,
            expires_in_ms: None,
            is_self: true,
            leases: BUCKETS as u32,
        };
        Self { nodes: vec![alone], free_leases: 0, database: None }
    }
}

impl SnapshotHolder {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Session, Self::PreparedTransaction, Self::Replica];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::PreparedTransaction => "prepared_transaction",
            Self::Replica => "replica",
        }
    }
}
