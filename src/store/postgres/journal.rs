//! What commits have changed of merchants whom somebody watches, for the watchers at
//! all nodes.
//!
//! Whoever watches a merchant marks him, under his lock; as long as the mark is
//! fresh, every commit that changes what is his writes a row, and without it none
//! does. The rows of a merchant are numbered under his lock, in the order of their
//! commits, so a reader that has seen one has seen all before it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::asking::Asking;
use super::session::Session;
use super::settings::Settings;
use super::taking_over::NOW;
use super::values::Parameter;
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::topic::Topic;
use crate::store::committed::{Accepted, Committed};
use crate::store::error::StoreError;
use crate::store::sql::codes::{bad, checked};

type Result<T> = std::result::Result<T, StoreError>;

/// How long a mark lasts.
const MARK_TTL: Duration = Duration::from_secs(60);
/// How often it is renewed.
pub const MARK_RENEWAL: Duration = Duration::from_secs(20);
/// How long rows are kept.
const KEPT_FOR: Duration = Duration::from_secs(180);
/// Whoever has not read for so long may have missed some.
pub const READ_WITHIN: Duration = Duration::from_secs(120);
/// Rows of a merchant that are read at once.
pub const ROWS_PER_READ: usize = 64;

/// Writes a row.
pub const WRITE: &str = "INSERT INTO journal (merchant_id, deliveries, events, topics, deleted)
    VALUES ($1, $2, $3, $4, $5)";

/// What a commit has changed of a merchant.
#[derive(Default)]
pub struct Entry {
    deliveries: Vec<i64>,
    events: Vec<i64>,
    topics: Vec<String>,
    deleted: Vec<i64>,
}

/// The entries of those of these merchants of whom something has changed.
pub fn entries(committed: Committed, merchants: &[MerchantId]) -> Vec<(MerchantId, Entry)> {
    let mut spans: BTreeMap<MerchantId, Vec<(WebhookId, Span)>> = BTreeMap::new();
    for (merchant, id, span) in committed.deliveries {
        spans.entry(merchant).or_default().push((id, span));
    }
    // The ids of webhooks are nobody else's, so it need not be known whose they were.
    let deleted: Vec<_> = committed.deleted.iter().map(|id| id.0).collect();
    let entry = |merchant: &MerchantId| {
        let deliveries = joined(spans.remove(merchant).unwrap_or_default());
        let deliveries = deliveries.into_iter().flat_map(|(id, span)| [id.0, span.first.0, span.last.0]);
        let events = committed.events.iter().filter(|event| event.merchant_id == *merchant);
        let (events, topics) = events.map(|event| (event.event_id.0, event.topic.as_str().to_owned())).unzip();
        (*merchant, Entry { deliveries: deliveries.collect(), events, topics, deleted: deleted.clone() })
    };
    let has_news =
        |entry: &Entry| !(entry.deliveries.is_empty() && entry.events.is_empty() && entry.deleted.is_empty());
    merchants.iter().map(entry).filter(|(_, entry)| has_news(entry)).collect()
}

/// Spans with as few between them as there can be.
fn joined(mut spans: Vec<(WebhookId, Span)>) -> Vec<(WebhookId, Span)> {
    spans.sort_unstable_by_key(|(id, span)| (*id, span.first));
    let mut joined: Vec<(WebhookId, Span)> = Vec::new();
    for (id, span) in spans.into_iter().filter(|(_, span)| span.first <= span.last) {
        match joined.last_mut() {
            Some((last, before)) if *last == id && span.first <= before.last.next() => {
                before.last = before.last.max(span.last);
            }
            _ => joined.push((id, span)),
        }
    }
    joined
}

/// Writes rows, with the transaction that is open.
pub async fn write(session: &Session, entries: &[(MerchantId, Entry)]) -> Result<()> {
    for (merchant, Entry { deliveries, events, topics, deleted }) in entries {
        let values: [Parameter<'_>; 5] = [
            (&merchant.0, Type::INT8),
            (deliveries, Type::INT8_ARRAY),
            (events, Type::INT8_ARRAY),
            (topics, Type::TEXT_ARRAY),
            (deleted, Type::INT8_ARRAY),
        ];
        session.tell(WRITE, &values).await?;
    }
    Ok(())
}

/// A connection of whoever follows.
pub struct Reader(Asking);

/// What was read.
pub struct Read {
    /// Whose.
    pub merchant: MerchantId,
    /// Which row.
    pub place: i64,
    /// What it says.
    pub committed: Committed,
}

impl Reader {
    /// Connects.
    pub async fn open(database: &Settings) -> Result<Self> {
        let (client, way) = database.connect().await?;
        let by_key = ["enable_seqscan = off", "jit = off"].map(str::to_owned);
        let set = [database.session(), by_key.into()].concat();
        Ok(Self(Asking::on(client, &way, &set, "tallyhook follower", database.timeouts.statement).await?))
    }

    /// Marks a merchant to be written about, and waits for whoever holds him; where
    /// his journal ends then.
    pub async fn mark(&self, merchant: MerchantId) -> Result<i64> {
        let sql = format!("UPDATE merchant SET watched_until = {NOW} + $2 WHERE merchant_id = $1");
        self.0.ask(&sql, &[(&merchant.0, Type::INT8), (&millis(MARK_TTL), Type::INT8)]).await?;
        const END: &str = "SELECT coalesce(max(journal_id), 0) FROM journal WHERE merchant_id = $1";
        let rows = self.0.ask(END, &[(&merchant.0, Type::INT8)]).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// Renews the marks of those whom nobody holds, or waits for the only one; who was
    /// marked again, and whether his mark had not lasted.
    pub async fn renew(&self, merchants: &[MerchantId]) -> Result<Vec<(MerchantId, bool)>> {
        let locking = if merchants.len() == 1 { "" } else { "SKIP LOCKED" };
        let sql = format!(
            "UPDATE merchant m SET watched_until = {NOW} + $2
                FROM (SELECT merchant_id, watched_until FROM merchant WHERE merchant_id = ANY($1)
                    ORDER BY merchant_id FOR NO KEY UPDATE {locking}) before
                WHERE m.merchant_id = before.merchant_id RETURNING m.merchant_id, before.watched_until < {NOW}"
        );
        let ids: Vec<_> = merchants.iter().map(|merchant| merchant.0).collect();
        let rows = self.0.ask(&sql, &[(&ids, Type::INT8_ARRAY), (&millis(MARK_TTL), Type::INT8)]).await?;
        rows.iter().map(|row| Ok((MerchantId(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    /// What comes behind these places, [`ROWS_PER_READ`] of a merchant at the most.
    pub async fn read(&self, after: &[(MerchantId, i64)]) -> Result<Vec<Read>> {
        const SQL: &str = "SELECT j.merchant_id, j.journal_id, j.deliveries, j.events, j.topics, j.deleted
            FROM unnest($1, $2) AS f (merchant_id, after) CROSS JOIN LATERAL (
                SELECT * FROM journal j WHERE j.merchant_id = f.merchant_id AND j.journal_id > f.after
                ORDER BY j.journal_id LIMIT $3) j
            ORDER BY j.journal_id";
        let (ids, places): (Vec<i64>, Vec<i64>) = after.iter().map(|(merchant, place)| (merchant.0, *place)).unzip();
        let values: [Parameter<'_>; 3] =
            [(&ids, Type::INT8_ARRAY), (&places, Type::INT8_ARRAY), (&(ROWS_PER_READ as i64), Type::INT8)];
        self.0.ask(SQL, &values).await?.iter().map(read).collect()
    }

    /// The last numbers of these webhooks.
    pub async fn last_numbers(&self, webhooks: &[WebhookId]) -> Result<Vec<(WebhookId, IncrementId)>> {
        const SQL: &str = "SELECT w.id, coalesce((SELECT d.increment_id FROM delivery d WHERE d.webhook_id = w.id
            ORDER BY d.increment_id DESC LIMIT 1), 0) FROM unnest($1) AS w (id)";
        let ids: Vec<_> = webhooks.iter().map(|id| id.0).collect();
        let rows = self.0.ask(SQL, &[(&ids, Type::INT8_ARRAY)]).await?;
        rows.iter().map(|row| Ok((WebhookId(row.try_get(0)?), IncrementId(row.try_get(1)?)))).collect()
    }

    /// Deletes what is old; true if nothing is left.
    pub async fn clear(&self) -> Result<bool> {
        let sql = format!("DELETE FROM journal WHERE at < {NOW} - $1");
        self.0.ask(&sql, &[(&millis(KEPT_FOR), Type::INT8)]).await?;
        let rows = self.0.ask("SELECT NOT EXISTS (SELECT FROM journal)", &[]).await?;
        rows.first().map_or(Ok(true), |row| Ok(row.try_get(0)?))
    }
}

fn read(row: &Row) -> Result<Read> {
    let merchant = MerchantId(row.try_get(0)?);
    let (deliveries, events): (Vec<i64>, Vec<i64>) = (row.try_get(2)?, row.try_get(3)?);
    let (topics, deleted): (Vec<&str>, Vec<i64>) = (row.try_get(4)?, row.try_get(5)?);
    let span = |one: &[i64]| match *one {
        [id, first, last] => Ok((merchant, WebhookId(id), Span { first: IncrementId(first), last: IncrementId(last) })),
        _ => Err(bad("deliveries")),
    };
    let event = |(id, topic): (i64, &str)| {
        let topic = checked(Topic::try_new(topic))?;
        Ok(Accepted { event_id: EventId(id), merchant_id: merchant, topic })
    };
    Ok(Read {
        merchant,
        place: row.try_get(1)?,
        committed: Committed {
            deliveries: deliveries.chunks(3).map(span).collect::<Result<_>>()?,
            events: events.into_iter().zip(topics).map(event).collect::<Result<_>>()?,
            deleted: deleted.into_iter().map(WebhookId).collect(),
        },
    })
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_on_one_another_is_one_span() {
        let span = |first, last| Span { first: IncrementId(first), last: IncrementId(last) };
        let (a, b) = (WebhookId(1), WebhookId(2));
        let spans =
            vec![(b, span(4, 4)), (a, span(2, 2)), (a, span(1, 1)), (a, span(9, 9)), (a, span(2, 5)), (a, span(7, 6))];
        assert_eq!(joined(spans), [(a, span(1, 5)), (a, span(9, 9)), (b, span(4, 4))]);
    }

    #[test]
    fn each_merchant_gets_his_own() {
        let (acme, other) = (MerchantId(1), MerchantId(2));
        let one =
            Committed { deliveries: vec![(acme, WebhookId(7), Span::one(IncrementId(3)))], ..Committed::default() };
        let found = entries(one, &[acme, other]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, &found[0].1.deliveries[..]), (acme, &[7, 3, 3][..]));
    }
}
