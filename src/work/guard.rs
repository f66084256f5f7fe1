//! Notices work that holds a shared thread for too long. In builds for
//! development it panics, so that the test which caused it fails; release
//! builds do not measure.
//!
//! Processor time of the thread is what counts, not the time of day: a machine
//! that is busy with something else is no fault of the step.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The longest that one piece of work may hold a thread that others share, in
/// processor time of a release build.
pub const STEP_MAX: Duration = Duration::from_millis(10);

/// Does one piece of work on a thread that others share; `what` names it in
/// the complaint.
#[inline]
pub fn step<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    #[cfg(debug_assertions)]
    let measured = measure::Step::begin(what);
    #[cfg(not(debug_assertions))]
    let _ = what;
    let done = work();
    #[cfg(debug_assertions)]
    measured.end();
    done
}

/// A future each poll of which is a [`step`].
#[derive(Debug)]
pub struct Guarded<F> {
    what: &'static str,
    future: F,
}

impl<F: Future + Unpin> Guarded<F> {
    /// Guards a future.
    pub fn new(what: &'static str, future: F) -> Self {
        Self { what, future }
    }

    /// The future itself.
    pub fn inner(&mut self) -> &mut F {
        &mut self.future
    }
}

impl<F: Future + Unpin> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let what = self.what;
        step(what, || Pin::new(&mut self.future).poll(context))
    }
}

/// The same future; in builds for development each poll of it is a [`step`].
#[cfg(debug_assertions)]
pub async fn guarded<T>(what: &'static str, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| step(what, || future.as_mut().poll(context))).await
}

/// The same future.
#[cfg(not(debug_assertions))]
pub fn guarded<T>(_: &'static str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    future
}

#[cfg(debug_assertions)]
mod measure {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use super::STEP_MAX;

    /// How much longer our own code may take in a build without optimisation.
    const UNOPTIMISED: u32 = 5;

    /// A piece of work that is under way.
    pub struct Step {
        what: &'static str,
        began: Duration,
    }

    impl Step {
        pub fn begin(what: &'static str) -> Self {
            Self { what, began: processor_time() }
        }
    }

    impl Step {
        /// Panics if it has taken too long.
        pub fn end(self) {
            let took = processor_time().saturating_sub(self.began);
            if took > STEP_MAX * UNOPTIMISED {
                panic!("{} held a shared thread for {took:?}; do it in pieces, or apart", self.what);
            }
        }
    }

    /// What this thread has used so far.
    fn processor_time() -> Duration {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "a loop held a shared thread")]
    fn what_takes_too_long_is_noticed() {
        step("a loop", || {
            let mut sum = 0_u64;
            for number in 0..200_000_000 {
                sum = std::hint::black_box(sum + number);
            }
            sum
        });
    }

    #[tokio::test]
    async fn what_is_short_or_waits_is_let_be() {
        let waiting = Box::pin(tokio::time::sleep(STEP_MAX * 6));
        Guarded::new("waiting", waiting).await;
        assert_eq!(step("adding", || 1 + 1), 2);
    }
}
