//! What the worker says of itself, for whoever watches the server.

use std::time::Duration;

use super::load::LaneState;
use super::scheduler::Scheduler;
use crate::domain::delivery::{AttemptError, ErrorClass};
use crate::domain::id::WebhookId;
use crate::metrics::{Counter, Gauge, Histogram, Metrics, SingleWebhooks};

/// The worker's part of the metrics.
pub struct Gauges {
    in_flight: Gauge,
    unrecorded: Gauge,
    lanes: [Gauge; LaneState::ALL.len()],
    delivered: Counter,
    failed: [Counter; ErrorClass::ALL.len()],
    took: Histogram,
    webhooks: SingleWebhooks,
}

impl Gauges {
    /// Those of a server.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            in_flight: metrics.requests_in_flight.clone(),
            unrecorded: metrics.outcomes_unrecorded.clone(),
            lanes: LaneState::ALL.map(|state| metrics.lanes.child(&[state.name()])),
            delivered: metrics.attempts.child(&["delivered"]),
            failed: ErrorClass::ALL.map(|class| metrics.attempts.child(&[class.name()])),
            took: metrics.delivery_seconds.clone(),
            webhooks: metrics.webhooks.clone(),
        }
    }

    /// Counts an attempt that has ended so long after the delivery got its number.
    pub fn ended(&self, id: WebhookId, error: Option<&AttemptError>, took: Duration) {
        self.webhooks.attempted(id.0, error.is_none());
        match error {
            None => {
                self.delivered.inc();
                self.took.observe(took.as_micros().try_into().unwrap_or(u64::MAX));
            }
            Some(error) => drop(self.failed[error.class as usize].inc()),
        }
    }

    /// Shows how things stand.
    pub fn show(&self, scheduler: &Scheduler) {
        self.in_flight.set(number(scheduler.in_flight()));
        self.unrecorded.set(number(scheduler.unrecorded()));
        for (gauge, state) in self.lanes.iter().zip(LaneState::ALL) {
            gauge.set(number(scheduler.lane_states().of(state)));
        }
    }
}

fn number(count: usize) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::Config;
    use crate::domain::webhook::{DeliveryMode, Webhook};
    use crate::render::samples::webhook;
    use crate::store::mailbox::News;

    #[test]
    fn every_class_of_error_is_counted_for_itself() {
        assert!(ErrorClass::ALL.iter().enumerate().all(|(place, class)| *class as usize == place));
        assert!(LaneState::ALL.iter().enumerate().all(|(place, state)| *state as usize == place));
        let metrics = Metrics::default();
        let gauges = Gauges::new(&metrics);
        gauges.ended(WebhookId(1), None, Duration::from_millis(2));
        for (count, class) in (2..).zip(ErrorClass::ALL) {
            let error = AttemptError { class, detail: String::new() };
            (0..count).for_each(|_| gauges.ended(WebhookId(1), Some(&error), Duration::ZERO));
        }
        assert_eq!(metrics.attempts.child(&["delivered"]).get(), 1);
        assert_eq!(metrics.delivery_seconds.up_to()[..3], [("0.001", 0), ("0.003", 1), ("0.01", 1)]);
        for (count, class) in (2..).zip(ErrorClass::ALL) {
            assert_eq!(metrics.attempts.child(&[class.name()]).get(), count, "{}", class.name());
        }
    }

    #[test]
    fn lanes_are_counted_by_what_they_do() {
        let metrics = Metrics::default();
        let gauges = Gauges::new(&metrics);
        let own = |id| Webhook::clone(&webhook(id, DeliveryMode::Parallel, 0, 0));
        let off = |id| {
            let mut off = own(id);
            off.spec.is_active = false;
            off
        };
        let failing = Webhook { consecutive_failures: 100, ..own(3) };
        let mut scheduler = Scheduler::new(&Config::sample(8, 8), vec![own(1), off(2), failing, own(4)]);
        let counted = |scheduler: &Scheduler| {
            gauges.show(scheduler);
            LaneState::ALL.map(|state| metrics.lanes.child(&[state.name()]).get())
        };
        assert_eq!(counted(&scheduler), [0, 2, 1, 1]);
        let mut news = News::default();
        news.changed.insert(WebhookId(1), Some(Arc::new(off(1))));
        news.changed.insert(WebhookId(4), None);
        scheduler.absorb(news);
        assert_eq!(counted(&scheduler), [0, 0, 1, 2]);
    }
}
