//! The nodes that share a store, as they are written.

use schemars::JsonSchema;
use serde::Serialize;

use super::schema;
use crate::domain::cluster::{Cluster, DatabaseHealth, DeadRows, Member, Snapshot};

/// The servers that share the store, and how they are doing together. A store in a file has one server.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Cluster")]
pub struct ClusterItem {
    /// Those that are there, in the order in which they began.
    nodes: Vec<NodeItem>,
    /// Of the 256 leases, those that no node holds: nothing is sent for the merchants of those until one takes them.
    free_leases: u32,
    /// What the database tells of itself; null: the store is in a file.
    database: Option<DatabaseItem>,
}

/// A server that shares the store.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Node")]
struct NodeItem {
    /// Its number: each start of a server is another node. null: the store is in a file.
    #[schemars(schema_with = "schema::id_or_null")]
    node_id: Option<i64>,
    /// What its operator calls it, or its machine is called.
    name: String,
    /// Of which version it is.
    version: String,
    /// What it does: `api`, it takes calls; `send`, it sends deliveries.
    roles: Vec<String>,
    /// When it began.
    #[schemars(schema_with = "schema::time")]
    started_at: String,
    /// How long the others take it to be there if they do not hear of it again, in milliseconds. Below 0: it is gone,
    /// and will be taken out. null: the store is in a file.
    expires_in_ms: Option<i64>,
    /// Whether it is the one that answers.
    is_self: bool,
    /// How many of the 256 leases it holds: it sends for the merchants of those.
    leases: u32,
}

/// What makes a database slow in which rows come and go.
#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct DatabaseItem {
    /// The oldest snapshot, which keeps what was deleted since from being vacuumed away; null: nobody has one.
    oldest_snapshot: Option<SnapshotItem>,
    /// Rows of the tables that change most that are to be vacuumed away, as far as the database has counted.
    dead_rows: DeadRowsItem,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct SnapshotItem {
    /// Who has it: `session`, a connection of any program; `prepared_transaction`; or `replica`.
    #[schemars(schema_with = "schema::snapshot_holders")]
    holder: &'static str,
    /// How many transactions that write have begun since, in all databases of that server.
    transactions: u64,
    /// How long its transaction has been open, in milliseconds; null: that is not known, or not shown to the server.
    open_ms: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
struct DeadRowsItem {
    /// Of events.
    event: u64,
    /// Of deliveries.
    delivery: u64,
    /// Of attempts.
    attempt: u64,
}

impl From<Cluster> for ClusterItem {
    fn from(cluster: Cluster) -> Self {
        Self {
            nodes: cluster.nodes.into_iter().map(NodeItem::from).collect(),
            free_leases: cluster.free_leases,
            database: cluster.database.map(DatabaseItem::from),
        }
    }
}

impl From<Member> for NodeItem {
    fn from(node: Member) -> Self {
        Self {
            node_id: node.node_id.map(|id| id.0),
            name: node.name,
            version: node.version,
            roles: node.roles,
            started_at: node.started_at.rfc3339_ms(),
            expires_in_ms: node.expires_in_ms,
            is_self: node.is_self,
            leases: node.leases,
        }
    }
}

impl From<DatabaseHealth> for DatabaseItem {
    fn from(health: DatabaseHealth) -> Self {
        let DeadRows { event, delivery, attempt } = health.dead_rows;
        Self {
            oldest_snapshot: health.oldest_snapshot.map(SnapshotItem::from),
            dead_rows: DeadRowsItem { event, delivery, attempt },
        }
    }
}

impl From<Snapshot> for SnapshotItem {
    fn from(snapshot: Snapshot) -> Self {
        let open_ms = snapshot.open_for.map(|open| open.as_millis().try_into().unwrap_or(u64::MAX));
        Self { holder: snapshot.holder.name(), transactions: snapshot.transactions, open_ms }
    }
}
