//! `tallyhook check`: whether a store is as it has to be.

use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::flags::StoreFlags;
use super::json::{pretty, safe};
use super::user::check_exists;
use super::{Failure, tell};
use crate::store::check::{Checked, Checker, Fault, LookedAt, News};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook check
  tallyhook check --store sqlite:/srv/tallyhook.db
  tallyhook check --store postgres://hook@db/hooks --max 1000
  tallyhook check --json | jq '.faults[].kind'

It reads all of a store beside a running server, or without one, and proves what
a store promises:
  - of a file, that SQLite finds no page damaged, and each index has what its table has
  - each webhook's numbers run from 1 to its last, without a hole and none twice
  - each delivery stands where one can: state, reason, times and attempts agree
  - all of a batch say that they are in it, and are neighbours
  - all up to settled_through have ended, and no mark is beyond the last number
  - what is to be sent has its event, and that is its merchant's
  - no event has an id that was not given out, nor does a delivery name one
  - attempts are of deliveries, and no more than those have had
  - what is noted as yet to be numbered can be gone on with
  - deliveries, jobs, notices and log sizes are of webhooks that are there;
    webhooks, users, events, topics and the audit log of merchants that are

It does not read messages, what attempts hold, definitions of webhooks, rules
of topics, sessions, nor idempotency keys and what they remember. In PostgreSQL
the last number of a webhook is that of its last delivery, so nothing tells if
the last ones are missing.

It changes nothing, and reads a thousand rows at a time, each time as they are at
one moment: what a server does meanwhile neither waits for it nor looks wrong. The
pages of a file are looked through in one go, and its log grows until that is done.
What comes to a webhook while it is being read may be left out.

Each fault is a line: where it is, what is there, and what is expected. Exit code
0 if there is none, 1 if there is one or the store can't be read, 2 for a wrong
command line.";

/// Which store, and how much is told.
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    store: StoreFlags,
    /// Faults that are told one by one; the others are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    max: u32,
    /// Print one JSON document, at the end
    #[arg(long)]
    json: bool,
}

/// Looks through the store.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = args.store.load()?.store;
    check_exists(&config)?;
    let began = Instant::now();
    let mut checker = Checker::open(&config).map_err(Failure::failed)?;
    // It shows itself only to a terminal.
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    let (mut shown, mut kept, mut failed) = (0, Vec::new(), None);
    let checked = checker.run(|news| match news {
        News::Progress(what, looked_at) => bar.set_message(format!("{what}; so far {}", counts(looked_at))),
        News::Fault(_) if shown == args.max => {}
        News::Fault(fault) => {
            shown += 1;
            match args.json {
                true => kept.push(as_json(fault)),
                false => failed = bar.suspend(|| tell(&safe(&fault.to_string()))).err().or(failed.take()),
            }
        }
    });
    bar.finish_and_clear();
    let checked = checked.map_err(|cause| Failure::failed(format!("{config}: {cause}")))?;
    failed.map_or(Ok(()), Err)?;
    let seconds = began.elapsed().as_secs_f64();
    tell(&match args.json {
        true => pretty(&document(&config.to_string(), kept, &checked, seconds).to_string()),
        false => summary(&checked, shown, seconds),
    })?;
    if checked.faults == 0 { Ok(()) } else { Err(Failure::told()) }
}

fn counts(LookedAt { webhooks, deliveries, events, attempts }: LookedAt) -> String {
    format!("webhooks {webhooks}, deliveries {deliveries}, events {events}, attempts {attempts}")
}

fn summary(checked: &Checked, shown: u32, seconds: f64) -> String {
    let more = match checked.faults - u64::from(shown) {
        0 => String::new(),
        more => format!("and {more} more faults; --max shows more of them\n"),
    };
    format!("{more}looked at: {}; faults {}; {seconds:.1} s", counts(checked.looked_at), checked.faults)
}

fn as_json(fault: &Fault) -> Value {
    let mut members = Map::from_iter([
        ("kind".to_owned(), fault.kind.name().into()),
        ("where".to_owned(), fault.place.to_string().into()),
    ]);
    members.extend(fault.place.members().into_iter().map(|(name, id)| (name.to_owned(), id.into())));
    members.extend([
        ("found".to_owned(), fault.found.as_str().into()),
        ("expected".to_owned(), fault.expected.as_str().into()),
    ]);
    Value::Object(members)
}

fn document(store: &str, faults: Vec<Value>, checked: &Checked, seconds: f64) -> Value {
    let LookedAt { webhooks, deliveries, events, attempts } = checked.looked_at;
    json!({
        "store": store,
        "faults_found": checked.faults,
        "faults": faults,
        "looked_at": {"webhooks": webhooks, "deliveries": deliveries, "events": events, "attempts": attempts},
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
    })
}
