//! Who this program is to others: a certificate and its key, in files of PEM.

use std::path::Path;
use std::sync::Arc;

use rustls::Error;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;

use super::{BEGIN, Flaw, certificates};
use crate::domain::time::Timestamp;

/// Why two files are no certificate with its key: which of them is to blame, and what is
/// wrong with it, with its path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The file of the certificate.
    #[error("{0}")]
    Certificate(String),
    /// The file of the key.
    #[error("{0}")]
    Key(String),
}

/// What is wrong with a certificate or its key, given as texts.
#[derive(Debug, PartialEq, Eq)]
pub enum Flawed {
    /// With the certificate.
    Certificate(String),
    /// With the key; nothing of it is repeated.
    Key(String),
}

/// A certificate, followed by those between it and its authority, and its key, in PEM.
/// Whoever sees the one need not see the other, so there is nothing but certificates in that.
pub fn from_pem(certificate: &str, key: &str) -> Result<CertifiedKey, Flawed> {
    let is_other = |line: &str| line.trim_start().starts_with("-----BEGIN ") && line.trim() != BEGIN;
    if let Some((line, _)) = (1..).zip(certificate.lines()).find(|(_, text)| is_other(text)) {
        let problem = format!("line {line}: what begins here is no certificate, and may be a secret; leave it out");
        return Err(Flawed::Certificate(problem));
    }
    let chain = chain(certificate).map_err(|flaw| Flawed::Certificate(flaw.to_string()))?;
    let private = private_key(key).map_err(Flawed::Key)?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|cause| match cause {
        Error::InconsistentKeys(_) => Flawed::Key("it is not the key of the first certificate".to_owned()),
        Error::InvalidCertificate(_) => Flawed::Certificate(format!("its first certificate can't be used: {cause}")),
        cause => Flawed::Key(format!("it can't be used: {cause}")),
    })
}

/// Reads a certificate, followed by those between it and its authority, and its key.
pub fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Unusable> {
    let flaw = |problem: &dyn std::fmt::Display| Unusable::Certificate(format!("{}{problem}", certificate.display()));
    let text = read_text(certificate).map_err(Unusable::Certificate)?;
    let chain = chain(&text).map_err(|cause| flaw(&format!(", {cause}")))?;
    let key_text = read_text(key).map_err(Unusable::Key)?;
    let private = private_key(&key_text).map_err(|problem| Unusable::Key(format!("{}: {problem}", key.display())))?;
    match CertifiedKey::from_der(chain, private, &ring::default_provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(Error::InconsistentKeys(_)) => Err(Unusable::Key(format!(
            "the key in {} is not that of the first certificate in {}",
            key.display(),
            certificate.display()
        ))),
        Err(Error::InvalidCertificate(cause)) => {
            Err(flaw(&format!(": its first certificate can't be used: {}", Error::InvalidCertificate(cause))))
        }
        Err(cause) => Err(Unusable::Key(format!("{}: the key can't be used: {cause}", key.display()))),
    }
}

/// Certificates, each of which can be read.
fn chain(text: &str) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let read = |(line, found): (usize, CertificateDer<'static>)| match x509_cert::Certificate::from_der(&found) {
        Ok(_) => Ok(found),
        Err(cause) => Err(Flaw { line, problem: format!("what begins here is no certificate (X.509): {cause}") }),
    };
    certificates(text)?.into_iter().map(read).collect()
}

/// Until when a certificate counts; `None` if it can't be read.
pub fn valid_until(certified: &CertifiedKey) -> Option<Timestamp> {
    let read = x509_cert::Certificate::from_der(certified.cert.first()?).ok()?;
    Some(Timestamp(0).after(read.tbs_certificate.validity.not_after.to_unix_duration()))
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    use rustls::pki_types::pem::Error as PemError;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|cause| match cause {
        PemError::NoItemsFound if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
            "its key has a passphrase, which nobody could type at a start; `openssl pkey -in FILE -out OTHER` writes \
             it without"
                .to_owned()
        }
        PemError::NoItemsFound => "no private key in it; one begins with -----BEGIN PRIVATE KEY-----".to_owned(),
        // What cannot be read of it is a secret.
        _ => "its private key is no PEM that can be read".to_owned(),
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|cause| format!("{} can't be read: {cause}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is no text, and so no PEM", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (
            CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    #[test]
    fn a_pair_is_read_and_has_an_end() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (certificate, key) = pair();
        let read = read(&folder.file("c", &certificate), &folder.file("k", &key)).unwrap();
        assert!(valid_until(&read).is_some_and(|until| until.unix_seconds() > 1_795_000_000));
    }

    #[test]
    fn what_is_shown_to_others_holds_no_key() {
        let (certificate, key) = pair();
        assert!(from_pem(&certificate, &key).is_ok());
        assert!(from_pem(&certificate, &format!("{certificate}{key}")).is_ok(), "a key is shown to nobody");
        for bundle in [format!("{certificate}{key}"), format!("{key}{certificate}"), format!("{certificate}  {key}")] {
            let flawed = from_pem(&bundle, &key).unwrap_err();
            assert!(matches!(&flawed, Flawed::Certificate(told) if told.contains("leave it out")), "{flawed:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_of_the_file_that_it_is_wrong_with() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let ((certificate, key), (_, other)) = (pair(), pair());
        let (good, its_key) = (folder.file("good.pem", &certificate), folder.file("key.pem", &key));
        let missing = folder.0.path().join("missing.pem");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cases = [
            (&missing, &its_key, true, "can't be read"),
            (&good, &missing, false, "can't be read"),
            (&its_key, &its_key, true, "no certificate"),
            (&good, &good, false, "no private key"),
            (&good, &folder.file("other.pem", &other), false, "is not that of the first certificate"),
            (&good, &folder.file("locked.pem", encrypted), false, "passphrase"),
            (
                &folder.file("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                &its_key,
                true,
                "line 1: what begins here is no certificate",
            ),
            (
                &folder.file(
                    "chain.pem",
                    &format!("{certificate}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                ),
                &its_key,
                true,
                "what begins here is no certificate",
            ),
        ];
        for (certificate, key, blames_certificate, words) in cases {
            let unusable = read(certificate, key).unwrap_err();
            let path = if blames_certificate { certificate } else { key };
            assert_eq!(matches!(unusable, Unusable::Certificate(_)), blames_certificate, "{unusable}");
            let told = unusable.to_string();
            assert!(told.contains(words) && told.contains(&path.display().to_string()), "{told}");
        }
    }
}
