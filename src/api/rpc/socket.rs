//! JSON-RPC 2.0 over a WebSocket: each message is what a body is over HTTP,
//! answers come as calls end, and subscriptions tell in between.
//!
//! One task drives a connection: it reads, begins calls, and writes; each call
//! is a task of its own, so that many large ones are many steps. While the
//! connection waits for a slow peer to take something it does nothing else, so
//! no more is read for that peer, and answers and news wait where they are
//! bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SelectAll, StreamExt};
use futures_util::{FutureExt, SinkExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::{Instrument, debug};
use url::Url;

use super::envelope::INVALID_REQUEST;
use super::fault::{REFUSED, protocol_error};
use super::live::{Live, Subscriptions, Told};
use super::method::Context;
use super::{Endpoint, credentials, is_browser, refusal, refuse_method, see_reference};
use crate::api::intake::{FULL_RETRY_AFTER, Intake, UNCOUNTED_MAX};
use crate::api::places::{Standing, Work};
use crate::api::{ConnectionPermit, request_id};
use crate::domain::request_id::{RequestId, Sender};
use crate::metrics::Limit;
use crate::work::guarded;

/// The one version of the protocol that there is.
const VERSION: &str = "13";
/// What is spoken over it. A client need not ask for it, but one that does
/// breaks off unless it is agreed to.
const SUBPROTOCOL: &str = "jsonrpc";
/// How much is read from a connection at once, and gathered before it is
/// written, in bytes; what is longer is written in frames of so many.
const BUFFER_BYTES: usize = 16 * 1024;
/// After so many bytes of an answer others have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// How long to wait for the peer to take leave, too.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Makes a WebSocket of a GET that asks for one.
pub async fn upgrade(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if !parts.headers.contains_key(header::UPGRADE) {
        return match parts.uri.path() == "/" && is_browser(&parts.headers) {
            true => see_reference(),
            false => refuse_method().await,
        };
    }
    let (on_upgrade, key) =
        (parts.extensions.get::<OnUpgrade>().cloned(), parts.headers.get(header::SEC_WEBSOCKET_KEY));
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    // It checks what the standard asks of such a request.
    let subprotocol = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols([SUBPROTOCOL]).selected_protocol().cloned(),
        Err(rejection) => {
            let mut response = refusal(rejection.status(), INVALID_REQUEST, &rejection.body_text());
            // A client of another version learns which one it is (RFC 6455, 4.4).
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            return response;
        }
    };
    let credentials = credentials(&parts.headers);
    if is_foreign(&parts.headers, endpoint.config.public_url.as_ref()) {
        let problem = "Pages of another origin are not answered. If this one is the server's own, behind a proxy, \
            public_url must say where it is.";
        return refusal(StatusCode::FORBIDDEN, INVALID_REQUEST, problem);
    }
    let of_connection = (
        parts.extensions.get().copied(),
        parts.extensions.get::<ConnectionPermit>().cloned(),
        parts.extensions.get().cloned(),
    );
    let ((Some(sender), Some(permit), Some(intake)), Some(on_upgrade)) = (of_connection, on_upgrade) else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, REFUSED, "The connection has no address.");
    };
    let context = Context { credentials, sender, codes: endpoint.codes, live: None, body: None };
    tokio::spawn(guarded("a WebSocket", async move {
        let upgraded = match on_upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(cause) => return debug!(%cause, "a connection could not become a WebSocket"),
        };
        let max = endpoint.config.body_bytes_max;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(max))
            .max_frame_size(Some(max));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
        let standing = Arc::clone(&permit.standing);
        tokio::select! {
            ended = Connection::new(socket, endpoint, context, permit, intake).run() => match ended {
                Ok(()) => {}
                Err(Broken) => debug!("a WebSocket broke off"),
            },
            () = standing.is_cut() => debug!("a WebSocket at work was cut off, for another had no place"),
        }
    }));
    switching_protocols(accept.as_deref().unwrap_or_default(), subprotocol)
}

fn switching_protocols(accept: &str, subprotocol: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(accept).expect("it is base64"));
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
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
    answer: VecDeque<Bytes>,
    live: Live,
    load: Load,
}

/// What the calls in progress hold of what was sent, in bytes.
#[derive(Clone, Copy, Default)]
struct Load {
    all: usize,
    /// As much of it as is not counted together with that of others.
    uncounted: usize,
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
    socket: WebSocketStream<TokioIo<Upgraded>>,
    endpoint: Endpoint,
    context: Context,
    permit: ConnectionPermit,
    standing: Arc<Standing>,
    /// While it has something to do.
    work: Option<Work>,
    intake: Arc<Intake>,
    subscriptions: Subscriptions,
    calls: JoinSet<Ran>,
    load: Load,
    told: SelectAll<Told>,
    /// When the peer last gave a sign of life, as far as it was listened to.
    heard_at: Instant,
}

impl Connection {
    fn new(
        socket: WebSocketStream<TokioIo<Upgraded>>,
        endpoint: Endpoint,
        context: Context,
        permit: ConnectionPermit,
        intake: Arc<Intake>,
    ) -> Self {
        let subscriptions = Subscriptions::new(endpoint.config.ws_subscriptions_max);
        let standing = Arc::clone(&permit.standing);
        Self {
            socket,
            endpoint,
            context,
            permit,
            standing,
            work: None,
            intake,
            subscriptions,
            calls: JoinSet::new(),
            load: Load::default(),
            told: SelectAll::new(),
            heard_at: Instant::now(),
        }
    }

    /// Serves until the peer leaves, falls silent, or the server stops.
    async fn run(mut self) -> Result<(), Broken> {
        let idle_timeout = self.endpoint.config.idle_timeout;
        let mut ping = tokio::time::interval(idle_timeout / 2);
        let _answering = self.intake.answering();
        loop {
            let has_room = self.has_room();
            self.note_work();
            tokio::select! {
                () = self.permit.is_stopping() => return self.drain().await,
                () = self.standing.gives_way() => return self.give_way(),
                () = self.intake.overflows() => return self.turn_away().await,
                came = self.socket.next(), if has_room => match Came::from(came) {
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
                Some(ran) = self.calls.join_next() => self.answer(ran.map_err(|_| Broken)?).await?,
                // When the last subscription has ended, there is less to do than before.
                notifications = self.told.next(), if !self.told.is_empty() => if let Some(notifications) = notifications {
                    self.notify(notifications).await?;
                },
                _ = ping.tick() => {
                    if !has_room {
                        // It was not listened to, and can't be blamed.
                        self.heard_at = Instant::now();
                    }
                    if self.heard_at.elapsed() > idle_timeout {
                        return self.leave(Some((CloseCode::Policy, "no answer to pings"))).await;
                    }
                    self.write(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// Is idle without calls and subscriptions, and may be cut off from calls
    /// alone: of subscriptions there are few enough.
    fn note_work(&mut self) {
        let is_kept = !self.told.is_empty();
        if !is_kept && self.calls.is_empty() {
            self.work = None;
        } else if self.work.as_ref().is_none_or(|work| work.is_kept() != is_kept) {
            self.work = Some(self.standing.work(is_kept));
        }
    }

    /// True if another call may begin.
    fn has_room(&self) -> bool {
        self.calls.len() < self.endpoint.config.ws_calls_max
            && self.load.all < self.endpoint.config.body_bytes_max
            && self.load.uncounted < UNCOUNTED_MAX
    }

    /// Begins to run what a message holds. Those that are too short to be
    /// counted are all the same once there are many of them.
    fn take(&mut self, body: Bytes) {
        self.heard_at = Instant::now();
        let (all, uncounted) = (body.len(), self.load.uncounted + body.len());
        let held = self.intake.take();
        let held = held.or_else(|| (uncounted > UNCOUNTED_MAX).then(|| self.intake.try_hold(all)).flatten());
        let load = Load { all, uncounted: if held.is_some() { 0 } else { all } };
        self.load = Load { all: self.load.all + load.all, uncounted: self.load.uncounted + load.uncounted };
        let live = self.subscriptions.for_request();
        let request_id = RequestId::generate();
        let sender = Sender { request_id, ..self.context.sender };
        let context = Context { sender, live: Some(live.clone()), body: held.map(Arc::new), ..self.context.clone() };
        let endpoint = self.endpoint.clone();
        let running = async move {
            let answer = endpoint.answer(body, &context).await;
            let hold = endpoint.hold(&answer, context.sender.peer);
            Ran { answer: answer.into_pieces(hold), live, load }
        };
        self.calls.spawn(guarded("a call over a WebSocket", running.instrument(request_id::span(request_id))));
    }

    /// Writes an answer; only then do the subscriptions that it tells of begin.
    async fn answer(&mut self, ran: Ran) -> Result<(), Broken> {
        let Load { all, uncounted } = ran.load;
        self.load = Load { all: self.load.all - all, uncounted: self.load.uncounted - uncounted };
        if !ran.answer.is_empty() {
            self.feed_text(ran.answer).await?;
            self.flush().await?;
        }
        if let Some(work) = &self.work {
            work.go_on();
        }
        self.told.extend(ran.live.take_opened());
        Ok(())
    }

    async fn notify(&mut self, notifications: Vec<String>) -> Result<(), Broken> {
        for notification in notifications {
            self.feed_text(VecDeque::from([notification.into()])).await?;
        }
        self.flush().await
    }

    /// Lets the calls in progress end, while there is time, and takes leave.
    async fn drain(mut self) -> Result<(), Broken> {
        self.told.clear();
        loop {
            let ran = tokio::select! {
                biased;
                ran = self.calls.join_next() => ran,
                () = self.permit.is_over() => None,
            };
            let Some(ran) = ran else { break };
            self.answer(ran.map_err(|_| Broken)?).await?;
        }
        self.leave(Some((CloseCode::Away, "the server is shutting down"))).await
    }

    /// Says what was wrong with a message, and takes leave.
    async fn refuse(mut self, cause: &tungstenite::Error) -> Result<(), Broken> {
        let (code, reason) = match cause {
            tungstenite::Error::Capacity(_) => {
                self.endpoint.service.metrics().refused(Limit::BodyBytes);
                let max = self.endpoint.config.body_bytes_max;
                let problem = format!("The message is longer than {max} bytes, the most that is accepted.");
                self.write(Message::text(protocol_error(INVALID_REQUEST, &problem, None))).await?;
                (CloseCode::Size, "the message is too long")
            }
            tungstenite::Error::Utf8(_) => (CloseCode::Invalid, "a text must be UTF-8"),
            tungstenite::Error::Protocol(_) => (CloseCode::Protocol, "this is no WebSocket"),
            _ => return Err(Broken),
        };
        self.leave_early(code, reason).await
    }

    /// Takes leave for another to have the place: at once, whether the peer
    /// listens or not, since that one waits.
    fn give_way(mut self) -> Result<(), Broken> {
        debug!("a WebSocket that was idle gave way to another connection");
        let frame = CloseFrame { code: CloseCode::Again, reason: "another connection needs the place".into() };
        match self.socket.send(Message::Close(Some(frame))).now_or_never() {
            Some(Ok(())) => Ok(()),
            _ => Err(Broken),
        }
    }

    /// Says that there is no room for what the peer sends, and takes leave.
    async fn turn_away(mut self) -> Result<(), Broken> {
        let problem = "There is no room for more of what you send. Retry in a second.";
        self.write(Message::text(protocol_error(REFUSED, problem, Some(FULL_RETRY_AFTER)))).await?;
        self.leave_early(CloseCode::Again, "there is no room for the message").await
    }

    /// Takes leave of a peer that may still be sending what is not read.
    async fn leave_early(mut self, code: CloseCode, reason: &'static str) -> Result<(), Broken> {
        let left = self.leave(Some((code, reason))).await;
        tokio::select! {
            // It lingers, or a reset would overtake what was said.
            ended = self.socket.get_mut().shutdown() => left.and(ended.map_err(|_| Broken)),
            () = self.permit.is_over() => Err(Broken),
        }
    }

    /// Says good-bye, and waits a little for the peer to do so; or, without a
    /// reason, lets the answer to the peer's own go out.
    async fn leave(&mut self, why: Option<(CloseCode, &'static str)>) -> Result<(), Broken> {
        let leaving = async {
            if let Some((code, reason)) = why {
                let frame = CloseFrame { code, reason: reason.into() };
                self.socket.send(Message::Close(Some(frame))).await.map_err(|_| Broken)?;
            }
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok(())
        };
        tokio::time::timeout(CLOSE_WAIT, leaving).await.unwrap_or(Err(Broken))
    }

    async fn write(&mut self, message: Message) -> Result<(), Broken> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Writes a text, which is there in pieces, in frames that are short.
    async fn feed_text(&mut self, pieces: VecDeque<Bytes>) -> Result<(), Broken> {
        let (mut left, mut turn) = (pieces.iter().map(Bytes::len).sum::<usize>(), 0);
        let mut code = OpCode::Data(Data::Text);
        for mut piece in pieces {
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(BUFFER_BYTES));
                (left, turn) = (left - part.len(), turn + part.len());
                self.feed(Message::Frame(Frame::message(part, code, left == 0))).await?;
                code = OpCode::Data(Data::Continue);
                if turn >= TURN_BYTES {
                    turn = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Writes once there is room for it, which is as soon as the peer has
    /// taken what was written before. A peer that takes nothing loses the
    /// connection, as over HTTP.
    async fn feed(&mut self, message: Message) -> Result<(), Broken> {
        tokio::select! {
            // What can be written at once is, however late it is.
            biased;
            written = self.socket.feed(message) => written.map_err(|_| Broken),
            () = self.permit.is_over() => Err(Broken),
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        tokio::select! {
            biased;
            written = self.socket.flush() => written.map_err(|_| Broken),
            () = self.permit.is_over() => Err(Broken),
        }
    }
}

impl From<Option<Result<Message, tungstenite::Error>>> for Came {
    fn from(came: Option<Result<Message, tungstenite::Error>>) -> Self {
        match came {
            Some(Ok(Message::Text(text))) => Self::Body(text.into()),
            Some(Ok(Message::Binary(bytes))) => Self::Body(bytes),
            Some(Ok(Message::Ping(_))) => Self::Ping,
            Some(Ok(Message::Pong(_))) => Self::Pong,
            // Single frames are for writing only.
            Some(Ok(Message::Close(_) | Message::Frame(_))) | None => Self::Leave,
            Some(Err(cause)) => Self::Broken(cause),
        }
    }
}
