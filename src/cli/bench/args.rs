//! What `tallyhook bench` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::process;
use super::scenario::Scenario;
use super::tenants::trial;
use crate::cli::Failure;
use crate::cli::target::LoginFlags;

/// What to measure.
#[derive(Args)]
pub struct BenchArgs {
    /// Which scenario; all of them if none is named
    #[arg(long, value_enum)]
    pub scenario: Vec<Scenario>,
    /// How many events, instead of the scenario's own number
    #[arg(long)]
    pub events: Option<usize>,
    /// Events a second in the scenarios that have a rate
    #[arg(long)]
    pub rate: Option<f64>,
    /// Bytes of padding in each message, instead of 100; single has 500 unless told
    #[arg(long)]
    pub message_bytes: Option<usize>,
    /// Events in one call in the scenarios that go as fast as they can, instead of 50; single has 1 unless told
    #[arg(long)]
    pub batch: Option<usize>,
    /// Connections to publish on
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Pairs of runs in the scenarios that compare, instead of 5
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Measure the server at this http URL instead of one of our own
    #[arg(long)]
    pub url: Option<String>,
    #[command(flatten)]
    pub login: LoginFlags,
    /// Where the receiver listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub receive_on: String,
    /// How far away the receiver of ordinary webhooks is, in milliseconds; distant has 100 unless told
    #[arg(long, value_name = "N")]
    pub latency_ms: Option<u64>,
    /// Receive over https, with a certificate that is made for it and that the server is told to trust
    #[arg(long, conflicts_with = "url")]
    pub tls: bool,
    /// Spread the webhooks over so many hosts, which are loopback addresses; hosts has 200 unless told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub hosts: Option<u16>,
    /// Which attack of tenants; `all` one after the other, or `together` at once; the ten worst if none is named
    #[arg(long, value_name = "NAME", value_parser = trial::names())]
    pub attack: Vec<String>,
    /// How long each attack of tenants lasts, in seconds
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub attack_seconds: u64,
    /// Start this program as the server, such as that of another version
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub server: Option<PathBuf>,
    /// Keep what is published in this database of PostgreSQL instead of a file; each run makes a schema of its own there
    #[arg(long, value_name = "postgres://…", conflicts_with = "url")]
    pub store: Option<String>,
    /// Start so many servers that share the store
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "url", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub nodes: u16,
    /// Print what tenants measured as rows of a table in Markdown
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// The program that serves.
    pub fn server(&self) -> Result<PathBuf, Failure> {
        self.server.clone().map_or_else(process::ourselves, Ok)
    }

    /// Which scenarios.
    pub fn scenarios(&self) -> Vec<Scenario> {
        if !self.scenario.is_empty() {
            return self.scenario.clone();
        }
        Scenario::value_variants().iter().copied().filter(|scenario| *scenario != Scenario::Tenants).collect()
    }
}
