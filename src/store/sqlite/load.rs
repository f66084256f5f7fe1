//! Reading what changes want, and what is known by heart.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, Statement, ToSql, params};

use super::jobs;
use super::rows::{self, damaged, state_code, topic_at};
use super::standings::{STANDING, event_of, scanned, standing};
use crate::domain::delivery::EndReason;
use crate::domain::event::{IdempotencyKey, Receipt};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::store::error::StoreError;
use crate::store::ledger::book::Stock;
use crate::store::ledger::decision::Ids;
use crate::store::ledger::fanout::Fanout;
use crate::store::ledger::logs::LogRow;
use crate::store::ledger::notices::{Gathered, Notice};
use crate::store::ledger::wants::{
    AttemptFound, Attempts, EventFound, Events, FirstHeard, Found, Loaded, Pending, Remembered, TopicFound, TopicWant,
    Wants,
};

type Result<T> = std::result::Result<T, StoreError>;

/// Reads what changes want.
pub fn load(conn: &Connection, wants: &Wants, now: Timestamp) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    for merchant in &wants.codes {
        let mut statement = conn.prepare_cached("SELECT code FROM merchant WHERE merchant_id = ?1")?;
        let code: Option<String> = statement.query_row([merchant.0], |row| row.get(0)).optional()?;
        loaded.codes.push((*merchant, code.unwrap_or_default().into()));
    }
    for (merchant, key) in &wants.keys {
        if let Some(remembered) = remembered(conn, now, *merchant, key)? {
            loaded.keys.insert((*merchant, key.clone()), remembered);
        }
    }
    first_heard(conn, wants, &mut loaded)?;
    deliveries(conn, wants, &mut loaded)?;
    for (id, notice) in &wants.notices {
        if let Some(gathered) = gathered(conn, *id, *notice)? {
            loaded.notices.insert((*id, *notice), gathered);
        }
    }
    if let Some(max) = wants.due_notices {
        loaded.due_notices = due_notices(conn, now, max)?;
    }
    if let Some(scan) = wants.scan {
        loaded.scanned = scanned(conn, scan)?;
    }
    if let Some(events) = wants.events {
        (loaded.events, loaded.is_last_event) = self::events(conn, events)?;
    }
    if let Some((merchant, id)) = wants.job {
        loaded.job = jobs::find_with_webhook(conn, merchant, id)?;
    }
    if let Some(topic) = &wants.topic {
        loaded.topic = Some(self::topic(conn, topic)?);
    }
    if let Some((merchant, user)) = wants.user {
        let sql = "SELECT EXISTS (SELECT 1 FROM user WHERE user_id = ?2 AND merchant_id = ?1 AND revoked_at IS NULL)";
        loaded.is_user = conn.prepare_cached(sql)?.query_row([merchant.0, user.0], |row| row.get(0))?;
    }
    needed(conn, wants, &mut loaded)?;
    if let Some(attempts) = wants.attempts {
        loaded.attempts = self::attempts(conn, attempts)?;
    }
    if wants.used_bytes {
        loaded.used_bytes = Some(used_bytes(conn)?);
    }
    Ok(loaded)
}

/// What the store holds; what is free within its file does not count.
pub fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let pages = read("PRAGMA page_count")?.saturating_sub(read("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(read("PRAGMA page_size")?).unsigned_abs())
}

/// What a key that still counts stands for.
pub fn remembered(
    conn: &Connection,
    now: Timestamp,
    merchant: MerchantId,
    key: &IdempotencyKey,
) -> Result<Option<Remembered>> {
    let sql = "SELECT content_hash, event_id, receipt FROM idempotency
        WHERE merchant_id = ?1 AND key = ?2 AND expires_at > ?3";
    let found = conn
        .prepare_cached(sql)?
        .query_row(params![merchant.0, key.as_str(), now.0], |row| {
            let receipt =
                Receipt { event_id: EventId(row.get(1)?), deliveries: read_pairs(row.get_ref(2)?.as_str()?)? };
            Ok(Remembered { content_hash: row.get(0)?, receipt })
        })
        .optional()?;
    Ok(found)
}

/// `1:42 7:3` for number 42 of webhook 1 and number 3 of webhook 7.
pub fn write_pairs(pairs: &[(WebhookId, IncrementId)]) -> String {
    pairs.iter().map(|(id, number)| format!("{id}:{number}")).collect::<Vec<_>>().join(" ")
}

fn read_pairs(text: &str) -> rusqlite::Result<Vec<(WebhookId, IncrementId)>> {
    let read = |pair: &str| {
        let (id, number) = pair.split_once(':')?;
        Some((WebhookId(id.parse().ok()?), IncrementId(number.parse().ok()?)))
    };
    text.split_whitespace().map(read).collect::<Option<_>>().ok_or_else(|| damaged("receipt"))
}

/// Compare-and-set of deliveries that nobody has heard of before.
fn first_heard(conn: &Connection, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    /// `Standing::NEW`.
    const NEW: &str = "webhook_id = ?1 AND increment_id = ?2 AND state = 0 AND attempts = 0 AND policy_start = 0
        AND next_attempt_at IS NULL AND ended_at IS NULL AND reason IS NULL AND batch_first IS NULL
        AND resends_asked = 0 AND event_id > 0";
    if wants.first_heard.is_empty() {
        return Ok(());
    }
    let sql = format!("UPDATE delivery SET attempts = ?3, state = ?4, ended_at = ?5, reason = ?6 WHERE {NEW}");
    let mut ending = conn.prepare_cached(&sql)?;
    // Apart, for it concerns the indexes of what is due.
    let sql = format!("UPDATE delivery SET attempts = ?3, next_attempt_at = ?4 WHERE {NEW}");
    let mut retrying = conn.prepare_cached(&sql)?;
    for FirstHeard { webhook_id, number, standing } in &wants.first_heard {
        let Standing { attempts, next_attempt_at, ended_at, reason, state, .. } = standing;
        let written = match next_attempt_at {
            Some(at) => retrying.execute(params![webhook_id.0, number.0, attempts, at.0])?,
            None => {
                let (state, reason) = (state_code(*state), reason.map(EndReason::name));
                ending.execute(params![webhook_id.0, number.0, attempts, state, ended_at.map(|at| at.0), reason])?
            }
        };
        loaded.first_heard.push(written == 1);
        if written == 0 {
            add_delivery(&mut *by_number(conn)?, *webhook_id, *number, &mut loaded.deliveries)?;
        }
    }
    Ok(())
}

/// Reads deliveries one by one, with [`add_delivery`].
fn by_number(conn: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    conn.prepare_cached(&format!("SELECT {STANDING} FROM delivery d WHERE d.webhook_id = ?1 AND d.increment_id = ?2"))
}

/// One delivery, if it is there.
fn add_delivery(
    by_number: &mut Statement<'_>,
    id: WebhookId,
    number: IncrementId,
    found: &mut HashMap<(WebhookId, IncrementId), Found>,
) -> Result<()> {
    let read = |row: &Row<'_>| Ok(Found { standing: standing(row)?.1, event_id: event_of(row)?, is_whole: false });
    if let Some(delivery) = by_number.query_row([id.0, number.0], read).optional()? {
        found.insert((id, number), delivery);
    }
    Ok(())
}

fn deliveries(conn: &Connection, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    if !wants.deliveries.is_empty() {
        let mut by_number = by_number(conn)?;
        for (id, span) in &wants.deliveries {
            // One by one: SQLite is quicker with a key than with a range of one.
            for number in span.numbers() {
                add_delivery(&mut by_number, *id, number, &mut loaded.deliveries)?;
            }
        }
    }
    for (id, number) in &wants.batches {
        let sql = format!(
            "SELECT {STANDING}, e.event_id IS NOT NULL FROM delivery d LEFT JOIN event e USING (event_id)
                WHERE d.webhook_id = ?1 AND d.increment_id BETWEEN
                    coalesce((SELECT batch_first FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2), ?2)
                    AND coalesce((SELECT batch_last FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2), ?2)"
        );
        let mut statement = conn.prepare_cached(&sql)?;
        let mut found = statement.query([id.0, number.0])?;
        while let Some(row) = found.next()? {
            let (number, standing) = standing(row)?;
            let found = Found { standing, event_id: event_of(row)?, is_whole: row.get(11)? };
            loaded.deliveries.insert((*id, number), found);
        }
    }
    for (id, span) in &wants.topics {
        let sql = "SELECT d.increment_id, e.topic FROM delivery d JOIN event e USING (event_id)
            WHERE d.webhook_id = ?1 AND d.increment_id BETWEEN ?2 AND ?3";
        let mut statement = conn.prepare_cached(sql)?;
        let mut found = statement.query([id.0, span.first.0, span.last.0])?;
        while let Some(row) = found.next()? {
            loaded.topics.insert((*id, IncrementId(row.get(0)?)), topic_at(row, 1)?);
        }
    }
    if let Some(Pending { webhook_id, after, through, max }) = wants.pending {
        let sql = format!(
            "SELECT {STANDING} FROM delivery d WHERE d.webhook_id = ?1 AND d.increment_id > ?2
                AND d.increment_id <= ?3 AND d.state = 0 ORDER BY d.increment_id LIMIT ?4"
        );
        loaded.pending = all(conn, &sql, params![webhook_id.0, after.0, through.0, max])?;
    }
    if let Some((id, max)) = wants.again {
        let sql = format!(
            "SELECT {STANDING} FROM delivery d INDEXED BY delivery_again
                WHERE d.webhook_id = ?1 AND d.next_attempt_at IS NOT NULL ORDER BY d.increment_id LIMIT ?2"
        );
        loaded.again = all(conn, &sql, params![id.0, max])?;
    }
    Ok(())
}

fn all(conn: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<(IncrementId, Standing)>> {
    Ok(conn.prepare_cached(sql)?.query_map(parameters, standing)?.collect::<rusqlite::Result<_>>()?)
}

fn events(conn: &Connection, events: Events) -> Result<(Vec<EventFound>, bool)> {
    let mut statement = conn.prepare_cached(
        "SELECT event_id, topic, published_at, octet_length(message) FROM event INDEXED BY event_by_merchant
            WHERE merchant_id = ?1 AND event_id BETWEEN ?2 AND ?3 ORDER BY event_id LIMIT ?4",
    )?;
    let mut rows = statement.query(params![events.merchant.0, events.first, events.last, events.max])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (event_id, published_at) = (EventId(row.get(0)?), Timestamp(row.get(2)?));
        found.push(EventFound { event_id, topic: topic_at(row, 1)?, published_at });
        bytes += row.get::<_, i64>(3)?.unsigned_abs();
        if bytes >= events.bytes_max || found.len() == events.max as usize {
            return Ok((found, false));
        }
    }
    Ok((found, true))
}

fn gathered(conn: &Connection, id: WebhookId, notice: Notice) -> Result<Option<Gathered>> {
    let sql = "SELECT webhook_id, kind, count, first_increment_id, last_increment_id, due_at FROM notice
        WHERE webhook_id = ?1 AND kind = ?2";
    let found = conn.prepare_cached(sql)?.query_row(params![id.0, notice.name()], read_notice).optional()?;
    Ok(found.map(|(_, _, gathered)| gathered))
}

fn due_notices(conn: &Connection, now: Timestamp, max: u32) -> Result<Vec<(WebhookId, Notice, Gathered)>> {
    let sql = "SELECT webhook_id, kind, count, first_increment_id, last_increment_id, due_at FROM notice
        WHERE due_at <= ?1 LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_map(params![now.0, max], read_notice)?.collect::<rusqlite::Result<_>>()?)
}

fn read_notice(row: &Row<'_>) -> rusqlite::Result<(WebhookId, Notice, Gathered)> {
    let notice = Notice::from_name(row.get_ref(1)?.as_str()?).ok_or_else(|| damaged("notice"))?;
    let (first, last, due_at) = (IncrementId(row.get(3)?), IncrementId(row.get(4)?), Timestamp(row.get(5)?));
    Ok((WebhookId(row.get(0)?), notice, Gathered { count: row.get(2)?, first, last, due_at }))
}

fn topic(conn: &Connection, want: &TopicWant) -> Result<TopicFound> {
    let TopicWant { merchant, topic, event_type } = want;
    let sql = format!("{} WHERE merchant_id = ?1 AND topic = ?2", rows::TOPIC);
    let parameters = params![merchant.0, topic.as_str()];
    let entry = conn.prepare_cached(&sql)?.query_row(parameters, rows::topic).optional()?;
    let count = "SELECT count(*) FROM topic WHERE merchant_id = ?1";
    let highest = "SELECT event_type FROM merchant WHERE merchant_id = ?1";
    let taken = "SELECT topic FROM topic WHERE merchant_id = ?1 AND event_type = ?2 AND topic <> ?3";
    let taken_by: Option<Topic> = conn
        .prepare_cached(taken)?
        .query_row(params![merchant.0, event_type, topic.as_str()], |row| topic_at(row, 0))
        .optional()?;
    Ok(TopicFound {
        entry,
        count: conn.prepare_cached(count)?.query_row([merchant.0], |row| row.get(0))?,
        event_type_max: conn.prepare_cached(highest)?.query_row([merchant.0], |row| row.get(0))?,
        taken_by,
    })
}

fn needed(conn: &Connection, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    for event in &wants.needed {
        let sql = "SELECT EXISTS
            (SELECT 1 FROM delivery WHERE event_id = ?1 AND (state = 0 OR next_attempt_at IS NOT NULL))";
        if conn.prepare_cached(sql)?.query_row([event.0], |row| row.get(0))? {
            loaded.needed.push(*event);
        }
    }
    if let Some((id, number)) = wants.needed_beside {
        let sql = "SELECT event_id FROM delivery WHERE (state = 0 OR next_attempt_at IS NOT NULL)
            AND event_id = (SELECT event_id FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2)
            AND NOT (webhook_id = ?1 AND increment_id = ?2) LIMIT 1";
        let event: Option<i64> = conn.prepare_cached(sql)?.query_row([id.0, number.0], |row| row.get(0)).optional()?;
        loaded.needed.extend(event.map(EventId));
    }
    Ok(())
}

fn attempts(conn: &Connection, attempts: Attempts) -> Result<Vec<AttemptFound>> {
    let mut statement = conn.prepare_cached(
        "SELECT attempt_id, increment_id, attempt,
                octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body)
            FROM attempt WHERE webhook_id = ?1 AND (increment_id, attempt) > (?2, ?3) AND increment_id <= ?4
            ORDER BY increment_id, attempt LIMIT ?5",
    )?;
    let Attempts { webhook_id, after: (number, attempt), only, max } = attempts;
    let through = only.map_or(i64::MAX, |only| only.0);
    let found = statement.query_map(params![webhook_id.0, number.0, attempt, through, max], |row| {
        let place = (IncrementId(row.get(1)?), row.get(2)?);
        Ok(AttemptFound { attempt_id: row.get(0)?, place, bytes: row.get::<_, i64>(3)?.unsigned_abs() })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// All that is known by heart.
pub fn stock(conn: &Connection) -> Result<Stock> {
    let webhooks = format!("{} WHERE deleted_at IS NULL", rows::WEBHOOK);
    // Deleted in an earlier life, with deliveries still to be cancelled.
    let deleted = format!(
        "{} WHERE deleted_at IS NOT NULL AND (settled_through < last_increment_id OR EXISTS
            (SELECT 1 FROM delivery d WHERE d.webhook_id = webhook.webhook_id AND d.next_attempt_at IS NOT NULL))",
        rows::WEBHOOK
    );
    let read = |sql: &str| conn.prepare(sql)?.query_map([], rows::webhook)?.collect::<rusqlite::Result<_>>();
    let codes = conn
        .prepare("SELECT merchant_id, code FROM merchant")?
        .query_map([], |row| Ok((MerchantId(row.get(0)?), row.get::<_, String>(1)?.into())))?
        .collect::<rusqlite::Result<_>>()?;
    let sql = "SELECT DISTINCT e.merchant_id, e.event_id FROM delivery d JOIN event e ON e.event_id = -d.event_id
        WHERE d.event_id < 0";
    let whose = |row: &Row<'_>| Ok((MerchantId(row.get(0)?), EventId(row.get(1)?)));
    let to_forget = conn.prepare(sql)?.query_map([], whose)?.collect::<rusqlite::Result<_>>()?;
    let numbers = conn.query_row("SELECT coalesce(sum(last_increment_id), 0) FROM webhook", [], |row| row.get(0))?;
    Ok(Stock {
        webhooks: read(&webhooks)?,
        deleted: read(&deleted)?,
        codes,
        fanouts: fanouts(conn)?,
        jobs: jobs::load(conn)?,
        to_forget,
        logs: logs(conn)?,
        ids: ids(conn)?,
        numbers,
    })
}

fn fanouts(conn: &Connection) -> Result<Vec<(i64, Fanout)>> {
    let mut topic = conn.prepare("SELECT topic FROM event WHERE event_id = ?1")?;
    let mut found = conn.prepare("SELECT fanout_id, merchant_id, events FROM fanout")?;
    let mut rows = found.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(2)?.as_str().map_err(StoreError::failed)?;
        let topic = |event: EventId| Ok(topic.query_row([event.0], |row| topic_at(row, 0))?);
        all.push((row.get(0)?, Fanout::stored(MerchantId(row.get(1)?), text, topic)?));
    }
    Ok(all)
}

fn logs(conn: &Connection) -> Result<Vec<LogRow>> {
    let mut statement = conn.prepare(
        "SELECT webhook_id, merchant_id, bytes, emptied_number, emptied_attempt, deleted_at IS NOT NULL
            FROM log_size JOIN webhook USING (webhook_id)",
    )?;
    let found = statement.query_map([], |row| {
        Ok(LogRow {
            webhook_id: WebhookId(row.get(0)?),
            merchant: MerchantId(row.get(1)?),
            bytes: row.get::<_, i64>(2)?.unsigned_abs(),
            emptied: (IncrementId(row.get(3)?), row.get(4)?),
            is_deleted: row.get(5)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Where AUTOINCREMENT notes them.
fn ids(conn: &Connection) -> Result<Ids> {
    let mut ids = Ids::default();
    let mut statement = conn.prepare("SELECT name, seq FROM sqlite_sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let place = match row.get_ref(0)?.as_str().map_err(StoreError::failed)? {
            "event" => &mut ids.event,
            "webhook" => &mut ids.webhook,
            "job" => &mut ids.job,
            "fanout" => &mut ids.fanout,
            _ => continue,
        };
        *place = row.get(1)?;
    }
    Ok(ids)
}
