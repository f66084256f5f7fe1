//! The attacker, as attacks know him. He comes from an address of his own, where
//! the system has more than one for loopback, since the server counts by address.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::load::{Wire, connect_from};
use super::process::READY;
use super::rpc;
use super::tally::Tally;
use crate::cli::{Failure, print};

/// How long it rests when it can't connect or was cut off.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections that are opened at once.
const OPENED_AT_ONCE: usize = 64;

/// The same, being counted.
#[derive(Default)]
pub(super) struct Counts {
    done: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
}

/// The attacker, as attacks know him.
#[derive(Clone)]
pub struct Attacker {
    /// The user who may do everything.
    pub user: String,
    /// The key of that user.
    pub key: String,
    /// The key of the user who may only read.
    pub reader_key: String,
    pub(super) from: IpAddr,
    pub(super) address: String,
    pub(super) receiver: String,
    pub(super) session: String,
    pub(super) lasts: Duration,
    pub(super) counts: Arc<Counts>,
}

impl Attacker {
    /// Says that all is prepared, and waits for the word; until when to attack.
    pub async fn ready(&self) -> Result<Instant, Failure> {
        print(READY)?;
        let word = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
        match word.map_err(Failure::failed)?.map_err(Failure::failed)? {
            0 => Err(Failure::failed("nobody gives the word any more")),
            _ => Ok(Instant::now() + self.lasts),
        }
    }

    /// Half of the time that the attack lasts.
    pub fn half(&self) -> Duration {
        self.lasts / 2
    }

    /// A call of his, to be made on any connection.
    pub fn call(&self, method: &str, params: Value) -> Bytes {
        rpc::call(method, &self.session, params).into()
    }

    /// The URL of a path of his receiver.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.receiver)
    }

    /// A connection to the server.
    pub async fn wire(&self) -> Result<Wire, Failure> {
        Wire::open_from(self.from, &self.address).await
    }

    /// Makes webhooks that are alike; their ids.
    pub async fn webhooks(&self, count: usize, webhook: Value) -> Result<Vec<i64>, Failure> {
        let (mut wire, mut ids) = (self.wire().await?, Vec::new());
        for _ in 0..count {
            let params = json!([webhook, true]);
            let made = rpc::result(&mut wire, "webhook.create", &self.session, params).await?;
            ids.push(made["webhook_id"].as_i64().ok_or_else(|| Failure::failed("a webhook has no id"))?);
        }
        Ok(ids)
    }

    /// Makes a call that prepares an attack; its result.
    pub async fn prepare(&self, wire: &mut Wire, method: &str, params: Value) -> Result<Value, Failure> {
        rpc::result(wire, method, &self.session, params).await
    }

    /// Makes calls on so many connections, one after the other on each, as
    /// long as there are more of them and until the attack is over. `call` is
    /// told how many there were before.
    pub async fn flood(&self, until: Instant, clients: usize, call: impl Fn(u64) -> Option<Bytes>) {
        self.flood_requests(until, clients, |number| {
            let post = Request::post("/").header(http::header::CONTENT_TYPE, "application/json");
            call(number).and_then(|body| post.body(Full::new(body)).ok())
        })
        .await;
    }

    /// The same with any requests.
    pub async fn flood_requests(
        &self,
        until: Instant,
        clients: usize,
        request: impl Fn(u64) -> Option<Request<Full<Bytes>>>,
    ) {
        let (next, request) = (AtomicU64::new(0), &request);
        let clients = (0..clients).map(|_| async {
            let mut wire = None;
            while let Some(request) = request(next.fetch_add(1, Ordering::Relaxed)) {
                self.count(self.exchange(&mut wire, request).await);
                if wire.is_none() {
                    sleep(PAUSE).await;
                }
            }
        });
        // What is under way at the end is broken off.
        let _ = timeout_at(until, join_all(clients)).await;
    }

    /// Makes a request; true if it did what it asked for, nothing if the
    /// connection did not last.
    async fn exchange(&self, wire: &mut Option<Wire>, request: Request<Full<Bytes>>) -> Option<bool> {
        let mut open = match wire.take() {
            Some(open) => open,
            None => self.wire().await.ok()?,
        };
        let (status, answer) = open.send(request).await.ok()?;
        *wire = Some(open);
        Some(did(status, &answer))
    }

    fn count(&self, done: Option<bool>) {
        let count = match done {
            Some(true) => &self.counts.done,
            Some(false) => &self.counts.refused,
            None => &self.counts.cut,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Holds so many connections from so many addresses until the attack is
    /// over, each of which sends this and reads `reads` or nothing. One that is
    /// closed is opened again.
    pub async fn hold(&self, until: Instant, connections: usize, addresses: u8, sends: &[u8], reads: bool) {
        let opening = tokio::sync::Semaphore::new(OPENED_AT_ONCE);
        let hold = |number: usize| {
            let own = Ipv4Addr::new(127, 0, 66, (number % usize::from(addresses)) as u8 + 1);
            let opening = &opening;
            async move {
                loop {
                    let open = async {
                        // It is not closed.
                        let _place = opening.acquire().await;
                        let mut stream = connect_from(own.into(), &self.address).await?;
                        stream.write_all(sends).await.map_err(Failure::failed)?;
                        Ok::<TcpStream, Failure>(stream)
                    };
                    if let Ok(mut stream) = open.await {
                        self.count(Some(true));
                        if !reads {
                            std::future::pending::<()>().await;
                        }
                        // To its end, however it ends.
                        while stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {}
                    }
                    self.count(None);
                    sleep(PAUSE).await;
                }
            }
        };
        let _: Result<Vec<()>, _> = timeout_at(until, join_all((0..connections).map(hold))).await;
    }

    /// How his calls were answered so far.
    pub fn tally(&self) -> Tally {
        let Counts { done, refused, cut } = &*self.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally { done: of(done), refused: of(refused), cut: of(cut) }
    }
}

/// True if an answer is a success, and no error object.
fn did(status: StatusCode, answer: &[u8]) -> bool {
    // Either stands near the beginning, and what is in a result may have any name.
    let head = &answer[..answer.len().min(200)];
    let place = |mark: &[u8]| head.windows(mark.len()).position(|window| window == mark).unwrap_or(usize::MAX);
    let (result, error) = (place(b"\"result\":"), place(b"\"error\":"));
    status.is_success() && result <= error
}

/// An attack under way.
pub type Running = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_refused_by_its_status_or_its_error_object() {
        let ok = |answer: &str| did(StatusCode::OK, answer.as_bytes());
        assert!(ok(r#"{"jsonrpc":"2.0","id":1,"result":[{"error":null}]}"#) && ok(r#"{"items":[]}"#));
        assert!(!ok(r#"{"jsonrpc":"2.0","error":{"code":2},"id":1}"#) && !did(StatusCode::TOO_MANY_REQUESTS, b"{}"));
    }
}
