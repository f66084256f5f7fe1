//! Who has changed what.

use super::caller::Caller;
use super::event::read_time;
use super::{Failures, Service};
use crate::domain::audit::{Action, AuditEntry, AuditFilter, SubjectKind};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{AuditId, UserId};
use crate::domain::page::{Slice, read_sort};
use crate::domain::user::Permission;

/// What entries of the audit log may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["audit_id"];
/// How many a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

/// Which entries of the audit log, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct AuditSelection {
    /// Only those from this RFC 3339 time on.
    pub since: Option<String>,
    /// Only those before this one.
    pub until: Option<String>,
    /// Only what this user has done.
    pub user_id: Option<i64>,
    /// Only this, by its name.
    pub action: Option<String>,
    /// Only what was done with things of the kind of this name.
    pub kind: Option<String>,
    /// Only what was done with this one of them.
    pub id: Option<String>,
}

/// Which part of the audit log, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// Only those behind this one.
    pub after_audit_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Service {
    /// What was changed of the merchant's, and by whom, in the order of the changes. Fails with
    /// fault 111.
    pub async fn list_audited(
        &self,
        caller: &Caller,
        selection: AuditSelection,
        page: AuditPage,
    ) -> Result<Vec<AuditEntry>, Fault> {
        caller.check(Permission::Admin)?;
        let checked = check_selection(selection).and_then(|filter| {
            let (_, order) = read_sort(page.sort.as_deref(), &SORT_KEYS)?;
            let limit = self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?;
            Ok((filter, Slice { after: page.after_audit_id.map(AuditId), order, limit }))
        });
        let (filter, slice) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.audited(caller.everywhere()?, filter, slice).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How many such entries there are. Fails with fault 111.
    pub async fn count_audited(&self, caller: &Caller, selection: AuditSelection) -> Result<u64, Fault> {
        caller.check(Permission::Admin)?;
        let filter =
            check_selection(selection).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let count = self.store.count_audited(caller.everywhere()?, filter).await;
        count.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }
}

fn check_selection(selection: AuditSelection) -> Result<AuditFilter, Violation> {
    let AuditSelection { since, until, user_id, action, kind, id } = selection;
    if id.is_some() && kind.is_none() {
        return Err(Violation::new("id", "says nothing without a kind: a webhook and a job may have the same."));
    }
    Ok(AuditFilter {
        since: read_time("since", since)?,
        until: read_time("until", until)?,
        user: user_id.map(UserId),
        action: action.map(|name| known("action", &name, Action::ALL, Action::name)).transpose()?,
        kind: kind.map(|name| known("kind", &name, SubjectKind::ALL, SubjectKind::name)).transpose()?,
        id,
    })
}

/// The one of that name.
fn known<T: Copy>(field: &'static str, name: &str, all: &[T], name_of: fn(T) -> &'static str) -> Result<T, Violation> {
    all.iter().copied().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names = all.iter().map(|one| name_of(*one)).collect::<Vec<_>>().join(", ");
        Violation::new(field, format!("is unknown; there are {names}."))
    })
}
