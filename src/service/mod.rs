//! Use cases: one function each, with its permission checks. Every dialect
//! calls these, and none of them knows a dialect.

mod attempts;
pub mod audit;
pub mod auth;
pub mod caller;
pub mod delivery;
mod erasing;
pub mod event;
pub mod health;
pub mod import;
pub mod job;
pub mod live;
pub mod merchant;
pub mod node;
mod pending;
mod places;
mod quota;
mod rate;
mod reach;
mod refused_publishes;
pub mod request;
pub mod resend;
mod schemas;
pub mod search;
pub mod survey;
mod telling;
pub mod token;
pub mod topic;
pub mod user;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tokio::sync::watch;

use self::attempts::FailedLogins;
use self::pending::PendingCounts;
use self::places::Places;
use self::rate::{CallRate, OwnRates};
use self::refused_publishes::RefusedPublishes;
use self::schemas::Schemas;
use self::telling::Telling;
use crate::delivery::guard::Guard;
use crate::domain::address::Origin;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::{MerchantId, TokenId, UserId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::webhook::Webhook;
use crate::metrics::{Limit, Metrics};
use crate::render;
use crate::spans::Tracer;
use crate::store::{Parcel, Store, StoreError};
use crate::work::Account;
use crate::work::apart::{Apart, ApartError};
use crate::work::turns::{Turn, Turns};

/// When to try again after the store was full: that often it is swept.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Pieces of long work of one merchant that may wait for a thread.
const WAITING_MAX: usize = 256;
/// When to try again after that many waited.
const CROWDED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Calls that read much are this part of those that run at once.
const HEAVY_PART: usize = 16;

/// What the operator decides about use cases.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a session lives after its last use.
    pub session_ttl: Duration,
    /// Calls that take so long are told of; zero: none.
    pub slow_call: Duration,
    /// The most sessions a user may have; one more ends the oldest.
    pub sessions_max: u32,
    /// Failed logins of one user from one address in a minute, before more are
    /// refused and right keys take their time.
    pub login_failures_max: u32,
    /// Failed logins from one address in a minute, whatever the users, before
    /// more are refused and right keys take their time.
    pub address_login_failures_max: u32,
    /// How long a login takes then.
    pub login_slowdown: Duration,
    /// Networks of proxies: what comes from there, and not from somebody whom
    /// they name, comes from many, so it is not judged by its address.
    pub trusted_proxies: Vec<IpNet>,
    /// The most calls of one user in a second; 0: there is no limit.
    pub calls_per_second_max: u32,
    /// The most calls of one user at once; 0: a second's worth.
    pub calls_burst_max: u32,
    /// The most calls in a second from one address by those who are not logged
    /// in; 0: there is no limit.
    pub stranger_calls_per_second_max: u32,
    /// The most of them at once; 0: a second's worth.
    pub stranger_calls_burst_max: u32,
    /// The most users that a merchant may be given by a call.
    pub users_max: u32,
    /// The most tokens of a merchant that have not ended.
    pub tokens_max: u32,
    /// The most webhooks a merchant may have.
    pub webhooks_max: u32,
    /// The most topics a merchant's catalogue may have.
    pub topics_max: u32,
    /// The most events one publish_many may carry.
    pub events_max: usize,
    /// The most levels of objects and arrays in a message.
    pub message_depth_max: usize,
    /// The most items that a list or a pull may be asked for, and the most
    /// deliveries that are shown of one event.
    pub list_limit_max: u32,
    /// The most events, deliveries or requests that one call looks into for a
    /// filter that no index answers.
    pub filter_events_max: u32,
    /// The most conditions in one filter.
    pub filter_conditions_max: usize,
    /// The most calls one multiCall may carry.
    pub calls_max: usize,
    /// The longest that a pull may wait.
    pub pull_wait_max: Duration,
    /// How long a replaced secret goes on signing unless its owner says otherwise.
    pub secret_overlap: Duration,
    /// The most calls of one account that run at once.
    pub merchant_calls_max: usize,
    /// The most that may watch at once; one merchant may have as many as are left free.
    pub subscriptions_max: usize,
    /// The most pulls that may wait at once, likewise.
    pub waiting_pulls_max: usize,
    /// The most news that wait for one who watches, before more are missed.
    pub backlog_max: usize,
    /// What this server is called where it has its store for itself; nodes of a shared one say so there.
    pub node_name: String,
    /// Whether nothing is sent.
    pub is_paused: bool,
    /// Whether the demo user may log in.
    pub dev: bool,
    /// The longest body of a delivery, in bytes.
    pub delivery_bytes_max: usize,
    /// Requests at once that one webhook may have at the most.
    pub webhook_requests_max: usize,
}

/// The use cases.
pub struct Service {
    config: Config,
    store: Arc<dyn Store>,
    guard: Arc<Guard>,
    clock: Clock,
    started_at: Timestamp,
    failed_logins: FailedLogins,
    call_rate: Option<CallRate<(UserId, Option<TokenId>)>>,
    merchant_rate: OwnRates<MerchantId>,
    pending: PendingCounts,
    stranger_rate: Option<CallRate<Origin>>,
    watchers: Arc<Places>,
    waiting_pulls: Arc<Places>,
    /// Calls that run, and those of them that read much.
    turns: Arc<Turns>,
    heavy_turns: Arc<Turns>,
    schemas: Schemas,
    refused_publishes: RefusedPublishes,
    telling: Telling,
    /// For what takes long: building bodies, matching rows against what
    /// callers look for.
    apart: Apart,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    /// True once nobody is to wait for anything any more.
    is_closing: watch::Sender<bool>,
}

impl Service {
    /// Use cases over a store; webhooks to literal addresses are checked by
    /// `guard`, what is refused is counted in `metrics`, and publishes have spans of `tracer`.
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        guard: Arc<Guard>,
        clock: Clock,
        metrics: Arc<Metrics>,
        tracer: Tracer,
    ) -> Self {
        let failed_logins = FailedLogins::new(config.login_failures_max, config.address_login_failures_max);
        let call_rate = CallRate::new(config.calls_per_second_max, config.calls_burst_max, clock.clone());
        let merchant_rate = OwnRates::new(clock.clone());
        let (per_second, burst) = (config.stranger_calls_per_second_max, config.stranger_calls_burst_max);
        let stranger_rate = CallRate::new(per_second, burst, clock.clone());
        let (schemas, is_closing) = (Schemas::default(), watch::Sender::new(false));
        let watchers = Places::new("subscriptions", config.subscriptions_max);
        let waiting_pulls = Places::new("waiting pulls", config.waiting_pulls_max);
        let apart = Apart::for_processors(WAITING_MAX);
        let turns = Turns::new(config.merchant_calls_max);
        let heavy_turns = Turns::new((config.merchant_calls_max / HEAVY_PART).max(1));
        Self {
            config,
            store,
            guard,
            started_at: clock.now(),
            clock,
            failed_logins,
            call_rate,
            merchant_rate,
            pending: PendingCounts::default(),
            stranger_rate,
            watchers,
            waiting_pulls,
            turns,
            heavy_turns,
            schemas,
            refused_publishes: RefusedPublishes::new(&metrics),
            telling: Telling::default(),
            apart,
            metrics,
            tracer,
            is_closing,
        }
    }

    /// Waits for an account's turn to have a call run: threads take no turns by
    /// merchant, so no more of one is ready for them at once.
    pub async fn turn(&self, account: impl Into<Account>) -> Turn {
        self.turns.take(account.into()).await
    }

    /// The same for a call that reads much, of which there is as much in memory.
    pub async fn heavy_turn(&self, account: impl Into<Account>) -> Turn {
        self.heavy_turns.take(account.into()).await
    }

    /// The body of a delivery, and with it what `then` makes of it; `None` if it
    /// would be longer than it may be. What takes long is done apart. Fails
    /// with fault 120 if too much of the merchant's waits for that.
    async fn rendered<T: Send + 'static>(
        &self,
        webhook: &Arc<Webhook>,
        parcel: Parcel,
        then: impl FnOnce(&Webhook, &Parcel, Bytes) -> T + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let (bytes_max, own) = (self.config.delivery_bytes_max, Arc::clone(webhook));
        let takes_long = render::takes_long(&parcel);
        let build = move || {
            let body = render::body(own.webhook_id, &parcel, bytes_max).ok()?;
            Some(then(&own, &parcel, body))
        };
        if !takes_long {
            return Ok(build());
        }
        self.apart(webhook.merchant_id, build).await
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sends those home who wait for something to happen.
    pub fn close(&self) {
        self.is_closing.send_replace(true);
    }

    /// The most items that a list may be asked for.
    pub fn list_limit_max(&self) -> u32 {
        self.config.list_limit_max
    }

    /// The most rows that one call looks into for a filter that no index
    /// answers.
    pub fn filter_events_max(&self) -> u32 {
        self.config.filter_events_max
    }

    /// The most conditions in one filter.
    pub fn filter_conditions_max(&self) -> usize {
        self.config.filter_conditions_max
    }

    /// Does what takes long on a thread where that holds up no call, in the
    /// account's turn. Fails with fault 120 if too much of it waits.
    pub async fn apart<T: Send + 'static>(
        &self,
        account: impl Into<Account>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        self.apart.run(account, work).await.map_err(|cause| self.crowded(cause))
    }

    /// The fault for work apart that was not done.
    fn crowded(&self, cause: ApartError) -> Fault {
        match cause {
            ApartError::Crowded => self.refused(
                Limit::WaitingWork,
                Fault::new(FaultCode::TooManyCalls)
                    .detail("Too much of what you asked for waits already. Retry in a second.")
                    .retry_after(CROWDED_RETRY_AFTER),
            ),
            ApartError::Broken => {
                tracing::error!(%cause, "work apart failed");
                FaultCode::Internal.into()
            }
        }
    }

    /// Counts a refusal for a limit, which is told of by this fault.
    fn refused(&self, limit: Limit, fault: Fault) -> Fault {
        self.metrics.refused(limit);
        fault
    }

    /// Tells the log what was refused since the last time.
    pub fn tell_refusals(&self) {
        self.telling.refusals(&self.metrics);
    }

    /// Tells the log of a call that took long.
    pub fn tell_of_call(&self, method: &str, took: Duration) {
        self.telling.call_ended(method, took, self.config.slow_call);
    }

    /// What the server counts of itself.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether the server is for trying things out.
    pub fn is_dev(&self) -> bool {
        self.config.dev
    }

    /// The most calls one multiCall may carry.
    pub fn calls_max(&self) -> usize {
        self.config.calls_max
    }
}

/// Which faults a use case has for the failures that any change can meet.
#[derive(Clone, Copy)]
struct Failures {
    /// Refused though the data was right.
    refused: FaultCode,
    /// The store failed.
    failed: FaultCode,
}

impl Failures {
    /// Those of look-ups: nothing of their own.
    const LOOK_UP: Self = Self { refused: FaultCode::Internal, failed: FaultCode::Internal };

    /// Nothing was done, and trying again makes sense after that time.
    fn later(self, why: &str, retry_after: Duration) -> Fault {
        let wait_ms = retry_after.as_millis();
        Fault::new(self.refused).detail(format!("{why} Retry in {wait_ms} ms.")).retry_after(retry_after)
    }

    /// The fault for what the store said. Its own words go to the log, here
    /// and nowhere else, and never to the caller.
    fn fault(self, cause: StoreError) -> Fault {
        match cause {
            StoreError::Busy { retry_after } => self.later("The write queue is full.", retry_after),
            StoreError::Held { retry_after } => {
                self.later("Another server is changing what belongs to the merchant.", retry_after)
            }
            StoreError::Unavailable { retry_after, .. } => {
                self.later("The database can't be reached, or takes nothing at present.", retry_after)
            }
            StoreError::Unconfirmed(_) => Fault::new(self.failed).detail(
                "Whether it was done is unknown, since the database has not confirmed it. Look, or ask again with \
                 the same idempotency_key.",
            ),
            StoreError::ShuttingDown => {
                Fault::new(self.refused).detail("The server is shutting down. Retry once it is back.")
            }
            StoreError::NoWebhook => Fault::new(FaultCode::NoWebhook),
            StoreError::NoDelivery => Fault::new(FaultCode::NoDelivery),
            StoreError::NoEvent => Fault::new(FaultCode::NoEvent),
            StoreError::NoAttempt => Fault::new(FaultCode::NoAttempt),
            StoreError::NoJob => Fault::new(FaultCode::NoJob),
            StoreError::NoTopic => Fault::new(FaultCode::NoTopic),
            StoreError::NoUser => Fault::new(FaultCode::NoUser),
            StoreError::NoToken => Fault::new(FaultCode::NoToken),
            StoreError::TokenQuota { max } => Fault::new(self.refused)
                .detail(format!("The merchant has {max} tokens, the most it may have. Revoke one first, or have tokens_max raised.")),
            StoreError::EventQuota { used, max, ends_at } => Fault::new(FaultCode::EventQuota).detail(format!(
                "The merchant has published {used} events today, of the {max} that its quota lets it publish in a day. \
                 Retry from {ends_at} on, or have an operator raise events_per_day."
            )),
            StoreError::NoMerchant => Fault::new(FaultCode::NoMerchant),
            StoreError::CodeTaken => {
                Fault::new(self.refused).field("merchant").detail("is the code of another already; take another code.")
            }
            StoreError::NameTaken => Fault::new(self.refused)
                .detail("There is a user of that name already, or there was one that was revoked; take another name."),
            StoreError::DemoKey => Fault::new(self.refused)
                .detail("Everybody knows the key of the demo user, and it can't be replaced; make another user."),
            StoreError::IsOperator => Fault::new(FaultCode::AccessDenied)
                .detail("The user is an operator, whom only operators change. This needs the permission operator."),
            StoreError::UserQuota { max } => Fault::new(self.refused)
                .detail(format!("The merchant has {max} users, revoked ones too, the most it may have; have users_max raised.")),
            StoreError::TopicExists => Fault::new(self.refused).detail("The topic is registered already."),
            StoreError::TopicQuota { max } => Fault::new(self.refused)
                .detail(format!("The catalogue has {max} topics, the most it may have. Remove one first.")),
            StoreError::WebhookQuota { max, .. } => Fault::new(self.refused)
                .detail(format!("The merchant has {max} webhooks, the most it may have. Delete one first.")),
            StoreError::WebhookBytes { used, max } => Fault::new(self.refused).detail(format!(
                "The merchant's webhooks would be {used} bytes long together, of the {max} that they may. Shorten or delete one first, or have merchant_webhook_bytes_max raised."
            )),
            StoreError::IdempotencyConflict { index, event_id } => {
                Fault::new(FaultCode::IdempotencyConflict).index(index).field("idempotency_key").detail(format!(
                    "was used for event {event_id} with another topic, message or labels; use a new key for a new event."
                ))
            }
            StoreError::TooManyDeliveries { max } => Fault::new(FaultCode::InvalidEvent).detail(format!(
                "The events make more than {max} deliveries, the most that one call may; publish them in parts."
            )),
            StoreError::Full { used, max } => Fault::new(self.refused)
                .detail(format!(
                    "The store holds {used} bytes of the {max} it may. Retry once some has been pruned, or have store_bytes_max raised."
                ))
                .retry_after(FULL_RETRY_AFTER),
            StoreError::DiskFull => Fault::new(self.refused)
                .detail("The disk of the store is full. Retry once there is room.")
                .retry_after(FULL_RETRY_AFTER),
            StoreError::TakenAway => Fault::new(self.refused)
                .detail("The store is not where it was; see the server's log. Retry once it is back.")
                .retry_after(FULL_RETRY_AFTER),
            StoreError::Pruned => Fault::new(FaultCode::DeliveryNotChanged)
                .detail("It has ended so long ago that what it sent was pruned; only its number and state are kept."),
            StoreError::HasEnded { state } => Fault::new(FaultCode::DeliveryNotChanged)
                .detail(format!("It is {} already, so there is nothing to cancel.", state.name())),
            StoreError::InBatch(batch) => Fault::new(FaultCode::DeliveryNotChanged)
                .detail(format!("It goes out in one request with {batch}; give whole_batch 1 to cancel them all.")),
            StoreError::TooManySecrets { max } => Fault::new(self.refused)
                .detail(format!("{max} old secrets still sign, the most that may; wait until one expires, or have webhook.update put another in place, which ends them.")),
            StoreError::TooManyJobs { max, whose } => Fault::new(self.refused)
                .detail(format!("{max} jobs of the {whose} wait, the most that may. Retry once they are done, or cancel one.")),
            StoreError::NotPulled { through } => Fault::new(FaultCode::InvalidSelection)
                .field("after_increment_id")
                .detail(format!("No pull has brought more than number {through}, so nothing beyond it can have arrived; nothing was marked as delivered.")),
            StoreError::Violation(violation) => violation.into_fault(FaultCode::InvalidWebhook),
            StoreError::Failed(cause) => {
                tracing::error!(%cause, fault = self.failed.number(), "the store failed");
                let fault = Fault::new(self.failed).logged();
                // Those whose words announce details.
                if matches!(
                    self.failed,
                    FaultCode::StatusNotChanged
                        | FaultCode::WebhookNotChanged
                        | FaultCode::DeliveryNotChanged
                        | FaultCode::TopicNotChanged
                        | FaultCode::UserNotChanged
                        | FaultCode::TokenNotChanged
                        | FaultCode::MerchantNotChanged
                ) {
                    fault.detail("The store failed; see the server's log.")
                } else {
                    fault
                }
            }
        }
    }
}
