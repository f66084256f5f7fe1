//! Erasing: an event whose message nobody may keep goes with all that was sent and got for it,
//! delivery by delivery, and at last itself. Numbers stay, as tombstones.

use super::auditing::{self, Audited, Told};
use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Learned, Other, StandingRow};
use super::news::Announcement;
use super::wants::{Attempts, Wants};
use crate::domain::audit::Action;
use crate::domain::by::By;
use crate::domain::id::{EventId, IncrementId, Span, WebhookId};
use crate::domain::standing::{Refusal, Standing};
use crate::store::error::StoreError;

/// Attempts that a step erases, up to so many bytes: each may be dozens of pages.
const ATTEMPTS_PER_STEP: u32 = 250;
const BYTES_PER_STEP: u64 = 2 * 1_024 * 1_024;

/// A delivery of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfEvent {
    /// Whose.
    pub webhook_id: WebhookId,
    /// Its number.
    pub number: IncrementId,
    /// The number under which its attempts are logged: the first of its batch, or its own.
    pub logged_under: IncrementId,
}

/// What a step of it came to.
#[derive(Clone, Copy, Debug)]
pub struct Erasing {
    /// Whether attempts are left, for the next step.
    pub are_left: bool,
    /// Whether anything was done.
    pub did: bool,
}

/// Ends a delivery, if that is still to be done, and forgets its event and its attempts, whosesoever
/// webhook it is: who asks has found it by the event. Of a batch that has ended, the attempts are
/// those of all that was in it, which stand by themselves from then on. Fails with
/// [`StoreError::InBatch`] while something of its batch is to be sent, and with
/// [`StoreError::NoDelivery`] if it is gone.
pub struct EraseDelivery {
    /// On whose behalf.
    pub by: By,
    /// Which.
    pub which: OfEvent,
}

impl EraseDelivery {
    fn put(&self, out: &mut Decision, number: IncrementId, standing: Standing) {
        out.rows.standings.push(StandingRow { webhook_id: self.which.webhook_id, number, standing });
    }

    /// Has it forget its event, and the others of its batch be in none.
    fn forget(&self, view: &View<'_>, out: &mut Decision, own: Standing) -> Result<()> {
        let OfEvent { webhook_id: id, number, .. } = self.which;
        let erased = own.erased(view.now).map_err(refused)?;
        let batch = own.shared_batch().unwrap_or(Span::one(number));
        for other in batch.numbers().filter(|other| *other != number) {
            let found = view.loaded.deliveries.get(&(id, other));
            if let Some(released) = found.and_then(|found| found.standing.released()) {
                self.put(out, other, released);
            }
        }
        // Whether it is forgotten is a row of its own.
        if (Standing { is_forgotten: own.is_forgotten, ..erased }) != own {
            self.put(out, number, erased);
        }
        if own.is_to_be_sent() {
            out.learned.push(Learned::Chore(id));
            out.news.push(Announcement::Reread(id, number));
            out.news.push(Announcement::Changed(id, Span::one(number)));
        }
        out.rows.others.push(Other::Forgotten(id, number));
        let (subject, [before, after]) =
            (auditing::delivery(id, number), [own, erased].map(|it| auditing::standing(&it)));
        out.audit(Audited::new(self.by.whose(), Action::EventErase, subject, &before, &after));
        Ok(())
    }
}

impl Change for EraseDelivery {
    type Answer = Erasing;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        let OfEvent { webhook_id, number, logged_under } = self.which;
        wants.batches.push((webhook_id, number));
        let after = (IncrementId(logged_under.0.saturating_sub(1)), u32::MAX);
        wants.attempts = Some(Attempts { webhook_id, after, only: Some(logged_under), max: ATTEMPTS_PER_STEP });
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Erasing>> {
        let OfEvent { webhook_id: id, number, logged_under } = self.which;
        let find = |number| view.loaded.deliveries.get(&(id, number)).map(|found| found.standing);
        let own = find(number).ok_or(StoreError::NoDelivery)?;
        if let Some(batch) = own.shared_batch() {
            let is_wanted = batch.numbers().filter_map(find).any(Standing::is_to_be_sent);
            // What was sealed since it was found is to be sent, or was.
            if is_wanted || logged_under != batch.first {
                return Err(StoreError::InBatch(batch));
            }
        }
        let (mut gone, mut bytes) = (Vec::new(), 0);
        for attempt in &view.loaded.attempts {
            if bytes >= BYTES_PER_STEP {
                break;
            }
            gone.push(attempt.place);
            bytes += attempt.bytes;
        }
        let are_left = gone.len() < view.loaded.attempts.len() || gone.len() as u32 == ATTEMPTS_PER_STEP;
        // Where its attempts are found by its batch, it leaves that only when they are gone.
        let is_to_forget = !own.is_forgotten && (own.shared_batch().is_none() || !are_left);
        if is_to_forget {
            self.forget(view, out, own)?;
        }
        let did = is_to_forget || !gone.is_empty();
        if !gone.is_empty() {
            out.rows.others.push(Other::AttemptsForgotten(id, gone));
            out.learned.push(Learned::LogShrunk(id, bytes));
        }
        Ok(Step::Done(Erasing { are_left, did }))
    }
}

fn refused(why: Refusal) -> StoreError {
    match why {
        Refusal::HasEnded(state) => StoreError::HasEnded { state },
        Refusal::InBatch(batch) => StoreError::InBatch(batch),
        Refusal::IsForgotten => StoreError::NoDelivery,
    }
}

/// Deletes an event, and overwrites it; false, with nothing done, while something of it is to be
/// sent or numbered. It is for who asks to know whose it is.
pub struct EraseEvent {
    /// On whose behalf.
    pub by: By,
    /// Which.
    pub event_id: EventId,
}

impl Change for EraseEvent {
    type Answer = bool;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.needed.push(self.event_id);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<bool>> {
        let id = self.event_id;
        if view.loaded.needed.contains(&id) || view.book.fanouts.has(id) {
            return Ok(Step::Done(false));
        }
        out.rows.others.push(Other::EventForgotten(id));
        out.audit(Audited::new(self.by.whose(), Action::EventErase, id, &Told::NOTHING, &Told::NOTHING));
        Ok(Step::Done(true))
    }
}
