//! How the store tells those who watch what it has committed, without ever
//! waiting for them. Without watchers a commit costs one look at a number.
//!
//! A watcher is told *which* deliveries are new or changed, and reads from the
//! store what has become of them. So what waits for it is a set of numbers: a
//! delivery that changes ten times stands in it once, and it is bounded. What
//! finds no room is noted as missed, a span for each webhook.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::committed::{Accepted, Committed, EventIds};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::topic::Patterns;
use crate::metrics::Gauge;

/// The most webhooks of which a watcher is told what it missed; beyond, it is
/// told that it missed something of any.
const WEBHOOKS_MISSED_MAX: usize = 1_000;

/// Everybody who watches.
#[derive(Debug, Default)]
pub struct Feed {
    /// How many there are.
    count: AtomicUsize,
    /// The same, for whoever watches the server.
    subscribers: Gauge,
    inboxes: Mutex<HashMap<MerchantId, Inboxes>>,
}

#[derive(Debug, Default)]
struct Inboxes {
    deliveries: Vec<Arc<Inbox<Deliveries>>>,
    events: Vec<Arc<Inbox<Events>>>,
    /// How many others want to hear of him.
    others: usize,
}

impl Inboxes {
    fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.events.is_empty() && self.others == 0
    }
}

/// Where the news of one watcher wait for it.
#[derive(Debug)]
struct Inbox<T> {
    waiting: Mutex<T>,
    arrived: Notify,
}

/// What waits, and whether there is anything to tell.
trait Waiting {
    fn is_news(&self) -> bool;
}

impl<T: Waiting> Inbox<T> {
    fn new(waiting: T) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::new(waiting), arrived: Notify::new() })
    }

    /// Alters what waits, and wakes the watcher if there is something to tell.
    fn tell(&self, alter: impl FnOnce(&mut T)) {
        let mut waiting = self.waiting();
        alter(&mut waiting);
        if waiting.is_news() {
            self.arrived.notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, T> {
        self.waiting.lock().expect("nothing panics while it holds what waits")
    }
}

impl Feed {
    /// With nobody who watches yet; how many do is shown there.
    pub fn new(subscribers: Gauge) -> Self {
        Self { subscribers, ..Self::default() }
    }

    /// True if anybody watches. Who begins to after this has looked reads the
    /// store later still, and finds there what was committed before.
    pub fn is_watched(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Tells of a commit.
    pub fn tell(&self, committed: &Committed) {
        for (merchant, inboxes) in self.inboxes().iter() {
            let changed: Vec<_> = committed.deliveries.iter().filter(|(owner, ..)| owner == merchant).collect();
            let published: Vec<_> = committed.events.iter().filter(|event| event.merchant_id == *merchant).collect();
            for inbox in &inboxes.deliveries {
                inbox.tell(|waiting| {
                    for (_, id, span) in &changed {
                        waiting.note(*id, *span);
                    }
                    waiting.news.is_deleted |= waiting.webhook.is_some_and(|id| committed.deleted.contains(&id));
                });
            }
            for inbox in &inboxes.events {
                inbox.tell(|waiting| {
                    for event in &published {
                        waiting.note(event);
                    }
                });
            }
        }
    }

    /// Tells that nobody knows what was committed: a commit failed, and the
    /// disk may hold it or not.
    pub fn tell_unknown(&self) {
        self.inboxes().values().for_each(Inboxes::tell_unknown);
    }

    /// The same of what is a merchant's: for some time nobody has noted it.
    pub fn tell_gap(&self, merchant: MerchantId) {
        if let Some(inboxes) = self.inboxes().get(&merchant) {
            inboxes.tell_unknown();
        }
    }

    /// Those of whom somebody wants to hear.
    pub fn wanted(&self) -> Vec<MerchantId> {
        self.inboxes().keys().copied().collect()
    }

    /// Has a merchant be one of those of whom somebody wants to hear, until it is
    /// dropped.
    pub fn want(self: &Arc<Self>, merchant: MerchantId) -> Wanted {
        self.inboxes().entry(merchant).or_default().others += 1;
        Wanted { feed: Arc::clone(self), merchant }
    }

    /// Tells of the merchant's deliveries from now on, or of those of one
    /// webhook; up to `backlog_max` may wait to be taken.
    pub fn watch_deliveries(
        self: &Arc<Self>,
        merchant: MerchantId,
        webhook: Option<WebhookId>,
        backlog_max: usize,
    ) -> DeliveryWatch {
        let inbox = Inbox::new(Deliveries { webhook, backlog_max, catching_up: None, news: DeliveryNews::default() });
        self.enter();
        self.inboxes().entry(merchant).or_default().deliveries.push(Arc::clone(&inbox));
        DeliveryWatch { feed: Arc::clone(self), merchant, inbox }
    }

    /// Tells of the merchant's events of these topics, from now on or from
    /// after an earlier one; up to `backlog_max` may wait to be taken.
    pub fn watch_events(
        self: &Arc<Self>,
        merchant: MerchantId,
        topics: Patterns,
        after: Option<EventId>,
        backlog_max: usize,
    ) -> EventWatch {
        let latest = after.unwrap_or(EventId(0));
        let is_catching_up = after.is_some();
        let waiting =
            Events { topics, backlog_max, is_catching_up, through: latest, latest, news: EventNews::default() };
        let inbox = Inbox::new(waiting);
        self.enter();
        self.inboxes().entry(merchant).or_default().events.push(Arc::clone(&inbox));
        EventWatch { feed: Arc::clone(self), merchant, inbox }
    }

    fn enter(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.subscribers.inc();
    }

    fn leave(&self, merchant: MerchantId, remove: impl FnOnce(&mut Inboxes)) {
        self.alter(merchant, remove);
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.subscribers.dec();
    }

    fn alter(&self, merchant: MerchantId, alter: impl FnOnce(&mut Inboxes)) {
        let mut inboxes = self.inboxes();
        if let Some(own) = inboxes.get_mut(&merchant) {
            alter(own);
            if own.is_empty() {
                inboxes.remove(&merchant);
            }
        }
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<MerchantId, Inboxes>> {
        self.inboxes.lock().expect("nothing panics while it holds the inboxes")
    }
}

impl Inboxes {
    fn tell_unknown(&self) {
        for inbox in &self.deliveries {
            inbox.tell(|waiting| waiting.news.is_all_missed = true);
        }
        for inbox in &self.events {
            inbox.tell(|waiting| {
                let first = waiting.news.missed.map_or(waiting.latest.next(), |missed| missed.first);
                waiting.news.missed = Some(MissedEvents { first, last: None });
            });
        }
    }
}

/// Has a merchant be one of those of whom somebody wants to hear; until it is dropped.
#[derive(Debug)]
pub struct Wanted {
    feed: Arc<Feed>,
    merchant: MerchantId,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.feed.alter(self.merchant, |inboxes| inboxes.others -= 1);
    }
}

/// What waits for one who watches deliveries.
#[derive(Debug)]
struct Deliveries {
    /// The only webhook that matters; `None`: all do.
    webhook: Option<WebhookId>,
    backlog_max: usize,
    catching_up: Option<CatchUp>,
    news: DeliveryNews,
}

/// What there is to tell of deliveries.
#[derive(Debug, Default)]
pub struct DeliveryNews {
    /// Those that are new or changed.
    pub changed: BTreeSet<(WebhookId, IncrementId)>,
    /// Those that found no room, and maybe others between them.
    pub missed: BTreeMap<WebhookId, Span>,
    /// Any may be missed.
    pub is_all_missed: bool,
    /// The webhook is no more.
    pub is_deleted: bool,
}

/// How far one is who began with an earlier number: numbers beyond `after` are
/// still to be read, in pages, and are not told of besides.
#[derive(Clone, Copy, Debug)]
struct CatchUp {
    after: IncrementId,
    through: IncrementId,
}

impl Deliveries {
    /// Notes numbers that are new or changed.
    fn note(&mut self, id: WebhookId, span: Span) {
        if self.webhook.is_some_and(|own| own != id) {
            return;
        }
        let Span { first, mut last } = span;
        if let Some(catching_up) = self.catching_up.as_mut().filter(|catching_up| last > catching_up.after) {
            catching_up.through = catching_up.through.max(last);
            last = catching_up.after;
        }
        let news = &mut self.news;
        for number in (Span { first, last }).numbers() {
            if news.changed.len() < self.backlog_max || news.changed.contains(&(id, number)) {
                news.changed.insert((id, number));
                continue;
            }
            // The rest of them as one: the writer waits for this.
            if let Some(missed) = news.missed.get_mut(&id) {
                *missed = Span { first: missed.first.min(number), last: missed.last.max(last) };
            } else if news.missed.len() < WEBHOOKS_MISSED_MAX {
                news.missed.insert(id, Span { first: number, last });
            } else {
                news.is_all_missed = true;
            }
            return;
        }
    }
}

impl Waiting for Deliveries {
    fn is_news(&self) -> bool {
        let DeliveryNews { changed, missed, is_all_missed, is_deleted } = &self.news;
        !changed.is_empty() || !missed.is_empty() || *is_all_missed || *is_deleted
    }
}

/// Tells of deliveries; until it is dropped.
#[derive(Debug)]
pub struct DeliveryWatch {
    feed: Arc<Feed>,
    merchant: MerchantId,
    inbox: Arc<Inbox<Deliveries>>,
}

impl DeliveryWatch {
    /// Begins with the numbers beyond `after`, of which there are some up to
    /// `through`: [`Self::next_page`] says which to read.
    pub fn catch_up(&self, after: IncrementId, through: IncrementId) {
        let mut waiting = self.inbox.waiting();
        // What was told since the watch began will be read, too.
        let told = waiting.news.changed.iter().map(|(_, number)| *number).max();
        let told = told.max(waiting.news.missed.values().map(|span| span.last).max());
        waiting.news.changed.retain(|(_, number)| *number <= after);
        let through = told.map_or(through, |told| through.max(told)).max(after);
        waiting.catching_up = Some(CatchUp { after, through });
    }

    /// Up to `max` numbers to be read next, all of them committed; `None` once
    /// all have been, from when on numbers are told of as they come.
    pub fn next_page(&self, max: i64) -> Option<Span> {
        let mut waiting = self.inbox.waiting();
        let catching_up = waiting.catching_up.as_mut()?;
        if catching_up.after >= catching_up.through {
            waiting.catching_up = None;
            return None;
        }
        let first = catching_up.after.next();
        let last = catching_up.through.min(IncrementId(catching_up.after.0.saturating_add(max)));
        // Before they are read: what changes from here on is told.
        catching_up.after = last;
        Some(Span { first, last })
    }

    /// Takes what there is to tell.
    pub fn take(&self) -> DeliveryNews {
        std::mem::take(&mut self.inbox.waiting().news)
    }

    /// Waits until there may be something. What came before the call counts.
    pub async fn arrived(&self) {
        self.inbox.arrived.notified().await;
    }
}

impl Drop for DeliveryWatch {
    fn drop(&mut self) {
        self.feed.leave(self.merchant, |inboxes| inboxes.deliveries.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox)));
    }
}

/// What waits for one who watches events.
#[derive(Debug)]
struct Events {
    topics: Patterns,
    backlog_max: usize,
    /// It still reads what is stored, and is not told of what comes.
    is_catching_up: bool,
    /// All up to this one has been read.
    through: EventId,
    /// The last that was told of or read.
    latest: EventId,
    news: EventNews,
}

/// What there is to tell of events.
#[derive(Debug, Default)]
pub struct EventNews {
    /// Those that were published.
    pub published: BTreeSet<EventId>,
    /// Those that found no room.
    pub missed: Option<MissedEvents>,
}

/// Events that found no room, and maybe others between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedEvents {
    /// The first of them.
    pub first: EventId,
    /// The last; `None`: nobody knows.
    pub last: Option<EventId>,
}

impl Events {
    /// Notes an event.
    fn note(&mut self, event: &Accepted) {
        let id = event.event_id;
        if id <= self.through || !self.topics.list().iter().any(|pattern| pattern.matches(&event.topic)) {
            return;
        }
        self.latest = self.latest.max(id);
        if self.is_catching_up {
            return;
        }
        let news = &mut self.news;
        if news.published.len() < self.backlog_max {
            news.published.insert(id);
        } else if let Some(missed) = &mut news.missed {
            missed.last = missed.last.map(|last| last.max(id));
        } else {
            news.missed = Some(MissedEvents { first: id, last: Some(id) });
        }
    }
}

impl Waiting for Events {
    fn is_news(&self) -> bool {
        !self.news.published.is_empty() || self.news.missed.is_some()
    }
}

/// From where to where an event watch that began with an earlier event reads
/// next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRead {
    /// All up to this one has been read.
    pub after: EventId,
    /// All up to this one that is stored can be read.
    committed: EventId,
}

/// Tells of events; until it is dropped.
#[derive(Debug)]
pub struct EventWatch {
    feed: Arc<Feed>,
    merchant: MerchantId,
    inbox: Arc<Inbox<Events>>,
}

impl EventWatch {
    /// Where to read on; `None` once all has been read, from when on events
    /// are told of as they come.
    pub fn next_read(&self) -> Option<NextRead> {
        let waiting = self.inbox.waiting();
        waiting.is_catching_up.then_some(NextRead { after: waiting.through, committed: waiting.latest })
    }

    /// Notes what was read after `next`.
    pub fn has_read(&self, next: NextRead, read: &EventIds) {
        let mut waiting = self.inbox.waiting();
        // What was committed before the reading and not found is no more.
        waiting.through = if read.is_last { read.through.max(next.committed) } else { read.through };
        // Else something has come since.
        waiting.is_catching_up = !read.is_last || waiting.latest > waiting.through;
        waiting.latest = waiting.latest.max(waiting.through);
    }

    /// Takes what there is to tell.
    pub fn take(&self) -> EventNews {
        std::mem::take(&mut self.inbox.waiting().news)
    }

    /// Waits until there may be something. What came before the call counts.
    pub async fn arrived(&self) {
        self.inbox.arrived.notified().await;
    }
}

impl Drop for EventWatch {
    fn drop(&mut self) {
        self.feed.leave(self.merchant, |inboxes| inboxes.events.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Event, Message};
    use crate::domain::time::Timestamp;
    use crate::domain::topic::Topic;

    const ACME: MerchantId = MerchantId(1);
    const HOOK: WebhookId = WebhookId(7);

    fn span(first: i64, last: i64) -> Span {
        Span { first: IncrementId(first), last: IncrementId(last) }
    }

    fn deliveries(merchant: MerchantId, id: WebhookId, first: i64, last: i64) -> Committed {
        Committed { deliveries: vec![(merchant, id, span(first, last))], ..Committed::default() }
    }

    fn event(id: i64, topic: &str) -> Committed {
        let event = Event {
            event_id: EventId(id),
            merchant_id: ACME,
            merchant_code: "acme".into(),
            topic: Topic::try_new(topic).unwrap(),
            message: Message::try_new("{}").unwrap(),
            created_at: Timestamp(0),
            trace: None,
        };
        Committed { events: vec![Accepted::of(&event)], ..Committed::default() }
    }

    fn numbers(news: &DeliveryNews) -> Vec<i64> {
        news.changed.iter().map(|(_, number)| number.0).collect()
    }

    #[test]
    fn nobody_is_told_of_what_is_not_theirs() {
        let subscribers = Gauge::default();
        let feed = Arc::new(Feed::new(subscribers.clone()));
        assert!(!feed.is_watched());
        let (all, one) = (feed.watch_deliveries(ACME, None, 10), feed.watch_deliveries(ACME, Some(HOOK), 10));
        feed.tell(&deliveries(MerchantId(2), WebhookId(9), 1, 3));
        feed.tell(&deliveries(ACME, WebhookId(8), 4, 5));
        assert_eq!(numbers(&all.take()), [4, 5]);
        assert_eq!(numbers(&one.take()), [] as [i64; 0]);
        drop(all);
        assert!(feed.is_watched());
        assert_eq!(subscribers.get(), 1);
        drop(one);
        assert!(!feed.is_watched() && feed.inboxes().is_empty());
        assert_eq!(subscribers.get(), 0);
    }

    #[test]
    fn what_finds_no_room_is_missed_and_nothing_else() {
        let feed = Arc::new(Feed::default());
        let watch = feed.watch_deliveries(ACME, None, 3);
        feed.tell(&deliveries(ACME, HOOK, 1, 5));
        feed.tell(&deliveries(ACME, WebhookId(8), 9, 9));
        feed.tell(&deliveries(ACME, HOOK, 2, 2));
        let news = watch.take();
        assert_eq!(numbers(&news), [1, 2, 3]);
        assert_eq!(news.missed, BTreeMap::from([(HOOK, span(4, 5)), (WebhookId(8), span(9, 9))]));
        feed.tell(&deliveries(ACME, HOOK, 6, 6));
        let news = watch.take();
        assert!(numbers(&news) == [6] && news.missed.is_empty());
    }

    #[test]
    fn memory_is_bounded_however_many_webhooks_change() {
        let feed = Arc::new(Feed::default());
        let watch = feed.watch_deliveries(ACME, None, 1);
        for id in 0..5_000 {
            feed.tell(&deliveries(ACME, WebhookId(id), 1, 1));
        }
        let news = watch.take();
        assert!(news.changed.len() == 1 && news.missed.len() == WEBHOOKS_MISSED_MAX && news.is_all_missed);
        feed.tell_unknown();
        assert!(watch.take().is_all_missed);
    }

    /// Pages and news together have each number once, whenever they come.
    #[test]
    fn the_seam_has_no_hole_and_no_double() {
        let feed = Arc::new(Feed::default());
        let watch = feed.watch_deliveries(ACME, Some(HOOK), 100);
        feed.tell(&deliveries(ACME, HOOK, 3, 3));
        // 3 was committed after the look that found 2 to be the last.
        watch.catch_up(IncrementId(1), IncrementId(2));
        assert_eq!(watch.next_page(1), Some(span(2, 2)));
        feed.tell(&deliveries(ACME, HOOK, 4, 4));
        feed.tell(&deliveries(ACME, HOOK, 2, 2));
        assert_eq!(watch.next_page(9), Some(span(3, 4)));
        assert_eq!(watch.next_page(9), None);
        feed.tell(&deliveries(ACME, HOOK, 5, 5));
        assert_eq!(numbers(&watch.take()), [2, 5], "changed after it was read, and new");
    }

    #[test]
    fn an_event_is_read_or_told_of() {
        let feed = Arc::new(Feed::default());
        let watch = feed.watch_events(ACME, Patterns::try_new("order:*").unwrap(), Some(EventId(4)), 2);
        feed.tell(&event(6, "order:created"));
        let next = watch.next_read().unwrap();
        assert_eq!((next.after, next.committed), (EventId(4), EventId(6)));
        feed.tell(&event(7, "order:created"));
        let read = |through| EventIds { ids: Vec::new(), through: EventId(through), is_last: true };
        watch.has_read(next, &read(5));
        let next = watch.next_read().unwrap();
        assert_eq!((next.after, next.committed), (EventId(6), EventId(7)), "6 is no more, 7 has come since");
        watch.has_read(next, &read(7));
        assert_eq!(watch.next_read(), None);
        // Told late, it is not told twice.
        feed.tell(&event(7, "order:created"));
        let topics = ["order:created", "product:created", "order:a", "order:b", "order:c"];
        for (id, topic) in (8..).zip(topics) {
            feed.tell(&event(id, topic));
        }
        let news = watch.take();
        assert_eq!(news.published.into_iter().collect::<Vec<_>>(), [EventId(8), EventId(10)]);
        assert_eq!(news.missed, Some(MissedEvents { first: EventId(11), last: Some(EventId(12)) }));
        feed.tell_unknown();
        assert_eq!(watch.take().missed, Some(MissedEvents { first: EventId(13), last: None }));
    }
}
