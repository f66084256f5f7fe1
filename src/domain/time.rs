//! Points in time, and where "now" comes from.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The last instant that can be printed: 9999-12-30T22:00:00.000Z, which leaves
/// room for every time zone within the year 9999 (what jiff takes).
const LAST_MS: i64 = 253_402_207_200_000;

impl Timestamp {
    /// Reads an RFC 3339 time such as `2026-11-22T03:04:05.678Z`, cut to
    /// milliseconds. `None` if it is no such time, or is before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let ms = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        (0..=LAST_MS).contains(&ms).then_some(Self(ms))
    }

    /// The same for a bound of a range: a year before 1970, or the last that can
    /// be written, is the nearest instant that can be told.
    pub fn parse_bound(text: &str) -> Option<Self> {
        let beyond = || {
            let year: u16 = text.get(..4)?.parse().ok()?;
            // All but the year has to be right.
            Self::parse_rfc3339(&format!("2000{}", text.get(4..)?))?;
            match year {
                ..=1970 => Some(Self(0)),
                9999 => Some(Self(LAST_MS)),
                _ => None,
            }
        };
        Self::parse_rfc3339(text).or_else(beyond)
    }

    /// Reads a time in UTC in a format of strftime's, for a bound of a range
    /// likewise. `None` if it is no such time.
    pub fn parse_utc_bound(format: &str, text: &str) -> Option<Self> {
        let time = jiff::civil::DateTime::strptime(format, text).ok()?;
        let beyond = if time.year() <= 1970 { 0 } else { LAST_MS };
        let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok();
        Some(Self(zoned.map_or(beyond, |zoned| zoned.timestamp().as_millisecond()).clamp(0, LAST_MS)))
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// `2026-11-22T03:04:05.678Z`.
    pub fn rfc3339_ms(self) -> String {
        self.print("%Y-%m-%dT%H:%M:%S%.3fZ")
    }

    /// `2026-11-22T03:04:05+00:00`.
    pub fn rfc3339_s(self) -> String {
        self.print("%Y-%m-%dT%H:%M:%S+00:00")
    }

    /// This much later; stops at the end of the year 9999, a day short.
    pub fn after(self, by: Duration) -> Self {
        let ms = i64::try_from(by.as_millis()).unwrap_or(LAST_MS);
        Self(self.0.saturating_add(ms).min(LAST_MS))
    }

    /// How long from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// In UTC, in a format of strftime's.
    pub fn print(self, format: &str) -> String {
        jiff::Timestamp::from_millisecond(self.0.clamp(0, LAST_MS))
            .expect("the clamp keeps it within what jiff can hold")
            .strftime(format)
            .to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339_ms())
    }
}

/// How long a wait for a point in time sleeps before it looks at the clock
/// again, in case that was set.
const SLEEP_MAX: Duration = Duration::from_secs(15);

/// Where the present time comes from; tests bring their own.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    /// The machine's, and when it was first asked for.
    System(Instant),
    Function(Arc<dyn Fn() -> Timestamp + Send + Sync>),
    Manual(watch::Receiver<Timestamp>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock of the caller's own.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Source::Function(Arc::new(now)))
    }

    /// A clock that stands still until its owner sends another time, forth or
    /// back: days of waiting pass as fast as they are sent.
    pub fn manual(start: Timestamp) -> (Self, watch::Sender<Timestamp>) {
        let (hand, time) = watch::channel(start);
        (Self(Source::Manual(time)), hand)
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(_) => {
                let since_epoch =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(LAST_MS))
            }
            Source::Function(now) => now(),
            Source::Manual(time) => *time.borrow(),
        }
    }

    /// How long ago some moment was, always the same one: for measuring, since
    /// setting the machine's clock changes nothing about it.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System(start) => start.elapsed(),
            Source::Function(_) | Source::Manual(_) => self.now().since(Timestamp(0)),
        }
    }

    /// Waits until `at` has come, or for ever if it is `None`; may return
    /// early, so look again.
    pub async fn wait_until(&self, at: Option<Timestamp>) {
        match &self.0 {
            Source::System(_) | Source::Function(_) => {
                let sleep = at.map_or(SLEEP_MAX, |at| at.since(self.now()).min(SLEEP_MAX));
                tokio::time::sleep(sleep).await;
            }
            Source::Manual(time) => {
                let reached = |now: &Timestamp| at.is_some_and(|at| *now >= at);
                if time.clone().wait_for(reached).await.is_err() {
                    // Its owner is gone, so it stands still for good.
                    std::future::pending().await
                }
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_rfc3339() {
        let t = Timestamp::parse_rfc3339("2021-12-07T16:08:15.5+00:00").unwrap();
        assert_eq!(t.rfc3339_ms(), "2021-12-07T16:08:15.500Z");
        assert_eq!(t.rfc3339_s(), "2021-12-07T16:08:15+00:00");
        assert_eq!(Timestamp::parse_rfc3339(&t.rfc3339_ms()), Some(t));
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
        assert_eq!(Timestamp::parse_rfc3339("1969-12-31T23:59:59Z"), None);
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Timestamp(i64::MAX).after(Duration::MAX).0, LAST_MS);
        assert_eq!(Timestamp(i64::MAX).rfc3339_ms(), "9999-12-30T22:00:00.000Z");
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
