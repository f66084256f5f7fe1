//! When a failed delivery is tried again.

use std::time::Duration;

use super::time::Timestamp;

/// Jitter of the `default` policy: each wait is up to this part longer or shorter.
const JITTER: f64 = 0.10;
/// The longest wait that a receiver's Retry-After is obeyed for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: about 77 h.
const DEFAULT_S: &[u64] = &[5, 30, 120, 600, 1_800, 3_600, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// 1, 2, 4, 8, 15, 30 min, then 1, 2, 4, 8, 16, 24, 24, 24 h (ShipStream's documentation).
const SHIPSTREAM_S: &[u64] = &[
    60, 120, 240, 480, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, 86_400, 86_400, 86_400,
];

/// How often, and after what waits, a failed delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Ours, with ±10 % of jitter.
    Default,
    /// The vendor's, to the second.
    Shipstream,
}

impl RetryPolicy {
    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Shipstream => "shipstream",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Default, Self::Shipstream].into_iter().find(|policy| policy.name() == name)
    }

    /// When to try again after attempt number `attempt` (from 1) failed at
    /// `now`; `None` if that was the last. `asked` is the receiver's
    /// Retry-After: never sooner than that, up to [`RETRY_AFTER_MAX`].
    /// `random` is in 0..1 and decides the jitter.
    pub fn next_attempt(self, attempt: u32, now: Timestamp, asked: Option<Duration>, random: f64) -> Option<Timestamp> {
        let (waits, jitter) = match self {
            Self::Default => (DEFAULT_S, JITTER),
            Self::Shipstream => (SHIPSTREAM_S, 0.0),
        };
        let wait_s = *waits.get(usize::try_from(attempt.checked_sub(1)?).ok()?)?;
        let factor = 1.0 + jitter * (random * 2.0 - 1.0);
        let wait = Duration::from_secs(wait_s).mul_f64(factor);
        Some(now.after(wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn waits_s(policy: RetryPolicy, random: f64) -> Vec<u64> {
        (1..).map_while(|n| policy.next_attempt(n, NOW, None, random)).map(|at| at.since(NOW).as_secs()).collect()
    }

    #[test]
    fn the_default_takes_about_77_hours() {
        let waits = waits_s(RetryPolicy::Default, 0.5);
        assert_eq!(waits, DEFAULT_S);
        assert_eq!(waits.iter().sum::<u64>() / 3_600, 76);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for (random, factor) in [(0.0, 0.9), (0.999_999, 1.1)] {
            let wait = RetryPolicy::Default.next_attempt(3, NOW, None, random).unwrap().since(NOW);
            assert!((wait.as_secs_f64() - 120.0 * factor).abs() < 0.01, "{wait:?}");
        }
    }

    #[test]
    fn shipstream_is_to_the_second() {
        assert_eq!(waits_s(RetryPolicy::Shipstream, 0.0), SHIPSTREAM_S);
    }

    #[test]
    fn retry_after_only_postpones_and_is_capped() {
        let at = |asked_s| {
            RetryPolicy::Default.next_attempt(1, NOW, Some(Duration::from_secs(asked_s)), 0.5).unwrap().since(NOW).as_secs()
        };
        assert_eq!((at(1), at(90), at(u64::MAX)), (5, 90, 86_400));
        assert_eq!(RetryPolicy::Default.next_attempt(13, NOW, Some(Duration::from_secs(9)), 0.5), None);
    }
}
