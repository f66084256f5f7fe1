//! A look at how all webhooks stand.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row};

use super::reads::Step;
use super::{SqliteStore, rows};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DisabledReason, Version};
use crate::store::error::StoreError;
use crate::store::glance::{DueKey, Glance, Glimpse};
use crate::work::Account;

/// Webhooks that one step looks at.
const WEBHOOKS_PER_STEP: i64 = 1_000;

#[async_trait]
impl Glance for SqliteStore {
    async fn glance(&self) -> Result<Vec<Glimpse>, StoreError> {
        let all = Slice { after: None, order: Order::Ascending, limit: u32::MAX };
        self.lane_readers.in_steps(Account::Server, all, |conn, part| glimpses(conn, part.after)).await
    }
}

fn glimpses(conn: &Connection, after: Option<WebhookId>) -> Result<Step<Vec<Glimpse>, WebhookId>, StoreError> {
    let sql = "SELECT webhook_id, merchant_id, last_increment_id, updated_at, is_active, is_paused, disabled_reason,
            is_recovering
        FROM webhook WHERE webhook_id > ?1 AND deleted_at IS NULL ORDER BY webhook_id LIMIT ?2";
    let mut webhooks = conn.prepare_cached(sql)?;
    let after = after.map_or(0, |after| after.0);
    let found = webhooks.query_map([after, WEBHOOKS_PER_STEP], glimpse)?.collect::<Result<Vec<_>, _>>()?;
    // A seek in an index for each; to group them would read all that is due.
    let sql = "SELECT next_attempt_at, increment_id FROM delivery
        WHERE webhook_id = ?1 AND next_attempt_at IS NOT NULL AND (batch_first IS NULL OR batch_first = increment_id)
        ORDER BY next_attempt_at, increment_id LIMIT 1";
    let mut first_due = conn.prepare_cached(sql)?;
    let with_due = |glimpse: Glimpse| {
        let due = first_due.query_row([glimpse.webhook_id.0], due).optional()?;
        Ok::<_, rusqlite::Error>(Glimpse { first_due: due, ..glimpse })
    };
    let found = found.into_iter().map(with_due).collect::<Result<Vec<_>, _>>()?;
    let next = found.last().map(|last| last.webhook_id).filter(|_| found.len() as i64 == WEBHOOKS_PER_STEP);
    Ok(Step { found, next })
}

fn glimpse(row: &Row<'_>) -> rusqlite::Result<Glimpse> {
    Ok(Glimpse {
        webhook_id: WebhookId(row.get(0)?),
        merchant_id: MerchantId(row.get(1)?),
        last_increment_id: IncrementId(row.get(2)?),
        version: Version {
            updated_at: Timestamp(row.get(3)?),
            is_active: row.get(4)?,
            is_paused: row.get(5)?,
            disabled: rows::named(row, 6, DisabledReason::from_name)?,
            is_recovering: row.get(7)?,
        },
        first_due: None,
    })
}

fn due(row: &Row<'_>) -> rusqlite::Result<DueKey> {
    Ok(DueKey { due_at: Timestamp(row.get(0)?), increment_id: IncrementId(row.get(1)?) })
}
