//! The scenarios: each starts a server and a receiver of its own, registers
//! its webhooks, publishes, and waits until all has arrived.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use http::HeaderMap;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::load::{Plan, Wire, publish};
use super::process::Process;
use super::sink::{Percentiles, STATS_PATH, Series, now_ns};
use super::{BenchArgs, Failure, ceiling};
use crate::cli::client::{RpcClient, Target};
use crate::cli::folder::Folder;
use crate::cli::{DEMO_KEY, DEMO_USER};

/// How long nothing may arrive before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the receiver is asked what has arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// The topic of all events.
const TOPIC: &str = "bench:event";

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// 500 events a second to one webhook
    Steady,
    /// As fast as it goes, to one webhook
    Burst,
    /// As fast as it goes, each event to 20 webhooks
    Fanout,
    /// 150 events a second to nine fast webhooks, without and with a tenth that answers after 5 s
    Noisy,
}

/// What the machine could do at best.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceiling {
    /// Signed POSTs a second from a bare client.
    pub posts_per_s: f64,
    /// Rows a second into SQLite, in batches.
    pub rows_per_s: f64,
    /// One `fdatasync`, in microseconds.
    pub sync_us: u64,
}

/// What was measured in one run of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Which.
    pub scenario: Scenario,
    /// What distinguishes this run from others of the scenario.
    pub variant: &'static str,
    /// Events published.
    pub events: usize,
    /// Deliveries that arrived.
    pub deliveries: u64,
    /// Events accepted a second.
    pub accepted_per_s: f64,
    /// Deliveries a second, from the first publish to the last arrival.
    pub delivered_per_s: f64,
    /// From publish to arrival, in microseconds, at the webhooks that are not slow on purpose.
    pub way_us: Percentiles,
    /// The server's peak memory, in bytes.
    pub peak_rss: Option<u64>,
    /// The server's processor seconds per 1,000 deliveries.
    pub cpu_s_per_1000: Option<f64>,
}

/// A run of a scenario.
struct Setup {
    scenario: Scenario,
    variant: &'static str,
    /// Paths of the receiver; one webhook each.
    paths: Vec<String>,
    /// A path besides, whose arrivals are not waited for.
    slow_path: Option<&'static str>,
    plan: Plan,
}

/// A folder for the stores.
pub fn temporary_folder() -> Result<Folder, Failure> {
    Folder::make("bench")
}

/// Measures the machine itself.
pub async fn measure_ceiling(folder: &Path, args: &BenchArgs) -> Result<Ceiling, Failure> {
    let bar = spinner("measuring the ceiling");
    let receiver = Process::start(&["bench-receiver"])?;
    let posts_per_s = ceiling::posts_per_second(&receiver.address, args.message_bytes).await?;
    let ceiling = Ceiling {
        posts_per_s,
        rows_per_s: ceiling::rows_per_second(folder)?,
        sync_us: u64::try_from(ceiling::sync_time(folder)?.as_micros()).unwrap_or(u64::MAX),
    };
    bar.finish_and_clear();
    Ok(ceiling)
}

/// Measures a scenario: one run, or several to be compared.
pub async fn measure(scenario: Scenario, folder: &Path, args: &BenchArgs) -> Result<Vec<Figures>, Failure> {
    let plan = |events: usize, rate: Option<f64>| Plan {
        topic: TOPIC,
        events: args.events.unwrap_or(events),
        batch: if rate.is_some() { 1 } else { args.batch },
        connections: args.connections,
        rate,
        message_bytes: args.message_bytes,
    };
    let hooks = |count: usize| (0..count).map(|number| format!("/hook/{number}")).collect();
    let setup = |variant, paths, slow_path, plan| Setup { scenario, variant, paths, slow_path, plan };
    let rated = |rate: f64, seconds: f64| {
        let rate = args.rate.unwrap_or(rate);
        plan((rate * seconds) as usize, Some(rate))
    };
    let setups = match scenario {
        Scenario::Steady => vec![setup("", hooks(1), None, rated(500.0, 10.0))],
        Scenario::Burst => vec![setup("", hooks(1), None, plan(100_000, None))],
        Scenario::Fanout => vec![setup("", hooks(20), None, plan(10_000, None))],
        Scenario::Noisy => vec![
            setup("without", hooks(9), None, rated(150.0, 6.0)),
            setup("with", hooks(9), Some("/slow?delay_ms=5000"), rated(150.0, 6.0)),
        ],
    };
    let mut figures = Vec::new();
    for (number, setup) in setups.into_iter().enumerate() {
        let store = folder.join(format!("{scenario:?}-{number}.db"));
        figures.push(run(setup, &store).await?);
    }
    Ok(figures)
}

async fn run(setup: Setup, store: &Path) -> Result<Figures, Failure> {
    let receiver = Process::start(&["bench-receiver"])?;
    let store = format!("sqlite:{}", store.display());
    let server = Process::start(&["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "error", "--store", &store])?;
    let client = RpcClient::new(target(&server.address)?).map_err(Failure::failed)?;
    let session = client.login(DEMO_USER, DEMO_KEY).await.map_err(Failure::failed)?;
    for path in setup.paths.iter().map(String::as_str).chain(setup.slow_path) {
        let webhook = json!({"url": format!("http://{}{path}", receiver.address), "topics": TOPIC});
        session.call("webhook.create", (webhook,)).await.map_err(Failure::failed)?;
    }

    let expected = (setup.plan.events * setup.paths.len()) as u64;
    let bar = progress_bar(&setup, expected);
    let (before, began_ns) = (server.usage(), now_ns());
    let plan = setup.plan.clone();
    let publishing = {
        let (address, key) = (server.address.clone(), session.key().to_owned());
        tokio::spawn(async move { publish(&address, &key, &plan).await })
    };
    let arrived = wait_for_arrivals(&receiver.address, &setup, expected, &bar).await?;
    let accepting = publishing.await.map_err(Failure::failed)??;
    let after = server.usage();
    bar.finish_and_clear();

    let fast: Vec<&Series> = setup.paths.iter().filter_map(|path| arrived.get(path)).collect();
    let last_ns = fast.iter().map(|series| series.last_ns).max().unwrap_or(began_ns);
    let delivering = Duration::from_nanos(last_ns.saturating_sub(began_ns)).max(Duration::from_nanos(1));
    let deliveries = fast.iter().map(|series| series.count).sum();
    let cpu = after.cpu.zip(before.cpu).map(|(after, before)| (after - before).as_secs_f64());
    Ok(Figures {
        scenario: setup.scenario,
        variant: setup.variant,
        events: setup.plan.events,
        deliveries,
        accepted_per_s: setup.plan.events as f64 / accepting.as_secs_f64(),
        delivered_per_s: deliveries as f64 / delivering.as_secs_f64(),
        way_us: worst(&fast),
        peak_rss: after.peak_rss,
        cpu_s_per_1000: cpu.map(|cpu| cpu * 1_000.0 / deliveries as f64),
    })
}

async fn wait_for_arrivals(
    address: &str,
    setup: &Setup,
    expected: u64,
    bar: &ProgressBar,
) -> Result<BTreeMap<String, Series>, Failure> {
    let mut wire = Wire::open(address).await?;
    let (mut last_count, mut last_change) = (0, Instant::now());
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let report = wire.post(STATS_PATH, &HeaderMap::new(), Bytes::new()).await?;
        let report: BTreeMap<String, Series> = serde_json::from_slice(&report).map_err(Failure::failed)?;
        let count = setup.paths.iter().filter_map(|path| report.get(path)).map(|series| series.count).sum();
        bar.set_position(count);
        if count >= expected {
            return Ok(report);
        }
        if count != last_count {
            (last_count, last_change) = (count, Instant::now());
        } else if last_change.elapsed() > PATIENCE {
            return Err(Failure::failed(format!("only {count} of {expected} deliveries arrived")));
        }
    }
}

/// Of several webhooks the worst of each percentile: no webhook fared worse.
fn worst(series: &[&Series]) -> Percentiles {
    let of = |pick: fn(&Percentiles) -> u64| series.iter().map(|series| pick(&series.way_us)).max().unwrap_or(0);
    Percentiles { p50: of(|p| p.p50), p90: of(|p| p.p90), p99: of(|p| p.p99), max: of(|p| p.max) }
}

fn target(address: &str) -> Result<Target, Failure> {
    Target::try_new(&format!("http://{address}/")).map_err(Failure::failed)
}

fn spinner(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn progress_bar(setup: &Setup, expected: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} [{bar:40}] {pos}/{len} arrived {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let name = setup.scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    ProgressBar::new(expected).with_style(style).with_prefix(format!("{name} {}", setup.variant))
}
