//! Two servers under load while their database is killed, hangs, takes nothing, has no
//! room, has no connections left, and ends theirs: whoever publishes is told so in time,
//! nothing that was accepted is lost, no number is given out twice or left out, and no
//! server is started again.

use super::*;

/// How long a change may wait, and its transaction take.
const PATIENCE_MS: u64 = 1_500;
/// How long a statement may take.
const STATEMENT_MS: u64 = 2_000;
/// The longest that anybody waits for a fault: while it is looked up who he is, for his turn,
/// and for his transaction; and a moment.
const FAULT_MAX: Duration = Duration::from_millis(3 * PATIENCE_MS + 1_500);
/// Events that have to be accepted after each.
const EVENTS_BETWEEN: usize = 60;

impl Scene {
    fn refusals(&self, fault: i64) -> usize {
        self.told.borrow().faults.get(&fault).copied().unwrap_or(0)
    }

    /// Waits until so many more publishes are refused with nothing done.
    async fn refused(&self, more: usize, what: &str) {
        let (before, mut told) = (self.refusals(109), self.told.clone());
        let refused = told.wait_for(|told| told.faults.get(&109).is_some_and(|count| *count >= before + more));
        let is_refused = tokio::time::timeout(PATIENCE, refused).await.is_ok();
        assert!(is_refused, "{what}: nobody is told that nothing is done: {:?}", *self.told.borrow());
    }

    /// Waits until events are accepted again.
    async fn goes_on(&self, what: &str) {
        let begun = Instant::now();
        let accepted = *self.count.borrow();
        self.reached(accepted + EVENTS_BETWEEN).await;
        println!("{what}: {EVENTS_BETWEEN} were accepted after {:?}; {:?}", begun.elapsed(), *self.told.borrow());
    }

    /// What each node says to one who wants to read; how long it takes at the most.
    async fn read(&self, patience: Duration) -> Vec<Value> {
        let client = common::http_client();
        let mut answers = Vec::new();
        for node in &self.cluster.nodes {
            let (answer, took) = ask(&client, &node.url, 0, ("webhook.list", json!([null])), FAULT_MAX).await;
            assert!(took < patience, "{took:?} is long");
            answers.push(answer.expect("it answers"));
        }
        answers
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Ends all connections of the store's servers.
fn cut(server: &Postgres) {
    server.run("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_the_database_nothing_accepted_is_lost() {
    let Some(server) = Postgres::private(&[], &[]) else {
        return left_out("faults of a database: PostgreSQL is not installed; tests/run installs it");
    };
    // It lives as long as whoever waits for it on other threads.
    let server: &'static Postgres = Box::leak(Box::new(server));
    let seed = fastrand::u64(..1_000_000);
    let store = server.schema();
    let schema = store.rsplit("%3D").next().unwrap();
    server.run(&format!("CREATE ROLE app LOGIN; ALTER SCHEMA {schema} OWNER TO app"));
    let store = store.replace("hook@", "app@");
    let (patience, statement) = (PATIENCE_MS.to_string(), STATEMENT_MS.to_string());
    let start = move || {
        let flags = [
            "--store-poll-ms",
            "1000",
            "--publish-patience-ms",
            &patience,
            "--store-statement-timeout-ms",
            &statement,
            "--store-connect-timeout-ms",
            "1000",
            "--store-lock-timeout-ms",
            "500",
        ];
        Cluster::start(store, 2, &flags)
    };
    let cluster = blocking(start).await;
    let last = Arc::new(AtomicUsize::new(usize::MAX));
    let how = Publishing {
        urls: cluster.urls(),
        last: Arc::clone(&last),
        rest: Duration::from_millis(100),
        patience: FAULT_MAX,
        seed,
    };
    let scene = Scene::begin(cluster, how, 40).await;
    scene.goes_on("at first").await;

    blocking(|| server.kill()).await;
    scene.refused(3, "killed").await;
    for answer in scene.read(Duration::from_secs(2)).await {
        assert!(answer["error"]["data"]["retry_after_ms"].is_number(), "{answer}");
    }
    blocking(|| server.start_again()).await;
    scene.goes_on("killed").await;

    blocking(|| server.hang()).await;
    // Less than anybody's patience: it is as slow as that.
    tokio::time::sleep(Duration::from_millis(800)).await;
    blocking(|| server.go_on()).await;
    scene.goes_on("slow").await;

    blocking(|| server.hang()).await;
    scene.refused(3, "hung").await;
    for answer in scene.read(FAULT_MAX).await {
        assert!(answer["error"].is_object(), "{answer}");
    }
    blocking(|| server.go_on()).await;
    scene.goes_on("hung").await;

    let read_only = |is: bool| {
        let reload = move || {
            server.run(&format!("ALTER SYSTEM SET default_transaction_read_only = {is}"));
            server.run("SELECT pg_reload_conf()");
        };
        blocking(reload)
    };
    read_only(true).await;
    scene.refused(3, "read-only").await;
    for answer in scene.read(Duration::from_secs(2)).await {
        assert!(answer["result"].is_array(), "it can be read: {answer}");
    }
    read_only(false).await;
    scene.goes_on("read-only").await;

    let full = scene.cluster.store.clone();
    let has_room = full.clone();
    blocking(move || {
        server.run_in(
            &full,
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
            CREATE TRIGGER no_room BEFORE INSERT ON event EXECUTE FUNCTION no_room()",
        );
    })
    .await;
    scene.refused(3, "full").await;
    blocking(move || server.run_in(&has_room, "DROP TRIGGER no_room ON event; DROP FUNCTION no_room")).await;
    scene.goes_on("full").await;

    for _ in 0..3 {
        blocking(|| cut(server)).await;
        scene.goes_on("cut").await;
    }

    let limit = |connections: i32| {
        let set = move || {
            server.run(&format!("ALTER ROLE app CONNECTION LIMIT {connections}"));
            cut(server);
        };
        blocking(set)
    };
    limit(0).await;
    scene.refused(3, "crowded").await;
    limit(-1).await;
    scene.goes_on("crowded").await;

    last.store(0, Ordering::SeqCst);
    let told = scene.told.clone();
    scene.end(server, None).await;
    let told = told.borrow();
    assert!(told.longest < FAULT_MAX && told.unanswered == 0, "{told:?}");
}
