//! Opening a store, whatever engine it is in.

use std::sync::Arc;

use super::boundary::Store;
use super::config::Config;
use super::error::StoreError;
use super::mailbox::Mailbox;
use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::sqlite::open::OpenError as FileError;
use super::tending::Tending;
use super::upkeep::Upkeep;
use super::vault::Vault;
use crate::domain::time::Clock;
use crate::metrics::Metrics;

/// Why a store can't be opened. It was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A database.
    #[error("{database}: {cause}")]
    Database {
        /// Where it is.
        database: String,
        /// What is wrong.
        cause: StoreError,
    },
}

/// A store that is open.
pub struct Opened {
    /// For everybody.
    pub store: Arc<dyn Store>,
    /// For whoever opened it.
    pub upkeep: Arc<dyn Upkeep>,
    /// Where it announces to the delivery worker what it commits.
    pub mailbox: Arc<Mailbox>,
}

/// Opens the store, and makes it if it is missing. Fails if what lies there is
/// not ours, is newer than this program, or is a file that another process serves.
pub fn open(config: Config, clock: Clock, metrics: &Metrics) -> Result<Opened, OpenError> {
    let tending = match &config {
        Config::File(_) => Tending::default(),
        Config::Database(_) => Tending::by_leases(),
    };
    tell_of_keys(config.vault());
    let mailbox = Arc::new(Mailbox::new(Arc::new(tending)));
    let own = Arc::clone(&mailbox);
    Ok(match config {
        Config::File(config) => {
            let store = Arc::new(SqliteStore::open(*config, clock, own, metrics)?);
            Opened { store: Arc::clone(&store) as _, upkeep: store, mailbox }
        }
        Config::Database(config) => {
            let database = config.database.to_string();
            let opened = PostgresStore::open(*config, clock, own, metrics);
            let store = Arc::new(opened.map_err(|cause| OpenError::Database { database, cause })?);
            Opened { store: Arc::clone(&store) as _, upkeep: store, mailbox }
        }
    })
}

fn tell_of_keys(vault: &Vault) {
    match vault.ids().first() {
        Some(key) => tracing::info!(%key, "secrets of webhooks are encrypted at rest"),
        None => tracing::info!("secrets of webhooks are not encrypted at rest, for there is no master_key_file"),
    }
}
