//! JSON-RPC over a WebSocket, as a client.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use http::header::{
    AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, Interval, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::client::{ANSWER_BYTES_MAX, Http, RpcError, RpcFault};

/// How often the server is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// An open connection.
pub struct RpcSocket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    ping: Interval,
    heard_at: Instant,
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The server said so.
    #[error("{0}")]
    Refused(#[from] RpcError),
    /// The connection is lost; another may serve.
    #[error("{0}")]
    Lost(String),
}

#[derive(Serialize)]
struct Call<'a, P> {
    jsonrpc: &'static str,
    id: u32,
    method: &'a str,
    params: P,
}

/// An answer or a notification.
#[derive(Deserialize)]
struct Came {
    result: Option<Box<RawValue>>,
    error: Option<RpcFault>,
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    result: Option<Box<RawValue>>,
    error: Option<RpcFault>,
}

impl RpcSocket {
    /// Opens one, as that user. Fails with [`RpcError::Unreachable`] or
    /// [`RpcError::Foreign`]; whether the key is right shows with the first call.
    pub async fn open(http: &Http, user: &str, api_key: &str) -> Result<Self, RpcError> {
        let url = || http.target().as_str().to_owned();
        let unreachable = |problem| RpcError::Unreachable { url: url(), problem };
        let key = generate_key();
        let mut credentials = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{api_key}"))))
            .expect("base64 is plain text");
        credentials.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).expect("a key is base64")),
            (AUTHORIZATION, credentials),
        ]);
        let answer = http.upgrade(headers).await.map_err(unreachable)?;
        let accepted =
            answer.headers().get(SEC_WEBSOCKET_ACCEPT).is_some_and(|got| got == &derive_accept_key(key.as_bytes()));
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !accepted {
            return Err(RpcError::Foreign { url: url(), status: answer.status() });
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|cause| unreachable(cause.to_string()))?;
        let bounds =
            WebSocketConfig::default().max_message_size(Some(ANSWER_BYTES_MAX)).max_frame_size(Some(ANSWER_BYTES_MAX));
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(bounds)).await;
        Ok(Self { stream, ping: interval(PING_INTERVAL), heard_at: Instant::now() })
    }

    /// Calls a method, before anything was subscribed to; the text of its
    /// result.
    pub async fn call(&mut self, method: &str, params: impl Serialize) -> Result<Box<RawValue>, Ended> {
        let call = Call { jsonrpc: "2.0", id: 1, method, params };
        let call = serde_json::to_string(&call).map_err(RpcError::from)?;
        self.stream.send(Message::text(call)).await.map_err(|cause| Ended::Lost(cause.to_string()))?;
        let Came { result, error, .. } = self.next().await?;
        match (result, error) {
            (_, Some(fault)) => Err(RpcError::from(fault).into()),
            (Some(result), None) => Ok(result),
            (None, None) => Err(Ended::Lost("what came is no answer".to_owned())),
        }
    }

    /// Waits for what a subscription tells next; the text of it.
    pub async fn told(&mut self) -> Result<Box<RawValue>, Ended> {
        loop {
            match self.next().await?.params {
                Some(Params { error: Some(fault), .. }) => return Err(RpcError::from(fault).into()),
                Some(Params { result: Some(result), .. }) => return Ok(result),
                _ => {}
            }
        }
    }

    /// Says good-bye, if there is somebody to hear it.
    pub async fn leave(mut self) {
        let _ = self.stream.close(None).await;
    }

    async fn next(&mut self) -> Result<Came, Ended> {
        let lost = |why: String| Err(Ended::Lost(why));
        loop {
            let message = tokio::select! {
                message = self.stream.next() => message,
                _ = self.ping.tick() => {
                    if self.heard_at.elapsed() > SILENCE_MAX {
                        return lost(format!("the server has been silent for {} s", SILENCE_MAX.as_secs()));
                    }
                    self.stream.send(Message::Ping(Bytes::new())).await.map_err(|cause| Ended::Lost(cause.to_string()))?;
                    continue;
                }
            };
            self.heard_at = Instant::now();
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).map_err(RpcError::from)?),
                Some(Ok(Message::Close(Some(frame)))) if !frame.reason.is_empty() => {
                    return lost(frame.reason.to_string());
                }
                Some(Ok(Message::Close(_))) | None => return lost("the server has closed it".to_owned()),
                Some(Ok(_)) => {}
                Some(Err(cause)) => return lost(cause.to_string()),
            }
        }
    }
}
