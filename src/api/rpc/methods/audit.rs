//! audit.*

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{HEAVY_STEP, Method, Request};
use crate::api::rpc::wire::{AuditItem, Object, Whole, schema};
use crate::domain::audit::AuditEntry;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::user::Permission;
use crate::service::audit::{AuditPage, AuditSelection};
use crate::service::caller::Caller;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing("audit.list", "Lists who has changed what of the merchant's.", "after_audit_id", list)
            .needs(&[Permission::Admin])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("audit.count", "Counts the entries of the audit log.", count)
            .needs(&[Permission::Admin])
            .faults(FaultCode::InvalidSelection, &[]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which changes, and which part of the list; the first of all, if left out.
    options: Option<Object<Options>>,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// Which changes, as in `audit.list`; all, if left out. What only says which part of a list does not matter.
    options: Option<Object<Options>>,
}

/// Which changes to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those from this RFC 3339 time on.
    since: Option<String>,
    /// Only those before this one.
    until: Option<String>,
    /// Only what this user has done.
    user_id: Option<Whole>,
    /// Only this.
    #[schemars(schema_with = "schema::audit_actions")]
    #[serde(default)]
    action: Option<String>,
    /// Only what was done with things of this kind.
    #[schemars(schema_with = "schema::audit_kinds")]
    #[serde(default)]
    kind: Option<String>,
    /// Only what was done with this one of them.
    id: Option<String>,
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_audit_id: Option<Whole>,
    /// `audit_id`, the default, or `-audit_id` for the last first.
    #[schemars(schema_with = "schema::sort_audit")]
    #[serde(default)]
    sort: Option<String>,
    /// The most changes in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

impl Options {
    fn read(self) -> (AuditSelection, AuditPage) {
        let Self { since, until, user_id, action, kind, id, after_audit_id, sort, limit } = self;
        let user_id = user_id.map(|id| id.0);
        let page = AuditPage { after_audit_id: after_audit_id.map(|id| id.0), sort, limit: limit.map(|limit| limit.0) };
        (AuditSelection { since, until, user_id, action, kind, id }, page)
    }
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<AuditItem>, Fault> {
    let (selection, mut page) = params.options.unwrap_or_default().0.read();
    let (mut list, mut steps) = request.list(page.limit, HEAVY_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_audited(&caller, selection.clone(), page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for entry in found {
            let id = entry.audit_id.0;
            if !list.write(&item(entry)?, id)? {
                return Ok(list.cut("after_audit_id"));
            }
            list.pause().await;
            page.after_audit_id = Some(id);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

async fn count(request: Request, caller: Caller, params: Count) -> Result<u64, Fault> {
    let (selection, _) = params.options.unwrap_or_default().0.read();
    request.service.count_audited(&caller, selection).await
}

fn item(entry: AuditEntry) -> Result<AuditItem, Fault> {
    AuditItem::try_from(entry).map_err(|cause| {
        tracing::error!(%cause, "an entry of the audit log holds no JSON");
        FaultCode::Internal.into()
    })
}
