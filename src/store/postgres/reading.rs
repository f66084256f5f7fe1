//! Reading what changes want, for many of them at once.

use std::collections::{HashMap, HashSet, VecDeque};

use rustc_hash::FxHashSet;
use tokio_postgres::types::Type;

use super::bulk;
use super::session::Session;
use super::values::Parameter;
use crate::domain::event::{IdempotencyKey, Receipt};
use crate::domain::id::{EventId, IncrementId, MerchantId, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::store::error::StoreError;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::ids::{Drawn, Ids};
use crate::store::ledger::notice::{Gathered, Notice};
use crate::store::ledger::wants::{FirstHeard, Found, Loaded, Pending, Remembered, Wants};
use crate::store::sql::Row;
use crate::store::sql::codes::{read_pairs, topic_at};
use crate::store::sql::db::damaged;
use crate::store::sql::definition::pause_at;
use crate::store::sql::load::read_notice;
use crate::store::sql::standings::{STANDING, event_of, standing};

type Result<T> = std::result::Result<T, StoreError>;

const KEYS: &str = "SELECT i.merchant_id, i.key, i.content_hash, i.event_id, i.receipt,
        EXISTS (SELECT 1 FROM fanout f WHERE f.merchant_id = i.merchant_id
            AND f.events::jsonb @> jsonb_build_array(jsonb_build_array(i.event_id)))
    FROM unnest($1, $2) AS k (merchant_id, key) JOIN idempotency i USING (merchant_id, key) WHERE i.expires_at > $3";

/// The last number is the head of the key, which is read backwards.
const COUNTERS: &str = "SELECT w.webhook_id,
        coalesce((SELECT d.increment_id FROM delivery d WHERE d.webhook_id = w.webhook_id
            ORDER BY d.increment_id DESC LIMIT 1), 0),
        w.settled_through, w.acknowledged_through, w.pulled_through, w.consecutive_failures, w.failing_since,
        w.paused_until, w.pause_reason
    FROM unnest($1) AS k (webhook_id) JOIN webhook w USING (webhook_id)";

const DRAW_EVENTS: &str = "SELECT nextval('event_id') FROM generate_series(1, $1)";
const DRAW_WEBHOOKS: &str = "SELECT nextval('webhook_id') FROM generate_series(1, $1)";
const DRAW_JOBS: &str = "SELECT nextval('job_id') FROM generate_series(1, $1)";
const DRAW_FANOUTS: &str = "SELECT nextval('fanout_id') FROM generate_series(1, $1)";

/// Ids are drawn while their merchant is held, so none that he has, or gets later,
/// is beyond this and was there before.
const LAST_EVENT: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_id";

fn deliveries_sql() -> String {
    format!(
        "SELECT {STANDING}, d.webhook_id FROM unnest($1, $2) AS k (webhook_id, increment_id)
            JOIN delivery d USING (webhook_id, increment_id)"
    )
}

/// The first that is pending of each webhook within its bounds.
fn pending_sql() -> String {
    format!(
        "SELECT {STANDING}, k.webhook_id FROM unnest($1, $2, $3) AS k (webhook_id, after, through)
            CROSS JOIN LATERAL (SELECT * FROM delivery d WHERE d.webhook_id = k.webhook_id
                AND d.increment_id > k.after AND d.increment_id <= k.through AND d.state = 0
                ORDER BY d.increment_id LIMIT 1) d"
    )
}

const TOPICS: &str = "SELECT d.webhook_id, d.increment_id, e.topic
    FROM unnest($1, $2) AS k (webhook_id, increment_id) JOIN delivery d USING (webhook_id, increment_id)
    JOIN event e ON e.event_id = d.event_id";

const NOTICES: &str = "SELECT n.webhook_id, n.kind, n.count, n.first_increment_id, n.last_increment_id, n.due_at
    FROM unnest($1, $2) AS k (webhook_id, kind) JOIN notice n USING (webhook_id, kind)";

/// What many changes want, gathered.
#[derive(Default)]
pub struct Common {
    keys: Vec<(MerchantId, IdempotencyKey)>,
    first_heard: Vec<FirstHeard>,
    deliveries: Vec<(WebhookId, IncrementId)>,
    topics: Vec<(WebhookId, IncrementId)>,
    notices: Vec<(WebhookId, Notice)>,
    counters: Vec<WebhookId>,
    pending: Vec<Pending>,
    ids: Ids,
    last_event: bool,
}

/// What was read for them.
pub struct Read {
    keys: HashMap<(MerchantId, IdempotencyKey), Remembered>,
    heard: HashSet<(WebhookId, IncrementId)>,
    deliveries: HashMap<(WebhookId, IncrementId), Found>,
    topics: HashMap<(WebhookId, IncrementId), Topic>,
    notices: HashMap<(WebhookId, Notice), Gathered>,
    counters: HashMap<WebhookId, Counters>,
    pending: HashMap<WebhookId, (IncrementId, Standing)>,
    drawn: Drawn,
    last_event: Option<EventId>,
}

/// True if all that is wanted can be read for many changes at once.
pub fn is_common(wants: &Wants) -> bool {
    let Wants { codes, batches, needed, .. } = wants;
    let Wants { scan, pending, again, events, due_notices, job, topic, user, user_name, token, tokens, .. } = wants;
    let Wants { merchant, merchant_code, .. } = wants;
    let Wants { needed_beside, attempts, .. } = wants;
    let is_rare = scan.is_some()
        || pending.is_some_and(|pending| pending.max > 1)
        || again.is_some()
        || events.is_some()
        || due_notices.is_some()
        || job.is_some()
        || topic.is_some()
        || user.is_some()
        || user_name.is_some()
        || token.is_some()
        || tokens.is_some()
        || merchant.is_some()
        || merchant_code.is_some()
        || needed_beside.is_some()
        || attempts.is_some();
    !is_rare && codes.is_empty() && batches.is_empty() && needed.is_empty()
}

/// Which of these, in their order, can be read ahead: those of which nothing is
/// wanted that an earlier one may change.
pub fn plan(all: &[Wants]) -> Vec<bool> {
    let (mut keys, mut numbers, mut apart) = (HashSet::new(), FxHashSet::default(), FxHashSet::default());
    let (mut notices, mut changed) = (FxHashSet::default(), FxHashSet::default());
    let mut is_all_apart = false;
    let mut is_ahead = Vec::with_capacity(all.len());
    for wants in all {
        let deliveries = wants.deliveries.iter().flat_map(|(id, span)| span.numbers().map(|number| (*id, number)));
        let heard = wants.first_heard.iter().map(|heard| (heard.webhook_id, heard.number));
        let own: Vec<_> = deliveries.chain(heard).collect();
        let is_free = !is_all_apart
            && is_common(wants)
            && wants.keys.iter().all(|key| !keys.contains(key))
            && wants.notices.iter().all(|(id, _)| !notices.contains(id) && !apart.contains(id))
            && wants.pending.iter().all(|one| !changed.contains(&one.webhook_id) && !apart.contains(&one.webhook_id))
            && own.iter().all(|(id, number)| !apart.contains(id) && !numbers.contains(&(*id, *number)));
        changed.extend(own.iter().map(|(id, _)| *id));
        keys.extend(&wants.keys);
        numbers.extend(own);
        notices.extend(wants.notices.iter().map(|(id, _)| *id));
        // Which of its numbers may change is not said.
        apart.extend(wants.pending.map(|pending| pending.webhook_id));
        if !is_free {
            // What it comes to may be anything of these webhooks.
            match webhooks(wants) {
                Some(webhooks) => apart.extend(webhooks),
                None => is_all_apart = true,
            }
        }
        is_ahead.push(is_free);
    }
    is_ahead
}

/// The webhooks that a change which is read apart may concern; `None`: any.
fn webhooks(wants: &Wants) -> Option<Vec<WebhookId>> {
    let is_any = wants.due_notices.is_some() || wants.job.is_some() || !wants.needed.is_empty();
    let deliveries = wants.deliveries.iter().chain(&wants.topics).map(|(id, _)| *id);
    let heard = wants.first_heard.iter().map(|heard| heard.webhook_id);
    let batches = wants.batches.iter().map(|(id, _)| *id);
    let single = [
        wants.scan.map(|scan| scan.webhook_id),
        wants.pending.map(|pending| pending.webhook_id),
        wants.again.map(|(id, _)| id),
        wants.needed_beside.map(|(id, _)| id),
        wants.attempts.map(|attempts| attempts.webhook_id),
    ];
    (!is_any).then(|| deliveries.chain(heard).chain(batches).chain(single.into_iter().flatten()).collect())
}

impl Common {
    /// Adds what one wants. Counters are read once in a transaction: from then on
    /// the book knows them.
    pub fn add(&mut self, wants: &Wants, counted: &mut FxHashSet<WebhookId>) {
        self.keys.extend(wants.keys.iter().cloned());
        self.first_heard.extend(&wants.first_heard);
        self.deliveries
            .extend(wants.deliveries.iter().flat_map(|(id, span)| span.numbers().map(|number| (*id, number))));
        self.topics.extend(wants.topics.iter().flat_map(|(id, span)| span.numbers().map(|number| (*id, number))));
        self.notices.extend(&wants.notices);
        self.counters.extend(wants.counters.iter().filter(|id| counted.insert(**id)));
        self.pending.extend(wants.pending);
        self.ids.event += wants.ids.event;
        self.ids.webhook += wants.ids.webhook;
        self.ids.job += wants.ids.job;
        self.ids.fanout += wants.ids.fanout;
        self.last_event |= wants.last_event;
    }

    /// Reads it.
    pub fn read(&self, session: &Session, now: Timestamp) -> Result<Read> {
        let mut read = session.together(async {
            let (heard, keys, deliveries, topics, notices, counters, pending, drawn, last_event) = tokio::join!(
                biased;
                bulk::first_heard(session, &self.first_heard),
                keys(session, &self.keys, now),
                deliveries(session, &self.deliveries),
                topics(session, &self.topics),
                notices(session, &self.notices),
                counters(session, &self.counters),
                pending(session, &self.pending),
                drawn(session, self.ids),
                last_event(session, self.last_event),
            );
            Ok(Read {
                keys: keys?,
                heard: heard?.into_iter().collect(),
                deliveries: deliveries?,
                topics: topics?,
                notices: notices?,
                counters: counters?,
                pending: pending?,
                drawn: drawn?,
                last_event: last_event?,
            })
        })?;
        let key = |heard: &FirstHeard| (heard.webhook_id, heard.number);
        let others: Vec<_> = self.first_heard.iter().map(key).filter(|key| !read.heard.contains(key)).collect();
        if !others.is_empty() {
            read.deliveries.extend(session.together(deliveries(session, &others))?);
        }
        Ok(read)
    }
}

impl Read {
    /// What one of them wanted.
    pub fn share(&mut self, wants: &Wants) -> Loaded {
        let mut loaded = Loaded { last_event: self.last_event.filter(|_| wants.last_event), ..Loaded::default() };
        for key in &wants.keys {
            loaded.keys.extend(self.keys.get(key).map(|found| (key.clone(), found.clone())));
        }
        let mut number = |key: (WebhookId, IncrementId)| {
            loaded.deliveries.extend(self.deliveries.get(&key).map(|found| (key, found.clone())));
        };
        for heard in &wants.first_heard {
            let key = (heard.webhook_id, heard.number);
            let is_written = self.heard.contains(&key);
            loaded.first_heard.push(is_written);
            if !is_written {
                number(key);
            }
        }
        for (id, span) in &wants.deliveries {
            span.numbers().for_each(|one| number((*id, one)));
        }
        for key in wants.topics.iter().flat_map(|(id, span)| span.numbers().map(|number| (*id, number))) {
            loaded.topics.extend(self.topics.get(&key).map(|topic| (key, topic.clone())));
        }
        for key in &wants.notices {
            loaded.notices.extend(self.notices.get(key).map(|gathered| (*key, *gathered)));
        }
        for id in &wants.counters {
            loaded.counters.extend(self.counters.remove(id).map(|counters| (*id, counters)));
        }
        if let Some(one) = wants.pending {
            loaded.pending.extend(self.pending.remove(&one.webhook_id));
        }
        let take = |drawn: &mut VecDeque<i64>, count: i64| drawn.drain(..(count as usize).min(drawn.len())).collect();
        loaded.drawn = Some(Drawn {
            events: take(&mut self.drawn.events, wants.ids.event),
            webhooks: take(&mut self.drawn.webhooks, wants.ids.webhook),
            jobs: take(&mut self.drawn.jobs, wants.ids.job),
            fanouts: take(&mut self.drawn.fanouts, wants.ids.fanout),
        });
        loaded
    }
}

async fn keys(
    session: &Session,
    keys: &[(MerchantId, IdempotencyKey)],
    now: Timestamp,
) -> Result<HashMap<(MerchantId, IdempotencyKey), Remembered>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let merchants: Vec<_> = keys.iter().map(|(merchant, _)| merchant.0).collect();
    let texts: Vec<_> = keys.iter().map(|(_, key)| key.as_str()).collect();
    let values: [Parameter<'_>; 3] = [(&merchants, Type::INT8_ARRAY), (&texts, Type::TEXT_ARRAY), (&now.0, Type::INT8)];
    let found = session.ask(KEYS, &values).await?;
    let wanted: HashMap<(i64, &str), &(MerchantId, IdempotencyKey)> =
        keys.iter().map(|key| ((key.0.0, key.1.as_str()), key)).collect();
    let mut read = HashMap::with_capacity(found.len());
    for row in &found {
        if let Some(key) = wanted.get(&(row.try_get(0)?, row.try_get(1)?)) {
            let hash: &[u8] = row.try_get(2)?;
            let content_hash = hash.try_into().map_err(|_| damaged("bad content_hash"))?;
            let receipt = Receipt { event_id: EventId(row.try_get(3)?), deliveries: read_pairs(row.try_get(4)?)? };
            let is_under_way = row.try_get(5)?;
            read.insert((*key).clone(), Remembered { is_under_way, content_hash, receipt });
        }
    }
    Ok(read)
}

async fn deliveries(
    session: &Session,
    keys: &[(WebhookId, IncrementId)],
) -> Result<HashMap<(WebhookId, IncrementId), Found>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let webhooks: Vec<_> = keys.iter().map(|(id, _)| id.0).collect();
    let numbers: Vec<_> = keys.iter().map(|(_, number)| number.0).collect();
    let values: [Parameter<'_>; 2] = [(&webhooks, Type::INT8_ARRAY), (&numbers, Type::INT8_ARRAY)];
    let found = session.ask(&deliveries_sql(), &values).await?;
    let read = |row: &tokio_postgres::Row| {
        let (number, standing) = standing(row)?;
        let found = Found { standing, event_id: event_of(row)?, is_whole: false };
        Ok(((WebhookId(row.try_get(11)?), number), found))
    };
    found.iter().map(read).collect()
}

async fn topics(
    session: &Session,
    keys: &[(WebhookId, IncrementId)],
) -> Result<HashMap<(WebhookId, IncrementId), Topic>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let webhooks: Vec<_> = keys.iter().map(|(id, _)| id.0).collect();
    let numbers: Vec<_> = keys.iter().map(|(_, number)| number.0).collect();
    let values: [Parameter<'_>; 2] = [(&webhooks, Type::INT8_ARRAY), (&numbers, Type::INT8_ARRAY)];
    let read =
        |row: &tokio_postgres::Row| Ok(((WebhookId(row.try_get(0)?), IncrementId(row.try_get(1)?)), topic_at(row, 2)?));
    session.ask(TOPICS, &values).await?.iter().map(read).collect()
}

async fn notices(session: &Session, keys: &[(WebhookId, Notice)]) -> Result<HashMap<(WebhookId, Notice), Gathered>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: HashSet<_> = keys.iter().collect();
    let webhooks: Vec<_> = keys.iter().map(|(id, _)| id.0).collect();
    let kinds: Vec<_> = keys.iter().map(|(_, notice)| notice.name()).collect();
    let values: [Parameter<'_>; 2] = [(&webhooks, Type::INT8_ARRAY), (&kinds, Type::TEXT_ARRAY)];
    let read = |row: &tokio_postgres::Row| read_notice(row).map(|(id, notice, gathered)| ((id, notice), gathered));
    session.ask(NOTICES, &values).await?.iter().map(read).collect()
}

async fn counters(session: &Session, webhooks: &[WebhookId]) -> Result<HashMap<WebhookId, Counters>> {
    if webhooks.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<_> = webhooks.iter().map(|id| id.0).collect();
    let values: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
    session.ask(COUNTERS, &values).await?.iter().map(|row| read_counters(row)).collect()
}

async fn pending(session: &Session, pending: &[Pending]) -> Result<HashMap<WebhookId, (IncrementId, Standing)>> {
    if pending.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<_> = pending.iter().map(|one| one.webhook_id.0).collect();
    let after: Vec<_> = pending.iter().map(|one| one.after.0).collect();
    let through: Vec<_> = pending.iter().map(|one| one.through.0).collect();
    let values: [Parameter<'_>; 3] =
        [(&ids, Type::INT8_ARRAY), (&after, Type::INT8_ARRAY), (&through, Type::INT8_ARRAY)];
    let read = |row: &tokio_postgres::Row| Ok((WebhookId(row.try_get(11)?), standing(row)?));
    session.ask(&pending_sql(), &values).await?.iter().map(read).collect()
}

/// A webhook's id and counters, from the first eight columns and the next.
pub fn read_counters(row: &dyn Row) -> Result<(WebhookId, Counters)> {
    let number = |column| row.int(column).map(IncrementId);
    let counters = Counters {
        last: number(1)?,
        settled_through: number(2)?,
        acknowledged_through: number(3)?,
        pulled_through: number(4)?,
        consecutive_failures: row.count(5)?,
        failing_since: row.time_if(6)?,
        pause: pause_at(row, 7)?,
    };
    Ok((WebhookId(row.int(0)?), counters))
}

async fn drawn(session: &Session, ids: Ids) -> Result<Drawn> {
    let (events, webhooks, jobs, fanouts) = tokio::join!(
        biased;
        draw(session, DRAW_EVENTS, ids.event),
        draw(session, DRAW_WEBHOOKS, ids.webhook),
        draw(session, DRAW_JOBS, ids.job),
        draw(session, DRAW_FANOUTS, ids.fanout),
    );
    Ok(Drawn { events: events?, webhooks: webhooks?, jobs: jobs?, fanouts: fanouts? })
}

async fn draw(session: &Session, sql: &str, count: i64) -> Result<VecDeque<i64>> {
    if count == 0 {
        return Ok(VecDeque::new());
    }
    let drawn = session.ask(sql, &[(&count, Type::INT8)]).await?;
    drawn.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn last_event(session: &Session, is_wanted: bool) -> Result<Option<EventId>> {
    if !is_wanted {
        return Ok(None);
    }
    let rows = session.ask(LAST_EVENT, &[]).await?;
    rows.first().map(|row| Ok(EventId(row.try_get(0)?))).transpose()
}

/// All of these statements, with the types of their values.
pub fn statements() -> Vec<(String, Vec<Type>)> {
    let keys = vec![Type::INT8_ARRAY, Type::TEXT_ARRAY, Type::INT8];
    let draws = [DRAW_EVENTS, DRAW_WEBHOOKS, DRAW_JOBS, DRAW_FANOUTS].map(|sql| (sql.to_owned(), vec![Type::INT8]));
    let others = [
        (KEYS.to_owned(), keys),
        (deliveries_sql(), vec![Type::INT8_ARRAY, Type::INT8_ARRAY]),
        (COUNTERS.to_owned(), vec![Type::INT8_ARRAY]),
        (pending_sql(), vec![Type::INT8_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY]),
        (LAST_EVENT.to_owned(), Vec::new()),
        (TOPICS.to_owned(), vec![Type::INT8_ARRAY, Type::INT8_ARRAY]),
        (NOTICES.to_owned(), vec![Type::INT8_ARRAY, Type::TEXT_ARRAY]),
    ];
    others.into_iter().chain(draws).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Span;

    fn of_keys(keys: &[&str]) -> Wants {
        let key = |key: &&str| (MerchantId(1), IdempotencyKey::try_new(key).unwrap());
        Wants { keys: keys.iter().map(key).collect(), ..Wants::default() }
    }

    fn of_numbers(id: i64, first: i64, last: i64) -> Wants {
        let span = Span { first: IncrementId(first), last: IncrementId(last) };
        Wants { deliveries: vec![(WebhookId(id), span)], ..Wants::default() }
    }

    #[test]
    fn nothing_is_read_ahead_that_one_before_may_change() {
        assert_eq!(plan(&[of_keys(&["a"]), of_keys(&["b"]), of_keys(&["a"])]), [true, true, false]);
        // The key of one that is read apart counts, too.
        assert_eq!(plan(&[of_keys(&["a"]), of_keys(&["a", "b"]), of_keys(&["b"])]), [true, false, false]);
        assert_eq!(plan(&[of_numbers(1, 1, 5), of_numbers(1, 5, 6), of_numbers(2, 5, 6)]), [true, false, true]);
        let retry = Wants { batches: vec![(WebhookId(1), IncrementId(9))], ..Wants::default() };
        assert_eq!(
            plan(&[of_numbers(1, 1, 1), retry, of_numbers(1, 2, 2), of_numbers(2, 2, 2)]),
            [true, false, false, true]
        );
        let of_pending = |id| {
            let (webhook_id, after, through) = (WebhookId(id), IncrementId(0), IncrementId(9));
            Wants { pending: Some(Pending { webhook_id, after, through, max: 1 }), ..Wants::default() }
        };
        assert_eq!(plan(&[of_pending(1), of_pending(2), of_numbers(1, 3, 3)]), [true, true, false]);
        assert_eq!(plan(&[of_numbers(1, 3, 3), of_pending(1), of_pending(2)]), [true, false, true]);
        let any = Wants { job: Some((MerchantId(1), crate::domain::id::JobId(1))), ..Wants::default() };
        assert_eq!(plan(&[any, of_numbers(1, 1, 1)]), [false, false]);
    }
}
