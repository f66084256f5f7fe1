//! Where the database is, and how it is talked to.

use std::fmt;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

use crate::store::error::StoreError;

/// Where the database is, and how it is talked to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where, and as whom.
    pub database: Config,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long another transaction is waited for.
    pub lock_timeout: Duration,
    /// How long a transaction may stand still, in which others may be waiting for what
    /// it holds.
    pub idle_timeout: Duration,
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
    /// From a URL such as `postgres://user:password@host:5432/database`, or the
    /// form `host=… user=…`.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let database: Config = url.parse().map_err(StoreError::failed)?;
        Ok(Self {
            database,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(5),
        })
    }

    /// Connects; whoever asks drives the connection.
    pub async fn link(&self) -> Result<(Client, Connection<Socket, NoTlsStream>), StoreError> {
        let connected = tokio::time::timeout(self.connect_timeout, self.database.connect(NoTls)).await;
        Ok(connected.map_err(|_| StoreError::failed("the database does not answer"))??)
    }

    /// Connects, and has the connection driven by the runtime that this runs on.
    pub async fn connect(&self) -> Result<Client, StoreError> {
        let (client, connection) = self.link().await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// What a session begins with.
    pub fn session_sql(&self) -> String {
        let (statement, lock) = (self.statement_timeout.as_millis(), self.lock_timeout.as_millis());
        let idle = self.idle_timeout.as_millis();
        format!(
            "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
             SET idle_in_transaction_session_timeout = {idle}; SET synchronous_commit = on; \
             SET client_min_messages = warning"
        )
    }
}
