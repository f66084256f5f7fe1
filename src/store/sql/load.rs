//! Reading what changes want, and what is known by heart.

use std::sync::Arc;

use super::codes::{bad, topic_at};
use super::db::{Db, ROWS_AT_ONCE, Row, Value, all, in_parts, one, values};
use super::definition::{labels, webhook, webhook_sql};
use super::events::{read_remembered, remembered};
use super::keys::Asked;
use super::rows::ATTEMPT_BYTES;
use super::standings::{STANDING, event_of, scanned, standing};
use super::{accounts, catalogue, jobs, merchants, tokens};
use crate::domain::event::IdempotencyKey;
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::error::StoreError;
use crate::store::ledger::book::Stock;
use crate::store::ledger::fanout::Fanout;
use crate::store::ledger::ids::Ids;
use crate::store::ledger::logs::LogRow;
use crate::store::ledger::notices::{Gathered, Notice};
use crate::store::ledger::wants::{
    AttemptFound, Attempts, EventFound, Events, Found, Loaded, Pending, TopicFound, TopicWant, Wants,
};
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// Rows of events that are numbered in shares which are read at once: each names all
/// the webhooks that they still go to.
const FANOUTS_AT_ONCE: u32 = 16;

/// Reads what changes want but deliveries by number, and how much the store holds.
pub fn rare(db: &mut dyn Db, wants: &Wants, now: Timestamp, loaded: &mut Loaded) -> Result<()> {
    for merchant in &wants.codes {
        let code = one(db, "SELECT code FROM merchant WHERE merchant_id = $1", values![merchant.0], |row| {
            row.text(0).map(Into::into)
        })?;
        loaded.codes.push((*merchant, code.unwrap_or_default()));
    }
    keys(db, wants, now, loaded)?;
    batches(db, wants, loaded)?;
    unsettled(db, wants, loaded)?;
    for (id, notice) in &wants.notices {
        let sql = format!("{NOTICE} WHERE webhook_id = $1 AND kind = $2");
        if let Some((_, _, gathered)) = one(db, &sql, values![id.0, notice.name()], read_notice)? {
            loaded.notices.insert((*id, *notice), gathered);
        }
    }
    if let Some(max) = wants.due_notices {
        let sql = format!("{NOTICE} WHERE due_at <= $1 LIMIT $2");
        loaded.due_notices = all(db, &sql, values![now, max], read_notice)?;
    }
    if let Some(scan) = wants.scan {
        loaded.scanned = scanned(db, scan)?;
    }
    if let Some(events) = wants.events {
        (loaded.events, loaded.is_last_event) = self::events(db, events)?;
    }
    if let Some((merchant, id)) = wants.job {
        loaded.job = jobs::find_with_webhook(db, merchant, id)?;
    }
    if let Some(topic) = &wants.topic {
        loaded.topic = Some(self::topic(db, topic)?);
    }
    if let Some((merchant, user)) = wants.user {
        loaded.user = accounts::find_user(db, merchant, user)?.map(Box::new);
    }
    if let Some(merchant) = wants.merchant {
        loaded.merchant = merchants::find(db, merchant)?.map(Box::new);
    }
    if let Some(code) = &wants.merchant_code {
        loaded.new_merchant = merchants::next_id(db, code)?;
    }
    if let Some((merchant, name)) = &wants.user_name {
        if let Some(sql) = db.dialect().lock_name() {
            one(db, sql, values![name], |_| Ok(()))?;
        }
        loaded.is_name_given = accounts::named(db, name)?.is_some();
        let count = "SELECT count(*) FROM \"user\" WHERE merchant_id = $1";
        loaded.users = one(db, count, values![merchant.0], |row| row.count(0))?.unwrap_or(0);
    }
    if let Some((merchant, id)) = wants.token {
        loaded.token = tokens::find(db, merchant, id)?.map(Box::new);
    }
    if let Some(merchant) = wants.tokens {
        loaded.tokens = tokens::count(db, merchant, now)?;
    }
    needed(db, wants, loaded)?;
    if let Some(attempts) = wants.attempts {
        loaded.attempts = self::attempts(db, attempts)?;
    }
    Ok(())
}

/// What keys stand for that still count.
fn keys(db: &mut dyn Db, wants: &Wants, now: Timestamp, loaded: &mut Loaded) -> Result<()> {
    for group in wants.keys.chunks(db.dialect().keys_at_once()) {
        if let [(merchant, key)] = group {
            if let Some(remembered) = remembered(db, now, *merchant, key)? {
                loaded.keys.insert((*merchant, key.clone()), remembered);
            }
            continue;
        }
        let keys = group.iter().map(|(merchant, key)| [Value::from(merchant.0), Value::from(key.as_str())]);
        let asked = Asked::of(db.dialect(), values![now], ["merchant_id", "key"], keys);
        let sql = format!(
            "SELECT content_hash, event_id, receipt, merchant_id, key FROM idempotency
                WHERE expires_at > $1 AND {}",
            asked.condition
        );
        db.rows(&sql, &asked.values, &mut |row| {
            let (merchant, key) = (MerchantId(row.int(3)?), row.text(4)?);
            let is_meant = |want: &&(MerchantId, IdempotencyKey)| want.0 == merchant && want.1.as_str() == key;
            if let Some(want) = group.iter().find(is_meant) {
                loaded.keys.insert(want.clone(), read_remembered(row)?);
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// Batches, and what deliveries are about.
fn batches(db: &mut dyn Db, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    for (id, number) in &wants.batches {
        let sql = format!(
            "SELECT {STANDING}, e.event_id IS NOT NULL FROM delivery d LEFT JOIN event e USING (event_id)
                WHERE d.webhook_id = $1 AND d.increment_id BETWEEN
                    coalesce((SELECT batch_first FROM delivery WHERE webhook_id = $1 AND increment_id = $2), $2)
                    AND coalesce((SELECT batch_last FROM delivery WHERE webhook_id = $1 AND increment_id = $2), $2)"
        );
        db.rows(&sql, values![id.0, number.0], &mut |row| {
            let (number, standing) = standing(row)?;
            let found = Found { standing, event_id: event_of(row)?, is_whole: row.flag(11)? };
            loaded.deliveries.insert((*id, number), found);
            Ok(true)
        })?;
    }
    for (id, span) in &wants.topics {
        let sql = "SELECT d.increment_id, e.topic FROM delivery d JOIN event e USING (event_id)
            WHERE d.webhook_id = $1 AND d.increment_id BETWEEN $2 AND $3";
        db.rows(sql, values![id.0, span.first.0, span.last.0], &mut |row| {
            loaded.topics.insert((*id, IncrementId(row.int(0)?)), topic_at(row, 1)?);
            Ok(true)
        })?;
    }
    Ok(())
}

/// What pends, and what is to be sent again.
fn unsettled(db: &mut dyn Db, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    if let Some(Pending { webhook_id, after, through, max }) = wants.pending {
        let sql = format!(
            "SELECT {STANDING} FROM delivery d WHERE d.webhook_id = $1 AND d.increment_id > $2
                AND d.increment_id <= $3 AND d.state = 0 ORDER BY d.increment_id LIMIT $4"
        );
        loaded.pending = all(db, &sql, values![webhook_id.0, after.0, through.0, max], standing)?;
    }
    if let Some((id, max)) = wants.again {
        let sql = format!(
            "SELECT {STANDING} FROM delivery d {}
                WHERE d.webhook_id = $1 AND d.next_attempt_at IS NOT NULL ORDER BY d.increment_id LIMIT $2",
            db.dialect().by_index("delivery_again")
        );
        loaded.again = all(db, &sql, values![id.0, max], standing)?;
    }
    Ok(())
}

fn events(db: &mut dyn Db, events: Events) -> Result<(Vec<EventFound>, bool)> {
    let sql = format!(
        "SELECT event_id, topic, published_at, octet_length(message), labels {} LIMIT $4",
        db.dialect().of_merchant("event", "ASC")
    );
    let (mut found, mut bytes, mut is_last) = (Vec::new(), 0, true);
    db.rows(&sql, values![events.merchant.0, events.first, events.last, events.max], &mut |row| {
        let labels = row.text_if(4)?.map(labels).transpose()?.map(Arc::new);
        let (event_id, topic, published_at) = (EventId(row.int(0)?), topic_at(row, 1)?, row.time(2)?);
        found.push(EventFound { event_id, topic, published_at, labels });
        bytes += row.amount(3)?;
        is_last = bytes < events.bytes_max && found.len() < events.max as usize;
        Ok(is_last)
    })?;
    Ok((found, is_last))
}

/// What [`read_notice`] reads; takes a WHERE behind it.
const NOTICE: &str = "SELECT webhook_id, kind, count, first_increment_id, last_increment_id, due_at FROM notice";

/// What has gathered of a kind.
pub fn read_notice(row: &dyn Row) -> Result<(WebhookId, Notice, Gathered)> {
    let notice = Notice::from_name(row.text(1)?).ok_or_else(|| bad("notice"))?;
    let (first, last) = (IncrementId(row.int(3)?), IncrementId(row.int(4)?));
    Ok((WebhookId(row.int(0)?), notice, Gathered { count: row.int(2)?, first, last, due_at: row.time(5)? }))
}

fn topic(db: &mut dyn Db, want: &TopicWant) -> Result<TopicFound> {
    let TopicWant { merchant, topic, event_type } = want;
    let entry = catalogue::find_topic(db, *merchant, topic)?;
    let numbers = "SELECT (SELECT count(*) FROM topic t WHERE t.merchant_id = m.merchant_id), m.event_type
        FROM merchant m WHERE m.merchant_id = $1";
    let numbers = one(db, numbers, values![merchant.0], |row| Ok((row.count(0)?, row.int(1)?)))?;
    let (count, event_type_max) = numbers.ok_or_else(|| bad("merchant"))?;
    let taken = "SELECT topic FROM topic WHERE merchant_id = $1 AND event_type = $2 AND topic <> $3";
    let taken_by = one(db, taken, values![merchant.0, *event_type, topic.as_str()], |row| topic_at(row, 0))?;
    Ok(TopicFound { entry, count, event_type_max, taken_by })
}

/// Which events are needed, since deliveries of them are to be sent.
fn needed(db: &mut dyn Db, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    let at_once = db.dialect().keys_at_once();
    for group in wants.needed.chunks(at_once) {
        let keys = group.iter().map(|event| [Value::from(event.0)]);
        let asked = Asked::of(db.dialect(), &[], ["event_id"], keys);
        let sql = format!(
            "SELECT DISTINCT event_id FROM delivery WHERE {} AND (state = 0 OR next_attempt_at IS NOT NULL)
                LIMIT {at_once}",
            asked.condition
        );
        loaded.needed.extend(all(db, &sql, &asked.values, |row| row.int(0).map(EventId))?);
    }
    if let Some((id, number)) = wants.needed_beside {
        let sql = "SELECT event_id FROM delivery WHERE (state = 0 OR next_attempt_at IS NOT NULL)
            AND event_id = (SELECT event_id FROM delivery WHERE webhook_id = $1 AND increment_id = $2)
            AND NOT (webhook_id = $1 AND increment_id = $2) LIMIT 1";
        loaded.needed.extend(one(db, sql, values![id.0, number.0], |row| row.int(0).map(EventId))?);
    }
    Ok(())
}

fn attempts(db: &mut dyn Db, attempts: Attempts) -> Result<Vec<AttemptFound>> {
    let sql = format!(
        "SELECT a.increment_id, a.attempt, {ATTEMPT_BYTES} FROM attempt a
            WHERE a.webhook_id = $1 AND (a.increment_id, a.attempt) > ($2, $3) AND a.increment_id <= $4
            ORDER BY a.increment_id, a.attempt LIMIT $5"
    );
    let Attempts { webhook_id, after: (number, attempt), only, max } = attempts;
    let through = only.map_or(i64::MAX, |only| only.0);
    all(db, &sql, values![webhook_id.0, number.0, attempt, through, max], |row| {
        Ok(AttemptFound { place: (IncrementId(row.int(0)?), row.count(1)?), bytes: row.amount(2)? })
    })
}

/// All that is known by heart; the last ids that were given out are these.
pub fn stock(db: &mut dyn Db, vault: &Vault, ids: Ids) -> Result<Stock> {
    // Deleted in an earlier life, with deliveries still to be cancelled.
    let deleted = "w.deleted_at IS NOT NULL AND (w.settled_through < w.last_increment_id OR EXISTS
        (SELECT 1 FROM delivery d WHERE d.webhook_id = w.webhook_id AND d.next_attempt_at IS NOT NULL))";
    let to_forget = "SELECT DISTINCT e.event_id, e.merchant_id FROM delivery d JOIN event e ON e.event_id = -d.event_id
        WHERE d.event_id < 0 AND -d.event_id > $1 ORDER BY e.event_id LIMIT $2";
    let whose = |row: &dyn Row| Ok((MerchantId(row.int(1)?), EventId(row.int(0)?)));
    let numbers =
        format!("SELECT CAST(coalesce(sum(last_increment_id), 0) AS BIGINT) FROM {}", db.dialect().webhooks());
    Ok(Stock {
        webhooks: webhooks(db, vault, "w.deleted_at IS NULL")?,
        deleted: webhooks(db, vault, deleted)?,
        codes: codes(db)?,
        fanouts: fanouts(db)?,
        jobs: jobs::load(db)?,
        to_forget: in_parts(db, to_forget, ROWS_AT_ONCE, whose, |(_, event)| event.0)?,
        logs: logs(db)?,
        event_days: merchants::event_days(db)?,
        ids,
        numbers: one(db, &numbers, &[], |row| row.int(0))?.unwrap_or(0),
    })
}

/// The codes of all merchants.
pub fn codes(db: &mut dyn Db) -> Result<Vec<(MerchantId, Arc<str>)>> {
    let sql = "SELECT merchant_id, code FROM merchant WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2";
    let code = |row: &dyn Row| Ok((MerchantId(row.int(0)?), row.text(1)?.into()));
    in_parts(db, sql, ROWS_AT_ONCE, code, |(merchant, _)| merchant.0)
}

/// Those webhooks.
pub fn webhooks(db: &mut dyn Db, vault: &Vault, condition: &str) -> Result<Vec<Webhook>> {
    let sql =
        format!("{} WHERE w.webhook_id > $1 AND {condition} ORDER BY w.webhook_id LIMIT $2", webhook_sql(db.dialect()));
    in_parts(db, &sql, ROWS_AT_ONCE, webhook(vault), |webhook| webhook.webhook_id.0)
}

fn fanouts(db: &mut dyn Db) -> Result<Vec<(i64, Fanout)>> {
    let sql = "SELECT fanout_id, merchant_id, events FROM fanout WHERE fanout_id > $1 ORDER BY fanout_id LIMIT $2";
    let read = |row: &dyn Row| Ok((row.int(0)?, MerchantId(row.int(1)?), row.string(2)?));
    let mut fanouts = Vec::new();
    // Few are under way when a store is opened, so their events are asked for one by one.
    for (id, merchant, text) in in_parts(db, sql, FANOUTS_AT_ONCE, read, |(id, ..)| *id)? {
        let topic = |event: EventId| {
            let found =
                one(db, "SELECT topic FROM event WHERE event_id = $1", values![event.0], |row| topic_at(row, 0))?;
            found.ok_or_else(|| bad("fanout"))
        };
        fanouts.push((id, Fanout::stored(merchant, &text, topic)?));
    }
    Ok(fanouts)
}

fn logs(db: &mut dyn Db) -> Result<Vec<LogRow>> {
    let sql =
        "SELECT l.webhook_id, w.merchant_id, l.bytes, l.emptied_number, l.emptied_attempt, w.deleted_at IS NOT NULL
        FROM log_size l JOIN webhook w ON w.webhook_id = l.webhook_id
        WHERE l.webhook_id > $1 ORDER BY l.webhook_id LIMIT $2";
    let read = |row: &dyn Row| {
        Ok(LogRow {
            webhook_id: WebhookId(row.int(0)?),
            merchant: MerchantId(row.int(1)?),
            bytes: row.amount(2)?,
            emptied: (IncrementId(row.int(3)?), row.count(4)?),
            is_deleted: row.flag(5)?,
        })
    };
    in_parts(db, sql, ROWS_AT_ONCE, read, |log| log.webhook_id.0)
}
