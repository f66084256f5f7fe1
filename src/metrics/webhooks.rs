//! Series of single webhooks: of as many as the operator asks for, and no more.
//!
//! Their labels are ids of webhooks, which callers make, so nothing here is made unless it
//! is asked for, and what is shown is bounded.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::kind::Kind;
use super::labelled::{Labels, Read};
use super::list::List;

/// What is shown of one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookFigures {
    /// Its id.
    pub id: i64,
    /// Deliveries that are to be sent.
    pub pending: u64,
    /// For how many seconds the one waits that was due first.
    pub lag_seconds: u64,
}

/// What came of attempts.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    delivered: u64,
    failed: u64,
}

#[derive(Default)]
struct Shown {
    /// In the order of their ids.
    webhooks: Vec<WebhookFigures>,
    /// Of every webhook, shown or not, so that a counter does not begin anew when its
    /// webhook is shown again.
    attempts: HashMap<i64, Attempts>,
}

/// Series of single webhooks.
#[derive(Clone)]
pub struct SingleWebhooks {
    max: usize,
    shown: Arc<Mutex<Shown>>,
}

impl SingleWebhooks {
    /// Declares those of so many webhooks at the most.
    pub fn declared(list: &mut List, max: usize) -> Self {
        let own = Self { max, shown: Arc::default() };
        let series = |what| Series { what, shown: Arc::clone(&own.shown) };
        list.add(
            "webhook_deliveries_pending",
            "deliveries",
            "Deliveries of one webhook that are to be sent, if metrics_webhooks asks for it.",
            series(What::Pending),
        );
        list.add(
            "webhook_delivery_lag_seconds",
            "seconds",
            "How long the delivery of one webhook waits that has been due for longest, if metrics_webhooks asks for it.",
            series(What::Lag),
        );
        list.add(
            "webhook_attempts",
            "attempts",
            "Attempts at deliveries of one webhook that have ended, if metrics_webhooks asks for it.",
            series(What::Attempts),
        );
        own
    }

    /// How many webhooks are shown at the most.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Counts an attempt at a delivery of a webhook.
    pub fn attempted(&self, id: i64, is_delivered: bool) {
        if self.max == 0 {
            return;
        }
        let mut shown = locked(&self.shown);
        let attempts = shown.attempts.entry(id).or_default();
        *(if is_delivered { &mut attempts.delivered } else { &mut attempts.failed }) += 1;
    }

    /// Shows these from now on, and forgets what was counted of webhooks that are gone.
    pub fn show(&self, mut webhooks: Vec<WebhookFigures>, is_there: impl Fn(i64) -> bool) {
        webhooks.truncate(self.max);
        webhooks.sort_unstable_by_key(|webhook| webhook.id);
        let mut shown = locked(&self.shown);
        shown.webhooks = webhooks;
        shown.attempts.retain(|id, _| is_there(*id));
    }
}

fn locked(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug)]
enum What {
    Pending,
    Lag,
    Attempts,
}

/// One metric of single webhooks.
#[derive(Clone)]
struct Series {
    what: What,
    shown: Arc<Mutex<Shown>>,
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl EncodeMetric for Series {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let shown = locked(&self.shown);
        for webhook in &shown.webhooks {
            let id = webhook.id.to_string();
            let own = [("webhook", id.as_str())];
            match self.what {
                What::Pending => encoder.encode_family(&own)?.encode_gauge(&amount(webhook.pending))?,
                What::Lag => encoder.encode_family(&own)?.encode_gauge(&amount(webhook.lag_seconds))?,
                What::Attempts => {
                    let Attempts { delivered, failed } = shown.attempts.get(&webhook.id).copied().unwrap_or_default();
                    for (outcome, count) in [("delivered", delivered), ("failed", failed)] {
                        let labels = [("webhook", id.as_str()), ("outcome", outcome)];
                        encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.what {
            What::Pending | What::Lag => MetricType::Gauge,
            What::Attempts => MetricType::Counter,
        }
    }
}

impl Read for Series {
    fn kind(&self) -> Kind {
        match self.what {
            What::Pending | What::Lag => Kind::Gauge,
            What::Attempts => Kind::Counter,
        }
    }

    fn labels(&self) -> &'static [&'static str] {
        match self.what {
            What::Pending | What::Lag => &["webhook"],
            What::Attempts => &["webhook", "outcome"],
        }
    }

    /// None: what is listed has labels that the code knows.
    fn read(&self) -> Vec<(Labels, i64)> {
        Vec::new()
    }
}

fn amount(count: u64) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
