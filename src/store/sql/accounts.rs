//! Users and sessions, as they are read.

use async_trait::async_trait;

use super::codes::{bad, checked};
use super::conn::Conn;
use super::db::{Db, Row, Value, all, one, values};
use super::keys::{Asked, each};
use super::merchants::{TERMS, terms_at};
use super::steps::{ROWS_PER_STEP, Step, behind, words};
use super::store::{Backend, SqlStore};
use crate::domain::id::{MerchantId, UserId};
use crate::domain::page::{Order, Slice};
use crate::domain::secret::KeyHash;
use crate::domain::user::{Keys, OldKey, Permissions, Profile, User};
use crate::store::accounts::{Accounts, Session, UserBy};
use crate::store::error::StoreError;
use crate::store::ledger::wants::UserFound;
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// The columns of a user `u` that [`user`] reads, with its merchant `m`; behind them it reads
/// [`TERMS`].
pub const USER: &str =
    "u.user_id, u.merchant_id, m.code, u.name, u.permissions, u.is_demo, u.created_at, u.disabled_at,
    u.revoked_at, u.key_hash, u.old_key_hash, u.old_key_until";
/// How many columns that are, with those behind them.
pub const USER_COLUMNS: usize = 17;

/// What [`user`] reads; takes a WHERE behind it.
pub fn user_sql() -> String {
    format!("SELECT {USER}, {TERMS} FROM \"user\" u JOIN merchant m ON m.merchant_id = u.merchant_id")
}

/// What [`profile`] reads; takes a WHERE behind it.
pub const PROFILE: &str = "SELECT user_id, application_name, application_description, application_logo_url,
    developer_name, developer_website FROM \"user\"";

#[async_trait]
impl<B: Backend> Accounts for SqlStore<B> {
    async fn user(&self, by: UserBy<'_>, asker: Account) -> Result<Option<User>> {
        match by {
            UserBy::Name(name) => {
                let name = name.to_owned();
                self.readers.by_key(asker, move |conn| named(conn, &name)).await
            }
            UserBy::Key(key) => {
                let sql = format!("{} WHERE u.key_hash = $1 OR u.old_key_hash = $1", user_sql());
                self.readers.by_key(asker, move |conn| one(conn, &sql, values![&key.0], user)).await
            }
        }
    }

    async fn profiles(&self, merchant: MerchantId) -> Result<Vec<(UserId, Profile)>> {
        let all = Slice { after: None, order: Order::Ascending, limit: u32::MAX };
        self.readers.in_steps(merchant, all, move |conn, part| profiles(conn, merchant, part.after)).await
    }

    async fn users(&self, merchant: Option<String>, slice: Slice<UserId>, asker: Account) -> Result<Vec<User>> {
        self.readers.read(asker, move |conn| users(conn, merchant.as_deref(), &slice)).await
    }

    async fn session(&self, key: KeyHash, asker: Account) -> Result<Option<Session>> {
        self.sessions.look_up(asker, key, sessions).await
    }
}

/// A user, from [`USER`] and [`TERMS`].
pub fn user(row: &dyn Row) -> Result<User> {
    let permissions = u8::try_from(row.int(4)?).map_err(|_| bad("permissions"))?;
    let old = row.hash_if(10)?.map(KeyHash).zip(row.time_if(11)?);
    Ok(User {
        user_id: UserId(row.int(0)?),
        merchant_id: MerchantId(row.int(1)?),
        merchant_code: row.string(2)?,
        merchant_terms: terms_at(row, 12)?,
        name: row.string(3)?,
        permissions: Permissions::from_bits(permissions),
        is_demo: row.flag(5)?,
        created_at: row.time(6)?,
        disabled_at: row.time_if(7)?,
        revoked_at: row.time_if(8)?,
        keys: Keys { current: KeyHash(row.hash(9)?), old: old.map(|(hash, until)| OldKey { hash, until }) },
    })
}

/// A user's profile, empty or not, from [`PROFILE`].
pub fn profile(row: &dyn Row) -> Result<(UserId, Profile)> {
    let profile = Profile {
        application_name: row.string_if(1)?,
        application_description: row.string_if(2)?,
        application_logo_url: row.string_if(3)?,
        developer_name: row.string_if(4)?,
        developer_website: row.string_if(5)?,
    };
    Ok((UserId(row.int(0)?), checked(Profile::default().changed(profile))?))
}

/// The profiles of a merchant's users that have one, those of one step.
fn profiles(
    db: &mut dyn Db,
    merchant: MerchantId,
    after: Option<UserId>,
) -> Result<Step<Vec<(UserId, Profile)>, UserId>> {
    let sql = format!("{PROFILE} WHERE merchant_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3");
    let values = values![merchant.0, after.map_or(0, |after| after.0), ROWS_PER_STEP];
    let mut found = all(db, &sql, values, profile)?;
    let next = found.last().map(|(id, _)| *id).filter(|_| found.len() == ROWS_PER_STEP as usize);
    found.retain(|(_, profile)| *profile != Profile::default());
    Ok(Step { found, next })
}

/// Users, in the order of their ids.
fn users(db: &mut dyn Db, merchant: Option<&str>, slice: &Slice<UserId>) -> Result<Vec<User>> {
    let ((direction, lies_behind), after) = (words(slice.order), behind(slice.after.map(|after| after.0), slice.order));
    let of_one = if merchant.is_some() { "AND m.code = $3" } else { "" };
    let sql =
        format!("{} WHERE u.user_id {lies_behind} $1 {of_one} ORDER BY u.user_id {direction} LIMIT $2", user_sql());
    let mut values = values![after, slice.limit].to_vec();
    values.extend(merchant.map(Value::from));
    all(db, &sql, &values, user)
}

/// The user of that name.
pub fn named(db: &mut dyn Db, name: &str) -> Result<Option<User>> {
    one(db, &format!("{} WHERE u.name = $1", user_sql()), values![name], user)
}

/// A merchant's user, who was not revoked, as changes see it.
pub fn find_user(db: &mut dyn Db, merchant: MerchantId, id: UserId) -> Result<Option<UserFound>> {
    let sql = format!("{} WHERE u.user_id = $2 AND u.merchant_id = $1 AND u.revoked_at IS NULL", user_sql());
    let Some(user) = one(db, &sql, values![merchant.0, id.0], user)? else { return Ok(None) };
    let own = one(db, &format!("{PROFILE} WHERE user_id = $1"), values![id.0], profile)?;
    let User { name, permissions, is_demo, disabled_at, keys, .. } = user;
    let profile = own.map(|(_, profile)| profile).unwrap_or_default();
    Ok(Some(UserFound { name, permissions, is_demo, disabled_at, key: keys.current, profile }))
}

/// Sessions, and whose they are.
fn sessions(conn: &mut dyn Conn, keys: &[KeyHash]) -> Result<Vec<Option<Session>>> {
    let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
    each(conn, &keys, |db, keys| {
        let asked = Asked::of(db.dialect(), &[], ["s.key_hash"], keys.iter().map(|key| [Value::from(key)]));
        let sql = format!(
            "SELECT {USER}, {TERMS}, s.expires_at, s.ends_at, s.key_hash FROM session s JOIN \"user\" u ON u.user_id = s.user_id
                JOIN merchant m ON m.merchant_id = u.merchant_id WHERE {}",
            asked.condition
        );
        all(db, &sql, &asked.values, |row| {
            let [expires, ends, key] = [0, 1, 2].map(|column| USER_COLUMNS + column);
            let session = Session { user: user(row)?, expires_at: row.time(expires)?, ends_at: row.time_if(ends)? };
            Ok((row.hash(key)?, session))
        })
    })
}
