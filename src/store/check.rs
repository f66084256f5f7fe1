//! Looking whether a store is as it has to be, whatever engine it is in.

use super::config::Config;
use super::opening::OpenError;
pub use super::sql::check::{Checked, Checker, Fault, Kind, LookedAt, News, Place};
use super::{postgres, sqlite};

impl Checker {
    /// Opens a store that is there, beside running servers or without any; nothing
    /// of it is changed. Fails if it was not written by this version of the schema.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        match config {
            Config::File(config) => Ok(sqlite::check::open(config)?),
            Config::Database(config) => {
                let database = || config.database.to_string();
                postgres::check::open(config).map_err(|cause| OpenError::Database { database: database(), cause })
            }
        }
    }
}
