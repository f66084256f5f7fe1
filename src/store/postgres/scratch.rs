//! Room for a measurement in a database that is there.

use super::aside;
use super::session::Session;
use super::settings::Settings;
use crate::store::error::StoreError;
use crate::store::sql::db::{one, values};

type Result<T> = std::result::Result<T, StoreError>;

/// What the database has done, whoever asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Bytes of its log.
    pub wal_bytes: u64,
    /// Statements, if it counts them (the extension `pg_stat_statements`).
    pub statements: Option<u64>,
}

/// A schema of its own, for a store that goes when this does.
pub struct Scratch {
    session: Session,
    name: String,
    url: String,
}

impl Scratch {
    /// Makes one in the database at that URL. Blocks.
    pub fn make(url: &str, name: &str) -> Result<Self> {
        let settings = Settings::parse(url)?;
        let session = aside(|| {
            let session = Session::open(&settings)?;
            session.batch(&format!("CREATE SCHEMA \"{name}\""))?;
            Ok::<_, StoreError>(session)
        })?;
        let joint = if url.contains('?') { '&' } else { '?' };
        // An earlier word of the same name counts for nothing.
        let url = format!("{url}{joint}options=-csearch_path%3D{name}");
        Ok(Self { session, name: name.to_owned(), url })
    }

    /// Where a server finds it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the database has done since it was made. Blocks.
    pub fn work(&mut self) -> Result<Work> {
        const WAL: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        const COUNTS: &str = "SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'";
        const STATEMENTS: &str = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let session = &mut self.session;
        aside(|| {
            let wal_bytes = one(session, WAL, values![], |row| row.amount(0))?.unwrap_or(0);
            let counts = one(session, COUNTS, values![], |_| Ok(()))?.is_some();
            let statements = if counts { one(session, STATEMENTS, values![], |row| row.amount(0))? } else { None };
            Ok(Work { wal_bytes, statements })
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A schema that stays is a pity, not a failure.
        let Self { session, name, .. } = self;
        let _ = aside(move || session.batch(&format!("DROP SCHEMA \"{name}\" CASCADE")));
    }
}
