//! The delivery worker: posts what the store has committed.

mod answers;
mod blot;
pub mod client;
pub mod connect;
mod gauges;
pub mod guard;
mod health;
mod held;
mod identities;
mod insecure;
mod judging;
mod lane;
mod load;
#[cfg(test)]
mod model;
mod pace;
mod pauses;
mod poll;
mod pool;
mod poster;
mod prepared;
pub mod proxy;
mod readable;
mod reading;
mod recording;
pub mod scheduler;
mod sessions;
#[cfg(test)]
mod sim;
mod stream;
mod telling;
mod tenant;
mod token;
mod tokens;
pub mod worker;

use std::time::Duration;

use self::guard::Targets;
use self::proxy::EgressProxy;
use crate::render::batch::BATCH_BYTES_MAX;
use crate::trust::Trusted;

/// The most bytes of messages a lane loads at once, and the most that wait in
/// it before it asks for more; one delivery always fits, and so does a batch.
pub const PAGE_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// What the operator decides about deliveries.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nothing is sent, however much there is to send.
    pub is_paused: bool,
    /// Deliveries in flight at once, over all webhooks.
    pub in_flight_max: usize,
    /// Deliveries in flight at once to one webhook.
    pub webhook_in_flight_max: usize,
    /// Bytes of messages held in memory while they wait to be sent.
    pub loaded_bytes_max: usize,
    /// Bytes of messages and bodies under way.
    pub sending_bytes_max: usize,
    /// Bytes of one body; a longer one is not sent.
    pub delivery_bytes_max: usize,
    /// Bytes read of an answer's body.
    pub answer_bytes_max: usize,
    /// Bytes of answers that wait to be recorded.
    pub answers_bytes_max: usize,
    /// Connections that are kept while nothing is sent on them.
    pub kept_connections_max: usize,
    /// How long a connection is used, before its receiver's name is looked up
    /// again for another.
    pub connection_age_max: Duration,
    /// How often the store is looked at, whatever it has announced.
    pub store_poll: Duration,
    /// Where deliveries may go.
    pub targets: Targets,
    /// By which proxy; `None`: straight.
    pub egress_proxy: Option<EgressProxy>,
    /// Whose certificates receivers may present, besides those of the
    /// system's authorities.
    pub trusted: Trusted,
}

#[cfg(test)]
impl Config {
    /// For tests: so many requests at once, in all and to one webhook, and as
    /// many bytes as anybody wants.
    fn sample(in_flight_max: usize, webhook_in_flight_max: usize) -> Self {
        Self {
            is_paused: false,
            in_flight_max,
            webhook_in_flight_max,
            loaded_bytes_max: 64 * 1024 * 1024,
            sending_bytes_max: 64 * 1024 * 1024,
            delivery_bytes_max: 16 * 1024 * 1024,
            answer_bytes_max: 0,
            answers_bytes_max: 0,
            kept_connections_max: 0,
            connection_age_max: Duration::ZERO,
            store_poll: Duration::from_secs(5),
            targets: Targets::default(),
            egress_proxy: None,
            trusted: Trusted::default(),
        }
    }
}
