//! Secrets at rest, and the master keys that encrypt them.

use super::*;
use crate::common::certificates::{authority, pair};

const SIGNS: &str = "a-secret-of-tests-that-signs";
const PASSWORD: &str = "a-password-of-tests";
const TOKEN: &str = "a-token-of-tests";
/// What private keys begin with.
const PRIVATE: &str = "whsk_";
/// What keys of certificates begin with.
const PEM: &str = "BEGIN PRIVATE KEY";
const CLIENT_SECRET: &str = "a-client-secret-of-tests";

fn webhook(receiver: &str, id: &str) -> String {
    json!({
        "url": receiver,
        "topics": "*",
        "secret_key": format!("{SIGNS}-{id}"),
        "signing": "ed25519",
        "basic_auth": {"username": "hook", "password": format!("{PASSWORD}-{id}")},
        "extra_headers": {"x-token": format!("{TOKEN}-{id}")},
    })
    .to_string()
}

/// One that presents a certificate and has tokens fetched, and gets nothing.
fn presenting() -> String {
    let (certificate, key) = pair(&authority("tests"));
    let client = json!({"token_url": "https://id.test/", "client_id": "a", "client_secret": CLIENT_SECRET});
    let own = json!({"client_certificate": certificate, "client_key": key, "oauth2": client});
    let mut webhook = json!({"url": "https://receiver.test/", "topics": "never:*", "secret_key": format!("{SIGNS}-x")});
    webhook.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    webhook.to_string()
}

/// All that the store of a folder holds of webhooks, as whoever steals it reads it.
fn stolen(folder: &Path) -> Vec<u8> {
    if is_postgres() {
        let server = Postgres::shared().expect("PostgreSQL is installed");
        return server.run_in(&store_of(folder), "SELECT * FROM webhook").into_bytes();
    }
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let own = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("one.db"));
    own.flat_map(|entry| std::fs::read(entry.path()).unwrap()).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

fn serve(folder: &Path, args: &[&str]) -> Running {
    let store = store_of(folder);
    let all = [&["serve", "--dev", "--listen", "127.0.0.1:0", "--store", &store], args].concat();
    Running::start(folder, &all, "tallyhook listening on ")
}

/// Stops it; what it has logged.
fn stop(mut server: Running) -> String {
    server.signal("TERM");
    let said = server.said();
    assert_eq!(server.code(), Some(0), "{said}");
    said
}

fn status(folder: &Path) -> String {
    stdout(&run(folder, &["key", "status", "--store", &store_of(folder)]))
}

/// Waits until it says that.
fn until_status(folder: &Path, expected: &str) {
    let begun = std::time::Instant::now();
    while status(folder) != expected {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{expected} and not {}", status(folder));
    }
}

fn new_key(folder: &Path, name: &str) -> (String, String) {
    let path = folder.join(name).display().to_string();
    let told = stdout(&run(folder, &["key", "new", "--out", &path]));
    let id = told.trim_end().rsplit(' ').next().unwrap().to_owned();
    (path, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_left_where_a_store_is_stolen_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let receiver = Receiver::obliging().await;
    let (key, id) = new_key(folder, "master.key");

    // From the time before there was a key.
    let server = serve(folder, &[]);
    stdout(&server.call(&["webhook.create", &webhook(&receiver.url(), "old")]));
    stdout(&server.call(&["webhook.create", &presenting()]));
    assert_eq!(status(folder), "not encrypted: webhooks 2\n");
    let said = stop(server);
    assert!(said.contains("no master_key_file"), "{said}");
    let bytes = stolen(folder);
    assert!(
        [SIGNS, PRIVATE, PEM, CLIENT_SECRET].iter().all(|secret| holds(&bytes, secret)),
        "the test finds what is there"
    );

    let server = serve(folder, &["--master-key-file", &key]);
    stdout(&server.call(&["webhook.create", &webhook(&receiver.url(), "new")]));
    until_status(folder, &format!("key {id}: webhooks 3\n"));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    let mut tokens = Vec::new();
    for delivery in receiver.arrivals(2).await {
        let token = delivery.header("x-token").to_owned();
        let which = token.strip_prefix(TOKEN).unwrap();
        assert_eq!(delivery.header("authorization"), basic("hook", &format!("{PASSWORD}{which}")));
        assert!(delivery.header("webhook-signature").starts_with("v1a,"));
        tokens.push(token);
    }
    tokens.sort();
    assert_eq!(tokens, [format!("{TOKEN}-new"), format!("{TOKEN}-old")]);
    let said = stop(server);
    let bytes = stolen(folder);
    for secret in [SIGNS, PASSWORD, TOKEN, PRIVATE, PEM, CLIENT_SECRET] {
        assert!(!holds(&bytes, secret), "{secret} is in the store");
        assert!(!said.contains(secret), "{said}");
    }
    let key_itself = std::fs::read_to_string(&key).unwrap();
    assert!(!holds(&bytes, key_itself.trim_end()) && !said.contains(key_itself.trim_end()));
}

#[test]
fn a_store_is_not_served_without_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ((key, id), (other, other_id)) = (new_key(folder, "master.key"), new_key(folder, "other.key"));
    let server = serve(folder, &["--master-key-file", &key]);
    stdout(&server.call(&["webhook.create", &webhook("http://127.0.0.1:9/", "x")]));
    stop(server);
    let refused = |args: &[&str]| {
        let store = store_of(folder);
        let all = [&["serve", "--dev", "--listen", "127.0.0.1:0", "--store", &store][..], args].concat();
        let refused = run(folder, &all);
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        let said = stderr(&refused);
        assert!(said.contains(&format!("sealed by the master key {id}")) && !said.contains(SIGNS), "{said}");
        said
    };
    refused(&[]);
    assert!(refused(&["--master-key-file", &other]).contains(&other_id));
    // What is no key is a mistake of the configuration.
    std::fs::write(&other, "thmk_no").unwrap();
    let mistaken = run(folder, &["serve", "--master-key-file", &other]);
    assert_eq!(mistaken.status.code(), Some(2));
    assert!(stderr(&mistaken).contains("line 1"), "{}", stderr(&mistaken));
    stop(serve(folder, &["--master-key-file", &key]));
}

#[test]
fn keys_are_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (key, old) = new_key(folder, "master.key");
    let again = run(folder, &["key", "new", "--out", &key]);
    assert_eq!(again.status.code(), Some(1), "a key is not written over");
    let server = serve(folder, &["--master-key-file", &key]);
    let created = server.call(&["webhook.create", &webhook("http://127.0.0.1:9/", "x")]);
    stdout(&created);
    assert_eq!(status(folder), format!("key {old}: webhooks 1\n"));

    let told = stdout(&run(folder, &["key", "rotate", &key]));
    let new = told.split(' ').nth_back(3).map(str::to_owned).unwrap_or_default();
    let text = std::fs::read_to_string(&key).unwrap();
    assert_eq!(text.lines().count(), 2, "the old one opens what there is");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    }
    // One that can't be used changes nothing.
    std::fs::write(&key, "thmk_no").unwrap();
    server.signal("HUP");
    stdout(&server.call(&["webhook.create", &webhook("http://127.0.0.1:9/", "y")]));
    std::fs::write(&key, &text).unwrap();
    server.signal("HUP");
    until_status(folder, &format!("key {new}: webhooks 2\n"));
    stop(server);
    std::fs::write(&key, text.lines().next().unwrap()).unwrap();
    let server = serve(folder, &["--master-key-file", &key]);
    let listed = stdout(&server.call(&["webhook.get", "1"]));
    assert!(listed.contains(SIGNS), "its owner sees it: {listed}");
    stop(server);
}
