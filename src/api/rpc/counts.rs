//! How the calls of a method have ended.

use super::spec::Spec;
use crate::domain::fault::FaultCode;
use crate::metrics::{Counter, Metrics};

/// A counter for each way in which a call can end.
pub struct CallCounts {
    none: Counter,
    faults: Box<[(FaultCode, Counter)]>,
    /// Of faults that are another method's, which a relay hands on.
    other: Counter,
}

impl CallCounts {
    /// Those of a method, with the faults that it tells of.
    pub fn new(metrics: &Metrics, spec: &Spec) -> Self {
        let child = |fault: &'static str| metrics.calls.child(&[spec.name, fault]);
        let faults = spec.all_faults().into_iter().map(|code| (code, child(code.entry().name))).collect();
        Self { none: child("none"), faults, other: child("other") }
    }

    /// Counts a call that ended well.
    pub fn succeeded(&self) {
        self.none.inc();
    }

    /// Counts a call that ended with a fault.
    pub fn failed(&self, code: FaultCode) {
        let own = self.faults.iter().find(|(known, _)| *known == code);
        own.map_or(&self.other, |(_, counter)| counter).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rpc::methods;

    #[test]
    fn a_call_is_counted_by_its_method_and_its_fault() {
        let metrics = Metrics::default();
        let methods = methods::all();
        let spec = &methods.iter().find(|method| method.spec.name == "webhook.get").unwrap().spec;
        let counts = CallCounts::new(&metrics, spec);
        counts.succeeded();
        for code in [FaultCode::NoWebhook, FaultCode::NoWebhook, FaultCode::NoEvent] {
            counts.failed(code);
        }
        let count = |fault| metrics.calls.child(&["webhook.get", fault]).get();
        assert_eq!((count("none"), count("NoWebhook"), count("other"), count("AccessDenied")), (1, 2, 1, 0));
    }

    /// However many methods there are, nobody's input makes more counters.
    #[test]
    fn there_are_as_many_counters_as_the_table_has_ends() {
        let metrics = Metrics::default();
        let methods = methods::all();
        methods.iter().for_each(|method| drop(CallCounts::new(&metrics, &method.spec)));
        let ends: usize = methods.iter().map(|method| method.spec.all_faults().len() + 2).sum();
        assert_eq!(metrics.snapshot().iter().filter(|sample| sample.name == "calls").count(), ends);
    }
}
