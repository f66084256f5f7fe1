//! What is known of users, and how they are changed.

use std::time::Duration;

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::UserId;
use crate::domain::page::{Slice, read_sort};
use crate::domain::secret::{KeyHash, generate_api_key};
use crate::domain::time::Timestamp;
use crate::domain::user::{Permission, Permissions, Profile, User, check_name};
use crate::store::{NewUserRow, UserAlteration, UserBy};

const CHANGE: Failures = Failures { refused: FaultCode::UserNotChanged, failed: FaultCode::UserNotChanged };

/// What users may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["user_id"];
/// How many a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

/// Which part of a list of users, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct UserPage {
    /// Only those behind this one.
    pub after_user_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// A user to be made, as a caller says it.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// What it logs in as.
    pub name: String,
    /// The merchant it acts for, by its code; by default the caller's.
    pub merchant: Option<String>,
    /// What it may do.
    pub permissions: Vec<String>,
}

/// A user that was made.
pub struct Made {
    /// The user.
    pub user: User,
    /// Its key, which is shown only now.
    pub api_key: String,
}

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
        // Who else makes webhooks is none of its business.
        if caller.confinement().is_some() {
            return Ok(Vec::new());
        }
        self.store.profiles(caller.everywhere()?).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Users in the order of their ids, revoked ones too: those of the caller's merchant, or for an
    /// operator those of all, or of one. Fails with fault 111.
    pub async fn list_users(
        &self,
        caller: &Caller,
        merchant: Option<String>,
        page: UserPage,
    ) -> Result<Vec<User>, Fault> {
        let merchant = match check(caller)? {
            Reach::All => merchant,
            Reach::Own => Some(self.own_merchant(caller, merchant).map_err(selection)?),
        };
        let checked = read_sort(page.sort.as_deref(), &SORT_KEYS).and_then(|(_, order)| {
            let limit = self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?;
            Ok(Slice { after: page.after_user_id.map(UserId), order, limit })
        });
        let found = self.store.users(merchant, checked.map_err(selection)?, caller.merchant().into()).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Makes a user of the caller's merchant, or for an operator of another one that there is.
    /// Fails with fault 122.
    pub async fn create_user(&self, caller: &Caller, said: NewUser) -> Result<Made, Fault> {
        let reach = check(caller)?;
        let NewUser { name, merchant, permissions } = said;
        check_name("user", &name).map_err(wrong)?;
        let permissions = self.grantable(reach, &permissions)?;
        let merchant = match (reach, merchant) {
            (Reach::Own, merchant) => self.own_merchant(caller, merchant).map(|_| caller.merchant()).map_err(wrong)?,
            (Reach::All, None) => caller.merchant(),
            (Reach::All, Some(code)) => {
                let found = self.store.merchant(&code, caller.merchant().into()).await;
                let found = found.map_err(|cause| CHANGE.fault(cause))?;
                let found = found.map(|merchant| merchant.merchant_id);
                found.ok_or_else(|| wrong(Violation::new("merchant", "is none that there is.")))?
            }
        };
        let (api_key, profile) = (generate_api_key(), Profile::default());
        let row = NewUserRow { merchant, name, key: KeyHash::of(&api_key), permissions, is_demo: false, profile };
        let name = row.name.clone();
        let made = self.store.create_user(caller.by()?, row, self.config.users_max).await;
        made.map_err(|cause| CHANGE.fault(cause))?;
        Ok(Made { user: self.colleague(caller, &name).await?, api_key })
    }

    /// Changes what a user may do. Fails with fault 2 of an operator, unless the caller is one,
    /// and with fault 121 or 122.
    pub async fn set_permissions(&self, caller: &Caller, name: &str, permissions: &[String]) -> Result<User, Fault> {
        let permissions = self.grantable(check(caller)?, permissions)?;
        self.alter_user(caller, name, UserAlteration::Permissions(permissions)).await
    }

    /// Has a user refused, or let in again; its key and its sessions stay. Fails likewise.
    pub async fn enable_user(&self, caller: &Caller, name: &str, is_enabled: bool) -> Result<User, Fault> {
        self.alter_user(caller, name, UserAlteration::Enabled(is_enabled)).await
    }

    /// Makes a user's key worthless for ever, and ends its sessions. Fails likewise.
    pub async fn revoke_user(&self, caller: &Caller, name: &str) -> Result<User, Fault> {
        self.alter_user(caller, name, UserAlteration::Revoked).await
    }

    /// Gives a user a new key; the old one counts for so many seconds yet. Fails likewise.
    pub async fn rotate_key(&self, caller: &Caller, name: &str, overlap_s: Option<i64>) -> Result<Rotated, Fault> {
        let overlap: Duration = self.check_overlap(overlap_s).map_err(wrong)?;
        let (api_key, until) = (generate_api_key(), self.clock.now().after(overlap));
        let user = self.alter_user(caller, name, UserAlteration::Key(KeyHash::of(&api_key), until)).await?;
        Ok(Rotated { user, api_key, until })
    }

    /// Changes a user, and returns it as it is then.
    async fn alter_user(&self, caller: &Caller, name: &str, what: UserAlteration) -> Result<User, Fault> {
        let is_operator = check(caller)? == Reach::All;
        let user = self.colleague(caller, name).await?;
        let whose = (user.merchant_id, user.user_id);
        let altered = self.store.alter_user((caller.by()?, is_operator), whose, what).await;
        altered.map_err(|cause| CHANGE.fault(cause))?;
        let found = self.store.user(UserBy::Name(name), caller.merchant().into()).await;
        found.map_err(|cause| CHANGE.fault(cause))?.ok_or_else(|| FaultCode::NoUser.into())
    }

    /// These permissions, if whoever reaches so far may give them. Fails with fault 122.
    fn grantable(&self, reach: Reach, names: &[String]) -> Result<Permissions, Fault> {
        let permissions = Permissions::of_names(names.iter().map(String::as_str)).map_err(wrong)?;
        match permissions.allow(Permission::Operator) && reach != Reach::All {
            true => Err(wrong(Violation::new("permissions", "has operator, which only an operator gives."))),
            false => Ok(permissions),
        }
    }

    /// The code of the caller's merchant, if it is that or none which is named.
    fn own_merchant(&self, caller: &Caller, named: Option<String>) -> Result<String, Violation> {
        match named.filter(|code| *code != caller.merchant_code) {
            None => Ok(caller.merchant_code.clone()),
            Some(_) => Err(Violation::new("merchant", "is not your own; an operator names others.")),
        }
    }

    /// A user of the same merchant, or for an operator of any, who was not revoked. Fails with
    /// fault 121, of another's user too.
    async fn colleague(&self, caller: &Caller, name: &str) -> Result<User, Fault> {
        let is_reached = |user: &User| user.merchant_id == caller.merchant() || check(caller) == Ok(Reach::All);
        let found = self.store.user(UserBy::Name(name), caller.merchant().into()).await;
        let found = found.map_err(|cause| CHANGE.fault(cause))?;
        let own = found.filter(|user| is_reached(user) && user.revoked_at.is_none());
        own.ok_or_else(|| Fault::new(FaultCode::NoUser).detail("There is no such user, or it was revoked."))
    }
}

/// Whose users a caller may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Those of its merchant.
    Own,
    /// Those of all.
    All,
}

/// Fails with fault 2 unless the caller may change users.
fn check(caller: &Caller) -> Result<Reach, Fault> {
    match caller.permissions.allow(Permission::Operator) {
        true => Ok(Reach::All),
        false => caller.check(Permission::Admin).map(|()| Reach::Own),
    }
}

fn selection(violation: Violation) -> Fault {
    violation.into_fault(FaultCode::InvalidSelection)
}

fn wrong(violation: Violation) -> Fault {
    violation.into_fault(FaultCode::UserNotChanged)
}
