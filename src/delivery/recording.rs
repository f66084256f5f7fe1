//! Outcomes on their way to the store: gathered, so that many share a commit, and
//! kept until they are on record.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::error;

use super::answers::Kept;
use super::load::Term;
use crate::domain::delivery::Outcome;
use crate::domain::id::MerchantId;
use crate::store::Outbox;

/// How long to wait before outcomes that could not be recorded are tried again.
const RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// How long an outcome may wait for others to be recorded with. Nobody waits
/// for it, and a commit costs as much for one as for many; a crash meanwhile
/// costs as many repeated deliveries as waited.
const RECORD_LINGER: Duration = Duration::from_millis(5);
/// So many outcomes are recorded without waiting for more.
const RECORD_AT_ONCE: usize = 256;
/// The numbers that the outcomes of one change are about, at most, batches
/// counted whole, …
const RECORD_NUMBERS_MAX: usize = 128;
/// … and the most bytes of the log with them; but for the first. A commit has
/// room for several changes, and for fewer if others wait for it.
const RECORD_BYTES_MAX: usize = 256 * 1024;
/// The most changes that wait to be recorded, besides those of merchants whom others
/// hold.
const RECORDING_MAX: usize = 8;

/// An attempt that has ended, and is to be recorded.
pub struct Ended {
    /// What it came to.
    pub outcome: Outcome,
    /// The room that its answer takes up.
    pub kept: Option<Kept>,
    /// Of the lane that made it.
    pub term: Term,
}

/// Outcomes that are on record, but for those of some merchants.
pub struct Recorded {
    outcomes: Arc<[Outcome]>,
    terms: Vec<Term>,
    /// Of whom nothing was recorded: each has a change of his own.
    put_off: Vec<MerchantId>,
    was_put_off: bool,
}

impl Recorded {
    /// Those that are on record.
    pub fn each(&self) -> impl Iterator<Item = (&Outcome, Term)> {
        let all = self.outcomes.iter().zip(self.terms.iter().copied());
        all.filter(|(outcome, _)| !self.put_off.contains(&outcome.merchant_id))
    }
}

/// What has ended and is not known to be on record.
pub struct Recorder {
    /// To be recorded with the next change.
    ended: VecDeque<Ended>,
    /// When the first of them has waited long enough.
    due: Option<Instant>,
    /// Changes that wait to be recorded.
    recording: usize,
    /// Changes of merchants whom others hold.
    put_off: usize,
}

impl Recorder {
    /// With nothing to record.
    pub fn new() -> Self {
        Self { ended: VecDeque::new(), due: None, recording: 0, put_off: 0 }
    }

    /// Takes on what is to be recorded.
    pub fn take_on(&mut self, ended: Ended) {
        self.due.get_or_insert_with(|| Instant::now() + RECORD_LINGER);
        self.ended.push_back(ended);
    }

    /// When something is to be recorded; `None` while there is nothing, or no more can wait.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.recording < RECORDING_MAX)
    }

    /// True if something is to be recorded now.
    pub fn is_due(&self) -> bool {
        self.ended.len() >= RECORD_AT_ONCE || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Outcomes that have not been handed to the store.
    pub fn waiting(&self) -> usize {
        self.ended.len()
    }

    /// True if all is on record.
    pub fn is_done(&self) -> bool {
        self.ended.is_empty() && self.recording == 0 && self.put_off == 0
    }

    /// Hands outcomes to the store, as many changes as may wait. What is on record is
    /// reported.
    pub fn record<R>(&mut self, store: &Arc<dyn Outbox>, reports: &mpsc::Sender<R>)
    where
        R: From<Recorded> + Send + 'static,
    {
        while self.recording < RECORDING_MAX && !self.ended.is_empty() {
            self.recording += 1;
            let change = self.next();
            tokio::spawn(record(Arc::clone(store), change, reports.clone()));
        }
        self.due = (!self.ended.is_empty()).then(Instant::now);
    }

    /// Heeds what was reported.
    pub fn heard(&mut self, recorded: &Recorded) {
        match recorded.was_put_off {
            true => self.put_off -= 1,
            false => self.recording -= 1,
        }
        self.put_off += recorded.put_off.len();
    }

    /// What goes into one change.
    fn next(&mut self) -> Vec<Ended> {
        let (mut bytes, mut numbers) = (0, 0);
        let fits = |Ended { outcome, .. }: &&Ended| {
            let is_first = numbers == 0;
            bytes += outcome.attempt.weight();
            numbers += outcome.numbers.numbers().count();
            is_first || (bytes <= RECORD_BYTES_MAX && numbers <= RECORD_NUMBERS_MAX)
        };
        let count = self.ended.iter().take_while(fits).count();
        self.ended.drain(..count).collect()
    }
}

/// Has outcomes recorded, and reports that. Those of merchants whom others hold are
/// recorded by and by, lest all wait for them.
async fn record<R>(store: Arc<dyn Outbox>, ended: Vec<Ended>, reports: mpsc::Sender<R>)
where
    R: From<Recorded> + Send + 'static,
{
    let (outcomes, terms, kept) = parts(ended);
    let put_off = store_all(&*store, &outcomes).await;
    let mut apart: HashMap<MerchantId, Vec<Ended>> = HashMap::new();
    if !put_off.is_empty() {
        for ((outcome, term), kept) in outcomes.iter().zip(&terms).zip(kept) {
            if put_off.contains(&outcome.merchant_id) {
                let ended = Ended { outcome: outcome.clone(), kept, term: *term };
                apart.entry(outcome.merchant_id).or_default().push(ended);
            }
        }
    }
    report(&reports, Recorded { outcomes, terms, put_off, was_put_off: false }).await;
    for ended in apart.into_values() {
        let (store, reports) = (Arc::clone(&store), reports.clone());
        tokio::spawn(async move {
            let (outcomes, terms, kept) = parts(ended);
            store_all(&*store, &outcomes).await;
            drop(kept);
            report(&reports, Recorded { outcomes, terms, put_off: Vec::new(), was_put_off: true }).await;
        });
    }
}

/// Has the store record outcomes; what it can't take is tried again until it can.
/// Returns the merchants who are held, unless they all are of one.
async fn store_all(store: &dyn Outbox, outcomes: &Arc<[Outcome]>) -> Vec<MerchantId> {
    loop {
        match store.record(Arc::clone(outcomes)).await {
            Ok(put_off) => return put_off,
            Err(cause) if cause.is_logged() => {}
            Err(cause) => error!(%cause, count = outcomes.len(), "outcomes could not be recorded; trying again"),
        }
        tokio::time::sleep(RECORD_INTERVAL).await;
    }
}

fn parts(ended: Vec<Ended>) -> (Arc<[Outcome]>, Vec<Term>, Vec<Option<Kept>>) {
    let (mut outcomes, mut terms, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for one in ended {
        outcomes.push(one.outcome);
        terms.push(one.term);
        kept.push(one.kept);
    }
    (outcomes.into(), terms, kept)
}

async fn report<R: From<Recorded>>(reports: &mpsc::Sender<R>, recorded: Recorded) {
    // The worker stops listening only when it stops altogether.
    let _ = reports.send(recorded.into()).await;
}
