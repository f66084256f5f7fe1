//! Rows of bulk work.

use super::codes::{bad, patterns, state_code, state_from_code};
use super::db::{Db, ROWS_AT_ONCE, Row, all, in_parts, one, values};
use super::standings::scanned;
use super::steps::{ROWS_PER_STEP, Step, behind, words};
use super::webhooks::place;
use crate::domain::delivery::DeliveryFilter;
use crate::domain::id::{IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job as Shown, JobKind, JobState, Progress, Unavailable};
use crate::domain::page::Slice;
use crate::domain::time::Timestamp;
use crate::domain::topic::Patterns;
use crate::store::error::StoreError;
use crate::store::ledger::choosing::{Bounds, choose, scan};
use crate::store::ledger::jobs::{ENDED_FOR_MS, Job};

type Result<T> = std::result::Result<T, StoreError>;

const COLUMNS: &str = "job_id, merchant_id, kind, webhook_id, is_of_all, looked_at, queued, unavailable,
    unavailable_webhook_id, unavailable_increment_id, created_at";

/// The columns that [`job`] reads.
pub const UNFINISHED: &str = "job_id, merchant_id, kind, webhook_id, is_of_all, looked_at, queued, unavailable,
    unavailable_webhook_id, unavailable_increment_id, created_at, next_id, last_id, since, until, topics, state";

fn kind(row: &dyn Row) -> Result<JobKind> {
    JobKind::from_name(row.text(2)?).ok_or_else(|| bad("job"))
}

fn progress(row: &dyn Row) -> Result<Progress> {
    let first = row.int_if(8)?.zip(row.int_if(9)?).map(|(id, number)| (WebhookId(id), IncrementId(number)));
    let unavailable = Unavailable { count: row.amount(7)?, first };
    Ok(Progress { looked_at: row.amount(5)?, queued: row.amount(6)?, unavailable })
}

/// The jobs that are not done.
pub fn load(db: &mut dyn Db) -> Result<Vec<Job>> {
    let sql = format!("SELECT {UNFINISHED} FROM job WHERE ended_at IS NULL AND job_id > $1 ORDER BY job_id LIMIT $2");
    in_parts(db, &sql, ROWS_AT_ONCE, job, |job| job.job_id.0)
}

/// A job that is not done, from [`UNFINISHED`].
pub fn job(row: &dyn Row) -> Result<Job> {
    let topics = row.text(15)?;
    let state = row.int_if(16)?.map(|code| state_from_code(code).ok_or_else(|| bad("state")));
    let filter = DeliveryFilter {
        state: state.transpose()?,
        topics: (!topics.is_empty()).then(|| patterns(topics)).transpose()?,
        since: Some(row.time(13)?),
        until: row.time_if(14)?,
        without_forgotten: false,
    };
    Ok(Job {
        job_id: JobId(row.int(0)?),
        merchant_id: MerchantId(row.int(1)?),
        kind: kind(row)?,
        webhook_id: WebhookId(row.int(3)?),
        is_of_all: row.flag(4)?,
        progress: progress(row)?,
        created_at: row.time(10)?,
        next: row.int(11)?,
        last: row.int(12)?,
        filter,
    })
}

/// A new one.
pub fn insert(db: &mut dyn Db, job: &Job, ended_at: Option<Timestamp>) -> Result<()> {
    let filter = &job.filter;
    let sql =
        "INSERT INTO job (webhook_id, kind, next_id, last_id, since, until, state, topics, merchant_id, is_of_all,
            created_at, ended_at, job_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let values = values![
        job.webhook_id.0,
        job.kind.name(),
        job.next,
        job.last,
        filter.since.map_or(0, |since| since.0),
        filter.until,
        filter.state.map(state_code),
        filter.topics.as_ref().map_or("", Patterns::as_str),
        job.merchant_id.0,
        job.is_of_all,
        job.created_at,
        ended_at,
        job.job_id.0,
    ];
    db.run(sql, values).map(drop)
}

/// How far one has come.
pub fn update(db: &mut dyn Db, job: &Job, ended_at: Option<Timestamp>) -> Result<()> {
    let Progress { looked_at, queued, unavailable } = job.progress;
    let sql =
        "UPDATE job SET webhook_id = $2, next_id = $3, last_id = $4, looked_at = $5, queued = $6, unavailable = $7,
            unavailable_webhook_id = $8, unavailable_increment_id = $9, ended_at = $10 WHERE job_id = $1";
    let values = values![
        job.job_id.0,
        job.webhook_id.0,
        job.next,
        job.last,
        looked_at as i64,
        queued as i64,
        unavailable.count as i64,
        unavailable.first.map(|(id, _)| id.0),
        unavailable.first.map(|(_, number)| number.0),
        ended_at,
    ];
    db.run(sql, values).map(drop)
}

/// Forgets some that ended long ago, and says how many.
pub fn forget_old(db: &mut dyn Db, now: Timestamp, max: u32) -> Result<u64> {
    let sql = "DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE ended_at <= $1 LIMIT $2)";
    db.run(sql, values![now.0 - ENDED_FOR_MS, max])
}

/// What [`shown`] reads; takes a WHERE behind it.
fn shown_sql() -> String {
    format!("SELECT {COLUMNS}, ended_at, is_cancelled FROM job")
}

fn shown(row: &dyn Row) -> Result<Shown> {
    let (is_of_all, ended_at) = (row.flag(4)?, row.time_if(11)?);
    Ok(Shown {
        job_id: JobId(row.int(0)?),
        kind: kind(row)?,
        webhook_id: if is_of_all { None } else { Some(WebhookId(row.int(3)?)) },
        state: match (ended_at, row.flag(12)?) {
            (None, _) => JobState::Running,
            (Some(_), false) => JobState::Done,
            (Some(_), true) => JobState::Cancelled,
        },
        progress: progress(row)?,
        created_at: row.time(10)?,
        ended_at,
    })
}

/// A job of the merchant, done or not; fails with [`StoreError::NoJob`].
pub fn find(db: &mut dyn Db, merchant: MerchantId, id: JobId) -> Result<Shown> {
    find_with_webhook(db, merchant, id)?.map(|(job, _)| job).ok_or(StoreError::NoJob)
}

/// The same, if there is one, and the webhook that it is at.
pub fn find_with_webhook(db: &mut dyn Db, merchant: MerchantId, id: JobId) -> Result<Option<(Shown, WebhookId)>> {
    let sql = format!("{} WHERE merchant_id = $1 AND job_id = $2", shown_sql());
    one(db, &sql, values![merchant.0, id.0], |row| Ok((shown(row)?, WebhookId(row.int(3)?))))
}

/// Jobs of the merchant, in the order of their ids.
pub fn list(db: &mut dyn Db, merchant: MerchantId, slice: Slice<JobId>) -> Result<Vec<Shown>> {
    let (direction, lies_behind) = words(slice.order);
    let sql = format!(
        "{} WHERE merchant_id = $1 AND job_id {lies_behind} $2 ORDER BY job_id {direction} LIMIT $3",
        shown_sql()
    );
    let after = behind(slice.after.map(|after| after.0), slice.order);
    all(db, &sql, values![merchant.0, after, slice.limit], shown)
}

/// Those of these numbers of a webhook that can't be sent, of the ones that one
/// step looks at: those behind `after`.
pub fn unavailable(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    span: Span,
    filter: &DeliveryFilter,
    after: Option<IncrementId>,
) -> Result<Step<Unavailable, IncrementId>> {
    let given = place(db, merchant, id)?.last;
    let first = IncrementId(after.map_or(span.first.0, |after| after.0.saturating_add(1)).max(1));
    let last = IncrementId(span.last.0.min(given));
    if first > last {
        return Ok(Step { found: Unavailable::default(), next: None });
    }
    let bounds = Bounds { looked_at: ROWS_PER_STEP as usize, found: usize::MAX };
    let chosen = choose(id, &scanned(db, scan(id, first, bounds))?, filter, last, bounds);
    let next = (chosen.through < last.0).then_some(IncrementId(chosen.through));
    Ok(Step { found: chosen.unavailable, next })
}
