//! Identifiers. All are counted up from 1 by the store and never reused.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A tenant: whoever owns users, webhooks and events.
    MerchantId
    /// A login of a merchant.
    UserId
    /// A registered receiver.
    WebhookId
    /// A published event.
    EventId
    /// A piece of bulk work.
    JobId
    /// An entry of a catalogue of topics.
    TopicId
    /// A key with fewer rights than whoever made it.
    TokenId
    /// An entry of the audit log.
    AuditId
    /// The number of a delivery within its webhook: 1, 2, 3 … without holes,
    /// in the order of commits.
    IncrementId
}

impl EventId {
    /// The id that follows this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl IncrementId {
    /// What a webhook counts from: "no number given out yet".
    pub const ZERO: Self = Self(0);

    /// The number that follows this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Numbers of a webhook, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first.
    pub first: IncrementId,
    /// The last; below the first if there are none.
    pub last: IncrementId,
}

impl Span {
    /// One number.
    pub fn one(number: IncrementId) -> Self {
        Self { first: number, last: number }
    }

    /// True if the number is one of them.
    pub fn contains(self, number: IncrementId) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Each of them, in order.
    pub fn numbers(self) -> impl Iterator<Item = IncrementId> {
        (self.first.0..=self.last.0).map(IncrementId)
    }
}

/// `42`, or `42-44` for more than one.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Eight random characters made with a store, part of every `webhook-id`, so
/// that two stores never name two payloads alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreId(pub String);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StoreId {
    /// The `webhook-id` of a delivery: `msg_<store>_<webhook>_<increment>`,
    /// the same over every retry and replay.
    pub fn message_id(&self, webhook: WebhookId, increment: IncrementId) -> String {
        format!("msg_{self}_{webhook}_{increment}")
    }

    /// The `webhook-id` of a batch: `msg_<store>_<webhook>_<first>-<last>`,
    /// also if it holds one number only.
    pub fn batch_id(&self, webhook: WebhookId, Span { first, last }: Span) -> String {
        format!("msg_{self}_{webhook}_{first}-{last}")
    }

    /// The `tallyhook-event-id` of a delivery: `evt_<store>_<event>`, the same
    /// under whichever numbers the event goes out.
    pub fn event_name(&self, event: EventId) -> String {
        format!("evt_{self}_{event}")
    }

    /// The `tallyhook-event-id` of a batch: `evt_<store>_<first>-<last>`, of
    /// the first and the last event in it; others may lie between, or not.
    pub fn batch_name(&self, first: EventId, last: EventId) -> String {
        format!("evt_{self}_{first}-{last}")
    }
}
