//! Deliveries: one event on its way to one webhook, and each try at it.

use std::net::SocketAddr;
use std::time::Duration;

use super::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use super::pause::Pause;
use super::time::Timestamp;
use super::topic::{Patterns, Topic};

/// Where a delivery is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Will be tried, or tried again.
    Pending,
    /// The receiver answered 2xx.
    Delivered,
    /// The server has given up: the retry policy is exhausted, or the body would
    /// be longer than is sent.
    Abandoned,
    /// Will not be tried any more: its owner called it off, or its webhook was
    /// deleted.
    Cancelled,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Abandoned, Self::Cancelled];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Why a delivery ended without being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Every attempt of the policy failed.
    RetriesExhausted,
    /// Its webhook was deleted.
    WebhookDeleted,
    /// Its webhook's owner cancelled it.
    CancelledByOwner,
    /// Its body would be longer than is sent.
    BodyTooLarge,
    /// Its event was erased.
    Erased,
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RetriesExhausted, Self::WebhookDeleted, Self::CancelledByOwner, Self::BodyTooLarge, Self::Erased];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "retries_exhausted",
            Self::WebhookDeleted => "webhook_deleted",
            Self::CancelledByOwner => "cancelled_by_owner",
            Self::BodyTooLarge => "body_too_large",
            Self::Erased => "erased",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// A delivery, as its webhook's owner sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its webhook.
    pub webhook_id: WebhookId,
    /// Its number.
    pub increment_id: IncrementId,
    /// The event.
    pub event_id: EventId,
    /// The event's topic; `None` once it was pruned.
    pub topic: Option<Topic>,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// Tries so far.
    pub attempts: u32,
    /// When it was numbered.
    pub created_at: Timestamp,
    /// When it goes out next, if it is to be sent: it is pending, or was
    /// delivered and is to be sent again. `None` of a pending one, too, while
    /// nothing of its webhook is sent.
    pub next_attempt_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, unless it was delivered.
    pub reason: Option<EndReason>,
}

/// Which deliveries of a webhook.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those of events of these topics, as long as the events are kept.
    pub topics: Option<Patterns>,
    /// Only what was numbered then or later.
    pub since: Option<Timestamp>,
    /// Only what was numbered before then.
    pub until: Option<Timestamp>,
    /// Without those that were forgotten.
    pub without_forgotten: bool,
}

/// How many deliveries are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// To be sent.
    pub pending: u64,
    /// The receiver has them.
    pub delivered: u64,
    /// Given up.
    pub abandoned: u64,
    /// Called off.
    pub cancelled: u64,
}

impl StateCounts {
    /// The count of one state, to be altered.
    pub fn of_mut(&mut self, state: DeliveryState) -> &mut u64 {
        match state {
            DeliveryState::Pending => &mut self.pending,
            DeliveryState::Delivered => &mut self.delivered,
            DeliveryState::Abandoned => &mut self.abandoned,
            DeliveryState::Cancelled => &mut self.cancelled,
        }
    }

    /// All of them together.
    pub fn total(self) -> u64 {
        self.pending + self.delivered + self.abandoned + self.cancelled
    }
}

impl std::ops::Add for StateCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pending: self.pending + other.pending,
            delivered: self.delivered + other.delivered,
            abandoned: self.abandoned + other.abandoned,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

/// Why an attempt failed: it got no answer, or none that is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The address guard forbids every address of the host.
    AddressRefused,
    /// The name could not be resolved.
    Dns,
    /// No connection.
    Connect,
    /// No secure connection.
    Tls,
    /// Too slow.
    Timeout,
    /// The answer was cut off or is no HTTP.
    Protocol,
    /// An answer came, but no 2xx.
    Status,
    /// Nothing was sent: the body would be longer than it may be.
    BodyTooLarge,
    /// No connection: the proxy by which deliveries go has refused, or is not there.
    Proxy,
    /// Nothing was sent: there is no token of OAuth 2.0 to send along.
    Token,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::AddressRefused,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Protocol,
        Self::Status,
        Self::BodyTooLarge,
        Self::Proxy,
        Self::Token,
    ];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddressRefused => "address_refused",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::BodyTooLarge => "body_too_large",
            Self::Proxy => "proxy",
            Self::Token => "token",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What went wrong in an attempt: the class for programs, the words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptError {
    /// For programs.
    pub class: ErrorClass,
    /// For people.
    pub detail: String,
}

/// One try at a delivery, as the log keeps it. Credentials are redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it had been due by then.
    pub queue_delay: Duration,
    /// How long it took, to the end of the answer.
    pub duration: Duration,
    /// What was connected to, or tried last.
    pub address: Option<SocketAddr>,
    /// The answer's status, if there was an answer.
    pub status_code: Option<u16>,
    /// What went wrong; `None` for a success.
    pub error: Option<AttemptError>,
    /// One `name: value` a line.
    pub request_headers: String,
    /// One `name: value` a line.
    pub response_headers: String,
    /// As far as it was read.
    pub response_body: Vec<u8>,
}

impl Attempt {
    /// What it weighs in memory, about, in bytes.
    pub fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD + self.request_headers.len() + self.response_headers.len() + self.response_body.len()
    }
}

/// Names a request that was made: an attempt at a delivery, or at a batch, which
/// goes by its first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptKey {
    /// The number.
    pub increment_id: IncrementId,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// Which requests of a webhook.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptFilter {
    /// Only those made then or later.
    pub since: Option<Timestamp>,
    /// Only those made before then.
    pub until: Option<Timestamp>,
    /// Only those that were answered with this status.
    pub status_code: Option<u16>,
    /// Only those that succeeded, or failed.
    pub is_success: Option<bool>,
    /// Only those that took so long at least.
    pub duration_min: Duration,
}

impl AttemptFilter {
    /// True of an attempt that is wanted.
    pub fn admits(&self, attempt: &Attempt) -> bool {
        self.since.is_none_or(|since| attempt.started_at >= since)
            && self.until.is_none_or(|until| attempt.started_at < until)
            && self.status_code.is_none_or(|status| attempt.status_code == Some(status))
            && self.is_success.is_none_or(|is_success| attempt.error.is_none() == is_success)
            && attempt.duration >= self.duration_min
    }
}

/// What of a webhook's deliveries is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// How many have not ended.
    pub pending: u64,
    /// When the first of those that are tried or sent again is due.
    pub next_attempt_at: Option<Timestamp>,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Delivered,
    /// It is tried again then.
    Retry(Timestamp),
    /// It ends: the policy is exhausted, or its body is too large.
    Abandoned,
    /// It waits, and its webhook is disabled: the receiver answered 410.
    Gone,
}

/// An attempt and its verdict, on the way to the store.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whose webhook.
    pub merchant_id: MerchantId,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The delivery's number, or those of its batch.
    pub numbers: Span,
    /// What happened.
    pub attempt: Attempt,
    /// What becomes of the delivery, or of all of its batch.
    pub verdict: Verdict,
    /// When the attempt ended.
    pub ended_at: Timestamp,
    /// Until when nothing is sent to its receiver after that, and why.
    pub pause: Option<Pause>,
    /// How often it had been asked to be sent again when it was sent.
    pub resends_asked: u32,
}
