//! A simulation of the server's heart: stories of all that may happen to
//! it, each from a seed, in one thread and on a clock that is moved by hand.
//! Publishers, owners, receivers of every temper, failing writes and crashes
//! meet the very code that serves them: queue, ledger, chores, mailbox and
//! scheduler; only the rows are in memory. What was promised is checked after
//! each commit and each request, and at the end, when all has come to rest.
//!
//! `TALLYHOOK_SIM_STORIES=1000000 cargo test --release --lib sim::stories` plays
//! as many, from the seed in `TALLYHOOK_SIM_FROM` on. One that fails is told
//! with its seed; `TALLYHOOK_SIM_SEED` plays that one alone, step by step.

mod failed_commit;
mod kept;
mod outside;
mod planted;
mod receivers;
mod story;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use self::planted::Bug;
use self::story::Story;
use crate::domain::time::Timestamp;

/// When each story begins.
const START: Timestamp = Timestamp(1_700_000_000_000);
/// How long an idempotency key counts.
const KEY_TTL: Duration = Duration::from_secs(86_400);
/// What messages begin with that are published once, …
const PLAIN: &str = "{\"n\":";
/// … and those that are published again and again under a key.
const KEYED: &str = "{\"k\":";
/// Steps of a story, before it comes to rest.
const STEPS: usize = 300;
/// Stories that the suite plays.
const STORIES: u64 = 300;
/// Stories within which a planted bug is found.
const STORIES_UNTIL_FOUND: u64 = 400;

/// Plays a story; what it was broken off by, if it was.
fn play(seed: u64, steps: usize, bug: Option<Bug>, tells: bool) -> Result<String, String> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let world = Story::new(seed, bug, tells).play(steps);
        format!("{} commits, ended at {:?}, {:?}", world.commits, world.now, world.memory.tables)
    }));
    played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

/// The fewest steps found with which a story still fails, and how.
fn shrunk(seed: u64, cause: String) -> (usize, String) {
    let mut found = (STEPS, cause);
    let (mut fewest, mut steps) = (0, STEPS / 2);
    while steps > fewest {
        match play(seed, steps, None, false) {
            Err(cause) => (found, steps) = ((steps, cause), (fewest + steps) / 2),
            Ok(_) => (fewest, steps) = (steps, (steps + found.0) / 2),
        }
    }
    found
}

#[test]
fn stories() {
    if let Some(seed) = number("TALLYHOOK_SIM_SEED") {
        let steps = number("TALLYHOOK_SIM_STEPS").map_or(STEPS, |steps| steps as usize);
        drop(Story::new(seed, None, true).play(steps));
        return;
    }
    let from = number("TALLYHOOK_SIM_FROM").unwrap_or(0);
    for seed in from..from + number("TALLYHOOK_SIM_STORIES").unwrap_or(STORIES) {
        if let Err(cause) = play(seed, STEPS, None, false) {
            let (steps, cause) = shrunk(seed, cause);
            panic!(
                "seed {seed} fails within {steps} steps: {cause}\n\
                run it again with TALLYHOOK_SIM_SEED={seed} TALLYHOOK_SIM_STEPS={steps}"
            );
        }
    }
}

#[test]
fn a_seed_is_the_same_story_each_time() {
    for seed in 0..10 {
        assert!(play(seed, STEPS, None, false) == play(seed, STEPS, None, false), "of seed {seed}");
    }
}

/// Each by its own failure: what fails without it says nothing.
#[test]
fn planted_bugs_are_found() {
    let is_found = |bug: Bug| {
        let mut all = 0..STORIES_UNTIL_FOUND;
        all.any(|seed| play(seed, STEPS, Some(bug), false).is_err() && play(seed, STEPS, None, false).is_ok())
    };
    let unfound: Vec<_> = Bug::ALL.into_iter().filter(|bug| !is_found(*bug)).collect();
    assert!(unfound.is_empty(), "nothing finds these: {unfound:?}");
}
