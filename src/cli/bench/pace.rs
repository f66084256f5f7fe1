//! How long the receiver of a measurement takes to answer: what the query of
//! a webhook's URL says, or the distance at which the whole receiver is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

/// How a receiver's answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After so long, however many are under way.
    Distant(Duration),
    /// The later, the more are under way.
    Yielding(Capacity),
    /// By some workers, first come, first served.
    Pooled(Capacity),
}

/// What a receiver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// How long a request takes if few are under way, in milliseconds.
    pub base_ms: u32,
    /// How many may be under way before each takes longer.
    pub knee: u32,
    /// How many are answered before its throughput counts.
    pub ramp: u64,
}

impl Capacity {
    /// The most requests a second that it can answer.
    pub fn best_per_s(self) -> f64 {
        f64::from(self.knee) * 1_000.0 / f64::from(self.base_ms)
    }

    /// The query of a URL of such a receiver.
    pub fn query(self, kind: &str) -> String {
        format!("?{kind}_ms={}&knee={}&ramp={}", self.base_ms, self.knee, self.ramp)
    }

    fn read(query: &str, kind: &str) -> Option<Self> {
        let mut parts = query.strip_prefix(kind)?.strip_prefix("_ms=")?.split('&');
        let base_ms = parts.next()?.parse().ok()?;
        let knee = parts.next()?.strip_prefix("knee=")?.parse().ok().filter(|knee| *knee > 0)?;
        let ramp = parts.next()?.strip_prefix("ramp=")?.parse().ok()?;
        Some(Self { base_ms, knee, ramp })
    }
}

impl Pace {
    /// What a query asks for; otherwise the receiver is at that distance.
    pub fn of(query: Option<&str>, latency: Duration) -> Self {
        let Some(query) = query else { return Self::Distant(latency) };
        let delay = || query.strip_prefix("delay_ms=")?.parse().ok().map(|ms| Self::Distant(Duration::from_millis(ms)));
        let yielding = || Capacity::read(query, "yielding").map(Self::Yielding);
        let pooled = || Capacity::read(query, "pooled").map(Self::Pooled);
        delay().or_else(yielding).or_else(pooled).unwrap_or(Self::Distant(latency))
    }
}

/// How busy the receiver is behind one path.
#[derive(Debug, Default)]
pub struct Load {
    under_way: AtomicU64,
    under_way_max: AtomicU64,
    given_up: AtomicU64,
}

impl Load {
    /// The most requests that were under way at once.
    pub fn under_way_max(&self) -> u64 {
        self.under_way_max.load(Ordering::Relaxed)
    }

    /// Requests whose client went away before they were answered.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// A request begins; it is given up if this is dropped before it is
    /// [answered](Visit::answered).
    pub fn begin(self: &Arc<Self>) -> Visit {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.under_way_max.fetch_max(under_way, Ordering::Relaxed);
        Visit { load: Arc::clone(self), under_way, is_answered: false }
    }
}

/// A request under way.
pub struct Visit {
    load: Arc<Load>,
    under_way: u64,
    is_answered: bool,
}

impl Visit {
    /// Waits as long as a receiver that slows down does.
    pub async fn yielding(&self, capacity: Capacity) {
        let crowding = self.under_way as f64 / f64::from(capacity.knee);
        let factor = (crowding * crowding).max(1.0);
        tokio::time::sleep(Duration::from_millis(capacity.base_ms.into()).mul_f64(factor)).await;
    }

    /// Waits for a worker, and then as long as it takes.
    pub async fn pooled(&self, capacity: Capacity, workers: &Semaphore) {
        // Nobody closes it; without a place the answer would only come sooner.
        let _place = workers.acquire().await;
        tokio::time::sleep(Duration::from_millis(capacity.base_ms.into())).await;
    }

    /// Its answer is about to go out.
    pub fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.load.under_way.fetch_sub(1, Ordering::Relaxed);
        self.load.given_up.fetch_add(u64::from(!self.is_answered), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_answers_come_or_the_distance_holds() {
        let latency = Duration::from_millis(100);
        let capacity = Capacity { base_ms: 100, knee: 50, ramp: 500 };
        assert_eq!(capacity.best_per_s(), 500.0);
        let of = |query: &str| Pace::of(query.strip_prefix('?'), latency);
        assert_eq!(of(&capacity.query("yielding")), Pace::Yielding(capacity));
        assert_eq!(of(&capacity.query("pooled")), Pace::Pooled(capacity));
        assert_eq!(of("?delay_ms=5000"), Pace::Distant(Duration::from_secs(5)));
        for distant in ["", "?down", "?yielding_ms=100", "?yielding_ms=100&knee=0&ramp=1"] {
            assert_eq!(of(distant), Pace::Distant(latency), "{distant}");
        }
    }

    #[test]
    fn who_goes_away_is_counted() {
        let load = Arc::new(Load::default());
        let (first, second) = (load.begin(), load.begin());
        first.answered();
        drop(second);
        drop(load.begin());
        assert_eq!((load.under_way_max(), load.given_up()), (2, 2));
    }
}
