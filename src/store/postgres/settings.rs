//! Where the database is, and how it is talked to.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Connection, SimpleQueryMessage, Socket};
use tracing::info;

use super::address::Address;
use super::faults::no_answer;
use super::tls::{Stream, Tls};
use crate::store::error::StoreError;

/// Sent with a connection's beginning. What it sets is there as long as the connection
/// is with one session of the database; a pooler that lends sessions out for a
/// transaction refuses it, or keeps it to itself.
const MARK: &str = "tallyhook.direct";

/// How long is waited for the database.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For one statement.
    pub statement: Duration,
    /// For another transaction.
    pub lock: Duration,
    /// How long a transaction may stand still, in which others may be waiting for what
    /// it holds; zero is for ever.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            statement: Duration::from_secs(10),
            lock: Duration::from_secs(2),
            idle: Duration::from_secs(5),
        }
    }
}

/// Whether statements are kept prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prepare {
    /// If a connection is with one session of the database.
    #[default]
    Auto,
    /// Whatever is in between: it keeps them, too.
    On,
    /// No, and nothing else is kept from one transaction to the next either.
    Off,
}

/// What there is between here and the database, found out at the first connection.
#[derive(Clone, Debug)]
pub struct Way {
    /// A session of the database is lent for a transaction, so nothing is kept in it.
    pub is_pooled: bool,
    /// Statements are kept prepared.
    pub prepares: bool,
    /// What connections begin with.
    options: Option<String>,
}

/// Where the database is, and how it is talked to.
#[derive(Clone, Debug)]
pub struct Settings {
    database: Config,
    options: Option<String>,
    tls: Tls,
    /// How long is waited for it.
    pub timeouts: Timeouts,
    /// Whether statements are kept prepared.
    pub prepare: Prepare,
    way: Arc<OnceLock<Way>>,
}

/// Where it is, without a password.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.database.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.database.get_ports();
        for (place, host) in self.database.get_hosts().iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            if let Some(port) = ports.get(place).or(ports.last()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.database.get_dbname().unwrap_or_default())
    }
}

impl Settings {
    /// From a URL such as `postgres://user:password@host:5432/database`. The error never
    /// repeats a password.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let Address { config, options, tls } = Address::parse(url).map_err(StoreError::failed)?;
        Ok(Self {
            database: config,
            options,
            tls,
            timeouts: Timeouts::default(),
            prepare: Prepare::default(),
            way: Arc::default(),
        })
    }

    /// The same with these time-outs, and statements prepared so.
    pub fn with(self, timeouts: Timeouts, prepare: Prepare) -> Self {
        Self { timeouts, prepare, ..self }
    }

    /// The same for connections that write: of several databases, the one that takes it.
    pub fn for_writing(&self) -> Self {
        let mut settings = self.clone();
        settings.database.target_session_attrs(TargetSessionAttrs::ReadWrite);
        settings
    }

    /// Connects; whoever asks drives the connection.
    pub async fn link(&self) -> Result<(Client, Connection<Socket, Stream>, Way), StoreError> {
        let linking = async {
            let way = self.way().await?;
            let mut database = self.database.clone();
            if let Some(options) = &way.options {
                database.options(options);
            }
            let (client, connection) = self.reach(&database).await?;
            Ok((client, connection, way))
        };
        tokio::time::timeout(self.timeouts.connect, linking).await.map_err(|_| no_answer())?
    }

    /// Connects, and has the connection driven by the runtime that this runs on.
    pub async fn connect(&self) -> Result<(Client, Way), StoreError> {
        let (client, connection, way) = self.link().await?;
        tokio::spawn(connection);
        Ok((client, way))
    }

    async fn reach(&self, database: &Config) -> Result<(Client, Connection<Socket, Stream>), tokio_postgres::Error> {
        database.connect(self.tls.clone()).await
    }

    /// What is between here and the database. It is found out once.
    async fn way(&self) -> Result<Way, StoreError> {
        if let Some(way) = self.way.get() {
            return Ok(way.clone());
        }
        let way = self.find_way().await?;
        if self.way.set(way.clone()).is_ok() && way.is_pooled {
            info!(database = %self, prepares = way.prepares, "connections go through a pooler of transactions");
        }
        Ok(way)
    }

    async fn find_way(&self) -> Result<Way, StoreError> {
        let marked = format!("{} -c {MARK}=on", self.options.as_deref().unwrap_or_default());
        let mut database = self.database.clone();
        database.target_session_attrs(TargetSessionAttrs::Any).options(marked.trim());
        let is_marked = match self.reach(&database).await {
            Ok((client, connection)) => {
                let asked = client.simple_query("SELECT current_setting('tallyhook.direct', TRUE)");
                let (answer, ended) = {
                    tokio::pin!(asked, connection);
                    tokio::select! {
                        answer = &mut asked => (Some(answer?), Ok(())),
                        ended = &mut connection => (None, ended),
                    }
                };
                ended?;
                let answer = answer.ok_or_else(no_answer)?;
                answer.iter().any(|part| matches!(part, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")))
            }
            // A pooler that knows of no such thing.
            Err(cause) if cause.code() == Some(&SqlState::PROTOCOL_VIOLATION) => false,
            Err(cause) => return Err(cause.into()),
        };
        let is_pooled = !is_marked || self.prepare == Prepare::Off;
        if !is_marked && self.options.is_some() {
            return Err(StoreError::failed(
                "a pooler stands in front of the database and does not pass on what the URL says by options=; leave \
                 that out, and for another schema let the database have it: ALTER ROLE … SET search_path = …",
            ));
        }
        let prepares = match self.prepare {
            Prepare::Auto => !is_pooled,
            Prepare::On => true,
            Prepare::Off => false,
        };
        Ok(Way { is_pooled, prepares, options: if is_marked { Some(marked.trim().to_owned()) } else { None } })
    }

    /// How long locks are waited for.
    pub fn lock_timeout(&self) -> Duration {
        self.timeouts.lock
    }

    /// What a session is set to.
    pub fn session(&self) -> Vec<String> {
        let Timeouts { statement, lock, idle, .. } = self.timeouts;
        vec![
            format!("statement_timeout = {}", statement.as_millis()),
            format!("lock_timeout = {}", lock.as_millis()),
            format!("idle_in_transaction_session_timeout = {}", idle.as_millis()),
            "synchronous_commit = on".to_owned(),
            "client_min_messages = warning".to_owned(),
        ]
    }
}
