//! The stores that are copied from and to, and what they and others say of them.

use super::batch::Batch;
use super::tables::{LastIds, Table};
use crate::store::error::StoreError;
use crate::store::sql::Db;
use crate::store::sql::db::{one, values};

type Result<T> = std::result::Result<T, StoreError>;

/// The fact about a store that is not whole: what it is being copied from.
pub const COPIED_FROM: &str = "copied_from";
/// The fact that is a store's name.
pub const STORE_ID: &str = "store_id";

/// A store that is copied from or to. Nobody serves it meanwhile.
pub trait Side {
    /// What is said to it.
    fn db(&mut self) -> &mut dyn Db;

    /// The last ids that it has given out.
    fn last_ids(&mut self) -> Result<LastIds>;

    /// Fails unless it has been kept from others all the time.
    fn check_kept(&mut self) -> Result<()>;
}

/// A store that is copied to.
pub trait Target: Side {
    /// A text in whose place it holds another, and that one.
    fn held(&self, text: &str) -> Option<String>;

    /// Begins a transaction.
    fn begin(&mut self) -> Result<()>;

    /// Commits it.
    fn commit(&mut self) -> Result<()>;

    /// Adds rows.
    fn insert(&mut self, table: &Table, rows: &Batch) -> Result<()>;

    /// Has it count up from these.
    fn set_last_ids(&mut self, last: &LastIds) -> Result<()>;

    /// It has all: does what else is to be done before it is served.
    fn finish(&mut self) -> Result<()>;
}

/// What is told meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// What is done to them.
    pub doing: Doing,
    /// Rows of which table.
    pub table: &'static str,
    /// How many rows it is done with.
    pub rows: u64,
    /// Of how many.
    pub of: u64,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// They are copied.
    Copying,
    /// They are compared.
    Comparing,
}

/// A fact about a store.
pub fn fact(db: &mut dyn Db, key: &str) -> Result<Option<String>> {
    one(db, "SELECT value FROM meta WHERE key = $1", values![key], |row| row.string(0))
}
