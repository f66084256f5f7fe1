//! The receiver of a measurement: a process of its own that answers 204, and
//! keeps how long each delivery was on its way. It may be at a distance, have
//! several addresses and speak TLS, and behind some paths it is slow, down, or
//! hostile.
//!
//! A message carries the time when its publish was sent, in nanoseconds since
//! 1970, as `"t"`; publisher and receiver share the machine's clock.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::hostile::Kind;
use super::pace::{Load, Pace};
use super::tls;
use crate::cli::Failure;
use crate::cli::serve::raise_file_limit;

/// Before the time in a message.
const TIME_MARK: &[u8] = b"\"t\":";
/// Before the number in a delivery.
const NUMBER_MARK: &[u8] = b"\"increment_id\": ";
/// Where a POST is answered with what has arrived so far.
pub const STATS_PATH: &str = "/stats";
/// A POST here brings those back that are down.
pub const UP_PATH: &str = "/up";
/// A path with this query answers 500 until then.
pub const DOWN_QUERY: &str = "?down";
/// With this query a path closes the connection after each answer.
pub const CLOSE_QUERY: &str = "?close";
/// A path whose answers are long: 60 headers of 1 kB, and 100 kB of noise.
pub const FAT_PATH: &str = "/fat";
/// A path that answers 100 kB of characters that JSON has to escape.
pub const CONTROLS_PATH: &str = "/controls";
/// How long the bodies of these are.
const LONG_BYTES: usize = 100_000;
/// The longest way that is told apart from longer ones: an hour, in µs.
const WAY_US_MAX: u64 = 3_600_000_000;

/// What arrived at one path.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Series {
    /// How many.
    pub count: u64,
    /// How many had a number below the one before.
    pub overtaken: u64,
    /// When the first one came, in nanoseconds since 1970.
    pub first_ns: u64,
    /// When the last one came, in nanoseconds since 1970.
    pub last_ns: u64,
    /// When as many had come as a receiver that slows down needs before its
    /// throughput counts, in nanoseconds since 1970; 0: they have not.
    pub ramp_ns: u64,
    /// The most requests under way at once, if it slows down.
    pub under_way_max: u64,
    /// Requests whose client went away before they were answered, if it slows down.
    pub given_up: u64,
    /// How long they were on their way, in microseconds.
    pub way_us: Percentiles,
}

/// Percentiles of a distribution.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

struct Arrivals {
    first_ns: u64,
    last_ns: u64,
    ramp_ns: u64,
    last_number: u64,
    overtaken: u64,
    ways: Histogram<u64>,
}

#[derive(Default)]
struct Sink {
    latency: Duration,
    tls: Option<TlsAcceptor>,
    paths: Mutex<BTreeMap<String, Arrivals>>,
    slow: Mutex<BTreeMap<String, Slow>>,
    is_up: AtomicBool,
}

/// What stands behind a path that slows down.
#[derive(Clone)]
struct Slow {
    load: Arc<Load>,
    workers: Arc<Semaphore>,
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// The hosts of a receiver: so many addresses, from the first on.
pub fn hosts(first: IpAddr, count: u16) -> Result<Vec<IpAddr>, Failure> {
    match (first, count) {
        (first, 1) => Ok(vec![first]),
        (IpAddr::V4(first), _) => {
            Ok((0..count).map(|n| Ipv4Addr::from_bits(first.to_bits() + u32::from(n)).into()).collect())
        }
        (IpAddr::V6(_), _) => Err(Failure::usage("several hosts need addresses of IPv4; give such to --receive-on")),
    }
}

/// The receiver process.
#[derive(Args)]
pub struct ReceiverArgs {
    /// Where it listens
    #[arg(long)]
    bind: String,
    /// How many milliseconds it answers after it has a request
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// How many addresses it has, from that one on
    #[arg(long, default_value_t = 1)]
    hosts: u16,
    /// The certificate and the key for those who speak TLS, in PEM
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Has every handshake be a full one
    #[arg(long)]
    no_resumption: bool,
}

/// Receives until the process is killed; says where through `ready`.
pub async fn receive(args: &ReceiverArgs, ready: impl FnOnce(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    raise_file_limit();
    let mut address: SocketAddr =
        args.bind.parse().map_err(|_| Failure::usage(format!("{}: no address and port", args.bind)))?;
    let tls = args.tls.as_deref().map(|file| tls::acceptor(file, !args.no_resumption)).transpose()?;
    let sink = Arc::new(Sink { latency: Duration::from_millis(args.latency_ms), tls, ..Sink::default() });
    let (hosts, mut listeners) = (hosts(address.ip(), args.hosts)?, Vec::new());
    for host in &hosts {
        address.set_ip(*host);
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|cause| Failure::failed(format!("can't listen on {address}: {cause}")))?;
        // The others have the port that the first got.
        address = listener.local_addr().map_err(Failure::failed)?;
        listeners.push(listener);
    }
    address.set_ip(hosts[0]);
    ready(&format!("http://{address}"))?;
    let accepting = listeners.into_iter().map(|listener| accept(listener, Arc::clone(&sink)));
    try_join_all(accepting).await.map(drop)
}

async fn accept(listener: TcpListener, sink: Arc<Sink>) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await.map_err(Failure::failed)?;
        // Without it a small answer may wait for an acknowledgement; it does no harm if it fails.
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, Arc::clone(&sink)));
    }
}

/// Serves a connection to its end, of which the sender is told.
async fn serve(stream: TcpStream, sink: Arc<Sink>) {
    if let Some(tls) = &sink.tls
        && tls::is_tls(&stream).await
    {
        if let Ok(stream) = tls.accept(stream).await {
            serve_http(stream, Arc::clone(&sink)).await;
        }
        return;
    }
    match Kind::asked_for(&stream).await {
        Some(kind) => drop(kind.serve(stream).await),
        None => serve_http(stream, sink).await,
    }
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin, sink: Arc<Sink>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&sink)));
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(request: Request<Incoming>, sink: Arc<Sink>) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        STATS_PATH => return Ok(Response::new(Full::new(report(&sink).into()))),
        UP_PATH => {
            sink.is_up.store(true, Ordering::Relaxed);
            return Ok(bare(StatusCode::NO_CONTENT));
        }
        _ => {}
    }
    let query = request.uri().query();
    let closes = query == CLOSE_QUERY.strip_prefix('?');
    let is_down = query == DOWN_QUERY.strip_prefix('?') && !sink.is_up.load(Ordering::Relaxed);
    let pace = Pace::of(query, sink.latency);
    let path = request.uri().path().to_owned();
    // A receiver that slows down is busy with a request from its head on.
    let slow = match pace {
        Pace::Distant(_) => None,
        Pace::Yielding(capacity) | Pace::Pooled(capacity) => {
            let slow = sink.slow(&path, capacity.knee);
            Some((slow.load.begin(), slow.workers, capacity.ramp))
        }
    };
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if is_down {
        return Ok(bare(StatusCode::INTERNAL_SERVER_ERROR));
    }
    match (pace, slow) {
        (Pace::Yielding(capacity), Some((visit, _, ramp))) => {
            visit.yielding(capacity).await;
            // What is not answered has not arrived.
            visit.answered();
            note(&sink, &path, &body, ramp);
        }
        (Pace::Pooled(capacity), Some((visit, workers, ramp))) => {
            visit.pooled(capacity, &workers).await;
            visit.answered();
            note(&sink, &path, &body, ramp);
        }
        (Pace::Distant(latency), _) => {
            note(&sink, &path, &body, 0);
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
        }
        (Pace::Yielding(_) | Pace::Pooled(_), None) => {}
    }
    let mut response = match path.as_str() {
        FAT_PATH => fat(),
        CONTROLS_PATH => Response::new(Full::new(vec![1; LONG_BYTES].into())),
        _ => bare(StatusCode::NO_CONTENT),
    };
    if closes {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn bare(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Noise, which can't be made shorter.
fn fat() -> Response<Full<Bytes>> {
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(LONG_BYTES).collect();
    let mut response = Response::new(Full::new(noise.into()));
    for number in 0..60 {
        let value: String = std::iter::repeat_with(fastrand::alphanumeric).take(1_000).collect();
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(format!("x-noise-{number}")), HeaderValue::try_from(value))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

impl Sink {
    fn slow(&self, path: &str, workers: u32) -> Slow {
        let mut slow = self.slow.lock().expect("nothing panics while it holds the slow ones");
        let make = || Slow { load: Arc::default(), workers: Arc::new(Semaphore::new(workers as usize)) };
        slow.entry(path.to_owned()).or_insert_with(make).clone()
    }
}

fn note(sink: &Sink, path: &str, body: &[u8], ramp: u64) {
    let now = now_ns();
    let mut paths = sink.paths.lock().expect("nothing panics while it holds the paths");
    let arrivals = paths.entry(path.to_owned()).or_insert_with(|| Arrivals {
        first_ns: now,
        last_ns: 0,
        ramp_ns: 0,
        last_number: 0,
        overtaken: 0,
        ways: Histogram::new_with_max(WAY_US_MAX, 3).expect("the bounds are valid"),
    });
    arrivals.last_ns = now;
    let mut rest = body;
    while let Some((number, behind)) = number_behind(NUMBER_MARK, rest) {
        rest = behind;
        let way_us = number_behind(TIME_MARK, rest).map_or(0, |(sent, _)| now.saturating_sub(sent) / 1_000);
        arrivals.overtaken += u64::from(number < arrivals.last_number);
        arrivals.last_number = number;
        arrivals.ways.saturating_record(way_us);
    }
    if arrivals.ramp_ns == 0 && arrivals.ways.len() >= ramp {
        arrivals.ramp_ns = now;
    }
}

/// The first number that stands behind a mark, and what follows the mark.
pub fn number_behind<'a>(mark: &[u8], body: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let place = body.windows(mark.len()).position(|window| window == mark)?;
    let rest = &body[place + mark.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    Some((number, rest))
}

fn report(sink: &Sink) -> String {
    let slow = sink.slow.lock().expect("nothing panics while it holds the slow ones").clone();
    let paths = sink.paths.lock().expect("nothing panics while it holds the paths");
    let series = |path: &String, arrivals: &Arrivals| Series {
        count: arrivals.ways.len(),
        overtaken: arrivals.overtaken,
        first_ns: arrivals.first_ns,
        last_ns: arrivals.last_ns,
        ramp_ns: arrivals.ramp_ns,
        under_way_max: slow.get(path).map_or(0, |slow| slow.load.under_way_max()),
        given_up: slow.get(path).map_or(0, |slow| slow.load.given_up()),
        way_us: Percentiles {
            p50: arrivals.ways.value_at_quantile(0.5),
            p90: arrivals.ways.value_at_quantile(0.9),
            p99: arrivals.ways.value_at_quantile(0.99),
            max: arrivals.ways.max(),
        },
    };
    let report: BTreeMap<&String, Series> =
        paths.iter().map(|(path, arrivals)| (path, series(path, arrivals))).collect();
    serde_json::to_string(&report).expect("a map of numbers can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_on_the_first() {
        let hosts = hosts("127.0.0.254".parse().unwrap(), 3).ok().unwrap();
        assert_eq!(hosts, ["127.0.0.254", "127.0.0.255", "127.0.1.0"].map(|host| host.parse::<IpAddr>().unwrap()));
        assert!(super::hosts("::1".parse().unwrap(), 2).is_err());
    }

    #[test]
    fn time_and_number_are_found_in_a_delivery() {
        let body =
            br#"{"webhook_id": 1, "increment_id": 42, "topic": "a:t", "message": {"t":1700000000123456789,"pad":"x"}}"#;
        let (number, rest) = number_behind(NUMBER_MARK, body).unwrap();
        assert_eq!((number, number_behind(TIME_MARK, rest).unwrap().0), (42, 1_700_000_000_123_456_789));
        assert!(number_behind(TIME_MARK, b"{}").is_none());
    }
}
