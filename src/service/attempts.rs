//! Counts failed logins, so that keys can't be guessed at speed.
//!
//! Rate-limiting libraries take a permit before the act; here only failures
//! count, and how many there were decides how long the next login takes, so
//! looking and counting are two steps. Both take the same short time however
//! much is remembered, since everybody who logs in waits for them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::domain::address::Origin;
use crate::domain::time::Timestamp;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// The most pairs of user and address, and the most addresses, that are
/// remembered; beyond, those that were opened first are forgotten first.
const ENTRIES_MAX: usize = 10_000;
/// How many windows that have ended are forgotten with each failure: more than
/// one opens with it.
const FORGOTTEN_AT_ONCE: usize = 2;

/// Failed logins, by user name and address and by address alone.
#[derive(Debug)]
pub struct FailedLogins {
    by_name: Windows<(Arc<str>, Origin)>,
    /// Whatever the names.
    by_address: Windows<Origin>,
}

/// Failures by key, each in a window that begins with the first.
#[derive(Debug)]
struct Windows<K> {
    failures_max: u32,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    windows: HashMap<K, Window>,
    /// In the order in which they were opened. One that was opened again is
    /// here twice, and goes with the second.
    order: VecDeque<(K, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    opened_at: Timestamp,
    failures: u32,
}

impl FailedLogins {
    /// Allows `failures_max` failures a minute of one user at one address, and
    /// `address_failures_max` at one address.
    pub fn new(failures_max: u32, address_failures_max: u32) -> Self {
        Self { by_name: Windows::new(failures_max), by_address: Windows::new(address_failures_max) }
    }

    /// How long this user must wait at this address; `None`: go ahead. An
    /// address that many share, `None`, is not judged as a whole.
    pub fn wait(&self, user: &str, address: Origin, whole: Option<Origin>, now: Timestamp) -> Option<Duration> {
        let of_address = whole.and_then(|whole| self.by_address.wait(&whole, now));
        of_address.max(self.by_name.wait(&(user.into(), address), now))
    }

    /// Counts a failure.
    pub fn count(&self, user: &str, address: Origin, whole: Option<Origin>, now: Timestamp) {
        self.by_name.count((user.into(), address), now);
        if let Some(whole) = whole {
            self.by_address.count(whole, now);
        }
    }
}

impl<K: Clone + Eq + Hash> Windows<K> {
    fn new(failures_max: u32) -> Self {
        let state = State { windows: HashMap::new(), order: VecDeque::new() };
        Self { failures_max, state: Mutex::new(state) }
    }

    fn wait(&self, key: &K, now: Timestamp) -> Option<Duration> {
        let state = self.state();
        let window = state.windows.get(key)?;
        let passed = now.since(window.opened_at);
        (window.failures > self.failures_max && passed < WINDOW).then(|| WINDOW - passed)
    }

    fn count(&self, key: K, now: Timestamp) {
        let mut state = self.state();
        let is_open = |opened_at| now.since(opened_at) < WINDOW;
        for _ in 0..FORGOTTEN_AT_ONCE {
            if state.order.front().is_some_and(|(_, opened_at)| !is_open(*opened_at)) {
                state.forget_first();
            }
        }
        if let Some(window) = state.windows.get_mut(&key).filter(|window| is_open(window.opened_at)) {
            window.failures = window.failures.saturating_add(1);
            return;
        }
        if state.order.len() >= ENTRIES_MAX {
            state.forget_first();
        }
        state.order.push_back((key.clone(), now));
        state.windows.insert(key, Window { opened_at: now, failures: 1 });
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().expect("nothing panics while it holds the windows")
    }
}

impl<K: Eq + Hash> State<K> {
    /// Forgets the one that was opened first.
    fn forget_first(&mut self) {
        let Some((key, opened_at)) = self.order.pop_front() else { return };
        if self.windows.get(&key).is_some_and(|window| window.opened_at == opened_at) {
            self.windows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn origin(last: u8) -> Origin {
        Origin::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn more_than_the_allowed_failures_close_the_door_for_the_rest_of_the_minute() {
        let (failed, here, there) = (FailedLogins::new(2, 100), origin(1), origin(2));
        let wait = |user, address, now| failed.wait(user, address, Some(address), Timestamp(now));
        for second in 0..3 {
            assert_eq!(wait("ann", here, second * 1000), None);
            failed.count("ann", here, Some(here), Timestamp(second * 1000));
        }
        assert_eq!(wait("ann", here, 10_000), Some(Duration::from_secs(50)));
        assert_eq!(wait("ann", there, 10_000), None);
        assert_eq!(wait("bob", here, 10_000), None);
        assert_eq!(wait("ann", here, 60_000), None);
        failed.count("ann", here, Some(here), Timestamp(60_000));
        assert_eq!(wait("ann", here, 60_000), None, "a new window begins with one");
    }

    #[test]
    fn an_address_has_a_bound_whatever_the_names() {
        let (failed, here, there) = (FailedLogins::new(2, 3), origin(1), origin(2));
        for name in ["a", "b", "c", "d"] {
            assert_eq!(failed.wait(name, here, Some(here), Timestamp(0)), None);
            failed.count(name, here, Some(here), Timestamp(0));
        }
        assert_eq!(failed.wait("ann", here, Some(here), Timestamp(0)), Some(WINDOW));
        assert_eq!(failed.wait("ann", there, Some(there), Timestamp(0)), None);
        assert_eq!(failed.wait("ann", here, None, Timestamp(0)), None, "many share it");
    }

    #[test]
    fn memory_is_bounded_and_the_first_go_first() {
        let windows = Windows::new(0);
        for n in 0..(ENTRIES_MAX as i64 + 10) {
            windows.count(n, Timestamp(n));
        }
        let now = Timestamp(ENTRIES_MAX as i64 + 10);
        assert!(windows.wait(&9, now).is_none() && windows.wait(&10, now).is_some());
        let state = windows.state();
        assert_eq!((state.windows.len(), state.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
    }

    /// Else a window that was opened again would be forgotten with its first
    /// place in the order, and another failure be free.
    #[test]
    fn what_is_opened_again_stays() {
        let windows = Windows::new(0);
        for key in 0..4 {
            windows.count(key, Timestamp(key));
        }
        let later = Timestamp(WINDOW.as_millis() as i64 + 10);
        windows.count(3, later);
        windows.count(9, later);
        windows.count(8, later);
        assert!(windows.wait(&3, later).is_some());
        assert_eq!(windows.state().windows.len(), 3, "what has ended is forgotten");
    }
}
