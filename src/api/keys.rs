//! By which public keys a webhook's deliveries are verified: for its receiver, who need not be
//! logged in, and therefore for anybody.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::domain::id::WebhookId;
use crate::domain::request_id::Sender;
use crate::domain::signing::PublicKey;
use crate::domain::time::Timestamp;
use crate::service::Service;

/// Where the keys are (RFC 8615).
const PATH: &str = "/.well-known/tallyhook/keys.json";
/// How long a copy of the answer is good: a fraction of any overlap that is worth having.
const FRESH: &str = "public, max-age=60";

/// The route.
pub fn router(service: &Arc<Service>) -> Router {
    Router::new().route(PATH, get(keys)).with_state(Arc::clone(service))
}

/// A set of JSON Web Keys (RFC 7517, RFC 8037), each with its text in Standard Webhooks besides. Of
/// a webhook that is not there it says what it says of one without such keys.
async fn keys(
    State(service): State<Arc<Service>>,
    Extension(Sender { peer, .. }): Extension<Sender>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(id) = webhook_id(query.as_deref().unwrap_or_default()) else {
        let asks = format!("Name one webhook: {PATH}?webhook_id=1");
        return answer(StatusCode::BAD_REQUEST, "no-store", &json!({ "error": asks }));
    };
    match service.public_keys(id, peer).await {
        Ok(keys) => {
            let keys: Vec<_> = keys.into_iter().map(|(key, ends_at)| described(key, ends_at)).collect();
            answer(StatusCode::OK, FRESH, &json!({ "keys": keys }))
        }
        Err(fault) => answer(StatusCode::SERVICE_UNAVAILABLE, "no-store", &json!({ "error": fault.whole() })),
    }
}

fn webhook_id(query: &str) -> Option<WebhookId> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((name, id)), None) if name == "webhook_id" => id.parse().ok().map(WebhookId),
        _ => None,
    }
}

fn described(key: PublicKey, ends_at: Option<Timestamp>) -> Value {
    json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": URL_SAFE_NO_PAD.encode(key.bytes()),
        "use": "sig",
        "public_key": key.to_string(),
        "expires_at": ends_at.map(Timestamp::rfc3339_ms),
    })
}

fn answer(status: StatusCode, caching: &'static str, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, caching)];
    (status, headers, body.to_string()).into_response()
}
