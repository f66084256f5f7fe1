//! Whose certificates receivers, the database, and callers may present: those of
//! the system's authorities, and what the operator trusts besides, or instead; and
//! ([`identity`]) the certificates that are presented to others.
//!
//! A certificate of the operator's is an authority, which counts as the
//! system's do, or a receiver's own. That one vouches for itself alone: it
//! counts if exactly it is presented, within its time and for its names, and
//! whatever it has signed does not.

pub mod identity;

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Version;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::BasicConstraints;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Certificates that are trusted besides those of the system's authorities.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// Those that may sign others.
    authorities: Vec<CertificateDer<'static>>,
    /// All of them; authorities sign themselves, and may be presented too.
    exactly: HashSet<CertificateDer<'static>>,
}

/// What is wrong with a file of certificates.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Flaw {
    /// Counted from one.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl Trusted {
    /// The certificates of a file in PEM (RFC 7468), of which there must be one
    /// at least. What else stands in it is passed over.
    pub fn from_pem(text: &str) -> Result<Self, Flaw> {
        let mut trusted = Self::default();
        for (line, certificate) in certificates(text)? {
            trusted.add(certificate).map_err(|problem| Flaw { line, problem })?;
        }
        Ok(trusted)
    }

    /// True if none of them may sign others.
    pub fn has_no_authority(&self) -> bool {
        self.authorities.is_empty()
    }

    fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), String> {
        let flaw = |cause: &dyn std::fmt::Display| format!("what begins here is no certificate (X.509): {cause}");
        if is_authority(&certificate).map_err(|cause| flaw(&cause))? {
            // Whether it can be used as one.
            RootCertStore::empty().add(certificate.clone()).map_err(|cause| flaw(&cause))?;
            self.authorities.push(certificate.clone());
        }
        self.exactly.insert(certificate);
        Ok(())
    }
}

/// What stands in a file of PEM as certificates, one at least, each with the line in which it begins.
fn certificates(text: &str) -> Result<Vec<(usize, CertificateDer<'static>)>, Flaw> {
    let mut found = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    let mut lines = 0;
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        lines = line;
        begun = match (begun, text) {
            (None, BEGIN) => Some((line, String::new())),
            (None, _) => None,
            (Some((line, base64)), END) => {
                let decoded = STANDARD.decode(base64).map_err(|cause| Flaw {
                    line,
                    problem: format!("the certificate that begins here is no base64: {cause}"),
                })?;
                found.push((line, CertificateDer::from(decoded)));
                None
            }
            (Some((begun, _)), text) if text.starts_with("-----") => {
                return Err(Flaw {
                    line,
                    problem: format!("the certificate of line {begun} has no end; {END} is missing"),
                });
            }
            (Some((begun, base64)), text) => Some((begun, base64 + text)),
        };
    }
    match (begun, found.is_empty()) {
        (Some((line, _)), _) => {
            Err(Flaw { line, problem: format!("the certificate that begins here has no end; {END} is missing") })
        }
        (None, true) => {
            Err(Flaw { line: lines.max(1), problem: format!("no certificate up to here; one begins with {BEGIN}") })
        }
        (None, false) => Ok(found),
    }
}

/// True if it may sign others (RFC 5280 §4.2.1.9). The first version has no
/// word for that, and only authorities still use it.
fn is_authority(certificate: &CertificateDer<'_>) -> Result<bool, x509_cert::der::Error> {
    let read = x509_cert::Certificate::from_der(certificate)?.tbs_certificate;
    let constraints = read.get::<BasicConstraints>()?;
    Ok(read.version == Version::V1 || constraints.is_some_and(|(_, constraints)| constraints.ca))
}

/// How deliveries speak TLS. Fails if it can't be set up at all.
pub fn client_config(trusted: &Trusted) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(trusted, system_roots(), Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Whether a server of another kind is to be trusted: by the system's authorities, or
/// by these certificates alone. Fails if they can't be used so.
pub fn verifier_by(alone: Option<&Trusted>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let provider = Arc::new(ring::default_provider());
    let Some(trusted) = alone else { return verifier(&Trusted::default(), system_roots(), provider) };
    let mut roots = RootCertStore::empty();
    if trusted.authorities.is_empty() {
        // A server's own, which vouches for itself; without any root nothing can be verified.
        roots.add_parsable_certificates(trusted.exactly.iter().cloned());
    }
    verifier(trusted, roots, provider)
}

/// Whether a caller is to be trusted: by the authorities among these certificates alone.
/// Fails if there is none.
pub fn verifier_of_callers(trusted: &Trusted) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in &trusted.authorities {
        roots.add(authority.clone())?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|cause| Error::General(cause.to_string()))
}

/// The system's authorities, or Mozilla's if the system has none.
fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors = found.errors;
        tracing::warn!(?errors, "the system has no certificate authorities; using the bundled ones of Mozilla");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn verifier(
    trusted: &Trusted,
    mut roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    for authority in &trusted.authorities {
        roots.add(authority.clone())?;
    }
    let algorithms = provider.signature_verification_algorithms;
    let by_authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|cause| Error::General(cause.to_string()))?;
    Ok(match trusted.exactly.is_empty() {
        true => by_authorities,
        false => Arc::new(Verifier { by_authorities, exactly: trusted.exactly.clone(), algorithms }),
    })
}

#[derive(Debug)]
struct Verifier {
    by_authorities: Arc<WebPkiServerVerifier>,
    exactly: HashSet<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.exactly.contains(end_entity) {
            return self.by_authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        }
        let presented = ParsedCertificate::try_from(end_entity)?;
        let (nobody, algorithms) = (RootCertStore::empty(), self.algorithms.all);
        match verify_server_cert_signed_by_trust_anchor(&presented, &nobody, &[], now, algorithms) {
            // Its time has been looked at before it is found that nobody vouches
            // for it, or that it is an authority and no server's.
            Ok(()) | Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))) => {}
            Err(error) => return Err(error),
        }
        verify_server_name(&presented, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authorities.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    /// In 2026.
    const NOW: Duration = Duration::from_secs(1_795_000_000);

    fn params(name: &str) -> CertificateParams {
        CertificateParams::new(vec![name.to_owned()]).unwrap()
    }

    fn authority(name: &str) -> Issuer {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Issuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed(name: &str, by: &Issuer) -> rcgen::Certificate {
        params(name).signed_by(&KeyPair::generate().unwrap(), by).unwrap()
    }

    /// Judges what is presented for `a.test`, trusting this file alone.
    fn judge(file: &[&str], presented: &rcgen::Certificate) -> Result<(), CertificateError> {
        let trusted = Trusted::from_pem(&file.concat()).unwrap();
        let other = authority("the system's");
        let mut roots = RootCertStore::empty();
        roots.add(other.der().clone()).unwrap();
        let verifier = verifier(&trusted, roots, Arc::new(ring::default_provider())).unwrap();
        let (name, now) = ("a.test".try_into().unwrap(), UnixTime::since_unix_epoch(NOW));
        match verifier.verify_server_cert(presented.der(), &[], &name, &[], now) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_authority_vouches_for_what_it_has_signed() {
        let (ours, other) = (authority("ours"), authority("other"));
        assert_eq!(judge(&[&ours.pem()], &signed("a.test", &ours)), Ok(()));
        assert_eq!(judge(&[&other.pem(), &ours.pem()], &signed("a.test", &ours)), Ok(()));
        assert_eq!(judge(&[&other.pem()], &signed("a.test", &ours)), Err(CertificateError::UnknownIssuer));
        let named = judge(&[&ours.pem()], &signed("b.test", &ours));
        assert!(matches!(named, Err(CertificateError::NotValidForNameContext { .. })), "{named:?}");
    }

    #[test]
    fn what_is_no_authority_counts_exactly_as_it_is() {
        let unknown = authority("unknown");
        let pinned = signed("a.test", &unknown);
        assert_eq!(judge(&[&pinned.pem()], &pinned), Ok(()));
        // The same names and the same authority are not the same certificate.
        let twin = signed("a.test", &unknown);
        assert_eq!(judge(&[&pinned.pem()], &twin), Err(CertificateError::UnknownIssuer));
        let elsewhere = signed("b.test", &unknown);
        let named = judge(&[&elsewhere.pem()], &elsewhere);
        assert!(matches!(named, Err(CertificateError::NotValidForNameContext { .. })), "{named:?}");
    }

    #[test]
    fn what_is_no_authority_vouches_for_nothing() {
        let mut params = params("a.test");
        params.distinguished_name.push(rcgen::DnType::CommonName, "no authority");
        let end = Issuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        assert_eq!(judge(&[&end.pem()], &signed("a.test", &end)), Err(CertificateError::UnknownIssuer));
    }

    #[test]
    fn an_authority_may_be_presented_itself() {
        // What `openssl req -x509` makes says that it is an authority.
        let itself = authority("a.test");
        assert_eq!(judge(&[&itself.pem()], itself.as_ref()), Ok(()));
    }

    #[test]
    fn what_has_expired_does_not_count() {
        let unknown = authority("unknown");
        let mut old = params("a.test");
        (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        let old = old.signed_by(&KeyPair::generate().unwrap(), &unknown).unwrap();
        for file in [old.pem(), unknown.pem()] {
            let judged = judge(&[&file], &old);
            assert!(matches!(judged, Err(CertificateError::ExpiredContext { .. })), "{judged:?}");
        }
    }

    #[test]
    fn a_flaw_is_told_with_its_line() {
        let good = authority("good").pem();
        let lines = good.lines().count();
        let flaw = |text: &str| Trusted::from_pem(text).unwrap_err();
        let cases = [
            ("".to_owned(), 1, "no certificate"),
            ("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n".to_owned(), 3, "no certificate"),
            (format!("{good}{BEGIN}\nMII\n"), lines + 1, "has no end"),
            (format!("{BEGIN}\nMII\n{good}"), 3, "certificate of line 1 has no end"),
            (format!("{good}\n{BEGIN}\n?\n{END}\n"), lines + 2, "no base64"),
            (format!("{good}{BEGIN}\nAAAA\n{END}\n"), lines + 1, "no certificate (X.509)"),
        ];
        for (text, line, words) in cases {
            let flaw = flaw(&text);
            assert!(
                flaw.line == line && flaw.problem.contains(words),
                "{flaw} should be in line {line} and say {words}"
            );
        }
    }
}
