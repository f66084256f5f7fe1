//! Bytes of memory that accounts share: so many in all, of which each account
//! may hold as many as are left free, so that whoever else comes finds some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::{Account, may_take};

/// Bytes shorter than this need not be counted while somebody has them.
const COUNTED_FROM: usize = 1_024;

/// The bytes that are held, in all and of each account.
pub struct Budget {
    max: usize,
    /// True if an account that holds nothing may always have some.
    serves_everybody: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: usize,
    by_account: HashMap<Account, usize>,
}

/// Bytes that are counted until this is dropped.
pub struct Reservation {
    budget: Arc<Budget>,
    share: Mutex<Share>,
}

#[derive(Clone, Copy)]
struct Share {
    account: Account,
    count: usize,
}

impl Budget {
    /// None are held yet, and at the most `max` are, or something longer alone.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, serves_everybody: false, state: Mutex::default() })
    }

    /// The same, but an account that holds nothing may always have some, so
    /// that nobody can be kept from his: more than `max` by so much.
    pub fn for_everybody(max: usize) -> Arc<Self> {
        Arc::new(Self { max, serves_everybody: true, state: Mutex::default() })
    }

    /// Counts bytes if there is room for them.
    pub fn try_hold(self: &Arc<Self>, account: Account, count: usize) -> Option<Reservation> {
        let nothing = Share { account, count: 0 };
        let held = Reservation { budget: Arc::clone(self), share: Mutex::new(nothing) };
        held.try_resize(count).then_some(held)
    }

    /// Counts bytes that are there, whether there is room for them or not.
    pub fn hold(self: &Arc<Self>, account: Account, count: usize) -> Reservation {
        self.state().add(Share { account, count });
        Reservation { budget: Arc::clone(self), share: Mutex::new(Share { account, count }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the count")
    }
}

impl State {
    fn add(&mut self, Share { account, count }: Share) {
        self.total += count;
        *self.by_account.entry(account).or_default() += count;
    }

    fn take_off(&mut self, Share { account, count }: Share) {
        self.total -= count;
        match self.by_account.get_mut(&account) {
            Some(own) if *own > count => *own -= count,
            _ => drop(self.by_account.remove(&account)),
        }
    }

    fn own(&self, account: Account) -> usize {
        self.by_account.get(&account).copied().unwrap_or(0)
    }
}

impl Reservation {
    /// Counts so many in place of those it counted. False, and nothing is
    /// changed, if there is no room for them; for fewer there always is.
    pub fn try_resize(&self, count: usize) -> bool {
        let (mut share, mut state) = (self.share(), self.budget.state());
        let (own, all) = (state.own(share.account) - share.count, state.total - share.count);
        let has_room = count <= share.count
            || (self.budget.serves_everybody && own == 0)
            || may_take(count, own, all, self.budget.max);
        if has_room {
            state.take_off(*share);
            share.count = count;
            state.add(*share);
        }
        has_room
    }

    /// The same for what is there already, whether there is room for it or not.
    pub fn resize(&self, count: usize) {
        let (mut share, mut state) = (self.share(), self.budget.state());
        state.take_off(*share);
        share.count = count;
        state.add(*share);
    }

    /// Has another account pay for it, whether there is room for it there or not.
    pub fn put_down_to(&self, account: Account) {
        let (mut share, mut state) = (self.share(), self.budget.state());
        state.take_off(*share);
        share.account = account;
        state.add(*share);
    }

    /// The same bytes, counted for as long as anybody has them. Few are not.
    pub fn around(this: impl Into<Arc<Self>>, bytes: Bytes) -> Bytes {
        let this = this.into();
        match bytes.len() < COUNTED_FROM {
            true => bytes,
            false => {
                this.resize(bytes.len());
                Bytes::from_owner(Counted { bytes, _held: this })
            }
        }
    }

    fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().expect("nothing panics while it holds a share")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let share = *self.share();
        self.budget.state().take_off(share);
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Share { account, count } = *self.share();
        write!(f, "{count} bytes of {account:?}")
    }
}

struct Counted {
    bytes: Bytes,
    _held: Arc<Reservation>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::MerchantId;

    const ANN: Account = Account::Merchant(MerchantId(1));
    const BOB: Account = Account::Merchant(MerchantId(2));

    fn is_empty(budget: &Budget) -> bool {
        let state = budget.state();
        state.total == 0 && state.by_account.is_empty()
    }

    #[test]
    fn an_account_holds_as_much_as_is_left_free() {
        for budget in [Budget::new(16_000), Budget::for_everybody(16_000)] {
            let anns: Vec<_> = std::iter::from_fn(|| budget.try_hold(ANN, 2_000)).collect();
            assert_eq!(anns.len(), 4);
            let bobs: Vec<_> = std::iter::from_fn(|| budget.try_hold(BOB, 2_000)).collect();
            assert_eq!(bobs.len(), 2);
            assert!(budget.try_hold(ANN, 1).is_none() && budget.try_hold(BOB, 1).is_none());
            let sent: Vec<_> =
                anns.into_iter().map(|held| Reservation::around(held, Bytes::from(vec![0; 2_000]))).collect();
            let slices: Vec<_> = sent.iter().map(|bytes| bytes.slice(5..)).collect();
            drop(sent);
            assert!(budget.try_hold(ANN, 1).is_none(), "somebody has them still");
            drop((slices, bobs));
            assert!(is_empty(&budget));
        }
    }

    #[test]
    fn what_is_larger_than_all_goes_alone() {
        let budget = Budget::new(1_000);
        let first = budget.try_hold(ANN, 5_000).unwrap();
        assert!(first.try_resize(6_000), "it is alone still");
        assert!(budget.try_hold(ANN, 10).is_none() && budget.try_hold(BOB, 10).is_none());
        assert!(first.try_resize(5_500), "less always has room");
        drop(first);
        let bob = budget.try_hold(BOB, 10).unwrap();
        assert!(!bob.try_resize(0) || budget.try_hold(ANN, 1_000).is_some());
    }

    #[test]
    fn where_everybody_is_served_who_holds_nothing_has_something() {
        let budget = Budget::for_everybody(1_000);
        let first = budget.try_hold(ANN, 5_000).unwrap();
        let bob = budget.try_hold(BOB, 10).unwrap();
        assert!(budget.try_hold(BOB, 10).is_none() && bob.try_resize(20));
        drop((first, bob));
        assert!(budget.try_hold(BOB, 10).is_some() && is_empty(&budget));
    }

    #[test]
    fn what_is_put_down_to_another_is_his() {
        let budget = Budget::new(1_000);
        let held = budget.hold(ANN, 500);
        assert!(budget.try_hold(ANN, 100).is_none());
        held.put_down_to(BOB);
        assert!(budget.try_hold(ANN, 100).is_some() && budget.try_hold(BOB, 100).is_none());
        held.resize(2_000);
        assert!(budget.try_hold(ANN, 1).is_none(), "it is there, though there was no room");
        drop(held);
        assert!(is_empty(&budget));
    }
}
