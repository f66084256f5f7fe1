//! Rows of users, as they are written.

use super::db::{Db, values};
use crate::domain::id::UserId;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::Profile;
use crate::store::error::StoreError;
use crate::store::ledger::decision::Other;
use crate::store::ledger::new_user::NewUserRow;

type Result<T> = std::result::Result<T, StoreError>;

/// Writes what becomes of a user; nothing of what is anything else.
pub fn write(db: &mut dyn Db, other: &Other, now: Timestamp) -> Result<()> {
    match other {
        Other::NewUser(user) => new_user(db, user, now),
        Other::Permissions(user, permissions) => {
            let sql = "UPDATE \"user\" SET permissions = $2 WHERE user_id = $1";
            db.run(sql, values![user.0, i64::from(permissions.bits())]).map(drop)
        }
        Other::Profile(user, profile) => self::profile(db, *user, profile),
        Other::UserKey { user, key, until } => user_key(db, *user, *key, *until),
        Other::UserDisabled(user, disabled_at) => {
            let sql = "UPDATE \"user\" SET disabled_at = $2 WHERE user_id = $1";
            db.run(sql, values![user.0, *disabled_at]).map(drop)
        }
        Other::UserRevoked(user) => {
            db.run("UPDATE \"user\" SET revoked_at = $2 WHERE user_id = $1", values![user.0, now])?;
            // There is an index for the merchant's.
            let sql = "DELETE FROM token WHERE user_id = $1
                    AND merchant_id = (SELECT merchant_id FROM \"user\" WHERE user_id = $1)";
            db.run(sql, values![user.0])?;
            db.run("DELETE FROM session WHERE user_id = $1", values![user.0]).map(drop)
        }
        _ => Ok(()),
    }
}

fn new_user(db: &mut dyn Db, user: &NewUserRow, now: Timestamp) -> Result<()> {
    let NewUserRow { merchant, name, key, permissions, is_demo, profile } = user;
    let sql = "INSERT INTO \"user\" (merchant_id, name, key_hash, permissions, is_demo, created_at, application_name,
            application_description, application_logo_url, developer_name, developer_website)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let values = values![
        merchant.0,
        name,
        &key.0,
        i64::from(permissions.bits()),
        *is_demo,
        now,
        profile.application_name.as_deref(),
        profile.application_description.as_deref(),
        profile.application_logo_url.as_deref(),
        profile.developer_name.as_deref(),
        profile.developer_website.as_deref(),
    ];
    db.run(sql, values).map(drop)
}

fn profile(db: &mut dyn Db, user: UserId, profile: &Profile) -> Result<()> {
    let sql = "UPDATE \"user\" SET application_name = $2, application_description = $3, application_logo_url = $4,
            developer_name = $5, developer_website = $6 WHERE user_id = $1";
    let values = values![
        user.0,
        profile.application_name.as_deref(),
        profile.application_description.as_deref(),
        profile.application_logo_url.as_deref(),
        profile.developer_name.as_deref(),
        profile.developer_website.as_deref(),
    ];
    db.run(sql, values).map(drop)
}

/// A user has another key; the one it had counts until then, and so do its
/// sessions.
fn user_key(db: &mut dyn Db, user: UserId, key: KeyHash, until: Timestamp) -> Result<()> {
    let sql = "UPDATE \"user\" SET old_key_hash = key_hash, old_key_until = $3, key_hash = $2 WHERE user_id = $1";
    db.run(sql, values![user.0, &key.0, until])?;
    let sql = "UPDATE session SET expires_at = CASE WHEN expires_at < $2 THEN expires_at ELSE $2 END,
            ends_at = CASE WHEN ends_at < $2 THEN ends_at ELSE $2 END WHERE user_id = $1";
    db.run(sql, values![user.0, until]).map(drop)
}
