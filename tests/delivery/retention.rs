//! What has ended is pruned and leaves its tombstone; what has not is kept,
//! whatever the space.

use serde_json::{Value, json};

use crate::common::manual::{DAY_S, webhook};
use crate::common::{Receiver, Reply, Start, TestServer};

async fn pulled(server: &TestServer, id: i64) -> Vec<Value> {
    let pulled = server.call("delivery.pull", json!([id, 0, 1000])).await.unwrap();
    pulled.as_array().unwrap().clone()
}

/// A job, once it is done.
async fn done(server: &TestServer, id: &Value) -> Option<Value> {
    Some(server.call("job.get", json!([id])).await.unwrap()).filter(|job| job["state"] == "done")
}

fn has_body(item: &Value) -> bool {
    item["body"].is_string()
}

#[tokio::test]
async fn what_has_ended_leaves_its_tombstone() {
    let config = Start::default().flag("retention_days", "10").flag("body_retention_days", "20");
    let (server, hand) = config.manual().await;
    let (obliging, failing) = (Receiver::obliging().await, Receiver::start(|_, _| Reply::status(500)).await);
    let (good, bad) = (
        webhook(&server, &obliging, json!({"topics": "*"})).await,
        webhook(&server, &failing, json!({"topics": "order:kept"})).await,
    );
    server.publish("order:gone", json!({"n": 1})).await;
    server.publish("order:kept", json!({"n": 2})).await;
    let before = server.settled(good).await;
    server.attempts(bad, 1, 1).await;

    hand.pass(11 * DAY_S);
    let attempts_of = async |id, number| {
        server.call("delivery.attempts", json!([id, number])).await.unwrap().as_array().unwrap().len()
    };
    // A commit that had begun before may have swept by its own time.
    let pruned = async || {
        hand.pass(60);
        (attempts_of(good, 1).await == 0).then_some(())
    };
    server.until(pruned).await;
    assert_eq!(attempts_of(good, 2).await, 0, "each delivery's attempts go when it has ended");
    assert!(attempts_of(bad, 1).await > 0, "what is pending keeps its attempts");
    assert!(pulled(&server, good).await.iter().all(has_body), "bodies are kept longer");

    hand.pass(10 * DAY_S);
    let pruned = async || {
        hand.pass(60);
        (!has_body(&pulled(&server, good).await[0])).then_some(())
    };
    server.until(pruned).await;
    let left = pulled(&server, good).await;
    assert!(has_body(&left[1]) && has_body(&pulled(&server, bad).await[0]), "the event is still to be delivered");
    assert_eq!((&left[0]["signature"], &left[0]["state"]), (&Value::Null, &json!("delivered")));
    let after = server.call("delivery.list", json!([good])).await.unwrap();
    for member in ["increment_id", "state", "reason", "created_at", "ended_at", "attempts", "event_id"] {
        assert_eq!(after[0][member], before[0][member], "{member} stays");
    }
    assert_eq!((&after[0]["topic"], &after[1]["topic"]), (&Value::Null, &json!("order:kept")));

    let fault = server.call("delivery.retry", json!([good, 1])).await.unwrap_err();
    assert_eq!(fault["code"], 113);
    let replay = server.call("webhook.replay", json!([good, {"all": true}])).await.unwrap();
    assert_eq!((&replay["unavailable"], &replay["first_unavailable_increment_id"]), (&json!(1), &json!(1)));
    let job = server.until(async || done(&server, &replay["job_id"]).await).await;
    let first = json!({"webhook_id": good, "increment_id": 1});
    let told = ["looked_at", "queued", "unavailable", "first_unavailable"].map(|member| job[member].clone());
    assert_eq!(told, [json!(2), json!(1), json!(1), first]);
    let since = json!([good, {"from_increment_id": 2}]);
    let replay = server.call("webhook.replay", since).await.unwrap();
    assert_eq!((&replay["unavailable"], &replay["first_unavailable_increment_id"]), (&json!(0), &Value::Null));
    server.until(async || done(&server, &replay["job_id"]).await).await;
    let replayed = obliging.arrivals(3).await;
    assert_eq!(replayed[2].number(), 2, "what was pruned is not sent again");
    let retried = server.call("delivery.retry_many", json!([{"all": true, "state": "delivered"}])).await.unwrap();
    let job = server.until(async || done(&server, &retried["job_id"]).await).await;
    assert_eq!((&job["unavailable"], &job["first_unavailable"]["increment_id"]), (&json!(1), &json!(1)));
    assert_eq!(server.publish("order:new", json!({})).await["deliveries"][0]["increment_id"], 3, "numbers go on");
}

#[tokio::test]
async fn a_full_store_refuses_and_keeps_what_it_has() {
    let start = Start::default();
    // Tables with nothing in them take room in PostgreSQL.
    let max = if start.place.is_file() { "1000000" } else { "1500000" };
    let (server, hand) = start.flag("store_bytes_max", max).manual().await;
    let (obliging, failing) = (Receiver::obliging().await, Receiver::start(|_, _| Reply::status(500)).await);
    let (good, bad) = (
        webhook(&server, &obliging, json!({"topics": "order:*"})).await,
        webhook(&server, &failing, json!({"topics": "keep:*"})).await,
    );
    // It can't be compressed.
    let filling: String = std::iter::repeat_with(fastrand::alphanumeric).take(10_000).collect();
    for n in 0..5 {
        server.publish("keep:this", json!({"n": n, "filling": filling})).await;
    }
    let mut accepted = 0;
    let fault = loop {
        match server.call("event.publish", json!(["order:created", {"filling": filling}])).await {
            Ok(_) => accepted += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault["code"], 109);
    assert_eq!(fault["data"]["retry_after_ms"], 60_000);
    assert!(fault["message"].as_str().unwrap().contains("store_bytes_max"), "{fault}");
    assert!((40..100).contains(&accepted), "{accepted} of 10 kB");
    let data = json!([{"topics": "none:*", "url": obliging.url()}]);
    let refused = server.call("webhook.create", data).await.unwrap_err();
    assert_eq!((&refused["code"], &refused["data"]["retry_after_ms"]), (&json!(106), &json!(60_000)), "{refused}");
    server.call("webhook.update", json!([good, {"name": "still"}])).await.unwrap();
    assert_eq!(server.settled(good).await.len(), accepted, "what was accepted is delivered");

    hand.pass(61);
    let accepts = async || {
        let published = server.call("event.publish", json!(["order:created", {"filling": filling}])).await;
        if published.is_err() && !server.place.is_file() {
            // As the database does some time by itself.
            server.place.rows("VACUUM FULL event");
            hand.pass(61);
        }
        published.ok()
    };
    server.until(accepts).await;
    let kept = pulled(&server, bad).await;
    assert_eq!(kept.len(), 5);
    assert!(kept.iter().all(has_body), "what is pending is never pruned");
    let list = server.settled(good).await;
    assert_eq!(list.len(), accepted + 1);
    assert!(list.iter().zip(1..).all(|(delivery, n)| delivery["increment_id"] == n), "no number was lost");
}
