//! Looking whether a store is as it has to be: healthy, broken in every way, and
//! while a server works on it, in both engines.

mod planted;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::common::postgres::Postgres;
use crate::common::{Http, PATIENCE, http_client, post};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A store in one of the engines.
struct Place {
    folder: TempDir,
    store: String,
    server: Option<&'static Postgres>,
}

impl Place {
    fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: "sqlite:one.db".to_owned(), server: None }
    }

    /// One in each engine that this machine has.
    fn each() -> Vec<Self> {
        let Some(server) = Postgres::shared() else {
            tools::left_out("checking a store in PostgreSQL: it is not installed; tests/run installs it");
            return vec![Self::sqlite()];
        };
        let (folder, store) = (tempfile::tempdir().unwrap(), server.schema());
        vec![Self::sqlite(), Self { folder, store, server: Some(server) }]
    }

    fn is_sqlite(&self) -> bool {
        self.server.is_none()
    }

    fn serve(&self) -> Running {
        self.serve_with(&[])
    }

    fn serve_with(&self, more: &[&str]) -> Running {
        Running::serve(self.folder.path(), &[&["--dev", "--store", &self.store][..], more].concat())
    }

    fn stop(server: &mut Running) {
        server.signal("TERM");
        assert_eq!(server.code(), Some(0), "{}", server.said());
    }

    /// Runs statements that break what the store never would.
    fn plant(&self, sql: &str) {
        match self.server {
            Some(server) => drop(server.run_in(&self.store, &format!("SET session_replication_role = replica; {sql}"))),
            None => {
                let file = rusqlite::Connection::open(self.folder.path().join("one.db")).unwrap();
                file.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).unwrap();
            }
        }
    }

    fn check(&self, args: &[&str]) -> Output {
        run(self.folder.path(), &[&["check", "--store", &self.store], args].concat())
    }

    /// How much is looked at in a store that is well.
    fn looked_at(&self) -> Value {
        let checked = self.check(&["--json"]);
        let told: Value = serde_json::from_slice(&checked.stdout).unwrap_or_else(|_| panic!("{}", stderr(&checked)));
        assert!(checked.status.success() && told["faults_found"] == 0, "{told}");
        told["looked_at"].clone()
    }

    /// The faults, each as where it is and what is expected there, in order.
    fn faults(&self) -> Vec<String> {
        let checked = self.check(&["--max", "1000"]);
        let told = String::from_utf8(checked.stdout.clone()).unwrap();
        let mut lines: Vec<&str> = told.lines().collect();
        let summary = lines.pop().unwrap_or_else(|| panic!("{}", stderr(&checked)));
        assert!(summary.contains(&format!("; faults {};", lines.len())), "{told}");
        assert_eq!(checked.status.code(), Some(i32::from(!lines.is_empty())), "{told}");
        let short = |line: &str| {
            let (place, rest) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            let (_, expected) = rest.split_once("; expected: ").unwrap_or_else(|| panic!("{line}"));
            format!("{place}: {expected}")
        };
        let mut faults: Vec<_> = lines.into_iter().map(short).collect();
        faults.sort();
        faults
    }
}

/// The demo user's calls.
#[derive(Clone)]
pub struct Caller {
    client: Http,
    url: String,
}

impl Caller {
    pub fn of(server: &Running) -> Self {
        Self { client: http_client(), url: server.url.clone() }
    }

    /// The result, or null where there is a fault.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (status, answer) =
            post(&self.client, &self.url, &[("authorization", &basic("demo", "demo-key"))], body).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["result"].clone()
    }

    pub async fn webhook(&self, definition: Value) -> i64 {
        let made = self.call("webhook.create", json!([null, definition, true])).await;
        made["webhook_id"].as_i64().unwrap_or_else(|| panic!("{made}"))
    }

    async fn publish(&self, topic: &str, count: usize) {
        let event = json!({"topic": topic, "message": {"order_id": 7}});
        let made = self.call("event.publish_many", json!([null, vec![event; count]])).await;
        assert!(made.is_array(), "{made}");
    }
}

#[test]
fn a_store_that_is_not_there_or_not_ours_is_not_checked() {
    let folder = tempfile::tempdir().unwrap();
    let check = |store: &str| run(folder.path(), &["check", "--store", store]);
    let missing = check("sqlite:one.db");
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("there is no such store"), "{}", stderr(&missing));
    assert!(!folder.path().join("one.db").exists());
    stdout(&run(folder.path(), &["user", "create", "ann", "--merchant", "acme", "--store", "sqlite:one.db"]));
    let file = rusqlite::Connection::open(folder.path().join("one.db")).unwrap();
    file.execute_batch("PRAGMA user_version = 5").unwrap();
    let older = check("sqlite:one.db");
    assert_eq!(older.status.code(), Some(1));
    assert!(stderr(&older).contains("was written by an older tallyhook (schema 5;"), "{}", stderr(&older));
    assert_eq!(run(folder.path(), &["check", "--max", "many"]).status.code(), Some(2));
    if let Some(server) = Postgres::shared() {
        let empty = check(&server.schema());
        assert!(stderr(&empty).contains("there is no such store"), "{}", stderr(&empty));
    }
}

/// Nothing of it is changed, and nothing is left beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_store_is_well() {
    for place in Place::each() {
        let mut server = place.serve();
        let caller = Caller::of(&server);
        let ids = [caller.webhook(pulled("order:*")).await, caller.webhook(pulled("order:*")).await];
        caller.publish("order:created", 5).await;
        caller.call("delivery.cancel", json!([null, ids[0], 2])).await;
        let beside = stdout(&place.check(&[]));
        assert!(
            beside.starts_with("looked at: webhooks 2, deliveries 10, events 5, attempts 0; faults 0; "),
            "{beside}"
        );
        Place::stop(&mut server);
        let files = || {
            let all = std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().path());
            all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
        };
        let before = files();
        assert_eq!(place.looked_at(), json!({"webhooks": 2, "deliveries": 10, "events": 5, "attempts": 0}));
        let told: Value = serde_json::from_str(&stdout(&place.check(&["--json"]))).unwrap();
        assert_eq!((&told["faults_found"], &told["faults"]), (&json!(0), &json!([])));
        assert!(told["seconds"].is_f64() && told["store"].is_string(), "{told}");
        assert_eq!(files().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        assert!(files() == before);
    }
}

fn pulled(topics: &str) -> Value {
    json!({"topics": topics, "delivery_mode": "pull"})
}

/// Whatever may be done to deliveries is done meanwhile: sent, tried again, sent in
/// batches, pulled, cancelled, sent again, backfilled, deleted. In its second life
/// the server prunes what has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_raises_no_alarm() {
    const CALLS: usize = 20;
    const PUBLISHERS: usize = 3;
    const EVENTS: u64 = (PUBLISHERS * CALLS * 20) as u64;
    for place in Place::each() {
        let mut server = place.serve_with(&[]);
        let caller = Caller::of(&server);
        let count = AtomicUsize::new(0);
        let receiver = Receiver::start(move |_, _| {
            Reply::status(if count.fetch_add(1, Ordering::Relaxed) % 4 == 3 { 503 } else { 204 })
        })
        .await;
        let batch = json!({"max_events": 7, "wait_ms": 20});
        let pushed = json!({"topics": "*", "url": receiver.url(), "retry": [1, 1]});
        let batched = json!({"topics": "*", "url": receiver.url(), "retry": [1, 1], "batch": batch});
        let ids =
            [caller.webhook(pushed).await, caller.webhook(batched).await, caller.webhook(pulled("order:*")).await];
        let publishers: Vec<_> = (0..PUBLISHERS).map(|_| tokio::spawn(publish(caller.clone(), CALLS))).collect();
        let is_published = || publishers.iter().all(JoinHandle::is_finished);
        busy(&place, caller, ids, |_, has_done_all| has_done_all && is_published()).await;
        for publisher in publishers {
            publisher.await.unwrap();
        }
        let all = place.looked_at();
        assert!(all["deliveries"].as_u64().unwrap() > EVENTS * 5 / 2, "{all}");
        assert!(all["attempts"].as_u64().unwrap() > 0 && all["events"].as_u64().unwrap() >= EVENTS, "{all}");
        Place::stop(&mut server);

        let server = place.serve_with(&["--retention-days", "0", "--body-retention-days", "0"]);
        let is_pruned = |looked_at: &Value, _| looked_at["events"].as_u64().unwrap() < EVENTS;
        busy(&place, Caller::of(&server), ids, is_pruned).await;
    }
}

async fn publish(caller: Caller, calls: usize) {
    for call in 0..calls {
        caller.publish(["order:created", "stock:changed"][call % 2], 20).await;
    }
}

/// Checks the store while its owner is busy with it, at least so often and until it
/// is enough; his calls of each kind have succeeded by then, if they can.
async fn busy(place: &Place, caller: Caller, ids: [i64; 3], is_enough: impl Fn(&Value, bool) -> bool) {
    const CHECKS_MIN: usize = 10;
    let (is_done, done, began) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicUsize; 5]>::default(), Instant::now());
    let owner = tokio::spawn(meddle(caller, ids, Arc::clone(&is_done), Arc::clone(&done)));
    for checks in 1.. {
        assert!(began.elapsed() < PATIENCE, "after {checks} checks: {done:?}");
        let looked_at = tokio::task::block_in_place(|| place.looked_at());
        let has_done_all = done.iter().all(|count| count.load(Ordering::Relaxed) > 0);
        if checks >= CHECKS_MIN && is_enough(&looked_at, has_done_all) {
            break;
        }
    }
    is_done.store(true, Ordering::Relaxed);
    owner.await.unwrap();
}

/// What succeeded of each, so far.
async fn meddle(
    caller: Caller,
    [pushed, batched, taken]: [i64; 3],
    is_done: Arc<AtomicBool>,
    done: Arc<[AtomicUsize; 5]>,
) {
    let (mut after, mut number) = (0, 1);
    while !is_done.load(Ordering::Relaxed) {
        let pulled_now = caller.call("delivery.pull", json!([null, taken, after, 30])).await;
        after = pulled_now.as_array().and_then(|all| all.last()?["increment_id"].as_i64()).unwrap_or(after);
        let short = caller.webhook(pulled("order:*")).await;
        let span = json!({"from_increment_id": number, "to_increment_id": number + 20});
        let calls = [
            // It was pulled, and is not acknowledged yet.
            ("delivery.cancel", json!([null, taken, after])),
            ("delivery.retry", json!([null, pushed, number])),
            ("webhook.replay", json!([null, pushed, span.clone()])),
            ("webhook.backfill", json!([null, short, {"all": true}])),
            ("webhook.delete", json!([null, short])),
            // These meet what they meet.
            ("delivery.cancel", json!([null, batched, number + 40, true])),
            ("webhook.replay", json!([null, batched, span])),
        ];
        for (place, (method, params)) in calls.into_iter().enumerate() {
            let has_succeeded = !caller.call(method, params).await.is_null();
            if let Some(done) = done.get(place) {
                done.fetch_add(usize::from(has_succeeded), Ordering::Relaxed);
            }
        }
        number = number % 200 + 10;
    }
}
