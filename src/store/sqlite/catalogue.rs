//! Catalogues of topics, as they are read.

use async_trait::async_trait;

use super::{SqliteStore, reads};
use crate::domain::catalogue::{CatalogueEntry, TopicFilter, TopicRule};
use crate::domain::id::{MerchantId, TopicId};
use crate::domain::message_schema::SchemaText;
use crate::domain::page::Slice;
use crate::domain::topic::Topic;
use crate::store::catalogue::Catalogue;
use crate::store::error::StoreError;

#[async_trait]
impl Catalogue for SqliteStore {
    async fn topics(
        &self,
        merchant: MerchantId,
        filter: TopicFilter,
        slice: Slice<Topic>,
    ) -> Result<Vec<CatalogueEntry>, StoreError> {
        self.readers.read(merchant, move |conn| reads::topics(conn, merchant, &filter, &slice)).await
    }

    async fn count_topics(&self, merchant: MerchantId, filter: TopicFilter) -> Result<u64, StoreError> {
        self.readers.read(merchant, move |conn| reads::count_topics(conn, merchant, &filter)).await
    }

    async fn topic_rules(
        &self,
        merchant: MerchantId,
        topics: Vec<Topic>,
    ) -> Result<Vec<Option<TopicRule>>, StoreError> {
        self.readers.by_key(merchant, move |conn| reads::topic_rules(conn, merchant, &topics)).await
    }

    async fn topic_schema(&self, merchant: MerchantId, id: TopicId) -> Result<Option<SchemaText>, StoreError> {
        self.readers.read(merchant, move |conn| reads::topic_schema(conn, id)).await
    }
}
