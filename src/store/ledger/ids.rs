//! Ids that a store gives out.

use std::collections::VecDeque;

/// A number for each kind of id that the store gives out: the last one, or how
/// many are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// To events.
    pub event: i64,
    /// To webhooks.
    pub webhook: i64,
    /// To pieces of bulk work.
    pub job: i64,
    /// To events that are numbered in shares.
    pub fanout: i64,
}

/// Ids that an engine has drawn for a change, where several nodes give them out
/// at once and none knows which is the next.
#[derive(Debug, Default)]
pub struct Drawn {
    /// For events.
    pub events: VecDeque<i64>,
    /// For webhooks.
    pub webhooks: VecDeque<i64>,
    /// For pieces of bulk work.
    pub jobs: VecDeque<i64>,
    /// For events that are numbered in shares.
    pub fanouts: VecDeque<i64>,
}
