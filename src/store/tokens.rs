//! Keys with fewer rights than whoever made them.

use async_trait::async_trait;

use super::base::{Base, change};
use super::ledger::tokens::{CreateToken, RevokeToken};
use crate::domain::by::By;
use crate::domain::id::{MerchantId, TokenId, UserId};
use crate::domain::page::Slice;
use crate::domain::secret::KeyHash;
use crate::domain::token::{NewToken, Token};
use crate::domain::user::User;
use crate::store::error::StoreError;
use crate::work::Account;

/// What tokens need of a store. One that was revoked is not there any more; one that has ended may
/// be yet.
#[async_trait]
pub trait Tokens: Base {
    /// The token of that key, and the user for whom it acts.
    async fn token(&self, key: KeyHash, asker: Account) -> Result<Option<(Token, User)>, StoreError>;

    /// Tokens of the merchant, or of one of its users, in the order of their ids.
    async fn tokens(
        &self,
        merchant: MerchantId,
        user: Option<UserId>,
        slice: Slice<TokenId>,
    ) -> Result<Vec<Token>, StoreError>;

    /// Makes a token. Fails with [`StoreError::TokenQuota`].
    async fn create_token(&self, by: By, token: NewToken, quota: u32) -> Result<(), StoreError> {
        change(self, by.merchant, CreateToken { by, token, quota }).await
    }

    /// Takes a token back, one of whoever asks or, if `of_all`, of the merchant. Fails with
    /// [`StoreError::NoToken`].
    async fn revoke_token(&self, by: By, of_all: bool, token_id: TokenId) -> Result<(), StoreError> {
        change(self, by.merchant, RevokeToken { by, of_all, token_id }).await
    }
}
