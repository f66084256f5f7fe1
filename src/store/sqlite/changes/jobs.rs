//! Replays and backfills: bulk work that is noted when it is asked for, done
//! in small steps between other changes, and gone on with after a crash.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::publishing::Numbering;
use super::{Result, batches, webhooks};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::store::StoreError;
use crate::store::sqlite::room::Room;
use crate::store::sqlite::rows::{damaged, patterns, topic_at};
use crate::store::sqlite::tx::{Announcement, Tx};

/// Numbers or events that a step looks at.
const PER_STEP: i64 = 125;
/// Messages that a step of a backfill passes over, in bytes: what stands behind
/// a message in its row is found by way of all its pages.
const BYTES_PER_STEP: i64 = 4 * 1_024 * 1_024;
/// Jobs of one webhook that may wait.
const PER_WEBHOOK_MAX: usize = 16;
/// Jobs of one merchant that may wait.
const PER_MERCHANT_MAX: usize = 256;

/// A piece of bulk work.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id, in the order of asking.
    pub job_id: i64,
    /// Whose deliveries.
    pub webhook_id: WebhookId,
    /// Who asked.
    pub merchant_id: MerchantId,
    kind: Kind,
    /// The number or event to go on with.
    next: i64,
    last: i64,
    /// Only what was numbered, or published, from then on.
    since: Timestamp,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Existing numbers are sent again.
    Replay,
    /// Stored events become new numbers.
    Backfill(Patterns),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Backfill(_) => "backfill",
        }
    }
}

/// The jobs that are not done.
pub fn load(conn: &Connection) -> rusqlite::Result<Vec<Job>> {
    let sql = "SELECT job_id, job.webhook_id, kind, next_id, last_id, since, job.topics, merchant_id
        FROM job JOIN webhook ON webhook.webhook_id = job.webhook_id ORDER BY job_id";
    conn.prepare(sql)?.query_map([], job)?.collect()
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let topics: String = row.get(6)?;
    Ok(Job {
        job_id: row.get(0)?,
        webhook_id: WebhookId(row.get(1)?),
        kind: match (row.get_ref(2)?.as_str()?, patterns(&topics)) {
            ("replay", _) => Kind::Replay,
            ("backfill", Ok(patterns)) => Kind::Backfill(patterns),
            _ => return Err(damaged("job")),
        },
        next: row.get(3)?,
        last: row.get(4)?,
        since: Timestamp(row.get(5)?),
        merchant_id: MerchantId(row.get(7)?),
    })
}

/// Has the numbers of a span that were given out since then sent again.
pub fn replay(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, span: Span, since: Timestamp) -> Result<Span> {
    let last = webhooks::find(tx, merchant, id)?.last_increment_id;
    let span = Span { first: span.first.max(IncrementId(1)), last: span.last.min(last) };
    let (next, last) = (span.first.0, span.last.0);
    add(tx, Job { job_id: 0, webhook_id: id, merchant_id: merchant, kind: Kind::Replay, next, last, since })?;
    Ok(span)
}

/// Gives the merchant's stored events that match and were published since
/// then new numbers of a webhook, whether it had them before or not. Returns
/// the last event that is looked at.
pub fn backfill(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    topics: Option<Patterns>,
    since: Timestamp,
) -> Result<EventId> {
    let webhook = webhooks::find(tx, merchant, id)?;
    let kind = Kind::Backfill(topics.unwrap_or(webhook.spec.topics));
    let last: i64 =
        tx.conn.prepare_cached("SELECT coalesce(max(event_id), 0) FROM event")?.query_row([], |row| row.get(0))?;
    add(tx, Job { job_id: 0, webhook_id: id, merchant_id: merchant, kind, next: 1, last, since })?;
    Ok(EventId(last))
}

fn add(tx: &mut Tx<'_>, job: Job) -> Result<()> {
    if tx.memory.jobs.of_webhook(job.webhook_id) >= PER_WEBHOOK_MAX {
        return Err(StoreError::TooManyJobs { max: PER_WEBHOOK_MAX, whose: "webhook" });
    }
    if tx.memory.jobs.of_merchant(job.merchant_id) >= PER_MERCHANT_MAX {
        return Err(StoreError::TooManyJobs { max: PER_MERCHANT_MAX, whose: "merchant" });
    }
    let topics = match &job.kind {
        Kind::Replay => "",
        Kind::Backfill(patterns) => patterns.as_str(),
    };
    tx.conn
        .prepare_cached(
            "INSERT INTO job (webhook_id, kind, next_id, last_id, since, topics) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![job.webhook_id.0, job.kind.name(), job.next, job.last, job.since.0, topics])?;
    let job_id = tx.conn.last_insert_rowid();
    tx.memory.jobs.add(Job { job_id, ..job });
    Ok(())
}

/// Does a step of the job whose turn it is. One for which the store has no room
/// is put aside until it is swept, so that it costs nothing meanwhile.
pub fn step(tx: &mut Tx<'_>, room: Room) -> Result<()> {
    let Some(mut job) = tx.memory.jobs.next() else { return Ok(()) };
    let is_gone = tx.memory.entry(job.webhook_id).is_none_or(|entry| entry.is_deleted);
    if !is_gone && job.next <= job.last {
        let has_room = match job.kind {
            Kind::Replay => room.has_for_replay(tx.conn, job.merchant_id)?,
            Kind::Backfill(_) => room.has_for_backfill(tx.conn, job.merchant_id)?,
        };
        if !has_room {
            tx.memory.jobs.park(job);
            return Ok(());
        }
        let through = match &job.kind {
            Kind::Replay => replay_step(tx, &job, job.last.min(job.next.saturating_add(PER_STEP - 1)))?,
            Kind::Backfill(patterns) => backfill_step(tx, &job, patterns)?,
        };
        job.next = through + 1;
    }
    if is_gone || job.next > job.last {
        tx.conn.prepare_cached("DELETE FROM job WHERE job_id = ?1")?.execute([job.job_id])?;
        tx.memory.jobs.remove(&job);
    } else {
        tx.conn.prepare_cached("UPDATE job SET next_id = ?2 WHERE job_id = ?1")?.execute([job.job_id, job.next])?;
        tx.memory.jobs.put_back(job);
    }
    Ok(())
}

/// What was cancelled stays cancelled, what was pruned is gone, and what was
/// delivered stays delivered whatever becomes of the re-send. What is under way
/// goes out once more when that has ended; what was never tried, and is not, does
/// so for the first time. A batch is sent again whole, or not at all; returns the
/// last number that was looked at.
fn replay_step(tx: &mut Tx<'_>, job: &Job, through: i64) -> Result<i64> {
    let id = job.webhook_id;
    let first = batches::of(tx, id, IncrementId(job.next))?.first.0;
    let through = batches::of(tx, id, IncrementId(through))?.last.0;
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET policy_start = attempts, resends_asked = resends_asked + 1,
                next_attempt_at = CASE WHEN state <> 0 OR attempts > 0 OR next_attempt_at IS NOT NULL THEN ?4 END,
                state = CASE state WHEN 2 THEN 0 ELSE state END,
                ended_at = CASE state WHEN 2 THEN NULL ELSE ended_at END, reason = NULL
                WHERE webhook_id = ?1 AND increment_id BETWEEN ?2 AND ?3 AND state <> 3
                    AND ?5 <= (SELECT last.created_at FROM delivery last WHERE last.webhook_id = ?1
                        AND last.increment_id = coalesce(delivery.batch_last, delivery.increment_id))
                    AND coalesce(delivery.batch_first, delivery.increment_id) NOT IN
                        (SELECT coalesce(d.batch_first, d.increment_id) FROM delivery d WHERE d.webhook_id = ?1
                            AND d.increment_id BETWEEN ?2 AND ?3
                            AND NOT EXISTS (SELECT 1 FROM event e WHERE e.event_id = d.event_id))",
        )?
        .execute([id.0, first, through, tx.now.0, job.since.0])?;
    let first = IncrementId(first);
    tx.news.push(Announcement::Reread(id, first));
    tx.news.push(Announcement::Changed(id, Span { first, last: IncrementId(through) }));
    Ok(through)
}

/// Numbers those of the merchant's next events that match; returns the last
/// one that was looked at.
fn backfill_step(tx: &mut Tx<'_>, job: &Job, patterns: &Patterns) -> Result<i64> {
    let Some(entry) = tx.memory.entry(job.webhook_id) else { return Ok(job.last) };
    let webhook = Arc::clone(&entry.webhook);
    let mut numbering = Numbering::of(tx)?;
    let mut events = tx.conn.prepare_cached(
        "SELECT event_id, topic, published_at, octet_length(message) FROM event INDEXED BY event_by_merchant
            WHERE merchant_id = ?1 AND event_id BETWEEN ?2 AND ?3 ORDER BY event_id LIMIT ?4",
    )?;
    let mut found = events.query(params![webhook.merchant_id.0, job.next, job.last, PER_STEP])?;
    let (mut through, mut count, mut bytes) = (job.last, 0, 0);
    while let Some(row) = found.next()? {
        let event_id: i64 = row.get(0)?;
        let topic = topic_at(row, 1)?;
        if row.get::<_, i64>(2)? >= job.since.0 && topic != Topic::test() && patterns.matches(&topic) {
            numbering.number(tx, job.webhook_id, EventId(event_id), &topic)?;
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
    Ok(through)
}
