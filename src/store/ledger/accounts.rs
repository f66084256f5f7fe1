//! Sessions and users.

use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Other};
pub use super::session::NewSession;
use super::wants::Wants;
use crate::domain::id::UserId;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::{By, Permissions};
use crate::store::error::StoreError;

/// Sessions beyond the most that go when another is opened.
const ENDED_MAX: u32 = 100;

/// Opens a session, and ends those of the user that are too many: the ones that
/// would have ended first, for they were not used for longest.
pub struct OpenSession {
    /// On whose behalf: it is the user's own.
    pub by: By,
    /// What is opened.
    pub session: NewSession,
    /// How many the user may have.
    pub quota: u32,
}

impl Change for OpenSession {
    type Answer = ();

    fn decide(&mut self, _: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let (session, keep) = (self.session, self.quota.saturating_sub(1));
        out.rows.others.push(Other::Session { session, keep, max: ENDED_MAX });
        Ok(Step::Done(()))
    }
}

/// Moves a session's end; it never comes nearer, nor behind the last there is.
pub struct RenewSession {
    /// Which.
    pub key: KeyHash,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Change for RenewSession {
    type Answer = ();

    fn decide(&mut self, _: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        out.rows.others.push(Other::SessionRenewed(self.key, self.expires_at));
        Ok(Step::Done(()))
    }
}

/// Ends a session.
pub struct EndSession(pub KeyHash);

impl Change for EndSession {
    type Answer = ();

    fn decide(&mut self, _: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        out.rows.others.push(Other::SessionEnded(self.0));
        Ok(Step::Done(()))
    }
}

/// What is done to a user. Fails with [`StoreError::NoUser`] if the merchant has
/// no such user, or it was revoked.
pub struct AlterUser {
    /// On whose behalf.
    pub by: By,
    /// Who is changed.
    pub user: UserId,
    /// What is done.
    pub what: UserAlteration,
}

/// What is done to a user.
#[derive(Clone, Copy)]
pub enum UserAlteration {
    /// It may do something else.
    Permissions(Permissions),
    /// It gets another key; the one it had counts until then, and so do its
    /// sessions.
    Key(KeyHash, Timestamp),
}

impl Change for AlterUser {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.user = Some((self.by.merchant, self.user));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        if !view.loaded.is_user {
            return Err(StoreError::NoUser);
        }
        let user = self.user;
        out.rows.others.push(match self.what {
            UserAlteration::Permissions(permissions) => Other::Permissions(user, permissions),
            UserAlteration::Key(key, until) => Other::UserKey { user, key, until },
        });
        Ok(Step::Done(()))
    }
}
