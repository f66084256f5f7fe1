//! How many requests may be under way, as far as the thread that makes them
//! keeps up.
//!
//! All deliveries share one thread. When receivers answer faster than it takes
//! their answers, further requests are not answered sooner: they wait for the
//! thread, and so does whoever comes next. So their number follows how long
//! what is ready waits for the thread: it grows, up to `in_flight_max`, while
//! that is short, as with receivers that are far away or silent, and shrinks
//! when it is long.

use std::time::{Duration, Instant};

/// What is ready should not wait longer for the thread than this while
/// several merchants share it, …
const SHARED_LAG_MAX: Duration = Duration::from_millis(1);
/// … and this while one has it for himself, who waits for nobody else. More
/// may be under way while it waits less than half of that.
const LAG_MAX: Duration = Duration::from_millis(8);
/// The number to begin with, and that it goes back to in quiet times.
const START: usize = 256;
/// The number that is always allowed.
const LEAST: usize = 64;
/// How often it is changed.
const INTERVAL: Duration = Duration::from_millis(5);

/// The number, and what it follows.
#[derive(Debug)]
pub struct Pace {
    allowed: usize,
    max: usize,
    /// Requests that have ended since the last look, …
    ended: usize,
    /// … and the longest that one of them waited to be heard.
    lag: Duration,
    looked_at: Instant,
}

impl Pace {
    /// Of up to so many requests.
    pub fn new(max: usize, now: Instant) -> Self {
        Self { allowed: START.min(max), max, ended: 0, lag: Duration::ZERO, looked_at: now }
    }

    /// How many may be under way.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// A request that had ended then is heard now.
    pub fn heard(&mut self, ended_at: Instant, now: Instant) {
        self.ended += 1;
        self.lag = self.lag.max(now.saturating_duration_since(ended_at));
    }

    /// Looks how it goes, while so many are under way, more are wanted or not,
    /// and merchants share the thread or not; true if the number has changed.
    pub fn look(&mut self, in_flight: usize, are_wanted: bool, is_shared: bool, now: Instant) -> bool {
        if now < self.next_look() {
            return false;
        }
        self.looked_at = now;
        let (before, ended, lag) = (self.allowed, std::mem::take(&mut self.ended), std::mem::take(&mut self.lag));
        let (lag_max, start) = if is_shared { (SHARED_LAG_MAX, LEAST) } else { (LAG_MAX, START) };
        if lag > lag_max {
            // Those that hang are no work for the thread: only as many as come and go are too many.
            let fewer = self.allowed.saturating_sub((ended / 4).min(self.allowed / 2));
            self.allowed = fewer.max(LEAST.min(self.max));
        } else if lag <= lag_max / 2 && are_wanted {
            self.allowed = (self.allowed + ended.max(self.allowed / 16).max(1)).min(self.max);
        } else if !are_wanted && in_flight < self.allowed / 4 {
            self.allowed -= self.allowed.saturating_sub(start).div_ceil(16);
        }
        self.allowed != before
    }

    /// When to look again, at the earliest.
    pub fn next_look(&self) -> Instant {
        self.looked_at + INTERVAL
    }

    /// True if it may still grow.
    pub fn may_grow(&self) -> bool {
        self.allowed < self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that needs so long for each request that ends, and what it makes of a pace whose requests take so
    /// long to be answered: the longest lag of the last half, and how many have ended in it.
    fn run(
        pace: &mut Pace,
        is_shared: bool,
        begin: Instant,
        (work, answer): (Duration, Duration),
        rounds: u32,
    ) -> (Duration, usize) {
        let (mut now, mut lags, mut ended) = (begin, Duration::ZERO, 0);
        for round in 0..rounds {
            // One merchant alone has half.
            let in_flight = pace.allowed().div_ceil(2);
            let busy = work * u32::try_from(in_flight).unwrap();
            let lag = busy.saturating_sub(answer).max(work);
            let took = busy.max(answer);
            (0..in_flight).for_each(|_| pace.heard(now, now + lag));
            now += took.max(INTERVAL);
            pace.look(in_flight, true, is_shared, now);
            if round >= rounds / 2 {
                (lags, ended) = (lags.max(lag), ended + in_flight);
            }
        }
        (lags, ended)
    }

    #[test]
    fn near_receivers_get_no_queue_and_far_ones_get_all() {
        let (now, work) = (Instant::now(), Duration::from_micros(60));
        for (is_shared, lag_max) in [(false, LAG_MAX), (true, SHARED_LAG_MAX)] {
            let mut near = Pace::new(4_096, now);
            let (lag, _) = run(&mut near, is_shared, now, (work, Duration::from_micros(200)), 400);
            let least = work * u32::try_from(LEAST / 2).unwrap();
            assert!(lag <= (2 * lag_max).max(least) && near.allowed() >= LEAST, "{lag:?} with {}", near.allowed());
            let mut far = Pace::new(4_096, now);
            let (lag, _) = run(&mut far, is_shared, now, (work, Duration::from_millis(300)), 400);
            assert!(lag <= lag_max && far.allowed() == 4_096, "{lag:?} with {}", far.allowed());
        }
    }

    #[test]
    fn silent_receivers_let_it_grow_although_nothing_ends() {
        let now = Instant::now();
        let mut pace = Pace::new(1_000, now);
        assert!(!pace.look(256, true, false, now), "not before its time");
        let grown = (1..100).filter(|n| pace.look(pace.allowed(), true, false, now + INTERVAL * *n)).count();
        assert!(pace.allowed() == 1_000 && grown > 10 && !pace.may_grow());
        let shrunk = (100..300).filter(|n| pace.look(0, false, false, now + INTERVAL * *n)).count();
        assert!(shrunk > 10 && pace.allowed() == START, "{}", pace.allowed());
        for n in 300..400 {
            pace.look(0, false, true, now + INTERVAL * n);
        }
        assert_eq!(pace.allowed(), LEAST, "fewer to begin with where the thread is shared");
    }

    #[test]
    fn it_never_goes_below_its_least() {
        let now = Instant::now();
        for max in [1, 10, 4_096] {
            let mut pace = Pace::new(max, now);
            for n in 1..200 {
                (0..1_000).for_each(|_| pace.heard(now, now + Duration::from_secs(1)));
                pace.look(max, true, n % 2 == 0, now + INTERVAL * n);
            }
            assert_eq!(pace.allowed(), max.min(LEAST));
        }
    }
}
