//! JSON-RPC 2.0 over HTTP POST, and over a WebSocket on the same paths.
//!
//! jsonrpsee holds the methods and runs them. In front of it lies a thin
//! layer that reads and writes the envelope, because clients differ from what
//! jsonrpsee takes: [`envelope`] says how.

mod answer;
mod args;
pub mod catalogue;
mod counts;
mod dispatch;
mod envelope;
mod examples;
mod fault;
mod live;
mod method;
mod methods;
mod openrpc;
mod reference;
mod sdk;
mod socket;
mod spec;
mod unknown;
mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use self::answer::Answer;
use self::dispatch::Dispatcher;
use self::fault::{Addressee, Codes, REFUSED, protocol_error};
use self::method::{Context, Table};
pub use self::reference::{Audience, Entry, Line};
pub use self::sdk::{Label, Language};
pub use self::wire::{AuditItem, ClusterItem};
use super::body::{self, BodyError};
use super::{Config, accept_encoding, retry_after};
use crate::domain::fault::Fault;
use crate::domain::request_id::Sender;
use crate::service::Service;
use crate::service::caller::Credentials;
use crate::work::budget::{Budget, Reservation};
use crate::work::{Account, READ_AT_ONCE_MAX};

/// Our own paths.
const NATIVE_PATHS: [&str; 2] = ["/", "/rpc"];
/// ShipStream's paths, on which faults have that vendor's codes (docs/wire.md,
/// "Paths").
const VENDOR_PATHS: [&str; 2] = ["/api/jsonrpc", "/backend/api/jsonrpc"];

/// Where the OpenRPC document is.
const DOCUMENT_PATH: &str = "/openrpc.json";
/// Where the reference for people is.
const REFERENCE_PATH: &str = "/docs";

/// How long an answer waits to somebody who sends too much and is not logged in.
const STRANGER_PAUSE: Duration = Duration::from_millis(250);

/// One of the two kinds of paths.
#[derive(Clone)]
struct Endpoint {
    dispatcher: Arc<Dispatcher>,
    codes: Codes,
    config: Config,
    service: Arc<Service>,
    unsent: Arc<Budget>,
}

/// The routes of a server that is called at `url`.
pub fn router(config: &Config, service: Arc<Service>, url: String, unsent: &Arc<Budget>) -> Router {
    let table = Table::new(methods::all(), Arc::clone(&service), url, config.response_bytes_max, Arc::clone(unsent));
    let table = Arc::new(table);
    let module = Arc::clone(&table).module();
    let dispatcher = Dispatcher::new(module, config.batch_calls_max, config.response_bytes_max);
    let dispatcher = Arc::new(dispatcher);
    let described = Arc::clone(&table);
    let document = get(async move || json(StatusCode::OK, Body::from(table.document().await)));
    let reference = get(async move || Html(described.reference().await));
    let router = Router::new().route(DOCUMENT_PATH, document).route(REFERENCE_PATH, reference).fallback(refuse_path);
    let mut router = paced(router, &service);
    for (paths, codes) in [(NATIVE_PATHS, Codes::Native), (VENDOR_PATHS, Codes::Vendor)] {
        let (dispatcher, service, unsent) = (Arc::clone(&dispatcher), Arc::clone(&service), Arc::clone(unsent));
        let endpoint = Endpoint { dispatcher, codes, config: config.clone(), service, unsent };
        for path in paths {
            let refuse = refuse_method.layer(from_fn_with_state(Arc::clone(&endpoint.service), paused));
            let methods = post(handle).get(socket::upgrade).fallback(refuse).with_state(endpoint.clone());
            // The vendor's own middleware, among others, puts a slash behind it.
            if path != "/" {
                router = router.route(&format!("{path}/"), methods.clone());
            }
            router = router.route(path, methods);
        }
    }
    router
}

async fn handle(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        return refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            envelope::INVALID_REQUEST,
            "The body must be JSON; send the header \"Content-Type: application/json\".",
        );
    }
    let (bytes_max, timeout) = (endpoint.config.body_bytes_max, endpoint.config.idle_timeout);
    let (body, held) = match body::read(body, &parts, bytes_max, timeout).await {
        Ok(read) => read,
        Err(error) => {
            error.limit().into_iter().for_each(|limit| endpoint.service.metrics().refused(limit));
            let code = match error {
                BodyError::TooSlow | BodyError::NoRoom => REFUSED,
                BodyError::Encoded | BodyError::TooLong(_) | BodyError::BrokeOff => envelope::INVALID_REQUEST,
            };
            let wait = error.retry_after();
            let text = protocol_error(code, &error.problem(), wait);
            let mut response = with_retry_after(json(error.status(), Body::from(text)), wait);
            accept_encoding(&mut response, error.accept_encoding());
            return response;
        }
    };
    let Some(sender) = parts.extensions.get().copied() else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, REFUSED, "The connection has no address.");
    };
    let context = Context {
        credentials: credentials(&parts.headers),
        sender,
        codes: endpoint.codes,
        live: None,
        body: held.map(Arc::new),
    };
    let answer = endpoint.answer(body, &context).await;
    let (hold, wait) = (endpoint.hold(&answer, sender.peer), answer.retry_after());
    with_retry_after(json(StatusCode::OK, answer.into_body(hold)), wait)
}

impl Endpoint {
    /// The answer to a body; empty if there is nothing to answer. A long one is
    /// read apart.
    async fn answer(&self, body: Bytes, context: &Context) -> Answer {
        let calls_max = self.dispatcher.batch_calls_max();
        let is_long = body.len() > READ_AT_ONCE_MAX;
        // The body goes with it; the calls have what they need of it.
        let read = move || envelope::read_body(&body, calls_max);
        let body = match is_long {
            true => self.service.apart(Account::of_stranger(context.sender.peer), read).await,
            false => Ok(read()),
        };
        let body = match body {
            Ok(body) => body,
            Err(fault) => return refused(&fault, context.addressee()),
        };
        let answer = self.dispatcher.run(body, context).await;
        pause(&self.service, context.sender.peer, answer.strange()).await;
        answer
    }

    /// Counts texts of an answer until they have been sent, on the account of
    /// whoever made a call of it.
    fn hold(&self, answer: &Answer, peer: IpAddr) -> impl Fn(Bytes) -> Bytes + use<> {
        let (unsent, payer) = (Arc::clone(&self.unsent), answer.payer(Account::of_stranger(peer)));
        move |text| Reservation::around(unsent.hold(payer, text.len()), text)
    }
}

/// Has whoever sends too much that can't be run, or is for anybody, wait for
/// his answer: refusing costs as much as answering.
async fn pause(service: &Service, peer: IpAddr, count: u32) {
    let mut is_too_much = false;
    for _ in 0..count {
        is_too_much |= service.count_stranger(peer).is_err();
    }
    if is_too_much {
        tokio::time::sleep(STRANGER_PAUSE).await;
    }
}

/// The same routes, where those who are not logged in ask no faster than they may.
pub(super) fn paced(router: Router, service: &Arc<Service>) -> Router {
    router.layer(from_fn_with_state(Arc::clone(service), paused))
}

/// The same for a request without a call.
async fn paused(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    if let Some(Sender { peer, .. }) = request.extensions().get().copied() {
        pause(&service, peer, 1).await;
    }
    next.run(request).await
}

/// The answer to a body that was not read, for this fault.
fn refused(fault: &Fault, to: Addressee) -> Answer {
    let error = serde_json::to_string(&fault::error_object(fault, to)).expect("an error object has only string keys");
    let answer = envelope::write_error(envelope::Shape::Text, None, &error);
    Answer::from(answer).with_retry_after(fault.retry_after)
}

/// Says when trying again makes sense, in seconds and rounded up.
fn with_retry_after(mut response: Response, wait: Option<Duration>) -> Response {
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after(wait));
    }
    response
}

/// True of whoever wants a page: no client of an interface asks for HTML.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|text| text.contains("text/html")))
}

/// Sends a person on from / to the reference. The path is relative, for a proxy
/// may have the server under another.
fn see_reference() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("docs"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn refuse_method() -> Response {
    let problem = "JSON-RPC calls are made by POST, which /docs describes; \"tallyhook call --help\" shows how.";
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, envelope::INVALID_REQUEST, problem);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn refuse_path() -> Response {
    let problem = "There is nothing at this path; JSON-RPC calls go to / or /rpc, and /docs describes them.";
    refusal(StatusCode::NOT_FOUND, envelope::INVALID_REQUEST, problem)
}

/// No Content-Type at all is taken for JSON; some clients send none.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/json" | "application/json-rpc" | "application/jsonrequest" | "text/json")
        || essence.ends_with("+json")
}

fn credentials(headers: &HeaderMap) -> Credentials {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Credentials::None };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return Credentials::Unreadable;
    };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        return Credentials::Bearer(rest.to_owned());
    }
    let pair = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((name, key)) if scheme.eq_ignore_ascii_case("basic") => {
            Credentials::Basic { name: name.to_owned(), key: key.to_owned() }
        }
        _ => Credentials::Unreadable,
    }
}

/// What is refused before a call could be read.
fn refusal(status: StatusCode, code: i32, problem: &str) -> Response {
    json(status, Body::from(protocol_error(code, problem, None)))
}

/// An empty body if there is nothing to say: a notification is answered by
/// 200, since a stock client takes 204 for an error (docs/wire.md, "JSON-RPC envelope").
fn json(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The OpenRPC document of a server that is called at `url`.
pub fn openrpc(url: &str) -> serde_json::Value {
    openrpc::document(method::specs(&methods::all()), url)
}

/// The reference for people, made from an OpenRPC document.
pub fn reference(document: &serde_json::Value, audience: Audience) -> String {
    reference::page(document, audience)
}

/// What an OpenRPC document says of a method; `None` if it has no such.
pub fn entry(document: &serde_json::Value, method: &str) -> Option<Entry> {
    reference::entry(document, method)
}

/// The files of a client package, text by path, made from an OpenRPC document.
pub fn sdk(document: &serde_json::Value, language: Language, label: &Label) -> BTreeMap<String, String> {
    sdk::package(document, language, label)
}
