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
mod config;
mod connection;
mod forwarded;
mod giving_way;
mod hosts;
mod intake;
mod keys;
mod lenient;
pub mod linger;
mod list;
mod ops;
mod places;
mod proxied;
mod request_id;
pub mod rest;
pub mod rpc;
mod text;
pub mod tls;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Response, header};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;
use url::Url;

pub use self::config::Config;
pub use self::connection::ConnectionPermit;
use self::connection::Door;
use self::tls::Tls;
use crate::metrics::Metrics;
use crate::service::Service;
use crate::service::health::Health;
use crate::work::budget::Budget;

/// How long to wait after the system refused a connection (out of files, say).
const ACCEPT_REST: Duration = Duration::from_millis(100);

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
    /// Has the files of TLS read anew; `None`: there are none.
    reload: Option<Arc<Notify>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where that is, as clients on this machine write it.
    pub fn url(&self) -> String {
        format!("{}://{}", scheme(self.reload.is_some()), self.address)
    }

    /// Has the files of TLS read anew now, rather than once it is seen that they have changed.
    pub fn reload(&self) {
        if let Some(reload) = &self.reload {
            reload.notify_one();
        }
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
    let here = || format!("{}://{address}/", scheme(config.tls.is_some()));
    let url = config.public_url.as_ref().map_or_else(here, Url::to_string);
    let (is_dev, metrics) = (service.is_dev(), Arc::clone(service.metrics()));
    // Whatever others leave untaken, everybody may have an answer.
    let unsent = Budget::for_everybody(config.unsent_bytes_max);
    let ops = health.map(|health| rpc::paced(ops::router(health, &metrics), &service)).unwrap_or_default();
    let keys = rpc::paced(keys::router(&service), &service);
    let router = rest::router(&config, &service, &url, &unsent).merge(rpc::router(&config, service, url, &unsent));
    let router = hosts::guarded(router.merge(ops).merge(keys), is_dev, config.public_url.as_ref());
    Ok(listen_with(config, socket, address, router, metrics))
}

/// Answers on `socket` those alone who ask how the server is doing, and without TLS or the PROXY
/// protocol: whoever scrapes or probes it stands beside it.
pub fn listen_to_ops(
    config: Config,
    socket: TcpListener,
    service: &Arc<Service>,
    health: &Arc<Health>,
) -> std::io::Result<Listener> {
    let address = socket.local_addr()?;
    let router = ops::router(health, service.metrics()).fallback(ops::refuse_path);
    let config = Config { tls: None, proxy_protocol: false, ..config };
    Ok(listen_with(config, socket, address, router, Arc::clone(service.metrics())))
}

fn scheme(has_tls: bool) -> &'static str {
    if has_tls { "https" } else { "http" }
}

fn listen_with(
    mut config: Config,
    socket: TcpListener,
    address: SocketAddr,
    router: Router,
    metrics: Arc<Metrics>,
) -> Listener {
    let (stop, stopped) = oneshot::channel();
    let followed = config.tls.take().map(Tls::follow);
    let reload = followed.as_ref().map(|followed| Arc::clone(&followed.asked));
    let door = Arc::new(Door::new(config, router, metrics, followed.map(|followed| followed.current)));
    let task = tokio::spawn(accept(door, socket, stopped));
    Listener { address, stop, reload, task }
}

async fn accept(door: Arc<Door>, socket: TcpListener, mut stopped: oneshot::Receiver<Instant>) {
    let stopping = watch::Sender::new(None);
    let deadline = loop {
        let next = async {
            let (stream, peer) = socket.accept().await?;
            Ok((stream, peer, door.places.take(peer.ip()).await))
        };
        tokio::select! {
            biased;
            // A listener that is dropped without a word stops at once.
            deadline = &mut stopped => break deadline.unwrap_or_else(|_| Instant::now()),
            accepted = next => match accepted {
                Ok((stream, peer, Some(place))) => {
                    tokio::spawn(Arc::clone(&door).serve(stream, peer.ip(), place, stopping.subscribe()));
                }
                Ok((_, peer, None)) => door.has_no_place(peer.ip()),
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
