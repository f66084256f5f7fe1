//! What whoever runs the server asks it by plain GET.

use http::header;
use serde_json::{Value, json};

use tallyhook::metrics::{Gauge, Labelled};

use crate::common::manual::Hand;
use crate::common::{PATIENCE, Receiver, Reply, Start, TestServer, get, http_client, send};

async fn asked(url: &str, path: &str) -> (u16, Value) {
    let (status, text) = get(url, path).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{path}: {cause} in {text}")))
}

#[tokio::test]
async fn a_server_says_that_it_is_there_and_can_work_and_what_it_counts() {
    let server = TestServer::start().await;
    let url = server.url();
    assert_eq!(asked(&url, "/healthz").await, (200, json!({ "status": "ok" })));
    assert_eq!(asked(&url, "/readyz").await, (200, json!({ "status": "ready" })));
    assert_eq!(asked(&url, "/version").await, (200, json!({ "version": env!("CARGO_PKG_VERSION") })));
    let (status, headers, text) = server.exchange("HEAD", "/readyz", &[], "").await;
    assert_eq!((status, &headers[header::CACHE_CONTROL], text.as_str()), (200, &"no-store".parse().unwrap(), ""));
    assert_eq!(server.exchange("POST", "/healthz", &[], "").await.0, 405);

    let receiver = Receiver::obliging().await;
    let webhook = server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
    server.publish("order:created", json!({})).await;
    server.settled(webhook["webhook_id"].as_i64().unwrap()).await;
    let (_, headers, plain) = server.exchange("GET", "/metrics", &[("accept", "text/plain")], "").await;
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE tallyhook_events_total counter",
        "tallyhook_events_total 1",
        "tallyhook_attempts_total{outcome=\"delivered\"} 1",
        "tallyhook_delivery_seconds_count 1",
        "tallyhook_problems{part=\"store\"} 0",
        "tallyhook_delivery_seconds_bucket{le=\"60.0\"} 1",
        "tallyhook_calls_total{method=\"event.publish\",fault=\"none\"} 1",
        &format!("tallyhook_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(plain.lines().any(|own| own == line), "{line} is missing in {plain}");
    }
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let (_, headers, open) = server.exchange("GET", "/metrics", &[("accept", accept)], "").await;
    assert_eq!(headers[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.contains("# TYPE tallyhook_events counter\n") && open.ends_with("# EOF\n"), "{open}");
    // No value of anybody's choosing makes another line.
    let (status, _) = get(&url, "/metrics?webhook=1").await;
    assert!(status == 200 && !plain.contains("order:created") && !plain.contains("demo"), "{plain}");
}

#[tokio::test]
async fn a_port_of_their_own_is_the_only_one_then() {
    let server = Start::default().flag("ops_listen", "127.0.0.1:0").go().await;
    let (ops, own) = (server.ops_url(), server.url());
    assert_ne!(ops, own);
    assert_eq!(asked(&ops, "/readyz").await.0, 200);
    assert!(get(&ops, "/metrics").await.1.contains("tallyhook_connections "));
    for path in ["/healthz", "/readyz", "/metrics", "/version"] {
        assert_eq!(get(&own, path).await.0, 404, "{path}");
    }
    for path in ["/", "/openrpc.json", "/rest/v2/webhooks"] {
        let (status, text) = get(&ops, path).await;
        assert!(status == 404 && text.contains("/healthz"), "{path}: {status} {text}");
    }
    server.stop().await;
    let gone = http_client().get(format!("{ops}/healthz").parse().unwrap()).await;
    assert!(gone.is_err(), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_so_to_the_end() {
    let (arrived, release) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let (told, wait) = (std::sync::Mutex::new(arrived.0), std::sync::Mutex::new(release.1));
    let receiver = Receiver::start(move |_, _| {
        told.lock().unwrap().send(()).unwrap();
        tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
        Reply::status(204)
    })
    .await;
    let server = Start::default().flag("ops_listen", "127.0.0.1:0").go().await;
    server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
    server.publish("order:created", json!({})).await;
    tokio::task::block_in_place(|| arrived.1.recv().unwrap());
    let ops = server.ops_url();
    let stopping = tokio::spawn(server.stop());
    let client = http_client();
    let said = loop {
        let (status, _, said) = send(&client, "GET", &format!("{ops}/readyz"), &[], String::new()).await;
        if status == 503 {
            break said;
        }
        tokio::task::yield_now().await;
    };
    let expected = json!({"status": "not ready", "problems": [{"part": "server", "problem": "it is stopping"}]});
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expected);
    release.0.send(()).unwrap();
    stopping.await.unwrap();
}

/// Has the store looked through, so long after it was last.
async fn surveyed(server: &TestServer, hand: &Hand) {
    hand.pass(3_600);
    let figures = &server.metrics().figures;
    let come_round = async {
        while figures.survey_timestamp_seconds.get() < hand.now().0 / 1_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, come_round).await.expect("the store is looked through");
}

/// The values of a family that are not 0.
fn shown(family: &Labelled<Gauge>) -> Vec<(&'static str, i64)> {
    let health = ["healthy", "failing", "pulled", "paused", "disabled_gone", "disabled_failing", "off"];
    health.map(|name| (name, family.child(&[name]).get())).into_iter().filter(|(_, value)| *value != 0).collect()
}

#[tokio::test]
async fn what_waits_shows_by_how_its_webhook_is_doing() {
    let (server, hand) = Start::default().flag("session_ttl_s", "86400").manual().await;
    server.login().await;
    let (obliging, failing) = (Receiver::obliging().await, Receiver::start(|_, _| Reply::status(500)).await);
    let leaving = Receiver::start(|_, _| Reply::status(410)).await;
    let webhook = async |topics: &str, more: Value| {
        let mut data = json!({"topics": topics, "url": obliging.url()});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.webhook(data).await["webhook_id"].as_i64().unwrap()
    };
    let good = webhook("order:created", json!({})).await;
    let bad = webhook("item:created", json!({"url": failing.url()})).await;
    let gone = webhook("item:created", json!({"url": leaving.url()})).await;
    let paused = webhook("order:created", json!({})).await;
    server.call("webhook.pause", json!([paused])).await.unwrap();
    webhook("order:created", json!({"url": null, "delivery_mode": "pull"})).await;
    let off = webhook("order:created", json!({})).await;
    server.publish("order:created", json!({})).await;
    server.settled(good).await;
    server.call("webhook.update_status", json!([{"webhook_id": off, "status": 0}])).await.unwrap();
    for _ in 0..2 {
        server.publish("order:created", json!({})).await;
    }
    server.publish("item:created", json!({})).await;
    server.settled(good).await;
    server.attempts(bad, 1, 1).await;
    server.attempts(gone, 1, 1).await;
    server.settled(off).await;

    surveyed(&server, &hand).await;
    let metrics = server.metrics();
    let figures = &metrics.figures;
    let each = ["healthy", "failing", "pulled", "paused", "disabled_gone", "off"].map(|health| (health, 1));
    assert_eq!(shown(&figures.webhooks), each);
    let pending = [("failing", 1), ("pulled", 3), ("paused", 3), ("disabled_gone", 1)];
    assert_eq!(shown(&figures.deliveries_pending), pending);
    let lag = shown(&figures.delivery_lag_seconds);
    assert_eq!(
        lag.iter().filter(|(health, _)| *health != "failing").collect::<Vec<_>>(),
        [&("pulled", 3_600), &("paused", 3_600), &("disabled_gone", 3_600),]
    );
    assert!(figures.sessions.get() == 1 && figures.store_bytes.get() > 10_000 && figures.nodes.get() == 1);
    let leases = (figures.leases_held.get(), figures.leases_free.get());
    assert_eq!(leases, if server.place.is_file() { (0, 0) } else { (256, 0) });
    assert_eq!((figures.surveys_failed.get(), metrics.outcomes_refused.get()), (0, 0));

    // What pulls and is paused goes on waiting; the others may be tried again.
    server.call("webhook.resume", json!([paused])).await.unwrap();
    server.settled(paused).await;
    surveyed(&server, &hand).await;
    assert_eq!(shown(&figures.webhooks)[0], ("healthy", 2));
    let pulled = |family| shown(family).into_iter().find(|(health, _)| *health == "pulled");
    assert_eq!(pulled(&figures.deliveries_pending), Some(("pulled", 3)));
    assert_eq!(pulled(&figures.delivery_lag_seconds), Some(("pulled", 7_200)));
}

/// One delivery that fails for days keeps the mark of its webhook down, while thousands
/// behind it end.
#[tokio::test]
async fn what_has_ended_behind_one_that_has_not_is_not_pending() {
    let receiver = Receiver::start(|_, arrived| Reply::status(if arrived.number() == 1 { 500 } else { 204 })).await;
    let (server, hand) = Start::default().manual().await;
    let webhook = server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
    let id = webhook["webhook_id"].as_i64().unwrap();
    let events: Vec<_> = (0..100).map(|_| json!({"topic": "order:created", "message": {}})).collect();
    for _ in 0..23 {
        server.call("event.publish_many", json!([events])).await.unwrap();
    }
    let ended = async || server.call("delivery.count", json!([id, {"state": "delivered"}])).await.unwrap();
    server.until(async || (ended().await == 2_299).then_some(())).await;
    for _ in 0..2 {
        surveyed(&server, &hand).await;
        let pending = shown(&server.metrics().figures.deliveries_pending);
        assert_eq!(pending.into_iter().map(|(_, count)| count).collect::<Vec<_>>(), [1]);
    }
}

#[tokio::test]
async fn single_webhooks_are_shown_if_that_is_asked_for() {
    let receiver = Receiver::obliging().await;
    let (server, hand) = Start::default().flag("metrics_webhooks", "2").manual().await;
    let webhook = async |url: Value, mode: &str| {
        let data = json!({"topics": "*", "url": url, "delivery_mode": mode});
        server.webhook(data).await["webhook_id"].as_i64().unwrap()
    };
    let first = webhook(json!(receiver.url()), "parallel").await;
    let second = webhook(json!(receiver.url()), "parallel").await;
    let third = webhook(Value::Null, "pull").await;
    server.publish("order:created", json!({})).await;
    for id in [first, second] {
        server.settled(id).await;
    }
    surveyed(&server, &hand).await;
    let (_, said) = get(&server.url(), "/metrics").await;
    let line = |line: String| assert!(said.lines().any(|own| own == line), "{line} is missing in {said}");
    line(format!("tallyhook_webhook_deliveries_pending{{webhook=\"{third}\"}} 1"));
    line(format!("tallyhook_webhook_delivery_lag_seconds{{webhook=\"{third}\"}} 3600"));
    line(format!("tallyhook_webhook_attempts_total{{webhook=\"{first}\",outcome=\"delivered\"}} 1"));
    line("tallyhook_webhooks_left_out 1".to_owned());
    assert!(!said.contains(&format!("webhook=\"{second}\"")), "{said}");
}

#[tokio::test]
async fn publishes_that_are_refused_are_counted_by_fault() {
    let server = TestServer::start().await;
    server.call("event.publish", json!(["no topic", {}])).await.unwrap_err();
    server
        .call("event.publish_many", json!([[{"topic": "a:b", "message": {}}, {"topic": "", "message": {}}]]))
        .await
        .unwrap_err();
    server.publish("order:created", json!({})).await;
    let (_, said) = get(&server.url(), "/metrics").await;
    let refused: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("tallyhook_publishes_refused_total") && !line.ends_with(" 0"))
        .collect();
    assert_eq!(refused, ["tallyhook_publishes_refused_total{fault=\"InvalidEvent\"} 2"]);
}

mod sqlite_own {
    use super::*;

    #[tokio::test]
    async fn a_server_that_can_not_work_says_why_and_is_there_all_the_same() {
        let server = TestServer::start().await;
        let (store, aside) = (server.place.store_file(), server.place.path().join("aside"));
        std::fs::rename(&store, &aside).unwrap();
        let receiver = Receiver::obliging().await;
        let data = json!({"topics": "*", "url": receiver.url()});
        server.call("webhook.create", json!([data])).await.unwrap_err();
        let (status, said) = asked(&server.url(), "/readyz").await;
        let problem = "its file was deleted, moved or replaced; the log has more";
        let expected = json!({"status": "not ready", "problems": [{"part": "store", "problem": problem}]});
        assert_eq!((status, said), (503, expected));
        assert!(get(&server.url(), "/metrics").await.1.contains("tallyhook_problems{part=\"store\"} 1\n"));
        assert_eq!(asked(&server.url(), "/healthz").await.0, 200);
        std::fs::rename(&aside, &store).unwrap();
        server.call("webhook.create", json!([data])).await.unwrap();
        assert_eq!(asked(&server.url(), "/readyz").await.0, 200);
    }
}
