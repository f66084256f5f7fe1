//! Which of a webhook's numbers are to be sent again, by what their owner asks
//! for. It only reads, so it can be asked before as well as while it is done.

use rusqlite::{Connection, Row, params};

use super::Result;
use crate::domain::delivery::{DeliveryFilter, DeliveryState};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::job::Unavailable;
use crate::domain::policy::BATCH_EVENTS;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::store::sqlite::rows::{damaged, state_from_code, topic_at};

/// How far to look at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Numbers that are looked at, …
    pub looked_at: usize,
    /// … and those that are found; a batch is not divided.
    pub found: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Those to send, each with its batch.
    pub spans: Vec<Span>,
    /// How many numbers that is.
    pub count: usize,
    /// What is asked for, but can't be sent.
    pub unavailable: Unavailable,
    /// Numbers that were looked at, …
    pub looked_at: usize,
    /// … all up to this one.
    pub through: i64,
}

/// A number, or those of a batch.
struct Group {
    span: Span,
    states: Vec<DeliveryState>,
    /// As far as the events are kept.
    topics: Vec<Option<Topic>>,
    /// When the last of them was numbered.
    created_at: Timestamp,
}

/// Looks at numbers from `first` to `last`: a batch is asked for if its last
/// number was given out at the right time, and any of it fits otherwise.
pub fn choose(
    conn: &Connection,
    id: WebhookId,
    filter: &DeliveryFilter,
    (first, last): (i64, i64),
    bounds: Bounds,
) -> Result<Chosen> {
    let mut statement = conn.prepare_cached(
        "SELECT d.increment_id, coalesce(d.batch_last, d.increment_id), d.state, d.created_at, e.topic
            FROM delivery d LEFT JOIN event e ON e.event_id = d.event_id
            WHERE d.webhook_id = ?1 AND d.increment_id >= coalesce((SELECT batch_first FROM delivery
                WHERE webhook_id = ?1 AND increment_id = ?2), ?2)
            ORDER BY d.increment_id LIMIT ?3",
    )?;
    let rows_max = bounds.looked_at as i64 + i64::from(*BATCH_EVENTS.end());
    let mut rows = statement.query(params![id.0, first, rows_max])?;
    let mut chosen = Chosen { through: last, ..Chosen::default() };
    let mut group: Option<Group> = None;
    while let Some(row) = rows.next()? {
        let number = IncrementId(row.get(0)?);
        let own = group.get_or_insert_with(|| Group::beginning_with(number));
        own.add(row)?;
        if own.span.last > number {
            continue;
        }
        let through = own.span.last.0;
        if let Some(whole) = group.take() {
            chosen.take(id, whole, filter);
        }
        if through >= last || chosen.looked_at >= bounds.looked_at || chosen.count >= bounds.found {
            chosen.through = through;
            break;
        }
    }
    Ok(chosen)
}

impl Group {
    fn beginning_with(number: IncrementId) -> Self {
        Self { span: Span::one(number), states: Vec::new(), topics: Vec::new(), created_at: Timestamp(0) }
    }

    fn add(&mut self, row: &Row<'_>) -> Result<()> {
        self.span.last = IncrementId(row.get(1)?);
        self.states.push(state_from_code(row.get(2)?).ok_or_else(|| damaged("state"))?);
        self.created_at = Timestamp(row.get(3)?);
        let is_kept = row.get_ref(4)?.as_str_or_null().map_err(rusqlite::Error::from)?.is_some();
        self.topics.push(if is_kept { Some(topic_at(row, 4)?) } else { None });
        Ok(())
    }

    fn is_in(&self, state: Option<DeliveryState>) -> bool {
        self.states.iter().any(|own| state.map_or(*own != DeliveryState::Cancelled, |state| *own == state))
    }
}

impl Chosen {
    fn take(&mut self, id: WebhookId, group: Group, filter: &DeliveryFilter) {
        let count = group.states.len();
        self.looked_at += count;
        let is_in_time = filter.since.is_none_or(|since| group.created_at >= since)
            && filter.until.is_none_or(|until| group.created_at < until);
        let is_of_topics = filter
            .topics
            .as_ref()
            .is_none_or(|wanted| group.topics.iter().flatten().any(|topic| wanted.matches(topic)));
        if !is_in_time || !is_of_topics || !group.is_in(filter.state) {
            return;
        }
        if group.topics.iter().all(Option::is_some) {
            self.count += count;
            self.spans.push(group.span);
        } else {
            let found = Unavailable { count: count as u64, first: Some((id, group.span.first)) };
            self.unavailable = self.unavailable + found;
        }
    }
}
