//! One listener, one port.

/// A type that shows as this schema wherever it stands.
macro_rules! inline_schema {
    ($type:ty, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

mod body;
mod forwarded;
mod giving_way;
mod hosts;
mod intake;
mod lenient;
pub mod linger;
mod list;
mod ops;
mod places;
pub mod rest;
pub mod rpc;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;
use tracing::{debug, warn};
use url::Url;

use self::intake::{Counted, Intake};
use self::linger::{Bounds, Lingering, Unread};
use self::places::{Place, Places, Standing};
use crate::metrics::{Limit, Metrics, Present};
use crate::service::Service;
use crate::service::health::Health;
use crate::work::budget::Budget;
use crate::work::{Account, Guarded};

/// How long to wait after the system refused a connection (out of files, say).
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The longest head of a request, in bytes, and how much is read at once.
const HEAD_BYTES_MAX: usize = 128 * 1_024;

/// What the operator decides about the listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients reach the server; `None`: where it listens.
    pub public_url: Option<Url>,
    /// The longest request body, in bytes.
    pub body_bytes_max: usize,
    /// The most bytes of requests and messages that arrive or are under way. An
    /// account may have as many as are left free.
    pub received_bytes_max: usize,
    /// The most calls in one JSON-RPC batch.
    pub batch_calls_max: usize,
    /// Once the answers to a batch, or the results of a multiCall, fill so many
    /// bytes, no further call of it is run.
    pub response_bytes_max: usize,
    /// The most bytes of answers that wait to be sent. An account may have as
    /// many as are left free.
    pub unsent_bytes_max: usize,
    /// The most connections at once; for a further one the longest idle gives way.
    pub connections_max: usize,
    /// The most connections of one address; further ones are closed.
    pub address_connections_max: usize,
    /// Networks of proxies, from which many come: no bound for each address
    /// there, and who called them is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The most calls in progress on one WebSocket; further ones wait to be read.
    pub ws_calls_max: usize,
    /// The most subscriptions on one WebSocket.
    pub ws_subscriptions_max: usize,
    /// How much is read on, and for how long, after a refusal.
    pub linger: Bounds,
    /// How long a connection may be idle, or a WebSocket leave a ping
    /// unanswered; how long a client may take to send a request's headers or
    /// its body, and how long it may take none of its answer.
    pub idle_timeout: Duration,
}

/// Where a request comes from: who is at the other end of the connection, or
/// whom a trusted proxy there names; part of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// A connection's place among those there may be; part of each request. A
/// connection that outlives its request keeps the permit, is told of the
/// server's end by it, and is waited for.
#[derive(Clone)]
pub struct ConnectionPermit {
    /// Given back before the listener hears that the connection has ended.
    _place: Arc<(Place, Present)>,
    stopping: watch::Receiver<Option<Instant>>,
    /// Whether it is idle, and is to give way to others.
    standing: Arc<Standing>,
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

/// A header that says when to try again: in whole seconds, rounded up.
fn retry_after(wait: Duration) -> HeaderValue {
    u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).into()
}

/// Says in which encodings a body is read, where one was in another.
fn accept_encoding(response: &mut Response<Body>, encodings: Option<HeaderValue>) {
    if let Some(encodings) = encodings {
        response.headers_mut().insert(header::ACCEPT_ENCODING, encodings);
    }
}

/// The running listener.
pub struct Listener {
    address: SocketAddr,
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, and lets calls in progress end until the deadline.
    pub async fn shutdown(self, deadline: Instant) {
        // If the task is gone, there is nobody to tell.
        let _ = self.stop.send(deadline);
        if self.task.await.is_err() {
            tracing::error!("the listener panicked");
        }
    }
}

/// Answers on `socket` from now on, whoever asks how the server is doing, too, if its
/// health is given.
pub fn listen(
    config: Config,
    socket: TcpListener,
    service: Arc<Service>,
    health: Option<&Arc<Health>>,
) -> std::io::Result<Listener> {
    let address = socket.local_addr()?;
    let url = config.public_url.as_ref().map_or_else(|| format!("http://{address}/"), Url::to_string);
    let (is_dev, metrics) = (service.is_dev(), Arc::clone(service.metrics()));
    // Whatever others leave untaken, everybody may have an answer.
    let unsent = Budget::for_everybody(config.unsent_bytes_max);
    let ops = health.map(|health| rpc::paced(ops::router(health, &metrics), &service)).unwrap_or_default();
    let router = rest::router(&config, &service, &url, &unsent).merge(rpc::router(&config, service, url, &unsent));
    let router = hosts::guarded(router.merge(ops), is_dev, config.public_url.as_ref());
    Ok(listen_with(config, socket, address, router, metrics))
}

/// Answers on `socket` those alone who ask how the server is doing.
pub fn listen_to_ops(
    config: Config,
    socket: TcpListener,
    service: &Arc<Service>,
    health: &Arc<Health>,
) -> std::io::Result<Listener> {
    let address = socket.local_addr()?;
    let router = ops::router(health, service.metrics()).fallback(ops::refuse_path);
    Ok(listen_with(config, socket, address, router, Arc::clone(service.metrics())))
}

fn listen_with(
    config: Config,
    socket: TcpListener,
    address: SocketAddr,
    router: Router,
    metrics: Arc<Metrics>,
) -> Listener {
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(accept(config, socket, router, metrics, stopped));
    Listener { address, stop, task }
}

async fn accept(
    config: Config,
    socket: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    mut stopped: oneshot::Receiver<Instant>,
) {
    let places = Places::new(config.connections_max, config.address_connections_max, config.trusted_proxies.clone());
    let received = Budget::new(config.received_bytes_max);
    let stopping = watch::Sender::new(None);
    let deadline = loop {
        let next = async {
            let (stream, peer) = socket.accept().await?;
            Ok((stream, peer, places.take(peer.ip()).await))
        };
        tokio::select! {
            biased;
            // A listener that is dropped without a word stops at once.
            deadline = &mut stopped => break deadline.unwrap_or_else(|_| Instant::now()),
            accepted = next => match accepted {
                Ok((stream, peer, Some(place))) => {
                    let (stopping, standing) = (stopping.subscribe(), places.standing(peer.ip()));
                    let counted = Arc::new((place, Present::new(&metrics.connections)));
                    let permit = ConnectionPermit { _place: counted, stopping, standing };
                    let intake = Intake::new(&received, Account::of_stranger(peer.ip()));
                    serve(&config, router.clone(), stream, peer, permit, intake);
                }
                Ok((_, peer, None)) => {
                    metrics.refused(Limit::Connections);
                    debug!(%peer, "closed: there is no place for more connections of its address");
                }
                Err(cause) => {
                    let cause: std::io::Error = cause;
                    warn!(%cause, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
        }
    };
    drop(socket);
    stopping.send_replace(Some(deadline));
    if tokio::time::timeout_at(deadline.into(), stopping.closed()).await.is_err() {
        warn!("stopped before all calls had been answered");
    }
}

/// A client that does not take its answer loses the connection, as one does
/// that does not send its request.
fn bounded(stream: TcpStream, timeout: Duration) -> TimeoutStream<TcpStream> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeout));
    stream
}

fn serve(
    config: &Config,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    mut permit: ConnectionPermit,
    intake: Arc<Intake>,
) {
    if let Err(cause) = stream.set_nodelay(true) {
        debug!(%cause, "no TCP_NODELAY");
    }
    let unread = Arc::<Unread>::default();
    let stream = Lingering::new(Box::pin(bounded(stream, config.idle_timeout)), Arc::clone(&unread), config.linger);
    let stream = Counted::new(stream, Arc::clone(&intake));
    // An IPv4 client of a dual-stack socket is the same client on either.
    let peer = peer.ip().to_canonical();
    let (own, standing) = (permit.clone(), Arc::clone(&permit.standing));
    let proxies = config.trusted_proxies.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        let client = Peer(forwarded::client(peer, request.headers(), &proxies));
        request.extensions_mut().insert(client);
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
            Ok::<_, std::convert::Infallible>(standing.exchange(request, unread, answer).await)
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
    tokio::spawn(async move {
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
    });
}
