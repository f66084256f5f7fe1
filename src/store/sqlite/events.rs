//! Events, as they are read and found.

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::reads::{self, ROWS_PER_STEP, walk_events};
use super::{SqliteStore, load, rows};
use crate::domain::event::{EventFilter, EventStory, EventSummary, IdempotencyKey, Message, NewEvent};
use crate::domain::id::{EventId, MerchantId};
use crate::domain::page::{Order, Slice};
use crate::store::error::StoreError;
use crate::store::events::{Events, Looked};
use crate::store::ledger::publishing;

/// Messages that are read at once: so many, and until they have so many bytes,
/// each delivery that is counted for one of them included.
const MESSAGES_AT_ONCE: usize = 250;
const BYTES_AT_ONCE: usize = 256 * 1_024;
const BYTES_PER_DELIVERY: u64 = 64;

#[async_trait]
impl Events for SqliteStore {
    async fn event(&self, merchant: MerchantId, id: EventId, deliveries_max: u32) -> Result<EventStory, StoreError> {
        let outlook = self.outlook();
        self.readers.read(merchant, move |conn| reads::event(conn, merchant, id, deliveries_max, outlook)).await
    }

    async fn is_repeated(&self, merchant: MerchantId, event: NewEvent) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.readers
            .read(merchant, move |conn| {
                let Some(key) = &event.idempotency_key else { return Ok(false) };
                let remembered = load::remembered(conn, now, merchant, key)?;
                Ok(remembered.is_some_and(|remembered| publishing::is_repeated(&event, &remembered)))
            })
            .await
    }

    async fn events(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        slice: Slice<EventId>,
    ) -> Result<Vec<EventSummary>, StoreError> {
        self.readers.in_steps(merchant, slice, move |conn, part| reads::events(conn, merchant, &filter, part)).await
    }

    async fn count_events(&self, merchant: MerchantId, filter: EventFilter) -> Result<u64, StoreError> {
        self.readers.summed(merchant, move |conn, after| reads::count_events(conn, merchant, &filter, after)).await
    }

    async fn keyed_event(&self, merchant: MerchantId, key: IdempotencyKey) -> Result<Option<EventId>, StoreError> {
        let now = self.clock.now();
        self.readers
            .read(merchant, move |conn| {
                let sql = "SELECT event_id FROM idempotency WHERE merchant_id = ?1 AND key = ?2 AND expires_at > ?3";
                let parameters = (merchant.0, key.as_str(), now.0);
                Ok(conn.prepare_cached(sql)?.query_row(parameters, |row| row.get(0).map(EventId)).optional()?)
            })
            .await
    }

    async fn look_into(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        order: Order,
        after: Option<EventId>,
    ) -> Result<Looked, StoreError> {
        self.readers
            .read(merchant, move |conn| {
                let mut messages = conn.prepare_cached("SELECT message FROM event WHERE event_id = ?1")?;
                let (mut events, mut bytes, mut last, mut looked_at) = (Vec::new(), 0, None, 0);
                let is_full = walk_events(conn, merchant, &filter, after, order, |row, is_wanted| {
                    let id: i64 = row.get(0)?;
                    (last, looked_at) = (Some(EventId(id)), looked_at + 1);
                    if is_wanted {
                        let message = messages.query_row([id], |row| row.get(0).map(Message::from_store))?;
                        let summary = rows::event_summary(conn, row)?;
                        let counted =
                            usize::try_from(summary.delivery_count * BYTES_PER_DELIVERY).unwrap_or(usize::MAX);
                        bytes += message.as_str().len() + counted;
                        events.push((summary, message));
                    }
                    Ok(events.len() >= MESSAGES_AT_ONCE || bytes >= BYTES_AT_ONCE)
                })?;
                Ok(Looked { events, next: last.filter(|_| is_full || looked_at == ROWS_PER_STEP) })
            })
            .await
    }
}
