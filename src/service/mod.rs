//! Use cases.

use std::time::Duration;

/// What the operator decides about use cases.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a session lives after its last use.
    pub session_ttl: Duration,
    /// Failed logins of one user from one address in a minute, before more are refused.
    pub login_failures_max: u32,
    /// The most webhooks a merchant may have.
    pub webhooks_max: u32,
    /// The most events one publish_many may carry.
    pub events_max: usize,
    /// The most deliveries one list may return.
    pub list_limit_max: u32,
    /// The most calls one multiCall may carry.
    pub calls_max: usize,
    /// Whether the demo user may log in.
    pub dev: bool,
}
