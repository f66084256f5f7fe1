//! Looking through the store now and then for what nobody knows by heart, and showing it
//! among the metrics.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::domain::survey::{Backlog, Doing, Survey};
use crate::domain::time::{Clock, Timestamp};
use crate::metrics::{Gauge, Labelled, Metrics, StoreFigures, WebhookFigures};
use crate::store::{Store, StoreError};

/// How often the store is looked through.
const SURVEY_INTERVAL: Duration = Duration::from_secs(15);
/// After a look it rests for so many times as long as that took, if that is longer.
const REST_FACTOR: u32 = 20;

/// Looks through the store from now on, and shows what it finds.
pub async fn keep(store: Arc<dyn Store>, metrics: Arc<Metrics>, clock: Clock) {
    let shown = Shown::new(&metrics.figures);
    let mut tried = Default::default();
    loop {
        let (began, now) = (Instant::now(), clock.now());
        // What an earlier look found out stays true.
        let look = async {
            match store.survey(std::mem::take(&mut tried)).await {
                Ok((survey, found_out)) => {
                    shown.show(&metrics.figures, &survey);
                    show_single(&metrics, &survey);
                    tried = found_out;
                }
                Err(StoreError::ShuttingDown) => return None,
                Err(cause) => {
                    metrics.figures.surveys_failed.inc();
                    if !cause.is_logged() {
                        warn!(%cause, "the store could not be looked through for its metrics; trying again");
                    }
                }
            }
            Some(began.elapsed())
        };
        // It waits for the clock from the beginning on: by how many do, tests see that another does.
        let (took, ()) = tokio::join!(look, clock.wait_until(Some(now.after(SURVEY_INTERVAL))));
        let Some(took) = took else { return };
        clock.wait_until(Some(now.after(took * REST_FACTOR))).await;
    }
}

/// What is shown by how webhooks are doing, each at its place in [`Doing::ALL`].
struct Shown {
    webhooks: [Gauge; Doing::ALL.len()],
    pending: [Gauge; Doing::ALL.len()],
    lag: [Gauge; Doing::ALL.len()],
}

impl Shown {
    fn new(figures: &StoreFigures) -> Self {
        let each = |family: &Labelled<Gauge>| Doing::ALL.map(|doing| family.child(&[doing.name()]));
        Self {
            webhooks: each(&figures.webhooks),
            pending: each(&figures.deliveries_pending),
            lag: each(&figures.delivery_lag_seconds),
        }
    }

    fn show(&self, figures: &StoreFigures, survey: &Survey) {
        for ((doing, webhooks), (pending, lag)) in
            Doing::ALL.into_iter().zip(&self.webhooks).zip(self.pending.iter().zip(&self.lag))
        {
            let own = survey.webhooks.iter().filter(|webhook| webhook.doing == doing);
            webhooks.set(number(own.clone().count() as u64));
            pending.set(number(own.clone().map(|webhook| webhook.pending).sum()));
            lag.set(age(own.filter_map(|webhook| webhook.due_since).min(), survey.at));
        }
        figures.sessions.set(number(survey.sessions));
        figures.store_bytes.set(number(survey.store_bytes));
        show_cluster(figures, survey);
        figures.survey_timestamp_seconds.set(survey.at.0.div_euclid(1_000));
    }
}

/// Shows single webhooks, if any are to be shown: those with the most pending first, and of
/// as many the older ones.
fn show_single(metrics: &Metrics, survey: &Survey) {
    let max = metrics.webhooks.max();
    if max == 0 {
        return;
    }
    let mut webhooks: Vec<_> = survey.webhooks.iter().collect();
    webhooks.sort_unstable_by_key(|webhook| (Reverse(webhook.pending), webhook.webhook_id));
    metrics.webhooks_left_out.set(number(webhooks.len().saturating_sub(max) as u64));
    let figures = |webhook: &&Backlog| WebhookFigures {
        id: webhook.webhook_id.0,
        pending: webhook.pending,
        lag_seconds: age(webhook.due_since, survey.at).unsigned_abs(),
    };
    let chosen = webhooks.iter().take(max).map(figures).collect();
    let there: HashSet<_> = survey.webhooks.iter().map(|webhook| webhook.webhook_id.0).collect();
    metrics.webhooks.show(chosen, |id| there.contains(&id));
}

fn show_cluster(figures: &StoreFigures, survey: &Survey) {
    // A server that has its store for itself is the only one, and needs no leases.
    let (nodes, free) = survey.cluster.as_ref().map_or((1, 0), |cluster| (cluster.nodes.len(), cluster.free_leases));
    figures.nodes.set(number(nodes as u64));
    figures.leases_free.set(free.into());
    figures.leases_held.set(number(survey.leases_held.unwrap_or(0) as u64));
    let Some(database) = survey.cluster.as_ref().and_then(|cluster| cluster.database.as_ref()) else { return };
    let (oldest, dead) = (database.oldest_snapshot.as_ref(), database.dead_rows);
    let open_for = oldest.and_then(|snapshot| snapshot.open_for).unwrap_or_default();
    figures.snapshot_age_seconds.set(number(open_for.as_secs()));
    figures.snapshot_age_transactions.set(number(oldest.map_or(0, |snapshot| snapshot.transactions)));
    for (table, rows) in [("event", dead.event), ("delivery", dead.delivery), ("attempt", dead.attempt)] {
        figures.dead_rows.child(&[table]).set(number(rows));
    }
}

/// So many whole seconds ago it was; 0 if there is nothing.
fn age(since: Option<Timestamp>, now: Timestamp) -> i64 {
    since.map_or(0, |since| number(now.since(since).as_secs()))
}

fn number(count: u64) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
