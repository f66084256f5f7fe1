//! A run: registers its webhooks, publishes, and waits until all has arrived.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::args::BenchArgs;
use super::load::{Wire, publish};
use super::pace::Capacity;
use super::process::{Process, Usage, ourselves};
use super::runs::{MESSAGE_BYTES, Run, Tls, runs};
use super::scenario::Scenario;
use super::serving::Servers;
use super::sink::{Percentiles, STATS_PATH, Series, UP_PATH, now_ns};
use super::{ceiling, hostile, sink, tls};
use crate::cli::Failure;
use crate::cli::client::{Http, RpcClient, Session, Target, TlsOptions};
use crate::store::DatabaseWork;

/// How long nothing may arrive before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often the receiver is asked what has arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

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

/// What was measured in one run of a scenario, or the median of several.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Which.
    pub scenario: Scenario,
    /// What distinguishes this run from others of the scenario.
    pub variant: &'static str,
    /// How many runs; all but the first of these figures are those of the
    /// one with the median p99, or of the processor time if that is compared.
    pub runs: usize,
    /// Events published.
    pub events: usize,
    /// How many of them in one call.
    pub events_a_call: usize,
    /// Bytes of padding in the message of each.
    pub message_bytes: usize,
    /// Deliveries that arrived.
    pub deliveries: u64,
    /// Events accepted a second.
    pub accepted_per_s: f64,
    /// Deliveries a second, from the first publish to the last arrival; of a
    /// receiver that comes back, from its first arrival.
    pub delivered_per_s: f64,
    /// How long it took until all had arrived, counted as those are, in seconds.
    pub all_arrived_s: f64,
    /// How a receiver fared that slows down.
    pub slowed: Option<Slowed>,
    /// From publish to arrival, in microseconds, at the webhooks that are measured.
    pub way_us: Percentiles,
    /// The servers' peak memory, in bytes.
    pub peak_rss: Option<u64>,
    /// The servers' processor seconds per 1,000 deliveries.
    pub cpu_s_per_1000: Option<f64>,
    /// Commits over the servers' whole lives, each with an `fdatasync`.
    pub commits: Option<u64>,
    /// What it cost the database, if the store is in one.
    pub database: Option<Database>,
}

/// What deliveries cost a database, which is asked before the load and after it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Database {
    /// Bytes of its log for each.
    pub wal_bytes_a_delivery: f64,
    /// Statements for each, if it counts them.
    pub statements_a_delivery: Option<f64>,
}

impl Database {
    fn between(before: &DatabaseWork, after: &DatabaseWork, deliveries: u64) -> Self {
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / deliveries as f64;
        let statements = before.statements.zip(after.statements);
        Self {
            wal_bytes_a_delivery: each(before.wal_bytes, after.wal_bytes),
            statements_a_delivery: statements.map(|(before, after)| each(before, after)),
        }
    }
}

/// How a receiver fared that slows down.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slowed {
    /// The most requests a second that it can answer.
    pub best_per_s: f64,
    /// Which part of that it came to, after the first tenth of the events.
    pub share_of_best: f64,
    /// The most requests that were under way at once.
    pub under_way_max: u64,
    /// Requests whose client went away before they were answered.
    pub given_up: u64,
}

/// Who serves: processes of ours, or a server that runs already.
pub struct Theirs {
    /// Where.
    pub address: String,
    /// As whom.
    pub user: String,
    /// With which API key.
    pub key: String,
}

/// Measures the machine itself.
pub async fn measure_ceiling(folder: &Path, args: &BenchArgs) -> Result<Ceiling, Failure> {
    let bar = spinner("measuring the ceiling");
    let receiver = receiver(args, &[])?;
    let posts_per_s = ceiling::posts_per_second(&receiver.address, args.message_bytes.unwrap_or(MESSAGE_BYTES)).await?;
    let ceiling = Ceiling {
        posts_per_s,
        rows_per_s: ceiling::rows_per_second(folder)?,
        sync_us: u64::try_from(ceiling::sync_time(folder)?.as_micros()).unwrap_or(u64::MAX),
    };
    bar.finish_and_clear();
    Ok(ceiling)
}

/// Measures a scenario: one run, or pairs of runs, of which the medians count.
pub async fn measure(
    scenario: Scenario,
    folder: &Path,
    args: &BenchArgs,
    theirs: Option<&Theirs>,
) -> Result<Vec<Figures>, Failure> {
    let mut measured: Vec<(&str, Vec<Figures>)> = Vec::new();
    let runs = runs(scenario, args)?;
    let count = runs.len();
    for (number, run) in runs.into_iter().enumerate() {
        let store = folder.join(format!("{}-{number}", scenario.name()));
        std::fs::create_dir(&store).map_err(Failure::failed)?;
        let name = match count {
            1 => scenario.name(),
            _ => format!("{} {} ({}/{count})", scenario.name(), run.variant, number + 1),
        };
        let figures = carry_out(&run, &name, &store, args, theirs).await?;
        // A store of a million deliveries need not wait for the end.
        std::fs::remove_dir_all(&store).map_err(Failure::failed)?;
        match measured.iter_mut().find(|(variant, _)| *variant == run.variant) {
            Some((_, others)) => others.push(figures),
            None => measured.push((run.variant, vec![figures])),
        }
    }
    Ok(measured.into_iter().filter_map(|(_, figures)| median(figures)).collect())
}

/// Those of the run with the median p99, or the median of what it is compared
/// by, but the worst memory of all.
fn median(mut all: Vec<Figures>) -> Option<Figures> {
    all.sort_by(|one, other| match one.scenario.compares_cpu() {
        true => one.cpu_s_per_1000.partial_cmp(&other.cpu_s_per_1000).unwrap_or(Ordering::Equal),
        false => one.way_us.p99.cmp(&other.way_us.p99),
    });
    let (runs, peak_rss) = (all.len(), all.iter().filter_map(|figures| figures.peak_rss).max());
    let middle = all.into_iter().nth(runs / 2)?;
    Some(Figures { runs, peak_rss, ..middle })
}

fn receiver(args: &BenchArgs, more: &[&str]) -> Result<Process, Failure> {
    let receive = ["bench-receiver", "--bind", &args.receive_on];
    Process::start(Command::new(ourselves()?), &[&receive[..], more].concat(), None)
}

/// The receiver of a run, and where its hosts are.
struct Receiver {
    process: Process,
    hosts: Vec<SocketAddr>,
    tls: Option<tls::Files>,
}

impl Receiver {
    fn start(run: &Run, folder: &Path, args: &BenchArgs) -> Result<Self, Failure> {
        let first: SocketAddr = args
            .receive_on
            .parse()
            .map_err(|_| Failure::usage(format!("--receive-on {}: no address and port", args.receive_on)))?;
        let hosts = sink::hosts(first.ip(), run.hosts)?;
        let tls = run.tls.map(|_| tls::Files::make(folder, &hosts)).transpose()?;
        let (latency, count) = (run.latency_ms.to_string(), run.hosts.to_string());
        let mut more = vec!["--latency-ms", &latency, "--hosts", &count];
        let file = tls.as_ref().map(|files| files.receiver.display().to_string());
        if let Some(file) = &file {
            more.extend(["--tls", file]);
        }
        if run.tls == Some(Tls::Full) {
            more.push("--no-resumption");
        }
        let process = receiver(args, &more)?;
        let address: SocketAddr = process.address.parse().map_err(Failure::failed)?;
        let hosts = hosts.into_iter().map(|host| SocketAddr::new(host, address.port())).collect();
        Ok(Self { process, hosts, tls })
    }

    /// The URL of a webhook; the hosts take turns.
    fn url(&self, number: usize, target: &str) -> String {
        if !target.starts_with('/') {
            return target.to_owned();
        }
        // Hostile ones speak no TLS.
        let is_secure = self.tls.is_some() && !target.starts_with(hostile::PREFIX);
        let scheme = if is_secure { "https" } else { "http" };
        format!("{scheme}://{}{target}", self.hosts[number % self.hosts.len()])
    }
}

async fn carry_out(
    run: &Run,
    name: &str,
    folder: &Path,
    args: &BenchArgs,
    theirs: Option<&Theirs>,
) -> Result<Figures, Failure> {
    let receiver = Receiver::start(run, folder, args)?;
    let mut servers = match theirs {
        Some(_) => None,
        None => Some(start_servers(&receiver, folder, args)?),
    };
    let (addresses, user, key) = match (&servers, theirs) {
        (_, Some(Theirs { address, user, key })) => (vec![address.clone()], user.as_str(), key.as_str()),
        (Some(servers), None) => (servers.addresses(), crate::cli::DEMO_USER, crate::cli::DEMO_KEY),
        (None, None) => return Err(Failure::failed("there is no server")),
    };
    let first = addresses.first().ok_or_else(|| Failure::failed("there is no server"))?;
    let target = Target::try_new(&format!("http://{first}/")).map_err(Failure::failed)?;
    let client = RpcClient::new(Http::new(target, TlsOptions::default()).map_err(Failure::failed)?);
    let session = client.login(user, key).await.map_err(Failure::failed)?;
    let webhooks = register(run, &session, &receiver).await?;
    let before = servers.as_mut().map(|servers| servers.room.work()).transpose()?.flatten();
    let usage = || servers.as_ref().map(Servers::usage).unwrap_or_default();
    let measured = load(run, name, &addresses, session.key(), &receiver.process.address, usage).await;
    let after = servers.as_mut().map(|servers| servers.room.work()).transpose()?.flatten();
    if theirs.is_some() {
        for webhook in webhooks {
            session.call("webhook.delete", (webhook,)).await.map_err(Failure::failed)?;
        }
    }
    session.end().await;
    let figures = measured?;
    let commits = servers.and_then(Servers::stop);
    let database = before.zip(after).map(|(before, after)| Database::between(&before, &after, figures.deliveries));
    Ok(Figures { commits, database, ..figures })
}

fn start_servers(receiver: &Receiver, folder: &Path, args: &BenchArgs) -> Result<Servers, Failure> {
    let authority = receiver.tls.as_ref().map(|files| files.authority.display().to_string());
    let more = authority.as_ref().map(|authority| ["--ca-file", authority]);
    Servers::start(folder, args, more.as_ref().map_or(&[], |more| &more[..]))
}

/// Registers the webhooks of a run; their ids.
async fn register(run: &Run, session: &Session<'_>, receiver: &Receiver) -> Result<Vec<i64>, Failure> {
    #[derive(Deserialize)]
    struct Created {
        webhook_id: i64,
    }
    let mut ids = Vec::new();
    for (number, hook) in run.hooks.iter().chain(&run.besides).enumerate() {
        let mut webhook = hook.more.clone();
        webhook["topics"] = hook.topics.into();
        webhook["url"] = receiver.url(number, &hook.target).into();
        let created = session.call("webhook.create", (webhook, true)).await.map_err(Failure::failed)?;
        let created: Created = serde_json::from_str(created.get()).map_err(Failure::failed)?;
        ids.push(created.webhook_id);
    }
    Ok(ids)
}

/// Publishes, and waits for the arrivals.
async fn load(
    run: &Run,
    name: &str,
    addresses: &[String],
    session: &str,
    receiver: &str,
    usage: impl Fn() -> Usage,
) -> Result<Figures, Failure> {
    let mut accepting = None;
    if let Some(before) = &run.before {
        let bar = spinner(format!("{name}: publishing {} events to be pending", before.events));
        accepting = Some(publish(addresses, session, before).await?);
        bar.finish_and_clear();
    }
    let bar = progress_bar(name, run.expected());
    let (before, began_ns) = (usage(), now_ns());
    let publishing = run.plan.clone().map(|plan| {
        let (addresses, session) = (addresses.to_vec(), session.to_owned());
        tokio::spawn(async move { publish(&addresses, &session, &plan).await })
    });
    if publishing.is_none() {
        Wire::open(receiver).await?.post(UP_PATH, &HeaderMap::new(), Bytes::new()).await?;
    }
    let arrived = wait_for_arrivals(receiver, run, &bar).await?;
    if let Some(publishing) = publishing {
        accepting = Some(publishing.await.map_err(Failure::failed)??);
    }
    let after = usage();
    bar.finish_and_clear();

    let series: Vec<&Series> = measured_paths(run).filter_map(|path| arrived.get(path)).collect();
    let overtaken: u64 = series.iter().map(|series| series.overtaken).sum();
    if run.scenario.is_ordered() && overtaken > 0 {
        return Err(Failure::failed(format!("{overtaken} deliveries of an ordered webhook were overtaken")));
    }
    let from_ns = match run.plan {
        Some(_) => began_ns,
        None => series.iter().map(|series| series.first_ns).min().unwrap_or(began_ns),
    };
    let last_ns = series.iter().map(|series| series.last_ns).max().unwrap_or(from_ns);
    let delivering = Duration::from_nanos(last_ns.saturating_sub(from_ns)).max(Duration::from_nanos(1));
    let deliveries = series.iter().map(|series| series.count).sum();
    let cpu = after.cpu.zip(before.cpu).map(|(after, before)| (after - before).as_secs_f64());
    Ok(Figures {
        scenario: run.scenario,
        variant: run.variant,
        runs: 1,
        events: run.events(),
        events_a_call: run.published().map_or(0, |plan| plan.batch),
        message_bytes: run.published().map_or(0, |plan| plan.message_bytes),
        deliveries,
        accepted_per_s: run.events() as f64 / accepting.unwrap_or_default().as_secs_f64(),
        delivered_per_s: deliveries as f64 / delivering.as_secs_f64(),
        all_arrived_s: delivering.as_secs_f64(),
        slowed: run.capacity.zip(series.first()).map(|(capacity, series)| slowed(capacity, series)),
        way_us: worst(&series),
        peak_rss: after.peak_rss,
        cpu_s_per_1000: cpu.map(|cpu| cpu * 1_000.0 / deliveries as f64),
        commits: None,
        database: None,
    })
}

fn slowed(capacity: Capacity, series: &Series) -> Slowed {
    let counted = series.count.saturating_sub(capacity.ramp) as f64;
    let within = Duration::from_nanos(series.last_ns.saturating_sub(series.ramp_ns).max(1));
    Slowed {
        best_per_s: capacity.best_per_s(),
        share_of_best: counted / within.as_secs_f64() / capacity.best_per_s(),
        under_way_max: series.under_way_max,
        given_up: series.given_up,
    }
}

/// The paths of the receiver whose arrivals count.
fn measured_paths(run: &Run) -> impl Iterator<Item = &str> {
    run.hooks.iter().filter_map(|hook| hook.target.split('?').next())
}

async fn wait_for_arrivals(address: &str, run: &Run, bar: &ProgressBar) -> Result<BTreeMap<String, Series>, Failure> {
    let expected = run.expected();
    let mut wire = Wire::open(address).await?;
    let (mut last_count, mut last_change) = (0, Instant::now());
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let report = wire.post(STATS_PATH, &HeaderMap::new(), Bytes::new()).await?;
        let report: BTreeMap<String, Series> = serde_json::from_slice(&report).map_err(Failure::failed)?;
        let count = measured_paths(run).filter_map(|path| report.get(path)).map(|series| series.count).sum();
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

/// Shows that something goes on.
pub fn spinner(message: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn progress_bar(name: &str, expected: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:24} [{bar:40}] {pos}/{len} arrived {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(expected).with_style(style).with_prefix(name.to_owned())
}
