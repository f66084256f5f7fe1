//! Watching: what becomes of deliveries, and which events are published, as
//! it happens.
//!
//! A watcher reads from the store at its own speed. What it has not read in
//! time is told as missed, a bounded note, whatever there is to tell.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::caller::Caller;
use super::places::Place;
use super::webhook::about;
use super::{Failures, Service};
use crate::domain::delivery::{Delivery, DeliveryState};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{EventId, IncrementId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Patterns;
use crate::domain::user::Permission;
use crate::metrics::Limit;
use crate::store::feed::{DeliveryWatch, EventWatch, MissedEvents};
use crate::store::watched::{DeliveryStatus, PublishedEvent};

/// Deliveries read and told at once. Who may no longer watch is told no more
/// than the rest of such a page, so it is small.
const DELIVERIES_PER_PAGE: usize = 32;
/// Events read and told at once.
const EVENTS_PER_PAGE: usize = 32;
/// The most bytes of messages in such a page, but for its last event.
const PAGE_BYTES_MAX: usize = 64 * 1024;
/// How often it is checked at least that a watcher may still watch.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Deliveries of which is remembered what was told of them last: a change that
/// was committed between the news of it and the reading of the one before is
/// told once.
const TOLD_MAX: usize = 1_024;

/// Something to tell of deliveries.
#[derive(Clone, Debug)]
pub enum DeliveryNews {
    /// One is new, or its state, attempts or times have changed.
    Changed(Box<DeliveryStatus>),
    /// These, and maybe not only these, were not told in time.
    Missed(Vec<Missed>),
}

/// Deliveries that were not told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Of that webhook; `None`: of any.
    pub webhook_id: Option<WebhookId>,
    /// The first.
    pub first: IncrementId,
    /// The last; `None`: nobody knows.
    pub last: Option<IncrementId>,
}

/// Something to tell of events.
#[derive(Clone, Debug)]
pub enum EventNews {
    /// One was published.
    Published(Box<PublishedEvent>),
    /// These were not told in time.
    Missed(MissedEvents),
}

impl Service {
    /// Watches one webhook's deliveries or all of the merchant's, from now on;
    /// of one webhook also from after a number, whose followers are told
    /// first. Fails with fault 103 or 111.
    pub async fn watch_deliveries(
        self: &Arc<Self>,
        caller: &Caller,
        webhook: Option<WebhookId>,
        after: Option<i64>,
    ) -> Result<DeliveryFeed, Fault> {
        let watcher = self.watcher(caller)?;
        let selection = |problem: &str| Violation::new("after_increment_id", problem);
        let problem = match (webhook, after) {
            (None, Some(_)) => Some("needs a webhook_id: each webhook counts for itself."),
            (_, Some(after)) if after < 0 => Some("is below 0; numbers start at 1."),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(selection(problem).into_fault(FaultCode::InvalidSelection));
        }
        // First the watch, then the look: what is committed between is in both.
        let merchant = match webhook {
            Some(id) => self.within(caller, id).await?,
            None => caller.everywhere()?,
        };
        let watch = self.store.feed().watch_deliveries(merchant, webhook, self.config.backlog_max);
        self.hear(caller).await?;
        let _older = watch.take();
        if let Some(id) = webhook {
            let last = self.get_webhook(caller, id).await?.last_increment_id;
            if let Some(after) = after {
                watch.catch_up(IncrementId(after), last);
            }
        }
        Ok(DeliveryFeed {
            watcher,
            watch,
            webhook,
            waiting: VecDeque::new(),
            missed: Vec::new(),
            told: Told::default(),
        })
    }

    /// Watches the merchant's events of these topics (all but the server's
    /// own, if none are named), from now on or from after an earlier event.
    /// Fails with fault 111.
    pub async fn watch_events(
        self: &Arc<Self>,
        caller: &Caller,
        topics: Option<&str>,
        after: Option<i64>,
    ) -> Result<EventFeed, Fault> {
        let invalid = |violation: Violation| violation.into_fault(FaultCode::InvalidSelection);
        let watcher = self.watcher(caller)?;
        let topics = Patterns::try_new(topics.unwrap_or("*")).map_err(invalid)?;
        if after.is_some_and(|after| after < 0) {
            return Err(invalid(Violation::new("after_event_id", "is below 0; events start at 1.")));
        }
        let after = after.map(EventId);
        let last = self.store.last_event().await.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        if after.is_some_and(|after| after > last) {
            let problem = "is of no event yet; was it one of another store?";
            return Err(invalid(Violation::new("after_event_id", problem)));
        }
        let watch =
            self.store.feed().watch_events(caller.everywhere()?, topics.clone(), after, self.config.backlog_max);
        self.hear(caller).await?;
        let _older = watch.take();
        Ok(EventFeed { watcher, watch, topics, waiting: VecDeque::new(), missed: None })
    }

    /// Has the feed tell of whatever is committed of the caller's merchant.
    async fn hear(&self, caller: &Caller) -> Result<(), Fault> {
        self.store.hear(caller.merchant()).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    fn watcher(self: &Arc<Self>, caller: &Caller) -> Result<Watcher, Fault> {
        caller.check(Permission::WebhookRead)?;
        let place = self.watchers.take(caller.merchant());
        let place = place.map_err(|fault| self.refused(Limit::Subscriptions, fault))?;
        let checked_at = self.clock.now();
        Ok(Watcher { service: Arc::clone(self), caller: caller.clone(), checked_at, _place: place })
    }
}

/// Who watches, and whether that may go on.
struct Watcher {
    service: Arc<Service>,
    caller: Caller,
    checked_at: Timestamp,
    _place: Place,
}

impl Watcher {
    /// Fails if the session has ended, the user was revoked or disabled, or lost
    /// the permission. A subscription is a use of its session, which it renews.
    async fn check(&mut self) -> Result<&Caller, Fault> {
        self.caller = self.service.check_again(&self.caller).await?;
        self.caller.check(Permission::WebhookRead)?;
        self.checked_at = self.service.clock.now();
        Ok(&self.caller)
    }

    /// Waits until it is to be checked again though there is nothing to tell.
    async fn is_to_be_checked(&self) {
        let interval = CHECK_INTERVAL.min(self.service.config.session_ttl / 2);
        self.service.clock.wait_until(Some(self.checked_at.after(interval))).await;
    }
}

/// What one who watches deliveries is told.
pub struct DeliveryFeed {
    watcher: Watcher,
    watch: DeliveryWatch,
    webhook: Option<WebhookId>,
    /// Taken, and still to be read.
    waiting: VecDeque<(WebhookId, IncrementId)>,
    missed: Vec<Missed>,
    told: Told,
}

impl DeliveryFeed {
    /// Waits for something to tell, a page at the most. Fails if the caller
    /// may no longer watch, the webhook was deleted (fault 103), or the store
    /// fails; then it is over. Before each page it is checked who watches.
    pub async fn next(&mut self) -> Result<Vec<DeliveryNews>, Fault> {
        loop {
            self.watcher.check().await?;
            if let Some(id) = self.webhook {
                // Its labels may have changed.
                self.watcher.service.within(&self.watcher.caller, id).await?;
            }
            if let Some(id) = self.webhook
                && let Some(span) = self.watch.next_page(DELIVERIES_PER_PAGE as i64)
            {
                self.waiting.extend(span.numbers().map(|number| (id, number)));
            } else if self.waiting.is_empty() {
                if !self.missed.is_empty() {
                    return Ok(vec![DeliveryNews::Missed(std::mem::take(&mut self.missed))]);
                }
                self.take()?;
            }
            if self.waiting.is_empty() {
                if self.missed.is_empty() {
                    tokio::select! {
                        () = self.watch.arrived() => {}
                        () = self.watcher.is_to_be_checked() => {}
                    }
                }
                continue;
            }
            let page = self.waiting.drain(..DELIVERIES_PER_PAGE.min(self.waiting.len())).collect();
            let found = self.watcher.service.store.statuses(self.watcher.caller.merchant(), page).await;
            let mut found = found.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
            found.retain(|status| self.told.is_news(&status.delivery));
            if !found.is_empty() {
                return Ok(found.into_iter().map(|status| DeliveryNews::Changed(Box::new(status))).collect());
            }
        }
    }

    /// Takes what has come. Fails with fault 103 if the webhook was deleted.
    fn take(&mut self) -> Result<(), Fault> {
        let news = self.watch.take();
        if let Some(id) = self.webhook.filter(|_| news.is_deleted) {
            return Err(about(id, FaultCode::NoWebhook.into()));
        }
        self.waiting.extend(news.changed);
        let missed =
            |(id, span): (WebhookId, Span)| Missed { webhook_id: Some(id), first: span.first, last: Some(span.last) };
        self.missed = match news.is_all_missed {
            true => vec![Missed { webhook_id: self.webhook, first: IncrementId(1), last: None }],
            false => news.missed.into_iter().map(missed).collect(),
        };
        Ok(())
    }
}

/// What was told last of some deliveries.
#[derive(Default)]
struct Told {
    looks: HashMap<(WebhookId, IncrementId), Look>,
    order: VecDeque<(WebhookId, IncrementId)>,
}

/// What a watcher can see change.
#[derive(PartialEq, Eq)]
struct Look {
    state: DeliveryState,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl Told {
    /// False if that was told already.
    fn is_news(&mut self, delivery: &Delivery) -> bool {
        let key = (delivery.webhook_id, delivery.increment_id);
        let Delivery { state, attempts, next_attempt_at, ended_at, .. } = *delivery;
        let look = Look { state, attempts, next_attempt_at, ended_at };
        match self.looks.get_mut(&key) {
            Some(known) if *known == look => return false,
            Some(known) => *known = look,
            None => {
                self.looks.insert(key, look);
                self.order.push_back(key);
            }
        }
        if self.order.len() > TOLD_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.looks.remove(&oldest);
        }
        true
    }
}

/// What one who watches events is told.
pub struct EventFeed {
    watcher: Watcher,
    watch: EventWatch,
    topics: Patterns,
    waiting: VecDeque<EventId>,
    missed: Option<MissedEvents>,
}

impl EventFeed {
    /// Waits for something to tell, a page at the most. Fails if the caller
    /// may no longer watch or the store fails; then it is over. Before each
    /// page it is checked who watches.
    pub async fn next(&mut self) -> Result<Vec<EventNews>, Fault> {
        loop {
            self.watcher.check().await?;
            if self.waiting.is_empty() {
                if let Some(missed) = self.missed.take() {
                    return Ok(vec![EventNews::Missed(missed)]);
                }
                self.look().await?;
            }
            if self.waiting.is_empty() {
                if self.missed.is_none() && self.watch.next_read().is_none() {
                    tokio::select! {
                        () = self.watch.arrived() => {}
                        () = self.watcher.is_to_be_checked() => {}
                    }
                }
                continue;
            }
            let page = self.waiting.iter().take(EVENTS_PER_PAGE).copied().collect();
            let found =
                self.watcher.service.store.published(self.watcher.caller.everywhere()?, page, PAGE_BYTES_MAX).await;
            let (found, looked_at) = found.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
            self.waiting.drain(..looked_at);
            if !found.is_empty() {
                return Ok(found.into_iter().map(|event| EventNews::Published(Box::new(event))).collect());
            }
        }
    }

    /// Looks for what comes next: among what is stored, or what has come.
    async fn look(&mut self) -> Result<(), Fault> {
        let Some(next) = self.watch.next_read() else {
            let news = self.watch.take();
            self.waiting.extend(news.published);
            self.missed = news.missed;
            return Ok(());
        };
        let (merchant, topics) = (self.watcher.caller.everywhere()?, self.topics.clone());
        let read = self.watcher.service.store.event_ids(merchant, topics, next.after).await;
        let read = read.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        self.watch.has_read(next, &read);
        self.waiting.extend(read.ids);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(number: i64, attempts: u32) -> Delivery {
        Delivery {
            webhook_id: WebhookId(1),
            increment_id: IncrementId(number),
            event_id: EventId(1),
            topic: None,
            state: DeliveryState::Pending,
            attempts,
            created_at: Timestamp(0),
            next_attempt_at: None,
            ended_at: None,
            reason: None,
        }
    }

    #[test]
    fn what_was_told_is_no_news() {
        let mut told = Told::default();
        assert!(told.is_news(&delivery(1, 0)));
        assert!(!told.is_news(&delivery(1, 0)));
        assert!(told.is_news(&delivery(1, 1)) && told.is_news(&delivery(2, 1)));
        assert!(!told.is_news(&delivery(1, 1)) && !told.is_news(&delivery(2, 1)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut told = Told::default();
        for number in 0..2 * TOLD_MAX as i64 {
            assert!(told.is_news(&delivery(number, 0)));
        }
        assert_eq!((told.looks.len(), told.order.len()), (TOLD_MAX, TOLD_MAX));
        assert!(told.is_news(&delivery(0, 0)) && !told.is_news(&delivery(2 * TOLD_MAX as i64 - 1, 0)));
    }
}
