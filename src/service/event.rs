//! Publishing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::event::{EventFilter, EventStory, EventSummary, IdempotencyKey, Message, NewEvent, Receipt};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{EventId, WebhookId};
use crate::domain::labels::Labels;
use crate::domain::message_schema::Mismatch;
use crate::domain::page::{Slice, read_sort};
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::domain::trace::TraceParent;
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, Webhook};
use crate::store::StoreError;
use crate::work::READ_AT_ONCE_MAX;

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
    /// Of which trace it is a part; what is not valid counts as nothing.
    pub traceparent: Option<String>,
    /// For whom it is.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Which events, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct EventSelection {
    /// Patterns with commas between them.
    pub topics: Option<String>,
    /// Only what was accepted from this RFC 3339 time on.
    pub since: Option<String>,
    /// Only what was accepted before this RFC 3339 time.
    pub until: Option<String>,
    /// Only what was published with this key, as long as that counts.
    pub idempotency_key: Option<String>,
}

/// Which part of a list of events, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// Only those behind this one.
    pub after_event_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// What events may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["event_id"];
/// How many events a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

const PUBLISH: Failures = Failures { refused: FaultCode::EventRefused, failed: FaultCode::Internal };

impl Service {
    /// Accepts an event: when this answers, it and its numbered deliveries are
    /// on disk. Fails with fault 107, 108, 109, 126, 129 or 130.
    pub async fn publish(&self, caller: &Caller, draft: EventDraft) -> Result<Published, Fault> {
        let published = self.publish_many(caller, vec![draft]).await.map_err(without_index)?;
        published.into_iter().next().ok_or_else(|| FaultCode::Internal.into())
    }

    /// Accepts events, all or none; a fault names the index of the event.
    pub async fn publish_many(&self, caller: &Caller, drafts: Vec<EventDraft>) -> Result<Vec<Published>, Fault> {
        let began = self.tracer.begin();
        let accepted = match self.check_drafts(caller, drafts).await {
            Ok((events, mismatches)) => self.accept(caller, events, mismatches, began).await,
            Err(fault) => {
                self.tracer.refused(began, caller.trace(), caller.merchant(), fault.code);
                Err(fault)
            }
        };
        accepted.inspect_err(|fault| self.refused_publishes.count(fault.code))
    }

    /// The events, as far as they can be accepted without the store, and what is wrong with their
    /// messages all the same.
    async fn check_drafts(
        &self,
        caller: &Caller,
        drafts: Vec<EventDraft>,
    ) -> Result<(Vec<NewEvent>, Vec<Option<Mismatch>>), Fault> {
        caller.check(Permission::EventWrite)?;
        caller.check_running()?;
        let max = self.config.events_max;
        if drafts.len() > max {
            let problem = format!("{} events are too many for one call; up to {max} are allowed.", drafts.len());
            return Err(Violation::new("events", problem).into_fault(FaultCode::InvalidEvent));
        }
        let (now, depth_max, trace) = (self.clock.now(), self.config.message_depth_max, caller.trace());
        let check = move |(index, draft)| {
            check_draft(draft, now, depth_max, trace)
                .map_err(|violation| violation.into_fault(FaultCode::InvalidEvent).index(index))
        };
        let is_long = drafts.iter().map(|draft| draft.message.len()).sum::<usize>() > READ_AT_ONCE_MAX;
        let check_all = move || drafts.into_iter().enumerate().map(check).collect::<Result<Vec<_>, _>>();
        let events = if is_long { self.apart(caller, check_all).await?? } else { check_all()? };
        if events.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let checked = self.check_events(caller.everywhere()?, events).await;
        checked.map_err(|fault| fault.or_refused(FaultCode::EventRefused))
    }

    /// Has the store accept them.
    async fn accept(
        &self,
        caller: &Caller,
        mut events: Vec<NewEvent>,
        mismatches: Vec<Option<Mismatch>>,
        began: Option<SystemTime>,
    ) -> Result<Vec<Published>, Fault> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.check_pending(caller).await.map_err(|fault| fault.or_refused(FaultCode::EventRefused))?;
        let (by, quota) = (caller.by()?, caller.merchant_terms.quotas.events_per_day);
        let spans = self.tracer.publishing(began, by.merchant, &mut events);
        let published = self.store.publish_within(by, events, quota).await;
        let receipts = published.map_err(|cause| match cause {
            StoreError::EventQuota { ends_at, .. } => PUBLISH.fault(cause).retry_after(ends_at.since(self.clock.now())),
            cause => PUBLISH.fault(cause),
        });
        if let Some(spans) = spans {
            self.tracer.published(spans, receipts.as_deref().map_err(|fault| fault.code));
        }
        let receipts = receipts?;
        self.count_pending(caller, receipts.iter().map(|receipt| receipt.deliveries.len()).sum());
        self.metrics.events.inc_by(receipts.len() as u64);
        let published = receipts.into_iter().zip(mismatches);
        Ok(published.map(|(receipt, mismatch)| Published { receipt, mismatch }).collect())
    }

    /// Events of the merchant by id, without their messages. Fails with fault 111.
    pub async fn list_events(
        &self,
        caller: &Caller,
        selection: EventSelection,
        page: EventPage,
    ) -> Result<Vec<EventSummary>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = read_sort(page.sort.as_deref(), &SORT_KEYS).and_then(|(_, order)| {
            let limit = self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?;
            Ok(Slice { after: page.after_event_id.map(EventId), order, limit })
        });
        let slice = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let filter = self.selected_events(caller, selection).await?;
        let found = self.store.events(caller.everywhere()?, filter, slice).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How many events there are. Fails with fault 111.
    pub async fn count_events(&self, caller: &Caller, selection: EventSelection) -> Result<u64, Fault> {
        caller.check(Permission::WebhookRead)?;
        let filter = self.selected_events(caller, selection).await?;
        let count = self.store.count_events(caller.everywhere()?, filter).await;
        count.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How many events a list holds. Fails with fault 111.
    pub fn list_limit(&self, limit: Option<i64>) -> Result<u32, Fault> {
        let checked = self.check_limit(limit, LIST_LIMIT_DEFAULT);
        checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))
    }

    /// What a caller selects, checked. Fails with fault 111.
    pub(super) async fn selected_events(
        &self,
        caller: &Caller,
        selection: EventSelection,
    ) -> Result<EventFilter, Fault> {
        let EventSelection { topics, since, until, idempotency_key } = selection;
        let check = || -> Result<_, Violation> {
            let topics = topics.map(|topics| Patterns::try_new(&topics)).transpose()?;
            let (since, until) = (read_time("since", since)?, read_time("until", until)?);
            let key = idempotency_key.map(|key| IdempotencyKey::try_new(&key)).transpose()?;
            Ok((EventFilter { topics, since, until, only: None }, key))
        };
        let (filter, key) = check().map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let Some(key) = key else { return Ok(filter) };
        let keyed = self.store.keyed_event(caller.everywhere()?, key).await;
        // No event has the number 0.
        let only = keyed.map_err(|cause| Failures::LOOK_UP.fault(cause))?.unwrap_or(EventId(0));
        Ok(EventFilter { only: Some(only), ..filter })
    }

    /// An event and its deliveries, as many as a list may have; fails with
    /// fault 114.
    pub async fn get_event(&self, caller: &Caller, id: EventId) -> Result<EventStory, Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.event(caller.everywhere()?, id, self.config.list_limit_max).await;
        found.map_err(|cause| match Failures::LOOK_UP.fault(cause) {
            fault if fault.code == FaultCode::NoEvent => fault.detail(format!("There is no event {id}, or no more.")),
            fault => fault,
        })
    }

    /// Which webhooks an event of that topic, and with these labels, would reach, and why not the
    /// others, in the order of their ids; nothing is published. With a message,
    /// fails as [`Self::publish`] would at it: with fault 107.
    pub async fn explain(
        &self,
        caller: &Caller,
        topic: &str,
        message: Option<&str>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Result<Vec<Explanation>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let invalid = |violation: Violation| violation.into_fault(FaultCode::InvalidEvent);
        let labels = labels.map(Labels::try_new).transpose().map_err(invalid)?;
        let topic = Topic::try_new(topic).map_err(invalid)?;
        if let Some(message) = message {
            let (topic, message) = (topic.to_string(), message.into());
            let draft =
                EventDraft { topic, message, created_at: None, idempotency_key: None, traceparent: None, labels: None };
            let (now, depth_max) = (self.clock.now(), self.config.message_depth_max);
            let is_long = draft.message.len() > READ_AT_ONCE_MAX;
            let check = move || check_draft(draft, now, depth_max, None).map_err(invalid);
            let event = if is_long { self.apart(caller, check).await?? } else { check()? };
            self.check_events(caller.merchant(), vec![event]).await.map_err(without_index)?;
        }
        self.pick_webhooks(caller, |webhook| Some(Explanation::new(webhook, &topic, labels.as_ref()))).await
    }
}

/// An event that was accepted.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its id and its numbers.
    pub receipt: Receipt,
    /// Why its message does not fit its topic's schema, if it was accepted all the same.
    pub mismatch: Option<Mismatch>,
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
    /// It is not numbered, for a label of the webhook is none of its own.
    LabelsDiffer,
    /// It is not numbered, for nothing in the webhook's list matches.
    NotSubscribed,
}

impl Reach {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Delivered, Self::Pulled, Self::Disabled, Self::Inactive, Self::LabelsDiffer, Self::NotSubscribed];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Pulled => "pulled",
            Self::Disabled => "disabled",
            Self::Inactive => "inactive",
            Self::LabelsDiffer => "labels_differ",
            Self::NotSubscribed => "not_subscribed",
        }
    }

    /// True if the event is numbered there.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Delivered | Self::Pulled | Self::Disabled)
    }
}

impl Explanation {
    fn new(webhook: &Webhook, topic: &Topic, labels: Option<&Labels>) -> Self {
        let spec = &webhook.spec;
        let pattern = spec.topics.list().iter().find(|pattern| pattern.matches(topic)).map(ToString::to_string);
        let reach = match &pattern {
            None => Reach::NotSubscribed,
            Some(_) if labels.is_some_and(|labels| !spec.labels.are_all_in(labels)) => Reach::LabelsDiffer,
            Some(_) if !spec.is_active => Reach::Inactive,
            Some(_) if webhook.disabled.is_some() => Reach::Disabled,
            Some(_) if spec.delivery_mode == DeliveryMode::Pull => Reach::Pulled,
            Some(_) => Reach::Delivered,
        };
        Self { webhook_id: webhook.webhook_id, reach, pattern }
    }
}

fn without_index(fault: Fault) -> Fault {
    Fault { index: None, ..fault }
}

/// Reads an RFC 3339 time.
pub(super) fn read_time(field: &'static str, text: Option<String>) -> Result<Option<Timestamp>, Violation> {
    let problem = "is no RFC 3339 time from 1970 on, such as 2026-11-22T03:04:05.678Z.";
    text.map(|text| Timestamp::parse_rfc3339(&text).ok_or_else(|| Violation::new(field, problem))).transpose()
}

/// The event, which is of the `trace` of its request unless it names one of its own.
fn check_draft(
    draft: EventDraft,
    now: Timestamp,
    depth_max: usize,
    trace: Option<TraceParent>,
) -> Result<NewEvent, Violation> {
    let topic = Topic::try_new(&draft.topic)?;
    if topic.is_reserved() {
        let problem = format!("{topic} is reserved for the server; publish under a resource of your own.");
        return Err(Violation::new("topic", problem));
    }
    let created_at = read_time("created_at", draft.created_at)?.unwrap_or(now);
    Ok(NewEvent {
        topic,
        message: Message::try_new_within(&draft.message, depth_max)?,
        created_at,
        idempotency_key: draft.idempotency_key.map(|text| IdempotencyKey::try_new(&text)).transpose()?,
        labels: draft.labels.map(Labels::try_new).transpose()?.map(Arc::new),
        trace: draft.traceparent.and_then(|text| TraceParent::try_new(text.as_bytes())).or(trace),
    })
}
