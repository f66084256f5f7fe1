//! Three servers on one database under load, while one is killed, and another is
//! stopped for longer than its word counts and then goes on: nothing that was
//! accepted is lost, each webhook's numbers have no hole, ordered webhooks get
//! theirs in order, and no webhook waits for longer than it takes to notice.

mod faults;
mod pooled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::Clock;
use tallyhook::domain::user::{Permissions, Profile};
use tallyhook::store::admin::{Admin, NewUser};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::postgres::Postgres;
use crate::common::{self, Http, PATIENCE, Receiver, Reply, basic};
use crate::postgres::admin_config;
use crate::process::{PROGRAM, Process};
use crate::tools::{self, left_out};

/// Stories that are told; more by `TALLYHOOK_CLUSTER_SEEDS`.
const SEEDS: u64 = 3;
/// Stories that are told at once.
const AT_ONCE: usize = 2;
/// Events of one; more by `TALLYHOOK_CLUSTER_EVENTS`.
const EVENTS: usize = 600;
const MERCHANTS: usize = 6;
const PUBLISHERS: usize = 12;
const NODES: usize = 3;
/// How long a node's word counts.
const LEASE_TTL: Duration = Duration::from_secs(3);
/// How long a publisher waits for an answer before it asks another node.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// When each number of a webhook first arrived, and with which event.
type Arrivals = BTreeMap<i64, Vec<(Instant, i64, i64)>>;

struct Cluster {
    nodes: Vec<Process>,
    folder: tempfile::TempDir,
    store: String,
    flags: Vec<String>,
}

impl Cluster {
    /// So many nodes on an empty store, started with these flags besides.
    fn start(store: String, nodes: usize, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut admin = Admin::open(&admin_config(&store)).unwrap();
        for merchant in 0..MERCHANTS {
            let name = format!("m{merchant}");
            let user = NewUser {
                name: &name,
                merchant: &name,
                permissions: Permissions::all(),
                key: KeyHash::of(&name),
                is_demo: false,
                profile: Profile::default(),
            };
            admin.create_user(&user, Clock::system().now()).unwrap();
        }
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut cluster = Self { nodes: Vec::new(), folder, store, flags };
        (0..nodes).for_each(|_| cluster.join());
        cluster
    }

    fn join(&mut self) {
        let log = self.folder.path().join(format!("node-{}.log", self.nodes.len()));
        let ttl = LEASE_TTL.as_millis().to_string();
        let mut flags = vec!["--lease-ttl-ms", &ttl];
        flags.extend(self.flags.iter().map(String::as_str));
        self.nodes.push(Process::with_store(&self.store, log, &flags));
    }

    fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }
}

/// What callers were told instead of what they asked for.
#[derive(Debug, Default)]
struct Told {
    /// How often each fault.
    faults: BTreeMap<i64, usize>,
    /// The longest that a fault took.
    longest: Duration,
    unanswered: usize,
}

/// A call as the user of a merchant; what it is answered, if it is, and how long that
/// takes.
async fn ask(
    client: &Http,
    url: &str,
    merchant: usize,
    (method, params): (&str, Value),
    patience: Duration,
) -> (Option<Value>, Duration) {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let name = format!("m{merchant}");
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .header("authorization", basic(&name, &name))
        .body(Full::new(body.into()))
        .unwrap();
    let begun = Instant::now();
    let exchange = async { client.request(request).await.ok()?.into_body().collect().await.ok() };
    // If one stands still, another is asked.
    let bytes = tokio::time::timeout(patience, exchange).await.ok().flatten();
    (bytes.and_then(|bytes| serde_json::from_slice(&bytes.to_bytes()).ok()), begun.elapsed())
}

/// The same; `None` if there is no answer, or a refusal for now.
async fn call(
    client: &Http,
    url: &str,
    merchant: usize,
    (method, params): (&str, Value),
    patience: Duration,
    told: &watch::Sender<Told>,
) -> Option<Value> {
    let (answer, took) = ask(client, url, merchant, (method, params), patience).await;
    let Some(answer) = answer else {
        told.send_modify(|told| told.unanswered += 1);
        return None;
    };
    let Some(error) = answer.get("error") else { return Some(answer["result"].clone()) };
    let code = error["code"].as_i64().unwrap();
    // A commit that failed may stand or not: the same key asks again.
    assert!([1, 109].contains(&code), "{method}: {answer}");
    told.send_modify(|told| {
        *told.faults.entry(code).or_default() += 1;
        told.longest = told.longest.max(took);
    });
    None
}

/// How events are published.
#[derive(Clone)]
struct Publishing {
    urls: Vec<String>,
    /// The last one, which may be set while they are published.
    last: Arc<AtomicUsize>,
    /// How long each publisher rests after one.
    rest: Duration,
    patience: Duration,
    seed: u64,
}

/// Publishes events from 1 on by turns for each merchant, each at any node until it is
/// accepted; event by webhook and number.
async fn publish_all(
    how: Publishing,
    count: watch::Sender<usize>,
    told: watch::Sender<Told>,
) -> BTreeMap<(i64, i64), i64> {
    let accepted = Arc::new(Mutex::new(BTreeMap::new()));
    let next = Arc::new(AtomicUsize::new(1));
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let (how, accepted, count, next) = (how.clone(), Arc::clone(&accepted), count.clone(), Arc::clone(&next));
        let (mut random, told) = (fastrand::Rng::with_seed(how.seed ^ publisher as u64), told.clone());
        tokio::spawn(async move {
            let client = common::http_client();
            loop {
                let event = next.fetch_add(1, Ordering::SeqCst);
                if event > how.last.load(Ordering::SeqCst) {
                    return;
                }
                let options = json!({"idempotency_key": format!("event {event}")});
                let params = json!([null, "order:created", {"n": event}, options]);
                let begun = Instant::now();
                let receipt = loop {
                    let url = &how.urls[random.usize(..how.urls.len())];
                    let publish = ("event.publish", params.clone());
                    match call(&client, url, event % MERCHANTS, publish, how.patience, &told).await {
                        Some(receipt) => break receipt,
                        None => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                    assert!(begun.elapsed() < PATIENCE, "event {event} is not accepted");
                };
                for delivery in receipt["deliveries"].as_array().unwrap() {
                    let key = (delivery["webhook_id"].as_i64().unwrap(), delivery["increment_id"].as_i64().unwrap());
                    let earlier = accepted.lock().unwrap().insert(key, event as i64);
                    assert!(earlier.is_none_or(|earlier| earlier == event as i64), "{key:?} was given out twice");
                }
                count.send_modify(|count| *count += 1);
                tokio::time::sleep(how.rest).await;
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    Arc::try_unwrap(accepted).unwrap().into_inner().unwrap()
}

/// Nodes under load, and what has come of it so far.
struct Scene {
    cluster: Cluster,
    arrivals: Arc<Mutex<Arrivals>>,
    is_seen: watch::Receiver<BTreeSet<(i64, i64)>>,
    ordered: Vec<i64>,
    count: watch::Receiver<usize>,
    told: watch::Receiver<Told>,
    publishing: JoinHandle<BTreeMap<(i64, i64), i64>>,
    seed: u64,
}

impl Scene {
    /// Begins to publish at all nodes, for three webhooks of each merchant, of whose
    /// receiver every so many requests fail.
    async fn begin(cluster: Cluster, how: Publishing, fails: u64) -> Self {
        let arrivals = Arc::new(Mutex::new(Arrivals::new()));
        let kept = Arc::clone(&arrivals);
        let (seen, is_seen) = watch::channel(BTreeSet::new());
        let receiver = Receiver::start(move |place, arrived| {
            if place as u64 % fails == fails - 1 {
                return Reply::status(503);
            }
            let now = Instant::now();
            let id = arrived.header("webhook-id").split('_').nth(2).unwrap().parse().unwrap();
            let mut kept = kept.lock().unwrap();
            for (number, message) in arrived.events() {
                kept.entry(id).or_default().push((now, number, message["n"].as_i64().unwrap()));
                seen.send_if_modified(|seen| seen.insert((id, number)));
            }
            Reply::status(204)
        })
        .await;
        let (telling, told) = watch::channel(Told::default());
        let client = common::http_client();
        let mut ordered = Vec::new();
        for merchant in 0..MERCHANTS {
            for (mode, batch) in [
                ("parallel", Value::Null),
                ("ordered", Value::Null),
                ("parallel", json!({"max_events": 10, "wait_ms": 5})),
            ] {
                let retry = json!({"max_retries": 100, "interval_seconds": 1});
                let data = json!({"topics": "order:*", "url": receiver.url(), "retry": retry, "batch": batch,
                    "delivery_mode": mode});
                let url = &cluster.nodes[merchant % cluster.nodes.len()].url;
                let create = ("webhook.create", json!([null, data, true]));
                let webhook = call(&client, url, merchant, create, PATIENCE, &telling).await.unwrap();
                if mode == "ordered" {
                    ordered.push(webhook["webhook_id"].as_i64().unwrap());
                }
            }
        }
        let (counted, count) = watch::channel(0);
        let seed = how.seed;
        let publishing = tokio::spawn(publish_all(how, counted, telling));
        Self { cluster, arrivals, is_seen, ordered, count, told, publishing, seed }
    }

    /// Waits until so many events are accepted.
    async fn reached(&self, point: usize) {
        let mut count = self.count.clone();
        let reached = count.wait_for(|count| *count >= point);
        let is_reached = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(is_reached, "seed {}: of {point} events {} are accepted", self.seed, *self.count.borrow());
    }

    /// Waits until all are accepted and have arrived, each number at its webhook with its
    /// own event, and nothing missing; looks through the store, and stops all nodes but
    /// the one that was killed.
    async fn end(mut self, server: &Postgres, killed: Option<usize>) {
        let (seed, cluster) = (self.seed, &mut self.cluster);
        let accepted = self.publishing.await.unwrap();
        let expected = accepted.len();
        // If they do not all come, what is missing is told below.
        let all = self.is_seen.wait_for(|seen| seen.len() >= expected);
        let _ = tokio::time::timeout(PATIENCE, all).await;
        let arrivals = std::mem::take(&mut *self.arrivals.lock().unwrap());
        let (mut longest, mut repeated) = (Duration::ZERO, 0);
        for (id, all) in &arrivals {
            let mut first: BTreeMap<i64, Instant> = BTreeMap::new();
            let mut last_at: Option<Instant> = None;
            for (at, number, event) in all {
                assert_eq!(accepted.get(&(*id, *number)), Some(event), "seed {seed}: {id}/{number} is another event");
                if first.contains_key(number) {
                    repeated += 1;
                    continue;
                }
                first.insert(*number, *at);
                longest = longest.max(last_at.map_or(Duration::ZERO, |last| at.duration_since(last)));
                last_at = Some(*at);
            }
            let last = accepted.range((*id, 0)..=(*id, i64::MAX)).next_back().unwrap().0.1;
            let missing: Vec<_> = (1..=last).filter(|number| !first.contains_key(number)).collect();
            let look = |number: &&i64| {
                let sql = format!(
                    "SELECT d, (SELECT json_agg(a) FROM (SELECT attempt, started_at, status_code, error_detail FROM attempt
                        WHERE webhook_id = {id} AND increment_id = {number}) a), l, n.node_id
                        FROM delivery d JOIN webhook w USING (webhook_id) JOIN lease l ON l.bucket = w.merchant_id & 255
                        LEFT JOIN node n ON n.node_id = l.node_id
                        WHERE d.webhook_id = {id} AND increment_id = {number}"
                );
                server.run_in(&cluster.store, &sql)
            };
            let rows: Vec<_> = missing.iter().take(3).map(|number| look(&number)).collect();
            assert_eq!(missing, [0_i64; 0], "seed {seed}: webhook {id} lacks numbers of {last}: {rows:#?}");
            if self.ordered.contains(id) {
                let times: Vec<_> = first.values().collect();
                assert!(times.is_sorted(), "seed {seed}: webhook {id} got its numbers out of order");
            }
        }
        println!("seed {seed}: the longest pause of a webhook was {longest:?}; {repeated} of {expected} arrived again");
        let checked = tools::command(PROGRAM).args(["check", "--store", &cluster.store]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "seed {seed}: {said}{}", String::from_utf8_lossy(&checked.stderr));
        for (index, node) in cluster.nodes.iter_mut().enumerate() {
            if Some(index) != killed {
                node.stop();
            }
        }
    }
}

async fn tell(seed: u64, events: usize, server: &'static Postgres, store: String) {
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster =
        tokio::task::spawn_blocking(move || Cluster::start(store, NODES, &["--store-poll-ms", "1000"])).await.unwrap();
    let how = Publishing {
        urls: cluster.urls(),
        last: Arc::new(AtomicUsize::new(events)),
        rest: Duration::ZERO,
        patience: CALL_PATIENCE,
        seed,
    };
    let mut scene = Scene::begin(cluster, how, random.u64(20..60)).await;
    let mut order = [0, 1, 2];
    random.shuffle(&mut order);
    let [killed, stopped, _] = order;
    let part = events / 5;
    scene.reached(part + random.usize(..part)).await;
    scene.cluster.nodes[killed].kill();
    scene.reached(2 * part + random.usize(..part)).await;
    scene.cluster.nodes[stopped].signal("-STOP");
    tokio::time::sleep(LEASE_TTL + Duration::from_millis(random.u64(500..2_500))).await;
    scene.cluster.nodes[stopped].signal("-CONT");
    scene.end(server, Some(killed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_nodes_die_or_stand_still() {
    let Some(server) = Postgres::shared() else {
        return left_out("three servers on one database: PostgreSQL is not installed; tests/run installs it");
    };
    let first = setting("TALLYHOOK_CLUSTER_SEED", fastrand::u64(..1_000_000));
    let events = setting("TALLYHOOK_CLUSTER_EVENTS", EVENTS as u64) as usize;
    println!("TALLYHOOK_CLUSTER_SEED={first} tells the same stories");
    let seeds: Vec<_> = (first..first + setting("TALLYHOOK_CLUSTER_SEEDS", SEEDS)).collect();
    for seeds in seeds.chunks(AT_ONCE) {
        let stories: Vec<_> =
            seeds.iter().map(|seed| tokio::spawn(tell(*seed, events, server, server.schema()))).collect();
        for story in stories {
            story.await.unwrap();
        }
    }
}
