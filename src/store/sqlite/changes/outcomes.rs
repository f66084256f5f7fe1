//! Recording attempts, and what follows from them for their webhooks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Statement, params};

use super::notices::{self, Notice};
use super::publishing::Numbering;
use super::{Result, webhooks};
use crate::domain::delivery::{Attempt, DeliveryState, EndReason, ErrorClass, Outcome, Verdict};
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DisabledReason, Webhook};
use crate::store::sqlite::memory::Counters;
use crate::store::sqlite::prune::Retention;
use crate::store::sqlite::queue::Cost;
use crate::store::sqlite::rows::{self, state_code};
use crate::store::sqlite::tx::{Announcement, Tx};
use crate::work::Account;
use crate::work::apart::Apart;

/// So many failures in a row there must be besides: one before a clock jumped
/// forward, and one after it, say nothing of the days in between.
const DISABLE_FAILURES_MIN: u32 = 5;

/// What recording costs: a row for each attempt and each number, and what is
/// kept of requests and answers.
pub fn cost(outcomes: &[Outcome], bodies: &[Option<Vec<u8>>]) -> Cost {
    let one = |(outcome, body): (&Outcome, &Option<Vec<u8>>)| {
        let bytes =
            outcome.attempt.weight() - body.as_ref().map_or(0, |body| outcome.attempt.response_body.len() - body.len());
        (1 + outcome.numbers.numbers().count(), bytes)
    };
    let all = outcomes.iter().zip(bodies).map(one);
    let (rows, bytes) = all.fold((0, 0), |sum: (usize, usize), one| (sum.0 + one.0, sum.1 + one.1));
    Cost::of(rows, bytes)
}

/// The compressed bodies of attempts, where that is worth it. A large one
/// takes longer than a thread may be held up that others wait for.
pub async fn deflated(apart: &Apart, outcomes: &Arc<[Outcome]>) -> Vec<Option<Vec<u8>>> {
    const AT_ONCE_BYTES_MAX: usize = 16 * 1024;
    let deflate =
        |outcomes: &[Outcome]| outcomes.iter().map(|outcome| rows::deflate(&outcome.attempt.response_body)).collect();
    if outcomes.iter().map(|outcome| outcome.attempt.response_body.len()).sum::<usize>() <= AT_ONCE_BYTES_MAX {
        return deflate(outcomes);
    }
    let large = Arc::clone(outcomes);
    apart.run(Account::Server, move || deflate(&large)).await.unwrap_or_else(|_| vec![None; outcomes.len()])
}

/// Records attempts and what becomes of their deliveries. A webhook that
/// answered 410, or has failed for `disable_after` without a success, is
/// disabled.
///
/// `bodies` are the compressed ones of the answers, where that is worth it.
pub fn record(
    tx: &mut Tx<'_>,
    outcomes: &[Outcome],
    bodies: &[Option<Vec<u8>>],
    disable_after: Duration,
    bounds: &Retention,
) -> Result<()> {
    let counted = write(tx, outcomes, bodies, bounds)?;
    let mut healths = HashMap::new();
    let mut raised = Vec::new();
    for Written { outcome, is_sent_again, .. } in &counted {
        let id = outcome.webhook_id;
        let health = match healths.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Health::of(tx, id) {
                Some(health) => place.insert(health),
                None => continue,
            },
        };
        health.heed(outcome, tx.now, disable_after, |notice| {
            // What goes out once more is not abandoned yet.
            if !is_sent_again || notice != Notice::DeliveryAbandoned {
                raised.push((id, outcome.numbers, notice));
            }
        });
    }
    let mut numbering = Numbering::of(tx)?;
    for (id, numbers, notice) in raised {
        notices::raise(tx, &mut numbering, id, numbers, notice)?;
    }
    for webhook in healths.values().filter_map(|health| health.changed.as_ref()) {
        webhooks::write_definition(tx, webhook)?;
    }

    // From here on nothing can fail.
    for (id, health) in healths {
        health.settle(tx, id);
    }
    numbering.settle(tx);
    for Written { outcome, is_sent_again, merchant, bytes } in counted {
        if let Some(merchant) = merchant {
            let place = (outcome.numbers.first, outcome.attempt.attempt);
            tx.memory.logs.grow(merchant, outcome.webhook_id, place, bytes, bounds);
        }
        let has_ended = matches!(outcome.verdict, Verdict::Delivered | Verdict::Abandoned);
        let settled = tx.memory.entry(outcome.webhook_id).map(|entry| entry.counters.settled_through);
        if has_ended && settled.is_some_and(|settled| outcome.numbers.contains(settled.next())) {
            tx.memory.add_chore(outcome.webhook_id);
        }
        if is_sent_again {
            tx.news.push(Announcement::Reread(outcome.webhook_id, outcome.numbers.first));
        }
        for number in outcome.numbers.numbers() {
            tx.news.push(Announcement::Attempted(outcome.webhook_id, number));
        }
    }
    Ok(())
}

/// An attempt that was not on record yet.
struct Written<'a> {
    outcome: &'a Outcome,
    /// It was asked to be sent again while this attempt was under way.
    is_sent_again: bool,
    /// Whose log grows, and by how much.
    merchant: Option<MerchantId>,
    bytes: u64,
}

/// Writes what is not on record yet.
fn write<'a>(
    tx: &Tx<'_>,
    outcomes: &'a [Outcome],
    bodies: &[Option<Vec<u8>>],
    bounds: &Retention,
) -> Result<Vec<Written<'a>>> {
    let (mut marking, mut inserting) = (tx.conn.prepare_cached(MARK)?, tx.conn.prepare_cached(INSERT_ATTEMPT)?);
    let mut written = Vec::with_capacity(outcomes.len());
    for (outcome, body) in outcomes.iter().zip(bodies) {
        let is_marked = mark(&mut marking, outcome, tx.now)?;
        let is_sent_again = !is_marked && mark_sent_again(tx, outcome)?;
        if is_marked || is_sent_again {
            let logged = Logged::of(tx, outcome, body.as_deref(), bounds);
            insert_attempt(&mut inserting, outcome, &logged)?;
            written.push(Written { outcome, is_sent_again, merchant: logged.merchant, bytes: logged.bytes() });
        }
    }
    Ok(written)
}

/// What the outcomes of a change mean for a webhook.
struct Health {
    webhook: Arc<Webhook>,
    counters: Counters,
    /// Its definition, if the server changes that.
    changed: Option<Webhook>,
}

impl Health {
    /// As it is before the change; `None` if the webhook was deleted.
    fn of(tx: &Tx<'_>, id: WebhookId) -> Option<Self> {
        let entry = tx.memory.entry(id).filter(|entry| !entry.is_deleted)?;
        Some(Self { webhook: Arc::clone(&entry.webhook), counters: entry.counters, changed: None })
    }

    fn heed(&mut self, outcome: &Outcome, now: Timestamp, disable_after: Duration, mut raise: impl FnMut(Notice)) {
        let Counters { consecutive_failures, failing_since, pause, .. } = &mut self.counters;
        *pause = outcome.pause;
        let webhook = self.changed.as_ref().unwrap_or(&self.webhook);
        if outcome.attempt.error.is_none() {
            (*consecutive_failures, *failing_since) = (0, None);
            if webhook.is_recovering && webhook.disabled.is_none() {
                raise(Notice::WebhookRecovered);
                self.changed = Some(Webhook { is_recovering: false, ..webhook.clone() });
            }
            return;
        }
        if is_too_large(outcome) {
            // Its receiver was not asked.
            return raise(Notice::DeliveryAbandoned);
        }
        *consecutive_failures = consecutive_failures.saturating_add(1);
        let since = *failing_since.get_or_insert(outcome.attempt.started_at);
        if outcome.verdict == Verdict::Abandoned {
            raise(Notice::DeliveryAbandoned);
        }
        let reason = match outcome.verdict {
            Verdict::Gone => Some(DisabledReason::Gone),
            _ if now.since(since) >= disable_after && *consecutive_failures >= DISABLE_FAILURES_MIN => {
                Some(DisabledReason::Failing)
            }
            _ => None,
        };
        if reason.is_some() && webhook.disabled.is_none() {
            raise(Notice::WebhookDisabled);
            self.changed = Some(Webhook { disabled: reason, ..webhook.clone() });
        }
    }

    fn settle(self, tx: &mut Tx<'_>, id: WebhookId) {
        let before = tx.memory.entry(id).map(|entry| entry.counters);
        let Counters { consecutive_failures, failing_since, pause, .. } = self.counters;
        let is_news = |before: &Counters| {
            let Counters { consecutive_failures: failures, failing_since: since, pause: last, .. } = *before;
            (failures, since, last) != (consecutive_failures, failing_since, pause)
        };
        if before.is_some_and(|before| is_news(&before))
            && let Some(counters) = tx.memory.counters_mut(id)
        {
            (counters.consecutive_failures, counters.failing_since) = (consecutive_failures, failing_since);
            counters.pause = pause;
        }
        if let Some(webhook) = self.changed {
            webhooks::put(tx, webhook);
        }
    }
}

/// True if nothing was sent, since the body would be longer than it may be.
fn is_too_large(outcome: &Outcome) -> bool {
    outcome.attempt.error.as_ref().is_some_and(|error| error.class == ErrorClass::BodyTooLarge)
}

/// Compare-and-set on the attempt's number: nothing if it is on record already,
/// or its owner had the delivery forgotten or sent again while it was on its way.
///
/// What is pending follows the verdict. What was delivered before, and sent
/// again, stays delivered. What was cancelled on its way stays cancelled,
/// unless it arrived: then delivered is what it is. Either way it has ended only
/// now that there is an answer.
const MARK: &str = "UPDATE delivery SET attempts = ?3,
    state = CASE WHEN state = 0 OR ?4 = 1 THEN ?4 ELSE state END,
    next_attempt_at = CASE WHEN state = 3 THEN NULL ELSE ?5 END,
    ended_at = CASE state WHEN 0 THEN ?6 WHEN 3 THEN ?9 ELSE ended_at END,
    reason = CASE WHEN state = 0 THEN ?7 WHEN ?4 = 1 THEN NULL ELSE reason END
    WHERE webhook_id = ?1 AND increment_id = ?2 AND attempts = ?3 - 1 AND event_id > 0
        AND resends_asked <= ?8";

/// The same where it was asked to be sent again meanwhile: it is due once more,
/// whatever the attempt came to, unless somebody has cancelled that since.
const MARK_SENT_AGAIN: &str = "UPDATE delivery SET attempts = ?3,
    policy_start = ?3,
    state = CASE WHEN ?4 = 1 THEN 1 ELSE state END,
    next_attempt_at = CASE WHEN state = 0 OR next_attempt_at IS NOT NULL THEN ?5 END,
    ended_at = CASE WHEN state = 3 OR (?4 = 1 AND state = 0) THEN ?6 ELSE ended_at END,
    reason = CASE WHEN ?4 = 1 THEN NULL ELSE reason END
    WHERE webhook_id = ?1 AND increment_id = ?2 AND attempts = ?3 - 1 AND event_id > 0";

/// True if it marked something.
fn mark(marking: &mut Statement<'_>, outcome: &Outcome, now: Timestamp) -> Result<bool> {
    let (state, next_attempt_at, reason) = match outcome.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, None, None),
        Verdict::Retry(at) => (DeliveryState::Pending, Some(at), None),
        Verdict::Gone => (DeliveryState::Pending, Some(now), None),
        Verdict::Abandoned if is_too_large(outcome) => (DeliveryState::Abandoned, None, Some(EndReason::BodyTooLarge)),
        Verdict::Abandoned => (DeliveryState::Abandoned, None, Some(EndReason::RetriesExhausted)),
    };
    let ended_at = (state != DeliveryState::Pending).then_some(outcome.ended_at.0);
    let mut marked = 0;
    // One by one: SQLite is quicker with a key than with a range of one.
    for number in outcome.numbers.numbers() {
        marked += marking.execute(params![
            outcome.webhook_id.0,
            number.0,
            i64::from(outcome.attempt.attempt),
            state_code(state),
            next_attempt_at.map(|at| at.0),
            ended_at,
            reason.map(EndReason::name),
            outcome.resends_asked,
            outcome.ended_at.0,
        ])?;
    }
    Ok(marked > 0)
}

/// True if it marked something.
fn mark_sent_again(tx: &Tx<'_>, outcome: &Outcome) -> Result<bool> {
    let is_delivered = outcome.verdict == Verdict::Delivered;
    let mut marking = tx.conn.prepare_cached(MARK_SENT_AGAIN)?;
    let mut marked = 0;
    for number in outcome.numbers.numbers() {
        let (id, attempt) = (outcome.webhook_id.0, outcome.attempt.attempt);
        let times = (tx.now.0, outcome.ended_at.0);
        marked += marking.execute(params![id, number.0, attempt, is_delivered, times.0, times.1])?;
    }
    Ok(marked > 0)
}

/// What of a request and its answer the log takes.
struct Logged<'a> {
    /// `None` if nobody's log has room for it.
    merchant: Option<MerchantId>,
    request_headers: &'a str,
    response_headers: &'a str,
    body: &'a [u8],
    is_compressed: bool,
}

impl<'a> Logged<'a> {
    fn of(tx: &Tx<'_>, outcome: &'a Outcome, compressed: Option<&'a [u8]>, bounds: &Retention) -> Self {
        let id = outcome.webhook_id;
        let merchant = tx.memory.entry(id).map(|entry| entry.webhook.merchant_id);
        let merchant = merchant.filter(|merchant| tx.memory.logs.has_room(*merchant, id, bounds));
        if merchant.is_none() {
            return Self { merchant, request_headers: "", response_headers: "", body: &[], is_compressed: false };
        }
        let Attempt { request_headers, response_headers, response_body, .. } = &outcome.attempt;
        Self {
            merchant,
            request_headers,
            response_headers,
            body: compressed.unwrap_or(response_body),
            is_compressed: compressed.is_some(),
        }
    }

    fn bytes(&self) -> u64 {
        (self.request_headers.len() + self.response_headers.len() + self.body.len()) as u64
    }
}

const INSERT_ATTEMPT: &str = "INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, duration_us,
    status_code, error_class, error_detail, request_headers, response_headers, response_body, is_compressed,
    queue_delay_ms, address) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

fn insert_attempt(inserting: &mut Statement<'_>, outcome: &Outcome, logged: &Logged<'_>) -> Result<()> {
    let attempt = &outcome.attempt;
    inserting.execute(params![
        outcome.webhook_id.0,
        outcome.numbers.first.0,
        attempt.attempt,
        attempt.started_at.0,
        i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
        attempt.status_code,
        attempt.error.as_ref().map(|error| error.class.name()),
        attempt.error.as_ref().map(|error| &error.detail),
        logged.request_headers,
        logged.response_headers,
        logged.body,
        logged.is_compressed,
        i64::try_from(attempt.queue_delay.as_millis()).unwrap_or(i64::MAX),
        attempt.address.map(|address| address.to_string()),
    ])?;
    Ok(())
}
