//! Catalogues of topics.

use async_trait::async_trait;

use super::base::{Base, change};
use super::ledger::topics::{Register, Remove, Update};
use crate::domain::by::By;
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicFilter, TopicRule, TopicSpec};
use crate::domain::id::{MerchantId, TopicId};
use crate::domain::message_schema::SchemaText;
use crate::domain::page::Slice;
use crate::domain::topic::Topic;
use crate::store::error::StoreError;

/// What a store does with the catalogues of topics.
#[async_trait]
pub trait Catalogue: Base {
    /// Topics of the merchant's catalogue, by name.
    async fn topics(
        &self,
        merchant: MerchantId,
        filter: TopicFilter,
        slice: Slice<Topic>,
    ) -> Result<Vec<CatalogueEntry>, StoreError>;

    /// How many there are.
    async fn count_topics(&self, merchant: MerchantId, filter: TopicFilter) -> Result<u64, StoreError>;

    /// What the catalogue demands of events of each of these topics; `None`
    /// where it has no such topic.
    async fn topic_rules(&self, merchant: MerchantId, topics: Vec<Topic>)
    -> Result<Vec<Option<TopicRule>>, StoreError>;

    /// The schema of a catalogue's entry as it is now, if it has one.
    async fn topic_schema(&self, merchant: MerchantId, id: TopicId) -> Result<Option<SchemaText>, StoreError>;

    /// Puts a topic into the catalogue. Fails with [`StoreError::TopicExists`],
    /// [`StoreError::TopicQuota`] if it has `quota` topics already, or
    /// [`StoreError::Violation`] if another topic has its number.
    async fn register_topic(&self, by: By, spec: TopicSpec, quota: u32) -> Result<CatalogueEntry, StoreError> {
        change(self, by.merchant, Register { merchant: by.merchant, by: Some(by), spec, quota }).await
    }

    /// Changes what is said of a topic, and returns it as it is then. Fails
    /// with [`StoreError::NoTopic`] or [`StoreError::Violation`].
    async fn update_topic(&self, by: By, topic: Topic, changes: TopicChanges) -> Result<CatalogueEntry, StoreError> {
        change(self, by.merchant, Update { merchant: by.merchant, by: Some(by), topic, changes }).await
    }

    /// Takes a topic out of the catalogue; fails with [`StoreError::NoTopic`].
    async fn remove_topic(&self, by: By, topic: Topic) -> Result<(), StoreError> {
        change(self, by.merchant, Remove { by, topic }).await
    }
}
