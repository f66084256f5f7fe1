//! Who the server is to a receiver that wants a certificate of it.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::fault::Violation;

/// The longest chain of certificates, and the longest key, in bytes of PEM.
pub const IDENTITY_BYTES_MAX: usize = 16 * 1024;

/// A certificate, followed by those between it and its authority, and its private key, as their
/// owner wrote them in PEM. Whether they are what they should be is for the edge to check.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    certificate: String,
    key: String,
    fingerprint: String,
}

impl ClientIdentity {
    /// Accepts up to [`IDENTITY_BYTES_MAX`] bytes each.
    pub fn try_new(certificate: &str, key: &str) -> Result<Self, Violation> {
        for (field, text) in [("client_certificate", certificate), ("client_key", key)] {
            if text.len() > IDENTITY_BYTES_MAX {
                let bytes = text.len();
                return Err(Violation::new(
                    field,
                    format!("has {bytes} bytes; up to {IDENTITY_BYTES_MAX} are allowed."),
                ));
            }
        }
        let digest = Sha256::new().chain_update(certificate).chain_update([0]).chain_update(key).finalize();
        let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(Arc::new(Inner { certificate: certificate.to_owned(), key: key.to_owned(), fingerprint })))
    }

    /// The certificates.
    pub fn certificate(&self) -> &str {
        &self.0.certificate
    }

    /// The key itself, for the store and for TLS.
    pub fn expose_key(&self) -> &str {
        &self.0.key
    }

    /// What tells it from every other one, without giving anything of it away.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientIdentity").field(&self.0.fingerprint).finish()
    }
}
