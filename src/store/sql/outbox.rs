//! What is to be sent, as it is read, and what is recorded of it.

use std::sync::Arc;

use async_trait::async_trait;

use super::bodies;
use super::conn::Conn;
use super::db::{Db, all, values};
use super::definition::{webhook, webhook_sql};
use super::merchants;
use super::steps::Step;
use super::store::{Backend, SqlStore};
use crate::domain::delivery::Outcome;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::base::change_first;
use crate::store::error::StoreError;
use crate::store::glance::{Glance, Glimpse};
use crate::store::ledger::outcomes::Record;
use crate::store::outbox::{Loaded, Outbox, PageLimit, Want};
use crate::store::vault::Vault;
use crate::work::Account;
use crate::work::apart::Apart;

/// Webhooks that one step reads.
const WEBHOOKS_PER_STEP: u32 = 1_000;

#[async_trait]
impl<B: Backend> Glance for SqlStore<B> {
    async fn glance(&self) -> Result<Vec<Glimpse>, StoreError> {
        let leases = self.mailbox.tending().leases();
        let buckets = leases.map(|held| held.into_iter().map(|(bucket, _)| bucket).collect::<Vec<_>>());
        let look = move |conn: &mut dyn Conn, part: &Slice<WebhookId>| conn.glimpses(part.after, buckets.as_deref());
        self.lane_readers.in_steps(Account::Server, ALL, look).await
    }

    async fn paused_merchants(&self) -> Result<Vec<MerchantId>, StoreError> {
        let all = Slice { after: None, order: Order::Ascending, limit: u32::MAX };
        let look = |conn: &mut dyn Conn, part: &Slice<MerchantId>| merchants::paused(conn, part.after);
        self.lane_readers.in_steps(Account::Server, all, look).await
    }
}

/// All webhooks by their ids.
const ALL: Slice<WebhookId> = Slice { after: None, order: Order::Ascending, limit: u32::MAX };

#[async_trait]
impl<B: Backend> Outbox for SqlStore<B> {
    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        let vault = Arc::clone(&self.vault);
        let read = move |conn: &mut dyn Conn, part: &Slice<WebhookId>| webhooks(conn, &vault, part.after);
        let mut all: Vec<Webhook> = self.lane_readers.in_steps(Account::Server, ALL, read).await?;
        all.retain(|webhook| self.mailbox.tending().has(webhook.merchant_id));
        Ok(all)
    }

    async fn load(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        want: Want,
        now: Timestamp,
        limit: PageLimit,
    ) -> Result<Loaded, StoreError> {
        let page = self.lane_readers.read(merchant, move |conn| conn.page(id, want, now, limit)).await?;
        // Both look at the same `now`: what is not due in one is to come in the other.
        let next_due = match want {
            Want::Due(_) => self.lane_readers.read(merchant, move |conn| conn.next_due(id, now)).await?,
            Want::Fresh(_) | Want::Pending(_) | Want::One(_) => None,
        };
        Ok(Loaded { page, next_due })
    }

    async fn record(&self, outcomes: Arc<[Outcome]>) -> Result<Vec<MerchantId>, StoreError> {
        let compressed = deflated(&self.apart, &outcomes).await;
        let record = Record::new(outcomes, compressed);
        change_first(self, record.cost(), record).await
    }
}

/// Every webhook that there is, those of one step.
fn webhooks(
    db: &mut dyn Db,
    vault: &Vault,
    after: Option<WebhookId>,
) -> Result<Step<Vec<Webhook>, WebhookId>, StoreError> {
    let sql = format!(
        "{} WHERE w.deleted_at IS NULL AND w.webhook_id > $1 ORDER BY w.webhook_id LIMIT $2",
        webhook_sql(db.dialect())
    );
    let found = all(db, &sql, values![after.map_or(0, |after| after.0), WEBHOOKS_PER_STEP], webhook(vault))?;
    let next = found.last().map(|last| last.webhook_id).filter(|_| found.len() == WEBHOOKS_PER_STEP as usize);
    Ok(Step { found, next })
}

/// The compressed bodies of attempts, where that is worth it. A large one
/// takes longer than a thread may be held up that others wait for.
async fn deflated(apart: &Apart, outcomes: &Arc<[Outcome]>) -> Vec<Option<Vec<u8>>> {
    const AT_ONCE_BYTES_MAX: usize = 16 * 1024;
    let deflate =
        |outcomes: &[Outcome]| outcomes.iter().map(|outcome| bodies::deflate(&outcome.attempt.response_body)).collect();
    if outcomes.iter().map(|outcome| outcome.attempt.response_body.len()).sum::<usize>() <= AT_ONCE_BYTES_MAX {
        return deflate(outcomes);
    }
    let large = Arc::clone(outcomes);
    apart.run(Account::Server, move || deflate(&large)).await.unwrap_or_else(|_| vec![None; outcomes.len()])
}
