//! A connection on which a thread asks that waits for other things as well.

use std::time::Duration;

use tokio_postgres::{Client, Row};

use super::faults::no_answer;
use super::session::begin_sql;
use super::settings::Way;
use super::values::Parameter;
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// A connection, each of whose statements is a transaction of its own.
pub struct Asking {
    client: Client,
    /// What such a transaction begins with, if the session keeps nothing.
    begin: Option<String>,
    /// How long an answer is waited for.
    patience: Duration,
}

impl Asking {
    /// On a connection that is driven by whoever made it: has it set to this, and called
    /// that where the database shows its sessions.
    pub async fn on(client: Client, way: &Way, set: &[String], name: &str, patience: Duration) -> Result<Self> {
        let begin = way.is_pooled.then(|| begin_sql("", set));
        let asking = Self { client, begin, patience };
        if !way.is_pooled {
            let set: String = set.iter().map(|set| format!("SET {set};")).collect();
            let name = format!("SELECT set_config('application_name', '{name} in ' || current_schema(), false)");
            asking.batch(&format!("{set}{name}")).await?;
        }
        Ok(asking)
    }

    /// What a statement gives. A database that does not answer has the connection be
    /// given up.
    pub async fn ask(&self, sql: &str, values: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let asked = async {
            let Some(begin) = &self.begin else { return Ok(self.client.query_typed(sql, values).await?) };
            let (begun, answer, ended) = tokio::join!(biased; self.client.batch_execute(begin),
                self.client.query_typed(sql, values), self.client.batch_execute("COMMIT"));
            begun?;
            let answer = answer?;
            ended?;
            Ok(answer)
        };
        tokio::time::timeout(self.patience, asked).await.map_err(|_| no_answer())?
    }

    /// Runs what has no values on a session that keeps what it is set to.
    pub async fn batch(&self, sql: &str) -> Result<()> {
        let asked = tokio::time::timeout(self.patience, self.client.batch_execute(sql)).await;
        Ok(asked.map_err(|_| no_answer())??)
    }
}
