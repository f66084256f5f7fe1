//! REST dialects of existing platforms, over the same use cases as JSON-RPC.
//!
//! A dialect is a file with a table of operations: each says its method, path
//! and types once, and its OpenAPI document is made from that. What all of
//! them share is here: who calls, reading, refusing.

mod babel;
mod listing;
mod openapi;
mod operation;
mod query;
mod refusal;
mod three_d_cart;
mod ultracart;
mod values;
mod window;
mod xml;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, get, on};
use bytes::Bytes;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use self::listing::Reply;
use self::operation::{Answer, Call, Operation};
pub use self::refusal::Refusal;
use super::body;
use super::{Config, accept_encoding, retry_after};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::fault::FaultCode;
use crate::domain::request_id::Sender;
use crate::metrics::Limit;
use crate::service::Service;
use crate::service::caller::{Caller, Credentials};
use crate::service::topic::{TopicPage, TopicSelection};
use crate::work::budget::{Budget, Reservation};
use crate::work::{Account, READ_AT_ONCE_MAX};
use http_body_util::{BodyExt, Collected};

/// What an answer is counted as before it is there, in bytes: that of a GET,
/// and others.
const FOUND_BYTES_MIN: usize = 256 * 1_024;
const ANSWER_BYTES_MIN: usize = 4_096;
/// How many schemas of the catalogue are read at once.
const SCHEMAS_AT_ONCE: u32 = 16;
/// When to try again where too many answers wait to be sent.
const UNTAKEN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A platform's way to speak of webhooks.
pub struct Dialect {
    /// Its name in the path of its document.
    name: &'static str,
    /// Its name for people.
    title: &'static str,
    /// What lies under these paths is the dialect's, and nobody else's.
    bases: &'static [&'static str],
    /// The ways to say who calls, as OpenAPI's security schemes; and which of
    /// them go together, each line being enough.
    security: fn() -> (serde_json::Value, serde_json::Value),
    /// Who calls.
    credentials: fn(&HeaderMap) -> Credentials,
    /// Whether that is who the headers speak of besides.
    admits: fn(&HeaderMap, &Caller) -> bool,
    /// Turns a body into JSON.
    read: fn(&HeaderMap, Bytes) -> Result<Bytes, Refusal>,
    /// Whether an answer is to be XML.
    wants_xml: fn(&HeaderMap) -> bool,
    /// Writes an answer.
    write: fn(StatusCode, &serde_json::Value, &HeaderMap) -> Response,
    /// The media types of bodies and answers.
    media: &'static [&'static str],
    /// The status that the dialect has for one that it lacks.
    status: fn(StatusCode) -> StatusCode,
    /// The answer to what is refused, in the dialect's own shape.
    refuse: fn(&Refusal, &HeaderMap) -> Response,
    /// The schema of that answer.
    refusal: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// A header that this answer has, and what it holds.
    refusal_header: Option<(HeaderName, &'static str)>,
    /// What it can do.
    operations: Vec<Operation>,
}

/// Every dialect there is.
fn dialects() -> Vec<Dialect> {
    vec![ultracart::dialect(), three_d_cart::dialect(), babel::dialect()]
}

/// The name of every dialect; `/openapi/NAME.json` is its document.
pub fn dialect_names() -> impl Iterator<Item = &'static str> {
    dialects().into_iter().map(|dialect| dialect.name)
}

/// The routes of a server that is called at `url`.
pub fn router(config: &Config, service: &Arc<Service>, url: &str, unsent: &Arc<Budget>) -> Router {
    dialects()
        .into_iter()
        .fold(Router::new(), |router, dialect| router.merge(routes(dialect, config, service, url, unsent)))
}

fn routes(dialect: Dialect, config: &Config, service: &Arc<Service>, url: &str, unsent: &Arc<Budget>) -> Router {
    let dialect = Arc::new(dialect);
    let (described, url, made) = (Arc::clone(&dialect), url.to_owned(), Arc::new(OnceLock::<Bytes>::new()));
    let list_limit_max = service.list_limit_max();
    let document = get(async move || {
        let make = move || -> Bytes {
            let text = || openapi::document(&described, &url, list_limit_max).to_string().into();
            made.get_or_init(text).clone()
        };
        // Making it takes longer than a call may hold a thread.
        let document = tokio::task::spawn_blocking(make).await.expect("a test makes all documents");
        ([(header::CONTENT_TYPE, "application/json")], document)
    });
    let mut router = Router::new().route(&format!("/openapi/{}.json", dialect.name), document);
    let mut paths: Vec<&str> = dialect.operations.iter().map(|operation| operation.path).collect();
    paths.dedup();
    for path in paths {
        let mut methods = MethodRouter::new();
        let mut allowed = Vec::new();
        for (place, operation) in (0..).zip(&dialect.operations).filter(|(_, operation)| operation.path == path) {
            let (dialect, service, unsent) = (Arc::clone(&dialect), Arc::clone(service), Arc::clone(unsent));
            let handler = Handler { dialect, place, config: config.clone(), service, unsent };
            let run = async move |path: PathParams, request: Request| handler.run(path, request).await;
            methods = methods.merge(on(filter(&operation.method), run));
            allowed.push(operation.method.as_str());
            if operation.method == Method::GET {
                allowed.push("HEAD");
            }
        }
        let (refusing, allowed) = (Arc::clone(&dialect), allowed.join(", "));
        methods = methods.fallback(async move |headers: HeaderMap| refuse_method(&refusing, &headers, &allowed));
        router = router.route(path, methods);
    }
    for base in dialect.bases {
        let refusing = Arc::clone(&dialect);
        let refuse = async move |headers: HeaderMap| {
            let refusal = Refusal::new(StatusCode::NOT_FOUND, "There is nothing at this path.");
            refused(&refusing, refusal, &headers)
        };
        for path in [(*base).to_owned(), format!("{base}/"), format!("{base}/{{*rest}}")] {
            router = router.route(&path, any(refuse.clone()));
        }
    }
    router
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("the methods of a dialect are plain ones")
}

fn refuse_method(dialect: &Dialect, headers: &HeaderMap, allowed: &str) -> Response {
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("Only {allowed} can be sent to this path."));
    let mut response = refused(dialect, refusal, headers);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_str(allowed).expect("methods are plain words"));
    response
}

/// Refuses with a status that the dialect has, and says when to come back.
fn refused(dialect: &Dialect, mut refusal: Refusal, headers: &HeaderMap) -> Response {
    refusal.status = (dialect.status)(refusal.status);
    let mut response = (dialect.refuse)(&refusal, headers);
    if let Some(wait) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after(wait));
    }
    accept_encoding(&mut response, refusal.accept_encoding);
    response
}

/// The parameters of a path, unless it can't be read.
type PathParams = Result<RawPathParams, RawPathParamsRejection>;

/// Answers one operation of a dialect.
#[derive(Clone)]
struct Handler {
    dialect: Arc<Dialect>,
    place: usize,
    config: Config,
    service: Arc<Service>,
    unsent: Arc<Budget>,
}

impl Handler {
    async fn run(&self, path: PathParams, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let answer = async {
            let internal = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The connection has no address.");
            let sender: Sender = parts.extensions.get().copied().ok_or_else(internal)?;
            let (credentials, metrics) = ((self.dialect.credentials)(&parts.headers), self.service.metrics());
            let found = self.service.authenticate(&credentials, sender).await;
            let caller = found.map_err(|fault| match self.service.count_stranger(sender.peer) {
                Ok(()) => Refusal::unauthenticated(fault),
                Err(fault) => fault.into(),
            })?;
            let payer = Account::from(&caller);
            let answer_bytes = if parts.method == Method::GET { FOUND_BYTES_MIN } else { ANSWER_BYTES_MIN };
            let room = self.unsent.try_hold(payer, answer_bytes).ok_or_else(|| {
                metrics.refused(Limit::UnsentBytes);
                let problem = "Too much of what you asked for waits to be sent. Read the answers, and try again.";
                let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, problem);
                Refusal { retry_after: Some(UNTAKEN_RETRY_AFTER), ..refusal }
            })?;
            if !(self.dialect.admits)(&parts.headers, &caller) {
                return Err(Refusal::unauthenticated(FaultCode::AccessDenied.into()));
            }
            let (bytes_max, timeout) = (self.config.body_bytes_max, self.config.idle_timeout);
            // It is counted until the call has ended.
            let read = body::read(body, &parts, bytes_max, timeout).await;
            let (body, held) =
                read.inspect_err(|error| error.limit().into_iter().for_each(|limit| metrics.refused(limit)))?;
            if let Some(held) = &held {
                held.put_down_to(payer);
            }
            // What is looked up may be much.
            let _turn = match parts.method == Method::GET {
                true => self.service.heavy_turn(payer).await,
                false => self.service.turn(payer).await,
            };
            let path = path.map_err(|_| Refusal::bad("The path is no UTF-8."))?;
            let path: Vec<_> = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let object = path.first().map(|(_, value)| value.clone());
            let operation = &self.dialect.operations[self.place];
            let running = self.begin(&parts, path, caller, body).await?;
            let began = Instant::now();
            let answer = running.await.map_err(|refusal| Refusal { object, ..refusal });
            self.service.tell_of_call(operation.path, began.elapsed());
            let answer = answer?;
            if operation.status == StatusCode::NO_CONTENT {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            let response = match answer {
                Reply::One(answer) => (self.dialect.write)(operation.status, &answer, &parts.headers),
                Reply::Written(text, media) => {
                    (operation.status, [(header::CONTENT_TYPE, media)], text).into_response()
                }
            };
            let (head, body) = response.into_parts();
            // It is in memory already, so nothing is waited for.
            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
            let body = Reservation::around(room, body);
            Ok(Response::from_parts(head, body.into()))
        };
        answer.await.unwrap_or_else(|refusal: Refusal| refused(&self.dialect, refusal, &parts.headers))
    }
}

impl Handler {
    /// Reads a request. A large body is read apart.
    async fn begin(
        &self,
        parts: &Parts,
        path: Vec<(String, String)>,
        caller: Caller,
        body: Bytes,
    ) -> Result<Answer, Refusal> {
        let (service, bytes_max, of) = (Arc::clone(&self.service), self.config.response_bytes_max, caller.clone());
        let (dialect, place, headers) = (Arc::clone(&self.dialect), self.place, parts.headers.clone());
        let (is_large, query) = (body.len() > READ_AT_ONCE_MAX, parts.uri.query().unwrap_or_default().to_owned());
        let object = path.first().map(|(_, value)| value.clone());
        let wants_xml = (dialect.wants_xml)(&headers);
        let begin = move || {
            let body = (dialect.read)(&headers, body)?;
            let call = Call { service, caller, path, query: &query, body, bytes_max, wants_xml };
            dialect.operations[place].begin(call).map_err(|refusal| Refusal { object, ..refusal })
        };
        if is_large { self.service.apart(&of, begin).await? } else { begin() }
    }
}

/// The value of a header as text, if it has one that is.
fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    headers.get(HeaderName::from_static(name)).and_then(|value| value.to_str().ok())
}

/// The beginning of what a client wrote, to be repeated to it.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    text.chars().take(CHARS_MAX).collect()
}

/// An API key from a header of the dialect's own, or what [`bearer`] finds.
fn key(headers: &HeaderMap, own: &'static str) -> Credentials {
    header(headers, own).map_or_else(|| bearer(headers), |key| Credentials::Bearer(key.to_owned()))
}

/// An API key or a session's key from `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Credentials {
    match header(headers, "authorization").map(|value| value.split_once(' ')) {
        Some(Some((scheme, key))) if scheme.eq_ignore_ascii_case("bearer") => {
            Credentials::Bearer(key.trim().to_owned())
        }
        Some(_) => Credentials::Unreadable,
        None => Credentials::None,
    }
}

/// All topics of the merchant's catalogue, by their numbers, without schemas.
async fn catalogue(service: &Service, caller: &Caller) -> Result<Vec<CatalogueEntry>, Refusal> {
    let (mut topics, mut after) = (Vec::<CatalogueEntry>::new(), None);
    loop {
        let found = next_topics(service, caller, after, false).await?;
        let Some(last) = found.last() else { break };
        after = Some(last.spec.topic.to_string());
        topics.extend(found);
    }
    topics.sort_by_key(|entry| entry.event_type);
    Ok(topics)
}

/// The topics of the catalogue behind one of them by name, as many as are read
/// at once, with their schemas or without; none, if there are no more.
async fn next_topics(
    service: &Service,
    caller: &Caller,
    after: Option<String>,
    with_schemas: bool,
) -> Result<Vec<CatalogueEntry>, Refusal> {
    let limit = service.topic_list_limit_max().min(if with_schemas { SCHEMAS_AT_ONCE } else { u32::MAX });
    let selection = TopicSelection { is_brief: !with_schemas, ..TopicSelection::default() };
    let page = TopicPage { after, sort: None, limit: Some(limit.into()) };
    Ok(service.list_topics(caller, selection, page).await?)
}

/// A JSON answer.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(cause) => {
            tracing::error!(%cause, "an answer could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::fault::Fault;

    #[test]
    fn a_document_tells_of_the_statuses_that_its_dialect_has() {
        let statuses =
            [FaultCode::AccessDenied, FaultCode::SessionExpired, FaultCode::UserDisabled, FaultCode::TooManyCalls]
                .map(|code| Refusal::from(Fault::new(code)).status);
        assert_eq!(statuses.map(|status| status.as_u16()), [403, 401, 410, 429]);
        for dialect in dialects() {
            let document = openapi::document(&dialect, "https://example.com", 1_000);
            for operation in &dialect.operations {
                let method = operation.method.as_str().to_ascii_lowercase();
                let responses = &document["paths"][operation.path][method]["responses"];
                for status in statuses {
                    let has_it = (dialect.status)(status) == status;
                    assert_eq!(responses.get(status.as_str()).is_some(), has_it, "{} {status}", dialect.name);
                    assert!(responses.get((dialect.status)(status).as_str()).is_some(), "{} {status}", dialect.name);
                }
            }
        }
    }

    #[test]
    fn each_operation_stands_in_its_table_once_and_is_described() {
        for dialect in dialects() {
            let (mut seen, mut ids) = (HashSet::new(), HashSet::new());
            for operation in &dialect.operations {
                assert!(seen.insert((&operation.method, operation.path)), "{} {}", operation.method, operation.path);
                assert!(ids.insert(&operation.id), "{}", operation.id);
                assert!(operation.summary.ends_with('.'), "{}", operation.path);
                assert!(dialect.bases.iter().any(|base| operation.path.starts_with(base)), "{}", operation.path);
            }
        }
    }
}
