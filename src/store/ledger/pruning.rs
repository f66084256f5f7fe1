//! When a pass of pruning begins, and how old what it takes has to be.

use std::time::Duration;

use super::terms::Retention;
use crate::domain::time::Timestamp;

/// How often a pass begins, unless space is short.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// What ended before is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// Attempts.
    pub attempts: Timestamp,
    /// Events.
    pub bodies: Timestamp,
}

impl CutOff {
    /// Of a pass that begins. If space is short, what has ended goes whatever its
    /// age: so little is left.
    fn new(retention: Retention, is_short: bool, now: Timestamp) -> Self {
        let before = |age: Duration| match is_short {
            true => Timestamp(now.0 + 1),
            false => Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))),
        };
        Self { attempts: before(retention.attempts), bodies: before(retention.bodies) }
    }
}

/// When passes begin.
#[derive(Debug, Default)]
pub struct Pruning {
    began_at: Option<Timestamp>,
    /// Space was short when the last one began.
    is_short: bool,
    /// It was time for another while one was under way.
    is_awaited: bool,
    /// Attempts that the pass has taken so far.
    pub attempts: u64,
}

impl Pruning {
    /// What a pass takes, if it is time for one: an hour after the last, or at
    /// once if the bytes that the store holds say that space is short. While one
    /// is under way, the next one waits for its end.
    pub fn begin(
        &mut self,
        retention: Retention,
        used_bytes: Option<u64>,
        is_under_way: bool,
        now: Timestamp,
    ) -> Option<CutOff> {
        // One that lies in the future was before the clock went back.
        let is_time = self.began_at.is_none_or(|last| last > now || now.since(last) >= INTERVAL);
        let max = retention.bytes_max;
        let is_short = max > 0 && used_bytes.is_some_and(|used| used >= max / 10 * 9);
        if is_under_way {
            self.is_awaited |= is_time;
            return None;
        }
        if !is_time && !is_short {
            return None;
        }
        (self.began_at, self.is_short) = (Some(now), is_short);
        Some(CutOff::new(retention, is_short, now))
    }

    /// What the pass that is under way takes from its beginning on, if the clock
    /// went back since: by what it was begun with it would take what is young now.
    pub fn begin_again(&mut self, retention: Retention, now: Timestamp) -> Option<CutOff> {
        self.began_at.filter(|began_at| *began_at > now)?;
        self.began_at = Some(now);
        Some(CutOff::new(retention, self.is_short, now))
    }

    /// A pass has ended: true if another one is awaited.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.is_awaited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const RETENTION: Retention = Retention {
        attempts: Duration::from_secs(3_600),
        bodies: Duration::from_secs(7_200),
        audit: Duration::from_secs(7_200),
        bytes_max: 100,
        webhook_log_bytes_max: 0,
        merchant_log_bytes_max: 0,
    };

    #[test]
    fn a_pass_begins_once_an_hour_or_when_space_is_short() {
        let mut pruning = Pruning::default();
        let mut begin = |hours: i64, used| pruning.begin(RETENTION, Some(used), false, Timestamp(hours * HOUR_MS));
        let aged = CutOff { attempts: Timestamp(9 * HOUR_MS), bodies: Timestamp(8 * HOUR_MS) };
        assert_eq!(begin(10, 0), Some(aged));
        assert_eq!(begin(10, 89), None);
        let all = Timestamp(10 * HOUR_MS + 1);
        assert_eq!(begin(10, 90), Some(CutOff { attempts: all, bodies: all }), "whatever its age");
        assert!(begin(11, 0).is_some());
        assert!(begin(5, 0).is_some(), "the clock went back");
    }

    #[test]
    fn a_pass_takes_nothing_that_is_young_once_the_clock_went_back() {
        let mut pruning = Pruning::default();
        let mut at = |hours: i64, used| pruning.begin(RETENTION, Some(used), false, Timestamp(hours * HOUR_MS));
        assert!(at(10, 0).is_some());
        assert_eq!(pruning.begin_again(RETENTION, Timestamp(10 * HOUR_MS)), None);
        assert_eq!(pruning.begin_again(RETENTION, Timestamp(11 * HOUR_MS)), None);
        let aged = CutOff { attempts: Timestamp(8 * HOUR_MS), bodies: Timestamp(7 * HOUR_MS) };
        assert_eq!(pruning.begin_again(RETENTION, Timestamp(9 * HOUR_MS)), Some(aged));
        assert_eq!(pruning.begin_again(RETENTION, Timestamp(9 * HOUR_MS)), None, "once");
        assert!(pruning.begin(RETENTION, Some(90), false, Timestamp(9 * HOUR_MS)).is_some());
        let all = Timestamp(8 * HOUR_MS + 1);
        let again = pruning.begin_again(RETENTION, Timestamp(8 * HOUR_MS));
        assert_eq!(again, Some(CutOff { attempts: all, bodies: all }), "space is as short as it was");
    }

    /// Nobody else would come before the next hour.
    #[test]
    fn one_that_it_is_time_for_while_another_is_under_way_is_awaited() {
        let mut pruning = Pruning::default();
        let mut begin = |hours: i64, is_under_way| {
            pruning.begin(RETENTION, Some(0), is_under_way, Timestamp(hours * HOUR_MS)).is_some()
        };
        assert!(begin(1, false) && !begin(1, true));
        assert!(!pruning.end());
        let mut begin = |hours: i64| pruning.begin(RETENTION, Some(0), true, Timestamp(hours * HOUR_MS));
        assert!(begin(2).is_none());
        assert!(pruning.end() && !pruning.end());
    }
}
