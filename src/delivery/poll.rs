//! When the store is looked at, whatever it has announced.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// One look at a time, so often.
pub struct Poll {
    interval: Duration,
    next_at: Timestamp,
    is_under_way: bool,
}

impl Poll {
    /// From now on.
    pub fn new(interval: Duration, now: Timestamp) -> Self {
        Self { interval, next_at: now.after(interval), is_under_way: false }
    }

    /// True if it is time, and from then on until [`Self::end`] it is not.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        // One that is further away was set before the clock went back.
        let is_time = now >= self.next_at || self.next_at.since(now) > self.interval;
        let begins = is_time && !self.is_under_way;
        if begins {
            (self.is_under_way, self.next_at) = (true, now.after(self.interval));
        }
        begins
    }

    /// The look has ended.
    pub fn end(&mut self) {
        self.is_under_way = false;
    }

    /// When the next one is to begin.
    pub fn next(&self) -> Option<Timestamp> {
        (!self.is_under_way).then_some(self.next_at)
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
        poll.end();
        assert_eq!(poll.next(), Some(Timestamp(110_000)));
        assert!(!poll.begin(Timestamp(109_999)));
        assert!(poll.begin(Timestamp(50_000)), "the clock went back");
        poll.end();
        assert_eq!(poll.next(), Some(Timestamp(55_000)));
    }
}
