//! Values with labels, and how all values are read.

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::histogram::Histogram;
use super::kind::Kind;

/// The names of labels, each with its value.
pub type Labels = Vec<(&'static str, &'static str)>;

/// One value for each set of labels.
#[derive(Clone, Debug)]
pub struct Labelled<M> {
    names: &'static [&'static str],
    family: Family<Labels, M>,
    children: Arc<Mutex<Vec<(Labels, M)>>>,
}

impl<M: Clone + Default> Labelled<M> {
    /// Without any child yet, with these labels.
    pub fn new(names: &'static [&'static str]) -> Self {
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
pub trait Read: Send + Sync {
    /// Whether it only grows.
    fn kind(&self) -> Kind;

    /// The names of its labels.
    fn labels(&self) -> &'static [&'static str] {
        &[]
    }

    /// Each value there is, with its labels.
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
