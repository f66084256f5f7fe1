//! Reading a request's body within its bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Extensions, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::intake::{FULL_RETRY_AFTER, Intake};
use crate::work::budget::Held;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than that many bytes.
    TooLong(usize),
    /// It broke off.
    BrokeOff,
    /// It took too long to arrive.
    TooSlow,
    /// As much of what callers send is in memory as may be.
    NoRoom,
}

impl BodyError {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokeOff => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The words that say so.
    pub fn problem(self) -> String {
        match self {
            Self::TooLong(max) => format!("The body is longer than {max} bytes, the most that is accepted."),
            Self::BrokeOff => "The body broke off.".to_owned(),
            Self::TooSlow => "The body took too long to arrive.".to_owned(),
            Self::NoRoom => "There is no room for more of what you send. Retry in a second.".to_owned(),
        }
    }

    /// When trying again makes sense.
    pub fn retry_after(self) -> Option<Duration> {
        (self == Self::NoRoom).then_some(FULL_RETRY_AFTER)
    }
}

/// Reads up to `bytes_max` bytes, for up to `timeout`, of a request with these
/// extensions. A long body is counted until what comes with it is dropped.
pub async fn read(
    body: Body,
    extensions: &Extensions,
    bytes_max: usize,
    timeout: Duration,
) -> Result<(Bytes, Option<Held>), BodyError> {
    // Each request of a connection has it.
    let intake = extensions.get::<Arc<Intake>>().ok_or(BodyError::BrokeOff)?;
    let reading = tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect());
    let read = tokio::select! {
        biased;
        () = intake.overflows() => return Err(BodyError::NoRoom),
        read = reading => read,
    };
    match read {
        Ok(Ok(_)) if intake.is_full() => Err(BodyError::NoRoom),
        Ok(Ok(body)) => Ok((body.to_bytes(), intake.take())),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => Err(BodyError::TooLong(bytes_max)),
        Ok(Err(_)) => Err(BodyError::BrokeOff),
        Err(_) => Err(BodyError::TooSlow),
    }
}
