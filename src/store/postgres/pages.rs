//! What is read for sending and for those who pull, and how webhooks stand.
//!
//! All rows that a statement gives are read before the first is looked at, so the
//! statement itself leaves out what would weigh too much.

use tokio_postgres::types::Type;

use super::engine::SIZE;
use super::nodes;
use super::session::Session;
use super::taking_over;
use super::values::Parameter;
use crate::domain::cluster::Cluster;
use crate::domain::id::{EventId, IncrementId, WebhookId};
use crate::domain::node::{Bucket, NodeId};
use crate::domain::time::Timestamp;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::glance::{DueKey, Glimpse};
use crate::store::outbox::{Page, PageLimit, Want};
use crate::store::parcel::{Content, Parcel};
use crate::store::sql::Row;
use crate::store::sql::codes::bad;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::{Value, all, one, values};
use crate::store::sql::definition::glimpse;
use crate::store::sql::rows::{PARCEL, PARCEL_EVENT, batch_last, content, parcel, pulled};
use crate::store::sql::steps::Step;

type Result<T> = std::result::Result<T, StoreError>;

/// Webhooks that one step of a glance looks at.
const WEBHOOKS_PER_STEP: usize = 1_000;

/// What a page is read with: the deliveries it is chosen from, by a statement that
/// gives `$3` of them at the most, and their order.
struct Chosen {
    from: &'static str,
    order: &'static str,
}

const FRESH: Chosen = Chosen {
    from: "SELECT * FROM delivery WHERE webhook_id = $1 AND increment_id > $2 AND state = 0 AND attempts = 0
        AND next_attempt_at IS NULL ORDER BY increment_id LIMIT $3",
    order: "d.increment_id",
};

/// What is pending lies beyond `settled_through`, or was taken up again and has an
/// index of its own: neither way leads past everything that has ended.
const PENDING: Chosen = Chosen {
    from: "SELECT * FROM (
            (SELECT * FROM delivery WHERE webhook_id = $1 AND state = 0
                AND increment_id > greatest($2, (SELECT settled_through FROM webhook WHERE webhook_id = $1))
                AND (batch_first IS NULL OR batch_first = increment_id) ORDER BY increment_id LIMIT $3)
            UNION
            (SELECT * FROM delivery WHERE webhook_id = $1 AND increment_id > $2 AND next_attempt_at IS NOT NULL
                AND (batch_first IS NULL OR batch_first = increment_id) ORDER BY increment_id LIMIT $3)) AS found
        ORDER BY increment_id LIMIT $3",
    order: "d.increment_id",
};

const DUE: Chosen = Chosen {
    from: "SELECT * FROM delivery WHERE webhook_id = $1 AND next_attempt_at <= $6
        AND (batch_first IS NULL OR batch_first = increment_id) AND (next_attempt_at, increment_id) > ($5, $2)
        ORDER BY next_attempt_at, increment_id LIMIT $3",
    order: "d.next_attempt_at, d.increment_id",
};

const ONE: Chosen = Chosen {
    from: "SELECT * FROM delivery WHERE webhook_id = $1 AND increment_id =
            (SELECT coalesce(batch_first, increment_id) FROM delivery WHERE webhook_id = $1 AND increment_id = $2)
        AND (state = 0 OR next_attempt_at IS NOT NULL) LIMIT $3",
    order: "d.increment_id",
};

const PULLED: Chosen = Chosen {
    from: "SELECT * FROM delivery WHERE webhook_id = $1 AND increment_id > $2 ORDER BY increment_id LIMIT $3",
    order: "d.increment_id",
};

/// [`PARCEL`] of what was chosen with its event, of which the columns have names of
/// their own where both have one.
const PARCEL_CHOSEN: &str =
    "d.increment_id, d.attempts, d.format, d.of_event, d.merchant_id, m.code, d.topic, d.message,
    d.happened_at, d.traceparent, d.next_attempt_at, d.state, d.policy_start, d.created_at, d.batch_last, d.expansion,
    d.resends_asked";

impl Chosen {
    /// The statement: of the deliveries, those before which messages weigh less than
    /// `$4`.
    fn sql(&self) -> String {
        let Self { from, order } = self;
        format!(
            "SELECT {PARCEL_CHOSEN} FROM (
                SELECT d.*, e.event_id AS of_event, e.merchant_id, e.topic, e.message, e.created_at AS happened_at,
                    e.traceparent,
                    sum(octet_length(e.message)) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
                        - octet_length(e.message) AS before
                FROM ({from}) d LEFT JOIN event e ON e.event_id = d.event_id) d
            LEFT JOIN merchant m ON m.merchant_id = d.merchant_id
            WHERE d.before IS NULL OR d.before < $4 ORDER BY {order}"
        )
    }
}

impl Conn for Session {
    fn page(&mut self, id: WebhookId, want: Want, now: Timestamp, limit: PageLimit) -> Result<Page> {
        let read = |session: &mut Self, chosen: &Chosen, after: IncrementId, others: &[Value<'_>]| {
            let first: &[Value<'_>] = values![id.0, after.0, count(limit), bytes(limit)];
            let rows = all(session, &chosen.sql(), &[first, others].concat(), |row| {
                // What is to be sent was not pruned.
                Ok((parcel(row)?.ok_or_else(|| bad("event"))?, batch_last(row)?))
            })?;
            session.with_batches(id, rows, limit)
        };
        match want {
            Want::Fresh(after) => read(self, &FRESH, after, &[]),
            Want::Pending(after) => read(self, &PENDING, after, &[]),
            Want::Due(after) => read(self, &DUE, after.increment_id, values![after.due_at, now]),
            Want::One(number) => read(self, &ONE, number, &[]),
        }
    }

    fn next_due(&mut self, id: WebhookId, at: Timestamp) -> Result<Option<Timestamp>> {
        let sql = "SELECT min(next_attempt_at) FROM delivery WHERE webhook_id = $1 AND next_attempt_at > $2";
        Ok(one(self, sql, values![id.0, at], |row| row.time_if(0))?.flatten())
    }

    fn pull(&mut self, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Vec<Pulled>> {
        let values = values![id.0, after.0, count(limit), bytes(limit)];
        let (mut found, mut weight) = (Vec::new(), 0);
        for pulled in all(self, &PULLED.sql(), values, pulled)? {
            weight += pulled.parcel.as_ref().map_or(0, Parcel::weight);
            if !found.is_empty() && (found.len() >= limit.count || weight > limit.bytes) {
                break;
            }
            found.push(pulled);
        }
        Ok(found)
    }

    fn glimpses(
        &mut self,
        after: Option<WebhookId>,
        buckets: Option<&[Bucket]>,
    ) -> Result<Step<Vec<Glimpse>, WebhookId>> {
        const SQL: &str = "SELECT w.webhook_id, w.merchant_id, w.last_increment_id, w.updated_at, w.is_active,
                w.is_paused, w.disabled_reason, w.is_recovering, due.next_attempt_at, due.increment_id
            FROM (SELECT * FROM webhook_now WHERE webhook_id > $1 AND (merchant_id & 255) = ANY($3) AND deleted_at IS NULL
                ORDER BY webhook_id LIMIT $2) w
            LEFT JOIN LATERAL (SELECT d.next_attempt_at, d.increment_id FROM delivery d
                WHERE d.webhook_id = w.webhook_id AND d.next_attempt_at IS NOT NULL
                    AND (d.batch_first IS NULL OR d.batch_first = d.increment_id)
                ORDER BY d.next_attempt_at, d.increment_id LIMIT 1) due ON TRUE
            ORDER BY w.webhook_id";
        let after = after.map_or(0, |after| after.0);
        let buckets = buckets.map_or_else(|| (0..=255).collect(), taking_over::numbers);
        let values: [Parameter<'_>; 3] =
            [(&after, Type::INT8), (&(WEBHOOKS_PER_STEP as i64), Type::INT8), (&buckets, Type::INT8_ARRAY)];
        self.prepare(SQL, &[Type::INT8, Type::INT8, Type::INT8_ARRAY])?;
        let rows = self.together(self.ask(SQL, &values))?;
        let seen = |row: &dyn Row| {
            let due = row.time_if(8)?.zip(row.int_if(9)?);
            let first_due = due.map(|(due_at, number)| DueKey { due_at, increment_id: IncrementId(number) });
            Ok(Glimpse { first_due, ..glimpse(row)? })
        };
        let found = rows.iter().map(|row| seen(row)).collect::<Result<Vec<_>>>()?;
        let next = found.last().map(|last| last.webhook_id).filter(|_| found.len() == WEBHOOKS_PER_STEP);
        Ok(Step { found, next })
    }

    fn last_event(&mut self) -> Result<EventId> {
        let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_id";
        Ok(EventId(one(self, sql, &[], |row| row.int(0))?.unwrap_or(0)))
    }

    fn store_bytes(&mut self) -> Result<u64> {
        Ok(one(self, SIZE, &[], |row| row.amount(0))?.unwrap_or(0))
    }

    fn nodes(&mut self, own: Option<NodeId>) -> Result<Option<Cluster>> {
        nodes::cluster(self, own).map(Some)
    }
}

impl Session {
    /// Gives each delivery of a page its batch, and ends the page where it weighs
    /// too much.
    fn with_batches(
        &mut self,
        id: WebhookId,
        rows: Vec<(Parcel, Option<IncrementId>)>,
        limit: PageLimit,
    ) -> Result<Page> {
        let (mut parcels, mut bytes, count) = (Vec::new(), 0, rows.len());
        for (parcel, last) in rows {
            let parcel = match last {
                None => parcel,
                Some(last) => Parcel { batch: Some(self.others_of_batch(id, parcel.increment_id, last)?), ..parcel },
            };
            bytes += parcel.weight();
            if !parcels.is_empty() && (parcels.len() >= limit.count || bytes > limit.bytes) {
                break;
            }
            parcels.push(parcel);
        }
        // The statement leaves out only what comes after as much as may be.
        let is_last = parcels.len() == count && bytes <= limit.bytes;
        Ok(Page { parcels, is_last })
    }

    /// What goes out with the first of a batch.
    fn others_of_batch(&mut self, id: WebhookId, first: IncrementId, last: IncrementId) -> Result<Vec<Content>> {
        let sql = format!(
            "SELECT {PARCEL} FROM delivery d {PARCEL_EVENT}
                WHERE d.webhook_id = $1 AND d.increment_id > $2 AND d.increment_id <= $3 ORDER BY d.increment_id"
        );
        all(self, &sql, values![id.0, first.0, last.0], |row| content(row)?.ok_or_else(|| bad("event")))
    }
}

/// One more than asked for shows whether there are more.
fn count(limit: PageLimit) -> i64 {
    i64::try_from(limit.count).unwrap_or(i64::MAX).saturating_add(1)
}

fn bytes(limit: PageLimit) -> i64 {
    i64::try_from(limit.bytes).unwrap_or(i64::MAX)
}
