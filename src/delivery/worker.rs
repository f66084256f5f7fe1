//! The delivery worker: one thread with a runtime of its own, so that neither
//! deliveries nor calls can starve the other.
//!
//! It asks the [`Scheduler`] what to do, does it, and hands the outcomes to
//! the store in batches: while one batch is being committed, the next gathers.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::Config;
use super::answers::Kept;
use super::blot::Credentials;
use super::client::{Client, PostRequest, PostResult};
use super::connect::{Resolve, SharedLookups};
use super::gauges::Gauges;
use super::health::Feedback;
use super::judging::judge;
use super::load::Term;
use super::pace::Pace;
use super::poll::Poll;
use super::poster::Poster;
use super::prepared::Prepared;
use super::recording::{Ended, Recorded, Recorder};
use super::scheduler::comparison::{Compared, Comparison, Redefine};
use super::scheduler::{Action, Scheduler};
use super::telling::Telling;
use super::token::Token;
use crate::domain::delivery::{Attempt, AttemptError, ErrorClass, Outcome};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::target::TargetUrl;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::webhook::Webhook;
use crate::metrics::Metrics;
use crate::render;
use crate::spans::{Attempted, Span, Tracer};
use crate::store::mailbox::Mailbox;
use crate::store::tending::Tending;
use crate::store::{Glimpse, Loaded, Outbox, Parcel, StoreError, Want};
use crate::work;
use crate::work::apart::Apart;
use crate::work::pulse::Pulse;

/// What is done at most before others of this thread have their turn.
const ACTIONS_PER_STEP: usize = 16;
/// Reports of tasks that wait for the worker.
const REPORTS_MAX: usize = 1_024;
/// In longer answers credentials are looked for apart, in bytes.
const BLOTTED_AT_ONCE_MAX: usize = 16 * 1_024;

/// What the worker is given.
pub struct Parts {
    /// The queue.
    pub store: Arc<dyn Outbox>,
    /// What the store announces.
    pub mailbox: Arc<Mailbox>,
    /// Looks names up.
    pub resolver: Arc<dyn Resolve>,
    /// The time.
    pub clock: Clock,
    /// Numbers in 0..1, for jitter.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// What the server counts of itself.
    pub metrics: Arc<Metrics>,
    /// Makes spans of attempts.
    pub tracer: Tracer,
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
    pulse: Pulse,
}

impl Worker {
    /// Reads what is pending, and starts to deliver it.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        let lookups = Arc::new(SharedLookups::new(Arc::clone(&parts.resolver)));
        let client = Client::new(&config, lookups)?;
        // What comes while they are read, the first look finds.
        let poll = Poll::new(config.store_poll, parts.clock.now());
        let webhooks = parts.store.all_webhooks().await?;
        if config.is_paused {
            warn!("started paused: nothing is sent until the server is started without that");
        }
        let mut scheduler = Scheduler::new(&config, webhooks);
        scheduler.heed_paused(parts.store.paused_merchants().await?);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let thread = std::thread::Builder::new().name("delivery-worker".to_owned()).spawn(move || {
            let (reports, reported) = mpsc::channel(REPORTS_MAX);
            let context = Context {
                poster: Arc::new(Poster::new(Arc::new(client), parts.clock.clone())),
                store: parts.store,
                clock: parts.clock,
                random: parts.random,
                tracer: parts.tracer,
                apart: Apart::for_processors(config.in_flight_max),
                body_bytes_max: config.delivery_bytes_max,
                reports,
            };
            let pace = Pace::new(config.in_flight_max, Instant::now());
            scheduler.allow(pace.allowed());
            let gauges = Gauges::new(&parts.metrics);
            let tending = Arc::clone(parts.mailbox.tending());
            let (recorder, comparison, telling) = (Recorder::new(), None, Telling::default());
            let run = Run { scheduler, tending, pace, gauges, telling, poll, comparison, context, recorder };
            runtime.block_on(run.run(parts.mailbox, reported, stopped, beating));
            // A look-up of a name can't be broken off, and nobody waits for it.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop, thread, pulse })
    }

    /// Beats as often as it goes round, and once a second at least, until it drains.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
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
        merchant_id: MerchantId,
        parcel: Box<Parcel>,
        is_failed: bool,
        term: Term,
    },
    Read {
        webhook_id: WebhookId,
        want: Want,
        through: IncrementId,
        reading: Result<Loaded, StoreError>,
        term: Term,
    },
    Recorded(Recorded),
    /// How all webhooks stand in the store, and who is paused.
    Glanced(Result<(Vec<Glimpse>, Vec<MerchantId>), StoreError>),
    /// The definition of a webhook; `None`: it is deleted.
    Redefined(Redefine, Option<Arc<Webhook>>),
}

/// An attempt that has ended.
struct Sent {
    outcome: Outcome,
    feedback: Feedback,
    parcel: Parcel,
    kept: Option<Kept>,
    ended_at: Instant,
    term: Term,
}

impl From<Recorded> for Report {
    fn from(recorded: Recorded) -> Self {
        Self::Recorded(recorded)
    }
}

/// What tasks work with.
#[derive(Clone)]
struct Context {
    poster: Arc<Poster>,
    store: Arc<dyn Outbox>,
    clock: Clock,
    random: Arc<dyn Fn() -> f64 + Send + Sync>,
    tracer: Tracer,
    /// For bodies that take long to build and to sign.
    apart: Apart,
    body_bytes_max: usize,
    reports: mpsc::Sender<Report>,
}

/// The loop's own state.
struct Run {
    scheduler: Scheduler,
    tending: Arc<Tending>,
    pace: Pace,
    gauges: Gauges,
    /// What the log is told of webhooks.
    telling: Telling,
    poll: Poll,
    /// How all webhooks stood, as far as the lanes were not compared with it yet.
    comparison: Option<Comparison>,
    context: Context,
    recorder: Recorder,
}

impl Run {
    async fn run(
        mut self,
        mailbox: Arc<Mailbox>,
        mut reported: mpsc::Receiver<Report>,
        mut stopped: oneshot::Receiver<Instant>,
        pulse: Pulse,
    ) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = loop {
            pulse.beat();
            self.keep_pace();
            self.glance(&mailbox);
            self.compare_some(&mailbox);
            let is_done = work::step("the delivery thread", || {
                self.absorb(&mailbox);
                let now = self.context.clock.now();
                // Others may be sending already, unless the leases can be relied on.
                let max = if self.tending.is_sure() { ACTIONS_PER_STEP } else { 0 };
                let actions: Vec<_> = std::iter::from_fn(|| self.scheduler.next(now)).take(max).collect();
                let is_done = max == 0 || actions.len() < max;
                actions.into_iter().for_each(|action| self.act(action));
                is_done
            });
            if self.recorder.is_due() {
                self.record();
            }
            self.gauges.show(&self.scheduler);
            let record_by = self.recorder.due();
            let alarm = self.scheduler.alarm().into_iter().chain(self.poll.next()).min();
            let look_at = (self.scheduler.is_held_up() && self.pace.may_grow()).then(|| self.pace.next_look());
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
                // Those that have been started are heard first.
                () = tokio::task::yield_now(), if !is_done || self.comparison.is_some() => {}
                () = self.context.clock.wait_until(alarm) => {}
                () = until(record_by) => {}
                () = until(look_at) => {}
                _ = second.tick() => {}
            }
        };
        self.drain(&mailbox, &mut reported, deadline).await;
    }

    /// Waits for what is in flight, and records it.
    async fn drain(&mut self, mailbox: &Mailbox, reported: &mut mpsc::Receiver<Report>, deadline: Instant) {
        while self.scheduler.in_flight() > 0 || !self.recorder.is_done() {
            self.record();
            match tokio::time::timeout_at(deadline.into(), reported.recv()).await {
                Ok(Some(report)) => self.hear(report, mailbox),
                Ok(None) | Err(_) => break,
            }
        }
        self.gauges.show(&self.scheduler);
        let (in_flight, unrecorded) = (self.scheduler.in_flight(), self.recorder.waiting());
        if in_flight > 0 || !self.recorder.is_done() {
            warn!(in_flight, unrecorded, "stopped before all attempts had ended; they will be made again");
        } else {
            info!("all deliveries in flight have ended");
        }
    }

    fn act(&self, action: Action) {
        let context = self.context.clone();
        match action {
            Action::Send(webhook, parcel, term) => {
                self.tending.begin(webhook.merchant_id);
                tokio::spawn(work::guarded("a delivery", async move {
                    let Webhook { webhook_id, merchant_id, .. } = *webhook;
                    if let Err(is_failed) = context.seal(&webhook, &parcel).await {
                        let parcel = Box::new(parcel);
                        return context
                            .report(Report::Unsent { webhook_id, merchant_id, parcel, is_failed, term })
                            .await;
                    }
                    let (outcome, feedback, kept) = context.deliver(&webhook, &parcel).await;
                    let ended_at = Instant::now();
                    context
                        .report(Report::Sent(Box::new(Sent { outcome, feedback, parcel, kept, ended_at, term })))
                        .await;
                }))
            }
            Action::Read { webhook_id, merchant_id, want, through, limit, term } => tokio::spawn(async move {
                let now = context.clock.now();
                let reading = context.store.load(merchant_id, webhook_id, want, now, limit).await;
                context.report(Report::Read { webhook_id, want, through, reading, term }).await;
            }),
        };
    }

    /// Takes in what the store has committed.
    fn absorb(&mut self, mailbox: &Mailbox) {
        let news = mailbox.take();
        for (id, webhook) in &news.changed {
            self.telling.redefined(self.scheduler.webhook(*id), webhook.as_ref(), self.context.clock.now());
        }
        self.scheduler.absorb(news);
    }

    fn hear(&mut self, report: Report, mailbox: &Mailbox) {
        match report {
            Report::Sent(sent) => {
                let Sent { mut outcome, feedback, parcel, kept, ended_at, term } = *sent;
                self.pace.heard(ended_at, Instant::now());
                let took = self.context.clock.now().since(parcel.numbered_at);
                self.gauges.ended(outcome.webhook_id, outcome.attempt.error.as_ref(), took);
                let (now, before) = (self.context.clock.now(), self.scheduler.doing(outcome.webhook_id));
                outcome.pause = self.scheduler.sent(term, parcel, &outcome, feedback, now);
                if let Some(states) = before.zip(self.scheduler.doing(outcome.webhook_id)) {
                    self.telling.attempted(&outcome, states.into(), now);
                }
                self.recorder.take_on(Ended { outcome, kept, term });
            }
            Report::Unsent { webhook_id, merchant_id, parcel, is_failed, term } => {
                self.tending.end(merchant_id);
                self.scheduler.unsent(term, webhook_id, &parcel, is_failed, self.context.clock.now());
            }
            Report::Read { webhook_id, want, through, reading, term } => {
                if let Err(cause) = &reading {
                    error!(%cause, %webhook_id, "pending deliveries could not be read; trying again");
                }
                let now = self.context.clock.now();
                self.scheduler.read(term, (webhook_id, want, through), reading.ok(), now);
            }
            Report::Recorded(recorded) => {
                self.recorder.heard(&recorded);
                // What the commit changed was announced before it was answered:
                // a webhook that answered 410 stops before its numbers are free.
                self.absorb(mailbox);
                for (outcome, term) in recorded.each() {
                    self.tending.end(outcome.merchant_id);
                    self.scheduler.recorded(term, outcome);
                }
            }
            Report::Glanced(glanced) => self.hear_glanced(glanced),
            Report::Redefined(redefine, webhook) => {
                let is_own = self.tending.has(redefine.merchant_id);
                self.scheduler.redefine(redefine, webhook.filter(|_| is_own));
            }
        }
    }

    /// Looks how things stand in the store, if it is time: what was announced is
    /// only a hint, and may have been lost.
    fn glance(&mut self, mailbox: &Mailbox) {
        if mailbox.is_to_look() {
            self.poll.ask();
        }
        if !self.poll.begin(self.context.clock.now()) {
            return;
        }
        self.scheduler.begin_look();
        let context = self.context.clone();
        tokio::spawn(async move {
            let store = &context.store;
            let look = async { Ok((store.glance().await?, store.paused_merchants().await?)) };
            let glanced = look.await;
            context.report(Report::Glanced(glanced)).await;
        });
    }

    fn hear_glanced(&mut self, glanced: Result<(Vec<Glimpse>, Vec<MerchantId>), StoreError>) {
        match glanced {
            Ok((glimpses, paused)) => {
                self.scheduler.heed_paused(paused);
                self.comparison = Some(Comparison::new(glimpses));
            }
            Err(cause) => {
                if !cause.is_logged() {
                    error!(%cause, "the store could not be looked at for what was not announced; trying again");
                }
                self.poll.end(self.context.clock.now(), false);
            }
        }
    }

    /// Compares a part of the last look with the lanes, and has everybody know
    /// what nobody has told of: the lanes, and receivers that pull.
    fn compare_some(&mut self, mailbox: &Mailbox) {
        let Some(comparison) = self.comparison.take() else { return };
        let ahead = |id, through| mailbox.announce_through(id, through);
        match work::step("a comparison with the store", || self.scheduler.compare(comparison, ahead)) {
            Compared::Goes(comparison) => self.comparison = Some(comparison),
            Compared::Whole(stale) => {
                self.poll.end(self.context.clock.now(), stale.is_empty());
                self.read_again(stale);
            }
        }
    }

    /// Reads definitions that are not as they were announced.
    fn read_again(&self, stale: Vec<Redefine>) {
        if stale.is_empty() {
            return;
        }
        let context = self.context.clone();
        tokio::spawn(async move {
            for redefine in stale {
                let Redefine { webhook_id, merchant_id, .. } = redefine;
                match context.store.webhook(merchant_id, webhook_id).await {
                    Ok(webhook) => context.report(Report::Redefined(redefine, Some(Arc::new(webhook)))).await,
                    Err(StoreError::NoWebhook) => context.report(Report::Redefined(redefine, None)).await,
                    Err(cause) if cause.is_logged() => {}
                    Err(cause) => error!(%cause, %webhook_id, "a webhook could not be read; trying again"),
                }
            }
        });
    }

    /// Has as many requests under way as the thread keeps up with.
    fn keep_pace(&mut self) {
        let (in_flight, are_wanted) = (self.scheduler.in_flight(), self.scheduler.is_held_up());
        let is_shared = self.scheduler.is_shared(self.context.clock.now());
        if self.pace.look(in_flight, are_wanted, is_shared, Instant::now()) {
            self.scheduler.allow(self.pace.allowed());
        }
    }

    fn record(&mut self) {
        self.recorder.record(&self.context.store, &self.context.reports);
    }
}

/// Waits until then, or for ever.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

impl Context {
    /// Has the store remember a batch before it is sent for the first time, so
    /// that whatever happens it is the same batch again. Fails with whether
    /// the store failed; if not, the batch is no longer what it was.
    async fn seal(&self, webhook: &Webhook, parcel: &Parcel) -> Result<(), bool> {
        let Webhook { webhook_id, merchant_id, .. } = *webhook;
        let is_new = parcel.batch.is_some() && parcel.attempts == 0 && parcel.due_at.is_none();
        if !is_new {
            return Ok(());
        }
        match self.store.seal(merchant_id, webhook_id, parcel.numbers()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(false),
            Err(cause) => {
                if !cause.is_logged() {
                    error!(%cause, %webhook_id, "a batch could not be sealed; trying again");
                }
                Err(true)
            }
        }
    }

    /// Builds body and headers, apart if that takes long.
    async fn prepare(
        &self,
        webhook: &Arc<Webhook>,
        parcel: &Parcel,
        now: Timestamp,
        span: Option<&Span>,
    ) -> Result<Prepared, AttemptError> {
        let place = span.map(Span::place);
        let prepared = if render::takes_long(parcel) {
            let (store_id, webhook) = (self.store.store_id().clone(), Arc::clone(webhook));
            let (parcel, bytes_max) = (parcel.clone(), self.body_bytes_max);
            let account = webhook.merchant_id;
            self.apart.run(account, move || Prepared::new(&store_id, &webhook, &parcel, now, place, bytes_max)).await
        } else {
            Ok(Prepared::new(self.store.store_id(), webhook, parcel, now, place, self.body_bytes_max))
        };
        match prepared {
            Ok(Ok(prepared)) => Ok(prepared),
            Ok(Err(cause)) => Err(AttemptError { class: ErrorClass::BodyTooLarge, detail: cause.to_string() }),
            Err(cause) => {
                error!(%cause, webhook_id = %webhook.webhook_id, "a body could not be built");
                let detail = "the server could not build the body".to_owned();
                Err(AttemptError { class: ErrorClass::Protocol, detail })
            }
        }
    }

    /// One attempt at a delivery.
    async fn deliver(&self, webhook: &Arc<Webhook>, parcel: &Parcel) -> (Outcome, Feedback, Option<Kept>) {
        let started_at = self.clock.now();
        let span = self.tracer.attempting(parcel.event.trace);
        let prepared = self.prepare(webhook, parcel, started_at, span.as_ref()).await;
        let (result, request_headers) = match (&webhook.spec.url, prepared) {
            (Some(url), Ok(Prepared { headers, spelling, body, logged })) => {
                let (merchant, timeouts) = (webhook.merchant_id, webhook.spec.timeouts());
                let (url, credentials) = (url.url(), Credentials::of(webhook));
                let identity = webhook.spec.client_identity.as_ref();
                let request = PostRequest { merchant, url, identity, headers, spelling, body, timeouts, credentials };
                let (result, token) = self.poster.post(webhook, request).await;
                let is_unsent = result.error.as_ref().is_some_and(|error| error.class == ErrorClass::Token);
                (self.blotted(webhook, token, result).await, if is_unsent { String::new() } else { logged })
            }
            // Its lane sends nothing: only a test that met a change comes here.
            (None, Ok(prepared)) => (PostResult::without_target(), prepared.logged),
            (_, Err(error)) => (PostResult::unsent(error), String::new()),
        };
        let attempt = parcel.attempts + 1;
        if let Some(span) = span {
            let (webhook_id, increment_id) = (webhook.webhook_id, parcel.increment_id);
            let url = webhook.spec.url.as_ref().map(TargetUrl::url);
            let (address, status) = (result.address, result.status);
            let error = result.error.as_ref().map(|error| error.class);
            let attempted = Attempted { webhook_id, increment_id, attempt, url, address, status, error };
            self.tracer.attempted(span, &attempted);
        }
        let ended_at = self.clock.now();
        let (verdict, feedback) = judge(webhook, parcel, &result, ended_at, (self.random)());
        let outcome = Outcome {
            merchant_id: webhook.merchant_id,
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
                response_headers: result.logged_headers,
                response_body: result.response_body,
            },
            verdict,
            ended_at,
            pause: None,
            resends_asked: parcel.resends_asked,
        };
        (outcome, feedback, result.kept)
    }

    /// The result without the credentials that its answer repeats; found apart if
    /// that takes long.
    async fn blotted(&self, webhook: &Arc<Webhook>, token: Option<Token>, mut result: PostResult) -> PostResult {
        let mut body = std::mem::take(&mut result.response_body);
        if body.len() <= BLOTTED_AT_ONCE_MAX {
            Credentials::of(webhook).with(token.as_ref()).blot(&mut body);
            return PostResult { response_body: body, ..result };
        }
        let own = Arc::clone(webhook);
        let blot = move || {
            Credentials::of(&own).with(token.as_ref()).blot(&mut body);
            body
        };
        let response_body = self.apart.run(webhook.merchant_id, blot).await.unwrap_or_else(|cause| {
            error!(%cause, webhook_id = %webhook.webhook_id, "an answer is not logged, for it may hold credentials");
            Vec::new()
        });
        PostResult { response_body, ..result }
    }

    async fn report(&self, report: Report) {
        // The worker stops listening only when it stops altogether.
        let _ = self.reports.send(report).await;
    }
}
