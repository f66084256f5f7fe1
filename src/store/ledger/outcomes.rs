//! Recording attempts, and what follows from them for their webhooks.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::warn;

use super::book::{Book, Counters};
use super::change::{Change, Result, Step, View};
use super::decision::{AttemptRow, Decision, Learned, Other, StandingRow};
use super::news::Announcement;
use super::notices::{self, Notice, Notices};
use super::numbering::Numbering;
use super::queue::Cost;
use super::wants::{FirstHeard, Wants};
use super::webhooks::announced;
use crate::domain::delivery::{ErrorClass, Outcome, Verdict};
use crate::domain::id::{IncrementId, MerchantId, Span, WebhookId};
use crate::domain::standing::{Heard, Standing, heard_together};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DisabledReason, Webhook};

/// So many failures in a row there must be besides: one before a clock jumped
/// forward, and one after it, say nothing of the days in between.
const DISABLE_FAILURES_MIN: u32 = 5;

/// Records attempts and what becomes of their deliveries. A webhook that
/// answered 410, or has failed for `disable_after` without a success, is
/// disabled. Its answer says for which merchants nothing was recorded, since others
/// held them.
pub struct Record {
    outcomes: Arc<[Outcome]>,
    /// The answers' bodies in zlib's format, where that is worth it.
    compressed: Vec<Option<Vec<u8>>>,
    put_off: Vec<MerchantId>,
}

/// An attempt that was not on record yet.
struct Counted<'a> {
    outcome: &'a Outcome,
    /// Of its webhook, before.
    settled_through: Option<IncrementId>,
    /// It was asked to be sent again while this attempt was under way.
    is_sent_again: bool,
}

impl Record {
    /// Of these outcomes; `compressed` are the bodies of their answers, where that
    /// is worth it.
    pub fn new(outcomes: Arc<[Outcome]>, compressed: Vec<Option<Vec<u8>>>) -> Self {
        Self { outcomes, compressed, put_off: Vec::new() }
    }

    /// What it costs: a row for each attempt and each number, and what is kept
    /// of requests and answers.
    pub fn cost(&self) -> Cost {
        let one = |(outcome, body): (&Outcome, &Option<Vec<u8>>)| {
            let saved = body.as_ref().map_or(0, |body| outcome.attempt.response_body.len() - body.len());
            (1 + outcome.numbers.numbers().count(), outcome.attempt.weight() - saved)
        };
        let all = self.outcomes.iter().zip(&self.compressed).map(one);
        let (rows, bytes) = all.fold((0, 0), |sum: (usize, usize), one| (sum.0 + one.0, sum.1 + one.1));
        Cost::of(rows, bytes)
    }

    /// Leaves out what is of other merchants than these; how many outcomes that was.
    fn keep(&mut self, is_kept: impl Fn(MerchantId) -> bool) -> usize {
        let (before, keeps) = (self.outcomes.len(), |outcome: &Outcome| is_kept(outcome.merchant_id));
        if self.outcomes.iter().all(keeps) {
            return 0;
        }
        let (outcomes, compressed) = (std::mem::take(&mut self.outcomes), std::mem::take(&mut self.compressed));
        let kept = outcomes.iter().zip(compressed).filter(|(outcome, _)| keeps(outcome));
        let (outcomes, compressed): (Vec<_>, _) = kept.map(|(outcome, body)| (outcome.clone(), body)).unzip();
        (self.outcomes, self.compressed) = (outcomes.into(), compressed);
        before - self.outcomes.len()
    }

    /// What is not on record yet, written.
    fn counted<'a>(
        outcomes: &'a Arc<[Outcome]>,
        compressed: &mut [Option<Vec<u8>>],
        view: &View<'_>,
        out: &mut Decision,
    ) -> Vec<Counted<'a>> {
        let mut counted = Vec::with_capacity(outcomes.len());
        let mut changed: FxHashMap<(WebhookId, IncrementId), Standing> = FxHashMap::default();
        let (mut keys, mut before, mut standings) = (Vec::new(), Vec::new(), Vec::new());
        let mut first_heard = view.loaded.first_heard.iter();
        for (index, (outcome, compressed)) in outcomes.iter().zip(compressed).enumerate() {
            let id = outcome.webhook_id;
            let is_written = first_heard_of(outcome).is_some() && first_heard.next() == Some(&true);
            keys.clear();
            standings.clear();
            let numbers = Some(outcome.numbers).filter(|_| !is_written);
            for number in numbers.into_iter().flat_map(Span::numbers) {
                let found = || view.loaded.deliveries.get(&(id, number)).map(|found| found.standing);
                if let Some(standing) = changed.get(&(id, number)).copied().or_else(found) {
                    keys.push(number);
                    standings.push(standing);
                }
            }
            before.clone_from(&standings);
            let heard = match is_written {
                true => Heard::Counted,
                false => heard_together(&mut standings, outcome, view.now),
            };
            if heard == Heard::Nothing {
                continue;
            }
            for ((number, before), standing) in keys.iter().zip(&before).zip(&standings) {
                if standing != before {
                    let (number, standing) = (*number, *standing);
                    changed.insert((id, number), standing);
                    out.rows.standings.push(StandingRow { webhook_id: id, number, standing });
                }
            }
            let entry = view.book.entry(id);
            let merchant = entry.map(|entry| entry.webhook.merchant_id);
            let has_room = |merchant| view.book.logs.has_room(merchant, id, &view.book.terms.retention);
            let merchant = merchant.filter(|merchant| has_room(*merchant));
            let (outcomes, compressed) = (Arc::clone(outcomes), compressed.take());
            let row = AttemptRow { outcomes, index, is_whole: merchant.is_some(), compressed };
            if let Some(merchant) = merchant {
                let place = (outcome.numbers.first, outcome.attempt.attempt);
                out.learned.push(Learned::Logged { merchant, webhook_id: id, place, bytes: row.bytes() });
            }
            out.rows.attempts.push(row);
            let settled_through = entry.map(|entry| entry.counters.settled_through);
            counted.push(Counted { outcome, settled_through, is_sent_again: heard == Heard::SentAgain });
        }
        counted
    }
}

impl Change for Record {
    type Answer = Vec<MerchantId>;

    fn sent_for(&self) -> Vec<MerchantId> {
        let mut merchants: Vec<_> = self.outcomes.iter().map(|outcome| outcome.merchant_id).collect();
        merchants.sort_unstable();
        merchants.dedup();
        merchants
    }

    fn leave_out(&mut self, is_lost: &dyn Fn(MerchantId) -> bool) -> usize {
        let lost = self.keep(|merchant| !is_lost(merchant));
        if lost > 0 {
            warn!(lost, "what came of deliveries is not recorded: another node sends for their merchants by now");
        }
        lost
    }

    fn put_off(&mut self, is_held: &dyn Fn(MerchantId) -> bool) {
        self.put_off.extend(self.sent_for().into_iter().filter(|merchant| is_held(*merchant)));
        self.keep(|merchant| !is_held(merchant));
    }

    fn wants(&self, book: &Book, wants: &mut Wants) {
        let mut told_of = FxHashSet::default();
        for outcome in &*self.outcomes {
            let (id, numbers) = (outcome.webhook_id, outcome.numbers);
            match first_heard_of(outcome) {
                Some(standing) => {
                    wants.first_heard.push(FirstHeard { webhook_id: id, number: numbers.first, standing });
                }
                None => wants.deliveries.push((id, numbers)),
            }
            let is_failure = outcome.attempt.error.is_some();
            if !is_failure && !book.is_recovering(id) {
                continue;
            }
            let Some(entry) = book.entry(id).filter(|entry| !entry.is_deleted) else { continue };
            let may_tell = !is_failure
                || matches!(outcome.verdict, Verdict::Abandoned | Verdict::Gone)
                || entry.counters.consecutive_failures + 1 >= DISABLE_FAILURES_MIN;
            if may_tell {
                wants.topics.push((id, numbers));
                // Each kind goes out once for a webhook; what follows in the same change gathers.
                if told_of.insert(id) {
                    wants.notices.extend(Notice::ALL.map(|notice| (id, notice)));
                    notices::want(book, wants, entry.webhook.merchant_id);
                }
            }
        }
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Vec<MerchantId>>> {
        let counted = Self::counted(&self.outcomes, &mut self.compressed, view, out);
        let mut aftermaths = FxHashMap::default();
        let (mut numbering, mut notices, mut raised) = (Numbering::default(), Notices::default(), Vec::new());
        for Counted { outcome, is_sent_again, .. } in &counted {
            let id = outcome.webhook_id;
            let aftermath = match aftermaths.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match Aftermath::of(view, id) {
                    Some(aftermath) => place.insert(aftermath),
                    None => continue,
                },
            };
            aftermath.heed(outcome, view.now, view.book.terms.disable_after, |notice| {
                // What goes out once more is not abandoned yet.
                if !is_sent_again || notice != Notice::DeliveryAbandoned {
                    raised.push((id, (outcome.numbers, notice)));
                }
            });
        }
        for (id, what) in raised {
            notices.raise(view, out, &mut numbering, id, what)?;
        }
        for (id, aftermath) in aftermaths {
            aftermath.conclude(view, out, id);
        }
        numbering.announce(view, out);
        for Counted { outcome, settled_through, is_sent_again } in counted {
            let (id, numbers) = (outcome.webhook_id, outcome.numbers);
            let has_ended = matches!(outcome.verdict, Verdict::Delivered | Verdict::Abandoned);
            if has_ended && settled_through.is_some_and(|settled| numbers.contains(settled.next())) {
                out.learned.push(Learned::Chore(id));
            }
            if is_sent_again {
                out.news.push(Announcement::Reread(id, numbers.first));
            }
            out.news.extend(numbers.numbers().map(|number| Announcement::Attempted(id, number)));
        }
        Ok(Step::Done(std::mem::take(&mut self.put_off)))
    }
}

/// Where a delivery stands once this is heard, if it is the first that is heard
/// of it, and it is alone.
fn first_heard_of(outcome: &Outcome) -> Option<Standing> {
    let is_first = outcome.attempt.attempt == 1 && outcome.resends_asked == 0;
    let is_alone = outcome.numbers.first == outcome.numbers.last;
    // What waits for an enabled webhook is due from the commit on.
    let is_gone = outcome.verdict == Verdict::Gone;
    if is_first && is_alone && !is_gone { Standing::NEW.heard(outcome, outcome.ended_at) } else { None }
}

/// What the outcomes of a change mean for a webhook.
struct Aftermath {
    webhook: Arc<Webhook>,
    counters: Counters,
    /// Its definition, if the server changes that.
    changed: Option<Webhook>,
}

impl Aftermath {
    /// As it is before the change; `None` if the webhook was deleted.
    fn of(view: &View<'_>, id: WebhookId) -> Option<Self> {
        let entry = view.book.entry(id).filter(|entry| !entry.is_deleted)?;
        Some(Self { webhook: Arc::clone(&entry.webhook), counters: entry.counters, changed: None })
    }

    fn heed(&mut self, outcome: &Outcome, now: Timestamp, disable_after: Duration, mut raise: impl FnMut(Notice)) {
        let Counters { consecutive_failures, failing_since, pause, .. } = &mut self.counters;
        *pause = outcome.pause;
        let webhook = self.changed.as_ref().unwrap_or(&self.webhook);
        if outcome.attempt.error.is_none() {
            (*consecutive_failures, *failing_since) = (0, None);
            if webhook.is_recovering && webhook.disabled.is_none() {
                raise(Notice::WebhookRecovered);
                self.changed = Some(Webhook { is_recovering: false, ..webhook.clone() });
            }
            return;
        }
        if is_too_large(outcome) {
            // Its receiver was not asked.
            return raise(Notice::DeliveryAbandoned);
        }
        *consecutive_failures = consecutive_failures.saturating_add(1);
        let since = *failing_since.get_or_insert(outcome.attempt.started_at);
        if outcome.verdict == Verdict::Abandoned {
            raise(Notice::DeliveryAbandoned);
        }
        let reason = match outcome.verdict {
            Verdict::Gone => Some(DisabledReason::Gone),
            _ if now.since(since) >= disable_after && *consecutive_failures >= DISABLE_FAILURES_MIN => {
                Some(DisabledReason::Failing)
            }
            _ => None,
        };
        if reason.is_some() && webhook.disabled.is_none() {
            raise(Notice::WebhookDisabled);
            self.changed = Some(Webhook { disabled: reason, ..webhook.clone() });
        }
    }

    /// Has the book and the rows know of it.
    fn conclude(self, view: &View<'_>, out: &mut Decision, id: WebhookId) {
        if view.book.entry(id).is_some_and(|entry| entry.counters != self.counters) {
            out.learned.push(Learned::Counters(id, self.counters));
        }
        if let Some(webhook) = self.changed {
            let webhook = announced(out, webhook, self.counters);
            out.rows.others.push(Other::Webhook(webhook));
        }
    }
}

/// True if nothing was sent, since the body would be longer than it may be.
fn is_too_large(outcome: &Outcome) -> bool {
    outcome.attempt.error.as_ref().is_some_and(|error| error.class == ErrorClass::BodyTooLarge)
}
