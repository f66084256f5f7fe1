//! Accepting events, and numbering them.

use std::collections::HashMap;

use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};

use super::book::Book;
use super::change::{BUSY_RETRY_AFTER, Change, Result, Step, View};
use super::decision::{Decision, KeyRow, Learned, Other};
use super::fanout::{Fanout, Spread};
use super::numbering::Numbering;
use super::queue::Cost;
use super::spreading::{self, Numbered, Rest, SHARE};
use super::wants::{Loaded, Remembered, Wants};
use crate::domain::by::By;
use crate::domain::event::{IdempotencyKey, NewEvent, Receipt};
use crate::domain::id::{EventId, MerchantId};
use crate::store::error::StoreError;

/// What a publish costs, about: how far its events spread is found out when
/// they are numbered.
pub fn cost(events: &[NewEvent]) -> Cost {
    /// Itself, and a few deliveries.
    const ROWS_PER_EVENT: usize = 4;
    let bytes = events.iter().map(|event| event.message.as_str().len()).sum();
    Cost::of(events.len().saturating_mul(ROWS_PER_EVENT), bytes)
}

/// An event to be accepted, and what its idempotency key stands for.
struct Hashed {
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

/// Accepts events, all or none, and numbers them, at once or, if they go far, in
/// steps.
pub struct Publish {
    /// On whose behalf.
    pub by: By,
    /// How many events the merchant may publish in a day.
    quota: Option<u32>,
    events: Vec<Hashed>,
    /// Once it is accepted, and numbered in part.
    begun: Option<Begun>,
}

/// A publish that is accepted, and numbered in part.
struct Begun {
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

impl Publish {
    /// Of these events.
    pub fn new(by: By, events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self { by, quota: None, events: events.into_iter().map(Hashed::from).collect(), begun: None }
    }

    /// The same for a merchant who may publish so many events in a day.
    pub fn within(self, quota: Option<u32>) -> Self {
        Self { quota, ..self }
    }

    /// Accepts what is new, and numbers it or the first of it. What an event
    /// made earlier counts like what it would make, for it is answered too.
    fn begin(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Vec<Receipt>>> {
        view.check_room()?;
        let merchant = self.by.merchant;
        let (mut receipts, mut known, mut keys) = (Receipts::default(), HashMap::new(), Vec::new());
        let (mut spreads, mut numbering, mut made) = (Vec::with_capacity(self.events.len()), Numbering::default(), 0);
        for (index, Hashed { event, content_hash }) in std::mem::take(&mut self.events).into_iter().enumerate() {
            let key = event.idempotency_key.clone().zip(content_hash);
            let earlier = match &key {
                Some((key, hash)) => earlier(view, merchant, &mut known, key, hash, index)?,
                None => None,
            };
            let webhooks = if earlier.is_none() {
                view.book.matching(merchant, &event.topic, event.labels.as_deref())
            } else {
                Vec::new()
            };
            made += earlier.map_or(webhooks.len(), |known| known.made);
            let max = view.book.terms.deliveries_max;
            if made > max {
                return Err(StoreError::TooManyDeliveries { max });
            }
            let receipt = match earlier.map(|known| &known.answer) {
                Some(KeyAnswer::Earlier(receipt)) => receipt.clone(),
                Some(KeyAnswer::Here(event_id, place)) => {
                    receipts.alike.push((index, *place));
                    Receipt { event_id: *event_id, deliveries: Vec::new() }
                }
                None => {
                    let event = numbering.accept(view, out, merchant, event)?;
                    let (event_id, count) = (event.event_id, webhooks.len());
                    receipts.places.insert(event_id, index);
                    if let Some((key, content_hash)) = &key {
                        let answer = KeyAnswer::Here(event_id, index);
                        known.insert(key.clone(), Known { content_hash: *content_hash, made: count, answer });
                        keys.push((key.clone(), *content_hash, index));
                    }
                    spreads.push(Spread::new(event, key.map(|(key, _)| key), webhooks));
                    Receipt { event_id, deliveries: Vec::with_capacity(count) }
                }
            };
            receipts.receipts.push(receipt);
        }
        let new = receipts.places.len();
        if let Some(quota) = self.quota.filter(|_| new > 0) {
            let (day, is_stored) = view.book.event_days.get(merchant).with(new, quota, view.now)?;
            out.learned.push(Learned::EventDay(merchant, day));
            out.rows.others.extend(is_stored.then_some(Other::EventDay(merchant, day.stored)));
        }
        let (share, rest) = spreading::begin(Fanout::new(merchant, spreads), view, out, &mut numbering)?;
        receipts.fill(share);
        let expires_at = view.now.after(view.book.terms.key_ttl);
        out.rows.others.extend(keys.into_iter().map(|(key, content_hash, place)| {
            let Receipt { event_id, deliveries } = receipts.receipts[place].clone();
            Other::Key(KeyRow { merchant, key, content_hash, event_id, deliveries, expires_at })
        }));
        numbering.announce(view, out);
        Ok(self.step(receipts, rest))
    }

    fn step(&mut self, receipts: Receipts, rest: Option<Rest>) -> Step<Vec<Receipt>> {
        match rest {
            None => Step::Done(receipts.whole()),
            Some(rest) => {
                self.begun = Some(Begun { receipts, rest });
                Step::More(Cost::of(SHARE, 0))
            }
        }
    }
}

impl Change for Publish {
    type Answer = Vec<Receipt>;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        if let Some(Begun { rest, .. }) = &self.begun {
            rest.wants(book, wants);
            return;
        }
        book.want_code(self.by.merchant, wants);
        book.want_room(wants);
        wants.ids.event = self.events.len() as i64;
        if book.terms.is_shared {
            // What it goes to is found again when it is decided, by what is known then.
            let of = |hashed: &Hashed| {
                let event = &hashed.event;
                book.matching(self.by.merchant, &event.topic, event.labels.as_deref())
            };
            let matching: Vec<_> = self.events.iter().flat_map(of).collect();
            wants.ids.fanout = i64::from(matching.len() > SHARE);
            wants.counters.extend(matching.into_iter().collect::<FxHashSet<_>>());
        }
        let keys = self.events.iter().filter_map(|hashed| hashed.event.idempotency_key.clone());
        wants.keys.extend(keys.map(|key| (self.by.merchant, key)));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Self::Answer>> {
        let Some(Begun { mut receipts, rest }) = self.begun.take() else { return self.begin(view, out) };
        let (share, are_left) = rest.go_on(view, out)?;
        receipts.fill(share);
        Ok(self.step(receipts, are_left.then_some(rest)))
    }
}

/// SHA-256 of the topic, the labels, if there are any, and the raw message; none of the first two
/// holds a line break.
fn content_hash(event: &NewEvent) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event.topic.as_str());
    for label in event.labels.iter().flat_map(|labels| labels.list()) {
        hash.update(format!(" {label}"));
    }
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

/// True if what was remembered under an event's key is the same.
pub fn is_repeated(event: &NewEvent, remembered: &Remembered) -> bool {
    remembered.content_hash == content_hash(event)
}

/// What the same event under the same key came to. Fails with
/// [`StoreError::Busy`] while the earlier one is still being numbered.
fn earlier<'a>(
    view: &View<'_>,
    merchant: MerchantId,
    known: &'a mut HashMap<IdempotencyKey, Known>,
    key: &IdempotencyKey,
    hash: &[u8; 32],
    index: usize,
) -> Result<Option<&'a Known>> {
    let Loaded { keys, .. } = view.loaded;
    if !known.contains_key(key)
        && let Some(Remembered { is_under_way, content_hash, receipt }) = keys.get(&(merchant, key.clone()))
    {
        if *is_under_way || view.book.fanouts.is_under_way(merchant, receipt.event_id) {
            return Err(StoreError::Busy { retry_after: BUSY_RETRY_AFTER });
        }
        let (made, answer) = (receipt.deliveries.len(), KeyAnswer::Earlier(receipt.clone()));
        known.insert(key.clone(), Known { content_hash: *content_hash, made, answer });
    }
    let Some(known) = known.get(key) else { return Ok(None) };
    if known.content_hash == *hash {
        return Ok(Some(known));
    }
    let (KeyAnswer::Earlier(Receipt { event_id, .. }) | KeyAnswer::Here(event_id, _)) = &known.answer;
    Err(StoreError::IdempotencyConflict { index, event_id: *event_id })
}
