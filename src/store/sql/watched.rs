//! What is read for those who watch.

use async_trait::async_trait;

use super::codes::topic_at;
use super::conn::Conn;
use super::db::{Db, Row, Value, all, values};
use super::keys::{Asked, bounded, each};
use super::rows::{self, EVENT};
use super::sending::{DELIVERY_COLUMNS, DELIVERY_FROM, Outlook, delivery, delivery_columns};
use super::store::{Backend, SqlStore};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::topic::{Patterns, Topic};
use crate::store::committed::EventIds;
use crate::store::error::StoreError;
use crate::store::watched::{DeliveryStatus, LastAttempt, PublishedEvent, Watched};
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// Events that are looked at in one go.
const EVENTS_PER_LOOK: u32 = 1_000;

#[async_trait]
impl<B: Backend> Watched for SqlStore<B> {
    async fn hear(&self, merchant: MerchantId) -> Result<()> {
        match &self.following {
            Some(following) => following.hear(merchant).await,
            None => Ok(()),
        }
    }

    async fn statuses(&self, merchant: MerchantId, keys: Vec<(WebhookId, IncrementId)>) -> Result<Vec<DeliveryStatus>> {
        let outlook = self.outlook();
        self.readers.read(merchant, move |conn| statuses(conn, merchant, &keys, outlook)).await
    }

    async fn published(
        &self,
        merchant: MerchantId,
        ids: Vec<EventId>,
        bytes_max: usize,
    ) -> Result<(Vec<PublishedEvent>, usize)> {
        self.readers
            .read(merchant, move |conn| {
                let found = published(conn, merchant, &ids, bytes_max)?;
                let looked_at = found.len();
                Ok((found.into_iter().flatten().collect(), looked_at))
            })
            .await
    }

    async fn last_event(&self) -> Result<EventId> {
        self.readers.read(Account::Server, |conn: &mut dyn Conn| conn.last_event()).await
    }

    async fn event_ids(&self, merchant: MerchantId, topics: Patterns, after: EventId) -> Result<EventIds> {
        self.readers.read(merchant, move |conn| event_ids(conn, merchant, &topics, after)).await
    }
}

/// What has become of deliveries of the merchant.
fn statuses(
    db: &mut dyn Db,
    merchant: MerchantId,
    keys: &[(WebhookId, IncrementId)],
    outlook: Outlook,
) -> Result<Vec<DeliveryStatus>> {
    let found = each(db, keys, |db, keys| {
        let keys = keys.iter().map(|(id, number)| [Value::from(id.0), Value::from(number.0)]);
        let asked = Asked::of(db.dialect(), values![merchant.0], ["d.webhook_id", "d.increment_id"], keys);
        let sql = format!(
            "SELECT {}, a.duration_us, a.status_code, a.error_class, a.error_detail, a.started_at {DELIVERY_FROM}
                LEFT JOIN attempt a ON a.webhook_id = d.webhook_id
                    AND a.increment_id = coalesce(d.batch_first, d.increment_id) AND a.attempt = d.attempts
                WHERE w.merchant_id = $1 AND w.deleted_at IS NULL AND {}",
            delivery_columns(),
            asked.condition
        );
        all(db, &sql, &asked.values, |row| {
            let delivery = delivery(row, outlook)?;
            let last_attempt = last_attempt(row, DELIVERY_COLUMNS)?;
            Ok(((delivery.webhook_id, delivery.increment_id), DeliveryStatus { delivery, last_attempt }))
        })
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// The last attempt at a delivery, which of a batch is logged under its first.
fn last_attempt(row: &dyn Row, first: usize) -> Result<Option<LastAttempt>> {
    if row.int_if(first)?.is_none() {
        return Ok(None);
    }
    Ok(Some(LastAttempt {
        started_at: row.time(first + 4)?,
        duration: rows::duration(row, first)?,
        status_code: rows::status(row, first + 1)?,
        error: rows::error(row, first + 2)?,
    }))
}

/// The first of these events, until they weigh so many bytes, and one at least.
fn published(
    db: &mut dyn Db,
    merchant: MerchantId,
    ids: &[EventId],
    bytes_max: usize,
) -> Result<Vec<Option<PublishedEvent>>> {
    let asked = |db: &mut dyn Db, select: &str, ids: &[EventId]| {
        let keys = ids.iter().map(|id| [Value::from(id.0)]);
        let asked = Asked::of(db.dialect(), values![merchant.0], ["e.event_id"], keys);
        (format!("{select} WHERE e.merchant_id = $1 AND {}", asked.condition), asked.values)
    };
    let weigh = |db: &mut dyn Db, ids: &[EventId]| {
        let (sql, values) = asked(db, "SELECT e.event_id, octet_length(e.message) FROM event e", ids);
        all(db, &sql, &values, |row| Ok((EventId(row.int(0)?), row.amount(1)? as usize)))
    };
    let read = |db: &mut dyn Db, ids: &[EventId]| {
        let (sql, values) = asked(db, EVENT, ids);
        all(db, &sql, &values, |row| {
            let published = PublishedEvent { event: rows::event(row, 0)?, published_at: rows::published_at(row)? };
            let weight = published.event.message.as_str().len();
            Ok((published.event.event_id, (published, weight)))
        })
    };
    bounded(db, ids, bytes_max, weigh, read)
}

/// Which of the merchant's events behind one are of these topics. Ids are in the
/// order of commits only within a merchant, so no others are looked at.
fn event_ids(db: &mut dyn Db, merchant: MerchantId, topics: &Patterns, after: EventId) -> Result<EventIds> {
    let sql = format!("SELECT event_id, topic {} LIMIT $4", db.dialect().of_merchant("event", "ASC"));
    let (mut ids, mut through, mut looked_at) = (Vec::new(), after, 0);
    db.rows(&sql, values![merchant.0, after.0.saturating_add(1), i64::MAX, EVENTS_PER_LOOK], &mut |row| {
        (through, looked_at) = (EventId(row.int(0)?), looked_at + 1);
        let topic = topic_at(row, 1)?;
        if topic != Topic::test() && topics.list().iter().any(|pattern| pattern.matches(&topic)) {
            ids.push(through);
        }
        Ok(true)
    })?;
    Ok(EventIds { ids, through, is_last: looked_at < EVENTS_PER_LOOK })
}
