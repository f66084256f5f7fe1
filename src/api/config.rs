//! What the operator decides about the listener.

use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::linger::Bounds;
use super::tls::Tls;

/// What the operator decides about the listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients reach the server; `None`: where it listens.
    pub public_url: Option<Url>,
    /// With what connections are encrypted; `None`: they are not.
    pub tls: Option<Tls>,
    /// How long a connection may take for what comes before its first request.
    pub handshake_timeout: Duration,
    /// The longest request body, in bytes.
    pub body_bytes_max: usize,
    /// The most bytes of requests and messages that arrive or are under way. An
    /// account may have as many as are left free.
    pub received_bytes_max: usize,
    /// The most calls in one JSON-RPC batch.
    pub batch_calls_max: usize,
    /// Once the answers to a batch, or the results of a multiCall, fill so many
    /// bytes, no further call of it is run.
    pub response_bytes_max: usize,
    /// The most bytes of answers that wait to be sent. An account may have as
    /// many as are left free.
    pub unsent_bytes_max: usize,
    /// The most connections at once; for a further one the longest idle gives way.
    pub connections_max: usize,
    /// The most connections of one address; further ones are closed.
    pub address_connections_max: usize,
    /// Networks of proxies, from which many come: no bound for each address
    /// there, and who called them is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those proxies begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The most calls in progress on one WebSocket; further ones wait to be read.
    pub ws_calls_max: usize,
    /// The most subscriptions on one WebSocket.
    pub ws_subscriptions_max: usize,
    /// How much is read on, and for how long, after a refusal.
    pub linger: Bounds,
    /// How long a connection may be idle, or a WebSocket leave a ping
    /// unanswered; how long a client may take to send a request's headers or
    /// its body, and how long it may take none of its answer.
    pub idle_timeout: Duration,
}
