//! What nodes tell of one another, and of their database.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use tallyhook::domain::cluster::{Cluster, Member, SnapshotHolder};
use tallyhook::store::Nodes;
use tallyhook::store::admin;

use super::*;

async fn seen_by(store: &PostgresStore, asker: MerchantId) -> Cluster {
    store.nodes(asker.into()).await.unwrap().expect("it may be shared")
}

fn own(cluster: &Cluster) -> &Member {
    let own: Vec<_> = cluster.nodes.iter().filter(|node| node.is_self).collect();
    assert_eq!(own.len(), 1, "{cluster:?}");
    own[0]
}

#[tokio::test]
async fn nodes_tell_of_one_another() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let alone = seen_by(&bench.store, bench.acme).await;
    assert_eq!((alone.nodes.len(), own(&alone).leases, alone.free_leases), (1, 256, 0), "{alone:?}");
    let first = own(&alone).clone();
    assert_eq!((first.name.as_str(), first.version.as_str()), ("test", env!("CARGO_PKG_VERSION")));
    assert_eq!(first.roles, ["api", "send"]);
    assert!(first.expires_in_ms.is_some_and(|ms| (1..=60_000).contains(&ms)), "{first:?}");

    let other = Node::with(&bench, |config| config.node.name = "other".to_owned());
    until("the leases are shared", || leases(&bench.mailbox) + leases(&other.mailbox) == 256).await;
    let (ours, theirs) = (seen_by(&bench.store, bench.acme).await, seen_by(&other.store, bench.acme).await);
    let ids = |cluster: &Cluster| cluster.nodes.iter().map(|node| node.node_id).collect::<Vec<_>>();
    assert_eq!(ids(&ours), ids(&theirs));
    assert_eq!(own(&ours).node_id, first.node_id);
    assert_eq!((own(&theirs).name.as_str(), own(&theirs).node_id), ("other", ids(&ours)[1]), "in the order of starts");
    let held: Vec<_> = ours.nodes.iter().map(|node| node.leases as usize).collect();
    assert_eq!(held, [leases(&bench.mailbox), leases(&other.mailbox)]);
    let api_only = Node::with(&bench, |config| config.node.sends = false);
    let three = seen_by(&api_only.store, bench.acme).await;
    assert_eq!((three.nodes.len(), own(&three).leases, own(&three).roles.as_slice()), (3, 0, &["api".to_owned()][..]));

    // Beside them, it is the same, and nobody's own.
    let config = crate::suite::Place::config(&*bench.place);
    let beside = tokio::task::spawn_blocking(move || admin::nodes(&config)).await.unwrap();
    let beside = beside.unwrap().expect("it may be shared");
    assert_eq!(ids(&beside), ids(&three));
    assert!(beside.nodes.iter().all(|node| !node.is_self), "{beside:?}");

    other.store.close();
    api_only.store.close();
    until("the other takes all back", || leases(&bench.mailbox) == 256).await;
    let alone = seen_by(&bench.store, bench.acme).await;
    assert_eq!((ids(&alone), own(&alone).leases), (vec![first.node_id], 256));
}

#[tokio::test]
async fn what_nobody_holds_is_told() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let server = Postgres::shared().expect("it is there");
    // As if others had them that are gone; this node looks every 15 s.
    server.run_in(&bench.place, "UPDATE lease SET node_id = NULL WHERE bucket < 2");
    server.run_in(&bench.place, "UPDATE lease SET node_id = 1000000 WHERE bucket = 2");
    let seen = seen_by(&bench.store, bench.acme).await;
    assert_eq!((seen.free_leases, own(&seen).leases), (3, 253), "{seen:?}");
    // One that has not said in time that it is there, and nobody has noticed.
    server.run_in(
        &bench.place,
        "INSERT INTO node (name, version, roles, sends, started_at, expires_at) VALUES ('gone', '0', 'send', TRUE, 0, 1)",
    );
    let seen = seen_by(&bench.store, bench.acme).await;
    let gone = seen.nodes.iter().find(|node| node.name == "gone").expect("it stands there");
    assert!(gone.expires_in_ms.is_some_and(|ms| ms < 0) && gone.roles == ["send"] && !gone.is_self, "{gone:?}");
}

/// A node that others took to be gone goes on as another.
#[tokio::test]
async fn a_node_that_begins_anew_knows_itself() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let quick = Node::with(&bench, |config| config.node.lease_ttl = Duration::from_secs(2));
    let before = own(&seen_by(&quick.store, bench.acme).await).node_id.expect("it has a number");
    let server = Postgres::shared().expect("it is there");
    server.run_in(&bench.place, &format!("DELETE FROM node WHERE node_id = {before}"));
    until("it is another node", || quick.mailbox.tending().node() != Some(before)).await;
    let after = seen_by(&quick.store, bench.acme).await;
    assert_eq!(own(&after).node_id, quick.mailbox.tending().node());
    assert_eq!(after.nodes.len(), 2);
}

/// A transaction that somebody has left open, until it is dropped.
struct Open(Child);

impl Open {
    fn new(url: &str) -> Self {
        let mut psql = Command::new("psql");
        psql.args(["-XAtq"]).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().unwrap();
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'begun';\n";
        psql.stdin.as_mut().expect("it is piped").write_all(begin.as_bytes()).unwrap();
        let mut said = String::new();
        BufReader::new(psql.stdout.take().expect("it is piped")).read_line(&mut said).unwrap();
        assert_eq!(said, "begun\n");
        Self(psql)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_holds_vacuum_back_is_told() {
    if !has_own_sessions() {
        return;
    }
    let bench = Bench::new();
    let server = Postgres::shared().expect("it is there");
    bench.webhook("*").await;
    bench.publish("order:created").await;
    bench.publish("order:created").await;
    let open = Open::new(&bench.place);
    for _ in 0..20 {
        server.run_in(&bench.place, "UPDATE event SET topic = topic");
    }
    let seen = seen_by(&bench.store, bench.acme).await.database.expect("it is a database");
    let oldest = seen.oldest_snapshot.expect("one is open");
    assert_eq!(oldest.holder, SnapshotHolder::Session);
    assert!(oldest.transactions >= 20 && oldest.open_for.is_some(), "{oldest:?}");
    assert!(seen.dead_rows.event >= 38, "{:?}", seen.dead_rows);
    drop(open);
}

/// Of others' sessions, who is no superuser is not told since when they are open.
#[tokio::test]
async fn who_is_no_superuser_sees_enough() {
    if !has_own_sessions() {
        return;
    }
    let server = Postgres::shared().expect("it is there");
    let url = server.schema();
    let schema = server.run_in(&url, "SELECT current_schema()");
    server.run(&format!("CREATE ROLE plain LOGIN; ALTER SCHEMA {schema} OWNER TO plain"));
    let plain = url.replacen("hook@", "plain@", 1);
    assert_ne!(plain, url);
    let mailbox = PostgresStore::mailbox();
    let (clock, _hand) = Clock::manual(START);
    let store = PostgresStore::open(config(&plain, &Settings::default()), clock, mailbox, &Metrics::default()).unwrap();
    let open = Open::new(&url);
    for _ in 0..20 {
        server.run_in(&url, "SELECT txid_current()");
    }
    let seen = seen_by(&store, MerchantId(1)).await;
    let oldest = seen.database.expect("it is a database").oldest_snapshot.expect("one is open");
    assert!(oldest.transactions >= 20, "{oldest:?}");
    assert_eq!((oldest.holder, oldest.open_for), (SnapshotHolder::Session, None));
    drop(open);
    store.close();
}
