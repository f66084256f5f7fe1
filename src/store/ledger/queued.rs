//! A change that waits for its commit, whatever it is and whoever writes.

use super::queue::Cost;
use super::work::Work;
use super::{Change, Step};
use crate::store::error::StoreError;

/// A step of a change. It gets the transaction, or why there is none.
pub type Queued = Box<dyn FnOnce(Result<&mut Work<'_>, StoreError>) -> Changed + Send>;
/// Tells whoever asked for a change.
pub type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

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
            Self::Goes(_, change) | Self::GoesFurther(_, change) => change(Err(cause.clone())).fail(cause),
        }
    }
}

/// A change, step by step, whose result goes to `reply` once the commit's fate
/// is known.
pub fn queued<C: Change>(mut change: C, reply: impl FnOnce(Result<C::Answer, StoreError>) + Send + 'static) -> Queued {
    Box::new(move |work| match work.and_then(|work| work.run(&mut change)) {
        Ok(Step::More(cost)) => Changed::Goes(cost, queued(change, reply)),
        Ok(Step::Done(answer)) => Changed::Whole(Box::new(move |committed| reply(committed.map(|()| answer)))),
        Err(cause) => Changed::Whole(Box::new(move |_| reply(Err(cause)))),
    })
}

/// The rest of a change of which a part is committed: whatever becomes of it,
/// nobody may be told that nothing was done.
pub fn begun(rest: Queued) -> Queued {
    Box::new(|work| match rest(work.map_err(StoreError::failed)) {
        Changed::Whole(answer) => Changed::Whole(Box::new(|committed| answer(committed.map_err(StoreError::failed)))),
        Changed::Goes(cost, rest) | Changed::GoesFurther(cost, rest) => Changed::GoesFurther(cost, begun(rest)),
    })
}
