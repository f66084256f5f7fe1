//! Looking at the requests that were made, and at what is yet to be sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::caller::Caller;
use super::webhook::about;
use super::{Failures, Service};
use crate::domain::delivery::{AttemptFilter, AttemptKey, Backlog};
use crate::domain::event::{Event, EventFilter};
use crate::domain::fault::Fault;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::policy::Batching;
use crate::domain::topic::Topic;
use crate::domain::user::Permission;
use crate::domain::webhook::Webhook;
use crate::render;
use crate::render::batch::{BATCH_BYTES_MAX, Growth, Head, head};
use crate::render::log::{LOG_HEADERS_CHARS_MAX, log_headers};
use crate::store::attempt_log::LoggedAttempt;
use crate::store::{Content, Parcel, StoreError};

/// A request that was not made yet, as it would be made now.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Its `webhook-id`.
    pub message_id: String,
    /// One `name: value` a line; credentials are redacted.
    pub headers: String,
    /// The body.
    pub body: Bytes,
}

impl Service {
    /// Requests of a webhook as far as they are kept, the last attempt at the
    /// last number first: up to `limit` of those behind `after`. Fails with
    /// fault 103.
    pub async fn list_requests(
        &self,
        caller: &Caller,
        id: WebhookId,
        filter: AttemptFilter,
        after: Option<AttemptKey>,
        limit: usize,
    ) -> Result<Vec<AttemptKey>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.attempt_keys(self.within(caller, id).await?, id, filter, after, limit).await;
        found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// How many deliveries of a webhook were not forgotten, and behind which
    /// number the rest lies when so many of them, the first or the last, are
    /// passed over. Fails with fault 103.
    pub async fn place_behind(
        &self,
        caller: &Caller,
        id: WebhookId,
        passed: usize,
        order: Order,
    ) -> Result<(u64, i64), Fault> {
        let last = self.get_webhook(caller, id).await?.last_increment_id.0;
        let (mut total, mut after) = (last, IncrementId(0));
        while let Some(forgotten) = self.forgotten(caller, id, &mut after).await? {
            total -= i64::try_from(forgotten.len()).unwrap_or(i64::MAX);
        }
        // Numbers have no holes, so the place of a delivery would be its number, were none forgotten.
        let passed = i64::try_from(passed).unwrap_or(i64::MAX).min(total);
        let (mut number, mut after) =
            (if order == Order::Descending { total - passed } else { passed }, IncrementId(0));
        'passing: while let Some(forgotten) = self.forgotten(caller, id, &mut after).await? {
            for own in forgotten {
                if own.0 > number {
                    break 'passing;
                }
                number += 1;
            }
        }
        Ok((total.max(0).unsigned_abs(), if order == Order::Descending { number + 1 } else { number }))
    }

    /// The next numbers that were forgotten, and moves on behind them.
    async fn forgotten(
        &self,
        caller: &Caller,
        id: WebhookId,
        after: &mut IncrementId,
    ) -> Result<Option<Vec<IncrementId>>, Fault> {
        let found = self.store.forgotten(self.within(caller, id).await?, id, *after).await;
        let found = found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        *after = found.last().copied().unwrap_or(*after);
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    /// The first of these requests, in their order, until they weigh so many
    /// bytes, and at least one; says how many of them it has looked at. Those
    /// that are not there, or not any more, are left out. Fails with fault 103.
    pub async fn requests(
        &self,
        caller: &Caller,
        id: WebhookId,
        keys: Vec<AttemptKey>,
        bytes_max: usize,
    ) -> Result<(Vec<LoggedAttempt>, usize), Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.logged_attempts(self.within(caller, id).await?, id, keys, bytes_max).await;
        found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// The body that a request was sent with, as far as it is kept. Fails with
    /// fault 120 if too much of the merchant's waits to be built.
    pub async fn body_of(&self, webhook: &Webhook, request: &LoggedAttempt) -> Result<Option<Bytes>, Fault> {
        let Some(parcel) = request.parcel.clone() else { return Ok(None) };
        self.rendered(&Arc::new(webhook.clone()), parcel, |_, _, body| body).await
    }

    /// The `webhook-id` that a request was sent with.
    pub fn message_id(&self, id: WebhookId, request: &LoggedAttempt) -> String {
        match request.is_batch {
            true => self.store.store_id().batch_id(id, request.numbers),
            false => self.store.store_id().message_id(id, request.numbers.first),
        }
    }

    /// What is to be sent to a webhook, and when. Fails with fault 103.
    pub async fn backlog(&self, caller: &Caller, id: WebhookId) -> Result<Backlog, Fault> {
        caller.check(Permission::WebhookRead)?;
        let backlog = self.store.backlog(self.within(caller, id).await?, id, self.clock.now()).await;
        backlog.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// The first stored events of a topic as they would be sent to a webhook
    /// next, as many as go out in one request; `None` if there are none.
    pub async fn preview(&self, caller: &Caller, webhook: &Webhook, topic: &Topic) -> Result<Option<Preview>, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let waiting = self.first_parcels(caller.everywhere()?, webhook, topic).await;
        let mut waiting = waiting.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let batching = webhook.spec.batch;
        let count = match head(&waiting, batching, Growth::Impossible, self.clock.now()) {
            Some(Head::Whole(count)) => count,
            Some(Head::Growing(_)) | None => return Ok(None),
        };
        let others = waiting.drain(1..).take(count - 1).map(Content::from).collect();
        let Some(first) = waiting.pop_front() else { return Ok(None) };
        let parcel = Parcel { batch: batching.map(|_| others), ..first };
        let store_id = self.store.store_id();
        let (store_id, now) = (store_id.clone(), self.clock.now());
        let show = move |webhook: &Webhook, parcel: &Parcel, body: Bytes| {
            let headers = render::headers(&store_id, webhook, parcel, now, &body);
            let headers = log_headers(&headers, &render::spelling(webhook, parcel), LOG_HEADERS_CHARS_MAX);
            Preview { message_id: render::message_id(&store_id, webhook.webhook_id, parcel), headers, body }
        };
        self.rendered(&Arc::new(webhook.clone()), parcel, show).await
    }

    /// The first stored events of a topic under the next numbers of a webhook, as
    /// many as a lane would load for one request.
    async fn first_parcels(
        &self,
        merchant: MerchantId,
        webhook: &Webhook,
        topic: &Topic,
    ) -> Result<VecDeque<Parcel>, StoreError> {
        let rendering = webhook.spec.rendering(topic);
        let limit = webhook.spec.batch.map_or(1, Batching::max_events);
        let filter = EventFilter { topics: Some(topic.into()), ..EventFilter::default() };
        let slice = Slice { after: None, order: Order::Ascending, limit };
        let ids = self.store.events(merchant, filter, slice).await?;
        let ids = ids.into_iter().map(|event| event.event_id).collect();
        let (published, _) = self.store.published(merchant, ids, BATCH_BYTES_MAX).await?;
        let (mut next, now) = (webhook.last_increment_id, self.clock.now());
        let parcel = |event: Event| {
            next = next.next();
            Parcel {
                increment_id: next,
                attempts: 0,
                policy_start: 0,
                resends_asked: 0,
                numbered_at: now,
                due_at: None,
                format: rendering.format,
                event: Arc::new(event),
                expansion: rendering.expansion.cloned().map(Arc::new),
                batch: None,
            }
        };
        Ok(published.into_iter().map(|published| published.event).map(parcel).collect())
    }
}
