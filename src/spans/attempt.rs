//! Spans of attempts at deliveries.

use std::borrow::Cow;
use std::net::SocketAddr;

use opentelemetry::trace::SpanKind;
use url::Url;

use super::tracer::{Parent, Span, Tracer, attribute, whole};
use crate::domain::delivery::ErrorClass;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::trace::TraceParent;

/// What came of an attempt.
pub struct Attempted<'a> {
    /// Whose delivery it was.
    pub webhook_id: WebhookId,
    /// Its number, a batch's first.
    pub increment_id: IncrementId,
    /// Which one it was of that delivery, from 1 on.
    pub attempt: u32,
    /// Where it went.
    pub url: Option<&'a Url>,
    /// What was connected to.
    pub address: Option<SocketAddr>,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong, if anything did.
    pub error: Option<ErrorClass>,
}

impl Tracer {
    /// Begins the span of an attempt for an event of that trace; `None` if the trace is not recorded,
    /// or there is none.
    pub fn attempting(&self, trace: Option<TraceParent>) -> Option<Span> {
        let parent = trace.filter(|trace| trace.is_sampled())?;
        let began = self.begin()?;
        Some(Span {
            place: parent.child(),
            parent: Some(Parent { place: parent, is_remote: false }),
            name: "POST".into(),
            kind: SpanKind::Client,
            began,
            attributes: Vec::new(),
        })
    }

    /// It has ended.
    pub fn attempted(&self, mut span: Span, attempted: &Attempted<'_>) {
        let Attempted { webhook_id, increment_id, attempt, url, address, status, error } = *attempted;
        span.attributes.extend([
            attribute("http.request.method", "POST"),
            attribute("tallyhook.webhook_id", webhook_id.0),
            attribute("tallyhook.increment_id", increment_id.0),
        ]);
        if let Some(url) = url {
            span.attributes.push(attribute("url.full", shown(url)));
            span.attributes.extend(url.host_str().map(|host| attribute("server.address", host.to_owned())));
            span.attributes.extend(url.port_or_known_default().map(|port| attribute("server.port", i64::from(port))));
        }
        if attempt > 1 {
            span.attributes.push(attribute("http.request.resend_count", whole(attempt - 1)));
        }
        if let Some(address) = address {
            span.attributes.push(attribute("network.peer.address", address.ip().to_string()));
            span.attributes.push(attribute("network.peer.port", i64::from(address.port())));
        }
        span.attributes.extend(status.map(|status| attribute("http.response.status_code", i64::from(status))));
        let error = error.map(|class| match (class, status) {
            (ErrorClass::Status, Some(status)) => Cow::Owned(status.to_string()),
            (class, _) => Cow::Borrowed(class.name()),
        });
        self.end(span, error);
    }
}

/// A URL without what may be a credential in it: whom it names, its query and its fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // They fail for a URL that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_no_credentials() {
        for (url, expected) in [
            ("https://ann:secret@example.com:8443/a?key=secret#part", "https://example.com:8443/a"),
            ("http://example.com", "http://example.com/"),
        ] {
            assert_eq!(shown(&Url::parse(url).unwrap()), expected);
        }
    }
}
