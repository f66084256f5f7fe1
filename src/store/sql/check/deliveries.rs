//! Deliveries: numbers without holes, where each stands, and what is to be sent.

use super::batches::Batches;
use super::fault::{Kind, Place};
use super::walk::{Ends, Findings, PART, Part, START, Walk};
use crate::domain::id::{EventId, IncrementId, Span, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::Row;
use crate::store::sql::codes::format_at;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::values;
use crate::store::sql::standings::{STANDING, standing};

type Result<T> = std::result::Result<T, StoreError>;

/// Goes through deliveries in the order of their key, so that what is missing
/// shows by what comes next.
pub struct Deliveries {
    after: (i64, i64),
    /// The webhook that it is in, and its number before the next.
    at: Option<(WebhookId, i64)>,
    ends: Ends,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { after: (START, START), at: None, ends: Ends::default() }
    }
}

/// What is known of the row before it is judged.
struct Context {
    id: WebhookId,
    number: IncrementId,
    merchant: i64,
    settled_through: i64,
    last_event: EventId,
}

impl Walk for Deliveries {
    fn goes_through(&self) -> &'static str {
        "deliveries"
    }

    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part> {
        // An event is asked for only where it has to be there.
        let sql = format!(
            "SELECT {STANDING}, d.webhook_id, d.format, w.merchant_id, w.settled_through,
                CASE WHEN d.state = 0 OR d.next_attempt_at IS NOT NULL
                    THEN (SELECT e.merchant_id FROM event e WHERE e.event_id = d.event_id) END
                FROM delivery d LEFT JOIN webhook w ON w.webhook_id = d.webhook_id
                WHERE (d.webhook_id, d.increment_id) > ($1, $2)
                ORDER BY d.webhook_id, d.increment_id LIMIT $3"
        );
        let last_event = db.last_event()?;
        let (mut rows, mut batches, mut is_orphan) = (0, Batches::default(), false);
        let (after_id, after_number) = self.after;
        db.rows(&sql, values![after_id, after_number, PART], &mut |row| {
            let (id, number) = (WebhookId(row.int(11)?), IncrementId(row.int(0)?));
            rows += 1;
            self.after = (id.0, number.0);
            let is_new = self.at.is_none_or(|(own, _)| own != id);
            let merchant = row.int_if(13)?;
            is_orphan = merchant.is_none();
            let Some(merchant) = merchant else {
                if is_new {
                    let expected = "deliveries of webhooks that are there";
                    found.add(Kind::Orphan, Place::Webhook(id), "it has deliveries, and is not there", expected);
                }
                self.at = Some((id, number.0));
                return Ok(true);
            };
            found.looked_at.deliveries += 1;
            let before = self.at.filter(|_| !is_new).map_or(0, |(_, before)| before);
            judge_number(id, number.0, before, found);
            self.at = Some((id, number.0));
            let context = Context { id, number, merchant, settled_through: row.int(14)?, last_event };
            judge(row, &context, &mut batches, found)?;
            Ok(true)
        })?;
        batches.judge(db, found)?;
        let part = Part::of(rows);
        let (id, number) = self.after;
        // Of a webhook that is not there, one delivery says it all.
        if part == Part::More && (is_orphan || self.ends.is_end(db, WebhookId(id), number)?) {
            self.after = (id, i64::MAX);
        }
        Ok(part)
    }
}

/// The number behind another one, or the first.
fn judge_number(id: WebhookId, number: i64, before: i64, found: &mut Findings) {
    let next = before.max(0) + 1;
    if number < 1 {
        let place = Place::Number(id, IncrementId(number));
        found.add(Kind::NumberNotGiven, place, "there is a row", "numbers from 1 on");
    } else if number > next {
        let missing = Span { first: IncrementId(next), last: IncrementId(number - 1) };
        let expected = format!("all up to {number}, which is there");
        found.add(Kind::NumberMissing, Place::Numbers(id, missing), "no row", expected);
    } else if number < next && before > 0 {
        found.add(Kind::NumberTwice, Place::Number(id, IncrementId(number)), "it has several rows", "one");
    }
}

fn judge(row: &dyn Row, context: &Context, batches: &mut Batches, found: &mut Findings) -> Result<()> {
    let Context { id, number, settled_through, .. } = *context;
    let place = Place::Number(id, number);
    let standing = match standing(row).and_then(|(_, standing)| format_at(row, 12).map(|_| standing)) {
        Ok(standing) => standing,
        Err(cause) => {
            found.add(Kind::Unreadable, place, cause.to_string(), "what the program writes");
            return Ok(());
        }
    };
    for rule in standing.broken_rules() {
        found.add(Kind::Standing, place, told(standing), rule.words);
    }
    let (first, last) = (row.int_if(7)?, row.int_if(8)?);
    batches.add(id, number, (first, last), found);
    if number.0 <= settled_through && standing.is_pending() && !standing.was_sent_again() {
        let expected = format!("it has ended, for settled_through is {settled_through}");
        found.add(Kind::NotSettled, place, told(standing), expected);
    }
    judge_event(EventId(row.int(10)?), row.int_if(15)?, standing, context, found);
    Ok(())
}

/// The event of a delivery, and whose that is, if it is asked for and there.
fn judge_event(event: EventId, owner: Option<i64>, standing: Standing, context: &Context, found: &mut Findings) {
    let Context { merchant, last_event, .. } = *context;
    let place = Place::Number(context.id, context.number);
    // What was forgotten has its event's id with a minus.
    let given = EventId(event.0.saturating_abs());
    if given > last_event || given.0 == 0 {
        let expected = format!("an event from 1 to {last_event}, the last that was given out");
        found.add(Kind::EventNotGiven, place, format!("it is of event {given}"), expected);
    } else if standing.is_to_be_sent() && !standing.is_forgotten {
        let what = format!("it is to be sent, and its event {event}");
        match owner {
            None => {
                found.add(Kind::EventMissing, place, format!("{what} is not there"), "an event that is kept");
            }
            Some(other) if other != merchant => {
                let expected = format!("an event of merchant {merchant}");
                found.add(Kind::EventOfOther, place, format!("{what} is merchant {other}'s"), expected);
            }
            Some(_) => {}
        }
    }
}

/// What a row says, for people.
fn told(standing: Standing) -> String {
    let time = |what: &str, at: Option<Timestamp>| match at {
        Some(at) => format!(", {what} {}", at.rfc3339_ms()),
        None => format!(", no {what}"),
    };
    let reason = standing.reason.map_or_else(|| ", no reason".to_owned(), |reason| format!(", {}", reason.name()));
    format!(
        "it is {}{}{}{}, attempts {}, policy_start {}{}",
        standing.state.name(),
        reason,
        time("ended_at", standing.ended_at),
        time("next_attempt_at", standing.next_attempt_at),
        standing.attempts,
        standing.policy_start,
        if standing.is_forgotten { ", forgotten" } else { "" },
    )
}
