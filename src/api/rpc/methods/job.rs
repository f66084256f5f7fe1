//! job.*

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{LIGHT_STEP, Method, Request};
use crate::api::rpc::wire::{JobItem, Object, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::JobId;
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::job::JobPage;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing(
            "job.list",
            "Lists replays, retries of many and backfills, until a day after their end.",
            "after_job_id",
            list,
        )
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("job.get", "Returns a job: what it has done, and whether it goes on.", get)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[FaultCode::NoJob]),
        Method::with_session("job.cancel", "Calls a job off, and returns it; what it has done stands.", cancel)
            .needs(&[Permission::WebhookWrite])
            .faults(FaultCode::InvalidSelection, &[FaultCode::NoJob, FaultCode::WebhookNotChanged]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which part of the list; the first of all, if left out.
    options: Option<Object<Options>>,
}

/// Which jobs to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_job_id: Option<Whole>,
    /// `job_id`, the default, or `-job_id` for the last first.
    #[schemars(schema_with = "schema::sort_jobs")]
    #[serde(default)]
    sort: Option<String>,
    /// The most jobs in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<JobItem>, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let after_job_id = options.after_job_id.map(|id| id.0);
    let mut page = JobPage { after_job_id, sort: options.sort, limit: options.limit.map(|limit| limit.0) };
    let (mut list, mut steps) = request.list(page.limit, LIGHT_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_jobs(&caller, page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for job in found {
            let id = job.job_id.0;
            if !list.write(&JobItem::from(job), id)? {
                return Ok(list.cut("after_job_id"));
            }
            list.pause().await;
            page.after_job_id = Some(id);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The job.
    job_id: Whole,
}

async fn get(request: Request, caller: Caller, params: ById) -> Result<JobItem, Fault> {
    request.service.get_job(&caller, JobId(params.job_id.0)).await.map(JobItem::from)
}

async fn cancel(request: Request, caller: Caller, params: ById) -> Result<JobItem, Fault> {
    request.service.cancel_job(&caller, JobId(params.job_id.0)).await.map(JobItem::from)
}
