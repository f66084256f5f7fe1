//! Deliveries, as they are read.

use async_trait::async_trait;

use super::{SqliteStore, pages, reads};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, StateCounts};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::Slice;
use crate::store::deliveries::{Contents, Deliveries, Pulled};
use crate::store::error::StoreError;
use crate::store::outbox::PageLimit;

#[async_trait]
impl Deliveries for SqliteStore {
    async fn deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
        slice: Slice<IncrementId>,
    ) -> Result<Vec<Delivery>, StoreError> {
        let outlook = self.outlook();
        self.readers
            .in_steps(merchant, slice, move |conn, part| reads::deliveries(conn, merchant, id, &filter, part, outlook))
            .await
    }

    async fn count_deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
    ) -> Result<StateCounts, StoreError> {
        self.readers
            .summed(merchant, move |conn, after| reads::count_deliveries(conn, merchant, id, &filter, after))
            .await
    }

    async fn contents(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        numbers: Vec<IncrementId>,
        bytes_max: usize,
    ) -> Result<Vec<Contents>, StoreError> {
        self.readers.read(merchant, move |conn| reads::contents(conn, merchant, id, &numbers, bytes_max)).await
    }

    async fn attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Attempt>, StoreError> {
        self.readers.read(merchant, move |conn| reads::attempts(conn, merchant, id, number, after, limit)).await
    }

    async fn pull(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Vec<Pulled>, StoreError> {
        self.readers.read(merchant, move |conn| pages::pull(conn, merchant, id, after, limit)).await
    }
}
