//! How a webhook is doing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::delivery::{ErrorClass, StateCounts};
use super::id::IncrementId;
use super::time::Timestamp;
use super::webhook::Webhook;

/// A webhook, and how it is doing.
#[derive(Clone, Debug)]
pub struct WebhookStats {
    /// The webhook.
    pub webhook: Webhook,
    /// What has become of its deliveries.
    pub deliveries: StateCounts,
    /// The lowest number that is pending, and when it was numbered.
    pub oldest_pending: Option<(IncrementId, Timestamp)>,
    /// The attempts at its last numbers.
    pub recent: AttemptStats,
}

/// Attempts at the numbers from one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptStats {
    /// The first number that was looked at.
    pub from: IncrementId,
    /// Those that delivered.
    pub succeeded: u64,
    /// Those that did not, by what went wrong.
    pub failed: Vec<(ErrorClass, u64)>,
    /// How long they took; `None` if there were none.
    pub durations: Option<Durations>,
}

/// How long attempts took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Half of them took no longer.
    pub p50: Duration,
    /// 95 of 100 took no longer.
    pub p95: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

impl AttemptStats {
    /// Of attempts, each with its duration and what went wrong.
    pub fn new(from: IncrementId, attempts: impl Iterator<Item = (Duration, Option<ErrorClass>)>) -> Self {
        let mut durations = Vec::new();
        let mut succeeded = 0;
        let mut failed = BTreeMap::<&str, (ErrorClass, u64)>::new();
        for (duration, error) in attempts {
            durations.push(duration);
            match error {
                None => succeeded += 1,
                Some(class) => failed.entry(class.name()).or_insert((class, 0)).1 += 1,
            }
        }
        durations.sort_unstable();
        Self { from, succeeded, failed: failed.into_values().collect(), durations: Durations::new(&durations) }
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|(_, count)| count).sum()
    }
}

impl Durations {
    /// Of durations in ascending order.
    fn new(sorted: &[Duration]) -> Option<Self> {
        // The nearest rank: the smallest that so many in a hundred do not exceed.
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { p50: rank(50)?, p95: rank(95)?, p99: rank(99)?, max: *sorted.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let stats = |millis: &[u64]| {
            let attempts = millis.iter().map(|ms| (Duration::from_millis(*ms), None));
            AttemptStats::new(IncrementId(1), attempts)
                .durations
                .map(|d| [d.p50, d.p95, d.p99, d.max].map(|d| d.as_millis()))
        };
        assert_eq!(stats(&[]), None);
        assert_eq!(stats(&[7]), Some([7, 7, 7, 7]));
        assert_eq!(stats(&[2, 1]), Some([1, 2, 2, 2]));
        let hundred: Vec<_> = (1..=100).rev().collect();
        assert_eq!(stats(&hundred), Some([50, 95, 99, 100]));
        assert_eq!(stats(&(1..=1_000).collect::<Vec<_>>()), Some([500, 950, 990, 1_000]));
    }

    #[test]
    fn failures_are_counted_by_class() {
        let class = [None, Some(ErrorClass::Timeout), Some(ErrorClass::Status), Some(ErrorClass::Timeout)];
        let stats = AttemptStats::new(IncrementId(5), class.into_iter().map(|class| (Duration::ZERO, class)));
        assert_eq!((stats.succeeded, stats.failures()), (1, 3));
        assert_eq!(stats.failed, [(ErrorClass::Status, 1), (ErrorClass::Timeout, 2)]);
    }
}
