//! Who may do what.

use std::fmt;

use super::fault::Violation;
use super::id::{MerchantId, UserId};
use super::time::Timestamp;

/// One thing a user may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See webhooks and their deliveries.
    WebhookRead,
    /// Make, change and delete webhooks; see their secrets.
    WebhookWrite,
    /// Publish events.
    EventWrite,
    /// Everything, within the merchant.
    Admin,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WebhookRead, Self::WebhookWrite, Self::EventWrite, Self::Admin];

    /// Its name on the command line and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebhookRead => "webhook_read",
            Self::WebhookWrite => "webhook_write",
            Self::EventWrite => "event_write",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Every permission there is.
    pub fn all() -> Self {
        Permission::ALL.into_iter().collect()
    }

    /// Reads names with commas between them.
    pub fn try_new(names: &str) -> Result<Self, Violation> {
        let find = |name: &str| {
            Permission::ALL.into_iter().find(|permission| permission.name() == name).ok_or_else(|| {
                let known = Permission::ALL.map(Permission::name).join(", ");
                Violation::new("permissions", format!("{name:?} is none; there are {known}."))
            })
        };
        names.split(',').map(|name| find(name.trim())).collect()
    }

    /// True if the set allows it; `admin` allows everything.
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & (permission.bit() | Permission::Admin.bit()) != 0
    }

    /// As a store keeps it.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// What [`Self::bits`] gave.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | permission.bit()))
    }
}

/// Names with commas between them.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Permission::ALL.into_iter().filter(|permission| self.0 & permission.bit() != 0);
        f.write_str(&held.map(Permission::name).collect::<Vec<_>>().join(","))
    }
}

/// A login of a merchant, without its key.
#[derive(Clone, Debug)]
pub struct User {
    /// Its id.
    pub user_id: UserId,
    /// The merchant it acts for.
    pub merchant_id: MerchantId,
    /// The merchant's code.
    pub merchant_code: String,
    /// What it logs in as; unique in the store.
    pub name: String,
    /// What it may do.
    pub permissions: Permissions,
    /// Made by `serve --dev`, with a key that everybody knows: refused by a
    /// server that is not in dev mode.
    pub is_demo: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is refused, until it is enabled again.
    pub disabled_at: Option<Timestamp>,
    /// When its key stopped being good, for ever.
    pub revoked_at: Option<Timestamp>,
}

/// A user's or merchant's name: `[A-Za-z0-9_.@-]{1,64}`, so that it fits a
/// header, a log line and a command line as it is.
pub fn check_name(field: &'static str, name: &str) -> Result<(), Violation> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'@'));
    if fits {
        Ok(())
    } else {
        Err(Violation::new(field, format!("{name:?} is none; use 1 to 64 of A-Z a-z 0-9 _ . @ -")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_and_print() {
        let set = Permissions::try_new("event_write, webhook_read").unwrap();
        assert_eq!(set.to_string(), "webhook_read,event_write");
        assert_eq!(Permissions::from_bits(set.bits()), set);
        assert!(set.allow(Permission::EventWrite) && !set.allow(Permission::WebhookWrite));
        assert!(Permissions::try_new("admin").unwrap().allow(Permission::WebhookWrite));
        assert!(Permissions::try_new("root").is_err() && Permissions::try_new("").is_err());
    }
}
