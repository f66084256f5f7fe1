//! JSON-RPC 2.0 over HTTP POST, and over a WebSocket on the same paths.
//!
//! jsonrpsee holds the methods and runs them. In front of it lies a thin
//! layer that reads and writes the envelope, because real clients differ from
//! what jsonrpsee takes: [`envelope`] says how.

mod answer;
mod args;
pub mod catalogue;
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
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{Html, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use self::dispatch::Dispatcher;
use self::fault::{Codes, REFUSED, protocol_error};
use self::method::{Context, Table};
pub use self::sdk::Language;
use super::body::{self, BodyError};
use super::unsent::{Payer, Unsent};
use super::{Config, Peer};
use crate::service::Service;
use crate::service::address::Origin;
use crate::service::auth::Credentials;

/// Our own paths.
const NATIVE_PATHS: [&str; 2] = ["/", "/rpc"];
/// The vendor's paths, on which faults have the vendor's codes.
const VENDOR_PATHS: [&str; 2] = ["/api/jsonrpc", "/backend/api/jsonrpc"];

/// Where the OpenRPC document is.
const DOCUMENT_PATH: &str = "/openrpc.json";
/// Where the reference for people is.
const REFERENCE_PATH: &str = "/docs";

/// One of the two kinds of paths.
#[derive(Clone)]
struct Endpoint {
    dispatcher: Arc<Dispatcher>,
    codes: Codes,
    config: Config,
    unsent: Arc<Unsent>,
}

/// The routes of a server that is called at `url`.
pub fn router(config: &Config, service: Arc<Service>, url: String, unsent: &Arc<Unsent>) -> Router {
    let table = Table::new(methods::all(), service, url, config.response_bytes_max, Arc::clone(unsent));
    let table = Arc::new(table);
    let module = Arc::clone(&table).module();
    let dispatcher = Dispatcher::new(module, config.batch_calls_max, config.response_bytes_max);
    let dispatcher = Arc::new(dispatcher);
    let described = Arc::clone(&table);
    let document = get(async move || json(StatusCode::OK, Body::from(table.document().await)));
    let reference = get(async move || Html(described.reference().await));
    let mut router = Router::new().route(DOCUMENT_PATH, document).route(REFERENCE_PATH, reference);
    for (paths, codes) in [(NATIVE_PATHS, Codes::Native), (VENDOR_PATHS, Codes::Vendor)] {
        let (dispatcher, unsent) = (Arc::clone(&dispatcher), Arc::clone(unsent));
        let endpoint = Endpoint { dispatcher, codes, config: config.clone(), unsent };
        for path in paths {
            let methods = post(handle).get(socket::upgrade).fallback(refuse_method);
            router = router.route(path, methods.with_state(endpoint.clone()));
        }
    }
    router.fallback(refuse_path)
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
    let body = match body::read(body, endpoint.config.body_bytes_max, endpoint.config.idle_timeout).await {
        Ok(body) => body,
        Err(error) => {
            let code = if error == BodyError::TooSlow { REFUSED } else { envelope::INVALID_REQUEST };
            return refusal(error.status(), code, &error.problem());
        }
    };
    let Some(Peer(peer)) = parts.extensions.get().copied() else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, REFUSED, "The connection has no address.");
    };
    let context = Context { credentials: credentials(&parts.headers), peer, codes: endpoint.codes, live: None };
    let answer = endpoint.dispatcher.run(&body, &context).await;
    let payer = answer.payer(Payer::Stranger(Origin::of(peer)));
    let held = |text| endpoint.unsent.hold(payer, Bytes::len(&text)).around(text);
    json(StatusCode::OK, answer.into_body(held))
}

async fn refuse_method() -> Response {
    let problem = "JSON-RPC calls are made by POST; \"tallyhook call --help\" shows how.";
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, envelope::INVALID_REQUEST, problem);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn refuse_path() -> Response {
    let problem = "There is nothing at this path; JSON-RPC calls go to / or /rpc.";
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
    json(status, Body::from(protocol_error(code, problem)))
}

/// An empty body if there is nothing to say: a notification is answered by
/// 200, since a stock client takes 204 for an error.
fn json(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The OpenRPC document of a server that is called at `url`.
pub fn openrpc(url: &str) -> serde_json::Value {
    openrpc::document(&methods::all(), url)
}

/// The reference for people, made from an OpenRPC document.
pub fn reference(document: &serde_json::Value) -> String {
    reference::page(document)
}

/// The files of a client package, text by path, made from an OpenRPC document.
pub fn sdk(document: &serde_json::Value, language: Language) -> BTreeMap<String, String> {
    sdk::package(document, language)
}
