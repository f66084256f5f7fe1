//! What nodes hear of one another: by hints, by looking where there are none, and
//! after hints were lost.

use std::collections::BTreeMap;
use std::future::Future;

use serde_json::{Value, json};
use tallyhook::app::{Hooks, Server};
use tallyhook::config::{Config as Served, Sources};
use tallyhook::domain::id::{IncrementId, WebhookId};
use tallyhook::domain::merchant::QuotaChanges;
use tallyhook::domain::user::{Permission, Permissions};
use tallyhook::store::admin::Admin;
use tallyhook::store::{Base, DeliveryAlteration, MerchantAlteration, Resending, Watched};

use super::*;
use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, Http, PATIENCE, Receiver, Reply, basic, http_client, post};

/// Less than anybody waits who hears nothing, and more than looking takes.
const SOON: Duration = Duration::from_secs(15);

/// Two servers on one store, of which the first sends.
struct Pair {
    servers: Vec<Server>,
    client: Http,
    place: String,
}

impl Pair {
    /// `None` if PostgreSQL is not installed.
    async fn start(notifies: bool) -> Option<Self> {
        if !PostgresStore::is_there() {
            return None;
        }
        let place = Postgres::shared().expect("it is there").schema();
        let mut servers = Vec::new();
        for roles in ["api,send", "api"] {
            let flags = [
                ("dev", "true"),
                ("listen", "127.0.0.1:0"),
                ("store", &place),
                ("roles", roles),
                ("readers_max", "2"),
                ("store_notify", if notifies { "true" } else { "false" }),
            ];
            let flags = flags.map(|(key, value)| (key, value.to_owned())).to_vec();
            let config = Served::load(&Sources { flags, ..Sources::default() }).unwrap();
            let store = config.store.clone();
            let demo = move || {
                let (hash, now) = (KeyHash::of(DEMO_KEY), Clock::system().now());
                Admin::open(&store).unwrap().ensure_demo("demo", "demo", hash, Vec::new(), now).unwrap();
            };
            if servers.is_empty() {
                PostgresStore::prepare(&database(&place)).unwrap();
                tokio::task::spawn_blocking(demo).await.unwrap();
            }
            servers.push(Server::start(config, Hooks::default()).await.unwrap());
        }
        Some(Self { servers, client: http_client(), place })
    }

    fn url(&self, node: usize) -> String {
        format!("http://{}", self.servers[node].local_addr())
    }

    async fn call(&self, node: usize, path: &str, args: Value) -> Value {
        self.call_as(("demo", DEMO_KEY), node, path, args).await
    }

    async fn call_as(&self, (user, key): (&str, &str), node: usize, path: &str, args: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "call", "params": [null, path, args]});
        let headers = [("authorization", &*basic(user, key))];
        let (_, text) = post(&self.client, &format!("{}/", self.url(node)), &headers, body.to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer.get("error").is_none(), "{path}: {text}");
        answer["result"].clone()
    }

    /// The number of the fault that a call is refused by; 0: it is not.
    async fn refused(&self, node: usize, path: &str, args: Value) -> i64 {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "call", "params": [null, path, args]});
        let headers = [("authorization", &*basic("demo", DEMO_KEY))];
        let (_, text) = post(&self.client, &format!("{}/", self.url(node)), &headers, body.to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["error"]["code"].as_i64().unwrap_or(0)
    }

    async fn socket(&self, node: usize) -> Socket {
        Socket::open(&self.url(node), "/", &[("authorization", &basic("demo", DEMO_KEY))]).await.unwrap()
    }

    async fn webhook(&self, receiver: &Receiver, more: Value) -> i64 {
        let mut data = json!({"topics": "order:*", "url": receiver.url()});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call(1, "webhook.create", json!([data, true])).await["webhook_id"].as_i64().unwrap()
    }

    async fn publish(&self, node: usize, count: usize) {
        for n in 0..count {
            self.call(node, "event.publish", json!(["order:created", {"n": n}])).await;
        }
    }

    /// Waits until a node looks on behalf of those who wait.
    async fn until_waited_for(&self) {
        let server = Postgres::shared().expect("it is there");
        let now = server.run_in(&self.place, "SELECT clock_timestamp()");
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS w (id)' AND query_start > '{now}'
                AND application_name = 'tallyhook follower in ' || current_schema()"
        );
        until("somebody waits", || server.run_in(&self.place, &sql) != "0").await;
    }

    /// Cuts the connections of this kind.
    fn cut(&self, kind: &str) {
        let ended = Postgres::shared().expect("it is there").run_in(
            &self.place,
            &format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE application_name = 'tallyhook {kind} in ' || current_schema()"
            ),
        );
        assert_ne!(ended, "0", "there is no {kind}");
    }

    async fn stop(self) {
        for server in self.servers {
            assert!(server.shutdown().await.is_none());
        }
    }
}

async fn receiver() -> Receiver {
    Receiver::start(|_, _| Reply::status(204)).await
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} is not heard of"))
}

/// Takes events until this one; they come in their order, and each once.
async fn events_up_to(socket: &mut Socket, last: i64) -> Vec<i64> {
    let mut told: Vec<i64> = Vec::new();
    while told.last().is_none_or(|id| *id < last) {
        let news = socket.news().await;
        let id = news["event_id"].as_i64().unwrap_or_else(|| panic!("{news}"));
        assert!(told.last().is_none_or(|before| *before < id), "{id} comes after {told:?}");
        told.push(id);
    }
    told
}

/// Takes deliveries until all up to this number are told to be delivered.
async fn delivered_up_to(socket: &mut Socket, last: i64) {
    let mut states: BTreeMap<i64, String> = BTreeMap::new();
    while (1..=last).any(|number| states.get(&number).is_none_or(|state| state != "delivered")) {
        let news = socket.news().await;
        assert!(news.get("missed").is_none(), "{news}");
        let number = news["increment_id"].as_i64().unwrap();
        let before = states.insert(number, news["state"].as_str().unwrap().to_owned());
        assert!(before.is_none_or(|before| before != "delivered"), "{number} is told again: {news}");
    }
}

/// Both nodes publish at once, one of them sends, and both are subscribed to.
async fn subscriptions(notifies: bool, is_cut: bool) {
    const EACH: usize = 60;
    let Some(pair) = Pair::start(notifies).await else { return };
    let receiver = receiver().await;
    let id = pair.webhook(&receiver, json!({})).await;
    pair.publish(0, 2).await;
    let mut early = [pair.socket(0).await, pair.socket(1).await];
    for socket in &mut early {
        socket.call("event.subscribe", json!([null, "order:*", {"after_event_id": 0}])).await.unwrap();
    }
    let mut deliveries = [pair.socket(0).await, pair.socket(1).await];
    for socket in &mut deliveries {
        socket.call("delivery.subscribe", json!([null, id, {"after_increment_id": 0}])).await.unwrap();
    }
    let late = async {
        pair.publish(0, EACH / 2).await;
        if is_cut {
            ["keeper", "follower"].into_iter().for_each(|kind| pair.cut(kind));
        }
        let mut late = pair.socket(1).await;
        late.call("event.subscribe", json!([null, "order:*", {"after_event_id": 1}])).await.unwrap();
        pair.publish(0, EACH / 2).await;
        late
    };
    let (mut late, ()) = tokio::join!(late, pair.publish(1, EACH));
    let last = (2 + 2 * EACH) as i64;
    let all: Vec<_> = (1..=last).collect();
    for socket in &mut early {
        assert_eq!(soon("an event", events_up_to(socket, last)).await, all);
    }
    assert_eq!(soon("an event", events_up_to(&mut late, last)).await, all[1..]);
    for socket in &mut deliveries {
        soon("a delivery", delivered_up_to(socket, last)).await;
    }
    // Without a number before it, one hears of what comes.
    let mut new = pair.socket(1).await;
    new.call("event.subscribe", json!([null])).await.unwrap();
    pair.publish(0, 1).await;
    assert_eq!(soon("an event", events_up_to(&mut new, last + 1)).await, [last + 1]);
    pair.call(0, "webhook.delete", json!([id])).await;
    for socket in &mut deliveries {
        let end = async {
            loop {
                if let (_, _, Err(error)) = socket.told().await {
                    return error;
                }
            }
        };
        assert_eq!(soon("the end", end).await["code"], 103);
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_hear_of_all_nodes() {
    subscriptions(true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_hear_of_all_nodes_without_notify() {
    subscriptions(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_miss_nothing_when_connections_are_cut() {
    subscriptions(true, true).await;
}

/// At the node that does not send.
async fn tests_and_pulls(notifies: bool) {
    let Some(pair) = Pair::start(notifies).await else { return };
    let receiver = receiver().await;
    for more in [json!({}), json!({"is_active": false}), json!({"delivery_mode": "ordered"})] {
        let id = pair.webhook(&receiver, more).await;
        let tested = soon("a test", pair.call(1, "webhook.test", json!([id]))).await;
        assert_eq!(tested["attempt"]["status_code"], 204, "{tested}");
    }
    let id = pair.webhook(&receiver, json!({"delivery_mode": "pull", "url": null})).await;
    let pull = |after: i64| pair.call(1, "delivery.pull", json!([id, after, 10, 30_000]));
    for number in 1..=2 {
        let publish = async {
            pair.until_waited_for().await;
            if notifies && number == 2 {
                pair.cut("keeper");
            }
            pair.publish(0, 1).await;
        };
        let (pulled, ()) = tokio::join!(soon("a number", pull(number - 1)), publish);
        assert_eq!(pulled[0]["increment_id"], number, "{pulled}");
    }
    // A retry of what has ended, of a webhook that is off.
    let id = pair.webhook(&receiver, json!({})).await;
    for number in 0..2 {
        // The second one comes when nothing else is to be looked for.
        pair.publish(1, 1).await;
        soon("a delivery", async {
            while pair.call(1, "delivery.list", json!([id])).await[number]["state"] != "delivered" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    pair.call(1, "webhook.pause", json!([id])).await;
    pair.call(1, "delivery.retry", json!([id, 1])).await;
    soon("a retry", async {
        while pair.call(1, "delivery.list", json!([id])).await[0]["attempts"] != 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_and_pulls_hear_of_other_nodes() {
    tests_and_pulls(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_and_pulls_hear_of_other_nodes_without_notify() {
    tests_and_pulls(false).await;
}

/// Whom a node pauses that does not send, the one that does sends nothing for.
async fn pauses(notifies: bool) {
    let Some(pair) = Pair::start(notifies).await else { return };
    let config = admin_config(&pair.place);
    let everything = Permissions::all().with(Permission::Operator);
    let change = move || Admin::open(&config).unwrap().change_permissions("demo", everything, Clock::system().now());
    tokio::task::spawn_blocking(change).await.unwrap().unwrap();
    let made = pair.call(1, "merchant.create", json!(["other", {"user": "other"}])).await;
    let other = ("other", made["user"]["api_key"].as_str().unwrap());
    let (receiver, others) = (receiver().await, receiver().await);
    let id = pair.webhook(&receiver, json!({})).await;
    pair.call(1, "webhook.pause", json!([id])).await;
    pair.publish(1, 2).await;
    let data = json!({"topics": "*", "url": others.url()});
    pair.call_as(other, 1, "webhook.create", json!([data])).await;
    for round in 1..=2 {
        pair.call(1, "merchant.pause", json!(["demo"])).await;
        // Whoever hears of that has heard of the pause.
        pair.call(1, "webhook.resume", json!([id])).await;
        pair.call_as(other, 1, "event.publish", json!(["order:created", {}])).await;
        soon("another merchant's event", others.arrivals(round)).await;
        assert_eq!(receiver.so_far().len(), (round - 1) * 2, "nothing is sent for it");
        pair.call(1, "merchant.resume", json!(["demo"])).await;
        soon("a resumed merchant", receiver.arrivals(round * 2)).await;
        pair.call(1, "webhook.pause", json!([id])).await;
        pair.publish(0, 2).await;
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_are_heard_of() {
    pauses(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_are_heard_of_without_notify() {
    pauses(false).await;
}

/// However many servers there are, and whichever is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_day_are_counted_over_all_nodes() {
    let Some(pair) = Pair::start(true).await else { return };
    let config = admin_config(&pair.place);
    let quota = QuotaChanges { events_per_day: Some(Some(6)), ..QuotaChanges::default() };
    let what = MerchantAlteration::Quotas(quota);
    let change = move || Admin::open(&config).unwrap().alter_merchant("demo", what, Clock::system().now());
    tokio::task::spawn_blocking(change).await.unwrap().unwrap();
    // If midnight is in between, there are more.
    let day = || Clock::system().now().0 / 86_400_000;
    let begun = day();
    for _ in 0..2 {
        pair.publish(0, 1).await;
        pair.publish(1, 2).await;
    }
    for node in 0..2 {
        let fault = pair.refused(node, "event.publish", json!(["order:created", {}])).await;
        assert!(fault == 129 || day() > begun, "{fault}");
    }
    pair.stop().await;
}

/// What a node settles that does not send, the one that does goes on from.
#[tokio::test]
async fn who_sends_learns_what_others_have_settled() {
    if !PostgresStore::is_there() {
        return;
    }
    for notifies in [true, false] {
        let bench = Bench::new();
        let other = Node::with(&bench, |config| (config.node.sends, config.node.notifies) = (false, notifies));
        let id = bench.webhook("*").await;
        for _ in 0..4 {
            bench.publish("order:created").await;
        }
        let cancel = |number| {
            let what = DeliveryAlteration::Cancel { whole_batch: false };
            other.store.alter_delivery(by(bench.acme), id, IncrementId(number), what)
        };
        cancel(1).await.unwrap();
        settles(&other, &bench, id, 1).await;
        // The one below it has ended, but not by what this node has done.
        bench.record(id, 2, 1, Verdict::Delivered).await;
        settles(&other, &bench, id, 2).await;
        bench.record(id, 3, 1, Verdict::Delivered).await;
        settles(&other, &bench, id, 3).await;
    }
}

async fn settles(other: &Node, bench: &Bench, id: WebhookId, number: i64) {
    let look = async {
        while other.store.webhook(bench.acme, id).await.unwrap().settled_through.0 != number {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("what has ended", look).await;
}

/// A merchant whom nobody watches any more costs nothing.
#[tokio::test]
async fn without_watchers_nothing_is_noted() {
    if !PostgresStore::is_there() {
        return;
    }
    let bench = Bench::new();
    let other = Node::with(&bench, |config| config.node.sends = false);
    let rows = || {
        let server = Postgres::shared().expect("it is there");
        server.run_in(&bench.place, "SELECT (SELECT count(*) FROM journal) || ' ' || (SELECT count(*) FROM note)")
    };
    bench.webhook("*").await;
    publish_many(&bench.store, bench.acme, 3).await;
    publish_many(&other.store, bench.acme, 3).await;
    assert_eq!(rows(), "0 0");
    let watch = other.store.feed().watch_deliveries(bench.acme, None, 100);
    other.store.hear(bench.acme).await.unwrap();
    publish_many(&bench.store, bench.acme, 1).await;
    assert_eq!(rows(), "1 0");
    tokio::time::timeout(PATIENCE, watch.arrived()).await.unwrap();
    assert_eq!(watch.take().changed.len(), 1);
    bench.store.publish(by(bench.other), vec![event("order:created", "{}", None)]).await.unwrap();
    assert_eq!(rows(), "1 0", "another is not watched");
}
