//! Catalogues of topics. An operator's command writes them too, on a
//! connection of its own, so these take a connection and not the writer's own.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::Result;
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicSpec};
use crate::domain::fault::Violation;
use crate::domain::id::MerchantId;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::store::StoreError;
use crate::store::sqlite::rows;

/// Puts a topic into the catalogue. Without a number it is given the one after
/// the highest that the merchant ever had.
pub fn register(
    conn: &Connection,
    now: Timestamp,
    merchant: MerchantId,
    spec: TopicSpec,
    quota: u32,
) -> Result<CatalogueEntry> {
    if find(conn, merchant, &spec.topic)?.is_some() {
        return Err(StoreError::TopicExists);
    }
    let count: u32 = conn
        .prepare_cached("SELECT count(*) FROM topic WHERE merchant_id = ?1")?
        .query_row([merchant.0], |row| row.get(0))?;
    if count >= quota {
        return Err(StoreError::TopicQuota { max: quota });
    }
    let event_type = match spec.event_type {
        Some(own) => own,
        None => next_event_type(conn, merchant)?,
    };
    let entry = CatalogueEntry { spec, event_type, created_at: now, updated_at: now };
    check_event_type(conn, merchant, &entry)?;
    conn.prepare_cached(
        "INSERT INTO topic (merchant_id, topic, category, name, description, event_type, message_schema, validation,
            is_deprecated, is_discontinued, updated_at, created_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)",
    )?
    .execute(params_from_iter(values(merchant, &entry)))?;
    note_event_type(conn, merchant, event_type)?;
    Ok(entry)
}

/// Changes what is said of a topic.
pub fn update(
    conn: &Connection,
    now: Timestamp,
    merchant: MerchantId,
    topic: &Topic,
    changes: TopicChanges,
) -> Result<CatalogueEntry> {
    let old = find(conn, merchant, topic)?.ok_or(StoreError::NoTopic)?;
    let event_type = changes.event_type.unwrap_or(old.event_type);
    let spec = old.spec.clone().changed(changes).map_err(StoreError::Violation)?;
    if spec == old.spec {
        return Ok(old);
    }
    let entry = CatalogueEntry { spec, event_type, updated_at: now, ..old };
    check_event_type(conn, merchant, &entry)?;
    conn.prepare_cached(
        "UPDATE topic SET category = ?3, name = ?4, description = ?5, event_type = ?6, message_schema = ?7,
            validation = ?8, is_deprecated = ?9, is_discontinued = ?10, updated_at = ?11, version = version + 1
            WHERE merchant_id = ?1 AND topic = ?2",
    )?
    .execute(params_from_iter(values(merchant, &entry)))?;
    note_event_type(conn, merchant, event_type)?;
    Ok(entry)
}

/// A row of the table, as [`register`] and [`update`] write it.
fn values(merchant: MerchantId, entry: &CatalogueEntry) -> [Value; 11] {
    let text = |text: &str| Value::Text(text.to_owned());
    let CatalogueEntry { spec, event_type, updated_at, .. } = entry;
    [
        Value::Integer(merchant.0),
        text(spec.topic.as_str()),
        text(&spec.category),
        text(&spec.name),
        text(&spec.description),
        Value::Integer(*event_type),
        spec.message_schema.as_ref().map_or(Value::Null, |schema| text(schema.as_str())),
        text(spec.validation.name()),
        Value::Integer(spec.is_deprecated.into()),
        Value::Integer(spec.is_discontinued.into()),
        Value::Integer(updated_at.0),
    ]
}

/// Takes a topic out of the catalogue; its number is not given to another by itself.
pub fn remove(conn: &Connection, merchant: MerchantId, topic: &Topic) -> Result<()> {
    let removed = conn
        .prepare_cached("DELETE FROM topic WHERE merchant_id = ?1 AND topic = ?2")?
        .execute(params![merchant.0, topic.as_str()])?;
    if removed == 0 { Err(StoreError::NoTopic) } else { Ok(()) }
}

/// The entry of a topic, if it has one.
pub fn find(conn: &Connection, merchant: MerchantId, topic: &Topic) -> Result<Option<CatalogueEntry>> {
    let sql = format!("{} WHERE merchant_id = ?1 AND topic = ?2", rows::TOPIC);
    Ok(conn.prepare_cached(&sql)?.query_row(params![merchant.0, topic.as_str()], rows::topic).optional()?)
}

/// Lets go of a number that is about to change, so that another topic can have
/// it within the same transaction.
pub fn release_event_type(conn: &Connection, merchant: MerchantId, topic: &Topic) -> Result<()> {
    conn.prepare_cached("UPDATE topic SET event_type = -topic_id WHERE merchant_id = ?1 AND topic = ?2")?
        .execute(params![merchant.0, topic.as_str()])?;
    Ok(())
}

fn next_event_type(conn: &Connection, merchant: MerchantId) -> Result<i64> {
    let sql = "SELECT event_type + 1 FROM merchant WHERE merchant_id = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([merchant.0], |row| row.get(0))?)
}

fn note_event_type(conn: &Connection, merchant: MerchantId, event_type: i64) -> Result<()> {
    conn.prepare_cached("UPDATE merchant SET event_type = max(event_type, ?2) WHERE merchant_id = ?1")?
        .execute([merchant.0, event_type])?;
    Ok(())
}

/// Fails if another topic has the number, or if there are none left to give.
fn check_event_type(conn: &Connection, merchant: MerchantId, entry: &CatalogueEntry) -> Result<()> {
    let (topic, event_type) = (&entry.spec.topic, entry.event_type);
    if !crate::domain::catalogue::EVENT_TYPES.contains(&event_type) {
        let problem = "is missing, and the highest number that there can be has been given out; give one that is free.";
        return Err(StoreError::Violation(Violation::new("event_type", problem)));
    }
    let taken: Option<String> = conn
        .prepare_cached("SELECT topic FROM topic WHERE merchant_id = ?1 AND event_type = ?2 AND topic <> ?3")?
        .query_row(params![merchant.0, event_type, topic.as_str()], |row| row.get(0))
        .optional()?;
    match taken {
        None => Ok(()),
        Some(other) => {
            Err(StoreError::Violation(Violation::new("event_type", format!("{event_type} is that of {other}."))))
        }
    }
}
