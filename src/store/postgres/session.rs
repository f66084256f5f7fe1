//! A connection to PostgreSQL, and what drives it.
//!
//! Whoever uses one blocks until the database has answered, as with SQLite. What
//! is asked for together goes out together ([`Session::together`]): the database
//! does one after the other, and the way there and back is made once.
//!
//! Behind a pooler of transactions nothing is kept from one to the next. Then no
//! statement is prepared, each transaction is told how it is to be set, and a
//! statement outside of one is made one of its own, in the same way there and back.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::faults::no_answer;
use super::settings::{Settings, Way};
use super::values::{Parameter, parameters};
use crate::store::error::StoreError;
use crate::store::sql::{Db, Dialect, Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// All that is asked of large tables goes by key, or a bounded step at a time. As
/// long as the tables have no statistics, the planner might think otherwise, and keep
/// the plan while they grow.
const BY_KEY: [&str; 4] = ["enable_seqscan = off", "enable_hashjoin = off", "enable_mergejoin = off", "jit = off"];
/// A plan is made once for all values, which is right where the values do not say
/// which way to go.
const ONE_PLAN: [&str; 1] = ["plan_cache_mode = force_generic_plan"];

/// Statements that a connection keeps prepared; beyond, it forgets all of them.
const STATEMENTS_MAX: usize = 256;
/// How much longer than the database itself a statement is waited for.
const GRACE: Duration = Duration::from_secs(1);

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
    way: Way,
    /// What it is set to, such as `lock_timeout = 2000`.
    set: Vec<String>,
    /// A transaction is open.
    is_open: Cell<bool>,
    /// How long the database may take to answer.
    patience: Duration,
    /// How long a transaction may take, if that is bounded.
    transaction_max: Option<Duration>,
    /// When the one that is open has taken that.
    deadline: Cell<Option<Instant>>,
    /// It did not answer, so it is unknown what it is at.
    is_lost: Cell<bool>,
    statements: HashMap<String, Statement>,
}

/// How a transaction begins, with what it is set to.
pub fn begin_sql(mode: &str, set: &[String]) -> String {
    let set: String = set.iter().map(|set| format!("; SET LOCAL {set}")).collect();
    format!("BEGIN {mode}{set}")
}

impl Session {
    /// Connects. Blocks.
    pub fn open(settings: &Settings) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StoreError::failed)?;
        let driver = Driver(Some(runtime));
        let (client, way) = driver.run(settings.connect())?;
        let mut session = Self {
            driver,
            client,
            way,
            set: Vec::new(),
            is_open: Cell::new(false),
            patience: settings.timeouts.statement.saturating_add(GRACE),
            transaction_max: None,
            deadline: Cell::new(None),
            is_lost: Cell::new(false),
            statements: HashMap::new(),
        };
        session.set(&settings.session())?;
        Ok(session)
    }

    /// Sets it, as in `SET name = value`, for all that comes. No transaction is open.
    pub fn set(&mut self, set: &[impl ToString]) -> Result<()> {
        let set: Vec<_> = set.iter().map(ToString::to_string).collect();
        if !self.way.is_pooled {
            self.batch(&set.iter().map(|set| format!("SET {set};")).collect::<String>())?;
        }
        self.set.extend(set);
        Ok(())
    }

    /// Writes nothing from now on. No transaction is open.
    pub fn only_read(&mut self) -> Result<()> {
        if self.way.is_pooled {
            self.set.push("transaction_read_only = on".to_owned());
            return Ok(());
        }
        self.batch("SET default_transaction_read_only = on")
    }

    /// Is called that where the database shows its sessions, and in which schema it is.
    /// Who gets a session lent has no name there.
    pub fn call(&self, name: &str) -> Result<()> {
        if self.way.is_pooled {
            return Ok(());
        }
        self.batch(&format!("SELECT set_config('application_name', '{name} in ' || current_schema(), false)"))
    }

    /// Bounds how long a transaction may take, of which the last statement is no exception.
    pub fn bound_transactions(&mut self, max: Duration) {
        self.transaction_max = Some(max);
    }

    /// Begins a transaction in a mode such as `READ ONLY`, set to this besides.
    pub fn begin(&self, mode: &str, also: &[String]) -> Result<()> {
        let set = if self.way.is_pooled { self.set.as_slice() } else { &[] };
        let sql = begin_sql(mode, &[set, also].concat());
        self.deadline.set(self.transaction_max.map(|max| Instant::now() + max));
        // A part of it may go well.
        self.is_open.set(true);
        let begun = self.batch(&sql);
        if begun.is_err() {
            // A connection on which this fails is not used any more.
            let _ = self.roll_back();
        }
        begun
    }

    /// Commits what is open, as a part of what is asked for together.
    pub async fn commit_with(&self) -> Result<()> {
        let committed = self.client.batch_execute("COMMIT").await;
        self.ended();
        Ok(committed?)
    }

    /// Commits what is open.
    pub fn commit(&self) -> Result<()> {
        self.together(self.commit_with())
    }

    /// Gives up what is open.
    pub fn roll_back(&self) -> Result<()> {
        let rolled_back = self.together(async { Ok(self.client.batch_execute("ROLLBACK").await?) });
        self.ended();
        rolled_back
    }

    fn ended(&self) {
        self.is_open.set(false);
        self.deadline.set(None);
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
            return Err(no_answer());
        }
        let left = self.deadline.get().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = left.map_or(self.patience, |left| left.min(self.patience));
        let answer = self.driver.run(async { tokio::time::timeout(patience, asked).await });
        answer.unwrap_or_else(|_| {
            self.is_lost.set(true);
            Err(no_answer())
        })
    }

    /// Has statements planned to go by key.
    pub fn go_by_key(&mut self) -> Result<()> {
        self.set(&BY_KEY)
    }

    /// Has each statement planned but once, whatever its values.
    pub fn plan_once(&mut self) -> Result<()> {
        self.set(&ONE_PLAN)
    }

    /// Runs statements that have no values.
    pub fn batch(&self, sql: &str) -> Result<()> {
        self.together(self.apart(async { Ok(self.client.batch_execute(sql).await?) }))
    }

    /// The same in a transaction, as a part of what is asked for together.
    pub async fn batch_with(&self, sql: &str) -> Result<()> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Makes what is asked outside of a transaction one of its own, if it has to be told
    /// how it is set.
    async fn apart<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.way.is_pooled || self.is_open.get() {
            return asked.await;
        }
        let begin = begin_sql("", &self.set);
        let (begun, answer, ended) =
            tokio::join!(biased; self.client.batch_execute(&begin), asked, self.client.batch_execute("COMMIT"));
        begun?;
        let answer = answer?;
        ended?;
        Ok(answer)
    }

    /// Keeps a statement prepared, if that is possible.
    pub fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<()> {
        if !self.way.prepares || self.statements.contains_key(sql) {
            return Ok(());
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let prepared = async { Ok(self.client.prepare_typed(sql, types).await?) };
        let statement = self.together(self.apart(prepared))?;
        self.statements.insert(sql.to_owned(), statement);
        Ok(())
    }

    /// The rows that a statement gives, as a part of what is asked for together.
    pub async fn ask(&self, sql: &str, values: &[Parameter<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        let asked = async {
            Ok(match self.statements.get(sql) {
                Some(statement) => {
                    let values: Vec<_> = values.iter().map(|(value, _)| *value).collect();
                    self.client.query(statement, &values).await?
                }
                None => self.client.query_typed(sql, values).await?,
            })
        };
        self.apart(asked).await
    }

    /// How many rows a statement writes, likewise.
    pub async fn tell(&self, sql: &str, values: &[Parameter<'_>]) -> Result<u64> {
        let asked = async {
            Ok(match self.statements.get(sql) {
                Some(statement) => {
                    let values: Vec<_> = values.iter().map(|(value, _)| *value).collect();
                    self.client.execute(statement, &values).await?
                }
                None => self.client.execute_typed(sql, values).await?,
            })
        };
        self.apart(asked).await
    }

    fn prepare_for(&mut self, sql: &str, values: &[Parameter<'_>]) -> Result<()> {
        if !self.way.prepares || self.statements.contains_key(sql) {
            return Ok(());
        }
        let types: Vec<_> = values.iter().map(|(_, kind)| kind.clone()).collect();
        self.prepare(sql, &types)
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
