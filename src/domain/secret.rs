//! Secrets: what signs deliveries, what opens sessions. None can be printed
//! by accident: `Debug` shows only that there is one.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::fault::Violation;

/// The shortest secret an owner may choose, in characters.
pub const SECRET_CHARS_MIN: usize = 8;
/// The longest secret an owner may choose, in characters.
pub const SECRET_CHARS_MAX: usize = 256;
/// Marks a secret whose rest is base64 of the key (Standard Webhooks).
const WHSEC: &str = "whsec_";
/// The shortest key after `whsec_`, in bytes. (Standard Webhooks wants 24;
/// this is what no machine guesses.)
const KEY_BYTES_MIN: usize = 16;
/// What other kinds of keys and of signatures of Standard Webhooks begin with.
const OTHER_MARKS: &[&str] = &["whsec", "whsk_", "whpk_", "v1,", "v1a,"];

/// Signs the deliveries of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey {
    text: String,
    /// Read once: every delivery signs.
    key: Vec<u8>,
}

impl SecretKey {
    /// Accepts 8 to 256 characters without blanks at the ends. After `whsec_`
    /// they must be base64 of 16 bytes or more; what is nearly that is refused,
    /// for no library would verify with it.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let problem = |problem: &str| Err(Violation::new("secret_key", problem));
        if text.trim() != text {
            return problem("has a blank or a line end at its beginning or its end; leave it out.");
        }
        let is_marked = text.starts_with(WHSEC);
        let lower = text.to_ascii_lowercase();
        if !is_marked && (lower.contains(WHSEC) || OTHER_MARKS.iter().any(|mark| lower.starts_with(mark))) {
            return problem("is nearly a key of Standard Webhooks; such a key is whsec_ and base64, and nothing else.");
        }
        let secret = Self::stored(text)?;
        if is_marked && secret.key.len() < KEY_BYTES_MIN {
            let count = secret.key.len();
            return problem(&format!("has {count} bytes of a key after whsec_; use {KEY_BYTES_MIN} or more."));
        }
        Ok(secret)
    }

    /// The same for one that was accepted when less was refused.
    pub fn stored(text: &str) -> Result<Self, Violation> {
        let problem = |problem: String| Violation::new("secret_key", problem);
        let chars = text.chars().count();
        if !(SECRET_CHARS_MIN..=SECRET_CHARS_MAX).contains(&chars) {
            return Err(problem(format!(
                "has {chars} characters; use {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX}, or leave it out and one is made."
            )));
        }
        let key = match text.strip_prefix(WHSEC) {
            None => text.as_bytes().to_vec(),
            Some(rest) => STANDARD
                .decode(rest)
                .ok()
                .filter(|key| !key.is_empty())
                .ok_or_else(|| problem("starts with whsec_ but what follows is no padded base64.".to_owned()))?,
        };
        Ok(Self { text: text.to_owned(), key })
    }

    /// A new one: `whsec_` and base64 of 32 random bytes.
    pub fn generate() -> Self {
        let key = random::<32>();
        Self { text: format!("{WHSEC}{}", STANDARD.encode(key)), key: key.to_vec() }
    }

    /// The secret itself, for its owner.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The bytes to sign with in formats that follow Standard Webhooks: what
    /// the base64 after `whsec_` stands for, else the UTF-8 of the secret.
    pub fn signing_key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// SHA-256 of an API or session key: all that a store ever sees of one.
/// Such keys are 128 or 256 random bits, so a plain hash can't be guessed.
#[derive(Clone, Copy)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// The hash of `key`.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

/// Compares in constant time.
impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// A new session key: 128 random bits as 32 lower-case hex characters.
pub fn generate_session_key() -> String {
    hex(&random::<16>())
}

/// A new user name or password for a receiver: 128 random bits in hex.
pub fn generate_credential() -> String {
    hex(&random::<16>())
}

/// A new API key: `tk_` and 256 random bits in hex.
pub fn generate_api_key() -> String {
    format!("tk_{}", hex(&random::<32>()))
}

/// What a token begins with, and no other key.
const TOKEN: &str = "tht_";

/// A new token: `tht_` and 256 random bits in hex.
pub fn generate_token() -> String {
    format!("{TOKEN}{}", hex(&random::<32>()))
}

/// True of what may be a token, and is no other key.
pub fn is_token(key: &str) -> bool {
    key.starts_with(TOKEN)
}

/// Eight random characters of `a-z0-9`, for a store's name.
pub fn generate_store_id() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // 16 bits each, so that the remainder's bias is below 1 in 1,800.
    random::<16>()
        .chunks_exact(2)
        .map(|pair| char::from(ALPHABET[usize::from(u16::from_le_bytes([pair[0], pair[1]])) % ALPHABET.len()]))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// Random bytes, to make a key of.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes; without them no key is safe");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_bounds() {
        assert!(SecretKey::try_new("2RUJ8NXLnLRrAj3").is_ok());
        assert!(SecretKey::try_new("1234567").is_err());
        assert!(SecretKey::try_new(&"a".repeat(257)).is_err());
        assert!(SecretKey::try_new("whsec_not base64").is_err());
        let made = SecretKey::generate();
        assert_eq!(made.signing_key().len(), 32);
        assert_eq!(SecretKey::try_new(made.expose()), Ok(made));
    }

    #[test]
    fn what_no_library_verifies_with_is_refused() {
        const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let problem = |text: &str| SecretKey::try_new(text).unwrap_err().problem;
        assert!(SecretKey::try_new(KEY).is_ok());
        for blank in [" ", "\n", "\t", "\u{a0}"] {
            for text in [format!("{blank}{KEY}"), format!("{KEY}{blank}"), format!("my-first-secret{blank}")] {
                assert!(problem(&text).starts_with("has a blank or a line end"), "{text:?}");
            }
        }
        for near in [
            "v1,whsec_C2FVsBQI",
            "whsk_C2FVsBQIhrsc",
            "whpk_C2FVsBQIhrsc",
            "WHSEC_C2FVsBQI",
            "whsec-C2FVsBQI",
            "whsecC2FVsBQI",
            "v1,C2FVsBQIhrsc",
            "v1a,C2FVsBQIhrsc",
            "\"whsec_C2FVsBQI\"",
            "key=whsec_C2FVsBQI",
        ] {
            let problem = problem(near);
            assert!(problem.starts_with("is nearly") && !problem.contains("C2FV"), "{near}: {problem}");
        }
        let key = |count| format!("{WHSEC}{}", STANDARD.encode(vec![7; count]));
        assert_eq!(problem(&key(1)), "has 1 bytes of a key after whsec_; use 16 or more.");
        assert!(SecretKey::try_new(&key(15)).is_err() && SecretKey::try_new(&key(16)).is_ok());
        assert!(SecretKey::stored("whsec_AQ==").is_ok() && SecretKey::stored(" a secret ").is_ok());
    }

    #[test]
    fn keys_have_their_shapes_and_differ() {
        let session = generate_session_key();
        assert!(session.len() == 32 && session.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        assert!(generate_api_key().len() == 3 + 64);
        assert!(generate_store_id().len() == 8);
        assert_ne!(generate_session_key(), generate_session_key());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", SecretKey::try_new("hunter2hunter2").unwrap()).contains("hunter2"));
    }
}
