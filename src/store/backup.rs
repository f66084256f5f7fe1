//! Copies of a store, and putting one back, whatever engine it is in.

use std::path::{Path, PathBuf};

use super::config::Config;
use super::error::StoreError;
use super::opening::OpenError;
pub use super::sql::check::{Checked, Fault};
use super::sqlite;
use super::sqlite::open::OpenError as FileError;
use crate::domain::id::StoreId;
use crate::domain::time::Timestamp;

/// Why there is no copy, or it was not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has tools of its own for that.
    #[error(
        "{0} is a database of PostgreSQL, whose own tools copy it: pg_dump makes a copy beside running servers, \
         pg_restore puts it back, and tallyhook store new-id gives that a new id (docs/backup.md)"
    )]
    Database(String),
    /// Nothing is overwritten.
    #[error("{path} is there already, and nothing is overwritten; {what}", path = path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
        /// What to do.
        what: &'static str,
    },
    /// There is nothing to put back.
    #[error("{path}: {problem}", path = path.display())]
    NoCopy {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
    /// What was written is not what a store has to be.
    #[error("{path}: faults found in it: {faults}; {outcome}", path = path.display())]
    Faulty {
        /// What was looked at.
        path: PathBuf,
        /// How many.
        faults: u64,
        /// What became of it.
        outcome: &'static str,
    },
    /// The store, or the copy, can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file can't be read or written.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The engine failed.
    #[error("{path}: {cause}", path = path.display())]
    Failed {
        /// In what.
        path: PathBuf,
        /// How.
        cause: StoreError,
    },
}

impl From<FileError> for BackupError {
    fn from(error: FileError) -> Self {
        Self::Open(error.into())
    }
}

/// What is told meanwhile.
pub enum News<'a> {
    /// So many of so many bytes are there.
    Copied(u64, u64),
    /// This part of the copy is looked through.
    Checking(&'static str),
    /// The copy has a fault.
    Fault(&'a Fault),
}

/// A copy that was made.
#[derive(Clone, Debug)]
pub struct Written {
    /// How long its file is.
    pub bytes: u64,
    /// What was found in it.
    pub checked: Checked,
}

/// How a copy is put back.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// A store that is there is moved out of the way, rather than that it is refused.
    pub moves_aside: bool,
    /// The store sends nothing until [`resume`].
    pub is_held: bool,
    /// When that is.
    pub now: Timestamp,
}

/// A copy that was put back.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The id of the store when it was copied.
    pub old_id: StoreId,
    /// Its id from now on.
    pub new_id: StoreId,
    /// Where the store that was there is now.
    pub aside: Option<PathBuf>,
    /// What was found in it.
    pub checked: Checked,
}

/// Fails with [`BackupError::Database`] unless the store is in a file.
pub fn check_engine(config: &Config) -> Result<(), BackupError> {
    in_file(config).map(drop)
}

/// Copies the store as it is at one moment into a file that is not there yet, beside a server
/// that goes on, and looks through the copy. What is wrong with that and is no damage is the
/// store's own: it is told, and the copy is kept.
pub fn back_up(config: &Config, to: &Path, mut tell: impl FnMut(News<'_>)) -> Result<Written, BackupError> {
    sqlite::backup::back_up(in_file(config)?, to, &mut tell)
}

/// Makes a copy the store, under a new id. Fails if it has any fault, and if a server has the
/// store.
pub fn restore(
    from: &Path,
    config: &Config,
    terms: Terms,
    mut tell: impl FnMut(News<'_>),
) -> Result<Restored, BackupError> {
    sqlite::backup::restore(from, in_file(config)?, terms, &mut tell)
}

/// Why the store sends nothing until [`resume`]; `None`: it is not held back.
pub fn held(config: &Config) -> Option<String> {
    match config {
        Config::File(config) => sqlite::backup::held(config),
        Config::Database(_) => None,
    }
}

/// Holds the store back no longer, from the next start on. False if it was not held back.
pub fn resume(config: &Config) -> Result<bool, BackupError> {
    match config {
        Config::File(config) => sqlite::backup::resume(config),
        Config::Database(_) => Ok(false),
    }
}

fn in_file(config: &Config) -> Result<&sqlite::Config, BackupError> {
    match config {
        Config::File(config) => Ok(config),
        Config::Database(_) => Err(BackupError::Database(config.to_string())),
    }
}
