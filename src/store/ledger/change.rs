//! What a change is: data that says what it wants read, and decides what it
//! comes to.

use std::time::Duration;

use super::book::Book;
use super::decision::Decision;
use super::queue::Cost;
use super::wants::{Loaded, Wants};
use crate::domain::id::MerchantId;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

/// When to try again what others are in the way of.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What deciding gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A change to the store.
pub trait Change: Send + 'static {
    /// What whoever asked for it is told.
    type Answer: Send + 'static;

    /// For whom it says what sending has come to. It counts only as long as this
    /// node is the one that sends for them: before a step, [`Change::leave_out`] says
    /// for whom it is not.
    fn sent_for(&self) -> Vec<MerchantId> {
        Vec::new()
    }

    /// Leaves out what was sent for merchants that others send for by now; how many
    /// outcomes that are.
    fn leave_out(&mut self, _is_lost: &dyn Fn(MerchantId) -> bool) -> usize {
        0
    }

    /// Puts off what is of merchants whom others hold; its answer says whose that is.
    /// It is asked of what is of several merchants.
    fn put_off(&mut self, _is_held: &dyn Fn(MerchantId) -> bool) {}

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
