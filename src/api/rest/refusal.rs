//! Why a request is refused, before a dialect says it.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::api::body::BodyError;
use crate::domain::fault::{Fault, FaultCode};

/// Why a request is refused. The dialect decides how that is said.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What it would be without a dialect.
    pub status: StatusCode,
    /// For people.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// In which encodings a body is read, if this one was in another.
    pub accept_encoding: Option<HeaderValue>,
    /// What it is about: the first thing that the path names.
    pub object: Option<String>,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, accept_encoding: None, object: None }
    }

    /// The data is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Nobody knows who calls.
    pub fn unauthenticated(fault: Fault) -> Self {
        if fault.code == FaultCode::SessionExpired {
            // Nothing was shown; there is no session that could have expired.
            return Self::new(StatusCode::UNAUTHORIZED, "Access denied. The request has no credentials.");
        }
        let refusal = Self::from(fault);
        match refusal.status {
            StatusCode::FORBIDDEN => Self { status: StatusCode::UNAUTHORIZED, ..refusal },
            _ => refusal,
        }
    }
}

/// The one place that says which status a fault is.
impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let is_temporary = fault.retry_after.is_some();
        let status = match fault.code {
            FaultCode::AccessDenied if is_temporary => StatusCode::TOO_MANY_REQUESTS,
            FaultCode::AccessDenied => StatusCode::FORBIDDEN,
            FaultCode::SessionExpired => StatusCode::UNAUTHORIZED,
            FaultCode::UserDisabled => StatusCode::GONE,
            FaultCode::TooManyCalls | FaultCode::CallQuota | FaultCode::EventQuota | FaultCode::PendingQuota => {
                StatusCode::TOO_MANY_REQUESTS
            }
            FaultCode::MerchantPaused => StatusCode::SERVICE_UNAVAILABLE,
            FaultCode::NoWebhook
            | FaultCode::NoDelivery
            | FaultCode::NoEvent
            | FaultCode::NoAttempt
            | FaultCode::NoTopic
            | FaultCode::NoUser
            | FaultCode::NoJob
            | FaultCode::NoToken
            | FaultCode::NoMerchant
            | FaultCode::InvalidPath => StatusCode::NOT_FOUND,
            FaultCode::InvalidWebhook
            | FaultCode::InvalidEvent
            | FaultCode::InvalidSelection
            | FaultCode::InvalidTopic
            | FaultCode::MissingParameter
            | FaultCode::NotCallable
            | FaultCode::WebhookQuota
            | FaultCode::IdempotencyConflict => StatusCode::BAD_REQUEST,
            FaultCode::StatusNotChanged
            | FaultCode::DeleteRefused
            | FaultCode::CreateRefused
            | FaultCode::EventRefused
            | FaultCode::WebhookNotChanged
            | FaultCode::DeliveryNotChanged
            | FaultCode::TopicNotChanged
            | FaultCode::UserNotChanged
            | FaultCode::MerchantNotChanged
            | FaultCode::TokenNotChanged => match is_temporary {
                true => StatusCode::SERVICE_UNAVAILABLE,
                false => StatusCode::BAD_REQUEST,
            },
            FaultCode::CreateFailed | FaultCode::DeleteFailed | FaultCode::Internal | FaultCode::Unknown => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self { retry_after: fault.retry_after, ..Self::new(status, fault.whole()) }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let (retry_after, accept_encoding) = (error.retry_after(), error.accept_encoding());
        Self { retry_after, accept_encoding, ..Self::new(error.status(), error.problem()) }
    }
}
