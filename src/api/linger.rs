//! Taking leave of a client that is still sending.
//!
//! A connection that is closed while bytes of its peer have not been read is
//! reset by the system, and a reset takes with it what was written last: the
//! refusal of a request that is too long would never arrive. So where something
//! was left unread, our side ends, and what the peer goes on to send is thrown
//! away for a while (RFC 9112, 9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How much is thrown away at once, in bytes.
const BUFFER_BYTES: usize = 16 * 1_024;

/// How much, and for how long, is read on of a client that was answered before
/// it had sent all.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most bytes.
    pub bytes_max: usize,
    /// The longest time.
    pub timeout: Duration,
}

/// Whether something has arrived on a connection that nobody has read as part
/// of a whole request.
#[derive(Debug, Default)]
pub struct Unread(AtomicBool);

impl Unread {
    /// All that has arrived so far belonged to whole requests.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A stream that lingers when it is shut down, if something is left unread.
pub struct Lingering<S> {
    stream: S,
    unread: Arc<Unread>,
    bounds: Bounds,
    ending: Option<Ending>,
}

/// Our side has ended.
struct Ending {
    bytes_left: usize,
    over: Pin<Box<Sleep>>,
}

impl<S> Lingering<S> {
    /// Lingers over `stream` as long as these bounds allow.
    pub fn new(stream: S, unread: Arc<Unread>, bounds: Bounds) -> Self {
        Self { stream, unread, bounds, ending: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buf))?;
        if buf.filled().len() > before {
            self.unread.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
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
        let Self { stream, unread, bounds, ending } = &mut *self;
        let ending = match ending {
            Some(ending) => ending,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                if !unread.0.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                let over = Box::pin(tokio::time::sleep(bounds.timeout));
                ending.insert(Ending { bytes_left: bounds.bytes_max, over })
            }
        };
        // The runtime has others take their turn after some reads.
        while ending.bytes_left > 0 && ending.over.as_mut().poll(context).is_pending() {
            let mut buffer = [0; BUFFER_BYTES];
            let mut buffer = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    ending.bytes_left = ending.bytes_left.saturating_sub(buffer.filled().len());
                }
                // It has ended, or broken off.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_max: 100_000, timeout: Duration::from_secs(2) };

    fn pair() -> (DuplexStream, Lingering<DuplexStream>, Arc<Unread>) {
        let (client, server) = duplex(64);
        let unread = Arc::<Unread>::default();
        (client, Lingering::new(server, Arc::clone(&unread), BOUNDS), unread)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unread_is_thrown_away_after_our_side_has_ended() {
        let (mut client, mut server, _) = pair();
        client.write_all(b"ab").await.unwrap();
        server.read_u8().await.unwrap();
        server.write_all(b"no").await.unwrap();
        let sending = async {
            client.write_all(&[0; 10_000]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "no");
            drop(client);
        };
        let (ended, ()) = tokio::join!(server.shutdown(), sending);
        assert!(ended.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_in_bytes_and_in_time() {
        let (mut client, mut server, _) = pair();
        client.write_all(b"ab").await.unwrap();
        server.read_u8().await.unwrap();
        let begun = tokio::time::Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), BOUNDS.timeout, "the client neither sends nor leaves");

        let (mut client, mut server, _) = pair();
        client.write_all(b"ab").await.unwrap();
        server.read_u8().await.unwrap();
        let begun = tokio::time::Instant::now();
        let taking_leave = async {
            server.shutdown().await.unwrap();
            drop(server);
        };
        let (_, sent) = tokio::join!(taking_leave, client.write_all(&[0; 200_000]));
        assert!(sent.is_err() && begun.elapsed() < BOUNDS.timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_whole_is_left_at_once() {
        let (mut client, mut server, unread) = pair();
        client.write_all(b"a").await.unwrap();
        server.read_u8().await.unwrap();
        unread.clear();
        let begun = tokio::time::Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
