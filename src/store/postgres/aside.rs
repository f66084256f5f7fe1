//! Changes of merchants whom other nodes hold, and how long each is waited for.
//!
//! To wait for a lock is to keep all others of this node waiting. So a merchant is
//! waited for at once but shortly, which is enough for another node's transaction;
//! whoever is held for longer is waited for now and then, and for a tenth of the time
//! at the most, however many they are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::id::MerchantId;
use crate::store::ledger::queue::Taken;
use crate::store::ledger::queued::Queued;

/// How long a merchant is waited for the first time; each time that is not enough, it
/// is twice as long the next time, …
const WAIT_MIN: Duration = Duration::from_millis(20);
/// … up to this.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// After a wait that was not enough, nobody is waited for again for so many times as
/// long.
const REST: u32 = 9;

/// Changes of merchants whom other nodes hold.
#[derive(Default)]
pub struct Aside {
    /// In the order of their turns.
    merchants: VecDeque<Waiting>,
    /// Those who have been waited for rest until then.
    rests_until: Option<Instant>,
}

/// Changes of one merchant.
pub struct Waiting {
    /// Who is held.
    pub merchant: MerchantId,
    /// In the order in which they came, each with when it was put aside.
    changes: VecDeque<(Instant, Taken<Queued>)>,
    /// How long to wait for him the next time.
    pub wait: Duration,
}

impl Waiting {
    /// Its changes.
    pub fn into_changes(self) -> impl Iterator<Item = Taken<Queued>> {
        self.changes.into_iter().map(|(_, taken)| taken)
    }
}

impl Aside {
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.merchants.is_empty()
    }

    /// True if there are some of that merchant.
    pub fn has(&self, merchant: MerchantId) -> bool {
        self.merchants.iter().any(|waiting| waiting.merchant == merchant)
    }

    /// Puts a change aside, behind those of its merchant.
    pub fn put(&mut self, merchant: MerchantId, taken: Taken<Queued>, now: Instant) {
        match self.merchants.iter_mut().find(|waiting| waiting.merchant == merchant) {
            Some(waiting) => waiting.changes.push_back((now, taken)),
            None => {
                let changes = VecDeque::from([(now, taken)]);
                self.merchants.push_back(Waiting { merchant, changes, wait: WAIT_MIN });
            }
        }
    }

    /// Takes those of the merchant who is to be waited for now, if there is one.
    pub fn take(&mut self, now: Instant) -> Option<Waiting> {
        let may_wait_again = self.rests_until.is_none_or(|until| until <= now);
        let next = self.merchants.iter().position(|waiting| may_wait_again || waiting.is_new());
        next.and_then(|index| self.merchants.remove(index))
    }

    /// Puts those back of a merchant who was waited for, for so long and not long enough.
    pub fn put_back(&mut self, waiting: Waiting, waited: Duration, now: Instant) {
        self.rests_until = Some(now + waited * REST);
        self.merchants.push_back(Waiting { wait: (waiting.wait * 2).min(WAIT_MAX), ..waiting });
    }

    /// Puts those back that nobody has waited for.
    pub fn restore(&mut self, waiting: Waiting) {
        self.merchants.push_front(waiting);
    }

    /// Takes those that have been aside for so long, and the merchants of whom there are
    /// no others.
    pub fn overdue(&mut self, patience: Duration, now: Instant) -> (Vec<Taken<Queued>>, Vec<MerchantId>) {
        let (mut overdue, mut done) = (Vec::new(), Vec::new());
        self.merchants.retain_mut(|waiting| {
            let is_overdue = |since: &Instant| now.saturating_duration_since(*since) >= patience;
            while waiting.changes.front().is_some_and(|(since, _)| is_overdue(since)) {
                overdue.extend(waiting.changes.pop_front().map(|(_, taken)| taken));
            }
            let is_done = waiting.changes.is_empty();
            done.extend(is_done.then_some(waiting.merchant));
            !is_done
        });
        (overdue, done)
    }

    /// How long until there is somebody to wait for; `None` if there is nobody.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let until = match self.merchants.iter().any(Waiting::is_new) {
            true => None,
            false => self.rests_until,
        };
        let rest = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        (!self.is_empty()).then_some(rest)
    }
}

impl Waiting {
    fn is_new(&self) -> bool {
        self.wait == WAIT_MIN
    }
}
