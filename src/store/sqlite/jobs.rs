//! Rows of bulk work.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::pages::check_webhook;
use super::reads::{ROWS_PER_STEP, Step, last_number};
use super::rows::{damaged, patterns, state_code, state_from_code};
use super::standings::scanned;
use crate::domain::delivery::DeliveryFilter;
use crate::domain::id::{IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job as Shown, JobKind, JobState, Progress, Unavailable};
use crate::domain::page::{Order, Slice};
use crate::domain::time::Timestamp;
use crate::domain::topic::Patterns;
use crate::store::error::StoreError;
use crate::store::ledger::choosing::{Bounds, choose, scan};
use crate::store::ledger::jobs::{ENDED_FOR_MS, Job};

type Result<T> = std::result::Result<T, StoreError>;

const COLUMNS: &str = "job_id, merchant_id, kind, webhook_id, is_of_all, looked_at, queued, unavailable,
    unavailable_webhook_id, unavailable_increment_id, created_at";

fn kind(row: &Row<'_>) -> rusqlite::Result<JobKind> {
    JobKind::from_name(row.get_ref(2)?.as_str()?).ok_or_else(|| damaged("job"))
}

fn progress(row: &Row<'_>) -> rusqlite::Result<Progress> {
    let (id, number): (Option<i64>, Option<i64>) = (row.get(8)?, row.get(9)?);
    let first = id.zip(number).map(|(id, number)| (WebhookId(id), IncrementId(number)));
    let count = |column| row.get(column).map(i64::unsigned_abs);
    Ok(Progress { looked_at: count(5)?, queued: count(6)?, unavailable: Unavailable { count: count(7)?, first } })
}

/// The jobs that are not done.
pub fn load(conn: &Connection) -> Result<Vec<Job>> {
    let sql = format!(
        "SELECT {COLUMNS}, next_id, last_id, since, until, topics, state FROM job WHERE ended_at IS NULL ORDER BY job_id"
    );
    Ok(conn.prepare(&sql)?.query_map([], job)?.collect::<rusqlite::Result<_>>()?)
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let topics: String = row.get(15)?;
    let (until, state): (Option<i64>, Option<i64>) = (row.get(14)?, row.get(16)?);
    let filter = DeliveryFilter {
        state: state.map(|code| state_from_code(code).ok_or_else(|| damaged("state"))).transpose()?,
        topics: (!topics.is_empty()).then(|| patterns(&topics)).transpose()?,
        since: Some(Timestamp(row.get(13)?)),
        until: until.map(Timestamp),
        without_forgotten: false,
    };
    Ok(Job {
        job_id: JobId(row.get(0)?),
        merchant_id: MerchantId(row.get(1)?),
        kind: kind(row)?,
        webhook_id: WebhookId(row.get(3)?),
        is_of_all: row.get(4)?,
        progress: progress(row)?,
        created_at: Timestamp(row.get(10)?),
        next: row.get(11)?,
        last: row.get(12)?,
        filter,
    })
}

/// A new one.
pub fn insert(conn: &Connection, job: &Job, ended_at: Option<Timestamp>) -> Result<()> {
    let filter = &job.filter;
    conn.prepare_cached(
        "INSERT INTO job (webhook_id, kind, next_id, last_id, since, until, state, topics, merchant_id, is_of_all,
            created_at, ended_at, job_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        job.webhook_id.0,
        job.kind.name(),
        job.next,
        job.last,
        filter.since.map_or(0, |since| since.0),
        filter.until.map(|until| until.0),
        filter.state.map(state_code),
        filter.topics.as_ref().map_or("", Patterns::as_str),
        job.merchant_id.0,
        job.is_of_all,
        job.created_at.0,
        ended_at.map(|at| at.0),
        job.job_id.0,
    ])?;
    Ok(())
}

/// How far one has come.
pub fn update(conn: &Connection, job: &Job, ended_at: Option<Timestamp>) -> Result<()> {
    let Progress { looked_at, queued, unavailable } = job.progress;
    conn.prepare_cached(
        "UPDATE job SET webhook_id = ?2, next_id = ?3, last_id = ?4, looked_at = ?5, queued = ?6, unavailable = ?7,
            unavailable_webhook_id = ?8, unavailable_increment_id = ?9, ended_at = ?10 WHERE job_id = ?1",
    )?
    .execute(params![
        job.job_id.0,
        job.webhook_id.0,
        job.next,
        job.last,
        looked_at as i64,
        queued as i64,
        unavailable.count as i64,
        unavailable.first.map(|(id, _)| id.0),
        unavailable.first.map(|(_, number)| number.0),
        ended_at.map(|at| at.0),
    ])?;
    Ok(())
}

/// Forgets some that ended long ago, and says how many.
pub fn forget_old(conn: &Connection, now: Timestamp, max: u32) -> rusqlite::Result<usize> {
    conn.prepare_cached("DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE ended_at <= ?1 LIMIT ?2)")?
        .execute([now.0 - ENDED_FOR_MS, i64::from(max)])
}

/// What [`shown`] reads; takes a WHERE behind it.
fn shown_sql() -> String {
    format!("SELECT {COLUMNS}, ended_at, is_cancelled FROM job")
}

fn shown(row: &Row<'_>) -> rusqlite::Result<Shown> {
    let is_of_all: bool = row.get(4)?;
    let (ended_at, is_cancelled): (Option<i64>, bool) = (row.get(11)?, row.get(12)?);
    Ok(Shown {
        job_id: JobId(row.get(0)?),
        kind: kind(row)?,
        webhook_id: (!is_of_all).then_some(WebhookId(row.get(3)?)),
        state: match (ended_at, is_cancelled) {
            (None, _) => JobState::Running,
            (Some(_), false) => JobState::Done,
            (Some(_), true) => JobState::Cancelled,
        },
        progress: progress(row)?,
        created_at: Timestamp(row.get(10)?),
        ended_at: ended_at.map(Timestamp),
    })
}

/// A job of the merchant, done or not; fails with [`StoreError::NoJob`].
pub fn find(conn: &Connection, merchant: MerchantId, id: JobId) -> Result<Shown> {
    find_with_webhook(conn, merchant, id)?.map(|(job, _)| job).ok_or(StoreError::NoJob)
}

/// The same, if there is one, and the webhook that it is at.
pub fn find_with_webhook(conn: &Connection, merchant: MerchantId, id: JobId) -> Result<Option<(Shown, WebhookId)>> {
    let sql = format!("{} WHERE merchant_id = ?1 AND job_id = ?2", shown_sql());
    let read = |row: &Row<'_>| Ok((shown(row)?, WebhookId(row.get(3)?)));
    Ok(conn.prepare_cached(&sql)?.query_row([merchant.0, id.0], read).optional()?)
}

/// Jobs of the merchant, in the order of their ids.
pub fn list(conn: &Connection, merchant: MerchantId, slice: Slice<JobId>) -> Result<Vec<Shown>> {
    let (behind, direction, from) = match slice.order {
        Order::Ascending => (">", "ASC", i64::MIN),
        Order::Descending => ("<", "DESC", i64::MAX),
    };
    let sql =
        format!("{} WHERE merchant_id = ?1 AND job_id {behind} ?2 ORDER BY job_id {direction} LIMIT ?3", shown_sql());
    let after = slice.after.map_or(from, |after| after.0);
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params![merchant.0, after, slice.limit], shown)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Those of these numbers of a webhook that can't be sent, of the ones that one
/// step looks at: those behind `after`.
pub fn unavailable(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    span: Span,
    filter: &DeliveryFilter,
    after: Option<IncrementId>,
) -> Result<Step<Unavailable, IncrementId>> {
    check_webhook(conn, merchant, id)?;
    let first = IncrementId(after.map_or(span.first.0, |after| after.0.saturating_add(1)).max(1));
    let last = IncrementId(span.last.0.min(last_number(conn, id)?));
    if first > last {
        return Ok(Step { found: Unavailable::default(), next: None });
    }
    let bounds = Bounds { looked_at: ROWS_PER_STEP as usize, found: usize::MAX };
    let chosen = choose(id, &scanned(conn, scan(id, first, bounds))?, filter, last, bounds);
    let next = (chosen.through < last.0).then_some(IncrementId(chosen.through));
    Ok(Step { found: chosen.unavailable, next })
}
