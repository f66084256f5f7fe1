//! Publishing.

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::event::{EventStory, IdempotencyKey, Message, NewEvent, Receipt};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{EventId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, Webhook};

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

    /// An event and its deliveries, as many as a list may have; fails with
    /// fault 114.
    pub async fn get_event(&self, caller: &Caller, id: EventId) -> Result<EventStory, Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.event(caller.merchant_id, id, self.config.list_limit_max).await;
        found.map_err(|cause| match Failures::LOOK_UP.fault(cause) {
            fault if fault.code == FaultCode::NoEvent => fault.detail(format!("There is no event {id}, or no more.")),
            fault => fault,
        })
    }

    /// Which webhooks an event of that topic would reach, and why not the
    /// others, in the order of their ids; nothing is published. Fails with
    /// fault 107.
    pub async fn explain(&self, caller: &Caller, topic: &str) -> Result<Vec<Explanation>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let topic = Topic::try_new(topic).map_err(|violation| violation.into_fault(FaultCode::InvalidEvent))?;
        let webhooks = self.list_webhooks(caller).await?;
        Ok(webhooks.iter().map(|webhook| Explanation::new(webhook, &topic)).collect())
    }
}

/// What a webhook would do with an event.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// What would become of it there.
    pub reach: Reach,
    /// The first entry of its list that matches, whether it is on or not.
    pub pattern: Option<String>,
}

/// Whether an event reaches a webhook, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is numbered and posted.
    Delivered,
    /// It is numbered, and waits for the receiver to pull it.
    Pulled,
    /// It is numbered, and waits until the webhook is enabled.
    Disabled,
    /// It is not numbered, for the webhook is off.
    Inactive,
    /// It is not numbered, for nothing in the webhook's list matches.
    NotSubscribed,
}

impl Reach {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Pulled, Self::Disabled, Self::Inactive, Self::NotSubscribed];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Pulled => "pulled",
            Self::Disabled => "disabled",
            Self::Inactive => "inactive",
            Self::NotSubscribed => "not_subscribed",
        }
    }

    /// True if the event is numbered there.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Delivered | Self::Pulled | Self::Disabled)
    }
}

impl Explanation {
    fn new(webhook: &Webhook, topic: &Topic) -> Self {
        let spec = &webhook.spec;
        let pattern = spec.topics.list().iter().find(|pattern| pattern.matches(topic)).map(ToString::to_string);
        let reach = match &pattern {
            None => Reach::NotSubscribed,
            Some(_) if !spec.is_active => Reach::Inactive,
            Some(_) if webhook.disabled.is_some() => Reach::Disabled,
            Some(_) if spec.delivery_mode == DeliveryMode::Pull => Reach::Pulled,
            Some(_) => Reach::Delivered,
        };
        Self { webhook_id: webhook.webhook_id, reach, pattern }
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
