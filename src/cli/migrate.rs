//! `tallyhook migrate`: a store into the other engine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::flags::load_store;
use super::json::safe;
use super::{Failure, say, tell};
use crate::config::CONFIG_VARIABLE;
use crate::domain::time::Clock;
use crate::store::Config;
use crate::store::admin::is_there;
use crate::store::check::{Checker, News as CheckNews};
use crate::store::migrate::{Compared, Doing, MigrateError, News, migrate};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook migrate --from sqlite:/srv/tallyhook.db --to postgres://hook@db/hooks
  tallyhook migrate --from postgres://hook@db/hooks --to sqlite:/srv/tallyhook.db

It copies a whole store into an empty one of the other engine: merchants, users
with their keys, sessions, webhooks, topics, events, deliveries, attempts,
idempotency keys, jobs, notices and the store id. All numbers and ids stay, so the
first server on the new store goes on where the last one on the old store stopped,
and receivers notice nothing.

  1. Stop the servers of the old store, and use no other command on it meanwhile.
  2. Run this. A server that is started on either store meanwhile is refused.
  3. Serve the new store. Never serve the old one again: it would send once more
     what was pending. It was only read, and is as it was; keep it until you trust
     the new one, or delete it.

It may be interrupted at any time: the same command goes on where it was. Until
all is copied, the new store can't be opened by anything else. At the end it reads
both stores anew and compares each column of each row; a difference is told, and
the new store stays closed. Then it checks the new one as tallyhook check does.

The old store has to be of this version of the program: serve it once before if it
is older. The new one has to be empty: a file that is not there, a database or a
schema without tables. PostgreSQL can't hold the character of code 0 in texts;
U+FFFD takes its place, and the end says how often.

Exit code 0 if all was copied and is equal, 1 if not, or if one of them is served
or not what it has to be, 2 for a wrong command line.";

/// How often a line says how far it is, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Faults of the new store that are told one by one.
const FAULTS_TOLD_MAX: u64 = 20;

/// From where to where.
#[derive(Args)]
pub struct MigrateArgs {
    /// The store that there is; it is only read
    #[arg(long, value_name = "STORE")]
    from: String,
    /// The store that there is to be
    #[arg(long, value_name = "STORE")]
    to: String,
    /// A TOML file, as for serve
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
    config: Option<PathBuf>,
}

/// Copies it.
pub fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let from = load_store(&args.from, args.config.as_ref()).map_err(|failure| failure.about("--from"))?;
    let to = load_store(&args.to, args.config.as_ref()).map_err(|failure| failure.about("--to"))?;
    if !is_there(&from).map_err(Failure::failed)? {
        return Err(Failure::failed(format!("{from}: there is no such store; name it with --from")));
    }
    let began = Instant::now();
    let mut shown = Shown::new();
    let compared = migrate(&from, &to, Clock::system().now(), |news| shown.tell(news));
    shown.bar.finish_and_clear();
    let compared = compared.map_err(|cause| match cause {
        MigrateError::SameEngine => Failure::usage(cause),
        cause => Failure::failed(cause),
    })?;
    if !compared.differences.is_empty() {
        compared.differences.iter().try_for_each(|difference| tell(&safe(difference)))?;
        return Err(Failure::failed(format!(
            "{to} is not equal to {from}, and stays closed. Something has written to one of them meanwhile, or is \
             wrong with it; empty the new one and begin anew"
        )));
    }
    check(&to)?;
    tell(&summary(&compared, began.elapsed()))?;
    say(&format!("tallyhook: serve {to} from now on, and never {from} again: it would send once more what is pending"));
    Ok(())
}

fn check(to: &Config) -> Result<(), Failure> {
    let mut faults = 0;
    let mut checker = Checker::open(to).map_err(Failure::failed)?;
    let checked = checker.run(|news| {
        if let CheckNews::Fault(fault) = news {
            faults += 1;
            if faults <= FAULTS_TOLD_MAX {
                say(&safe(&fault.to_string()));
            }
        }
    });
    match checked.map_err(Failure::failed)?.faults {
        0 => Ok(()),
        faults => Err(Failure::failed(format!(
            "{to} is equal to the old store, but tallyhook check finds {faults} faults, which that one has too"
        ))),
    }
}

fn summary(compared: &Compared, took: Duration) -> String {
    let rows: Vec<_> = compared.rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
    let changed = match compared.changed_texts {
        0 => String::new(),
        changed => format!("; texts with the character of code 0, now U+FFFD: {changed}"),
    };
    format!("copied and equal: {}{changed}; {:.1} s", rows.join(", "), took.as_secs_f64())
}

/// What a person sees meanwhile.
struct Shown {
    /// Shows itself only to a terminal.
    bar: ProgressBar,
    said_at: Instant,
}

impl Shown {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:28} [{bar:40}] {pos}/{len} rows, {eta} to go")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(0).with_style(style), said_at: Instant::now() }
    }

    fn tell(&mut self, news: News) {
        let News { doing, table, rows, of } = news;
        let doing = match doing {
            Doing::Copying => "copying",
            Doing::Comparing => "comparing",
        };
        self.bar.set_length(of);
        self.bar.set_position(rows);
        self.bar.set_message(format!("{doing} {table}"));
        if self.bar.is_hidden() && self.said_at.elapsed() >= LINE_INTERVAL {
            self.said_at = Instant::now();
            say(&format!("tallyhook: {doing} {table}: {rows} of {of} rows"));
        }
    }
}
