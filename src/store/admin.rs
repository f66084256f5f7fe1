//! What an operator does to a store at the command line, whatever engine it is in.

use super::config::Config;
use super::opening::OpenError;
pub use super::sql::admin::{Admin, AdminError, Found, Loaded, NewUser};
use super::{postgres, sqlite};
use crate::domain::cluster::Cluster;
use crate::domain::id::StoreId;
use crate::domain::time::Timestamp;

impl Admin {
    /// Opens the store beside running servers; makes it if there is none.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        match config {
            Config::File(config) => Ok(sqlite::admin::open(config)?),
            Config::Database(config) => {
                let database = || config.database.to_string();
                postgres::admin::open(config).map_err(|cause| OpenError::Database { database: database(), cause })
            }
        }
    }
}

/// True unless a store of that name would have to be made.
pub fn is_there(config: &Config) -> Result<bool, OpenError> {
    match config {
        Config::File(config) => Ok(config.path.exists()),
        Config::Database(config) => {
            let database = || config.database.to_string();
            postgres::admin::is_there(config).map_err(|cause| OpenError::Database { database: database(), cause })
        }
    }
}

/// Gives a store that is not served a new id, so that whatever it sends differs
/// from what was ever sent before: the old one, and the new one. Fails if a server
/// has it.
pub fn renew_store_id(config: &Config, now: Timestamp) -> Result<(StoreId, StoreId), OpenError> {
    match config {
        Config::File(config) => Ok(sqlite::admin::renew_store_id(config, now)?),
        Config::Database(config) => {
            let database = || config.database.to_string();
            postgres::admin::renew_store_id(config).map_err(|cause| OpenError::Database { database: database(), cause })
        }
    }
}

/// The nodes that share the store, from beside them; `None`: it is in a file, which
/// one server has for itself.
pub fn nodes(config: &Config) -> Result<Option<Cluster>, OpenError> {
    match config {
        Config::File(_) => Ok(None),
        Config::Database(config) => {
            let database = || config.database.to_string();
            let seen = postgres::nodes::look(config);
            seen.map(Some).map_err(|cause| OpenError::Database { database: database(), cause })
        }
    }
}
