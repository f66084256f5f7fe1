//! A receiver of deliveries on this machine: verifies, answers, and watches
//! the numbers. `listen` and `demo` both show what it sees.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client::Http;
use super::colour::{RED, painted};
use super::json::safe;
use super::number_log::{Arrival, Gap, NumberLog, WEBHOOKS_MAX};
use crate::domain::fault::Violation;
use crate::domain::id::{IncrementId, Span};
use crate::domain::policy::BATCH_EVENTS;
use crate::domain::secret::SecretKey;
use crate::domain::signature::{verify_standard_webhooks, verify_standard_webhooks_ed25519};
use crate::domain::signing::{PUBLIC_KEY_MARK, PublicKey};
use crate::domain::time::{Clock, Timestamp};

/// How far a delivery's timestamp may lie from now, in seconds: what the
/// official libraries of Standard Webhooks allow.
const AGE_MAX_S: u64 = 300;
/// The longest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Reports that may wait to be shown; then receiving waits.
const REPORTS_MAX: usize = 1_024;
/// How long answers may take to leave when the receiver stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What a delivery that was verified says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The `webhook-id` header.
    pub message_id: String,
    /// The webhook and the number in it, or numbers, if it is one of ours.
    pub number: Option<Number>,
    /// The topic in the body, or topics, or what stands for it.
    pub topic: String,
}

/// The signed number of a delivery, or numbers of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The store that gave it.
    pub store: String,
    /// The webhook's id.
    pub webhook_id: String,
    /// The numbers.
    pub numbers: Span,
}

/// How verified deliveries are answered.
pub enum Answers {
    /// 200.
    Accept,
    /// 503 to the first try of that number, 200 to everything else.
    TurnAwayOnce(IncrementId, AtomicBool),
    /// Whatever the other answers.
    Forward(Box<Http>),
}

/// What verifies deliveries.
pub enum Key {
    /// The webhook's secret.
    Secret(SecretKey),
    /// Its public key.
    Public(PublicKey),
}

impl Key {
    /// Reads a public key or a secret; the error does not repeat it.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        if !text.starts_with(PUBLIC_KEY_MARK) {
            return SecretKey::try_new(text).map(Self::Secret);
        }
        let problem = || Violation::new("public_key", format!("is no {PUBLIC_KEY_MARK} and base64 of 32 bytes."));
        PublicKey::parse(text).map(Self::Public).ok_or_else(problem)
    }

    fn verifies(&self, id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
        match self {
            Self::Secret(secret) => verify_standard_webhooks(secret, id, timestamp, body, header),
            Self::Public(key) => verify_standard_webhooks_ed25519(key, id, timestamp, body, header),
        }
    }
}

/// What a receiver goes by.
pub struct Rules {
    /// The webhook's secret, or its public key.
    pub key: Key,
    /// How to answer.
    pub answers: Answers,
    /// How long a number may be overtaken before it is called missing.
    pub patience: Duration,
}

/// Something worth a line.
#[derive(Debug)]
pub enum Sight {
    /// A request came and was answered.
    Request(Report),
    /// A number is overdue.
    Missing(Gap),
}

/// One request, and what became of it.
#[derive(Debug)]
pub struct Report {
    at: Timestamp,
    arrived: Instant,
    /// What it says of itself; or why it was not believed.
    pub delivery: Result<Delivery, String>,
    /// How it was answered.
    pub status: StatusCode,
    /// Why so, if it was verified and yet not simply accepted.
    note: Option<String>,
    /// The store that the webhook's deliveries came from before, if it was
    /// another one.
    other_store: Option<String>,
    /// What its numbers mean, if it was accepted.
    pub arrivals: Vec<(IncrementId, Arrival)>,
}

impl Report {
    /// The numbers of a delivery that was verified and accepted.
    pub fn accepted(&self) -> Option<Span> {
        let delivery = self.delivery.as_ref().ok().filter(|_| self.status.is_success())?;
        delivery.number.as_ref().map(|number| number.numbers)
    }
}

/// A running receiver.
pub struct Receiver {
    address: SocketAddr,
    reports: mpsc::Receiver<Report>,
    log: NumberLog,
    /// Where each webhook's last delivery came from.
    stores: HashMap<String, String>,
    gaps: VecDeque<Gap>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

struct Shared {
    key: Key,
    answers: Answers,
    clock: Clock,
    reports: mpsc::Sender<Report>,
}

impl Receiver {
    /// Receives from now on. Must be called within a runtime.
    pub fn start(listener: TcpListener, rules: Rules) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = Shared { key: rules.key, answers: rules.answers, clock: Clock::system(), reports: sender };
        let router = Router::new().fallback(receive).with_state(Arc::new(shared));
        let serving = axum::serve(listener, router).with_graceful_shutdown(async {
            // A receiver that is dropped stops, too.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async { serving.await });
        let log = NumberLog::new(rules.patience);
        Ok(Self { address, reports, log, stores: HashMap::new(), gaps: VecDeque::new(), stop, task })
    }

    /// Where it receives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next thing worth a line; `None` if there won't be one.
    /// Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Option<Sight> {
        loop {
            if let Some(gap) = self.gaps.pop_front() {
                return Some(Sight::Missing(gap));
            }
            let overdue = self.log.next_overdue();
            tokio::select! {
                report = self.reports.recv() => return report.map(|report| Sight::Request(self.judge(report))),
                () = until(overdue) => self.gaps.extend(self.log.overdue(Instant::now())),
            }
        }
    }

    /// Lets answers leave, and stops.
    pub async fn stop(self) {
        // It may have stopped by itself, which is as good.
        let _ = self.stop.send(());
        drop(self.reports);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(STOP_GRACE, self.task).await.is_err() {
            abort.abort();
        }
    }

    fn judge(&mut self, mut report: Report) -> Report {
        if let Ok(Delivery { number: Some(number), .. }) = &report.delivery {
            let webhook = number.webhook();
            if self.stores.len() < WEBHOOKS_MAX || self.stores.contains_key(&number.webhook_id) {
                let before = self.stores.insert(number.webhook_id.clone(), number.store.clone());
                report.other_store = before.filter(|before| *before != number.store);
            }
            for one in number.numbers.numbers() {
                if report.status.is_success() {
                    report.arrivals.push((one, self.log.accepted(&webhook, one.0, report.arrived)));
                } else {
                    self.log.turned_away(&webhook, one.0, report.arrived);
                }
            }
        }
        report
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let (at, arrived) = (shared.clock.now(), Instant::now());
    let (delivery, status, note) = match to_bytes(body, BODY_BYTES_MAX).await {
        Err(_) => (
            Err(format!("its body broke off, or is longer than {BODY_BYTES_MAX} bytes")),
            StatusCode::BAD_REQUEST,
            None,
        ),
        Ok(body) => match verify(&shared.key, &parts.headers, &body, at) {
            Err(problem) => (Err(problem), StatusCode::UNAUTHORIZED, None),
            Ok(delivery) => {
                let (status, note) = shared.answers.answer(&delivery, parts.headers, body).await;
                (Ok(delivery), status, note)
            }
        },
    };
    let report = Report { at, arrived, delivery, status, note, other_store: None, arrivals: Vec::new() };
    // Nobody looks any more while the receiver stops; the answer still counts.
    let _ = shared.reports.send(report).await;
    status
}

impl Answers {
    async fn answer(&self, delivery: &Delivery, headers: HeaderMap, body: Bytes) -> (StatusCode, Option<String>) {
        match self {
            Self::Accept => (StatusCode::OK, None),
            Self::TurnAwayOnce(number, done) => {
                let is_it = delivery.number.as_ref().is_some_and(|found| found.numbers.contains(*number));
                if is_it && !done.swap(true, Ordering::Relaxed) {
                    (StatusCode::SERVICE_UNAVAILABLE, Some("as if the receiver were down".to_owned()))
                } else {
                    (StatusCode::OK, None)
                }
            }
            Self::Forward(http) => {
                let url = http.target().as_str();
                match http.post(end_to_end(headers), body).await {
                    Ok((status, _)) => (status, Some(format!("said {url}"))),
                    Err(problem) => (StatusCode::BAD_GATEWAY, Some(format!("{url}: {problem}"))),
                }
            }
        }
    }
}

/// The headers that concern the delivery rather than this one connection
/// (RFC 9110, section 7.6.1).
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    const OF_THE_CONNECTION: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    for name in OF_THE_CONNECTION {
        headers.remove(HeaderName::from_static(name));
    }
    headers
}

/// Believes a delivery that was signed so within the last minutes, or
/// says why not.
fn verify(key: &Key, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    let header = |name: &str| {
        let value = headers.get(name).ok_or_else(|| format!("it has no {name} header"))?;
        value.to_str().map_err(|_| format!("its {name} header is no plain text"))
    };
    let (id, signature) = (header("webhook-id")?, header("webhook-signature")?);
    let timestamp: i64 =
        header("webhook-timestamp")?.parse().map_err(|_| "its webhook-timestamp is no number of seconds".to_owned())?;
    if !key.verifies(id, timestamp, body, signature) {
        return Err(match key {
            Key::Secret(_) => {
                format!("its signature is not by this secret; is --secret the webhook's secret_key? (webhook-id {id})")
            }
            Key::Public(_) => format!(
                "its signature is not for this public key; is --secret the webhook's public_key? (webhook-id {id})"
            ),
        });
    }
    let age_s = timestamp.abs_diff(now.unix_seconds());
    if age_s > AGE_MAX_S {
        return Err(format!(
            "it was signed {age_s} s away from now, over {AGE_MAX_S}; is a clock wrong? (webhook-id {id})"
        ));
    }
    let number = Number::of(id);
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if let (Some(number), Some(inside)) = (&number, numbers_inside(&body))
        && number.numbers != inside
    {
        return Err(format!("its body says number {inside}, its webhook-id {id}"));
    }
    Ok(Delivery { message_id: id.to_owned(), number, topic: topics(&body) })
}

/// What a body says of its number: the envelope at the top, ShipStream's
/// within the message, a batch first and last.
fn numbers_inside(body: &serde_json::Value) -> Option<Span> {
    let number = |name| body.get(name).and_then(serde_json::Value::as_i64).map(IncrementId);
    if let (Some(first), Some(last)) = (number("first_increment_id"), number("last_increment_id")) {
        return Some(Span { first, last });
    }
    let inside = || body.pointer("/message/webhook_increment_id").and_then(serde_json::Value::as_i64).map(IncrementId);
    number("increment_id").or_else(inside).map(Span::one)
}

/// The topic; or those of a batch, each once.
fn topics(body: &serde_json::Value) -> String {
    let events = body.get("events").and_then(serde_json::Value::as_array);
    let topics: BTreeSet<_> = events
        .map_or(std::slice::from_ref(body), Vec::as_slice)
        .iter()
        .filter_map(|event| event.get("topic").and_then(serde_json::Value::as_str))
        .collect();
    if topics.is_empty() { "(no topic)".to_owned() } else { Vec::from_iter(topics).join(", ") }
}

impl Number {
    /// Reads `msg_<store>_<webhook>_<number>`, or `…_<first>-<last>`.
    fn of(message_id: &str) -> Option<Self> {
        let mut parts = message_id.strip_prefix("msg_")?.split('_');
        let (store, webhook_id, number) = (parts.next()?, parts.next()?, parts.next()?);
        let (first, last) = number.split_once('-').unwrap_or((number, number));
        let (first, last): (i64, i64) = (first.parse().ok()?, last.parse().ok()?);
        let is_span = first > 0 && (0..i64::from(*BATCH_EVENTS.end())).contains(&last.checked_sub(first)?);
        let is_ours = parts.next().is_none() && is_span && webhook_id.parse::<i64>().is_ok();
        let numbers = Span { first: IncrementId(first), last: IncrementId(last) };
        is_ours.then(|| Self { store: store.to_owned(), webhook_id: webhook_id.to_owned(), numbers })
    }

    fn webhook(&self) -> String {
        format!("webhook {} of store {}", self.webhook_id, self.store)
    }
}

impl Sight {
    /// One line, and one more for each number that is worth shouting about.
    pub fn lines(&self, is_coloured: bool) -> String {
        match self {
            Self::Missing(gap) => painted(&gap.to_string(), RED, is_coloured),
            Self::Request(report) => report.lines(is_coloured),
        }
    }
}

impl Report {
    fn lines(&self, is_coloured: bool) -> String {
        let (at, status) = (self.at, self.status.as_u16());
        let shout = |text: String| painted(&text, RED, is_coloured);
        let delivery = match &self.delivery {
            Ok(delivery) => delivery,
            Err(problem) => {
                return format!("{at}  {}", shout(format!("NOT VERIFIED, answered {status}: {}", safe(problem))));
            }
        };
        let mut lines = match &delivery.number {
            Some(number) => format!("{at}  webhook {}  number {}", number.webhook_id, number.numbers),
            None => format!("{at}  {}  no number", safe(&delivery.message_id)),
        };
        lines += &format!("  {}  signature ok", safe(&delivery.topic));
        match &self.note {
            Some(note) => lines += &format!(", answered {status}: {}", safe(note)),
            None if !self.status.is_success() => lines += &format!(", answered {status}"),
            None => {}
        }
        let webhook = delivery.number.as_ref().map(Number::webhook).unwrap_or_default();
        if self.arrivals.iter().any(|(_, arrival)| *arrival == Arrival::Early) {
            lines += " (below the first number seen here)";
        }
        if let Some(before) = &self.other_store {
            let other = format!("OTHER STORE: it is {webhook} now, and was of store {before}; its numbers begin anew");
            lines += &format!("\n{}", shout(other));
        }
        for (number, arrival) in &self.arrivals {
            match arrival {
                Arrival::New | Arrival::Early => {}
                Arrival::Duplicate => lines += &format!("\n{}", shout(format!("DUPLICATE {number} ({webhook})"))),
                Arrival::Late => lines += &format!("\nLATE: {number} has come and fills its gap ({webhook})"),
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signature::standard_webhooks;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn secret() -> SecretKey {
        SecretKey::try_new("a-secret-of-tests").unwrap()
    }

    fn signed(id: &str, at_s: i64, body: &str) -> HeaderMap {
        let signature = standard_webhooks(&secret(), id, at_s, body.as_bytes());
        let headers =
            [("webhook-id", id.to_owned()), ("webhook-timestamp", at_s.to_string()), ("webhook-signature", signature)];
        headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn check(id: &str, age_s: i64, body: &str) -> Result<Delivery, String> {
        verify(&Key::Secret(secret()), &signed(id, NOW.unix_seconds() - age_s, body), body.as_bytes(), NOW)
    }

    #[test]
    fn both_bodies_are_understood() {
        let envelope =
            check("msg_abcd1234_3_42", 0, r#"{"webhook_id":3,"increment_id":42,"topic":"order:created","message":{}}"#);
        let shipstream =
            check("msg_abcd1234_3_42", 0, r#"{"topic":"order:created","message":{"webhook_increment_id":42}}"#);
        assert_eq!(envelope, shipstream);
        let delivery = envelope.unwrap();
        assert_eq!(delivery.topic, "order:created");
        let number = delivery.number.unwrap();
        assert_eq!(
            (number.numbers.to_string().as_str(), number.webhook().as_str()),
            ("42", "webhook 3 of store abcd1234")
        );
        let events = r#"[{"topic":"order:created"},{"topic":"order:canceled"},{"topic":"order:created"}]"#;
        let body = format!(r#"{{"first_increment_id":42,"last_increment_id":44,"events":{events}}}"#);
        let batch = check("msg_abcd1234_3_42-44", 0, &body).unwrap();
        assert_eq!(batch.topic, "order:canceled, order:created");
        assert_eq!(batch.number.unwrap().numbers.to_string(), "42-44");
        assert!(check("msg_abcd1234_3_42-45", 0, &body).unwrap_err().contains("42-44"));
    }

    #[test]
    fn other_senders_have_no_number() {
        for id in [
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "msg_abcd1234_3_44-42",
            "msg_abcd1234_3_1-101",
            "msg_abcd1234_3_0",
            "evt_a_1_1",
            "msg_a_b_1",
            "msg_a_1_1_1",
        ] {
            assert_eq!(check(id, 0, "no JSON").unwrap().number, None, "{id}");
        }
    }

    #[test]
    fn what_is_not_believed_is_told_why() {
        let body = r#"{"increment_id":41}"#;
        assert!(check("msg_abcd1234_3_41", 300, body).is_ok() && check("msg_abcd1234_3_41", -300, body).is_ok());
        assert!(check("msg_abcd1234_3_41", 301, body).unwrap_err().contains("301 s"));
        assert!(check("msg_abcd1234_3_41", -301, body).unwrap_err().contains("301 s"));
        assert!(check("msg_abcd1234_3_42", 0, body).unwrap_err().contains("number 41"));
        let mut headers = signed("msg_abcd1234_3_41", NOW.unix_seconds(), body);
        assert!(verify(&Key::Secret(secret()), &headers, b"{}", NOW).unwrap_err().contains("secret"));
        headers.remove("webhook-signature");
        assert!(
            verify(&Key::Secret(secret()), &headers, body.as_bytes(), NOW).unwrap_err().contains("webhook-signature")
        );
    }

    #[test]
    fn only_headers_of_the_delivery_are_forwarded() {
        let mut headers = signed("msg_abcd1234_3_41", 1, "{}");
        headers.insert("host", "a".parse().unwrap());
        headers.insert("content-length", "2".parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        let forwarded = end_to_end(headers);
        assert_eq!(forwarded.len(), 4);
        assert!(forwarded.contains_key("webhook-id") && forwarded.contains_key("content-type"));
    }

    #[test]
    fn lines_shout_where_they_should() {
        let delivery = check("msg_abcd1234_3_41", 0, r#"{"topic":"order:created"}"#);
        let mut report = Report {
            at: NOW,
            arrived: Instant::now(),
            delivery,
            status: StatusCode::OK,
            note: None,
            other_store: None,
            arrivals: Vec::new(),
        };
        let line = "2023-11-14T22:13:20.000Z  webhook 3  number 41  order:created  signature ok";
        assert_eq!(report.lines(true), line);
        report.arrivals = vec![(IncrementId(41), Arrival::Duplicate)];
        let shout = "DUPLICATE 41 (webhook 3 of store abcd1234)";
        assert_eq!(report.lines(false), format!("{line}\n{shout}"));
        assert_eq!(report.lines(true), format!("{line}\n\x1b[31m{shout}\x1b[0m"));
        (report.other_store, report.arrivals) = (Some("wxyz5678".to_owned()), Vec::new());
        let shout =
            "OTHER STORE: it is webhook 3 of store abcd1234 now, and was of store wxyz5678; its numbers begin anew";
        assert_eq!(report.lines(false), format!("{line}\n{shout}"));
        assert_eq!(report.lines(true), format!("{line}\n\x1b[31m{shout}\x1b[0m"));
        report.delivery = Err("it has no webhook-id header".to_owned());
        report.status = StatusCode::UNAUTHORIZED;
        assert!(report.lines(false).ends_with("NOT VERIFIED, answered 401: it has no webhook-id header"));
        assert!(
            report.lines(true).ends_with("  \x1b[31mNOT VERIFIED, answered 401: it has no webhook-id header\x1b[0m")
        );
        assert_eq!(report.accepted(), None);
        let gap = Sight::Missing(Gap { webhook: "webhook 3 of store abcd1234".to_owned(), first: 42, last: 43 });
        assert_eq!(gap.lines(false), "GAP: 42 to 43 are missing (webhook 3 of store abcd1234)");
        assert!(gap.lines(true).starts_with("\x1b[31mGAP: 42"));
    }

    #[test]
    fn what_hides_is_shown() {
        let body = "{\"topic\":\"order:\u{200b}cre\u{202e}ated\u{feff}\u{e0041}\"}";
        let delivery = check("msg_abcd1234_3_41", 0, body);
        let report = Report {
            at: NOW,
            arrived: Instant::now(),
            delivery,
            status: StatusCode::OK,
            note: None,
            other_store: None,
            arrivals: Vec::new(),
        };
        let line = report.lines(false);
        assert!(line.contains("order:\\u200bcre\\u202eated\\ufeff\\udb40\\udc41  signature ok"), "{line}");
    }
}
