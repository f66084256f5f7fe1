//! The ledger: what every change to the store comes to, whatever engine keeps
//! the rows.
//!
//! A change is data ([`Change`]). It says what has to be read for it
//! ([`Wants`]); the engine reads that ([`Loaded`]); from there and from the
//! [`Book`], which knows every webhook and counter by heart, it is decided
//! without any input or output what the change comes to ([`Decision`]): rows to
//! be written, what the book learns, and the news. The engine writes the rows.
//! A change that fails has decided nothing, so nothing of it stays anywhere.

pub mod accounts;
pub mod book;
pub mod choosing;
pub mod chores;
pub mod decision;
pub mod fanout;
pub mod forgetting;
pub mod jobs;
pub mod logs;
pub mod news;
pub mod notices;
pub mod numbering;
pub mod outcomes;
pub mod publishing;
pub mod queue;
pub mod queued;
pub mod resending;
pub mod terms;
pub mod topics;
pub mod turns;
pub mod wants;
pub mod webhooks;
pub mod work;

use std::time::Duration;

use self::book::Book;
use self::decision::Decision;
use self::queue::Cost;
use self::wants::{Loaded, Wants};
use super::StoreError;
use crate::domain::time::Timestamp;

/// When to try again what others are in the way of.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What deciding gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A change to the store.
pub trait Change: Send + 'static {
    /// What whoever asked for it is told.
    type Answer: Send + 'static;

    /// Asks for what has to be read before its next step is decided.
    fn wants(&self, _book: &Book, _wants: &mut Wants) {}

    /// Decides what its next step comes to. If it fails, what it has put into
    /// `out` is thrown away.
    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Self::Answer>>;
}

/// How far a change has come.
#[derive(Debug)]
pub enum Step<T> {
    /// All is done.
    Done(T),
    /// There is a further step, for a later commit, at this cost.
    More(Cost),
}

/// What a change is decided from.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What is known by heart, with all changes before this one in it.
    pub book: &'a Book,
    /// What was read for it.
    pub loaded: &'a Loaded,
    /// The time of the commit.
    pub now: Timestamp,
}

impl View<'_> {
    /// Fails with [`StoreError::Full`] if new events find no room in the store.
    pub fn check_room(&self) -> Result<()> {
        match (self.book.terms.retention.bytes_max, self.loaded.used_bytes) {
            (max, Some(used)) if max > 0 && used >= max => Err(StoreError::Full { used, max }),
            _ => Ok(()),
        }
    }
}
