//! Receivers that want a certificate of whoever delivers.

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::secure::SecureReceiver;
use crate::common::certificates::{Issuer, Pair, authority, pair};
use crate::common::{Start, TestServer};

/// A server that trusts the pair's authority.
async fn server(pair: &Pair) -> TestServer {
    Start::default().flag("ca_file", &pair.authority().display().to_string()).manual().await.0
}

/// A webhook to the receiver that presents this; its id.
async fn presenting(server: &TestServer, receiver: &SecureReceiver, presented: Option<&(String, String)>) -> i64 {
    let url = format!("https://127.0.0.1:{}/hook", receiver.port);
    let mut data = json!({"topics": "*", "url": url, "delivery_mode": "ordered"});
    if let Some((certificate, key)) = presented {
        data["client_certificate"] = json!(certificate);
        data["client_key"] = json!(key);
    }
    server.webhook(data).await["webhook_id"].as_i64().unwrap()
}

async fn refused(server: &TestServer, method: &str, args: Value) -> String {
    server.call(method, args).await.unwrap_err().to_string()
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn each_webhook_presents_its_own_on_connections_of_its_own() {
    let clients = authority("clients");
    let own = Pair::new(&authority("tests"));
    let receiver = SecureReceiver::with(own.server(Some(&clients))).await;
    let server = server(&own).await;
    let presented = [pair(&clients), pair(&clients)];
    let mut ids = Vec::new();
    for pair in &presented {
        ids.push(presenting(&server, &receiver, Some(pair)).await);
    }
    for _ in 0..2 {
        server.publish("order:created", json!({})).await;
        for id in &ids {
            server.settled(*id).await;
        }
    }
    let mut seen = receiver.requests();
    assert_eq!(seen.len(), 4);
    for (certificate, _) in &presented {
        let mine: Vec<_> = seen.extract_if(.., |one| one.presented.as_deref() == Some(&der(certificate)[..])).collect();
        assert_eq!(mine.len(), 2, "each presents its own");
        assert_eq!(mine[0].connection, mine[1].connection, "and its connection is kept");
    }
}

#[tokio::test]
async fn whom_the_receiver_does_not_trust_is_told_so() {
    let clients = authority("clients");
    let own = Pair::new(&authority("tests"));
    let receiver = SecureReceiver::with(own.server(Some(&clients))).await;
    let server = server(&own).await;
    for stranger in [None, Some(pair(&authority("others")))] {
        let id = presenting(&server, &receiver, stranger.as_ref()).await;
        server.publish("order:created", json!({})).await;
        let attempt = server.attempts(id, 1, 1).await.remove(0);
        let error = attempt["error"].as_str().unwrap();
        assert_eq!(attempt["error_class"], "tls", "{error}");
        assert!(error.contains("wants a certificate that it trusts"), "{error}");
        server.call("webhook.delete", json!([id])).await.unwrap();
    }
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn a_certificate_is_changed_taken_away_and_its_key_never_shown() {
    let clients = authority("clients");
    let own = Pair::new(&authority("tests"));
    let receiver = SecureReceiver::with(own.server(Some(&clients))).await;
    let server = server(&own).await;
    let (first, second) = (pair(&clients), pair(&clients));
    let id = presenting(&server, &receiver, Some(&first)).await;
    for (certificate, key) in [&first, &second] {
        let changes = json!({"client_certificate": certificate, "client_key": key});
        let changed = server.call("webhook.update", json!([id, changes])).await.unwrap();
        assert_eq!(changed["client_certificate"], json!(certificate));
        assert!(!changed.to_string().contains("PRIVATE KEY") && changed.get("client_key").is_none());
        server.publish("order:created", json!({})).await;
        server.settled(id).await;
        assert_eq!(receiver.requests().last().unwrap().presented.as_deref(), Some(&der(certificate)[..]));
    }
    let none = json!({"client_certificate": null, "client_key": null});
    let changed = server.call("webhook.update", json!([id, none])).await.unwrap();
    assert_eq!(changed["client_certificate"], Value::Null);
}

fn expired(by: &Issuer) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["tests".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn what_can_not_be_presented_is_refused_in_words() {
    let (server, _hand) = Start::default().manual().await;
    let clients = authority("clients");
    let ((certificate, key), (_, another)) = (pair(&clients), pair(&clients));
    let (old, its_key) = expired(&clients);
    let url = "https://receiver.test/hook";
    for (more, words) in [
        (json!({"client_certificate": certificate}), "go together"),
        (json!({"client_key": key}), "go together"),
        (json!({"client_certificate": certificate, "client_key": another}), "not the key of the first certificate"),
        (json!({"client_certificate": "no PEM", "client_key": key}), "no certificate up to here"),
        (json!({"client_certificate": key, "client_key": key}), "line 1: what begins here is no certificate"),
        (json!({"client_certificate": format!("{certificate}{key}"), "client_key": key}), "leave it out"),
        (json!({"client_certificate": certificate, "client_key": certificate}), "no private key in it"),
        (json!({"client_certificate": old, "client_key": its_key}), "has expired at 2020-01-01"),
        (json!({"client_certificate": certificate, "client_key": key, "url": "http://receiver.test/"}), "https"),
        (json!({"client_certificate": "x".repeat(20_000), "client_key": key}), "up to 16384"),
    ] {
        let mut data = json!({"topics": "*", "url": url});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let fault = refused(&server, "webhook.create", json!([data])).await;
        assert!(fault.contains("101") && fault.contains(words), "{words}: {fault}");
        assert!(!fault.contains("PRIVATE KEY-----\\nM"), "{fault}");
    }
}
