//! Copying a store out of a database, and into one.
//!
//! A transaction that stays open to the end holds a lock on the table of nodes, so that
//! none begins to serve; on the one that is copied from also on that of merchants, whose
//! rows everybody locks who writes. The lock goes with the connection.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::config::Config;
use super::migrating;
use super::session::Session;
use super::values::{Parameter, storable};
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::copying::{Batch, COUNTED, Cells, LAST_NUMBER, LastIds, Side, Table, Target, check_is_own};
use crate::store::sql::db::{one, values};

type Result<T> = std::result::Result<T, StoreError>;

/// How long a statement may take: counting all rows is one.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Tables are read by their keys, whatever the planner thinks of their sizes.
const BY_KEY_ALONE: [&str; 5] = [
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_sort = off",
    "plan_cache_mode = force_generic_plan",
    "jit = off",
];

/// What a sequence is called that ids are drawn from, in the order of [`COUNTED`].
const SEQUENCES: [&str; COUNTED.len()] = [
    "merchant_merchant_id_seq",
    "user_user_id_seq",
    "token_token_id_seq",
    "webhook_id",
    "event_id",
    "topic_topic_id_seq",
    "fanout_id",
    "job_id",
    "audit_audit_id_seq",
];

/// No node has this id. Whoever serves the store takes over what it has begun.
const NO_NODE: i64 = 0;

fn connect(config: &Config) -> Result<Session> {
    let mut settings = config.database.clone();
    settings.timeouts.statement = STATEMENT_TIMEOUT;
    // Zero is for ever: a lock is held while nothing is said.
    settings.timeouts.idle = Duration::ZERO;
    let mut session = Session::open(&settings)?;
    session.set(&BY_KEY_ALONE)?;
    Ok(session)
}

/// Begins a transaction that keeps others from these tables, or fails if they are there.
fn keep(session: &mut Session, tables: &str) -> Result<()> {
    session.begin("", &[])?;
    migrating::check_no_nodes(session)?;
    match session.batch(&format!("LOCK TABLE {tables} IN EXCLUSIVE MODE")) {
        Err(StoreError::Held { .. }) => Err(StoreError::failed(
            "somebody else is at work on it: a server, another command or another tallyhook migrate; stop that first",
        )),
        locked => locked,
    }?;
    // One may have come in between.
    migrating::check_no_nodes(session)
}

fn last_ids(session: &mut Session) -> Result<LastIds> {
    let mut last = LastIds::default();
    for (id, sequence) in last.ids.iter_mut().zip(SEQUENCES) {
        let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
        *id = one(session, &sql, &[], |row| row.int(0))?.unwrap_or(0);
    }
    Ok(last)
}

/// A database that is copied from, in one transaction.
pub struct CopiedFrom(Session);

/// Connects to a database to copy from it. Fails if it is being served.
pub fn from(config: &Config) -> Result<CopiedFrom> {
    let mut session = connect(config)?;
    session.only_read()?;
    migrating::check_version(&mut session)?;
    keep(&mut session, "node, merchant")?;
    Ok(CopiedFrom(session))
}

/// Whoever comes next need not wait until the database has noticed.
impl Drop for CopiedFrom {
    fn drop(&mut self) {
        // Without a connection there is no lock.
        let _ = self.0.roll_back();
    }
}

impl Side for CopiedFrom {
    fn db(&mut self) -> &mut dyn Db {
        &mut self.0
    }

    fn last_ids(&mut self) -> Result<LastIds> {
        last_ids(&mut self.0)
    }

    /// Whatever is read is read in the transaction that has the lock.
    fn check_kept(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A database that is copied into.
pub struct CopiedInto {
    session: Session,
    /// Has the lock.
    keeping: Session,
}

/// Connects to a database to copy into it, and makes the tables if there are none; the
/// store then begins with these facts.
pub fn into(config: &Config, facts: &[(&'static str, String)]) -> Result<CopiedInto> {
    let mut session = connect(config)?;
    migrating::make(&mut session, facts)?;
    migrating::check_schema(&mut session)?;
    check_is_own(&mut session, facts)?;
    session.commit()?;
    let mut keeping = connect(config)?;
    keep(&mut keeping, "node")?;
    // Another migrate may have ended before the lock was to be had.
    check_is_own(&mut session, facts)?;
    Ok(CopiedInto { session, keeping })
}

impl Drop for CopiedInto {
    fn drop(&mut self) {
        let _ = self.keeping.roll_back();
    }
}

impl Side for CopiedInto {
    fn db(&mut self) -> &mut dyn Db {
        &mut self.session
    }

    fn last_ids(&mut self) -> Result<LastIds> {
        last_ids(&mut self.session)
    }

    fn check_kept(&mut self) -> Result<()> {
        self.keeping.batch("SELECT 1")
    }
}

impl Target for CopiedInto {
    fn held(&self, text: &str) -> Option<String> {
        match storable(text) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(other) => Some(other),
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.session.begin("", &[])
    }

    fn commit(&mut self) -> Result<()> {
        self.session.commit()
    }

    /// An array for each column; numbers become as small as the table has them.
    fn insert(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        // The last number of a webhook is that of its last delivery here.
        let is_stored = |name: &str| (table.name, name) != ("webhook", LAST_NUMBER);
        let columns = table.columns.iter().zip(&rows.columns).filter(|((name, _), _)| is_stored(name));
        let (mut names, mut places, mut parameters) = (Vec::new(), Vec::new(), Vec::<Parameter<'_>>::new());
        for ((name, _), cells) in columns {
            names.push(*name);
            places.push(format!("${}", names.len()));
            parameters.push(match cells {
                Cells::Int(cells) => (cells, Type::INT8_ARRAY),
                Cells::Text(cells) => (cells, Type::TEXT_ARRAY),
                Cells::Bytes(cells) => (cells, Type::BYTEA_ARRAY),
                Cells::Flag(cells) => (cells, Type::BOOL_ARRAY),
            });
        }
        let (node, no_node) = match table.name {
            "fanout" | "job" => (", node_id", format!(", {NO_NODE}")),
            _ => ("", String::new()),
        };
        let (name, names, places) = (table.name, names.join(", "), places.join(", "));
        let sql = format!("INSERT INTO {name} ({names}{node}) SELECT *{no_node} FROM unnest({places})");
        let types: Vec<_> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        self.session.prepare(&sql, &types)?;
        self.session.together(self.session.tell(&sql, &parameters)).map(drop)
    }

    fn set_last_ids(&mut self, last: &LastIds) -> Result<()> {
        for ((_, id), sequence) in last.members().zip(SEQUENCES) {
            // One that was never drawn from begins with 1.
            let sql = format!("SELECT setval('{sequence}', greatest($1, 1), $1 > 0)");
            self.session.rows(&sql, values![id], &mut |_| Ok(true))?;
        }
        Ok(())
    }

    /// The planner knows nothing of the tables yet.
    fn finish(&mut self) -> Result<()> {
        self.session.batch("ANALYZE merchant, \"user\", webhook, event, topic, idempotency, delivery, attempt")
    }
}
