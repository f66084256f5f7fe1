//! Subscribers that do not listen: they are told what they missed, cost a
//! bounded set, and hold nobody up.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::socket::Socket;
use crate::common::store::Place;
use crate::common::{PATIENCE, Start, TestServer};
use crate::disk::Disk;

/// What a subscriber may have waiting.
const BACKLOG: usize = 32;
const WEBHOOKS: i64 = 20;

async fn server() -> TestServer {
    Start::default().flag("subscription_backlog_max", &BACKLOG.to_string()).go().await
}

/// Numbers of webhooks that were told, and those that were missed.
#[derive(Default)]
struct Seen {
    told: BTreeSet<(i64, i64)>,
    missed: BTreeSet<(i64, i64)>,
}

impl Seen {
    fn take(&mut self, news: &Value) {
        let Some(missed) = news.get("missed") else {
            self.told.insert((news["webhook_id"].as_i64().unwrap(), news["increment_id"].as_i64().unwrap()));
            return;
        };
        for missed in missed.as_array().unwrap() {
            let number = |member: &str| missed[member].as_i64().unwrap_or_else(|| panic!("{news}"));
            let numbers = number("first_increment_id")..=number("last_increment_id");
            self.missed.extend(numbers.map(|increment| (number("webhook_id"), increment)));
        }
    }

    fn is_all(&self, count: i64) -> bool {
        let all = (1..=WEBHOOKS).flat_map(|id| (1..=count).map(move |number| (id, number)));
        all.into_iter().all(|key| self.told.contains(&key) || self.missed.contains(&key))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_is_told_what_it_missed() {
    const EVENTS: i64 = 3_000;
    let server = server().await;
    for _ in 0..WEBHOOKS {
        server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    }
    let mut slow = Socket::narrow(&server).await;
    slow.call("delivery.subscribe", json!([null])).await.unwrap();
    // Sixty thousand changes, of which the subscriber hears nothing yet.
    for _ in 0..EVENTS / 50 {
        let events: Vec<_> = (0..50).map(|_| json!({"topic": "a:b", "message": {}})).collect();
        server.call("event.publish_many", json!([events])).await.unwrap();
    }
    // Others are answered, and told at once.
    let mut other = Socket::demo(&server).await;
    other.call("delivery.subscribe", json!([null, 1])).await.unwrap();
    server.publish("a:b", json!({})).await;
    assert_eq!(other.news().await["increment_id"], EVENTS + 1);

    let mut seen = Seen::default();
    while !seen.is_all(EVENTS + 1) {
        seen.take(&slow.news().await);
    }
    // What its system and the server's took before they were full, and no more than that.
    assert!(seen.told.len() < seen.missed.len(), "{} told, {} missed", seen.told.len(), seen.missed.len());
    // It goes on as if nothing had happened, and can heal what it missed.
    server.publish("a:b", json!({})).await;
    for id in 1..=WEBHOOKS {
        let news = slow.news().await;
        assert_eq!((&news["webhook_id"], &news["increment_id"]), (&json!(id), &json!(EVENTS + 2)));
    }
    let (webhook_id, number) = *seen.missed.first().unwrap();
    let options = json!({"after_increment_id": number - 1, "limit": 1});
    let healed = slow.call("delivery.list", json!([null, webhook_id, options])).await.unwrap();
    assert_eq!(healed[0]["increment_id"], number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_missed_as_one_span() {
    const EVENTS: i64 = 400;
    let server = server().await;
    let mut slow = Socket::narrow(&server).await;
    slow.call("event.subscribe", json!([null])).await.unwrap();
    let filler = "x".repeat(40_000);
    for _ in 0..EVENTS {
        server.publish("a:b", json!({"filler": filler})).await;
    }
    let (mut told, mut missed) = (BTreeSet::new(), BTreeSet::new());
    while told.union(&missed).count() < EVENTS as usize {
        let news = slow.news().await;
        match news.get("missed") {
            None => drop(told.insert(news["event_id"].as_i64().unwrap())),
            Some(span) => {
                missed.extend(span["first_event_id"].as_i64().unwrap()..=span["last_event_id"].as_i64().unwrap());
            }
        }
    }
    assert!(!missed.is_empty() && told.len() >= BACKLOG, "{} told, {} missed", told.len(), missed.len());
    server.publish("a:b", json!({})).await;
    assert_eq!(slow.news().await["event_id"], EVENTS + 1);
}

/// From a number on, all is told, however slowly it is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_with_a_number_may_be_slow() {
    const EVENTS: i64 = 2_000;
    let server = server().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let publish = async || {
        for _ in 0..EVENTS / 200 {
            let events: Vec<_> = (0..100).map(|_| json!({"topic": "a:b", "message": {}})).collect();
            server.call("event.publish_many", json!([events])).await.unwrap();
        }
    };
    publish().await;
    let mut slow = Socket::narrow(&server).await;
    slow.call("delivery.subscribe", json!([null, 1, {"after_increment_id": 0}])).await.unwrap();
    publish().await;
    let mut expected = 1;
    while expected <= EVENTS {
        let news = slow.news().await;
        match news["missed"].as_array() {
            None => {
                assert_eq!(news["increment_id"], expected);
                expected += 1;
            }
            // Only of what came once it had caught up.
            Some(missed) => {
                assert!(expected > EVENTS / 2 && missed[0]["first_increment_id"] == expected, "{news}");
                expected = missed[0]["last_increment_id"].as_i64().unwrap() + 1;
            }
        }
    }
}

/// Has each COMMIT in PostgreSQL fail after an event.
const FAIL_COMMITS: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON event DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse()";

/// After a commit whose fate nobody knows, anything may have changed.
#[tokio::test]
async fn a_failed_commit_is_told_as_missed_unless_it_shows_what_it_came_to() {
    let place = Arc::new(Place::new());
    let disk = place.is_file().then(|| Disk::watch(place.path()));
    let fail = |does_fail: bool| match &disk {
        Some(disk) => disk.fail_syncs(does_fail.then_some(1)),
        None => drop(place.rows(if does_fail { FAIL_COMMITS } else { "DROP FUNCTION refuse CASCADE" })),
    };
    let server = Start { place: Arc::clone(&place), ..Start::default() }.go().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let mut socket = Socket::demo(&server).await;
    for (method, params) in [
        ("delivery.subscribe", json!([null])),
        ("delivery.subscribe", json!([null, 1])),
        ("event.subscribe", json!([null])),
    ] {
        socket.call(method, params).await.unwrap();
    }
    server.publish("order:created", json!({})).await;
    for _ in 0..3 {
        assert!(socket.news().await.get("missed").is_none());
    }
    fail(true);
    server.call("event.publish", json!(["order:created", {}])).await.unwrap_err();
    fail(false);
    // In a database the journal says what stands, so nobody has missed anything.
    if disk.is_some() {
        let mut told = Vec::new();
        for _ in 0..3 {
            let (_, id, news) = socket.told().await;
            told.push((id, news.unwrap()["missed"].clone()));
        }
        told.sort_by_key(|(id, _)| *id);
        let deliveries = |id: Value| json!([{"webhook_id": id, "first_increment_id": 1, "last_increment_id": null}]);
        let events = json!({"first_event_id": 2, "last_event_id": null});
        assert_eq!(told, [(1, deliveries(json!(null))), (2, deliveries(json!(1))), (3, events)]);
    }
    server.until(async || server.call("event.publish", json!(["order:created", {}])).await.ok()).await;
    for _ in 0..3 {
        assert!(socket.news().await.get("missed").is_none());
    }
}

/// One who asks for much and takes nothing stands still with all its calls, and
/// they keep nothing that others wait for: neither a reader of the store nor a
/// turn for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_answers_holds_up_nobody() {
    const EVENTS: usize = 1_000;
    let server = TestServer::start().await;
    let id = server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await["webhook_id"].clone();
    let filler = "x".repeat(800);
    for _ in 0..EVENTS / 100 {
        let events: Vec<_> = (0..100).map(|_| json!({"topic": "a:b", "message": {"filler": filler}})).collect();
        server.call("event.publish_many", json!([events])).await.unwrap();
    }
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut socket = Socket::narrow(&server).await;
        for _ in 0..16 {
            socket.begin("delivery.pull", json!([null, id, 0, EVENTS])).await;
        }
        slow.push(socket);
    }
    // More of an answer than a ping takes: it is being written, and the rest
    // stands still, for as long as a connection may: 60 s.
    for socket in &slow {
        socket.arrived(1_024).await;
    }
    for _ in 0..100 {
        let others = async {
            server.call("webhook.list", json!([])).await.unwrap();
            server.call("delivery.list", json!([id])).await.unwrap();
            server.publish("a:b", json!({})).await;
        };
        tokio::time::timeout(PATIENCE / 3, others).await.expect("others are answered meanwhile");
    }
    drop(slow);
}

/// As over HTTP: memory and places are for those who take what they ask for.
#[tokio::test]
async fn a_subscriber_that_takes_nothing_loses_the_connection() {
    let server = Start::default()
        .flag("idle_timeout_ms", "1000")
        .flag("subscriptions_max", "1")
        .flag("subscription_backlog_max", "1000000")
        .go()
        .await;
    let mut slow = Socket::narrow(&server).await;
    slow.call("event.subscribe", json!([null, "*", {"after_event_id": 0}])).await.unwrap();
    let filler = "x".repeat(500_000);
    for _ in 0..20 {
        server.publish("a:b", json!({"filler": filler})).await;
    }
    // Its place becomes free, though it is still there.
    let mut other = Socket::demo(&server).await;
    while other.call("event.subscribe", json!([null])).await.is_err() {
        server.publish("a:b", json!({})).await;
    }
    drop(slow);
}
