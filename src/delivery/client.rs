//! The HTTP client of deliveries: posts a body, and says what came of it.
//!
//! A receiver is trusted with nothing: every wait has a deadline, every read a
//! bound, redirects are not followed, and connections come from the guarded
//! connector only. Which class an error is of is decided by its type, never by
//! its text.

use std::borrow::Cow;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HOST, HeaderValue, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::time::timeout_at;
use url::{Position, Url};

use super::Config;
use super::answers::{Answers, Kept};
use super::blot::Credentials;
use super::connect::{ConnectError, Resolve};
use super::guard::Guard;
use super::insecure;
use super::pool::{Keeping, Pool, Wire};
use super::readable::readable;
use super::sessions::Sessions;
use crate::domain::delivery::{AttemptError, ErrorClass};
use crate::domain::id::MerchantId;
use crate::domain::identity::ClientIdentity;
use crate::domain::policy::Timeouts;
use crate::domain::time::Timestamp;
use crate::render::log::{LOG_ANSWER_HEADERS_CHARS_MAX, log_headers};
use crate::render::spelling::Spelling;
use crate::trust::{self, Trusted};

/// How much of an answer that can't be read is shown.
const SHOWN_BYTES_MAX: usize = 100;
/// How long the body of a 2xx answer is waited for. The status has decided, the
/// body is for the log alone, and an ordered webhook's next number waits.
const DECIDED_BODY_PATIENCE: Duration = Duration::from_millis(250);

/// Posts deliveries. Must be used within one Tokio runtime, for that is where
/// its connections live.
pub struct Client {
    pool: Arc<Pool>,
    answer_bytes_max: usize,
    answers: Arc<Answers>,
}

/// What to post, where to, and for how long.
#[derive(Clone, Debug)]
pub struct PostRequest<'a> {
    /// Whose webhook it is.
    pub merchant: MerchantId,
    /// An http or https URL; its fragment is not sent.
    pub url: &'a Url,
    /// Whose certificate is presented to it; `None`: nobody's.
    pub identity: Option<&'a ClientIdentity>,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// How their names are spelled.
    pub spelling: Spelling,
    /// The body.
    pub body: Bytes,
    /// Bounds on the attempt.
    pub timeouts: Timeouts,
    /// What the log of the answer is not to show.
    pub credentials: Credentials<'a>,
}

/// An answer that is for the server itself.
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Vec<u8>,
}

/// What came of a post.
#[derive(Debug)]
pub struct PostResult {
    /// From the start to the end of what was read of the answer.
    pub duration: Duration,
    /// From the sending of the request to the head of its answer, if there was one.
    pub answered_in: Option<Duration>,
    /// What was connected to, or tried last.
    pub address: Option<SocketAddr>,
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// The answer's headers.
    pub response_headers: HeaderMap,
    /// The same for the log.
    pub logged_headers: String,
    /// The answer's body, as far as it was read; see [`readable`]. It may repeat credentials.
    pub response_body: Vec<u8>,
    /// The room that these take up.
    pub kept: Option<Kept>,
    /// What went wrong; `None` if and only if the status is 2xx.
    pub error: Option<AttemptError>,
}

impl Client {
    /// A client that connects only to what the guard and `config` let pass.
    /// It trusts the certificate authorities of the system, or Mozilla's if
    /// the system has none, and what `config` trusts besides. Fails if TLS can't
    /// be set up at all.
    pub fn new(config: &Config, resolver: Arc<dyn Resolve>) -> Result<Self, rustls::Error> {
        Ok(Self::with_tls(config, resolver, tls(&config.trusted)?))
    }

    fn with_tls(config: &Config, resolver: Arc<dyn Resolve>, tls: ClientConfig) -> Self {
        let guard = Arc::new(Guard::new(config.targets.clone()));
        let keeping = Keeping { idle_max: config.kept_connections_max, age_max: config.connection_age_max };
        let pool = Arc::new(Pool::new(guard, resolver, config.egress_proxy.clone(), tls, keeping));
        let answers = Arc::new(Answers::new(config.answers_bytes_max));
        Self { pool, answer_bytes_max: config.answer_bytes_max, answers }
    }

    /// Posts once. A 2xx status line is success, whatever becomes of the body
    /// after it; any other status is an error of the class
    /// [`ErrorClass::Status`]. Ends by `timeouts.total` at the latest, and soon
    /// after a 2xx status line; has read no more of the answer's body than the configured bound.
    /// If a kept connection turns out to be closed, the same goes out once more on a new one.
    pub async fn post(&self, request: PostRequest<'_>) -> PostResult {
        let started = Instant::now();
        let PostRequest { merchant, url, identity, timeouts, credentials, .. } = request;
        let deadline = tokio::time::Instant::now() + timeouts.total;

        let (mut wire, response, answered_in) = match timeout_at(deadline, self.send(request)).await {
            Ok(Ok(sent)) => sent,
            Ok(Err((error, address))) => return PostResult { address, ..PostResult::unanswered(started, error) },
            Err(_) => {
                let detail = format!("no answer within {:?}", timeouts.total);
                return PostResult::unanswered(started, AttemptError { class: ErrorClass::Timeout, detail });
            }
        };
        let (head, body) = response.into_parts();
        let mut response_body = Vec::new();
        let deadline = match head.status.is_success() {
            true => deadline.min(tokio::time::Instant::now() + DECIDED_BODY_PATIENCE),
            false => deadline,
        };
        // The status has decided; a body that is cut off or too slow changes nothing.
        let mut kept = self.answers.begin(merchant);
        let mut logged_headers = log_headers(&head.headers, &Spelling::default(), LOG_ANSWER_HEADERS_CHARS_MAX);
        credentials.blot_text(&mut logged_headers);
        if !kept.grow(logged_headers.len()) {
            logged_headers = String::new();
        }
        let reading = wire.read(body, self.answer_bytes_max, &mut kept, &mut response_body);
        let read = timeout_at(deadline, reading).await;
        if let Some(text) = readable(&head.headers, &response_body, self.answer_bytes_max)
            && kept.grow(text.len().saturating_sub(response_body.len()))
        {
            response_body = text;
        }
        let address = wire.address;
        if read.is_ok() && wire.is_free() {
            self.pool.put(&origin(url, identity), wire, keep_alive(&head.headers));
        }
        PostResult {
            duration: started.elapsed(),
            answered_in: Some(answered_in),
            address,
            status: Some(head.status.as_u16()),
            error: status_error(head.status, &head.headers, url),
            response_headers: head.headers,
            logged_headers,
            response_body,
            kept: Some(kept),
        }
    }

    /// Posts once, and reads an answer of up to so many bytes, of any status, for which there is
    /// `room`. Ends by `timeouts.total`.
    pub async fn fetch(
        &self,
        request: PostRequest<'_>,
        mut room: Kept,
        bytes_max: usize,
    ) -> Result<Fetched, AttemptError> {
        let PostRequest { url, identity, timeouts, .. } = request;
        let exchange = async {
            let (mut wire, response, _) = self.send(request).await.map_err(|(error, _)| error)?;
            let (head, body) = response.into_parts();
            let mut read = Vec::new();
            wire.read(body, bytes_max, &mut room, &mut read).await;
            if wire.is_free() {
                self.pool.put(&origin(url, identity), wire, keep_alive(&head.headers));
            }
            Ok(Fetched { status: head.status, body: read })
        };
        tokio::time::timeout(timeouts.total, exchange).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {:?}", timeouts.total);
            Err(AttemptError { class: ErrorClass::Timeout, detail })
        })
    }

    async fn send(
        &self,
        request: PostRequest<'_>,
    ) -> Result<(Wire, Response<Incoming>, Duration), (AttemptError, Option<SocketAddr>)> {
        let PostRequest { merchant, url, identity, mut headers, spelling, body, timeouts, credentials } = request;
        let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
        // All else in a URL has been encoded as a URI wants it by whoever
        // parsed it; in a host, a few characters may stand that no name has.
        let (Ok(whole), Ok(host)) = (Uri::try_from(&url[..Position::AfterQuery]), host) else {
            let detail = "the URL's host is no host name".to_owned();
            return Err((AttemptError { class: ErrorClass::Dns, detail }, None));
        };
        headers.insert(HOST, host);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = whole.path_and_query().map_or(Uri::default(), |path| path.clone().into());
        *request.headers_mut() = headers;

        let began = Instant::now();
        if let Some(mut wire) = self.pool.take(&origin(url, identity)) {
            match wire.send(request.clone(), spelling.clone()).await {
                Ok(response) => return Ok((wire, response, began.elapsed())),
                // Its receiver closed it in this very moment, as it may any that was
                // used before (RFC 9112 §9.6); what is delivered twice has one id.
                Err(_) if wire.is_unanswered() => {}
                Err(error) => return Err(unread(&error, wire, credentials)),
            }
        }
        // It takes much to open one, and few requests have to: theirs alone is to make room for it.
        let opening = Box::pin(self.pool.open(merchant, identity, whole, timeouts.connect));
        let mut wire = opening.await.map_err(|error| {
            let tried = match error {
                ConnectError::Connect(address, _) => Some(address),
                ConnectError::Handshake(address) => address,
                _ => None,
            };
            (connect_error(&error, timeouts), tried)
        })?;
        let began = Instant::now();
        match wire.send(request, spelling).await {
            Ok(response) => Ok((wire, response, began.elapsed())),
            Err(error) => Err(unread(&error, wire, credentials)),
        }
    }
}

/// What connections are kept by: scheme, host and port, and who was presented. A blank, which no URL
/// has, stands in between.
fn origin<'a>(url: &'a Url, identity: Option<&ClientIdentity>) -> Cow<'a, str> {
    let origin = &url[..Position::BeforePath];
    match identity {
        None => origin.into(),
        Some(identity) => format!("{origin} {}", identity.fingerprint()).into(),
    }
}

impl PostResult {
    /// Of an attempt for a webhook that is posted to nowhere.
    pub fn without_target() -> Self {
        let detail = "the webhook has no URL; its receiver pulls".to_owned();
        Self::unanswered(Instant::now(), AttemptError { class: ErrorClass::Connect, detail })
    }

    /// Of an attempt that ended before anything was sent.
    pub fn unsent(error: AttemptError) -> Self {
        Self::unanswered(Instant::now(), error)
    }

    fn unanswered(started: Instant, error: AttemptError) -> Self {
        Self {
            duration: started.elapsed(),
            answered_in: None,
            address: None,
            status: None,
            response_headers: HeaderMap::new(),
            logged_headers: String::new(),
            response_body: Vec::new(),
            kept: None,
            error: Some(error),
        }
    }
}

/// How long the receiver asks to be left alone (RFC 9110 §10.2.3): seconds, or
/// a date, which is zero if it is past. `None` if it asks nothing that can be
/// understood.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if asked.bytes().all(|byte| byte.is_ascii_digit()) {
        return asked.parse().ok().map(Duration::from_secs);
    }
    let since_epoch = httpdate::parse_http_date(asked).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp(0).after(since_epoch).since(now))
}

/// How long the receiver keeps an unused connection, if it says so
/// (RFC 2068 §19.7.1.1): `Keep-Alive: timeout=5, max=100`.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let parameters = headers.get("keep-alive")?.to_str().ok()?.split(',');
    let mut named = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = named.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
}

fn tls(trusted: &Trusted) -> Result<ClientConfig, rustls::Error> {
    let mut config = trust::client_config(trusted)?;
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
    Ok(config)
}

fn status_error(status: StatusCode, headers: &HeaderMap, url: &Url) -> Option<AttemptError> {
    if status.is_success() {
        return None;
    }
    let mut detail = format!("answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        detail = format!("{detail} {reason}");
    }
    if status.is_redirection() {
        detail.push_str("; redirects are not followed");
        let target = headers.get(LOCATION).and_then(|value| value.to_str().ok()).and_then(|text| url.join(text).ok());
        // The host alone: the rest of the address may hold a credential.
        if let Some(host) = target.as_ref().and_then(Url::host_str) {
            detail.push_str(&format!(" (this one leads to {host})"));
        }
    }
    Some(AttemptError { class: ErrorClass::Status, detail })
}

/// Why there is no connection.
fn connect_error(error: &ConnectError, timeouts: Timeouts) -> AttemptError {
    let class = match error {
        ConnectError::Refused(_) | ConnectError::Port(_) => ErrorClass::AddressRefused,
        ConnectError::Dns(_) => ErrorClass::Dns,
        ConnectError::Connect(..) => ErrorClass::Connect,
        ConnectError::Proxy(_) | ConnectError::Tunnel(_) => ErrorClass::Proxy,
        ConnectError::Tls(_) | ConnectError::Identity(_) => ErrorClass::Tls,
        ConnectError::Timeout => {
            let detail = format!("no connection within {:?}", timeouts.connect);
            return AttemptError { class: ErrorClass::Timeout, detail };
        }
        ConnectError::ProxyTimeout => {
            let detail = format!("the egress proxy did not connect within {:?}", timeouts.connect);
            return AttemptError { class: ErrorClass::Timeout, detail };
        }
        ConnectError::Handshake(_) => {
            let detail = format!(
                "connected, but no handshake of TLS within {:?}; does the receiver speak TLS on this port?",
                timeouts.connect
            );
            return AttemptError { class: ErrorClass::Timeout, detail };
        }
    };
    AttemptError { class, detail: error.to_string() }
}

/// What kept an answer from coming, or from being read, and from where.
fn unread(error: &hyper::Error, wire: Wire, credentials: Credentials<'_>) -> (AttemptError, Option<SocketAddr>) {
    let address = wire.address;
    let mut begun = wire.into_unread().to_vec();
    credentials.blot(&mut begun);
    if let Some(words) = insecure::by_tls(error) {
        return (AttemptError { class: ErrorClass::Tls, detail: format!("no secure connection: {words}") }, address);
    }
    let mut detail = match error.source() {
        _ if error.is_parse() => format!("the answer is no HTTP/1: {error}"),
        _ if error.is_incomplete_message() && begun.is_empty() => {
            "the connection was closed before an answer came".to_owned()
        }
        _ if error.is_incomplete_message() => "the connection was closed within the head of the answer".to_owned(),
        Some(cause) => format!("the connection broke: {cause}"),
        None => format!("the connection broke: {error}"),
    };
    if !begun.is_empty() {
        let shown = begun[..begun.len().min(SHOWN_BYTES_MAX)].escape_ascii();
        let more = if begun.len() > SHOWN_BYTES_MAX { " …" } else { "" };
        detail.push_str(&format!("; it begins with \"{shown}\"{more}"));
    }
    (AttemptError { class: ErrorClass::Protocol, detail }, address)
}

#[cfg(test)]
mod tests;
