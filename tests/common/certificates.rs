//! Authorities and certificates of the tests' own, in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    Issuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this machine, and its key, in PEM.
pub fn pair(by: &Issuer) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, by).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A folder with what a server, or a caller, presents.
pub struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    pub fn new(by: &Issuer) -> Self {
        let pair = Self { folder: tempfile::tempdir().unwrap() };
        pair.renew(by);
        std::fs::write(pair.authority(), by.pem()).unwrap();
        pair
    }

    /// Puts another certificate and key in the place of those there are; the certificate.
    pub fn renew(&self, by: &Issuer) -> CertificateDer<'static> {
        let (certificate, key) = pair(by);
        self.put(&self.certificate(), &certificate);
        self.put(&self.key(), &key);
        CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()
    }

    /// Puts a file in the place of another, as whole as programs that renew certificates do.
    pub fn put(&self, path: &Path, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The file of the authority that has signed it.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// How a server speaks TLS that presents this pair, and wants a certificate of that authority.
    pub fn server(&self, wanted: Option<&Issuer>) -> ServerConfig {
        let chain = vec![CertificateDer::from_pem_file(self.certificate()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.key()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = match wanted {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        builder.with_single_cert(chain, key).unwrap()
    }

    /// How a client speaks TLS that trusts this authority, and presents that pair.
    pub fn client(&self, presented: Option<&Self>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match presented {
            None => builder.with_no_client_auth(),
            Some(presented) => {
                let chain = vec![CertificateDer::from_pem_file(presented.certificate()).unwrap()];
                let key = PrivateKeyDer::from_pem_file(presented.key()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}
