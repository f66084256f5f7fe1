//! The disk under the store: power cuts at every sync of a story, syncs that
//! fail, space that runs out. What was answered is there afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::common::accounts::{Accepted, Books, audit, entries};
use crate::common::store::Place;
use crate::common::{self, Receiver, Reply, Start, TestServer};
use crate::disk::{Disk, Image, Left, Op};

const EVENTS: usize = 400;
const PUBLISHERS: usize = 3;
/// Requests of which a receiver fails every third; later it fails none.
const SHAKY_UNTIL: usize = 24;

/// Something that a caller was told, and when.
#[derive(Clone, Debug)]
struct Told {
    /// How much had happened on the disk by then.
    at: usize,
    what: Fact,
}

#[derive(Clone, Debug)]
enum Fact {
    /// A publish was accepted.
    Receipt(Value),
    /// A value of the webhook's row is this, or was changed by something later.
    Webhook(i64, &'static str, Value),
    /// A delivery is in no such state any more.
    Not(i64, i64, &'static str),
}

/// A story on a disk that remembers.
struct Story {
    ops: Vec<Op>,
    told: Vec<Told>,
}

struct Teller {
    disk: Arc<Disk>,
    told: Mutex<Vec<Told>>,
}

impl Teller {
    fn tell(&self, what: Fact) {
        let mut told = self.told.lock().unwrap();
        told.push(Told { at: self.disk.now(), what });
    }
}

/// Webhooks of every kind and whatever their owner may do to them, while
/// events are published.
async fn tell(durability: &str) -> Story {
    let place = Arc::new(Place::file());
    let disk = Disk::watch(place.path());
    let teller = Arc::new(Teller { disk: Arc::clone(&disk), told: Mutex::default() });
    let start = Start { place: Arc::clone(&place), ..Start::default() }.flag("durability", durability);
    let server = Arc::new(start.go().await);
    let fast = Receiver::obliging().await;
    let shaky =
        Receiver::start(|place, _| Reply::status(if place % 3 == 2 && place < SHAKY_UNTIL { 500 } else { 200 })).await;
    let retry = json!({"max_retries": 2, "interval_seconds": 1});
    let mut ids = Vec::new();
    for (receiver, more) in [
        (&fast, json!({})),
        (&shaky, json!({"delivery_mode": "ordered", "retry": retry})),
        (&shaky, json!({"batch": {"max_events": 5, "wait_ms": 5}, "retry": retry})),
        (&fast, json!({"delivery_mode": "pull"})),
        (&fast, json!({"topics": "order:*"})),
    ] {
        let mut data = json!({"topics": "*", "url": receiver.url()});
        if more["delivery_mode"] == "pull" {
            data.as_object_mut().unwrap().remove("url");
        }
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = server.webhook(data).await;
        let id = made["webhook_id"].as_i64().unwrap();
        teller.tell(Fact::Webhook(id, "topics", made["topics"].clone()));
        ids.push(id);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (server, teller, next) = (Arc::clone(&server), Arc::clone(&teller), Arc::clone(&next));
            tokio::spawn(async move {
                while let event @ 0..EVENTS = next.fetch_add(1, Ordering::SeqCst) {
                    let topic = ["order:created", "product:updated"][event % 2];
                    let message = json!({"n": event, "filling": "x".repeat(event * 10)});
                    teller.tell(Fact::Receipt(server.publish(topic, message).await));
                }
            })
        })
        .collect();
    meddle(&server, &teller, &ids, &next).await;
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let server = Arc::into_inner(server).expect("nobody else has it");
    server.stop().await;
    let told = teller.told.lock().unwrap().clone();
    Story { ops: disk.ops(), told }
}

/// What owners do meanwhile.
async fn meddle(server: &TestServer, teller: &Teller, ids: &[i64], published: &AtomicUsize) {
    let &[fast, ordered, batched, pulled, deleted] = ids else { unreachable!("there are five") };
    let after = async |count| {
        server.until(async || (published.load(Ordering::SeqCst) >= count).then_some(())).await;
    };
    after(EVENTS / 6).await;
    let rotated = server.call("webhook.rotate_secret", json!([fast])).await.unwrap();
    teller.tell(Fact::Webhook(fast, "secret_key", rotated["secret_key"].clone()));
    server.call("delivery.pull", json!([pulled, 0, 5])).await.unwrap();
    let pull = server.call("delivery.pull", json!([pulled, 5])).await.unwrap();
    assert!(!pull.as_array().unwrap().is_empty());
    teller.tell(Fact::Webhook(pulled, "acknowledged_through", json!(5)));
    after(EVENTS / 3).await;
    server.call("webhook.replay", json!([batched, {"from_increment_id": 3, "to_increment_id": 9}])).await.unwrap();
    server.call("webhook.backfill", json!([fast, {"topics": "order:*"}])).await.unwrap();
    after(EVENTS / 2).await;
    if server.call("delivery.cancel", json!([ordered, EVENTS / 2 - 10])).await.is_ok() {
        teller.tell(Fact::Not(ordered, EVENTS as i64 / 2 - 10, "pending"));
    }
    let changed = server.call("webhook.update", json!([batched, {"extra_headers": "X-Shop: 7"}])).await.unwrap();
    teller.tell(Fact::Webhook(batched, "extra_headers", changed["extra_headers"].clone()));
    server.call("webhook.delete", json!([deleted])).await.unwrap();
    server.call("webhook.test", json!([fast])).await.unwrap();
}

impl Story {
    /// Cuts the power before every sync, and at the end; how many cuts, and
    /// what was wrong after some.
    fn cut_everywhere(&self) -> (usize, Vec<String>) {
        let (mut image, mut cuts, mut wrong) = (Image::default(), 0, Vec::new());
        for (at, op) in self.ops.iter().enumerate() {
            if matches!(op, Op::Sync { .. }) {
                for left in [Left::Nothing, [Left::Everything, Left::Some(at as u64)][cuts % 2]] {
                    cuts += 1;
                    wrong.extend(self.check(&image, at, left));
                }
            }
            image.apply(op);
        }
        cuts += 1;
        wrong.extend(self.check(&image, self.ops.len(), Left::Nothing));
        (cuts, wrong)
    }

    /// Opens what a cut leaves, and looks for what had been told by then.
    fn check(&self, image: &Image, at: usize, left: Left) -> Option<String> {
        let place = Place::file();
        image.write_to(place.path(), left);
        let checked = self.look(&place, at);
        checked.err().map(|problem| format!("cut at {at} of {}, {left:?}: {problem}", self.ops.len()))
    }

    fn look(&self, place: &Place, at: usize) -> Result<(), String> {
        let failed = |cause: rusqlite::Error| cause.to_string();
        let store = place.database();
        let told: Vec<&Fact> = self.told.iter().filter(|told| told.at <= at).map(|told| &told.what).collect();
        let verdict: String = store.query_row("PRAGMA quick_check", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(verdict);
        }
        let tables: i64 =
            store.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(failed)?;
        if tables == 0 {
            return if told.is_empty() { Ok(()) } else { Err("the store is empty".to_owned()) };
        }
        let receipts =
            told.iter().filter_map(|fact| if let Fact::Receipt(receipt) = fact { Some(receipt) } else { None });
        audit(place, &receipts.flat_map(entries).collect())?;
        for fact in told {
            match fact {
                Fact::Receipt(_) => {}
                Fact::Webhook(id, column, value) => {
                    let sql = format!("SELECT {column}, deleted_at IS NOT NULL FROM webhook WHERE webhook_id = ?1");
                    let (found, is_deleted): (rusqlite::types::Value, bool) =
                        store.query_row(&sql, [id], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed)?;
                    if is_deleted {
                        // Its definition is blotted out once its deliveries have ended.
                        continue;
                    }
                    let found = match found {
                        rusqlite::types::Value::Text(text) => json!(text),
                        rusqlite::types::Value::Integer(number) => json!(number),
                        _ => Value::Null,
                    };
                    if found != *value {
                        return Err(format!("{column} of webhook {id} was said to be {value}, and is {found}"));
                    }
                }
                Fact::Not(id, number, state) => {
                    let is_so: bool = store
                        .query_row(
                            "SELECT state = 0 FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2",
                            [id, number],
                            |row| row.get(0),
                        )
                        .map_err(failed)?;
                    if is_so {
                        return Err(format!("{number} of webhook {id} is {state} again"));
                    }
                }
            }
        }
        Ok(())
    }

    /// What a cut at that part of the story leaves.
    fn rest(&self, part: usize, parts: usize) -> (Place, Accepted) {
        let (mut image, at) = (Image::default(), self.ops.len() * part / parts);
        self.ops[..at].iter().for_each(|op| image.apply(op));
        let place = Place::file();
        image.write_to(place.path(), Left::Nothing);
        let told = self.told.iter().filter(|told| told.at <= at);
        let receipts =
            told.filter_map(|told| if let Fact::Receipt(receipt) = &told.what { Some(receipt) } else { None });
        (place, receipts.flat_map(entries).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_power_cut_at_every_sync() {
    let story = tell("full").await;
    let (cuts, wrong) = story.cut_everywhere();
    println!("{cuts} power cuts over {} operations of the disk; {} answers checked", story.ops.len(), story.told.len());
    assert!(wrong.is_empty(), "{} of {cuts}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(cuts > 100, "{cuts}");
    let checkpoints = story.ops.iter().filter(|op| matches!(op, Op::Sync { file } if file == "store.db")).count();
    assert!(checkpoints > 2, "{checkpoints}: one at the start, one at the end, and one at least in between");
    // And a server goes on with what is left.
    const PARTS: usize = 5;
    for part in 1..=PARTS {
        let (place, accepted) = story.rest(part, PARTS);
        let server = Start { place: Arc::new(place), ..Start::default() }.go().await;
        let books = settled(&server, &accepted).await;
        println!("after a cut at {part}/{PARTS}: {books:?}");
        server.stop().await;
    }
}

/// Waits until nothing is pending for a webhook that is delivered to.
async fn settled(server: &TestServer, accepted: &Accepted) -> Books {
    server
        .until(async || {
            let pending = server.place.number(
                "SELECT count(*) FROM delivery JOIN webhook USING (webhook_id)
                    WHERE state = 0 AND url IS NOT NULL AND deleted_at IS NULL",
            );
            (pending == 0).then_some(())
        })
        .await;
    audit(&server.place, accepted).unwrap()
}

/// Proof that the cuts above prove something.
#[tokio::test(flavor = "multi_thread")]
async fn without_syncs_a_power_cut_loses_answers() {
    let story = tell("normal").await;
    let (cuts, wrong) = story.cut_everywhere();
    assert!(wrong.iter().any(|problem| problem.contains("is not there")), "{cuts}: {wrong:#?}");
    let never = Story {
        ops: story.ops.into_iter().filter(|op| !matches!(op, Op::Sync { .. })).collect(),
        told: story.told.into_iter().map(|told| Told { at: 0, ..told }).collect(),
    };
    assert_eq!(never.cut_everywhere().1.len(), 1, "a disk that never syncs has nothing");
}

/// Publishes until so many are accepted, trying again after each fault; what
/// was accepted, and how often it was refused.
async fn publish_through(server: &TestServer, count: usize, filling: usize) -> (Accepted, usize) {
    let (mut accepted, mut refused) = (Accepted::new(), 0);
    for n in 0..count {
        let args = json!(["order:created", {"n": n, "filling": "x".repeat(filling)}]);
        loop {
            match server.call("event.publish", args.clone()).await {
                Ok(receipt) => break accepted.extend(entries(&receipt)),
                Err(fault) => {
                    assert_eq!(fault["code"], 1, "{fault}");
                    refused += 1;
                }
            }
        }
    }
    (accepted, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_loses_nothing() {
    for every in [2, 3, 5, 7] {
        let place = Arc::new(Place::file());
        let disk = Disk::watch(place.path());
        let server = Start { place: Arc::clone(&place), ..Start::default() }.go().await;
        let receiver = Receiver::obliging().await;
        server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
        disk.fail_syncs(Some(every));
        let (mut told, mut accepted, mut refused) = (Vec::new(), Accepted::new(), 0);
        for _ in 0..40 {
            let (more, again) = publish_through(&server, 1, 0).await;
            told.push((disk.now(), more.clone()));
            accepted.extend(more);
            refused += again;
        }
        disk.fail_syncs(None);
        let books = settled(&server, &accepted).await;
        server.stop().await;
        println!("every sync {every} failed: {} failures, {refused} faults; {books:?}", disk.failures());
        assert!(refused > 0 && disk.failures() > 5);
        // What a failed sync did not bring to the disk is lost for ever, and
        // yet no cut takes back what was answered.
        let (mut image, mut cuts) = (Image::default(), 0);
        for (at, op) in disk.ops().iter().enumerate() {
            if matches!(op, Op::Sync { .. } | Op::SyncFailed { .. }) {
                cuts += 1;
                let left = Place::file();
                image.write_to(left.path(), Left::Nothing);
                let answered = told.iter().filter(|(then, _)| *then <= at).flat_map(|(_, more)| more.clone());
                let answered: Accepted = answered.collect();
                if !answered.is_empty() {
                    audit(&left, &answered).unwrap_or_else(|problem| panic!("cut at {at}, every {every}: {problem}"));
                }
            }
            image.apply(op);
        }
        println!("{cuts} power cuts after failed syncs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    common::log::keep();
    let place = Arc::new(Place::file());
    let folder = place.path().display().to_string();
    let disk = Disk::watch(place.path());
    let (server, hand) = Start { place, ..Start::default() }.manual().await;
    let receiver = Receiver::obliging().await;
    server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
    let (mut accepted, _) = publish_through(&server, 20, 500).await;
    for minute in 1..=5 {
        disk.fill(true);
        let mut refused = 0;
        while refused < 6 {
            let publish = || server.call("event.publish", json!(["order:created", {"filling": "x".repeat(50_000)}]));
            let (first, second) = tokio::join!(publish(), publish());
            for published in [first, second] {
                match published {
                    Ok(receipt) => accepted.extend(entries(&receipt)),
                    Err(fault) => {
                        assert_eq!((&fault["code"], &fault["data"]["retry_after_ms"]), (&json!(109), &json!(60_000)));
                        assert!(fault["message"].as_str().unwrap().contains("disk"), "{fault}");
                        refused += 1;
                    }
                }
            }
        }
        let fault = server.call("webhook.create", json!([{"url": receiver.url(), "topics": "*"}])).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["data"]["retry_after_ms"]), (&json!(106), &json!(60_000)));
        let told: Vec<_> = common::log::lines_with("full").into_iter().filter(|line| line.contains(&folder)).collect();
        assert_eq!(told.len(), minute, "{told:#?}");
        disk.fill(false);
        let (more, again) = publish_through(&server, 20, 500).await;
        assert_eq!(again, 0, "there is room");
        accepted.extend(more);
        hand.pass(60);
    }
    let books = settled(&server, &accepted).await;
    println!("full five times: {} failures of the disk; {} accepted; {books:?}", disk.failures(), accepted.len());
    assert_eq!(books.delivered, books.total());
    assert!(disk.failures() > 5);
    let mut arrived: Vec<_> = receiver.so_far().iter().map(common::Arrived::number).collect();
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), books.total());
}
