//! A look at how webhooks stand.

use rusqlite::Connection;

use crate::domain::id::{IncrementId, WebhookId};
use crate::store::error::StoreError;
use crate::store::glance::{DueKey, Glimpse};
use crate::store::sql::Row;
use crate::store::sql::db::{all, one, values};
use crate::store::sql::definition::glimpse;
use crate::store::sql::steps::Step;

type Result<T> = std::result::Result<T, StoreError>;

/// Webhooks that one step looks at.
const WEBHOOKS_PER_STEP: u32 = 1_000;

/// How some webhooks stand, those behind one.
pub fn glimpses(mut conn: &Connection, after: Option<WebhookId>) -> Result<Step<Vec<Glimpse>, WebhookId>> {
    let sql = "SELECT webhook_id, merchant_id, last_increment_id, updated_at, is_active, is_paused, disabled_reason,
            is_recovering
        FROM webhook WHERE webhook_id > $1 AND deleted_at IS NULL ORDER BY webhook_id LIMIT $2";
    let after = after.map_or(0, |after| after.0);
    let mut found = all(&mut conn, sql, values![after, WEBHOOKS_PER_STEP], glimpse)?;
    // A seek in an index for each; to group them would read all that is due.
    let sql = "SELECT next_attempt_at, increment_id FROM delivery
        WHERE webhook_id = $1 AND next_attempt_at IS NOT NULL AND (batch_first IS NULL OR batch_first = increment_id)
        ORDER BY next_attempt_at, increment_id LIMIT 1";
    for glimpse in &mut found {
        glimpse.first_due = one(&mut conn, sql, values![glimpse.webhook_id.0], due)?;
    }
    let next = found.last().map(|last| last.webhook_id).filter(|_| found.len() == WEBHOOKS_PER_STEP as usize);
    Ok(Step { found, next })
}

fn due(row: &dyn Row) -> Result<DueKey> {
    Ok(DueKey { due_at: row.time(0)?, increment_id: IncrementId(row.int(1)?) })
}
