//! Which servers share the store.

use async_trait::async_trait;

use super::base::Base;
use super::error::StoreError;
use crate::domain::cluster::Cluster;
use crate::work::Account;

/// What operators ask of a store that several servers may share.
#[async_trait]
pub trait Nodes: Base {
    /// The nodes that share the store, this one too; `None`: it is one server's alone.
    async fn nodes(&self, asker: Account) -> Result<Option<Cluster>, StoreError>;
}
