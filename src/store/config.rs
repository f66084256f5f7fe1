//! Where a store is, and what the operator decides about it.

use std::fmt;
use std::sync::Arc;

use super::vault::Vault;
use super::{postgres, sqlite};

/// Where a store is, and what the operator decides about it.
#[derive(Clone, Debug)]
pub enum Config {
    /// In a file of this machine, which one server has for itself.
    File(Box<sqlite::Config>),
    /// In a database, which several nodes may share.
    Database(Box<postgres::Config>),
}

impl Config {
    /// What seals secrets.
    pub fn vault(&self) -> &Arc<Vault> {
        match self {
            Self::File(config) => &config.vault,
            Self::Database(config) => &config.vault,
        }
    }
}

/// Where it is, without a password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(config) => config.path.display().fmt(f),
            Self::Database(config) => config.database.fmt(f),
        }
    }
}
