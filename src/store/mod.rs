//! The store boundary, in the words of the domain.
//!
//! The store is the queue: an event and its numbered deliveries are committed
//! in one transaction before [`Store::publish`] answers, and whatever is
//! pending after a crash is found here again. Behind the boundary lies
//! SQLite ([`sqlite`]); PostgreSQL is to follow.

pub mod error;
pub mod feed;
pub mod ledger;
pub mod mailbox;
pub mod requests;
pub mod resending;
pub mod search;
pub mod sqlite;
pub mod users;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub use self::error::StoreError;
use self::feed::Watched;
use self::requests::Requests;
use self::resending::Resending;
use self::search::Search;
use self::users::Users;
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicFilter, TopicRule, TopicSpec};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, DeliveryState, Outcome, StateCounts};
use crate::domain::event::{Event, EventFilter, EventStory, EventSummary, Message, NewEvent, Receipt};
use crate::domain::expansion::{Expansion, expanded};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, StoreId, TopicId, UserId, WebhookId};
use crate::domain::message_schema::SchemaText;
use crate::domain::page::Slice;
use crate::domain::secret::{KeyHash, SecretKey};
use crate::domain::stats::WebhookStats;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Pattern, Topic};
use crate::domain::user::{Profile, User};
use crate::domain::webhook::{Format, Webhook, WebhookChanges, WebhookSpec};
use crate::work::Account;

/// A session, and whose it is.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
    /// When it ends however much it is used, if that is known.
    pub ends_at: Option<Timestamp>,
}

/// A session to be opened.
#[derive(Clone, Copy, Debug)]
pub struct NewSession {
    /// Whose it is.
    pub user: UserId,
    /// Its key.
    pub key: KeyHash,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
    /// When it ends however much it is used, if that is known.
    pub ends_at: Option<Timestamp>,
}

/// Which webhooks of a merchant to change.
#[derive(Clone, Debug)]
pub enum WebhookSelector {
    /// All of them.
    All,
    /// That one.
    Id(WebhookId),
    /// Those whose own list holds exactly this entry.
    Listing(Pattern),
}

/// A delivery that is ready to be sent, or a batch of them.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Its number; of a batch, the first.
    pub increment_id: IncrementId,
    /// Tries so far.
    pub attempts: u32,
    /// Tries when its retry policy last began anew.
    pub policy_start: u32,
    /// How often it was asked to be sent again; of a batch, how often all of it
    /// were.
    pub resends_asked: u32,
    /// When it was numbered.
    pub numbered_at: Timestamp,
    /// When it is due, if it was tried before or is sent again.
    pub due_at: Option<Timestamp>,
    /// How its body is built; pinned when it was numbered.
    pub format: Format,
    /// What happened.
    pub event: Arc<Event>,
    /// Which parts of its message go out; cut when its body is built.
    pub expansion: Option<Arc<Expansion>>,
    /// If it goes out as a batch: what has the numbers that follow.
    pub batch: Option<Vec<Content>>,
}

/// What one number of a batch is about.
#[derive(Clone, Debug)]
pub struct Content {
    /// What happened.
    pub event: Arc<Event>,
    /// Which parts of its message go out.
    pub expansion: Option<Arc<Expansion>>,
}

impl From<Parcel> for Content {
    fn from(parcel: Parcel) -> Self {
        Self { event: parcel.event, expansion: parcel.expansion }
    }
}

impl Parcel {
    /// Its number, or those of the batch.
    pub fn numbers(&self) -> Span {
        let others = self.batch.as_ref().map_or(0, Vec::len);
        let last = IncrementId(self.increment_id.0.saturating_add_unsigned(others as u64));
        Span { first: self.increment_id, last }
    }

    /// What happened, in the order of the numbers.
    pub fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        std::iter::once(&self.event).chain(self.batch.iter().flatten().map(|content| &content.event))
    }

    /// True if only parts of some message go out.
    pub fn has_expansion(&self) -> bool {
        self.expansion.is_some() || self.batch.iter().flatten().any(|content| content.expansion.is_some())
    }

    /// The same with its messages as they go out. That reads every byte of
    /// them.
    pub fn cut(&self) -> Self {
        fn cut(event: &Arc<Event>, expansion: &Option<Arc<Expansion>>) -> Arc<Event> {
            expanded(event, expansion.as_deref())
        }
        let contents = self.batch.as_ref().map(|batch| {
            let whole = |content: &Content| Content { event: cut(&content.event, &content.expansion), expansion: None };
            batch.iter().map(whole).collect()
        });
        Self { event: cut(&self.event, &self.expansion), expansion: None, batch: contents, ..self.clone() }
    }

    /// What it weighs in memory, about, in bytes.
    pub fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.events().map(|event| event.message.as_str().len() + OVERHEAD).sum()
    }
}

/// Some pending deliveries of a webhook.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order asked for.
    pub parcels: Vec<Parcel>,
    /// True if there are no more behind these.
    pub is_last: bool,
}

/// A number of a webhook with all that belongs to it, for who pulls.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The number.
    pub increment_id: IncrementId,
    /// What it takes to send it; `None` if it has ended and was pruned.
    pub parcel: Option<Parcel>,
    /// Where it is in its life.
    pub state: DeliveryState,
}

/// What a delivery sent and got, as far as that is kept.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The publisher's object.
    pub message: Option<Message>,
    /// The last attempt.
    pub last: Option<Attempt>,
}

impl Contents {
    /// How much there is, in bytes.
    pub fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.as_str().len())
            + self.last.as_ref().map_or(0, |attempt| attempt.response_body.len())
    }

    /// Leaves the message and the body of the answer out.
    pub fn leave_out_bodies(&mut self) {
        self.message = None;
        if let Some(attempt) = &mut self.last {
            attempt.response_body = Vec::new();
        }
    }
}

/// A place in the order in which retries fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueKey {
    /// When it is due.
    pub due_at: Timestamp,
    /// Its number, among those that are due at once.
    pub increment_id: IncrementId,
}

impl DueKey {
    /// Before all others.
    pub const START: Self = Self { due_at: Timestamp(i64::MIN), increment_id: IncrementId::ZERO };
}

/// How much to read at once.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// At most so many.
    pub count: usize,
    /// No further once they weigh this much; at least one is read.
    pub bytes: usize,
}

/// What the floors above need to know and to have changed. Every caller's
/// look-up happens within a merchant, so nobody sees another's data.
///
/// Any method fails with [`StoreError::Failed`] if the store can't be read or
/// written, with [`StoreError::Busy`] if too much waits in its line, and with
/// [`StoreError::ShuttingDown`]. Those that change something fail with
/// [`StoreError::DiskFull`] and [`StoreError::TakenAway`] besides. `Busy`,
/// `ShuttingDown` and `DiskFull` say that nothing was done. When one that
/// changes something has answered, the change is on disk.
#[async_trait]
pub trait Store: Watched + Requests + Resending + Search + Users {
    /// The store's name, part of every `webhook-id`.
    fn store_id(&self) -> &StoreId;

    /// The user of that name; looked up in the line of whoever asks, as nobody
    /// knows yet who that is.
    async fn user_by_name(&self, name: &str, asker: Account) -> Result<Option<User>, StoreError>;

    /// The user that has or had that API key, looked up likewise.
    async fn user_by_key(&self, key: KeyHash, asker: Account) -> Result<Option<User>, StoreError>;

    /// The profiles of the merchant's users that have one, by user.
    async fn profiles(&self, merchant: MerchantId) -> Result<Vec<(UserId, Profile)>, StoreError>;

    /// The session with that key, expired or not, looked up likewise.
    async fn session(&self, key: KeyHash, asker: Account) -> Result<Option<Session>, StoreError>;

    /// Opens a session. If the user has `quota` already, those end that would
    /// have ended first.
    async fn open_session(&self, merchant: MerchantId, session: NewSession, quota: u32) -> Result<(), StoreError>;

    /// Moves a session's end, up to when it ends anyway, soon and without waiting;
    /// a failure is dropped, for the next use of the session will ask again.
    fn renew_session(&self, merchant: MerchantId, key: KeyHash, expires_at: Timestamp);

    /// Ends a session, if there is one; in its merchant's line, or the asker's if
    /// there is none.
    async fn end_session(&self, key: KeyHash, asker: Account) -> Result<(), StoreError>;

    /// The ids of the merchant's webhooks, in their order.
    async fn webhook_ids(&self, merchant: MerchantId) -> Result<Vec<WebhookId>, StoreError>;

    /// Some of its webhooks, in the order of their ids.
    async fn webhook_page(&self, merchant: MerchantId, slice: Slice<WebhookId>) -> Result<Vec<Webhook>, StoreError>;

    /// One of them; fails with [`StoreError::NoWebhook`].
    async fn webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook, StoreError>;

    /// Registers a webhook; events published after the answer go to it. Fails
    /// with [`StoreError::WebhookQuota`] if the merchant has `quota` already, with
    /// [`StoreError::WebhookBytes`] if its definitions become too long together,
    /// or with [`StoreError::Full`].
    async fn create_webhook(
        &self,
        merchant: MerchantId,
        user: UserId,
        spec: WebhookSpec,
        quota: u32,
    ) -> Result<Webhook, StoreError>;

    /// Switches webhooks on (which also lifts a disablement) or off, and says
    /// how many were selected. Many are several changes, in the order of their
    /// ids: if one fails, those before it stand, and asking again does the rest.
    async fn set_active(&self, merchant: MerchantId, which: WebhookSelector, on: bool) -> Result<usize, StoreError>;

    /// Changes a webhook, and returns it as it is then. Switching it on also
    /// lifts a disablement. Fails with [`StoreError::NoWebhook`], with
    /// [`StoreError::Violation`] if what it would be can't stand together, or
    /// with [`StoreError::WebhookBytes`].
    async fn update_webhook(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        changes: WebhookChanges,
    ) -> Result<Webhook, StoreError>;

    /// Lifts a disablement by the server, and returns the webhook as it is
    /// then; fails with [`StoreError::NoWebhook`].
    async fn enable_webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook, StoreError>;

    /// Pauses a webhook, which goes on being numbered, or has it go on; returns
    /// it as it is then. Fails with [`StoreError::NoWebhook`].
    async fn set_paused(&self, merchant: MerchantId, id: WebhookId, is_paused: bool) -> Result<Webhook, StoreError>;

    /// Puts a new secret in place of the present one, which signs beside it
    /// until then. Fails with [`StoreError::NoWebhook`] or
    /// [`StoreError::TooManySecrets`].
    async fn rotate_secret(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        secret: SecretKey,
        overlap_until: Timestamp,
    ) -> Result<Webhook, StoreError>;

    /// Deletes a webhook. Its number is never reused; what is pending becomes
    /// cancelled soon after. Fails with [`StoreError::NoWebhook`].
    async fn delete_webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<(), StoreError>;

    /// Accepts events, all or none: each is stored once, and numbered for each
    /// webhook that matches. What an event with the same idempotency key came to
    /// is answered again. Fails with [`StoreError::IdempotencyConflict`],
    /// [`StoreError::TooManyDeliveries`] or [`StoreError::Full`], and with
    /// [`StoreError::Busy`] also while an event with the same key is still being
    /// numbered. When it has failed, none of the events was accepted, unless it
    /// failed with [`StoreError::Failed`] or [`StoreError::TakenAway`]: then a
    /// commit may have stood.
    async fn publish(&self, merchant: MerchantId, events: Vec<NewEvent>) -> Result<Vec<Receipt>, StoreError>;

    /// One of the merchant's events, and what became of it, with up to
    /// `deliveries_max` deliveries; fails with [`StoreError::NoEvent`].
    async fn event(&self, merchant: MerchantId, id: EventId, deliveries_max: u32) -> Result<EventStory, StoreError>;

    /// True if an event with the same idempotency key, topic and message was
    /// accepted before, and its key still counts.
    async fn is_repeated(&self, merchant: MerchantId, event: NewEvent) -> Result<bool, StoreError>;

    /// Events of the merchant by id.
    async fn events(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        slice: Slice<EventId>,
    ) -> Result<Vec<EventSummary>, StoreError>;

    /// How many there are.
    async fn count_events(&self, merchant: MerchantId, filter: EventFilter) -> Result<u64, StoreError>;

    /// Deliveries of a webhook by number; fails with [`StoreError::NoWebhook`].
    async fn deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
        slice: Slice<IncrementId>,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// The message and the last attempt of the first of these deliveries, in
    /// this order and as far as they are kept: until they weigh `bytes_max`, and
    /// of one at least. Fails with [`StoreError::NoWebhook`].
    async fn contents(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        numbers: Vec<IncrementId>,
        bytes_max: usize,
    ) -> Result<Vec<Contents>, StoreError>;

    /// How many there are in each state; fails with [`StoreError::NoWebhook`].
    async fn count_deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
    ) -> Result<StateCounts, StoreError>;

    /// How a webhook is doing; fails with [`StoreError::NoWebhook`].
    async fn stats(&self, merchant: MerchantId, id: WebhookId) -> Result<WebhookStats, StoreError>;

    /// Topics of the merchant's catalogue, by name.
    async fn topics(
        &self,
        merchant: MerchantId,
        filter: TopicFilter,
        slice: Slice<Topic>,
    ) -> Result<Vec<CatalogueEntry>, StoreError>;

    /// How many there are.
    async fn count_topics(&self, merchant: MerchantId, filter: TopicFilter) -> Result<u64, StoreError>;

    /// Puts a topic into the catalogue. Fails with [`StoreError::TopicExists`],
    /// [`StoreError::TopicQuota`] if it has `quota` topics already, or
    /// [`StoreError::Violation`] if another topic has its number.
    async fn register_topic(
        &self,
        merchant: MerchantId,
        spec: TopicSpec,
        quota: u32,
    ) -> Result<CatalogueEntry, StoreError>;

    /// Changes what is said of a topic, and returns it as it is then. Fails
    /// with [`StoreError::NoTopic`] or [`StoreError::Violation`].
    async fn update_topic(
        &self,
        merchant: MerchantId,
        topic: Topic,
        changes: TopicChanges,
    ) -> Result<CatalogueEntry, StoreError>;

    /// Takes a topic out of the catalogue; fails with [`StoreError::NoTopic`].
    async fn remove_topic(&self, merchant: MerchantId, topic: Topic) -> Result<(), StoreError>;

    /// What the catalogue demands of events of each of these topics; `None`
    /// where it has no such topic.
    async fn topic_rules(&self, merchant: MerchantId, topics: Vec<Topic>)
    -> Result<Vec<Option<TopicRule>>, StoreError>;

    /// The schema of a catalogue's entry as it is now, if it has one.
    async fn topic_schema(&self, merchant: MerchantId, id: TopicId) -> Result<Option<SchemaText>, StoreError>;

    /// Attempts at a delivery behind one of them, in their order, up to `limit`;
    /// fails with [`StoreError::NoWebhook`] or [`StoreError::NoDelivery`].
    async fn attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Attempt>, StoreError>;

    /// One of those attempts; fails with [`StoreError::NoAttempt`] besides.
    async fn attempt(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        attempt: u32,
    ) -> Result<Attempt, StoreError>;

    /// A webhook's numbers above `after` in their order, whatever their state,
    /// none left out; fails with [`StoreError::NoWebhook`].
    async fn pull(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Vec<Pulled>, StoreError>;

    /// Numbers a test event for one webhook, which is sent at once; fails with
    /// [`StoreError::NoWebhook`] or [`StoreError::Full`].
    async fn test(&self, merchant: MerchantId, id: WebhookId, message: Message) -> Result<IncrementId, StoreError>;

    /// Ends when an attempt at the delivery has been recorded after this call,
    /// whether it was polled before or not.
    fn next_attempt(&self, id: WebhookId, number: IncrementId) -> BoxFuture<'static, ()>;

    /// Notes that the receiver of a webhook has pulled what lies at or below
    /// this number: it becomes delivered soon after. Fails with
    /// [`StoreError::NoWebhook`] or [`StoreError::NotPulled`].
    async fn acknowledge(&self, merchant: MerchantId, id: WebhookId, through: IncrementId) -> Result<(), StoreError>;

    /// Notes that a pull brings all up to this number, which may be
    /// acknowledged then. Fails with [`StoreError::NoWebhook`].
    async fn hand_out(&self, merchant: MerchantId, id: WebhookId, through: IncrementId) -> Result<(), StoreError>;

    /// Waits until a webhook is given a number beyond `after`; does not see
    /// those given out before the store was opened, so look first.
    async fn numbered_beyond(&self, id: WebhookId, after: IncrementId);

    /// Every webhook there is, for the lanes at the start.
    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError>;

    /// Pending deliveries above `after` that were never tried and are not to be
    /// sent again, by number.
    async fn fresh(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Page, StoreError>;

    /// All deliveries above `after` that are pending or to be sent again, by
    /// number.
    async fn pending(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Page, StoreError>;

    /// Deliveries that are to be tried or sent again and are due by `now`,
    /// those after `after` in the order of due time and number.
    async fn due(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: DueKey,
        now: Timestamp,
        limit: PageLimit,
    ) -> Result<Page, StoreError>;

    /// When the first delivery that is to be tried or sent again, and is not
    /// due at `now`, falls due.
    async fn next_due(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError>;

    /// Has these numbers go out as one from now on: every attempt, retry and
    /// replay of one of them is one of all. False, with nothing done, unless
    /// all are pending, were never tried, and are in no batch yet.
    async fn seal(&self, id: WebhookId, batch: Span) -> Result<bool, StoreError>;

    /// Records attempts, and disables webhooks that are gone or have failed
    /// for long. Each counts only if it is the attempt that follows those on
    /// record, so recording twice is recording once.
    async fn record(&self, outcomes: Arc<[Outcome]>) -> Result<(), StoreError>;
}
