//! How often publishing was refused, and why.

use crate::domain::fault::FaultCode;
use crate::metrics::{Counter, Metrics};

/// The faults that publishing has of its own.
const FAULTS: [FaultCode; 9] = [
    FaultCode::Internal,
    FaultCode::AccessDenied,
    FaultCode::InvalidEvent,
    FaultCode::IdempotencyConflict,
    FaultCode::EventRefused,
    FaultCode::TooManyCalls,
    FaultCode::MerchantPaused,
    FaultCode::EventQuota,
    FaultCode::PendingQuota,
];

/// A counter for each fault that publishing may end with.
pub struct RefusedPublishes {
    faults: [Counter; FAULTS.len()],
    other: Counter,
}

impl RefusedPublishes {
    /// Those of a server.
    pub fn new(metrics: &Metrics) -> Self {
        let child = |name| metrics.publishes_refused.child(&[name]);
        Self { faults: FAULTS.map(|code| child(code.entry().name)), other: child("other") }
    }

    /// Counts a call that was refused.
    pub fn count(&self, code: FaultCode) {
        let place = FAULTS.iter().position(|known| *known == code);
        place.map_or(&self.other, |place| &self.faults[place]).inc();
    }
}
