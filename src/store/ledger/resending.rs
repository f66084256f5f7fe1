//! Sending again, not sending any more, sending for a test, and sending
//! together: what is done to single deliveries.

use std::sync::Arc;

use super::auditing::{self, Audited};
use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Learned, Other, StandingRow};
use super::news::Announcement;
use super::numbering::Numbering;
use super::wants::{Attempts, Found, Wants};
use super::webhooks;
use crate::domain::audit::Action;
use crate::domain::by::By;
use crate::domain::delivery::EndReason;
use crate::domain::event::{Message, NewEvent};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::standing::{Refusal, Standing, seal};
use crate::domain::topic::Topic;
use crate::store::error::StoreError;
use crate::store::parcel::Parcel;

/// One delivery of a merchant's webhook.
#[derive(Clone, Debug)]
pub struct Target {
    /// On whose behalf.
    pub by: By,
    /// Which webhook.
    pub webhook_id: WebhookId,
    /// Which number.
    pub number: IncrementId,
}

impl Target {
    fn wants(&self, wants: &mut Wants) {
        wants.batches.push((self.webhook_id, self.number));
    }

    /// Where it stands.
    fn find<'a>(&self, view: &View<'a>) -> Result<&'a Found> {
        webhooks::find(view, &self.by, self.webhook_id)?;
        view.loaded.deliveries.get(&(self.webhook_id, self.number)).ok_or(StoreError::NoDelivery)
    }

    /// All that goes out with it, itself included.
    fn batch<'a>(&self, view: &View<'a>, own: &Found) -> Result<(Span, Vec<(IncrementId, &'a Found)>)> {
        let span = own.standing.batch.unwrap_or(Span::one(self.number));
        let one = |number| Some((number, view.loaded.deliveries.get(&(self.webhook_id, number))?));
        let all = span.numbers().map(one).collect::<Option<_>>();
        Ok((span, all.ok_or_else(|| StoreError::failed("damaged store: a batch is not whole"))?))
    }
}

/// Has what was done to a delivery stand in the audit log.
fn audit(out: &mut Decision, target: &Target, action: Action, [old, new]: [Standing; 2]) {
    let (subject, [before, after]) =
        (auditing::delivery(target.webhook_id, target.number), [old, new].map(|it| auditing::standing(&it)));
    out.audit(Audited::new(target.by.whose(), action, subject, &before, &after));
}

fn put(out: &mut Decision, webhook_id: WebhookId, number: IncrementId, standing: Standing) {
    out.rows.standings.push(StandingRow { webhook_id, number, standing });
}

/// Makes a delivery due now, with all of its batch. What has ended undelivered
/// is pending again; what was delivered stays so, whatever becomes of the
/// re-send. One whose request is under way goes out once more when that has
/// ended; one that was never tried, and is not under way, does so for the first
/// time.
pub struct Retry(pub Target);

impl Change for Retry {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        self.0.wants(wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let Target { webhook_id: id, .. } = self.0;
        let (span, batch) = self.0.batch(view, self.0.find(view)?)?;
        for (number, found) in batch {
            let again = found.standing.sent_again(view.now).filter(|_| found.is_whole);
            let again = again.ok_or(StoreError::Pruned)?;
            if number == self.0.number {
                audit(out, &self.0, Action::DeliveryRetry, [found.standing, again]);
            }
            put(out, id, number, again);
        }
        out.news.push(Announcement::Reread(id, span.first));
        out.news.push(Announcement::Now(id, span.first));
        out.news.push(Announcement::Changed(id, span));
        Ok(Step::Done(()))
    }
}

/// Ends a pending delivery; what is on its way is recorded all the same. A
/// delivered one is not sent again. One of a batch is ended only with all of
/// it, if the caller wants that; else fails with [`StoreError::InBatch`].
/// Fails with [`StoreError::HasEnded`] if there is nothing to cancel.
pub struct Cancel {
    /// Which.
    pub target: Target,
    /// Whether all of its batch is meant.
    pub whole_batch: bool,
}

impl Change for Cancel {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        self.target.wants(wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let own = self.target.find(view)?;
        own.standing.check_cancel(self.whole_batch).map_err(refused)?;
        let (span, batch) = self.target.batch(view, own)?;
        for (number, found) in batch {
            if let Some(ended) = found.standing.cancelled(EndReason::CancelledByOwner, view.now) {
                if number == self.target.number {
                    audit(out, &self.target, Action::DeliveryCancel, [found.standing, ended]);
                }
                put(out, self.target.webhook_id, number, ended);
            }
        }
        tell_cancelled(out, self.target.webhook_id, span);
        Ok(Step::Done(()))
    }
}

fn tell_cancelled(out: &mut Decision, id: WebhookId, span: Span) {
    out.learned.push(Learned::Chore(id));
    out.news.push(Announcement::Reread(id, span.first));
    out.news.push(Announcement::Changed(id, span));
}

fn refused(why: Refusal) -> StoreError {
    match why {
        Refusal::HasEnded(state) => StoreError::HasEnded { state },
        Refusal::InBatch(batch) => StoreError::InBatch(batch),
        Refusal::IsForgotten => StoreError::NoDelivery,
    }
}

/// Numbers a test event for one webhook, to be sent at once, and alone. Fails
/// with [`StoreError::Full`] like any other event.
pub struct Test {
    /// On whose behalf.
    pub by: By,
    /// Which webhook.
    pub webhook_id: WebhookId,
    /// What is sent.
    pub message: Message,
}

impl Change for Test {
    type Answer = IncrementId;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        book.want_code(self.by.merchant, wants);
        book.want_room(wants);
        wants.ids.event = 1;
        book.want_counters(self.webhook_id, wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<IncrementId>> {
        let id = self.webhook_id;
        let spec = &webhooks::find(view, &self.by, id)?.webhook.spec;
        view.check_room()?;
        let message = self.message.clone();
        let trace = self.by.sender.and_then(|sender| sender.trace);
        let event = NewEvent {
            topic: Topic::test(),
            message,
            created_at: view.now,
            idempotency_key: None,
            trace,
            labels: None,
        };
        let mut numbering = Numbering::default();
        let event = numbering.accept(view, out, self.by.merchant, event)?;
        let rendering = spec.rendering(&event.topic);
        let standing = |number| Standing::of_test(spec.batch.map(|_| Span::one(number)), view.now);
        let number = numbering.number(view, out, id, (event.event_id, &event.topic), standing);
        let number = number.ok_or(StoreError::NoWebhook)?;
        numbering.announce(view, out);
        let parcel = Parcel {
            increment_id: number,
            attempts: 0,
            policy_start: 0,
            resends_asked: 0,
            numbered_at: view.now,
            due_at: Some(view.now),
            format: rendering.format,
            event,
            expansion: rendering.expansion.cloned().map(Arc::new),
            batch: spec.batch.map(|_| Vec::new()),
        };
        out.news.push(Announcement::Test(id, parcel));
        Ok(Step::Done(number))
    }
}

/// Attempts that a step forgets, up to so many bytes: each may be dozens of
/// pages.
const FORGOTTEN_PER_STEP: u32 = 250;
const FORGOTTEN_BYTES_PER_STEP: u64 = 2 * 1_024 * 1_024;

/// Ends a delivery, if that is still to be done, and forgets what was sent: of
/// its event and its attempts nothing stays but the number, the state, the
/// reason and the times. True if attempts are left, for the next change. One of
/// a batch fails with [`StoreError::InBatch`], and one that was forgotten
/// before, unless this goes on with it, with [`StoreError::NoDelivery`].
pub struct Forget {
    /// Which.
    pub target: Target,
    /// It was begun by another change.
    pub goes_on: bool,
}

impl Change for Forget {
    type Answer = bool;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        self.target.wants(wants);
        let Target { webhook_id, number, .. } = self.target;
        let after = (IncrementId(number.0.saturating_sub(1)), u32::MAX);
        wants.attempts = Some(Attempts { webhook_id, after, only: Some(number), max: FORGOTTEN_PER_STEP });
        wants.needed_beside = Some((webhook_id, number));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<bool>> {
        let (own, Target { webhook_id: id, number, .. }) = (self.target.find(view)?, self.target.clone());
        let found = &view.loaded.attempts;
        let mut are_left = found.len() as u32 == FORGOTTEN_PER_STEP;
        let (mut gone, mut bytes) = (Vec::new(), 0);
        for attempt in found {
            if bytes >= FORGOTTEN_BYTES_PER_STEP {
                are_left = true;
                break;
            }
            gone.push(attempt.place);
            bytes += attempt.bytes;
        }
        // What was begun and broken off is done now.
        let goes_on = self.goes_on || bytes > 0;
        let forgotten = own.standing.forgotten(goes_on, view.now).map_err(refused)?;
        if !self.goes_on {
            audit(out, &self.target, Action::DeliveryForget, [own.standing, forgotten]);
        }
        if own.standing.is_to_be_sent() {
            put(out, id, number, forgotten);
            tell_cancelled(out, id, Span::one(number));
        }
        if !own.standing.is_forgotten {
            out.rows.others.push(Other::Forgotten(id, number));
            if view.loaded.needed.contains(&own.event_id) || view.book.fanouts.has(own.event_id) {
                out.learned.push(Learned::ToForget(self.target.by.merchant, own.event_id));
            } else {
                out.rows.others.push(Other::EventForgotten(own.event_id));
            }
        }
        out.rows.others.push(Other::AttemptsForgotten(id, gone));
        out.learned.push(Learned::LogShrunk(id, bytes));
        Ok(Step::Done(are_left))
    }
}

/// Has fresh deliveries go out as one from now on; false, with nothing done,
/// unless all are.
pub struct Seal {
    /// Whose webhook.
    pub merchant_id: MerchantId,
    /// Whose.
    pub webhook_id: WebhookId,
    /// Which; `None`: another node sends for the webhook by now.
    pub batch: Option<Span>,
}

impl Change for Seal {
    type Answer = bool;

    fn sent_for(&self) -> Vec<MerchantId> {
        vec![self.merchant_id]
    }

    fn leave_out(&mut self, is_lost: &dyn Fn(MerchantId) -> bool) -> usize {
        self.batch = self.batch.filter(|_| !is_lost(self.merchant_id));
        // Nothing was sent yet.
        0
    }

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.deliveries.extend(self.batch.map(|batch| (self.webhook_id, batch)));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<bool>> {
        let Some(batch) = self.batch else { return Ok(Step::Done(false)) };
        let find = |number| view.loaded.deliveries.get(&(self.webhook_id, number)).map(|found| found.standing);
        let mut standings: Vec<Standing> = batch.numbers().filter_map(find).collect();
        let is_sealed = seal(&mut standings, batch, view.now);
        if is_sealed {
            for (number, standing) in batch.numbers().zip(standings) {
                put(out, self.webhook_id, number, standing);
            }
        }
        Ok(Step::Done(is_sealed))
    }
}
