//! Watching bulk work, and calling it off.

use super::caller::Caller;
use super::webhook::UPDATE;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::JobId;
use crate::domain::job::Job;
use crate::domain::page::{Slice, read_sort};
use crate::domain::user::Permission;

/// What jobs may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["job_id"];
/// How many a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

/// Which part of a list of jobs, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct JobPage {
    /// Only those behind this one.
    pub after_job_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Service {
    /// One job; fails with fault 123.
    pub async fn get_job(&self, caller: &Caller, id: JobId) -> Result<Job, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.job(caller, id).await
    }

    /// The same, for whoever may change it. One that is not of a webhook within the caller's reach is
    /// not there.
    async fn job(&self, caller: &Caller, id: JobId) -> Result<Job, Fault> {
        let job = self.store.job(caller.merchant(), id).await;
        let job = job.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        let is_reached = match job.webhook_id {
            None => caller.confinement().is_none(),
            Some(webhook) => match self.within(caller, webhook).await {
                Err(fault) if fault.code == FaultCode::NoWebhook => false,
                found => found.map(|_| true)?,
            },
        };
        if is_reached { Ok(job) } else { Err(about(id, FaultCode::NoJob.into())) }
    }

    /// The merchant's jobs in the order of their ids. Fails with fault 111.
    pub async fn list_jobs(&self, caller: &Caller, page: JobPage) -> Result<Vec<Job>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = read_sort(page.sort.as_deref(), &SORT_KEYS).and_then(|(_, order)| {
            let after = page.after_job_id;
            if let Some(after) = after.filter(|after| *after < 0) {
                return Err(Violation::new("after_job_id", format!("{after} is below 0.")));
            }
            let limit = self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?;
            Ok(Slice { after: after.map(JobId), order, limit })
        });
        let slice = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        self.store.jobs(caller.everywhere()?, slice).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Has no more of a job done, and returns it; what it has done stands. One
    /// that has ended stays as it is. Fails with fault 112 or 123.
    pub async fn cancel_job(&self, caller: &Caller, id: JobId) -> Result<Job, Fault> {
        caller.check(Permission::WebhookWrite)?;
        if caller.confinement().is_some() {
            self.job(caller, id).await?;
        }
        self.store.cancel_job(caller.author(), id).await.map_err(|cause| about(id, UPDATE.fault(cause)))
    }
}

/// Names the job that does not exist.
fn about(id: JobId, fault: Fault) -> Fault {
    match fault.code {
        FaultCode::NoJob => fault.detail(format!("There is no job {id}.")),
        _ => fault,
    }
}
