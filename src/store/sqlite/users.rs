//! Changing users, for the server and for the command line.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteStore;
use crate::domain::id::{MerchantId, UserId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::Permissions;
use crate::store::StoreError;
use crate::store::users::Users;

#[async_trait]
impl Users for SqliteStore {
    async fn set_permissions(
        &self,
        merchant: MerchantId,
        user: UserId,
        permissions: Permissions,
    ) -> Result<(), StoreError> {
        self.write(merchant, move |tx| found(set_permissions(tx.conn, merchant, user, permissions)?)).await
    }

    async fn rotate_key(
        &self,
        merchant: MerchantId,
        user: UserId,
        key: KeyHash,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(merchant, move |tx| found(rotate_key(tx.conn, merchant, user, key, until)?)).await
    }
}

fn found(is_changed: bool) -> Result<(), StoreError> {
    if is_changed { Ok(()) } else { Err(StoreError::NoUser) }
}

/// False if the merchant has no such user, or it was revoked.
pub fn set_permissions(
    conn: &Connection,
    merchant: MerchantId,
    user: UserId,
    permissions: Permissions,
) -> rusqlite::Result<bool> {
    let changed = conn.execute(
        "UPDATE user SET permissions = ?3 WHERE user_id = ?2 AND merchant_id = ?1 AND revoked_at IS NULL",
        params![merchant.0, user.0, permissions.bits()],
    )?;
    Ok(changed > 0)
}

/// Replaces its key, and has its sessions end with that; false likewise.
pub fn rotate_key(
    conn: &Connection,
    merchant: MerchantId,
    user: UserId,
    key: KeyHash,
    until: Timestamp,
) -> rusqlite::Result<bool> {
    let changed = conn.execute(
        "UPDATE user SET old_key_hash = key_hash, old_key_until = ?4, key_hash = ?3
            WHERE user_id = ?2 AND merchant_id = ?1 AND revoked_at IS NULL",
        params![merchant.0, user.0, key.0, until.0],
    )?;
    if changed > 0 {
        conn.execute(
            "UPDATE session SET expires_at = min(expires_at, ?2), ends_at = min(coalesce(ends_at, ?2), ?2)
                WHERE user_id = ?1",
            params![user.0, until.0],
        )?;
    }
    Ok(changed > 0)
}
