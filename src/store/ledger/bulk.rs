//! A piece of bulk work: a replay, a retry of many or a backfill.

use crate::domain::delivery::DeliveryFilter;
use crate::domain::id::{JobId, MerchantId, WebhookId};
use crate::domain::job::{Job as Shown, JobKind, JobState, Progress};
use crate::domain::time::Timestamp;

/// A piece of bulk work that is not done.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id, in the order of asking.
    pub job_id: JobId,
    /// Whose deliveries, at present.
    pub webhook_id: WebhookId,
    /// Who asked.
    pub merchant_id: MerchantId,
    /// What it does.
    pub kind: JobKind,
    /// It goes on with the merchant's next webhook.
    pub is_of_all: bool,
    /// What is asked for; of a backfill, the state says nothing.
    pub filter: DeliveryFilter,
    /// The number or event to go on with.
    pub next: i64,
    /// The last one.
    pub last: i64,
    /// What it has done.
    pub progress: Progress,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl Job {
    /// One that has not been begun.
    pub fn new(
        kind: JobKind,
        merchant_id: MerchantId,
        webhook_id: WebhookId,
        filter: DeliveryFilter,
        (next, last): (i64, i64),
    ) -> Self {
        let (job_id, progress, created_at) = (JobId(0), Progress::default(), Timestamp(0));
        Self { job_id, webhook_id, merchant_id, kind, is_of_all: false, filter, next, last, progress, created_at }
    }

    /// As its merchant sees it.
    pub fn shown(&self, ended_at: Option<Timestamp>) -> Shown {
        Shown {
            job_id: self.job_id,
            kind: self.kind,
            webhook_id: (!self.is_of_all).then_some(self.webhook_id),
            state: if ended_at.is_some() { JobState::Done } else { JobState::Running },
            progress: self.progress,
            created_at: self.created_at,
            ended_at,
        }
    }
}
