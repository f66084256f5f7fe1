//! Making the tables, and bringing older ones up to date: whoever comes first does
//! it, under a lock, and all others wait.

use super::session::Session;
use super::settings::Settings;
use super::taking_over::NOW;
use crate::domain::id::StoreId;
use crate::domain::secret::generate_store_id;
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::copying::{COPIED_FROM, fact};
use crate::store::sql::db::{one, values};

type Result<T> = std::result::Result<T, StoreError>;

const SCHEMA: &str = include_str!("schema.sql");
/// Each brings the schema to the version of its number, from the one before. They are numbered
/// as those of a file are, which began earlier: what is older than the first of these is 1.
const MIGRATIONS: &[(i64, &str)] = &[
    (8, include_str!("migrations/0008_audit.sql")),
    (9, include_str!("migrations/0009_egress.sql")),
    (10, include_str!("migrations/0010_identity.sql")),
    (11, include_str!("migrations/0011_trace.sql")),
    (12, include_str!("migrations/0012_labels.sql")),
    (13, include_str!("migrations/0013_oauth2.sql")),
    (14, include_str!("migrations/0014_merchants.sql")),
];
/// The schema that this program writes.
const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;
/// "tallyhook", as a number for `pg_advisory_xact_lock`.
const LOCK: i64 = 0x7461_6c6c_7968_6f6b;

/// Brings the tables to the version that this program writes, and returns the id
/// of the store. Fails if they are newer, or if something else lies there.
pub fn migrate(settings: &Settings) -> Result<StoreId> {
    let mut session = Session::open(settings)?;
    make(&mut session, &[("store_id", generate_store_id())])?;
    check_version(&mut session)?;
    check_not_copied(&mut session)?;
    let store_id = fact(&mut session, "store_id")?;
    session.commit()?;
    store_id.map(StoreId).ok_or_else(|| StoreError::failed("the database has no store id"))
}

/// Makes the tables if there are none, and brings older ones up to date, in a transaction that
/// is left open. A store that is made now begins with these facts about itself.
pub fn make(session: &mut Session, facts: &[(&str, String)]) -> Result<()> {
    session.begin("", &[])?;
    session.run("SELECT pg_advisory_xact_lock($1)", values![LOCK])?;
    let has_meta = one(session, "SELECT to_regclass('meta') IS NOT NULL", &[], |row| row.flag(0))?;
    if has_meta != Some(true) {
        check_empty(session)?;
        session.batch(SCHEMA)?;
        let meta = "INSERT INTO meta (key, value) VALUES ($1, $2)";
        session.run(meta, values!["schema_version", &VERSION.to_string()])?;
        for (key, value) in facts {
            session.run(meta, values![*key, value])?;
        }
        return Ok(());
    }
    let Some(found) = version(session)?.filter(|found| *found < VERSION) else { return Ok(()) };
    for (_, step) in MIGRATIONS.iter().filter(|(number, _)| *number > found) {
        session.batch(step)?;
    }
    let raise = "UPDATE meta SET value = $1 WHERE key = 'schema_version'";
    session.run(raise, values![&VERSION.to_string()]).map(drop)
}

/// The version of the tables; `None`: they are none of ours.
fn version(session: &mut Session) -> Result<Option<i64>> {
    Ok(fact(session, "schema_version")?.and_then(|text| text.parse().ok()))
}

/// Fails unless the tables are those that this program writes, and hold a whole store.
pub fn check_version(session: &mut Session) -> Result<()> {
    check_schema(session)?;
    match fact(session, COPIED_FROM)? {
        None => Ok(()),
        Some(from) => Err(StoreError::failed(format!(
            "the database holds no whole store yet, but the beginnings of a copy of {from}; the same tallyhook migrate \
             goes on with it, or empty the database"
        ))),
    }
}

/// Fails while it is being copied to another store: what was written meanwhile would be
/// lost. Whoever copies it holds a lock ([`super::copying`]) that nobody else takes.
fn check_not_copied(session: &mut Session) -> Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.relation = 'node'::regclass AND l.mode = 'ExclusiveLock' AND l.granted)";
    match one(session, sql, &[], |row| row.flag(0))? {
        Some(true) => Err(StoreError::failed("the database is being copied by tallyhook migrate; wait for its end")),
        _ => Ok(()),
    }
}

/// Fails unless the tables are those that this program writes.
pub fn check_schema(session: &mut Session) -> Result<()> {
    match version(session)? {
        Some(VERSION) => Ok(()),
        Some(found) if found < VERSION => Err(StoreError::failed(format!(
            "the database was written by an older tallyhook (schema {found}; this one reads {VERSION}); serving it \
             once brings it up to date"
        ))),
        Some(found) => Err(StoreError::failed(format!(
            "the database was written by a newer tallyhook (schema {found}; this one knows up to {VERSION}); \
                 upgrade the program"
        ))),
        None => Err(StoreError::failed("the database holds tables, but no tallyhook store; name another one")),
    }
}

/// Gives the store a new id; the old one, and the new one. Fails if a server has it.
pub fn renew_store_id(settings: &Settings) -> Result<(StoreId, StoreId)> {
    let old = migrate(settings)?;
    let new = StoreId(generate_store_id());
    let mut session = Session::open(settings)?;
    // None begins to serve meanwhile.
    session.begin("", &[])?;
    session.batch("LOCK TABLE node IN SHARE ROW EXCLUSIVE MODE")?;
    check_no_nodes(&mut session)?;
    session.run("UPDATE meta SET value = $1 WHERE key = 'store_id'", values![&new.0])?;
    session.commit()?;
    Ok((old, new))
}

/// Fails if servers have the store.
pub fn check_no_nodes(session: &mut Session) -> Result<()> {
    let sql = format!("SELECT name FROM node WHERE expires_at > {NOW} ORDER BY node_id LIMIT 1");
    match one(session, &sql, &[], |row| row.string(0))? {
        None => Ok(()),
        Some(name) => Err(StoreError::failed(format!(
            "it is being served by the node {name}; stop all its servers first. What was killed counts as there until \
             its lease has expired, some seconds later"
        ))),
    }
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
