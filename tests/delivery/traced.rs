//! Traces of publishers, from their requests to the receivers.

use serde_json::{Value, json};

use crate::common::manual::webhook;
use crate::common::socket::Socket;
use crate::common::{Arrived, DEMO_KEY, Receiver, Reply, Start, TestServer, basic};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Publishes in a trace; the event's id.
async fn publish_in(server: &TestServer, traceparent: &[&str], options: Value) -> i64 {
    let (auth, args) = (basic("demo", DEMO_KEY), json!(["order:created", {"n": 1}, options]));
    let mut headers = vec![("authorization", auth.as_str()), ("tracestate", "congo=t61rcWkgMzE")];
    headers.extend(traceparent.iter().map(|text| ("traceparent", *text)));
    let receipt = server.rpc_at("/", &headers, "call", json!([null, "event.publish", args])).await.unwrap();
    receipt["event_id"].as_i64().unwrap()
}

async fn shown(server: &TestServer, event_id: i64) -> Value {
    server.call("event.get", json!([event_id])).await.unwrap()["traceparent"].clone()
}

fn sent(arrived: &Arrived) -> Option<&str> {
    assert!(!arrived.headers.contains_key("tracestate"));
    arrived.headers.get("traceparent").map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_event_takes_the_trace_of_its_request_to_its_receivers() {
    let (server, hand) = Start::default().manual().await;
    let receiver = Receiver::start(|n, _| Reply::status(if n == 0 { 500 } else { 204 })).await;
    let own = json!({"retry": "default", "extra_headers": "Traceparent: mine"});
    let id = webhook(&server, &receiver, own).await;
    let event_id = publish_in(&server, &[TRACE], json!({"idempotency_key": "one"})).await;
    assert_eq!(shown(&server, event_id).await, TRACE);
    // A repetition is the same event, of the trace that it has.
    assert_eq!(publish_in(&server, &[OTHER], json!({"idempotency_key": "one"})).await, event_id);
    server.attempts(id, 1, 1).await;
    let webhook = server.call("webhook.get", json!([id])).await.unwrap();
    assert_eq!(webhook["extra_headers"], "Traceparent: mine");
    hand.pass(24 * 3_600);
    let arrived = receiver.arrivals(2).await;
    assert_eq!((sent(&arrived[0]), sent(&arrived[1])), (Some(TRACE), Some(TRACE)));
    let attempts = server.attempts(id, 1, 2).await;
    assert!(attempts[1]["request_headers"].to_string().contains(TRACE), "{attempts:?}");

    // It is in the store, and read from there by the next server.
    assert_eq!(server.call("webhook.pause", json!([id])).await.unwrap()["is_paused"], 1);
    let waiting = publish_in(&server, &[OTHER], json!({})).await;
    let place = server.stop().await;
    assert_eq!(place.value(&format!("SELECT traceparent FROM event WHERE event_id = {waiting}")), OTHER);
    let (server, _hand) = Start { place, ..Start::default() }.manual_at(hand.now()).await;
    server.call("webhook.resume", json!([id])).await.unwrap();
    assert_eq!(sent(&receiver.arrivals(3).await[2]), Some(OTHER));
    assert_eq!(shown(&server, waiting).await, OTHER);
}

#[tokio::test]
async fn what_is_no_trace_counts_as_none() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    webhook(&server, &receiver, json!({})).await;
    let upper = TRACE.to_uppercase();
    let given: [&[&str]; 5] = [&[], &["nonsense"], &[&upper], &[TRACE, OTHER], &[&TRACE.replace("00-0", "ff-0")]];
    for (count, given) in (1..).zip(given) {
        let event_id = publish_in(&server, given, json!({"traceparent": "00-1-2-3"})).await;
        assert_eq!(shown(&server, event_id).await, Value::Null, "{given:?}");
        assert_eq!(sent(&receiver.arrivals(count).await[count - 1]), None, "{given:?}");
    }
    let place = server.stop().await;
    assert_eq!(place.number("SELECT count(*) FROM event WHERE traceparent IS NOT NULL"), 0);
}

#[tokio::test]
async fn an_events_own_trace_goes_before_that_of_its_request() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let own = json!({"batch": {"max_events": 3, "wait_ms": 60_000}});
    webhook(&server, &receiver, own).await;
    let mut socket =
        Socket::open(&server.url(), "/", &[("authorization", &basic("demo", DEMO_KEY)), ("traceparent", TRACE)])
            .await
            .unwrap();
    let event = |options: Value| json!({"topic": "order:created", "message": {}, "options": options});
    let events = [event(json!({"traceparent": OTHER})), event(json!({})), event(json!({"traceparent": "?"}))];
    let receipts = socket.call("call", json!([null, "event.publish_many", [events]])).await.unwrap();
    let mut traces = Vec::new();
    for receipt in receipts.as_array().unwrap() {
        traces.push(shown(&server, receipt["event_id"].as_i64().unwrap()).await);
    }
    assert_eq!(traces, [OTHER, TRACE, TRACE]);
    // A request of several is of the first one's.
    assert_eq!(sent(&receiver.arrivals(1).await[0]), Some(OTHER));
}

#[tokio::test]
async fn a_test_is_of_the_trace_of_who_asks_for_it() {
    let server = TestServer::start().await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, json!({})).await;
    let headers = [("authorization", basic("demo", DEMO_KEY)), ("traceparent", TRACE.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    server.rpc_at("/", &headers, "call", json!([null, "webhook.test", [id]])).await.unwrap();
    assert_eq!(sent(&receiver.arrivals(1).await[0]), Some(TRACE));
}
