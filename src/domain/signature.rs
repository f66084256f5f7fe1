//! Signatures of deliveries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::secret::SecretKey;
use super::signing::{PublicKey, Signer, SigningKey};

/// One item of a `webhook-signature` header, `v1,<base64>`: HMAC-SHA256 of
/// `id.timestamp.body` (Standard Webhooks 1.0.0; docs/wire.md, "Signature").
/// `timestamp` is in seconds.
pub fn standard_webhooks(secret: &SecretKey, id: &str, timestamp: i64, body: &[u8]) -> String {
    let signed =
        hmac_sha256(secret.signing_key(), &[id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body]);
    format!("v1,{}", STANDARD.encode(signed))
}

/// The same by a private key, `v1a,<base64>`: Ed25519 of `id.timestamp.body`.
pub fn standard_webhooks_ed25519(key: &SigningKey, id: &str, timestamp: i64, body: &[u8]) -> String {
    format!("v1a,{}", STANDARD.encode(key.sign(&signed(id, timestamp, body))))
}

/// The same by whichever of the two it is.
pub fn standard_webhooks_by(signer: &Signer, id: &str, timestamp: i64, body: &[u8]) -> String {
    match signer {
        Signer::Hmac(secret) => standard_webhooks(secret, id, timestamp, body),
        Signer::Ed25519(key) => standard_webhooks_ed25519(key, id, timestamp, body),
    }
}

/// The value of `X-Plugin-Hmac-Sha256`: base64 of HMAC-SHA256 of the body,
/// under the UTF-8 bytes of the secret (docs/wire.md, "shipstream").
pub fn shipstream(secret: &SecretKey, body: &[u8]) -> String {
    STANDARD.encode(hmac_sha256(secret.expose().as_bytes(), &[body]))
}

/// True if one item of the header is `v1` and signs this id, time and body.
/// Compares in constant time. Says nothing of how old the timestamp is.
pub fn verify_standard_webhooks(secret: &SecretKey, id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
    use subtle::ConstantTimeEq;
    let expected = standard_webhooks(secret, id, timestamp, body);
    header.split(' ').any(|item| bool::from(item.as_bytes().ct_eq(expected.as_bytes())))
}

/// True if one item of the header is `v1a` and signs this id, time and body. Says nothing of
/// how old the timestamp is.
pub fn verify_standard_webhooks_ed25519(key: &PublicKey, id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
    let signed = signed(id, timestamp, body);
    let signatures = header.split(' ').filter_map(|item| STANDARD.decode(item.strip_prefix("v1a,")?).ok());
    signatures.into_iter().any(|signature| key.verifies(&signed, &signature))
}

/// What is signed, in one piece: Ed25519 reads it twice.
fn signed(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body].concat()
}

/// HMAC-SHA256 (RFC 2104) of the parts, one behind the other.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors that were made by the official libraries.
    #[test]
    fn known_vectors() {
        for (secret, id, timestamp, body, signature) in [
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ] {
            let secret = SecretKey::try_new(secret).unwrap();
            assert_eq!(standard_webhooks(&secret, id, timestamp, body.as_bytes()), signature);
            let header = format!("v1,AAAA {signature}");
            assert!(verify_standard_webhooks(&secret, id, timestamp, body.as_bytes(), &header));
            assert!(!verify_standard_webhooks(&secret, id, timestamp + 1, body.as_bytes(), &header));
        }
    }

    #[test]
    fn a_public_key_verifies_what_its_private_key_signed() {
        let key = SigningKey::generate();
        let signature = standard_webhooks_ed25519(&key, "msg_1", 1_614_265_330, b"{}");
        assert!(signature.starts_with("v1a,"));
        let verify =
            |id, timestamp, header: &str| verify_standard_webhooks_ed25519(&key.public(), id, timestamp, b"{}", header);
        let by_another = standard_webhooks_ed25519(&SigningKey::generate(), "msg_1", 1_614_265_330, b"{}");
        assert!(verify("msg_1", 1_614_265_330, &format!("v1,AAAA {by_another} {signature}")));
        assert!(!verify("msg_1", 1_614_265_330, &by_another));
        assert!(!verify("msg_1", 1_614_265_331, &signature) && !verify("msg_2", 1_614_265_330, &signature));
        assert!(!verify("msg_1", 1_614_265_330, &signature.replace("v1a,", "v1,")));
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_is_the_standard_one() {
        let expected = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7, 0x5a, 0x00,
            0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
        ];
        assert_eq!(hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]), expected);
    }
}
