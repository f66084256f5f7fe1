//! How many calls somebody may make: so many a second, and some at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use crate::domain::rate::{Rate, RateGate};
use crate::domain::time::Clock;

/// After so many calls those are forgotten who have rested long enough.
const FORGET_EVERY: usize = 4_096;
/// Added to a time that is rounded up to whole milliseconds.
const SHORT_OF_MS: Duration = Duration::from_nanos(999_999);

/// Counts the calls of each of them. What is remembered is bounded by how many
/// call within the time in which a burst is due again.
pub struct CallRate<K> {
    rate: Rate,
    counted: OwnRates<K>,
}

/// The same of those who have a rate each.
pub struct OwnRates<K> {
    clock: Clock,
    state: Mutex<State<K>>,
}

struct State<K> {
    gates: HashMap<K, RateGate>,
    counted: usize,
}

impl<K: Clone + Eq + Hash> CallRate<K> {
    /// Allows each so many calls a second, and `burst` at once, which is a
    /// second's worth if it is 0. `None`, which costs nothing, if `per_second`
    /// is 0: there is no limit.
    pub fn new(per_second: u32, burst: u32, clock: Clock) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let rate = Rate::new(per_second, NonZeroU32::new(burst).unwrap_or(per_second));
        Some(Self { rate, counted: OwnRates::new(clock) })
    }

    /// Counts a call. Fails with the time until the next one, in whole
    /// milliseconds, if it is one too many, which is not counted.
    pub fn count(&self, who: &K) -> Result<(), Duration> {
        self.counted.count(who, self.rate)
    }
}

impl<K: Clone + Eq + Hash> OwnRates<K> {
    /// Of nobody yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State { gates: HashMap::new(), counted: 0 }) }
    }

    /// Counts a call of one who may make so many. Fails as [`CallRate::count`] does.
    pub fn count(&self, who: &K, rate: Rate) -> Result<(), Duration> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock().expect("nothing panics while it holds the gates");
        state.counted += 1;
        if state.counted >= FORGET_EVERY {
            state.gates.retain(|_, gate| !gate.is_rested(now));
            state.counted = 0;
        }
        let gate = state.gates.entry(who.clone()).or_default();
        match gate.opens_at(rate, now) {
            None => {
                gate.pass(rate, now);
                Ok(())
            }
            // Rounded up, so that who waits for so long is not too early.
            Some(at) => {
                Err(Duration::from_millis(((at - now) + SHORT_OF_MS).as_millis().try_into().unwrap_or(u64::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::UserId;
    use crate::domain::time::Timestamp;

    #[test]
    fn each_user_has_a_burst_and_then_a_rate() {
        let (clock, hand) = Clock::manual(Timestamp(1_000_000));
        let rate = CallRate::new(3, 5, clock).unwrap();
        let (ann, bob) = (&UserId(1), &UserId(2));
        for _ in 0..5 {
            assert_eq!(rate.count(ann), Ok(()));
        }
        let wait = Duration::from_millis(334);
        assert_eq!(rate.count(ann), Err(wait));
        assert_eq!(rate.count(ann), Err(wait), "what is refused does not count");
        assert_eq!(rate.count(bob), Ok(()));
        hand.send_modify(|now| *now = now.after(wait - Duration::from_millis(1)));
        assert_eq!(rate.count(ann), Err(Duration::from_millis(1)));
        hand.send_modify(|now| *now = now.after(Duration::from_millis(1)));
        assert_eq!(rate.count(ann), Ok(()));
        assert!(rate.count(ann).is_err());
        // However long it rests, it has no more than a burst.
        hand.send_modify(|now| *now = now.after(Duration::from_secs(3_600)));
        assert_eq!((0..9).filter(|_| rate.count(ann).is_ok()).count(), 5);
    }

    #[test]
    fn without_a_burst_it_is_a_seconds_worth_and_without_a_rate_there_is_no_limit() {
        let (clock, _hand) = Clock::manual(Timestamp(0));
        let rate = CallRate::new(7, 0, clock.clone()).unwrap();
        assert_eq!((0..9).filter(|_| rate.count(&UserId(1)).is_ok()).count(), 7);
        assert!(CallRate::<UserId>::new(0, 7, clock).is_none());
    }

    #[test]
    fn who_has_rested_is_forgotten() {
        let (clock, hand) = Clock::manual(Timestamp(0));
        let rate = CallRate::new(1, 1, clock).unwrap();
        for user in 0..10 {
            assert_eq!(rate.count(&UserId(user)), Ok(()));
        }
        hand.send_modify(|now| *now = now.after(Duration::from_secs(60)));
        for _ in 0..FORGET_EVERY {
            let _ = rate.count(&UserId(11));
        }
        assert_eq!(rate.counted.state.lock().unwrap().gates.len(), 1);
    }
}
