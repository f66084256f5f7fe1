//! What is looked up for callers.
//!
//! A list or a count may have to look at many rows to find a few. So it goes
//! in steps, each a bounded use of a reader, and others get their turns in
//! between.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::pages::{check_webhook, logged_under};
use super::rows;
use crate::domain::catalogue::{CatalogueEntry, TopicFilter, TopicRule};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, StateCounts};
use crate::domain::event::{EventFilter, EventStory, EventSummary, Message};
use crate::domain::id::{EventId, IncrementId, MerchantId, TopicId, UserId, WebhookId};
use crate::domain::message_schema::SchemaText;
use crate::domain::page::{Order, Slice};
use crate::domain::secret::KeyHash;
use crate::domain::stats::AttemptStats;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::user::Profile;
use crate::domain::webhook::Webhook;
use crate::store::deliveries::Contents;
use crate::store::error::StoreError;

/// How many rows a step looks at.
pub const ROWS_PER_STEP: i64 = 2_500;

/// How many of a webhook's last numbers its statistics of attempts cover, as
/// far as there are no more attempts at them than these.
const STATS_NUMBERS: i64 = 1_000;
const ATTEMPTS_MAX: i64 = 10_000;

/// What a step has found, and where the next one begins; `None`: there is no more.
pub struct Step<T, K> {
    pub found: T,
    pub next: Option<K>,
}

/// Numbers of a webhook that one step looks at: those behind `after`.
fn numbers(last: i64, after: Option<IncrementId>, order: Order) -> (i64, i64, Option<IncrementId>) {
    match order {
        Order::Ascending => {
            let first = after.map_or(1, |after| after.0.saturating_add(1));
            let through = first.saturating_add(ROWS_PER_STEP - 1);
            (first, through, (through < last).then_some(IncrementId(through)))
        }
        Order::Descending => {
            let through = after.map_or(last, |after| after.0.saturating_sub(1).min(last));
            let first = through.saturating_sub(ROWS_PER_STEP - 1);
            (first, through, (first > 1).then_some(IncrementId(first)))
        }
    }
}

/// The last number that a webhook was given.
pub fn last_number(conn: &Connection, id: WebhookId) -> Result<i64, StoreError> {
    let sql = "SELECT last_increment_id FROM webhook WHERE webhook_id = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([id.0], |row| row.get(0))?)
}

fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    }
}

/// Times as a range that leaves nothing out where there are none.
pub fn times(since: Option<Timestamp>, until: Option<Timestamp>) -> (i64, i64) {
    (since.map_or(i64::MIN, |since| since.0), until.map_or(i64::MAX, |until| until.0))
}

/// Deliveries of a webhook by number.
pub fn deliveries(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    filter: &DeliveryFilter,
    slice: &Slice<IncrementId>,
    outlook: rows::Outlook,
) -> Result<Step<Vec<Delivery>, IncrementId>, StoreError> {
    check_webhook(conn, merchant, id)?;
    let (first, through, next) = numbers(last_number(conn, id)?, slice.after, slice.order);
    let (since, until) = times(filter.since, filter.until);
    let sql = format!(
        "{} WHERE d.webhook_id = ?1 AND d.increment_id BETWEEN ?2 AND ?3 AND (?4 IS NULL OR d.state = ?4)
            AND d.created_at >= ?5 AND d.created_at < ?6 AND (NOT ?7 OR d.event_id > 0) ORDER BY d.increment_id {}",
        rows::DELIVERY,
        direction(slice.order)
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let state = filter.state.map(rows::state_code);
    let (mut found, mut deliveries) = (Vec::new(), rows::Deliveries::new(conn, outlook));
    let parameters = params![id.0, first, through, state, since, until, filter.without_forgotten];
    for delivery in statement.query_map(parameters, |row| deliveries.read(row))? {
        let delivery = delivery?;
        let is_wanted = |topic: &Topic| filter.topics.as_ref().is_none_or(|topics| topics.matches(topic));
        if filter.topics.is_none() || delivery.topic.as_ref().is_some_and(is_wanted) {
            found.push(delivery);
        }
        if found.len() >= slice.limit as usize {
            return Ok(Step { found, next: None });
        }
    }
    Ok(Step { found, next })
}

/// How many deliveries there are in each state, of the numbers that a step
/// looks at.
pub fn count_deliveries(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    filter: &DeliveryFilter,
    after: Option<IncrementId>,
) -> Result<Step<StateCounts, IncrementId>, StoreError> {
    check_webhook(conn, merchant, id)?;
    let (first, through, next) = numbers(last_number(conn, id)?, after, Order::Ascending);
    let (since, until) = times(filter.since, filter.until);
    let join = if filter.topics.is_some() { "LEFT JOIN event e USING (event_id)" } else { "" };
    let topic = if filter.topics.is_some() { "e.topic" } else { "NULL" };
    let sql = format!(
        "SELECT d.state, {topic}, count(*) FROM delivery d {join} WHERE d.webhook_id = ?1
            AND d.increment_id BETWEEN ?2 AND ?3 AND (?4 IS NULL OR d.state = ?4) AND d.created_at >= ?5
            AND d.created_at < ?6 AND (NOT ?7 OR d.event_id > 0) GROUP BY 1, 2"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let state = filter.state.map(rows::state_code);
    let mut counted = statement.query(params![id.0, first, through, state, since, until, filter.without_forgotten])?;
    let mut found = StateCounts::default();
    while let Some(row) = counted.next()? {
        if let Some(topics) = &filter.topics {
            let topic: Option<String> = row.get(1)?;
            if !topic.and_then(|topic| Topic::try_new(&topic).ok()).is_some_and(|topic| topics.matches(&topic)) {
                continue;
            }
        }
        let state = rows::state_from_code(row.get(0)?).ok_or_else(|| rows::damaged("state"))?;
        *found.of_mut(state) += row.get::<_, i64>(2)?.unsigned_abs();
    }
    Ok(Step { found, next })
}

/// Events of a merchant by id, without their messages.
pub fn events(
    conn: &Connection,
    merchant: MerchantId,
    filter: &EventFilter,
    slice: &Slice<EventId>,
) -> Result<Step<Vec<EventSummary>, EventId>, StoreError> {
    let (mut found, mut last, mut looked_at) = (Vec::new(), None, 0);
    let is_full = walk_events(conn, merchant, filter, slice.after, slice.order, |row, is_wanted| {
        (last, looked_at) = (Some(EventId(row.get(0)?)), looked_at + 1);
        if is_wanted {
            found.push(rows::event_summary(conn, row)?);
        }
        Ok(found.len() >= slice.limit as usize)
    })?;
    Ok(Step { found, next: last.filter(|_| !is_full && looked_at == ROWS_PER_STEP) })
}

/// How many events there are of those that a step looks at.
pub fn count_events(
    conn: &Connection,
    merchant: MerchantId,
    filter: &EventFilter,
    after: Option<EventId>,
) -> Result<Step<u64, EventId>, StoreError> {
    let (mut found, mut last, mut looked_at) = (0, None, 0);
    walk_events(conn, merchant, filter, after, Order::Ascending, |row, is_wanted| {
        (last, looked_at) = (Some(EventId(row.get(0)?)), looked_at + 1);
        found += u64::from(is_wanted);
        Ok(false)
    })?;
    Ok(Step { found, next: last.filter(|_| looked_at == ROWS_PER_STEP) })
}

/// Shows the events of one step, and whether each is one of those asked for,
/// until `look` has seen enough; true if it has.
pub fn walk_events(
    conn: &Connection,
    merchant: MerchantId,
    filter: &EventFilter,
    after: Option<EventId>,
    order: Order,
    mut look: impl FnMut(&Row<'_>, bool) -> rusqlite::Result<bool>,
) -> Result<bool, StoreError> {
    let (first, last) = filter.only.map_or((i64::MIN, i64::MAX), |only| (only.0, only.0));
    let (first, last) = match (after, order) {
        (Some(after), Order::Ascending) => (first.max(after.0.saturating_add(1)), last),
        (Some(after), Order::Descending) => (first, last.min(after.0.saturating_sub(1))),
        (None, _) => (first, last),
    };
    let (since, until) = times(filter.since, filter.until);
    let sql = format!(
        "{} WHERE merchant_id = ?1 AND event_id BETWEEN ?2 AND ?3 ORDER BY event_id {} LIMIT ?4",
        rows::EVENT_SUMMARY,
        direction(order)
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut walked = statement.query([merchant.0, first, last, ROWS_PER_STEP])?;
    while let Some(row) = walked.next()? {
        let is_wanted = (since..until).contains(&row.get(3)?)
            && match &filter.topics {
                None => true,
                Some(topics) => topics.matches(&rows::topic_at(row, 1)?),
            };
        if look(row, is_wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One of the merchant's events, and what became of it.
pub fn event(
    conn: &Connection,
    merchant: MerchantId,
    id: EventId,
    deliveries_max: u32,
    outlook: rows::Outlook,
) -> Result<EventStory, StoreError> {
    let sql = format!("{} WHERE e.event_id = ?1 AND e.merchant_id = ?2", rows::EVENT);
    let read = |row: &Row<'_>| Ok((rows::event(row, 0)?, rows::published_at(row)?));
    let found = conn.prepare_cached(&sql)?.query_row([id.0, merchant.0], read).optional()?;
    let (event, published_at) = found.ok_or(StoreError::NoEvent)?;
    let delivery_count = rows::delivery_count(conn, id)?;
    let sql = format!("{} WHERE d.event_id = ?1 ORDER BY d.webhook_id, d.increment_id LIMIT ?2", rows::DELIVERY);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut reading = rows::Deliveries::new(conn, outlook);
    let deliveries = statement.query_map(params![id.0, deliveries_max], |row| reading.read(row))?;
    Ok(EventStory { event, published_at, delivery_count, deliveries: deliveries.collect::<Result<_, _>>()? })
}

/// Attempts at a delivery behind one of them, in their order.
pub fn attempts(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    number: IncrementId,
    after: u32,
    limit: u32,
) -> Result<Vec<Attempt>, StoreError> {
    let logged_under = logged_under(conn, merchant, id, number)?;
    let sql = format!(
        "{} WHERE webhook_id = ?1 AND increment_id = ?2 AND attempt > ?3 ORDER BY attempt LIMIT ?4",
        rows::ATTEMPT
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params![id.0, logged_under, after, limit], rows::attempt)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The ids of a merchant's webhooks in their order, those of one step.
pub fn webhook_ids(
    conn: &Connection,
    merchant: MerchantId,
    after: Option<WebhookId>,
) -> Result<Step<Vec<WebhookId>, WebhookId>, StoreError> {
    let sql = "SELECT webhook_id FROM webhook WHERE merchant_id = ?1 AND deleted_at IS NULL AND webhook_id > ?2
        ORDER BY webhook_id LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let parameters = [merchant.0, after.map_or(0, |after| after.0), ROWS_PER_STEP];
    let found = statement.query_map(parameters, |row| row.get(0).map(WebhookId))?.collect::<Result<Vec<_>, _>>()?;
    let next = found.last().copied().filter(|_| found.len() as i64 == ROWS_PER_STEP);
    Ok(Step { found, next })
}

/// Some webhooks of a merchant, in the order of their ids.
pub fn webhook_page(
    conn: &Connection,
    merchant: MerchantId,
    slice: Slice<WebhookId>,
) -> Result<Vec<Webhook>, StoreError> {
    let (behind, direction, from) = match slice.order {
        Order::Ascending => (">", "ASC", i64::MIN),
        Order::Descending => ("<", "DESC", i64::MAX),
    };
    let sql = format!(
        "{} WHERE merchant_id = ?1 AND deleted_at IS NULL AND webhook_id {behind} ?2 \
         ORDER BY webhook_id {direction} LIMIT ?3",
        rows::WEBHOOK
    );
    let after = slice.after.map_or(from, |after| after.0);
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params![merchant.0, after, slice.limit], rows::webhook)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The message and the last attempt of the first of these deliveries, as far
/// as they are kept: until they weigh `bytes_max`, and of one at least.
pub fn contents(
    conn: &Connection,
    merchant: MerchantId,
    id: WebhookId,
    numbers: &[IncrementId],
    bytes_max: usize,
) -> Result<Vec<Contents>, StoreError> {
    check_webhook(conn, merchant, id)?;
    let mut messages = conn.prepare_cached(
        "SELECT message FROM delivery d JOIN event USING (event_id) WHERE d.webhook_id = ?1 AND d.increment_id = ?2",
    )?;
    let sql = format!(
        "{} WHERE webhook_id = ?1 AND increment_id = (SELECT coalesce(batch_first, increment_id) FROM delivery
            WHERE webhook_id = ?1 AND increment_id = ?2) ORDER BY attempt DESC LIMIT 1",
        rows::ATTEMPT
    );
    let mut attempts = conn.prepare_cached(&sql)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for number in numbers {
        if bytes >= bytes_max && !found.is_empty() {
            break;
        }
        let key = [id.0, number.0];
        let message = messages.query_row(key, |row| row.get(0).map(Message::from_store)).optional()?;
        let last = attempts.query_row(key, rows::attempt).optional()?;
        let contents = Contents { message, last };
        bytes += contents.bytes();
        found.push(contents);
    }
    Ok(found)
}

/// The profiles of a merchant's users that have one.
pub fn profiles(conn: &Connection, merchant: MerchantId) -> Result<Vec<(UserId, Profile)>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("{} WHERE merchant_id = ?1 ORDER BY user_id", rows::PROFILE))?;
    let mut found: Vec<_> = statement.query_map([merchant.0], rows::profile)?.collect::<Result<_, _>>()?;
    found.retain(|(_, profile)| *profile != Profile::default());
    Ok(found)
}

/// Topics of a merchant's catalogue by name. There are as many as a merchant
/// may have, so there is but one step.
pub fn topics(
    conn: &Connection,
    merchant: MerchantId,
    filter: &TopicFilter,
    slice: &Slice<Topic>,
) -> Result<Vec<CatalogueEntry>, StoreError> {
    let comparison = match slice.order {
        Order::Ascending => ">",
        Order::Descending => "<",
    };
    let sql = format!(
        "{} WHERE merchant_id = ?1 AND (?2 IS NULL OR topic {comparison} ?2) ORDER BY topic {}",
        if filter.is_brief { rows::TOPIC_BUT_SCHEMA } else { rows::TOPIC },
        direction(slice.order)
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut found = Vec::new();
    for entry in statement.query_map(params![merchant.0, slice.after.as_ref().map(Topic::as_str)], rows::topic)? {
        let entry = entry?;
        if filter.admits(&entry.spec) {
            found.push(entry);
        }
        if found.len() >= slice.limit as usize {
            break;
        }
    }
    Ok(found)
}

/// How many there are.
pub fn count_topics(conn: &Connection, merchant: MerchantId, filter: &TopicFilter) -> Result<u64, StoreError> {
    let mut statement = conn.prepare_cached(&format!("{} WHERE merchant_id = ?1", rows::TOPIC_BUT_SCHEMA))?;
    let mut count = 0;
    for entry in statement.query_map([merchant.0], rows::topic)? {
        count += u64::from(filter.admits(&entry?.spec));
    }
    Ok(count)
}

/// What the catalogue demands of events of each of these topics, if it has them.
pub fn topic_rules(
    conn: &Connection,
    merchant: MerchantId,
    topics: &[Topic],
) -> Result<Vec<Option<TopicRule>>, StoreError> {
    let mut statement = conn.prepare_cached(rows::TOPIC_RULE)?;
    let mut rule =
        |topic: &Topic| statement.query_row(params![merchant.0, topic.as_str()], rows::topic_rule).optional();
    Ok(topics.iter().map(&mut rule).collect::<Result<_, _>>()?)
}

/// The schema of an entry as it is now, if it has one.
pub fn topic_schema(conn: &Connection, id: TopicId) -> Result<Option<SchemaText>, StoreError> {
    let found: Option<Option<String>> = conn
        .prepare_cached("SELECT message_schema FROM topic WHERE topic_id = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    Ok(found.flatten().map(SchemaText::from_store))
}

/// The lowest number of a webhook that is pending, and when it was numbered.
pub fn oldest_pending(conn: &Connection, webhook: &Webhook) -> Result<Option<(IncrementId, Timestamp)>, StoreError> {
    // One that was taken up again may lie below `settled_through`.
    let sql = "SELECT increment_id, created_at FROM (
            SELECT * FROM (SELECT increment_id, created_at FROM delivery
                WHERE webhook_id = ?1 AND increment_id > ?2 AND state = 0 ORDER BY increment_id LIMIT 1)
            UNION ALL
            SELECT * FROM (SELECT increment_id, created_at FROM delivery INDEXED BY delivery_again
                WHERE webhook_id = ?1 AND next_attempt_at IS NOT NULL AND state = 0 ORDER BY increment_id LIMIT 1))
        ORDER BY increment_id LIMIT 1";
    let read = |row: &Row<'_>| Ok((IncrementId(row.get(0)?), Timestamp(row.get(1)?)));
    let parameters = [webhook.webhook_id.0, webhook.settled_through.0];
    Ok(conn.prepare_cached(sql)?.query_row(parameters, read).optional()?)
}

/// The attempts at a webhook's last numbers, as far as they are kept.
pub fn recent_attempts(conn: &Connection, webhook: &Webhook) -> Result<AttemptStats, StoreError> {
    let from = webhook.last_increment_id.0.saturating_sub(STATS_NUMBERS).saturating_add(1).max(1);
    let mut statement = conn.prepare_cached(
        "SELECT duration_us, error_class, increment_id FROM attempt WHERE webhook_id = ?1 AND increment_id >= ?2
            ORDER BY increment_id DESC, attempt DESC LIMIT ?3",
    )?;
    let read = |row: &Row<'_>| Ok((rows::outcome(row)?, row.get::<_, i64>(2)?));
    let attempts = statement.query_map([webhook.webhook_id.0, from, ATTEMPTS_MAX], read)?;
    let mut attempts = attempts.collect::<Result<Vec<_>, _>>()?;
    // The last of those that were read may lack attempts.
    let cut = attempts.last().filter(|_| attempts.len() as i64 == ATTEMPTS_MAX).map_or(0, |(_, number)| *number);
    attempts.retain(|(_, number)| *number > cut);
    let attempts = attempts.into_iter().map(|(outcome, _)| outcome);
    Ok(AttemptStats::new(IncrementId(from.max(cut + 1)), attempts))
}

/// Whose session it is, and when it ends unless it is used, and in any case.
pub fn session(conn: &Connection, key: KeyHash) -> rusqlite::Result<Option<(UserId, Timestamp, Option<Timestamp>)>> {
    conn.prepare_cached("SELECT user_id, expires_at, ends_at FROM session WHERE key_hash = ?1")?
        .query_row([key.0], |row| {
            Ok((UserId(row.get(0)?), Timestamp(row.get(1)?), row.get::<_, Option<_>>(2)?.map(Timestamp)))
        })
        .optional()
}
