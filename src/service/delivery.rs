//! Looking at deliveries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::caller::Caller;
use super::event::read_time;
use super::webhook::about;
use super::{Failures, Service};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, DeliveryState, StateCounts};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::page::{Order, Slice, read_sort};
use crate::domain::topic::Patterns;
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, Webhook};
use crate::metrics::Limit;
use crate::render;
use crate::store::{Contents, PageLimit, Parcel, Pulled, StoreError};

/// What deliveries may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["increment_id"];
/// How many deliveries a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

/// How many numbers a pull brings if its caller does not say.
const PULL_LIMIT_DEFAULT: u32 = 100;
/// The most bytes of messages in one pull; one number always fits.
const PULL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So much of them is read at once, and one number.
const PULLED_AT_ONCE: usize = 100;
const PULL_BYTES_AT_ONCE: usize = 256 * 1024;

/// Of so many deliveries at the most what they sent and got is read at once.
const CONTENTS_AT_ONCE: usize = 250;

/// Those of changes to deliveries.
pub(super) const CHANGE: Failures =
    Failures { refused: FaultCode::DeliveryNotChanged, failed: FaultCode::DeliveryNotChanged };

/// What to pull, as a caller says it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pull {
    /// Only numbers above this one.
    pub after_increment_id: Option<i64>,
    /// At most so many.
    pub limit: Option<i64>,
    /// How long to wait for the first, in milliseconds, if there is none.
    pub wait_ms: Option<i64>,
}

/// A pull that has begun.
#[derive(Debug)]
pub struct Pulling {
    caller: Caller,
    webhook: Arc<Webhook>,
    /// All up to this number has been given, or is not asked for.
    after: IncrementId,
    /// How many more.
    left: usize,
    /// What has been given, in bytes.
    bytes: usize,
    read: VecDeque<Pulled>,
}

/// A number as its receiver would have got it, signed now.
#[derive(Clone, Debug)]
pub struct PulledDelivery {
    /// The number.
    pub increment_id: IncrementId,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// The `webhook-id`.
    pub message_id: String,
    /// The `webhook-timestamp`, in seconds.
    pub timestamp: i64,
    /// The `webhook-signature`; `None` without a body.
    pub signature: Option<String>,
    /// The `tallyhook-event-id`; `None` without a body.
    pub event_name: Option<String>,
    /// The body, byte for byte as it is posted; `None` if it was pruned.
    pub body: Option<String>,
}

/// Which part of a list of attempts, as a caller says it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptPage {
    /// Only those behind this one.
    pub after_attempt: Option<i64>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// A delivery, with what it sent and got.
#[derive(Clone, Debug)]
pub struct DeliveryContents {
    /// The delivery.
    pub delivery: Delivery,
    /// What it sent and got.
    pub contents: Contents,
}

/// Which deliveries of a webhook, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct DeliverySelection {
    /// Only those in the state of this name.
    pub state: Option<String>,
    /// Patterns with commas between them.
    pub topics: Option<String>,
    /// Only what was numbered from this RFC 3339 time on.
    pub since: Option<String>,
    /// Only what was numbered before this RFC 3339 time.
    pub until: Option<String>,
    /// Without those that were forgotten.
    pub without_forgotten: bool,
}

/// Which part of a list of deliveries, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPage {
    /// Only numbers behind this one.
    pub after_increment_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Service {
    /// Deliveries of a webhook in the order of their numbers. Fails with fault
    /// 103 or 111.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        id: WebhookId,
        selection: DeliverySelection,
        page: DeliveryPage,
    ) -> Result<Vec<Delivery>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = check_selection(selection).and_then(|filter| {
            let (_, order) = read_sort(page.sort.as_deref(), &SORT_KEYS)?;
            let after = page.after_increment_id.map(|after| check_after(Some(after))).transpose()?;
            Ok((filter, Slice { after, order, limit: self.check_limit(page.limit, LIST_LIMIT_DEFAULT)? }))
        });
        let (filter, slice) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.deliveries(self.within(caller, id).await?, id, filter, slice).await;
        found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// How many deliveries of a webhook there are. Fails with fault 103 or 111.
    pub async fn count_deliveries(
        &self,
        caller: &Caller,
        id: WebhookId,
        selection: DeliverySelection,
    ) -> Result<u64, Fault> {
        caller.check(Permission::WebhookRead)?;
        let filter =
            check_selection(selection).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let counts = self.store.count_deliveries(self.within(caller, id).await?, id, filter).await;
        counts.map(StateCounts::total).map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// What the first of these deliveries of a webhook sent and got last: until
    /// that is `bytes_max`, and of one at least. Takes them out of the list. Fails
    /// with fault 103.
    pub async fn contents_of(
        &self,
        caller: &Caller,
        id: WebhookId,
        deliveries: &mut VecDeque<Delivery>,
        bytes_max: usize,
    ) -> Result<Vec<DeliveryContents>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let numbers = deliveries.iter().take(CONTENTS_AT_ONCE).map(|delivery| delivery.increment_id).collect();
        let found = self.store.contents(self.within(caller, id).await?, id, numbers, bytes_max).await;
        let found = found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        let count = found.len().min(deliveries.len());
        let contents = deliveries.drain(..count).zip(found);
        Ok(contents.map(|(delivery, contents)| DeliveryContents { delivery, contents }).collect())
    }

    /// One delivery. Fails with fault 103 or 110.
    pub async fn get_delivery(&self, caller: &Caller, id: WebhookId, number: IncrementId) -> Result<Delivery, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.delivery(caller, id, number).await
    }

    /// The same, for whoever may change it.
    pub(super) async fn delivery(
        &self,
        caller: &Caller,
        id: WebhookId,
        number: IncrementId,
    ) -> Result<Delivery, Fault> {
        let missing = || about_number(id, number, FaultCode::NoDelivery.into());
        let before = number.0.checked_sub(1).filter(|before| *before >= 0).map(IncrementId).ok_or_else(missing)?;
        let slice = Slice { after: Some(before), order: Order::Ascending, limit: 1 };
        let found = self.store.deliveries(self.within(caller, id).await?, id, DeliveryFilter::default(), slice).await;
        let found = found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        found.into_iter().next().filter(|delivery| delivery.increment_id == number).ok_or_else(missing)
    }

    /// One attempt at a delivery, from 1. Fails with fault 103, 110 or 115.
    pub async fn get_attempt(
        &self,
        caller: &Caller,
        id: WebhookId,
        number: IncrementId,
        attempt: i64,
    ) -> Result<Attempt, Fault> {
        caller.check(Permission::WebhookRead)?;
        let missing = format!("Delivery {number} of webhook {id} has no attempt {attempt} on record.");
        // 0 is none, too.
        let attempt = u32::try_from(attempt).unwrap_or(0);
        let found = self.store.attempts(self.within(caller, id).await?, id, number, attempt.saturating_sub(1), 1).await;
        let own = |found: Vec<Attempt>| found.into_iter().find(|found| found.attempt == attempt);
        let found = found.and_then(|found| own(found).ok_or(StoreError::NoAttempt));
        found.map_err(|cause| match Failures::LOOK_UP.fault(cause) {
            fault if fault.code == FaultCode::NoAttempt => fault.detail(missing),
            fault => about_number(id, number, fault),
        })
    }

    /// The attempts at a delivery in their order. Fails with fault 103, 110 or 111.
    pub async fn list_attempts(
        &self,
        caller: &Caller,
        id: WebhookId,
        number: IncrementId,
        page: AttemptPage,
    ) -> Result<Vec<Attempt>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = || {
            let after = page.after_attempt.unwrap_or(0);
            let problem = || Violation::new("after_attempt", format!("{after} is none; attempts start at 1."));
            Ok((u32::try_from(after).map_err(|_| problem())?, self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?))
        };
        let (after, limit) =
            checked().map_err(|violation: Violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.attempts(self.within(caller, id).await?, id, number, after, limit).await;
        found.map_err(|cause| about_number(id, number, Failures::LOOK_UP.fault(cause)))
    }

    /// Begins to give everything above a number, bodies included and none left
    /// out: how a receiver heals a gap, or gets its deliveries at all. Waits for
    /// the first if there is none yet. Changes nothing, but of a webhook that is
    /// pulled all up to that number is delivered now, which needs the permission
    /// to change webhooks. Fails with fault 103 or 126, or with fault 111, also for a
    /// number that no such pull has brought.
    pub async fn begin_pull(&self, caller: &Caller, id: WebhookId, pull: Pull) -> Result<Pulling, Fault> {
        caller.check(Permission::WebhookRead)?;
        caller.check_running()?;
        let (after, left, wait) =
            self.check_pull(pull).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let (mut caller, mut webhook) = (caller.clone(), self.get_webhook(caller, id).await?);
        if webhook.spec.delivery_mode == DeliveryMode::Pull && after > webhook.acknowledged_through {
            caller.check(Permission::WebhookWrite)?;
            let acknowledged = self.store.acknowledge(caller.author(), id, after).await;
            acknowledged.map_err(|cause| about(id, CHANGE.fault(cause)))?;
        }
        if webhook.last_increment_id <= after && !wait.is_zero() {
            let place = self.waiting_pulls.take(caller.merchant());
            let _place = place.map_err(|fault| self.refused(Limit::WaitingPulls, fault))?;
            let mut is_closing = self.is_closing.subscribe();
            tokio::select! {
                () = self.store.waits().numbered_beyond(id, after) => {}
                // Fails only if the sender is gone, and that is this service.
                _ = is_closing.wait_for(|is_closing| *is_closing) => {}
                () = tokio::time::sleep(wait) => {}
            }
            // Much may have changed: who may read, and what it is signed with.
            caller = self.check_again(&caller).await?;
            caller.check_running()?;
            webhook = self.get_webhook(&caller, id).await?;
        }
        let webhook = Arc::new(webhook);
        Ok(Pulling { caller, webhook, after, left, bytes: 0, read: VecDeque::new() })
    }

    /// The next that a pull gives; `None` at its end.
    pub async fn next_pulled(&self, pulling: &mut Pulling) -> Result<Option<PulledDelivery>, Fault> {
        // Bodies may be longer than their messages; what finds no room comes with the next pull.
        if pulling.left == 0 || pulling.bytes >= PULL_BYTES_MAX {
            return Ok(None);
        }
        let (merchant, id) = (pulling.webhook.merchant_id, pulling.webhook.webhook_id);
        if pulling.read.is_empty() {
            let limit = PageLimit { count: pulling.left.min(PULLED_AT_ONCE), bytes: PULL_BYTES_AT_ONCE };
            let found = self.store.pull(merchant, id, pulling.after, limit).await;
            pulling.read = found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?.into();
        }
        let Some(pulled) = pulling.read.pop_front() else { return Ok(None) };
        let signed = self.signed(&pulling.webhook, pulled).await?;
        pulling.after = signed.increment_id;
        pulling.left -= 1;
        pulling.bytes += signed.body.as_ref().map_or(0, String::len);
        Ok(Some(signed))
    }

    /// Ends a pull that has given all up to this number, which may be
    /// acknowledged from now on.
    pub async fn end_pull(&self, pulling: Pulling, last: Option<IncrementId>) -> Result<(), Fault> {
        let Pulling { caller, webhook, .. } = pulling;
        if let Some(last) = last
            && webhook.spec.delivery_mode == DeliveryMode::Pull
            && last > webhook.pulled_through
            && caller.permissions.allow(Permission::WebhookWrite)
        {
            let by = caller.author();
            let noted = self.store.hand_out(by, webhook.webhook_id, last).await;
            noted.map_err(|cause| about(webhook.webhook_id, CHANGE.fault(cause)))?;
        }
        Ok(())
    }

    async fn signed(&self, webhook: &Arc<Webhook>, pulled: Pulled) -> Result<PulledDelivery, Fault> {
        let Pulled { increment_id, parcel, state } = pulled;
        let message_id = self.store.store_id().message_id(webhook.webhook_id, increment_id);
        let now = self.clock.now();
        let id = message_id.clone();
        let event_name = parcel.as_ref().map(|parcel| render::event_name(self.store.store_id(), parcel));
        let sign = move |webhook: &Webhook, _: &Parcel, body: Bytes| {
            let signature = render::signatures(webhook, &id, now, &body);
            (signature, String::from_utf8_lossy(&body).into_owned())
        };
        let built = match parcel {
            Some(parcel) => self.rendered(webhook, parcel, sign).await?,
            None => None,
        };
        let (signature, body) = built.unzip();
        let (timestamp, event_name) = (now.unix_seconds(), event_name.filter(|_| body.is_some()));
        Ok(PulledDelivery { increment_id, state, message_id, timestamp, signature, event_name, body })
    }

    fn check_pull(&self, pull: Pull) -> Result<(IncrementId, usize, Duration), Violation> {
        let after = check_after(pull.after_increment_id)?;
        let count = self.check_limit(pull.limit, PULL_LIMIT_DEFAULT)?;
        let max_ms = i64::try_from(self.config.pull_wait_max.as_millis()).unwrap_or(i64::MAX);
        let wait_ms = pull.wait_ms.unwrap_or(0);
        let wait = u64::try_from(wait_ms)
            .ok()
            .filter(|_| wait_ms <= max_ms)
            .ok_or_else(|| Violation::new("wait_ms", format!("{wait_ms} is outside 0 to {max_ms}.")))?;
        Ok((after, count as usize, Duration::from_millis(wait)))
    }

    pub(super) fn check_limit(&self, limit: Option<i64>, default: u32) -> Result<u32, Violation> {
        self.check_limit_of(limit, default, self.config.list_limit_max)
    }

    pub(super) fn check_limit_of(&self, limit: Option<i64>, default: u32, max: u32) -> Result<u32, Violation> {
        let Some(limit) = limit else { return Ok(default.min(max)) };
        let fitting = u32::try_from(limit).ok().filter(|limit| (1..=max).contains(limit));
        fitting.ok_or_else(|| Violation::new("limit", format!("{limit} is outside 1 to {max}.")))
    }
}

pub(super) fn check_selection(selection: DeliverySelection) -> Result<DeliveryFilter, Violation> {
    let state = selection.state.map(|name| {
        DeliveryState::from_name(&name).ok_or_else(|| {
            let known = DeliveryState::ALL.map(DeliveryState::name).join(", ");
            Violation::new("state", format!("{name:?} is no state; there are {known}."))
        })
    });
    Ok(DeliveryFilter {
        state: state.transpose()?,
        topics: selection.topics.map(|topics| Patterns::try_new(&topics)).transpose()?,
        since: read_time("since", selection.since)?,
        until: read_time("until", selection.until)?,
        without_forgotten: selection.without_forgotten,
    })
}

/// Names the webhook or the number that does not exist.
pub(super) fn about_number(id: WebhookId, number: IncrementId, fault: Fault) -> Fault {
    match fault.code {
        FaultCode::NoDelivery => fault.detail(format!("Webhook {id} has given out no number {number}.")),
        _ => about(id, fault),
    }
}

fn check_after(after: Option<i64>) -> Result<IncrementId, Violation> {
    let after = after.unwrap_or(0);
    if after < 0 {
        return Err(Violation::new("after_increment_id", format!("{after} is below 0; numbers start at 1.")));
    }
    Ok(IncrementId(after))
}
