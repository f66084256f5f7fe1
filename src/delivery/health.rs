//! How a receiver is doing, and how much it is sent for that: a pure function
//! of what it answered and of `now`.
//!
//! A lane starts with one request at a time and earns more with successes: its
//! window doubles with each round trip, then grows by a sixteenth. What holds it
//! is the time of an answer: when even the quickest of a round takes clearly
//! longer than the quickest of late, requests queue at the receiver, or slow
//! each other down, and more of them would only wait longer. The quickest
//! counts, not the mean, because some messages take longer than others and
//! this machine has delays of its own.
//!
//! A receiver that asks for less gets less. After a run of failures the
//! breaker opens: one probe at a time, at growing intervals, until one
//! succeeds; then what has gathered goes out in a ramp, not in a storm.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::webhook::{BREAKER_FAILURES, Pause, PauseReason};

/// How long after a failure the first probe goes out; each that fails doubles it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two probes.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The longest that a receiver's Retry-After holds up the whole lane.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// The fewest answers by which the time of answers is judged.
const ROUND_MIN: usize = 8;
/// Answers may take longer than the quickest by this part of it, a quarter …
const SLACK_PART: u32 = 4;
/// … or by so much, which is this machine's own unrest.
const SLACK: Duration = Duration::from_millis(3);
/// How long the quickest answer counts. Then the window is halved for a round,
/// so that the queue which the lane itself may have made is not taken for the
/// way to the receiver.
const QUICKEST_FOR: Duration = Duration::from_secs(10);
/// A window of so many is kept as long as answers take no longer than
/// [`CALM`]: what so few requests add to that is not worth slowing down for.
const CALM_WINDOW: usize = 8;
/// See [`CALM_WINDOW`].
const CALM: Duration = Duration::from_millis(50);

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// It takes deliveries, and took so long to answer.
    Good(Duration),
    /// It does not.
    Bad,
    /// Nothing came back in time, or no connection could be had.
    Lost,
    /// It wants less, or nothing for so long.
    TooMuch(Option<Duration>),
    /// Nothing: it was not asked.
    Nothing,
}

/// What is known of a receiver.
#[derive(Clone, Debug)]
pub struct ReceiverHealth {
    window: Window,
    /// Failures since the last success.
    failures: u32,
    /// Whether there was a success since the lane began, or began anew.
    is_proven: bool,
    /// Requests that were under way when the breaker opened, or the receiver
    /// asked for a pause: what becomes of them says nothing new.
    stragglers: usize,
    /// Probes that failed since.
    probes: u32,
    /// When the receiver wants to be asked again.
    asked_until: Option<Timestamp>,
    /// When the next probe of an open breaker goes out.
    probe_at: Option<Timestamp>,
}

impl ReceiverHealth {
    /// Of a receiver that has failed so often in a row, and was left alone since.
    pub fn new(failures: u32, pause: Option<Pause>) -> Self {
        let until = |reason| pause.filter(|pause| pause.reason == reason).map(|pause| pause.until);
        Self {
            window: Window::default(),
            failures,
            is_proven: false,
            stragglers: 0,
            probes: 0,
            asked_until: until(PauseReason::RetryAfter),
            probe_at: until(PauseReason::Failures),
        }
    }

    /// Requests that may be under way at once.
    pub fn window(&self) -> usize {
        self.window.size
    }

    /// True if the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
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
    pub fn pause(&self, now: Timestamp) -> Option<Pause> {
        let asked = self.asked_pause(now).map(|until| Pause { until, reason: PauseReason::RetryAfter });
        let probe = ahead(self.probe_at, now).map(|until| Pause { until, reason: PauseReason::Failures });
        asked.into_iter().chain(probe).max_by_key(|pause| pause.until)
    }

    /// Until when the receiver wants nothing at all, if that is later than `now`.
    pub fn asked_pause(&self, now: Timestamp) -> Option<Timestamp> {
        ahead(self.asked_until, now)
    }

    /// Learns of the end of an attempt, while `in_flight` others are under
    /// way. The window grows up to `max`.
    pub fn heed(&mut self, feedback: Feedback, in_flight: usize, max: usize, now: Timestamp) {
        let is_straggler = self.stragglers > 0;
        self.stragglers = self.stragglers.saturating_sub(1);
        if let Feedback::Good(took) = feedback {
            if self.is_open() {
                self.window = Window::default();
            }
            if self.is_open() || !is_straggler {
                (self.asked_until, self.probe_at) = (None, None);
            }
            (self.failures, self.probes, self.is_proven) = (0, 0, true);
            self.window.answered(took, in_flight, max, now);
            return;
        }
        if feedback == Feedback::Nothing {
            return;
        }
        let was_open = self.is_open();
        self.failures = self.failures.saturating_add(1);
        match feedback {
            Feedback::Good(_) | Feedback::Nothing | Feedback::Bad => {}
            Feedback::Lost => self.window.shrink(in_flight),
            Feedback::TooMuch(wait) => {
                self.window.shrink(in_flight);
                let wait = wait.unwrap_or_default().min(PAUSE_MAX);
                if !wait.is_zero() {
                    self.asked_until = self.asked_pause(now).max(Some(now.after(wait)));
                    self.stragglers = in_flight;
                }
            }
        }
        if !self.is_open() || (was_open && is_straggler) {
            return;
        }
        match was_open {
            true => self.probes = self.probes.saturating_add(1),
            false => self.stragglers = in_flight,
        }
        self.window = Window::default();
        let interval = PROBE_INTERVAL.saturating_mul(1 << self.probes.min(16)).min(PROBE_INTERVAL_MAX);
        self.probe_at = ahead(self.probe_at, now).max(Some(now.after(interval)));
    }
}

/// A time if it is later than `now`; one that is further away than it can be
/// was set before the clock went back.
fn ahead(time: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    time.filter(|until| *until > now && until.since(now) <= PAUSE_MAX)
}

/// Requests that may be under way at once.
#[derive(Clone, Debug)]
struct Window {
    size: usize,
    growth: Growth,
    /// Answers that are still to come in this round; then it is judged.
    left: usize,
    /// The quickest answer of the round.
    quickest_of_round: Option<Duration>,
    /// Whether as many were under way in it as might be, more or less.
    is_used: bool,
    /// The quickest answer of late, and when it came.
    quickest: Option<(Duration, Timestamp)>,
    /// Ends that tell of a time when the window was larger.
    late: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// By one with each answer, which doubles it with each round trip.
    Doubling,
    /// By a sixteenth with each round.
    Steady,
    /// Not at all: it is half of this, to see how long an answer takes without
    /// a queue.
    Looking(usize),
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: 1,
            growth: Growth::Doubling,
            left: ROUND_MIN,
            quickest_of_round: None,
            is_used: false,
            quickest: None,
            late: 0,
        }
    }
}

impl Window {
    fn answered(&mut self, took: Duration, in_flight: usize, max: usize, now: Timestamp) {
        if self.late > 0 {
            self.late -= 1;
            return;
        }
        let is_used = in_flight + 1 >= self.size.div_ceil(2);
        self.is_used |= is_used;
        // One that took long is no reason to send more, whatever made it so.
        let is_quick = self.quickest.is_none_or(|(quickest, _)| took <= tolerable(quickest));
        if self.growth == Growth::Doubling && is_used && is_quick {
            self.size += 1;
        }
        self.quickest_of_round = Some(self.quickest_of_round.map_or(took, |quickest| quickest.min(took)));
        self.left -= 1;
        if self.left == 0 {
            self.judge(in_flight, now);
        }
        // The owner may have lowered it.
        self.size = self.size.min(max.max(1));
    }

    /// What the answers of a round say.
    fn judge(&mut self, in_flight: usize, now: Timestamp) {
        let Some(of_round) = self.quickest_of_round.take() else { return };
        if let Growth::Looking(before) = self.growth {
            (self.quickest, self.size, self.growth) = (Some((of_round, now)), before, Growth::Steady);
            return self.begin_round();
        }
        let (quickest, seen_at) = match self.quickest {
            Some((quickest, seen_at)) if quickest <= of_round => (quickest, seen_at),
            _ => (of_round, now),
        };
        self.quickest = Some((quickest, seen_at));
        let tolerable = tolerable(quickest);
        if of_round > tolerable {
            let fitting = (self.size as f64 * tolerable.as_secs_f64() / of_round.as_secs_f64()) as usize;
            let least = if of_round <= CALM { CALM_WINDOW.min(self.size) } else { 1 };
            (self.size, self.growth) = (fitting.max(least), Growth::Steady);
            // What is under way was sent before.
            self.late = in_flight;
        } else if self.growth == Growth::Steady && self.is_used {
            self.size += (self.size / 16).max(1);
        }
        // One that is further away than it can be was seen before the clock went back.
        let is_old = now.since(seen_at) >= QUICKEST_FOR || seen_at > now;
        if is_old && self.size > CALM_WINDOW {
            self.growth = Growth::Looking(self.size);
            self.size /= 2;
            self.late = in_flight;
        } else if is_old {
            self.quickest = Some((of_round, now));
        }
        self.begin_round();
    }

    fn begin_round(&mut self) {
        (self.left, self.is_used) = (self.size.max(ROUND_MIN), false);
    }

    /// Halves it, once for all that were under way at the time.
    fn shrink(&mut self, in_flight: usize) {
        if self.late > 0 {
            self.late -= 1;
            return;
        }
        let size = match self.growth {
            Growth::Looking(before) => before,
            Growth::Doubling | Growth::Steady => self.size,
        };
        (self.size, self.growth, self.late) = ((size / 2).max(1), Growth::Steady, in_flight);
        self.quickest_of_round = None;
        self.begin_round();
    }
}

/// How long answers may take, if the quickest takes so long.
fn tolerable(quickest: Duration) -> Duration {
    quickest + (quickest / SLACK_PART).max(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn after_s(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn until(health: &ReceiverHealth, now: Timestamp) -> Option<Timestamp> {
        health.pause(now).map(|pause| pause.until)
    }

    const MS: Duration = Duration::from_millis(1);
    const GOOD: Feedback = Feedback::Good(MS);

    /// A receiver that takes so long for an answer while so many requests are
    /// under way, and a lane that always has more to send.
    struct Receiver<F> {
        takes: F,
        health: ReceiverHealth,
        /// When requests that are under way will be answered, in µs, and how long each will have taken.
        under_way: std::collections::BTreeSet<(u64, usize, Duration)>,
        now_us: u64,
        sent: usize,
    }

    impl<F: Fn(usize) -> Duration> Receiver<F> {
        fn new(takes: F) -> Self {
            Self { takes, health: ReceiverHealth::new(0, None), under_way: Default::default(), now_us: 0, sent: 0 }
        }

        /// Answers of the next so many seconds; each with how long it took.
        fn run(&mut self, seconds: u64, max: usize) -> Vec<Duration> {
            let (end, mut took) = (self.now_us + seconds * 1_000_000, Vec::new());
            while self.now_us < end {
                while self.under_way.len() < self.health.window() {
                    self.sent += 1;
                    let takes = (self.takes)(self.under_way.len() + 1);
                    self.under_way.insert((self.now_us + takes.as_micros() as u64, self.sent, takes));
                }
                let (at, _, takes) = self.under_way.pop_first().unwrap();
                self.now_us = at;
                took.push(takes);
                let now = Timestamp(NOW.0 + (at / 1_000) as i64);
                self.health.heed(Feedback::Good(takes), self.under_way.len(), max, now);
            }
            took
        }
    }

    #[test]
    fn a_window_doubles_with_each_round_trip_and_ends_at_its_bound() {
        let mut far = Receiver::new(|_| 100 * MS);
        assert!(!far.health.is_trusted());
        let answered = far.run(1, 256).len();
        assert!(far.health.is_trusted());
        assert_eq!(far.health.window(), 256);
        assert!(answered >= 500, "{answered} in the first second");
        assert_eq!(far.run(9, 256).len() / 9 / 100, 25, "the most that so many at once can be");
    }

    #[test]
    fn a_receiver_that_slows_down_is_kept_near_its_best() {
        // It answers 500 a second at best, with 50 at once; with 200 it is a quarter of that, and worse beyond.
        let slows_down = |requests: usize| (100 * MS).mul_f64((requests as f64 / 50.0).powi(2).max(1.0));
        let mut receiver = Receiver::new(slows_down);
        receiver.run(5, 1_024);
        let took = receiver.run(60, 1_024);
        assert!(took.len() / 60 >= 430, "{} a second", took.len() / 60);
        let longest = took.iter().max().unwrap();
        assert!(longest < &Duration::from_secs(1), "{longest:?} is nearer to a time-out than it need be");
    }

    #[test]
    fn a_receiver_with_so_many_hands_is_not_sent_a_queue() {
        let pooled = |requests: usize| (100 * MS).mul_f64((requests as f64 / 20.0).max(1.0));
        let mut receiver = Receiver::new(pooled);
        receiver.run(5, 1_024);
        // Also after many looks for the quickest: its own queue is not taken for the way.
        let took = receiver.run(120, 1_024);
        assert!(took.len() / 120 >= 180, "{} a second", took.len() / 120);
        assert!(took.last().unwrap() < &(200 * MS), "{:?}", took.last());
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut health = ReceiverHealth::new(0, None);
        (0..1_000).for_each(|_| health.heed(GOOD, 0, 1_024, NOW));
        assert_eq!(health.window(), 3);
    }

    #[test]
    fn what_was_lost_together_counts_once() {
        let mut far = Receiver::new(|_| 100 * MS);
        far.run(2, 64);
        for left in (0..4).rev() {
            far.health.heed(Feedback::Lost, left, 64, NOW);
        }
        assert_eq!(far.health.window(), 32);
    }

    #[test]
    fn a_run_of_failures_opens_the_breaker_and_a_success_closes_it() {
        let mut health = ReceiverHealth::new(0, None);
        (0..10).for_each(|_| health.heed(GOOD, 7, 8, NOW));
        for failed in 1..BREAKER_FAILURES {
            health.heed(Feedback::Bad, 0, 8, NOW);
            assert_eq!((health.is_open(), health.pause(NOW)), (false, None), "{failed}");
        }
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                health.heed(Feedback::Bad, 0, 8, NOW);
                let wait = health.pause(NOW).unwrap().until.since(NOW).as_secs();
                health.probe_at = None;
                wait
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(health.is_open() && !health.is_trusted());
        health.heed(GOOD, 7, 8, NOW);
        assert_eq!((health.is_open(), health.pause(NOW), health.window()), (false, None, 2));
    }

    #[test]
    fn what_was_under_way_when_the_breaker_opened_is_no_probe() {
        let mut health = ReceiverHealth::new(BREAKER_FAILURES - 1, None);
        health.heed(Feedback::Bad, 7, 8, NOW);
        (0..7).for_each(|_| health.heed(Feedback::Bad, 0, 8, NOW));
        assert_eq!(until(&health, NOW), Some(after_s(1)));
        health.heed(Feedback::Bad, 0, 8, after_s(1));
        assert_eq!(until(&health, after_s(1)), Some(after_s(3)));
    }

    #[test]
    fn a_receiver_that_asks_for_less_gets_less() {
        let mut health = ReceiverHealth::new(0, None);
        (0..100).for_each(|_| health.heed(GOOD, 7, 8, NOW));
        health.heed(Feedback::TooMuch(None), 0, 8, NOW);
        assert_eq!((health.window(), health.pause(NOW)), (4, None));
        health.heed(Feedback::TooMuch(Some(Duration::from_secs(90))), 0, 8, NOW);
        assert_eq!((health.window(), until(&health, NOW)), (2, Some(after_s(90))));
        // A shorter one that came after does not shorten it; one without end is capped.
        health.heed(Feedback::TooMuch(Some(Duration::from_secs(1))), 0, 8, NOW);
        assert_eq!(until(&health, NOW), Some(after_s(90)));
        health.heed(Feedback::TooMuch(Some(Duration::MAX)), 0, 8, NOW);
        assert_eq!(until(&health, NOW), Some(after_s(3_600)));
        // The clock went back by a day.
        assert_eq!(health.pause(Timestamp(NOW.0 - 86_400_000)), None);
    }

    #[test]
    fn a_success_ends_a_pause_unless_it_was_under_way_when_that_began() {
        let asks = Feedback::TooMuch(Some(Duration::from_secs(90)));
        let mut health = ReceiverHealth::new(0, None);
        health.heed(asks, 2, 8, NOW);
        assert_eq!(health.pause(NOW), Some(Pause { until: after_s(90), reason: PauseReason::RetryAfter }));
        health.heed(GOOD, 1, 8, NOW);
        health.heed(GOOD, 0, 8, NOW);
        assert_eq!(until(&health, NOW), Some(after_s(90)));
        health.heed(GOOD, 0, 8, NOW);
        assert_eq!(until(&health, NOW), None);

        // Whichever is longer is the reason; one of an earlier life counts.
        let mut health =
            ReceiverHealth::new(BREAKER_FAILURES, Some(Pause { until: after_s(1), reason: PauseReason::RetryAfter }));
        assert_eq!(health.pause(NOW).map(|pause| pause.reason), Some(PauseReason::RetryAfter));
        health.heed(Feedback::Bad, 0, 8, NOW);
        assert_eq!(health.pause(NOW), Some(Pause { until: after_s(2), reason: PauseReason::Failures }));
        health.heed(GOOD, 0, 8, NOW);
        assert_eq!(health.pause(NOW), None);
    }
}
