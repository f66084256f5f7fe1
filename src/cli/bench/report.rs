//! The figures, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::measure::{Ceiling, Database, Figures};
use super::scenario::Scenario;
use super::tenants::{self, Row};

/// All that was measured in one run of the program.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    cores: usize,
    ceiling: Ceiling,
    scenarios: Vec<Line>,
    tenants: Vec<Row>,
}

/// Figures, and how they stand to the ceiling.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    figures: Figures,
    /// Deliveries a second to signed POSTs a second of a bare client.
    ratio_to_ceiling: f64,
}

impl Report {
    /// A report with nothing but the ceiling.
    pub fn new(ceiling: Ceiling) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { version: env!("CARGO_PKG_VERSION"), cores, ceiling, scenarios: Vec::new(), tenants: Vec::new() }
    }

    /// Adds what was measured.
    pub fn add(&mut self, figures: Vec<Figures>) {
        let posts_per_s = self.ceiling.posts_per_s;
        let line = |figures: Figures| Line { ratio_to_ceiling: figures.delivered_per_s / posts_per_s, figures };
        self.scenarios.extend(figures.into_iter().map(line));
    }

    /// Adds what a neighbour noticed of attacks.
    pub fn add_tenants(&mut self, rows: Vec<Row>) {
        self.tenants.extend(rows);
    }

    /// The attacks that could not be made.
    pub fn failed(&self) -> Vec<&'static str> {
        self.tenants.iter().filter_map(Row::failed).collect()
    }

    /// What a neighbour noticed, as rows of a table in Markdown.
    pub fn markdown(&self) -> String {
        tenants::markdown(&self.tenants)
    }

    /// For programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is numbers and names")
    }

    /// For people.
    pub fn table(&self) -> String {
        let Ceiling { posts_per_s, rows_per_s, sync_us } = self.ceiling;
        let mut text = format!(
            "tallyhook {} on {} cores\nceiling: {posts_per_s:.0} signed POSTs/s from a bare client, \
             {rows_per_s:.0} rows/s into SQLite, {sync_us} µs for an fdatasync\n\n",
            self.version, self.cores
        );
        if !self.scenarios.is_empty() {
            self.write_scenarios(&mut text);
        }
        if !self.tenants.is_empty() {
            text += &tenants::table(&self.tenants);
        }
        text.trim_end().to_owned()
    }

    fn write_scenarios(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:18} {:>6} {:>5} {:>10} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12} {:>8}",
            "scenario",
            "a call",
            "bytes",
            "accepted/s",
            "delivered/s",
            "ratio",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "max ms",
            "peak MB",
            "CPU s/1,000",
            "commits"
        );
        for Line { figures, ratio_to_ceiling } in &self.scenarios {
            let way = figures.way_us;
            let ms = |us: u64| us as f64 / 1_000.0;
            let peak = figures.peak_rss.map_or("n/a".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
            let cpu = figures.cpu_s_per_1000.map_or("n/a".to_owned(), |cpu| format!("{cpu:.3}"));
            let _ = writeln!(
                text,
                "{:18} {:>6} {:>5} {:>10.0} {:>11.0} {:>8.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9} {:>12} {:>8}",
                name(figures),
                figures.events_a_call,
                figures.message_bytes,
                figures.accepted_per_s,
                figures.delivered_per_s,
                ratio_to_ceiling,
                ms(way.p50),
                ms(way.p90),
                ms(way.p99),
                ms(way.max),
                peak,
                cpu,
                figures.commits.map_or("n/a".to_owned(), |commits| commits.to_string())
            );
        }
        text.push('\n');
        for (without, with) in self.pairs() {
            let (before, after) = (without.way_us.p99 as f64 / 1_000.0, with.way_us.p99 as f64 / 1_000.0);
            let _ = writeln!(
                text,
                "{}: p99 {before:.2} ms without, {after:.2} ms with: x {:.2} (medians of {} pairs)",
                with.scenario.name(),
                after / before,
                with.runs
            );
        }
        for Line { figures, .. } in &self.scenarios {
            let (name, deliveries, seconds) = (name(figures), figures.deliveries, figures.all_arrived_s);
            if matches!(figures.scenario, Scenario::Distant | Scenario::DistantOrdered | Scenario::Hosts) {
                let _ = writeln!(text, "{name}: all {deliveries} had arrived after {seconds:.2} s");
            }
            if let Some(slowed) = figures.slowed {
                let _ = writeln!(
                    text,
                    "{name}: {:.2} of the {:.0} requests/s that its receiver can answer; {} were under way at most, \
                     {} were given up before they were answered",
                    slowed.share_of_best, slowed.best_per_s, slowed.under_way_max, slowed.given_up
                );
            }
        }
        for Line { figures, .. } in &self.scenarios {
            if let Some(Database { wal_bytes_a_delivery, statements_a_delivery }) = figures.database {
                let name = name(figures);
                let statements = statements_a_delivery.map_or("n/a".to_owned(), |count| format!("{count:.3}"));
                let _ = writeln!(
                    text,
                    "{name}: a delivery cost the database {wal_bytes_a_delivery:.0} bytes of its log and {statements} \
                     statements"
                );
            }
        }
        self.write_costs(text);
        text.push_str(
            "A call publishes so many events, with so many bytes of padding in each. Latencies run from the publish to \
             the arrival at the receiver; each commit is an fdatasync.\n\n",
        );
    }

    /// What TLS costs the server's processor.
    fn write_costs(&self, text: &mut String) {
        let cpu_us = |scenario: Scenario, variant: &str| {
            let mut figures = self.scenarios.iter().map(|line| &line.figures);
            let figures = figures.find(|one| (one.scenario, one.variant) == (scenario, variant))?;
            // Seconds for a thousand are milliseconds for each.
            figures.cpu_s_per_1000.map(|ms| ms * 1_000.0)
        };
        if let Some((http, https)) = cpu_us(Scenario::Secure, "http").zip(cpu_us(Scenario::Secure, "https")) {
            let ratio = https / http;
            let _ = writeln!(
                text,
                "secure: a delivery costs {http:.1} µs over http, {https:.1} µs over https: x {ratio:.2}"
            );
        }
        let handshakes = |variant| cpu_us(Scenario::Handshakes, variant);
        if let (Some(http), Some(resumed), Some(full)) = (handshakes("http"), handshakes("resumed"), handshakes("full"))
        {
            let (resumed, full) = (resumed - http, full - http);
            let _ = writeln!(
                text,
                "handshakes: beyond a new connection over http, {resumed:.0} µs if the session is resumed, {full:.0} µs if \
                 not: x {:.2}",
                resumed / full
            );
        }
    }

    /// Those that are to be compared.
    fn pairs(&self) -> impl Iterator<Item = (&Figures, &Figures)> {
        self.scenarios.windows(2).filter_map(|two| match two {
            [without, with] if (without.figures.variant, with.figures.variant) == ("without", "with") => {
                Some((&without.figures, &with.figures))
            }
            _ => None,
        })
    }
}

fn name(figures: &Figures) -> String {
    let name = figures.scenario.name();
    if figures.variant.is_empty() { name } else { format!("{name} ({})", figures.variant) }
}
