//! What a metric is, and a value of it.

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
