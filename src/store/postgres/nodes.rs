//! Which nodes share the database, and how it is doing.
//!
//! All of it can be read by whoever may connect; of other users' sessions the
//! database hides since when they are open, but not how old their snapshots are.

use std::time::Duration;

use super::config::Config;
use super::migrating;
use super::session::Session;
use super::taking_over::NOW;
use crate::domain::cluster::{Cluster, DatabaseHealth, DeadRows, Member, Snapshot, SnapshotHolder};
use crate::domain::node::NodeId;
use crate::store::error::StoreError;
use crate::store::sql::codes::bad;
use crate::store::sql::db::{all, one, values};
use crate::store::sql::{Db, Row};

type Result<T> = std::result::Result<T, StoreError>;

/// The most nodes that are told of, those that began first; there are no more leases.
const NODES_MAX: u32 = 256;

/// How old the oldest snapshot is that keeps dead rows from being vacuumed away, and
/// how many of those there are. A session has one while a statement runs, or as long
/// as its transaction goes on if that is REPEATABLE READ or has written. Without a
/// database it is a replica's, which holds all databases back. That of a VACUUM holds
/// no other back, and the one that is looked through now is no news.
const HEALTH: &str =
    "SELECT rows.event, rows.delivery, rows.attempt, oldest.holder, oldest.transactions, oldest.open_ms
    FROM (SELECT pg_stat_get_dead_tuples('event'::regclass) AS event,
        pg_stat_get_dead_tuples('delivery'::regclass) AS delivery,
        pg_stat_get_dead_tuples('attempt'::regclass) AS attempt) rows
    LEFT JOIN (SELECT * FROM (
        SELECT CASE WHEN datname IS NULL THEN 'replica' ELSE 'session' END AS holder,
            greatest(age(backend_xmin), age(backend_xid))::bigint AS transactions,
            (extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint AS open_ms
        FROM pg_stat_activity
        WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND pid <> pg_backend_pid()
            AND coalesce(datname, current_database()) = current_database()
            AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
        UNION ALL
        SELECT 'prepared_transaction', age(transaction)::bigint,
            (extract(epoch FROM clock_timestamp() - prepared) * 1000)::bigint
        FROM pg_prepared_xacts WHERE database = current_database()
        UNION ALL
        SELECT 'replica', age(xmin)::bigint, NULL FROM pg_replication_slots WHERE xmin IS NOT NULL
    ) held ORDER BY transactions DESC, open_ms DESC NULLS LAST LIMIT 1) oldest ON TRUE";

/// The nodes that share the database, as one of them or nobody of them sees it.
pub fn cluster(db: &mut dyn Db, own: Option<NodeId>) -> Result<Cluster> {
    // At one moment: each lease is a node's, or nobody's. What is nobody's comes first,
    // in a row without a node.
    let sql = format!(
        "SELECT n.node_id, n.name, n.version, n.roles, n.started_at, n.expires_at - {NOW}, coalesce(held.leases, 0)
            FROM node n FULL JOIN (SELECT holder.node_id, count(*) AS leases FROM lease
                LEFT JOIN node holder ON holder.node_id = lease.node_id GROUP BY holder.node_id) held
            ON held.node_id = n.node_id ORDER BY n.node_id NULLS FIRST LIMIT $1"
    );
    let (mut nodes, mut free_leases) = (Vec::new(), 0);
    for found in all(db, &sql, values![NODES_MAX + 1], |row| row_of(row, own))? {
        match found {
            Found::Node(node) => nodes.push(node),
            Found::Free(leases) => free_leases = leases,
        }
    }
    nodes.truncate(NODES_MAX as usize);
    let database = one(db, HEALTH, &[], health)?;
    Ok(Cluster { nodes, free_leases, database })
}

/// The same beside the servers, of a database that holds a store. Blocks.
pub fn look(config: &Config) -> Result<Cluster> {
    let mut session = Session::open(&config.database)?;
    session.only_read()?;
    migrating::check_version(&mut session)?;
    cluster(&mut session, None)
}

enum Found {
    Node(Member),
    /// So many leases are nobody's.
    Free(u32),
}

fn row_of(row: &dyn Row, own: Option<NodeId>) -> Result<Found> {
    let leases = row.count(6)?;
    let Some(node_id) = row.int_if(0)?.map(NodeId) else { return Ok(Found::Free(leases)) };
    Ok(Found::Node(Member {
        node_id: Some(node_id),
        name: row.string(1)?,
        version: row.string(2)?,
        roles: row.text(3)?.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        started_at: row.time(4)?,
        expires_in_ms: Some(row.int(5)?),
        is_self: own == Some(node_id),
        leases,
    }))
}

fn health(row: &dyn Row) -> Result<DatabaseHealth> {
    let holder = row.text_if(3)?.map(|name| {
        SnapshotHolder::ALL.into_iter().find(|holder| holder.name() == name).ok_or_else(|| bad("holder of a snapshot"))
    });
    let snapshot = |holder| -> Result<Snapshot> {
        let open_for = row.int_if(5)?.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        Ok(Snapshot { holder, transactions: row.amount(4)?, open_for })
    };
    Ok(DatabaseHealth {
        oldest_snapshot: holder.transpose()?.map(snapshot).transpose()?,
        dead_rows: DeadRows { event: row.amount(0)?, delivery: row.amount(1)?, attempt: row.amount(2)? },
    })
}
