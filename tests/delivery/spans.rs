//! Spans, from a publisher's trace to a receiver, as a collector gets them.

use std::collections::BTreeMap;

use http::HeaderValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::manual::webhook;
use crate::common::{Arrived, DEMO_KEY, Receiver, Reply, Start, TestServer, basic, log};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn traced(collector: &Receiver, ratio: &str) -> Start {
    let endpoint = format!("http://ann:collectors-key@127.0.0.1:{}", collector.port());
    Start::default().flag("otlp_endpoint", &endpoint).flag("otlp_sample_ratio", ratio)
}

async fn publish_in(server: &TestServer, traceparent: &str, args: Value) -> Result<Value, Value> {
    let auth = basic("demo", DEMO_KEY);
    let headers = [("authorization", auth.as_str()), ("traceparent", traceparent)];
    server.rpc_at("/", &headers, "call", json!([null, "event.publish", args])).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes, each as a text.
fn attributes(all: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    all.iter().map(|one| (one.key.as_str(), text(&one.value))).collect()
}

/// What a collector got, by the order in which things began.
fn collected(requests: &[Arrived]) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in requests {
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        assert_eq!(request.header("authorization"), basic("ann", "collectors-key"));
        for of_resource in ExportTraceServiceRequest::decode(request.body.clone()).unwrap().resource_spans {
            let resource = of_resource.resource.unwrap();
            let named = attributes(&resource.attributes);
            assert_eq!((&*named["service.name"], named.contains_key("service.instance.id")), ("tallyhook", true));
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

fn place(header: &str) -> (String, String) {
    let parts: Vec<_> = header.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

#[tokio::test]
async fn a_publish_its_commit_and_each_attempt_are_in_the_publishers_trace() {
    let collector = Receiver::start(|_, _| Reply::status(200)).await;
    let (server, hand) = traced(&collector, "0").manual().await;
    let receiver = Receiver::start(|n, _| Reply::status(if n == 0 { 503 } else { 204 })).await;
    let url = format!("{}?token=receivers-key", receiver.url());
    let id = webhook(&server, &receiver, json!({"url": url, "retry": [60]})).await;
    let receipt = publish_in(&server, TRACE, json!(["order:created", {"secret": "messages-secret"}])).await.unwrap();
    server.attempts(id, 1, 1).await;
    hand.pass(600);
    server.attempts(id, 1, 2).await;
    let arrived = receiver.arrivals(2).await;
    let event = server.call("event.get", json!([receipt["event_id"]])).await.unwrap();
    // Of what nobody records there is nothing, and its trace goes on as it came.
    publish_in(&server, UNSAMPLED, json!(["order:created", {}])).await.unwrap();
    server.publish("order:created", json!({})).await;
    let untouched = receiver.arrivals(4).await;
    let headers: Vec<_> = untouched[2..].iter().map(|arrived| arrived.headers.get("traceparent")).collect();
    assert_eq!(headers, [Some(&HeaderValue::from_static(UNSAMPLED)), None]);
    server.stop().await;

    let requests = collector.so_far();
    for secret in ["receivers-key", "messages-secret", "collectors-key"] {
        assert!(!requests.iter().any(|request| String::from_utf8_lossy(&request.body).contains(secret)), "{secret}");
    }
    let spans = collected(&requests);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE_ID && span.flags & 1 == 1));
    let [publish, commit, first, second] = &spans[..] else { panic!("{spans:?}") };
    let names = [publish, commit, first, second].map(|span| (span.name.as_str(), span.kind));
    assert_eq!(names, [("publish order:created", 2), ("commit", 1), ("POST", 3), ("POST", 3)]);
    assert_eq!(hex(&publish.parent_span_id), "b7ad6b7169203331");
    assert_eq!(commit.parent_span_id, publish.span_id);
    assert_eq!([&first.parent_span_id, &second.parent_span_id], [&commit.span_id; 2]);
    assert_eq!(place(event["traceparent"].as_str().unwrap()), (TRACE_ID.to_owned(), hex(&commit.span_id)));
    for (attempt, arrived) in [first, second].into_iter().zip(&arrived) {
        assert_eq!(place(arrived.header("traceparent")), (TRACE_ID.to_owned(), hex(&attempt.span_id)));
    }
    let said = attributes(&publish.attributes);
    assert_eq!(said["messaging.destination.name"], "order:created");
    assert_eq!(said["messaging.message.id"], receipt["event_id"].to_string());
    assert!(publish.status.as_ref().is_none_or(|status| status.code == 0));
    let said = attributes(&first.attributes);
    assert_eq!((&*said["error.type"], &*said["http.response.status_code"]), ("503", "503"));
    assert_eq!((&said["url.full"], &said["server.port"]), (&receiver.url(), &receiver.port().to_string()));
    assert_eq!(first.status.as_ref().map(|status| status.code), Some(2));
    let said = attributes(&second.attributes);
    assert_eq!((&*said["http.request.resend_count"], &*said["http.response.status_code"]), ("1", "204"));
    assert!(!said.contains_key("error.type"));
}

#[tokio::test]
async fn traces_begin_here_if_they_are_sampled() {
    let collector = Receiver::start(|_, _| Reply::status(200)).await;
    let server = traced(&collector, "1").go().await;
    let receiver = Receiver::obliging().await;
    webhook(&server, &receiver, json!({})).await;
    server.publish("order:created", json!({})).await;
    let (trace_id, _) = place(receiver.arrivals(1).await[0].header("traceparent"));
    let args = json!([[{"topic": "a:b", "message": {}}, {"topic": "a:b", "message": {}}]]);
    server.call("event.publish_many", args).await.unwrap();
    let arrived = receiver.arrivals(3).await;
    let [one, other] = [1, 2].map(|n| place(arrived[n].header("traceparent")));
    assert!(one.0 == other.0 && one.0 != trace_id && one.1 != other.1);
    // What is refused has a span, too.
    server.call("event.publish", json!(["no topic", {}])).await.unwrap_err();
    server.until(async || (server.metrics().attempts.child(&["delivered"]).get() == 3).then_some(())).await;
    server.stop().await;
    let spans = collected(&collector.so_far());
    let of = |name: &str| spans.iter().filter(|span| span.name.starts_with(name)).collect::<Vec<_>>();
    let publishes = of("publish");
    let ids: Vec<_> = publishes.iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!((&ids[0], &ids[1], of("commit").len(), of("POST").len()), (&trace_id, &one.0, 2, 3));
    assert!(publishes.iter().all(|span| span.parent_span_id.is_empty()));
    assert_eq!(attributes(&publishes[1].attributes)["messaging.batch.message_count"], "2");
    assert_eq!(attributes(&publishes[2].attributes)["error.type"], "107");
}

#[tokio::test]
async fn a_collector_that_fails_holds_up_nothing_and_is_told_of() {
    log::keep();
    let collector = Receiver::start(|_, _| Reply::status(400)).await;
    let server = traced(&collector, "1").go().await;
    server.publish("order:created", json!({})).await;
    let metrics = server.metrics();
    server.stop().await;
    let count = |outcome| metrics.spans.child(&[outcome]).get();
    assert_eq!((count("failed"), count("exported"), count("dropped")), (2, 0, 0));
    let port = collector.port().to_string();
    let told: Vec<_> =
        log::lines_with("the collector takes no spans").into_iter().filter(|line| line.contains(&port)).collect();
    assert!(told.len() == 1 && told[0].contains("400") && !told[0].contains("collectors-key"), "{told:?}");
}

#[tokio::test]
async fn what_a_silent_collector_leaves_no_room_for_is_dropped_and_counted() {
    const CALLS: u64 = 6;
    // It takes connections, and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let server = Start::default().flag("otlp_endpoint", &endpoint).flag("grace_ms", "0").go().await;
    for call in 0..CALLS {
        let event = |n: u64| {
            let trace = format!("00-{:032x}-{:016x}-01", call * 1_000 + n + 1, n + 1);
            json!({"topic": "order:created", "message": {}, "options": {"traceparent": trace}})
        };
        server.call("event.publish_many", json!([(0..1_000).map(event).collect::<Vec<_>>()])).await.unwrap();
    }
    let metrics = server.metrics();
    let dropped = metrics.spans.child(&["dropped"]).get();
    // All but those that wait, and one request of them that is under way.
    assert!((2_000 * CALLS - 8_192 - 512..=2_000 * CALLS - 8_192).contains(&dropped), "{dropped}");
    server.stop().await;
}
