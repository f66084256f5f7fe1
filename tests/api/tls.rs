//! TLS as callers meet it: versions, client certificates, certificates that are swapped,
//! and handshakes that never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::common::certificates::{Pair, authority};
use super::common::{DEMO_KEY, PATIENCE, Start, TestServer, basic, log};
use super::tools::{command, left_out, runs};

fn speaking(pair: &Pair) -> Start {
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    Start::default().flag("tls_cert", &path(pair.certificate())).flag("tls_key", &path(pair.key()))
}

fn address(server: &TestServer) -> String {
    server.url().strip_prefix("https://").expect("it says that it speaks TLS").to_owned()
}

async fn connect(address: &str, tls: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connecting =
        async { TlsConnector::from(Arc::clone(tls)).connect(name, TcpStream::connect(address).await?).await };
    tokio::time::timeout(PATIENCE, connecting).await.expect("the handshake ends")
}

fn presented(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("there is one")[0].clone().into_owned()
}

/// A connection on which calls are made.
struct Caller {
    requests: SendRequest<Full<bytes::Bytes>>,
}

impl Caller {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (requests, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        // What goes wrong with it, its calls tell.
        tokio::spawn(async { _ = connection.await });
        Self { requests }
    }

    async fn call(&mut self, method: &str) -> Result<Value, String> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": [null]});
        let request = Request::post("/")
            .header("host", "127.0.0.1")
            .header("authorization", basic("demo", DEMO_KEY))
            .header("content-type", "application/json")
            .body(Full::from(call.to_string()))
            .unwrap();
        let calling = async {
            self.requests.ready().await.map_err(|cause| cause.to_string())?;
            let answer = self.requests.send_request(request).await.map_err(|cause| cause.to_string())?;
            if answer.status() != StatusCode::OK {
                return Err(answer.status().to_string());
            }
            let body = answer.into_body().collect().await.map_err(|cause| cause.to_string())?;
            serde_json::from_slice(&body.to_bytes()).map_err(|cause| cause.to_string())
        };
        tokio::time::timeout(PATIENCE, calling).await.expect("the server answers")
    }
}

fn curl(args: &[&str]) -> (bool, String) {
    let output = command("curl").args(["-sS", "--max-time", "60"]).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_calls_it_and_is_told_where_it_is() {
    if !runs("curl") {
        return left_out("curl against TLS: it is not installed; tests/run installs it");
    }
    let pair = Pair::new(&authority("ours"));
    let server = speaking(&pair).go().await;
    let (url, authority) = (server.url(), pair.authority());
    let ours = ["--cacert", authority.to_str().unwrap(), "-u", "demo:demo-key"];
    let get = |path: &str| {
        let (succeeded, text) = curl(&[&ours[..], &[&format!("{url}{path}")]].concat());
        assert!(succeeded, "{text}");
        serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{text}"))
    };
    let discover = r#"{"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"}"#;
    let (succeeded, text) =
        curl(&[&ours[..], &[&url, "-H", "content-type: application/json", "-d", discover]].concat());
    assert!(succeeded, "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    let servers = told["result"]["servers"].to_string();
    assert!(servers.contains(&url) && !servers.contains("http:"), "{servers}");
    let servers = get("/openapi/babel.json")["servers"].to_string();
    assert!(servers.contains(&url), "{servers}");
    let (succeeded, text) =
        curl(&[&ours[..2], &[&format!("{url}/v1/webhooks/event-types"), "-H", "x-api-key: demo-key"]].concat());
    assert!(succeeded && serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    assert!(get("/healthz").is_object(), "who looks after it is answered there, too");

    let (succeeded, text) = curl(&[&url]);
    assert!(!succeeded && text.contains("certificate"), "nobody vouches for it: {text}");
    let plain = url.replacen("https", "http", 1);
    let (succeeded, text) = curl(&["-i", &plain, "-d", &"x".repeat(100_000)]);
    assert!(succeeded && text.contains("400 Bad Request") && text.contains("speaks HTTPS"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_finds_what_is_spoken() {
    if !command("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
        return left_out("TLS as openssl sees it: it is not installed; tests/run installs it");
    }
    let pair = Pair::new(&authority("ours"));
    let server = speaking(&pair).go().await;
    let (address, authority) = (address(&server), pair.authority());
    let shake_hands = |args: &[&str]| {
        let mut openssl = command("openssl");
        openssl.args(["s_client", "-connect", &address, "-verify_return_error", "-CAfile"]).arg(&authority).args(args);
        let output = openssl.stdin(std::process::Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.success(), text)
    };
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (succeeded, text) = shake_hands(&[version, "-alpn", "h2,http/1.1"]);
        assert!(succeeded && text.contains(name), "{text}");
        assert!(text.contains("ALPN protocol: http/1.1") && text.contains("Verify return code: 0"), "{text}");
    }
    // At this level openssl itself would still speak it.
    for version in ["-tls1", "-tls1_1"] {
        let (succeeded, text) = shake_hands(&[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert!(!succeeded && text.contains(" alert ") && text.contains("Cipher is (NONE)"), "{text}");
    }
    let (succeeded, text) = shake_hands(&["-alpn", "h2"]);
    assert!(!succeeded && text.contains("no application protocol"), "{text}");
    let (succeeded, text) = shake_hands(&[]);
    assert!(succeeded && text.contains("No ALPN negotiated"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_to_present_a_certificate_is_refused_without_it() {
    let (ours, of_callers) = (authority("ours"), authority("of callers"));
    let (pair, caller, stranger) = (Pair::new(&ours), Pair::new(&of_callers), Pair::new(&ours));
    let server = speaking(&pair).flag("tls_client_ca", caller.authority().to_str().unwrap()).go().await;
    let address = address(&server);
    let calling = async |presented: Option<&Pair>| -> Result<Value, String> {
        let tls = Arc::new(pair.client(presented));
        let stream = connect(&address, &tls).await.map_err(|cause| cause.to_string())?;
        Caller::over(stream).await.call("webhook.list").await
    };
    assert_eq!(calling(Some(&caller)).await.unwrap()["result"], json!([]));
    for presented in [None, Some(&stranger)] {
        assert!(calling(presented).await.is_err());
    }
    assert_eq!(calling(Some(&caller)).await.unwrap()["result"], json!([]));
    let handshakes = &server.metrics().handshakes;
    let counted = async {
        while ["done", "failed"].map(|outcome| handshakes.child(&[outcome]).get()) != [2, 2] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("each is counted");
}

/// Calls are made all the while on connections that are kept and on new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_under_load_without_a_failed_call() {
    const KEPT: usize = 4;
    const SWAPS: usize = 6;
    let ours = authority("ours");
    let pair = Pair::new(&ours);
    let server = speaking(&pair).go().await;
    let (address, tls) = (address(&server), Arc::new(pair.client(None)));
    let (is_over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for makes_new in [false, true].repeat(KEPT) {
        let (address, tls) = (address.clone(), Arc::clone(&tls));
        let (is_over, calls) = (Arc::clone(&is_over), Arc::clone(&calls));
        load.spawn(async move {
            let mut kept = Caller::over(connect(&address, &tls).await.unwrap()).await;
            while !is_over.load(Ordering::Relaxed) {
                if makes_new {
                    kept = Caller::over(connect(&address, &tls).await.unwrap()).await;
                }
                kept.call("webhook.list").await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for swap in 0..SWAPS {
        let before = calls.load(Ordering::Relaxed);
        let renewed = pair.renew(&ours);
        // But for the last, when it has to be noticed, it is said.
        if swap + 1 < SWAPS {
            server.reload();
        }
        let noticed = async {
            while presented(&connect(&address, &tls).await.unwrap()) != renewed
                || calls.load(Ordering::Relaxed) < before + 2 * KEPT
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, noticed).await.expect("the new one is served, and calls are answered");
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.expect("no call has failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_leaves_the_old_one_and_is_told_once() {
    log::keep();
    let ours = authority("ours");
    let pair = Pair::new(&ours);
    let server = speaking(&pair).go().await;
    let (address, tls) = (address(&server), Arc::new(pair.client(None)));
    let old = presented(&connect(&address, &tls).await.unwrap());
    let told =
        || log::lines_with(pair.key().to_str().unwrap()).into_iter().filter(|line| line.contains("ERROR")).count();
    // The key of another certificate; it is noticed, and told.
    pair.put(&pair.key(), &super::common::certificates::pair(&ours).1);
    let waiting = async {
        while told() == 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is told");
    assert_eq!(presented(&connect(&address, &tls).await.unwrap()), old);
    // What comes next is served again, so the files have been looked at since.
    let renewed = pair.renew(&ours);
    let noticed = async { while presented(&connect(&address, &tls).await.unwrap()) != renewed {} };
    tokio::time::timeout(PATIENCE, noticed).await.expect("the new one is served");
    assert_eq!(told(), 1, "{:?}", log::lines_with("TLS"));
}

/// Connections that begin a handshake, some not even that, and go no further.
async fn stall(address: &str, count: usize) -> Vec<TcpStream> {
    let mut stalled = Vec::new();
    for place in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if place % 2 == 0 {
            // The head of a record that never comes.
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        stalled.push(stream);
    }
    stalled
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_stand_still_hold_up_nobody() {
    const PLACES: usize = 8;
    let pair = Pair::new(&authority("ours"));
    // Longer than anybody here waits.
    let start = speaking(&pair).flag("handshake_timeout_ms", "600000").flag("connections_max", &PLACES.to_string());
    let server = start.go().await;
    let (address, tls) = (address(&server), Arc::new(pair.client(None)));
    let _stalled = stall(&address, 2 * PLACES).await;
    let mut caller = Caller::over(connect(&address, &tls).await.unwrap()).await;
    assert_eq!(caller.call("webhook.list").await.unwrap()["result"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_stand_still_end() {
    let pair = Pair::new(&authority("ours"));
    let server = speaking(&pair).flag("handshake_timeout_ms", "500").go().await;
    let (address, tls) = (address(&server), Arc::new(pair.client(None)));
    let mut caller = Caller::over(connect(&address, &tls).await.unwrap()).await;
    for mut stream in stall(&address, 4).await {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends");
        assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
    }
    assert_eq!(caller.call("webhook.list").await.unwrap()["result"], json!([]), "whoever is through goes on");
}

/// As a client without TLS is that sends no more (RFC 9112, 9.6).
#[tokio::test(flavor = "multi_thread")]
async fn who_ends_without_a_word_of_tls_is_answered() {
    let pair = Pair::new(&authority("ours"));
    let server = speaking(&pair).go().await;
    let mut stream = connect(&address(&server), &Arc::new(pair.client(None))).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    stream.get_mut().0.shutdown().await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.expect("the server answers").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_over_tls_and_is_told_of_events() {
    use futures_util::{SinkExt, StreamExt};
    let pair = Pair::new(&authority("ours"));
    let server = speaking(&pair).go().await;
    let (address, tls) = (address(&server), Arc::new(pair.client(None)));
    let mut request = format!("wss://{address}/").into_client_request().unwrap();
    request.headers_mut().insert("authorization", basic("demo", DEMO_KEY).parse().unwrap());
    let stream = connect(&address, &tls).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut until = async |call: Value, is_it: fn(&Value) -> bool| {
        socket.send(Message::text(call.to_string())).await.unwrap();
        let waiting = async {
            loop {
                if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                    let told: Value = serde_json::from_str(&text).unwrap();
                    if is_it(&told) {
                        return told;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it is told")
    };
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "event.subscribe", "params": [null, "*"]});
    until(subscribe, |told| told["id"] == 1 && told["result"].is_number()).await;
    let publish = json!({"jsonrpc": "2.0", "id": 2, "method": "event.publish", "params": [null, "order:created", {}]});
    let told = until(publish, |told| told["method"] == "event.published").await;
    assert_eq!(told["params"]["result"]["topic"], "order:created");
}
