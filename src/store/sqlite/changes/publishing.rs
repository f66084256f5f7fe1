//! Accepting events, and numbering them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::Result;
use crate::domain::event::{Event, IdempotencyKey, NewEvent, Receipt};
use crate::domain::expansion::Expansion;
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Rendering;
use crate::store::sqlite::queue::Cost;
use crate::store::sqlite::room::Room;
use crate::store::sqlite::rows::format_code;
use crate::store::sqlite::tx::{Announcement, Tx};
use crate::store::{Parcel, StoreError};

/// What bounds a publish.
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    /// How long an idempotency key counts.
    pub key_ttl: std::time::Duration,
    /// The most deliveries it may make.
    pub deliveries_max: usize,
    /// What the store may hold by then.
    pub room: Room,
}

/// What a publish costs, about: how far its events spread is found out when
/// they are numbered.
pub fn cost(events: &[NewEvent]) -> Cost {
    /// Itself, and a few deliveries.
    const ROWS_PER_EVENT: usize = 4;
    let bytes = events.iter().map(|event| event.message.as_str().len()).sum();
    Cost::of(events.len().saturating_mul(ROWS_PER_EVENT), bytes)
}

/// An event to be accepted, and what its idempotency key stands for.
pub struct Hashed {
    event: NewEvent,
    /// Of those that have a key.
    content_hash: Option<[u8; 32]>,
}

impl From<NewEvent> for Hashed {
    /// Reads the whole message, which is nothing for the writer.
    fn from(event: NewEvent) -> Self {
        let content_hash = event.idempotency_key.as_ref().map(|_| content_hash(&event));
        Self { event, content_hash }
    }
}

/// Accepts events, all or none. What an event made earlier counts like what it
/// would make, for it is answered too.
pub fn publish(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    events: Vec<Hashed>,
    limits: PublishLimits,
) -> Result<Vec<Receipt>> {
    limits.room.check(tx.conn, merchant)?;
    let mut numbering = Numbering::default();
    let (mut receipts, mut made, mut known) = (Vec::with_capacity(events.len()), 0, HashMap::new());
    for (index, Hashed { event, content_hash }) in events.into_iter().enumerate() {
        let key = event.idempotency_key.clone().zip(content_hash);
        let earlier = match &key {
            Some((key, hash)) => earlier_receipt(tx, merchant, &mut known, key, hash, index)?,
            None => None,
        };
        let receipt = match earlier {
            Some(receipt) => receipt,
            None => {
                let event = insert_event(tx, merchant, event)?;
                let deliveries = numbering.fan_out(tx, &event)?;
                Receipt { event_id: event.event_id, deliveries }
            }
        };
        made += receipt.deliveries.len();
        if made > limits.deliveries_max {
            return Err(StoreError::TooManyDeliveries { max: limits.deliveries_max });
        }
        if let Some((key, content_hash)) = key
            && !known.contains_key(&key)
        {
            remember(tx, merchant, &key, &content_hash, &receipt, limits.key_ttl)?;
            known.insert(key, Remembered { content_hash, receipt: receipt.clone() });
        }
        receipts.push(receipt);
    }
    numbering.settle(tx);
    Ok(receipts)
}

/// Numbers that are given out in a change, which memory and the worker learn
/// of at its end.
#[derive(Default)]
pub struct Numbering {
    taken: HashMap<WebhookId, IncrementId>,
    made: usize,
    parcels: Vec<(WebhookId, Parcel)>,
    /// Whose numbers are read from the store, all of them.
    read: HashSet<WebhookId>,
    events: Vec<Arc<Event>>,
}

impl Numbering {
    /// Numbers an event for every webhook that it goes to.
    pub fn fan_out(&mut self, tx: &Tx<'_>, event: &Arc<Event>) -> Result<Vec<(WebhookId, IncrementId)>> {
        let matching = tx.memory.matching(event.merchant_id, &event.topic);
        let mut deliveries = Vec::with_capacity(matching.len());
        for id in matching {
            let Some(entry) = tx.memory.entry(id) else { continue };
            let rendering = entry.webhook.spec.rendering(&event.topic);
            let number = self.take(tx, id, event.event_id, rendering)?;
            deliveries.push((id, number));
            let parcel = Parcel {
                increment_id: number,
                attempts: 0,
                policy_start: 0,
                numbered_at: tx.now,
                due_at: None,
                format: rendering.format,
                event: Arc::clone(event),
                // To cut a message takes too long for the thread that all changes wait for.
                expansion: rendering.expansion.cloned().map(Arc::new),
                batch: None,
            };
            self.parcels.push((id, parcel));
        }
        self.events.push(Arc::clone(event));
        Ok(deliveries)
    }

    /// How many numbers were given out.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Gives an event the next number of one webhook, which will read it from
    /// the store.
    pub fn number(
        &mut self,
        tx: &Tx<'_>,
        id: WebhookId,
        event: EventId,
        rendering: Rendering<'_>,
    ) -> Result<IncrementId> {
        self.read.insert(id);
        self.take(tx, id, event, rendering)
    }

    fn take(&mut self, tx: &Tx<'_>, id: WebhookId, event: EventId, rendering: Rendering<'_>) -> Result<IncrementId> {
        let last = || tx.memory.entry(id).map(|entry| entry.counters.last);
        let number = self.taken.get(&id).copied().or_else(last).ok_or(StoreError::NoWebhook)?.next();
        tx.conn
            .prepare_cached(
                "INSERT INTO delivery (webhook_id, increment_id, event_id, format, expansion, created_at)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                id.0,
                number.0,
                event.0,
                format_code(rendering.format),
                rendering.expansion.map(Expansion::as_str),
                tx.now.0
            ])?;
        self.taken.insert(id, number);
        self.made += 1;
        Ok(number)
    }

    /// Has memory and the news know of it. Nothing can fail any more.
    pub fn settle(self, tx: &mut Tx<'_>) {
        for (id, last) in self.taken {
            let Some(counters) = tx.memory.counters_mut(id) else { continue };
            let before = std::mem::replace(&mut counters.last, last);
            // A parcel says so itself.
            if self.read.contains(&id) {
                tx.news.push(Announcement::Through(id, last));
                tx.news.push(Announcement::Changed(id, Span { first: before.next(), last }));
            }
        }
        tx.news.extend(self.events.into_iter().map(Announcement::Published));
        let handed_over = self.parcels.into_iter().filter(|(id, _)| !self.read.contains(id));
        tx.news.extend(handed_over.map(|(id, parcel)| Announcement::Parcel(id, parcel)));
    }
}

/// Stores an event.
pub fn insert_event(tx: &mut Tx<'_>, merchant: MerchantId, event: NewEvent) -> Result<Arc<Event>> {
    let NewEvent { topic, message, created_at, .. } = event;
    tx.conn
        .prepare_cached(
            "INSERT INTO event (merchant_id, topic, message, created_at, published_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![merchant.0, topic.as_str(), message.as_str(), created_at.0, tx.now.0])?;
    let event_id = EventId(tx.conn.last_insert_rowid());
    let merchant_code = tx.memory.merchant_code(tx.conn, merchant)?;
    Ok(Arc::new(Event { event_id, merchant_id: merchant, merchant_code, topic, message, created_at }))
}

/// SHA-256 of the topic and the raw message; a topic holds no line break.
fn content_hash(event: &NewEvent) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event.topic.as_str());
    hash.update(b"\n");
    hash.update(event.message.as_str());
    hash.finalize().into()
}

/// What an idempotency key stands for.
struct Remembered {
    content_hash: [u8; 32],
    receipt: Receipt,
}

/// True if the same was accepted before under its key.
pub fn is_repeated(conn: &Connection, now: Timestamp, merchant: MerchantId, event: &NewEvent) -> Result<bool> {
    let Some(key) = &event.idempotency_key else { return Ok(false) };
    let remembered = recall(conn, now, merchant, key)?;
    Ok(remembered.is_some_and(|remembered| remembered.content_hash == content_hash(event)))
}

/// The receipt of the same event under the same key. A key is read once a
/// change, and is among the known from then on.
fn earlier_receipt(
    tx: &Tx<'_>,
    merchant: MerchantId,
    known: &mut HashMap<IdempotencyKey, Remembered>,
    key: &IdempotencyKey,
    hash: &[u8; 32],
    index: usize,
) -> Result<Option<Receipt>> {
    if !known.contains_key(key)
        && let Some(remembered) = recall(tx.conn, tx.now, merchant, key)?
    {
        known.insert(key.clone(), remembered);
    }
    match known.get(key) {
        None => Ok(None),
        Some(Remembered { content_hash, receipt }) if *content_hash == *hash => Ok(Some(receipt.clone())),
        Some(Remembered { receipt, .. }) => Err(StoreError::IdempotencyConflict { index, event_id: receipt.event_id }),
    }
}

fn recall(conn: &Connection, now: Timestamp, merchant: MerchantId, key: &IdempotencyKey) -> Result<Option<Remembered>> {
    let found = conn
        .prepare_cached(
            "SELECT content_hash, event_id, receipt FROM idempotency
                WHERE merchant_id = ?1 AND key = ?2 AND expires_at > ?3",
        )?
        .query_row(params![merchant.0, key.as_str(), now.0], |row| {
            Ok((row.get::<_, [u8; 32]>(0)?, EventId(row.get(1)?), row.get::<_, String>(2)?))
        })
        .optional()?;
    found
        .map(|(content_hash, event_id, receipt)| {
            let receipt = Receipt { event_id, deliveries: read_pairs(&receipt)? };
            Ok(Remembered { content_hash, receipt })
        })
        .transpose()
}

fn remember(
    tx: &Tx<'_>,
    merchant: MerchantId,
    key: &IdempotencyKey,
    hash: &[u8; 32],
    receipt: &Receipt,
    ttl: std::time::Duration,
) -> Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (merchant_id, key, content_hash, event_id, receipt, expires_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            merchant.0,
            key.as_str(),
            hash,
            receipt.event_id.0,
            write_pairs(&receipt.deliveries),
            tx.now.after(ttl).0,
        ])?;
    Ok(())
}

/// `1:42 7:3` for number 42 of webhook 1 and number 3 of webhook 7.
fn write_pairs(pairs: &[(WebhookId, IncrementId)]) -> String {
    pairs.iter().map(|(id, number)| format!("{id}:{number}")).collect::<Vec<_>>().join(" ")
}

fn read_pairs(text: &str) -> Result<Vec<(WebhookId, IncrementId)>> {
    let read = |pair: &str| {
        let (id, number) = pair.split_once(':')?;
        Some((WebhookId(id.parse().ok()?), IncrementId(number.parse().ok()?)))
    };
    let pairs = text.split_whitespace().map(read).collect::<Option<_>>();
    pairs.ok_or_else(|| StoreError::failed("damaged store: bad receipt"))
}
