//! What is read for those who watch.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::rows::{self, damaged};
use crate::domain::delivery::{AttemptError, Delivery, ErrorClass};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::store::error::StoreError;
use crate::store::feed::EventIds;
use crate::store::watched::{DeliveryStatus, LastAttempt, PublishedEvent, Watched};
use crate::work::Account;

/// Events that are looked at in one go.
const EVENTS_PER_LOOK: i64 = 1_000;

#[async_trait]
impl Watched for SqliteStore {
    async fn statuses(
        &self,
        merchant: MerchantId,
        keys: Vec<(WebhookId, IncrementId)>,
    ) -> Result<Vec<DeliveryStatus>, StoreError> {
        let outlook = self.outlook();
        self.readers
            .read(merchant, move |conn| {
                let sql = format!(
                    "{} WHERE d.webhook_id = ?1 AND d.increment_id = ?2 AND EXISTS (SELECT 1 FROM webhook w
                    WHERE w.webhook_id = ?1 AND w.merchant_id = ?3 AND w.deleted_at IS NULL)",
                    rows::DELIVERY
                );
                let mut statement = conn.prepare_cached(&sql)?;
                let mut found = Vec::with_capacity(keys.len());
                let mut deliveries = rows::Deliveries::new(conn, outlook);
                for (id, number) in keys {
                    let parameters = [id.0, number.0, merchant.0];
                    let delivery = statement.query_row(parameters, |row| deliveries.read(row)).optional()?;
                    let Some(delivery) = delivery else { continue };
                    let last_attempt = last_attempt(conn, &delivery)?;
                    found.push(DeliveryStatus { delivery, last_attempt });
                }
                Ok(found)
            })
            .await
    }

    async fn published(
        &self,
        merchant: MerchantId,
        ids: Vec<EventId>,
        bytes_max: usize,
    ) -> Result<(Vec<PublishedEvent>, usize), StoreError> {
        self.readers
            .read(merchant, move |conn| {
                let sql = format!("{} WHERE e.event_id = ?1 AND e.merchant_id = ?2", rows::EVENT);
                let mut statement = conn.prepare_cached(&sql)?;
                let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
                for id in &ids {
                    if bytes >= bytes_max {
                        break;
                    }
                    looked_at += 1;
                    let read = |row: &rusqlite::Row<'_>| {
                        Ok(PublishedEvent { event: rows::event(row, 0)?, published_at: rows::published_at(row)? })
                    };
                    if let Some(published) = statement.query_row([id.0, merchant.0], read).optional()? {
                        bytes += published.event.message.as_str().len();
                        found.push(published);
                    }
                }
                Ok((found, looked_at))
            })
            .await
    }

    async fn last_event(&self) -> Result<EventId, StoreError> {
        self.readers
            .read(Account::Server, |conn| {
                // Where AUTOINCREMENT notes it; empty until the first.
                let mut statement = conn.prepare_cached("SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'")?;
                Ok(EventId(statement.query_row([], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0)))
            })
            .await
    }

    async fn event_ids(&self, merchant: MerchantId, topics: Patterns, after: EventId) -> Result<EventIds, StoreError> {
        self.readers
            .read(merchant, move |conn| {
                let mut statement = conn.prepare_cached(
                    "SELECT event_id, merchant_id, topic FROM event WHERE event_id > ?1 ORDER BY event_id LIMIT ?2",
                )?;
                let mut rows = statement.query(params![after.0, EVENTS_PER_LOOK])?;
                let (mut ids, mut through, mut looked_at) = (Vec::new(), after, 0);
                while let Some(row) = rows.next()? {
                    (through, looked_at) = (EventId(row.get(0)?), looked_at + 1);
                    if row.get::<_, i64>(1)? != merchant.0 {
                        continue;
                    }
                    let topic = Topic::try_new(row.get_ref(2)?.as_str().map_err(StoreError::failed)?);
                    let topic = topic.map_err(|_| damaged("topic"))?;
                    if topic != Topic::test() && topics.list().iter().any(|pattern| pattern.matches(&topic)) {
                        ids.push(through);
                    }
                }
                Ok(EventIds { ids, through, is_last: looked_at < EVENTS_PER_LOOK })
            })
            .await
    }
}

/// The last attempt at a delivery, which of a batch is logged under its first.
fn last_attempt(conn: &Connection, delivery: &Delivery) -> rusqlite::Result<Option<LastAttempt>> {
    if delivery.attempts == 0 {
        return Ok(None);
    }
    conn.prepare_cached(
        "SELECT a.duration_us, a.status_code, a.error_class, a.error_detail, a.started_at
            FROM delivery d JOIN attempt a ON a.webhook_id = d.webhook_id
                AND a.increment_id = coalesce(d.batch_first, d.increment_id) AND a.attempt = d.attempts
            WHERE d.webhook_id = ?1 AND d.increment_id = ?2",
    )?
    .query_row([delivery.webhook_id.0, delivery.increment_id.0], |row| {
        let (class, detail): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        let class = class.map(|name| ErrorClass::from_name(&name).ok_or_else(|| damaged("error_class"))).transpose()?;
        Ok(LastAttempt {
            started_at: Timestamp(row.get(4)?),
            duration: Duration::from_micros(row.get::<_, i64>(0)?.unsigned_abs()),
            status_code: row.get(1)?,
            error: class.map(|class| AttemptError { class, detail: detail.unwrap_or_default() }),
        })
    })
    .optional()
}
