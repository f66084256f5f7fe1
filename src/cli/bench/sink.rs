//! The receiver of a measurement: a process of its own that answers 204, and
//! keeps how long each delivery was on its way. Behind some paths it is slow,
//! down, or hostile.
//!
//! A message carries the time when its publish was sent, in nanoseconds since
//! 1970, as `"t"`; publisher and receiver share the machine's clock.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::hostile::Kind;

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
    last_number: u64,
    overtaken: u64,
    ways: Histogram<u64>,
}

#[derive(Default)]
struct Sink {
    paths: Mutex<BTreeMap<String, Arrivals>>,
    is_up: AtomicBool,
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Receives at that address until the process is killed; says where through
/// `ready`.
pub async fn receive(bind: &str, ready: impl FnOnce(&str) -> Result<(), super::Failure>) -> Result<(), super::Failure> {
    let listener = TcpListener::bind(bind).await.map_err(super::Failure::failed)?;
    let address = listener.local_addr().map_err(super::Failure::failed)?;
    ready(&format!("http://{address}"))?;
    let sink = Arc::new(Sink::default());
    loop {
        let (stream, _) = listener.accept().await.map_err(super::Failure::failed)?;
        // Without it a small answer may wait for an acknowledgement; it does no harm if it fails.
        let _ = stream.set_nodelay(true);
        let sink = Arc::clone(&sink);
        tokio::spawn(async move {
            if let Some(kind) = Kind::asked_for(&stream).await {
                return kind.serve(stream).await.map_err(|_| ());
            }
            let service = service_fn(move |request| answer(request, Arc::clone(&sink)));
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.map_err(|_| ())
        });
    }
}

async fn answer(request: Request<Incoming>, sink: Arc<Sink>) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        STATS_PATH => return Ok(Response::new(Full::new(report(&sink).into()))),
        UP_PATH => sink.is_up.store(true, Ordering::Relaxed),
        _ => {}
    }
    let is_down = request.uri().query() == DOWN_QUERY.strip_prefix('?') && !sink.is_up.load(Ordering::Relaxed);
    let delay = request.uri().query().and_then(|query| query.strip_prefix("delay_ms=")?.parse().ok());
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if is_down {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(response);
    }
    note(&sink, path, &body);
    if let Some(delay_ms) = delay {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn note(sink: &Sink, path: String, body: &[u8]) {
    let now = now_ns();
    let mut paths = sink.paths.lock().expect("nothing panics while it holds the paths");
    let arrivals = paths.entry(path).or_insert_with(|| Arrivals {
        first_ns: now,
        last_ns: 0,
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
}

/// The first number that stands behind a mark, and what follows the mark.
fn number_behind<'a>(mark: &[u8], body: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let place = body.windows(mark.len()).position(|window| window == mark)?;
    let rest = &body[place + mark.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    Some((number, rest))
}

fn report(sink: &Sink) -> String {
    let paths = sink.paths.lock().expect("nothing panics while it holds the paths");
    let series = |arrivals: &Arrivals| Series {
        count: arrivals.ways.len(),
        overtaken: arrivals.overtaken,
        first_ns: arrivals.first_ns,
        last_ns: arrivals.last_ns,
        way_us: Percentiles {
            p50: arrivals.ways.value_at_quantile(0.5),
            p90: arrivals.ways.value_at_quantile(0.9),
            p99: arrivals.ways.value_at_quantile(0.99),
            max: arrivals.ways.max(),
        },
    };
    let report: BTreeMap<&String, Series> = paths.iter().map(|(path, arrivals)| (path, series(arrivals))).collect();
    serde_json::to_string(&report).expect("a map of numbers can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_number_are_found_in_a_delivery() {
        let body =
            br#"{"webhook_id": 1, "increment_id": 42, "topic": "a:t", "message": {"t":1700000000123456789,"pad":"x"}}"#;
        let (number, rest) = number_behind(NUMBER_MARK, body).unwrap();
        assert_eq!((number, number_behind(TIME_MARK, rest).unwrap().0), (42, 1_700_000_000_123_456_789));
        assert!(number_behind(TIME_MARK, b"{}").is_none());
    }
}
