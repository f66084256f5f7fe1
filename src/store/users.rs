//! Users, as their merchant's administrators change them.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::id::{MerchantId, UserId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::Permissions;

/// What is needed of a store to change users. Each fails with
/// [`StoreError::NoUser`] of one that the merchant does not have, or that was
/// revoked.
#[async_trait]
pub trait Users: Send + Sync + 'static {
    /// Changes what a user may do, from its next call on.
    async fn set_permissions(
        &self,
        merchant: MerchantId,
        user: UserId,
        permissions: Permissions,
    ) -> Result<(), StoreError>;

    /// Replaces a user's key. The one it had counts until `until`, and so do its
    /// sessions; one before that is worthless.
    async fn rotate_key(
        &self,
        merchant: MerchantId,
        user: UserId,
        key: KeyHash,
        until: Timestamp,
    ) -> Result<(), StoreError>;
}
