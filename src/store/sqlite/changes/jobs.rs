//! Replays, retries of many and backfills: bulk work that is noted when it is
//! asked for, done in small steps between other changes, and gone on with after
//! a crash. What has ended stays for a day, so that it can be looked at.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::choosing::{Bounds, choose};
use super::publishing::Numbering;
use super::resending::send_again;
use super::{Result, webhooks};
use crate::domain::delivery::DeliveryFilter;
use crate::domain::event::EventFilter;
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job as Shown, JobKind, JobState, Progress, Unavailable};
use crate::domain::page::{Order, Slice};
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::store::StoreError;
use crate::store::resending::Backfilled;
use crate::store::sqlite::memory::Memory;
use crate::store::sqlite::pages::check_webhook;
use crate::store::sqlite::reads::{ROWS_PER_STEP, Step, last_number};
use crate::store::sqlite::room::Room;
use crate::store::sqlite::rows::{damaged, patterns, state_code, state_from_code, topic_at};
use crate::store::sqlite::tx::{Announcement, Tx};

/// Numbers that a step has sent again, or events that it numbers.
const PER_STEP: usize = 125;
/// Numbers that it looks at for that.
const LOOKED_AT_PER_STEP: usize = 500;
/// Messages that a step of a backfill passes over, in bytes: what stands behind
/// a message in its row is found by way of all its pages.
const BYTES_PER_STEP: i64 = 4 * 1_024 * 1_024;
/// Jobs of one webhook that may wait.
const PER_WEBHOOK_MAX: usize = 16;
/// Jobs of one merchant that may wait.
const PER_MERCHANT_MAX: usize = 256;
/// How long one that has ended can be looked at, in milliseconds, …
const ENDED_FOR_MS: i64 = 24 * 60 * 60 * 1_000;
/// … unless its merchant has so many that ended later.
const ENDED_MAX: i64 = 1_000;
/// Ended ones that make room for a new one at the most.
const FORGOTTEN_AT_ONCE: i64 = 16;

/// A piece of bulk work that is not done.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id, in the order of asking.
    pub job_id: JobId,
    /// Whose deliveries, at present.
    pub webhook_id: WebhookId,
    /// Who asked.
    pub merchant_id: MerchantId,
    kind: JobKind,
    /// It goes on with the merchant's next webhook.
    is_of_all: bool,
    /// What is asked for; of a backfill, the state says nothing.
    filter: DeliveryFilter,
    /// The number or event to go on with.
    next: i64,
    last: i64,
    progress: Progress,
}

const COLUMNS: &str = "job_id, merchant_id, kind, webhook_id, is_of_all, looked_at, queued, unavailable,
    unavailable_webhook_id, unavailable_increment_id";

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
pub fn load(conn: &Connection) -> rusqlite::Result<Vec<Job>> {
    let sql = format!(
        "SELECT {COLUMNS}, next_id, last_id, since, until, topics, state FROM job WHERE ended_at IS NULL ORDER BY job_id"
    );
    conn.prepare(&sql)?.query_map([], job)?.collect()
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let topics: String = row.get(14)?;
    let state: Option<i64> = row.get(15)?;
    let until: Option<i64> = row.get(13)?;
    let filter = DeliveryFilter {
        state: state.map(|code| state_from_code(code).ok_or_else(|| damaged("state"))).transpose()?,
        topics: (!topics.is_empty()).then(|| patterns(&topics)).transpose()?,
        since: Some(Timestamp(row.get(12)?)),
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
        next: row.get(10)?,
        last: row.get(11)?,
        filter,
    })
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
    let first = after.map_or(span.first.0, |after| after.0.saturating_add(1)).max(1);
    let last = span.last.0.min(last_number(conn, id)?);
    if first > last {
        return Ok(Step { found: Unavailable::default(), next: None });
    }
    let bounds = Bounds { looked_at: ROWS_PER_STEP as usize, found: usize::MAX };
    let chosen = choose(conn, id, filter, (first, last), bounds)?;
    let next = (chosen.through < last).then_some(IncrementId(chosen.through));
    Ok(Step { found: chosen.unavailable, next })
}

/// Has the numbers of a span that the filter admits sent again.
pub fn replay(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    span: Span,
    filter: DeliveryFilter,
) -> Result<(JobId, Span)> {
    let last = webhooks::find(tx, merchant, id)?.last_increment_id;
    let span = Span { first: span.first.max(IncrementId(1)), last: span.last.min(last) };
    let (next, last) = (span.first.0, span.last.0);
    let job = Job::new(JobKind::Replay, merchant, id, filter, (next, last));
    Ok((add(tx, job)?, span))
}

/// The same with all numbers that one webhook has now, or all webhooks of the
/// merchant. Fails with [`StoreError::NoWebhook`] if it has none.
pub fn retry_many(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: Option<WebhookId>,
    filter: DeliveryFilter,
) -> Result<Shown> {
    let first = match id {
        Some(id) => webhooks::find(tx, merchant, id)?.webhook_id,
        None => {
            let first = tx.memory.webhooks_behind(merchant, WebhookId(0)).next();
            first.map(|entry| entry.webhook.webhook_id).ok_or(StoreError::NoWebhook)?
        }
    };
    let last = tx.memory.entry(first).map_or(0, |entry| entry.counters.last.0);
    // What is numbered later is not meant.
    let now = Timestamp(tx.now.0 + 1);
    let filter = DeliveryFilter { until: Some(filter.until.map_or(now, |until| until.min(now))), ..filter };
    let job = Job::new(JobKind::RetryMany, merchant, first, filter, (1, last));
    let job_id = add(tx, Job { is_of_all: id.is_none(), ..job })?;
    find(tx.conn, merchant, job_id)
}

/// Gives the merchant's stored events that the filter admits new numbers of a
/// webhook, whether it had them before or not.
pub fn backfill(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, filter: EventFilter) -> Result<Backfilled> {
    let webhook = webhooks::find(tx, merchant, id)?;
    let last: i64 =
        tx.conn.prepare_cached("SELECT coalesce(max(event_id), 0) FROM event")?.query_row([], |row| row.get(0))?;
    let EventFilter { topics, since, until, only: _ } = filter;
    let topics = Some(topics.unwrap_or(webhook.spec.topics));
    let filter = DeliveryFilter { state: None, topics, since, until, without_forgotten: false };
    let job_id = add(tx, Job::new(JobKind::Backfill, merchant, id, filter, (1, last)))?;
    Ok(Backfilled { job_id, through: EventId(last) })
}

impl Job {
    fn new(
        kind: JobKind,
        merchant_id: MerchantId,
        webhook_id: WebhookId,
        filter: DeliveryFilter,
        (next, last): (i64, i64),
    ) -> Self {
        let (job_id, progress) = (JobId(0), Progress::default());
        Self { job_id, webhook_id, merchant_id, kind, is_of_all: false, filter, next, last, progress }
    }
}

fn add(tx: &mut Tx<'_>, job: Job) -> Result<JobId> {
    if tx.memory.jobs.of_webhook(job.webhook_id) >= PER_WEBHOOK_MAX {
        return Err(StoreError::TooManyJobs { max: PER_WEBHOOK_MAX, whose: "webhook" });
    }
    if tx.memory.jobs.of_merchant(job.merchant_id) >= PER_MERCHANT_MAX {
        return Err(StoreError::TooManyJobs { max: PER_MERCHANT_MAX, whose: "merchant" });
    }
    tx.conn
        .prepare_cached(
            "DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE merchant_id = ?1 AND ended_at IS NOT NULL
                ORDER BY job_id DESC LIMIT ?3 OFFSET ?2)",
        )?
        .execute([job.merchant_id.0, ENDED_MAX - 1, FORGOTTEN_AT_ONCE])?;
    // There may be nothing to look at.
    let has_ended = !job.is_of_all && job.next > job.last;
    let Job { filter, .. } = &job;
    tx.conn
        .prepare_cached(
            "INSERT INTO job (webhook_id, kind, next_id, last_id, since, until, state, topics, merchant_id, is_of_all,
                created_at, ended_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
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
            tx.now.0,
            has_ended.then_some(tx.now.0),
        ])?;
    let job_id = JobId(tx.conn.last_insert_rowid());
    if !has_ended {
        tx.memory.jobs.add(Job { job_id, ..job });
    }
    Ok(job_id)
}

/// Forgets some that ended long ago, and says how many.
pub fn forget_old(tx: &Tx<'_>, max: i64) -> rusqlite::Result<usize> {
    tx.conn
        .prepare_cached("DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE ended_at <= ?1 LIMIT ?2)")?
        .execute([tx.now.0 - ENDED_FOR_MS, max])
}

/// What [`shown`] reads; takes a WHERE behind it.
fn shown_sql() -> String {
    format!("SELECT {COLUMNS}, created_at, ended_at, is_cancelled FROM job")
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
    let sql = format!("{} WHERE merchant_id = ?1 AND job_id = ?2", shown_sql());
    conn.prepare_cached(&sql)?.query_row([merchant.0, id.0], shown).optional()?.ok_or(StoreError::NoJob)
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

/// Does no more of a job; what it has done stands. One that has ended stays as
/// it is.
pub fn cancel(tx: &mut Tx<'_>, merchant: MerchantId, id: JobId) -> Result<Shown> {
    let found = find(tx.conn, merchant, id)?;
    if found.state != JobState::Running {
        return Ok(found);
    }
    let present: i64 = tx
        .conn
        .prepare_cached("UPDATE job SET ended_at = ?2, is_cancelled = 1 WHERE job_id = ?1 RETURNING webhook_id")?
        .query_row([id.0, tx.now.0], |row| row.get(0))?;
    let cancelled = find(tx.conn, merchant, id)?;
    if let Some(job) = tx.memory.jobs.take(WebhookId(present), id) {
        tx.memory.jobs.remove(&job);
    }
    Ok(cancelled)
}

/// Does a step of the job whose turn it is. One for which the store has no room
/// is put aside until it is swept, so that it costs nothing meanwhile.
pub fn step(tx: &mut Tx<'_>, room: Room) -> Result<()> {
    let Some(mut job) = tx.memory.jobs.next() else { return Ok(()) };
    let is_gone = tx.memory.entry(job.webhook_id).is_none_or(|entry| entry.is_deleted);
    if !is_gone && job.next <= job.last {
        let has_room = match job.kind {
            JobKind::Replay | JobKind::RetryMany => room.has_for_replay(tx.conn, job.merchant_id)?,
            JobKind::Backfill => room.has_for_backfill(tx.conn, job.merchant_id)?,
        };
        if !has_room {
            tx.memory.jobs.park(job);
            return Ok(());
        }
        match job.kind {
            JobKind::Replay | JobKind::RetryMany => resend_step(tx, &mut job)?,
            JobKind::Backfill => backfill_step(tx, &mut job)?,
        }
    }
    let is_done = is_gone || job.next > job.last;
    let next = if is_done && job.is_of_all { next_webhook(tx.memory, &job) } else { None };
    if let Some((id, last)) = next {
        (job.webhook_id, job.next, job.last) = (id, 1, last.0);
    }
    let has_ended = is_done && next.is_none();
    save(tx, &job, has_ended.then_some(tx.now))?;
    if has_ended {
        tx.memory.jobs.remove(&job);
    } else {
        tx.memory.jobs.put_back(job);
    }
    Ok(())
}

/// The merchant's next webhook that has numbers, and the last of them; or the
/// last that a step may look at, from which the next step goes on.
fn next_webhook(memory: &Memory, job: &Job) -> Option<(WebhookId, IncrementId)> {
    let mut looked_at = None;
    for entry in memory.webhooks_behind(job.merchant_id, job.webhook_id).take(LOOKED_AT_PER_STEP) {
        looked_at = Some((entry.webhook.webhook_id, entry.counters.last));
        if entry.counters.last > IncrementId::ZERO {
            break;
        }
    }
    looked_at
}

fn save(tx: &Tx<'_>, job: &Job, ended_at: Option<Timestamp>) -> Result<()> {
    let Progress { looked_at, queued, unavailable } = job.progress;
    tx.conn
        .prepare_cached(
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

/// What was cancelled stays cancelled, unless it is asked for; what was pruned
/// is gone, and what was delivered stays delivered whatever becomes of the
/// re-send. What is under way goes out once more when that has ended; what was
/// never tried, and is not, does so for the first time. A batch is sent again
/// whole, or not at all.
fn resend_step(tx: &mut Tx<'_>, job: &mut Job) -> Result<()> {
    let id = job.webhook_id;
    let bounds = Bounds { looked_at: LOOKED_AT_PER_STEP, found: PER_STEP };
    let chosen = choose(tx.conn, id, &job.filter, (job.next, job.last), bounds)?;
    for span in &chosen.spans {
        send_again(tx, id, *span)?;
    }
    if let (Some(first), Some(last)) = (chosen.spans.first(), chosen.spans.last()) {
        tx.news.push(Announcement::Reread(id, first.first));
        tx.news.push(Announcement::Changed(id, Span { first: first.first, last: last.last }));
    }
    let Progress { looked_at, queued, unavailable } = job.progress;
    job.progress = Progress {
        looked_at: looked_at + chosen.looked_at as u64,
        queued: queued + chosen.count as u64,
        unavailable: unavailable + chosen.unavailable,
    };
    job.next = chosen.through + 1;
    Ok(())
}

/// Numbers those of the merchant's next events that match.
fn backfill_step(tx: &mut Tx<'_>, job: &mut Job) -> Result<()> {
    let Some(entry) = tx.memory.entry(job.webhook_id) else { return Ok(()) };
    let webhook = Arc::clone(&entry.webhook);
    let DeliveryFilter { topics, since, until, .. } = &job.filter;
    let is_wanted = |topic: &Topic, at: Timestamp| {
        *topic != Topic::test()
            && topics.as_ref().is_none_or(|topics| topics.matches(topic))
            && since.is_none_or(|since| at >= since)
            && until.is_none_or(|until| at < until)
    };
    let mut numbering = Numbering::of(tx)?;
    let mut events = tx.conn.prepare_cached(
        "SELECT event_id, topic, published_at, octet_length(message) FROM event INDEXED BY event_by_merchant
            WHERE merchant_id = ?1 AND event_id BETWEEN ?2 AND ?3 ORDER BY event_id LIMIT ?4",
    )?;
    let mut found = events.query(params![webhook.merchant_id.0, job.next, job.last, PER_STEP as i64])?;
    let (mut through, mut count, mut bytes, mut queued) = (job.last, 0, 0, 0);
    while let Some(row) = found.next()? {
        let event_id: i64 = row.get(0)?;
        let topic = topic_at(row, 1)?;
        if is_wanted(&topic, Timestamp(row.get(2)?)) {
            let number = numbering.number(tx, job.webhook_id, EventId(event_id), &topic)?;
            queued += u64::from(number.is_some());
        }
        (count, bytes) = (count + 1, bytes + row.get::<_, i64>(3)?);
        if count == PER_STEP || bytes >= BYTES_PER_STEP {
            through = event_id;
            break;
        }
    }
    drop(found);
    drop(events);
    numbering.settle(tx);
    job.progress.looked_at += count as u64;
    job.progress.queued += queued;
    job.next = through + 1;
    Ok(())
}
