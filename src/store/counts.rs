//! What a store says of its commits, for whoever watches the server.

use std::time::Duration;

use crate::metrics::{Counter, Gauge, Histogram, Metrics};

/// What is counted of commits.
pub struct CommitCounts {
    committed: Counter,
    failed: Counter,
    changes: Histogram,
    rows: Histogram,
    time: Histogram,
    chores: Gauge,
    left_out: Counter,
}

impl CommitCounts {
    /// Those of a server.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            committed: metrics.commits.child(&["committed"]),
            failed: metrics.commits.child(&["failed"]),
            changes: metrics.commit_changes.clone(),
            rows: metrics.commit_rows.clone(),
            time: metrics.commit_seconds.clone(),
            chores: metrics.chores_waiting.clone(),
            left_out: metrics.outcomes_refused.clone(),
        }
    }

    /// So many changes are on disk, and so many rows.
    pub fn committed(&self, changes: usize, rows: usize, took: Duration) {
        self.committed.inc();
        self.changes.observe(changes as u64);
        self.rows.observe(rows as u64);
        self.time.observe(took.as_micros().try_into().unwrap_or(u64::MAX));
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
