//! Where spans go: to a collector, by OTLP over HTTP, in the background.
//!
//! What the collector does not take is tried again for some seconds, and then dropped. It is the
//! operator's own: no guard of addresses stands before it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::InstrumentationScope;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use percent_encoding::percent_decode_str;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};
use url::Url;

use super::tracer::{Open, Tracer, attribute};
use crate::metrics::{Counter, Metrics};
use crate::trust::{self, Trusted};

/// Where a collector takes spans, below its address.
const PATH: &str = "v1/traces";
/// Spans that wait to be exported.
const WAITING_MAX: usize = 8_192;
/// Spans in a request.
const BATCH_MAX: usize = 512;
/// How long spans gather for a request.
const GATHER: Duration = Duration::from_secs(1);
/// How long a request may take, and all tries of one batch together.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer of a collector that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// How often the log is told of a collector that goes on failing.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Which spans go where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The collector; `None`: no spans are made.
    pub endpoint: Option<Url>,
    /// Which part of the traces is recorded that nobody else has begun, from 0 to 1.
    pub sample_ratio: f64,
    /// Whose certificates count besides those of the system's authorities.
    pub trusted: Trusted,
}

/// Why spans can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The exporter can't be made.
    #[error("otlp_endpoint can't be exported to: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// No secure connections.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What exports in the background.
pub struct Exporting {
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

/// Starts to export, as a node of that name; a tracer that is off, and nothing that runs, if no
/// collector is named. Must be called within a Tokio runtime.
pub fn start(config: &Config, node_name: &str, metrics: &Metrics) -> Result<(Tracer, Option<Exporting>), StartError> {
    let Some(endpoint) = &config.endpoint else { return Ok((Tracer::off(), None)) };
    let counters = |outcome| metrics.spans.child(&[outcome]);
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new(endpoint, &config.trusted)?)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_endpoint(at(endpoint))
        .with_headers(credentials(endpoint))
        .build()?;
    exporter.set_resource(
        &Resource::builder_empty()
            .with_service_name("tallyhook")
            .with_attributes([
                attribute("service.version", env!("CARGO_PKG_VERSION")),
                attribute("service.instance.id", node_name.to_owned()),
            ])
            .build(),
    );
    let (spans, waiting) = mpsc::channel(WAITING_MAX);
    let (stop, stopped) = oneshot::channel();
    let (exported, failed) = (counters("exported"), counters("failed"));
    let mut run = Run { exporter, waiting, exported, failed, failing: None, endpoint: shown(endpoint) };
    let task = tokio::spawn(async move { run.run(stopped).await });
    let open = Open {
        spans,
        sampled_below: (config.sample_ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64,
        dropped: counters("dropped"),
        scope: InstrumentationScope::builder("tallyhook").with_version(env!("CARGO_PKG_VERSION")).build(),
    };
    Ok((Tracer(Some(Arc::new(open))), Some(Exporting { stop, task })))
}

/// Whom the collector's address names, as the header that says so.
fn credentials(endpoint: &Url) -> HashMap<String, String> {
    if endpoint.username().is_empty() && endpoint.password().is_none() {
        return HashMap::new();
    }
    let decoded = |part: &str| percent_decode_str(part).collect::<Vec<u8>>();
    let pair = [decoded(endpoint.username()), decoded(endpoint.password().unwrap_or_default())].join(&b':');
    HashMap::from([("authorization".to_owned(), format!("Basic {}", STANDARD.encode(pair)))])
}

/// Where spans are posted to.
fn at(endpoint: &Url) -> String {
    let mut url = endpoint.clone();
    // They fail for a URL that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        url.set_path(&format!("{path}/{PATH}"));
    }
    url.into()
}

/// A collector without what may be a credential.
fn shown(endpoint: &Url) -> String {
    endpoint.origin().ascii_serialization()
}

impl Exporting {
    /// Exports what waits, until the deadline.
    pub async fn stop(self, deadline: Instant) {
        // If the task is gone, there is nobody to tell.
        let _ = self.stop.send(deadline);
        if tokio::time::timeout_at(deadline.into(), self.task).await.is_err() {
            warn!("stopped before all spans were exported");
        }
    }
}

/// The exporting task's own.
struct Run {
    exporter: SpanExporter,
    waiting: mpsc::Receiver<SpanData>,
    exported: Counter,
    failed: Counter,
    /// Since the collector took something last, when the log was told, and what was lost since then.
    failing: Option<(Instant, u64)>,
    endpoint: String,
}

impl Run {
    async fn run(&mut self, mut stopped: oneshot::Receiver<Instant>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let is_open = tokio::select! {
                biased;
                _ = &mut stopped => break,
                received = self.waiting.recv_many(&mut batch, BATCH_MAX) => received > 0,
            };
            if !is_open {
                return;
            }
            let full_by = tokio::time::Instant::now() + GATHER;
            while batch.len() < BATCH_MAX {
                let left = BATCH_MAX - batch.len();
                tokio::select! {
                    biased;
                    _ = &mut stopped => return self.drain(batch).await,
                    received = tokio::time::timeout_at(full_by, self.waiting.recv_many(&mut batch, left)) => {
                        if received.is_err() {
                            break;
                        }
                    }
                }
            }
            // A stop waits for this one, whose tries are bounded.
            self.export(std::mem::take(&mut batch)).await;
        }
        self.drain(batch).await;
    }

    /// Exports what is left.
    async fn drain(&mut self, mut batch: Vec<SpanData>) {
        self.waiting.close();
        loop {
            while batch.len() < BATCH_MAX
                && let Ok(span) = self.waiting.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.exported.inc_by(count);
                if self.failing.take().is_some() {
                    info!(url = self.endpoint, "the collector takes spans again");
                }
            }
            Err(cause) => {
                self.failed.inc_by(count);
                let (told_at, lost) = self.failing.map_or((None, 0), |(at, lost)| (Some(at), lost));
                let lost = lost + count;
                if told_at.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
                    self.failing = told_at.map(|at| (at, lost));
                    return;
                }
                warn!(%cause, url = self.endpoint, spans = lost, "the collector takes no spans; they are lost");
                self.failing = Some((Instant::now(), 0));
            }
        }
    }
}

/// The client that spans are posted with.
struct Collector(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Collector {
    fn new(endpoint: &Url, trusted: &Trusted) -> Result<Self, rustls::Error> {
        let builder = HttpsConnectorBuilder::new();
        // The system's list of authorities is read for https alone.
        let connector = match endpoint.scheme() {
            "https" => builder.with_tls_config(trust::client_config(trusted)?),
            _ => builder.with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?,
        };
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = async {
            let (head, body) = self.0.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(TIMEOUT, exchange).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_posted_to_where_it_takes_spans() {
        for (endpoint, expected) in [
            ("http://ann:key@localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://example.com/otlp/", "https://example.com/otlp/v1/traces"),
            ("http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces"),
        ] {
            assert_eq!(at(&Url::parse(endpoint).unwrap()), expected);
        }
    }
}
