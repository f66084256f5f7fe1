//! Merchants: for operators, who make and change them, and for those who belong to one.

use async_trait::async_trait;

use super::base::{Base, change};
use super::ledger::merchants::{AlterMerchant, CreateMerchant};
pub use super::ledger::merchants::{FirstUser, MerchantAlteration};
use crate::domain::by::By;
use crate::domain::id::MerchantId;
use crate::domain::merchant::{EventDay, Merchant, MerchantTerms, Quotas};
use crate::domain::page::Slice;
use crate::store::error::StoreError;
use crate::work::Account;

/// What a merchant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Webhooks that are not deleted.
    pub webhooks: u32,
    /// Users, revoked ones too.
    pub users: u32,
    /// How many events were published in a day, if they were ever counted.
    pub event_day: Option<EventDay>,
}

/// What operators need of a store to have merchants.
#[async_trait]
pub trait Merchants: Base {
    /// Merchants in the order of their ids.
    async fn merchants(&self, slice: Slice<MerchantId>, asker: Account) -> Result<Vec<Merchant>, StoreError>;

    /// The merchant of that code.
    async fn merchant(&self, code: &str, asker: Account) -> Result<Option<Merchant>, StoreError>;

    /// What a merchant has.
    async fn holdings(&self, merchant: MerchantId, asker: Account) -> Result<Holdings, StoreError>;

    /// Makes a merchant, and its first user with it. Fails with [`StoreError::CodeTaken`] or
    /// [`StoreError::NameTaken`].
    async fn create_merchant(
        &self,
        by: By,
        code: String,
        quotas: Quotas,
        user: Option<FirstUser>,
    ) -> Result<MerchantId, StoreError> {
        change(self, by.merchant, CreateMerchant { by: Some(by), code, quotas, user }).await
    }

    /// Changes what operators say of a merchant, and returns that. Fails with
    /// [`StoreError::NoMerchant`] or [`StoreError::Violation`].
    async fn alter_merchant(
        &self,
        by: By,
        merchant: MerchantId,
        what: MerchantAlteration,
    ) -> Result<MerchantTerms, StoreError> {
        change(self, merchant, AlterMerchant { merchant, by: Some(by), what }).await
    }
}
