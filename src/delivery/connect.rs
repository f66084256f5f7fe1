//! How the HTTP client gets its connections: look the name up, ask the guard
//! about every address, connect to one that passed, or have the proxy connect to it.
//!
//! No address is connected to that the guard has not seen, for a name is
//! looked up once and the connection is made to an address, not to the name; unless
//! the operator has a proxy look names up.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, WeakShared};
use futures_util::{FutureExt, TryFutureExt};
use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;

use super::guard::{Guard, Refused, RefusedPort};
use super::identities::Unpresentable;
use super::insecure;
use super::proxy::{EgressProxy, Resolves, TunnelError};
use crate::domain::id::MerchantId;
use crate::work::apart::Apart;

/// How many addresses of a name are tried. A name may have thousands, and the
/// time for each is a part of the whole.
const ADDRESSES_TRIED_MAX: usize = 4;
/// Look-ups at once. One occupies a thread until the operating system gives
/// up, long after whoever asked has.
const LOOKUPS_MAX: usize = 256;
/// Look-ups of one merchant that wait for their turn.
const LOOKUPS_WAITING_MAX: usize = 4_096;

/// What a connector in the HTTP stack may fail with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns names into addresses.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, best first, for a webhook of that merchant.
    /// Fails if there is no such name, or nobody to ask. The caller bounds the
    /// time.
    fn resolve(&self, merchant: MerchantId, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver, with its hosts file and search list. Up
/// to 256 look-ups run at once, of which a merchant has as many as are left
/// free at the most, and the others wait their turn.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

/// Of the process, for what it keeps is the process's threads.
static LOOKUPS: LazyLock<Apart> = LazyLock::new(|| Apart::new(LOOKUPS_MAX, LOOKUPS_WAITING_MAX));

impl Resolve for SystemResolver {
    fn resolve(&self, merchant: MerchantId, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        // The place comes back when the thread does, not when the caller stops waiting.
        let look_up = move || Ok((host.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect());
        async move { LOOKUPS.run(merchant, look_up).await.map_err(io::Error::other)? }.boxed()
    }
}

/// A look-up that several may wait for.
type Running = BoxFuture<'static, Result<Vec<IpAddr>, Arc<io::Error>>>;

/// Looks a name up once for all of a merchant's who ask while that goes on, so
/// that a name that is slow to resolve occupies one look-up however many of its
/// webhooks have it.
pub struct SharedLookups {
    inner: Arc<dyn Resolve>,
    /// Weak, so that a look-up which nobody waits for any more is given up.
    running: Mutex<HashMap<(MerchantId, String), WeakShared<Running>>>,
}

impl SharedLookups {
    /// In front of `inner`.
    pub fn new(inner: Arc<dyn Resolve>) -> Self {
        Self { inner, running: Mutex::default() }
    }
}

impl Resolve for SharedLookups {
    fn resolve(&self, merchant: MerchantId, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let asked = (merchant, host);
        let mut running = self.running.lock().expect("nothing panics while it holds the look-ups");
        running.retain(|_, lookup| lookup.upgrade().is_some());
        let lookup = running.get(&asked).and_then(WeakShared::upgrade).unwrap_or_else(|| {
            let lookup = self.inner.resolve(merchant, asked.1.clone()).map_err(Arc::new).boxed().shared();
            running.extend(lookup.downgrade().map(|lookup| (asked, lookup)));
            lookup
        });
        lookup.map_err(|cause| io::Error::new(cause.kind(), cause)).boxed()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The guard forbids every address of the host; this is the first.
    #[error("{0}")]
    Refused(Refused),
    /// The guard forbids the port.
    #[error("{0}")]
    Port(RefusedPort),
    /// The name has no address, or could not be looked up.
    #[error("the host name could not be resolved: {0}")]
    Dns(#[source] io::Error),
    /// The address that was tried last did not take the connection.
    #[error("could not connect to {0}: {1}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The proxy was not reached.
    #[error("the egress proxy can't be reached: {0}")]
    Proxy(#[source] io::Error),
    /// The proxy was reached, and opened no tunnel.
    #[error("{0}")]
    Tunnel(#[source] TunnelError),
    /// The proxy took too long.
    #[error("the egress proxy took too long")]
    ProxyTimeout,
    /// Connected, but not securely.
    #[error("no secure connection: {}", insecure::in_words(&**.0))]
    Tls(#[source] BoxError),
    /// What is to be presented can't be.
    #[error("{0}")]
    Identity(#[source] Unpresentable),
    /// It took too long.
    #[error("connecting took too long")]
    Timeout,
    /// Connected, but the handshake of TLS took too long.
    #[error("the handshake of TLS took too long")]
    Handshake(Option<SocketAddr>),
}

/// One way to a receiver.
enum Way {
    /// Straight to an address.
    Direct(SocketAddr),
    /// By the proxy, which is asked to connect to this.
    Tunnel { proxy: Arc<EgressProxy>, target: String, address: Option<SocketAddr> },
}

impl Way {
    /// The receiver's address, unless the proxy alone knows it.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct(address) => Some(*address),
            Self::Tunnel { address, .. } => *address,
        }
    }
}

/// Connects to what the guard lets pass. See [`ConnectError`] for how it fails.
#[derive(Clone)]
pub struct GuardedConnector {
    /// Judges every address.
    pub guard: Arc<Guard>,
    /// Looks names up; never asked about literal addresses.
    pub resolver: Arc<dyn Resolve>,
    /// By which proxy; `None`: straight.
    pub proxy: Option<Arc<EgressProxy>>,
    /// On whose account names are looked up.
    pub merchant: MerchantId,
    /// Bounds look-up and connection together, over all addresses tried.
    pub connect_timeout: Duration,
    /// What it has connected to, as far as that is known here.
    pub connected: Arc<OnceLock<Option<SocketAddr>>>,
}

impl GuardedConnector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let deadline = Instant::now() + self.connect_timeout;
        let default_port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        self.guard.check_port(port).map_err(ConnectError::Port)?;
        let ways = timeout_at(deadline, self.ways(&uri, port)).await.map_err(|_| ConnectError::Timeout)??;

        let mut last = ConnectError::Timeout;
        for (way, left) in ways.iter().zip((1..=ways.len()).rev()) {
            let within = share(deadline.saturating_duration_since(Instant::now()), left);
            last = match timeout(within, self.go(way, within)).await {
                Ok(Ok(stream)) => {
                    // It connects once.
                    let _ = self.connected.set(way.address());
                    return Ok(TokioIo::new(stream));
                }
                // What the proxy says of one address it would say of the others.
                Ok(Err(error @ ConnectError::Proxy(_))) => return Err(error),
                Ok(Err(ConnectError::Tunnel(error))) if !error.is_about_the_address() => {
                    return Err(ConnectError::Tunnel(error));
                }
                Ok(Err(error)) => error,
                Err(_) if self.proxy.is_some() => ConnectError::ProxyTimeout,
                Err(_) => ConnectError::Timeout,
            };
        }
        Err(last)
    }

    /// The ways to try; at least one.
    async fn ways(&self, uri: &Uri, port: u16) -> Result<Vec<Way>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        if let Some(proxy) = &self.proxy
            && proxy.resolves == Resolves::Proxy
            && literal(host).is_none()
        {
            self.guard.check_name(host).map_err(|refused| Self::told(host, refused))?;
            let (proxy, target) = (Arc::clone(proxy), format!("{host}:{port}"));
            return Ok(vec![Way::Tunnel { proxy, target, address: None }]);
        }
        let addresses = self.addresses(host).await?;
        let way = |address| {
            let address = SocketAddr::new(address, port);
            match &self.proxy {
                None => Way::Direct(address),
                Some(proxy) => {
                    Way::Tunnel { proxy: Arc::clone(proxy), target: address.to_string(), address: Some(address) }
                }
            }
        };
        Ok(addresses.into_iter().map(way).collect())
    }

    async fn go(&self, way: &Way, within: Duration) -> Result<TcpStream, ConnectError> {
        match way {
            Way::Direct(address) => open(*address).await.map_err(|cause| ConnectError::Connect(*address, cause)),
            Way::Tunnel { proxy, target, .. } => {
                let stream = self.reach(proxy, within).await.map_err(ConnectError::Proxy)?;
                proxy.tunnel(stream, target.clone()).await.map_err(ConnectError::Tunnel)
            }
        }
    }

    /// A connection to the proxy, which may be wherever its operator has it.
    async fn reach(&self, proxy: &EgressProxy, within: Duration) -> io::Result<TcpStream> {
        let addresses = match literal(&proxy.host) {
            Some(address) => vec![address],
            None => in_turn(self.resolver.resolve(self.merchant, proxy.host.clone()).await?),
        };
        let each = share(within, addresses.len());
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no addresses");
        for address in addresses {
            match timeout(each, open(SocketAddr::new(address, proxy.port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(cause)) => last = cause,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// The addresses to try, all of which have passed the guard; at least one.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let found = match literal(host) {
            Some(address) => vec![address],
            None => self.resolver.resolve(self.merchant, host.to_owned()).await.map_err(ConnectError::Dns)?,
        };
        let mut refused = None;
        let mut passed = Vec::new();
        for address in found {
            match self.guard.check(address) {
                Ok(()) => passed.push(address),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            _ if !passed.is_empty() => Ok(in_turn(passed)),
            Some(refused) => Err(Self::told(host, refused)),
            None => Err(ConnectError::Dns(io::Error::new(io::ErrorKind::NotFound, "it has no addresses"))),
        }
    }

    /// The operator may know what the owner may not.
    fn told(host: &str, refused: Refused) -> ConnectError {
        tracing::debug!(host, address = %refused.address, why = refused.why, "refused to connect");
        ConnectError::Refused(refused)
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.clone().connect(uri).boxed()
    }
}

/// The address that a host is, if it is one.
fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A request is written at once; waiting to fill a packet only delays it.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How long to wait for the next of `left` addresses: each gets an equal part
/// of what remains, so a dead one leaves time for the others, and what one
/// does not use up goes to the rest.
fn share(remaining: Duration, left: usize) -> Duration {
    remaining / u32::try_from(left).unwrap_or(u32::MAX).max(1)
}

/// The first few, in their order, but the families by turns (RFC 8305 §4): if
/// a network's IPv6 leads nowhere, an IPv4 address must be among them.
fn in_turn(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let family = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == family);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let pairs = std::iter::repeat_with(|| [preferred.next(), other.next()]).take(ADDRESSES_TRIED_MAX);
    pairs.flatten().flatten().take(ADDRESSES_TRIED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::delivery::guard::Targets;

    const GENEROUS: Duration = Duration::from_secs(60);
    const ANN: MerchantId = MerchantId(1);

    /// Answers from a script, and notes who was asked for.
    #[derive(Default)]
    struct Script {
        answers: Mutex<Vec<io::Result<Vec<IpAddr>>>>,
        asked: Mutex<Vec<String>>,
    }

    impl Script {
        fn answering(addresses: &[&str]) -> Arc<Self> {
            let answer = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Arc::new(Self { answers: Mutex::new(vec![Ok(answer)]), asked: Mutex::default() })
        }
    }

    impl Resolve for Script {
        fn resolve(&self, _: MerchantId, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            self.asked.lock().unwrap().push(host);
            let answer = self.answers.lock().unwrap().pop();
            async { answer.unwrap_or_else(|| Err(io::Error::other("asked too often"))) }.boxed()
        }
    }

    async fn dial(allow: &[&str], resolver: Arc<Script>, uri: &str) -> Result<TokioIo<TcpStream>, ConnectError> {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        let guard = Arc::new(Guard::new(Targets { allow, ..Targets::default() }));
        let connector = GuardedConnector {
            guard,
            resolver,
            proxy: None,
            merchant: ANN,
            connect_timeout: GENEROUS,
            connected: Arc::default(),
        };
        tower::ServiceExt::oneshot(connector, uri.parse().unwrap()).await
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn connects_to_the_address_of_the_name() {
        let (_listener, port) = listener().await;
        let resolver = Script::answering(&["127.0.0.1"]);
        let stream = dial(&["127.0.0.0/8"], resolver.clone(), &format!("http://a.test:{port}/")).await.unwrap();
        assert_eq!(stream.inner().peer_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(stream.inner().nodelay().unwrap());
        assert_eq!(*resolver.asked.lock().unwrap(), ["a.test"]);
    }

    /// Never answers.
    impl Resolve for Mutex<Vec<String>> {
        fn resolve(&self, _: MerchantId, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            self.lock().unwrap().push(host);
            std::future::pending().boxed()
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_who_wait() {
        let silent: Arc<Mutex<Vec<String>>> = Arc::default();
        let shared = SharedLookups::new(silent.clone());
        let (mut first, mut second) =
            (shared.resolve(ANN, "a.test".to_owned()), shared.resolve(ANN, "a.test".to_owned()));
        let mut other = shared.resolve(ANN, "b.test".to_owned());
        assert!((&mut first).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        drop(first);
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(*silent.lock().unwrap(), ["a.test", "b.test"]);
        // Once nobody waits, it has been given up.
        drop((second, other));
        drop(shared.resolve(ANN, "a.test".to_owned()));
        assert_eq!(*silent.lock().unwrap(), ["a.test", "b.test", "a.test"]);
        assert_eq!(shared.running.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn all_who_wait_get_the_answer() {
        let resolver = Script::answering(&["127.0.0.1"]);
        let shared = SharedLookups::new(resolver.clone());
        let (first, second) = (shared.resolve(ANN, "a.test".to_owned()), shared.resolve(ANN, "a.test".to_owned()));
        let expected = [IpAddr::from([127, 0, 0, 1])];
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (expected.to_vec(), expected.to_vec()));
        // The next asks again, and fails as the resolver does.
        let failed = shared.resolve(ANN, "a.test".to_owned()).await.unwrap_err();
        assert!(failed.kind() == io::ErrorKind::Other && failed.to_string() == "asked too often");
    }

    #[tokio::test]
    async fn a_name_for_a_forbidden_address_is_refused() {
        let (_listener, port) = listener().await;
        let resolver = Script::answering(&["127.0.0.1", "::1"]);
        let error = dial(&[], resolver, &format!("http://a.test:{port}/")).await.unwrap_err();
        let ConnectError::Refused(refused) = error else { panic!("{error:?}") };
        assert_eq!(refused.address, IpAddr::from([127, 0, 0, 1]));
    }

    #[tokio::test]
    async fn a_forbidden_port_is_refused_before_its_name_is_looked_up() {
        let resolver = Arc::new(Script::default());
        for uri in ["http://a.test:25/", "https://127.0.0.1:6379/"] {
            let error = dial(&["127.0.0.0/8"], resolver.clone(), uri).await.unwrap_err();
            assert!(matches!(error, ConnectError::Port(_)), "{uri}: {error:?}");
        }
        assert!(resolver.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn forbidden_addresses_are_passed_over() {
        let (_listener, port) = listener().await;
        let resolver = Script::answering(&["10.0.0.1", "127.0.0.2", "127.0.0.1", "::1"]);
        let stream = dial(&["127.0.0.1/32"], resolver, &format!("http://a.test:{port}/")).await.unwrap();
        assert_eq!(stream.inner().peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
    }

    #[tokio::test]
    async fn the_next_address_is_tried() {
        let (_listener, port) = listener().await;
        // Nothing listens on the first.
        let resolver = Script::answering(&["127.0.0.2", "127.0.0.1"]);
        let stream = dial(&["127.0.0.0/8"], resolver, &format!("http://a.test:{port}/")).await.unwrap();
        assert_eq!(stream.inner().peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
    }

    #[tokio::test]
    async fn literals_are_judged_and_never_looked_up() {
        let (_listener, port) = listener().await;
        let resolver = Arc::new(Script::default());
        let literal = format!("http://127.0.0.1:{port}/");
        assert!(dial(&["127.0.0.1/32"], resolver.clone(), &literal).await.is_ok());
        for uri in [&literal, "http://[::1]:1/", "https://[::ffff:127.0.0.1]/", "http://169.254.169.254/"] {
            let error = dial(&[], resolver.clone(), uri).await.unwrap_err();
            assert!(matches!(error, ConnectError::Refused(_)), "{uri}: {error:?}");
        }
        assert!(resolver.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn failures_have_their_names() {
        let error = dial(&[], Arc::new(Script::default()), "http://a.test/").await.unwrap_err();
        assert!(matches!(error, ConnectError::Dns(_)), "{error:?}");
        let error = dial(&[], Script::answering(&[]), "http://a.test/").await.unwrap_err();
        assert!(matches!(error, ConnectError::Dns(_)), "{error:?}");

        let (listener, port) = listener().await;
        drop(listener);
        let error = dial(&["127.0.0.0/8"], Script::answering(&["127.0.0.1"]), &format!("http://a.test:{port}/")).await;
        let error = error.unwrap_err();
        assert!(matches!(&error, ConnectError::Connect(address, _) if address.port() == port), "{error:?}");
    }

    /// Also of a webhook that was registered before there was a proxy.
    #[tokio::test]
    async fn a_proxy_that_sees_names_is_not_asked_for_what_can_be_judged_here() {
        for uri in
            ["http://10.1.2.3/", "http://[::1]/", "http://localhost/", "http://a.localhost/", "http://a.test:25/"]
        {
            let proxy = EgressProxy::try_new("http://127.0.0.1:1").unwrap().resolving(Resolves::Proxy);
            let connector = GuardedConnector {
                guard: Arc::new(Guard::new(Targets::default())),
                resolver: Arc::new(Script::default()),
                proxy: Some(Arc::new(proxy)),
                merchant: ANN,
                connect_timeout: GENEROUS,
                connected: Arc::default(),
            };
            let error = tower::ServiceExt::oneshot(connector, Uri::from_static(uri)).await.unwrap_err();
            assert!(matches!(error, ConnectError::Refused(_) | ConnectError::Port(_)), "{uri}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_look_up_counts_against_the_time() {
        struct Silent;
        impl Resolve for Silent {
            fn resolve(&self, _: MerchantId, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
                std::future::pending().boxed()
            }
        }
        let connector = GuardedConnector {
            guard: Arc::new(Guard::new(Targets::default())),
            resolver: Arc::new(Silent),
            proxy: None,
            merchant: ANN,
            connect_timeout: Duration::from_millis(10),
            connected: Arc::default(),
        };
        let error = tower::ServiceExt::oneshot(connector, Uri::from_static("http://a.test/")).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let addresses = SystemResolver.resolve(ANN, "localhost".to_owned()).await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[test]
    fn time_is_shared_among_what_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(share(second * 3, 3), second);
        assert_eq!(share(second, 1), second);
        assert_eq!(share(Duration::ZERO, 2), Duration::ZERO);
    }

    #[test]
    fn families_take_turns() {
        let addresses = |text: &[&str]| text.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
        let in_turn = |text: &[&str]| in_turn(addresses(text));
        assert_eq!(in_turn(&["::1", "::2", "::3", "::4", "1.1.1.1"]), addresses(&["::1", "1.1.1.1", "::2", "::3"]));
        assert_eq!(in_turn(&["1.1.1.1", "::1", "::2", "2.2.2.2"]), addresses(&["1.1.1.1", "::1", "2.2.2.2", "::2"]));
        assert_eq!(in_turn(&["1.1.1.1"; 9]).len(), ADDRESSES_TRIED_MAX);
        assert!(in_turn(&[]).is_empty());
    }
}
