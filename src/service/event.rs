//! Publishing.

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::event::{IdempotencyKey, Message, NewEvent, Receipt};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::user::Permission;

/// An event as a caller describes it, before anything was checked.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// `word:word`.
    pub topic: String,
    /// JSON text without white space around it.
    pub message: Box<str>,
    /// RFC 3339; `None`: now.
    pub created_at: Option<String>,
    /// Makes a repetition harmless.
    pub idempotency_key: Option<String>,
}

const PUBLISH: Failures = Failures { refused: FaultCode::EventRefused, failed: FaultCode::Internal };

impl Service {
    /// Accepts an event: when this answers, it and its numbered deliveries are
    /// on disk. Fails with fault 107, 108 or 109.
    pub async fn publish(&self, caller: &Caller, draft: EventDraft) -> Result<Receipt, Fault> {
        let without_index = |fault: Fault| Fault { index: None, ..fault };
        let receipts = self.publish_many(caller, vec![draft]).await.map_err(without_index)?;
        receipts.into_iter().next().ok_or_else(|| FaultCode::Internal.into())
    }

    /// Accepts events, all or none; a fault names the index of the event.
    pub async fn publish_many(&self, caller: &Caller, drafts: Vec<EventDraft>) -> Result<Vec<Receipt>, Fault> {
        caller.check(Permission::EventWrite)?;
        let max = self.config.events_max;
        if drafts.len() > max {
            let problem = format!("{} events are too many for one call; up to {max} are allowed.", drafts.len());
            return Err(Violation::new("events", problem).into_fault(FaultCode::InvalidEvent));
        }
        let now = self.clock.now();
        let check = |(index, draft)| {
            check_draft(draft, now).map_err(|violation| violation.into_fault(FaultCode::InvalidEvent).index(index))
        };
        let events = drafts.into_iter().enumerate().map(check).collect::<Result<Vec<_>, _>>()?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.store.publish(caller.merchant_id, events).await.map_err(|cause| PUBLISH.fault(cause))
    }
}

fn check_draft(draft: EventDraft, now: Timestamp) -> Result<NewEvent, Violation> {
    let topic = Topic::try_new(&draft.topic)?;
    if topic.is_reserved() {
        let problem = format!("{topic} is reserved for the server; publish under a resource of your own.");
        return Err(Violation::new("topic", problem));
    }
    let created_at = match draft.created_at {
        None => now,
        Some(text) => Timestamp::parse_rfc3339(&text).ok_or_else(|| {
            Violation::new("created_at", "is no RFC 3339 time from 1970 on, such as 2026-11-22T03:04:05.678Z.")
        })?,
    };
    Ok(NewEvent {
        topic,
        message: Message::try_new(&draft.message)?,
        created_at,
        idempotency_key: draft.idempotency_key.map(|text| IdempotencyKey::try_new(&text)).transpose()?,
    })
}
