//! Metrics as they are declared: once for those who scrape, and once to be listed.

use prometheus_client::registry::{Metric, Registry};

use super::labelled::Read;

/// A metric as it is listed.
pub struct Described {
    /// Its name, without what all begin with.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What there is so many of.
    pub unit: &'static str,
    /// Its values.
    pub metric: Box<dyn Read>,
}

/// Metrics as they are declared.
pub struct List {
    /// As the library writes them.
    pub registry: Registry,
    /// As they are listed.
    pub described: Vec<Described>,
}

impl List {
    /// None yet, whose names will begin so.
    pub fn new(prefix: &str) -> Self {
        Self { registry: Registry::with_prefix(prefix), described: Vec::new() }
    }

    /// Declares one.
    pub fn add<M: Metric + Read + Clone>(
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
