//! Deliveries, as they are read.

use async_trait::async_trait;

use super::codes::{state_at, state_code, topic_if};
use super::conn::Conn;
use super::db::{Db, Value, all, values};
use super::keys::{Asked, bounded};
use super::rows::{self, ATTEMPT};
use super::sending::{DELIVERY_FROM, Outlook, delivery, delivery_columns};
use super::steps::{ROWS_PER_STEP, Step, numbers, times, words};
use super::store::{Backend, SqlStore};
use super::webhooks::{check_webhook, logged_under, place};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, StateCounts};
use crate::domain::event::Message;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::store::deliveries::{Contents, Deliveries, Pulled};
use crate::store::error::StoreError;
use crate::store::outbox::PageLimit;

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
impl<B: Backend> Deliveries for SqlStore<B> {
    async fn deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
        slice: Slice<IncrementId>,
    ) -> Result<Vec<Delivery>> {
        let outlook = self.outlook();
        self.readers
            .in_steps(merchant, slice, move |conn, part| deliveries(conn, merchant, id, &filter, part, outlook))
            .await
    }

    async fn count_deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
    ) -> Result<StateCounts> {
        self.readers.summed(merchant, move |conn, after| count_deliveries(conn, merchant, id, &filter, after)).await
    }

    async fn contents(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        numbers: Vec<IncrementId>,
        bytes_max: usize,
    ) -> Result<Vec<Contents>> {
        self.readers.read(merchant, move |conn| contents(conn, merchant, id, &numbers, bytes_max)).await
    }

    async fn attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Attempt>> {
        self.readers.read(merchant, move |conn| attempts(conn, merchant, id, number, after, limit)).await
    }

    async fn pull(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Vec<Pulled>> {
        self.readers
            .read(merchant, move |conn: &mut dyn Conn| {
                check_webhook(conn, merchant, id)?;
                conn.pull(id, after, limit)
            })
            .await
    }
}

/// Deliveries of a webhook by number.
fn deliveries(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    filter: &DeliveryFilter,
    slice: &Slice<IncrementId>,
    outlook: Outlook,
) -> Result<Step<Vec<Delivery>, IncrementId>> {
    let last = place(db, merchant, id)?.last;
    let (first, through, next) = numbers(last, slice.after, slice.order);
    let (since, until) = times(filter.since, filter.until);
    let (direction, _) = words(slice.order);
    let sql = format!(
        "SELECT {} {DELIVERY_FROM} WHERE d.webhook_id = $1 AND d.increment_id BETWEEN $2 AND $3
            AND ($4 IS NULL OR d.state = $4) AND d.created_at >= $5 AND d.created_at < $6
            AND (NOT $7 OR d.event_id > 0) ORDER BY d.increment_id {direction} LIMIT $8",
        delivery_columns()
    );
    // Topics are compared here.
    let limit = if filter.topics.is_none() { slice.limit.min(ROWS_PER_STEP) } else { ROWS_PER_STEP };
    let state = filter.state.map(state_code);
    let values = values![id.0, first, through, state, since, until, filter.without_forgotten, limit];
    let mut found = Vec::new();
    db.rows(&sql, values, &mut |row| {
        let delivery = delivery(row, outlook)?;
        let is_meant = filter
            .topics
            .as_ref()
            .is_none_or(|topics| delivery.topic.as_ref().is_some_and(|topic| topics.matches(topic)));
        if is_meant {
            found.push(delivery);
        }
        Ok(found.len() < slice.limit as usize)
    })?;
    let is_full = found.len() >= slice.limit as usize;
    Ok(Step { found, next: next.filter(|_| !is_full) })
}

/// How many deliveries there are in each state, of the numbers that a step
/// looks at.
fn count_deliveries(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    filter: &DeliveryFilter,
    after: Option<IncrementId>,
) -> Result<Step<StateCounts, IncrementId>> {
    let last = place(db, merchant, id)?.last;
    let (first, through, next) = numbers(last, after, Order::Ascending);
    let (since, until) = times(filter.since, filter.until);
    let (topic, join) = match &filter.topics {
        Some(_) => (", e.topic", "LEFT JOIN event e USING (event_id)"),
        None => ("", ""),
    };
    let sql = format!(
        "SELECT count(*), d.state{topic} FROM delivery d {join} WHERE d.webhook_id = $1
            AND d.increment_id BETWEEN $2 AND $3 AND ($4 IS NULL OR d.state = $4) AND d.created_at >= $5
            AND d.created_at < $6 AND (NOT $7 OR d.event_id > 0) GROUP BY d.state{topic}"
    );
    let state = filter.state.map(state_code);
    let values = values![id.0, first, through, state, since, until, filter.without_forgotten];
    let mut found = StateCounts::default();
    db.rows(&sql, values, &mut |row| {
        let is_meant = match &filter.topics {
            Some(topics) => topic_if(row, 2)?.is_some_and(|topic| topics.matches(&topic)),
            None => true,
        };
        if is_meant {
            *found.of_mut(state_at(row, 1)?) += row.amount(0)?;
        }
        Ok(true)
    })?;
    Ok(Step { found, next })
}

/// The message and the last attempt of the first of these deliveries, as far
/// as they are kept: until they weigh `bytes_max`, and of one at least.
fn contents(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    numbers: &[IncrementId],
    bytes_max: usize,
) -> Result<Vec<Contents>> {
    /// The last attempt of the batch that a delivery is in.
    const LAST: &str = "LEFT JOIN attempt a ON a.webhook_id = d.webhook_id
        AND a.increment_id = coalesce(d.batch_first, d.increment_id) AND a.attempt = (
            SELECT max(o.attempt) FROM attempt o WHERE o.webhook_id = d.webhook_id
                AND o.increment_id = coalesce(d.batch_first, d.increment_id))";
    check_webhook(db, merchant, id)?;
    let asked = |db: &mut dyn Db, columns: &str, numbers: &[IncrementId]| {
        let keys = numbers.iter().map(|number| [Value::from(number.0)]);
        let asked = Asked::of(db.dialect(), values![id.0], ["d.increment_id"], keys);
        let sql = format!(
            "SELECT d.increment_id, {columns} FROM delivery d LEFT JOIN event e ON e.event_id = d.event_id {LAST}
                WHERE d.webhook_id = $1 AND {}",
            asked.condition
        );
        (sql, asked.values)
    };
    let weigh = |db: &mut dyn Db, numbers: &[IncrementId]| {
        let columns = "coalesce(octet_length(e.message), 0) + coalesce(octet_length(a.response_body), 0)";
        let (sql, values) = asked(db, columns, numbers);
        all(db, &sql, &values, |row| Ok((IncrementId(row.int(0)?), row.amount(1)? as usize)))
    };
    let read = |db: &mut dyn Db, numbers: &[IncrementId]| {
        let (sql, values) = asked(db, &format!("e.message, {ATTEMPT}"), numbers);
        all(db, &sql, &values, |row| {
            let last = if row.int_if(2)?.is_some() { Some(rows::attempt(row, 2)?) } else { None };
            let contents = Contents { message: row.text_if(1)?.map(Message::from_store), last };
            let weight = contents.bytes();
            Ok((IncrementId(row.int(0)?), (contents, weight)))
        })
    };
    let found = bounded(db, numbers, bytes_max, weigh, read)?;
    Ok(found.into_iter().map(|found| found.unwrap_or(Contents { message: None, last: None })).collect())
}

/// Attempts at a delivery behind one of them, in their order.
fn attempts(
    db: &mut dyn Db,
    merchant: MerchantId,
    id: WebhookId,
    number: IncrementId,
    after: u32,
    limit: u32,
) -> Result<Vec<Attempt>> {
    let logged_under = logged_under(db, merchant, id, number)?;
    let sql = format!(
        "SELECT {ATTEMPT} FROM attempt a WHERE a.webhook_id = $1 AND a.increment_id = $2 AND a.attempt > $3
            ORDER BY a.attempt LIMIT $4"
    );
    all(db, &sql, values![id.0, logged_under, after, limit], |row| rows::attempt(row, 0))
}
