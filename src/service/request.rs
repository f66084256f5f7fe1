//! Looking at the requests that were made, and at what is yet to be sent.

use std::sync::Arc;

use bytes::Bytes;

use super::auth::Caller;
use super::webhook::about;
use super::{Failures, Service};
use crate::delivery::{client, format};
use crate::domain::delivery::{Backlog, RequestFilter, RequestKey};
use crate::domain::event::{Event, EventFilter};
use crate::domain::expansion::expanded;
use crate::domain::fault::Fault;
use crate::domain::id::WebhookId;
use crate::domain::page::{Order, Slice};
use crate::domain::topic::Topic;
use crate::domain::user::Permission;
use crate::domain::webhook::{Webhook, WebhookSpec};
use crate::store::requests::LoggedRequest;
use crate::store::{Parcel, StoreError};

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
        filter: RequestFilter,
        after: Option<RequestKey>,
        limit: usize,
    ) -> Result<Vec<RequestKey>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.request_keys(caller.merchant_id, id, filter, after, limit).await;
        found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// The first of these requests, in their order, until they weigh so many
    /// bytes, and at least one; says how many of them it has looked at. Those
    /// that are not there, or not any more, are left out. Fails with fault 103.
    pub async fn requests(
        &self,
        caller: &Caller,
        id: WebhookId,
        keys: Vec<RequestKey>,
        bytes_max: usize,
    ) -> Result<(Vec<LoggedRequest>, usize), Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.requests(caller.merchant_id, id, keys, bytes_max).await;
        found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// The `webhook-id` that a request was sent with.
    pub fn message_id(&self, id: WebhookId, request: &LoggedRequest) -> String {
        match request.is_batch {
            true => self.store.store_id().batch_id(id, request.numbers),
            false => self.store.store_id().message_id(id, request.numbers.first),
        }
    }

    /// What is to be sent to a webhook, and when. Fails with fault 103.
    pub async fn backlog(&self, caller: &Caller, id: WebhookId) -> Result<Backlog, Fault> {
        caller.check(Permission::WebhookRead)?;
        let backlog = self.store.backlog(caller.merchant_id, id, self.clock.now()).await;
        backlog.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// The first stored events of a topic as they would be sent to a webhook
    /// next, as many as go out in one request; `None` if there are none.
    pub async fn preview(&self, caller: &Caller, webhook: &Webhook, topic: &Topic) -> Result<Option<Preview>, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let events = self.first_events(caller, webhook, topic).await.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let rendering = webhook.spec.rendering(topic);
        let mut events = events.into_iter();
        let Some(event) = events.next() else { return Ok(None) };
        let now = self.clock.now();
        let parcel = Parcel {
            increment_id: webhook.last_increment_id.next(),
            attempts: 0,
            policy_start: 0,
            numbered_at: now,
            due_at: None,
            format: rendering.format,
            event,
            batch: webhook.spec.batch.map(|_| events.collect()),
        };
        let store_id = self.store.store_id();
        let body = format::render(webhook.webhook_id, &parcel);
        let headers = client::log_headers(&format::headers(store_id, webhook, &parcel, now, &body));
        Ok(Some(Preview { message_id: format::message_id(store_id, webhook.webhook_id, &parcel), headers, body }))
    }

    /// Of the stored events of a topic, those that go out in one request, as they do.
    async fn first_events(
        &self,
        caller: &Caller,
        webhook: &Webhook,
        topic: &Topic,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let WebhookSpec { format, batch, expansions, .. } = &webhook.spec;
        let (events_max, bytes_max) = batch.map_or((1, 1), |batch| (batch.max_events(), batch.max_bytes() as usize));
        let filter = EventFilter { topics: Some(topic.into()), ..EventFilter::default() };
        let slice = Slice { after: None, order: Order::Ascending, limit: events_max };
        let ids = self.store.events(caller.merchant_id, filter, slice).await?;
        let ids = ids.into_iter().map(|event| event.event_id).collect();
        let (published, _) = self.store.published(caller.merchant_id, ids, bytes_max).await?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in published.into_iter().map(|published| Arc::new(published.event)) {
            let event = expanded(&event, expansions.of(topic));
            bytes += format::batched_bytes_max(&event);
            if !events.is_empty() && format::batch_bytes_max(*format, bytes) > bytes_max {
                break;
            }
            events.push(event);
        }
        Ok(events)
    }
}
