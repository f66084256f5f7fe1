//! The scenarios by their names.

use clap::ValueEnum;
use serde::Serialize;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// 500 events a second to one webhook
    Steady,
    /// As fast as it goes, to one webhook
    Burst,
    /// The same with one event in each call, and 500 bytes of padding
    Single,
    /// As fast as it goes, each event to 20 webhooks
    Fanout,
    /// As fast as it goes, to one webhook, one at a time and in order
    Ordered,
    /// As fast as it goes, to one webhook, up to 50 events in one request
    Batched,
    /// 150 events a second to nine fast webhooks, without and with a tenth that answers after 5 s
    Noisy,
    /// The same, without and with one hostile receiver of each kind
    Hostile,
    /// The same, without and with 1,000,000 deliveries pending for a dead endpoint
    Backlog,
    /// A receiver that was down comes back to 200,000 pending deliveries
    CatchUp,
    /// 10,000 events in one go, to one webhook whose receiver answers after 100 ms
    Distant,
    /// 5,000 events in one go, to one ordered webhook with batches, whose receiver answers after 100 ms
    DistantOrdered,
    /// 50 events to each of 200 webhooks at as many hosts that answer after 100 ms, over https
    Hosts,
    /// 5,000 events to a receiver that can do 500 a second, and slows down if more than 50 are under way
    Yielding,
    /// The same with 50 workers of 100 ms each, first come, first served
    Pooled,
    /// As fast as it goes, to one webhook, on connections that are kept, over http and over https
    Secure,
    /// The same on a new connection for each, over http, over https with sessions that are resumed, and without
    Handshakes,
    /// What a neighbour notices of a merchant's attacks; not among those that run if none is named
    Tenants,
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// True if its webhook gets everything in order.
    pub fn is_ordered(self) -> bool {
        matches!(self, Self::Ordered | Self::DistantOrdered)
    }

    /// True if its runs are compared by what they cost the processor.
    pub fn compares_cpu(self) -> bool {
        matches!(self, Self::Secure | Self::Handshakes)
    }
}
