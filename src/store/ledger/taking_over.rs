//! What a node does when it gets leases, or lets go of them, and when it looks what
//! others have changed.

use super::Result;
use super::queue::Cost;
use super::queued::{Changed, Waiting};
use super::wants::Loaded;
use super::work::Work;
use crate::domain::id::WebhookId;
use crate::domain::node::Bucket;
use crate::store::error::StoreError;

/// Buckets that one step of a take-over begins with.
const BUCKETS_PER_STEP: usize = 16;
/// What a step costs besides others.
const STEP_COST: Cost = Cost::SMALL;

/// Begins to send for the merchants of buckets whose leases this node has got: what
/// others have changed of theirs is read, what nobody goes on with any more is gone
/// on with, and the delivery worker is told of their webhooks.
pub struct TakeOver {
    left: Vec<(Bucket, i64)>,
    /// Those that were begun with, and up to which of their webhooks all is told.
    under_way: Option<(Vec<Bucket>, WebhookId)>,
    /// Called at the end, with whether all of it is done.
    ended: Box<dyn FnOnce(bool) + Send>,
}

impl TakeOver {
    /// Of these leases, by their epochs; `ended` is called with whether it need not be
    /// tried again.
    pub fn new(leases: Vec<(Bucket, i64)>, ended: Box<dyn FnOnce(bool) + Send>) -> Self {
        Self { left: leases, under_way: None, ended }
    }

    /// Does all of it at once, before anything else is done.
    pub fn run(mut self, work: &mut Work<'_>) -> Result<()> {
        while !self.is_done() {
            self.take(work)?;
        }
        Ok(())
    }

    fn take(&mut self, work: &mut Work<'_>) -> Result<()> {
        match self.under_way.take() {
            None => {
                let begun = self.left.split_off(self.left.len().saturating_sub(BUCKETS_PER_STEP));
                for (bucket, epoch) in &begun {
                    work.tend(*bucket, *epoch);
                }
                let buckets: Vec<_> = begun.into_iter().map(|(bucket, _)| bucket).collect();
                work.catch_up(&buckets)?;
                self.under_way = Some((buckets, WebhookId(0)));
            }
            Some((buckets, after)) => {
                let last = work.look_at_webhooks(&buckets, after)?;
                self.under_way = last.map(|last| (buckets, last));
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.left.is_empty() && self.under_way.is_none()
    }
}

impl Waiting for TakeOver {
    fn step(mut self: Box<Self>, work: Result<&mut Work<'_>>, _: Option<Loaded>) -> Changed {
        match work.and_then(|work| self.take(work)) {
            Ok(()) if !self.is_done() => Changed::Goes(STEP_COST, self),
            taken => Changed::Whole(Box::new(|committed| {
                let taken = taken.and(committed).inspect_err(note);
                (self.ended)(taken.is_ok());
            })),
        }
    }
}

fn note(cause: &StoreError) {
    if !cause.is_logged() {
        tracing::error!(%cause, "what other nodes have left could not be taken over; trying again");
    }
}

/// Lets go of leases: nothing that was sent for their merchants counts any more.
pub struct LetGo {
    /// Which.
    pub buckets: Vec<Bucket>,
    /// Called once nothing is written by them any more.
    pub done: Box<dyn FnOnce() + Send>,
}

impl Waiting for LetGo {
    fn step(self: Box<Self>, work: Result<&mut Work<'_>>, _: Option<Loaded>) -> Changed {
        if let Ok(work) = work {
            work.let_go(&self.buckets);
        }
        Changed::Whole(Box::new(|_| (self.done)()))
    }
}

/// Counts webhooks once more, of which others have settled some.
pub struct Recount(pub Vec<WebhookId>);

impl Waiting for Recount {
    fn step(self: Box<Self>, work: Result<&mut Work<'_>>, _: Option<Loaded>) -> Changed {
        if let Ok(work) = work {
            self.0.iter().for_each(|id| work.book.add_chore(*id));
        }
        Changed::Whole(Box::new(|_| {}))
    }
}

/// Looks what others have changed of webhooks, and goes on with what a node has
/// begun that is no more.
pub struct LookAround {
    /// Called at the end, with whether it is done.
    pub ended: Box<dyn FnOnce(bool) + Send>,
}

impl Waiting for LookAround {
    fn step(self: Box<Self>, work: Result<&mut Work<'_>>, _: Option<Loaded>) -> Changed {
        let looked = work.and_then(|work| {
            let held = work.book.leases.held();
            work.catch_up(&held)
        });
        // If it fails, whoever next holds a merchant looks what has changed of his.
        Changed::Whole(Box::new(|committed| {
            let looked = looked.and(committed).inspect_err(note);
            (self.ended)(looked.is_ok());
        }))
    }
}
