//! A small HTTP client, and a JSON-RPC client on top of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use url::{Host, Url};

use super::json::safe;
use crate::trust::{self, Trusted};

/// How long one exchange may take; longer than any method waits.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An http or https URL to post to.
#[derive(Clone, Debug)]
pub struct Target {
    url: Url,
    uri: Uri,
}

impl Target {
    /// Reads an absolute URL; the error says what would be right.
    pub fn try_new(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is no URL to post to; write one such as http://127.0.0.1:8080");
        let url = Url::parse(text).map_err(|_| problem())?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(problem());
        }
        let uri = url.as_str().parse().map_err(|_| problem())?;
        Ok(Self { url, uri })
    }

    /// True if it can only be this machine.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            None => false,
        }
    }

    /// `host:port`, if it is plain http.
    pub fn plain_address(&self) -> Option<String> {
        let (host, port) = (self.url.host_str()?, self.url.port_or_known_default()?);
        (self.url.scheme() == "http").then(|| format!("{host}:{port}"))
    }

    /// A path below it.
    pub fn at(&self, path: &str) -> Result<Self, String> {
        Self::try_new(&format!("{}/{path}", self.as_str().trim_end_matches('/')))
    }

    /// As a person reads it.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

/// Posts to one target.
#[derive(Clone, Debug)]
pub struct Http {
    client: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Target,
}

/// How a client speaks TLS.
#[derive(Debug, Default)]
pub struct TlsOptions {
    /// Whose certificates count besides those of the system's authorities.
    pub trusted: Trusted,
    /// What is presented to a server that asks for it.
    pub identity: Option<Arc<CertifiedKey>>,
}

impl Http {
    /// A client for that target; nothing is connected yet. Fails if the
    /// target is https and the machine's TLS set-up can't be used.
    pub fn new(target: Target, tls: TlsOptions) -> Result<Self, String> {
        let cannot = |cause: rustls::Error| format!("TLS can't be set up: {cause}");
        let builder = HttpsConnectorBuilder::new();
        // The machine's own list of authorities knows those of its company;
        // reading it takes a while, so it is left alone for plain http.
        let connector = match target.url.scheme() {
            "https" => {
                let mut config = trust::client_config(&tls.trusted).map_err(cannot)?;
                if let Some(identity) = tls.identity {
                    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
                }
                builder.with_tls_config(config)
            }
            _ => builder.with_provider_and_webpki_roots(ring::default_provider()).map_err(cannot)?,
        };
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self { client: HyperClient::builder(TokioExecutor::new()).build(connector), target })
    }

    /// Posts, and reads the whole answer. The error says what went wrong, in
    /// words that follow "POST to …: ".
    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        self.exchange(Method::POST, headers, body).await
    }

    /// Gets what is there. The error is as that of [`Self::post`].
    pub async fn get(&self) -> Result<(StatusCode, Bytes), String> {
        self.exchange(Method::GET, HeaderMap::new(), Bytes::new()).await
    }

    async fn exchange(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.target.uri.clone())
            .body(Full::new(body))
            .map_err(|cause| format!("no request can be made of it: {cause}"))?;
        *request.headers_mut() = headers;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|cause| root_cause(&cause))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|cause| format!("the answer broke off: {}", root_cause(&*cause)))?;
            Ok((status, body.to_bytes()))
        };
        let timed_out = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()));
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(timed_out)
    }

    /// Makes a GET that asks for another protocol; the answer's head. The error
    /// is as that of [`Self::post`].
    pub async fn upgrade(&self, headers: HeaderMap) -> Result<Response<Incoming>, String> {
        let mut request = Request::get(self.target.uri.clone())
            .body(Full::default())
            .map_err(|cause| format!("no request can be made of it: {cause}"))?;
        *request.headers_mut() = headers;
        let timed_out = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()));
        let answer = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        answer.map(|answer| answer.map_err(|cause| root_cause(&cause))).unwrap_or_else(timed_out)
    }

    /// Where it posts to.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// The innermost cause says what happened ("Connection refused"); the outer
/// ones only where.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The server said so.
    #[error("fault {code}: {message}")]
    Fault {
        /// Its number.
        code: i64,
        /// What it means.
        message: String,
    },
    /// The server could not be asked.
    #[error("{url}: {problem}. Is the server running? `tallyhook serve --dev` starts one; --url names another.")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Something else answered.
    #[error("{url}: the answer (HTTP {status}) is no JSON-RPC; is this the URL of a tallyhook server?")]
    Foreign {
        /// Where it was asked.
        url: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// What was to be sent, or what came, has another shape than expected.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
}

/// Calls the methods of one server.
#[derive(Clone, Debug)]
pub struct RpcClient {
    http: Http,
}

#[derive(Serialize)]
struct RpcRequest<'a, P> {
    jsonrpc: &'static str,
    id: u32,
    method: &'a str,
    params: P,
}

/// An error object.
#[derive(Deserialize)]
pub struct RpcFault {
    code: i64,
    message: String,
    // Whatever else a server says there is not for people.
    #[serde(default, deserialize_with = "lenient")]
    data: Told,
}

/// What an error object says for people besides its message.
#[derive(Default, Deserialize)]
struct Told {
    problem: Option<String>,
    nearest: Option<String>,
}

fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Told, D::Error> {
    let data = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(data).unwrap_or_default())
}

impl RpcFault {
    /// All it says, on one line.
    fn told(&self) -> String {
        let mut told = self.message.clone();
        let Told { problem, nearest } = &self.data;
        if let Some(problem) = problem {
            told += &format!(" {problem}");
        }
        if let Some(nearest) = nearest.as_ref().filter(|nearest| !told.contains(nearest.as_str())) {
            told += &format!(" Did you mean {nearest}?");
        }
        safe(&told)
    }
}

impl From<RpcFault> for RpcError {
    fn from(fault: RpcFault) -> Self {
        Self::Fault { code: fault.code, message: fault.told() }
    }
}

impl RpcClient {
    /// A client of the server at that URL.
    pub fn new(http: Http) -> Self {
        Self { http }
    }

    /// Calls a registered method; `params` is an array. The result comes as
    /// the server wrote it.
    pub async fn request(&self, method: &str, params: impl Serialize) -> Result<Box<RawValue>, RpcError> {
        let body = serde_json::to_vec(&RpcRequest { jsonrpc: "2.0", id: 1, method, params })?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let url = || self.http.target().as_str().to_owned();
        let answer = self.http.post(headers, body.into()).await;
        let (status, answer) = answer.map_err(|problem| RpcError::Unreachable { url: url(), problem })?;
        let foreign = || RpcError::Foreign { url: url(), status };
        let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&answer).map_err(|_| foreign())?;
        if let Some(error) = members.get("error").filter(|error| error.get() != "null") {
            let fault: RpcFault = serde_json::from_str(error.get()).map_err(|_| foreign())?;
            return Err(fault.into());
        }
        members.remove("result").ok_or_else(foreign)
    }

    /// Logs in.
    pub async fn login(&self, user: &str, api_key: &str) -> Result<Session<'_>, RpcError> {
        let key = self.request("login", (user, api_key)).await?;
        Ok(Session { client: self, key: serde_json::from_str(key.get())? })
    }
}

/// A login at a server.
pub struct Session<'a> {
    client: &'a RpcClient,
    key: String,
}

impl Session<'_> {
    /// Its key, for calls that are made without this.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Calls a method of a resource, such as `webhook.list`, by way of `call`.
    pub async fn call(&self, path: &str, args: impl Serialize) -> Result<Box<RawValue>, RpcError> {
        self.client.request("call", (&self.key, path, args)).await
    }

    /// Calls a method that takes the session before its other parameters,
    /// such as `resources`.
    pub async fn request(&self, method: &str, args: &[Box<RawValue>]) -> Result<Box<RawValue>, RpcError> {
        let key = serde_json::value::to_raw_value(&self.key)?;
        let params: Vec<&RawValue> = std::iter::once(&*key).chain(args.iter().map(|arg| &**arg)).collect();
        self.client.request(method, params).await
    }

    /// Logs out. It would end by itself, so a failure doesn't matter.
    pub async fn end(self) {
        let _ = self.client.request("endSession", (&self.key,)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_plain_and_know_loopback() {
        let loopback = |text: &str| Target::try_new(text).unwrap().is_loopback();
        for local in [
            "http://127.0.0.1:8080",
            "http://localhost:1/rpc",
            "https://[::1]",
            "http://127.9.9.9",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(loopback(local), "{local}");
        }
        for remote in
            ["http://10.0.0.1", "https://example.com", "http://localhost.example.com", "http://127.0.0.1.example.com"]
        {
            assert!(!loopback(remote), "{remote}");
        }
        for bad in ["", "127.0.0.1:8080", "localhost:8080", "ftp://a", "http://", "http://demo:key@127.0.0.1"] {
            assert!(Target::try_new(bad).is_err(), "{bad}");
        }
    }
}
