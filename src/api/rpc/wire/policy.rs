//! What a webhook's owner asks of its deliveries: retries, rate, times,
//! credentials, batches.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::schema;
use crate::domain::fault::Violation;
use crate::domain::oauth2::{AuthStyle, Grant, OAUTH2_CHARS_MAX, OAuth2};
use crate::domain::policy::{
    BATCH_BYTES, BATCH_EVENTS, BATCH_WAIT_MS, BasicAuth, Batching, CONNECT_TIMEOUT_MS, CREDENTIAL_CHARS_MAX,
    OwnTimeouts, RATE, RateLimit, TIMEOUT_MS, Timeouts,
};
use crate::domain::retry::{RETRIES_MAX, RetryPolicy, WAIT_S_MAX, Waits};
use crate::domain::target::URL_CHARS_MAX;

/// A retry policy: its name, a list of seconds, or a number of retries at an interval.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[schemars(inline, deny_unknown_fields)]
#[serde(untagged)]
pub enum Retry {
    /// A policy of ours.
    Name(#[schemars(schema_with = "super::schema::retry_names")] String),
    /// The waits before each retry, in seconds.
    Seconds(#[schemars(length(max = RETRIES_MAX), inner(range(min = 1, max = WAIT_S_MAX)))] Vec<u32>),
    /// Always the same wait.
    Fixed {
        /// How many retries.
        #[schemars(range(max = RETRIES_MAX))]
        max_retries: u32,
        /// The wait before each, in seconds.
        #[schemars(range(min = 1, max = WAIT_S_MAX))]
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
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second.
    #[schemars(range(min = *RATE.start(), max = *RATE.end()))]
    per_second: u32,
    /// Requests at once after a pause; a second's worth if left out.
    #[schemars(range(min = *RATE.start(), max = *RATE.end()))]
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
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// For the connection, in milliseconds.
    #[schemars(range(min = *CONNECT_TIMEOUT_MS.start(), max = *CONNECT_TIMEOUT_MS.end()))]
    connect_ms: Option<u32>,
    /// For the whole attempt, in milliseconds.
    #[schemars(range(min = *TIMEOUT_MS.start(), max = *TIMEOUT_MS.end()))]
    total_ms: Option<u32>,
}

impl From<Timeouts> for Times {
    fn from(timeouts: Timeouts) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).ok();
        Self { connect_ms: millis(timeouts.connect), total_ms: millis(timeouts.total) }
    }
}

impl From<OwnTimeouts> for Times {
    fn from(own: OwnTimeouts) -> Self {
        Self { connect_ms: own.connect_ms(), total_ms: own.total_ms() }
    }
}

impl TryFrom<Times> for OwnTimeouts {
    type Error = Violation;

    fn try_from(times: Times) -> Result<Self, Violation> {
        Self::try_new(times.connect_ms, times.total_ms)
    }
}

/// What is sent along as HTTP Basic.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Without a colon.
    #[schemars(length(max = CREDENTIAL_CHARS_MAX))]
    username: String,
    /// Reads empty for a caller without the permission `webhook_write`.
    #[schemars(length(max = CREDENTIAL_CHARS_MAX))]
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

/// A client of a token server (RFC 6749 §4.4), without its secret.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[schemars(inline)]
pub struct TokenClient {
    /// Where tokens are asked for.
    token_url: String,
    /// Who asks.
    client_id: String,
    /// What the token is good for; null: as the server has it.
    scope: Option<String>,
    /// For whom it is; null: that is not said.
    audience: Option<String>,
    /// Where the client says who it is.
    #[schemars(schema_with = "schema::auth_styles")]
    auth_style: &'static str,
}

impl From<&OAuth2> for TokenClient {
    fn from(own: &OAuth2) -> Self {
        Self {
            token_url: own.token_url().as_str().to_owned(),
            client_id: own.client_id().to_owned(),
            scope: own.scope().map(str::to_owned),
            audience: own.audience().map(str::to_owned),
            auth_style: own.auth_style().name(),
        }
    }
}

/// The same with its secret, as an owner says it.
#[derive(Clone, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
pub struct TokenGrant {
    /// Where tokens are asked for: an http or https URL.
    #[schemars(length(max = URL_CHARS_MAX), url)]
    token_url: String,
    /// Who asks.
    #[schemars(length(min = 1, max = OAUTH2_CHARS_MAX))]
    client_id: String,
    /// How that is shown to be true; nobody is shown it.
    #[schemars(length(min = 1, max = OAUTH2_CHARS_MAX))]
    client_secret: String,
    /// What the token is to be good for: words with blanks between them.
    #[schemars(length(min = 1, max = OAUTH2_CHARS_MAX))]
    scope: Option<String>,
    /// For whom it is to be, where the server wants to know.
    #[schemars(length(min = 1, max = OAUTH2_CHARS_MAX))]
    audience: Option<String>,
    /// Where the client says who it is: `basic`, in the header (the default), or `body`.
    #[schemars(schema_with = "schema::auth_styles")]
    #[serde(default)]
    auth_style: Option<String>,
}

impl TryFrom<TokenGrant> for OAuth2 {
    type Error = Violation;

    fn try_from(said: TokenGrant) -> Result<Self, Violation> {
        let known = |name: String| {
            AuthStyle::from_name(&name)
                .ok_or_else(|| Violation::new("oauth2.auth_style", "is unknown; there are basic and body."))
        };
        Self::try_new(&Grant {
            token_url: &said.token_url,
            client_id: &said.client_id,
            client_secret: &said.client_secret,
            scope: said.scope.as_deref(),
            audience: said.audience.as_deref(),
            auth_style: said.auth_style.map(known).transpose()?.unwrap_or_default(),
        })
    }
}

/// How many events, how many bytes of a body, and how long to wait for them.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The most events in a request.
    #[schemars(range(min = *BATCH_EVENTS.start(), max = *BATCH_EVENTS.end()))]
    max_events: u32,
    /// The longest body, in bytes; a larger event goes alone.
    #[schemars(range(min = *BATCH_BYTES.start(), max = *BATCH_BYTES.end()))]
    max_size: Option<u32>,
    /// How long the first event waits for others, in milliseconds.
    #[schemars(range(min = *BATCH_WAIT_MS.start(), max = *BATCH_WAIT_MS.end()))]
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
