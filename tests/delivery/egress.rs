//! Deliveries that go by a proxy.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::delivery::connect::Resolve;
use tallyhook::domain::id::MerchantId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::secure::SecureReceiver;
use crate::common::certificates::{Pair, authority};
use crate::common::manual::{verify, webhook};
use crate::common::{self, Receiver, Reply, Start, TestServer};

/// What a proxy does with a tunnel that it is asked for.
#[derive(Clone, Copy)]
enum Does {
    /// Connects to that port of this machine, whatever host it was asked for.
    Connect,
    /// Answers so, and closes.
    Say(&'static str),
    /// Says nothing.
    Hang,
}

/// A proxy for CONNECT and nothing else.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(does: Does) -> Self {
        Self::asking(move |_| does).await
    }

    async fn asking(decide: impl Fn(&str) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, decide) = (Arc::clone(&heads), Arc::new(decide));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, decide) = (Arc::clone(&kept), Arc::clone(&decide));
                tokio::spawn(async move { serve(stream, &kept, &*decide).await });
            }
        });
        Self { port, heads }
    }

    fn url(&self) -> String {
        format!("http://hooks:p%40ssword@127.0.0.1:{}", self.port)
    }

    /// What it was asked for: the first line of each request.
    fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, kept: &Mutex<Vec<String>>, decide: &(dyn Fn(&str) -> Does + Send + Sync)) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(char::from(byte));
    }
    kept.lock().unwrap().push(head.clone());
    match decide(&head) {
        Does::Connect => {
            let authority = head.split(' ').nth(1).unwrap();
            let port = authority.rsplit(':').next().unwrap().parse().unwrap();
            let mut receiver = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            // However it ends, both sides notice.
            _ = copy_bidirectional(&mut stream, &mut receiver).await;
        }
        Does::Say(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
        Does::Hang => std::future::pending().await,
    }
}

async fn server(proxy: &Proxy) -> TestServer {
    Start::default().flag("egress_proxy", &proxy.url()).manual().await.0
}

/// The first attempt at the one delivery of a webhook: its class and its error.
async fn failed(server: &TestServer, id: i64) -> (String, String) {
    let attempt = server.attempts(id, 1, 1).await.remove(0);
    let text = |name: &str| attempt[name].as_str().unwrap_or_default().to_owned();
    (text("error_class"), text("error"))
}

#[tokio::test]
async fn plain_http_goes_through_a_tunnel_that_is_kept() {
    let proxy = Proxy::start(Does::Connect).await;
    let server = server(&proxy).await;
    let receiver = Receiver::obliging().await;
    webhook(&server, &receiver, json!({"delivery_mode": "ordered"})).await;
    for count in 1..=3 {
        server.publish("order:created", json!({})).await;
        verify(receiver.arrivals(count).await.last().unwrap());
    }
    let host = format!("127.0.0.1:{}", receiver.port());
    assert_eq!(proxy.asked(), [format!("CONNECT {host} HTTP/1.1")], "one tunnel for all");
    let head = proxy.heads.lock().unwrap()[0].clone();
    assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
    let credentials = common::basic("hooks", "p@ssword");
    assert!(head.contains(&format!("\r\nproxy-authorization: {credentials}\r\n")), "{head}");
    let arrived = receiver.so_far().remove(0);
    assert!(arrived.path == "/hook" && !arrived.headers.contains_key("proxy-authorization"), "{arrived:?}");
}

#[tokio::test]
async fn tls_is_spoken_with_the_receiver() {
    let proxy = Proxy::start(Does::Connect).await;
    let pair = Pair::new(&authority("tests"));
    let receiver = SecureReceiver::start(&pair).await;
    let ca_file = pair.authority().display().to_string();
    let start = Start::default().flag("egress_proxy", &proxy.url()).flag("ca_file", &ca_file);
    let (server, _hand) = start.manual().await;
    let url = format!("https://127.0.0.1:{}/hook", receiver.port);
    let made = server.webhook(json!({"topics": "*", "url": url})).await;
    server.publish("order:created", json!({})).await;
    let list = server.settled(made["webhook_id"].as_i64().unwrap()).await;
    assert_eq!(list[0]["state"], "delivered");
    let [request] = &receiver.requests()[..] else { panic!("one request") };
    assert!(request.presented.is_none() && request.connection == 0);
    assert_eq!(proxy.asked(), [format!("CONNECT 127.0.0.1:{} HTTP/1.1", receiver.port)]);
}

#[tokio::test]
async fn what_the_proxy_refuses_is_told_from_what_the_receiver_does() {
    for (answer, words) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", "answered 403 Forbidden"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants other credentials (egress_proxy)"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "answered 502 Bad Gateway"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "no answer that can be read"),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "before the receiver could"),
        ("", "no answer that can be read"),
    ] {
        let proxy = Proxy::start(Does::Say(answer)).await;
        let server = server(&proxy).await;
        let receiver = Receiver::obliging().await;
        let id = webhook(&server, &receiver, json!({})).await;
        server.publish("order:created", json!({})).await;
        let (class, error) = failed(&server, id).await;
        assert_eq!(class, "proxy", "{answer}: {error}");
        assert!(error.contains("egress proxy") && error.contains(words) && !error.contains("ssword"), "{error}");
        assert_eq!((proxy.asked().len(), receiver.so_far().len()), (1, 0), "{answer}");
    }
    let proxy = Proxy::start(Does::Connect).await;
    let server = server(&proxy).await;
    let receiver = Receiver::start(|_, _| Reply::status(403)).await;
    let id = webhook(&server, &receiver, json!({})).await;
    server.publish("order:created", json!({})).await;
    assert_eq!(failed(&server, id).await, ("status".to_owned(), "answered 403 Forbidden".to_owned()));
}

#[tokio::test]
async fn a_proxy_that_hangs_or_is_away_holds_nothing_up() {
    let proxy = Proxy::start(Does::Hang).await;
    let server = server(&proxy).await;
    let receiver = Receiver::obliging().await;
    let timeouts = json!({"connect_ms": 100, "total_ms": 10_000});
    let id = webhook(&server, &receiver, json!({"timeouts": timeouts})).await;
    server.publish("order:created", json!({})).await;
    let (class, error) = failed(&server, id).await;
    assert!(class == "timeout" && error.contains("the egress proxy did not connect within 100ms"), "{class}: {error}");

    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (server, _hand) = Start::default().flag("egress_proxy", &format!("http://{away}")).manual().await;
    let id = webhook(&server, &receiver, json!({})).await;
    server.publish("order:created", json!({})).await;
    let (class, error) = failed(&server, id).await;
    assert!(class == "proxy" && error.contains("the egress proxy can't be reached"), "{class}: {error}");
    assert!(!error.contains(&away.port().to_string()), "where it is, is its operator's business: {error}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_right_ones_pass() {
    let right = format!("proxy-authorization: {}", common::basic("hooks", "p@ssword"));
    let proxy = Proxy::asking(move |head| match head.contains(&right) {
        true => Does::Connect,
        false => Does::Say("HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n"),
    })
    .await;
    let receiver = Receiver::obliging().await;
    for (url, is_let_in) in [(proxy.url(), true), (format!("http://127.0.0.1:{}", proxy.port), false)] {
        let (server, _hand) = Start::default().flag("egress_proxy", &url).manual().await;
        let id = webhook(&server, &receiver, json!({})).await;
        server.publish("order:created", json!({})).await;
        let attempt = server.attempts(id, 1, 1).await.remove(0);
        assert_eq!(attempt["status_code"] == json!(204), is_let_in, "{attempt}");
        assert_eq!(attempt["error_class"] == json!("proxy"), !is_let_in, "{attempt}");
    }
}

/// Every name has one address.
struct Everywhere(&'static str);

impl Resolve for Everywhere {
    fn resolve(&self, _: MerchantId, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let address = self.0.parse().unwrap();
        async move { Ok(vec![address]) }.boxed()
    }
}

/// Not in dev mode, where names have that address, and nothing private is allowed but 127.0.0.2.
async fn guarded(proxy: &Proxy, resolves: &str, address: &'static str) -> (TestServer, String) {
    let hooks = Hooks { resolver: Arc::new(Everywhere(address)), ..Hooks::default() };
    let start = Start { hooks, ..Start::default() }.strict().flag("allow_target", "127.0.0.2");
    let start = start.flag("egress_proxy", &proxy.url()).flag("egress_proxy_resolves", resolves);
    let (server, _hand) = start.manual().await;
    let key = server.user("ann", "acme", "admin");
    let session = server.login_as("ann", &key).await;
    (server, session)
}

/// What becomes of the first attempt for that URL.
async fn attempt_at(server: &TestServer, session: &str, url: &str) -> Value {
    let data = json!({"topics": "order:created", "url": url});
    let created = server.rpc("webhook.create", json!([session, data, true])).await.unwrap();
    server.rpc("event.publish", json!([session, "order:created", {}])).await.unwrap();
    let attempt = async || {
        let found = server.rpc("delivery.attempts", json!([session, created["webhook_id"], 1])).await.unwrap();
        found.get(0).cloned()
    };
    server.until(attempt).await
}

#[tokio::test]
async fn the_proxy_is_asked_for_an_address_that_passed() {
    let (proxy, receiver) = (Proxy::start(Does::Connect).await, Receiver::obliging().await);
    let url = format!("http://shop.example:{}/hook", receiver.port());
    // The proxy's own address would not pass.
    let (server, session) = guarded(&proxy, "here", "127.0.0.2").await;
    let attempt = attempt_at(&server, &session, &url).await;
    assert_eq!(attempt["status_code"], 204, "{attempt}");
    assert_eq!(proxy.asked(), [format!("CONNECT 127.0.0.2:{} HTTP/1.1", receiver.port())]);
    assert_eq!(receiver.so_far()[0].header("host"), format!("shop.example:{}", receiver.port()));

    let (server, session) = guarded(&proxy, "here", "127.0.0.1").await;
    let attempt = attempt_at(&server, &session, &url).await;
    assert_eq!(attempt["error_class"], "address_refused", "{attempt}");
    assert_eq!((proxy.asked().len(), receiver.so_far().len()), (1, 1), "nobody was asked");
}

#[tokio::test]
async fn a_proxy_that_has_to_see_names_sees_those_that_may_be_delivered_to() {
    let (proxy, receiver) = (Proxy::start(Does::Connect).await, Receiver::obliging().await);
    // Nobody here looks the name up: it would be refused.
    let (server, session) = guarded(&proxy, "proxy", "127.0.0.1").await;
    let attempt = attempt_at(&server, &session, &format!("http://shop.example:{}/hook", receiver.port())).await;
    assert_eq!(attempt["status_code"], 204, "{attempt}");
    assert_eq!(proxy.asked(), [format!("CONNECT shop.example:{} HTTP/1.1", receiver.port())]);
    let attempt = attempt_at(&server, &session, &format!("http://127.0.0.2:{}/hook", receiver.port())).await;
    assert_eq!(attempt["status_code"], 204, "{attempt}");
    for host in ["10.1.2.3", "[::1]", "2130706433", "localhost", "a.LOCALHOST."] {
        let data = json!({"topics": "*", "url": format!("http://{host}:8080/")});
        let refused = server.rpc("webhook.create", json!([session, data])).await.unwrap_err();
        assert!(refused.to_string().contains("only public addresses"), "{host}: {refused}");
    }
    assert_eq!(proxy.asked().len(), 2);
}
