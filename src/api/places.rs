//! The places for connections: so many in all, and of one address; and who
//! gives way when all are taken.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::linger::Unread;
use crate::domain::address::{Origin, is_within};

/// The places. A connection takes one for as long as it lives, also as a
/// WebSocket.
///
/// One that has not sent a whole request, or rests between two, is idle; so is
/// a WebSocket without calls and subscriptions. When all places are taken, the
/// one that has been idle longest gives way to whoever comes. So neither many
/// halves of requests nor many quiet WebSockets keep anybody out.
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
    /// Somebody waits for a place: the listener, which takes one at a time.
    is_wanted: bool,
    /// One that was idle has been told to give way, and has not refused.
    is_told: bool,
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

/// Whether a connection is idle. What it has to do and whether it gives way
/// are decided under one lock, so that nothing is lost which has just begun.
pub struct Standing {
    places: Arc<Places>,
    gives_way: Arc<Notify>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    /// Works that are under way.
    working: usize,
    /// Its key among the idle.
    turn: Option<u64>,
}

/// What keeps a connection from being idle, until it is dropped: a request
/// that arrived whole and is not answered yet, or what a WebSocket does.
pub struct Work(Arc<Standing>);

/// A request with its answer, until the last byte of that has been written.
struct Exchange {
    standing: Arc<Standing>,
    unread: Arc<Unread>,
    work: OnceLock<Work>,
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
        state.is_wanted = true;
        state.tell();
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

impl State {
    /// Tells the longest idle, if there is one, to give way.
    fn tell(&mut self) {
        let oldest = self.idle.pop_first();
        self.is_told = oldest.is_some();
        if let Some((_, oldest)) = oldest {
            oldest.notify_one();
        }
    }
}

/// Somebody who waits for a place.
struct Wanting<'a>(&'a Places);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.is_wanted, state.is_told) = (false, false);
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
    /// Waits until it gives way to another, which it does only while it is
    /// idle. If it was told to when it had begun to work, the next one is told.
    pub async fn gives_way(&self) {
        loop {
            self.gives_way.notified().await;
            let mut own = self.own();
            let mut state = self.places.state();
            match (own.working == 0, state.is_wanted) {
                (true, true) => return,
                (true, false) => {
                    drop(state);
                    self.rest(&mut own);
                }
                (false, true) => state.tell(),
                (false, false) => {}
            }
        }
    }

    /// Keeps the connection from being idle.
    pub fn work(self: &Arc<Self>) -> Work {
        let mut own = self.own();
        own.working += 1;
        self.leave_idle(&mut own);
        drop(own);
        Work(Arc::clone(self))
    }

    /// Watches a request: once it has arrived whole, the connection is at
    /// work, until what `answer` makes of it has been written. An answer that
    /// comes before is the last on its connection, and says so.
    pub async fn exchange<F>(
        self: &Arc<Self>,
        request: http::Request<Body>,
        unread: Arc<Unread>,
        answer: F,
    ) -> http::Response<Body>
    where
        F: AsyncFnOnce(http::Request<Body>) -> http::Response<Body>,
    {
        let exchange = Arc::new(Exchange { standing: Arc::clone(self), unread, work: OnceLock::new() });
        if request.body().is_end_stream() {
            exchange.has_arrived();
        }
        let arriving = Arc::clone(&exchange);
        let request = request.map(|body| Body::new(Arriving { body, exchange: arriving }));
        let mut response = answer(request).await;
        if exchange.work.get().is_none() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        exchange.begin();
        response.map(|body| Body::new(Leaving { body, exchange }))
    }

    fn rest(&self, own: &mut Own) {
        self.leave_idle(own);
        let mut state = self.places.state();
        if state.is_wanted && !state.is_told {
            state.is_told = true;
            return self.gives_way.notify_one();
        }
        state.last_turn += 1;
        let turn = state.last_turn;
        state.idle.insert(turn, Arc::clone(&self.gives_way));
        own.turn = Some(turn);
    }

    fn leave_idle(&self, own: &mut Own) {
        if let Some(turn) = own.turn.take() {
            self.places.state().idle.remove(&turn);
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().expect("nothing panics while it holds a connection's standing")
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.leave_idle(&mut self.own());
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut own = self.0.own();
        own.working -= 1;
        if own.working == 0 {
            self.0.rest(&mut own);
        }
    }
}

impl Exchange {
    /// The request is whole.
    fn has_arrived(&self) {
        self.unread.clear();
        self.begin();
    }

    fn begin(&self) {
        self.work.get_or_init(|| self.standing.work());
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
            self.exchange.has_arrived();
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

    fn comes(places: &Arc<Places>) -> Pin<Box<impl Future<Output = Option<Place>>>> {
        let mut comes = Box::pin(places.take(NEAR.parse().unwrap()));
        assert!((&mut comes).now_or_never().is_none(), "all places are taken");
        comes
    }

    fn gives_way(standing: &Standing) -> bool {
        standing.gives_way().now_or_never().is_some()
    }

    #[test]
    fn the_longest_idle_gives_way_and_one_at_work_does_not() {
        let places = Places::new(2, 9, Vec::new());
        let held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (places.standing(), places.standing());
        let work = first.work();
        let comes = comes(&places);
        assert!(!gives_way(&first), "it is at work");
        assert!(gives_way(&second));
        drop((second, held));
        assert!(comes.now_or_never().is_some());
        drop(work);
        assert_eq!(places.state().idle.len(), 1);
        drop(first);
        assert!(places.state().idle.is_empty());
    }

    #[test]
    fn when_all_are_at_work_the_next_that_rests_gives_way() {
        let places = Places::new(1, 9, Vec::new());
        let held = take(&places, NEAR);
        let standing = places.standing();
        let work = standing.work();
        let comes = comes(&places);
        assert!(!gives_way(&standing));
        drop(work);
        assert!(gives_way(&standing));
        drop((standing, held));
        assert!(comes.now_or_never().is_some());
        let state = places.state();
        assert!(!state.is_wanted && !state.is_told && state.idle.is_empty());
    }

    #[test]
    fn what_has_just_begun_is_not_lost_and_the_next_gives_way() {
        let places = Places::new(2, 9, Vec::new());
        let held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (places.standing(), places.standing());
        let comes = comes(&places);
        // It was told, and begins before it hears of it.
        let work = first.work();
        assert!(!gives_way(&second) && !gives_way(&first) && gives_way(&second));
        drop((second, held));
        assert!(comes.now_or_never().is_some());
        drop(work);
        assert!(!gives_way(&first), "nobody waits any more");
    }

    #[test]
    fn who_was_told_too_late_stays_and_is_idle() {
        let places = Places::new(2, 9, Vec::new());
        let mut held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (places.standing(), places.standing());
        let came = comes(&places);
        drop((second, held.pop()));
        let came = came.now_or_never().flatten();
        assert!(came.is_some() && !gives_way(&first), "another left by itself");
        let _comes = comes(&places);
        assert!(gives_way(&first));
    }
}
