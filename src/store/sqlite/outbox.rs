//! What is to be sent, as it is read, and what is recorded of it.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::{SqliteStore, pages, rows};
use crate::domain::delivery::Outcome;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::base::change_first;
use crate::store::error::StoreError;
use crate::store::ledger::outcomes::Record;
use crate::store::outbox::{Loaded, Outbox, PageLimit, Want};
use crate::work::Account;
use crate::work::apart::Apart;

#[async_trait]
impl Outbox for SqliteStore {
    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        self.lane_readers
            .read(Account::Server, |conn| {
                let sql = format!("{} WHERE deleted_at IS NULL ORDER BY webhook_id", rows::WEBHOOK);
                Ok(conn.prepare_cached(&sql)?.query_map([], rows::webhook)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn load(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        want: Want,
        now: Timestamp,
        limit: PageLimit,
    ) -> Result<Loaded, StoreError> {
        let read = move |conn: &Connection| match want {
            Want::Fresh(after) => pages::fresh(conn, id, after, limit),
            Want::Due(after) => pages::due(conn, id, after, now, limit),
            Want::Pending(after) => pages::pending(conn, id, after, limit),
            Want::One(number) => pages::one(conn, id, number, limit),
        };
        let page = self.lane_readers.read(merchant, read).await?;
        // Both look at the same `now`: what is not due in one is to come in the other.
        let next_due = match want {
            Want::Due(_) => self.lane_readers.read(merchant, move |conn| pages::next_due(conn, id, now)).await?,
            Want::Fresh(_) | Want::Pending(_) | Want::One(_) => None,
        };
        Ok(Loaded { page, next_due })
    }

    async fn record(&self, outcomes: Arc<[Outcome]>) -> Result<(), StoreError> {
        let compressed = deflated(&self.apart, &outcomes).await;
        let record = Record::new(outcomes, compressed);
        change_first(self, record.cost(), record).await
    }
}

/// The compressed bodies of attempts, where that is worth it. A large one
/// takes longer than a thread may be held up that others wait for.
async fn deflated(apart: &Apart, outcomes: &Arc<[Outcome]>) -> Vec<Option<Vec<u8>>> {
    const AT_ONCE_BYTES_MAX: usize = 16 * 1024;
    let deflate =
        |outcomes: &[Outcome]| outcomes.iter().map(|outcome| rows::deflate(&outcome.attempt.response_body)).collect();
    if outcomes.iter().map(|outcome| outcome.attempt.response_body.len()).sum::<usize>() <= AT_ONCE_BYTES_MAX {
        return deflate(outcomes);
    }
    let large = Arc::clone(outcomes);
    apart.run(Account::Server, move || deflate(&large)).await.unwrap_or_else(|_| vec![None; outcomes.len()])
}
