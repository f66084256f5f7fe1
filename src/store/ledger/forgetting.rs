//! Forgetting: an event that one of its deliveries has forgotten goes at once,
//! or when the last of its other deliveries has been sent: what pends is whole.
//! Which ones wait for that is known by heart, and follows from the rows.

use std::collections::{HashSet, VecDeque};

use crate::domain::id::{EventId, MerchantId};

/// Events looked at in a sweep.
const EVENTS_PER_SWEEP: usize = 100;

/// Events that are to be forgotten, and of which another delivery is to be sent.
#[derive(Default)]
pub struct Forgetting {
    turns: VecDeque<(MerchantId, EventId)>,
    waiting: HashSet<EventId>,
}

impl Forgetting {
    /// What an earlier life left.
    pub fn of(events: Vec<(MerchantId, EventId)>) -> Self {
        let mut forgetting = Self::default();
        events.into_iter().for_each(|(merchant, event)| forgetting.add(merchant, event));
        forgetting
    }

    /// Another one, unless it waits already.
    pub fn add(&mut self, merchant: MerchantId, event: EventId) {
        if self.waiting.insert(event) {
            self.turns.push_back((merchant, event));
        }
    }

    /// All of them.
    #[cfg(test)]
    pub fn all(&self) -> &HashSet<EventId> {
        &self.waiting
    }

    /// Takes those that are looked at in a sweep.
    pub fn take_some(&mut self) -> Vec<(MerchantId, EventId)> {
        let some: Vec<_> = self.turns.drain(..EVENTS_PER_SWEEP.min(self.turns.len())).collect();
        for (_, event) in &some {
            self.waiting.remove(event);
        }
        some
    }
}
