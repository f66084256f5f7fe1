//! What waits for the writer thread.
//!
//! Two lines: outcomes of deliveries go before everything else, so that a
//! flood of publishes can't keep what was sent from being marked as sent.
//! Whoever comes when the other line is full is refused at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Why an entry was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The line is as long as it may be.
    Full,
    /// The writer is closing.
    Closed,
}

/// A bounded line with a priority line beside it.
#[derive(Debug)]
pub struct Queue<T> {
    lines: Mutex<Lines<T>>,
    filled: Condvar,
    max: usize,
}

#[derive(Debug)]
struct Lines<T> {
    first: VecDeque<T>,
    second: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// A queue whose ordinary line holds up to `max` entries.
    pub fn new(max: usize) -> Self {
        let lines = Lines { first: VecDeque::new(), second: VecDeque::new(), is_closed: false };
        Self { lines: Mutex::new(lines), filled: Condvar::new(), max }
    }

    /// Joins the ordinary line.
    pub fn push(&self, entry: T) -> Result<(), Refused> {
        let mut lines = self.lines();
        if lines.is_closed {
            return Err(Refused::Closed);
        }
        if lines.second.len() >= self.max {
            return Err(Refused::Full);
        }
        lines.second.push_back(entry);
        drop(lines);
        self.filled.notify_one();
        Ok(())
    }

    /// Joins the priority line. It has no bound of its own: there is one
    /// sender, the delivery worker, and it has no more than one entry a request
    /// that is in flight, and one for outcomes.
    pub fn push_first(&self, entry: T) -> Result<(), Refused> {
        let mut lines = self.lines();
        if lines.is_closed {
            return Err(Refused::Closed);
        }
        lines.first.push_back(entry);
        drop(lines);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes up to `max` entries, those with priority first; waits up to
    /// `patience` for the first. `None` once the queue is closed and empty.
    pub fn take(&self, max: usize, patience: Duration) -> Option<Vec<T>> {
        let lines = self.lines();
        let (mut lines, _) = self
            .filled
            .wait_timeout_while(lines, patience, |lines| lines.is_empty() && !lines.is_closed)
            .expect("nothing panics while it holds the lines");
        if lines.is_empty() && lines.is_closed {
            return None;
        }
        let from_first = lines.first.len().min(max);
        let mut taken: Vec<T> = lines.first.drain(..from_first).collect();
        let from_second = lines.second.len().min(max - from_first);
        taken.extend(lines.second.drain(..from_second));
        Some(taken)
    }

    /// Refuses newcomers from now on; what waits can still be taken.
    pub fn close(&self) {
        self.lines().is_closed = true;
        self.filled.notify_all();
    }

    fn lines(&self) -> MutexGuard<'_, Lines<T>> {
        self.lines.lock().expect("nothing panics while it holds the lines")
    }
}

impl<T> Lines<T> {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_first_and_bounds_hold() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Ok(()));
        assert_eq!(queue.push(3), Err(Refused::Full));
        assert_eq!(queue.push_first(9), Ok(()));
        assert_eq!(queue.take(2, Duration::ZERO), Some(vec![9, 1]));
        queue.close();
        assert_eq!(queue.push(4), Err(Refused::Closed));
        assert_eq!(queue.take(10, Duration::ZERO), Some(vec![2]));
        assert_eq!(queue.take(10, Duration::ZERO), None);
    }
}
