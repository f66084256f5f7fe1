//! A request to a receiver, before it is made.

use bytes::Bytes;
use http::HeaderMap;

use crate::domain::id::StoreId;
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceParent;
use crate::domain::webhook::Webhook;
use crate::render::log::{LOG_HEADERS_CHARS_MAX, log_headers};
use crate::render::spelling::Spelling;
use crate::render::{self, TooLarge};
use crate::store::Parcel;

/// A request that is ready to be made.
pub struct Prepared {
    /// Its headers.
    pub headers: HeaderMap,
    /// How they are spelt.
    pub spelling: Spelling,
    /// Its body.
    pub body: Bytes,
    /// The headers for the log.
    pub logged: String,
}

impl Prepared {
    /// Builds body and headers; `place` is that of the attempt in its trace, if the attempt has one of
    /// its own. Fails if the body would be longer than it may be.
    pub fn new(
        store_id: &StoreId,
        webhook: &Webhook,
        parcel: &Parcel,
        now: Timestamp,
        place: Option<TraceParent>,
        bytes_max: usize,
    ) -> Result<Self, TooLarge> {
        let body = render::body(webhook.webhook_id, parcel, bytes_max)?;
        let mut headers = render::headers(store_id, webhook, parcel, now, &body);
        if let Some(place) = place {
            render::trace(&mut headers, place);
        }
        let spelling = render::spelling(webhook, parcel);
        let logged = log_headers(&headers, &spelling, LOG_HEADERS_CHARS_MAX);
        Ok(Self { headers, spelling, body, logged })
    }
}
