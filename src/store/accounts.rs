//! Who logs in: users, their sessions and profiles.

use async_trait::async_trait;

use super::base::{Base, change};
use super::ledger::accounts::{AlterUser, CreateUser, EndSession, OpenSession, RenewSession};
pub use super::ledger::accounts::{NewSession, NewUserRow, UserAlteration};
use super::ledger::queue::Cost;
use super::ledger::queued::queued;
use crate::domain::by::By;
use crate::domain::id::{MerchantId, UserId};
use crate::domain::page::Slice;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::{Profile, User};
use crate::store::error::StoreError;
use crate::work::Account;

/// By what a user is known.
#[derive(Clone, Copy, Debug)]
pub enum UserBy<'a> {
    /// Its name.
    Name(&'a str),
    /// The API key that it has, or had.
    Key(KeyHash),
}

/// A session, and whose it is.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
    /// When it ends however much it is used, if that is known.
    pub ends_at: Option<Timestamp>,
}

/// What logins need of a store. Nobody knows yet who asks, so a look-up waits in
/// the line of whoever does.
#[async_trait]
pub trait Accounts: Base {
    /// The user, revoked or not.
    async fn user(&self, by: UserBy<'_>, asker: Account) -> Result<Option<User>, StoreError>;

    /// The profiles of the merchant's users that have one, by user.
    async fn profiles(&self, merchant: MerchantId) -> Result<Vec<(UserId, Profile)>, StoreError>;

    /// The session with that key, expired or not.
    async fn session(&self, key: KeyHash, asker: Account) -> Result<Option<Session>, StoreError>;

    /// Opens a session. If the user has `quota` already, those end that would
    /// have ended first.
    async fn open_session(&self, by: By, session: NewSession, quota: u32) -> Result<(), StoreError> {
        change(self, by.merchant, OpenSession { by, session, quota }).await
    }

    /// Moves a session's end, up to when it ends anyway, soon and without waiting;
    /// a failure is dropped, for the next use of the session will ask again.
    fn renew_session(&self, merchant: MerchantId, key: KeyHash, expires_at: Timestamp) {
        let change = queued(RenewSession { key, expires_at }, |renewed| {
            if let Err(cause) = renewed
                && !cause.is_logged()
            {
                tracing::warn!(%cause, "a session could not be renewed");
            }
        });
        // A full queue has better things to do; the session's next use asks again.
        let _ = self.queue().push(merchant.into(), Cost::SMALL, change);
    }

    /// Ends a session, if there is one; in its merchant's line, or the asker's if
    /// there is none.
    async fn end_session(&self, key: KeyHash, asker: Account) -> Result<(), StoreError> {
        let session = self.session(key, asker).await?;
        let account = session.map_or(asker, |session| session.user.merchant_id.into());
        change(self, account, EndSession(key)).await
    }

    /// Users of the merchant of that code, or of all, revoked ones too, in the order of their ids.
    async fn users(
        &self,
        merchant: Option<String>,
        slice: Slice<UserId>,
        asker: Account,
    ) -> Result<Vec<User>, StoreError>;

    /// Makes a user. Fails with [`StoreError::NameTaken`] or [`StoreError::UserQuota`].
    async fn create_user(&self, by: By, user: NewUserRow, quota: u32) -> Result<(), StoreError> {
        change(self, user.merchant, CreateUser { by: Some(by), user, quota: Some(quota) }).await
    }

    /// Changes a merchant's user, from its next call on; `is_operator` of whoever does it. Fails
    /// with [`StoreError::NoUser`] of one that the merchant does not have, or that was revoked,
    /// and with [`StoreError::IsOperator`] or [`StoreError::DemoKey`].
    async fn alter_user(
        &self,
        (by, is_operator): (By, bool),
        (merchant, user): (MerchantId, UserId),
        what: UserAlteration,
    ) -> Result<(), StoreError> {
        let alter = AlterUser { merchant, by: Some(by), by_operator: is_operator, user, what };
        change(self, merchant, alter).await.map(drop)
    }
}
