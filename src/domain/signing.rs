//! By what deliveries are signed: a secret that the receiver has too, or a private key
//! that never leaves the server.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::fault::Violation;
use super::secret::{SecretKey, random};

/// Marks a private key (Standard Webhooks).
const WHSK: &str = "whsk_";
/// Marks a public key (Standard Webhooks).
pub const PUBLIC_KEY_MARK: &str = "whpk_";
/// The length of either key (RFC 8032, section 5.1.5).
const KEY_BYTES: usize = 32;

/// How deliveries are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// With HMAC-SHA256 and the webhook's secret: `v1`.
    Hmac,
    /// With Ed25519 and a key pair that the server has made: `v1a`.
    Ed25519,
}

impl Signing {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Hmac, Self::Ed25519];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signing| signing.name() == name)
    }
}

/// The private key of an Ed25519 pair. Nobody but the store and the signature sees it.
#[derive(Clone)]
pub struct SigningKey {
    text: String,
    /// Read once: every delivery signs.
    pair: Arc<Ed25519KeyPair>,
}

impl SigningKey {
    /// A new one, from 32 random bytes.
    pub fn generate() -> Self {
        Self::of(&random::<KEY_BYTES>())
    }

    /// One that was made here: `whsk_` and base64 of its 32 bytes.
    pub fn stored(text: &str) -> Result<Self, Violation> {
        let problem = || Violation::new("signing_key", format!("is no private key, which is {WHSK} and base64."));
        let seed = read(text, WHSK).ok_or_else(problem)?;
        Ok(Self::of(&seed))
    }

    fn of(seed: &[u8; KEY_BYTES]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("it has the length of a key");
        Self { text: format!("{WHSK}{}", STANDARD.encode(seed)), pair: Arc::new(pair) }
    }

    /// The key itself, for the store.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What others verify with.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("a public key of Ed25519 has 32 bytes"))
    }

    /// The signature of these bytes (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> + use<> {
        self.pair.sign(message)
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// What verifies the signatures of a [`SigningKey`], and nothing more: anybody may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Reads `whpk_` and base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        read(text, PUBLIC_KEY_MARK).map(Self)
    }

    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// True if its private key has made this signature of these bytes.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_KEY_MARK}{}", STANDARD.encode(self.0))
    }
}

/// What signs a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// A secret.
    Hmac(SecretKey),
    /// A private key.
    Ed25519(SigningKey),
}

impl Signer {
    /// How it signs.
    pub fn signing(&self) -> Signing {
        match self {
            Self::Hmac(_) => Signing::Hmac,
            Self::Ed25519(_) => Signing::Ed25519,
        }
    }

    /// The key as it is stored.
    pub fn expose(&self) -> &str {
        match self {
            Self::Hmac(secret) => secret.expose(),
            Self::Ed25519(key) => key.expose(),
        }
    }

    /// What a receiver has to have: the secret, or the public key.
    pub fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Hmac(_) => None,
            Self::Ed25519(key) => Some(key.public()),
        }
    }
}

fn read(text: &str, mark: &str) -> Option<[u8; KEY_BYTES]> {
    STANDARD.decode(text.strip_prefix(mark)?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, tests 1 and 2.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ] {
            let key = SigningKey::of(&bytes(seed).try_into().unwrap());
            assert_eq!(key.public().bytes()[..], bytes(public));
            assert_eq!(key.sign(&bytes(message)).as_ref(), bytes(signature));
            assert!(key.public().verifies(&bytes(message), &bytes(signature)));
            assert!(!key.public().verifies(b"another", &bytes(signature)));
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = SigningKey::generate();
        assert_eq!(SigningKey::stored(key.expose()), Ok(key.clone()));
        assert_eq!(PublicKey::parse(&key.public().to_string()), Some(key.public()));
        assert_ne!(SigningKey::generate(), key);
        for wrong in ["", "whsk_", "whsk_AAAA", "whpk_AAAA", key.public().to_string().as_str()] {
            assert!(SigningKey::stored(wrong).is_err(), "{wrong}");
        }
        assert_eq!(PublicKey::parse(key.expose()), None);
        assert!(!format!("{key:?}").contains("whsk"));
    }
}
