//! Connections to receivers, kept while they are likely to be used again.
//!
//! A connection belongs to whoever makes a request on it, and is driven by
//! that same task: no task of its own, no hand-over, one wake-up when the
//! answer is there. While it is kept nobody looks at it; whether it is still
//! open is found out when it is taken.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower::Service;

use super::answers::Kept;
use super::connect::{ConnectError, GuardedConnector, Resolve};
use super::guard::Guard;
use super::identities::Identities;
use super::proxy::EgressProxy;
use super::stream::{Exchange, Watched};
use crate::domain::id::MerchantId;
use crate::domain::identity::ClientIdentity;
use crate::render::spelling::Spelling;

/// How long an unused connection is kept, unless its receiver wants it shorter.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often it is looked for such.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// The longest status line and headers of an answer, in bytes.
const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most headers of an answer. Their places are reserved for each answer:
/// 64 kB, which is a tenth of a microsecond; for as many as curl takes, 5,000,
/// it would be a hundred times as long.
pub const ANSWER_HEADERS_MAX: usize = 1_000;

/// The most pieces of a body that are read; a receiver that sends as few bytes
/// in each as it can is not listened to for longer.
const PIECES_MAX: usize = 1_024;
/// So many are read before others have their turn.
const PIECES_AT_ONCE: usize = 64;
/// What the pieces of a body may have besides what counts, in bytes.
const FRAMING_BYTES_MAX: usize = 64 * 1024;

type Stream = TokioIo<Watched<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>>;

/// An open connection.
pub struct Wire {
    sender: SendRequest<Full<Bytes>>,
    connection: Box<Connection<Stream, Full<Bytes>>>,
    /// The connection has come to its end, and must not be polled again.
    is_over: bool,
    exchange: Exchange,
    opened: Instant,
    /// What it is connected to.
    pub address: Option<SocketAddr>,
}

impl Wire {
    /// Makes a request, its names spelled so, and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        spelling: Spelling,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, connection, is_over, exchange, .. } = self;
        exchange.begin(spelling);
        let mut sending = pin!(sender.send_request(request));
        let sent = poll_fn(|context| {
            drive(connection, is_over, context);
            sending.as_mut().poll(context)
        });
        sent.await
    }

    /// What has come and could not be read, of an answer that failed.
    pub fn into_unread(self) -> Bytes {
        self.connection.into_parts().read_buf
    }

    /// True if nothing of an answer to the last request has come.
    pub fn is_unanswered(&self) -> bool {
        !self.exchange.has_come()
    }

    /// Reads a body of an answer up to so many bytes into `kept`, as far as
    /// there is room; one that ends within the bound is read to its end, unless
    /// it comes in more pieces than anybody needs.
    pub async fn read(&mut self, mut body: Incoming, bytes_max: usize, room: &mut Kept, kept: &mut Vec<u8>) {
        let frame = async |wire: &mut Self, body: &mut Incoming| {
            poll_fn(|context| {
                drive(&mut wire.connection, &mut wire.is_over, context);
                Pin::new(&mut *body).poll_frame(context)
            })
            .await
        };
        self.exchange.allow(bytes_max.saturating_mul(2).saturating_add(FRAMING_BYTES_MAX));
        for count in 1..=PIECES_MAX {
            if count % PIECES_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let Some(Ok(frame)) = frame(self, &mut body).await else { return };
            // What is no data is trailers, which say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            let left = bytes_max - kept.len();
            let part = &data[..data.len().min(left)];
            if !room.grow(part.len()) {
                return;
            }
            kept.extend_from_slice(part);
            if data.len() > left {
                return;
            }
        }
    }

    /// True if another request can be made, as far as can be seen from here.
    pub fn is_free(&mut self) -> bool {
        // Notices what has come, such as the end; nobody is to be woken for more.
        drive(&mut self.connection, &mut self.is_over, &mut Context::from_waker(Waker::noop()));
        !self.is_over && self.sender.is_ready()
    }
}

/// Lets a connection do what it can; what came of it is told by the request.
fn drive(connection: &mut Connection<Stream, Full<Bytes>>, is_over: &mut bool, context: &mut Context<'_>) {
    if !*is_over {
        *is_over = Pin::new(connection).poll(context).is_ready();
    }
}

/// Opens connections that the guard lets pass, and keeps those that are free.
pub struct Pool {
    guard: Arc<Guard>,
    resolver: Arc<dyn Resolve>,
    proxy: Option<Arc<EgressProxy>>,
    identities: Identities,
    keeping: Keeping,
    idle: Mutex<Idle>,
}

/// What connections may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// So many that are not in use.
    pub idle_max: usize,
    /// Each for so long, however much it is used: the receiver may have moved
    /// to another address since.
    pub age_max: Duration,
}

#[derive(Default)]
struct Idle {
    /// By scheme, host and port, and who is presented; the one that was used last is at the end.
    wires: HashMap<Box<str>, VecDeque<Unused>>,
    count: usize,
    is_watched: bool,
}

struct Unused {
    since: Instant,
    /// When it is closed.
    until: Instant,
    wire: Wire,
}

impl Pool {
    /// A pool that keeps no more than `keeping` allows.
    pub fn new(
        guard: Arc<Guard>,
        resolver: Arc<dyn Resolve>,
        proxy: Option<EgressProxy>,
        tls: ClientConfig,
        keeping: Keeping,
    ) -> Self {
        let proxy = proxy.map(Arc::new);
        Self { guard, resolver, proxy, identities: Identities::new(tls), keeping, idle: Mutex::default() }
    }

    /// A connection that was kept under this name and is still open, if there is one.
    pub fn take(&self, origin: &str) -> Option<Wire> {
        loop {
            let Unused { until, mut wire, .. } = self.idle().take(origin)?;
            if until > Instant::now() && wire.is_free() {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection on which another request can be made, no longer than
    /// its receiver does, if that is known.
    pub fn put(self: &Arc<Self>, origin: &str, wire: Wire, receiver_keeps: Option<Duration>) {
        let since = Instant::now();
        let idle_until = since + receiver_keeps.unwrap_or(IDLE_TIMEOUT).min(IDLE_TIMEOUT);
        let until = idle_until.min(wire.opened + self.keeping.age_max);
        if self.keeping.idle_max == 0 || until <= since {
            return;
        }
        let mut idle = self.idle();
        if idle.count >= self.keeping.idle_max {
            idle.close_oldest();
        }
        idle.put(origin, Unused { since, until, wire });
        if !idle.is_watched {
            idle.is_watched = true;
            drop(idle);
            tokio::spawn(Arc::clone(self).watch());
        }
    }

    /// Opens a connection as somebody; look-up, TCP and TLS together may take so long.
    pub async fn open(
        &self,
        merchant: MerchantId,
        identity: Option<&ClientIdentity>,
        uri: Uri,
        within: Duration,
    ) -> Result<Wire, ConnectError> {
        let tls = self.identities.config(identity).map_err(ConnectError::Identity)?;
        let connected = Arc::new(OnceLock::new());
        let guarded = GuardedConnector {
            guard: Arc::clone(&self.guard),
            resolver: Arc::clone(&self.resolver),
            proxy: self.proxy.clone(),
            merchant,
            connect_timeout: within,
            connected: Arc::clone(&connected),
        };
        let mut connector = HttpsConnector::from((guarded, tls));
        let late = |_| connected.get().map_or(ConnectError::Timeout, |address| ConnectError::Handshake(*address));
        let connecting = timeout(within, connector.call(uri)).await.map_err(late)?;
        // What is none of ours came from the TLS layer.
        let stream = connecting.map_err(|error| error.downcast().map_or_else(ConnectError::Tls, |error| *error))?;
        let exchange = Exchange::default();
        let stream = TokioIo::new(Watched::new(TokioIo::new(stream), exchange.clone()));
        let mut builder = Builder::new();
        builder.max_buf_size(ANSWER_HEAD_BYTES_MAX).max_headers(ANSWER_HEADERS_MAX);
        // What curl and browsers read as well.
        builder.allow_obsolete_multiline_headers_in_responses(true);
        builder.allow_spaces_after_header_name_in_responses(true);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| ConnectError::Tls(error.into()))?;
        Ok(Wire {
            sender,
            connection: Box::new(connection),
            is_over: false,
            exchange,
            opened: Instant::now(),
            address: connected.get().copied().flatten(),
        })
    }

    /// Closes what has been unused for long enough, until there is nothing left.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let mut idle = self.idle();
            idle.close_unused(Instant::now());
            if idle.count == 0 {
                idle.is_watched = false;
                return;
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().expect("nothing panics while it holds the connections")
    }
}

impl Idle {
    fn put(&mut self, origin: &str, unused: Unused) {
        match self.wires.get_mut(origin) {
            Some(wires) => wires.push_back(unused),
            None => drop(self.wires.insert(origin.into(), VecDeque::from([unused]))),
        }
        self.count += 1;
    }

    fn take(&mut self, origin: &str) -> Option<Unused> {
        let unused = self.wires.get_mut(origin)?.pop_back()?;
        self.count -= 1;
        Some(unused)
    }

    fn close_oldest(&mut self) {
        let fronts = self.wires.values_mut().filter(|wires| !wires.is_empty());
        let oldest = fronts.min_by_key(|wires| wires.front().map(|unused| unused.since));
        if oldest.and_then(VecDeque::pop_front).is_some() {
            self.count -= 1;
        }
    }

    fn close_unused(&mut self, now: Instant) {
        self.wires.retain(|_, wires| {
            wires.retain(|unused| unused.until > now);
            !wires.is_empty()
        });
        self.count = self.wires.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::delivery::answers::Answers;
    use crate::delivery::connect::SystemResolver;
    use crate::delivery::guard::Targets;

    const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

    fn pool(idle_max: usize) -> Arc<Pool> {
        let guard = Arc::new(Guard::new(Targets { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Targets::default() }));
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let keeping = Keeping { idle_max, age_max: Duration::from_secs(3_600) };
        Arc::new(Pool::new(guard, Arc::new(SystemResolver), None, tls, keeping))
    }

    /// Where every connection is served so.
    async fn receiver<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        origin
    }

    async fn answer(mut stream: TcpStream) {
        let mut request = [0; 1_024];
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
            stream.write_all(ANSWER).await.unwrap();
        }
    }

    async fn open(pool: &Pool, origin: &str) -> Wire {
        pool.open(MerchantId(1), None, format!("{origin}/").parse().unwrap(), Duration::from_secs(60)).await.unwrap()
    }

    async fn post(wire: &mut Wire) -> u16 {
        let request = Request::post("/").header("host", "a").body(Full::default()).unwrap();
        let response = wire.send(request, Spelling::default()).await.unwrap();
        let status = response.status().as_u16();
        let mut room = Arc::new(Answers::new(1_000)).begin(MerchantId(1));
        wire.read(response.into_body(), 100, &mut room, &mut Vec::new()).await;
        status
    }

    #[tokio::test]
    async fn what_is_free_is_taken_again() {
        let (pool, origin) = (pool(2), receiver(answer).await);
        let mut wire = open(&pool, &origin).await;
        assert_eq!(wire.address.unwrap().to_string(), origin["http://".len()..]);
        assert_eq!(post(&mut wire).await, 204);
        assert!(wire.is_free());
        pool.put(&origin, wire, None);
        assert!(pool.take("http://127.0.0.1:1").is_none());
        let mut again = pool.take(&origin).expect("it was put back");
        assert!(pool.take(&origin).is_none(), "and taken");
        assert_eq!(post(&mut again).await, 204);
    }

    #[tokio::test]
    async fn what_was_closed_meanwhile_is_not_taken() {
        let (closed, mut closing) = tokio::sync::mpsc::unbounded_channel();
        let origin = receiver(move |mut stream| {
            let closed = closed.clone();
            async move {
                assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
                stream.write_all(ANSWER).await.unwrap();
                drop(stream);
                closed.send(()).unwrap();
            }
        })
        .await;
        let pool = pool(2);
        let mut wire = open(&pool, &origin).await;
        assert_eq!(post(&mut wire).await, 204);
        pool.put(&origin, wire, None);
        closing.recv().await.unwrap();
        // The end is on its way within this machine.
        let taken = async {
            while let Some(wire) = pool.take(&origin) {
                pool.put(&origin, wire, None);
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), taken).await.expect("the end is noticed");
        assert_eq!(pool.idle().count, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_kept_and_not_for_ever() {
        let (pool, origin) = (pool(3), receiver(answer).await);
        let other = receiver(answer).await;
        pool.put(&other, open(&pool, &other).await, None);
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(1)).await;
            pool.put(&origin, open(&pool, &origin).await, None);
        }
        assert_eq!(pool.idle().count, 3);
        assert!(pool.take(&other).is_none(), "the one that was unused for longest was closed");
        tokio::time::sleep(IDLE_TIMEOUT - Duration::from_secs(2)).await;
        assert!(pool.idle().count > 0);
        tokio::time::sleep(WATCH_INTERVAL * 2).await;
        assert_eq!(pool.idle().count, 0);
        assert!(!pool.idle().is_watched, "nobody watches nothing");
    }
}
