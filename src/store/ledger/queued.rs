//! A change that waits for its commit, whatever it is and whoever writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::book::Book;
use super::queue::Cost;
use super::wants::{Loaded, Wants};
use super::work::Work;
use super::{Change, Result, Step};
use crate::domain::id::MerchantId;
use crate::store::error::StoreError;

/// A change that waits.
pub type Queued = Box<dyn Waiting>;
/// Tells whoever asked for a change.
pub type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// A change that waits, and who is to be told of it.
pub trait Waiting: Send {
    /// For whom it says what sending has come to, as [`Change::sent_for`] says.
    fn sent_for(&self) -> Vec<MerchantId> {
        Vec::new()
    }

    /// Leaves out what was sent for those whom others send for by now; how many outcomes
    /// that are.
    fn leave_out(&mut self, _is_lost: &dyn Fn(MerchantId) -> bool) -> usize {
        0
    }

    /// Puts off what is of those whom others hold, as [`Change::put_off`] says.
    fn put_off(&mut self, _is_held: &dyn Fn(MerchantId) -> bool) {}

    /// What its next step has to have read.
    fn wants(&self, _book: &Book) -> Wants {
        Wants::default()
    }

    /// Does its next step. It gets the transaction, or why there is none, and what
    /// it wants if that was read already.
    fn step(self: Box<Self>, work: Result<&mut Work<'_>>, loaded: Option<Loaded>) -> Changed;
}

/// What has come of a change.
pub enum Changed {
    /// It is done: this is to be told once the commit's fate is known.
    Whole(Answer),
    /// It goes on in a later commit, at this cost, and if this one fails is
    /// told so.
    Goes(Cost, Queued),
    /// The same, and a part of it is committed.
    GoesFurther(Cost, Queued),
}

impl Changed {
    /// Tells of a commit that failed.
    pub fn fail(self, cause: StoreError) {
        match self {
            Self::Whole(answer) => answer(Err(cause)),
            Self::Goes(_, change) | Self::GoesFurther(_, change) => refuse(change, &cause),
        }
    }
}

/// Tells a change that waits that there is no transaction for it.
pub fn refuse(change: Queued, cause: &StoreError) {
    change.step(Err(cause.clone()), None).fail(cause.clone());
}

/// Who has a change that waits: whoever makes it, or whoever asked for it and gives it up.
/// It is had once.
#[derive(Debug, Default)]
pub struct Claim(AtomicBool);

impl Claim {
    /// True if nobody had it before.
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A change, step by step, whose result goes to `reply` once the commit's fate
/// is known.
pub fn queued<C: Change>(change: C, reply: impl FnOnce(Result<C::Answer>) + Send + 'static) -> Queued {
    Box::new(Asked { change, reply, claim: None })
}

/// The same with one that may be given up before its first step.
pub fn claimed<C: Change>(
    change: C,
    claim: Arc<Claim>,
    reply: impl FnOnce(Result<C::Answer>) + Send + 'static,
) -> Queued {
    Box::new(Asked { change, reply, claim: Some(claim) })
}

/// A change, and who is told what has come of it.
struct Asked<C, R> {
    change: C,
    reply: R,
    /// Until its first step.
    claim: Option<Arc<Claim>>,
}

impl<C: Change, R: FnOnce(Result<C::Answer>) + Send + 'static> Waiting for Asked<C, R> {
    fn sent_for(&self) -> Vec<MerchantId> {
        self.change.sent_for()
    }

    fn leave_out(&mut self, is_lost: &dyn Fn(MerchantId) -> bool) -> usize {
        self.change.leave_out(is_lost)
    }

    fn put_off(&mut self, is_held: &dyn Fn(MerchantId) -> bool) {
        self.change.put_off(is_held);
    }

    fn wants(&self, book: &Book) -> Wants {
        let mut wants = Wants::default();
        if self.claim.as_ref().is_none_or(|claim| !claim.is_taken()) {
            self.change.wants(book, &mut wants);
        }
        wants
    }

    fn step(mut self: Box<Self>, work: Result<&mut Work<'_>>, loaded: Option<Loaded>) -> Changed {
        if self.claim.take().is_some_and(|claim| !claim.take()) {
            // Whoever asked was told that nothing is done.
            return Changed::Whole(Box::new(|_| {}));
        }
        match work.and_then(|work| work.run_with(&mut self.change, loaded)) {
            Ok(Step::More(cost)) => Changed::Goes(cost, self),
            Ok(Step::Done(answer)) => {
                Changed::Whole(Box::new(move |committed| (self.reply)(committed.map(|()| answer))))
            }
            Err(cause) => Changed::Whole(Box::new(move |_| (self.reply)(Err(cause)))),
        }
    }
}

/// The rest of a change of which a part is committed: whatever becomes of it,
/// nobody may be told that nothing was done.
pub fn begun(rest: Queued) -> Queued {
    Box::new(Begun(rest))
}

struct Begun(Queued);

impl Waiting for Begun {
    fn wants(&self, book: &Book) -> Wants {
        self.0.wants(book)
    }

    fn step(self: Box<Self>, work: Result<&mut Work<'_>>, loaded: Option<Loaded>) -> Changed {
        match self.0.step(work.map_err(StoreError::failed), loaded) {
            Changed::Whole(answer) => {
                Changed::Whole(Box::new(|committed| answer(committed.map_err(StoreError::failed))))
            }
            Changed::Goes(cost, rest) | Changed::GoesFurther(cost, rest) => Changed::GoesFurther(cost, begun(rest)),
        }
    }
}
