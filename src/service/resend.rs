//! Sending again, not sending any more, and sending for a test.

use std::time::Duration;

use super::caller::Caller;
use super::delivery::{CHANGE, DeliverySelection, about_number, check_selection};
use super::event::read_time;
use super::webhook::{UPDATE, about};
use super::{Failures, Service};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, DeliveryState};
use crate::domain::event::{EventFilter, Message};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::job::Job;
use crate::domain::topic::Patterns;
use crate::domain::user::Permission;
use crate::domain::webhook::DeliveryMode;
use crate::store::DeliveryAlteration;
use crate::store::resending::{Backfilled, Replayed};
use crate::work::READ_AT_ONCE_MAX;

/// What a test sends unless its caller says otherwise.
const TEST_MESSAGE: &str = "{}";
/// How much longer than an attempt may take its outcome is waited for: it has
/// to be recorded, too.
const TEST_PATIENCE: Duration = Duration::from_secs(5);

/// Which numbers of a webhook to send again, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The first; by default the first of all.
    pub from_increment_id: Option<i64>,
    /// The last; by default the last of all.
    pub to_increment_id: Option<i64>,
    /// Only what was numbered from this RFC 3339 time on.
    pub since: Option<String>,
    /// Only what was numbered before this one.
    pub until: Option<String>,
    /// Only those in the state of this name; by default all but cancelled ones.
    pub state: Option<String>,
    /// All there are, if none of the numbers and times is given.
    pub all: bool,
}

/// Which deliveries to send again, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct RetryMany {
    /// Of this webhook; by default of all.
    pub webhook_id: Option<i64>,
    /// Those in the state of this name; by default abandoned ones.
    pub state: Option<String>,
    /// Only those of events of these topics: patterns with commas between them.
    pub topics: Option<String>,
    /// Only what was numbered from this RFC 3339 time on.
    pub since: Option<String>,
    /// Only what was numbered before this one.
    pub until: Option<String>,
    /// All there are, if neither a webhook, nor topics, nor a time is given.
    pub all: bool,
}

/// Which stored events to number for a webhook, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct Backfill {
    /// Patterns with commas between them; by default the webhook's own.
    pub topics: Option<String>,
    /// Only what was published from this RFC 3339 time on.
    pub since: Option<String>,
    /// Only what was published before this one.
    pub until: Option<String>,
    /// All there are, if neither topics nor a time is given.
    pub all: bool,
}

/// What came of a test.
#[derive(Clone, Debug)]
pub struct Tested {
    /// Its delivery, as it is after the first attempt.
    pub delivery: Delivery,
    /// The first attempt; `None` if it did not end in time.
    pub attempt: Option<Attempt>,
}

impl Service {
    /// Has a delivery sent now, whatever has become of it and whatever holds up
    /// the others, and returns it; what was delivered stays so. In an ordered
    /// webhook those before it go first. Fails with fault 103, 110 or 113.
    pub async fn retry_delivery(&self, caller: &Caller, id: WebhookId, number: IncrementId) -> Result<Delivery, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let retried = self.store.alter_delivery(caller.author(), id, number, DeliveryAlteration::Retry).await;
        retried.map_err(|cause| about_number(id, number, CHANGE.fault(cause)))?;
        let delivery = self.delivery(caller, id, number).await?;
        let webhook = self.store.webhook(caller.merchant(), id).await;
        let webhook = webhook.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        let is_first = match webhook.spec.delivery_mode {
            DeliveryMode::Parallel => true,
            DeliveryMode::Ordered => number <= webhook.settled_through.next(),
            DeliveryMode::Pull => false,
        };
        let is_to_be_sent =
            (delivery.state == DeliveryState::Pending || delivery.next_attempt_at.is_some()) && !self.config.is_paused;
        let is_to_be_sent = is_to_be_sent && caller.merchant_terms.paused_at.is_none();
        let next_attempt_at = if is_first && is_to_be_sent { Some(self.clock.now()) } else { delivery.next_attempt_at };
        Ok(Delivery { next_attempt_at, ..delivery })
    }

    /// Ends a pending delivery, and returns it. One of a batch can be ended
    /// only with the whole batch. Fails with fault 103, 110 or 113.
    pub async fn cancel_delivery(
        &self,
        caller: &Caller,
        id: WebhookId,
        number: IncrementId,
        whole_batch: bool,
    ) -> Result<Delivery, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let what = DeliveryAlteration::Cancel { whole_batch };
        let cancelled = self.store.alter_delivery(caller.author(), id, number, what).await;
        cancelled.map_err(|cause| about_number(id, number, CHANGE.fault(cause)))?;
        self.delivery(caller, id, number).await
    }

    /// Ends a pending delivery, and forgets what it sent and got, whatever has
    /// become of it; the number stays, with state, reason and times. Its event
    /// goes, too, once no other delivery of it is to be sent. One that went out
    /// in a batch can't be forgotten alone. Fails with fault 103, 110, also if
    /// it was forgotten before, or 113, and with fault 2 of a token that is confined:
    /// the event is others', too.
    pub async fn forget_delivery(&self, caller: &Caller, id: WebhookId, number: IncrementId) -> Result<(), Fault> {
        caller.check(Permission::WebhookWrite)?;
        let forgotten = self.store.alter_delivery(caller.by()?, id, number, DeliveryAlteration::Forget).await;
        forgotten.map_err(|cause| match CHANGE.fault(cause) {
            fault if fault.code == FaultCode::NoDelivery => {
                fault.detail(format!("Webhook {id} has given out no number {number}, or has forgotten it."))
            }
            fault => about(id, fault),
        })
    }

    /// Has numbers that were given out sent again: the same numbers, ids and
    /// bodies. What was cancelled stays so, unless that state is asked for. They
    /// become due in steps. Fails with fault 103, 111 or 112.
    pub async fn replay(&self, caller: &Caller, id: WebhookId, replay: Replay) -> Result<Replayed, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let (span, filter) =
            check_replay(replay).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let replayed = self.store.replay(caller.author(), id, span, filter).await;
        replayed.map_err(|cause| about(id, UPDATE.fault(cause)))
    }

    /// The same with what a filter admits of one webhook or of all; returns what
    /// does it. Fails with fault 103, 111 or 112.
    pub async fn retry_many(&self, caller: &Caller, said: RetryMany) -> Result<Job, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let RetryMany { webhook_id, state, topics, since, until, all } = said;
        let is_said = webhook_id.is_some() || topics.is_some() || since.is_some() || until.is_some();
        let checked = check_all(is_said, all, "webhook_id, topics, since or until").and_then(|()| {
            let state = state.or_else(|| Some(DeliveryState::Abandoned.name().to_owned()));
            check_selection(DeliverySelection { state, topics, since, until, without_forgotten: false })
        });
        let filter = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let id = webhook_id.map(WebhookId);
        let by = match id {
            Some(_) => caller.author(),
            None => caller.by()?,
        };
        let queued = self.store.retry_many(by, id, filter).await;
        queued.map_err(|cause| match id {
            Some(id) => about(id, UPDATE.fault(cause)),
            None => UPDATE.fault(cause),
        })
    }

    /// Gives the merchant's stored events new numbers of a webhook, in steps,
    /// whether it had them before or not. Fails with fault 103, 111 or 112.
    pub async fn backfill(&self, caller: &Caller, id: WebhookId, backfill: Backfill) -> Result<Backfilled, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let Backfill { topics, since, until, all } = backfill;
        let is_said = topics.is_some() || since.is_some() || until.is_some();
        let checked = || {
            check_all(is_said, all, "topics, since or until")?;
            let topics = topics.map(|text| Patterns::try_new(&text)).transpose()?;
            Ok(EventFilter { topics, since: read_time("since", since)?, until: read_time("until", until)?, only: None })
        };
        let filter = checked().map_err(|violation: Violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let queued = self.store.backfill(caller.author(), id, filter).await;
        queued.map_err(|cause| about(id, UPDATE.fault(cause)))
    }

    /// Sends a webhook a numbered test event at once, even while it is off,
    /// and waits for the first outcome. Fails with fault 103, 107, 112 or 126.
    pub async fn test_webhook(&self, caller: &Caller, id: WebhookId, message: Option<&str>) -> Result<Tested, Fault> {
        caller.check(Permission::WebhookWrite)?;
        caller.check_running()?;
        let (message, depth_max) = (message.unwrap_or(TEST_MESSAGE).to_owned(), self.config.message_depth_max);
        let is_long = message.len() > READ_AT_ONCE_MAX;
        let check = move || Message::try_new_within(&message, depth_max);
        let message = if is_long { self.apart(caller, check).await? } else { check() };
        let message = message.map_err(|violation| violation.into_fault(FaultCode::InvalidEvent))?;
        let by = caller.author();
        let webhook = self.store.webhook(by.merchant, id).await;
        let webhook = webhook.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        if webhook.spec.delivery_mode == DeliveryMode::Pull {
            return Err(Fault::new(FaultCode::WebhookNotChanged)
                .detail("Its receiver pulls, so there is nothing to post to; use delivery.pull."));
        }
        if self.config.is_paused {
            return Err(Fault::new(FaultCode::WebhookNotChanged)
                .detail("The server was started with --paused, and sends nothing until it is started without."));
        }
        // Whichever node sends it, what comes of it is heard here.
        let _wanted = self.store.feed().want(by.merchant);
        self.store.hear(by.merchant).await.map_err(|cause| about(id, UPDATE.fault(cause)))?;
        let tested = self.store.test(by.clone(), id, message).await;
        let number = tested.map_err(|cause| about(id, UPDATE.fault(cause)))?;

        let deadline = tokio::time::Instant::now() + webhook.spec.timeouts().total + TEST_PATIENCE;
        let mut is_closing = self.is_closing.subscribe();
        let attempt = loop {
            let recorded = self.store.waits().next_attempt(id, number);
            let attempts = self.store.attempts(by.merchant, id, number, 0, 1).await;
            let attempts = attempts.map_err(|cause| about_number(id, number, Failures::LOOK_UP.fault(cause)))?;
            if let Some(first) = attempts.into_iter().next() {
                break Some(first);
            }
            tokio::select! {
                () = recorded => {}
                // Fails only if the sender is gone, and that is this service.
                _ = is_closing.wait_for(|is_closing| *is_closing) => break None,
                () = tokio::time::sleep_until(deadline) => break None,
            }
        };
        let caller = self.check_again(caller).await?;
        caller.check(Permission::WebhookWrite)?;
        Ok(Tested { delivery: self.delivery(&caller, id, number).await?, attempt })
    }
}

fn check_replay(replay: Replay) -> Result<(Span, DeliveryFilter), Violation> {
    let Replay { from_increment_id: from, to_increment_id: to, since, until, state, all } = replay;
    let is_said = from.is_some() || to.is_some() || since.is_some() || until.is_some();
    check_all(is_said, all, "from_increment_id, to_increment_id, since or until")?;
    let number = |field, number: Option<i64>, default| match number {
        Some(number) if number < 1 => Err(Violation::new(field, format!("{number} is below 1, the first number."))),
        number => Ok(IncrementId(number.unwrap_or(default))),
    };
    let first = number("from_increment_id", from, 1)?;
    let last = number("to_increment_id", to, i64::MAX)?;
    if last < first {
        return Err(Violation::new("to_increment_id", format!("{last} lies before from_increment_id, {first}.")));
    }
    Ok((
        Span { first, last },
        check_selection(DeliverySelection { state, topics: None, since, until, without_forgotten: false })?,
    ))
}

/// Whoever says nothing may not know that this is everything.
fn check_all(is_said: bool, all: bool, others: &str) -> Result<(), Violation> {
    match is_said || all {
        true => Ok(()),
        false => Err(Violation::new("all", format!("is missing; give it as true to mean everything, or {others}."))),
    }
}
