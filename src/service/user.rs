//! What is known of users, and how they are changed.

use std::time::Duration;

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::UserId;
use crate::domain::secret::{KeyHash, generate_api_key};
use crate::domain::time::Timestamp;
use crate::domain::user::{Permission, Permissions, Profile, User};
use crate::store::{UserAlteration, UserBy};

const CHANGE: Failures = Failures { refused: FaultCode::UserNotChanged, failed: FaultCode::UserNotChanged };

/// A user with a new key.
pub struct Rotated {
    /// The user.
    pub user: User,
    /// Its key, which is shown only now.
    pub api_key: String,
    /// How long the key before counts.
    pub until: Timestamp,
}

impl Service {
    /// The profiles of the merchant's users that have one.
    pub async fn profiles(&self, caller: &Caller) -> Result<Vec<(UserId, Profile)>, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.store.profiles(caller.merchant_id).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Changes what a user of the merchant may do. Fails with fault 121 or 122.
    pub async fn set_permissions(&self, caller: &Caller, name: &str, permissions: &str) -> Result<User, Fault> {
        caller.check(Permission::Admin)?;
        let permissions = Permissions::try_new(permissions).map_err(wrong)?;
        let user = self.colleague(caller, name).await?;
        let changed = self.store.alter_user(caller.by(), user.user_id, UserAlteration::Permissions(permissions)).await;
        changed.map_err(|cause| CHANGE.fault(cause))?;
        Ok(User { permissions, ..user })
    }

    /// Gives a user of the merchant a new key; the old one counts for so many
    /// seconds yet. Fails with fault 121 or 122.
    pub async fn rotate_key(&self, caller: &Caller, name: &str, overlap_s: Option<i64>) -> Result<Rotated, Fault> {
        caller.check(Permission::Admin)?;
        let overlap: Duration = self.check_overlap(overlap_s).map_err(wrong)?;
        let user = self.colleague(caller, name).await?;
        if user.is_demo {
            let detail = "Everybody knows the key of the demo user, and it can't be replaced; make another user.";
            return Err(Fault::new(FaultCode::UserNotChanged).detail(detail));
        }
        let (api_key, until) = (generate_api_key(), self.clock.now().after(overlap));
        let what = UserAlteration::Key(KeyHash::of(&api_key), until);
        let rotated = self.store.alter_user(caller.by(), user.user_id, what).await;
        rotated.map_err(|cause| CHANGE.fault(cause))?;
        Ok(Rotated { user, api_key, until })
    }

    /// A user of the same merchant, who was not revoked. Fails with fault 121,
    /// of another's user too.
    async fn colleague(&self, caller: &Caller, name: &str) -> Result<User, Fault> {
        let found = self.store.user(UserBy::Name(name), caller.merchant_id.into()).await;
        let found = found.map_err(|cause| CHANGE.fault(cause))?;
        let own = found.filter(|user| user.merchant_id == caller.merchant_id && user.revoked_at.is_none());
        own.ok_or_else(|| Fault::new(FaultCode::NoUser).detail("There is no such user, or it was revoked."))
    }
}

fn wrong(violation: Violation) -> Fault {
    violation.into_fault(FaultCode::UserNotChanged)
}
