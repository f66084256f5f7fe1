//! Finding events of a subscription.

use std::sync::Arc;

use super::CONTENTS_BYTES_MAX;
use super::rows::{WebhookEvent, row};
use crate::api::rest::Refusal;
use crate::api::rest::query::{Filter, Row, Select};
use crate::domain::delivery::Delivery;
use crate::domain::id::WebhookId;
use crate::domain::time::Timestamp;
use crate::service::Service;
use crate::service::auth::Caller;
use crate::service::delivery::{DeliveryContents, DeliveryPage, DeliverySelection};
use crate::store::Contents;

/// Members that an event has from its message and its attempts, which take
/// longer to read than the rest.
const FROM_CONTENTS: [&str; 5] = ["payload", "statusCode", "response", "errorMessage", "sentAt"];
/// How many events are read at once while a filter looks for some: those that
/// need their contents to be judged, and those that don't.
const HEAVY_PER_PAGE: u32 = 32;
const LIGHT_PER_PAGE: u32 = 1_000;

/// The part of a list that is shown.
#[derive(Clone, Copy)]
pub struct Window {
    pub skip: usize,
    pub take: usize,
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
    /// The events in the window, and how many there are in all. Of events
    /// beyond [`CONTENTS_BYTES_MAX`] the bodies are left out.
    pub async fn run(&self) -> Result<(Vec<Row>, u64), Refusal> {
        let (deliveries, total) = if self.filter.is_empty() { self.page().await? } else { self.scan().await? };
        let mut rows = self.rows(deliveries, self.select.shows(&FROM_CONTENTS), CONTENTS_BYTES_MAX).await?;
        rows.iter_mut().for_each(|row| self.select.apply(row));
        Ok((rows, total))
    }

    /// Numbers have no holes, so the place of an event is its number.
    async fn page(&self) -> Result<(Vec<Delivery>, u64), Refusal> {
        let last = self.service.get_webhook(self.caller, self.id).await?.last_increment_id.0;
        let skip = i64::try_from(self.window.skip).unwrap_or(i64::MAX);
        if skip >= last || self.window.take == 0 {
            return Ok((Vec::new(), last.unsigned_abs()));
        }
        let after = if self.is_descending { last - skip + 1 } else { skip };
        let take = u32::try_from(self.window.take).unwrap_or(u32::MAX);
        let deliveries = self.read(DeliverySelection::default(), Some(after), take).await?;
        Ok((deliveries, last.unsigned_abs()))
    }

    async fn scan(&self) -> Result<(Vec<Delivery>, u64), Refusal> {
        let is_heavy = self.filter.asks_for(&FROM_CONTENTS);
        let per_page = if is_heavy { HEAVY_PER_PAGE } else { LIGHT_PER_PAGE }.min(self.service.list_limit_max());
        let looked_at_max = self.service.filter_events_max() as usize;
        let (first, last) = self.filter.whole_range("id");
        let (since, until) = self.filter.time_range("createdAt");
        let time = |ms: Option<i64>| ms.map(|ms| Timestamp(ms).rfc3339_ms());
        let selection = DeliverySelection { since: time(since), until: time(until), ..DeliverySelection::default() };
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

    /// Each delivery, and whether the filter admits it. A page at a time, apart
    /// from what everybody shares: the rows of a page times the conditions of a
    /// filter is what one turn may take.
    async fn judged(&self, deliveries: Vec<Delivery>, is_heavy: bool) -> Result<Vec<(Delivery, bool)>, Refusal> {
        // Not bounded in bytes: a few at once, and only to be judged.
        let contents = self.contents(deliveries, is_heavy, usize::MAX).await?;
        let filter = Arc::clone(&self.filter);
        let judge = move || {
            let judge = |contents: DeliveryContents| {
                let delivery = contents.delivery.clone();
                Ok((delivery, filter.admits(&row(&WebhookEvent::from(contents))?)))
            };
            contents.into_iter().map(judge).collect()
        };
        self.service.apart(self.caller, judge).await?
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

    /// Deliveries as rows, with what is from their contents or without.
    async fn rows(&self, deliveries: Vec<Delivery>, with: bool, bytes_max: usize) -> Result<Vec<Row>, Refusal> {
        let contents = self.contents(deliveries, with, bytes_max).await?;
        contents.into_iter().map(|contents| row(&WebhookEvent::from(contents))).collect()
    }

    async fn contents(
        &self,
        deliveries: Vec<Delivery>,
        with: bool,
        bytes_max: usize,
    ) -> Result<Vec<DeliveryContents>, Refusal> {
        if with {
            return Ok(self.service.contents_of(self.caller, self.id, deliveries, bytes_max).await?);
        }
        let empty = || Contents { message: None, last: None };
        Ok(deliveries.into_iter().map(|delivery| DeliveryContents { delivery, contents: empty() }).collect())
    }
}
