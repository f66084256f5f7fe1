//! Finds what is missing, doubled or late in the numbers of deliveries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

/// The most gaps remembered of one webhook; past that the oldest is forgotten,
/// and what arrives below it is called early rather than judged.
const GAPS_MAX: usize = 10_000;
/// The most numbers remembered that lie below the first one seen.
const EARLY_MAX: usize = 10_000;
/// The most webhooks told apart; past that the numbers of new ones are not judged.
pub const WEBHOOKS_MAX: usize = 10_000;

/// What an arrival means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As it should be.
    New,
    /// It was accepted before.
    Duplicate,
    /// It was reported missing before, and here it is.
    Late,
    /// It lies below what this log has watched, so nothing can be said of it.
    Early,
}

/// Numbers that have been missing for too long, of one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The webhook, as the caller named it.
    pub webhook: String,
    /// The first number missing.
    pub first: i64,
    /// The last number missing.
    pub last: i64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "GAP: {} is missing ({})", self.first, self.webhook)
        } else {
            write!(f, "GAP: {} to {} are missing ({})", self.first, self.last, self.webhook)
        }
    }
}

/// What has arrived, webhook by webhook. Time is the caller's, so that it can
/// be tested without waiting.
#[derive(Debug)]
pub struct NumberLog {
    patience: Duration,
    webhooks: HashMap<String, Numbers>,
}

/// The numbers of one webhook: all from `first` to `last` have been accepted,
/// but those in `missing`.
#[derive(Debug)]
struct Numbers {
    first: i64,
    last: i64,
    missing: BTreeMap<i64, Missing>,
    early: BTreeSet<i64>,
}

/// A run of numbers that have not been accepted; its key is the first.
#[derive(Clone, Copy, Debug)]
struct Missing {
    last: i64,
    state: MissingState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MissingState {
    /// Other deliveries may have overtaken it, since then.
    Awaited(Instant),
    /// It has been reported.
    Reported,
    /// It did arrive, but was turned away, so it will come again.
    TurnedAway,
}

impl NumberLog {
    /// A log that reports a number as missing once it is overdue by `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { patience, webhooks: HashMap::new() }
    }

    /// Notes that a number has been accepted, and says what that means. The
    /// first number of a webhook is where its watch begins.
    pub fn accepted(&mut self, webhook: &str, number: i64, now: Instant) -> Arrival {
        match self.numbers(webhook, number) {
            Some(numbers) => numbers.accepted(number, now),
            None => Arrival::New,
        }
    }

    /// Notes that a number arrived but was turned away. It is not missing.
    pub fn turned_away(&mut self, webhook: &str, number: i64, now: Instant) {
        if let Some(numbers) = self.numbers(webhook, number) {
            numbers.turned_away(number, now);
        }
    }

    /// What has become overdue; each number is reported once.
    pub fn overdue(&mut self, now: Instant) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (webhook, numbers) in &mut self.webhooks {
            for (first, missing) in &mut numbers.missing {
                if matches!(missing.state, MissingState::Awaited(since) if since + self.patience <= now) {
                    missing.state = MissingState::Reported;
                    gaps.push(Gap { webhook: webhook.clone(), first: *first, last: missing.last });
                }
            }
        }
        gaps
    }

    /// When [`Self::overdue`] will have something to say, if nothing arrives.
    pub fn next_overdue(&self) -> Option<Instant> {
        let missing = self.webhooks.values().flat_map(|numbers| numbers.missing.values());
        let awaited = missing.filter_map(|missing| match missing.state {
            MissingState::Awaited(since) => Some(since + self.patience),
            MissingState::Reported | MissingState::TurnedAway => None,
        });
        awaited.min()
    }

    fn numbers(&mut self, webhook: &str, number: i64) -> Option<&mut Numbers> {
        if !self.webhooks.contains_key(webhook) {
            if self.webhooks.len() >= WEBHOOKS_MAX {
                return None;
            }
            self.webhooks.insert(webhook.to_owned(), Numbers::starting_at(number));
        }
        self.webhooks.get_mut(webhook)
    }
}

impl Numbers {
    fn starting_at(number: i64) -> Self {
        Self { first: number, last: number - 1, missing: BTreeMap::new(), early: BTreeSet::new() }
    }

    fn accepted(&mut self, number: i64, now: Instant) -> Arrival {
        if number < self.first {
            return self.accepted_early(number);
        }
        self.extend_to(number, now);
        let Some((first, run)) = self.run_of(number) else { return Arrival::Duplicate };
        self.split_out(first, run, number);
        self.missing.remove(&number);
        if run.state == MissingState::Reported { Arrival::Late } else { Arrival::New }
    }

    fn turned_away(&mut self, number: i64, now: Instant) {
        if number < self.first {
            return;
        }
        self.extend_to(number, now);
        // What has been reported stays so, until it is accepted and called late.
        if let Some((first, run)) = self.run_of(number)
            && run.state != MissingState::Reported
        {
            self.split_out(first, run, number);
            self.missing.insert(number, Missing { last: number, state: MissingState::TurnedAway });
        }
    }

    /// Below the first one seen nothing is missing, for nobody was watching;
    /// but parallel lanes may well start with 2 and go on with 1.
    fn accepted_early(&mut self, number: i64) -> Arrival {
        if !self.early.insert(number) {
            return Arrival::Duplicate;
        }
        while self.early.remove(&(self.first - 1)) {
            self.first -= 1;
        }
        if self.early.len() > EARLY_MAX {
            self.early.pop_first();
        }
        if number >= self.first { Arrival::New } else { Arrival::Early }
    }

    /// Makes everything after the last number up to `number` missing. The
    /// number itself is a run of its own, so that only the others wait.
    fn extend_to(&mut self, number: i64, now: Instant) {
        if number <= self.last {
            return;
        }
        let state = MissingState::Awaited(now);
        if self.last + 1 < number {
            self.missing.insert(self.last + 1, Missing { last: number - 1, state });
        }
        self.missing.insert(number, Missing { last: number, state });
        self.last = number;
        if self.missing.len() > GAPS_MAX
            && let Some((_, forgotten)) = self.missing.pop_first()
        {
            self.first = forgotten.last + 1;
        }
    }

    /// The run of missing numbers that holds this one.
    fn run_of(&self, number: i64) -> Option<(i64, Missing)> {
        let (first, run) = self.missing.range(..=number).next_back()?;
        (number <= run.last).then_some((*first, *run))
    }

    /// Leaves of a run what lies on either side of `number`.
    fn split_out(&mut self, first: i64, run: Missing, number: i64) {
        self.missing.remove(&first);
        if first < number {
            self.missing.insert(first, Missing { last: number - 1, ..run });
        }
        if number < run.last {
            self.missing.insert(number + 1, run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    struct Watch {
        log: NumberLog,
        start: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self { log: NumberLog::new(PATIENCE), start: Instant::now() }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn accept(&mut self, second: u64, number: i64) -> Arrival {
            self.log.accepted("w", number, self.at(second))
        }

        fn overdue(&mut self, second: u64) -> Vec<(i64, i64)> {
            let now = self.at(second);
            self.log.overdue(now).into_iter().map(|gap| (gap.first, gap.last)).collect()
        }
    }

    #[test]
    fn in_order_is_silent() {
        let mut watch = Watch::new();
        for number in 41..50 {
            assert_eq!(watch.accept(0, number), Arrival::New);
        }
        assert_eq!(watch.log.next_overdue(), None);
        assert_eq!(watch.overdue(1_000), []);
    }

    #[test]
    fn a_gap_is_reported_once_and_only_when_it_is_overdue() {
        let mut watch = Watch::new();
        watch.accept(0, 41);
        assert_eq!(watch.accept(1, 43), Arrival::New);
        assert_eq!(watch.log.next_overdue(), Some(watch.at(11)));
        assert_eq!(watch.overdue(10), []);
        assert_eq!(watch.overdue(11), [(42, 42)]);
        assert_eq!(watch.overdue(99), []);
        assert_eq!(watch.log.next_overdue(), None);
        assert_eq!(watch.accept(100, 42), Arrival::Late);
        assert_eq!(watch.accept(101, 42), Arrival::Duplicate);
    }

    #[test]
    fn overtaking_within_the_patience_is_normal() {
        let mut watch = Watch::new();
        for (second, number) in [(0, 1), (0, 4), (1, 3), (2, 2)] {
            assert_eq!(watch.accept(second, number), Arrival::New);
        }
        assert_eq!(watch.overdue(1_000), []);
    }

    #[test]
    fn wide_gaps_are_one_and_split_where_one_arrives() {
        let mut watch = Watch::new();
        watch.accept(0, 1);
        watch.accept(0, 1_000_001);
        assert_eq!(watch.log.webhooks["w"].missing.len(), 1);
        assert_eq!(watch.accept(1, 500), Arrival::New);
        assert_eq!(watch.overdue(20), [(2, 499), (501, 1_000_000)]);
        assert_eq!(watch.accept(21, 2), Arrival::Late);
    }

    #[test]
    fn duplicates_are_found_anywhere() {
        let mut watch = Watch::new();
        for number in [5, 6, 9] {
            watch.accept(0, number);
        }
        for number in [5, 6, 9] {
            assert_eq!(watch.accept(1, number), Arrival::Duplicate);
        }
        assert_eq!(watch.accept(1, 7), Arrival::New);
        assert_eq!(watch.accept(1, 7), Arrival::Duplicate);
        assert_eq!(watch.overdue(10), [(8, 8)]);
    }

    #[test]
    fn what_was_turned_away_is_neither_missing_nor_doubled() {
        let mut watch = Watch::new();
        watch.accept(0, 1);
        let now = watch.at(0);
        watch.log.turned_away("w", 2, now);
        watch.accept(0, 3);
        assert_eq!(watch.overdue(60), []);
        watch.log.turned_away("w", 2, now);
        watch.log.turned_away("w", 3, now);
        assert_eq!(watch.accept(61, 2), Arrival::New);
        assert_eq!(watch.accept(61, 2), Arrival::Duplicate);
        watch.log.turned_away("w", 6, watch.start);
        assert_eq!(watch.overdue(99), [(4, 5)]);
        watch.log.turned_away("w", 5, watch.start);
        assert_eq!(watch.accept(100, 5), Arrival::Late);
    }

    #[test]
    fn the_first_may_be_turned_away() {
        let mut watch = Watch::new();
        watch.log.turned_away("w", 1, watch.start);
        assert_eq!(watch.accept(1, 2), Arrival::New);
        assert_eq!(watch.accept(5, 1), Arrival::New);
        assert_eq!(watch.overdue(99), []);
    }

    #[test]
    fn below_the_first_nothing_is_missing() {
        let mut watch = Watch::new();
        assert_eq!(watch.accept(0, 40), Arrival::New);
        assert_eq!(watch.accept(0, 37), Arrival::Early);
        assert_eq!(watch.accept(0, 37), Arrival::Duplicate);
        assert_eq!(watch.accept(0, 39), Arrival::New);
        assert_eq!(watch.accept(0, 38), Arrival::New);
        assert_eq!(watch.accept(0, 37), Arrival::Duplicate);
        assert_eq!(watch.overdue(1_000), []);
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_not_judged() {
        let mut watch = Watch::new();
        for number in 0..30_000 {
            watch.accept(0, number * 2);
        }
        let numbers = &watch.log.webhooks["w"];
        assert!(numbers.missing.len() <= GAPS_MAX);
        assert_eq!(watch.accept(1, 1), Arrival::Early);
        for number in 0..i64::try_from(WEBHOOKS_MAX).unwrap() + 5 {
            watch.log.accepted(&format!("w{number}"), 1, watch.start);
        }
        assert_eq!(watch.log.webhooks.len(), WEBHOOKS_MAX);
    }

    #[test]
    fn webhooks_are_told_apart() {
        let mut watch = Watch::new();
        watch.accept(0, 1);
        assert_eq!(watch.log.accepted("other", 5, watch.start), Arrival::New);
        assert_eq!(watch.accept(0, 2), Arrival::New);
        assert_eq!(watch.overdue(99), []);
        let gap = Gap { webhook: "webhook 7".to_owned(), first: 42, last: 42 };
        assert_eq!(gap.to_string(), "GAP: 42 is missing (webhook 7)");
    }
}
