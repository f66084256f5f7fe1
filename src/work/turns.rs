//! How much of one account runs at once, where many may ask at once: what is
//! ready to run shares threads that take no turns by account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Account;

/// So many turns at once for each account. Those who wait for one have it in
/// the order in which they came.
#[derive(Debug)]
pub struct Turns {
    max: usize,
    lines: Mutex<HashMap<Account, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    account: Account,
    turns: Arc<Turns>,
}

impl Turns {
    /// So many for each.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, lines: Mutex::default() })
    }

    /// Waits for a turn of the account.
    pub async fn take(self: &Arc<Self>, account: Account) -> Turn {
        let permit = self.line(account).acquire_owned().await.expect("the semaphore is never closed");
        Turn { permit: Some(permit), account, turns: Arc::clone(self) }
    }

    fn line(&self, account: Account) -> Arc<Semaphore> {
        let mut lines = self.lines();
        let place = lines.entry(account).or_default();
        place.upgrade().unwrap_or_else(|| {
            let line = Arc::new(Semaphore::new(self.max));
            *place = Arc::downgrade(&line);
            line
        })
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Account, Weak<Semaphore>>> {
        self.lines.lock().expect("nothing panics while it holds the lines")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut lines = self.turns.lines();
        if lines.get(&self.account).is_some_and(|line| line.strong_count() == 0) {
            lines.remove(&self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::id::MerchantId;

    #[test]
    fn an_account_has_so_many_turns_in_their_order_and_others_have_theirs() {
        let (ann, bob) = (Account::Merchant(MerchantId(1)), Account::Merchant(MerchantId(2)));
        let turns = Turns::new(2);
        let own: Vec<_> = (0..2).map(|_| turns.take(ann).now_or_never().unwrap()).collect();
        let (mut next, mut last) = (Box::pin(turns.take(ann)), Box::pin(turns.take(ann)));
        assert!((&mut next).now_or_never().is_none() && (&mut last).now_or_never().is_none());
        assert!(turns.take(bob).now_or_never().is_some());
        drop(own);
        let next = next.now_or_never().expect("a turn is free");
        assert!(last.now_or_never().is_some());
        drop(next);
        assert!(turns.lines().is_empty(), "nothing is left of those who came and went");
    }
}
