//! Giving events the next numbers of webhooks.

use std::collections::HashSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::change::{Result, View};
use super::decision::{Decision, Learned, NewEventRow, NumberedRow};
use super::fanout::Fanout;
use super::news::Announcement;
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::topic::Topic;
use crate::domain::webhook::Rendering;
use crate::store::error::StoreError;
use crate::store::parcel::Parcel;

/// Numbers that are given out in a change, which the book and the worker learn
/// of at its end.
#[derive(Default)]
pub struct Numbering {
    taken: FxHashMap<WebhookId, IncrementId>,
    made: usize,
    parcels: Vec<(WebhookId, Parcel)>,
    /// Whose numbers are read from the store, all of them.
    read: HashSet<WebhookId>,
    events: Vec<Arc<Event>>,
    /// What is to be numbered in later changes.
    left: Vec<(i64, Fanout)>,
}

impl Numbering {
    /// Accepts an event, and has those who watch told of it.
    pub fn accept(
        &mut self,
        view: &View<'_>,
        out: &mut Decision,
        merchant_id: MerchantId,
        event: NewEvent,
    ) -> Result<Arc<Event>> {
        let code = view.book.code(merchant_id).ok_or_else(|| StoreError::failed("a merchant's code was not read"))?;
        let NewEvent { topic, message, created_at, idempotency_key: _, trace, labels } = event;
        let (event_id, merchant_code) = (out.next_event()?, Arc::clone(code));
        let event = Arc::new(Event { event_id, merchant_id, merchant_code, topic, message, created_at, trace });
        out.rows.events.push(NewEventRow { event: Arc::clone(&event), labels });
        // A test is of the webhook's owner, not of those who watch.
        if event.topic != Topic::test() {
            self.events.push(Arc::clone(&event));
        }
        Ok(event)
    }

    /// Leaves the rest of a fan-out to later changes.
    pub fn leave(&mut self, fanout_id: i64, fanout: Fanout) {
        self.left.push((fanout_id, fanout));
    }

    /// Gives an event the next number of one webhook, and hands it over to be
    /// sent. `None` if the webhook is gone.
    pub fn deliver(
        &mut self,
        view: &View<'_>,
        out: &mut Decision,
        id: WebhookId,
        event: &Arc<Event>,
    ) -> Option<IncrementId> {
        let entry = view.book.entry(id).filter(|entry| !entry.is_deleted)?;
        let rendering = entry.webhook.spec.rendering(&event.topic);
        let number = self.take(entry.counters.last, out, id, event.event_id, rendering, |_| Standing::NEW);
        let parcel = Parcel {
            increment_id: number,
            attempts: 0,
            policy_start: 0,
            resends_asked: 0,
            numbered_at: view.now,
            due_at: None,
            format: rendering.format,
            event: Arc::clone(event),
            // To cut a message takes too long for the thread that all changes wait for.
            expansion: rendering.expansion.cloned().map(Arc::new),
            batch: None,
        };
        self.parcels.push((id, parcel));
        Some(number)
    }

    /// How many numbers were given out.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Gives an event the next number of one webhook, which will read it from
    /// the store. `None` if the webhook is gone.
    pub fn number(
        &mut self,
        view: &View<'_>,
        out: &mut Decision,
        id: WebhookId,
        (event, topic): (EventId, &Topic),
        standing: impl FnOnce(IncrementId) -> Standing,
    ) -> Option<IncrementId> {
        let entry = view.book.entry(id).filter(|entry| !entry.is_deleted)?;
        self.read.insert(id);
        let rendering = entry.webhook.spec.rendering(topic);
        Some(self.take(entry.counters.last, out, id, event, rendering, standing))
    }

    fn take(
        &mut self,
        last: IncrementId,
        out: &mut Decision,
        webhook_id: WebhookId,
        event_id: EventId,
        rendering: Rendering<'_>,
        standing: impl FnOnce(IncrementId) -> Standing,
    ) -> IncrementId {
        let taken = self.taken.entry(webhook_id).or_insert(last);
        *taken = taken.next();
        let number = *taken;
        let (format, expansion) = (rendering.format, rendering.expansion.cloned().map(Arc::new));
        let standing = standing(number);
        out.rows.numbered.push(NumberedRow { webhook_id, number, event_id, format, expansion, standing });
        self.made += 1;
        number
    }

    /// Has the book and the news know of it.
    pub fn announce(self, view: &View<'_>, out: &mut Decision) {
        for (id, last) in self.taken {
            out.learned.push(Learned::Last(id, last));
            // A parcel says so itself.
            if self.read.contains(&id)
                && let Some(entry) = view.book.entry(id)
            {
                out.news.push(Announcement::Through(id, last));
                out.news.push(Announcement::Changed(id, Span { first: entry.counters.last.next(), last }));
            }
        }
        out.learned.extend(self.left.into_iter().map(|(id, fanout)| Learned::Fanout(id, fanout)));
        out.news.extend(self.events.into_iter().map(Announcement::Published));
        let handed_over = self.parcels.into_iter().filter(|(id, _)| !self.read.contains(id));
        out.news.extend(handed_over.map(|(id, parcel)| Announcement::Parcel(id, parcel)));
    }
}
