//! One connection: what comes before its first request, and then its requests.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::{Instrument, debug};

use super::config::Config;
use super::forwarded;
use super::intake::{Counted, Intake};
use super::linger::{Lingering, Unread};
use super::places::{Place, Places, Standing};
use super::proxied;
use super::request_id;
use super::wire::Wire;
use crate::domain::address::is_within;
use crate::domain::request_id::Sender;
use crate::metrics::{Counter, Limit, Metrics, Present};
use crate::work::budget::Budget;
use crate::work::{Account, Guarded};

/// The longest head of a request, in bytes, and how much is read at once.
const HEAD_BYTES_MAX: usize = 128 * 1_024;
/// What the first record of TLS begins with: it is one of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connection's place among those there may be; part of each request. A
/// connection that outlives its request keeps the permit, is told of the
/// server's end by it, and is waited for.
#[derive(Clone)]
pub struct ConnectionPermit {
    /// Given back before the listener hears that the connection has ended.
    _place: Arc<(Place, Present)>,
    stopping: watch::Receiver<Option<Instant>>,
    /// Whether it is idle, and is to give way to others.
    pub(super) standing: Arc<Standing>,
}

impl ConnectionPermit {
    /// Waits until the server stops.
    pub async fn is_stopping(&mut self) {
        // Fails only if the listener is gone, which is an end, too.
        let _ = self.stopping.wait_for(Option::is_some).await;
    }

    /// Waits until the server has stopped, however much was in progress.
    pub async fn is_over(&mut self) {
        let deadline = match self.stopping.wait_for(Option::is_some).await {
            Ok(deadline) => *deadline,
            Err(_) => None,
        };
        tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()).await;
    }
}

/// What all connections of a listener have in common.
pub struct Door {
    config: Config,
    router: Router,
    /// Answers those who speak HTTP where TLS is spoken.
    misled: Router,
    metrics: Arc<Metrics>,
    handshakes: Handshakes,
    /// Where a connection has its place.
    pub places: Arc<Places>,
    received: Arc<Budget>,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
}

/// Counts handshakes by what came of them.
struct Handshakes {
    done: Counter,
    failed: Counter,
}

/// A connection before its first request.
struct Begun {
    peer: IpAddr,
    place: Place,
    standing: Arc<Standing>,
    stopping: watch::Receiver<Option<Instant>>,
}

/// A connection whose requests may come.
struct Opened {
    wire: Wire,
    is_misled: bool,
}

impl Begun {
    /// What that comes to. `None`: the connection has ended, by itself, for another's sake, or
    /// because the server stops.
    async fn wait<T>(&mut self, deadline: Instant, coming: impl Future<Output = io::Result<T>>) -> Option<T> {
        let peer = self.peer;
        let came = tokio::select! {
            biased;
            came = tokio::time::timeout_at(deadline.into(), coming) => came,
            () = self.standing.gives_way() => {
                debug!(%peer, "a connection that had not begun gave way to another");
                return None;
            }
            _ = self.stopping.wait_for(Option::is_some) => return None,
        };
        let timed_out = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "what comes first took too long"));
        match came.unwrap_or_else(timed_out) {
            Ok(came) => Some(came),
            Err(cause) => {
                debug!(%peer, %cause, "a connection broke off before its first request");
                None
            }
        }
    }
}

impl Door {
    /// Through which nobody has come yet.
    pub fn new(
        config: Config,
        router: Router,
        metrics: Arc<Metrics>,
        tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    ) -> Self {
        let proxies = config.trusted_proxies.clone();
        let places = Places::new(config.connections_max, config.address_connections_max, proxies);
        let received = Budget::new(config.received_bytes_max);
        let misled = Router::new().fallback(async || {
            let words = "This port speaks HTTPS, and the request came as plain HTTP; begin the URL with https://.\n";
            (StatusCode::BAD_REQUEST, [(header::CONNECTION, "close")], words)
        });
        let [done, failed] = ["done", "failed"].map(|outcome| metrics.handshakes.child(&[outcome]));
        Self { config, router, misled, metrics, handshakes: Handshakes { done, failed }, places, received, tls }
    }

    /// Notes that a connection was closed for want of a place.
    pub fn has_no_place(&self, peer: IpAddr) {
        self.metrics.refused(Limit::Connections);
        debug!(%peer, "closed: there is no place for more connections of its address");
    }

    /// Serves a connection that has its place, until it ends.
    pub async fn serve(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: IpAddr,
        place: Place,
        stopping: watch::Receiver<Option<Instant>>,
    ) {
        if let Err(cause) = stream.set_nodelay(true) {
            debug!(%cause, "no TCP_NODELAY");
        }
        let begun = Begun { peer, place, standing: self.places.standing(peer), stopping };
        let present = Present::new(&self.metrics.connections);
        let deadline = Instant::now() + self.config.handshake_timeout;
        let Some(mut begun) = self.told(&mut stream, begun, deadline).await else { return };
        let opened = begun.wait(deadline, self.open(stream)).await;
        if self.tls.is_some() {
            let is_done = opened.as_ref().is_some_and(|opened| !opened.is_misled);
            let counter = if is_done { &self.handshakes.done } else { &self.handshakes.failed };
            counter.inc();
        }
        let Some(opened) = opened else { return };
        let Begun { peer, place, standing, stopping } = begun;
        let permit = ConnectionPermit { _place: Arc::new((place, present)), stopping, standing };
        self.answer(opened, peer, permit).await;
    }

    /// Whose connection it is, as a proxy says that is believed, with a place on that account.
    /// `None`: it has ended.
    async fn told(&self, stream: &mut TcpStream, mut begun: Begun, deadline: Instant) -> Option<Begun> {
        if !self.config.proxy_protocol || !is_within(begun.peer, &self.config.trusted_proxies) {
            return Some(begun);
        }
        let Some(peer) = begun.wait(deadline, proxied::client(stream)).await? else { return Some(begun) };
        let Begun { place, stopping, .. } = begun;
        let Some(place) = place.moved_to(peer) else {
            self.has_no_place(peer);
            return None;
        };
        Some(Begun { peer, place, standing: self.places.standing(peer), stopping })
    }

    /// The handshake, where there is one.
    async fn open(&self, stream: TcpStream) -> io::Result<Opened> {
        let Some(tls) = &self.tls else { return Ok(Opened { wire: Wire::Plain(stream), is_misled: false }) };
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            return Ok(Opened { wire: Wire::Plain(stream), is_misled: true });
        }
        let current = Arc::clone(&tls.borrow());
        let stream = TlsAcceptor::from(current).accept(stream).await?;
        Ok(Opened { wire: Wire::Encrypted(Box::new(stream)), is_misled: false })
    }

    /// Its requests, one after the other.
    async fn answer(&self, opened: Opened, peer: IpAddr, mut permit: ConnectionPermit) {
        let config = &self.config;
        let intake = Intake::new(&self.received, Account::of_stranger(peer));
        let unread = Arc::<Unread>::default();
        let stream = Box::pin(bounded(opened.wire, config.idle_timeout));
        let stream = Counted::new(Lingering::new(stream, Arc::clone(&unread), config.linger), Arc::clone(&intake));
        let router = if opened.is_misled { self.misled.clone() } else { self.router.clone() };
        // An IPv4 client of a dual-stack socket is the same client on either.
        let peer = peer.to_canonical();
        let (own, standing) = (permit.clone(), Arc::clone(&permit.standing));
        let proxies = config.trusted_proxies.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            let request_id = request_id::of(request.headers());
            let peer = forwarded::client(peer, request.headers(), &proxies);
            let trace = request_id::trace(request.headers());
            request.extensions_mut().insert(Sender { peer, request_id, trace });
            request.extensions_mut().insert(own.clone());
            request.extensions_mut().insert(Arc::clone(&intake));
            let (standing, intake, router) = (Arc::clone(&own.standing), Arc::clone(&intake), router.clone());
            let unread = Arc::clone(&unread);
            async move {
                let (_answering, _head) = (intake.answering(), intake.take());
                let answer = async |request| {
                    let Ok(response) = router.oneshot(request).await;
                    response
                };
                let answered = standing.exchange(request, unread, answer);
                let mut response = answered.instrument(request_id::span(request_id)).await;
                request_id::note(response.headers_mut(), request_id);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.idle_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            // Who sends no more may still read (RFC 9112, 9.6). One that has gone altogether looks the
            // same until it is written to, so its call runs to its end.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = Guarded::new("a call", Box::pin(connection));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = standing.gives_way() => return debug!("a connection that was idle gave way to another"),
            () = standing.is_cut() => return debug!("a connection at work was cut off, for another had no place"),
            () = permit.is_stopping() => {
                connection.inner().as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(cause) = ended {
            debug!(%cause, "a connection broke off");
        }
    }
}

/// A client that does not take its answer loses the connection, as one does
/// that does not send its request.
fn bounded(stream: Wire, timeout: Duration) -> TimeoutStream<Wire> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeout));
    stream
}
