//! Reading a request's body within its bounds.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than that many bytes.
    TooLong(usize),
    /// It broke off.
    BrokeOff,
    /// It took too long to arrive.
    TooSlow,
}

impl BodyError {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokeOff => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The words that say so.
    pub fn problem(self) -> String {
        match self {
            Self::TooLong(max) => format!("The body is longer than {max} bytes, the most that is accepted."),
            Self::BrokeOff => "The body broke off.".to_owned(),
            Self::TooSlow => "The body took too long to arrive.".to_owned(),
        }
    }
}

/// Reads up to `bytes_max` bytes, for up to `timeout`.
pub async fn read(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => Err(BodyError::TooLong(bytes_max)),
        Ok(Err(_)) => Err(BodyError::BrokeOff),
        Err(_) => Err(BodyError::TooSlow),
    }
}
