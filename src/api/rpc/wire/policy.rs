//! What a webhook's owner asks of its deliveries: retries, rate, times,
//! credentials, batches.

use std::fmt;
use std::time::Duration;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::fault::Violation;
use crate::domain::policy::{BasicAuth, Batching, OwnTimeouts, RateLimit, Timeouts};
use crate::domain::retry::{RetryPolicy, Waits};

/// A retry policy: its name, a list of seconds, or a number of retries at an interval.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Retry {
    /// A policy of ours.
    Name(String),
    /// The waits, in seconds.
    Seconds(Vec<u32>),
    /// Always the same wait.
    Fixed {
        /// How many.
        max_retries: u32,
        /// How long, in seconds.
        interval_seconds: u32,
    },
}

impl From<&RetryPolicy> for Retry {
    fn from(policy: &RetryPolicy) -> Self {
        match policy {
            RetryPolicy::Default | RetryPolicy::Shipstream => Self::Name(policy.to_string()),
            RetryPolicy::Custom(Waits::List(list)) => Self::Seconds(list.clone()),
            RetryPolicy::Custom(Waits::Fixed { max_retries, interval_s }) => {
                Self::Fixed { max_retries: *max_retries, interval_seconds: *interval_s }
            }
        }
    }
}

impl TryFrom<Retry> for RetryPolicy {
    type Error = Violation;

    fn try_from(retry: Retry) -> Result<Self, Violation> {
        match retry {
            Retry::Name(name) => Self::from_name(&name),
            Retry::Seconds(list) => Self::custom(Waits::List(list)),
            Retry::Fixed { max_retries, interval_seconds } => {
                Self::custom(Waits::Fixed { max_retries, interval_s: interval_seconds })
            }
        }
    }
}

/// Told apart by kind, and not by trying one after the other, so that what is
/// wrong inside is what the message tells.
impl<'de> Deserialize<'de> for Retry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RetryVisitor;
        impl<'de> Visitor<'de> for RetryVisitor {
            type Value = Retry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy's name, a list of seconds, or {max_retries, interval_seconds}")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Retry, E> {
                Ok(Retry::Name(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Retry, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Retry::Seconds)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Retry, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Fixed {
                    max_retries: u32,
                    interval_seconds: u32,
                }
                let Fixed { max_retries, interval_seconds } =
                    Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Retry::Fixed { max_retries, interval_seconds })
            }
        }
        deserializer.deserialize_any(RetryVisitor)
    }
}

/// A member that may be left out, or be null: as by default.
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Requests a second, and how many at once after a pause.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    per_second: u32,
    burst: Option<u32>,
}

impl From<RateLimit> for Rate {
    fn from(limit: RateLimit) -> Self {
        Self { per_second: limit.per_second(), burst: Some(limit.burst()) }
    }
}

impl TryFrom<Rate> for RateLimit {
    type Error = Violation;

    fn try_from(rate: Rate) -> Result<Self, Violation> {
        Self::try_new(rate.per_second, rate.burst)
    }
}

/// How long connecting, and the whole attempt, may take, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    connect_ms: Option<u32>,
    total_ms: Option<u32>,
}

impl From<Timeouts> for Times {
    fn from(timeouts: Timeouts) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).ok();
        Self { connect_ms: millis(timeouts.connect), total_ms: millis(timeouts.total) }
    }
}

impl TryFrom<Times> for OwnTimeouts {
    type Error = Violation;

    fn try_from(times: Times) -> Result<Self, Violation> {
        Self::try_new(times.connect_ms, times.total_ms)
    }
}

/// What is sent along as HTTP Basic.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    username: String,
    password: String,
}

impl Basic {
    /// `with_secret` only for callers that may write webhooks.
    pub fn new(basic: &BasicAuth, with_secret: bool) -> Self {
        let password = if with_secret { basic.expose_password() } else { "" };
        Self { username: basic.username().to_owned(), password: password.to_owned() }
    }
}

impl TryFrom<Basic> for BasicAuth {
    type Error = Violation;

    fn try_from(basic: Basic) -> Result<Self, Violation> {
        Self::try_new(&basic.username, &basic.password)
    }
}

/// How many events, how many bytes of a body, and how long to wait for them.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    max_events: u32,
    max_size: Option<u32>,
    wait_ms: Option<u32>,
}

impl From<Batching> for Batch {
    fn from(batching: Batching) -> Self {
        Self {
            max_events: batching.max_events(),
            max_size: Some(batching.max_bytes()),
            wait_ms: Some(batching.wait_ms()),
        }
    }
}

impl TryFrom<Batch> for Batching {
    type Error = Violation;

    fn try_from(batch: Batch) -> Result<Self, Violation> {
        Self::try_new(batch.max_events, batch.max_size, batch.wait_ms)
    }
}
