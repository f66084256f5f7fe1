//! The numbers that a lane has in memory.

use std::collections::HashMap;

use crate::domain::id::{IncrementId, Span};

/// Numbers that are not to be loaded again: they wait, are in flight, or have
/// an outcome that is not yet known to be committed.
#[derive(Debug, Default)]
pub struct HeldNumbers(HashMap<IncrementId, Hold>);

#[derive(Debug)]
struct Hold {
    /// One while it waits or is in flight, and one for each outcome.
    claims: u32,
    /// Attempts on record when it was loaded, or was put back.
    attempts: u32,
    /// The store has shown it as it is after those, for somebody has changed
    /// it, or may have: it was let go of before its last outcome was heard of.
    is_outdated: bool,
}

/// Whether numbers were taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// They were.
    New,
    /// Some are held as they are.
    Held,
    /// Some are held, and have changed since.
    Outdated,
}

impl HeldNumbers {
    /// Takes numbers on that were loaded with so many attempts on record,
    /// unless some are held already.
    pub fn take_on(&mut self, numbers: Span, attempts: u32) -> Taken {
        let mut taken = Taken::New;
        for number in numbers.numbers() {
            if let Some(hold) = self.0.get_mut(&number) {
                hold.is_outdated |= attempts > hold.attempts;
                taken = if hold.is_outdated { Taken::Outdated } else { Taken::Held };
            }
        }
        if taken == Taken::New {
            self.0.extend(numbers.numbers().map(|number| (number, Hold { claims: 1, attempts, is_outdated: false })));
        }
        taken
    }

    /// Claims numbers once more, whose latest outcome will make it so many
    /// attempts on record.
    pub fn claim_again(&mut self, numbers: Span, attempts: u32) {
        for number in numbers.numbers() {
            let hold = self.0.entry(number).or_insert(Hold { claims: 0, attempts, is_outdated: false });
            (hold.claims, hold.attempts) = (hold.claims + 1, attempts);
        }
    }

    /// Gives up one claim on each; true if one is free now of which the store
    /// has shown more than is known here.
    pub fn release(&mut self, numbers: Span) -> bool {
        let mut is_outdated = false;
        for number in numbers.numbers() {
            if let Some(hold) = self.0.get_mut(&number) {
                hold.claims -= 1;
                if hold.claims == 0 {
                    is_outdated |= hold.is_outdated;
                    self.0.remove(&number);
                }
            }
        }
        is_outdated
    }

    /// Gives up the claim of what waits; true if the numbers are still held,
    /// for an outcome. What the store shows meanwhile is nothing new then, so
    /// they are read again once that is heard of.
    pub fn let_go(&mut self, numbers: Span) -> bool {
        self.release(numbers);
        let mut is_held = false;
        for number in numbers.numbers() {
            if let Some(hold) = self.0.get_mut(&number) {
                (hold.is_outdated, is_held) = (true, true);
            }
        }
        is_held
    }

    /// True if it is held.
    pub fn contains(&self, number: IncrementId) -> bool {
        self.0.contains_key(&number)
    }

    /// True if it waits or is in flight, and an outcome of it is not on record.
    pub fn is_claimed_again(&self, number: IncrementId) -> bool {
        self.0.get(&number).is_some_and(|hold| hold.claims > 1)
    }

    /// All of them.
    pub fn numbers(&self) -> impl Iterator<Item = IncrementId> {
        self.0.keys().copied()
    }

    /// True if there are none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
