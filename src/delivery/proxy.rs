//! A proxy by which every connection to a receiver goes: a tunnel by the method
//! CONNECT (RFC 9110 §9.3.6), for http and https alike.
//!
//! TLS is spoken with the receiver through the tunnel, so the proxy sees where to a
//! delivery goes and how long it is, and of a plain http one all the rest.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::{Host, Url};

/// The longest head of the proxy's answer, in bytes.
const ANSWER_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Who turns the names of receivers into addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolves {
    /// This server: the guard judges each address, and the proxy is asked for one that passed.
    #[default]
    Here,
    /// The proxy, which is asked for the name. The guard can judge literal addresses alone.
    Proxy,
}

impl Resolves {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Here, Self::Proxy];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Proxy => "proxy",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resolves| resolves.name() == name)
    }
}

/// The proxy, as its operator names it.
#[derive(Clone)]
pub struct EgressProxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who turns names into addresses.
    pub resolves: Resolves,
    authorization: Option<HeaderValue>,
}

/// Why the proxy has opened no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// It has said no.
    #[error("the egress proxy refused to connect to {target}: it answered {status}{}", hint(*.status))]
    Refused {
        /// What it was asked for.
        target: String,
        /// What it said.
        status: StatusCode,
    },
    /// What it said is no answer to CONNECT.
    #[error("the egress proxy gave no answer that can be read: {0}")]
    Unreadable(#[source] hyper::Error),
    /// It has sent something through the tunnel before anybody asked for it.
    #[error("the egress proxy sent something before the receiver could")]
    Premature,
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "; it wants other credentials (egress_proxy)",
        _ => "",
    }
}

impl TunnelError {
    /// True if the proxy could not reach the address, and may reach another.
    pub fn is_about_the_address(&self) -> bool {
        let gateway = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        matches!(self, Self::Refused { status, .. } if gateway.contains(status))
    }
}

impl EgressProxy {
    /// Reads `http://USER:PASSWORD@HOST:PORT`, the credentials left out if there are none. The error
    /// does not repeat it.
    pub fn try_new(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is no URL")?;
        if url.scheme() != "http" {
            return Err("is not http; the way to the proxy itself is plain, and what goes through it need not be");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("has something behind the port");
        }
        // The parser leaves out a port that is the scheme's own.
        let port = url.port_or_known_default().ok_or("has no port")?;
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err("has no host"),
        };
        let decoded = |part: &str| percent_encoding::percent_decode_str(part).collect::<Vec<u8>>();
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let pair = [decoded(url.username()), b":".to_vec(), decoded(url.password().unwrap_or_default())].concat();
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
                .expect("base64 may stand in a header");
            value.set_sensitive(true);
            value
        });
        Ok(Self { host, port, resolves: Resolves::default(), authorization })
    }

    /// The same, where names are looked up so.
    pub fn resolving(self, resolves: Resolves) -> Self {
        Self { resolves, ..self }
    }

    /// Asks for a tunnel to `HOST:PORT` on a connection to the proxy, and returns it as the tunnel.
    pub async fn tunnel(&self, stream: TcpStream, target: String) -> Result<TcpStream, TunnelError> {
        let mut builder = Builder::new();
        builder.max_buf_size(ANSWER_HEAD_BYTES_MAX);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(TunnelError::Unreadable)?;
        // It is driven by whoever waits for something of it, who is told what comes of it, too.
        let mut connection = pin!(connection.with_upgrades().fuse());
        let mut sending = pin!(sender.send_request(self.request(&target)));
        let answer = poll_fn(|context| {
            _ = connection.as_mut().poll(context);
            sending.as_mut().poll(context)
        });
        let answer = answer.await.map_err(TunnelError::Unreadable)?;
        if !answer.status().is_success() {
            return Err(TunnelError::Refused { target, status: answer.status() });
        }
        let mut upgrade = pin!(hyper::upgrade::on(answer));
        let tunnel = poll_fn(|context| {
            _ = connection.as_mut().poll(context);
            upgrade.as_mut().poll(context)
        });
        let tunnel = tunnel.await.map_err(TunnelError::Unreadable)?;
        let parts = tunnel.downcast::<TokioIo<TcpStream>>().expect("it is what the connection was made of");
        // Whoever is asked speaks second, in HTTP and in TLS.
        if parts.read_buf.is_empty() { Ok(parts.io.into_inner()) } else { Err(TunnelError::Premature) }
    }

    fn request(&self, target: &str) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = target.parse().expect("a host and a port are an authority");
        let headers = request.headers_mut();
        headers.insert(HOST, target.parse().expect("an authority may stand in a header"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tallyhook/", env!("CARGO_PKG_VERSION"))));
        headers.extend(self.authorization.clone().map(|authorization| (PROXY_AUTHORIZATION, authorization)));
        request
    }
}

/// Shows no credentials.
impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, resolves, authorization: _ } = self;
        f.debug_struct("EgressProxy")
            .field("host", host)
            .field("port", port)
            .field("resolves", resolves)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_and_shows_no_credentials() {
        let read = |text: &str| EgressProxy::try_new(text);
        let proxy = read("http://user:p%40ss@proxy.test:3128").unwrap();
        assert_eq!((&*proxy.host, proxy.port), ("proxy.test", 3128));
        assert_eq!(proxy.authorization.as_ref().unwrap(), &format!("Basic {}", STANDARD.encode("user:p@ss")));
        assert!(!format!("{proxy:?}").contains("Basic") && !format!("{proxy:?}").contains("p@ss"));
        assert_eq!(read("http://[::1]:3128/").unwrap().host, "::1");
        assert!(read("http://10.0.0.1:80").is_ok_and(|proxy| proxy.port == 80 && proxy.authorization.is_none()));
        for wrong in ["", "proxy.test:3128", "https://proxy.test:3128", "socks5://a:1", "http://a:1/b", "http://a:1?b"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
