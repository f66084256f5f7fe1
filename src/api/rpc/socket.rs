//! JSON-RPC 2.0 over a WebSocket: each message is what a body is over HTTP,
//! answers come as calls end, and subscriptions tell in between.
//!
//! One task drives a connection: it reads, runs calls, and writes. While it
//! waits for a slow peer to take something it does nothing else, so no more is
//! read for that peer, and news wait where they are bounded. Its calls stand
//! still meanwhile; so they may hold nothing that others wait for.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SelectAll, StreamExt};
use futures_util::{FutureExt, SinkExt};
use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use tracing::debug;
use url::Url;

use super::answer::Answer;
use super::envelope::INVALID_REQUEST;
use super::fault::{REFUSED, protocol_error};
use super::live::{Live, Subscriptions, Told};
use super::method::Context;
use super::{Endpoint, credentials, refusal, refuse_method};
use crate::api::{Peer, Seat};

/// How much is read from a connection at once, and gathered before it is
/// written, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long to wait for the peer to take leave, too.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Makes a WebSocket of a GET that asks for one.
pub async fn upgrade(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if !parts.headers.contains_key(header::UPGRADE) {
        return refuse_method().await;
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return refusal(rejection.status(), INVALID_REQUEST, &rejection.body_text()),
    };
    let credentials = credentials(&parts.headers);
    if is_foreign(&parts.headers, endpoint.config.public_url.as_ref()) {
        let problem = "Pages of another origin are not answered. If this one is the server's own, behind a proxy, \
            public_url must say where it is.";
        return refusal(StatusCode::FORBIDDEN, INVALID_REQUEST, problem);
    }
    let (Some(Peer(peer)), Some(seat)) = (parts.extensions.get().copied(), parts.extensions.get::<Seat>().cloned())
    else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, REFUSED, "The connection has no address.");
    };
    let context = Context { credentials, peer, codes: endpoint.codes, live: None };
    let max = endpoint.config.body_bytes_max;
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(max)
        .max_frame_size(max)
        .on_failed_upgrade(|cause| debug!(%cause, "a connection could not become a WebSocket"))
        .on_upgrade(move |socket| async move {
            match Connection::new(socket, endpoint, context, seat).run().await {
                Ok(()) => {}
                Err(Broken) => debug!("a WebSocket broke off"),
            }
        })
}

/// True if a page of another site asks. Browsers let any page open a WebSocket
/// to anywhere, also to a server that only its user can reach, and send along
/// what that user once typed for HTTP Basic. Over HTTP they ask the server
/// first, which does not agree. Programs that are no browsers send no Origin.
fn is_foreign(headers: &HeaderMap, public_url: Option<&Url>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let Some(origin) = origin.to_str().ok().and_then(|text| Url::parse(text).ok()) else { return true };
    let authority = |url: &Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()));
    // The scheme of the origin: a proxy may have taken TLS off.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    let own = [host.as_ref().and_then(authority), public_url.and_then(authority)];
    authority(&origin).is_none_or(|origin| !own.contains(&Some(origin)))
}

/// The connection is of no more use.
struct Broken;

/// An answer to write, and what it begins.
struct Ran {
    answer: Answer,
    live: Live,
    body_bytes: usize,
}

/// What came from the peer.
enum Came {
    Body(Bytes),
    Ping,
    Pong,
    Leave,
    Broken(tungstenite::Error),
}

struct Connection {
    socket: WebSocket,
    endpoint: Endpoint,
    context: Context,
    seat: Seat,
    subscriptions: Subscriptions,
    calls: FuturesUnordered<BoxFuture<'static, Ran>>,
    /// The bodies of the calls in progress, in bytes.
    body_bytes: usize,
    told: SelectAll<Told>,
    /// When the peer last gave a sign of life, as far as it was listened to.
    heard_at: Instant,
}

impl Connection {
    fn new(socket: WebSocket, endpoint: Endpoint, context: Context, seat: Seat) -> Self {
        let subscriptions = Subscriptions::new(endpoint.config.ws_subscriptions_max);
        Self {
            socket,
            endpoint,
            context,
            seat,
            subscriptions,
            calls: FuturesUnordered::new(),
            body_bytes: 0,
            told: SelectAll::new(),
            heard_at: Instant::now(),
        }
    }

    /// Serves until the peer leaves, falls silent, or the server stops.
    async fn run(mut self) -> Result<(), Broken> {
        let idle_timeout = self.endpoint.config.idle_timeout;
        let mut ping = tokio::time::interval(idle_timeout / 2);
        loop {
            let has_room = self.has_room();
            tokio::select! {
                () = self.seat.is_stopping() => return self.drain().await,
                came = self.socket.recv(), if has_room => match Came::from(came) {
                    Came::Body(body) => self.take(body),
                    Came::Ping => {
                        self.heard_at = Instant::now();
                        // The answer to it waits to be written. A peer that
                        // takes none can't have any number of them wait.
                        self.flush().await?;
                    }
                    Came::Pong => self.heard_at = Instant::now(),
                    Came::Leave => return self.leave(None).await,
                    Came::Broken(cause) => return self.refuse(&cause).await,
                },
                Some(ran) = self.calls.next() => {
                    self.answer(ran).await?;
                }
                Some(notifications) = self.told.next() => self.notify(notifications).await?,
                _ = ping.tick() => {
                    if !has_room {
                        // It was not listened to, and can't be blamed.
                        self.heard_at = Instant::now();
                    }
                    if self.heard_at.elapsed() > idle_timeout {
                        return self.leave(Some((close_code::POLICY, "no answer to pings"))).await;
                    }
                    self.write(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// True if another call may begin.
    fn has_room(&self) -> bool {
        self.calls.len() < self.endpoint.config.ws_calls_max && self.body_bytes < self.endpoint.config.body_bytes_max
    }

    /// Begins to run what a message holds.
    fn take(&mut self, body: Bytes) {
        self.heard_at = Instant::now();
        self.body_bytes += body.len();
        let live = self.subscriptions.for_request();
        let context = Context { live: Some(live.clone()), ..self.context.clone() };
        let dispatcher = self.endpoint.dispatcher.clone();
        let run = async move {
            let answer = dispatcher.run(&body, &context).await;
            Ran { answer, live, body_bytes: body.len() }
        };
        self.calls.push(run.boxed());
    }

    /// Writes an answer; only then do the subscriptions that it tells of begin.
    async fn answer(&mut self, mut ran: Ran) -> Result<(), Broken> {
        self.body_bytes -= ran.body_bytes;
        if !ran.answer.is_empty() {
            // Its results are held, to their caller's account, until it is dropped.
            self.write(Message::text(ran.answer.take_text())).await?;
        }
        self.told.extend(ran.live.take_opened());
        Ok(())
    }

    async fn notify(&mut self, notifications: Vec<String>) -> Result<(), Broken> {
        for notification in notifications {
            self.feed(Message::text(notification)).await?;
        }
        self.flush().await
    }

    /// Lets the calls in progress end, while there is time, and takes leave.
    async fn drain(mut self) -> Result<(), Broken> {
        self.told.clear();
        loop {
            let ran = tokio::select! {
                biased;
                ran = self.calls.next() => ran,
                () = self.seat.is_over() => None,
            };
            let Some(ran) = ran else { break };
            self.answer(ran).await?;
        }
        self.leave(Some((close_code::AWAY, "the server is shutting down"))).await
    }

    /// Says what was wrong with a message, and takes leave.
    async fn refuse(mut self, cause: &tungstenite::Error) -> Result<(), Broken> {
        let (code, reason) = match cause {
            tungstenite::Error::Capacity(_) => {
                let max = self.endpoint.config.body_bytes_max;
                let problem = format!("The message is longer than {max} bytes, the most that is accepted.");
                self.write(Message::text(protocol_error(INVALID_REQUEST, &problem))).await?;
                (close_code::SIZE, "the message is too long")
            }
            tungstenite::Error::Utf8(_) => (close_code::INVALID, "a text must be UTF-8"),
            tungstenite::Error::Protocol(_) => (close_code::PROTOCOL, "this is no WebSocket"),
            _ => return Err(Broken),
        };
        self.leave(Some((code, reason))).await
    }

    /// Says good-bye, and waits a little for the peer to do so; or, without a
    /// reason, lets the answer to the peer's own go out.
    async fn leave(mut self, why: Option<(u16, &'static str)>) -> Result<(), Broken> {
        let leaving = async {
            if let Some((code, reason)) = why {
                let frame = CloseFrame { code, reason: reason.into() };
                self.socket.send(Message::Close(Some(frame))).await.map_err(|_| Broken)?;
            }
            while let Some(Ok(_)) = self.socket.recv().await {}
            Ok(())
        };
        tokio::time::timeout(CLOSE_WAIT, leaving).await.unwrap_or(Err(Broken))
    }

    async fn write(&mut self, message: Message) -> Result<(), Broken> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Writes once there is room for it, which is as soon as the peer has
    /// taken what was written before. A peer that takes nothing loses the
    /// connection, as over HTTP.
    async fn feed(&mut self, message: Message) -> Result<(), Broken> {
        tokio::select! {
            // What can be written at once is, however late it is.
            biased;
            written = self.socket.feed(message) => written.map_err(|_| Broken),
            () = self.seat.is_over() => Err(Broken),
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        tokio::select! {
            biased;
            written = self.socket.flush() => written.map_err(|_| Broken),
            () = self.seat.is_over() => Err(Broken),
        }
    }
}

impl From<Option<Result<Message, axum::Error>>> for Came {
    fn from(came: Option<Result<Message, axum::Error>>) -> Self {
        match came {
            Some(Ok(Message::Text(text))) => Self::Body(text.into()),
            Some(Ok(Message::Binary(bytes))) => Self::Body(bytes),
            Some(Ok(Message::Ping(_))) => Self::Ping,
            Some(Ok(Message::Pong(_))) => Self::Pong,
            Some(Ok(Message::Close(_))) | None => Self::Leave,
            Some(Err(cause)) => match cause.into_inner().downcast() {
                Ok(cause) => Self::Broken(*cause),
                Err(_) => Self::Leave,
            },
        }
    }
}
