//! What a change has to have read, and what was.

use std::collections::HashMap;
use std::sync::Arc;

use super::counters::Counters;
use super::ids::{Drawn, Ids};
use super::notice::{Gathered, Notice};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::event::{IdempotencyKey, Receipt};
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, Span, TokenId, UserId, WebhookId};
use crate::domain::job::Job;
use crate::domain::labels::Labels;
use crate::domain::merchant::MerchantTerms;
use crate::domain::secret::KeyHash;
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::token::Token;
use crate::domain::topic::Topic;
use crate::domain::user::{Permissions, Profile};

/// What a change asks for.
#[derive(Debug, Default)]
pub struct Wants {
    /// The codes of merchants.
    pub codes: Vec<MerchantId>,
    /// Idempotency keys that still count.
    pub keys: Vec<(MerchantId, IdempotencyKey)>,
    /// Deliveries that most likely are as they were numbered. One that is so is
    /// written at once as it is from now on, which is what most outcomes come to,
    /// and costs no look; any other is read.
    pub first_heard: Vec<FirstHeard>,
    /// Deliveries.
    pub deliveries: Vec<(WebhookId, Span)>,
    /// The topics of what deliveries are about, as long as that is kept.
    pub topics: Vec<(WebhookId, Span)>,
    /// Deliveries with all of their batches.
    pub batches: Vec<(WebhookId, IncrementId)>,
    /// Deliveries as they are chosen from.
    pub scan: Option<Scan>,
    /// Deliveries that are pending.
    pub pending: Option<Pending>,
    /// Up to so many of a webhook's deliveries that are to be sent again.
    pub again: Option<(WebhookId, u32)>,
    /// Events for a backfill.
    pub events: Option<Events>,
    /// What has gathered of a kind.
    pub notices: Vec<(WebhookId, Notice)>,
    /// Up to so many of those that are due.
    pub due_notices: Option<u32>,
    /// A piece of bulk work.
    pub job: Option<(MerchantId, JobId)>,
    /// A topic, and what its catalogue says beside it.
    pub topic: Option<TopicWant>,
    /// A user that was not revoked.
    pub user: Option<(MerchantId, UserId)>,
    /// Whether somebody is called so, or was, and how many users the merchant has.
    pub user_name: Option<(MerchantId, String)>,
    /// A token.
    pub token: Option<(MerchantId, TokenId)>,
    /// How many tokens the merchant has.
    pub tokens: Option<MerchantId>,
    /// What operators say of a merchant.
    pub merchant: Option<MerchantId>,
    /// The id of a merchant to be made with this code.
    pub merchant_code: Option<String>,
    /// Whether deliveries of these events are to be sent.
    pub needed: Vec<EventId>,
    /// Whether others than this one of its event are.
    pub needed_beside: Option<(WebhookId, IncrementId)>,
    /// Attempts at a delivery, or of a log.
    pub attempts: Option<Attempts>,
    /// How much the store holds.
    pub used_bytes: bool,
    /// New ids: of each kind so many at the most.
    pub ids: Ids,
    /// Webhooks whose last numbers and counters matter. Only a store that is
    /// shared is asked: elsewhere they are known by heart.
    pub counters: Vec<WebhookId>,
    /// The last event that was accepted; asked only of a store that is shared.
    pub last_event: bool,
}

/// A delivery that was heard of for the first time.
#[derive(Clone, Copy, Debug)]
pub struct FirstHeard {
    /// Whose.
    pub webhook_id: WebhookId,
    /// Its number.
    pub number: IncrementId,
    /// Where it stands from now on, if it stood at [`Standing::NEW`].
    pub standing: Standing,
}

/// Deliveries from one number on, or from the first of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// Whose.
    pub webhook_id: WebhookId,
    /// From which number on.
    pub first: IncrementId,
    /// The most of them.
    pub max: u32,
}

/// Some of a webhook's deliveries that are pending, by number.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Whose.
    pub webhook_id: WebhookId,
    /// Those behind this number …
    pub after: IncrementId,
    /// … up to this one.
    pub through: IncrementId,
    /// The most of them.
    pub max: u32,
}

/// A merchant's events by their ids.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Whose.
    pub merchant: MerchantId,
    /// From this one …
    pub first: i64,
    /// … to this one.
    pub last: i64,
    /// The most of them, …
    pub max: u32,
    /// … and of their bytes: one that goes beyond is the last.
    pub bytes_max: u64,
}

/// A topic of a catalogue, and which number it is to have.
#[derive(Clone, Debug)]
pub struct TopicWant {
    /// Whose catalogue.
    pub merchant: MerchantId,
    /// Which topic.
    pub topic: Topic,
    /// Who else has this number.
    pub event_type: Option<i64>,
}

/// Attempts in the order of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    /// Whose.
    pub webhook_id: WebhookId,
    /// Those behind this one.
    pub after: (IncrementId, u32),
    /// Only those at this number.
    pub only: Option<IncrementId>,
    /// The most of them.
    pub max: u32,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What keys stand for.
    pub keys: HashMap<(MerchantId, IdempotencyKey), Remembered>,
    /// Whether each that was heard of for the first time was as it was numbered,
    /// and is written. Those that were not are among the deliveries.
    pub first_heard: Vec<bool>,
    /// Deliveries that were asked for, and their batches.
    pub deliveries: HashMap<(WebhookId, IncrementId), Found>,
    /// The topics of what they are about.
    pub topics: HashMap<(WebhookId, IncrementId), Topic>,
    /// In the order of their numbers.
    pub scanned: Vec<Scanned>,
    /// In the order of their numbers.
    pub pending: Vec<(IncrementId, Standing)>,
    /// By number, too.
    pub again: Vec<(IncrementId, Standing)>,
    /// In the order of their ids.
    pub events: Vec<EventFound>,
    /// Whether there are no more behind these.
    pub is_last_event: bool,
    /// What has gathered.
    pub notices: HashMap<(WebhookId, Notice), Gathered>,
    /// What is due.
    pub due_notices: Vec<(WebhookId, Notice, Gathered)>,
    /// The piece of bulk work, and the webhook it is at.
    pub job: Option<(Job, WebhookId)>,
    /// The topic.
    pub topic: Option<TopicFound>,
    /// The user, if there is such a one.
    pub user: Option<Box<UserFound>>,
    /// Whether the name is given.
    pub is_name_given: bool,
    /// How many users the merchant has, revoked ones too.
    pub users: u32,
    /// The token, if there is such a one, and whose it is.
    pub token: Option<Box<(UserId, Token)>>,
    /// How many tokens the merchant has that have not ended.
    pub tokens: u32,
    /// The merchant, if there is such a one.
    pub merchant: Option<Box<MerchantFound>>,
    /// The id of the one to be made; `None` if there is one of that code.
    pub new_merchant: Option<MerchantId>,
    /// Events of which something is to be sent.
    pub needed: Vec<EventId>,
    /// In the order of numbers.
    pub attempts: Vec<AttemptFound>,
    /// How much the store holds.
    pub used_bytes: Option<u64>,
    /// Codes of merchants.
    pub codes: Vec<(MerchantId, Arc<str>)>,
    /// New ids, if they are drawn.
    pub drawn: Option<Drawn>,
    /// Webhooks as they are counted.
    pub counters: Vec<(WebhookId, Counters)>,
    /// The last event.
    pub last_event: Option<EventId>,
}

/// What an idempotency key stands for.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Another node is still numbering its event, as far as the store says.
    pub is_under_way: bool,
    /// SHA-256 of topic and message.
    pub content_hash: [u8; 32],
    /// What was answered.
    pub receipt: Receipt,
}

/// A delivery.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it stands.
    pub standing: Standing,
    /// Its event.
    pub event_id: EventId,
    /// Whether that is kept; not asked of all.
    pub is_whole: bool,
}

/// A delivery that may be chosen to be sent again.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Its number.
    pub number: IncrementId,
    /// Where it stands.
    pub standing: Standing,
    /// When it was numbered.
    pub created_at: Timestamp,
    /// Of its event, as long as that is kept.
    pub topic: Option<Topic>,
}

/// An event that may be given a new number.
#[derive(Clone, Debug)]
pub struct EventFound {
    /// Its id.
    pub event_id: EventId,
    /// Its topic.
    pub topic: Topic,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// For whom it is.
    pub labels: Option<Arc<Labels>>,
}

/// What a catalogue says of a topic.
#[derive(Clone, Debug)]
pub struct TopicFound {
    /// The topic's entry.
    pub entry: Option<CatalogueEntry>,
    /// How many topics there are.
    pub count: u32,
    /// The highest number that one of them ever had.
    pub event_type_max: i64,
    /// Which other topic has the number that was asked for.
    pub taken_by: Option<Topic>,
}

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserFound {
    /// What it logs in as.
    pub name: String,
    /// What it may do.
    pub permissions: Permissions,
    /// Made by `serve --dev`, with a key that everybody knows.
    pub is_demo: bool,
    /// Since when it is refused, until it is enabled again.
    pub disabled_at: Option<Timestamp>,
    /// Its key.
    pub key: KeyHash,
    /// What its application is.
    pub profile: Profile,
}

/// A merchant.
#[derive(Clone, Debug, PartialEq)]
pub struct MerchantFound {
    /// Its code.
    pub code: String,
    /// What operators say of it.
    pub terms: MerchantTerms,
}

/// An attempt.
#[derive(Clone, Copy, Debug)]
pub struct AttemptFound {
    /// Which of its webhook's it is: the number, and which attempt at it.
    pub place: (IncrementId, u32),
    /// What headers and bodies weigh.
    pub bytes: u64,
}
