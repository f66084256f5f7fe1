//! `tallyhook node`: the servers that share a store.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::flags::StoreFlags;
use super::json::{pretty, safe};
use super::user::check_exists;
use super::{Failure, print, say, table};
use crate::api::rpc::ClusterItem;
use crate::domain::cluster::{Cluster, DatabaseHealth, DeadRows, Member, Snapshot, SnapshotHolder};
use crate::domain::node::BUCKETS;
use crate::store::admin;

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook node list --store postgres://hook@db/hooks
  tallyhook node list --store postgres://hook@db/hooks --json | jq '.nodes[].name'
  tallyhook call node.list      the same from a server, for a user with admin

Several servers may share a store in PostgreSQL. What they know of one another is
in the database, so this reads it there, and works when no server answers:
  EXPIRES  how long the others wait for its next word; a node that stays silent
           is taken out then, and others send in its place
  LEASES   of 256, those that it holds. A merchant is in one of them, and whoever
           holds that sends for him

Below that stands what is of all of them:
  leases that nobody holds   nothing is sent for the merchants of those; for more
                             than some seconds, no node that sends is there
  oldest snapshot            what was deleted since can't be vacuumed away: with
                             one that is minutes old, all becomes slow. It is of
                             a transaction that somebody has left open, one that
                             was prepared, or a replica
  dead rows                  what waits to be vacuumed away; if it only grows, the
                             oldest snapshot says why, or autovacuum is too slow

A store in a file has one server, which alone knows of itself: call node.list.";

/// What can be done with nodes.
#[derive(Subcommand)]
pub enum NodeCommand {
    /// List the servers that share a store, and what tells how they are doing together.
    List(ListArgs),
}

/// How to list them.
#[derive(Args)]
pub struct ListArgs {
    /// Print one JSON document, as node.list answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// Does it.
pub fn run(command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List(args) => list(&args),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let config = args.store.load()?.store;
    check_exists(&config)?;
    let Some(cluster) = admin::nodes(&config).map_err(Failure::failed)? else {
        return Err(Failure::failed(format!(
            "{config} is a file, which has one server; \"tallyhook call node.list\" asks that. \
             Name a store that is shared with --store postgres://..."
        )));
    };
    if args.json {
        let text = serde_json::to_string(&ClusterItem::from(cluster)).map_err(Failure::failed)?;
        return print(&pretty(&text));
    }
    if cluster.nodes.is_empty() {
        say("tallyhook: there are no servers now; \"tallyhook serve\" with this store starts one.");
    } else {
        let rows: Vec<_> = cluster.nodes.iter().map(row).collect();
        print(&format!("{}\n", table::of(&COLUMNS, &rows, table::width())))?;
    }
    print(&of_all(&cluster))
}

const COLUMNS: [&str; 7] = ["ID", "NAME", "VERSION", "ROLES", "STARTED", "EXPIRES", "LEASES"];

fn row(node: &Member) -> [String; 7] {
    [
        node.node_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        safe(&node.name),
        safe(&node.version),
        safe(&node.roles.join(",")),
        node.started_at.rfc3339_ms(),
        node.expires_in_ms.map_or_else(|| "-".to_owned(), expiry),
        node.leases.to_string(),
    ]
}

fn expiry(in_ms: i64) -> String {
    let time = seconds(Duration::from_millis(in_ms.unsigned_abs()));
    if in_ms < 0 { format!("{time} ago") } else { format!("in {time}") }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What is of all nodes together.
fn of_all(cluster: &Cluster) -> String {
    let leases = format!("leases that nobody holds: {} of {BUCKETS}", cluster.free_leases);
    let Some(DatabaseHealth { oldest_snapshot, dead_rows }) = &cluster.database else { return leases };
    let DeadRows { event, delivery, attempt } = dead_rows;
    let oldest = oldest_snapshot.as_ref().map_or_else(|| "none".to_owned(), snapshot);
    format!("{leases}\noldest snapshot: {oldest}\ndead rows: event {event}, delivery {delivery}, attempt {attempt}")
}

fn snapshot(Snapshot { holder, transactions, open_for }: &Snapshot) -> String {
    let whose = match holder {
        SnapshotHolder::Session => "a session's",
        SnapshotHolder::PreparedTransaction => "a prepared transaction's",
        SnapshotHolder::Replica => "a replica's",
    };
    let open = open_for.map_or_else(String::new, |open| format!(", open for {}", seconds(open)));
    format!("{whose}, {transactions} transactions old{open}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_all_nodes_reads_well() {
        let dead_rows = DeadRows { event: 1, delivery: 20, attempt: 0 };
        let mut cluster = Cluster {
            nodes: Vec::new(),
            free_leases: 3,
            database: Some(DatabaseHealth { oldest_snapshot: None, dead_rows }),
        };
        let expected = "\
leases that nobody holds: 3 of 256
oldest snapshot: none
dead rows: event 1, delivery 20, attempt 0";
        assert_eq!(of_all(&cluster), expected);
        let told = |holder, open_for| snapshot(&Snapshot { holder, transactions: 12, open_for });
        let open = Some(Duration::from_millis(61_250));
        let session = told(SnapshotHolder::Session, open);
        assert_eq!(session, "a session's, 12 transactions old, open for 61.2 s");
        assert_eq!(told(SnapshotHolder::Replica, None), "a replica's, 12 transactions old");
        cluster.database = None;
        assert_eq!(of_all(&cluster), "leases that nobody holds: 3 of 256");
        assert_eq!((expiry(4_200), expiry(-12_000)), ("in 4.2 s".to_owned(), "12.0 s ago".to_owned()));
    }
}
