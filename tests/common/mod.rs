//! What the tests share: a real server on a free port, a real receiver, a
//! client that speaks plain HTTP. Nothing here knows how the server works.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod accounts;
pub mod bouncer;
pub mod certificates;
pub mod log;
pub mod manual;
pub mod openapi;
pub mod postgres;
pub mod socket;
pub mod store;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tallyhook::app::{Hooks, Server};
use tallyhook::config::{Config, Sources};
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::Clock;
use tallyhook::domain::user::{Permissions, Profile};
use tallyhook::metrics::Metrics;
use tallyhook::store::admin::NewUser;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::store::{Held, Place};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The API key of the demo user.
pub const DEMO_KEY: &str = "demo-key";

/// A server in this process.
pub struct TestServer {
    server: Option<Server>,
    client: Http,
    pub place: Arc<Place>,
    pub config: Config,
}

/// How a server is to be started.
pub struct Start {
    pub place: Arc<Place>,
    pub flags: Vec<(&'static str, String)>,
    pub hooks: Hooks,
}

/// Everything that tests do comes from one address.
const ONE_ADDRESS: [(&str, &str); 3] =
    [("dev", "true"), ("address_login_failures_max", "1000000"), ("stranger_calls_per_second_max", "0")];

impl Default for Start {
    fn default() -> Self {
        Self {
            place: Arc::new(Place::new()),
            flags: ONE_ADDRESS.map(|(key, value)| (key, value.into())).to_vec(),
            hooks: Hooks::default(),
        }
    }
}

impl Start {
    /// Sets a key of the configuration.
    pub fn flag(mut self, key: &'static str, value: &str) -> Self {
        self.flags.retain(|(name, _)| *name != key);
        self.flags.push((key, value.to_owned()));
        self
    }

    /// Not in dev mode: no loopback targets, no demo user.
    pub fn strict(self) -> Self {
        self.flag("dev", "false")
    }

    pub async fn go(self) -> TestServer {
        let Self { place, mut flags, hooks } = self;
        flags.push(("listen", "127.0.0.1:0".to_owned()));
        flags.push(("store", place.store()));
        if !flags.iter().any(|(name, _)| *name == "lease_ttl_ms") {
            // However slow the machine is.
            flags.push(("lease_ttl_ms", "60000".to_owned()));
        }
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        if config.dev {
            let (key, now) = (KeyHash::of(DEMO_KEY), Clock::system().now());
            place.administer(|admin| admin.ensure_demo("demo", "demo", key, Vec::new(), now)).unwrap();
        }
        let server = Server::start(config.clone(), hooks).await.unwrap();
        TestServer { server: Some(server), client: http_client(), place, config }
    }
}

impl TestServer {
    /// In dev mode, with the user demo.
    pub async fn start() -> Self {
        Start::default().go().await
    }

    pub fn url(&self) -> String {
        self.server.as_ref().expect("the server runs").url()
    }

    /// Has the files of TLS read anew.
    pub fn reload(&self) {
        self.server.as_ref().expect("the server runs").reload();
    }

    /// Where it says how it is doing.
    pub fn ops_url(&self) -> String {
        self.server.as_ref().expect("the server runs").ops_url()
    }

    /// Makes a user beside the running server, and returns its API key.
    pub fn user(&self, name: &str, merchant: &str, permissions: &str) -> String {
        let key = format!("tk_test_{name}");
        let permissions =
            if permissions.is_empty() { Permissions::default() } else { Permissions::try_new(permissions).unwrap() };
        let (is_demo, profile) = (false, Profile::default());
        let user = NewUser { name, merchant, permissions, key: KeyHash::of(&key), is_demo, profile };
        self.place.administer(|admin| admin.create_user(&user, Clock::system().now())).unwrap();
        key
    }

    /// Holds what others have to have before they write, until this is dropped.
    pub fn hold_store(&self) -> Held<'_> {
        self.place.hold()
    }

    /// Sends a request with no headers but these: status, headers and text of the answer.
    pub async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, HeaderMap, String) {
        send(&self.client, method, &format!("{}{path}", self.url()), headers, body.to_owned()).await
    }

    /// Posts a body as JSON; the status and the text of the answer.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: String) -> (u16, String) {
        post(&self.client, &format!("{}{path}", self.url()), headers, body).await
    }

    /// Logs the demo user in.
    pub async fn login(&self) -> String {
        self.login_as("demo", DEMO_KEY).await
    }

    pub async fn login_as(&self, name: &str, key: &str) -> String {
        self.rpc("login", json!([name, key])).await.unwrap().as_str().unwrap().to_owned()
    }

    /// Calls a registered method at `/`: its result, or its error object.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.rpc_at("/", &[], method, params).await
    }

    /// Calls a registered method with headers, at a path.
    pub async fn rpc_at(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (status, text) = self.post(path, headers, body.to_string()).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        match (answer.get("result"), answer.get("error")) {
            (Some(result), None) => Ok(result.clone()),
            (None, Some(error)) => Err(error.clone()),
            _ => panic!("neither result nor error alone: {text}"),
        }
    }

    /// Calls through `call`, as the demo user of HTTP Basic.
    pub async fn call(&self, path: &str, args: Value) -> Result<Value, Value> {
        self.rpc_at("/", &[("authorization", &basic("demo", DEMO_KEY))], "call", json!([null, path, args])).await
    }

    /// Registers a webhook of the demo user, and returns it whole.
    pub async fn webhook(&self, data: Value) -> Value {
        self.call("webhook.create", json!([data, true])).await.unwrap()
    }

    /// Publishes as the demo user, and returns the receipt.
    pub async fn publish(&self, topic: &str, message: Value) -> Value {
        self.call("event.publish", json!([topic, message])).await.unwrap()
    }

    /// What the server counts of itself.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(self.server.as_ref().expect("the server runs").metrics())
    }

    /// Counts the server's commits.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.server.as_ref().expect("the server runs").commits()
    }

    /// Looks after each commit until there is something to see.
    pub async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> T {
        let mut commits = self.commits();
        let wait = async {
            loop {
                commits.borrow_and_update();
                if let Some(seen) = look().await {
                    return seen;
                }
                commits.changed().await.expect("the store is open");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it comes to be")
    }

    /// Waits until every delivery of a webhook has ended, and returns them.
    pub async fn settled(&self, webhook_id: i64) -> Vec<Value> {
        self.until(async || {
            let list = self.call("delivery.list", json!([webhook_id, {"limit": 1000}])).await.unwrap();
            let list = list.as_array().unwrap().clone();
            let is_settled = !list.is_empty() && list.iter().all(|delivery| delivery["state"] != "pending");
            is_settled.then_some(list)
        })
        .await
    }

    /// Waits until a delivery has had so many attempts, and returns them.
    pub async fn attempts(&self, webhook_id: i64, number: i64, count: usize) -> Vec<Value> {
        self.until(async || {
            let found = self.call("delivery.attempts", json!([webhook_id, number])).await.unwrap();
            let found = found.as_array().unwrap().clone();
            (found.len() >= count).then_some(found)
        })
        .await
    }

    /// Stops gracefully and gives the place of the store back, to start again on it.
    pub async fn stop(mut self) -> Arc<Place> {
        self.server.take().expect("the server runs").shutdown().await;
        Arc::clone(&self.place)
    }
}

/// `Basic …` for a user and its key.
pub fn basic(name: &str, key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{key}")))
}

pub type Http = Client<HttpConnector, Full<Bytes>>;

pub fn http_client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends a request with no headers but these: status, headers and text of the answer.
pub async fn send(
    client: &Http,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let exchange = async {
        let response = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(bytes.to_vec()).unwrap())
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers")
}

/// The headers of a body that is JSON unless they say otherwise.
pub fn with_media_type<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let is_said = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let said = (!is_said).then_some(("content-type", "application/json"));
    said.into_iter().chain(headers.iter().copied()).collect()
}

pub async fn post(client: &Http, url: &str, headers: &[(&str, &str)], body: String) -> (u16, String) {
    let (status, _, text) = send(client, "POST", url, &with_media_type(headers), body).await;
    (status, text)
}

/// GETs a path; the status, and the text of the answer.
pub async fn get(url: &str, path: &str) -> (u16, String) {
    let (status, _, text) = send(&http_client(), "GET", &format!("{url}{path}"), &[], String::new()).await;
    (status, text)
}

/// A delivery as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Arrived {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The number, from the signed `webhook-id`.
    pub fn number(&self) -> i64 {
        self.header("webhook-id").rsplit('_').next().unwrap().parse().unwrap()
    }

    /// Each number with its message; the numbers of the body are those of the
    /// signed `webhook-id`.
    pub fn events(&self) -> Vec<(i64, Value)> {
        let mut body = self.json();
        let name = match body.get("events") {
            Some(_) => format!("{}-{}", body["first_increment_id"], body["last_increment_id"]),
            None => body["increment_id"].to_string(),
        };
        assert_eq!(self.header("webhook-id").rsplit('_').next(), Some(&*name));
        let events = match body["events"].take() {
            Value::Array(events) => events,
            _ => vec![body],
        };
        events.into_iter().map(|event| (event["increment_id"].as_i64().unwrap(), event["message"].clone())).collect()
    }
}

/// What a receiver answers with.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A receiver in this process, which keeps what arrives.
pub struct Receiver {
    address: std::net::SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    count: watch::Receiver<usize>,
}

impl Receiver {
    /// Answers what `reply` says for the n-th arrival, from 0.
    pub async fn start(reply: impl Fn(usize, &Arrived) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let (kept, reply) = (Arc::clone(&arrived), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, reply, counted) = (Arc::clone(&kept), Arc::clone(&reply), counted.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (kept, reply, counted) = (Arc::clone(&kept), Arc::clone(&reply), counted.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let Ok(body) = body.collect().await else {
                            return Ok::<_, Infallible>(Response::default());
                        };
                        let arrival =
                            Arrived { path: head.uri.to_string(), headers: head.headers, body: body.to_bytes() };
                        let place = {
                            let mut kept = kept.lock().unwrap();
                            kept.push(arrival.clone());
                            kept.len() - 1
                        };
                        let answer = reply(place, &arrival);
                        counted.send_modify(|count| *count += 1);
                        let mut response = Response::new(Full::new(Bytes::from(answer.body)));
                        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
                        for (name, value) in answer.headers {
                            response.headers_mut().append(name, value.parse().unwrap());
                        }
                        Ok(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, arrived, count }
    }

    /// Answers 204 to everything.
    pub async fn obliging() -> Self {
        Self::start(|_, _| Reply::status(204)).await
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Waits until so many have arrived, and returns all.
    pub async fn arrivals(&self, count: usize) -> Vec<Arrived> {
        let mut seen = self.count.clone();
        let wait = seen.wait_for(|seen| *seen >= count);
        tokio::time::timeout(PATIENCE, wait).await.expect("the deliveries arrive").unwrap();
        self.so_far()
    }

    pub fn so_far(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }
}
