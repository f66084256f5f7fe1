//! The neighbour: a merchant who goes about his business at a steady rate,
//! and how long he waits for it.
//!
//! What he does is due at fixed times, whether or not what he did before has
//! come to its end, and he waits from when it was due; so a server that stands
//! still for a second is noticed by all that was due in it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::load::Wire;
use super::super::sink::number_behind;
use super::rpc;
use crate::cli::Failure;

/// How often webhooks are listed and events published.
const STEADY_PER_S: u64 = 20;
/// How often a new webhook gets its first event.
const FIRST_PER_S: u64 = 2;
/// How often an event is sent again.
const REPLAY_PER_S: u64 = 1;
/// How many events there are to be sent again, by turns.
const REPLAYED: u64 = 100;
/// How long after the end of a phase what was due in it is waited for.
const GRACE: Duration = Duration::from_secs(4);
/// Before an event's number in its message.
const MARK: &[u8] = b"\"neighbour\":";

/// What he waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// `webhook.list`, on a new connection each.
    List,
    /// `event.publish`, on connections that are kept.
    Publish,
    /// From that publish to the arrival.
    Delivery,
    /// The same at a webhook that is new.
    First,
    /// From `webhook.replay` of a number to its arrival.
    Replay,
}

impl Errand {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::List, Self::Publish, Self::Delivery, Self::First, Self::Replay];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Publish => "publish",
            Self::Delivery => "delivery",
            Self::First => "first",
            Self::Replay => "replay",
        }
    }
}

/// How long he waited for things of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Waits {
    /// How many were due.
    pub count: usize,
    /// How many were refused, or not done 4 s after the phase; they count as
    /// long as they were waited for.
    pub missed: usize,
    /// The median, in microseconds.
    pub p50_us: u64,
    /// In microseconds.
    pub p99_us: u64,
}

/// What was measured of all kinds, in the order of [`Errand::ALL`].
pub type Phase = [Waits; Errand::ALL.len()];

/// The neighbour.
pub struct Neighbour {
    address: String,
    receiver: String,
    session: String,
    replayed: i64,
    idle: Mutex<Vec<Wire>>,
    arrivals: Arc<Arrivals>,
    next: AtomicU64,
    replays: AtomicU64,
}

impl Neighbour {
    /// Logs him in, and makes his webhooks.
    pub async fn set_up(address: &str, user: &str, key: &str) -> Result<Arc<Self>, Failure> {
        let arrivals = Arc::new(Arrivals::default());
        let receiver = receive(Arc::clone(&arrivals)).await?;
        let session = rpc::login(&mut Wire::open(address).await?, user, key).await?;
        let mut neighbour = Self {
            address: address.to_owned(),
            receiver,
            session,
            replayed: 0,
            idle: Mutex::default(),
            arrivals,
            next: AtomicU64::new(1),
            replays: AtomicU64::new(0),
        };
        neighbour.webhook("neighbour:event").await?;
        neighbour.replayed = neighbour.webhook("neighbour:replay").await?;
        // Their numbers in the webhook are those that they bear.
        for _ in 0..REPLAYED {
            let (number, arrived) = neighbour.expect();
            neighbour.publish("neighbour:replay", number).await?;
            arrived.await.map_err(Failure::failed)?;
        }
        let (number, arrived) = neighbour.expect();
        neighbour.publish("neighbour:event", number).await?;
        arrived.await.map_err(Failure::failed)?;
        Ok(Arc::new(neighbour))
    }

    /// Does what he does for so long, and says how long he waited.
    pub async fn live(self: &Arc<Self>, phase: Duration) -> Phase {
        let (began, waits) = (Instant::now(), Arc::new(Mutex::new([const { Vec::new() }; Errand::ALL.len()])));
        let day = Day { began, ends: began + phase, waits: Arc::clone(&waits) };
        let (listing, publishing) = (Arc::clone(self), Arc::clone(self));
        let (first, replaying) = (Arc::clone(self), Arc::clone(self));
        tokio::join!(
            day.every(STEADY_PER_S, move |due, day| Arc::clone(&listing).list(due, day)),
            day.every(STEADY_PER_S, move |due, day| Arc::clone(&publishing).publish_one(due, day)),
            day.every(FIRST_PER_S, move |due, day| Arc::clone(&first).first(due, day)),
            day.every(REPLAY_PER_S, move |due, day| Arc::clone(&replaying).replay(due, day)),
        );
        let waits = std::mem::take(&mut *waits.lock().expect("nothing panics while it holds the waits"));
        waits.map(summary)
    }

    async fn list(self: Arc<Self>, due: Instant, day: Day) {
        let list = async {
            let mut wire = Wire::open(&self.address).await?;
            rpc::result(&mut wire, "webhook.list", &self.session, json!([])).await
        };
        day.note(Errand::List, due, list).await;
    }

    async fn publish_one(self: Arc<Self>, due: Instant, day: Day) {
        let (number, arrived) = self.expect();
        day.note(Errand::Publish, due, self.publish("neighbour:event", number)).await;
        day.note(Errand::Delivery, due, async { arrived.await.map_err(Failure::failed) }).await;
        self.arrivals.forget(number);
    }

    async fn first(self: Arc<Self>, due: Instant, day: Day) {
        let (number, arrived) = self.expect();
        let topic = format!("first:{number}");
        let first = async {
            self.webhook(&topic).await?;
            self.publish(&topic, number).await?;
            arrived.await.map_err(Failure::failed)
        };
        day.note(Errand::First, due, first).await;
        self.arrivals.forget(number);
    }

    async fn replay(self: Arc<Self>, due: Instant, day: Day) {
        let number = self.replays.fetch_add(1, Ordering::Relaxed) % REPLAYED + 1;
        let arrived = self.arrivals.expect(number);
        let replay = async {
            let range = json!([self.replayed, {"from_increment_id": number, "to_increment_id": number}]);
            self.call("webhook.replay", range).await?;
            arrived.await.map_err(Failure::failed)
        };
        day.note(Errand::Replay, due, replay).await;
    }

    async fn webhook(&self, topic: &str) -> Result<i64, Failure> {
        let webhook = json!([{"topics": topic, "url": self.receiver}, true]);
        let made = self.call("webhook.create", webhook).await?;
        made["webhook_id"].as_i64().ok_or_else(|| Failure::failed("a webhook has no id"))
    }

    async fn publish(&self, topic: &str, number: u64) -> Result<Value, Failure> {
        self.call("event.publish", json!([topic, {"neighbour": number}])).await
    }

    /// Calls on a connection that is kept, or a new one.
    async fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let kept = self.idle.lock().expect("nothing panics while it holds the connections").pop();
        let mut wire = match kept {
            Some(wire) => wire,
            None => Wire::open(&self.address).await?,
        };
        let result = rpc::result(&mut wire, method, &self.session, params).await?;
        self.idle.lock().expect("nothing panics while it holds the connections").push(wire);
        Ok(result)
    }

    fn expect(&self) -> (u64, oneshot::Receiver<()>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number, self.arrivals.expect(number))
    }
}

/// A phase under way.
#[derive(Clone)]
struct Day {
    began: Instant,
    ends: Instant,
    waits: Arc<Mutex<[Vec<Wait>; Errand::ALL.len()]>>,
}

/// How long, and whether it was in vain.
type Wait = (Duration, bool);

impl Day {
    /// Does something at a rate until the phase ends, and waits for all of it.
    async fn every<F: Future<Output = ()> + Send + 'static>(&self, per_s: u64, errand: impl Fn(Instant, Self) -> F) {
        let mut errands = Vec::new();
        for number in 0.. {
            let due = self.began + Duration::from_millis(number * 1_000 / per_s);
            if due >= self.ends {
                break;
            }
            sleep_until(due).await;
            errands.push(tokio::spawn(errand(due, self.clone())));
        }
        // One that panicked has left no wait, and is seen by that.
        join_all(errands).await;
    }

    /// Waits for something, and notes how long.
    async fn note<T>(&self, errand: Errand, due: Instant, done: impl Future<Output = Result<T, Failure>>) {
        let patience = self.ends + GRACE;
        let is_done = timeout_at(patience, done).await.is_ok_and(|done| done.is_ok());
        // Being refused is no quick answer.
        let until = if is_done { Instant::now() } else { patience };
        let mut waits = self.waits.lock().expect("nothing panics while it holds the waits");
        waits[errand as usize].push((until - due, !is_done));
    }
}

fn summary(mut waits: Vec<Wait>) -> Waits {
    waits.sort_unstable();
    let at = |part: usize| {
        let rank = (waits.len() * part).div_ceil(100).max(1) - 1;
        waits.get(rank).map_or(0, |(wait, _)| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX))
    };
    let missed = waits.iter().filter(|(_, in_vain)| *in_vain).count();
    Waits { count: waits.len(), missed, p50_us: at(50), p99_us: at(99) }
}

/// Who waits for which event.
#[derive(Default)]
struct Arrivals(Mutex<HashMap<u64, oneshot::Sender<()>>>);

impl Arrivals {
    fn expect(&self, number: u64) -> oneshot::Receiver<()> {
        let (arrived, arrival) = oneshot::channel();
        self.0.lock().expect("nothing panics while it holds the arrivals").insert(number, arrived);
        arrival
    }

    fn forget(&self, number: u64) {
        self.0.lock().expect("nothing panics while it holds the arrivals").remove(&number);
    }

    fn arrived(&self, number: u64) {
        if let Some(arrived) = self.0.lock().expect("nothing panics while it holds the arrivals").remove(&number) {
            // Who waited for it has given up.
            let _ = arrived.send(());
        }
    }
}

/// His receiver, which answers at once; the URL of it.
async fn receive(arrivals: Arc<Arrivals>) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let arrivals = Arc::clone(&arrivals);
            let service = service_fn(move |request| answer(request, Arc::clone(&arrivals)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(format!("http://{address}/"))
}

async fn answer(request: Request<Incoming>, arrivals: Arc<Arrivals>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if let Some((number, _)) = number_behind(MARK, &body) {
        arrivals.arrived(number);
    }
    Ok(Response::new(Full::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_was_in_vain() {
        let waits = (1..=100).map(|ms| (Duration::from_millis(ms), ms > 98)).collect();
        let Waits { count, missed, p50_us, p99_us } = summary(waits);
        assert_eq!((count, missed, p50_us, p99_us), (100, 2, 50_000, 99_000));
        assert_eq!(summary(Vec::new()).count, 0);
    }
}
