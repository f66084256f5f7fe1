//! The delivery worker: one thread with a runtime of its own, so that neither
//! deliveries nor calls can starve the other.
//!
//! It asks the [`Scheduler`] what to do, does it, and hands the outcomes to
//! the store in batches: while one batch is being committed, the next gathers.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::client::{self, Client, PostRequest, PostResult};
use super::connect::{Resolve, SharedLookups};
use super::health::Sign;
use super::lane::Want;
use super::scheduler::{Action, Reading, Scheduler};
use super::{Config, format};
use crate::domain::delivery::{Attempt, Outcome, Verdict};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::webhook::Webhook;
use crate::store::mailbox::Mailbox;
use crate::store::{Parcel, Store, StoreError};

/// How long to wait before outcomes that could not be recorded are tried again.
const RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// How long an outcome may wait for others to be recorded with. Nobody waits
/// for it, and a commit costs as much for one as for many; a crash meanwhile
/// costs as many repeated deliveries as waited.
const RECORD_LINGER: Duration = Duration::from_millis(5);
/// So many outcomes are recorded without waiting for more.
const RECORD_AT_ONCE: usize = 64;
/// The most outcomes that are recorded as one change.
const RECORD_MAX: usize = 512;
/// Reports of tasks that wait for the worker.
const REPORTS_MAX: usize = 1_024;

/// What the worker is given.
pub struct Parts {
    /// The queue.
    pub store: Arc<dyn Store>,
    /// What the store announces.
    pub mailbox: Arc<Mailbox>,
    /// Looks names up.
    pub resolver: Arc<dyn Resolve>,
    /// The time.
    pub clock: Clock,
    /// Numbers in 0..1, for jitter.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// Why the worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("the webhooks could not be read: {0}")]
    Store(#[from] StoreError),
    /// No thread, or no runtime.
    #[error("the delivery worker could not be started: {0}")]
    System(#[from] std::io::Error),
    /// No secure connections.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The running worker.
pub struct Worker {
    stop: oneshot::Sender<Instant>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Reads what is pending, and starts to deliver it.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        let lookups = Arc::new(SharedLookups::new(Arc::clone(&parts.resolver)));
        let client = Client::new(&config, lookups)?;
        let webhooks = parts.store.all_webhooks().await?;
        let scheduler = Scheduler::new(&config, webhooks);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("delivery-worker".to_owned()).spawn(move || {
            let (reports, reported) = mpsc::channel(REPORTS_MAX);
            let hands = Hands {
                client: Arc::new(client),
                store: parts.store,
                clock: parts.clock,
                random: parts.random,
                reports,
            };
            let run = Run { scheduler, hands, outcomes: Vec::new(), record_by: None, is_recording: false };
            runtime.block_on(run.run(parts.mailbox, reported, stopped));
            // A look-up of a name can't be broken off, and nobody waits for it.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop, thread })
    }

    /// Starts nothing more from now on, and lets what is in flight end until
    /// the deadline; what came of it is recorded.
    pub fn stop(self, deadline: Instant) -> Stopping {
        // If the thread is gone, there is nobody to tell.
        let _ = self.stop.send(deadline);
        Stopping { thread: self.thread }
    }
}

/// A worker that is coming to its end.
pub struct Stopping {
    thread: JoinHandle<()>,
}

impl Stopping {
    /// Waits for the end. Blocks.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("the delivery worker panicked");
        }
    }
}

/// What a task tells the worker.
enum Report {
    Sent(Box<Sent>),
    /// The store would not seal the batch, or could not.
    Unsent {
        webhook_id: WebhookId,
        numbers: Span,
        is_failed: bool,
    },
    Read {
        webhook_id: WebhookId,
        want: Want,
        through: IncrementId,
        reading: Result<Reading, StoreError>,
    },
    Recorded(Arc<[Outcome]>),
}

/// An attempt that has ended.
struct Sent {
    outcome: Outcome,
    sign: Sign,
    parcel: Parcel,
}

/// What tasks work with.
#[derive(Clone)]
struct Hands {
    client: Arc<Client>,
    store: Arc<dyn Store>,
    clock: Clock,
    random: Arc<dyn Fn() -> f64 + Send + Sync>,
    reports: mpsc::Sender<Report>,
}

/// The loop's own state.
struct Run {
    scheduler: Scheduler,
    hands: Hands,
    /// Ended, and to be recorded with the next batch.
    outcomes: Vec<Outcome>,
    /// When the first of them has waited long enough.
    record_by: Option<Instant>,
    is_recording: bool,
}

impl Run {
    async fn run(
        mut self,
        mailbox: Arc<Mailbox>,
        mut reported: mpsc::Receiver<Report>,
        mut stopped: oneshot::Receiver<Instant>,
    ) {
        let deadline = loop {
            self.scheduler.absorb(mailbox.take());
            let now = self.hands.clock.now();
            while let Some(action) = self.scheduler.next(now) {
                self.act(action);
            }
            if self.should_record() {
                self.record();
            }
            let record_by = self.record_by.filter(|_| !self.is_recording);
            let alarm = self.scheduler.alarm();
            tokio::select! {
                biased;
                // A worker that is dropped without a word stops at once.
                deadline = &mut stopped => break deadline.unwrap_or_else(|_| Instant::now()),
                Some(report) = reported.recv() => {
                    self.hear(report, &mailbox);
                    while let Ok(report) = reported.try_recv() {
                        self.hear(report, &mailbox);
                    }
                }
                () = mailbox.arrived() => {}
                () = self.hands.clock.wait_until(alarm) => {}
                () = until(record_by) => {}
            }
        };
        self.drain(&mailbox, &mut reported, deadline).await;
    }

    /// Waits for what is in flight, and records it.
    async fn drain(&mut self, mailbox: &Mailbox, reported: &mut mpsc::Receiver<Report>, deadline: Instant) {
        while self.scheduler.in_flight() > 0 || self.is_recording || !self.outcomes.is_empty() {
            self.record();
            match tokio::time::timeout_at(deadline.into(), reported.recv()).await {
                Ok(Some(report)) => self.hear(report, mailbox),
                Ok(None) | Err(_) => break,
            }
        }
        let (in_flight, unrecorded) = (self.scheduler.in_flight(), self.outcomes.len());
        if in_flight > 0 || unrecorded > 0 || self.is_recording {
            warn!(in_flight, unrecorded, "stopped before all attempts had ended; they will be made again");
        } else {
            info!("all deliveries in flight have ended");
        }
    }

    fn act(&self, action: Action) {
        let hands = self.hands.clone();
        match action {
            Action::Send(webhook, parcel) => tokio::spawn(async move {
                let (webhook_id, numbers) = (webhook.webhook_id, parcel.numbers());
                if let Err(is_failed) = hands.seal(webhook_id, &parcel).await {
                    return hands.report(Report::Unsent { webhook_id, numbers, is_failed }).await;
                }
                let (outcome, sign) = hands.deliver(&webhook, &parcel).await;
                hands.report(Report::Sent(Box::new(Sent { outcome, sign, parcel }))).await;
            }),
            Action::Read { webhook_id, merchant_id, want, through, limit } => tokio::spawn(async move {
                let now = hands.clock.now();
                let reading = match want {
                    Want::Fresh(after) => hands
                        .store
                        .fresh(merchant_id, webhook_id, after, limit)
                        .await
                        .map(|page| Reading { page, next_due: None }),
                    Want::Pending(after) => hands
                        .store
                        .pending(merchant_id, webhook_id, after, limit)
                        .await
                        .map(|page| Reading { page, next_due: None }),
                    // Both look at the same `now`: what is not due in one is to come in the other.
                    Want::Due(after) => match hands.store.due(merchant_id, webhook_id, after, now, limit).await {
                        Ok(page) => hands
                            .store
                            .next_due(merchant_id, webhook_id, now)
                            .await
                            .map(|next_due| Reading { page, next_due }),
                        Err(cause) => Err(cause),
                    },
                };
                hands.report(Report::Read { webhook_id, want, through, reading }).await;
            }),
        };
    }

    fn hear(&mut self, report: Report, mailbox: &Mailbox) {
        match report {
            Report::Sent(sent) => {
                let Sent { outcome, sign, parcel } = *sent;
                self.scheduler.sent(parcel, &outcome, sign, self.hands.clock.now());
                self.record_by.get_or_insert_with(|| Instant::now() + RECORD_LINGER);
                self.outcomes.push(outcome);
            }
            Report::Unsent { webhook_id, numbers, is_failed } => {
                self.scheduler.unsent(webhook_id, numbers, is_failed, self.hands.clock.now());
            }
            Report::Read { webhook_id, want, through, reading } => {
                if let Err(cause) = &reading {
                    error!(%cause, %webhook_id, "pending deliveries could not be read; trying again");
                }
                self.scheduler.read(webhook_id, want, through, reading.ok(), self.hands.clock.now());
            }
            Report::Recorded(outcomes) => {
                self.is_recording = false;
                // What the commit changed was announced before it was answered:
                // a webhook that answered 410 stops before its numbers are free.
                self.scheduler.absorb(mailbox.take());
                for outcome in outcomes.iter() {
                    self.scheduler.recorded(outcome);
                }
            }
        }
    }

    fn should_record(&self) -> bool {
        self.outcomes.len() >= RECORD_AT_ONCE || self.record_by.is_some_and(|by| by <= Instant::now())
    }

    /// Hands outcomes to the store, one batch at a time; what the store can't
    /// take is tried again until it can.
    fn record(&mut self) {
        if self.is_recording || self.outcomes.is_empty() {
            return;
        }
        self.is_recording = true;
        let batch = self.outcomes.len().min(RECORD_MAX);
        let outcomes: Arc<[Outcome]> = self.outcomes.drain(..batch).collect();
        self.record_by = (!self.outcomes.is_empty()).then(Instant::now);
        let hands = self.hands.clone();
        tokio::spawn(async move {
            while let Err(cause) = hands.store.record(Arc::clone(&outcomes)).await {
                error!(%cause, count = outcomes.len(), "outcomes could not be recorded; trying again");
                tokio::time::sleep(RECORD_INTERVAL).await;
            }
            hands.report(Report::Recorded(outcomes)).await;
        });
    }
}

/// Waits until then, or for ever.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

impl Hands {
    /// Has the store remember a batch before it is sent for the first time, so
    /// that whatever happens it is the same batch again. Fails with whether
    /// the store failed; if not, the batch is no longer what it was.
    async fn seal(&self, webhook_id: WebhookId, parcel: &Parcel) -> Result<(), bool> {
        let is_new = parcel.batch.is_some() && parcel.attempts == 0 && parcel.due_at.is_none();
        if !is_new {
            return Ok(());
        }
        match self.store.seal(webhook_id, parcel.numbers()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(false),
            Err(cause) => {
                error!(%cause, %webhook_id, "a batch could not be sealed; trying again");
                Err(true)
            }
        }
    }

    /// One attempt at a delivery.
    async fn deliver(&self, webhook: &Webhook, parcel: &Parcel) -> (Outcome, Sign) {
        let started_at = self.clock.now();
        let body = format::rendered(webhook.webhook_id, parcel).await;
        let headers = format::headers(self.store.store_id(), webhook, parcel, started_at, &body);
        let request_headers = client::log_headers(&headers);
        let result = match &webhook.spec.url {
            Some(url) => {
                let timeouts = webhook.spec.timeouts();
                self.client.post(PostRequest { url: url.url(), headers, body, timeouts }).await
            }
            // Its lane sends nothing: only a test that met a change comes here.
            None => PostResult::without_target(),
        };
        let attempt = parcel.attempts + 1;
        let (verdict, sign) = judge(webhook, parcel, &result, self.clock.now(), (self.random)());
        let outcome = Outcome {
            webhook_id: webhook.webhook_id,
            numbers: parcel.numbers(),
            attempt: Attempt {
                attempt,
                started_at,
                queue_delay: started_at.since(parcel.due_at.unwrap_or(parcel.numbered_at)),
                duration: result.duration,
                address: result.address,
                status_code: result.status,
                error: result.error,
                request_headers,
                response_headers: client::log_headers(&result.response_headers),
                response_body: result.response_body,
            },
            verdict,
        };
        (outcome, sign)
    }

    async fn report(&self, report: Report) {
        // The worker stops listening only when it stops altogether.
        let _ = self.reports.send(report).await;
    }
}

/// What becomes of a delivery after an attempt, and what that says of its
/// receiver.
fn judge(webhook: &Webhook, parcel: &Parcel, result: &PostResult, now: Timestamp, random: f64) -> (Verdict, Sign) {
    if result.error.is_none() {
        return (Verdict::Delivered, Sign::Good);
    }
    let status = result.status.and_then(|status| StatusCode::from_u16(status).ok());
    if status == Some(StatusCode::GONE) {
        return (Verdict::Gone, Sign::Bad);
    }
    let asked = client::retry_after(&result.response_headers, now);
    let sign = match status {
        Some(
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT,
        ) => Sign::TooMuch(asked),
        _ if asked.is_some() => Sign::TooMuch(asked),
        _ => Sign::Bad,
    };
    // From 1, since the policy last began anew.
    let attempt = (parcel.attempts + 1).saturating_sub(parcel.policy_start);
    match webhook.spec.retry.next_attempt(attempt, now, asked, random) {
        Some(at) => (Verdict::Retry(at), sign),
        None => (Verdict::Abandoned, sign),
    }
}
