//! What a request is called, on its way in, in the log, and on its way out; and of which trace it is.

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::domain::request_id::RequestId;
use crate::domain::trace::TraceParent;

/// Where it stands in a request, and in the answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where a trace stands in a request.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// As the request says, if that can be taken, and a new one otherwise.
pub fn of(headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID).and_then(|value| RequestId::try_new(value.as_bytes()));
    given.unwrap_or_else(RequestId::generate)
}

/// Of which trace the request is a part. `None` if it says nothing that is valid, or says it twice.
pub fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let first = given.next()?;
    given.next().is_none().then(|| TraceParent::try_new(first.as_bytes())).flatten()
}

/// Has the answer say it.
pub fn note(headers: &mut HeaderMap, request_id: RequestId) {
    let value = HeaderValue::from_str(request_id.as_str()).expect("it has no character that a header may not have");
    headers.insert(REQUEST_ID, value);
}

/// What all lines of the log have that are about the request.
pub fn span(request_id: RequestId) -> Span {
    tracing::error_span!("request", %request_id)
}
