//! When deliveries go out, by what their webhooks say.

use super::codes::{bad, named, reason_at, state_at, topic_if};
use super::db::Row;
use super::definition::pause_at;
use crate::domain::delivery::{Delivery, DeliveryState};
use crate::domain::id::{EventId, IncrementId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DeliveryMode, Pause, PauseReason};
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// When it is looked when deliveries go out, and whether the server sends any.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// When.
    pub now: Timestamp,
    /// It sends nothing.
    pub is_paused: bool,
}

/// The columns that [`Sending::read`] reads; behind a `w.`.
pub const SENDING: &str = "w.is_active AND NOT w.is_paused AND w.disabled_reason IS NULL AND w.url IS NOT NULL
    AND w.deleted_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM merchant m WHERE m.merchant_id = w.merchant_id AND m.paused_at IS NOT NULL),
    w.delivery_mode, w.paused_until, w.pause_reason";

/// The columns that [`delivery`] reads; behind [`DELIVERY_FROM`].
pub fn delivery_columns() -> String {
    format!(
        "d.webhook_id, d.increment_id, d.event_id, e.topic, d.state, d.attempts, d.created_at, d.next_attempt_at,
        d.ended_at, d.reason, d.policy_start, {SENDING}"
    )
}

/// How many columns that are.
pub const DELIVERY_COLUMNS: usize = 15;

/// Where they come from: deliveries with their webhooks, deleted ones, too, and
/// their events as far as they are kept.
pub const DELIVERY_FROM: &str =
    "FROM delivery d JOIN webhook w ON w.webhook_id = d.webhook_id LEFT JOIN event e ON e.event_id = d.event_id";

/// What of a webhook says when its deliveries go out.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    is_delivering: bool,
    is_ordered: bool,
    /// Unless it is over.
    pause: Option<Pause>,
}

impl Sending {
    /// As it is, from [`SENDING`] at that column.
    pub fn read(row: &dyn Row, first: usize, outlook: Outlook) -> Result<Self> {
        let mode = named(row, first + 1, DeliveryMode::from_name)?.ok_or_else(|| bad("delivery_mode"))?;
        Ok(Self {
            is_delivering: row.flag(first)? && !outlook.is_paused,
            is_ordered: mode == DeliveryMode::Ordered,
            pause: pause_at(row, first + 2)?.filter(|pause| pause.until > outlook.now),
        })
    }

    /// True if its receiver is left alone for a while.
    pub fn is_paused(self) -> bool {
        self.pause.is_some()
    }

    /// When a delivery that is due then goes out: not as long as nothing of its
    /// webhook is sent, and not before a pause is over. An ordered webhook's
    /// retries are their own probes of an open breaker.
    pub fn goes_out_at(self, due_at: Option<Timestamp>, is_retry: bool) -> Option<Timestamp> {
        let is_probe = self.is_ordered && is_retry;
        let pause = self.pause.filter(|pause| !(is_probe && pause.reason == PauseReason::Failures));
        due_at.max(pause.map(|pause| pause.until)).filter(|_| self.is_delivering)
    }
}

/// A delivery for its owner, with what is known of its webhook at that time.
pub fn delivery(row: &dyn Row, outlook: Outlook) -> Result<Delivery> {
    let sending = Sending::read(row, 11, outlook)?;
    let state = state_at(row, 4)?;
    let (attempts, due_at, policy_start) = (row.count(5)?, row.time_if(7)?, row.count(10)?);
    let is_to_be_sent = due_at.is_some() || state == DeliveryState::Pending;
    let goes_out_at = sending.goes_out_at(due_at, due_at.is_some() && attempts > policy_start);
    Ok(Delivery {
        webhook_id: WebhookId(row.int(0)?),
        increment_id: IncrementId(row.int(1)?),
        event_id: EventId(row.int(2)?.abs()),
        topic: topic_if(row, 3)?,
        state,
        attempts,
        created_at: row.time(6)?,
        next_attempt_at: goes_out_at.filter(|_| is_to_be_sent),
        ended_at: row.time_if(8)?,
        reason: reason_at(row, 9)?,
    })
}
