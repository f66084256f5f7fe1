//! Who may do what.

use std::fmt;

use url::Url;

use super::fault::Violation;
use super::id::{MerchantId, UserId};
use super::merchant::MerchantTerms;
use super::secret::KeyHash;
use super::target::URL_CHARS_MAX;
use super::time::Timestamp;

/// The longest text of a profile, in characters.
const PROFILE_CHARS_MAX: usize = 200;

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
    /// Make, change and pause merchants, and make, change and revoke users of all. It opens
    /// nothing else of theirs.
    Operator,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::WebhookRead, Self::WebhookWrite, Self::EventWrite, Self::Admin, Self::Operator];

    /// Its name on the command line and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebhookRead => "webhook_read",
            Self::WebhookWrite => "webhook_write",
            Self::EventWrite => "event_write",
            Self::Admin => "admin",
            Self::Operator => "operator",
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
    /// Every permission there is within a merchant.
    pub fn all() -> Self {
        Permission::ALL.into_iter().filter(|permission| *permission != Permission::Operator).collect()
    }

    /// Reads names with commas between them.
    pub fn try_new(names: &str) -> Result<Self, Violation> {
        Self::of_names(names.split(',').map(str::trim))
    }

    /// Those of these names, one at least.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Violation> {
        let find = |name: &str| {
            Permission::ALL.into_iter().find(|permission| permission.name() == name).ok_or_else(|| {
                let known = Permission::ALL.map(Permission::name).join(", ");
                Violation::new("permissions", format!("{name:?} is none; there are {known}."))
            })
        };
        let mut names = names.into_iter().peekable();
        if names.peek().is_none() {
            return Err(Violation::new("permissions", "is empty; give one at least."));
        }
        names.map(find).collect()
    }

    /// True if the set allows it; `admin` allows everything within its merchant.
    pub fn allow(self, permission: Permission) -> bool {
        match permission {
            Permission::Operator => self.0 & permission.bit() != 0,
            _ => self.0 & (permission.bit() | Permission::Admin.bit()) != 0,
        }
    }

    /// The same and this one.
    pub fn with(self, permission: Permission) -> Self {
        Self(self.0 | permission.bit())
    }

    /// Those of them that the others allow, too.
    pub fn within(self, others: Self) -> Self {
        let held = Permission::ALL.into_iter().filter(|permission| self.0 & permission.bit() != 0);
        held.filter(|permission| others.allow(*permission)).collect()
    }

    /// The names of those that it holds.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let held = Permission::ALL.into_iter().filter(move |permission| self.0 & permission.bit() != 0);
        held.map(Permission::name)
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
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

/// What a user logs in with. Only hashes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Its API key.
    pub current: KeyHash,
    /// The one before, as long as that counts.
    pub old: Option<OldKey>,
}

/// A key that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its hash.
    pub hash: KeyHash,
    /// Until when it counts.
    pub until: Timestamp,
}

/// How long a key counts that somebody has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// As long as the user.
    On,
    /// Until then, for it was replaced.
    Until(Timestamp),
}

impl Counts {
    /// Until when, if that is known.
    pub fn end(self) -> Option<Timestamp> {
        match self {
            Self::On => None,
            Self::Until(end) => Some(end),
        }
    }
}

impl Keys {
    /// How long a key counts; `None` if it is neither of them, or was replaced too
    /// long ago. Both are compared, whichever it is.
    pub fn counts(self, key: KeyHash, now: Timestamp) -> Option<Counts> {
        let old = self.old.filter(|old| old.hash == key && old.until > now);
        if self.current == key { Some(Counts::On) } else { old.map(|old| Counts::Until(old.until)) }
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
    /// What operators say of the merchant.
    pub merchant_terms: MerchantTerms,
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
    /// What it logs in with.
    pub keys: Keys,
}

/// What a user's application is, for people; as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The application's name.
    pub application_name: Option<String>,
    /// What the application does.
    pub application_description: Option<String>,
    /// Where its logo is.
    pub application_logo_url: Option<String>,
    /// Who makes the application.
    pub developer_name: Option<String>,
    /// Where its makers are on the web.
    pub developer_website: Option<String>,
}

impl Profile {
    /// The profile with what is said: what is left out stays, and what is empty
    /// is removed. Texts have up to 200 characters; URLs are http or https, and
    /// have up to 1,000.
    pub fn changed(self, said: Self) -> Result<Self, Violation> {
        let keep = |said: Option<String>, old| said.map_or(old, |said| (!said.is_empty()).then_some(said));
        let profile = Self {
            application_name: keep(said.application_name, self.application_name),
            application_description: keep(said.application_description, self.application_description),
            application_logo_url: keep(said.application_logo_url, self.application_logo_url),
            developer_name: keep(said.developer_name, self.developer_name),
            developer_website: keep(said.developer_website, self.developer_website),
        };
        for (field, text) in profile.members() {
            let is_url = matches!(field, "application_logo_url" | "developer_website");
            let (chars, max) = (text.chars().count(), if is_url { URL_CHARS_MAX } else { PROFILE_CHARS_MAX });
            if chars > max {
                return Err(Violation::new(field, format!("has {chars} characters; up to {max} are allowed.")));
            }
            if is_url && !Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                return Err(Violation::new(field, "is no http or https URL; write one such as https://example.com/."));
            }
        }
        Ok(profile)
    }

    /// Those of its members that are known, by name.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("application_name", &self.application_name),
            ("application_description", &self.application_description),
            ("application_logo_url", &self.application_logo_url),
            ("developer_name", &self.developer_name),
            ("developer_website", &self.developer_website),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }
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
    fn a_profile_keeps_what_is_left_out_and_loses_what_is_empty() {
        let named = |name: &str| Profile { application_name: Some(name.to_owned()), ..Profile::default() };
        let linked = |url: &str| Profile { developer_website: Some(url.to_owned()), ..Profile::default() };
        let profile = named("Shop").changed(linked("https://example.com")).unwrap();
        let members: Vec<_> = profile.members().collect();
        assert_eq!(members, [("application_name", "Shop"), ("developer_website", "https://example.com")]);
        assert_eq!(profile.clone().changed(Profile::default()).unwrap(), profile);
        assert_eq!(profile.changed(named("")).unwrap(), linked("https://example.com"));

        let wrong = |said: Profile| Profile::default().changed(said).unwrap_err().field;
        assert!(Profile::default().changed(named(&"ü".repeat(200))).is_ok());
        assert_eq!(wrong(named(&"x".repeat(201))), "application_name");
        for url in
            ["example.com", "ftp://example.com/", "javascript:alert(1)", &format!("http://a/{}", "x".repeat(992))]
        {
            assert_eq!(wrong(linked(url)), "developer_website", "{url}");
        }
        assert!(Profile::default().changed(linked(&format!("http://a/{}", "x".repeat(991)))).is_ok());
    }

    #[test]
    fn a_key_that_was_replaced_counts_for_a_while() {
        let [current, before, other] = ["a", "b", "c"].map(KeyHash::of);
        let keys = Keys { current, old: Some(OldKey { hash: before, until: Timestamp(10) }) };
        assert_eq!(keys.counts(current, Timestamp(99)), Some(Counts::On));
        assert_eq!(keys.counts(before, Timestamp(9)), Some(Counts::Until(Timestamp(10))));
        assert_eq!(keys.counts(before, Timestamp(10)), None);
        assert_eq!(keys.counts(other, Timestamp(0)), None);
        assert_eq!(Keys { current, old: None }.counts(before, Timestamp(0)), None);
    }

    #[test]
    fn permissions_read_and_print() {
        let set = Permissions::try_new("event_write, webhook_read").unwrap();
        assert_eq!(set.to_string(), "webhook_read,event_write");
        assert_eq!(Permissions::from_bits(set.bits()), set);
        assert!(set.allow(Permission::EventWrite) && !set.allow(Permission::WebhookWrite));
        assert!(Permissions::try_new("admin").unwrap().allow(Permission::WebhookWrite));
        assert!(!Permissions::all().allow(Permission::Operator));
        let operator = Permissions::try_new("operator").unwrap();
        assert!(Permission::ALL.into_iter().all(|other| operator.allow(other) == (other == Permission::Operator)));
        assert!(Permissions::try_new("root").is_err() && Permissions::try_new("").is_err());
    }
}
