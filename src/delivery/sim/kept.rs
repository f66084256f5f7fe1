//! What is kept, and how much finds room: nothing is pruned before its time, and
//! nothing is accepted by a store that is full.

use crate::domain::time::Timestamp;
use crate::store::ledger::memory::{Before, Memory};
use crate::store::ledger::terms::Retention;
use crate::store::ledger::work::Engine;

/// What is known of it.
pub struct Kept {
    retention: Retention,
    /// What the store held after the last commit, if it is bounded.
    used: Option<u64>,
    /// Space was short since the pass of pruning began that is under way.
    is_short: bool,
    /// One was, when the last commit had ended.
    was_pruning: bool,
}

impl Kept {
    /// As the operator has it.
    pub fn new(retention: Retention) -> Self {
        Self { retention, used: None, is_short: false, was_pruning: false }
    }

    /// The operator gives it all the room that there is.
    pub fn unbound(&mut self) {
        *self = Self::new(Retention { bytes_max: 0, ..self.retention });
    }

    /// What a commit has taken away was old enough, and what it has brought found
    /// room.
    pub fn check_commit(&mut self, before: &Before, memory: &Memory, now: Timestamp) {
        let max = self.retention.bytes_max;
        let used = (max > 0).then(|| memory.used_bytes());
        let is_short = self.used.max(used).is_some_and(|used| used >= max / 10 * 9);
        self.is_short = is_short || (self.is_short && self.was_pruning);
        self.was_pruning = memory.is_pruning();
        let has_taken = self.check_events(before, memory, now) | self.check_attempts(before, memory, now);
        let news = before.events.iter().filter(|(_, old)| old.is_none());
        let mut news = news.filter_map(|(id, _)| memory.tables.events.get(id).or(before.passed.get(id)));
        let accepted = news.find(|row| !row.event.topic.is_operational());
        if let (Some(used), Some(row), false) = (self.used, accepted, has_taken) {
            assert!(used < max, "{used} of {max} bytes were used, and this was accepted: {row:?}");
        }
        self.used = used;
    }

    /// What has ended before is pruned.
    fn before(&self, age: std::time::Duration, now: Timestamp) -> Timestamp {
        if self.is_short { Timestamp(now.0 + 1) } else { Timestamp(now.0 - age.as_millis() as i64) }
    }

    fn check_events(&self, before: &Before, memory: &Memory, now: Timestamp) -> bool {
        let cut_off = self.before(self.retention.bodies, now);
        let mut has_taken = !before.passed.is_empty();
        for (id, old) in &before.events {
            let Some(old) = old.as_ref().filter(|_| !memory.tables.events.has(id)) else { continue };
            has_taken = true;
            let all = memory.tables.deliveries.iter().map(|(_, row)| row);
            let own: Vec<_> = all.filter(|row| row.event_id == *id).collect();
            let is_forgotten = own.iter().any(|row| row.standing.is_forgotten);
            let is_young = |at: Timestamp| at >= cut_off;
            let young = own.iter().find(|row| row.standing.ended_at.is_none_or(is_young));
            let is_right = is_forgotten || (!is_young(old.published_at) && young.is_none());
            assert!(is_right, "{old:?} is gone, and younger than {cut_off:?}: {young:?}");
        }
        has_taken
    }

    fn check_attempts(&self, before: &Before, memory: &Memory, now: Timestamp) -> bool {
        let cut_off = self.before(self.retention.attempts, now);
        let mut has_taken = false;
        for (key, old) in &before.attempts {
            let Some(old) = old.filter(|_| !memory.tables.attempts.has(key)) else { continue };
            has_taken = true;
            let (id, number, _) = *key;
            let row = memory.tables.deliveries.get(&(id, number));
            let standing = row.map(|row| row.standing).expect("rows of deliveries stay");
            let is_old = old.started_at < cut_off && standing.ended_at.is_some_and(|at| at < cut_off);
            assert!(standing.is_forgotten || is_old, "{old:?} is gone, and younger than {cut_off:?}: {standing:?}");
        }
        has_taken
    }
}
