//! Reading a request's body within its bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::intake::{FULL_RETRY_AFTER, Intake, STEP};
use crate::metrics::Limit;
use crate::work::budget::Reservation;

/// The encoding that is none, and the only one that is read.
const IDENTITY: &str = "identity";

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is compressed, or encoded otherwise.
    Encoded,
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
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokeOff => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The words that say so.
    pub fn problem(self) -> String {
        match self {
            Self::Encoded => "The body has a Content-Encoding; send it as it is, without that header.".to_owned(),
            Self::TooLong(max) => format!("The body is longer than {max} bytes, the most that is accepted."),
            Self::BrokeOff => "The body broke off.".to_owned(),
            Self::TooSlow => "The body took too long to arrive.".to_owned(),
            Self::NoRoom => "There is no room for more of what you send. Retry in a second.".to_owned(),
        }
    }

    /// What an answer's Accept-Encoding says, by which clients tell that from
    /// another media type (RFC 9110, 15.5.16).
    pub fn accept_encoding(self) -> Option<HeaderValue> {
        (self == Self::Encoded).then(|| HeaderValue::from_static(IDENTITY))
    }

    /// The limit that it is for, if it is for one.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Self::TooLong(_) => Some(Limit::BodyBytes),
            Self::NoRoom => Some(Limit::ReceivedBytes),
            Self::Encoded | Self::TooSlow | Self::BrokeOff => None,
        }
    }

    /// When trying again makes sense.
    pub fn retry_after(self) -> Option<Duration> {
        (self == Self::NoRoom).then_some(FULL_RETRY_AFTER)
    }
}

/// Reads up to `bytes_max` bytes, for up to `timeout`, of a request with this
/// head. A long body is counted until what comes with it is dropped.
pub async fn read(
    body: Body,
    head: &Parts,
    bytes_max: usize,
    timeout: Duration,
) -> Result<(Bytes, Option<Reservation>), BodyError> {
    if is_encoded(&head.headers) && !body.is_end_stream() {
        return Err(BodyError::Encoded);
    }
    // Before anything is read of it, so that a client which asks first need not send it.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyError::TooLong(bytes_max));
    }
    // Each request of a connection has it.
    let intake = head.extensions.get::<Arc<Intake>>().ok_or(BodyError::BrokeOff)?;
    let reading = tokio::time::timeout(timeout, gathered(Limited::new(body, bytes_max)));
    let read = tokio::select! {
        biased;
        () = intake.overflows() => return Err(BodyError::NoRoom),
        read = reading => read,
    };
    match read {
        Ok(Ok(_)) if intake.is_full() => Err(BodyError::NoRoom),
        Ok(Ok(body)) => Ok((body, intake.take())),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => Err(BodyError::TooLong(bytes_max)),
        Ok(Err(_)) => Err(BodyError::BrokeOff),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// All of a body, in one piece. Pieces of it are not kept: each weighs more
/// than it says, and a sender decides how many there are.
async fn gathered(mut body: Limited<Body>) -> Result<Bytes, BoxError> {
    let mut next = async || match body.frame().await {
        Some(frame) => Ok::<_, BoxError>(Some(frame?.into_data().unwrap_or_default())),
        None => Ok(None),
    };
    let Some(first) = next().await? else { return Ok(Bytes::new()) };
    let Some(second) = next().await? else { return Ok(first) };
    let mut whole = [first, second].concat();
    while let Some(piece) = next().await? {
        if whole.capacity() - whole.len() < piece.len() {
            whole.reserve_exact(piece.len().next_multiple_of(STEP));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// True if the body is not what it says by itself. Nothing is unpacked: a few
/// bytes could become any number.
fn is_encoded(headers: &HeaderMap) -> bool {
    let is_none = |coding: &str| coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case(IDENTITY);
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    !values.all(|value| value.to_str().is_ok_and(|codings| codings.split(',').all(is_none)))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_is_one_piece_however_many_it_came_in() {
        for (pieces, length) in [(0, 0), (1, 5), (2, 40_000), (3, STEP), (20_000, 1)] {
            let piece = Bytes::from(vec![b'x'; length]);
            let frames = (0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
            let body = Limited::new(Body::from_stream(stream::iter(frames)), pieces * length);
            let whole = gathered(body).await.unwrap();
            assert_eq!(whole.len(), pieces * length);
            assert!(whole.iter().all(|byte| *byte == b'x'));
            if pieces > 1 {
                let weight = Vec::from(whole).capacity();
                assert!(weight <= pieces * length + STEP, "{pieces} of {length}: {weight}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_told_apart_from_one_that_broke_off() {
        let piece = || Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"));
        let long = Body::from_stream(stream::iter([piece(), piece(), piece()]));
        let cause = gathered(Limited::new(long, 25)).await.unwrap_err();
        assert!(cause.is::<LengthLimitError>(), "{cause}");
        let broken = Body::from_stream(stream::iter([piece(), Err(std::io::Error::other("gone"))]));
        let cause = gathered(Limited::new(broken, 25)).await.unwrap_err();
        assert!(!cause.is::<LengthLimitError>(), "{cause}");
    }
}
