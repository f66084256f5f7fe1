//! How far a lane has read, and what it has heard while it reads.

use std::collections::HashMap;

use crate::domain::id::IncrementId;
use crate::domain::time::Timestamp;
use crate::store::DueKey;

/// How far a parallel lane has read of what failed before.
#[derive(Debug)]
pub struct Retries {
    /// All up to this place have been loaded.
    pub cursor: DueKey,
    /// When the next one beyond falls due.
    pub next: NextDue,
}

/// When the next retry falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextDue {
    /// It is to be read.
    Unknown,
    /// There is none.
    Never,
    /// Then.
    At(Timestamp),
}

/// What has happened since a look into the store began that is still under
/// way, and may not have seen it.
#[derive(Debug, Default)]
pub struct PendingRead {
    /// The lane has let go of something that this would hide.
    pub is_stale: bool,
    /// Outcomes of these were committed, which makes so many attempts on
    /// record: the page may show them as they were before.
    pub recorded: HashMap<IncrementId, u32>,
    /// The earliest retry that was committed.
    pub next_due: Option<Timestamp>,
}

impl PendingRead {
    /// A retry was committed that falls due then.
    pub fn note_due(&mut self, at: Timestamp) {
        self.next_due = self.next_due.into_iter().chain([at]).min();
    }
}
