//! When the store is looked at, whatever it has announced.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// A look that found what was not as it should be is followed by another after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// After a look that was asked for, so many times as long as it took no other is made
/// for being asked for.
const REST: u32 = 20;

/// One look at a time, so often, and when one is asked for.
pub struct Poll {
    interval: Duration,
    next_at: Timestamp,
    /// When the one that is under way began.
    begun_at: Option<Timestamp>,
    is_asked: bool,
    /// None is made before for being asked for.
    rests_until: Timestamp,
}

impl Poll {
    /// From now on.
    pub fn new(interval: Duration, now: Timestamp) -> Self {
        Self { interval, next_at: now.after(interval), begun_at: None, is_asked: false, rests_until: now }
    }

    /// Asks for one.
    pub fn ask(&mut self) {
        self.is_asked = true;
    }

    /// True if it is time, and from then on until [`Self::end`] it is not.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        // One that is further away was set before the clock went back.
        let is_time = now >= self.next_at || self.next_at.since(now) > self.interval;
        let is_asked = self.is_asked && (now >= self.rests_until || self.rests_until.since(now) > self.interval);
        let begins = (is_time || is_asked) && self.begun_at.is_none();
        if begins {
            (self.begun_at, self.is_asked, self.next_at) = (Some(now), false, now.after(self.interval));
        }
        begins
    }

    /// The look has ended, and all was found to be as it should be, or not.
    pub fn end(&mut self, now: Timestamp, is_as_it_should_be: bool) {
        let Some(begun_at) = self.begun_at.take() else { return };
        self.rests_until = now.after((now.since(begun_at) * REST).min(self.interval));
        if !is_as_it_should_be {
            self.next_at = self.next_at.min(now.after(AGAIN_AFTER));
        }
    }

    /// When the next one is to begin.
    pub fn next(&self) -> Option<Timestamp> {
        let asked_for = self.is_asked.then_some(self.rests_until);
        self.begun_at.is_none().then(|| asked_for.map_or(self.next_at, |at| at.min(self.next_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_at_a_time_whichever_way_the_clock_goes() {
        let mut poll = Poll::new(Duration::from_secs(5), Timestamp(100_000));
        assert_eq!(poll.next(), Some(Timestamp(105_000)));
        assert!(!poll.begin(Timestamp(104_999)));
        assert!(poll.begin(Timestamp(105_000)));
        assert_eq!(poll.next(), None);
        assert!(!poll.begin(Timestamp(200_000)), "the other has not ended");
        poll.end(Timestamp(105_000), true);
        assert_eq!(poll.next(), Some(Timestamp(110_000)));
        assert!(!poll.begin(Timestamp(109_999)));
        assert!(poll.begin(Timestamp(50_000)), "the clock went back");
        poll.end(Timestamp(50_000), true);
        assert_eq!(poll.next(), Some(Timestamp(55_000)));
    }

    #[test]
    fn one_that_is_asked_for_comes_at_once_unless_the_last_took_long() {
        let mut poll = Poll::new(Duration::from_secs(30), Timestamp(0));
        poll.ask();
        assert_eq!(poll.next(), Some(Timestamp(0)));
        assert!(poll.begin(Timestamp(1_000)));
        poll.ask();
        assert!(!poll.begin(Timestamp(1_010)), "one at a time");
        poll.end(Timestamp(1_010), true);
        assert_eq!(poll.next(), Some(Timestamp(1_210)));
        assert!(!poll.begin(Timestamp(1_209)) && poll.begin(Timestamp(1_210)));
        assert!(!poll.begin(Timestamp(40_000)));
        poll.end(Timestamp(40_000), true);
        assert!(poll.begin(Timestamp(40_000)), "in the meantime the other is due");
        poll.end(Timestamp(40_000), false);
        assert_eq!(poll.next(), Some(Timestamp(45_000)), "what is being read may not be read");
    }
}
