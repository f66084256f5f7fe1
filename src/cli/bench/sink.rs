//! The receiver of a measurement: a process of its own that answers 204, and
//! keeps how long each delivery was on its way.
//!
//! A message carries the time when its publish was sent, in nanoseconds since
//! 1970, as `"t"`; publisher and receiver share the machine's clock.

use std::collections::BTreeMap;
use std::convert::Infallible;
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

/// Before the time in a message.
const TIME_MARK: &[u8] = b"\"t\":";
/// Where a POST is answered with what has arrived so far.
pub const STATS_PATH: &str = "/stats";
/// The longest way that is told apart from longer ones: an hour, in µs.
const WAY_US_MAX: u64 = 3_600_000_000;

/// What arrived at one path.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Series {
    /// How many.
    pub count: u64,
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
    last_ns: u64,
    ways: Histogram<u64>,
}

type Paths = Arc<Mutex<BTreeMap<String, Arrivals>>>;

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Receives until the process is killed; says where through `ready`.
pub async fn receive(ready: impl FnOnce(&str) -> Result<(), super::Failure>) -> Result<(), super::Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(super::Failure::failed)?;
    let address = listener.local_addr().map_err(super::Failure::failed)?;
    ready(&format!("http://{address}"))?;
    let paths = Paths::default();
    loop {
        let (stream, _) = listener.accept().await.map_err(super::Failure::failed)?;
        // Without it a small answer may wait for an acknowledgement; it does no harm if it fails.
        let _ = stream.set_nodelay(true);
        let paths = Arc::clone(&paths);
        let service = service_fn(move |request| answer(request, Arc::clone(&paths)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, paths: Paths) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == STATS_PATH {
        return Ok(Response::new(Full::new(report(&paths).into())));
    }
    let delay = request.uri().query().and_then(|query| query.strip_prefix("delay_ms=")?.parse().ok());
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    note(&paths, path, &body);
    if let Some(delay_ms) = delay {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn note(paths: &Paths, path: String, body: &[u8]) {
    let now = now_ns();
    let way_us = sent_ns(body).map(|sent| now.saturating_sub(sent) / 1_000);
    let mut paths = paths.lock().expect("nothing panics while it holds the paths");
    let arrivals = paths.entry(path).or_insert_with(|| Arrivals {
        last_ns: 0,
        ways: Histogram::new_with_max(WAY_US_MAX, 3).expect("the bounds are valid"),
    });
    arrivals.last_ns = now;
    arrivals.ways.saturating_record(way_us.unwrap_or(0));
}

fn sent_ns(body: &[u8]) -> Option<u64> {
    let mark = body.windows(TIME_MARK.len()).position(|window| window == TIME_MARK)?;
    let digits = body[mark + TIME_MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

fn report(paths: &Paths) -> String {
    let paths = paths.lock().expect("nothing panics while it holds the paths");
    let series = |arrivals: &Arrivals| Series {
        count: arrivals.ways.len(),
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
    fn the_time_is_found_in_a_delivery() {
        let body = br#"{"webhook_id": 1, "topic": "a:t", "message": {"t":1700000000123456789,"pad":"x"}}"#;
        assert_eq!(sent_ns(body), Some(1_700_000_000_123_456_789));
        assert_eq!(sent_ns(b"{}"), None);
    }
}
