//! Catalogues of topics, as they are read.

use async_trait::async_trait;

use super::codes::{bad, named, topic_at};
use super::conn::Conn;
use super::db::{Db, Row, Value, all, one, values};
use super::keys::{Asked, each};
use super::steps::{ROWS_PER_STEP, Step, words};
use super::store::{Backend, SqlStore};
use crate::domain::catalogue::{CatalogueEntry, TopicFilter, TopicRule, TopicSpec, Validation};
use crate::domain::id::{MerchantId, TopicId};
use crate::domain::message_schema::SchemaText;
use crate::domain::page::{Order, Slice};
use crate::domain::topic::Topic;
use crate::store::catalogue::Catalogue;
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// What [`topic`] reads; takes a WHERE behind it.
pub const TOPIC: &str = "SELECT topic, category, name, description, event_type, message_schema, validation,
    is_deprecated, is_discontinued, created_at, updated_at FROM topic";

/// The same without the schema, and the entry's id.
const TOPIC_BUT_SCHEMA: &str = "SELECT topic, category, name, description, event_type, CAST(NULL AS TEXT), validation,
    is_deprecated, is_discontinued, created_at, updated_at, topic_id FROM topic";

#[async_trait]
impl<B: Backend> Catalogue for SqlStore<B> {
    async fn topics(
        &self,
        merchant: MerchantId,
        filter: TopicFilter,
        slice: Slice<Topic>,
    ) -> Result<Vec<CatalogueEntry>> {
        self.readers.in_steps(merchant, slice, move |conn, part| topics(conn, merchant, &filter, part)).await
    }

    async fn count_topics(&self, merchant: MerchantId, filter: TopicFilter) -> Result<u64> {
        self.readers.summed(merchant, move |conn, after| count_topics(conn, merchant, &filter, after)).await
    }

    async fn topic_rules(&self, merchant: MerchantId, topics: Vec<Topic>) -> Result<Vec<Option<TopicRule>>> {
        if let [topic] = topics.as_slice() {
            let key = (merchant, topic.clone());
            return Ok(vec![self.topic_rules.look_up(merchant.into(), key, topic_rules).await?]);
        }
        let keys: Vec<_> = topics.into_iter().map(|topic| (merchant, topic)).collect();
        self.readers.by_key(merchant, move |conn| topic_rules(conn, &keys)).await
    }

    async fn topic_schema(&self, merchant: MerchantId, id: TopicId) -> Result<Option<SchemaText>> {
        self.readers
            .read(merchant, move |conn| {
                let sql = "SELECT message_schema FROM topic WHERE topic_id = $1";
                Ok(one(conn, sql, values![id.0], |row| schema_at(row, 0))?.flatten())
            })
            .await
    }
}

/// A topic in a catalogue, from [`TOPIC`].
pub fn topic(row: &dyn Row) -> Result<CatalogueEntry> {
    let event_type = row.int(4)?;
    Ok(CatalogueEntry {
        spec: TopicSpec {
            topic: topic_at(row, 0)?,
            category: row.string(1)?,
            name: row.string(2)?,
            description: row.string(3)?,
            event_type: Some(event_type),
            message_schema: schema_at(row, 5)?,
            validation: validation_at(row, 6)?,
            is_deprecated: row.flag(7)?,
            is_discontinued: row.flag(8)?,
        },
        event_type,
        created_at: row.time(9)?,
        updated_at: row.time(10)?,
    })
}

/// The entry of a topic, if it has one.
pub fn find_topic(db: &mut dyn Db, merchant: MerchantId, name: &Topic) -> Result<Option<CatalogueEntry>> {
    one(db, &format!("{TOPIC} WHERE merchant_id = $1 AND topic = $2"), values![merchant.0, name.as_str()], topic)
}

fn validation_at(row: &dyn Row, column: usize) -> Result<Validation> {
    named(row, column, Validation::from_name)?.ok_or_else(|| bad("validation"))
}

fn schema_at(row: &dyn Row, column: usize) -> Result<Option<SchemaText>> {
    Ok(row.text_if(column)?.map(SchemaText::from_store))
}

/// Shows the entries of a step without their schemas, each with its id, as long
/// as `look` wants more; where the next step begins.
fn walk_topics(
    db: &mut dyn Db,
    merchant: MerchantId,
    (after, order): (Option<&Topic>, Order),
    mut look: impl FnMut(TopicId, CatalogueEntry) -> bool,
) -> Result<Option<Topic>> {
    let (direction, lies_behind) = words(order);
    let sql = format!(
        "{TOPIC_BUT_SCHEMA} WHERE merchant_id = $1 AND ($2 IS NULL OR topic {lies_behind} $2)
            ORDER BY topic {direction} LIMIT $3"
    );
    let (mut last, mut looked_at, mut is_full) = (None, 0, false);
    db.rows(&sql, values![merchant.0, after.map(Topic::as_str), ROWS_PER_STEP], &mut |row| {
        let entry = topic(row)?;
        (last, looked_at) = (Some(entry.spec.topic.clone()), looked_at + 1);
        is_full = !look(TopicId(row.int(11)?), entry);
        Ok(!is_full)
    })?;
    Ok(last.filter(|_| !is_full && looked_at == ROWS_PER_STEP))
}

/// Topics of a merchant's catalogue by name.
fn topics(
    db: &mut dyn Db,
    merchant: MerchantId,
    filter: &TopicFilter,
    slice: &Slice<Topic>,
) -> Result<Step<Vec<CatalogueEntry>, Topic>> {
    let (mut ids, mut found) = (Vec::new(), Vec::new());
    let next = walk_topics(db, merchant, (slice.after.as_ref(), slice.order), |id, entry| {
        if filter.admits(&entry.spec) {
            ids.push(id);
            found.push(entry);
        }
        found.len() < slice.limit as usize
    })?;
    if !filter.is_brief {
        for (entry, schema) in found.iter_mut().zip(schemas(db, &ids)?) {
            entry.spec.message_schema = schema;
        }
    }
    Ok(Step { found, next })
}

/// The schemas of entries, where they have one.
fn schemas(db: &mut dyn Db, ids: &[TopicId]) -> Result<Vec<Option<SchemaText>>> {
    let found = each(db, ids, |db, ids| {
        let asked = Asked::of(db.dialect(), &[], ["topic_id"], ids.iter().map(|id| [Value::from(id.0)]));
        let sql = format!("SELECT topic_id, message_schema FROM topic WHERE {}", asked.condition);
        all(db, &sql, &asked.values, |row| Ok((TopicId(row.int(0)?), schema_at(row, 1)?)))
    })?;
    Ok(found.into_iter().map(Option::flatten).collect())
}

/// How many there are, of those of a step.
fn count_topics(
    db: &mut dyn Db,
    merchant: MerchantId,
    filter: &TopicFilter,
    after: Option<Topic>,
) -> Result<Step<u64, Topic>> {
    let mut found = 0;
    let next = walk_topics(db, merchant, (after.as_ref(), Order::Ascending), |_, entry| {
        found += u64::from(filter.admits(&entry.spec));
        true
    })?;
    Ok(Step { found, next })
}

/// What catalogues demand of events of each of these topics, where they have them.
/// Every publish asks.
fn topic_rules(conn: &mut dyn Conn, topics: &[(MerchantId, Topic)]) -> Result<Vec<Option<TopicRule>>> {
    macro_rules! rules {
        ($those:literal) => {
            concat!(
                "SELECT topic_id, version, validation, is_discontinued, message_schema IS NOT NULL, merchant_id, topic
                    FROM topic WHERE ",
                $those
            )
        };
    }
    if let [(merchant, topic)] = topics {
        let sql = rules!("merchant_id = $1 AND topic = $2");
        return Ok(vec![one(conn, sql, values![merchant.0, topic.as_str()], topic_rule)?]);
    }
    let topics: Vec<_> = topics.iter().collect();
    each(conn, &topics, |db, topics| {
        let keys = topics.iter().map(|(merchant, topic)| [Value::from(merchant.0), Value::from(topic.as_str())]);
        let asked = Asked::of(db.dialect(), &[], ["merchant_id", "topic"], keys);
        let mut found = Vec::with_capacity(topics.len());
        db.rows(&[rules!(""), &asked.condition].concat(), &asked.values, &mut |row| {
            let (merchant, topic, rule) = (MerchantId(row.int(5)?), topic_at(row, 6)?, topic_rule(row)?);
            let key = topics.iter().find(|(own, name)| *own == merchant && *name == topic);
            found.extend(key.map(|key| (*key, rule)));
            Ok(true)
        })?;
        Ok(found)
    })
}

/// What the catalogue demands.
fn topic_rule(row: &dyn Row) -> Result<TopicRule> {
    let validation = validation_at(row, 2)?;
    Ok(TopicRule {
        topic_id: TopicId(row.int(0)?),
        version: row.int(1)?,
        validation: if row.flag(4)? { validation } else { Validation::Off },
        is_discontinued: row.flag(3)?,
    })
}
