//! Changing users.

use async_trait::async_trait;

use super::SqliteStore;
use crate::domain::id::{MerchantId, UserId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::Permissions;
use crate::store::StoreError;
use crate::store::ledger::accounts::{AlterUser, UserAlteration};
use crate::store::users::Users;

#[async_trait]
impl Users for SqliteStore {
    async fn set_permissions(
        &self,
        merchant: MerchantId,
        user: UserId,
        permissions: Permissions,
    ) -> Result<(), StoreError> {
        let what = UserAlteration::Permissions(permissions);
        self.change(merchant, AlterUser { merchant, user, what }).await
    }

    async fn rotate_key(
        &self,
        merchant: MerchantId,
        user: UserId,
        key: KeyHash,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(merchant, AlterUser { merchant, user, what: UserAlteration::Key(key, until) }).await
    }
}
