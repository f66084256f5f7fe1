//! Events, as they are read and found.

use async_trait::async_trait;

use super::codes::{read_pairs, topic_at};
use super::db::{Db, Row, Value, all, one, values};
use super::definition::labels;
use super::keys::{Asked, each};
use super::rows::{self, EVENT};
use super::sending::{DELIVERY_FROM, Outlook, delivery, delivery_columns};
use super::steps::{ROWS_PER_STEP, Step, times, words};
use super::store::{Backend, SqlStore};
use crate::domain::event::{EventFilter, EventStory, EventSummary, IdempotencyKey, Message, NewEvent, Receipt};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::events::{Events, Looked, OfEvent};
use crate::store::ledger::publishing;
use crate::store::ledger::wants::Remembered;

type Result<T> = std::result::Result<T, StoreError>;

/// Messages that are read at once: so many, and until they have so many bytes,
/// each delivery that is counted for one of them included.
const MESSAGES_AT_ONCE: usize = 250;
const BYTES_AT_ONCE: u64 = 256 * 1_024;
const BYTES_PER_DELIVERY: u64 = 64;

#[async_trait]
impl<B: Backend> Events for SqlStore<B> {
    async fn event(&self, merchant: MerchantId, id: EventId, deliveries_max: u32) -> Result<EventStory> {
        let outlook = self.outlook();
        self.readers.read(merchant, move |conn| event(conn, merchant, id, deliveries_max, outlook)).await
    }

    async fn is_repeated(&self, merchant: MerchantId, event: NewEvent) -> Result<bool> {
        let now = self.clock.now();
        self.readers
            .read(merchant, move |conn| {
                let Some(key) = &event.idempotency_key else { return Ok(false) };
                let remembered = remembered(conn, now, merchant, key)?;
                Ok(remembered.is_some_and(|remembered| publishing::is_repeated(&event, &remembered)))
            })
            .await
    }

    async fn events(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        slice: Slice<EventId>,
    ) -> Result<Vec<EventSummary>> {
        self.readers.in_steps(merchant, slice, move |conn, part| events(conn, merchant, &filter, part)).await
    }

    async fn count_events(&self, merchant: MerchantId, filter: EventFilter) -> Result<u64> {
        self.readers.summed(merchant, move |conn, after| count_events(conn, merchant, &filter, after)).await
    }

    async fn deliveries_of(
        &self,
        merchant: MerchantId,
        id: EventId,
        after: Option<OfEvent>,
        max: u32,
    ) -> Result<Vec<OfEvent>> {
        self.readers.read(merchant, move |conn| deliveries_of(conn, merchant, id, after, max)).await
    }

    async fn keyed_event(&self, merchant: MerchantId, key: IdempotencyKey) -> Result<Option<EventId>> {
        let now = self.clock.now();
        self.readers
            .read(merchant, move |conn| {
                let sql = "SELECT event_id FROM idempotency WHERE merchant_id = $1 AND key = $2 AND expires_at > $3";
                one(conn, sql, values![merchant.0, key.as_str(), now], |row| row.int(0).map(EventId))
            })
            .await
    }

    async fn look_into(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        order: Order,
        after: Option<EventId>,
    ) -> Result<Looked> {
        self.readers.read(merchant, move |conn| look_into(conn, Part { merchant, filter: &filter, after, order })).await
    }
}

/// What a key that still counts stands for.
pub fn remembered(
    db: &mut dyn Db,
    now: Timestamp,
    merchant: MerchantId,
    key: &IdempotencyKey,
) -> Result<Option<Remembered>> {
    let sql = "SELECT content_hash, event_id, receipt FROM idempotency
        WHERE merchant_id = $1 AND key = $2 AND expires_at > $3";
    one(db, sql, values![merchant.0, key.as_str(), now], read_remembered)
}

/// The same from the first columns of a row: its hash, its event and its receipt.
pub fn read_remembered(row: &dyn Row) -> Result<Remembered> {
    let receipt = Receipt { event_id: EventId(row.int(1)?), deliveries: read_pairs(row.text(2)?)? };
    Ok(Remembered { is_under_way: false, content_hash: row.hash(0)?, receipt })
}

/// Which events to look at.
#[derive(Clone, Copy)]
struct Part<'a> {
    merchant: MerchantId,
    filter: &'a EventFilter,
    after: Option<EventId>,
    order: Order,
}

impl Part<'_> {
    /// The first and the last id of those.
    fn ids(&self) -> (i64, i64) {
        let (first, last) = self.filter.only.map_or((i64::MIN, i64::MAX), |only| (only.0, only.0));
        match (self.after, self.order) {
            (Some(after), Order::Ascending) => (first.max(after.0.saturating_add(1)), last),
            (Some(after), Order::Descending) => (first, last.min(after.0.saturating_sub(1))),
            (None, _) => (first, last),
        }
    }
}

/// Shows the events of one step that are wanted, without their deliveries, until
/// `take` has enough, which is `limit` at the most; where to go on, unless these
/// were the last.
fn walk_events(
    db: &mut dyn Db,
    part: Part<'_>,
    limit: usize,
    mut take: impl FnMut(EventSummary) -> bool,
) -> Result<Option<EventId>> {
    let Part { merchant, filter, order, .. } = part;
    let ((first, last), (since, until)) = (part.ids(), times(filter.since, filter.until));
    let sql = format!(
        "SELECT event_id, topic, created_at, published_at, octet_length(message), labels {} LIMIT $4",
        db.dialect().of_merchant("event", words(order).0)
    );
    let is_each_wanted = filter.topics.is_none() && filter.since.is_none() && filter.until.is_none();
    let rows = ROWS_PER_STEP.min(if is_each_wanted { u32::try_from(limit).unwrap_or(u32::MAX) } else { u32::MAX });
    let (mut through, mut looked_at, mut is_full) = (None, 0, false);
    db.rows(&sql, values![merchant.0, first, last, rows], &mut |row| {
        let (event_id, published_at) = (EventId(row.int(0)?), row.time(3)?);
        (through, looked_at) = (Some(event_id), looked_at + 1);
        if !(since..until).contains(&published_at.0) {
            return Ok(true);
        }
        let topic = topic_at(row, 1)?;
        if filter.topics.as_ref().is_none_or(|topics| topics.matches(&topic)) {
            let (created_at, message_bytes) = (row.time(2)?, row.amount(4)?);
            let labels = row.text_if(5)?.map(labels).transpose()?;
            is_full = take(EventSummary {
                event_id,
                topic,
                created_at,
                published_at,
                labels,
                message_bytes,
                delivery_count: 0,
            });
        }
        Ok(!is_full)
    })?;
    Ok(through.filter(|_| is_full || looked_at == rows))
}

/// How many deliveries each of these events has.
fn delivery_counts(db: &mut dyn Db, ids: &[EventId]) -> Result<Vec<u64>> {
    let found = each(db, ids, |db, ids| {
        let asked = Asked::of(db.dialect(), &[], ["event_id"], ids.iter().map(|id| [Value::from(id.0)]));
        let sql = format!("SELECT event_id, count(*) FROM delivery WHERE {} GROUP BY event_id", asked.condition);
        all(db, &sql, &asked.values, |row| Ok((EventId(row.int(0)?), row.amount(1)?)))
    })?;
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// Counts the deliveries of events.
fn count_deliveries(db: &mut dyn Db, events: &mut [EventSummary]) -> Result<()> {
    let ids: Vec<_> = events.iter().map(|event| event.event_id).collect();
    for (event, count) in events.iter_mut().zip(delivery_counts(db, &ids)?) {
        event.delivery_count = count;
    }
    Ok(())
}

/// Events of a merchant by id, without their messages.
fn events(
    db: &mut dyn Db,
    merchant: MerchantId,
    filter: &EventFilter,
    slice: &Slice<EventId>,
) -> Result<Step<Vec<EventSummary>, EventId>> {
    let (mut found, limit) = (Vec::new(), slice.limit as usize);
    let part = Part { merchant, filter, after: slice.after, order: slice.order };
    let next = walk_events(db, part, limit, |event| {
        found.push(event);
        found.len() >= limit
    })?;
    count_deliveries(db, &mut found)?;
    Ok(Step { next: next.filter(|_| found.len() < limit), found })
}

/// How many events there are of those that a step looks at.
fn count_events(
    db: &mut dyn Db,
    merchant: MerchantId,
    filter: &EventFilter,
    after: Option<EventId>,
) -> Result<Step<u64, EventId>> {
    let (first, last) = Part { merchant, filter, after, order: Order::Ascending }.ids();
    let (since, until) = times(filter.since, filter.until);
    let (topic, group) = if filter.topics.is_some() { (", topic", "GROUP BY topic") } else { ("", "") };
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE published_at >= $5 AND published_at < $6), max(event_id){topic} FROM (
            SELECT event_id, published_at{topic} {} LIMIT $4) AS looked_at {group}",
        db.dialect().of_merchant("event", "ASC")
    );
    let (mut found, mut looked_at, mut through) = (0, 0, None);
    db.rows(&sql, values![merchant.0, first, last, ROWS_PER_STEP, since, until], &mut |row| {
        (looked_at, through) = (looked_at + row.amount(0)?, through.max(row.int_if(2)?));
        let is_wanted = match &filter.topics {
            Some(topics) => topics.matches(&topic_at(row, 3)?),
            None => true,
        };
        found += if is_wanted { row.amount(1)? } else { 0 };
        Ok(true)
    })?;
    Ok(Step { found, next: through.filter(|_| looked_at == u64::from(ROWS_PER_STEP)).map(EventId) })
}

/// The next events with their messages, as many as are read at once.
fn look_into(db: &mut dyn Db, part: Part<'_>) -> Result<Looked> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut next = walk_events(db, part, MESSAGES_AT_ONCE, |event: EventSummary| {
        bytes += event.message_bytes;
        found.push(event);
        found.len() >= MESSAGES_AT_ONCE || bytes >= BYTES_AT_ONCE
    })?;
    count_deliveries(db, &mut found)?;
    let mut bytes = 0;
    let is_within = |event: &&EventSummary| {
        let was = bytes;
        bytes += event.message_bytes + event.delivery_count * BYTES_PER_DELIVERY;
        was < BYTES_AT_ONCE
    };
    let fitting = found.iter().take_while(is_within).count();
    if fitting < found.len() {
        found.truncate(fitting);
        next = found.last().map(|event| event.event_id);
    }
    let ids: Vec<_> = found.iter().map(|event| event.event_id).collect();
    let messages = messages(db, &ids)?;
    // One that was pruned since is no more.
    let events = found.into_iter().zip(messages).filter_map(|(event, message)| Some((event, message?))).collect();
    Ok(Looked { events, next })
}

/// The messages of events whose bytes are within what may be read.
fn messages(db: &mut dyn Db, ids: &[EventId]) -> Result<Vec<Option<Message>>> {
    each(db, ids, |db, ids| {
        let asked = Asked::of(db.dialect(), &[], ["event_id"], ids.iter().map(|id| [Value::from(id.0)]));
        let sql = format!("SELECT event_id, message FROM event WHERE {}", asked.condition);
        all(db, &sql, &asked.values, |row| Ok((EventId(row.int(0)?), Message::from_store(row.text(1)?))))
    })
}

/// Some of its deliveries, whether they have forgotten it or not.
fn deliveries_of(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: EventId,
    after: Option<OfEvent>,
    max: u32,
) -> Result<Vec<OfEvent>> {
    let sql = "SELECT d.webhook_id, d.increment_id, d.batch_first FROM delivery d JOIN webhook w USING (webhook_id)
            WHERE d.event_id IN ($1, $2) AND w.merchant_id = $3 AND (d.webhook_id, d.increment_id) > ($4, $5)
            ORDER BY d.webhook_id, d.increment_id LIMIT $6";
    let after = after.map_or((0, 0), |after| (after.webhook_id.0, after.number.0));
    all(db, sql, values![id.0, -id.0, merchant.0, after.0, after.1, max], |row| {
        let number = row.int(1)?;
        let logged_under = IncrementId(row.int_if(2)?.unwrap_or(number));
        Ok(OfEvent { webhook_id: WebhookId(row.int(0)?), number: IncrementId(number), logged_under })
    })
}

/// One of the merchant's events, and what became of it.
fn event(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: EventId,
    deliveries_max: u32,
    outlook: Outlook,
) -> Result<EventStory> {
    let sql = format!("{EVENT} WHERE e.event_id = $1 AND e.merchant_id = $2");
    let found = one(db, &sql, values![id.0, merchant.0], |row| Ok((rows::event(row, 0)?, rows::published_at(row)?)))?;
    let (event, published_at) = found.ok_or(StoreError::NoEvent)?;
    // What goes out needs none.
    let own = one(db, "SELECT labels FROM event WHERE event_id = $1", values![id.0], |row| row.string_if(0))?;
    let labels = own.flatten().map(|text| labels(&text)).transpose()?;
    let delivery_count = delivery_counts(db, &[id])?.into_iter().sum();
    let sql = format!(
        "SELECT {} {DELIVERY_FROM} WHERE d.event_id = $1 ORDER BY d.webhook_id, d.increment_id LIMIT $2",
        delivery_columns()
    );
    let deliveries = all(db, &sql, values![id.0, deliveries_max], |row| delivery(row, outlook))?;
    Ok(EventStory { event, published_at, labels, delivery_count, deliveries })
}
