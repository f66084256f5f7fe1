//! Events that are erased: nothing of them stays but numbers.

use serde_json::{Value, json};
use tallyhook::store::check::{Checker, News};

use super::{ALL, User};
use crate::common::store::on_a_thread;
use crate::common::{Receiver, Reply, Start, TestServer};

/// What nobody may find any more.
const WORDS: &str = "erase-me-91c4";

/// Whether the words stand anywhere in the store: in a file, in its very bytes.
fn is_in_store(server: &TestServer) -> bool {
    if !server.place.is_file() {
        let sql = format!(
            "SELECT (SELECT count(*) FROM event WHERE message LIKE '%{WORDS}%')
                + (SELECT count(*) FROM attempt WHERE position('{WORDS}'::bytea IN response_body) > 0
                    OR request_headers LIKE '%{WORDS}%' OR response_headers LIKE '%{WORDS}%')
                + (SELECT count(*) FROM audit WHERE before LIKE '%{WORDS}%' OR after LIKE '%{WORDS}%')"
        );
        return server.place.number(&sql) > 0;
    }
    let bytes = |ending: &str| std::fs::read(format!("{}{ending}", server.config.store)).unwrap();
    let is_in = |bytes: Vec<u8>| bytes.windows(WORDS.len()).any(|some| some == WORDS.as_bytes());
    is_in(bytes("")) || is_in(bytes("-wal"))
}

/// What `tallyhook check` finds.
fn faults(server: &TestServer) -> Vec<String> {
    on_a_thread(|| {
        let mut faults = Vec::new();
        let mut checker = Checker::open(&server.config.store).unwrap();
        let checked = checker.run(|news| {
            if let News::Fault(fault) = news {
                faults.push(fault.to_string());
            }
        });
        checked.map(|_| faults).unwrap()
    })
}

async fn webhook(server: &TestServer, data: Value) -> i64 {
    server.webhook(data).await["webhook_id"].as_i64().unwrap()
}

async fn publish(server: &TestServer, topic: &str, message: Value) -> i64 {
    server.publish(topic, message).await["event_id"].as_i64().unwrap()
}

async fn erase(server: &TestServer, event: i64) -> Result<Value, Value> {
    server.call("event.erase", json!([event])).await
}

fn done(deliveries: u64) -> Result<Value, Value> {
    Ok(json!({"deliveries": deliveries, "is_done": true}))
}

/// Number, state and reason of each delivery of a webhook.
async fn states(server: &TestServer, id: i64) -> Vec<Value> {
    let listed = server.call("delivery.list", json!([id])).await.unwrap();
    let one = |it: &Value| json!([it["increment_id"], it["state"], it["reason"], it["topic"]]);
    listed.as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn nothing_of_an_erased_event_stays_but_its_numbers() {
    let (server, hand) = Start::default().manual().await;
    let echo =
        |_: usize, _: &_| Reply { body: format!("thanks for {WORDS}"), ..Reply::status(200) }.header("x-echo", WORDS);
    let receiver = Receiver::start(echo).await;
    let posted = webhook(&server, json!({"topics": "*", "url": receiver.url()})).await;
    let paused = webhook(&server, json!({"topics": "*", "url": receiver.url()})).await;
    let pulled = webhook(&server, json!({"topics": "*", "delivery_mode": "pull"})).await;
    let deleted = webhook(&server, json!({"topics": "*", "delivery_mode": "pull"})).await;
    server.call("webhook.pause", json!([paused])).await.unwrap();
    publish(&server, "a:b", json!({"n": 1})).await;
    // Short, and over many pages.
    let short = publish(&server, "a:b", json!({"customer": {"id": WORDS}})).await;
    let long = publish(&server, "a:b", json!({"text": WORDS.repeat(2_000)})).await;
    let last = publish(&server, "a:b", json!({"n": 4})).await;
    server.settled(posted).await;
    for number in 1..=4 {
        server.attempts(posted, number, 1).await;
    }
    server.call("webhook.delete", json!([deleted])).await.unwrap();
    if server.place.is_file() {
        // What was checkpointed lies in the file, the rest beside it.
        server.place.rows("PRAGMA wal_checkpoint");
    }
    assert!(is_in_store(&server));

    assert_eq!(erase(&server, short).await, done(4));
    assert_eq!(erase(&server, long).await, done(4));
    for event in [short, long] {
        assert_eq!(erase(&server, event).await, done(0), "once more, nothing is left to do");
        assert_eq!(server.call("event.get", json!([event])).await.unwrap_err()["code"], 114);
    }
    let listed = server.call("event.list", json!([])).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let (gone, kept) = (json!(null), json!("a:b"));
    let erased = |number: i64| json!([number, "cancelled", "erased", gone]);
    for id in [paused, pulled] {
        let kept = |number: i64| json!([number, "pending", null, kept]);
        assert_eq!(states(&server, id).await, [kept(1), erased(2), erased(3), kept(4)]);
    }
    let ended = |number: i64, topic: &Value| json!([number, "delivered", null, topic]);
    assert_eq!(states(&server, posted).await, [ended(1, &kept), ended(2, &gone), ended(3, &gone), ended(4, &kept)]);
    assert_eq!(server.call("delivery.attempts", json!([posted, 2])).await, Ok(json!([])));
    assert_eq!(server.call("delivery.retry", json!([posted, 2])).await.unwrap_err()["code"], 113);
    // What the receiver said to the others of the same words goes with them.
    let first = server.call("event.list", json!([])).await.unwrap()[0]["event_id"].as_i64().unwrap();
    for event in [first, last] {
        assert_eq!(erase(&server, event).await, done(4));
    }
    let is_overwritten = async || {
        // A reader may have been in the way of the last commit.
        hand.pass(60);
        (!is_in_store(&server)).then_some(())
    };
    server.until(is_overwritten).await;

    // Numbers go on, and what follows goes out.
    server.call("webhook.resume", json!([paused])).await.unwrap();
    let next = publish(&server, "a:b", json!({"n": 5})).await;
    server.settled(paused).await;
    assert_eq!(states(&server, paused).await[4], json!([5, "delivered", null, "a:b"]));
    let found = server.call("delivery.pull", json!([pulled, 0])).await.unwrap();
    let pulled: Vec<_> = found.as_array().unwrap().iter().map(|one| one["increment_id"].clone()).collect();
    assert!(pulled.contains(&json!(5)), "{found}");
    assert_eq!(receiver.so_far().len(), 6, "to the paused one goes what was not erased");
    assert_eq!(server.call("event.get", json!([next])).await.unwrap()["event_id"], next);
    assert_eq!(faults(&server), [""; 0]);
}

#[tokio::test]
async fn batches_are_erased_once_they_have_ended() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|place, _| Reply {
        body: WORDS.to_owned(),
        ..Reply::status(if place == 0 { 500 } else { 200 })
    })
    .await;
    let data = json!({"topics": "*", "url": receiver.url(), "batch": {"max_events": 3, "wait_ms": 60_000}});
    let id = webhook(&server, data).await;
    let mut events = Vec::new();
    for n in 1..=3 {
        events.push(publish(&server, "a:b", json!({"n": n, "text": WORDS})).await);
    }
    receiver.arrivals(1).await;
    server.attempts(id, 1, 1).await;
    let refused = erase(&server, events[1]).await.unwrap_err();
    assert_eq!(refused["code"], 113);
    assert!(refused["message"].as_str().unwrap().contains("goes out in one request with 1-3"), "{refused}");
    hand.pass(300);
    server.settled(id).await;
    server.attempts(id, 3, 2).await;
    assert_eq!(erase(&server, events[1]).await, done(1));
    assert_eq!(erase(&server, events[1]).await, done(0));
    // The others stand by themselves, and can be sent again.
    for number in 1..=3 {
        let attempts = server.call("delivery.attempts", json!([id, number])).await;
        assert_eq!(attempts, Ok(json!([])), "they were the same");
    }
    server.call("delivery.retry", json!([id, 3])).await.unwrap();
    assert_eq!(receiver.arrivals(3).await[2].events().len(), 1);
    assert_eq!(server.call("delivery.retry", json!([id, 2])).await.unwrap_err()["code"], 113);
    let states = states(&server, id).await;
    assert_eq!(states[1], json!([2, "delivered", null, null]));
    assert_eq!(faults(&server), [""; 0]);
}

#[tokio::test]
async fn an_erasure_is_for_admins_and_is_audited_without_what_was_erased() {
    let server = TestServer::start().await;
    let id = webhook(&server, json!({"topics": "*", "delivery_mode": "pull"})).await;
    let event = publish(&server, "a:b", json!({"text": WORDS})).await;
    User::new(&server, "bob", "demo", ALL).refused("event.erase", json!([event]), 2).await;
    let admin = User::new(&server, "ann", "demo", "admin");
    for missing in [0, -event, event + 1] {
        admin.refused("event.erase", json!([missing]), 114).await;
    }
    User::new(&server, "eve", "acme", "admin").refused("event.erase", json!([event]), 114).await;
    assert_eq!(admin.done("event.erase", json!([event])).await, json!({"deliveries": 1, "is_done": true}));
    admin.done("event.erase", json!([event])).await;
    let entries = admin.done("audit.list", json!([{"action": "event.erase"}])).await;
    let seen: Vec<_> = entries.as_array().unwrap().iter().map(|it| json!([it["kind"], it["id"], it["user"]])).collect();
    let delivery = format!("{id}:1");
    assert_eq!(seen, [json!(["delivery", delivery, "ann"]), json!(["event", event.to_string(), "ann"])]);
    assert_eq!(entries[0]["before"], json!({"state": "pending"}));
    assert_eq!(entries[0]["after"], json!({"state": "cancelled"}));
    assert!(!entries.to_string().contains(WORDS));
}

#[tokio::test]
async fn many_deliveries_are_erased_in_several_calls() {
    let server = TestServer::start().await;
    let lines: Vec<_> = (0..100)
        .map(|n| json!({"webhook": {"topics": "*", "delivery_mode": "pull", "name": format!("p{n}")}}))
        .collect();
    for round in 0..6 {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| {
                let mut line = line.clone();
                line["webhook"]["description"] = json!(round.to_string());
                line
            })
            .collect();
        server.call("webhook.import", json!([lines, {"existing": "create"}])).await.unwrap();
    }
    let event = publish(&server, "a:b", json!({"text": WORDS})).await;
    assert_eq!(erase(&server, event).await, Ok(json!({"deliveries": 500, "is_done": false})));
    assert_eq!(server.call("event.get", json!([event])).await.unwrap()["topic"], "a:b", "until all is done");
    assert_eq!(erase(&server, event).await, done(100));
    assert_eq!(erase(&server, event).await, done(0));
}
