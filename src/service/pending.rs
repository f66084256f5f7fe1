//! How many deliveries of a merchant are pending, of those who may have so many.
//!
//! Nobody knows that by heart: what has ended out of turn is found by looking. So it is counted
//! now and then, and what is published here in between is added. What ends in between, and what
//! is published at other servers, shows with the next count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::id::MerchantId;
use crate::store::surveyed::Tried;

/// A count is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// Before the quota is said to be used up it is counted anew, unless that was done so short ago.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// After a count none is made for so many times as long as it took.
const REST_FACTOR: u32 = 20;
/// Merchants that are remembered; beyond it all are forgotten, and counted anew.
const MERCHANTS_MAX: usize = 10_000;

/// What was counted of each merchant with a quota.
#[derive(Default)]
pub struct PendingCounts(Mutex<HashMap<MerchantId, Arc<Counted>>>);

/// What was counted of one.
#[derive(Default)]
pub struct Counted {
    count: Mutex<Count>,
    /// Held by whoever counts. What an earlier count found out stays true.
    pub counting: tokio::sync::Mutex<Tried>,
}

/// How many there were, and are, as far as it is known here.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// How many there are.
    pub pending: u64,
    /// How many were ever added here.
    pub added: u64,
    /// When that was counted, by the server's clock, and how long it took; `None`: never.
    pub counted: Option<(Duration, Duration)>,
}

impl Count {
    /// True if it need not be counted anew for one who may have so many.
    pub fn is_good(self, now: Duration, max: u32) -> bool {
        let Some((at, took)) = self.counted else { return false };
        let good_for = if self.pending < max.into() { GOOD_FOR } else { AGAIN_AFTER };
        now.saturating_sub(at) < good_for.max(took * REST_FACTOR)
    }
}

impl PendingCounts {
    /// That of a merchant.
    pub fn of(&self, merchant: MerchantId) -> Arc<Counted> {
        let mut all = self.0.lock().expect("nothing panics while it holds the counts");
        if all.len() >= MERCHANTS_MAX && !all.contains_key(&merchant) {
            all.clear();
        }
        Arc::clone(all.entry(merchant).or_default())
    }
}

impl Counted {
    /// As it is.
    pub fn read(&self) -> Count {
        *self.count.lock().expect("nothing panics while it holds a count")
    }

    /// Makes another of it.
    pub fn change(&self, change: impl FnOnce(Count) -> Count) {
        let mut count = self.count.lock().expect("nothing panics while it holds a count");
        *count = change(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_good_for_a_while_that_is_shorter_when_the_quota_is_used_up() {
        let ms = Duration::from_millis;
        assert!(!Count::default().is_good(ms(0), 5), "never counted");
        let count = |pending, took| Count { pending, added: 0, counted: Some((ms(10_000), took)) };
        assert!(count(4, ms(1)).is_good(ms(10_999), 5) && !count(4, ms(1)).is_good(ms(11_000), 5));
        assert!(count(5, ms(1)).is_good(ms(10_099), 5) && !count(5, ms(1)).is_good(ms(10_100), 5));
        assert!(count(5, ms(50)).is_good(ms(10_999), 5), "it took long");
    }
}
