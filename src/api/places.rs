//! The places for connections: so many in all, and of one address; and who
//! gives way when all are taken.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::giving_way::{Doing, Lines, Turn};
use super::linger::Unread;
use crate::domain::address::{Origin, is_within};

/// How long a newcomer waits for a place. Others wait behind it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that was told to give way has time to; then the next is told.
const TELL_INTERVAL: Duration = Duration::from_millis(25);

/// The places. A connection takes one for as long as it lives, also as a
/// WebSocket.
///
/// One that has not sent a whole request, or rests between two, is idle; so is
/// a WebSocket without calls and subscriptions. When all places are taken, one
/// of [`Lines`] gives way to whoever comes. So neither many halves of requests
/// nor many quiet WebSockets nor many that wait for something keep anybody out.
pub struct Places {
    free: Arc<Semaphore>,
    /// The most of one address.
    address_max: usize,
    /// Networks of proxies, through which many come: no bound for each address there.
    proxies: Vec<IpNet>,
    state: Mutex<State>,
}

struct State {
    lines: Lines,
    /// Where somebody comes from who waits for a place; the listener takes one at a time.
    wanted_by: Option<Origin>,
    /// One has been told to give way, and has not refused.
    is_told: bool,
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Share,
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
    origin: Origin,
    gives_way: Arc<Notify>,
    is_cut: Arc<Notify>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    /// Works that are under way.
    working: usize,
    /// Those of them that must not be cut off.
    kept: usize,
    has_worked: bool,
    /// Where it stands, if it is in a line.
    turn: Option<Turn>,
}

/// What keeps a connection from being idle, until it is dropped: a request
/// that arrived whole and is not answered yet, or what a WebSocket does.
pub struct Work {
    standing: Arc<Standing>,
    is_kept: bool,
}

/// A request with its answer, until the last byte of that has been written.
struct Exchange {
    standing: Arc<Standing>,
    unread: Arc<Unread>,
    work: OnceLock<Work>,
}

impl Places {
    /// So many, of which an address may have `address_max` unless it is of the
    /// machine itself or of one of these networks.
    pub fn new(max: usize, address_max: usize, proxies: Vec<IpNet>) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(max));
        let state = State { lines: Lines::new(max), wanted_by: None, is_told: false };
        Arc::new(Self { free, address_max, proxies, state: Mutex::new(state) })
    }

    /// Waits for a place, for which another gives way. `None` if the
    /// peer's address has as many as it may, or nobody has given way.
    pub async fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let share = self.share(peer)?;
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _wanting = self.want(Origin::of(peer));
                let patience = Instant::now() + PATIENCE;
                loop {
                    let free = Arc::clone(&self.free).acquire_owned();
                    if let Ok(permit) = tokio::time::timeout(TELL_INTERVAL, free).await {
                        break permit.expect("the semaphore is never closed");
                    }
                    if Instant::now() >= patience {
                        return None;
                    }
                    self.state().tell();
                }
            }
        };
        Some(Place { _permit: permit, _share: share })
    }

    /// One of the places of the peer's address. `None` if there is no more for it.
    fn share(self: &Arc<Self>, peer: IpAddr) -> Option<Share> {
        let (origin, is_proxy) = (Origin::of(peer), is_within(peer, &self.proxies));
        let mut state = self.state();
        let has_bound = !is_proxy && !peer.to_canonical().is_loopback();
        if has_bound && state.lines.count(origin) >= self.address_max {
            return None;
        }
        state.lines.come(origin, is_proxy);
        Some(Share { places: Arc::clone(self), origin })
    }

    /// Has the one give way whose turn it is, or the next that becomes idle.
    fn want(&self, by: Origin) -> Wanting<'_> {
        let mut state = self.state();
        state.wanted_by = Some(by);
        state.tell();
        Wanting(self)
    }

    /// A connection of this peer that has sent nothing yet.
    pub fn standing(self: &Arc<Self>, peer: IpAddr) -> Arc<Standing> {
        let (places, origin) = (Arc::clone(self), Origin::of(peer));
        let standing =
            Standing { places, origin, gives_way: Arc::default(), is_cut: Arc::default(), own: Mutex::default() };
        standing.rest(&mut standing.own());
        Arc::new(standing)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the places")
    }
}

impl Place {
    /// The same place, on the account of another address. `None` if that has as many as it may.
    pub fn moved_to(self, peer: IpAddr) -> Option<Self> {
        let Self { _permit, _share } = self;
        let share = _share.places.share(peer)?;
        Some(Self { _permit, _share: share })
    }
}

impl State {
    /// Tells the one to give way whose turn it is.
    fn tell(&mut self) {
        let told = self.wanted_by.and_then(|newcomer| self.lines.next(newcomer));
        self.is_told = told.is_some();
        if let Some(told) = told {
            told.notify_one();
        }
    }
}

/// Somebody who waits for a place.
struct Wanting<'a>(&'a Places);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.wanted_by, state.is_told) = (None, false);
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.origin.fmt(f)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.places.state().lines.go(self.origin);
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
            match (own.working == 0, state.wanted_by.is_some()) {
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

    /// Waits until it is cut off from its work for another to have its place.
    pub async fn is_cut(&self) {
        self.is_cut.notified().await;
    }

    /// Keeps the connection from being idle; while it is at work with nothing
    /// that is to be kept, it may be cut off.
    pub fn work(self: &Arc<Self>, is_kept: bool) -> Work {
        let mut own = self.own();
        own.working += 1;
        own.kept += usize::from(is_kept);
        self.go_on(&mut own);
        drop(own);
        Work { standing: Arc::clone(self), is_kept }
    }

    /// Begins the time anew that it has been at its work.
    fn go_on(&self, own: &mut Own) {
        self.leave(own);
        own.has_worked = true;
        if own.kept == 0 {
            let turn = self.places.state().lines.stand(self.origin, Doing::Working, Arc::clone(&self.is_cut));
            own.turn = Some(turn);
        }
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
        self.leave(own);
        let mut state = self.places.state();
        let doing = if own.has_worked { Doing::Resting } else { Doing::Beginning };
        own.turn = Some(state.lines.stand(self.origin, doing, Arc::clone(&self.gives_way)));
        if state.wanted_by.is_some() && !state.is_told {
            state.tell();
        }
    }

    fn leave(&self, own: &mut Own) {
        if let Some(turn) = own.turn.take() {
            self.places.state().lines.leave(turn);
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().expect("nothing panics while it holds a connection's standing")
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.leave(&mut self.own());
    }
}

impl Work {
    /// True if it must not be cut off.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Gets on, so that the time begins anew after which it may be cut off.
    pub fn go_on(&self) {
        self.standing.go_on(&mut self.standing.own());
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut own = self.standing.own();
        own.working -= 1;
        own.kept -= usize::from(self.is_kept);
        match own.working {
            0 => self.standing.rest(&mut own),
            _ => self.standing.go_on(&mut own),
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
        self.work.get_or_init(|| self.standing.work(false));
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
        // What it had before has been taken.
        if let Some(work) = self.exchange.work.get() {
            work.go_on();
        }
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

    use super::super::giving_way::{AT_WORK_MIN, BEGIN_MIN};
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
        drop((own, others));
        assert!(take(&places, FAR).is_some());
        assert!(places.state().lines.is_empty(), "nothing is left of those who came and went");
    }

    fn standing(places: &Arc<Places>) -> Arc<Standing> {
        places.standing(NEAR.parse().unwrap())
    }

    fn comes(places: &Arc<Places>) -> Pin<Box<impl Future<Output = Option<Place>>>> {
        let mut comes = Box::pin(places.take(NEAR.parse().unwrap()));
        assert!((&mut comes).now_or_never().is_none(), "all places are taken");
        comes
    }

    fn is_cut(standing: &Standing) -> bool {
        standing.is_cut().now_or_never().is_some()
    }

    fn gives_way(standing: &Standing) -> bool {
        standing.gives_way().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_gives_way_and_one_at_work_does_not() {
        let places = Places::new(2, 9, Vec::new());
        let held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (standing(&places), standing(&places));
        let work = first.work(false);
        let comes = comes(&places);
        assert!(!gives_way(&first), "it is at work");
        assert!(gives_way(&second));
        drop((second, held));
        assert!(comes.now_or_never().is_some());
        drop((work, first));
        assert!(places.state().lines.is_empty(), "nothing is left of those who came and went");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_at_work_the_next_that_rests_gives_way() {
        let places = Places::new(1, 9, Vec::new());
        let held = take(&places, NEAR);
        let standing = standing(&places);
        let work = standing.work(false);
        let comes = comes(&places);
        assert!(!gives_way(&standing));
        drop(work);
        assert!(gives_way(&standing));
        drop((standing, held));
        assert!(comes.now_or_never().is_some());
        let state = places.state();
        assert!(state.wanted_by.is_none() && !state.is_told && state.lines.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_place_for_ever() {
        let places = Places::new(1, 9, Vec::new());
        let _held = take(&places, NEAR);
        let kept = standing(&places);
        let _work = kept.work(true);
        let began = Instant::now();
        assert!(places.take(NEAR.parse().unwrap()).await.is_none());
        assert!(began.elapsed() >= PATIENCE && !is_cut(&kept) && !gives_way(&kept));
        assert!(places.state().wanted_by.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_just_begun_is_not_lost_and_the_next_gives_way() {
        let places = Places::new(2, 9, Vec::new());
        let held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (standing(&places), standing(&places));
        let comes = comes(&places);
        // It was told, and begins before it hears of it.
        let work = first.work(false);
        assert!(!gives_way(&second) && !gives_way(&first) && gives_way(&second));
        drop((second, held));
        assert!(comes.now_or_never().is_some());
        drop(work);
        assert!(!gives_way(&first), "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_too_late_stays_and_is_idle() {
        let places = Places::new(2, 9, Vec::new());
        let mut held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (first, second) = (standing(&places), standing(&places));
        let came = comes(&places);
        drop((second, held.pop()));
        let came = came.now_or_never().flatten();
        assert!(came.is_some() && !gives_way(&first), "another left by itself");
        let _comes = comes(&places);
        assert!(gives_way(&first));
    }

    /// Nor does one that only waits for its answer give way to a flood of halves
    /// of requests.
    #[tokio::test(start_paused = true)]
    async fn one_that_has_sent_no_request_gives_way_before_one_that_has() {
        let places = Places::new(2, 9, Vec::new());
        let _held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (waits, rests) = (standing(&places), standing(&places));
        let _work = waits.work(false);
        drop(rests.work(false));
        tokio::time::advance(AT_WORK_MIN).await;
        let begins = standing(&places);
        tokio::time::advance(BEGIN_MIN).await;
        let later = standing(&places);
        let _comes = comes(&places);
        assert!(gives_way(&begins));
        assert!(!gives_way(&rests) && !gives_way(&later) && !is_cut(&waits));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_long_been_at_work_is_cut_off_before_one_that_was_idle_for_less() {
        let places = Places::new(2, 9, Vec::new());
        let _held: Vec<_> = (0..2).map(|_| take(&places, NEAR).unwrap()).collect();
        let (working, idle) = (standing(&places), standing(&places));
        let _work = working.work(false);
        tokio::time::advance(AT_WORK_MIN).await;
        drop(idle.work(false));
        let _comes = comes(&places);
        assert!(is_cut(&working) && !gives_way(&idle));
    }

    /// And not before its time.
    #[tokio::test(start_paused = true)]
    async fn one_that_has_long_been_at_work_is_cut_off_if_nobody_is_idle() {
        let places = Places::new(3, 9, Vec::new());
        let mut held: Vec<_> = (0..3).map(|_| take(&places, NEAR).unwrap()).collect();
        let (kept, first, second) = (standing(&places), standing(&places), standing(&places));
        let _works = [kept.work(true), first.work(false)];
        tokio::time::advance(AT_WORK_MIN / 2).await;
        let work = second.work(false);
        let mut comes = comes(&places);
        tokio::time::advance(AT_WORK_MIN / 4).await;
        assert!((&mut comes).now_or_never().is_none());
        assert!(![&kept, &first, &second].into_iter().any(|standing| is_cut(standing)), "it is not time yet");
        tokio::time::advance(AT_WORK_MIN / 4).await;
        assert!((&mut comes).now_or_never().is_none());
        assert!(is_cut(&first) && !is_cut(&second) && !is_cut(&kept));
        // It does not hear of it, so the next is told once it is time.
        work.go_on();
        tokio::time::advance(AT_WORK_MIN / 2).await;
        assert!((&mut comes).now_or_never().is_none());
        assert!(!is_cut(&second), "it has got on");
        tokio::time::advance(AT_WORK_MIN / 2).await;
        assert!((&mut comes).now_or_never().is_none());
        assert!(is_cut(&second) && !is_cut(&kept));
        held.pop();
        assert!(comes.now_or_never().is_some());
    }
}
