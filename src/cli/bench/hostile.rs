//! Receivers that mean no good, or are broken. Each takes what it can get of
//! a sender that lets it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What comes before the name of a kind in the path.
pub const PREFIX: &str = "/hostile/";
/// The longest request line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 256;

/// What a receiver does to its senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes the request and says nothing.
    Silent,
    /// Does not read.
    Unread,
    /// Answers a byte a second.
    Drip,
    /// Never comes to the end of its headers.
    EndlessHeaders,
    /// Never comes to the end of its body.
    EndlessBody,
    /// Closes in the middle of an answer.
    Cut,
    /// Answers in another language.
    Garbage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Silent, Self::Unread, Self::Drip, Self::EndlessHeaders, Self::EndlessBody, Self::Cut, Self::Garbage];

    /// Its path.
    pub fn path(self) -> String {
        format!("{PREFIX}{self:?}")
    }

    /// The kind that a connection asks for, if it does. Nothing is taken from
    /// the connection.
    pub async fn asked_for(stream: &TcpStream) -> Option<Self> {
        let mut line = [0; LINE_BYTES_MAX];
        let seen = stream.peek(&mut line).await.ok()?;
        let line = std::str::from_utf8(&line[..seen]).ok()?;
        let name = line.split(' ').nth(1)?.strip_prefix(PREFIX)?;
        Self::ALL.into_iter().find(|kind| format!("{kind:?}") == name)
    }

    /// Is so to one connection, until that is closed.
    pub async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        if self == Self::Unread {
            // What is unread holds the sender up once the system's buffers are full.
            return std::future::pending().await;
        }
        let mut request = [0; 65_536];
        if stream.read(&mut request).await? == 0 {
            return Ok(());
        }
        match self {
            Self::Silent | Self::Unread => while stream.read(&mut request).await? > 0 {},
            Self::Drip => {
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n".iter().cycle() {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Self::EndlessHeaders => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                loop {
                    stream.write_all(&b"x-more: and more\r\n".repeat(50)).await?;
                }
            }
            Self::EndlessBody => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes()).await?;
                }
            }
            Self::Cut => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?,
            Self::Garbage => stream.write_all(b"220 mail.example.com ESMTP\r\n").await?,
        }
        Ok(())
    }
}
