//! Deliveries that a private key signs, and the public keys that verify them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tallyhook::domain::signature::verify_standard_webhooks_ed25519;
use tallyhook::domain::signing::PublicKey;

use crate::common::manual::{Hand, verify, webhook};
use crate::common::{Arrived, Receiver, Start, TestServer};
use crate::tools::{Script, command, installed, left_out, runs};

const KEYS: &str = "/.well-known/tallyhook/keys.json";

/// True if what has arrived is signed for this public key.
fn is_signed_for(arrived: &Arrived, key: &str) -> bool {
    let (id, signature) = (arrived.header("webhook-id"), arrived.header("webhook-signature"));
    let timestamp = arrived.header("webhook-timestamp").parse().unwrap();
    let key = PublicKey::parse(key).unwrap();
    verify_standard_webhooks_ed25519(&key, id, timestamp, &arrived.body, signature)
}

fn key_of(webhook: &Value) -> String {
    webhook["public_key"].as_str().unwrap().to_owned()
}

/// The public keys of a webhook, as a stranger gets them: each with the end of its time.
async fn published(server: &TestServer, id: i64) -> Vec<(String, Value)> {
    let (status, _, body) = server.exchange("GET", &format!("{KEYS}?webhook_id={id}"), &[], "").await;
    assert_eq!(status, 200, "{body}");
    let set: Value = serde_json::from_str(&body).unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().map(|key| (key_of(key), key["expires_at"].clone())).collect()
}

async fn one(server: &TestServer, receiver: &Receiver, count: usize) -> Arrived {
    server.publish("order:created", json!({"order": count})).await;
    receiver.arrivals(count).await.pop().unwrap()
}

async fn start() -> (TestServer, Hand, Receiver) {
    let (server, hand) = Start::default().manual().await;
    (server, hand, Receiver::obliging().await)
}

#[tokio::test]
async fn both_keys_sign_while_one_is_replaced() {
    let (server, hand, receiver) = start().await;
    let id = webhook(&server, &receiver, json!({"signing": "ed25519"})).await;
    let get = async || server.call("webhook.get", json!([id])).await.unwrap();
    let made = get().await;
    assert_eq!(made["signing"], "ed25519");
    let first = key_of(&made);
    let arrived = one(&server, &receiver, 1).await;
    assert!(arrived.header("webhook-signature").starts_with("v1a,") && is_signed_for(&arrived, &first));

    let rotated = server.call("webhook.rotate_secret", json!([id, null, 60])).await.unwrap();
    let second = key_of(&rotated);
    assert_ne!(first, second);
    let ends_at = json!("2023-11-14T22:14:20.000Z");
    assert_eq!(rotated["old_secrets"], json!([{"secret_key": "", "public_key": first, "expires_at": ends_at}]));
    assert_eq!(published(&server, id).await, [(second.clone(), Value::Null), (first.clone(), ends_at)]);
    // That of the other way of signing is no matter of either.
    let updated = server.call("webhook.update", json!([id, {"secret_key": "another-secret-of-tests"}])).await.unwrap();
    assert_eq!(updated["old_secrets"], rotated["old_secrets"]);
    let arrived = one(&server, &receiver, 2).await;
    assert!(is_signed_for(&arrived, &first) && is_signed_for(&arrived, &second));

    hand.pass(60);
    let arrived = one(&server, &receiver, 3).await;
    assert!(!is_signed_for(&arrived, &first) && is_signed_for(&arrived, &second));
    assert_eq!(published(&server, id).await, [(second, Value::Null)]);
    assert_eq!(server.call("webhook.list", json!([])).await.unwrap()[0]["public_key"], get().await["public_key"]);
}

#[tokio::test]
async fn a_webhook_goes_over_to_a_key_and_back() {
    let (server, hand, receiver) = start().await;
    let id = webhook(&server, &receiver, json!({"format": "shipstream"})).await;
    let signs = async |method: &str, args: Value| server.call(method, args).await.unwrap();
    let both = signs("webhook.rotate_secret", json!([id, null, 60, "ed25519"])).await;
    let arrived = one(&server, &receiver, 1).await;
    verify(&arrived);
    assert!(is_signed_for(&arrived, &key_of(&both)));
    hand.pass(60);
    let arrived = one(&server, &receiver, 2).await;
    assert!(is_signed_for(&arrived, &key_of(&both)) && !arrived.header("webhook-signature").contains("v1,"));
    assert!(!arrived.header("x-plugin-hmac-sha256").is_empty(), "the vendor's own goes by the secret");

    // At once and alone.
    let back = signs("webhook.update", json!([id, {"signing": "hmac"}])).await;
    assert_eq!((&back["signing"], &back["public_key"]), (&json!("hmac"), &Value::Null));
    verify(&one(&server, &receiver, 3).await);
    let anew = signs("webhook.update", json!([id, {"signing": "ed25519"}])).await;
    assert_ne!(key_of(&anew), key_of(&both), "a key that was given up is gone");
    let same = signs("webhook.update", json!([id, {"signing": "ed25519", "name": "x"}])).await;
    assert_eq!(key_of(&same), key_of(&anew));
    assert!(is_signed_for(&one(&server, &receiver, 4).await, &key_of(&anew)));
}

#[tokio::test]
async fn what_is_pulled_is_signed_too() {
    let (server, _hand) = Start::default().manual().await;
    let data = json!({"topics": "*", "delivery_mode": "pull", "signing": "ed25519"});
    let made = server.webhook(data).await;
    server.publish("order:created", json!({})).await;
    let pulled = server.call("delivery.pull", json!([made["webhook_id"]])).await.unwrap();
    let text = |name: &str| pulled[0][name].as_str().unwrap().to_owned();
    let (key, timestamp) = (PublicKey::parse(&key_of(&made)).unwrap(), pulled[0]["timestamp"].as_i64().unwrap());
    let (id, body, signature) = (text("webhook_id_header"), text("body"), text("signature"));
    assert!(verify_standard_webhooks_ed25519(&key, &id, timestamp, body.as_bytes(), &signature));
}

#[tokio::test]
async fn keys_are_not_chosen_by_their_owner() {
    let (server, _hand, receiver) = start().await;
    let refused = async |method: &str, args: Value| server.call(method, args).await.unwrap_err();
    let id = webhook(&server, &receiver, json!({"signing": "ed25519"})).await;
    for (method, args, words) in [
        ("webhook.create", json!([{"topics": "*", "url": receiver.url(), "signing": "rsa"}]), "hmac, ed25519"),
        ("webhook.rotate_secret", json!([id, "a-secret-of-tests"]), "the server makes the key"),
    ] {
        let fault = refused(method, args).await;
        assert!(fault.to_string().contains("101") && fault.to_string().contains(words), "{fault}");
    }
}

#[tokio::test]
async fn anybody_gets_public_keys_and_nothing_else() {
    let (server, _hand, receiver) = start().await;
    let secret = webhook(&server, &receiver, json!({})).await;
    let keyed = webhook(&server, &receiver, json!({"signing": "ed25519"})).await;
    let [(key, _)] = &published(&server, keyed).await[..] else { panic!("one key") };
    let (_, headers, body) = server.exchange("GET", &format!("{KEYS}?webhook_id={keyed}"), &[], "").await;
    assert_eq!(headers["cache-control"], "public, max-age=60");
    let set: Value = serde_json::from_str(&body).unwrap();
    let x = key.trim_start_matches("whpk_").trim_end_matches('=').replace('+', "-").replace('/', "_");
    let own = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "public_key": key, "expires_at": null});
    assert_eq!(set, json!({"keys": [own]}));

    // Whether there is such a webhook is not told.
    server.call("webhook.delete", json!([keyed])).await.unwrap();
    for id in [secret, keyed, 4711, -1] {
        assert_eq!(published(&server, id).await, [], "{id}");
    }
    for query in ["", "?webhook_id=", "?webhook_id=1&webhook_id=2", "?id=1", "?webhook_id=1e0"] {
        let (status, _, body) = server.exchange("GET", &format!("{KEYS}{query}"), &[], "").await;
        assert!(status == 400 && body.contains("webhook_id=1"), "{query}: {status} {body}");
    }
}

/// No official library verifies `v1a` yet, so others do whose makers know nothing of ours: OpenSSL, by Python's
/// `cryptography` and by Node.
#[tokio::test]
async fn others_verify_what_a_private_key_signed() {
    const PYTHON: &str = r"
import base64, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
key, message, signature = (base64.b64decode(text) for text in sys.argv[1:])
Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
print('verified')
";
    const NODE: &str = r"
const crypto = require('node:crypto');
const [key, message, signature] = process.argv.slice(1).map((text) => Buffer.from(text, 'base64'));
const jwk = { kty: 'OKP', crv: 'Ed25519', x: key.toString('base64url') };
const isVerified = crypto.verify(null, message, crypto.createPublicKey({ key: jwk, format: 'jwk' }), signature);
console.log(isVerified ? 'verified' : 'refused');
";
    let (server, _hand, receiver) = start().await;
    let id = webhook(&server, &receiver, json!({"signing": "ed25519"})).await;
    let arrived = one(&server, &receiver, 1).await;
    let [(key, _)] = &published(&server, id).await[..] else { panic!("one key") };
    let key = key.strip_prefix("whpk_").unwrap();
    let head = format!("{}.{}.", arrived.header("webhook-id"), arrived.header("webhook-timestamp"));
    let message = STANDARD.encode([head.as_bytes(), &arrived.body].concat());
    let signature = arrived.header("webhook-signature").strip_prefix("v1a,").unwrap();
    let python = installed("HOOKTEST_PYTHON", "venv/bin/python");
    for (program, script) in [(python, PYTHON), (Some("node".into()), NODE)] {
        let Some(program) = program.filter(|program| runs(program)) else {
            left_out("signatures by a private key: what verifies them is missing; tests/run installs it");
            continue;
        };
        let flag = if script == NODE { "-e" } else { "-c" };
        let mut script = Script::start(command(program).args([flag, script, key, &message, signature]));
        assert_eq!(script.line().await.as_deref(), Some("verified"));
        assert_eq!(script.line().await, None);
    }
}
