//! How often values were how large.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// An upper bound, itself included, and how it is written as a label, in the unit in
/// which the histogram is shown.
pub type Bound = (u64, &'static str);

/// Counts whole values by buckets that are given once and for all.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [Bound],
    /// One for each bound, and the last for what is beyond.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// How many of what is counted are one of what is shown.
    scale: f64,
}

impl Histogram {
    /// With these bounds, which ascend.
    pub fn new(bounds: &'static [Bound]) -> Self {
        Self::scaled(bounds, 1.0)
    }

    /// The same of times, which are counted in microseconds and shown in seconds.
    pub fn of_times(bounds: &'static [Bound]) -> Self {
        Self::scaled(bounds, 1e6)
    }

    fn scaled(bounds: &'static [Bound], scale: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum: AtomicU64::new(0), scale }))
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let Buckets { bounds, counts, sum, .. } = &*self.0;
        counts[bounds.partition_point(|(bound, _)| *bound < value)].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many there were up to each bound, by its label; the last are all.
    pub fn up_to(&self) -> Vec<(&'static str, u64)> {
        let mut sum = 0;
        let labels = self.0.bounds.iter().map(|(_, label)| *label).chain(["+Inf"]);
        let up_to = |count: &AtomicU64| {
            sum += count.load(Ordering::Relaxed);
            sum
        };
        labels.zip(self.0.counts.iter().map(up_to)).collect()
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Buckets { bounds, counts, sum, scale } = &*self.0;
        let bounds = bounds.iter().map(|(bound, _)| *bound as f64 / scale).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum.load(Ordering::Relaxed) as f64 / scale, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_where_it_belongs() {
        let histogram = Histogram::new(&[(1, "1"), (10, "10")]);
        for value in [0, 1, 2, 10, 11, 1_000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.up_to(), [("1", 2), ("10", 4), ("+Inf", 6)]);
    }
}
