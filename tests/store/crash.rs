//! The whole job under load, and with the process killed in the middle of it:
//! what was accepted arrives, each webhook's numbers have no hole, and none is
//! used for another event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::verify_standard_webhooks;
use tokio::sync::watch;

use crate::common::accounts::{Accepted as Books, audit, entries, numbers};
use crate::common::store::{Place, is_postgres};
use crate::common::{self, Arrived, Http, PATIENCE, Receiver, Reply, basic};
use crate::process::{PROGRAM, Process};
use crate::tools;

const PUBLISHERS: usize = 16;
const KILLS: usize = 20;

/// How many are published. A commit takes PostgreSQL longer, so there is as much to kill.
fn events() -> usize {
    if is_postgres() { 2_000 } else { 5_000 }
}

/// One call as the demo user; `None` if the server was killed meanwhile, and
/// null if it refuses events because its store is full, or a replay or backfill
/// because many wait.
async fn call(client: &Http, url: &str, path: &str, args: Value) -> Option<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "call", "params": [null, path, args]}).to_string();
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .header("authorization", basic("demo", "demo-key"))
        .body(http_body_util::Full::new(body.into()))
        .unwrap();
    let exchange = async {
        let response = client.request(request).await.ok()?;
        http_body_util::BodyExt::collect(response.into_body()).await.ok()
    };
    let answered = tokio::time::timeout(PATIENCE / 2, exchange).await;
    let bytes = answered.unwrap_or_else(|_| panic!("no answer from {url} to {path}"))?.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).ok()?;
    let many_wait = ["webhook.replay", "webhook.backfill"].contains(&path);
    let may_be_refused = |error: &Value| error["code"] == 109 || (many_wait && error["code"] == 112);
    assert!(answer.get("error").is_none_or(may_be_refused), "{path}: {answer}");
    Some(answer["result"].clone())
}

/// What publishers were told: event by webhook and number.
type Accepted = Arc<Mutex<BTreeMap<(i64, i64), i64>>>;

/// Publishes events `1..=events()`, each until it is accepted, wherever the
/// server is at the time.
async fn publish_all(server: watch::Receiver<String>, accepted: Accepted, count: Arc<AtomicUsize>) {
    let next = Arc::new(AtomicUsize::new(1));
    let publishers = (0..PUBLISHERS).map(|_| {
        let (server, accepted, count, next) =
            (server.clone(), Arc::clone(&accepted), Arc::clone(&count), Arc::clone(&next));
        tokio::spawn(async move {
            let client = common::http_client();
            loop {
                let event = next.fetch_add(1, Ordering::SeqCst);
                if event > events() {
                    break;
                }
                let topic = ["order:created", "product:updated", "inventory:adjustment"][event % 3];
                let receipt = loop {
                    let url = server.borrow().clone();
                    let args = json!([topic, {"n": event}]);
                    match call(&client, &url, "event.publish", args).await {
                        Some(receipt) => break receipt,
                        // Killed, or not up again yet: its new address wakes us, or the next try.
                        None => {
                            let mut server = server.clone();
                            let _ = tokio::time::timeout(Duration::from_millis(20), server.changed()).await;
                        }
                    }
                };
                for delivery in receipt["deliveries"].as_array().unwrap() {
                    let key = (delivery["webhook_id"].as_i64().unwrap(), delivery["increment_id"].as_i64().unwrap());
                    let earlier = accepted.lock().unwrap().insert(key, event as i64);
                    assert_eq!(earlier, None, "number {key:?} was given out twice");
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
}

struct Story {
    place: Place,
    receivers: Vec<Receiver>,
    secrets: HashMap<i64, String>,
    last_numbers: BTreeMap<i64, i64>,
    accepted: BTreeMap<(i64, i64), i64>,
}

/// Publishes to four webhooks with different topics, one of which fails every
/// third request, and one takes batches and fails every fifth, while the server is killed `kills` times at random points.
async fn tell(kills: usize) -> Story {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed} repeats the kill points of this run");
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::new();
    let mut process = Process::start(&place);
    let (moved, server) = watch::channel(process.url.clone());
    let receivers = vec![
        Receiver::obliging().await,
        Receiver::start(|place, _| Reply::status(if place % 3 == 2 { 500 } else { 200 })).await,
        Receiver::obliging().await,
        Receiver::start(|place, _| Reply::status(if place % 5 == 4 { 500 } else { 200 })).await,
    ];
    let client = common::http_client();
    let mut secrets = HashMap::new();
    let batch = json!({"max_events": 10, "wait_ms": 5});
    let topics = ["order:*", "product:updated", "inventory:adjustment,order:created", "product:*,order:*"];
    for (receiver, (topics, batch)) in
        receivers.iter().zip(topics.into_iter().zip([Value::Null, Value::Null, Value::Null, batch]))
    {
        let retry = json!({"max_retries": 100, "interval_seconds": 1});
        let data = json!({"topics": topics, "url": receiver.url(), "retry": retry, "batch": batch});
        let webhook = call(&client, &process.url, "webhook.create", json!([data, true])).await.unwrap();
        secrets.insert(webhook["webhook_id"].as_i64().unwrap(), webhook["secret_key"].as_str().unwrap().to_owned());
    }

    let (accepted, count) = (Accepted::default(), Arc::new(AtomicUsize::new(0)));
    let publishing = tokio::spawn(publish_all(server, Arc::clone(&accepted), Arc::clone(&count)));
    let mut points: Vec<usize> = (0..kills).map(|_| random.usize(1..events() - PUBLISHERS)).collect();
    points.sort_unstable();
    for point in points {
        let reached = async {
            while count.load(Ordering::SeqCst) < point {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("events are accepted");
        process.kill();
        check(&place);
        process = Process::start(&place);
        // All may have been published before it was killed.
        moved.send_replace(process.url.clone());
    }
    let published = tokio::time::timeout(PATIENCE, publishing).await;
    let count = count.load(Ordering::SeqCst);
    published.unwrap_or_else(|_| panic!("{count} of {} events were accepted", events())).unwrap();
    let last_numbers = settle(process, &place, &receivers).await;
    let accepted = accepted.lock().unwrap().clone();
    Story { place, receivers, secrets, last_numbers, accepted }
}

/// Stops the server in good order, looks into the store, and starts it again
/// for what is pending, until nothing is; the last number of each webhook.
async fn settle(mut process: Process, place: &Place, receivers: &[Receiver]) -> BTreeMap<i64, i64> {
    loop {
        let arrived: Vec<_> = receivers.iter().map(|receiver| receiver.so_far().len()).collect();
        process.stop();
        let sql = "SELECT webhook_id, max(increment_id), count(*) FILTER (WHERE state = 0),
            count(*) FILTER (WHERE state > 1) FROM delivery GROUP BY 1 ORDER BY 1";
        let webhooks = numbers::<4>(place, sql).unwrap();
        assert!(webhooks.iter().all(|[_, _, _, given_up]| *given_up == 0), "{webhooks:?}");
        if webhooks.iter().all(|[_, _, pending, _]| *pending == 0) {
            return webhooks.iter().map(|[id, last, _, _]| (*id, *last)).collect();
        }
        process = Process::start(place);
        for ([_, _, pending, _], (receiver, arrived)) in webhooks.iter().zip(receivers.iter().zip(arrived)) {
            // Those of a batch come together.
            let is_batched = receiver.so_far().iter().any(|arrival| arrival.json()["events"].is_array());
            let requests = if is_batched { (*pending).min(1) } else { *pending };
            receiver.arrivals(arrived + usize::try_from(requests).unwrap()).await;
        }
    }
}

impl Story {
    fn check(&self) {
        let mut arrived: BTreeMap<(i64, i64), (&Arrived, Value)> = BTreeMap::new();
        let all: Vec<Vec<Arrived>> = self.receivers.iter().map(Receiver::so_far).collect();
        for arrival in all.iter().flatten() {
            let webhook = arrival.json()["webhook_id"].as_i64().unwrap();
            for (number, message) in arrival.events() {
                let (first, _) = arrived.entry((webhook, number)).or_insert((arrival, message));
                assert_eq!(first.body, arrival.body, "{webhook}: {number} stands for one event for ever");
            }
            let secret = SecretKey::try_new(&self.secrets[&webhook]).unwrap();
            let timestamp = arrival.header("webhook-timestamp").parse().unwrap();
            let (id, signature) = (arrival.header("webhook-id"), arrival.header("webhook-signature"));
            assert!(verify_standard_webhooks(&secret, id, timestamp, &arrival.body, signature));
        }
        let stores = all.iter().flatten().filter_map(|arrival| arrival.header("webhook-id").split('_').nth(1));
        assert_eq!(stores.collect::<HashSet<_>>().len(), 1, "it has lost nothing, and so is the same store");
        for (&webhook, &last) in &self.last_numbers {
            let numbers: Vec<_> = arrived.keys().filter(|(id, _)| *id == webhook).map(|(_, number)| *number).collect();
            assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "webhook {webhook} got each of its own numbers");
        }
        for (key, event) in &self.accepted {
            let (_, message) = arrived.get(key).unwrap_or_else(|| panic!("{key:?} was accepted and never came"));
            assert_eq!(message["n"], *event, "{key:?}");
        }
        let total: usize = all.iter().map(Vec::len).sum();
        println!(
            "{} events, {} deliveries, {total} arrivals, webhooks up to {:?}",
            events(),
            arrived.len(),
            self.last_numbers
        );
        assert!(self.last_numbers.values().all(|last| *last > events() as i64 / 4), "{:?}", self.last_numbers);
    }

    /// Has the official library look at every arrival.
    fn check_officially(&self) {
        const SCRIPT: &str = "
import json, sys
from standardwebhooks import Webhook
count = 0
for line in open(sys.argv[1]):
    arrival = json.loads(line)
    Webhook(arrival['secret']).verify(arrival['body'], arrival['headers'])
    try:
        Webhook(arrival['secret']).verify(arrival['body'] + ' ', arrival['headers'])
    except Exception:
        count += 1
print(count)
";
        let Some(python) = tools::installed("HOOKTEST_PYTHON", "venv/bin/python") else {
            return tools::left_out("signatures under the official Python library: it is not installed; run tests/run");
        };
        let list = self.place.path().join("arrivals.jsonl");
        let mut file = std::fs::File::create(&list).unwrap();
        let mut count = 0;
        for arrival in self.receivers.iter().flat_map(Receiver::so_far) {
            let webhook = arrival.json()["webhook_id"].as_i64().unwrap();
            let headers: HashMap<_, _> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
                .map(|name| (name, arrival.header(name)))
                .into();
            let body = std::str::from_utf8(&arrival.body).unwrap();
            writeln!(file, "{}", json!({"secret": self.secrets[&webhook], "headers": headers, "body": body})).unwrap();
            count += 1;
        }
        let output = tools::command(python).args(["-c", SCRIPT]).arg(&list).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), count.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_webhook_gets_its_own_numbers() {
    let story = tell(0).await;
    story.check();
    story.check_officially();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_when_the_process_is_killed() {
    tell(KILLS).await.check();
}

/// Kills the process while it replays, backfills, rotates secrets, prunes and
/// delivers: whatever was answered has happened, and the books are right.
#[tokio::test(flavor = "multi_thread")]
async fn chores_that_are_killed_go_on() {
    const ROUNDS: usize = 15;
    /// Three for each of three webhooks.
    const CHORES: usize = 9;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed} repeats the kill points of this run");
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::new();
    let client = common::http_client();
    let receiver = Receiver::start(|place, _| Reply::status(if place % 7 == 6 { 500 } else { 200 })).await;
    let mut process = Process::start(&place);
    let mut ids = Vec::new();
    for more in [json!({}), json!({"delivery_mode": "ordered"}), json!({"batch": {"max_events": 20, "wait_ms": 1}})] {
        let retry = json!({"max_retries": 100, "interval_seconds": 1});
        let mut data = json!({"topics": "order:*", "url": receiver.url(), "retry": retry});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = call(&client, &process.url, "webhook.create", json!([data, true])).await.unwrap();
        ids.push(made["webhook_id"].as_i64().unwrap());
    }
    let mut accepted = Books::new();
    let (mut answered, mut pruned) = (0, 0);
    for round in 0..ROUNDS {
        let events: Vec<_> = (0..100)
            .map(|n| json!({"topic": "order:created", "message": {"n": n, "filling": "x".repeat(500)}}))
            .collect();
        let receipts = call(&client, &process.url, "event.publish_many", json!([events])).await.unwrap();
        receipts.as_array().into_iter().flatten().for_each(|receipt| accepted.extend(entries(receipt)));
        // What is sent again is not pruned: the first is left alone.
        let (chores, replayed) = (ids.clone(), ids[1 + round % 2]);
        let kill_after = random.usize(..=CHORES);
        let (url, client) = (process.url.clone(), client.clone());
        let (progress, mut finished) = watch::channel(0);
        let meddling = tokio::spawn(async move {
            let mut done = Vec::new();
            for id in chores {
                for (path, args) in [
                    ("webhook.replay", json!([replayed, {"from_increment_id": 1}])),
                    ("webhook.backfill", json!([id, {"topics": "order:created"}])),
                    ("webhook.rotate_secret", json!([id, "", 0])),
                ] {
                    match call(&client, &url, path, args).await {
                        None => return done,
                        Some(webhook) => {
                            done.extend(webhook["secret_key"].as_str().map(|secret| (id, secret.to_owned())));
                            progress.send_modify(|chores| *chores += 1);
                        }
                    }
                }
            }
            done
        });
        tokio::time::timeout(PATIENCE, finished.wait_for(|chores| *chores >= kill_after)).await.unwrap().unwrap();
        process.kill();
        let rotated = meddling.await.unwrap();
        answered += rotated.len();
        check(&place);
        audit(&place, &accepted).unwrap_or_else(|problem| panic!("round {round}: {problem}"));
        if place.is_file() {
            assert_eq!(place.value("PRAGMA integrity_check"), "ok");
        }
        for (id, secret) in rotated {
            let sql = format!("SELECT secret_key FROM webhook WHERE webhook_id = {id}");
            assert_eq!(place.value(&sql), secret, "webhook {id}");
        }
        pruned = pruned.max(place.number(PRUNED));
        // Space is short, and what has ended is pruned from the start on.
        let max = (used_bytes(&place) * 11 / 10).max(2_000_000);
        process = Process::start_with(&place, &["--store-bytes-max", &max.to_string()]);
    }
    while pruned == 0 {
        receiver.arrivals(receiver.so_far().len() + 20).await;
        pruned = place.number(PRUNED);
    }
    process.stop();
    let books = audit(&place, &accepted).unwrap();
    println!(
        "killed {ROUNDS} times in the middle of chores; {answered} rotations answered, {pruned} deliveries without their attempts, {books:?}"
    );
    assert!(answered > 0);
}

/// The store is as it has to be, whatever has just happened to its server.
fn check(place: &Place) {
    let checked = tools::command(PROGRAM).args(["check", "--store", &place.store()]).output().unwrap();
    let told = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{told:?}");
}

/// Counts the deliveries that have lost their attempts.
const PRUNED: &str = "SELECT count(*) FROM delivery d WHERE state = 1 AND attempts > 0 AND next_attempt_at IS NULL
    AND batch_first IS NULL AND NOT EXISTS (SELECT 1 FROM attempt a
        WHERE (a.webhook_id, a.increment_id) = (d.webhook_id, d.increment_id))";

/// What the store holds, as `store_bytes_max` has it.
fn used_bytes(place: &Place) -> i64 {
    if place.is_file() {
        let pragma = |name: &str| place.number(&format!("PRAGMA {name}"));
        return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size");
    }
    place.number(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'",
    )
}
