//! What is done to a delivery while its request is under way.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::{publish, states};
use crate::common::manual::{START, webhook};
use crate::common::{Arrived, PATIENCE, Receiver, Reply, Start};

/// A receiver whose answers wait until they are let go, each with the status
/// that is set then.
pub struct Slow {
    pub receiver: Receiver,
    gate: Arc<(Mutex<Option<u16>>, Condvar)>,
    asked: watch::Receiver<usize>,
}

impl Slow {
    pub async fn start() -> Self {
        let gate = Arc::new((Mutex::new(None), Condvar::new()));
        let theirs: Arc<(Mutex<Option<u16>>, Condvar)> = Arc::clone(&gate);
        let (asking, asked) = watch::channel(0);
        let receiver = Receiver::start(move |_, _| {
            asking.send_modify(|count| *count += 1);
            let status = tokio::task::block_in_place(|| {
                let waited = theirs.1.wait_while(theirs.0.lock().unwrap(), |status| status.is_none());
                waited.unwrap().expect("it waited for that")
            });
            Reply::status(status)
        })
        .await;
        Self { receiver, gate, asked }
    }

    /// Answers with this from now on.
    pub fn answer(&self, status: u16) {
        *self.gate.0.lock().unwrap() = Some(status);
        self.gate.1.notify_all();
    }

    /// Waits until so many requests have come, answered or not.
    pub async fn requests(&self, count: usize) -> Vec<Arrived> {
        let mut asked = self.asked.clone();
        let wait = asked.wait_for(|asked| *asked >= count);
        tokio::time::timeout(PATIENCE, wait).await.expect("the requests come").unwrap();
        self.receiver.so_far()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_a_request_is_under_way_goes_out_once_more() {
    let kinds = [json!({}), json!({"delivery_mode": "ordered"}), json!({"batch": {"max_events": 2}})];
    for (kind, (method, status)) in kinds.iter().flat_map(|kind| {
        let ways = [("delivery.retry", 204), ("delivery.retry", 500), ("webhook.replay", 204), ("webhook.replay", 500)];
        ways.map(|way| (kind, way))
    }) {
        let (server, _hand) = Start::default().manual().await;
        let slow = Slow::start().await;
        let mut data = kind.clone();
        data["retry"] = json!([]);
        let id = webhook(&server, &slow.receiver, data).await;
        publish(&server, 2).await;
        let first = slow.requests(1).await.remove(0);
        match method {
            "delivery.retry" => drop(server.call(method, json!([id, 1])).await.unwrap()),
            _ => {
                let range = json!({"from_increment_id": 1, "to_increment_id": 1});
                server.call(method, json!([id, range])).await.unwrap();
                let under_way = || server.place.number("SELECT count(*) FROM job WHERE ended_at IS NULL");
                server.until(async || (under_way() == 0).then_some(())).await;
            }
        }
        slow.answer(status);
        let attempts = server.attempts(id, 1, 2).await;
        let statuses: Vec<_> = attempts.iter().map(|attempt| attempt["status_code"].clone()).collect();
        assert_eq!(statuses, [json!(status), json!(status)], "{kind} {method}");
        let list = server.settled(id).await;
        let end = if status == 204 { "delivered" } else { "abandoned" };
        assert_eq!(states(&list), [end; 2], "{kind} {method}");
        let of_first = |arrived: &&Arrived| arrived.header("webhook-id") == first.header("webhook-id");
        let arrived = slow.receiver.so_far();
        let again: Vec<_> = arrived.iter().filter(of_first).collect();
        assert_eq!(again.len(), 2, "{kind} {method}: once more, and no more than that");
        assert_eq!(again[0].body, again[1].body);
    }
}

/// A number ends when the last that is known of it has happened: a request that
/// was under way when it was called off has an answer, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_called_off_while_under_way_ended_when_the_answer_came() {
    for (method, status, state) in [
        ("webhook.delete", 204, "delivered"),
        ("webhook.delete", 500, "cancelled"),
        ("delivery.cancel", 204, "delivered"),
        ("delivery.cancel", 500, "cancelled"),
    ] {
        let (server, hand) = Start::default().manual().await;
        let slow = Slow::start().await;
        let id = webhook(&server, &slow.receiver, json!({})).await;
        let event = server.publish("order:created", json!({})).await["event_id"].clone();
        let delivery = async || server.call("event.get", json!([event])).await.unwrap()["deliveries"][0].clone();
        slow.requests(1).await;
        hand.pass(10);
        let params = if method == "webhook.delete" { json!([id]) } else { json!([id, 1]) };
        server.call(method, params).await.unwrap();
        server.until(async || (delivery().await["state"] == "cancelled").then_some(())).await;
        hand.pass(20);
        slow.answer(status);
        let ended = server.until(async || Some(delivery().await).filter(|ended| ended["attempts"] == 1)).await;
        let answered_at = START.after(Duration::from_secs(30)).rfc3339_ms();
        assert_eq!((&ended["state"], &ended["ended_at"]), (&json!(state), &json!(answered_at)), "{method} {status}");
    }
}
