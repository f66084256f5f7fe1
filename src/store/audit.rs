//! The audit log: who has changed what.

use async_trait::async_trait;

use super::base::Base;
use crate::domain::audit::{AuditEntry, AuditFilter};
use crate::domain::id::{AuditId, MerchantId};
use crate::domain::page::Slice;
use crate::store::error::StoreError;

/// What a store tells of who has changed what. An entry is written in the transaction of its change.
#[async_trait]
pub trait AuditLog: Base {
    /// Entries of the merchant that the filter admits, in the order of their ids.
    async fn audited(
        &self,
        merchant: MerchantId,
        filter: AuditFilter,
        slice: Slice<AuditId>,
    ) -> Result<Vec<AuditEntry>, StoreError>;

    /// How many there are.
    async fn count_audited(&self, merchant: MerchantId, filter: AuditFilter) -> Result<u64, StoreError>;
}
