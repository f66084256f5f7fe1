//! How the receiver of a measurement speaks TLS: with a certificate that is
//! made at the start, under an authority that the server is told to trust.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::cli::Failure;

/// What a connection over TLS begins with: a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// The files of a measurement over TLS, each in PEM.
pub struct Files {
    /// What the server is told to trust.
    pub authority: PathBuf,
    /// The receiver's certificate, who signed it, and its key.
    pub receiver: PathBuf,
}

impl Files {
    /// Makes an authority, and a certificate of a receiver with these addresses.
    pub fn make(folder: &Path, addresses: &[IpAddr]) -> Result<Self, Failure> {
        let (authority, receiver) = pem(addresses).map_err(Failure::failed)?;
        let files = Self { authority: folder.join("authority.pem"), receiver: folder.join("receiver.pem") };
        std::fs::write(&files.authority, authority).map_err(Failure::failed)?;
        std::fs::write(&files.receiver, receiver).map_err(Failure::failed)?;
        Ok(files)
    }
}

/// As those of public authorities are: one that is trusted, one below it that
/// signs, and the receiver's own.
fn pem(addresses: &[IpAddr]) -> Result<(String, String), rcgen::Error> {
    let authority = |name: &str| {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok::<_, rcgen::Error>(params)
    };
    let root = CertifiedIssuer::self_signed(authority("tallyhook bench, root")?, KeyPair::generate()?)?;
    let signing = CertifiedIssuer::signed_by(authority("tallyhook bench")?, KeyPair::generate()?, &root)?;
    let key = KeyPair::generate()?;
    let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names)?.signed_by(&key, &signing)?;
    Ok((root.pem(), certificate.pem() + &signing.pem() + &key.serialize_pem()))
}

/// Takes connections over TLS with the certificate of a file. Whoever comes
/// again may resume a session, unless every handshake is to be a full one.
pub fn acceptor(file: &Path, resumes: bool) -> Result<TlsAcceptor, Failure> {
    let about = |cause: &dyn std::fmt::Display| Failure::failed(format!("{}: {cause}", file.display()));
    let chain = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|cause| about(&cause))?;
    let key = PrivateKeyDer::from_pem_file(file).map_err(|cause| about(&cause))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::failed)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|cause| about(&cause))?;
    match resumes {
        true => config.ticketer = ring::Ticketer::new().map_err(Failure::failed)?,
        false => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// True if a connection begins as TLS does. Nothing is taken from it.
pub async fn is_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    stream.peek(&mut first).await.is_ok_and(|seen| seen == 1) && first[0] == HANDSHAKE
}
