//! What an operator does at the command line, on a connection of its own
//! beside a running server, which reads users afresh at every call and so
//! notices at once.

use std::collections::BTreeMap;
use std::fmt;

use super::accounts::{PROFILE, named, profile, user, user_sql};
use super::audit::{ENTRY, entry};
use super::catalogue::{TOPIC, find_topic, topic};
use super::db::{Db, ROWS_AT_ONCE, Row, all, in_parts, one, values};
use super::merchants;
use crate::domain::audit::AuditEntry;
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicSpec};
use crate::domain::fault::Violation;
use crate::domain::id::{AuditId, EventId, MerchantId};
use crate::domain::merchant::{Merchant, Quotas};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::user::{Permissions, Profile, User};
use crate::store::error::StoreError;
use crate::store::ledger::accounts::{AlterUser, CreateUser, NewUserRow, UserAlteration, UserFound};
use crate::store::ledger::book::{Book, Stock};
use crate::store::ledger::merchants::{AlterMerchant, CreateMerchant, FirstUser, MerchantAlteration};
use crate::store::ledger::terms::Terms;
use crate::store::ledger::topics::{Register, Update};
use crate::store::ledger::work::{Engine, Work};
use crate::store::ledger::{Change, Step};
use crate::store::merchants::Holdings;
use crate::store::vault::{self, KeyId};

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
    #[error("there is no merchant {0}; tallyhook merchant create makes one")]
    NoMerchant(String),
    /// Codes are given once in a store.
    #[error("there is a merchant {0} already; take another code")]
    CodeTaken(String),
    /// A quota breaks a rule.
    #[error("{}: {}", .0.field, .0.problem)]
    Quota(Violation),
    /// A topic can't be put into the catalogue as it is said to be.
    #[error("{0}: {1}")]
    Topic(Topic, String),
    /// The store refused.
    #[error("the store said: {0}")]
    Store(#[from] StoreError),
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

/// A connection of an operator's own, on which it begins transactions.
pub trait OperatorConn: fmt::Debug + Send {
    /// What is said on it.
    fn db(&mut self) -> &mut dyn Db;

    /// What the changes of a server are made by, within a transaction.
    fn engine(&mut self) -> &mut dyn Engine;

    /// Begins a transaction, before which others that write have ended.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Commits it.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Undoes it, or ends the connection if that can't be had.
    fn roll_back(&mut self);
}

/// An operator at the store.
#[derive(Debug)]
pub struct Admin {
    conn: Box<dyn OperatorConn>,
    terms: Terms,
}

impl Admin {
    /// On such a connection.
    pub fn on(conn: impl OperatorConn + 'static, terms: Terms) -> Self {
        Self { conn: Box::new(conn), terms }
    }

    /// Does something in one transaction, or nothing of it.
    fn transact<T>(
        &mut self,
        act: impl FnOnce(&mut dyn OperatorConn, Terms) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        self.conn.begin()?;
        let done = act(&mut *self.conn, self.terms).and_then(|done| Ok(self.conn.commit().map(|()| done)?));
        if done.is_err() {
            self.conn.roll_back();
        }
        done
    }

    /// What there is, at the cost of a look at each user and webhook.
    pub fn found(&mut self) -> Result<Found, AdminError> {
        let db = self.conn.db();
        let sql = format!(
            "SELECT (SELECT count(*) FROM \"user\" WHERE revoked_at IS NULL), count(*),
                CAST(coalesce(sum(last_increment_id - settled_through), 0) AS BIGINT), (SELECT max(event_id) FROM event)
                FROM {} WHERE deleted_at IS NULL",
            db.dialect().webhooks()
        );
        let found = one(db, &sql, &[], |row| {
            let last_event = row.int_if(3)?.map(EventId);
            Ok(Found { users: row.int(0)?, webhooks: row.int(1)?, unsettled: row.int(2)?, last_event })
        })?;
        Ok(found.ok_or_else(|| StoreError::failed("a sum is missing"))?)
    }

    /// By which keys the secrets of webhooks are sealed, and of how many; `None`: by none.
    pub fn sealed_by(&mut self) -> Result<BTreeMap<Option<KeyId>, u64>, AdminError> {
        let sql = "SELECT webhook_id, secret_key FROM webhook WHERE secret_key <> '' AND webhook_id > $1
            ORDER BY webhook_id LIMIT $2";
        let read = |row: &dyn Row| Ok((row.int(0)?, vault::key_of(row.text(1)?)));
        let mut by_key = BTreeMap::new();
        for (_, key) in in_parts(self.conn.db(), sql, ROWS_AT_ONCE, read, |(id, _)| *id)? {
            *by_key.entry(key).or_default() += 1;
        }
        Ok(by_key)
    }

    /// Makes a user, and its merchant if that is missing. Fails with
    /// [`AdminError::NameTaken`], also if the user of that name was revoked:
    /// its name stands in logs, and must not come to mean somebody else.
    pub fn create_user(&mut self, user: &NewUser<'_>, now: Timestamp) -> Result<User, AdminError> {
        let name = user.name;
        self.transact(|conn, terms| create_user(conn, terms, user, now))?;
        named(self.conn.db(), name)?.ok_or_else(|| AdminError::NoUser(name.to_owned()))
    }

    /// Changes a user's profile, and returns it as it is then. Fails with
    /// [`AdminError::NoUser`], [`AdminError::Revoked`] or [`AdminError::Profile`].
    pub fn change_profile(&mut self, name: &str, said: Profile, now: Timestamp) -> Result<Profile, AdminError> {
        if said == Profile::default() {
            let found = one(self.conn.db(), &format!("{PROFILE} WHERE name = $1"), values![name], profile)?;
            return found.map(|(_, profile)| profile).ok_or_else(|| AdminError::NoUser(name.to_owned()));
        }
        self.alter(name, UserAlteration::Profile(said), now).map(|user| user.profile)
    }

    /// Changes what a user may do, and returns it as it is then. Fails with
    /// [`AdminError::NoUser`] or [`AdminError::Revoked`].
    pub fn change_permissions(
        &mut self,
        name: &str,
        permissions: Permissions,
        now: Timestamp,
    ) -> Result<UserFound, AdminError> {
        self.alter(name, UserAlteration::Permissions(permissions), now)
    }

    /// Replaces a user's key. The one it had counts until `until`, and so do its
    /// sessions; one before that is worthless. Fails with [`AdminError::NoUser`],
    /// [`AdminError::Revoked`] or, since everybody knows its key,
    /// [`AdminError::Demo`].
    pub fn rotate_key(&mut self, name: &str, key: KeyHash, until: Timestamp, now: Timestamp) -> Result<(), AdminError> {
        self.alter(name, UserAlteration::Key(key, until), now).map(drop)
    }

    /// Changes a user as the server would, in its merchant's turn.
    fn alter(&mut self, name: &str, what: UserAlteration, now: Timestamp) -> Result<UserFound, AdminError> {
        self.transact(|conn, terms| {
            let User { user_id: user, merchant_id: merchant, .. } = find_standing(conn.db(), name)?;
            hold(conn.db(), merchant)?;
            let alter = AlterUser { merchant, by: None, by_operator: true, user, what };
            change(conn.engine(), terms, now, alter).map_err(|cause| match cause {
                // It was revoked in between.
                StoreError::NoUser => AdminError::Revoked(name.to_owned()),
                StoreError::DemoKey => AdminError::Demo(name.to_owned()),
                StoreError::Violation(violation) => AdminError::Profile(violation),
                other => other.into(),
            })
        })
    }

    /// Makes a merchant, and its first user with it, and returns it. Fails with
    /// [`AdminError::CodeTaken`] or [`AdminError::NameTaken`].
    pub fn create_merchant(
        &mut self,
        code: &str,
        quotas: Quotas,
        user: Option<FirstUser>,
        now: Timestamp,
    ) -> Result<Merchant, AdminError> {
        self.transact(|conn, terms| {
            let name = user.as_ref().map(|user| user.name.clone()).unwrap_or_default();
            let create = CreateMerchant { by: None, code: code.to_owned(), quotas, user };
            change(conn.engine(), terms, now, create).map_err(|cause| match cause {
                StoreError::CodeTaken => AdminError::CodeTaken(code.to_owned()),
                StoreError::NameTaken => AdminError::NameTaken(name),
                other => other.into(),
            })
        })?;
        self.merchant(code)
    }

    /// The merchant of that code. Fails with [`AdminError::NoMerchant`].
    pub fn merchant(&mut self, code: &str) -> Result<Merchant, AdminError> {
        merchants::named(self.conn.db(), code)?.ok_or_else(|| AdminError::NoMerchant(code.to_owned()))
    }

    /// What a merchant has.
    pub fn holdings(&mut self, merchant: MerchantId) -> Result<Holdings, AdminError> {
        Ok(merchants::holdings(self.conn.db(), merchant)?)
    }

    /// All merchants, in the order of their ids.
    pub fn merchants(&mut self) -> Result<Vec<Merchant>, AdminError> {
        let sql = format!("{} WHERE m.merchant_id > $1 ORDER BY m.merchant_id LIMIT $2", merchants::merchant_sql());
        Ok(in_parts(self.conn.db(), &sql, ROWS_AT_ONCE, merchants::merchant, |merchant| merchant.merchant_id.0)?)
    }

    /// Changes what operators say of a merchant, and returns it as it is then. Fails with
    /// [`AdminError::NoMerchant`] or [`AdminError::Quota`].
    pub fn alter_merchant(
        &mut self,
        code: &str,
        what: MerchantAlteration,
        now: Timestamp,
    ) -> Result<Merchant, AdminError> {
        self.transact(|conn, terms| {
            let merchant = find_merchant(conn.db(), code)?;
            hold(conn.db(), merchant)?;
            let alter = AlterMerchant { merchant, by: None, what };
            change(conn.engine(), terms, now, alter).map_err(|cause| match cause {
                StoreError::Violation(violation) => AdminError::Quota(violation),
                other => other.into(),
            })
        })?;
        self.merchant(code)
    }

    /// Some entries of the audit log behind one, in the order of their ids: of one merchant or of
    /// all, and from then on. Fails with [`AdminError::NoMerchant`].
    pub fn audited(
        &mut self,
        merchant: Option<&str>,
        since: Option<Timestamp>,
        after: AuditId,
    ) -> Result<Vec<AuditEntry>, AdminError> {
        let merchant = merchant.map(|code| find_merchant(self.conn.db(), code)).transpose()?;
        let sql = format!(
            "{ENTRY} WHERE a.audit_id > $1 AND ($2 IS NULL OR a.merchant_id = $2) AND a.at >= $3
                ORDER BY a.audit_id LIMIT $4"
        );
        let since = since.map_or(i64::MIN, |since| since.0);
        let values = values![after.0, merchant.map(|merchant| merchant.0), since, AUDITED_AT_ONCE];
        Ok(all(self.conn.db(), &sql, values, entry)?)
    }

    /// All users, revoked ones too, by name.
    pub fn users(&mut self) -> Result<Vec<User>, AdminError> {
        let sql = format!("{} WHERE u.user_id > $1 ORDER BY u.user_id LIMIT $2", user_sql());
        let mut users = in_parts(self.conn.db(), &sql, ROWS_AT_ONCE, user, |user| user.user_id.0)?;
        users.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(users)
    }

    /// Makes a user's key worthless and ends its sessions; one that was revoked stays so. Fails
    /// with [`AdminError::NoUser`].
    pub fn revoke_user(&mut self, name: &str, now: Timestamp) -> Result<(), AdminError> {
        match self.alter(name, UserAlteration::Revoked, now) {
            Ok(_) | Err(AdminError::Revoked(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has a user refused, or let in again; its key and its sessions stay. Fails
    /// with [`AdminError::NoUser`] or [`AdminError::Revoked`].
    pub fn set_enabled(&mut self, name: &str, enabled: bool, now: Timestamp) -> Result<(), AdminError> {
        self.alter(name, UserAlteration::Enabled(enabled), now).map(drop)
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
        self.transact(|conn, terms| {
            if named(conn.db(), name)?.is_none() {
                let (permissions, profile) = (Permissions::all(), Profile::default());
                let user = NewUser { name, merchant, permissions, key, is_demo: true, profile };
                let merchant = create_user(conn, terms, &user, now)?;
                // What belongs to the demo counts towards no quota.
                load_topics(conn, terms, merchant, topics, u32::MAX, now)?;
            }
            Ok(())
        })
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
        self.transact(|conn, terms| {
            let merchant = find_merchant(conn.db(), merchant)?;
            hold(conn.db(), merchant)?;
            load_topics(conn, terms, merchant, said, quota, now)
        })
    }

    /// A merchant's catalogue, by topic. Fails with [`AdminError::NoMerchant`].
    pub fn topics(&mut self, merchant: &str) -> Result<Vec<CatalogueEntry>, AdminError> {
        let merchant = find_merchant(self.conn.db(), merchant)?;
        let sql = format!("{TOPIC} WHERE merchant_id = $1 AND topic > $2 ORDER BY topic LIMIT $3");
        let mut topics: Vec<CatalogueEntry> = Vec::new();
        loop {
            let after = topics.last().map_or("", |last| last.spec.topic.as_str());
            let part = all(self.conn.db(), &sql, values![merchant.0, after, TOPICS_AT_ONCE], topic)?;
            let is_last = part.len() < TOPICS_AT_ONCE as usize;
            topics.extend(part);
            if is_last {
                return Ok(topics);
            }
        }
    }
}

/// Topics that are read at once, each with its schema.
const TOPICS_AT_ONCE: u32 = 100;

/// Entries of the audit log that are read at once: each may be a few pages.
const AUDITED_AT_ONCE: u32 = 250;

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

/// Makes a user, and its merchant if that is missing; the merchant.
fn create_user(
    conn: &mut dyn OperatorConn,
    terms: Terms,
    user: &NewUser<'_>,
    now: Timestamp,
) -> Result<MerchantId, AdminError> {
    let NewUser { name, merchant, permissions, key, is_demo, profile } = user;
    let create = CreateMerchant { by: None, code: (*merchant).to_owned(), quotas: Quotas::default(), user: None };
    let merchant_id = match change(conn.engine(), terms, now, create) {
        Err(StoreError::CodeTaken) => find_merchant(conn.db(), merchant)?,
        made => made?,
    };
    hold(conn.db(), merchant_id)?;
    let user = NewUserRow {
        merchant: merchant_id,
        name: (*name).to_owned(),
        key: *key,
        permissions: *permissions,
        is_demo: *is_demo,
        profile: profile.clone(),
    };
    change(conn.engine(), terms, now, CreateUser { by: None, user, quota: None }).map_err(|cause| match cause {
        StoreError::NameTaken => AdminError::NameTaken((*name).to_owned()),
        other => other.into(),
    })?;
    Ok(merchant_id)
}

/// Has everybody else wait who would change what is a merchant's, until the transaction ends.
fn hold(db: &mut dyn Db, merchant: MerchantId) -> Result<(), StoreError> {
    match db.dialect().lock_merchant() {
        Some(sql) => one(db, sql, values![merchant.0], |_| Ok(())).map(drop),
        None => Ok(()),
    }
}

/// Does what the server would do, in the transaction that is open.
fn change<C: Change>(
    engine: &mut dyn Engine,
    terms: Terms,
    now: Timestamp,
    mut change: C,
) -> Result<C::Answer, StoreError> {
    // What an operator changes is not known by heart.
    let mut book = Book::new(terms, Stock::default());
    match Work::new(engine, &mut book, now).run(&mut change)? {
        Step::Done(answer) => Ok(answer),
        Step::More(_) => Err(StoreError::failed("a change of an operator is done in one step")),
    }
}

/// Lets go of a number that is about to change, so that another topic can have
/// it within the same transaction.
fn release_event_type(db: &mut dyn Db, merchant: MerchantId, topic: &Topic) -> Result<(), StoreError> {
    let sql = "UPDATE topic SET event_type = -topic_id WHERE merchant_id = $1 AND topic = $2";
    db.run(sql, values![merchant.0, topic.as_str()]).map(drop)
}

fn load_topics(
    conn: &mut dyn OperatorConn,
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
        let old = find_topic(conn.db(), merchant, topic)?;
        if old.as_ref().is_some_and(|old| said.event_type.is_some_and(|number| number != old.event_type)) {
            release_event_type(conn.db(), merchant, topic)?;
        }
        olds.push(old);
    }
    let mut loaded = Loaded::default();
    for ((topic, said), old) in said.into_iter().zip(olds) {
        let wrong = |violation| about(&topic, StoreError::Violation(violation));
        let Some(old) = old else {
            let spec = TopicSpec::try_new(topic.clone(), said).map_err(wrong)?;
            let register = Register { merchant, by: None, spec, quota };
            change(conn.engine(), terms, now, register).map_err(|cause| about(&topic, cause))?;
            loaded.registered += 1;
            continue;
        };
        if old.spec.clone().changed(said.clone()).map_err(wrong)? == old.spec {
            loaded.same += 1;
        } else {
            let update = Update { merchant, by: None, topic: topic.clone(), changes: said };
            change(conn.engine(), terms, now, update).map_err(|cause| about(&topic, cause))?;
            loaded.changed += 1;
        }
    }
    Ok(loaded)
}

fn find_merchant(db: &mut dyn Db, code: &str) -> Result<MerchantId, AdminError> {
    let found = one(db, "SELECT merchant_id FROM merchant WHERE code = $1", values![code], |row| row.int(0))?;
    found.map(MerchantId).ok_or_else(|| AdminError::NoMerchant(code.to_owned()))
}

/// The user of that name, who was not revoked.
fn find_standing(db: &mut dyn Db, name: &str) -> Result<User, AdminError> {
    let user = named(db, name)?.ok_or_else(|| AdminError::NoUser(name.to_owned()))?;
    if user.revoked_at.is_some() { Err(AdminError::Revoked(user.name)) } else { Ok(user) }
}
