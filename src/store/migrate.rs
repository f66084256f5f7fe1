//! Copying a whole store into an empty one of the other engine.

use super::backup;
use super::config::Config;
use super::error::StoreError;
use super::opening::OpenError;
pub use super::sql::copying::{Compared, Doing, News};
use super::sql::copying::{Side, Target, copy, first_facts};
use super::{postgres, sqlite};
use crate::domain::time::Timestamp;

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Both are in the same engine.
    #[error("one of the two has to be sqlite:PATH, the other postgres://…; within an engine its own tools make copies")]
    SameEngine,
    /// It is yet to be looked at.
    #[error("{store} sends nothing, since {why}, and the new one would; run tallyhook store resume first")]
    Held {
        /// The store that there is.
        store: String,
        /// Why it is held back.
        why: String,
    },
    /// One of them can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was interrupted.
    #[error("{cause}. What was copied stays; the same command goes on from there")]
    Interrupted {
        /// By what.
        cause: StoreError,
    },
}

/// Copies a store that nobody serves into another that is empty, or holds the beginnings
/// of this copy, and compares them. If they are equal, the other can be served; else it
/// can't, and [`Compared::differences`] says why.
pub fn migrate(
    from: &Config,
    to: &Config,
    now: Timestamp,
    mut tell: impl FnMut(News),
) -> Result<Compared, MigrateError> {
    if let Some(why) = backup::held(from) {
        return Err(MigrateError::Held { store: from.to_string(), why });
    }
    let mut source: Box<dyn Side> = match (from, to) {
        (Config::File(config), Config::Database(_)) => {
            Box::new(sqlite::copying::from(config).map_err(OpenError::from)?)
        }
        (Config::Database(config), Config::File(_)) => Box::new(postgres::copying::from(config).map_err(at(from))?),
        (Config::File(_), Config::File(_)) | (Config::Database(_), Config::Database(_)) => {
            return Err(MigrateError::SameEngine);
        }
    };
    let facts = first_facts(source.as_mut()).map_err(at(from))?;
    let mut target: Box<dyn Target> = match to {
        Config::File(config) => Box::new(sqlite::copying::into(config, &facts, now).map_err(OpenError::from)?),
        Config::Database(config) => Box::new(postgres::copying::into(config, &facts).map_err(at(to))?),
    };
    copy(source.as_mut(), target.as_mut(), &mut tell).map_err(|cause| MigrateError::Interrupted { cause })
}

fn at(config: &Config) -> impl FnOnce(StoreError) -> OpenError {
    let database = config.to_string();
    |cause| OpenError::Database { database, cause }
}
