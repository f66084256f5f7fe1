//! Replays, retries of many and backfills: bulk work that is noted when it is
//! asked for, done in small steps between other changes, and gone on with after
//! a crash. What has ended stays for a day, so that it can be looked at.

use super::auditing::{self, Audited, Told};
use super::book::{Book, Entry};
pub use super::bulk::Job;
use super::change::{Change, Result, Step, View};
use super::choosing::{Bounds, choose, scan};
use super::decision::{Decision, Learned, Other, StandingRow};
use super::news::Announcement;
use super::numbering::Numbering;
use super::wants::{EventFound, Events, Wants};
use super::webhooks;
use crate::domain::audit::{Action, Subject};
use crate::domain::by::By;
use crate::domain::delivery::DeliveryFilter;
use crate::domain::event::EventFilter;
use crate::domain::id::{EventId, IncrementId, JobId, Span, WebhookId};
use crate::domain::job::{Job as Shown, JobKind, JobState, Progress};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::store::error::StoreError;

/// Numbers that a step has sent again, or events that it numbers.
const PER_STEP: usize = 125;
/// Numbers that it looks at for that.
const LOOKED_AT_PER_STEP: usize = 500;
/// Messages that a step of a backfill passes over, in bytes: what stands behind
/// a message in its row is found by way of all its pages.
const BYTES_PER_STEP: u64 = 4 * 1_024 * 1_024;
/// Jobs of one webhook that may wait.
const PER_WEBHOOK_MAX: usize = 16;
/// Jobs of one merchant that may wait.
const PER_MERCHANT_MAX: usize = 256;
/// How long one that has ended can be looked at, in milliseconds, …
pub const ENDED_FOR_MS: i64 = 24 * 60 * 60 * 1_000;
/// … unless its merchant has so many that ended later.
const ENDED_MAX: u32 = 1_000;
/// Ended ones that make room for a new one at the most.
const FORGOTTEN_AT_ONCE: u32 = 16;

/// Has the numbers of a span that the filter admits sent again.
pub struct Replay {
    /// On whose behalf.
    pub by: By,
    /// Which webhook's.
    pub webhook_id: WebhookId,
    /// Which numbers.
    pub span: Span,
    /// Which of them.
    pub filter: DeliveryFilter,
}

impl Change for Replay {
    type Answer = (JobId, Span);

    fn wants(&self, book: &Book, wants: &mut Wants) {
        wants.ids.job = 1;
        book.want_counters(self.webhook_id, wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Self::Answer>> {
        let last = webhooks::find(view, &self.by, self.webhook_id)?.counters.last;
        let span = Span { first: self.span.first.max(IncrementId(1)), last: self.span.last.min(last) };
        let (filter, numbers) = (self.filter.clone(), (span.first.0, span.last.0));
        let job = Job::new(JobKind::Replay, self.by.merchant, self.webhook_id, filter, numbers);
        Ok(Step::Done((add(view, out, &self.by, job)?.job_id, span)))
    }
}

/// The same with all numbers that one webhook has now, or all webhooks of the
/// merchant. Fails with [`StoreError::NoWebhook`] if it has none.
pub struct RetryMany {
    /// On whose behalf.
    pub by: By,
    /// Which webhook's.
    pub webhook_id: Option<WebhookId>,
    /// Which deliveries.
    pub filter: DeliveryFilter,
}

impl RetryMany {
    /// The first webhook that it is of.
    fn first<'a>(&self, book: &'a Book) -> Option<&'a Entry> {
        let first = match self.webhook_id {
            Some(id) => book.webhook_of(self.by.merchant, id),
            None => book.webhooks_behind(self.by.merchant, WebhookId(0)).next(),
        };
        first.filter(|entry| self.by.reaches(&entry.webhook))
    }
}

impl Change for RetryMany {
    type Answer = Shown;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        wants.ids.job = 1;
        if let Some(first) = self.first(book) {
            book.want_counters(first.webhook.webhook_id, wants);
        }
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Shown>> {
        let first = self.first(view.book).ok_or(StoreError::NoWebhook)?;
        // What is numbered later is not meant.
        let now = Timestamp(view.now.0 + 1);
        let until = Some(self.filter.until.map_or(now, |until| until.min(now)));
        let filter = DeliveryFilter { until, ..self.filter.clone() };
        let (id, numbers) = (first.webhook.webhook_id, (1, first.counters.last.0));
        let job = Job::new(JobKind::RetryMany, self.by.merchant, id, filter, numbers);
        add(view, out, &self.by, Job { is_of_all: self.webhook_id.is_none(), ..job }).map(Step::Done)
    }
}

/// A backfill that has been asked for.
#[derive(Clone, Copy, Debug)]
pub struct Backfilled {
    /// What does it.
    pub job_id: JobId,
    /// The last event that is looked at.
    pub through: EventId,
}

/// Gives the merchant's stored events that the filter admits new numbers of a
/// webhook, whether it had them before or not.
pub struct Backfill {
    /// On whose behalf.
    pub by: By,
    /// Which webhook gets them.
    pub webhook_id: WebhookId,
    /// Which events; if it names no topics, those of the webhook.
    pub filter: EventFilter,
}

impl Change for Backfill {
    type Answer = Backfilled;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.ids.job = 1;
        wants.last_event = true;
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Backfilled>> {
        let entry = webhooks::find(view, &self.by, self.webhook_id)?;
        let last = view.loaded.last_event.map_or(view.book.ids.event, |last| last.0);
        let EventFilter { topics, since, until, only: _ } = self.filter.clone();
        let topics = Some(topics.unwrap_or_else(|| entry.webhook.spec.topics.clone()));
        let filter = DeliveryFilter { state: None, topics, since, until, without_forgotten: false };
        let job = Job::new(JobKind::Backfill, self.by.merchant, self.webhook_id, filter, (1, last));
        let job_id = add(view, out, &self.by, job)?.job_id;
        Ok(Step::Done(Backfilled { job_id, through: EventId(last) }))
    }
}

fn add(view: &View<'_>, out: &mut Decision, by: &By, job: Job) -> Result<Shown> {
    if view.book.jobs.of_webhook(job.webhook_id) >= PER_WEBHOOK_MAX {
        return Err(StoreError::TooManyJobs { max: PER_WEBHOOK_MAX, whose: "webhook" });
    }
    if view.book.jobs.of_merchant(job.merchant_id) >= PER_MERCHANT_MAX {
        return Err(StoreError::TooManyJobs { max: PER_MERCHANT_MAX, whose: "merchant" });
    }
    let merchant = job.merchant_id;
    out.rows.others.push(Other::TrimJobs { merchant, keep: ENDED_MAX - 1, max: FORGOTTEN_AT_ONCE });
    // There may be nothing to look at.
    let ended_at = (!job.is_of_all && job.next > job.last).then_some(view.now);
    let job = Job { job_id: out.next_job()?, created_at: view.now, ..job };
    let shown = job.shown(ended_at);
    let told = auditing::job(&job);
    let (action, subject) = match job.kind {
        _ if job.is_of_all => (Action::DeliveryRetryMany, Subject::from(job.job_id)),
        JobKind::Replay => (Action::WebhookReplay, job.webhook_id.into()),
        JobKind::RetryMany => (Action::DeliveryRetryMany, job.webhook_id.into()),
        JobKind::Backfill => (Action::WebhookBackfill, job.webhook_id.into()),
    };
    out.audit(Audited::new(by.whose(), action, subject, &Told::NOTHING, &told));
    if ended_at.is_none() {
        out.learned.push(Learned::Job(job.clone()));
    }
    out.rows.others.push(Other::NewJob { job, ended_at });
    Ok(shown)
}

/// Does no more of a job; what it has done stands. One that has ended stays as
/// it is.
pub struct CancelJob {
    /// On whose behalf.
    pub by: By,
    /// Which.
    pub job_id: JobId,
}

impl Change for CancelJob {
    type Answer = Shown;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.job = Some((self.by.merchant, self.job_id));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Shown>> {
        let (found, present) = view.loaded.job.clone().ok_or(StoreError::NoJob)?;
        if found.state != JobState::Running {
            return Ok(Step::Done(found));
        }
        let [before, after] = [found.state, JobState::Cancelled].map(auditing::job_state);
        out.audit(Audited::new(self.by.whose(), Action::JobCancel, self.job_id, &before, &after));
        out.rows.others.push(Other::JobCancelled(self.job_id));
        out.learned.push(Learned::JobCancelled(present, self.job_id));
        Ok(Step::Done(Shown { state: JobState::Cancelled, ended_at: Some(view.now), ..found }))
    }
}

/// A step of a job, which the book has let go of meanwhile.
pub struct JobStep {
    job: Job,
}

/// What a step of a job has come to.
pub enum Stepped {
    /// It goes on.
    GoesOn(Job),
    /// There is no room in the store for more of it at present.
    NoRoom(Job),
    /// It is done.
    Done(Job),
}

impl JobStep {
    /// Of this job.
    pub fn of(job: Job) -> Self {
        Self { job }
    }

    fn is_idle(&self, book: &Book) -> bool {
        let is_gone = book.entry(self.job.webhook_id).is_none_or(|entry| entry.is_deleted);
        is_gone || self.job.next > self.job.last
    }
}

const BOUNDS: Bounds = Bounds { looked_at: LOOKED_AT_PER_STEP, found: PER_STEP };

impl Change for JobStep {
    type Answer = Stepped;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        if self.is_idle(book) {
            return;
        }
        book.want_room(wants);
        book.want_counters(self.job.webhook_id, wants);
        if book.terms.is_shared {
            // Somebody else may have cancelled it.
            wants.job = Some((self.job.merchant_id, self.job.job_id));
        }
        let Job { kind, webhook_id, merchant_id: merchant, next: first, last, .. } = self.job;
        match kind {
            JobKind::Replay | JobKind::RetryMany => wants.scan = Some(scan(webhook_id, IncrementId(first), BOUNDS)),
            JobKind::Backfill => {
                let (max, bytes_max) = (PER_STEP as u32, BYTES_PER_STEP);
                wants.events = Some(Events { merchant, first, last, max, bytes_max });
            }
        }
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Stepped>> {
        let is_idle = self.is_idle(view.book);
        let mut job = self.job.clone();
        if view.loaded.job.as_ref().is_some_and(|(found, _)| found.state != JobState::Running) {
            return Ok(Step::Done(Stepped::Done(job)));
        }
        if view.book.terms.is_shared && !is_idle && job.is_of_all && job.next == 1 {
            // It came to this webhook by what was known of it then.
            job.last = view.book.entry(job.webhook_id).map_or(job.last, |entry| entry.counters.last.0);
        }
        if !is_idle {
            let (max, used) = (view.book.terms.retention.bytes_max, view.loaded.used_bytes.unwrap_or(0));
            let is_short = max > 0
                && match job.kind {
                    // What they add is their log.
                    JobKind::Replay | JobKind::RetryMany => used >= max,
                    // They leave a fifth to what is new.
                    JobKind::Backfill => used >= max / 10 * 8,
                };
            if is_short {
                return Ok(Step::Done(Stepped::NoRoom(job)));
            }
            match job.kind {
                JobKind::Replay | JobKind::RetryMany => resend(view, out, &mut job)?,
                JobKind::Backfill => backfill(view, out, &mut job),
            }
        }
        let is_done = is_idle || job.next > job.last;
        let next = if is_done && job.is_of_all { next_webhook(view.book, &job) } else { None };
        if let Some((id, last)) = next {
            (job.webhook_id, job.next, job.last) = (id, 1, last.0);
        }
        let has_ended = is_done && next.is_none();
        out.rows.others.push(Other::Job { job: job.clone(), ended_at: has_ended.then_some(view.now) });
        Ok(Step::Done(if has_ended { Stepped::Done(job) } else { Stepped::GoesOn(job) }))
    }
}

/// The merchant's next webhook that has numbers, and the last of them; or the
/// last that a step may look at, from which the next step goes on.
fn next_webhook(book: &Book, job: &Job) -> Option<(WebhookId, IncrementId)> {
    let mut looked_at = None;
    for entry in book.webhooks_behind(job.merchant_id, job.webhook_id).take(LOOKED_AT_PER_STEP) {
        // Where others number, too, whether it has numbers shows when it is read.
        let last = entry.counters.last.max(IncrementId(book.terms.is_shared.into()));
        looked_at = Some((entry.webhook.webhook_id, last));
        if last > IncrementId::ZERO {
            break;
        }
    }
    looked_at
}

/// What was cancelled stays cancelled, unless it is asked for; what was pruned
/// is gone, and what was delivered stays delivered whatever becomes of the
/// re-send. What is under way goes out once more when that has ended; what was
/// never tried, and is not, does so for the first time. A batch is sent again
/// whole, or not at all.
fn resend(view: &View<'_>, out: &mut Decision, job: &mut Job) -> Result<()> {
    let (id, scanned) = (job.webhook_id, &view.loaded.scanned);
    let chosen = choose(id, scanned, &job.filter, IncrementId(job.last), BOUNDS);
    for span in &chosen.spans {
        let from = scanned.partition_point(|one| one.number < span.first);
        for one in scanned[from..].iter().take_while(|one| one.number <= span.last) {
            let standing = one.standing.sent_again(view.now).ok_or(StoreError::Pruned)?;
            out.rows.standings.push(StandingRow { webhook_id: id, number: one.number, standing });
        }
    }
    if let (Some(first), Some(last)) = (chosen.spans.first(), chosen.spans.last()) {
        out.news.push(Announcement::Reread(id, first.first));
        out.news.push(Announcement::Changed(id, Span { first: first.first, last: last.last }));
    }
    let Progress { looked_at, queued, unavailable } = job.progress;
    job.progress = Progress {
        looked_at: looked_at + chosen.looked_at as u64,
        queued: queued + chosen.count as u64,
        unavailable: unavailable + chosen.unavailable,
    };
    job.next = chosen.through + 1;
    Ok(())
}

/// Numbers those of the merchant's next events that match.
fn backfill(view: &View<'_>, out: &mut Decision, job: &mut Job) {
    let DeliveryFilter { topics, since, until, .. } = &job.filter;
    let is_wanted = |topic: &Topic, at: Timestamp| {
        *topic != Topic::test()
            && topics.as_ref().is_none_or(|topics| topics.matches(topic))
            && since.is_none_or(|since| at >= since)
            && until.is_none_or(|until| at < until)
    };
    let (mut numbering, found) = (Numbering::default(), &view.loaded.events);
    let own = view.book.entry(job.webhook_id).map(|entry| &entry.webhook.spec.labels);
    let is_for_it = |event: &EventFound| match (&event.labels, own) {
        (Some(labels), Some(own)) => own.are_all_in(labels),
        _ => true,
    };
    let is_wanted = |event: &&EventFound| is_wanted(&event.topic, event.published_at) && is_for_it(event);
    for event in found.iter().filter(is_wanted) {
        let what = (event.event_id, &event.topic);
        let number = numbering.number(view, out, job.webhook_id, what, |_| Standing::NEW);
        job.progress.queued += u64::from(number.is_some());
    }
    numbering.announce(view, out);
    job.progress.looked_at += found.len() as u64;
    let through = found.last().filter(|_| !view.loaded.is_last_event).map_or(job.last, |last| last.event_id.0);
    job.next = through + 1;
}
