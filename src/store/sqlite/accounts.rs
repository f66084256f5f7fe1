//! Users and sessions, as they are read.

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::{SqliteStore, reads, rows};
use crate::domain::id::{MerchantId, UserId};
use crate::domain::secret::KeyHash;
use crate::domain::user::{Profile, User};
use crate::store::accounts::{Accounts, Session, UserBy};
use crate::store::error::StoreError;
use crate::work::Account;

#[async_trait]
impl Accounts for SqliteStore {
    async fn user(&self, by: UserBy<'_>, asker: Account) -> Result<Option<User>, StoreError> {
        match by {
            UserBy::Name(name) => {
                let name = name.to_owned();
                self.readers
                    .by_key(asker, move |conn| {
                        let sql = format!("{} WHERE user.name = ?1", rows::USER);
                        Ok(conn.prepare_cached(&sql)?.query_row([name], rows::user).optional()?)
                    })
                    .await
            }
            UserBy::Key(key) => {
                self.readers
                    .by_key(asker, move |conn| {
                        let sql = format!("{} WHERE user.key_hash = ?1 OR user.old_key_hash = ?1", rows::USER);
                        Ok(conn.prepare_cached(&sql)?.query_row([key.0], rows::user).optional()?)
                    })
                    .await
            }
        }
    }

    async fn profiles(&self, merchant: MerchantId) -> Result<Vec<(UserId, Profile)>, StoreError> {
        self.readers.read(merchant, move |conn| reads::profiles(conn, merchant)).await
    }

    async fn session(&self, key: KeyHash, asker: Account) -> Result<Option<Session>, StoreError> {
        self.readers
            .by_key(asker, move |conn| {
                let Some((id, expires_at, ends_at)) = reads::session(conn, key)? else { return Ok(None) };
                let sql = format!("{} WHERE user.user_id = ?1", rows::USER);
                let user = conn.prepare_cached(&sql)?.query_row([id.0], rows::user).optional()?;
                Ok(user.map(|user| Session { user, expires_at, ends_at }))
            })
            .await
    }
}
