//! What a change comes to, before any of it is done.

use std::collections::VecDeque;
use std::sync::Arc;

use super::auditing::Audited;
use super::bulk::Job;
use super::counters::Counters;
use super::event_days::OwnDay;
use super::fanout::Fanout;
use super::ids::{Drawn, Ids};
use super::logs::LogRow;
use super::new_user::NewUserRow;
use super::news::Announcement;
use super::notice::{Gathered, Notice};
use super::session::NewSession;
use crate::domain::by::By;
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::delivery::Outcome;
use crate::domain::event::{Event, IdempotencyKey};
use crate::domain::expansion::Expansion;
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, TokenId, UserId, WebhookId};
use crate::domain::labels::Labels;
use crate::domain::merchant::{EventDay, MerchantTerms, Quotas};
use crate::domain::secret::KeyHash;
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::token::NewToken;
use crate::domain::topic::Topic;
use crate::domain::user::{Permissions, Profile};
use crate::domain::webhook::{Format, Webhook};
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// What a change comes to.
#[derive(Debug, Default)]
pub struct Decision {
    /// What is to be written.
    pub rows: Rows,
    /// What the book learns.
    pub learned: Vec<Learned>,
    /// What is announced once it is committed.
    pub news: Vec<Announcement>,
    /// The last ids that it or others before it have given out.
    pub ids: Ids,
    /// Where new ones come from; `None`: they follow the last.
    drawn: Option<Drawn>,
}

impl Decision {
    /// Of nothing yet; new ids are those that were drawn, or follow these.
    pub fn new(ids: Ids, drawn: Option<Drawn>) -> Self {
        Self { ids, drawn, ..Self::default() }
    }

    /// The id of a new event. Like those below, fails if more are needed than the
    /// change has wanted.
    pub fn next_event(&mut self) -> Result<EventId> {
        next(&mut self.ids.event, self.drawn.as_mut().map(|drawn| &mut drawn.events)).map(EventId)
    }

    /// The id of a new webhook.
    pub fn next_webhook(&mut self) -> Result<WebhookId> {
        next(&mut self.ids.webhook, self.drawn.as_mut().map(|drawn| &mut drawn.webhooks)).map(WebhookId)
    }

    /// The id of a new piece of bulk work.
    pub fn next_job(&mut self) -> Result<JobId> {
        next(&mut self.ids.job, self.drawn.as_mut().map(|drawn| &mut drawn.jobs)).map(JobId)
    }

    /// Has it stand in the audit log; nothing, if nothing was changed.
    pub fn audit(&mut self, audited: impl Into<Option<Audited>>) {
        self.rows.others.extend(audited.into().map(|audited| Other::Audited(Box::new(audited))));
    }

    /// The id of events that are numbered in shares.
    pub fn next_fanout(&mut self) -> Result<i64> {
        next(&mut self.ids.fanout, self.drawn.as_mut().map(|drawn| &mut drawn.fanouts))
    }
}

fn next(last: &mut i64, drawn: Option<&mut VecDeque<i64>>) -> Result<i64> {
    *last = match drawn {
        None => *last + 1,
        Some(drawn) => drawn.pop_front().ok_or_else(|| StoreError::failed("a change needs more ids than it wanted"))?,
    };
    Ok(*last)
}

/// Rows to be written, each kind in the order given: first what is new.
#[derive(Debug, Default)]
pub struct Rows {
    /// New events.
    pub events: Vec<NewEventRow>,
    /// New deliveries.
    pub numbered: Vec<NumberedRow>,
    /// Deliveries that stand otherwise than before.
    pub standings: Vec<StandingRow>,
    /// Attempts at deliveries.
    pub attempts: Vec<AttemptRow>,
    /// Counters of merchants' webhooks.
    pub counters: Vec<(MerchantId, WebhookId, Counters)>,
    /// How large the logs of webhooks are; `None`: there is none any more.
    pub logs: Vec<(WebhookId, Option<LogRow>)>,
    /// What is rarer.
    pub others: Vec<Other>,
}

impl Rows {
    /// How many there are, about.
    pub fn count(&self) -> usize {
        self.events.len()
            + self.numbered.len()
            + self.standings.len()
            + self.attempts.len()
            + self.counters.len()
            + self.others.len()
    }
}

/// An event that is accepted.
#[derive(Clone, Debug)]
pub struct NewEventRow {
    /// The event.
    pub event: Arc<Event>,
    /// For whom it is, which none of its receivers is told.
    pub labels: Option<Arc<Labels>>,
}

/// A delivery that gets its number.
#[derive(Debug)]
pub struct NumberedRow {
    /// Whose number.
    pub webhook_id: WebhookId,
    /// The number.
    pub number: IncrementId,
    /// What it is about.
    pub event_id: EventId,
    /// How its body is built.
    pub format: Format,
    /// Which parts of the message go out.
    pub expansion: Option<Arc<Expansion>>,
    /// Where it stands from the beginning.
    pub standing: Standing,
}

/// Where a delivery stands from now on.
#[derive(Clone, Copy, Debug)]
pub struct StandingRow {
    /// Whose number.
    pub webhook_id: WebhookId,
    /// The number.
    pub number: IncrementId,
    /// All of what it says.
    pub standing: Standing,
}

/// An attempt for the log.
#[derive(Debug)]
pub struct AttemptRow {
    /// Outcomes that were recorded together, …
    pub outcomes: Arc<[Outcome]>,
    /// … and which of them this is of.
    pub index: usize,
    /// Whether the log has room for headers and bodies.
    pub is_whole: bool,
    /// The answer's body in zlib's format, where that is worth it.
    pub compressed: Option<Vec<u8>>,
}

impl AttemptRow {
    /// What it is of.
    pub fn outcome(&self) -> &Outcome {
        &self.outcomes[self.index]
    }

    /// What it adds to the log, in bytes.
    pub fn bytes(&self) -> u64 {
        if !self.is_whole {
            return 0;
        }
        let attempt = &self.outcome().attempt;
        let body = self.compressed.as_ref().unwrap_or(&attempt.response_body).len();
        (attempt.request_headers.len() + attempt.response_headers.len() + body) as u64
    }
}

/// An idempotency key, and what it stands for.
#[derive(Debug)]
pub struct KeyRow {
    /// Whose.
    pub merchant: MerchantId,
    /// The key.
    pub key: IdempotencyKey,
    /// SHA-256 of topic and message.
    pub content_hash: [u8; 32],
    /// The event that was published under it.
    pub event_id: EventId,
    /// The numbers that it got so far.
    pub deliveries: Vec<(WebhookId, IncrementId)>,
    /// Until when it counts.
    pub expires_at: Timestamp,
}

/// A row of one of the smaller tables.
#[derive(Debug)]
pub enum Other {
    /// Remembers an idempotency key.
    Key(KeyRow),
    /// An event that has a key got further numbers.
    KeyGoesOn(MerchantId, IdempotencyKey, Vec<(WebhookId, IncrementId)>),
    /// A new webhook.
    NewWebhook(Arc<Webhook>),
    /// The definition of a webhook is another.
    Webhook(Arc<Webhook>),
    /// A webhook is deleted.
    WebhookDeleted(WebhookId),
    /// Nobody asks for the definition of a deleted webhook any more.
    WebhookBlotted(WebhookId),
    /// Events that are accepted, and where they still have to go.
    Fanout(i64, Fanout),
    /// They have come everywhere.
    FanoutDone(i64),
    /// A new piece of bulk work.
    NewJob {
        /// What is to be done.
        job: Job,
        /// Set if there is nothing to do.
        ended_at: Option<Timestamp>,
    },
    /// A piece of bulk work has come further, or to its end.
    Job {
        /// How far.
        job: Job,
        /// When it ended.
        ended_at: Option<Timestamp>,
    },
    /// Somebody has called it off.
    JobCancelled(JobId),
    /// Of the ended pieces of a merchant only so many stay; up to `max` of the
    /// others go.
    TrimJobs {
        /// Whose.
        merchant: MerchantId,
        /// How many stay.
        keep: u32,
        /// How many go at the most.
        max: u32,
    },
    /// What gathers of a kind.
    Notice(WebhookId, Notice, Gathered),
    /// It has been published, and nothing has followed.
    NoticeDone(WebhookId, Notice),
    /// A topic of a catalogue, new or changed.
    Topic {
        /// Whose catalogue.
        merchant: MerchantId,
        /// What it says.
        entry: CatalogueEntry,
        /// Whether it stands there already.
        is_known: bool,
    },
    /// A topic is taken out of a catalogue.
    TopicRemoved(MerchantId, Topic),
    /// A session is opened. Of the user's others so many stay, those that end
    /// last; up to `max` of the rest go.
    Session {
        /// What is opened.
        session: NewSession,
        /// How many others stay.
        keep: u32,
        /// How many go at the most.
        max: u32,
    },
    /// A session ends later, up to when it ends anyway.
    SessionRenewed(KeyHash, Timestamp),
    /// A session is over.
    SessionEnded(KeyHash),
    /// A new user.
    NewUser(Box<NewUserRow>),
    /// A user may do something else.
    Permissions(UserId, Permissions),
    /// What its application is.
    Profile(UserId, Box<Profile>),
    /// Since when it is refused, until it is enabled again; `None`: it is let in.
    UserDisabled(UserId, Option<Timestamp>),
    /// Its key is worthless for ever, and its sessions have ended.
    UserRevoked(UserId),
    /// A user has another key. The one it had counts until then, and so do its
    /// sessions.
    UserKey {
        /// Whose.
        user: UserId,
        /// The new one.
        key: KeyHash,
        /// Until when the old one counts.
        until: Timestamp,
    },
    /// A new token, and whose.
    NewToken(By, Box<NewToken>),
    /// A token is taken back.
    TokenRevoked(TokenId),
    /// A new merchant.
    NewMerchant {
        /// Its id.
        merchant: MerchantId,
        /// Its code.
        code: String,
        /// How much it may have.
        quotas: Quotas,
    },
    /// What operators say of a merchant from now on.
    MerchantTerms(MerchantId, MerchantTerms),
    /// How many events of a merchant were published in a day.
    EventDay(MerchantId, EventDay),
    /// A delivery has forgotten its event.
    Forgotten(WebhookId, IncrementId),
    /// Attempts are deleted, and what they were overwritten.
    AttemptsForgotten(WebhookId, Vec<(IncrementId, u32)>),
    /// An event is deleted, and overwritten.
    EventForgotten(EventId),
    /// Headers and bodies of these attempts go.
    AttemptsEmptied(WebhookId, Vec<(IncrementId, u32)>),
    /// Somebody has changed something, which is among these rows.
    Audited(Box<Audited>),
}

/// What the book learns of a change.
#[derive(Debug)]
pub enum Learned {
    /// A webhook is new or changed; counters of what its receiver did are those
    /// in it.
    Webhook(Arc<Webhook>),
    /// A webhook is deleted.
    Deleted(WebhookId),
    /// All of a deleted webhook has ended: nothing more comes.
    Gone(WebhookId),
    /// Its last number.
    Last(WebhookId, IncrementId),
    /// Other counters of a webhook, which may not touch its last number.
    Counters(WebhookId, Counters),
    /// There is something to do for a webhook.
    Chore(WebhookId),
    /// Events that are numbered in shares.
    Fanout(i64, Fanout),
    /// They have come everywhere.
    FanoutDone(i64),
    /// A new piece of bulk work.
    Job(Job),
    /// Somebody has called one off, of that webhook at present.
    JobCancelled(WebhookId, JobId),
    /// The log of a webhook has grown by an attempt.
    Logged {
        /// Whose webhook.
        merchant: MerchantId,
        /// Whose log.
        webhook_id: WebhookId,
        /// Which attempt.
        place: (IncrementId, u32),
        /// What it weighs there.
        bytes: u64,
    },
    /// The log of a webhook has become smaller.
    LogShrunk(WebhookId, u64),
    /// An event is to be forgotten once nothing of it is to be sent.
    ToForget(MerchantId, EventId),
    /// How many events of a merchant were published in a day.
    EventDay(MerchantId, OwnDay),
    /// There is something to sweep out.
    Sweep,
}
