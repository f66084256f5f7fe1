//! What the server counts of itself: a ground floor, which every floor may
//! set and which imports none of them.
//!
//! To count is one atomic operation on a handle that whoever counts holds: no
//! lock, no allocation, no I/O. Children with labels are made when a floor is
//! set up, from lists that the code knows, so nobody's input makes more of them.

mod histogram;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, text};
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

use self::histogram::Bound;
pub use self::histogram::Histogram;

/// What all names begin with.
const PREFIX: &str = "tallyhook";

/// The names of labels, each with its value.
type Labels = Vec<(&'static str, &'static str)>;

/// All metrics of one server.
pub struct Metrics {
    /// Requests to receivers that are under way.
    pub requests_in_flight: Gauge,
    /// Outcomes that are not yet committed.
    pub outcomes_unrecorded: Gauge,
    /// Attempts that have ended, by `outcome`: `delivered`, or the class of the error.
    pub attempts: Labelled<Counter>,
    /// How long a delivery takes from when it is numbered to when it is taken.
    pub delivery_seconds: Histogram,
    /// Lanes, by `state`.
    pub lanes: Labelled<Gauge>,
    /// Events whose publishers were told that they are accepted; those that are said
    /// again with an idempotency key among them.
    pub events: Counter,
    /// Changes that wait for the store's writer.
    pub changes_waiting: Gauge,
    /// Commits of the store, by `outcome`: `committed` or `failed`.
    pub commits: Labelled<Counter>,
    /// Changes in a commit.
    pub commit_changes: Histogram,
    /// Rows that a commit writes, about.
    pub commit_rows: Histogram,
    /// How long a commit takes, from when it is begun to when it is on disk.
    pub commit_seconds: Histogram,
    /// Webhooks, events, jobs and logs for which the store has something to do
    /// besides the changes.
    pub chores_waiting: Gauge,
    /// Connections that read the store, by `user`: `calls` or `lanes`.
    pub readers_in_use: Labelled<Gauge>,
    /// Subscriptions that are told of commits.
    pub subscribers: Gauge,
    /// Connections of clients.
    pub connections: Gauge,
    /// Calls of JSON-RPC, by `method` and `fault`: that of the answer, `none`, or `other`.
    pub calls: Labelled<Counter>,
    refusals: [Counter; Limit::ALL.len()],
    registry: Registry,
    described: Vec<Described>,
}

/// A bound beyond which somebody is refused; most are keys of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls of one user in a second.
    Calls,
    /// Calls of one address in a second, by those who are not logged in.
    StrangerCalls,
    /// Failed logins in a minute.
    LoginFailures,
    /// Connections, in all and of one address.
    Connections,
    /// Long work of one account that waits.
    WaitingWork,
    /// Subscriptions.
    Subscriptions,
    /// Pulls that wait.
    WaitingPulls,
    /// Bytes of one body.
    BodyBytes,
    /// Bytes of bodies that are being received.
    ReceivedBytes,
    /// Bytes of answers that wait to be taken.
    UnsentBytes,
}

impl Limit {
    /// Each.
    pub const ALL: [Self; 10] = [
        Self::Calls,
        Self::StrangerCalls,
        Self::LoginFailures,
        Self::Connections,
        Self::WaitingWork,
        Self::Subscriptions,
        Self::WaitingPulls,
        Self::BodyBytes,
        Self::ReceivedBytes,
        Self::UnsentBytes,
    ];

    /// Its name as the value of a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::StrangerCalls => "stranger_calls",
            Self::LoginFailures => "login_failures",
            Self::Connections => "connections",
            Self::WaitingWork => "waiting_work",
            Self::Subscriptions => "subscriptions",
            Self::WaitingPulls => "waiting_pulls",
            Self::BodyBytes => "body_bytes",
            Self::ReceivedBytes => "received_bytes",
            Self::UnsentBytes => "unsent_bytes",
        }
    }
}

/// How many changes or rows a commit has: up to one, a few, and so on; its budget
/// is 1,200 rows.
const COMMIT_SIZES: &[Bound] = &[(1, "1.0"), (4, "4.0"), (16, "16.0"), (64, "64.0"), (256, "256.0"), (1_200, "1200.0")];
/// How long a commit takes, in microseconds.
const COMMIT_TIMES: &[Bound] = &[
    (300, "0.0003"),
    (1_000, "0.001"),
    (3_000, "0.003"),
    (10_000, "0.01"),
    (30_000, "0.03"),
    (100_000, "0.1"),
    (1_000_000, "1.0"),
];
/// How long a delivery takes from when it is numbered, in microseconds: from what is
/// sent at once to the end of the retries.
const DELIVERY_TIMES: &[Bound] = &[
    (1_000, "0.001"),
    (3_000, "0.003"),
    (10_000, "0.01"),
    (30_000, "0.03"),
    (100_000, "0.1"),
    (300_000, "0.3"),
    (1_000_000, "1.0"),
    (3_000_000, "3.0"),
    (10_000_000, "10.0"),
    (60_000_000, "60.0"),
    (600_000_000, "600.0"),
    (3_600_000_000, "3600.0"),
    (86_400_000_000, "86400.0"),
];

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It counts what has happened since the start.
    Counter,
    /// It says how much there is now.
    Gauge,
    /// It counts values up to the bound that its label `le` says.
    Histogram,
}

/// A value, and what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The metric's name.
    pub name: &'static str,
    /// What it says, for people.
    pub help: &'static str,
    /// What there is so many of.
    pub unit: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Which of the metric's values it is.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The value.
    pub value: i64,
}

/// A metric, whatever its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, as those who scrape it write it.
    pub name: String,
    /// Whether it only grows.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What there is so many of.
    pub unit: &'static str,
    /// What it says, for people.
    pub help: &'static str,
}

/// A metric as it is listed.
struct Described {
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    metric: Box<dyn Read>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut list = List { registry: Registry::with_prefix(PREFIX), described: Vec::new() };
        let counters = Labelled::<Counter>::new;
        let built: Labelled<Gauge> =
            list.add("build_info", "builds", "Which version this is; always 1.", Labelled::new(&["version"]));
        built.child(&[env!("CARGO_PKG_VERSION")]).set(1);
        let refused = list.add("refusals", "calls", "What was refused, by the limit it met.", counters(&["limit"]));
        Self {
            requests_in_flight: list.add(
                "requests_in_flight",
                "requests",
                "Requests to receivers that are under way.",
                Gauge::default(),
            ),
            outcomes_unrecorded: list.add(
                "outcomes_unrecorded",
                "outcomes",
                "Outcomes of attempts that are not yet committed.",
                Gauge::default(),
            ),
            attempts: list.add("attempts", "attempts", "Attempts that have ended, by outcome.", counters(&["outcome"])),
            delivery_seconds: list.add(
                "delivery_seconds",
                "seconds",
                "From when a delivery gets its number to when its receiver has taken it.",
                Histogram::of_times(DELIVERY_TIMES),
            ),
            lanes: list.add("lanes", "webhooks", "Webhooks by what their lane is doing.", Labelled::new(&["state"])),
            events: list.add(
                "events",
                "events",
                "Events whose publishers were told that they are accepted.",
                Counter::default(),
            ),
            changes_waiting: list.add(
                "changes_waiting",
                "changes",
                "Changes that wait for the store's writer.",
                Gauge::default(),
            ),
            commits: list.add("commits", "commits", "Commits of the store, by outcome.", counters(&["outcome"])),
            commit_changes: list.add("commit_changes", "changes", "Changes in a commit.", Histogram::new(COMMIT_SIZES)),
            commit_rows: list.add(
                "commit_rows",
                "rows",
                "Rows that a commit writes, about.",
                Histogram::new(COMMIT_SIZES),
            ),
            commit_seconds: list.add(
                "commit_seconds",
                "seconds",
                "How long a commit takes until it is on disk.",
                Histogram::of_times(COMMIT_TIMES),
            ),
            chores_waiting: list.add(
                "chores_waiting",
                "chores",
                "Webhooks, events, jobs and logs for which the store has something to do besides the changes.",
                Gauge::default(),
            ),
            readers_in_use: list.add(
                "readers_in_use",
                "readers",
                "Connections that read the store, by user.",
                Labelled::new(&["user"]),
            ),
            subscribers: list.add(
                "subscribers",
                "subscriptions",
                "Subscriptions that are told of commits.",
                Gauge::default(),
            ),
            connections: list.add("connections", "connections", "Connections of clients.", Gauge::default()),
            calls: list.add(
                "calls",
                "calls",
                "Calls of JSON-RPC, by method and fault.",
                Labelled::new(&["method", "fault"]),
            ),
            refusals: Limit::ALL.map(|limit| refused.child(&[limit.name()])),
            registry: list.registry,
            described: list.described,
        }
    }
}

impl Metrics {
    /// Counts somebody who was refused for a limit.
    pub fn refused(&self, limit: Limit) {
        self.refusals[limit as usize].inc();
    }

    /// Every metric there is.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |described: &Described| {
            let Described { name, help, unit, ref metric } = *described;
            let kind = metric.kind();
            let suffix = if kind == Kind::Counter { "_total" } else { "" };
            Listed { name: format!("{PREFIX}_{name}{suffix}"), kind, labels: metric.labels(), unit, help }
        };
        self.described.iter().map(listed).collect()
    }

    /// Every value there is now, metric by metric.
    pub fn snapshot(&self) -> Vec<Sample> {
        let samples = |described: &Described| {
            let Described { name, help, unit, ref metric } = *described;
            let kind = metric.kind();
            metric.read().into_iter().map(move |(labels, value)| Sample { name, help, unit, kind, labels, value })
        };
        self.described.iter().flat_map(samples).collect()
    }

    /// The same as OpenMetrics has it.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// The same in Prometheus' own format, version 0.0.4: a counter is called there by
    /// the name of its samples, and there is no last line.
    pub fn prometheus(&self) -> String {
        let text = self.open_metrics();
        let counters: HashSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let line = |line: &str| {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(word), Some(name), Some(rest)) if counters.contains(name) => {
                    format!("# {word} {name}_total {rest}\n")
                }
                _ => format!("{line}\n"),
            }
        };
        text.lines().filter(|line| *line != "# EOF").map(line).collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}

/// Metrics as they are declared.
struct List {
    registry: Registry,
    described: Vec<Described>,
}

impl List {
    fn add<M: Metric + Read + Clone>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        // The library ends it with a full stop.
        self.registry.register(name, help.trim_end_matches('.'), metric.clone());
        self.described.push(Described { name, help, unit, metric: Box::new(metric.clone()) });
        metric
    }
}

/// One value for each set of labels.
#[derive(Clone, Debug)]
pub struct Labelled<M> {
    names: &'static [&'static str],
    family: Family<Labels, M>,
    children: Arc<Mutex<Vec<(Labels, M)>>>,
}

impl<M: Clone + Default> Labelled<M> {
    fn new(names: &'static [&'static str]) -> Self {
        Self { names, family: Family::default(), children: Arc::default() }
    }

    /// The value of these labels, in their order, which is made if it is not
    /// there. Takes a lock: for when a floor is set up.
    pub fn child(&self, values: &[&'static str]) -> M {
        let labels: Labels = self.names.iter().copied().zip(values.iter().copied()).collect();
        let mut children = self.children.lock().expect("nothing panics while it holds the children");
        if let Some((_, child)) = children.iter().find(|(known, _)| *known == labels) {
            return child.clone();
        }
        let child = self.family.get_or_create_owned(&labels);
        children.push((labels, child.clone()));
        child
    }
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Labelled<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// What can be listed.
trait Read: Send + Sync {
    fn kind(&self) -> Kind;

    /// The names of its labels.
    fn labels(&self) -> &'static [&'static str] {
        &[]
    }

    fn read(&self) -> Vec<(Labels, i64)>;
}

impl Read for Counter {
    fn kind(&self) -> Kind {
        Kind::Counter
    }

    fn read(&self) -> Vec<(Labels, i64)> {
        vec![(Labels::new(), self.get().try_into().unwrap_or(i64::MAX))]
    }
}

impl Read for Gauge {
    fn kind(&self) -> Kind {
        Kind::Gauge
    }

    fn read(&self) -> Vec<(Labels, i64)> {
        vec![(Labels::new(), self.get())]
    }
}

impl Read for Histogram {
    fn kind(&self) -> Kind {
        Kind::Histogram
    }

    fn read(&self) -> Vec<(Labels, i64)> {
        let sample = |(bound, count): (&'static str, u64)| (vec![("le", bound)], count.try_into().unwrap_or(i64::MAX));
        self.up_to().into_iter().map(sample).collect()
    }
}

impl<M: Read + Default> Read for Labelled<M> {
    fn kind(&self) -> Kind {
        M::default().kind()
    }

    fn labels(&self) -> &'static [&'static str] {
        self.names
    }

    fn read(&self) -> Vec<(Labels, i64)> {
        let children = self.children.lock().expect("nothing panics while it holds the children");
        let values = |(labels, child): &(Labels, M)| {
            let labels = labels.clone();
            child.read().into_iter().map(move |(_, value)| (labels.clone(), value)).collect::<Vec<_>>()
        };
        children.iter().flat_map(values).collect()
    }
}

/// Counts one of what there is now, until it is dropped.
#[derive(Debug)]
pub struct Present(Gauge);

impl Present {
    /// There is one more.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> i64 {
        let samples = metrics.snapshot();
        let mut found = samples.iter().filter(|sample| sample.name == name && sample.labels == labels);
        let (first, second) = (found.next(), found.next());
        assert!(second.is_none(), "{name} {labels:?} stands twice");
        first.unwrap_or_else(|| panic!("{name} {labels:?} is not there: {samples:?}")).value
    }

    /// Each is moved, and is where it should be in both lists; a metric that is
    /// declared and not moved here fails at the end.
    #[test]
    fn what_is_counted_is_listed() {
        let metrics = Metrics::default();
        metrics.requests_in_flight.set(7);
        metrics.outcomes_unrecorded.set(2);
        metrics.attempts.child(&["delivered"]).inc_by(3);
        metrics.events.inc_by(9);
        metrics.lanes.child(&["open"]).set(4);
        metrics.changes_waiting.set(5);
        metrics.commits.child(&["committed"]).inc();
        let times = [&metrics.commit_seconds, &metrics.delivery_seconds];
        for histogram in [&metrics.commit_changes, &metrics.commit_rows].into_iter().chain(times) {
            histogram.observe(1);
        }
        metrics.chores_waiting.set(6);
        metrics.readers_in_use.child(&["lanes"]).set(2);
        metrics.subscribers.set(8);
        let connection = Present::new(&metrics.connections);
        metrics.calls.child(&["event.publish", "none"]).inc();
        metrics.calls.child(&["event.publish", "none"]).inc();
        for limit in Limit::ALL {
            for _ in 0..=limit as usize {
                metrics.refused(limit);
            }
        }

        assert_eq!(value(&metrics, "requests_in_flight", &[]), 7);
        assert_eq!(value(&metrics, "outcomes_unrecorded", &[]), 2);
        assert_eq!(value(&metrics, "attempts", &[("outcome", "delivered")]), 3);
        assert_eq!(value(&metrics, "lanes", &[("state", "open")]), 4);
        assert_eq!(value(&metrics, "changes_waiting", &[]), 5);
        assert_eq!(value(&metrics, "commits", &[("outcome", "committed")]), 1);
        assert_eq!(value(&metrics, "commit_rows", &[("le", "4.0")]), 1);
        assert_eq!(value(&metrics, "events", &[]), 9);
        assert_eq!(value(&metrics, "build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1);
        assert_eq!(value(&metrics, "chores_waiting", &[]), 6);
        assert_eq!(value(&metrics, "readers_in_use", &[("user", "lanes")]), 2);
        assert_eq!(value(&metrics, "subscribers", &[]), 8);
        assert_eq!(value(&metrics, "connections", &[]), 1);
        assert_eq!(value(&metrics, "calls", &[("method", "event.publish"), ("fault", "none")]), 2);
        for (place, limit) in (1..).zip(Limit::ALL) {
            assert_eq!(value(&metrics, "refusals", &[("limit", limit.name())]), place);
        }

        let samples = metrics.snapshot();
        assert_eq!(samples.iter().map(|sample| sample.name).collect::<HashSet<_>>().len(), metrics.described.len());
        let (text, prometheus) = (metrics.open_metrics(), metrics.prometheus());
        assert!(text.ends_with("\n# EOF\n") && !prometheus.contains("EOF"), "{prometheus}");
        assert!(
            text.contains("tallyhook_commit_seconds_sum 1e-6\n")
                || text.contains("tallyhook_commit_seconds_sum 0.000001\n"),
            "{text}"
        );
        for Sample { name, help, kind, labels, value, .. } in samples {
            assert!(value > 0, "{name} {labels:?} is not moved by this test");
            let (kind, suffix) = match kind {
                Kind::Counter => ("counter", "_total"),
                Kind::Gauge => ("gauge", ""),
                Kind::Histogram => ("histogram", "_bucket"),
            };
            let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            for line in [
                format!("# HELP tallyhook_{name} {help}\n"),
                format!("# TYPE tallyhook_{name} {kind}\n"),
                format!("tallyhook_{name}{suffix}{labels} {value}\n"),
            ] {
                assert!(text.contains(&line), "{line} is missing in {text}");
                // The samples are the same; only a counter is called by their name.
                let own = if line.starts_with('#') && kind == "counter" {
                    line.replacen(&format!("tallyhook_{name}"), &format!("tallyhook_{name}_total"), 1)
                } else {
                    line
                };
                assert!(prometheus.contains(&own), "{own} is missing in {prometheus}");
            }
        }
        drop(connection);
        assert_eq!(value(&metrics, "connections", &[]), 0);
    }

    #[test]
    fn names_of_limits_differ() {
        assert_eq!(Limit::ALL.map(Limit::name).into_iter().collect::<HashSet<_>>().len(), Limit::ALL.len());
        assert!(Limit::ALL.iter().enumerate().all(|(place, limit)| *limit as usize == place));
    }
}
