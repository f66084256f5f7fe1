//! The audit log, as it is written and read.

use std::net::IpAddr;

use async_trait::async_trait;

use super::codes::{bad, named};
use super::db::{Db, Row, Value, all, values};
use super::keys::{Asked, each};
use super::steps::{ROWS_PER_STEP, Step, times, words};
use super::store::{Backend, SqlStore};
use crate::domain::audit::{Action, Actor, AuditEntry, AuditFilter, Subject, SubjectKind};
use crate::domain::id::{AuditId, MerchantId, TokenId, UserId};
use crate::domain::page::{Order, Slice};
use crate::domain::request_id::RequestId;
use crate::domain::time::Timestamp;
use crate::store::audit::AuditLog;
use crate::store::error::StoreError;
use crate::store::ledger::auditing::Audited;

type Result<T> = std::result::Result<T, StoreError>;

/// Entries that are forgotten at once: each may be a few pages.
const FORGOTTEN_AT_ONCE: u32 = 100;

/// What [`entry`] reads; takes a WHERE behind it.
pub const ENTRY: &str = "SELECT a.audit_id, m.code, a.at, a.user_id, u.name, a.peer, a.action, a.kind,
    a.subject, a.before, a.after, a.is_cut, a.request_id, a.token_id FROM audit a JOIN merchant m ON m.merchant_id = a.merchant_id
        LEFT JOIN \"user\" u ON u.user_id = a.user_id";

#[async_trait]
impl<B: Backend> AuditLog for SqlStore<B> {
    async fn audited(
        &self,
        merchant: MerchantId,
        filter: AuditFilter,
        slice: Slice<AuditId>,
    ) -> Result<Vec<AuditEntry>> {
        self.readers.in_steps(merchant, slice, move |conn, part| audited(conn, merchant, &filter, part)).await
    }

    async fn count_audited(&self, merchant: MerchantId, filter: AuditFilter) -> Result<u64> {
        self.readers.summed(merchant, move |conn, after| count(conn, merchant, &filter, after)).await
    }
}

/// Writes an entry.
pub fn write(db: &mut dyn Db, audited: &Audited, now: Timestamp) -> Result<()> {
    let Audited { merchant, by, action, subject, before, after, is_cut } = audited;
    let by = by.as_ref();
    let sender = by.and_then(|by| by.sender);
    let peer = sender.map(|sender| sender.peer.to_string());
    let sql = "INSERT INTO audit (merchant_id, at, user_id, peer, request_id, action, kind, subject, before, after,
            is_cut, token_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let values = values![
        merchant.0,
        now,
        by.map(|by| by.user.0),
        peer.as_deref(),
        sender.as_ref().map(|sender| sender.request_id.as_str()),
        action.name(),
        subject.kind.name(),
        &subject.id,
        before,
        after,
        *is_cut,
        by.and_then(|by| by.token).map(|token| token.0),
    ];
    db.run(sql, values).map(drop)
}

/// Forgets some of what was done before then; true if there may be more.
pub fn forget_old(db: &mut dyn Db, before: Timestamp, max: u32) -> Result<bool> {
    let max = max.min(FORGOTTEN_AT_ONCE);
    let sql = "DELETE FROM audit WHERE audit_id IN (SELECT audit_id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
    Ok(db.run(sql, values![before, max])? >= max.into())
}

/// An entry, from [`ENTRY`].
pub fn entry(row: &dyn Row) -> Result<AuditEntry> {
    let peer = row.text_if(5)?.map(|text| text.parse::<IpAddr>().map_err(|_| bad("peer"))).transpose()?;
    let name = |text: &str| RequestId::try_new(text.as_bytes()).ok_or_else(|| bad("request_id"));
    let request_id = row.text_if(12)?.map(name).transpose()?;
    let user = row.int_if(3)?.map(UserId);
    let token_id = row.int_if(13)?.map(TokenId);
    let actor = |user_id| Ok::<_, StoreError>(Actor { user_id, name: row.string(4)?, token_id, peer, request_id });
    Ok(AuditEntry {
        audit_id: AuditId(row.int(0)?),
        merchant_code: row.string(1)?,
        at: row.time(2)?,
        actor: user.map(actor).transpose()?,
        action: action_at(row, 6)?,
        subject: Subject { kind: kind_at(row, 7)?, id: row.string(8)? },
        before: row.string(9)?,
        after: row.string(10)?,
        is_cut: row.flag(11)?,
    })
}

fn action_at(row: &dyn Row, column: usize) -> Result<Action> {
    named(row, column, Action::from_name)?.ok_or_else(|| bad("action"))
}

fn kind_at(row: &dyn Row, column: usize) -> Result<SubjectKind> {
    named(row, column, SubjectKind::from_name)?.ok_or_else(|| bad("kind"))
}

/// Shows the ids of entries of a step that the filter admits, as long as `take` wants more; where
/// the next step begins.
fn walk(
    db: &mut dyn Db,
    (merchant, filter): (MerchantId, &AuditFilter),
    (after, order): (Option<AuditId>, Order),
    limit: u32,
    mut take: impl FnMut(AuditId) -> bool,
) -> Result<Option<AuditId>> {
    let (since, until) = times(filter.since, filter.until);
    let (first, last) = match (after, order) {
        (None, _) => (i64::MIN, i64::MAX),
        (Some(after), Order::Ascending) => (after.0.saturating_add(1), i64::MAX),
        (Some(after), Order::Descending) => (i64::MIN, after.0.saturating_sub(1)),
    };
    let of_merchant = db.dialect().of_merchant("audit", words(order).0);
    let sql = format!("SELECT audit_id, at, user_id, action, kind, subject {of_merchant} LIMIT $4");
    let rows = if filter.is_everything() { ROWS_PER_STEP.min(limit) } else { ROWS_PER_STEP };
    let (mut through, mut looked_at, mut is_full) = (None, 0, false);
    db.rows(&sql, values![merchant.0, first, last, rows], &mut |row| {
        let id = AuditId(row.int(0)?);
        (through, looked_at) = (Some(id), looked_at + 1);
        let (at, user, action, kind, subject) = (row.int(1)?, row.int_if(2)?, row.text(3)?, row.text(4)?, row.text(5)?);
        let is_wanted = (since..until).contains(&at)
            && filter.user.is_none_or(|wanted| user == Some(wanted.0))
            && filter.action.is_none_or(|wanted| action == wanted.name())
            && filter.kind.is_none_or(|wanted| kind == wanted.name())
            && filter.id.as_ref().is_none_or(|wanted| subject == wanted);
        is_full = is_wanted && take(id);
        Ok(!is_full)
    })?;
    Ok(through.filter(|_| is_full || looked_at == rows))
}

/// Entries of a merchant by id.
fn audited(
    db: &mut dyn Db,
    merchant: MerchantId,
    filter: &AuditFilter,
    slice: &Slice<AuditId>,
) -> Result<Step<Vec<AuditEntry>, AuditId>> {
    let mut ids = Vec::new();
    let next = walk(db, (merchant, filter), (slice.after, slice.order), slice.limit, |id| {
        ids.push(id);
        ids.len() >= slice.limit as usize
    })?;
    // What may be long is read of those alone that are wanted.
    let found = each(db, &ids, |db, ids| {
        let asked = Asked::of(db.dialect(), &[], ["a.audit_id"], ids.iter().map(|id| [Value::from(id.0)]));
        all(db, &format!("{ENTRY} WHERE {}", asked.condition), &asked.values, |row| {
            let entry = entry(row)?;
            Ok((entry.audit_id, entry))
        })
    })?;
    Ok(Step { next: next.filter(|_| ids.len() < slice.limit as usize), found: found.into_iter().flatten().collect() })
}

/// How many entries there are of those that a step looks at.
fn count(
    db: &mut dyn Db,
    merchant: MerchantId,
    filter: &AuditFilter,
    after: Option<AuditId>,
) -> Result<Step<u64, AuditId>> {
    let mut found = 0;
    let next = walk(db, (merchant, filter), (after, Order::Ascending), ROWS_PER_STEP, |_| {
        found += 1;
        false
    })?;
    Ok(Step { found, next })
}
