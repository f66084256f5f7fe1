//! What becomes of a delivery: each change, run through the store's own code on
//! rows of every kind, has to end as [`Standing`] says, and as it did before.
//!
//! What a case expects comes from `domain/standing.rs`. Beside that stands
//! `life_tests/record.txt`, a record of what the store does, so that both can't go
//! astray together. The failing test prints the new one, if a change is meant.

mod memory;
mod record;
mod store;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use self::record::Line;
use self::store::Store;
use super::engine::Sqlite;
use super::{load, pages};
use crate::domain::by::By;
use crate::domain::delivery::{DeliveryFilter, DeliveryState, EndReason, Outcome, Verdict};
use crate::domain::event::{Message, NewEvent};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::id::{IncrementId, MerchantId, Span, UserId, WebhookId};
use crate::domain::standing::tests::{ENDED_BEFORE, FUTURE, NOW, PAST, VERDICTS, every_standing, outcome};
use crate::domain::standing::{Heard, Refusal, Standing, heard_together, seal};
use crate::domain::topic::Topic;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::jobs::Replay;
use crate::store::ledger::news::Announcement;
use crate::store::ledger::outcomes::Record;
use crate::store::ledger::publishing::Publish;
use crate::store::ledger::resending::{Cancel, Forget, Retry, Seal, Target, Test};
use crate::store::ledger::terms::{Retention, Terms};
use crate::store::ledger::webhooks::{Acknowledge, Delete};
use crate::store::ledger::work::Work;
use crate::store::ledger::{Change, Step, chores};
use crate::store::outbox::{DueKey, Page, PageLimit};
use crate::store::vault::Vault;

const RECORD: &str = include_str!("life_tests/record.txt");

const MERCHANT: MerchantId = MerchantId(1);
const BY: By = By { merchant: MERCHANT, user: UserId(1), token: None, within: None, sender: None };
const HOOK: WebhookId = WebhookId(1);

const TERMS: Terms = Terms {
    key_ttl: Duration::MAX,
    deliveries_max: usize::MAX,
    definition_bytes_max: usize::MAX,
    disable_after: Duration::MAX,
    retention: Retention {
        attempts: Duration::MAX,
        bodies: Duration::MAX,
        audit: Duration::MAX,
        bytes_max: 0,
        webhook_log_bytes_max: 0,
        merchant_log_bytes_max: 0,
    },
    fingerprint_key: FingerprintKey::OPEN,
    is_shared: false,
};

/// Neighbouring rows, what is between them if they are a batch, and the one
/// that is spoken of.
#[derive(Clone, Debug)]
struct Case {
    rows: Vec<Standing>,
    at: usize,
    /// The number of the first row.
    first: i64,
}

impl Case {
    fn number(&self) -> IncrementId {
        IncrementId(self.first + self.at as i64)
    }

    fn span(&self) -> Span {
        Span { first: IncrementId(self.first), last: IncrementId(self.first + self.rows.len() as i64 - 1) }
    }

    /// The places of the rows that go out with the one that is spoken of.
    fn together(&self) -> std::ops::Range<usize> {
        match self.rows[self.at].shared_batch() {
            Some(_) => 0..self.rows.len(),
            None => self.at..self.at + 1,
        }
    }

    fn numbers(&self) -> Span {
        let Span { first, .. } = self.span();
        let place = |place: usize| IncrementId(first.0 + place as i64);
        Span { first: place(self.together().start), last: place(self.together().end - 1) }
    }
}

/// What is done to a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Heard { verdict: Verdict, is_too_large: bool, which: Which, resends_asked: u32 },
    Retried,
    Replayed(Option<DeliveryState>),
    Cancelled { is_whole: bool },
    Acknowledged,
    Deleted { is_settled: bool },
    Sealed,
    Forgotten { goes_on: bool },
}

/// Which attempt an outcome is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Recorded,
    Next,
    Later,
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Nothing,
    Heard(Heard),
    Refused(Refusal),
    Pruned,
}

impl Verb {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (verdict, is_too_large) in VERDICTS {
            for which in [Which::Recorded, Which::Next, Which::Later] {
                let heard = |resends_asked| Self::Heard { verdict, is_too_large, which, resends_asked };
                all.extend([0, 1].map(heard));
            }
        }
        all.push(Self::Retried);
        all.push(Self::Replayed(None));
        all.extend(DeliveryState::ALL.map(|state| Self::Replayed(Some(state))));
        all.extend([false, true].map(|is_whole| Self::Cancelled { is_whole }));
        all.push(Self::Acknowledged);
        all.extend([false, true].map(|is_settled| Self::Deleted { is_settled }));
        all.push(Self::Sealed);
        all.extend([false, true].map(|goes_on| Self::Forgotten { goes_on }));
        all
    }

    /// What the domain makes of a case.
    fn expected(self, case: &Case) -> (Vec<Standing>, Answer) {
        let (mut rows, own, together) = (case.rows.clone(), case.rows[case.at], case.together());
        let each = |rows: &mut [Standing], change: &dyn Fn(Standing) -> Option<Standing>| {
            rows.iter_mut().for_each(|row| *row = change(*row).unwrap_or(*row));
        };
        let answer = match self {
            Self::Heard { .. } => Answer::Heard(heard_together(&mut rows[together], &self.outcome(case), NOW)),
            Self::Retried if rows[together.clone()].iter().any(|row| row.is_forgotten) => Answer::Pruned,
            Self::Retried => {
                each(&mut rows[together], &|row| row.sent_again(NOW));
                Answer::Done
            }
            Self::Replayed(state) => {
                for (place, row) in rows.iter_mut().enumerate() {
                    let group = &case.rows[Case { at: place, ..case.clone() }.together()];
                    let is_meant = group.iter().any(|row| row.is_meant_by(state));
                    if is_meant && group.iter().all(|row| !row.is_forgotten) {
                        *row = row.sent_again(NOW).unwrap();
                    }
                }
                Answer::Done
            }
            Self::Cancelled { is_whole } => match own.check_cancel(is_whole) {
                Err(refusal) => Answer::Refused(refusal),
                Ok(()) => {
                    each(&mut rows[together], &|row| row.cancelled(EndReason::CancelledByOwner, NOW));
                    Answer::Done
                }
            },
            Self::Acknowledged => {
                each(&mut rows[..=case.at], &|row| row.acknowledged(NOW));
                if own.batch.is_some() {
                    each(&mut rows[..=case.at], &|row| row.cut(case.number()));
                    each(&mut rows[case.at + 1..], &|row| row.released());
                }
                Answer::Done
            }
            Self::Deleted { is_settled } => {
                let is_left = |row: Standing| is_settled && row.next_attempt_at.is_none();
                let cancelled = |row: Standing| row.cancelled(EndReason::WebhookDeleted, NOW);
                each(&mut rows, &|row| cancelled(row).filter(|_| !is_left(row)));
                Answer::Done
            }
            Self::Sealed if seal(&mut rows, case.span(), NOW) => Answer::Done,
            Self::Sealed => Answer::Nothing,
            Self::Forgotten { goes_on } => match own.forgotten(goes_on, NOW) {
                Err(refusal) => Answer::Refused(refusal),
                Ok(after) => {
                    rows[case.at] = after;
                    Answer::Done
                }
            },
        };
        (rows, answer)
    }

    fn outcome(self, case: &Case) -> Outcome {
        let Self::Heard { verdict, is_too_large, which, resends_asked } = self else {
            unreachable!("only outcomes are heard of")
        };
        let attempts = case.rows[case.at].attempts;
        let attempt = match which {
            Which::Recorded => attempts,
            Which::Next => attempts + 1,
            Which::Later => attempts + 2,
        };
        Outcome { webhook_id: HOOK, numbers: case.numbers(), ..outcome(verdict, is_too_large, attempt, resends_asked) }
    }

    /// What the store makes of all cases: their rows, and what it answers.
    fn run(self, store: &Store, cases: &[Case]) -> Vec<(Vec<Standing>, Answer)> {
        let set = |counter: &str| {
            store.0.execute(&format!("UPDATE webhook SET {counter} = ?1"), [store.last().0]).unwrap();
        };
        match self {
            Self::Deleted { is_settled: true } => set("settled_through"),
            Self::Acknowledged => set("pulled_through"),
            _ => {}
        }
        let (mut engine, mut book) = (
            Sqlite::new(&store.0, Arc::default()).unwrap(),
            Book::new(TERMS, load::stock(&store.0, &Vault::default()).unwrap()),
        );
        let mut work = Work::new(&mut engine, &mut book, NOW);
        let all = |answers: Vec<Answer>| {
            let mut changed = store.changed().into_iter().peekable();
            let each = cases.iter().zip(answers).map(|(case, answer)| {
                let mut rows = case.rows.clone();
                while let Some((number, row)) = changed.next_if(|(number, _)| *number <= case.span().last.0) {
                    if case.span().contains(IncrementId(number)) {
                        rows[(number - case.first) as usize] = row;
                    }
                }
                (rows, answer)
            });
            each.collect()
        };
        match self {
            Self::Heard { .. } => all(self.record(work, cases)),
            Self::Replayed(state) => {
                let filter = DeliveryFilter { state, ..DeliveryFilter::default() };
                let span = Span { first: IncrementId(1), last: store.last() };
                done(&mut work, Replay { by: BY, webhook_id: HOOK, span, filter }).unwrap();
                do_chores(&mut work);
                all(vec![Answer::Done; cases.len()])
            }
            Self::Deleted { .. } => {
                done(&mut work, Delete { by: BY, webhook_id: HOOK }).unwrap();
                do_chores(&mut work);
                all(vec![Answer::Done; cases.len()])
            }
            Self::Acknowledged => {
                // The next one ends what this one leaves.
                let each = cases.iter().map(|case| {
                    let through = case.number();
                    done(&mut work, Acknowledge { by: BY, webhook_id: HOOK, through }).unwrap();
                    do_chores(&mut work);
                    (store.rows_of(case.span()), Answer::Done)
                });
                each.collect()
            }
            Self::Retried | Self::Cancelled { .. } | Self::Sealed | Self::Forgotten { .. } => {
                let answers = cases.iter().map(|case| {
                    let target = Target { by: BY, webhook_id: HOOK, number: case.number() };
                    answer(match self {
                        Self::Retried => done(&mut work, Retry(target)).map(|()| true),
                        Self::Cancelled { is_whole } => {
                            done(&mut work, Cancel { target, whole_batch: is_whole }).map(|()| true)
                        }
                        Self::Sealed => {
                            done(&mut work, Seal { merchant_id: MERCHANT, webhook_id: HOOK, batch: Some(case.span()) })
                        }
                        _ => {
                            let goes_on = self == Self::Forgotten { goes_on: true };
                            done(&mut work, Forget { target, goes_on }).map(|_| true)
                        }
                    })
                });
                all(answers.collect())
            }
        }
    }

    fn record(self, mut work: Work<'_>, cases: &[Case]) -> Vec<Answer> {
        let outcomes: Vec<_> = cases.iter().map(|case| self.outcome(case)).collect();
        let compressed = vec![None; outcomes.len()];
        done(&mut work, Record::new(outcomes.clone().into(), compressed)).unwrap();
        let mut heard = HashMap::new();
        for news in work.finish().unwrap() {
            match news {
                Announcement::Reread(HOOK, number) => drop(heard.insert(number, Heard::SentAgain)),
                Announcement::Attempted(HOOK, number) => drop(heard.entry(number).or_insert(Heard::Counted)),
                _ => {}
            }
        }
        let of = |outcome: &Outcome| heard.get(&outcome.numbers.first).copied().unwrap_or(Heard::Nothing);
        outcomes.iter().map(|outcome| Answer::Heard(of(outcome))).collect()
    }
}

fn done<C: Change>(work: &mut Work<'_>, mut change: C) -> Result<C::Answer, StoreError> {
    match work.run(&mut change)? {
        Step::Done(answer) => Ok(answer),
        Step::More(_) => panic!("it takes several steps"),
    }
}

fn do_chores(work: &mut Work<'_>) {
    while work.has_chores() {
        chores::step(work).unwrap();
    }
}

fn answer(done: Result<bool, StoreError>) -> Answer {
    match done {
        Ok(true) => Answer::Done,
        Ok(false) => Answer::Nothing,
        Err(StoreError::Pruned) => Answer::Pruned,
        Err(StoreError::HasEnded { state }) => Answer::Refused(Refusal::HasEnded(state)),
        Err(StoreError::InBatch(span)) => Answer::Refused(Refusal::InBatch(span)),
        Err(StoreError::NoDelivery) => Answer::Refused(Refusal::IsForgotten),
        Err(cause) => panic!("{cause}"),
    }
}

/// Where a row of a case is in a batch.
#[derive(Clone, Copy)]
enum Place {
    None,
    Alone,
    Of3(usize),
}

/// A row of every kind, and in every place of a batch, with others in it that wait.
fn every_row() -> Vec<(Vec<Standing>, usize, bool)> {
    let mut all = Vec::new();
    for row in every_standing() {
        let places = [Place::None, Place::Alone, Place::Of3(0), Place::Of3(1), Place::Of3(2)];
        // All reasons in all places take thrice as long, and no change asks for both.
        let places = if row.reason.is_none() { &places[..] } else { &places[..1] };
        for place in places.iter().copied() {
            all.push(match place {
                Place::None => (vec![row], 0, false),
                Place::Alone => (vec![row], 0, true),
                Place::Of3(at) => {
                    let other = Standing { next_attempt_at: Some(PAST), attempts: row.attempts, ..Standing::NEW };
                    let mut rows = vec![Standing { resends_asked: row.resends_asked, ..other }; 3];
                    rows[at] = row;
                    (rows, at, true)
                }
            });
        }
    }
    all
}

/// Rows of a few kinds, three of them side by side in every combination, as a
/// batch and as none.
fn every_three() -> Vec<(Vec<Standing>, usize, bool)> {
    let ended = Standing { ended_at: Some(ENDED_BEFORE), ..Standing::NEW };
    let kinds = [
        Standing::NEW,
        Standing { resends_asked: 1, ..Standing::NEW },
        Standing { next_attempt_at: Some(PAST), ..Standing::NEW },
        Standing { next_attempt_at: Some(PAST), resends_asked: 1, ..Standing::NEW },
        Standing { next_attempt_at: Some(FUTURE), attempts: 1, ..Standing::NEW },
        Standing { state: DeliveryState::Delivered, ..ended },
        Standing { state: DeliveryState::Delivered, next_attempt_at: Some(PAST), ..ended },
        Standing { state: DeliveryState::Cancelled, reason: Some(EndReason::CancelledByOwner), ..ended },
        Standing { state: DeliveryState::Delivered, is_forgotten: true, ..ended },
    ];
    let mut all = Vec::new();
    for first in kinds {
        for second in kinds {
            for third in kinds {
                let rows = vec![first, second, third];
                all.extend([0, 1, 2].map(|at| (rows.clone(), at, true)));
                all.push((rows, 1, false));
            }
        }
    }
    all
}

/// Gives the rows numbers, and those of a batch their batch.
fn cases(rows: Vec<(Vec<Standing>, usize, bool)>) -> Vec<Case> {
    let mut last = 0;
    let numbered = rows.into_iter().map(|(rows, at, is_batch)| {
        let mut case = Case { rows, at, first: last + 2 };
        let batch = Some(case.span()).filter(|_| is_batch);
        case.rows.iter_mut().for_each(|row| row.batch = batch);
        last = case.span().last.0;
        case
    });
    numbered.collect()
}

impl Verb {
    fn name(self) -> String {
        match self {
            Self::Heard { verdict, is_too_large, which, resends_asked } => {
                let verdict = match verdict {
                    Verdict::Delivered => "delivered",
                    Verdict::Retry(_) => "retry",
                    Verdict::Gone => "gone",
                    Verdict::Abandoned if is_too_large => "too large",
                    Verdict::Abandoned => "abandoned",
                };
                let which = match which {
                    Which::Recorded => "recorded",
                    Which::Next => "next",
                    Which::Later => "later",
                };
                format!("heard, {verdict}, {which} attempt, asked {resends_asked}")
            }
            Self::Retried => "retried".to_owned(),
            Self::Replayed(state) => format!("replayed, {}", state.map_or("no state", DeliveryState::name)),
            Self::Cancelled { is_whole } => format!("cancelled, {}", if is_whole { "whole" } else { "one" }),
            Self::Acknowledged => "acknowledged".to_owned(),
            Self::Deleted { is_settled } => format!("webhook deleted, settled {is_settled}"),
            Self::Sealed => "sealed".to_owned(),
            Self::Forgotten { goes_on } => format!("forgotten, goes on {goes_on}"),
        }
    }
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Done | Self::Heard(Heard::Counted) => "done",
            Self::Nothing | Self::Heard(Heard::Nothing) => "nothing",
            Self::Heard(Heard::SentAgain) => "again",
            Self::Refused(Refusal::HasEnded(_)) => "ended",
            Self::Refused(Refusal::InBatch(_)) => "batch",
            Self::Refused(Refusal::IsForgotten) => "forgotten",
            Self::Pruned => "pruned",
        }
    }
}

/// Runs a verb on all cases, and compares each with what is expected.
fn hold(store: &Store, cases: &[Case], verb: Verb) -> Line {
    let mut line = Line::default();
    let found = store.undoing(|| verb.run(store, cases));
    assert_eq!(found.len(), cases.len());
    for (case, (rows, answer)) in cases.iter().zip(found) {
        let expected = verb.expected(case);
        assert_eq!((&rows, answer), (&expected.0, expected.1), "{} of {case:#?}\nleft: the store", verb.name());
        line.add(case, &rows, answer);
    }
    line
}

#[test]
fn each_change_ends_as_the_domain_has_it_and_as_it_did_before() {
    let mut record = String::new();
    for (kind, rows) in [("each row", every_row()), ("three rows", every_three())] {
        let cases = cases(rows);
        let store = Store::holding(&cases);
        cases.iter().for_each(|case| assert_eq!(store.rows_of(case.span()), case.rows));
        for verb in Verb::all() {
            writeln!(record, "{kind}, {}: {}", verb.name(), hold(&store, &cases, verb)).unwrap();
        }
    }
    assert!(record == RECORD, "The store does other things with deliveries than it did:\n{record}");
}

#[test]
fn what_is_numbered_begins_as_the_domain_has_it() {
    for batch in [None, Some(2)] {
        let store = Store::holding(&[]);
        let sql = "UPDATE webhook SET (batch_events, batch_bytes, batch_wait_ms) = (?1, 100000, 1000)";
        store.0.execute(sql, [batch.map(|_| 10)]).unwrap();
        let (mut engine, mut book) = (
            Sqlite::new(&store.0, Arc::default()).unwrap(),
            Book::new(TERMS, load::stock(&store.0, &Vault::default()).unwrap()),
        );
        let mut work = Work::new(&mut engine, &mut book, NOW);
        store.0.execute_batch("BEGIN").unwrap();
        let (topic, message) = (Topic::try_new("a:b").unwrap(), Message::try_new("{}").unwrap());
        let event = NewEvent {
            topic,
            message: message.clone(),
            created_at: NOW,
            idempotency_key: None,
            trace: None,
            labels: None,
        };
        done(&mut work, Publish::new(BY, [event])).unwrap();
        done(&mut work, Test { by: BY, webhook_id: HOOK, message }).unwrap();
        let batch = batch.map(|number| Span::one(IncrementId(number)));
        let both = Span { first: IncrementId(1), last: IncrementId(2) };
        assert_eq!(store.rows_of(both), [Standing::NEW, Standing::of_test(batch, NOW)]);
    }
}

#[test]
fn what_is_read_to_be_sent_is_what_the_domain_says_is() {
    // What was forgotten is never to be sent, and has no event to be read with it.
    let rows = every_standing().into_iter().filter(|row| !row.is_forgotten);
    let cases = cases(rows.map(|row| (vec![row], 0, false)).collect());
    let store = Store::holding(&cases);
    let limit = PageLimit { count: usize::MAX, bytes: usize::MAX };
    let (conn, start) = (&store.0, IncrementId::ZERO);
    let hold = |page: Page, is_meant: fn(Standing) -> bool| {
        let read: HashSet<_> = page.parcels.iter().map(|parcel| parcel.increment_id).collect();
        for case in &cases {
            assert_eq!(read.contains(&case.number()), is_meant(case.rows[0]), "{case:?}");
        }
    };
    hold(pages::fresh(conn, HOOK, start, limit).unwrap(), Standing::is_fresh);
    hold(pages::due(conn, HOOK, DueKey::START, NOW, limit).unwrap(), |row| row.is_due(NOW));
    hold(pages::pending(conn, HOOK, start, limit).unwrap(), Standing::is_to_be_sent);
}
