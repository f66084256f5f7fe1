//! `tallyhook bench`: a real server process against a real receiver process.

mod ceiling;
mod load;
mod process;
mod report;
mod scenario;
mod sink;

use clap::{Args, ValueEnum};

use self::report::Report;
use self::scenario::Scenario;
use super::{Failure, block_on, print};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook bench                          every scenario
  tallyhook bench --scenario burst         as fast as it goes, one webhook
  tallyhook bench --scenario steady --rate 500
  tallyhook bench --json > figures.json

Each scenario starts a server and a receiver of its own on loopback, with a
store in the temporary folder (TMPDIR) that is removed at the end. The ceiling
is measured in the same run: the same signed POSTs from a bare client to the
same receiver, the same rows into SQLite in batches, and one fdatasync. Build
with --release, or the figures mean nothing.";

/// What to measure.
#[derive(Args)]
pub struct BenchArgs {
    /// Which scenario; all of them if none is named
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// How many events, instead of the scenario's own number
    #[arg(long)]
    events: Option<usize>,
    /// Events a second in the scenarios that have a rate
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of padding in each message
    #[arg(long, default_value_t = 100)]
    message_bytes: usize,
    /// Events in one call in the scenarios that go as fast as they can
    #[arg(long, default_value_t = 50)]
    batch: usize,
    /// Connections to publish on
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Measures, and prints the figures.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let scenarios = if args.scenario.is_empty() { Scenario::value_variants() } else { &args.scenario };
    block_on(async {
        let folder = scenario::temporary_folder()?;
        let measured = async {
            let mut report = Report::new(scenario::measure_ceiling(folder.path(), args).await?);
            for scenario in scenarios {
                report.add(scenario::measure(*scenario, folder.path(), args).await?);
            }
            Ok::<_, Failure>(report)
        };
        let report = measured.await?;
        print(&if args.json { report.json() } else { report.table() })
    })
}

/// Runs the receiver process.
pub fn receive() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(sink::receive(print))
}
