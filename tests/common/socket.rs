//! A WebSocket client that speaks JSON-RPC.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{DEMO_KEY, PATIENCE, TestServer, basic};

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    last_id: i64,
    /// Notifications that came while an answer was waited for.
    early: VecDeque<Value>,
}

impl Socket {
    /// As the demo user of HTTP Basic.
    pub async fn demo(server: &TestServer) -> Self {
        Self::with_basic(server, "demo", DEMO_KEY).await
    }

    pub async fn with_basic(server: &TestServer, name: &str, key: &str) -> Self {
        Self::open(&server.url(), "/", &[("authorization", &basic(name, key))]).await.unwrap()
    }

    /// Fails with the answer to the upgrade, if that was refused.
    pub async fn open(url: &str, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, (u16, String)> {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        Self::over(stream, url, path, headers).await
    }

    /// One whose system takes as little as it may from a server that is not
    /// listened to.
    pub async fn narrow(server: &TestServer) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let url = server.url();
        let stream = socket.connect(url.trim_start_matches("http://").parse().unwrap()).await.unwrap();
        Self::over(stream, &url, "/", &[("authorization", &basic("demo", DEMO_KEY))]).await.unwrap()
    }

    async fn over(
        stream: TcpStream,
        url: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (u16, String)> {
        let mut request = format!("{}{path}", url.replacen("http", "ws", 1)).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let opening = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(PATIENCE, opening).await.expect("the server answers") {
            Ok((stream, _)) => Ok(Self { stream, last_id: 0, early: VecDeque::new() }),
            Err(Error::Http(response)) => {
                let (head, body) = response.into_parts();
                Err((head.status.as_u16(), String::from_utf8(body.unwrap_or_default()).unwrap()))
            }
            Err(problem) => panic!("{problem}"),
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.stream.send(message).await.unwrap();
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send(Message::text(text.into())).await;
    }

    /// Waits until so many bytes have arrived, and reads none of them.
    pub async fn arrived(&self, bytes: usize) {
        let mut seen = vec![0; bytes];
        let wait = async { while self.stream.get_ref().peek(&mut seen).await.unwrap() < bytes {} };
        tokio::time::timeout(PATIENCE, wait).await.expect("something comes");
    }

    /// The next frame that is no ping; `None` at the end.
    pub async fn frame(&mut self) -> Option<Result<Message, Error>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("something comes");
            match frame {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                frame => return frame,
            }
        }
    }

    /// The next text.
    pub async fn text(&mut self) -> String {
        match self.frame().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text, but {other:?}"),
        }
    }

    /// The next text, as JSON.
    pub async fn json(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }

    /// The code and the reason with which the server takes leave.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.frame().await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Text(_))) => {}
                other => panic!("no leave is taken, but {other:?}"),
            }
        }
    }

    /// Sends a call; its id.
    pub async fn begin(&mut self, method: &str, params: Value) -> i64 {
        self.last_id += 1;
        let call = json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params});
        self.send_text(call.to_string()).await;
        self.last_id
    }

    /// Calls a method: its result, or its error. What is told in between is
    /// kept for [`Self::told`].
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.begin(method, params).await;
        loop {
            let answer = self.json().await;
            if answer["id"] == id {
                return match answer.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(answer["result"].clone()),
                };
            }
            assert!(answer.get("id").is_none(), "an answer to another call: {answer}");
            self.early.push_back(answer);
        }
    }

    /// What the next notification tells: method, subscription, and the result
    /// or the error.
    pub async fn told(&mut self) -> (String, i64, Result<Value, Value>) {
        let told = match self.early.pop_front() {
            Some(told) => told,
            None => self.json().await,
        };
        let params = &told["params"];
        assert_eq!((&told["jsonrpc"], told.get("id")), (&json!("2.0"), None), "{told}");
        let told_of = match (params.get("result"), params.get("error")) {
            (Some(result), None) => Ok(result.clone()),
            (None, Some(error)) => Err(error.clone()),
            _ => panic!("neither result nor error alone: {told}"),
        };
        (told["method"].as_str().unwrap().to_owned(), params["subscription"].as_i64().unwrap(), told_of)
    }

    /// What the next notification tells, which must be a result.
    pub async fn news(&mut self) -> Value {
        let (_, _, told) = self.told().await;
        told.unwrap_or_else(|error| panic!("it has ended: {error}"))
    }

    /// True if something has been told that nobody has asked for yet.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }
}
