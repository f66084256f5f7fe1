//! What a connection has sent and is still in memory: the head and the body of
//! a request, or a WebSocket's message, while they arrive and as long as their
//! call is under way.
//!
//! It is counted where it is read from the network, since neither hyper nor
//! tungstenite tells of what it has read of a head or of a frame. What finds no
//! room is refused, and does not wait for any: while it waited it would keep
//! the room that it has, and many that wait for each other's get nowhere.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::work::Account;
use crate::work::budget::{Budget, Reservation};

/// The most bytes that are read in one go: a head is looked at after each, and
/// has no more beyond its bound.
const READ_AT_ONCE: usize = 32 * 1_024;

/// What is shorter is not counted: the connections bound it.
pub const UNCOUNTED_MAX: usize = 16 * 1_024;
/// Room is taken in steps of so many bytes.
pub const STEP: usize = 64 * 1_024;
/// When to try again what found no room.
pub const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What one connection has sent, until a call takes it over.
pub struct Intake {
    budget: Arc<Budget>,
    /// Where it comes from.
    account: Account,
    state: Mutex<State>,
    overflowed: Notify,
}

#[derive(Default)]
struct State {
    count: usize,
    held: Option<Reservation>,
    /// There was no room for the last of it, and no more is read.
    is_full: bool,
    /// How many are there who can say so to the peer.
    answering: usize,
    /// Waits to read on.
    reader: Option<Waker>,
}

/// Somebody who tells the peer if there is no room for what it sends.
pub struct Answering(Arc<Intake>);

impl Intake {
    /// Of a connection that has sent nothing yet.
    pub fn new(budget: &Arc<Budget>, account: Account) -> Arc<Self> {
        let (budget, state) = (Arc::clone(budget), Mutex::default());
        Arc::new(Self { budget, account, state, overflowed: Notify::new() })
    }

    /// Takes over what has arrived: it is counted until that is dropped, and
    /// what comes next is counted anew. `None` if it is short.
    pub fn take(&self) -> Option<Reservation> {
        let mut state = self.state();
        let held = state.held.take();
        if let Some(held) = &held {
            held.resize(state.count);
        }
        (state.count, state.is_full) = (0, false);
        wake(state);
        held
    }

    /// Counts what is in memory already, on the account of the connection,
    /// unless there is no room for it.
    pub fn try_hold(&self, count: usize) -> Option<Reservation> {
        self.budget.try_hold(self.account, count)
    }

    /// From now on somebody will say to the peer that there is no room, rather
    /// than that the connection breaks off.
    pub fn answering(self: &Arc<Self>) -> Answering {
        self.state().answering += 1;
        Answering(Arc::clone(self))
    }

    /// True if there was no room for the last of it.
    pub fn is_full(&self) -> bool {
        self.state().is_full
    }

    /// Waits until there is no room for what comes.
    pub async fn overflows(&self) {
        while !self.is_full() {
            self.overflowed.notified().await;
        }
    }

    fn arrived(&self, count: usize) {
        let mut state = self.state();
        state.count += count;
        if state.count <= UNCOUNTED_MAX {
            return;
        }
        let wanted = state.count.next_multiple_of(STEP);
        let has_room = match &state.held {
            Some(held) => held.try_resize(wanted),
            None => {
                state.held = self.try_hold(wanted);
                state.held.is_some()
            }
        };
        if !has_room {
            state.is_full = true;
            self.overflowed.notify_one();
        }
    }

    /// Whether more may be read.
    fn poll_room(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if !state.is_full {
            return Poll::Ready(Ok(()));
        }
        if state.answering == 0 {
            return Poll::Ready(Err(io::Error::other("there is no room for what it sends")));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds a connection's count")
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        wake(state);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// A stream whose bytes are counted as they are read.
pub struct Counted<S> {
    stream: S,
    intake: Arc<Intake>,
}

impl<S> Counted<S> {
    /// Counts what is read of the stream.
    pub fn new(stream: S, intake: Arc<Intake>) -> Self {
        Self { stream, intake }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.intake.poll_room(context))?;
        let before = buf.filled().len();
        if buf.remaining() <= READ_AT_ONCE {
            ready!(Pin::new(&mut self.stream).poll_read(context, buf))?;
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(READ_AT_ONCE));
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
            let read = part.filled().len();
            buf.advance(read);
        }
        self.intake.arrived(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ANN: Account = Account::Server;

    #[test]
    fn what_is_long_is_counted_until_it_is_dropped() {
        let budget = Budget::new(10 * STEP);
        let intake = Intake::new(&budget, ANN);
        intake.arrived(UNCOUNTED_MAX);
        assert!(intake.take().is_none());
        intake.arrived(UNCOUNTED_MAX);
        intake.arrived(8 * STEP);
        let taken = intake.take();
        assert!(taken.is_some() && budget.try_hold(ANN, 2 * STEP).is_none());
        drop(taken);
        assert!(budget.try_hold(ANN, 2 * STEP).is_some());
    }

    #[test]
    fn what_finds_no_room_is_told_to_whoever_answers() {
        let budget = Budget::new(2 * STEP);
        let other = budget.hold(ANN, 2 * STEP);
        let intake = Intake::new(&budget, ANN);
        let context = Context::from_waker(Waker::noop());
        intake.arrived(UNCOUNTED_MAX);
        assert!(intake.overflows().now_or_never().is_none() && intake.poll_room(&context).is_ready());
        let answering = intake.answering();
        intake.arrived(1);
        assert!(intake.overflows().now_or_never().is_some() && intake.poll_room(&context).is_pending());
        drop(answering);
        assert!(matches!(intake.poll_room(&context), Poll::Ready(Err(_))), "nobody could tell the peer");
        drop(other);
        assert!(intake.take().is_none() && matches!(intake.poll_room(&context), Poll::Ready(Ok(()))));
    }
}
