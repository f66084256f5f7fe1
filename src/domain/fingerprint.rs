//! Fingerprints: by which a log says that a secret is another one now, or the same as elsewhere,
//! and gives none away.

use std::fmt;

use super::signature::hmac_sha256;

/// Bytes of a fingerprint that are shown. Two secrets look the same once in 65,536 times; a
/// password that people choose is one of so many with the same fingerprint that trying them all
/// does not tell which it is.
const SHOWN_BYTES: usize = 2;

/// Without it nobody can tell which fingerprint a secret has.
#[derive(Clone, Copy)]
pub struct FingerprintKey([u8; 32]);

impl FingerprintKey {
    /// The key of whoever has no master key: whoever reads the store has the secrets themselves.
    pub const OPEN: Self = Self([0; 32]);

    /// The key that follows from a master key.
    pub fn of_master(master: &str) -> Self {
        Self(hmac_sha256(master.as_bytes(), &[b"tallyhook fingerprints"]))
    }

    /// The fingerprint of a secret.
    pub fn print(self, secret: impl AsRef<[u8]>) -> Fingerprint {
        Fingerprint(hmac_sha256(&self.0, &[secret.as_ref()]))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

/// The fingerprint of a secret, whole, so that it differs if the secret does. Only its beginning
/// is ever shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fingerprint:")?;
        self.0[..SHOWN_BYTES].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_short_and_another_under_each_key() {
        let (one, two) = (FingerprintKey::OPEN, FingerprintKey::of_master("thmk_a"));
        let shown = one.print("hunter2hunter2").to_string();
        assert_eq!(shown.len(), "fingerprint:".len() + 4);
        assert_eq!(shown, one.print("hunter2hunter2").to_string());
        assert_ne!(one.print("hunter2hunter2"), one.print("hunter2hunter3"));
        assert_ne!(one.print("hunter2hunter2"), two.print("hunter2hunter2"));
        assert_ne!(FingerprintKey::of_master("thmk_b").0, two.0);
        assert!(!format!("{two:?}").contains("0x") && format!("{two:?}").len() < 24);
    }
}
