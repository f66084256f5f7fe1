//! Every fault a caller can be told of, in one table.
//!
//! 0–6 and 100–106 are ShipStream's, with that API's own words (docs/wire.md,
//! "Codes"); from 107 on they are ours. The floors above turn a
//! [`Fault`] into whatever their protocol says an error looks like.

use std::fmt;
use std::time::Duration;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $scope:literal, $message:literal;)*) => {
        /// What went wrong, by number. See [`FAULTS`] for the words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultCode {
            $($(#[$doc])* $name = $number,)*
        }

        /// The whole table, in the order of the numbers.
        pub const FAULTS: &[FaultEntry] = &[
            $(FaultEntry { code: FaultCode::$name, name: stringify!($name), scope: $scope, message: $message },)*
        ];

        impl FaultCode {
            /// The row of the table.
            pub fn entry(self) -> &'static FaultEntry {
                match self {
                    $(Self::$name => {
                        const ENTRY: FaultEntry = FaultEntry {
                            code: FaultCode::$name, name: stringify!($name), scope: $scope, message: $message,
                        };
                        &ENTRY
                    })*
                }
            }
        }
    };
}

/// One row of the fault table.
#[derive(Debug, PartialEq, Eq)]
pub struct FaultEntry {
    /// The number on the wire.
    pub code: FaultCode,
    /// Its name for programs.
    pub name: &'static str,
    /// `global`, or the resource whose methods raise it.
    pub scope: &'static str,
    /// The words on the wire. A trailing "Details in error message." stands
    /// for the details, and is replaced by them where there are any.
    pub message: &'static str,
}

faults! {
    /// The fallback for what has no number.
    Unknown = 0, "global", "Unknown Error";
    /// A failure of the server that has no number of its own.
    Internal = 1, "global", "Internal Error. Please see log for details.";
    /// Wrong credentials, or a permission is missing.
    AccessDenied = 2, "global", "Access denied.";
    /// `call` was given a path that does not exist.
    InvalidPath = 3, "global", "Invalid api path.";
    /// `call` was given a bare resource, or a method that is none of a resource.
    NotCallable = 4, "global", "Resource path is not callable.";
    /// The session is unknown or has expired.
    SessionExpired = 5, "global", "Session expired. Try to relogin.";
    /// `call` was given too few arguments.
    MissingParameter = 6, "global", "Required parameter is missing, for more details see \"exception.log\".";

    /// No such selection, an unknown key, a bad status, or the store failed.
    StatusNotChanged = 100, "webhook", "Error changing status for specified webhook. Details in error message.";
    /// The webhook's data breaks a rule.
    InvalidWebhook = 101, "webhook", "Invalid data given. Details in error message.";
    /// The store failed.
    CreateFailed = 102, "webhook", "An unexpected error occurred while creating the webhook.";
    /// The merchant has no webhook of that id.
    NoWebhook = 103, "webhook", "Webhook not exists.";
    /// The store failed.
    DeleteFailed = 104, "webhook", "An unexpected error occurred while deleting the webhook.";
    /// Refused though the data was right: shutting down, the write queue or the disk is full, or the store was taken away.
    DeleteRefused = 105, "webhook", "Webhook not deleted. Details in error message.";
    /// Refused though the data was right: the same, or a quota.
    CreateRefused = 106, "webhook", "Webhook not created. Details in error message.";

    /// The event's data breaks a rule.
    InvalidEvent = 107, "event", "Invalid event. Details in error message.";
    /// The idempotency key was used before, for another event.
    IdempotencyConflict = 108, "event", "Idempotency key already used for another event. Details in error message.";
    /// Refused though the event was right: shutting down, the write queue, the store or the disk is full, or the store was taken away.
    EventRefused = 109, "event", "Event not accepted. Details in error message.";
    /// The webhook has no delivery of that number.
    NoDelivery = 110, "delivery", "Delivery not exists.";
    /// A filter, number or limit that cannot be.
    InvalidSelection = 111, "delivery", "Invalid selection. Details in error message.";
    /// The store failed, or refused though the data was right.
    WebhookNotChanged = 112, "webhook", "Webhook not changed. Details in error message.";
    /// There is nothing to cancel, or nothing left to send; it is one of a batch;
    /// the store failed, or refused though the data was right.
    DeliveryNotChanged = 113, "delivery", "Delivery not changed. Details in error message.";
    /// The merchant has published no event of that id, or it was pruned or forgotten.
    NoEvent = 114, "event", "Event not exists.";
    /// The delivery has had no such attempt, or it was pruned.
    NoAttempt = 115, "delivery", "Attempt not exists.";
    /// The merchant's catalogue has no such topic.
    NoTopic = 116, "topic", "Topic not exists.";
    /// The topic's data breaks a rule.
    InvalidTopic = 117, "topic", "Invalid topic. Details in error message.";
    /// It is registered already, its number is taken, the store failed, or refused though the data was right.
    TopicNotChanged = 118, "topic", "Topic not changed. Details in error message.";

    /// The credentials are right, and an operator has disabled their user.
    UserDisabled = 119, "global", "The user is disabled.";
    /// The user makes more calls than it may.
    TooManyCalls = 120, "global", "Too many calls.";

    /// The merchant has no user of that name.
    NoUser = 121, "user", "User not exists.";
    /// The change breaks a rule, or can't be made of that user; the store failed, or refused though the data was right.
    UserNotChanged = 122, "user", "User not changed. Details in error message.";
    /// The merchant has no job of that id, or it ended long ago.
    NoJob = 123, "job", "Job not exists.";

    /// There is no merchant of that code, or it is not the caller's.
    NoMerchant = 124, "merchant", "Merchant not exists.";
    /// The change breaks a rule, or the code is given; the store failed, or refused though the data was right.
    MerchantNotChanged = 125, "merchant", "Merchant not changed. Details in error message.";
    /// An operator has paused the merchant: nothing is published and delivered for it.
    MerchantPaused = 126, "merchant", "The merchant is paused. Details in error message.";
    /// The merchant has as many webhooks as its quota lets it have.
    WebhookQuota = 127, "merchant", "Quota of webhooks used up. Details in error message.";
    /// The users of the merchant make more calls a second together than its quota lets them.
    CallQuota = 128, "global", "Quota of calls used up. Details in error message.";
    /// The merchant has published as many events today as its quota lets it publish in a day.
    EventQuota = 129, "merchant", "Quota of events used up. Details in error message.";
    /// As many deliveries of the merchant are pending as its quota lets it have.
    PendingQuota = 130, "merchant", "Quota of pending deliveries used up. Details in error message.";

    /// The merchant has no token of that id, or it was revoked or has ended, or it is another user's.
    NoToken = 131, "token", "Token not exists.";
    /// The token breaks a rule; the store failed, or refused though the data was right.
    TokenNotChanged = 132, "token", "Token not changed. Details in error message.";
}

impl FaultCode {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// True of those of the vendor whose words are a whole sentence, which
    /// clients compare: what was wrong stands beside the message, not in it.
    pub fn keeps_its_words(self) -> bool {
        matches!(self, Self::InvalidPath | Self::NotCallable | Self::MissingParameter)
    }
}

/// A use case refused or failed, told in terms of the caller's own data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which row of the table.
    pub code: FaultCode,
    /// What was wrong, where, and what would be right. Never a secret.
    pub detail: Option<String>,
    /// The member of the input that was wrong.
    pub field: Option<String>,
    /// Which item of a list of inputs was wrong, from 0.
    pub index: Option<usize>,
    /// The name that was probably meant.
    pub nearest: Option<String>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// Whether the server has failed, and its log says how.
    pub is_logged: bool,
}

impl Fault {
    /// A fault without further words.
    pub fn new(code: FaultCode) -> Self {
        let is_logged = matches!(code, FaultCode::Internal | FaultCode::CreateFailed | FaultCode::DeleteFailed);
        Self { code, detail: None, field: None, index: None, nearest: None, retry_after: None, is_logged }
    }

    /// Adds what was wrong and what would be right.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names the member that was wrong; goes before the detail on the wire.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the item that was wrong, from 0.
    pub fn index(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// Names what was probably meant, if anything is close.
    pub fn nearest(mut self, name: Option<&str>) -> Self {
        self.nearest = name.map(str::to_owned);
        self
    }

    /// The message with all there is to say, for protocols that have nothing
    /// beside it.
    pub fn whole(&self) -> String {
        match &self.detail {
            Some(detail) if self.code.keeps_its_words() => format!("{self} {detail}"),
            _ => self.to_string(),
        }
    }

    /// The same as a refusal of that code, if nothing was wrong but the moment: what can't
    /// be looked up now can be a little later.
    pub fn or_refused(self, code: FaultCode) -> Self {
        if self.is_for_now() { Self { code, ..self } } else { self }
    }

    /// True if what failed is the server's, and trying again makes sense.
    pub fn is_for_now(&self) -> bool {
        self.code == FaultCode::Internal && self.retry_after.is_some()
    }

    /// Says that the server has failed, and its log says how.
    pub fn logged(mut self) -> Self {
        self.is_logged = true;
        self
    }

    /// Says when trying again makes sense.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<FaultCode> for Fault {
    fn from(code: FaultCode) -> Self {
        Self::new(code)
    }
}

/// The message on the wire: the table's words, then where, then what.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.code.entry().message;
        let Some(detail) = self.detail.as_ref().filter(|_| !self.code.keeps_its_words()) else {
            return f.write_str(words);
        };
        f.write_str(words.strip_suffix(" Details in error message.").unwrap_or(words))?;
        if let Some(index) = self.index {
            write!(f, " Item {index}:")?;
        }
        if let Some(field) = &self.field {
            write!(f, " {field}:")?;
        }
        write!(f, " {detail}")
    }
}

impl std::error::Error for Fault {}

/// A rule of the domain was broken: which member, and what would be right.
/// The use case that asked decides which [`FaultCode`] that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The member that was wrong.
    pub field: &'static str,
    /// What was wrong with it, and what would be right.
    pub problem: String,
}

impl Violation {
    /// `problem` with `field`.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// As a fault of the use case that asked.
    pub fn into_fault(self, code: FaultCode) -> Fault {
        Fault::new(code).field(self.field).detail(self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_ascend() {
        assert!(FAULTS.windows(2).all(|pair| pair[0].code.number() < pair[1].code.number()));
        assert!(FAULTS.iter().all(|entry| entry.code.entry() == entry));
    }

    #[test]
    fn details_take_the_place_of_their_announcement() {
        let fault = Fault::new(FaultCode::InvalidWebhook).field("url").detail("is missing.");
        assert_eq!(fault.to_string(), "Invalid data given. url: is missing.");
        let plain = Fault::new(FaultCode::InvalidWebhook);
        assert_eq!(plain.to_string(), "Invalid data given. Details in error message.");
        let item = Fault::new(FaultCode::InvalidEvent).index(3).field("topic").detail("is empty.");
        assert_eq!(item.to_string(), "Invalid event. Item 3: topic: is empty.");
        let path = Fault::new(FaultCode::InvalidPath).detail("There is no a.b.");
        assert_eq!(path.to_string(), "Invalid api path.");
        assert_eq!(path.whole(), "Invalid api path. There is no a.b.");
    }
}
