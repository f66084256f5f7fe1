//! Work that nobody waits for, done in bounded steps between the changes, so
//! that it never stalls them: settling, cancelling what a deleted webhook
//! left behind, replays and backfills, sweeping out what has expired, pruning.

use std::collections::HashSet;

use super::book::{Book, Counters, Entry};
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Learned, Other, StandingRow};
use super::jobs::{JobStep, Stepped};
use super::news::Announcement;
use super::wants::{Found, Loaded, Pending, Wants};
use super::work::Work;
use super::{notices, spreading};
use crate::domain::delivery::EndReason;
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::standing::Standing;
use crate::store::error::StoreError;

/// Numbers of one webhook looked at in a step.
const NUMBERS_PER_STEP: u32 = 500;
/// Webhooks looked at in a step.
const WEBHOOKS_PER_STEP: usize = 16;
/// Rows changed in a step, about.
const ROWS_PER_STEP: usize = 500;
/// Expired rows of a kind removed in a sweep.
const ROWS_PER_SWEEP: u32 = 500;

/// A kind of housekeeping; false if there was nothing to do.
type Kind = fn(&mut Work<'_>) -> Result<bool>;

const KINDS: [Kind; 7] = [settle_some, finish_fanouts, work_on_jobs, sweep_out, prune_some, trim_logs, reseal_some];

/// Does a little of what there is to do, of one kind, for whatever shares the
/// commit waits for it; the kinds take turns. If it fails, the transaction has.
pub fn step(work: &mut Work<'_>) -> Result<()> {
    for _ in 0..KINDS.len() {
        let kind = KINDS[work.book.turn % KINDS.len()];
        work.book.turn = work.book.turn.wrapping_add(1);
        let done = kind(work);
        if work.note(done)? {
            break;
        }
    }
    Ok(())
}

/// Does a step of something that has no further ones.
fn done<C: Change>(work: &mut Work<'_>, change: C) -> Result<C::Answer> {
    done_with(work, change, None)
}

/// The same, if what it wants was read already.
fn done_with<C: Change>(work: &mut Work<'_>, mut change: C, loaded: Option<Loaded>) -> Result<C::Answer> {
    match work.run_with(&mut change, loaded)? {
        Step::Done(answer) => Ok(answer),
        Step::More(_) => Err(StoreError::failed("a chore is done in one step")),
    }
}

/// Moves `settled_through` of some webhooks on.
fn settle_some(work: &mut Work<'_>) -> Result<bool> {
    if !work.book.has_settling() {
        return Ok(false);
    }
    let chosen: Vec<_> = std::iter::from_fn(|| work.book.pop_chore()).take(WEBHOOKS_PER_STEP).collect();
    let mut merchants: Vec<_> = chosen.iter().map(|(merchant, _)| *merchant).collect();
    merchants.sort_unstable();
    merchants.dedup();
    let held = work.hold_all(&merchants)?;
    let (chosen, put_off): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(merchant, _)| held.contains(merchant));
    let chosen: Vec<_> = chosen.into_iter().map(|(_, id)| id).collect();
    if work.book.terms.is_shared {
        // How far it is to look follows from how far others have numbered.
        done(work, Count(chosen.clone()))?;
    }
    let wants: Vec<_> = chosen.iter().map(|id| wanted(&Settle(*id), work.book)).collect();
    let read = work.read_ahead(&wants)?;
    let before = work.written();
    let mut put_off: Vec<_> = put_off.into_iter().map(|(_, id)| id).collect();
    for (id, loaded) in chosen.into_iter().zip(read) {
        if work.written() - before >= ROWS_PER_STEP {
            put_off.push(id);
        } else {
            done_with(work, Settle(id), loaded)?;
        }
    }
    put_off.into_iter().for_each(|id| work.book.add_chore(id));
    Ok(true)
}

/// What a change wants.
fn wanted(change: &impl Change, book: &Book) -> Wants {
    let mut wants = Wants::default();
    change.wants(book, &mut wants);
    wants
}

/// Numbers what was accepted and is not numbered everywhere. One that fails
/// takes nothing else of the commit with it.
fn finish_fanouts(work: &mut Work<'_>) -> Result<bool> {
    let Some((merchant, fanout_id)) = work.book.fanouts.next_orphan() else { return Ok(false) };
    if !work.hold(merchant)? {
        return Ok(true);
    }
    if let Err(cause) = done(work, FinishFanout(fanout_id)) {
        work.check()?;
        if !cause.is_logged() {
            tracing::error!(%cause, fanout_id, "accepted events could not be numbered; trying again in a minute");
        }
        work.book.fanouts.rest();
    }
    Ok(true)
}

/// Does a step of a replay or a backfill. One for which the store has no room is
/// put aside until it is swept, so that it costs nothing meanwhile.
fn work_on_jobs(work: &mut Work<'_>) -> Result<bool> {
    let Some(job) = work.book.jobs.take_next() else { return Ok(false) };
    if !work.hold(job.merchant_id)? {
        work.book.jobs.put_back(job);
        return Ok(true);
    }
    match done(work, JobStep::of(job))? {
        Stepped::GoesOn(job) => work.book.jobs.put_back(job),
        Stepped::NoRoom(job) => work.book.jobs.park(job),
        Stepped::Done(job) => work.book.jobs.remove(&job),
    }
    Ok(true)
}

/// Seals secrets of some webhooks anew, where the key that seals is another by now.
fn reseal_some(work: &mut Work<'_>) -> Result<bool> {
    if !work.engine().is_resealing() {
        return Ok(false);
    }
    work.engine().reseal()?;
    Ok(true)
}

/// Sweeps, and begins to prune if it is time.
fn sweep_out(work: &mut Work<'_>) -> Result<bool> {
    if !std::mem::take(&mut work.book.wants_sweep) {
        return Ok(false);
    }
    if work.book.terms.is_shared {
        // What could not be had before, or was not told.
        work.catch_up(&work.book.leases.held())?;
    }
    let due = due_notices(work)?;
    let mut are_left = done(work, PublishDue(due))?;
    let mut events = work.book.forgetting.take_some();
    let mut put_off = Vec::new();
    for (merchant, event) in std::mem::take(&mut events) {
        let those = if work.hold(merchant)? { &mut events } else { &mut put_off };
        those.push((merchant, event));
    }
    put_off.into_iter().for_each(|(merchant, event)| work.book.forgetting.add(merchant, event));
    done(work, ForgetEvents(events))?;
    let (now, retention) = (work.now, work.book.terms.retention);
    are_left |= work.engine().sweep(now, retention.audited_before(now), ROWS_PER_SWEEP)?;
    work.book.wants_sweep |= are_left;
    // There may be room by now.
    work.book.jobs.unpark();
    work.book.fanouts.try_again();
    begin_pruning(work)?;
    Ok(true)
}

/// The webhooks of which there is something to say, as far as their merchants can
/// be held.
fn due_notices(work: &mut Work<'_>) -> Result<HashSet<WebhookId>> {
    let (wants, now) = (Wants { due_notices: Some(notices::PER_STEP), ..Wants::default() }, work.now);
    let mut due = HashSet::new();
    for (id, ..) in work.engine().load(&wants, now)?.due_notices {
        let merchant = work.book.entry(id).map(|entry| entry.webhook.merchant_id);
        // Of one that is gone there is nothing to say, but that has to be noted, too.
        if merchant.map_or(Ok(true), |merchant| work.hold(merchant))? {
            due.insert(id);
        }
    }
    Ok(due)
}

/// Begins a pass of pruning, if it is time for one.
fn begin_pruning(work: &mut Work<'_>) -> Result<()> {
    let mut wants = Wants::default();
    work.book.want_room(&mut wants);
    let (now, retention, is_under_way) = (work.now, work.book.terms.retention, work.engine().is_pruning());
    let used = work.engine().load(&wants, now)?.used_bytes;
    match work.book.pruning.begin(retention, used, is_under_way, now) {
        Some(before) => {
            work.book.pruning.attempts = 0;
            work.engine().begin_pruning(before)
        }
        None => Ok(()),
    }
}

/// Does a step of the pruning that is under way.
fn prune_some(work: &mut Work<'_>) -> Result<bool> {
    if !work.engine().is_pruning() {
        return Ok(false);
    }
    let (now, retention) = (work.now, work.book.terms.retention);
    if let Some(before) = work.book.pruning.begin_again(retention, now) {
        work.engine().begin_pruning(before)?;
    }
    // An event that is still being numbered has deliveries to come.
    let kept_from = work.book.fanouts.first_event();
    for (id, bytes) in work.engine().prune(kept_from)? {
        work.book.logs.shrink(id, bytes);
        work.book.pruning.attempts += 1;
    }
    if !work.engine().is_pruning() {
        let attempts = work.book.pruning.attempts;
        tracing::info!(attempts, "what had ended long ago was pruned");
        if work.book.pruning.end() {
            begin_pruning(work)?;
        }
    }
    Ok(true)
}

/// Takes some of what is too much out of the log whose turn it is.
fn trim_logs(work: &mut Work<'_>) -> Result<bool> {
    let retention = work.book.terms.retention;
    let Some((id, attempts)) = work.book.logs.begin_step(&retention) else { return Ok(false) };
    let now = work.now;
    let wants = Wants { attempts: Some(attempts), ..Wants::default() };
    let found = work.engine().load(&wants, now)?.attempts;
    let emptied = work.book.logs.step(id, &found, &retention);
    done(work, EmptyAttempts(id, emptied))?;
    Ok(true)
}

/// Has the book know how webhooks are counted, since others count, too.
struct Count(Vec<WebhookId>);

impl Change for Count {
    type Answer = ();

    fn wants(&self, book: &Book, wants: &mut Wants) {
        self.0.iter().for_each(|id| book.want_counters(*id, wants));
    }

    fn decide(&mut self, _: &View<'_>, _: &mut Decision) -> Result<Step<()>> {
        Ok(Step::Done(()))
    }
}

/// Moves `settled_through` on, ending on the way what a deleted webhook left
/// behind, and what the receiver of one that is pulled has taken.
struct Settle(WebhookId);

/// How far a step of settling looks.
fn horizon(counters: Counters) -> IncrementId {
    IncrementId(counters.last.0.min(counters.settled_through.0 + i64::from(NUMBERS_PER_STEP)))
}

impl Change for Settle {
    type Answer = ();

    fn wants(&self, book: &Book, wants: &mut Wants) {
        let Some(Entry { counters, is_deleted, .. }) = book.entry(self.0) else { return };
        let is_taken = counters.acknowledged_through > counters.settled_through;
        let max = if *is_deleted || is_taken { NUMBERS_PER_STEP } else { 1 };
        let (after, through) = (counters.settled_through, horizon(*counters));
        wants.pending = Some(Pending { webhook_id: self.0, after, through, max });
        if *is_deleted || is_taken {
            wants.again = Some((self.0, NUMBERS_PER_STEP));
        }
        if is_taken && !*is_deleted {
            wants.batches.push((self.0, through.min(counters.acknowledged_through)));
        }
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let Some(Entry { webhook, counters, is_deleted }) = view.book.entry(self.0) else { return Ok(Step::Done(())) };
        let merchant = webhook.merchant_id;
        let (id, horizon) = (self.0, horizon(*counters));
        let mut put = |number, standing: Option<Standing>| {
            out.rows.standings.extend(standing.map(|standing| StandingRow { webhook_id: id, number, standing }));
        };
        let mut first_pending = view.loaded.pending.first().map(|(number, _)| *number);
        let (mut are_left, mut out_of_turn) = (false, Vec::new());
        if *is_deleted {
            for (number, standing) in view.loaded.pending.iter().chain(&view.loaded.again) {
                put(*number, standing.cancelled(EndReason::WebhookDeleted, view.now));
            }
            first_pending = None;
            are_left = view.loaded.again.len() as u32 == NUMBERS_PER_STEP;
        } else if counters.acknowledged_through > counters.settled_through {
            let through = horizon.min(counters.acknowledged_through);
            let batch = &view.loaded.deliveries;
            let again = view.loaded.again.iter().filter(|(number, _)| *number <= through);
            // The others of these are pending ones.
            let again =
                again.filter(|(number, standing)| *number <= counters.settled_through || !standing.is_pending());
            let pending = view.loaded.pending.iter().filter(|(number, _)| *number <= through);
            for (number, standing) in pending.chain(again.clone()) {
                let taken = standing.acknowledged(view.now).filter(|_| !batch.contains_key(&(id, *number)));
                put(*number, taken);
            }
            out_of_turn.extend(again.map(|(number, _)| *number));
            // What remains of a batch that was taken in part goes out by itself.
            for ((_, number), Found { standing, .. }) in batch {
                let taken = standing.acknowledged(view.now).unwrap_or(*standing);
                let (cut, released) = (taken.cut(through).unwrap_or(taken), standing.released());
                put(*number, if *number <= through { Some(cut) } else { released });
            }
            first_pending = view.loaded.pending.iter().map(|(number, _)| *number).find(|number| *number > through);
            let last = view.loaded.again.get(NUMBERS_PER_STEP as usize - 1);
            if last.is_some_and(|(number, _)| *number <= through) {
                // There may be more of it, which nobody would come back for.
                (first_pending, are_left) = (Some(counters.settled_through.next()), true);
            }
            let span = Span { first: counters.settled_through.next(), last: through };
            let changed = out_of_turn.into_iter().map(Span::one).chain([span]);
            out.news.extend(changed.map(|span| Announcement::Changed(id, span)));
        }
        let settled = first_pending.map_or(horizon, |pending| IncrementId(pending.0 - 1));
        let counters = Counters { settled_through: settled.max(counters.settled_through), ..*counters };
        let is_done = settled == counters.last && !are_left;
        if is_done && *is_deleted {
            out.rows.counters.push((merchant, id, counters));
            out.rows.others.push(Other::WebhookBlotted(id));
            out.learned.push(Learned::Gone(id));
            return Ok(Step::Done(()));
        }
        if view.book.entry(id).is_some_and(|entry| entry.counters != counters) {
            out.learned.push(Learned::Counters(id, counters));
            if !view.book.leases.cover(merchant) {
                out.news.push(Announcement::Settled(id));
            }
        }
        if are_left || (settled == horizon && !is_done) {
            out.learned.push(Learned::Chore(id));
        }
        Ok(Step::Done(()))
    }
}

/// Has what has expired swept out, soon.
pub struct Sweep;

impl Change for Sweep {
    type Answer = ();

    fn decide(&mut self, _: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        out.learned.push(Learned::Sweep);
        Ok(Step::Done(()))
    }
}

struct FinishFanout(i64);

impl Change for FinishFanout {
    type Answer = ();

    fn wants(&self, book: &Book, wants: &mut Wants) {
        spreading::wants(book, wants, self.0);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        spreading::finish(view, out, self.0);
        Ok(Step::Done(()))
    }
}

/// Publishes what there is to say of these webhooks; true if there is more.
struct PublishDue(HashSet<WebhookId>);

impl Change for PublishDue {
    type Answer = bool;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        if self.0.is_empty() {
            return;
        }
        wants.due_notices = Some(notices::PER_STEP);
        for entry in self.0.iter().filter_map(|id| book.entry(*id)) {
            notices::want(book, wants, entry.webhook.merchant_id);
        }
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<bool>> {
        notices::publish_due(view, out, &self.0).map(Step::Done)
    }
}

/// Forgets those of these events of which nothing is to be sent.
struct ForgetEvents(Vec<(MerchantId, EventId)>);

impl Change for ForgetEvents {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.needed.extend(self.0.iter().map(|(_, event)| *event));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        for (merchant, event) in &self.0 {
            if view.loaded.needed.contains(event) || view.book.fanouts.has(*event) {
                out.learned.push(Learned::ToForget(*merchant, *event));
            } else {
                out.rows.others.push(Other::EventForgotten(*event));
            }
        }
        Ok(Step::Done(()))
    }
}

/// Takes headers and bodies out of these attempts.
struct EmptyAttempts(WebhookId, Vec<(IncrementId, u32)>);

impl Change for EmptyAttempts {
    type Answer = ();

    fn decide(&mut self, _: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        out.rows.others.push(Other::AttemptsEmptied(self.0, std::mem::take(&mut self.1)));
        Ok(Step::Done(()))
    }
}
