//! Counts failed logins, so that keys can't be guessed at speed.
//!
//! Rate-limiting libraries take a permit before the act; here only failures
//! count, and a right key must not get through while there were too many, so
//! looking and counting are two steps.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::domain::time::Timestamp;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// The most pairs of user and address that are remembered; beyond, the oldest
/// windows are forgotten first.
const ENTRIES_MAX: usize = 10_000;

/// Failed logins by user name and address.
#[derive(Debug)]
pub struct FailedLogins {
    failures_max: u32,
    windows: Mutex<HashMap<(String, IpAddr), Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    opened_at: Timestamp,
    failures: u32,
}

impl FailedLogins {
    /// Allows `failures_max` failures a minute.
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, windows: Mutex::default() }
    }

    /// How long this user must wait at this address; `None`: go ahead.
    pub fn wait(&self, user: &str, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let windows = self.windows();
        let window = windows.get(&(user.to_owned(), address))?;
        let passed = now.since(window.opened_at);
        (window.failures > self.failures_max && passed < WINDOW).then(|| WINDOW - passed)
    }

    /// Counts a failure.
    pub fn count(&self, user: &str, address: IpAddr, now: Timestamp) {
        let mut windows = self.windows();
        let is_open = |window: &Window| now.since(window.opened_at) < WINDOW;
        if windows.len() >= ENTRIES_MAX {
            windows.retain(|_, window| is_open(window));
        }
        if windows.len() >= ENTRIES_MAX {
            let oldest = windows.iter().min_by_key(|(_, window)| window.opened_at).map(|(key, _)| key.clone());
            oldest.and_then(|key| windows.remove(&key));
        }
        let window = windows.entry((user.to_owned(), address)).or_insert(Window { opened_at: now, failures: 0 });
        if !is_open(window) {
            *window = Window { opened_at: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
    }

    fn windows(&self) -> std::sync::MutexGuard<'_, HashMap<(String, IpAddr), Window>> {
        self.windows.lock().expect("nothing panics while it holds the windows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn more_than_the_allowed_failures_close_the_door_for_the_rest_of_the_minute() {
        let failed = FailedLogins::new(2);
        for second in 0..3 {
            assert_eq!(failed.wait("ann", HERE, Timestamp(second * 1000)), None);
            failed.count("ann", HERE, Timestamp(second * 1000));
        }
        assert_eq!(failed.wait("ann", HERE, Timestamp(10_000)), Some(Duration::from_secs(50)));
        assert_eq!(failed.wait("ann", THERE, Timestamp(10_000)), None);
        assert_eq!(failed.wait("bob", HERE, Timestamp(10_000)), None);
        assert_eq!(failed.wait("ann", HERE, Timestamp(60_000)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let failed = FailedLogins::new(2);
        for n in 0..(ENTRIES_MAX as i64 + 10) {
            failed.count(&n.to_string(), HERE, Timestamp(n));
        }
        assert_eq!(failed.windows().len(), ENTRIES_MAX);
    }
}
