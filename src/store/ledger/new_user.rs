//! A user to be made.

use crate::domain::id::MerchantId;
use crate::domain::secret::KeyHash;
use crate::domain::user::{Permissions, Profile};

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUserRow {
    /// The merchant it acts for.
    pub merchant: MerchantId,
    /// What it logs in as.
    pub name: String,
    /// Its API key.
    pub key: KeyHash,
    /// What it may do.
    pub permissions: Permissions,
    /// Whether it is the demo user, which only a server in dev mode lets in.
    pub is_demo: bool,
    /// What its application is.
    pub profile: Profile,
}

/// A user to be made with its merchant, which has no id before.
#[derive(Clone, Debug)]
pub struct FirstUser {
    /// What it logs in as.
    pub name: String,
    /// Its API key.
    pub key: KeyHash,
    /// What it may do.
    pub permissions: Permissions,
}

impl FirstUser {
    /// The user, of this merchant.
    pub fn of(self, merchant: MerchantId) -> NewUserRow {
        let Self { name, key, permissions } = self;
        NewUserRow { merchant, name, key, permissions, is_demo: false, profile: Profile::default() }
    }
}
