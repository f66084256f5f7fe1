//! What the server counts of itself: a ground floor, which every floor may
//! set and which imports none of them.
//!
//! To count is one atomic operation on a handle that whoever counts holds: no
//! lock, no allocation, no I/O. Children with labels are made when a floor is
//! set up, from lists that the code knows, so nobody's input makes more of them.

mod bounds;
mod figures;
mod histogram;
mod kind;
mod labelled;
mod limits;
mod list;
mod webhooks;

use std::collections::HashSet;
use std::fmt;

use prometheus_client::encoding::text;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::bounds::{COMMIT_SIZES, COMMIT_TIMES, DELIVERY_TIMES};
pub use self::figures::StoreFigures;
pub use self::histogram::Histogram;
pub use self::kind::{Kind, Listed, Sample};
pub use self::labelled::Labelled;
pub use self::limits::Limit;
use self::list::{Described, List};
pub use self::webhooks::{SingleWebhooks, WebhookFigures};

/// What all names begin with.
const PREFIX: &str = "tallyhook";

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
    /// Handshakes of TLS with clients, by `outcome`: `done` or `failed`.
    pub handshakes: Labelled<Counter>,
    /// Copies of the store that were due, by `outcome`: `made` or `failed`.
    pub copies: Labelled<Counter>,
    /// Of when the youngest copy is, in seconds since 1970; 0: there is none.
    pub copy_timestamp_seconds: Gauge,
    /// Calls of JSON-RPC, by `method` and `fault`: that of the answer, `none`, or `other`.
    pub calls: Labelled<Counter>,
    /// 1 for each part of the server that can't do its work, by `part`.
    pub problems: Labelled<Gauge>,
    /// Publishes that were refused, by `fault`.
    pub publishes_refused: Labelled<Counter>,
    /// Outcomes that are not recorded, for another node sends for their merchants.
    pub outcomes_refused: Counter,
    /// Spans that were made, by `outcome`: `exported`, `failed` (the collector did not take them) or
    /// `dropped` (too many waited).
    pub spans: Labelled<Counter>,
    /// What is read from the store now and then.
    pub figures: StoreFigures,
    /// Series of single webhooks.
    pub webhooks: SingleWebhooks,
    /// Webhooks without such series, though some are asked for.
    pub webhooks_left_out: Gauge,
    refusals: [Counter; Limit::ALL.len()],
    registry: Registry,
    described: Vec<Described>,
}

impl Default for Metrics {
    /// With no series of single webhooks.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Metrics {
    /// With series of so many single webhooks at the most.
    pub fn new(webhooks_max: usize) -> Self {
        let mut list = List::new(PREFIX);
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
            handshakes: list.add(
                "handshakes",
                "connections",
                "Handshakes of TLS with clients, by outcome.",
                counters(&["outcome"]),
            ),
            copies: list.add(
                "copies",
                "copies",
                "Copies of the store that backup_dir asks for and that were due, by outcome.",
                counters(&["outcome"]),
            ),
            copy_timestamp_seconds: list.add(
                "copy_timestamp_seconds",
                "seconds since 1970",
                "Of when the youngest of these copies is; 0 if there is none.",
                Gauge::default(),
            ),
            calls: list.add(
                "calls",
                "calls",
                "Calls of JSON-RPC, by method and fault.",
                Labelled::new(&["method", "fault"]),
            ),
            problems: list.add(
                "problems",
                "parts",
                "1 for a part of the server that can't do its work, as /readyz tells.",
                Labelled::new(&["part"]),
            ),
            publishes_refused: list.add(
                "publishes_refused",
                "calls",
                "Calls that publish and were refused, by fault.",
                counters(&["fault"]),
            ),
            outcomes_refused: list.add(
                "outcomes_refused",
                "outcomes",
                "Outcomes that were not recorded, for another server sends for their merchants by now.",
                Counter::default(),
            ),
            spans: list.add(
                "spans",
                "spans",
                "Spans that otlp_endpoint asks for, by what became of them.",
                counters(&["outcome"]),
            ),
            figures: StoreFigures::declared(&mut list),
            webhooks: SingleWebhooks::declared(&mut list, webhooks_max),
            webhooks_left_out: list.add(
                "webhooks_left_out",
                "webhooks",
                "Webhooks without series of their own, if metrics_webhooks asks for some.",
                Gauge::default(),
            ),
            refusals: Limit::ALL.map(|limit| refused.child(&[limit.name()])),
            registry: list.registry,
            described: list.described,
        }
    }

    /// Counts somebody who was refused for a limit.
    pub fn refused(&self, limit: Limit) {
        self.refusals[limit as usize].inc();
    }

    /// How much was refused so far, by the name of the limit.
    pub fn refused_so_far(&self) -> Vec<(&'static str, u64)> {
        Limit::ALL.into_iter().zip(&self.refusals).map(|(limit, counter)| (limit.name(), counter.get())).collect()
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

    /// Every value there is now, metric by metric, but for those of single webhooks.
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

    fn move_all(figures: &StoreFigures) {
        for family in [&figures.webhooks, &figures.deliveries_pending, &figures.delivery_lag_seconds] {
            family.child(&["healthy"]).set(2);
        }
        figures.dead_rows.child(&["event"]).set(3);
        figures.surveys_failed.inc();
        let ages = [&figures.snapshot_age_seconds, &figures.snapshot_age_transactions];
        let nodes = [&figures.nodes, &figures.leases_held, &figures.leases_free];
        let others = [&figures.sessions, &figures.store_bytes, &figures.survey_timestamp_seconds];
        for (gauge, value) in ages.into_iter().chain(nodes).chain(others).zip(1..) {
            gauge.set(value);
        }
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
        metrics.publishes_refused.child(&["EventRefused"]).inc();
        metrics.outcomes_refused.inc();
        metrics.webhooks_left_out.set(1);
        metrics.problems.child(&["store"]).set(1);
        metrics.handshakes.child(&["failed"]).inc();
        metrics.copies.child(&["made"]).inc();
        metrics.spans.child(&["exported"]).inc();
        metrics.copy_timestamp_seconds.set(1);
        move_all(&metrics.figures);
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
        assert_eq!(samples.iter().map(|sample| sample.name).collect::<HashSet<_>>().len(), metrics.described.len() - 3);
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
    fn single_webhooks_are_shown_as_far_as_they_are_asked_for() {
        let none = Metrics::default();
        none.webhooks.attempted(7, true);
        none.webhooks.show(vec![WebhookFigures { id: 7, pending: 1, lag_seconds: 2 }], |_| true);
        assert!(!none.prometheus().contains("webhook=\""));

        let metrics = Metrics::new(2);
        let figures = |id| WebhookFigures { id, pending: 10 + id.unsigned_abs(), lag_seconds: 20 };
        metrics.webhooks.attempted(8, true);
        metrics.webhooks.attempted(8, false);
        metrics.webhooks.attempted(9, false);
        metrics.webhooks.show(vec![figures(9), figures(7), figures(8)], |_| true);
        let shown = |metrics: &Metrics| {
            let text = metrics.open_metrics();
            text.lines().filter(|line| line.contains("webhook=\"")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&metrics),
            [
                "tallyhook_webhook_deliveries_pending{webhook=\"7\"} 17",
                "tallyhook_webhook_deliveries_pending{webhook=\"9\"} 19",
                "tallyhook_webhook_delivery_lag_seconds{webhook=\"7\"} 20",
                "tallyhook_webhook_delivery_lag_seconds{webhook=\"9\"} 20",
                "tallyhook_webhook_attempts_total{webhook=\"7\",outcome=\"delivered\"} 0",
                "tallyhook_webhook_attempts_total{webhook=\"7\",outcome=\"failed\"} 0",
                "tallyhook_webhook_attempts_total{webhook=\"9\",outcome=\"delivered\"} 0",
                "tallyhook_webhook_attempts_total{webhook=\"9\",outcome=\"failed\"} 1",
            ]
        );
        // What was counted while it was not shown counts, until it is gone.
        metrics.webhooks.show(vec![figures(8)], |id| id == 8);
        assert_eq!(
            shown(&metrics)[2..],
            [
                "tallyhook_webhook_attempts_total{webhook=\"8\",outcome=\"delivered\"} 1",
                "tallyhook_webhook_attempts_total{webhook=\"8\",outcome=\"failed\"} 1",
            ]
        );
        metrics.webhooks.show(vec![figures(9)], |_| true);
        assert!(shown(&metrics)[3].ends_with(" 0"), "{:?}", shown(&metrics));
    }
}
