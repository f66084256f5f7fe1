//! The places for connections: so many in all, and of one address; and who
//! gives way when all are taken.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::service::address::{Origin, is_within};

/// The places. A connection takes one for as long as it lives, also as a
/// WebSocket.
///
/// One that has not sent a whole request, or rests between two, is idle. When
/// all places are taken, the one that has been idle longest gives way to
/// whoever comes. So many halves of requests keep nobody out.
pub struct Places {
    free: Arc<Semaphore>,
    /// The most of one address.
    address_max: usize,
    /// Networks from which many come: no bound for each address there.
    unbounded: Vec<IpNet>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_origin: HashMap<Origin, usize>,
    /// The idle ones by when they became so, the first first, with what tells
    /// them to give way.
    idle: BTreeMap<u64, Arc<Notify>>,
    last_turn: u64,
    /// How many wait for a place.
    wanted: usize,
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// One of the places of an address.
struct Share {
    places: Arc<Places>,
    origin: Origin,
}

/// A connection, as long as it speaks HTTP: whether it is idle.
pub struct Standing {
    places: Arc<Places>,
    gives_way: Arc<Notify>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    /// Requests that arrived whole and are not answered yet.
    working: usize,
    /// Its key among the idle.
    turn: Option<u64>,
}

/// A request with its answer, until the last byte of that has been written.
struct Exchange {
    standing: Arc<Standing>,
    has_begun: AtomicBool,
}

impl Places {
    /// So many, of which an address may have `address_max` unless it is of the
    /// machine itself or of one of these networks.
    pub fn new(max: usize, address_max: usize, unbounded: Vec<IpNet>) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(max));
        Arc::new(Self { free, address_max, unbounded, state: Mutex::default() })
    }

    /// Waits for a place, for which the longest idle gives way. `None` if the
    /// peer's address has as many as it may.
    pub async fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let share = self.share(peer)?;
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _wanting = self.want();
                Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        Some(Place { _permit: permit, _share: share })
    }

    /// A share of the peer's address, if that is counted. `None` if there is
    /// no more for it.
    fn share(self: &Arc<Self>, peer: IpAddr) -> Option<Option<Share>> {
        if peer.to_canonical().is_loopback() || is_within(peer, &self.unbounded) {
            return Some(None);
        }
        let origin = Origin::of(peer);
        let mut state = self.state();
        let own = state.by_origin.entry(origin).or_default();
        if *own >= self.address_max {
            return None;
        }
        *own += 1;
        Some(Some(Share { places: Arc::clone(self), origin }))
    }

    /// Has the longest idle give way, or the next that becomes idle.
    fn want(&self) -> Wanting<'_> {
        let mut state = self.state();
        match state.idle.pop_first() {
            Some((_, oldest)) => oldest.notify_one(),
            None => state.wanted += 1,
        }
        Wanting(self)
    }

    /// A connection that has sent nothing yet.
    pub fn standing(self: &Arc<Self>) -> Arc<Standing> {
        let standing = Standing { places: Arc::clone(self), gives_way: Arc::default(), own: Mutex::default() };
        standing.rest(&mut standing.own());
        Arc::new(standing)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the places")
    }
}

/// Somebody who waits for a place.
struct Wanting<'a>(&'a Places);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        // There is one who waits, the listener; he wants nothing any more.
        self.0.state().wanted = 0;
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.origin.fmt(f)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.places.state();
        match state.by_origin.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(state.by_origin.remove(&self.origin)),
        }
    }
}

impl Standing {
    /// Waits until it is to give way to another.
    pub async fn is_to_give_way(&self) {
        self.gives_way.notified().await;
    }

    /// Watches a request: once it has arrived whole, the connection is at
    /// work, until what `answer` makes of it has been written.
    pub async fn exchange<F>(self: &Arc<Self>, request: http::Request<Body>, answer: F) -> http::Response<Body>
    where
        F: AsyncFnOnce(http::Request<Body>) -> http::Response<Body>,
    {
        let exchange = Arc::new(Exchange { standing: Arc::clone(self), has_begun: AtomicBool::new(false) });
        if request.body().is_end_stream() {
            exchange.begin();
        }
        let arriving = Arc::clone(&exchange);
        let request = request.map(|body| Body::new(Arriving { body, exchange: arriving }));
        let response = answer(request).await;
        exchange.begin();
        response.map(|body| Body::new(Leaving { body, exchange }))
    }

    fn rest(&self, own: &mut Own) {
        let mut state = self.places.state();
        if state.wanted > 0 {
            state.wanted -= 1;
            return self.gives_way.notify_one();
        }
        state.last_turn += 1;
        let turn = state.last_turn;
        state.idle.insert(turn, Arc::clone(&self.gives_way));
        own.turn = Some(turn);
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().expect("nothing panics while it holds a connection's standing")
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if let Some(turn) = self.own().turn.take() {
            self.places.state().idle.remove(&turn);
        }
    }
}

impl Exchange {
    fn begin(&self) {
        if self.has_begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut own = self.standing.own();
        own.working += 1;
        if let Some(turn) = own.turn.take() {
            self.standing.places.state().idle.remove(&turn);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if *self.has_begun.get_mut() {
            let mut own = self.standing.own();
            own.working -= 1;
            if own.working == 0 {
                self.standing.rest(&mut own);
            }
        }
    }
}

/// A request's body.
struct Arriving {
    body: Body,
    exchange: Arc<Exchange>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.exchange.begin();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. Its bytes are held by the connection until they have been
/// written, and hold the exchange.
struct Leaving {
    body: Body,
    exchange: Arc<Exchange>,
}

struct Held {
    bytes: Bytes,
    _exchange: Arc<Exchange>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let hold = |bytes| Bytes::from_owner(Held { bytes, _exchange: Arc::clone(&self.exchange) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const NEAR: &str = "127.0.0.1";
    const FAR: &str = "192.0.2.1";

    fn take(places: &Arc<Places>, peer: &str) -> Option<Place> {
        places.take(peer.parse().unwrap()).now_or_never().expect("there is a place")
    }

    #[test]
    fn an_address_has_a_bound_and_one_of_a_proxy_has_none() {
        let proxies = vec!["198.51.100.0/24".parse().unwrap()];
        let places = Places::new(100, 2, proxies);
        let own: Vec<_> = (0..2).map(|_| take(&places, FAR).unwrap()).collect();
        assert!(take(&places, FAR).is_none() && take(&places, "::ffff:192.0.2.1").is_none());
        let others: Vec<_> = [NEAR, "198.51.100.7"].repeat(3).into_iter().map(|peer| take(&places, peer)).collect();
        assert!(others.iter().all(Option::is_some) && take(&places, "192.0.2.2").is_some());
        drop(own);
        assert!(take(&places, FAR).is_some());
        assert!(places.state().by_origin.is_empty(), "nothing is left of those who came and went");
    }

    #[test]
    fn the_longest_idle_gives_way_and_one_at_work_does_not() {
        let places = Places::new(2, 9, Vec::new());
        let held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (places.standing(), places.standing());
        let exchange = Exchange { standing: Arc::clone(&first), has_begun: AtomicBool::new(false) };
        exchange.begin();
        let mut comes = Box::pin(places.take(NEAR.parse().unwrap()));
        assert!((&mut comes).now_or_never().is_none());
        assert!(first.is_to_give_way().now_or_never().is_none(), "it is at work");
        assert!(second.is_to_give_way().now_or_never().is_some());
        drop((second, held));
        assert!(comes.now_or_never().is_some());
        drop(exchange);
        assert_eq!(places.state().idle.len(), 1);
    }

    #[test]
    fn when_all_are_at_work_the_next_that_rests_gives_way() {
        let places = Places::new(1, 9, Vec::new());
        let held = take(&places, NEAR);
        let standing = places.standing();
        let exchange = Exchange { standing: Arc::clone(&standing), has_begun: AtomicBool::new(false) };
        exchange.begin();
        let mut comes = Box::pin(places.take(NEAR.parse().unwrap()));
        assert!((&mut comes).now_or_never().is_none());
        assert!(standing.is_to_give_way().now_or_never().is_none());
        drop(exchange);
        assert!(standing.is_to_give_way().now_or_never().is_some());
        drop((standing, held));
        assert!(comes.now_or_never().is_some());
        assert_eq!(places.state().wanted, 0);
    }
}
