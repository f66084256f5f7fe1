//! How a receiver is doing, and how much it is sent for that: a pure function
//! of what it answered and of `now`.
//!
//! A lane starts with one request at a time and earns more with successes. A
//! receiver that asks for less gets less. After a run of failures the breaker
//! opens: one probe at a time, at growing intervals, until one succeeds; then
//! what has gathered goes out in a ramp, not in a storm.

use std::time::Duration;

use crate::domain::policy::RateLimit;
use crate::domain::time::Timestamp;

/// So many failures in a row open the breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// How long after a failure the first probe goes out; each that fails doubles it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two probes.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The longest that a receiver's Retry-After holds up the whole lane.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It takes deliveries.
    Good,
    /// It does not.
    Bad,
    /// It wants less, or nothing for so long.
    TooMuch(Option<Duration>),
}

/// What is known of a receiver.
#[derive(Clone, Debug)]
pub struct Health {
    /// Requests that may be under way at once.
    window: usize,
    /// Successes since the window last grew.
    credit: usize,
    /// Failures since the last success.
    failures: u32,
    /// Whether there was a success since the lane began, or began anew.
    is_proven: bool,
    /// Requests that were under way when the breaker opened: what becomes of
    /// them says nothing new.
    stragglers: usize,
    /// Probes that failed since.
    probes: u32,
    paused_until: Option<Timestamp>,
}

impl Health {
    /// Of a receiver that has failed so often in a row.
    pub fn new(failures: u32) -> Self {
        Self { window: 1, credit: 0, failures, is_proven: false, stragglers: 0, probes: 0, paused_until: None }
    }

    /// Requests that may be under way at once.
    pub fn window(&self) -> usize {
        self.window
    }

    /// True while the breaker is open.
    pub fn is_open(&self) -> bool {
        self.failures >= BREAKER_FAILURES
    }

    /// True if it took its last deliveries.
    pub fn is_trusted(&self) -> bool {
        self.is_proven && !self.is_open()
    }

    /// Until when nothing new is to be sent, if that is later than `now`.
    pub fn pause(&self, now: Timestamp) -> Option<Timestamp> {
        // One that is further away was set before the clock went back.
        self.paused_until.filter(|until| *until > now && until.since(now) <= PAUSE_MAX)
    }

    /// Learns of the end of an attempt, while `in_flight` others are under
    /// way. The window grows up to `max`.
    pub fn heed(&mut self, sign: Sign, in_flight: usize, max: usize, now: Timestamp) {
        let is_straggler = self.stragglers > 0;
        self.stragglers = self.stragglers.saturating_sub(1);
        if sign == Sign::Good {
            if self.is_open() {
                (self.window, self.credit) = (1, 0);
                self.paused_until = None;
            }
            (self.failures, self.probes, self.is_proven) = (0, 0, true);
            self.credit += 1;
            if self.credit >= self.window && self.window < max {
                (self.window, self.credit) = (self.window + 1, 0);
            }
            return;
        }
        let was_open = self.is_open();
        self.failures = self.failures.saturating_add(1);
        self.credit = 0;
        if let Sign::TooMuch(wait) = sign {
            self.window = (self.window / 2).max(1);
            let wait = wait.unwrap_or_default().min(PAUSE_MAX);
            self.paused_until = self.pause(now).max((!wait.is_zero()).then(|| now.after(wait)));
        }
        if !self.is_open() || (was_open && is_straggler) {
            return;
        }
        match was_open {
            true => self.probes = self.probes.saturating_add(1),
            false => self.stragglers = in_flight,
        }
        self.window = 1;
        let interval = PROBE_INTERVAL.saturating_mul(1 << self.probes.min(16)).min(PROBE_INTERVAL_MAX);
        self.paused_until = self.pause(now).max(Some(now.after(interval)));
    }
}

/// Keeps a lane within its rate: the generic cell rate algorithm, which needs
/// one number and no timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateGate {
    /// When the next request would be on time if they came evenly, in
    /// microseconds since 1970.
    expected_us: i64,
}

impl RateGate {
    /// When the next request may go out, if not now.
    pub fn wait(&self, limit: Option<RateLimit>, now: Timestamp) -> Option<Timestamp> {
        let limit = limit?;
        let early_us = self.expected_us(limit, now) - (i64::from(limit.burst()) - 1) * interval_us(limit);
        (early_us > now_us(now)).then(|| Timestamp(early_us.div_euclid(1_000) + i64::from(early_us % 1_000 != 0)))
    }

    /// Counts a request.
    pub fn pass(&mut self, limit: Option<RateLimit>, now: Timestamp) {
        if let Some(limit) = limit {
            self.expected_us = self.expected_us(limit, now).max(now_us(now)) + interval_us(limit);
        }
    }

    /// What is further away than a burst can lead was set before the clock
    /// went back, or before the limit was raised.
    fn expected_us(self, limit: RateLimit, now: Timestamp) -> i64 {
        let furthest = now_us(now) + i64::from(limit.burst()) * interval_us(limit);
        self.expected_us.min(furthest)
    }
}

fn interval_us(limit: RateLimit) -> i64 {
    1_000_000 / i64::from(limit.per_second())
}

fn now_us(now: Timestamp) -> i64 {
    now.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn after_s(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn trust_is_earned_round_by_round() {
        let mut health = Health::new(0);
        assert!(!health.is_trusted());
        let windows: Vec<usize> = (0..7)
            .map(|_| {
                health.heed(Sign::Good, 0, 4, NOW);
                health.window()
            })
            .collect();
        assert_eq!(windows, [2, 2, 3, 3, 3, 4, 4]);
        assert!(health.is_trusted());
    }

    #[test]
    fn a_run_of_failures_opens_the_breaker_and_a_success_closes_it() {
        let mut health = Health::new(0);
        (0..10).for_each(|_| health.heed(Sign::Good, 0, 8, NOW));
        for failed in 1..BREAKER_FAILURES {
            health.heed(Sign::Bad, 0, 8, NOW);
            assert_eq!((health.is_open(), health.pause(NOW)), (false, None), "{failed}");
        }
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                health.heed(Sign::Bad, 0, 8, NOW);
                let wait = health.pause(NOW).unwrap().since(NOW).as_secs();
                health.paused_until = None;
                wait
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(health.is_open() && !health.is_trusted());
        health.heed(Sign::Good, 0, 8, NOW);
        assert_eq!((health.is_open(), health.pause(NOW), health.window()), (false, None, 2));
    }

    #[test]
    fn what_was_under_way_when_the_breaker_opened_is_no_probe() {
        let mut health = Health::new(BREAKER_FAILURES - 1);
        health.heed(Sign::Bad, 7, 8, NOW);
        (0..7).for_each(|_| health.heed(Sign::Bad, 0, 8, NOW));
        assert_eq!(health.pause(NOW), Some(after_s(1)));
        health.heed(Sign::Bad, 0, 8, after_s(1));
        assert_eq!(health.pause(after_s(1)), Some(after_s(3)));
    }

    #[test]
    fn a_receiver_that_asks_for_less_gets_less() {
        let mut health = Health::new(0);
        (0..100).for_each(|_| health.heed(Sign::Good, 0, 8, NOW));
        health.heed(Sign::TooMuch(None), 0, 8, NOW);
        assert_eq!((health.window(), health.pause(NOW)), (4, None));
        health.heed(Sign::TooMuch(Some(Duration::from_secs(90))), 0, 8, NOW);
        assert_eq!((health.window(), health.pause(NOW)), (2, Some(after_s(90))));
        // A shorter one that came after does not shorten it; one without end is capped.
        health.heed(Sign::TooMuch(Some(Duration::from_secs(1))), 0, 8, NOW);
        assert_eq!(health.pause(NOW), Some(after_s(90)));
        health.heed(Sign::TooMuch(Some(Duration::MAX)), 0, 8, NOW);
        assert_eq!(health.pause(NOW), Some(after_s(3_600)));
        // The clock went back by a day.
        assert_eq!(health.pause(Timestamp(NOW.0 - 86_400_000)), None);
    }

    #[test]
    fn a_rate_is_kept_and_a_burst_allowed() {
        let limit = Some(RateLimit::try_new(10, Some(3)).unwrap());
        let mut gate = RateGate::default();
        for _ in 0..3 {
            assert_eq!(gate.wait(limit, NOW), None);
            gate.pass(limit, NOW);
        }
        assert_eq!(gate.wait(limit, NOW), Some(Timestamp(NOW.0 + 100)));
        let mut now = NOW;
        let mut sent = 0;
        while now.since(NOW) < Duration::from_secs(10) {
            now = gate.wait(limit, now).unwrap_or(now);
            gate.pass(limit, now);
            sent += 1;
        }
        assert_eq!(sent, 100);
        // Without a limit nothing waits; after the clock went back, no longer than a burst takes.
        assert_eq!(gate.wait(None, now), None);
        assert!(gate.wait(limit, NOW).is_none_or(|at| at.since(NOW) <= Duration::from_millis(300)));
    }
}
