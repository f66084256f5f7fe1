//! The load of a measurement: publishers on connections of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use super::sink::now_ns;
use crate::cli::Failure;

/// What to publish, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The topic.
    pub topic: &'static str,
    /// How many events.
    pub events: usize,
    /// How many go in one call.
    pub batch: usize,
    /// On how many connections.
    pub connections: usize,
    /// Events a second; as fast as they are accepted if `None`.
    pub rate: Option<f64>,
    /// Bytes of padding in each message.
    pub message_bytes: usize,
}

/// A connection on which one request at a time is made.
pub struct Wire {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Wire {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Self, Failure> {
        Self::over(TcpStream::connect(address).await.map_err(Failure::failed)?, address).await
    }

    /// Connects to `host:port` from an address of this machine.
    pub async fn open_from(own: IpAddr, address: &str) -> Result<Self, Failure> {
        Self::over(connect_from(own, address).await?, address).await
    }

    async fn over(stream: TcpStream, address: &str) -> Result<Self, Failure> {
        stream.set_nodelay(true).map_err(Failure::failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Failure::failed)?;
        // Its errors are those of the requests.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host: HeaderValue::from_str(address).map_err(Failure::failed)? })
    }

    /// Makes a request; the body of its answer, whose status must be 2xx.
    pub async fn post(&mut self, path: &str, headers: &http::HeaderMap, body: Bytes) -> Result<Bytes, Failure> {
        let mut request = Request::post(path).body(Full::new(body)).map_err(Failure::failed)?;
        request.headers_mut().clone_from(headers);
        let (status, answer) = self.send(request).await?;
        if !status.is_success() {
            return Err(Failure::failed(format!("answered {status}")));
        }
        Ok(answer)
    }

    /// Makes a request; status and body of its answer.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        self.sender.ready().await.map_err(Failure::failed)?;
        let response = self.sender.send_request(request).await.map_err(Failure::failed)?;
        let status = response.status();
        Ok((status, response.into_body().collect().await.map_err(Failure::failed)?.to_bytes()))
    }

    /// Makes a call; its answer, which may be an error object.
    pub async fn call(&mut self, call: impl Into<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
        let request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Full::new(call.into())).map_err(Failure::failed)?).await
    }
}

/// Connects to `host:port` from an address of this machine; from any, if the
/// system does not have that one.
pub async fn connect_from(own: IpAddr, address: &str) -> Result<TcpStream, Failure> {
    let to: SocketAddr = address.parse().map_err(Failure::failed)?;
    let socket = TcpSocket::new_v4().map_err(Failure::failed)?;
    match socket.bind(SocketAddr::new(own, 0)) {
        Ok(()) => socket.connect(to).await.map_err(Failure::failed),
        Err(_) => TcpStream::connect(to).await.map_err(Failure::failed),
    }
}

/// Publishes all of a plan at servers that take turns, and says how long it took to
/// have it accepted.
pub async fn publish(addresses: &[String], session: &str, plan: &Plan) -> Result<Duration, Failure> {
    let mut wires = Vec::with_capacity(plan.connections);
    for address in addresses.iter().cycle().take(plan.connections) {
        wires.push(Wire::open(address).await?);
    }
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let publishers = wires.into_iter().map(|wire| {
        let (next, plan, session) = (Arc::clone(&next), plan.clone(), session.to_owned());
        tokio::spawn(async move { publish_on(wire, &session, &plan, &next, began).await })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.map_err(Failure::failed)??;
    }
    Ok(began.elapsed())
}

async fn publish_on(
    mut wire: Wire,
    session: &str,
    plan: &Plan,
    next: &AtomicUsize,
    began: Instant,
) -> Result<(), Failure> {
    let headers = http::HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let pad = "x".repeat(plan.message_bytes);
    loop {
        let first = next.fetch_add(plan.batch, Ordering::Relaxed);
        let count = plan.batch.min(plan.events.saturating_sub(first));
        if count == 0 {
            return Ok(());
        }
        if let Some(rate) = plan.rate {
            let due = began + Duration::from_secs_f64(first as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        let answer = wire.post("/", &headers, call(session, plan, count, &pad).into()).await?;
        if answer.windows(8).any(|window| window == b"\"error\":") {
            return Err(Failure::failed(String::from_utf8_lossy(&answer)));
        }
    }
}

fn call(session: &str, plan: &Plan, count: usize, pad: &str) -> String {
    let topic = plan.topic;
    let message = || format!(r#"{{"t":{},"pad":"{pad}"}}"#, now_ns());
    if plan.batch == 1 {
        let message = message();
        return format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"event.publish","params":["{session}","{topic}",{message}]}}"#
        );
    }
    let events: Vec<_> = (0..count).map(|_| format!(r#"{{"topic":"{topic}","message":{}}}"#, message())).collect();
    let events = events.join(",");
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"event.publish_many","params":["{session}",[{events}]]}}"#)
}
