use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::*;
use crate::domain::delivery::{Attempt, AttemptError};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};

// In the order of time.
pub const ENDED_BEFORE: Timestamp = Timestamp(100);
pub const PAST: Timestamp = Timestamp(200);
pub const ANSWERED_AT: Timestamp = Timestamp(300);
pub const NOW: Timestamp = Timestamp(400);
pub const FUTURE: Timestamp = Timestamp(500);
pub const AGAIN_AT: Timestamp = Timestamp(600);

/// And whether nothing was sent since it would have been too large.
pub const VERDICTS: [(Verdict, bool); 5] = [
    (Verdict::Delivered, false),
    (Verdict::Retry(AGAIN_AT), false),
    (Verdict::Gone, false),
    (Verdict::Abandoned, false),
    (Verdict::Abandoned, true),
];

const BATCH: Span = Span { first: IncrementId(1), last: IncrementId(3) };

/// Rows of all kinds, those that there can't be too, but in no batch.
pub fn every_standing() -> Vec<Standing> {
    let mut all = vec![Standing::NEW];
    let mut vary = |change: &dyn Fn(Standing) -> Vec<Standing>| {
        all = all.iter().flat_map(|row| change(*row)).collect();
    };
    vary(&|row| DeliveryState::ALL.map(|state| Standing { state, ..row }).into());
    vary(&|row| {
        let tries = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)];
        tries.map(|(attempts, policy_start)| Standing { attempts, policy_start, ..row }).into()
    });
    vary(&|row| [None, Some(PAST), Some(FUTURE)].map(|at| Standing { next_attempt_at: at, ..row }).into());
    vary(&|row| [None, Some(ENDED_BEFORE)].map(|at| Standing { ended_at: at, ..row }).into());
    vary(&|row| {
        let reasons = EndReason::ALL.into_iter().map(Some).chain([None]);
        reasons.map(|reason| Standing { reason, ..row }).collect()
    });
    vary(&|row| [0, 1].map(|resends_asked| Standing { resends_asked, ..row }).into());
    vary(&|row| [false, true].map(|is_forgotten| Standing { is_forgotten, ..row }).into());
    all
}

/// One of the first delivery of the first webhook.
pub fn outcome(verdict: Verdict, is_too_large: bool, attempt: u32, resends_asked: u32) -> Outcome {
    let class = if is_too_large { ErrorClass::BodyTooLarge } else { ErrorClass::Status };
    Outcome {
        merchant_id: MerchantId(1),
        webhook_id: WebhookId(1),
        numbers: Span::one(IncrementId(1)),
        attempt: Attempt {
            attempt,
            started_at: PAST,
            queue_delay: Duration::ZERO,
            duration: Duration::ZERO,
            address: None,
            status_code: None,
            error: (verdict != Verdict::Delivered).then(|| AttemptError { class, detail: String::new() }),
            request_headers: String::new(),
            response_headers: String::new(),
            response_body: Vec::new(),
        },
        verdict,
        ended_at: ANSWERED_AT,
        pause: None,
        resends_asked,
    }
}

/// What each function but [`Standing::heard`] makes of it.
fn changes(from: Standing) -> Vec<(&'static str, Standing)> {
    let cancelled = |reason| from.cancelled(reason, NOW);
    let mut found = Vec::new();
    let mut add = |verb, to: Option<Standing>| found.extend(to.map(|to| (verb, to)));
    add("sent_again", from.sent_again(NOW));
    add("cancelled", cancelled(EndReason::CancelledByOwner));
    add("cancelled", cancelled(EndReason::WebhookDeleted));
    add("acknowledged", from.acknowledged(NOW));
    add("sealed", from.sealed(BATCH, from.resends_asked, NOW));
    add("released", from.released());
    add("forgotten", from.forgotten(false, NOW).ok());
    add("erased", from.erased(NOW).ok());
    found
}

/// States before and after, and by which functions.
type Edges = BTreeMap<(&'static str, &'static str), BTreeSet<String>>;

fn draw(edges: &mut Edges, verb: impl Into<String>, from: Standing, to: Standing) {
    edges.entry((from.state.name(), to.state.name())).or_default().insert(verb.into());
}

/// The lines of the diagram.
fn drawn() -> Edges {
    let lines = include_str!("../standing.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let drawn = lines.filter_map(|line| {
        let (from, rest) = line.split_once("->")?;
        let (to, verbs) = rest.trim().split_once(' ')?;
        Some(((from.trim(), to), verbs.split(',').map(|verb| verb.trim().to_owned()).collect()))
    });
    drawn.collect()
}

/// What becomes of rows of all kinds, those that there can't be too.
fn every_edge() -> Edges {
    let mut edges = Edges::new();
    let batches = [None, Some(Span::one(IncrementId(1))), Some(BATCH)];
    for from in every_standing().into_iter().flat_map(|row| batches.map(|batch| Standing { batch, ..row })) {
        changes(from).into_iter().for_each(|(verb, to)| draw(&mut edges, verb, from, to));
        for (verdict, is_too_large) in VERDICTS {
            let heard = |asked| from.heard(&outcome(verdict, is_too_large, from.attempts + 1, asked), NOW);
            [0, 1].into_iter().filter_map(heard).for_each(|to| draw(&mut edges, "heard", from, to));
        }
    }
    edges
}

/// All rows that there can be, and what becomes of them: whatever happens in
/// whatever order, if only what is to be sent is sent, one attempt at a time,
/// and the process may be killed.
fn all_there_can_be() -> (HashSet<Standing>, Edges) {
    const MAX: u32 = 3;
    let alone = Some(Span::one(IncrementId(1)));
    let start = [Standing::NEW, Standing::of_test(None, NOW), Standing::of_test(alone, NOW)];
    // With the attempt that is under way, and how often it was asked for when that began.
    let mut open: Vec<(Standing, Option<(u32, u32)>)> = start.map(|row| (row, None)).into();
    let mut seen: HashSet<_> = open.iter().copied().collect();
    let mut edges = Edges::new();
    while let Some((row, sent)) = open.pop() {
        let mut next: Vec<_> = changes(row).into_iter().map(|(verb, to)| (verb, (to, sent))).collect();
        if let Some((attempt, asked)) = sent {
            for (verdict, is_too_large) in VERDICTS {
                let to = row.heard(&outcome(verdict, is_too_large, attempt, asked), NOW);
                next.extend(to.map(|to| ("heard", (to, None))));
            }
        }
        next.iter().for_each(|(verb, (to, _))| draw(&mut edges, *verb, row, *to));
        let is_begun = sent.is_none() && row.is_to_be_sent();
        let other = if is_begun { Some((row.attempts + 1, row.resends_asked)) } else { None };
        let next = next.into_iter().map(|(_, next)| next).chain([(row, other)]);
        let next = next.filter(|(row, _)| row.attempts <= MAX && row.resends_asked <= MAX);
        open.extend(next.filter(|next| seen.insert(*next)));
    }
    (seen.into_iter().map(|(row, _)| row).collect(), edges)
}

#[test]
fn the_diagram_is_what_the_functions_do() {
    let (_, there_can_be) = all_there_can_be();
    let found = every_edge().into_iter().map(|(ends, verbs)| {
        let can = |verb: &String| there_can_be.get(&ends).is_some_and(|verbs| verbs.contains(verb));
        let name = |verb: String| if can(&verb) { verb } else { format!("({verb})") };
        (ends, verbs.into_iter().map(name).collect())
    });
    assert_eq!(drawn(), found.collect(), "left: as drawn");
}

#[test]
fn the_rules_hold_for_all_there_can_be_and_each_says_something() {
    let (all, _) = all_there_can_be();
    assert!(all.len() > 100, "only {} were found", all.len());
    for row in all {
        assert_eq!(row.broken_rules().map(|rule| rule.words).collect::<Vec<_>>(), [""; 0], "{row:?}");
    }
    let batches = [None, Some(BATCH)];
    let every = || every_standing().into_iter().flat_map(|row| batches.map(|batch| Standing { batch, ..row }));
    let rows = every().chain([Standing { policy_start: 1, ..Standing::NEW }]);
    let broken: BTreeSet<_> = rows.flat_map(Standing::broken_rules).map(|rule| rule.words).collect();
    assert_eq!(broken, RULES.iter().map(|rule| rule.words).collect());
}

#[test]
fn what_had_ended_is_pending_only_if_it_was_sent_again() {
    let (all, _) = all_there_can_be();
    for from in all {
        let heard = VERDICTS.into_iter().flat_map(|(verdict, is_too_large)| {
            let heard = move |asked| from.heard(&outcome(verdict, is_too_large, from.attempts + 1, asked), NOW);
            [0, 1].into_iter().filter_map(heard)
        });
        for to in changes(from).into_iter().map(|(_, to)| to).chain(heard) {
            assert!(to.was_sent_again() || !from.was_sent_again(), "it stays so: {from:?} {to:?}");
            assert!(to.was_sent_again() || !to.is_pending() || from.is_pending(), "{from:?} {to:?}");
        }
    }
}
