//! Bulk work on deliveries, which goes on after its caller was answered.

use super::id::{IncrementId, JobId, WebhookId};
use super::time::Timestamp;

/// What a piece of bulk work does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Sends numbers of a webhook again.
    Replay,
    /// Sends deliveries of one or of all webhooks again.
    RetryMany,
    /// Gives stored events new numbers.
    Backfill,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Replay, Self::RetryMany, Self::Backfill];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::RetryMany => "retry_many",
            Self::Backfill => "backfill",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How far a piece of bulk work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It goes on, in its merchant's turns.
    Running,
    /// It has looked at all there was.
    Done,
    /// Somebody has called it off; what it had done stands.
    Cancelled,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Cancelled];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a piece of bulk work has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Numbers, or events, that it has looked at.
    pub looked_at: u64,
    /// Those that it has queued to be sent.
    pub queued: u64,
    /// What can't be sent any more.
    pub unavailable: Unavailable,
}

/// Numbers that were asked for and can't be sent, since what they sent was
/// pruned or forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unavailable {
    /// How many.
    pub count: u64,
    /// Which first.
    pub first: Option<(WebhookId, IncrementId)>,
}

impl std::ops::Add for Unavailable {
    type Output = Self;

    fn add(self, later: Self) -> Self {
        Self { count: self.count + later.count, first: self.first.or(later.first) }
    }
}

/// A piece of bulk work, as its merchant sees it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id, in the order of asking.
    pub job_id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Whose deliveries; `None`: those of all webhooks.
    pub webhook_id: Option<WebhookId>,
    /// How far it is.
    pub state: JobState,
    /// What it has done.
    pub progress: Progress,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was done, or called off.
    pub ended_at: Option<Timestamp>,
}
