//! Three servers on one database under load, while one is killed, and another is
//! stopped for longer than its word counts and then goes on: nothing that was
//! accepted is lost, each webhook's numbers have no hole, ordered webhooks get
//! theirs in order, and no webhook waits for longer than it takes to notice.

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

use crate::common::postgres::Postgres;
use crate::common::{self, Http, PATIENCE, Receiver, Reply, basic};
use crate::postgres::admin_config;
use crate::process::{PROGRAM, Process};
use crate::tools::{self, left_out};

/// Stories that are told; more by `TALLYHOOK_CLUSTER_SEEDS`.
const SEEDS: u64 = 4;
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
}

impl Cluster {
    fn start(server: &Postgres) -> Self {
        let (store, folder) = (server.schema(), tempfile::tempdir().unwrap());
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
        let mut cluster = Self { nodes: Vec::new(), folder, store };
        (0..NODES).for_each(|_| cluster.join());
        cluster
    }

    fn join(&mut self) {
        let log = self.folder.path().join(format!("node-{}.log", self.nodes.len()));
        let ttl = LEASE_TTL.as_millis().to_string();
        self.nodes.push(Process::with_store(&self.store, log, &["--lease-ttl-ms", &ttl, "--store-poll-ms", "1000"]));
    }

    fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }
}

/// A call as the user of a merchant; `None` if there is no answer, or a refusal for
/// now.
async fn call(
    client: &Http,
    url: &str,
    merchant: usize,
    (method, params): (&str, Value),
    patience: Duration,
) -> Option<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let name = format!("m{merchant}");
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .header("authorization", basic(&name, &name))
        .body(Full::new(body.into()))
        .unwrap();
    let exchange = async { client.request(request).await.ok()?.into_body().collect().await.ok() };
    // If one stands still, another is asked.
    let bytes = tokio::time::timeout(patience, exchange).await.ok()??.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).ok()?;
    match answer.get("error") {
        None => Some(answer["result"].clone()),
        Some(error) => {
            let code = error["code"].as_i64().unwrap();
            // A commit that failed may stand or not: the same key asks again.
            assert!([1, 109].contains(&code), "{method}: {answer}");
            None
        }
    }
}

/// Publishes `1..=events` by turns for each merchant, each at any node until it is
/// accepted; event by webhook and number.
async fn publish_all(
    urls: Vec<String>,
    events: usize,
    count: watch::Sender<usize>,
    seed: u64,
) -> BTreeMap<(i64, i64), i64> {
    let accepted = Arc::new(Mutex::new(BTreeMap::new()));
    let next = Arc::new(AtomicUsize::new(1));
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let (urls, accepted, count, next) = (urls.clone(), Arc::clone(&accepted), count.clone(), Arc::clone(&next));
        let mut random = fastrand::Rng::with_seed(seed ^ publisher as u64);
        tokio::spawn(async move {
            let client = common::http_client();
            loop {
                let event = next.fetch_add(1, Ordering::SeqCst);
                if event > events {
                    return;
                }
                let options = json!({"idempotency_key": format!("event {event}")});
                let params = json!([null, "order:created", {"n": event}, options]);
                let begun = Instant::now();
                let receipt = loop {
                    let url = &urls[random.usize(..urls.len())];
                    let publish = ("event.publish", params.clone());
                    match call(&client, url, event % MERCHANTS, publish, CALL_PATIENCE).await {
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
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    Arc::try_unwrap(accepted).unwrap().into_inner().unwrap()
}

async fn tell(seed: u64, events: usize) {
    let server = Postgres::shared().expect("PostgreSQL is installed");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cluster = tokio::task::spawn_blocking(move || Cluster::start(server)).await.unwrap();
    let arrivals = Arc::new(Mutex::new(Arrivals::new()));
    let (kept, fails) = (Arc::clone(&arrivals), random.u64(20..60));
    let (seen, mut is_seen) = watch::channel(BTreeSet::new());
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
    let client = common::http_client();
    let mut ordered = Vec::new();
    for merchant in 0..MERCHANTS {
        for (mode, batch) in
            [("parallel", Value::Null), ("ordered", Value::Null), ("parallel", json!({"max_events": 10, "wait_ms": 5}))]
        {
            let retry = json!({"max_retries": 100, "interval_seconds": 1});
            let data = json!({"topics": "order:*", "url": receiver.url(), "retry": retry, "batch": batch,
                "delivery_mode": mode});
            let url = &cluster.nodes[merchant % NODES].url;
            let webhook =
                call(&client, url, merchant, ("webhook.create", json!([null, data, true])), PATIENCE).await.unwrap();
            if mode == "ordered" {
                ordered.push(webhook["webhook_id"].as_i64().unwrap());
            }
        }
    }

    let (counted, count) = watch::channel(0);
    let publishing = tokio::spawn(publish_all(cluster.urls(), events, counted, seed));
    let mut order = [0, 1, 2];
    random.shuffle(&mut order);
    let [killed, stopped, _] = order;
    let part = events / 5;
    let reached = |point: usize| {
        let mut count = count.clone();
        async move {
            let reached = count.wait_for(|count| *count >= point);
            tokio::time::timeout(PATIENCE, reached).await.expect("events are accepted").unwrap();
        }
    };
    reached(part + random.usize(..part)).await;
    cluster.nodes[killed].kill();
    reached(2 * part + random.usize(..part)).await;
    cluster.nodes[stopped].signal("-STOP");
    tokio::time::sleep(LEASE_TTL + Duration::from_millis(random.u64(500..2_500))).await;
    cluster.nodes[stopped].signal("-CONT");
    let accepted = publishing.await.unwrap();

    let expected = accepted.len();
    // If they do not all come, what is missing is told below.
    let all = is_seen.wait_for(|seen| seen.len() >= expected);
    let _ = tokio::time::timeout(PATIENCE, all).await;
    let arrivals = std::mem::take(&mut *arrivals.lock().unwrap());
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
        if ordered.contains(id) {
            let times: Vec<_> = first.values().collect();
            assert!(times.is_sorted(), "seed {seed}: webhook {id} got its numbers out of order");
        }
    }
    println!("seed {seed}: the longest pause of a webhook was {longest:?}; {repeated} of {expected} arrived again");
    let checked = tools::command(PROGRAM).args(["check", "--store", &cluster.store]).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "seed {seed}: {said}{}", String::from_utf8_lossy(&checked.stderr));
    for (index, node) in cluster.nodes.iter_mut().enumerate() {
        if index != killed {
            node.stop();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_nodes_die_or_stand_still() {
    if Postgres::shared().is_none() {
        return left_out("three servers on one database: PostgreSQL is not installed; tests/run installs it");
    }
    let first = setting("TALLYHOOK_CLUSTER_SEED", fastrand::u64(..1_000_000));
    let events = setting("TALLYHOOK_CLUSTER_EVENTS", EVENTS as u64) as usize;
    println!("TALLYHOOK_CLUSTER_SEED={first} tells the same stories");
    let seeds: Vec<_> = (first..first + setting("TALLYHOOK_CLUSTER_SEEDS", SEEDS)).collect();
    for seeds in seeds.chunks(AT_ONCE) {
        let stories: Vec<_> = seeds.iter().map(|seed| tokio::spawn(tell(*seed, events))).collect();
        for story in stories {
            story.await.unwrap();
        }
    }
}
