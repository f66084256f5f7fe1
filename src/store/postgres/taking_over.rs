//! What a node reads of merchants for whom it begins to send.

use tokio_postgres::types::Type;

use super::reading::read_counters;
use super::session::Session;
use super::values::Parameter;
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::node::{Bucket, NodeId};
use crate::domain::topic::Topic;
use crate::store::error::StoreError;
use crate::store::ledger::book::Left;
use crate::store::ledger::fanout::Fanout;
use crate::store::ledger::logs::LogRow;
use crate::store::ledger::work::Counted;
use crate::store::sql::codes::{bad, topic_at};
use crate::store::sql::db::{one, values};
use crate::store::sql::definition::{webhook, webhook_sql};
use crate::store::sql::{Dialect, Row, jobs};
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// Webhooks that are looked at in a step.
const WEBHOOKS_PER_STEP: i64 = 500;

/// The milliseconds since 1970, by the clock of the database.
pub const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// A bucket's number, as statements have it.
pub fn numbers(buckets: &[Bucket]) -> Vec<i64> {
    buckets.iter().map(|bucket| i64::from(bucket.0)).collect()
}

/// How webhooks of these buckets are counted, of those behind one, and how large
/// their logs are.
pub fn webhooks(session: &Session, buckets: &[Bucket], after: WebhookId) -> Result<Counted> {
    const SQL: &str = "SELECT w.webhook_id, w.last_increment_id, w.settled_through, w.acknowledged_through,
            w.pulled_through, w.consecutive_failures, w.failing_since, w.paused_until, w.pause_reason,
            w.merchant_id, w.deleted_at IS NOT NULL, l.bytes, l.emptied_number, l.emptied_attempt
        FROM (SELECT * FROM webhook_now WHERE (merchant_id & 255) = ANY($1) AND webhook_id > $2
            ORDER BY webhook_id LIMIT $3) w
        LEFT JOIN log_size l ON l.webhook_id = w.webhook_id ORDER BY w.webhook_id";
    let buckets = numbers(buckets);
    let values: [Parameter<'_>; 3] =
        [(&buckets, Type::INT8_ARRAY), (&after.0, Type::INT8), (&WEBHOOKS_PER_STEP, Type::INT8)];
    let Counted { mut counters, mut logs } = Counted::default();
    for row in &session.together(session.ask(SQL, &values))? {
        let row: &dyn Row = row;
        let (webhook_id, found) = read_counters(row)?;
        counters.push((webhook_id, found));
        if row.int_if(11)?.is_some() {
            logs.push(LogRow {
                webhook_id,
                merchant: MerchantId(row.int(9)?),
                bytes: row.amount(11)?,
                emptied: (IncrementId(row.int(12)?), row.count(13)?),
                is_deleted: row.flag(10)?,
            });
        }
    }
    Ok(Counted { counters, logs })
}

/// What is to be gone on with in these buckets: what was begun by nodes that are no
/// more is this node's from now on. A merchant whom somebody holds is left for later:
/// it may be such a node's last transaction.
pub fn left(session: &mut Session, vault: &Vault, buckets: &[Bucket], node: NodeId) -> Result<Left> {
    let take = |table: &str, and: &str, columns: &str| {
        let is_gone = format!(
            "(merchant_id & 255) = ANY($1) AND node_id <> $2 {and}
                AND NOT EXISTS (SELECT 1 FROM node n WHERE n.node_id = {table}.node_id)"
        );
        format!(
            "UPDATE {table} SET node_id = $2 WHERE {is_gone} AND merchant_id IN (SELECT merchant_id FROM merchant
                WHERE merchant_id IN (SELECT merchant_id FROM {table} WHERE {is_gone})
                ORDER BY merchant_id FOR NO KEY UPDATE SKIP LOCKED) RETURNING {columns}"
        )
    };
    let fanouts = take("fanout", "", "fanout_id, merchant_id, events");
    let jobs = take("job", "AND ended_at IS NULL", jobs::UNFINISHED);
    let deleted = format!(
        "{} WHERE (w.merchant_id & 255) = ANY($1) AND w.deleted_at IS NOT NULL AND (w.settled_through < w.last_increment_id
            OR EXISTS (SELECT 1 FROM delivery d WHERE d.webhook_id = w.webhook_id AND d.next_attempt_at IS NOT NULL))",
        webhook_sql(Dialect::Postgres)
    );
    const TO_FORGET: &str = "SELECT DISTINCT e.merchant_id, e.event_id FROM delivery d
        JOIN event e ON e.event_id = -d.event_id WHERE d.event_id < 0 AND (e.merchant_id & 255) = ANY($1)";
    let (buckets, node) = (numbers(buckets), node.0);
    let both: [Parameter<'_>; 2] = [(&buckets, Type::INT8_ARRAY), (&node, Type::INT8)];
    let own = &both[..1];
    let (fanouts, jobs, deleted, to_forget) = session.together(async {
        let (fanouts, jobs, deleted, to_forget) = tokio::join!(
            biased;
            session.ask(&fanouts, &both),
            session.ask(&jobs, &both),
            session.ask(&deleted, own),
            session.ask(TO_FORGET, own),
        );
        Ok((fanouts?, jobs?, deleted?, to_forget?))
    })?;
    Ok(Left {
        deleted: deleted.iter().map(|row| webhook(vault)(row)).collect::<Result<_>>()?,
        fanouts: self::fanouts(session, &fanouts)?,
        jobs: jobs.iter().map(|row| jobs::job(row)).collect::<Result<_>>()?,
        to_forget: to_forget
            .iter()
            .map(|row| row as &dyn Row)
            .map(|row| Ok((MerchantId(row.int(0)?), EventId(row.int(1)?))))
            .collect::<Result<_>>()?,
    })
}

/// What a node has begun, and goes on with.
pub fn begun(session: &mut Session, node: NodeId) -> Result<Left> {
    const FANOUTS: &str = "SELECT fanout_id, merchant_id, events FROM fanout WHERE node_id = $1";
    let jobs = format!("SELECT {} FROM job WHERE ended_at IS NULL AND node_id = $1", jobs::UNFINISHED);
    let node: [Parameter<'_>; 1] = [(&node.0, Type::INT8)];
    let (fanouts, jobs) = session.together(async {
        let (fanouts, jobs) = tokio::join!(biased; session.ask(FANOUTS, &node), session.ask(&jobs, &node));
        Ok((fanouts?, jobs?))
    })?;
    Ok(Left {
        fanouts: self::fanouts(session, &fanouts)?,
        jobs: jobs.iter().map(|row| jobs::job(row)).collect::<Result<_>>()?,
        ..Left::default()
    })
}

/// Few are under way, so their events are asked for one by one.
fn fanouts(session: &mut Session, rows: &[tokio_postgres::Row]) -> Result<Vec<(i64, Fanout)>> {
    let topic = |session: &mut Session, event: EventId| -> Result<Topic> {
        let found =
            one(session, "SELECT topic FROM event WHERE event_id = $1", values![event.0], |row| topic_at(row, 0))?;
        found.ok_or_else(|| bad("fanout"))
    };
    let mut fanouts = Vec::with_capacity(rows.len());
    for row in rows {
        let row: &dyn Row = row;
        let fanout = Fanout::stored(MerchantId(row.int(1)?), row.text(2)?, |event| topic(session, event))?;
        fanouts.push((row.int(0)?, fanout));
    }
    Ok(fanouts)
}
