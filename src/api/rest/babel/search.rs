//! Finding subscriptions, and events of one.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::rows::{Events, Subscription, WebhookEvent, row};
use crate::api::rest::Refusal;
use crate::api::rest::listing::Rows;
use crate::api::rest::query::{Filter, Select, Sort, SortKey};
use crate::api::rest::window::Window;
use crate::domain::delivery::Delivery;
use crate::domain::id::WebhookId;
use crate::domain::page::Order;
use crate::domain::time::Timestamp;
use crate::service::Service;
use crate::service::caller::Caller;
use crate::service::delivery::{DeliveryContents, DeliveryPage, DeliverySelection};
use crate::store::Contents;

/// Members that an event has from its message and its attempts, which take
/// longer to read than the rest.
const FROM_CONTENTS: [&str; 5] = ["payload", "statusCode", "response", "errorMessage", "sentAt"];
/// How many events are read at once while a filter looks for some: those that
/// need their contents to be judged, and those that don't.
const HEAVY_PER_PAGE: u32 = 32;
const LIGHT_PER_PAGE: u32 = 1_000;
/// How many bytes of contents are read at once.
const BYTES_AT_ONCE: usize = 1_024 * 1_024;
/// How many of its last events are shown with a subscription.
const INCLUDED_EVENTS: u32 = 20;

/// The ids of the subscriptions that a filter admits, in that order or else in
/// that of their ids. They are read and judged some at a time, and of each only
/// its key is kept.
pub async fn subscriptions(
    service: &Service,
    caller: &Caller,
    filter: Filter,
    sort: Option<Sort>,
) -> Result<Vec<WebhookId>, Refusal> {
    if filter.is_empty() && sort.is_none() {
        return Ok(service.webhook_ids(caller).await?);
    }
    let (filter, mut found, mut after) = (Arc::new(filter), Vec::new(), None);
    loop {
        let webhooks = service.next_webhooks(caller, after).await?;
        let Some(last) = webhooks.last() else { break };
        after = Some(last.webhook_id);
        let (filter, seen_by) = (Arc::clone(&filter), caller.clone());
        let judge = move || {
            let rows = webhooks.iter().map(|webhook| Ok((row(&Subscription::new(webhook, &seen_by))?, webhook)));
            let judged = rows.map(|judged: Result<_, Refusal>| {
                let (row, webhook) = judged?;
                let key = sort.map_or(SortKey::NONE, |sort| sort.key(&row));
                Ok(filter.admits(&row).then_some((key, webhook.webhook_id)))
            });
            judged.filter_map(Result::transpose).collect::<Result<Vec<_>, Refusal>>()
        };
        found.extend(service.apart(caller, judge).await??);
    }
    if let Some(sort) = sort {
        found = service
            .apart(caller, move || {
                sort.apply(&mut found);
                found
            })
            .await?;
    }
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// The last events of a subscription, as they are shown with it. Those for
/// which too few bytes are left are shown without bodies.
pub async fn last_events(
    service: &Service,
    caller: &Caller,
    id: WebhookId,
    bytes_left: &mut usize,
) -> Result<Vec<Value>, Refusal> {
    let limit = INCLUDED_EVENTS.min(service.list_limit_max()).into();
    let page = DeliveryPage { sort: Some("-increment_id".to_owned()), limit: Some(limit), ..DeliveryPage::default() };
    let last = service.list_deliveries(caller, id, kept(), page).await?;
    let (mut last, mut events) = (VecDeque::from(last), Vec::new());
    while !last.is_empty() {
        for mut event in service.contents_of(caller, id, &mut last, BYTES_AT_ONCE).await? {
            if event.contents.bytes() > *bytes_left {
                event.contents.leave_out_bodies();
            }
            *bytes_left = bytes_left.saturating_sub(event.contents.bytes());
            events.push(json!(WebhookEvent::from(event)));
        }
    }
    Ok(events)
}

/// What was not deleted, for this dialect shows nothing of what was.
fn kept() -> DeliverySelection {
    DeliverySelection { without_forgotten: true, ..DeliverySelection::default() }
}

/// What to look for, and where.
pub struct Search<'a> {
    pub service: &'a Service,
    pub caller: &'a Caller,
    pub id: WebhookId,
    pub filter: Arc<Filter>,
    pub select: Select,
    pub is_descending: bool,
    pub window: Window,
}

impl Search<'_> {
    /// Writes the events in the window, as far as there is room; says how many
    /// there are in all, and whether the list was cut.
    pub async fn run(&self, rows: &mut Rows<Events>) -> Result<(u64, bool), Refusal> {
        let (deliveries, total) = if self.filter.is_empty() { self.page().await? } else { self.scan().await? };
        let (mut deliveries, with_contents) = (VecDeque::from(deliveries), self.select.shows(&FROM_CONTENTS));
        while !deliveries.is_empty() {
            for contents in self.next_contents(&mut deliveries, with_contents).await? {
                let mut row = row(&WebhookEvent::from(contents))?;
                self.select.apply(&mut row);
                if !rows.write(&row).await? {
                    return Ok((total, true));
                }
            }
        }
        Ok((total, false))
    }

    async fn page(&self) -> Result<(Vec<Delivery>, u64), Refusal> {
        let order = if self.is_descending { Order::Descending } else { Order::Ascending };
        let (total, after) = self.service.place_behind(self.caller, self.id, self.window.skip, order).await?;
        if self.window.skip as u64 >= total || self.window.take == 0 {
            return Ok((Vec::new(), total));
        }
        let take = u32::try_from(self.window.take).unwrap_or(u32::MAX);
        Ok((self.read(kept(), Some(after), take).await?, total))
    }

    async fn scan(&self) -> Result<(Vec<Delivery>, u64), Refusal> {
        let is_heavy = self.filter.asks_for(&FROM_CONTENTS);
        let per_page = if is_heavy { HEAVY_PER_PAGE } else { LIGHT_PER_PAGE }.min(self.service.list_limit_max());
        let looked_at_max = self.service.filter_events_max() as usize;
        let (first, last) = self.filter.whole_range("id");
        let (since, until) = self.filter.time_range("createdAt");
        let time = |ms: Option<i64>| ms.map(|ms| Timestamp(ms).rfc3339_ms());
        let selection = DeliverySelection { since: time(since), until: time(until), ..kept() };
        let mut after = match self.is_descending {
            true => (last < i64::MAX).then(|| last.saturating_add(1).max(0)),
            false => (first > 1).then(|| first - 1),
        };
        let (mut found, mut total, mut looked_at) = (Vec::new(), 0_u64, 0);
        loop {
            let deliveries = self.read(selection.clone(), after, per_page).await?;
            let is_last = deliveries.len() < per_page as usize;
            after = deliveries.last().map(|delivery| delivery.increment_id.0);
            looked_at += deliveries.len();
            if looked_at > looked_at_max {
                let problem = "events would have to be looked at; narrow the filter by id or createdAt.";
                return Err(Refusal::bad(format!("filter: more than {looked_at_max} {problem}")));
            }
            for (delivery, is_wanted) in self.judged(deliveries, is_heavy).await? {
                let number = delivery.increment_id.0;
                if (self.is_descending && number < first) || (!self.is_descending && number > last) {
                    return Ok((found, total));
                }
                if is_wanted {
                    if total >= self.window.skip as u64 && found.len() < self.window.take {
                        found.push(delivery);
                    }
                    total += 1;
                }
            }
            if is_last {
                return Ok((found, total));
            }
        }
    }

    /// Each delivery, and whether the filter admits it. As many at a time as are
    /// read at once, apart from what everybody shares: the rows of a turn times
    /// the conditions of a filter is what it may take.
    async fn judged(&self, deliveries: Vec<Delivery>, is_heavy: bool) -> Result<Vec<(Delivery, bool)>, Refusal> {
        let (mut deliveries, mut judged) = (VecDeque::from(deliveries), Vec::new());
        while !deliveries.is_empty() {
            let contents = self.next_contents(&mut deliveries, is_heavy).await?;
            let filter = Arc::clone(&self.filter);
            let judge = move || {
                let judge = |contents: DeliveryContents| {
                    let delivery = contents.delivery.clone();
                    Ok((delivery, filter.admits(&row(&WebhookEvent::from(contents))?)))
                };
                contents.into_iter().map(judge).collect::<Result<Vec<_>, Refusal>>()
            };
            judged.extend(self.service.apart(self.caller, judge).await??);
        }
        Ok(judged)
    }

    async fn read(
        &self,
        selection: DeliverySelection,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Delivery>, Refusal> {
        let sort = if self.is_descending { "-increment_id" } else { "increment_id" }.to_owned();
        let page = DeliveryPage { after_increment_id: after, sort: Some(sort), limit: Some(limit.into()) };
        Ok(self.service.list_deliveries(self.caller, self.id, selection, page).await?)
    }

    /// Takes the first of these deliveries, with their contents or without.
    async fn next_contents(
        &self,
        deliveries: &mut VecDeque<Delivery>,
        with: bool,
    ) -> Result<Vec<DeliveryContents>, Refusal> {
        if with {
            return Ok(self.service.contents_of(self.caller, self.id, deliveries, BYTES_AT_ONCE).await?);
        }
        let empty = || Contents { message: None, last: None };
        Ok(deliveries.drain(..).map(|delivery| DeliveryContents { delivery, contents: empty() }).collect())
    }
}
