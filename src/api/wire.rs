//! What a connection's bytes go over: as they are, or encrypted.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection to a client.
pub enum Wire {
    /// Without TLS.
    Plain(TcpStream),
    /// With it, after the handshake.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// The same of either.
macro_rules! either {
    ($wire:expr, $stream:ident => $do:expr) => {
        match $wire.get_mut() {
            Wire::Plain($stream) => $do,
            Wire::Encrypted($stream) => $do,
        }
    };
}

impl AsyncRead for Wire {
    /// A client that ends without a word of TLS has ended, as one does without TLS: what of a
    /// request has not arrived then, HTTP tells by its length.
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = either!(self, stream => Pin::new(stream).poll_read(context, buf));
        read.map(|read| match read {
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            read => read,
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(context, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
