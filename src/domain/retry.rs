//! When a failed delivery is tried again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::fault::Violation;
use super::time::Timestamp;

/// Jitter of the `default` policy: each wait is up to this part longer or shorter.
const JITTER: f64 = 0.10;
/// The longest wait that a receiver's Retry-After is obeyed for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: about 77 h.
const DEFAULT_S: &[u64] = &[5, 30, 120, 600, 1_800, 3_600, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// 1, 2, 4, 8, 15, 30 min, then 1, 2, 4, 8, 16, 24, 24, 24 h (docs/wire.md, "Retries").
const SHIPSTREAM_S: &[u64] =
    &[60, 120, 240, 480, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, 86_400, 86_400, 86_400];

/// The most retries a webhook's own policy may have.
pub const RETRIES_MAX: usize = 100;
/// The longest wait in a webhook's own policy, in seconds: a week.
pub const WAIT_S_MAX: u32 = 604_800;

/// How often, and after what waits, a failed delivery is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Ours, with ±10 % of jitter.
    Default,
    /// The vendor's, to the second.
    Shipstream,
    /// A webhook's own, to the second.
    Custom(Waits),
}

/// The waits of a webhook's own policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// One after the other, in seconds.
    List(Vec<u32>),
    /// Always the same.
    Fixed {
        /// How many.
        max_retries: u32,
        /// How long, in seconds.
        interval_s: u32,
    },
}

impl RetryPolicy {
    /// The names of those that have one.
    pub const NAMES: [&str; 2] = ["default", "shipstream"];

    /// A policy with a name.
    pub fn from_name(name: &str) -> Result<Self, Violation> {
        match name {
            "default" => Ok(Self::Default),
            "shipstream" => Ok(Self::Shipstream),
            _ => Err(violation(
                "is no policy; there are default, shipstream, a list of seconds, and {max_retries, interval_seconds}.",
            )),
        }
    }

    /// Accepts up to [`RETRIES_MAX`] waits of 1 to [`WAIT_S_MAX`] seconds; no
    /// wait at all means that nothing is tried again.
    pub fn custom(waits: Waits) -> Result<Self, Violation> {
        let (count, all_fit) = match &waits {
            Waits::List(list) => (list.len(), list.iter().all(|wait| (1..=WAIT_S_MAX).contains(wait))),
            Waits::Fixed { max_retries, interval_s } => {
                (usize::try_from(*max_retries).unwrap_or(usize::MAX), (1..=WAIT_S_MAX).contains(interval_s))
            }
        };
        if count > RETRIES_MAX {
            return Err(violation(format!("has {count} retries; up to {RETRIES_MAX} are allowed.")));
        }
        if !all_fit {
            return Err(violation(format!("has a wait outside 1 to {WAIT_S_MAX} seconds.")));
        }
        Ok(Self::Custom(waits))
    }

    /// How many retries there are at the most.
    pub fn retries(&self) -> u32 {
        let count = |waits: usize| u32::try_from(waits).unwrap_or(u32::MAX);
        match self {
            Self::Default => count(DEFAULT_S.len()),
            Self::Shipstream => count(SHIPSTREAM_S.len()),
            Self::Custom(Waits::List(list)) => count(list.len()),
            Self::Custom(Waits::Fixed { max_retries, .. }) => *max_retries,
        }
    }

    /// When to try again after attempt number `attempt` (from 1) failed at
    /// `now`; `None` if that was the last. `asked` is the receiver's
    /// Retry-After: never sooner than that, up to [`RETRY_AFTER_MAX`].
    /// `random` is in 0..1 and decides the jitter.
    pub fn next_attempt(
        &self,
        attempt: u32,
        now: Timestamp,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Timestamp> {
        let place = usize::try_from(attempt.checked_sub(1)?).ok()?;
        let wait = match self {
            Self::Default => {
                let factor = 1.0 + JITTER * (random * 2.0 - 1.0);
                Duration::from_secs(*DEFAULT_S.get(place)?).mul_f64(factor)
            }
            Self::Shipstream => Duration::from_secs(*SHIPSTREAM_S.get(place)?),
            Self::Custom(Waits::List(list)) => Duration::from_secs((*list.get(place)?).into()),
            Self::Custom(Waits::Fixed { max_retries, interval_s }) => {
                if attempt > *max_retries {
                    return None;
                }
                Duration::from_secs((*interval_s).into())
            }
        };
        Some(now.after(wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))))
    }
}

fn violation(problem: impl Into<String>) -> Violation {
    Violation::new("retry", problem)
}

/// As a store keeps it: `default`, `shipstream`, `list 5,30,120`, `fixed 10 300`.
impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Shipstream => f.write_str("shipstream"),
            Self::Custom(Waits::List(list)) => {
                let waits: Vec<_> = list.iter().map(u32::to_string).collect();
                write!(f, "list {}", waits.join(","))
            }
            Self::Custom(Waits::Fixed { max_retries, interval_s }) => write!(f, "fixed {max_retries} {interval_s}"),
        }
    }
}

/// Reads what `Display` wrote.
impl FromStr for RetryPolicy {
    type Err = Violation;

    fn from_str(text: &str) -> Result<Self, Violation> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| violation("has a wait that is no number."));
        if let Some(list) = text.strip_prefix("list ") {
            let waits = list.split(',').filter(|wait| !wait.is_empty()).map(number).collect::<Result<_, _>>()?;
            return Self::custom(Waits::List(waits));
        }
        if let Some((max_retries, interval_s)) = text.strip_prefix("fixed ").and_then(|rest| rest.split_once(' ')) {
            let (max_retries, interval_s) = (number(max_retries)?, number(interval_s)?);
            return Self::custom(Waits::Fixed { max_retries, interval_s });
        }
        Self::from_name(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn waits_s(policy: &RetryPolicy, random: f64) -> Vec<u64> {
        (1..).map_while(|n| policy.next_attempt(n, NOW, None, random)).map(|at| at.since(NOW).as_secs()).collect()
    }

    #[test]
    fn the_default_takes_about_77_hours() {
        let waits = waits_s(&RetryPolicy::Default, 0.5);
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
        assert_eq!(waits_s(&RetryPolicy::Shipstream, 0.0), SHIPSTREAM_S);
    }

    #[test]
    fn retry_after_only_postpones_and_is_capped() {
        let at = |asked_s| {
            RetryPolicy::Default
                .next_attempt(1, NOW, Some(Duration::from_secs(asked_s)), 0.5)
                .unwrap()
                .since(NOW)
                .as_secs()
        };
        assert_eq!((at(1), at(90), at(u64::MAX)), (5, 90, 86_400));
        assert_eq!(RetryPolicy::Default.next_attempt(13, NOW, Some(Duration::from_secs(9)), 0.5), None);
    }

    #[test]
    fn a_webhook_may_have_its_own() {
        let list = RetryPolicy::custom(Waits::List(vec![1, 2, 60])).unwrap();
        assert_eq!(waits_s(&list, 0.0), [1, 2, 60]);
        let fixed = RetryPolicy::custom(Waits::Fixed { max_retries: 2, interval_s: 300 }).unwrap();
        assert_eq!(waits_s(&fixed, 0.9), [300, 300]);
        let never = RetryPolicy::custom(Waits::List(Vec::new())).unwrap();
        assert!(waits_s(&never, 0.0).is_empty());
        for policy in [RetryPolicy::Default, RetryPolicy::Shipstream, list, fixed, never] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!(RetryPolicy::custom(Waits::List(vec![0])).is_err());
        assert!(RetryPolicy::custom(Waits::List(vec![1; 101])).is_err());
        assert!(RetryPolicy::custom(Waits::Fixed { max_retries: 1, interval_s: WAIT_S_MAX + 1 }).is_err());
        assert!("list a".parse::<RetryPolicy>().is_err() && "often".parse::<RetryPolicy>().is_err());
    }
}
