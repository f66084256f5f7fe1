//! Making the tables, and bringing older ones up to date: whoever comes first does
//! it, under a lock, and all others wait.

use super::session::Session;
use super::settings::Settings;
use crate::domain::id::StoreId;
use crate::domain::secret::generate_store_id;
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::db::{one, values};

type Result<T> = std::result::Result<T, StoreError>;

const SCHEMA: &str = include_str!("schema.sql");
/// The schema that this program writes.
const VERSION: i64 = 1;
/// "tallyhook", as a number for `pg_advisory_xact_lock`.
const LOCK: i64 = 0x7461_6c6c_7968_6f6b;

/// Brings the tables to the version that this program writes, and returns the id
/// of the store. Fails if they are newer, or if something else lies there.
pub fn migrate(settings: &Settings) -> Result<StoreId> {
    let mut session = Session::open(settings)?;
    session.batch("BEGIN")?;
    session.run("SELECT pg_advisory_xact_lock($1)", values![LOCK])?;
    let has_meta = one(&mut session, "SELECT to_regclass('meta') IS NOT NULL", &[], |row| row.flag(0))?;
    if has_meta != Some(true) {
        check_empty(&mut session)?;
        session.batch(SCHEMA)?;
        let meta = "INSERT INTO meta (key, value) VALUES ($1, $2)";
        session.run(meta, values!["schema_version", &VERSION.to_string()])?;
        session.run(meta, values!["store_id", &generate_store_id()])?;
    }
    let found = read(&mut session, "schema_version")?;
    match found.as_deref().and_then(|text| text.parse::<i64>().ok()) {
        Some(VERSION) => {}
        Some(found) if found > VERSION => {
            return Err(StoreError::failed(format!(
                "the database was written by a newer tallyhook (schema {found}; this one knows up to {VERSION}); \
                 upgrade the program"
            )));
        }
        _ => return Err(StoreError::failed("the database holds tables, but no tallyhook store; name another one")),
    }
    let store_id = read(&mut session, "store_id")?;
    session.batch("COMMIT")?;
    store_id.map(StoreId).ok_or_else(|| StoreError::failed("the database has no store id"))
}

/// Gives the store a new id; the old one, and the new one.
pub fn renew_store_id(settings: &Settings) -> Result<(StoreId, StoreId)> {
    let old = migrate(settings)?;
    let new = StoreId(generate_store_id());
    let mut session = Session::open(settings)?;
    session.run("UPDATE meta SET value = $1 WHERE key = 'store_id'", values![&new.0])?;
    Ok((old, new))
}

/// Fails if there are tables already, which are not ours.
fn check_empty(session: &mut Session) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    match one(session, sql, &[], |row| row.int(0))? {
        Some(0) => Ok(()),
        _ => {
            Err(StoreError::failed("the database holds other tables; name one that is empty, or another schema of it"))
        }
    }
}

fn read(session: &mut Session, key: &str) -> Result<Option<String>> {
    one(session, "SELECT value FROM meta WHERE key = $1", values![key], |row| Ok(row.text(0)?.to_owned()))
}
