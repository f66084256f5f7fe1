//! What whoever runs the server asks it by plain GET.

use http::header;
use serde_json::{Value, json};

use crate::common::{Receiver, Reply, Start, TestServer, get, http_client, send};

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
        assert_eq!(asked(&server.url(), "/healthz").await.0, 200);
        std::fs::rename(&aside, &store).unwrap();
        server.call("webhook.create", json!([data])).await.unwrap();
        assert_eq!(asked(&server.url(), "/readyz").await.0, 200);
    }
}
