//! Lines of the log that somebody else can cause: so many a minute, and no more, however
//! often he does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long lines count together.
const WINDOW: Duration = Duration::from_secs(60);

/// Lets so many lines a minute through.
#[derive(Debug)]
pub struct Sparing {
    lines_max: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    told: u32,
    withheld: u64,
}

impl Sparing {
    /// So many in a minute that begins with the first.
    pub fn new(lines_max: u32) -> Self {
        Self { lines_max, window: Mutex::new(Window { began: None, told: 0, withheld: 0 }) }
    }

    /// Whether a line may be told now: if so, how many were not since the last one that was.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            (window.began, window.told) = (Some(now), 0);
        }
        if window.told >= self.lines_max {
            window.withheld += 1;
            return None;
        }
        window.told += 1;
        Some(std::mem::take(&mut window.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_told_with_the_next() {
        let (sparing, start) = (Sparing::new(2), Instant::now());
        let admit = |seconds| sparing.admit(start + Duration::from_secs(seconds));
        assert_eq!([admit(0), admit(1), admit(2), admit(59)], [Some(0), Some(0), None, None]);
        assert_eq!([admit(60), admit(61), admit(62)], [Some(2), Some(0), None]);
        assert_eq!(admit(130), Some(1));
    }
}
