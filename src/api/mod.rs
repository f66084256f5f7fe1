//! One listener, one port.

use std::time::Duration;

/// What the operator decides about the listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest request body, in bytes.
    pub body_bytes_max: usize,
    /// The most calls in one JSON-RPC batch.
    pub batch_calls_max: usize,
    /// The most connections at once.
    pub connections_max: usize,
    /// How long a client may take to send a request's headers.
    pub header_timeout: Duration,
    /// How long calls in progress may take to end when the server stops.
    pub grace: Duration,
}
