//! What an operator does at the command line, on a connection of its own
//! beside a running server, which reads users afresh at every call and so
//! notices at once.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::open::{OpenError, open_current};
use super::{Config, rows};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::user::{Permissions, User};

/// Why an operator's command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Names are given once in a store.
    #[error("there is a user {0} already (perhaps a revoked one); take another name")]
    NameTaken(String),
    /// No such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// SQLite refused.
    #[error("the store said: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// An operator's connection to the store.
#[derive(Debug)]
pub struct Admin {
    conn: Connection,
}

impl Admin {
    /// Opens the store beside a running server; makes it if there is none.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        open_current(config).map(|conn| Self { conn })
    }

    /// Makes a user, and its merchant if that is missing. Fails with
    /// [`AdminError::NameTaken`], also if the user of that name was revoked:
    /// its name stands in logs, and must not come to mean somebody else.
    pub fn create_user(
        &mut self,
        name: &str,
        merchant: &str,
        permissions: Permissions,
        key: KeyHash,
        is_demo: bool,
        now: Timestamp,
    ) -> Result<User, AdminError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken: bool =
            tx.query_row("SELECT EXISTS (SELECT 1 FROM user WHERE name = ?1)", [name], |row| row.get(0))?;
        if taken {
            return Err(AdminError::NameTaken(name.to_owned()));
        }
        tx.execute(
            "INSERT INTO merchant (code, created_at) VALUES (?1, ?2) ON CONFLICT (code) DO NOTHING",
            params![merchant, now.0],
        )?;
        tx.execute(
            "INSERT INTO user (merchant_id, name, key_hash, permissions, is_demo, created_at)
             SELECT merchant_id, ?2, ?3, ?4, ?5, ?6 FROM merchant WHERE code = ?1",
            params![merchant, name, key.0, permissions.bits(), is_demo, now.0],
        )?;
        let user = find_user(&tx, name)?.ok_or_else(|| AdminError::NoUser(name.to_owned()))?;
        tx.commit()?;
        Ok(user)
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

    /// Makes the demo user with all permissions, unless there is one.
    pub fn ensure_demo(&mut self, name: &str, merchant: &str, key: KeyHash, now: Timestamp) -> Result<(), AdminError> {
        match find_user(&self.conn, name)? {
            Some(_) => Ok(()),
            None => self.create_user(name, merchant, Permissions::all(), key, true, now).map(drop),
        }
    }
}

fn find_user(conn: &Connection, name: &str) -> rusqlite::Result<Option<User>> {
    conn.query_row(&format!("{} WHERE user.name = ?1", rows::USER), [name], rows::user).optional()
}
