//! Why and until when nothing is sent to a receiver.

use super::time::Timestamp;

/// Why nothing is sent to a receiver for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// It asked for that, by Retry-After.
    RetryAfter,
    /// It has failed so often in a row that the breaker is open.
    Failures,
}

impl PauseReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RetryAfter, Self::Failures];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::RetryAfter => "retry_after",
            Self::Failures => "failures",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// What its receiver has brought upon a webhook: nothing is sent until then,
/// but tests, what is asked to be sent now, and, if the breaker is open, the
/// retries of an ordered webhook. One that is over says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When the next request goes out.
    pub until: Timestamp,
    /// Why not before.
    pub reason: PauseReason,
}
