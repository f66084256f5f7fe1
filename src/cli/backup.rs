//! `tallyhook backup`: a copy of the store, beside a running server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::flags::StoreFlags;
use super::json::safe;
use super::user::check_exists;
use super::{Failure, say, tell};
use crate::store::backup::{Checked, News, back_up, check_engine};
use crate::work::apart::step_back;

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook backup --to /backup/tallyhook-2026-11-30.db
  tallyhook backup --store sqlite:/srv/tallyhook.db --to copy.db

The copy is the store as it is at one moment, in one file that its owner alone can
read, however much a server writes meanwhile. The server goes on; only its log
(-wal) grows until the copy is read, by what is committed in between. The copy is
written under the name FILE.part, pressed to disk, looked through as tallyhook
check does, and gets its name then. Nothing is overwritten.

tallyhook restore puts it back. Of a store in PostgreSQL, pg_dump makes a copy.

Exit code 0 if the copy is there and whole; 1 if there is none, or if there is and
the store has faults that tallyhook check finds too; 2 for a wrong command line.";

/// How often a line says how far it is, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Faults that are told one by one.
const FAULTS_TOLD_MAX: u64 = 20;

/// Of which store, and where to.
#[derive(Args)]
pub struct BackupArgs {
    #[command(flatten)]
    store: StoreFlags,
    /// The file that is to be the copy; it must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Makes it.
pub fn run(args: &BackupArgs) -> Result<(), Failure> {
    let config = args.store.load()?.store;
    check_engine(&config).map_err(Failure::usage)?;
    check_exists(&config)?;
    // A server beside it goes first.
    step_back();
    let began = Instant::now();
    let mut shown = Shown::new();
    let written = back_up(&config, &args.to, |news| shown.tell(&news));
    shown.end();
    let written = written.map_err(Failure::failed)?;
    let to = args.to.display();
    tell(&format!(
        "{to}: {}, {} bytes; {:.1} s",
        counts(&written.checked),
        written.bytes,
        began.elapsed().as_secs_f64()
    ))?;
    match written.checked.faults {
        0 => Ok(()),
        faults => Err(Failure::failed(format!(
            "{to} is what the store is, and has {faults} faults as that has; see tallyhook check"
        ))),
    }
}

/// What was looked at, for people.
pub fn counts(checked: &Checked) -> String {
    let looked_at = checked.looked_at;
    format!(
        "webhooks {}, deliveries {}, events {}, attempts {}",
        looked_at.webhooks, looked_at.deliveries, looked_at.events, looked_at.attempts
    )
}

/// What a person sees meanwhile.
pub struct Shown {
    /// Shows itself only to a terminal.
    bar: ProgressBar,
    said_at: Instant,
    faults: u64,
}

impl Shown {
    /// Of something that begins.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:28} [{bar:40}] {bytes}/{total_bytes}, {eta} to go")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(0).with_style(style), said_at: Instant::now(), faults: 0 }
    }

    /// Shows how far it is, and what is wrong.
    pub fn tell(&mut self, news: &News<'_>) {
        let line = match *news {
            News::Copied(bytes, of) => {
                self.bar.set_length(of);
                self.bar.set_position(bytes);
                self.bar.set_message("copying");
                format!("copying: {bytes} of {of} bytes")
            }
            News::Checking(what) => {
                self.bar.set_message(format!("checking {what}"));
                format!("checking {what}")
            }
            News::Fault(fault) => {
                self.faults += 1;
                if self.faults <= FAULTS_TOLD_MAX {
                    self.bar.suspend(|| say(&safe(&fault.to_string())));
                }
                return;
            }
        };
        if self.bar.is_hidden() && self.said_at.elapsed() >= LINE_INTERVAL {
            self.said_at = Instant::now();
            say(&format!("tallyhook: {line}"));
        }
    }

    /// Nothing more comes.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
