//! What a store says of its commits, for whoever watches the server.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::work::sparing::Sparing;

/// Slow commits that are told of in a minute.
const SLOW_TOLD_MAX: u32 = 10;

/// What is counted of commits.
pub struct CommitCounts {
    committed: Counter,
    failed: Counter,
    changes: Histogram,
    rows: Histogram,
    time: Histogram,
    chores: Gauge,
    left_out: Counter,
    /// Commits that take so long are told of; zero: none.
    slow: Duration,
    told: Sparing,
}

impl CommitCounts {
    /// Those of a server. Commits that take `slow` have a line in the log, unless that is zero.
    pub fn new(metrics: &Metrics, slow: Duration) -> Self {
        Self {
            committed: metrics.commits.child(&["committed"]),
            failed: metrics.commits.child(&["failed"]),
            changes: metrics.commit_changes.clone(),
            rows: metrics.commit_rows.clone(),
            time: metrics.commit_seconds.clone(),
            chores: metrics.chores_waiting.clone(),
            left_out: metrics.outcomes_refused.clone(),
            slow,
            told: Sparing::new(SLOW_TOLD_MAX),
        }
    }

    /// So many changes are on disk, and so many rows.
    pub fn committed(&self, changes: usize, rows: usize, took: Duration) {
        self.committed.inc();
        self.changes.observe(changes as u64);
        self.rows.observe(rows as u64);
        self.time.observe(took.as_micros().try_into().unwrap_or(u64::MAX));
        if !self.slow.is_zero()
            && took >= self.slow
            && let Some(withheld) = self.told.admit(Instant::now())
        {
            let took_ms = took.as_millis() as u64;
            warn!(took_ms, changes, rows, withheld, "a commit took long");
        }
    }

    /// A commit failed, or could not be begun.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// So many outcomes are not recorded, for another node sends for their merchants.
    pub fn left_out(&self, outcomes: usize) {
        self.left_out.inc_by(outcomes as u64);
    }

    /// For so much there is something to do besides the changes.
    pub fn has_chores(&self, count: usize) {
        self.chores.set(count.try_into().unwrap_or(i64::MAX));
    }
}
