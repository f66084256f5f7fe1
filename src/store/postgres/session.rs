//! A connection to PostgreSQL, and what drives it.
//!
//! Whoever uses one blocks until the database has answered, as with SQLite. What
//! is asked for together goes out together ([`Session::together`]): the database
//! does one after the other, and the way there and back is made once.

use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::settings::Settings;
use super::values::{Parameter, parameters};
use crate::store::error::StoreError;
use crate::store::ledger::BUSY_RETRY_AFTER;
use crate::store::sql::{Db, Dialect, Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// Statements that a connection keeps prepared; beyond, it forgets all of them.
const STATEMENTS_MAX: usize = 256;
/// How much longer than the database itself a statement is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What drives a connection. It may be let go of on any thread.
struct Driver(Option<Runtime>);

impl Driver {
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("it is there until it is dropped").block_on(future)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection.
pub struct Session {
    driver: Driver,
    client: Client,
    /// How long the database may take to answer.
    patience: Duration,
    /// It did not answer, so it is unknown what it is at.
    is_lost: Cell<bool>,
    statements: HashMap<String, Statement>,
}

impl Session {
    /// Connects. Blocks.
    pub fn open(settings: &Settings) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StoreError::failed)?;
        let driver = Driver(Some(runtime));
        let client = driver.run(settings.connect())?;
        let session = Self {
            driver,
            client,
            patience: settings.statement_timeout.saturating_add(GRACE),
            is_lost: Cell::new(false),
            statements: HashMap::new(),
        };
        session.batch(&settings.session_sql())?;
        Ok(session)
    }

    /// True unless the connection has ended. The database is not asked.
    pub fn is_alive(&self) -> bool {
        // What the system has heard meanwhile is heeded now.
        self.driver.run(tokio::task::yield_now());
        !self.is_lost.get() && !self.client.is_closed()
    }

    /// Waits for what is asked of the database. If it takes too long, the
    /// connection is lost.
    pub fn together<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_lost.get() {
            return Err(StoreError::failed("the database did not answer"));
        }
        let answer = self.driver.run(async { tokio::time::timeout(self.patience, asked).await });
        answer.unwrap_or_else(|_| {
            self.is_lost.set(true);
            Err(StoreError::failed("the database did not answer"))
        })
    }

    /// Runs statements that have no values.
    pub fn batch(&self, sql: &str) -> Result<()> {
        self.together(async { Ok(self.client.batch_execute(sql).await?) })
    }

    /// The same as a part of what is asked for together.
    pub async fn simply(&self, sql: &str) -> Result<()> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Keeps a statement prepared.
    pub fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<()> {
        if self.statements.contains_key(sql) {
            return Ok(());
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let statement = self.together(async { Ok(self.client.prepare_typed(sql, types).await?) })?;
        self.statements.insert(sql.to_owned(), statement);
        Ok(())
    }

    /// The rows that a statement gives, as a part of what is asked for together.
    pub async fn ask(&self, sql: &str, values: &[Parameter<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        Ok(match self.statements.get(sql) {
            Some(statement) => {
                let values: Vec<_> = values.iter().map(|(value, _)| *value).collect();
                self.client.query(statement, &values).await?
            }
            None => self.client.query_typed(sql, values).await?,
        })
    }

    /// How many rows a statement writes, likewise.
    pub async fn tell(&self, sql: &str, values: &[Parameter<'_>]) -> Result<u64> {
        Ok(match self.statements.get(sql) {
            Some(statement) => {
                let values: Vec<_> = values.iter().map(|(value, _)| *value).collect();
                self.client.execute(statement, &values).await?
            }
            None => self.client.execute_typed(sql, values).await?,
        })
    }

    fn prepare_for(&mut self, sql: &str, values: &[Parameter<'_>]) -> Result<()> {
        if self.statements.contains_key(sql) {
            return Ok(());
        }
        let types: Vec<_> = values.iter().map(|(_, kind)| kind.clone()).collect();
        self.prepare(sql, &types)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(cause: tokio_postgres::Error) -> Self {
        match cause.code() {
            Some(&SqlState::DISK_FULL) => Self::DiskFull,
            // Somebody else holds what was to be changed.
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::Held { retry_after: BUSY_RETRY_AFTER },
            _ => Self::failed(in_words(&cause)),
        }
    }
}

/// What the database said, or else what went wrong with the connection.
fn in_words(cause: &tokio_postgres::Error) -> String {
    match (cause.as_db_error(), cause.source()) {
        (Some(said), _) => format!("the database said: {} (SQLSTATE {})", said.message(), said.code().code()),
        (None, Some(source)) => format!("{cause}: {source}"),
        (None, None) => cause.to_string(),
    }
}

impl Db for Session {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let values = parameters(values);
        self.prepare_for(sql, &values)?;
        self.together(self.tell(sql, &values))
    }

    fn rows(&mut self, sql: &str, values: &[Value<'_>], each: &mut dyn FnMut(&dyn Row) -> Result<bool>) -> Result<()> {
        let values = parameters(values);
        self.prepare_for(sql, &values)?;
        let rows = self.together(self.ask(sql, &values))?;
        for row in &rows {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }
}
