//! What whoever runs the server, and what watches it for him, asks by plain GET:
//! whether it is there, whether it can work, what it counts, which version it is.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::metrics::Metrics;
use crate::service::health::{Health, Problem};

/// What Prometheus and its like ask for if they can read it.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// The routes.
pub fn router(health: &Arc<Health>, metrics: &Arc<Metrics>) -> Router {
    let (health, metrics) = (Arc::clone(health), Arc::clone(metrics));
    let shown = Arc::clone(&health);
    Router::new()
        .route("/healthz", get(async || answer(StatusCode::OK, &json!({ "status": "ok" }))))
        .route("/readyz", get(async move || ready(&health.problems())))
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                shown.show();
                counted(&metrics, &headers)
            }),
        )
        .route("/version", get(async || answer(StatusCode::OK, &json!({ "version": env!("CARGO_PKG_VERSION") }))))
}

/// What is said of any other path, where nothing else is answered.
pub async fn refuse_path() -> Response {
    let paths = "There is nothing here; /healthz, /readyz, /metrics and /version are answered.\n";
    (StatusCode::NOT_FOUND, paths).into_response()
}

fn ready(problems: &[Problem]) -> Response {
    if problems.is_empty() {
        return answer(StatusCode::OK, &json!({ "status": "ready" }));
    }
    let problems: Vec<_> =
        problems.iter().map(|Problem { part, problem }| json!({ "part": part, "problem": problem })).collect();
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "problems": problems }))
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}

fn counted(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    let (media_type, text) = match accepted.any(|accepted| accepted.contains(OPEN_METRICS)) {
        true => ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.open_metrics()),
        false => ("text/plain; version=0.0.4; charset=utf-8", metrics.prometheus()),
    };
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")], text).into_response()
}
