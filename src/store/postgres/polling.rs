//! Whether there may be something new in the store for one who sends, as told by a look
//! at a few numbers rather than at all webhooks.
//!
//! Whoever publishes draws an event's id in his transaction, before he commits. So
//! there is something new if an id was drawn since the look before, or if one who
//! may have drawn his before that has ended since.

use std::collections::BTreeSet;

/// How far others had come at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    last_event: i64,
    /// The last change of webhooks.
    generation: i64,
    /// Transactions that wrote something and had not ended.
    under_way: BTreeSet<u64>,
}

impl Marks {
    /// With the snapshot as the database writes it: `xmin:xmax:xip,xip,…`.
    pub fn new(last_event: i64, generation: i64, snapshot: &str) -> Self {
        let under_way = snapshot.rsplit(':').next().unwrap_or_default();
        let under_way = under_way.split(',').filter_map(|number| number.parse().ok()).collect();
        Self { last_event, generation, under_way }
    }
}

/// What there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct New {
    /// Numbers.
    pub numbers: bool,
    /// Changes of webhooks.
    pub webhooks: bool,
}

/// What was seen by the looks before.
#[derive(Default)]
pub struct Gate {
    last: Option<Marks>,
    /// Ids were drawn before the last look: maybe so late that whoever did so was not
    /// seen among those that had not ended.
    was_drawn: bool,
}

impl Gate {
    /// Has changes of webhooks be new once more: nobody could read them.
    pub fn forget_webhooks(&mut self) {
        if let Some(last) = &mut self.last {
            last.generation = -1;
        }
    }

    /// What is new, as far as these marks say.
    pub fn pass(&mut self, marks: Marks) -> New {
        let Some(last) = self.last.replace(marks) else { return New { numbers: true, webhooks: true } };
        let Some(now) = &self.last else { return New::default() };
        let is_drawn = now.last_event != last.last_event;
        let has_ended = !last.under_way.is_subset(&now.under_way);
        let was_drawn = std::mem::replace(&mut self.was_drawn, is_drawn);
        New { numbers: is_drawn || was_drawn || has_ended, webhooks: now.generation != last.generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_something_new_when_ids_are_drawn_and_when_their_commits_come() {
        let mut gate = Gate::default();
        let mut numbers = |last_event, snapshot: &str| gate.pass(Marks::new(last_event, 0, snapshot)).numbers;
        assert!(numbers(1, "5:5:"), "the first look");
        assert!(!numbers(1, "5:5:") && !numbers(1, "9:9:"));
        assert!(numbers(2, "9:9:"));
        assert!(numbers(2, "9:10:9"), "whoever drew the last time may be seen only now");
        assert!(!numbers(2, "9:12:9"), "it goes on");
        assert!(numbers(2, "12:12:"), "it has ended");
        assert!(!numbers(2, "12:12:"));
        assert!(!numbers(2, "12:20:12,14") && !numbers(2, "12:20:12,14,19") && numbers(2, "14:20:14,19"));
    }

    #[test]
    fn changes_of_webhooks_are_seen() {
        let mut gate = Gate::default();
        let mut webhooks = |generation| gate.pass(Marks::new(1, generation, "5:5:")).webhooks;
        assert!(webhooks(1) && !webhooks(1) && webhooks(2) && !webhooks(2));
    }
}
