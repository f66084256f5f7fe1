//! The same behind a pooler of transactions, which lends each the next best session of
//! the database.

use super::*;
use crate::common::bouncer::Bouncer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_of_transactions_may_stand_in_between() {
    let Some(server) = Postgres::shared() else {
        return left_out("servers behind PgBouncer: PostgreSQL is not installed; tests/run installs it");
    };
    let Some(bouncer) = Bouncer::start(server) else {
        return left_out("servers behind PgBouncer: it is not installed; tests/run installs it");
    };
    let (store, direct) = bouncer.database();
    let seed = setting("TALLYHOOK_CLUSTER_SEED", fastrand::u64(..1_000_000));
    println!("TALLYHOOK_CLUSTER_SEED={seed} tells the same story");
    tell(seed, EVENTS / 2, server, store).await;
    // Nothing of what a transaction was told stays in the session that it had.
    let left = server.run_in(
        &direct,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'",
    );
    assert_eq!(left, "0");
}

/// What one node publishes the one that sends is told at once, though each look at the
/// store is minutes away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_behind_a_pooler_hear_one_another_at_a_direct_address() {
    let Some(server) = Postgres::shared() else {
        return left_out("news beside PgBouncer: PostgreSQL is not installed; tests/run installs it");
    };
    let Some(bouncer) = Bouncer::start(server) else {
        return left_out("news beside PgBouncer: it is not installed; tests/run installs it");
    };
    let (store, direct) = bouncer.database();
    let start = move || {
        let mut cluster = Cluster::start(store, 0, &["--store-notify-url", &direct, "--store-poll-ms", "600000"]);
        cluster.flags.extend(["--roles".to_owned(), "api".to_owned()]);
        cluster.join();
        cluster.flags.truncate(4);
        cluster.flags.extend(["--roles".to_owned(), "send".to_owned()]);
        cluster.join();
        cluster
    };
    let mut cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let (client, receiver) = (common::http_client(), Receiver::obliging().await);
    let (told, _) = watch::channel(Told::default());
    let data = json!({"topics": "order:*", "url": receiver.url()});
    let url = &cluster.nodes[0].url;
    call(&client, url, 0, ("webhook.create", json!([null, data, true])), PATIENCE, &told).await.unwrap();
    for event in 0..3 {
        let publish = ("event.publish", json!([null, "order:created", {"n": event}]));
        call(&client, url, 0, publish, PATIENCE, &told).await.unwrap();
        receiver.arrivals(event + 1).await;
    }
    cluster.nodes.iter_mut().for_each(Process::stop);
}
