//! Sessions and users.

use serde_json::Value;

use super::auditing::{self, Audited, Told};
use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Other};
pub use super::new_user::NewUserRow;
pub use super::session::NewSession;
pub use super::wants::UserFound;
use super::wants::Wants;
use crate::domain::audit::Action;
use crate::domain::by::By;
use crate::domain::id::{MerchantId, UserId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::{Permission, Permissions, Profile};
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

/// Makes a user. Fails with [`StoreError::NameTaken`] if another is called so, or was: names
/// stand in logs, and must not come to mean somebody else; or with [`StoreError::UserQuota`].
pub struct CreateUser {
    /// On whose behalf; `None`: the operator's own, at the command line.
    pub by: Option<By>,
    /// What is made.
    pub user: NewUserRow,
    /// How many users the merchant may have; `None`: nobody counts them.
    pub quota: Option<u32>,
}

impl Change for CreateUser {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.user_name = Some((self.user.merchant, self.user.name.clone()));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        if view.loaded.is_name_given {
            return Err(StoreError::NameTaken);
        }
        if let Some(max) = self.quota.filter(|max| view.loaded.users >= *max) {
            return Err(StoreError::UserQuota { max });
        }
        let user = &self.user;
        let told = auditing::new_user(user, view.book.terms.fingerprint_key);
        let (whose, subject) = ((user.merchant, self.by.clone()), auditing::user(&user.name));
        out.audit(Audited::new(whose, Action::UserCreate, subject, &Told::NOTHING, &told));
        out.rows.others.push(Other::NewUser(Box::new(user.clone())));
        Ok(Step::Done(()))
    }
}

/// Changes a user. Fails with [`StoreError::NoUser`] if the merchant has no such user, or it was
/// revoked, with [`StoreError::IsOperator`] if it is an operator and whoever changes it is none,
/// and with [`StoreError::DemoKey`] if the key of the demo user is to be replaced, which everybody
/// knows.
pub struct AlterUser {
    /// Whose user it is.
    pub merchant: MerchantId,
    /// On whose behalf; `None`: the operator's own, at the command line.
    pub by: Option<By>,
    /// Whether that is an operator, who may change operators.
    pub by_operator: bool,
    /// Who is changed.
    pub user: UserId,
    /// What is done.
    pub what: UserAlteration,
}

/// What is done to a user.
#[derive(Clone, Debug)]
pub enum UserAlteration {
    /// It may do something else.
    Permissions(Permissions),
    /// It gets another key; the one it had counts until then, and so do its
    /// sessions.
    Key(KeyHash, Timestamp),
    /// This is told of its application; what is left out stays.
    Profile(Profile),
    /// It is let in, or refused; its key and its sessions stay.
    Enabled(bool),
    /// Its key becomes worthless, for ever, and its sessions end.
    Revoked,
}

impl Change for AlterUser {
    /// The user as it is then.
    type Answer = UserFound;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.user = Some((self.merchant, self.user));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<UserFound>> {
        let old = view.loaded.user.as_deref().ok_or(StoreError::NoUser)?;
        // Whoever gets the key of an operator is one.
        if old.permissions.allow(Permission::Operator) && !self.by_operator {
            return Err(StoreError::IsOperator);
        }
        let new = self.what.apply(view, old)?;
        let (user, action) = (self.user, self.what.action());
        let (whose, subject) = ((self.merchant, self.by.clone()), auditing::user(&old.name));
        let [before, after] = match &self.what {
            UserAlteration::Permissions(_) => [old, &new].map(|user| auditing::permissions(user.permissions)),
            UserAlteration::Profile(_) => [old, &new].map(|user| auditing::profile(&user.profile)),
            UserAlteration::Enabled(_) => [old, &new].map(|user| auditing::time("disabled_at", user.disabled_at)),
            UserAlteration::Revoked => [None, Some(view.now)].map(|at| auditing::time("revoked_at", at)),
            UserAlteration::Key(_, until) => {
                let key = view.book.terms.fingerprint_key;
                let [before, after] = [old, &new].map(|user| Told::of_secret("api_key", key.print(user.key.0)));
                [before.with("old_key_until", Value::Null), after.with("old_key_until", until.rfc3339_ms())]
            }
        };
        let Some(audited) = Audited::changed(whose, action, subject, before, after) else {
            return Ok(Step::Done(new));
        };
        out.audit(audited);
        out.rows.others.push(match &self.what {
            UserAlteration::Permissions(permissions) => Other::Permissions(user, *permissions),
            UserAlteration::Key(key, until) => Other::UserKey { user, key: *key, until: *until },
            UserAlteration::Profile(_) => Other::Profile(user, Box::new(new.profile.clone())),
            UserAlteration::Enabled(_) => Other::UserDisabled(user, new.disabled_at),
            UserAlteration::Revoked => Other::UserRevoked(user),
        });
        Ok(Step::Done(new))
    }
}

impl UserAlteration {
    /// What is done, for the audit log.
    fn action(&self) -> Action {
        match self {
            Self::Permissions(_) => Action::UserUpdate,
            Self::Key(..) => Action::UserRotateKey,
            Self::Profile(_) => Action::UserProfile,
            Self::Enabled(true) => Action::UserEnable,
            Self::Enabled(false) => Action::UserDisable,
            Self::Revoked => Action::UserRevoke,
        }
    }

    /// What the user is then.
    fn apply(&self, view: &View<'_>, old: &UserFound) -> Result<UserFound> {
        let old = old.clone();
        Ok(match self {
            Self::Permissions(permissions) => UserFound { permissions: *permissions, ..old },
            Self::Key(..) if old.is_demo => return Err(StoreError::DemoKey),
            Self::Key(key, _) => UserFound { key: *key, ..old },
            Self::Profile(said) => {
                let profile = old.profile.changed(said.clone()).map_err(StoreError::Violation)?;
                UserFound { profile, ..old }
            }
            Self::Enabled(true) => UserFound { disabled_at: None, ..old },
            Self::Enabled(false) => UserFound { disabled_at: Some(old.disabled_at.unwrap_or(view.now)), ..old },
            Self::Revoked => old,
        })
    }
}
