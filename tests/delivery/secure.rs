//! Receivers that speak TLS, and see who presents himself.

use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::raw::NO_CONTENT;
use crate::common::certificates::Pair;

/// A request over TLS.
#[derive(Clone, Debug)]
pub struct Secured {
    /// The certificate that was presented.
    pub presented: Option<CertificateDer<'static>>,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

/// Answers 204 to everything, for `localhost` and `127.0.0.1`.
pub struct SecureReceiver {
    pub port: u16,
    requests: Arc<Mutex<Vec<Secured>>>,
}

impl SecureReceiver {
    /// Presents that pair.
    pub async fn start(pair: &Pair) -> Self {
        Self::with(pair.server(None)).await
    }

    pub async fn with(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Secured>>> = Arc::default();
        let (kept, acceptor) = (Arc::clone(&requests), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            let mut connections = 0..;
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, acceptor) = (Arc::clone(&kept), acceptor.clone());
                let connection = connections.next().unwrap();
                tokio::spawn(async move {
                    let mut stream = match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => stream,
                        // Who can't be let in is told so by TLS; a connection that is closed with something
                        // unread would be reset, and that could overtake it.
                        Err((_, mut stream)) => {
                            _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                            return;
                        }
                    };
                    let presented = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
                    let mut read = Vec::new();
                    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
                        if is_whole(&read) {
                            read.clear();
                            kept.lock().unwrap().push(Secured { presented: presented.clone(), connection });
                            stream.write_all(NO_CONTENT).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    pub fn requests(&self) -> Vec<Secured> {
        self.requests.lock().unwrap().clone()
    }
}

/// True if that is a head, and a body as long as it says.
fn is_whole(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() >= length.parse().unwrap()
}
