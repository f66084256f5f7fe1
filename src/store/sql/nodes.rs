//! Nodes, as they are asked for.

use async_trait::async_trait;

use super::store::{Backend, SqlStore};
use crate::domain::cluster::Cluster;
use crate::store::error::StoreError;
use crate::store::nodes::Nodes;
use crate::work::Account;

#[async_trait]
impl<B: Backend> Nodes for SqlStore<B> {
    async fn nodes(&self, asker: Account) -> Result<Option<Cluster>, StoreError> {
        let own = self.mailbox.tending().node();
        self.readers.by_key(asker, move |conn| conn.nodes(own)).await
    }
}
