//! What a webhook's owner may ask of its deliveries: how many at once, how
//! fast, for how long, how many in one request. All have good defaults, so
//! that nobody needs to know them.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::Violation;
use super::rate::Rate;

/// Requests in flight to one webhook at once.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=1_000;
/// Requests a second, and how many of them at once after a pause.
pub const RATE: RangeInclusive<u32> = 1..=10_000;
/// How long connecting may take, in milliseconds.
pub const CONNECT_TIMEOUT_MS: RangeInclusive<u32> = 100..=30_000;
/// How long an attempt may take in all, in milliseconds.
pub const TIMEOUT_MS: RangeInclusive<u32> = 100..=120_000;
/// Events in one request.
pub const BATCH_EVENTS: RangeInclusive<u32> = 1..=100;
/// Bytes of one request's body, of several events. Clients of other platforms
/// ask for more than is ever used: no batch is larger than what a lane loads.
pub const BATCH_BYTES: RangeInclusive<u32> = 1_024..=10_485_760;
/// How long a batch may wait to be full, in milliseconds.
pub const BATCH_WAIT_MS: RangeInclusive<u32> = 0..=60_000;
/// The longest user name or password, in characters.
pub const CREDENTIAL_CHARS_MAX: usize = 256;

/// At most so many requests at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency(u32);

impl Concurrency {
    /// Accepts a number in [`CONCURRENCY`].
    pub fn try_new(requests: u32) -> Result<Self, Violation> {
        within("max_concurrency", requests, &CONCURRENCY).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// At most so many requests a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl RateLimit {
    /// Accepts numbers in [`RATE`]; without a burst, it is a second's worth.
    pub fn try_new(per_second: u32, burst: Option<u32>) -> Result<Self, Violation> {
        let number = |name, number| {
            within(name, number, &RATE).map(|number| NonZeroU32::new(number).expect("RATE begins above 0"))
        };
        let per_second = number("rate_limit.per_second", per_second)?;
        let burst = number("rate_limit.burst", burst.unwrap_or(per_second.get()))?;
        Ok(Self { per_second, burst })
    }

    /// Requests a second.
    pub fn per_second(self) -> u32 {
        self.per_second.get()
    }

    /// Requests at once after a pause.
    pub fn burst(self) -> u32 {
        self.burst.get()
    }

    /// Both.
    pub fn rate(self) -> Rate {
        Rate::new(self.per_second, self.burst)
    }
}

/// Several events in one request: as many as there are, up to bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    max_events: u32,
    max_bytes: u32,
    wait_ms: u32,
}

impl Batching {
    /// How many bytes a body has at the most unless its owner says otherwise.
    pub const BYTES_DEFAULT: u32 = 262_144;
    /// How long a batch waits to be full unless its owner says otherwise.
    pub const WAIT_MS_DEFAULT: u32 = 1_000;

    /// Accepts numbers in [`BATCH_EVENTS`], [`BATCH_BYTES`] and [`BATCH_WAIT_MS`].
    pub fn try_new(max_events: u32, max_bytes: Option<u32>, wait_ms: Option<u32>) -> Result<Self, Violation> {
        let max_bytes = max_bytes.unwrap_or(Self::BYTES_DEFAULT);
        Ok(Self {
            max_events: within("batch.max_events", max_events, &BATCH_EVENTS)?,
            max_bytes: within("batch.max_size", max_bytes, &BATCH_BYTES)?,
            wait_ms: within("batch.wait_ms", wait_ms.unwrap_or(Self::WAIT_MS_DEFAULT), &BATCH_WAIT_MS)?,
        })
    }

    /// Events in one request.
    pub fn max_events(self) -> u32 {
        self.max_events
    }

    /// Bytes of a body; an event that is larger goes alone.
    pub fn max_bytes(self) -> u32 {
        self.max_bytes
    }

    /// How long a batch waits to be full, in milliseconds.
    pub fn wait_ms(self) -> u32 {
        self.wait_ms
    }

    /// How long a batch waits to be full.
    pub fn wait(self) -> Duration {
        Duration::from_millis(self.wait_ms.into())
    }
}

/// Bounds on the time one attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together.
    pub connect: Duration,
    /// From the start to the last byte of the answer.
    pub total: Duration,
}

/// What an owner says of timeouts; the rest is the format's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnTimeouts {
    connect_ms: Option<u32>,
    total_ms: Option<u32>,
}

impl OwnTimeouts {
    /// Accepts milliseconds in [`CONNECT_TIMEOUT_MS`] and [`TIMEOUT_MS`].
    pub fn try_new(connect_ms: Option<u32>, total_ms: Option<u32>) -> Result<Self, Violation> {
        let checked = |field, ms: Option<u32>, range| ms.map(|ms| within(field, ms, range)).transpose();
        Ok(Self {
            connect_ms: checked("timeouts.connect_ms", connect_ms, &CONNECT_TIMEOUT_MS)?,
            total_ms: checked("timeouts.total_ms", total_ms, &TIMEOUT_MS)?,
        })
    }

    /// For connecting, in milliseconds.
    pub fn connect_ms(self) -> Option<u32> {
        self.connect_ms
    }

    /// For the whole attempt, in milliseconds.
    pub fn total_ms(self) -> Option<u32> {
        self.total_ms
    }

    /// These, and `others` where nothing is said. Connecting may never take
    /// longer than the whole.
    pub fn or(self, others: Timeouts) -> Timeouts {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        let total = self.total_ms.map_or(others.total, millis);
        Timeouts { connect: self.connect_ms.map_or(others.connect, millis).min(total), total }
    }
}

/// A user name and a password, sent along as HTTP Basic (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct BasicAuth {
    username: String,
    password: String,
}

impl BasicAuth {
    /// Accepts up to [`CREDENTIAL_CHARS_MAX`] characters each, none of them a
    /// control character; a user name has one at least, and no colon.
    pub fn try_new(username: &str, password: &str) -> Result<Self, Violation> {
        for (field, text) in [("basic_auth.username", username), ("basic_auth.password", password)] {
            if text.chars().count() > CREDENTIAL_CHARS_MAX {
                return Err(Violation::new(field, format!("is longer than {CREDENTIAL_CHARS_MAX} characters.")));
            }
            if text.chars().any(char::is_control) {
                return Err(Violation::new(field, "has a control character in it."));
            }
        }
        if username.is_empty() || username.contains(':') {
            return Err(Violation::new("basic_auth.username", "must have a character at least, and no colon."));
        }
        Ok(Self { username: username.to_owned(), password: password.to_owned() })
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password itself, for its owner.
    pub fn expose_password(&self) -> &str {
        &self.password
    }

    /// The value of the Authorization header; marked as sensitive.
    pub fn header(&self) -> http::HeaderValue {
        let text = format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)));
        let mut value = http::HeaderValue::from_str(&text).expect("base64 is visible ASCII");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

fn within(field: &'static str, number: u32, range: &RangeInclusive<u32>) -> Result<u32, Violation> {
    if range.contains(&number) {
        return Ok(number);
    }
    Err(Violation::new(field, format!("{number} is outside {} to {}.", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_shorten_and_lengthen_timeouts() {
        let format = Timeouts { connect: Duration::from_secs(3), total: Duration::from_secs(15) };
        assert_eq!(OwnTimeouts::default().or(format), format);
        let own = OwnTimeouts::try_new(None, Some(1_000)).unwrap().or(format);
        assert_eq!(own, Timeouts { connect: Duration::from_secs(1), total: Duration::from_secs(1) });
        assert!(OwnTimeouts::try_new(Some(99), None).is_err());
        assert!(OwnTimeouts::try_new(None, Some(120_001)).is_err());
    }

    #[test]
    fn a_burst_is_a_second_s_worth_unless_said() {
        assert_eq!(RateLimit::try_new(20, None).unwrap().burst(), 20);
        assert_eq!(RateLimit::try_new(20, Some(1)).unwrap().burst(), 1);
        assert!(RateLimit::try_new(0, None).is_err() && RateLimit::try_new(1, Some(10_001)).is_err());
    }

    #[test]
    fn basic_auth_is_the_standard_one() {
        // RFC 7617 §2 and §2.1.
        let header = |username, password| BasicAuth::try_new(username, password).unwrap().header();
        assert_eq!(header("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(header("test", "123£"), "Basic dGVzdDoxMjPCow==");
        assert!(header("a", "").is_sensitive());
        for (username, password) in [("", "a"), ("a:b", "c"), ("a", "b\nc")] {
            assert!(BasicAuth::try_new(username, password).is_err());
        }
        assert!(!format!("{:?}", BasicAuth::try_new("a", "secret word").unwrap()).contains("secret"));
    }
}
