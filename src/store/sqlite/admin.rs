//! What an operator does at the command line, on a connection of its own
//! beside a running server, which reads users afresh at every call and so
//! notices at once.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::engine::Sqlite;
use super::mark::Mark;
use super::open::{OpenError, ServeLock, check_name, open_current};
use super::{Config, rows, write};
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicSpec};
use crate::domain::fault::Violation;
use crate::domain::id::{EventId, MerchantId, StoreId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::user::{Permissions, Profile, User};
use crate::store::error::StoreError;
use crate::store::ledger::book::{Book, Stock};
use crate::store::ledger::terms::Terms;
use crate::store::ledger::topics::{Register, Update};
use crate::store::ledger::work::Work;
use crate::store::ledger::{Change, Step};

/// Why an operator's command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Names are given once in a store.
    #[error("there is a user {0} already (perhaps a revoked one); take another name")]
    NameTaken(String),
    /// No such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// What is revoked stays so.
    #[error("the user {0} was revoked, which is for ever; make another")]
    Revoked(String),
    /// Whoever reads the documents knows its key.
    #[error("the key of the demo user {0} can't be replaced; make another user")]
    Demo(String),
    /// The profile breaks a rule.
    #[error("{}: {}", .0.field, .0.problem)]
    Profile(Violation),
    /// No such merchant.
    #[error("there is no merchant {0}; tallyhook user create makes one with its first user")]
    NoMerchant(String),
    /// A topic can't be put into the catalogue as it is said to be.
    #[error("{0}: {1}")]
    Topic(Topic, String),
    /// SQLite refused.
    #[error("the store said: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser<'a> {
    /// What it logs in as.
    pub name: &'a str,
    /// The merchant it acts for, by its code.
    pub merchant: &'a str,
    /// What it may do.
    pub permissions: Permissions,
    /// Its API key.
    pub key: KeyHash,
    /// Whether it is the demo user, which only a server in dev mode lets in.
    pub is_demo: bool,
    /// What its application is.
    pub profile: Profile,
}

/// An operator's connection to the store.
#[derive(Debug)]
pub struct Admin {
    conn: Connection,
    terms: Terms,
}

impl Admin {
    /// Opens the store beside a running server; makes it if there is none.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        check_name(&config.path)?;
        Ok(Self { conn: open_current(config)?, terms: config.terms() })
    }

    /// What there is, at the cost of a look at each user and webhook.
    pub fn found(&self) -> Result<Found, AdminError> {
        let found = self.conn.query_row(
            "SELECT (SELECT count(*) FROM user WHERE revoked_at IS NULL), count(*),
                coalesce(sum(last_increment_id - settled_through), 0), (SELECT max(event_id) FROM event)
                FROM webhook WHERE deleted_at IS NULL",
            [],
            |row| {
                let last_event = row.get::<_, Option<_>>(3)?.map(EventId);
                Ok(Found { users: row.get(0)?, webhooks: row.get(1)?, unsettled: row.get(2)?, last_event })
            },
        )?;
        Ok(found)
    }

    /// Makes a user, and its merchant if that is missing. Fails with
    /// [`AdminError::NameTaken`], also if the user of that name was revoked:
    /// its name stands in logs, and must not come to mean somebody else.
    pub fn create_user(&mut self, user: &NewUser<'_>, now: Timestamp) -> Result<User, AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let user = create_user(&tx, user, now)?;
        tx.commit()?;
        Ok(user)
    }

    /// Changes a user's profile, and returns it as it is then. Fails with
    /// [`AdminError::NoUser`] or [`AdminError::Profile`].
    pub fn change_profile(&mut self, name: &str, said: Profile) -> Result<Profile, AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = format!("{} WHERE name = ?1", rows::PROFILE);
        let old = tx.query_row(&sql, [name], rows::profile).optional()?;
        let (_, old) = old.ok_or_else(|| AdminError::NoUser(name.to_owned()))?;
        let profile = old.changed(said).map_err(AdminError::Profile)?;
        write_profile(&tx, name, &profile)?;
        tx.commit()?;
        Ok(profile)
    }

    /// Changes what a user may do, and returns it as it is then. Fails with
    /// [`AdminError::NoUser`] or [`AdminError::Revoked`].
    pub fn change_permissions(&mut self, name: &str, permissions: Permissions) -> Result<User, AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let user = find_standing(&tx, name)?;
        write::permissions(&tx, user.user_id, permissions)?;
        tx.commit()?;
        Ok(User { permissions, ..user })
    }

    /// Replaces a user's key. The one it had counts until `until`, and so do its
    /// sessions; one before that is worthless. Fails with [`AdminError::NoUser`],
    /// [`AdminError::Revoked`] or, since everybody knows its key,
    /// [`AdminError::Demo`].
    pub fn rotate_key(&mut self, name: &str, key: KeyHash, until: Timestamp) -> Result<(), AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let user = find_standing(&tx, name)?;
        if user.is_demo {
            return Err(AdminError::Demo(user.name));
        }
        write::user_key(&tx, user.user_id, key, until)?;
        tx.commit()?;
        Ok(())
    }

    /// All users, revoked ones too, by name.
    pub fn users(&self) -> Result<Vec<User>, AdminError> {
        let mut statement = self.conn.prepare(&format!("{} ORDER BY user.name", rows::USER))?;
        let users = statement.query_map([], rows::user)?.collect::<Result<_, _>>()?;
        Ok(users)
    }

    /// Makes a user's key worthless and ends its sessions. Fails with
    /// [`AdminError::NoUser`].
    pub fn revoke_user(&mut self, name: &str, now: Timestamp) -> Result<(), AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found =
            tx.execute("UPDATE user SET revoked_at = coalesce(revoked_at, ?2) WHERE name = ?1", params![name, now.0])?;
        if found == 0 {
            return Err(AdminError::NoUser(name.to_owned()));
        }
        tx.execute("DELETE FROM session WHERE user_id = (SELECT user_id FROM user WHERE name = ?1)", [name])?;
        tx.commit()?;
        Ok(())
    }

    /// Has a user refused, or let in again; its key and its sessions stay. Fails
    /// with [`AdminError::NoUser`] or [`AdminError::Revoked`].
    pub fn set_enabled(&mut self, name: &str, enabled: bool, now: Timestamp) -> Result<(), AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let user = find_standing(&tx, name)?;
        let disabled_at = (!enabled).then(|| user.disabled_at.unwrap_or(now).0);
        tx.execute("UPDATE user SET disabled_at = ?2 WHERE name = ?1", params![name, disabled_at])?;
        tx.commit()?;
        Ok(())
    }

    /// Makes the demo user with all permissions, and the merchant's catalogue
    /// with it, unless there is one.
    pub fn ensure_demo(
        &mut self,
        name: &str,
        merchant: &str,
        key: KeyHash,
        topics: Vec<(Topic, TopicChanges)>,
        now: Timestamp,
    ) -> Result<(), AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if find_user(&tx, name)?.is_none() {
            let (permissions, profile) = (Permissions::all(), Profile::default());
            let user = NewUser { name, merchant, permissions, key, is_demo: true, profile };
            let user = create_user(&tx, &user, now)?;
            // What belongs to the demo counts towards no quota.
            load_topics(&tx, self.terms, user.merchant_id, topics, u32::MAX, now)?;
        }
        tx.commit()?;
        Ok(())
    }

    /// Puts topics into a merchant's catalogue, all or none; what is said of
    /// those that stand there changes them. Fails with
    /// [`AdminError::NoMerchant`] or [`AdminError::Topic`].
    pub fn load_topics(
        &mut self,
        merchant: &str,
        said: Vec<(Topic, TopicChanges)>,
        quota: u32,
        now: Timestamp,
    ) -> Result<Loaded, AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let merchant = find_merchant(&tx, merchant)?;
        let loaded = load_topics(&tx, self.terms, merchant, said, quota, now)?;
        tx.commit()?;
        Ok(loaded)
    }

    /// A merchant's catalogue, by topic. Fails with [`AdminError::NoMerchant`].
    pub fn topics(&self, merchant: &str) -> Result<Vec<CatalogueEntry>, AdminError> {
        let merchant = find_merchant(&self.conn, merchant)?;
        let mut statement = self.conn.prepare(&format!("{} WHERE merchant_id = ?1 ORDER BY topic", rows::TOPIC))?;
        let entries = statement.query_map([merchant.0], rows::topic)?.collect::<Result<_, _>>()?;
        Ok(entries)
    }
}

/// Gives a store that is not served a new id, so that whatever it sends differs
/// from what was ever sent before: the old one, and the new one. Fails with
/// [`OpenError::InUse`] if a server has it.
pub fn renew_store_id(config: &Config, now: Timestamp) -> Result<(StoreId, StoreId), OpenError> {
    let _lock = ServeLock::take(&config.path)?;
    let conn = open_current(config)?;
    let renewed = Mark::renew_store_id(&config.path, &conn, now);
    renewed.map_err(|cause| OpenError::Sqlite { path: config.path.clone(), cause })
}

/// What lies in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Users that were not revoked.
    pub users: i64,
    /// Webhooks that were not deleted.
    pub webhooks: i64,
    /// Deliveries behind the numbers up to which all have ended: those that are
    /// pending, and what has overtaken them.
    pub unsettled: i64,
    /// The last event, if there was one and it has not been pruned.
    pub last_event: Option<EventId>,
}

/// What became of topics that were loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    /// How many are new.
    pub registered: u32,
    /// How many were changed.
    pub changed: u32,
    /// How many stood there as they were said to be.
    pub same: u32,
}

fn create_user(conn: &Connection, user: &NewUser<'_>, now: Timestamp) -> Result<User, AdminError> {
    let NewUser { name, merchant, permissions, key, is_demo, profile } = user;
    let taken: bool = conn.query_row("SELECT EXISTS (SELECT 1 FROM user WHERE name = ?1)", [name], |row| row.get(0))?;
    if taken {
        return Err(AdminError::NameTaken((*name).to_owned()));
    }
    conn.execute(
        "INSERT INTO merchant (code, created_at) VALUES (?1, ?2) ON CONFLICT (code) DO NOTHING",
        params![merchant, now.0],
    )?;
    conn.execute(
        "INSERT INTO user (merchant_id, name, key_hash, permissions, is_demo, created_at)
         SELECT merchant_id, ?2, ?3, ?4, ?5, ?6 FROM merchant WHERE code = ?1",
        params![merchant, name, key.0, permissions.bits(), is_demo, now.0],
    )?;
    write_profile(conn, name, profile)?;
    find_user(conn, name)?.ok_or_else(|| AdminError::NoUser((*name).to_owned()))
}

fn write_profile(conn: &Connection, name: &str, profile: &Profile) -> rusqlite::Result<()> {
    conn.execute(
        "UPDATE user SET application_name = ?2, application_description = ?3, application_logo_url = ?4,
            developer_name = ?5, developer_website = ?6 WHERE name = ?1",
        params![
            name,
            profile.application_name,
            profile.application_description,
            profile.application_logo_url,
            profile.developer_name,
            profile.developer_website
        ],
    )?;
    Ok(())
}

/// Does what the server would do, in the transaction that is open.
fn change<C: Change>(conn: &Connection, terms: Terms, now: Timestamp, mut change: C) -> Result<C::Answer, StoreError> {
    // What an operator changes is not known by heart.
    let (mut engine, mut book) = (Sqlite::new(conn)?, Book::new(terms, Stock::default()));
    match Work::new(&mut engine, &mut book, now).run(&mut change)? {
        Step::Done(answer) => Ok(answer),
        Step::More(_) => Err(StoreError::failed("a change of an operator is done in one step")),
    }
}

/// The entry of a topic, if it has one.
fn find_topic(conn: &Connection, merchant: MerchantId, topic: &Topic) -> rusqlite::Result<Option<CatalogueEntry>> {
    let sql = format!("{} WHERE merchant_id = ?1 AND topic = ?2", rows::TOPIC);
    conn.prepare_cached(&sql)?.query_row(params![merchant.0, topic.as_str()], rows::topic).optional()
}

/// Lets go of a number that is about to change, so that another topic can have
/// it within the same transaction.
fn release_event_type(conn: &Connection, merchant: MerchantId, topic: &Topic) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE topic SET event_type = -topic_id WHERE merchant_id = ?1 AND topic = ?2")?
        .execute(params![merchant.0, topic.as_str()])
        .map(drop)
}

fn load_topics(
    conn: &Connection,
    terms: Terms,
    merchant: MerchantId,
    mut said: Vec<(Topic, TopicChanges)>,
    quota: u32,
    now: Timestamp,
) -> Result<Loaded, AdminError> {
    // Numbers that are said come before those that are given, and may be swapped.
    said.sort_by_key(|(_, said)| said.event_type.is_none());
    let about = |topic: &Topic, cause: StoreError| AdminError::Topic(topic.clone(), cause.to_string());
    let mut olds = Vec::with_capacity(said.len());
    for (topic, said) in &said {
        let old = find_topic(conn, merchant, topic)?;
        if old.as_ref().is_some_and(|old| said.event_type.is_some_and(|number| number != old.event_type)) {
            release_event_type(conn, merchant, topic)?;
        }
        olds.push(old);
    }
    let mut loaded = Loaded::default();
    for ((topic, said), old) in said.into_iter().zip(olds) {
        let wrong = |violation| about(&topic, StoreError::Violation(violation));
        let Some(old) = old else {
            let spec = TopicSpec::try_new(topic.clone(), said).map_err(wrong)?;
            let register = Register { merchant, by: None, spec, quota };
            change(conn, terms, now, register).map_err(|cause| about(&topic, cause))?;
            loaded.registered += 1;
            continue;
        };
        if old.spec.clone().changed(said.clone()).map_err(wrong)? == old.spec {
            loaded.same += 1;
        } else {
            let update = Update { merchant, by: None, topic: topic.clone(), changes: said };
            change(conn, terms, now, update).map_err(|cause| about(&topic, cause))?;
            loaded.changed += 1;
        }
    }
    Ok(loaded)
}

fn find_merchant(conn: &Connection, code: &str) -> Result<MerchantId, AdminError> {
    let found =
        conn.query_row("SELECT merchant_id FROM merchant WHERE code = ?1", [code], |row| row.get(0)).optional()?;
    found.map(MerchantId).ok_or_else(|| AdminError::NoMerchant(code.to_owned()))
}

/// The user of that name, who was not revoked.
fn find_standing(conn: &Connection, name: &str) -> Result<User, AdminError> {
    let user = find_user(conn, name)?.ok_or_else(|| AdminError::NoUser(name.to_owned()))?;
    if user.revoked_at.is_some() { Err(AdminError::Revoked(user.name)) } else { Ok(user) }
}

fn find_user(conn: &Connection, name: &str) -> rusqlite::Result<Option<User>> {
    conn.query_row(&format!("{} WHERE user.name = ?1", rows::USER), [name], rows::user).optional()
}
