//! TLS to the database: whose certificates count, as `sslmode` says.
//!
//! What stands between tokio-postgres and rustls is small enough to be ours.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode;

use crate::trust::{Trusted, verifier_by};

/// What the protocol is called in the handshake.
const ALPN: &[u8] = b"postgresql";

/// What of the database's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing: who listens can't read along, who stands in between can.
    Nothing,
    /// Who vouches for it.
    Authority,
    /// That, and whether it is for the host that was meant.
    Host,
}

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Fails if these certificates, or the system's, can't be used.
    pub fn new(check: Check, trusted: Option<&Trusted>) -> Result<Self, TlsError> {
        let verifier: Arc<dyn ServerCertVerifier> = match check {
            Check::Nothing => Arc::new(Lenient { authorities: None }),
            Check::Authority => Arc::new(Lenient { authorities: Some(verifier_by(trusted)?) }),
            Check::Host => verifier_by(trusted)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// A handshake that is to come.
pub struct Handshake {
    config: Arc<ClientConfig>,
    /// `None`: the host has no name that could be one of a certificate.
    name: Option<ServerName<'static>>,
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        // A socket of this machine has no host, and is never encrypted.
        Ok(Handshake { config: Arc::clone(&self.0), name: ServerName::try_from(host.to_owned()).ok() })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let name =
                self.name.ok_or_else(|| io::Error::other("the host is no name that a certificate could have"))?;
            let stream = TlsConnector::from(self.config).connect(name, socket).await?;
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// An encrypted connection.
pub struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.0.get_ref();
        let presented = connection.peer_certificates().and_then(<[_]>::first);
        presented.and_then(end_point).map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What binds a login to the certificate (RFC 5929 §4.1): its hash, by the function that
/// it is signed with, and SHA-256 at least. `None`: it is signed with none alone.
fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let read = x509_cert::Certificate::from_der(certificate).ok()?;
    match read.signature_algorithm.oid.to_string().as_str() {
        // RSA and ECDSA, with MD5, SHA-1 or SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Takes a certificate for whatever host, as long as its holder has the key.
#[derive(Debug)]
struct Lenient {
    /// Who says which may be given; names are what he looks at last. `None`: any.
    authorities: Option<Arc<dyn ServerCertVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Why there is no secure connection, and what to do, if TLS is what failed.
pub fn in_words(error: &(dyn Error + 'static)) -> Option<String> {
    let tls = find(error)?;
    Some(match tls {
        // The latter of an authority that is called as another one.
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "nobody who is trusted vouches for the database's certificate; name the file of its authority with \
             sslrootcert=FILE in the URL"
                .to_owned()
        }
        TlsError::InvalidCertificate(
            error @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        ) => format!(
            "the database's certificate is for another host ({error}); write a host of its in the URL, or \
             sslmode=verify-ca if any will do"
        ),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the database's certificate has expired; renew it".to_owned()
        }
        TlsError::InvalidCertificate(CertificateError::Other(_)) => format!(
            "the database's certificate is none that a server may have ({tls}); if it is its own authority, name it \
             with sslrootcert=FILE in the URL"
        ),
        TlsError::PeerIncompatible(_) => {
            format!("the database has no way in common with TLS 1.2 and 1.3 as they are spoken today ({tls})")
        }
        _ => format!("the connection to the database can't be encrypted: {tls}"),
    })
}

/// The first of TLS among an error, what it wraps, and what it is caused by.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    if let Some(found) = error.downcast_ref::<TlsError>() {
        return Some(found);
    }
    // What an error of I/O wraps is not its source, but stands in its place.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => find(wrapped),
        None => error.source().and_then(find),
    }
}
