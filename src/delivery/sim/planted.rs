//! Bugs that are planted, to see that the stories find them. What can be bent
//! at a seam is bent there: what the engine reads, what pages hold, what the
//! worker hears and tells, what a crash leaves.

use std::time::Duration;

use crate::domain::delivery::Outcome;
use crate::domain::id::{EventId, IncrementId, WebhookId};
use crate::domain::time::Timestamp;
use crate::store::Page;
use crate::store::StoreError;
use crate::store::ledger::decision::Rows;
use crate::store::ledger::memory::Memory;
use crate::store::ledger::pruning::CutOff;
use crate::store::ledger::wants::{Loaded, Wants};
use crate::store::ledger::work::Engine;
use crate::store::mailbox::News;

const HOUR: Duration = Duration::from_secs(3_600);

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Who asks while a request is under way is not heard.
    ResendSwallowed,
    /// After a failed commit the book is not read again.
    StaleBook,
    /// A look into the store leaves out what comes first.
    Overtaken,
    /// The worker is not told of changed webhooks.
    ChangeUnheard,
    /// The lowest number that is pending is overlooked.
    SettledTooFar,
    /// An outcome that is recorded again counts as another attempt.
    CountsTwice,
    /// A batch that is sent again is one shorter.
    BatchChanged,
    /// The worker is not told that something was cancelled.
    CancelledSent,
    /// The worker is not told that a commit which failed may stand.
    FailureUnheard,
    /// What was numbered last of an event is not remembered under its key.
    KeyCutShort,
    /// A pass of pruning keeps its cut-off though the clock goes back.
    CutOffKept,
    /// What ended lately is pruned.
    PrunedTooEarly,
    /// What the store holds is not looked at.
    Overfull,
    /// What the receiver pulled stays as it was.
    PullUnheard,
    /// Idempotency keys do not outlive a crash.
    KeyForgotten,
    /// Callers are told, and a crash takes what they were told of.
    CommitLost,
    /// Callers are told before the commit, whatever becomes of it.
    AnsweredTooEarly,
    /// A batch goes out before the store knows of it.
    Unsealed,
}

impl Bug {
    /// Each.
    pub const ALL: [Self; 18] = [
        Self::ResendSwallowed,
        Self::StaleBook,
        Self::Overtaken,
        Self::ChangeUnheard,
        Self::SettledTooFar,
        Self::CountsTwice,
        Self::BatchChanged,
        Self::CancelledSent,
        Self::FailureUnheard,
        Self::KeyCutShort,
        Self::CutOffKept,
        Self::PrunedTooEarly,
        Self::Overfull,
        Self::PullUnheard,
        Self::KeyForgotten,
        Self::CommitLost,
        Self::AnsweredTooEarly,
        Self::Unsealed,
    ];

    /// What the worker hears.
    pub fn bend_news(self, news: &mut News) {
        match self {
            Self::ChangeUnheard => news.changed.retain(|_, webhook| webhook.is_none()),
            Self::CancelledSent => news.reread.clear(),
            Self::FailureUnheard => news.reread.retain(|_, from| *from > IncrementId(1)),
            _ => {}
        }
    }

    /// What the worker tells, for the first time or again.
    pub fn bend_outcome(self, outcome: &mut Outcome, is_again: bool) {
        match self {
            Self::ResendSwallowed => outcome.resends_asked = u32::MAX,
            Self::CountsTwice if is_again => outcome.attempt.attempt += 1,
            _ => {}
        }
    }

    /// What a lane reads.
    pub fn bend_page(self, page: &mut Page) {
        match self {
            Self::Overtaken if page.parcels.len() > 1 => drop(page.parcels.remove(0)),
            Self::BatchChanged => {
                page.parcels.iter_mut().filter_map(|parcel| parcel.batch.as_mut()).for_each(|batch| {
                    batch.pop();
                })
            }
            _ => {}
        }
    }
}

/// An engine that may read something else than there is.
pub struct Bent<'a> {
    /// What keeps the rows.
    pub memory: &'a mut Memory,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

impl Engine for Bent<'_> {
    fn load(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded, StoreError> {
        let mut loaded = self.memory.load(wants, now)?;
        if self.bug == Some(Bug::SettledTooFar) && !loaded.pending.is_empty() {
            loaded.pending.remove(0);
        }
        match self.bug {
            Some(Bug::Overfull) => loaded.used_bytes = loaded.used_bytes.map(|_| 0),
            Some(Bug::PullUnheard) => loaded.again.clear(),
            Some(Bug::KeyCutShort) => {
                loaded.keys.values_mut().for_each(|known| known.receipt.deliveries.truncate(1));
            }
            _ => {}
        }
        Ok(loaded)
    }

    fn write(&mut self, rows: Rows, now: Timestamp) -> Result<(), StoreError> {
        self.memory.write(rows, now)
    }

    fn is_open(&self) -> bool {
        self.memory.is_open()
    }

    fn sweep(&mut self, now: Timestamp, audited_before: Timestamp, max: u32) -> Result<bool, StoreError> {
        self.memory.sweep(now, audited_before, max)
    }

    fn begin_pruning(&mut self, before: CutOff) -> Result<(), StoreError> {
        let before = match self.bug {
            Some(Bug::CutOffKept) if self.memory.is_pruning() => return Ok(()),
            Some(Bug::PrunedTooEarly) => {
                CutOff { attempts: before.attempts.after(HOUR), bodies: before.bodies.after(HOUR) }
            }
            _ => before,
        };
        self.memory.begin_pruning(before)
    }

    fn is_pruning(&self) -> bool {
        self.memory.is_pruning()
    }

    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>, StoreError> {
        self.memory.prune(kept_from)
    }
}
