//! So many a second: the generic cell rate algorithm, which needs one number
//! of each who is kept within a rate, and no timer.
//!
//! To look is one step and to count another, for a lane looks often before it
//! sends once, and sends some without asking.

use std::num::NonZeroU32;
use std::time::Duration;

/// So many a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

/// How far ahead of a rate somebody is. Times are those of the caller's clock,
/// since whatever it counts from.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateGate {
    /// When the next would be on time if they came evenly.
    expected: Duration,
}

impl Rate {
    /// So many a second, and `burst` at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.get(), burst: burst.get() }
    }
}

impl RateGate {
    /// When, after `now`, the next may pass; `None`: now.
    pub fn opens_at(self, rate: Rate, now: Duration) -> Option<Duration> {
        let early = self.expected(rate, now).saturating_sub(rate.interval * (rate.burst - 1));
        (early > now).then_some(early)
    }

    /// Counts one that passes.
    pub fn pass(&mut self, rate: Rate, now: Duration) {
        self.expected = self.expected(rate, now).max(now) + rate.interval;
    }

    /// True of one who has a whole burst again, which is as if nothing had passed.
    pub fn is_rested(self, now: Duration) -> bool {
        self.expected <= now
    }

    /// What is further away than a burst can lead was set before the clock
    /// went back, or before the rate was raised: it says nothing now. To bound it
    /// by `now` would have it move on with each look, and never open.
    fn expected(self, rate: Rate, now: Duration) -> Duration {
        if self.expected > now + rate.interval * rate.burst { now } else { self.expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_rate_is_kept_and_a_burst_allowed() {
        let rate = rate(10, 3);
        let mut gate = RateGate::default();
        for _ in 0..3 {
            assert_eq!(gate.opens_at(rate, START), None);
            gate.pass(rate, START);
        }
        assert_eq!(gate.opens_at(rate, START), Some(START + SECOND / 10));
        let (mut now, mut passed) = (START, 0);
        while now - START < 10 * SECOND {
            now = gate.opens_at(rate, now).unwrap_or(now);
            gate.pass(rate, now);
            passed += 1;
        }
        assert_eq!(passed, 100);
        assert!(!gate.is_rested(now) && gate.is_rested(now + 3 * SECOND / 10));
        // After the clock went back, no longer than a burst takes.
        assert!(gate.opens_at(rate, START).is_none_or(|at| at - START <= 3 * SECOND / 10));
        assert_eq!(gate.opens_at(rate, START + SECOND / 2), None, "who looks again does not move it on");
    }

    #[test]
    fn a_high_rate_is_kept_to_the_nanosecond() {
        let rate = rate(700_000, 1);
        let (mut gate, mut now) = (RateGate::default(), START);
        for _ in 0..700_000 {
            gate.pass(rate, now);
            now = gate.opens_at(rate, now).unwrap();
        }
        assert!((SECOND * 999 / 1_000..=SECOND).contains(&(now - START)), "{:?}", now - START);
    }
}
