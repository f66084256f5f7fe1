//! Accepting events, and numbering them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::Result;
use super::fanout::{Fanout, Numbered, Rest, SHARE, Spread};
use crate::domain::event::{Event, IdempotencyKey, NewEvent, Receipt};
use crate::domain::expansion::Expansion;
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::webhook::Rendering;
use crate::store::sqlite::BUSY_RETRY_AFTER;
use crate::store::sqlite::config::Limits;
use crate::store::sqlite::queue::Cost;
use crate::store::sqlite::rows::format_code;
use crate::store::sqlite::tx::{Announcement, Tx};
use crate::store::sqlite::writer::{Change, Changed};
use crate::store::{Parcel, StoreError};

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

/// What a publish has come to.
pub enum Published {
    /// All is numbered.
    Whole(Vec<Receipt>),
    /// There are numbers still to be given out.
    Begun(Begun),
}

/// A publish that is accepted, and numbered in part.
pub struct Begun {
    receipts: Receipts,
    rest: Rest,
}

/// Receipts that fill while their events are numbered.
#[derive(Default)]
struct Receipts {
    receipts: Vec<Receipt>,
    /// Where the receipt of an event is.
    places: HashMap<EventId, usize>,
    /// Receipts that are to be as another: theirs, and the other's place.
    alike: Vec<(usize, usize)>,
}

impl Receipts {
    fn fill(&mut self, share: Vec<Numbered>) {
        for Numbered { event_id, deliveries, .. } in share {
            if let Some(place) = self.places.get(&event_id) {
                self.receipts[*place].deliveries.extend(deliveries);
            }
        }
    }

    fn whole(mut self) -> Vec<Receipt> {
        for (place, other) in self.alike {
            self.receipts[place] = self.receipts[other].clone();
        }
        self.receipts
    }
}

impl Begun {
    /// Gives out the next numbers.
    pub fn go_on(mut self, tx: &mut Tx<'_>) -> Result<Published> {
        let (share, are_left) = self.rest.go_on(tx)?;
        self.receipts.fill(share);
        Ok(if are_left { Published::Begun(self) } else { Published::Whole(self.receipts.whole()) })
    }
}

/// Tells whoever published.
pub type Reply = Box<dyn FnOnce(Result<Vec<Receipt>>) + Send>;

/// A publish as a change that goes on until all is numbered. Its result goes to
/// `reply` once the commit's fate is known.
pub fn change(merchant: MerchantId, events: Vec<Hashed>, limits: Limits, reply: Reply) -> Change {
    Box::new(move |tx| changed(tx.and_then(|tx| tx.in_savepoint(|tx| publish(tx, merchant, events, limits))), reply))
}

fn changed(published: Result<Published>, reply: Reply) -> Changed {
    match published {
        Ok(Published::Begun(begun)) => {
            let go_on =
                |tx: Result<&mut Tx<'_>>| changed(tx.and_then(|tx| tx.in_savepoint(|tx| begun.go_on(tx))), reply);
            Changed::Goes(Cost::of(SHARE, 0), Box::new(go_on))
        }
        Ok(Published::Whole(receipts)) => Changed::Whole(Box::new(|committed| reply(committed.map(|()| receipts)))),
        Err(cause) => Changed::Whole(Box::new(|_| reply(Err(cause)))),
    }
}

/// Accepts events, all or none, and numbers them, or the first of them if they
/// go far. What an event made earlier counts like what it would make, for it is
/// answered too.
pub fn publish(tx: &mut Tx<'_>, merchant: MerchantId, events: Vec<Hashed>, limits: Limits) -> Result<Published> {
    limits.room.check(tx.conn, merchant)?;
    let (mut receipts, mut known, mut keys) = (Receipts::default(), HashMap::new(), Vec::new());
    let (mut spreads, mut numbering, mut made) = (Vec::with_capacity(events.len()), Numbering::of(tx)?, 0);
    for (index, Hashed { event, content_hash }) in events.into_iter().enumerate() {
        let key = event.idempotency_key.clone().zip(content_hash);
        let earlier = match &key {
            Some((key, hash)) => earlier(tx, merchant, &mut known, key, hash, index)?,
            None => None,
        };
        let webhooks = if earlier.is_none() { tx.memory.matching(merchant, &event.topic) } else { Vec::new() };
        made += earlier.map_or(webhooks.len(), |known| known.made);
        if made > limits.deliveries_max {
            return Err(StoreError::TooManyDeliveries { max: limits.deliveries_max });
        }
        let receipt = match earlier.map(|known| &known.answer) {
            Some(KeyAnswer::Earlier(receipt)) => receipt.clone(),
            Some(KeyAnswer::Here(event_id, place)) => {
                receipts.alike.push((index, *place));
                Receipt { event_id: *event_id, deliveries: Vec::new() }
            }
            None => {
                let event = insert_event(tx, merchant, event)?;
                let (event_id, count) = (event.event_id, webhooks.len());
                receipts.places.insert(event_id, index);
                if let Some((key, content_hash)) = &key {
                    let answer = KeyAnswer::Here(event_id, index);
                    known.insert(key.clone(), Known { content_hash: *content_hash, made: count, answer });
                    keys.push((key.clone(), *content_hash, index));
                }
                numbering.accept(&event);
                spreads.push(Spread::new(event, key.map(|(key, _)| key), webhooks));
                Receipt { event_id, deliveries: Vec::with_capacity(count) }
            }
        };
        receipts.receipts.push(receipt);
    }
    let (share, rest) = Fanout::new(merchant, spreads).begin(tx, &mut numbering)?;
    receipts.fill(share);
    for (key, content_hash, place) in keys {
        remember(tx, merchant, &key, &content_hash, &receipts.receipts[place], limits.key_ttl)?;
    }
    numbering.settle(tx);
    Ok(match rest {
        None => Published::Whole(receipts.whole()),
        Some(rest) => Published::Begun(Begun { receipts, rest }),
    })
}

/// Numbers that are given out in a change, which memory and the worker learn
/// of at its end.
pub struct Numbering<'c> {
    insert: CachedStatement<'c>,
    taken: HashMap<WebhookId, IncrementId>,
    made: usize,
    parcels: Vec<(WebhookId, Parcel)>,
    /// Whose numbers are read from the store, all of them.
    read: HashSet<WebhookId>,
    events: Vec<Arc<Event>>,
    /// What is to be numbered in later changes.
    left: Vec<(i64, Fanout)>,
}

impl<'c> Numbering<'c> {
    /// Of nothing yet.
    pub fn of(tx: &Tx<'c>) -> Result<Self> {
        let insert = tx.conn.prepare_cached(
            "INSERT INTO delivery (webhook_id, increment_id, event_id, format, expansion, created_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        Ok(Self {
            insert,
            taken: HashMap::new(),
            made: 0,
            parcels: Vec::new(),
            read: HashSet::new(),
            events: Vec::new(),
            left: Vec::new(),
        })
    }

    /// Has those who watch told of a new event.
    pub fn accept(&mut self, event: &Arc<Event>) {
        self.events.push(Arc::clone(event));
    }

    /// Leaves the rest of a fan-out to later changes.
    pub fn leave(&mut self, fanout_id: i64, fanout: Fanout) {
        self.left.push((fanout_id, fanout));
    }

    /// Gives an event the next number of one webhook, and hands it over to be
    /// sent. `None` if the webhook is gone.
    pub fn deliver(&mut self, tx: &Tx<'_>, id: WebhookId, event: &Arc<Event>) -> Result<Option<IncrementId>> {
        let Some(entry) = tx.memory.entry(id).filter(|entry| !entry.is_deleted) else { return Ok(None) };
        let rendering = entry.webhook.spec.rendering(&event.topic);
        let number = self.take(tx, id, event.event_id, rendering)?;
        let parcel = Parcel {
            increment_id: number,
            attempts: 0,
            policy_start: 0,
            resends_asked: 0,
            numbered_at: tx.now,
            due_at: None,
            format: rendering.format,
            event: Arc::clone(event),
            // To cut a message takes too long for the thread that all changes wait for.
            expansion: rendering.expansion.cloned().map(Arc::new),
            batch: None,
        };
        self.parcels.push((id, parcel));
        Ok(Some(number))
    }

    /// How many numbers were given out.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Gives an event the next number of one webhook, which will read it from
    /// the store. `None` if the webhook is gone.
    pub fn number(&mut self, tx: &Tx<'_>, id: WebhookId, event: EventId, topic: &Topic) -> Result<Option<IncrementId>> {
        let Some(entry) = tx.memory.entry(id).filter(|entry| !entry.is_deleted) else { return Ok(None) };
        self.read.insert(id);
        self.take(tx, id, event, entry.webhook.spec.rendering(topic)).map(Some)
    }

    fn take(&mut self, tx: &Tx<'_>, id: WebhookId, event: EventId, rendering: Rendering<'_>) -> Result<IncrementId> {
        let last = || tx.memory.entry(id).map(|entry| entry.counters.last);
        let number = self.taken.get(&id).copied().or_else(last).ok_or(StoreError::NoWebhook)?.next();
        self.insert.execute(params![
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
            tx.memory.extent.numbers += last.0 - before.0;
            // A parcel says so itself.
            if self.read.contains(&id) {
                tx.news.push(Announcement::Through(id, last));
                tx.news.push(Announcement::Changed(id, Span { first: before.next(), last }));
            }
        }
        for (fanout_id, fanout) in self.left {
            tx.memory.fanouts.put(fanout_id, fanout);
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

/// What an idempotency key of a publish stands for.
struct Known {
    content_hash: [u8; 32],
    /// Deliveries that its event made.
    made: usize,
    answer: KeyAnswer,
}

enum KeyAnswer {
    /// What was answered before.
    Earlier(Receipt),
    /// An event of the same publish, and the place of its receipt.
    Here(EventId, usize),
}

/// True if the same was accepted before under its key.
pub fn is_repeated(conn: &Connection, now: Timestamp, merchant: MerchantId, event: &NewEvent) -> Result<bool> {
    let Some(key) = &event.idempotency_key else { return Ok(false) };
    let remembered = recall(conn, now, merchant, key)?;
    Ok(remembered.is_some_and(|(hash, _)| hash == content_hash(event)))
}

/// What the same event under the same key came to. A key is read once a
/// change, and is among the known from then on. Fails with
/// [`StoreError::Busy`] while the earlier one is still being numbered.
fn earlier<'a>(
    tx: &Tx<'_>,
    merchant: MerchantId,
    known: &'a mut HashMap<IdempotencyKey, Known>,
    key: &IdempotencyKey,
    hash: &[u8; 32],
    index: usize,
) -> Result<Option<&'a Known>> {
    if !known.contains_key(key)
        && let Some((content_hash, receipt)) = recall(tx.conn, tx.now, merchant, key)?
    {
        if tx.memory.fanouts.is_under_way(merchant, receipt.event_id) {
            return Err(StoreError::Busy { retry_after: BUSY_RETRY_AFTER });
        }
        let (made, answer) = (receipt.deliveries.len(), KeyAnswer::Earlier(receipt));
        known.insert(key.clone(), Known { content_hash, made, answer });
    }
    let Some(known) = known.get(key) else { return Ok(None) };
    if known.content_hash == *hash {
        return Ok(Some(known));
    }
    let (KeyAnswer::Earlier(Receipt { event_id, .. }) | KeyAnswer::Here(event_id, _)) = &known.answer;
    Err(StoreError::IdempotencyConflict { index, event_id: *event_id })
}

fn recall(
    conn: &Connection,
    now: Timestamp,
    merchant: MerchantId,
    key: &IdempotencyKey,
) -> Result<Option<([u8; 32], Receipt)>> {
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
            Ok((content_hash, Receipt { event_id, deliveries: read_pairs(&receipt)? }))
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
pub fn write_pairs(pairs: &[(WebhookId, IncrementId)]) -> String {
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
