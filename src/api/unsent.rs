//! What waits to be sent: answers of callers that are slow to take them, or
//! take none, are memory that everybody shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::domain::id::MerchantId;
use crate::service::address::Origin;

/// Answers shorter than this are not counted: the connections bound them.
const COUNTED_FROM: usize = 1_024;

/// To whose account an answer is put down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// Those who are logged in: their merchant.
    Merchant(MerchantId),
    /// Others: where they are.
    Stranger(Origin),
}

/// The bytes that wait, in all and of each account. An account may hold as
/// many as are left free, so that whoever else comes finds some; and one that
/// holds none may always have an answer, so that nobody can be kept from his.
pub struct Unsent {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: usize,
    by_payer: HashMap<Payer, usize>,
}

/// Bytes that are counted until they are dropped.
pub struct Held {
    unsent: Arc<Unsent>,
    payer: Payer,
    count: usize,
}

impl Unsent {
    /// None yet, and at the most `max`.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default() })
    }

    /// True if the account has room for anything: what it asks for then is
    /// counted however long it is, since it may have changed something.
    pub fn has_room(&self, payer: Payer) -> bool {
        self.fits(&self.state(), payer, 1)
    }

    /// Counts bytes that must be sent.
    pub fn hold(self: &Arc<Self>, payer: Payer, count: usize) -> Held {
        self.state().add(payer, count);
        Held { unsent: Arc::clone(self), payer, count }
    }

    /// Counts bytes if there is room for them.
    pub fn try_hold(self: &Arc<Self>, payer: Payer, count: usize) -> Option<Held> {
        let mut state = self.state();
        if !self.fits(&state, payer, count) {
            return None;
        }
        state.add(payer, count);
        Some(Held { unsent: Arc::clone(self), payer, count })
    }

    fn fits(&self, state: &State, payer: Payer, count: usize) -> bool {
        let own = state.by_payer.get(&payer).copied().unwrap_or(0);
        own == 0 || own.saturating_add(count) <= self.max.saturating_sub(state.total)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the count")
    }
}

impl State {
    fn add(&mut self, payer: Payer, count: usize) {
        self.total += count;
        *self.by_payer.entry(payer).or_default() += count;
    }
}

impl Held {
    /// The same bytes, counted for as long as anybody has them.
    pub fn around(self, bytes: Bytes) -> Bytes {
        match bytes.len() < COUNTED_FROM {
            true => bytes,
            false => Bytes::from_owner(Counted { bytes, _held: self }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.unsent.state();
        state.total -= self.count;
        match state.by_payer.get_mut(&self.payer) {
            Some(own) if *own > self.count => *own -= self.count,
            _ => drop(state.by_payer.remove(&self.payer)),
        }
    }
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Payer = Payer::Merchant(MerchantId(1));
    const BOB: Payer = Payer::Merchant(MerchantId(2));

    #[test]
    fn an_account_holds_as_much_as_is_left_free() {
        let unsent = Unsent::new(16_000);
        let anns: Vec<_> = std::iter::from_fn(|| unsent.try_hold(ANN, 2_000)).collect();
        assert_eq!(anns.len(), 4);
        let bobs: Vec<_> = std::iter::from_fn(|| unsent.try_hold(BOB, 2_000)).collect();
        assert_eq!(bobs.len(), 2);
        assert!(!unsent.has_room(BOB) && !unsent.has_room(ANN));
        let sent = anns.into_iter().map(|held| held.around(Bytes::from(vec![0; 2_000]))).collect::<Vec<_>>();
        let slices: Vec<_> = sent.iter().map(|bytes| bytes.slice(5..)).collect();
        drop(sent);
        assert!(!unsent.has_room(ANN), "somebody has them still");
        drop((slices, bobs));
        let state = unsent.state();
        assert_eq!((state.total, state.by_payer.len()), (0, 0));
    }

    #[test]
    fn what_is_larger_than_all_goes_alone() {
        let unsent = Unsent::new(1_000);
        let first = unsent.try_hold(ANN, 5_000);
        assert!(first.is_some() && unsent.try_hold(ANN, 10).is_none());
        // Whoever holds none yet has an answer all the same, but no second one.
        let bob = unsent.try_hold(BOB, 10);
        assert!(bob.is_some() && unsent.try_hold(BOB, 10).is_none());
        drop(bob);
        drop(first);
        assert!(unsent.try_hold(BOB, 10).is_some());
    }
}
