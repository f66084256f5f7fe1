//! Who may be meant by a request, and which pages may send one.
//!
//! A browser can be led to a server that only its user reaches: by a name that
//! its owner has point to the loopback address. The request then says that
//! name, which is how it is told from one that was meant for the server.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Version, header};
use http_body::Body as _;
use url::Url;

/// The hosts that a server in dev mode answers for: those of the machine
/// itself, and the one of its public URL.
#[derive(Clone, Debug)]
struct Own(Option<String>);

/// The same routes, behind the checks. A request names one host (RFC 9112,
/// 3.2): of two, a gateway and this server could each take another one. `dev` if only the own hosts are served,
/// as a server must whose key everybody knows.
pub fn guarded(router: Router, dev: bool, public_url: Option<&Url>) -> Router {
    let own = Own(public_url.and_then(Url::host_str).map(str::to_ascii_lowercase));
    router.layer(from_fn(move |request: Request, next: Next| {
        let refusal = if !names_one_host(&request) {
            Some((StatusCode::BAD_REQUEST, "A request must have one header Host, with a name or an address and no more than a port."))
        } else if dev && !own.serves(&request) {
            Some((
                StatusCode::MISDIRECTED_REQUEST,
                "With dev, only localhost, loopback addresses and the host of public_url are served, as Host and as Origin.",
            ))
        } else if has_untyped_body(&request) && request.headers().contains_key(header::ORIGIN) {
            // A page of any site may send that without asking the server first.
            Some((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "A page that sends a body must say what it is, by the header Content-Type.",
            ))
        } else {
            None
        };
        async move {
            match refusal {
                Some(refusal) => refusal.into_response(),
                None => next.run(request).await,
            }
        }
    }))
}

/// True also of none, in a version of HTTP that had no such header.
fn names_one_host(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, None) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(is_host),
        _ => false,
    }
}

/// An empty one stands for no host, and is what the standard asks for then.
fn is_host(text: &str) -> bool {
    text.is_empty() || (!text.contains('@') && text.parse::<Authority>().is_ok())
}

fn has_untyped_body(request: &Request) -> bool {
    !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_TYPE)
}

impl Own {
    fn serves(&self, request: &http::Request<Body>) -> bool {
        let target = request.uri().authority().map(|authority| self.has(authority.host()));
        target.unwrap_or(true) && self.are_named(request.headers())
    }

    /// True unless one of the headers names another host.
    fn are_named(&self, headers: &HeaderMap) -> bool {
        let is_own = |text: &str| text.parse().is_ok_and(|authority: Authority| self.has(authority.host()));
        let mut hosts = headers.get_all(header::HOST).iter();
        let origins = headers.get_all(header::ORIGIN).iter();
        hosts.all(|host| host.to_str().is_ok_and(is_own))
            && origins
                .map(|origin| origin.to_str().ok().and_then(|origin| origin.split_once("://")))
                .all(|origin| origin.is_some_and(|(_, authority)| is_own(authority)))
    }

    fn has(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        let name = host.strip_suffix('.').unwrap_or(&host);
        literal.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.as_deref() == Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_by_their_names() {
        let own = Own(Some("hooks.example.com".to_owned()));
        let names = |name: &'static str, text: &str| {
            own.are_named(&HeaderMap::from_iter([(http::HeaderName::from_static(name), text.parse().unwrap())]))
        };
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost.:1",
            "a.localhost",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "hooks.example.com",
            "Hooks.Example.com:443",
        ] {
            assert!(names("host", host) && names("origin", &format!("http://{host}")), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "localhost@evil.example",
            "0.0.0.0",
            "192.0.2.1",
            "[::2]",
            "example.com",
            "",
        ] {
            assert!(!names("host", host) && !names("origin", &format!("https://{host}")), "{host}");
        }
        assert!(!names("origin", "null") && !names("origin", "localhost"));
    }
}
