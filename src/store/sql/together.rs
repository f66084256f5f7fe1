//! Look-ups of one kind that are made together, where the way to the store is long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::oneshot;

use super::conn::{Conn, Manager};
use super::readers::Readers;
use crate::store::error::StoreError;
use crate::store::ledger::BUSY_RETRY_AFTER;
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// Keys that the store is asked for in one go.
const AT_ONCE: usize = 128;
/// Look-ups of one account that may wait.
const WAITING_MAX: usize = 4_096;

/// Looks up many callers' keys by one statement: while the store is asked, whatever
/// comes waits, and is asked for with all the rest. So each caller sees what was
/// committed before he came, and many of them cost little more than one. Where the
/// store is near, each looks for himself, which is less than to wait for others.
pub struct Together<M: Manager, K, V> {
    readers: Readers<M>,
    state: Mutex<State<K, V>>,
    own: Weak<Self>,
}

struct State<K, V> {
    is_asking: bool,
    /// Accounts that wait, in the order of their turns.
    turns: VecDeque<Account>,
    waiting: HashMap<Account, VecDeque<Waiting<K, V>>>,
}

/// Gives what it finds for each key, in their order.
type Look<K, V> = fn(&mut dyn Conn, &[K]) -> Result<Vec<V>>;

type Waiting<K, V> = (K, oneshot::Sender<Result<V>>);

impl<M, K, V> Together<M, K, V>
where
    M: Manager,
    K: Clone + Send + 'static,
    V: Send + 'static,
{
    /// Asks through these.
    pub fn new(readers: Readers<M>) -> Arc<Self> {
        let state = State { is_asking: false, turns: VecDeque::new(), waiting: HashMap::new() };
        Arc::new_cyclic(|own| Self { readers, state: Mutex::new(state), own: own.clone() })
    }

    /// Looks up one key. All look in the same way.
    pub async fn look_up(&self, account: Account, key: K, look: Look<K, V>) -> Result<V> {
        if M::IS_NEAR {
            return self.readers.by_key(account, move |conn| one(look(conn, &[key])?)).await;
        }
        let (reply, answer) = oneshot::channel();
        if self.join(account, (key, reply))?
            && let Some(own) = self.own.upgrade()
        {
            tokio::spawn(async move { own.ask(look).await });
        }
        answer.await.map_err(|_| StoreError::failed("the look-up did not come to its end"))?
    }

    /// Waits in the account's line; true if nobody is asking the store.
    fn join(&self, account: Account, waiting: Waiting<K, V>) -> Result<bool> {
        let mut state = self.state();
        let line = state.waiting.entry(account).or_default();
        if line.len() >= WAITING_MAX {
            return Err(StoreError::Busy { retry_after: BUSY_RETRY_AFTER });
        }
        line.push_back(waiting);
        if line.len() == 1 {
            state.turns.push_back(account);
        }
        Ok(!std::mem::replace(&mut state.is_asking, true))
    }

    /// Asks the store until nobody waits.
    async fn ask(&self, look: Look<K, V>) {
        while let Some(waiting) = self.take() {
            let (keys, replies): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
            let found = self.readers.read(Account::Server, move |conn| look(conn, &keys)).await;
            match found {
                Ok(found) => replies.into_iter().zip(found).for_each(|(reply, found)| drop(reply.send(Ok(found)))),
                Err(cause) => replies.into_iter().for_each(|reply| drop(reply.send(Err(cause.clone())))),
            }
        }
    }

    /// Takes keys by turns of the accounts, those for which somebody still waits.
    fn take(&self) -> Option<Vec<Waiting<K, V>>> {
        let mut state = self.state();
        let mut taken = Vec::new();
        while taken.len() < AT_ONCE
            && let Some(account) = state.turns.pop_front()
        {
            let Some(line) = state.waiting.get_mut(&account) else { continue };
            taken.extend(line.pop_front().filter(|(_, reply)| !reply.is_closed()));
            if line.is_empty() {
                state.waiting.remove(&account);
            } else {
                state.turns.push_back(account);
            }
        }
        state.is_asking = !taken.is_empty();
        state.is_asking.then_some(taken)
    }

    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().expect("nothing panics while it holds the lines")
    }
}

/// What was found for one key.
fn one<V>(found: Vec<V>) -> Result<V> {
    found.into_iter().next().ok_or_else(|| StoreError::failed("nothing was said of a key"))
}
