//! What a request is called, on its way in, in the log, and on its way out.

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::domain::request_id::RequestId;

/// Where it stands in a request, and in the answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// As the request says, if that can be taken, and a new one otherwise.
pub fn of(headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID).and_then(|value| RequestId::try_new(value.as_bytes()));
    given.unwrap_or_else(RequestId::generate)
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
