//! What goes over a connection, below the HTTP library, which neither tells
//! all that a sender needs to know nor writes names as their owners do.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::render::spelling::Spelling;

/// The most bytes of an answer up to the end of its head, and so of all that
/// comes before: interim answers, and white space.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// The most pieces that are written together.
const PIECES_MAX: usize = 8;

/// A connection that notes when something comes over it, and writes the names
/// of headers as they are spelled.
pub struct Watched<S> {
    inner: S,
    exchange: Exchange,
    /// The head of a request as it is spelled, and how much of it is written.
    head: Vec<u8>,
    written: usize,
}

impl<S> Watched<S> {
    /// Around `inner`; `exchange` says and tells what goes on.
    pub fn new(inner: S, exchange: Exchange) -> Self {
        Self { inner, exchange, head: Vec::new(), written: 0 }
    }

    /// True if what is offered is the head of a request, or the rest of one,
    /// that is to be written from `head`.
    fn is_respelled(&mut self, offered: &[u8]) -> bool {
        if let Some(spelling) = self.exchange.take_spelling() {
            self.head.clear();
            self.head.extend_from_slice(offered);
            self.written = 0;
            spelling.respell(&mut self.head);
        }
        self.written < self.head.len()
    }
}

/// A request and its answer, as far as they concern the connection.
#[derive(Clone, Debug, Default)]
pub struct Exchange(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Bytes that have come, and how many may.
    come: AtomicUsize,
    max: AtomicUsize,
    /// Spares a look at the spelling, which most requests do without.
    is_spelled: AtomicBool,
    spelling: Mutex<Spelling>,
}

impl Exchange {
    /// A request is about to be written. What has come up to now counts no more.
    pub fn begin(&self, spelling: Spelling) {
        self.0.come.store(0, Ordering::Relaxed);
        self.0.max.store(HEAD_BYTES_MAX, Ordering::Relaxed);
        if !spelling.is_plain() {
            *self.0.spelling.lock().expect("nothing panics while it holds the spelling") = spelling;
            self.0.is_spelled.store(true, Ordering::Relaxed);
        }
    }

    /// True if a byte has come since.
    pub fn has_come(&self) -> bool {
        self.0.come.load(Ordering::Relaxed) > 0
    }

    /// The head has come: from here on so many bytes more may come.
    pub fn allow(&self, bytes: usize) {
        self.0.max.store(self.0.come.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
    }

    /// Counts what has come; false if that is more than may.
    fn count(&self, bytes: usize) -> bool {
        let come = self.0.come.load(Ordering::Relaxed).saturating_add(bytes);
        self.0.come.store(come, Ordering::Relaxed);
        come <= self.0.max.load(Ordering::Relaxed)
    }

    fn take_spelling(&self) -> Option<Spelling> {
        let is_spelled = self.0.is_spelled.load(Ordering::Relaxed);
        is_spelled.then(|| {
            self.0.is_spelled.store(false, Ordering::Relaxed);
            std::mem::take(&mut *self.0.spelling.lock().expect("nothing panics while it holds the spelling"))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        match self.exchange.count(buffer.filled().len() - before) {
            true => Poll::Ready(Ok(())),
            // However little of it counts: pieces of a byte each, or interim
            // answers without end, would keep the thread that reads them busy.
            false => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"))),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_respelled(bytes) {
            return Pin::new(&mut self.inner).poll_write(context, bytes);
        }
        let this = &mut *self;
        let count = ready!(Pin::new(&mut this.inner).poll_write(context, &this.head[this.written..]))?;
        this.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = &slices[slices.iter().take_while(|slice| slice.is_empty()).count()..];
        let Some((first, others)) = slices.split_first().filter(|(first, _)| self.is_respelled(first)) else {
            return Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        };
        let this = &mut *self;
        let rest = &this.head[this.written..];
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        pieces[0] = IoSlice::new(rest);
        // What follows the head follows it only if no more has been offered with it.
        let count = if rest.len() == first.len() { others.len().min(PIECES_MAX - 1) } else { 0 };
        pieces[1..=count].copy_from_slice(&others[..count]);
        let count = ready!(Pin::new(&mut this.inner).poll_write_vectored(context, &pieces[..=count]))?;
        this.written = (this.written + count).min(this.head.len());
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
