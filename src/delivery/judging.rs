//! What an answer means for a delivery and its receiver.

use http::StatusCode;

use super::client::{self, PostResult};
use super::health::Feedback;
use crate::domain::delivery::{ErrorClass, Verdict};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::Parcel;

/// What becomes of a delivery after an attempt, and what that says of its
/// receiver.
pub fn judge(
    webhook: &Webhook,
    parcel: &Parcel,
    result: &PostResult,
    now: Timestamp,
    random: f64,
) -> (Verdict, Feedback) {
    let Some(error) = &result.error else {
        return (Verdict::Delivered, Feedback::Good(result.answered_in.unwrap_or(result.duration)));
    };
    if error.class == ErrorClass::BodyTooLarge {
        return (Verdict::Abandoned, Feedback::Nothing);
    }
    let status = result.status.and_then(|status| StatusCode::from_u16(status).ok());
    if status == Some(StatusCode::GONE) {
        return (Verdict::Gone, Feedback::Bad);
    }
    let asked = client::retry_after(&result.response_headers, now);
    let feedback = match status {
        Some(
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT,
        ) => Feedback::TooMuch(asked),
        _ if asked.is_some() => Feedback::TooMuch(asked),
        _ if matches!(error.class, ErrorClass::Timeout | ErrorClass::Connect) => Feedback::Lost,
        _ => Feedback::Bad,
    };
    // From 1, since the policy last began anew.
    let attempt = (parcel.attempts + 1).saturating_sub(parcel.policy_start);
    match webhook.spec.retry.next_attempt(attempt, now, asked, random) {
        Some(at) => (Verdict::Retry(at), feedback),
        None => (Verdict::Abandoned, feedback),
    }
}
