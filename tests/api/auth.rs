//! Who gets in, for how long, and who does not: through the public door, with
//! a clock that only the test moves.

mod guessing;
mod standing;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::time::{Clock, Timestamp};
use tokio::sync::watch;

use crate::common::{DEMO_KEY, Start, TestServer, basic};

const START: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// The least that a clock can tell apart.
const TICK: Duration = Duration::from_millis(1);
const ALL: &str = "webhook_read,webhook_write,event_write";
const PATHS: [(&str, i64); 4] = [("/", 1), ("/rpc", 1), ("/api/jsonrpc", -1), ("/backend/api/jsonrpc", -1)];

/// A server whose clock only the test moves.
async fn with_manual_clock(start: Start) -> (TestServer, watch::Sender<Timestamp>) {
    let (clock, hand) = Clock::manual(START);
    (Start { hooks: Hooks { clock, ..Hooks::default() }, ..start }.go().await, hand)
}

/// Who guesses need not wait: what is measured is what is counted.
fn quick() -> Start {
    Start::default().flag("login_slowdown_ms", "0")
}

fn pass(hand: &watch::Sender<Timestamp>, time: Duration) {
    hand.send_modify(|now| *now = now.after(time));
}

/// A user's key, in each form in which it can come.
fn forms(name: &str, key: &str) -> [String; 2] {
    [basic(name, key), bearer(key)]
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Lists webhooks with an Authorization header and no session.
async fn with_header(server: &TestServer, authorization: &str) -> Result<Value, Value> {
    server.rpc_at("/", &[("authorization", authorization)], "webhook.list", json!([null])).await
}

/// Lists webhooks with a session.
async fn with_session(server: &TestServer, session: &str) -> Result<Value, Value> {
    server.rpc("webhook.list", json!([session])).await
}

fn code(outcome: Result<Value, Value>) -> i64 {
    let error = outcome.expect_err("it is refused");
    error["code"].as_i64().expect("a code is a number")
}

/// What is said to whoever has the wrong key, and no more.
fn denied() -> Result<Value, Value> {
    Err(json!({"code": 2, "message": "Access denied."}))
}

fn expired() -> Result<Value, Value> {
    Err(json!({"code": 5, "message": "Session expired. Try to relogin."}))
}

fn too_many(wait: Duration) -> Result<Value, Value> {
    let (wait_ms, wait_s) = (wait.as_millis() as u64, wait.as_secs_f64().ceil());
    let message = format!("Access denied. Too many attempts. Retry in {wait_s} s.");
    Err(json!({"code": 2, "message": message, "data": {"retry_after_ms": wait_ms}}))
}

async fn login(server: &TestServer, name: &str, key: &str) -> Result<Value, Value> {
    server.rpc("login", json!([name, key])).await
}

/// Waits until the writer has done all that was asked of it before: ending a
/// session is a change like any other, and of lines that cost alike the one
/// that came first goes first.
async fn writes_done(server: &TestServer) {
    assert_eq!(server.rpc("endSession", json!(["no such session"])).await, Ok(json!(true)));
}

/// When a session ends, as the store has it.
async fn expires_at(server: &TestServer, session: &str) -> Option<Timestamp> {
    writes_done(server).await;
    let hash: String = KeyHash::of(session).0.iter().map(|byte| format!("{byte:02x}")).collect();
    let of_hash = |row: &Vec<String>| row[0] == format!("\\x{hash}");
    let row = server.place.rows("SELECT key_hash, expires_at FROM session").into_iter().find(of_hash)?;
    Some(Timestamp(row[1].parse().unwrap()))
}

fn revoke(server: &TestServer, name: &str) {
    server.place.administer(|admin| admin.revoke_user(name, Clock::system().now())).unwrap();
}

fn set_enabled(server: &TestServer, name: &str, enabled: bool) {
    server.place.administer(|admin| admin.set_enabled(name, enabled, START)).unwrap();
}

/// What is said to a disabled user, if it shows the right credentials.
fn disabled(name: &str) -> Result<Value, Value> {
    let message = format!(
        "The user is disabled. An admin of its merchant enables it by user.enable, an operator also with \"tallyhook user enable {name}\"."
    );
    Err(json!({"code": 119, "message": message}))
}

fn is_session_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[tokio::test]
async fn login_gives_a_session_of_its_own_each_time() {
    let server = TestServer::start().await;
    let mut keys = Vec::new();
    for (at, _) in PATHS {
        for params in [json!(["demo", DEMO_KEY]), json!({"username": "demo", "api_key": DEMO_KEY})] {
            let key = server.rpc_at(at, &[], "login", params).await.unwrap().as_str().unwrap().to_owned();
            assert!(is_session_key(&key), "{key}");
            assert!(!keys.contains(&key), "{key} twice");
            keys.push(key);
        }
    }
    for key in &keys {
        for (at, _) in PATHS {
            assert_eq!(server.rpc_at(at, &[], "call", json!([key, "webhook.list"])).await, Ok(json!([])));
        }
    }
}

#[tokio::test]
async fn keys_are_stored_hashed() {
    let server = TestServer::start().await;
    let session = server.login().await;
    let dump = dump(&server);
    assert!(dump.contains("demo"), "{dump}");
    for key in [&session, DEMO_KEY] {
        let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!dump.contains(key) && !dump.contains(&hex), "{dump}");
    }
}

/// All texts and blobs of the tables with keys.
fn dump(server: &TestServer) -> String {
    let tables = ["\"user\"", "session", "merchant", "meta"];
    let rows = tables.into_iter().flat_map(|table| server.place.rows(&format!("SELECT * FROM {table}")));
    rows.map(|row| row.join("\n") + "\n").collect()
}

#[tokio::test]
async fn a_wrong_key_is_denied_without_a_hint() {
    let server = Start::default().flag("login_failures_max", "1000").go().await;
    let other = server.user("other", "acme", ALL);
    let session = server.login().await;
    // A wrong key, another's key, no such user, a session for a key, another case.
    let pairs = [
        ("demo", "wrong"),
        ("demo", ""),
        ("demo", &other),
        ("nobody", DEMO_KEY),
        ("", ""),
        ("demo", &session),
        ("Demo", DEMO_KEY),
    ];
    for (name, key) in pairs {
        assert_eq!(login(&server, name, key).await, denied(), "{name} {key}");
        assert_eq!(with_header(&server, &basic(name, key)).await, denied(), "{name} {key}");
        let header = basic(name, key);
        let started = server.rpc_at("/", &[("authorization", &header)], "startSession", json!([])).await;
        assert_eq!(started, denied(), "{name} {key}");
        for (at, sign) in PATHS {
            let expected = if sign < 0 { -32_002 } else { 2 };
            assert_eq!(code(server.rpc_at(at, &[], "login", json!([name, key])).await), expected, "{at}");
        }
    }
    for key in ["wrong", "demo", &session[1..], &session.to_uppercase(), &format!("{session}0")] {
        assert_eq!(with_header(&server, &bearer(key)).await, denied(), "{key}");
    }
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_denied() {
    let server = TestServer::start().await;
    let session = server.login().await;
    let basic = basic("demo", DEMO_KEY);
    let base64 = basic.strip_prefix("Basic ").unwrap();
    for header in
        ["", "Basic", "Bearer", "Bearer ", &session, base64, "Basic ???", "Basic ZGVtbw==", "Digest x", "Basicx y"]
    {
        let outcome = with_header(&server, header).await;
        let error = outcome.clone().unwrap_err();
        assert_eq!(code(outcome), 2, "{header}: {error}");
        assert!(error["message"].as_str().unwrap().contains("Authorization header"), "{header}: {error}");
    }
    // Schemes are the same in any case, and space is no part of a key.
    for header in [
        format!("basic {base64}"),
        format!("BASIC  {base64}"),
        format!("bearer {session}"),
        format!("BEARER  {session} "),
    ] {
        assert_eq!(with_header(&server, &header).await, Ok(json!([])), "{header}");
    }
}

#[tokio::test]
async fn a_header_stands_in_for_the_session() {
    let server = TestServer::start().await;
    let session = server.login().await;
    for header in [basic("demo", DEMO_KEY), bearer(DEMO_KEY), bearer(&session)] {
        for (at, _) in PATHS {
            for (method, params) in [
                ("call", json!([null, "webhook.list"])),
                ("call", json!(["", "webhook.list", []])),
                ("call", json!({"path": "webhook.list"})),
                ("webhook.list", json!([null])),
                ("webhook.list", json!([])),
                ("webhook.list", json!({})),
            ] {
                let outcome = server.rpc_at(at, &[("authorization", &header)], method, params.clone()).await;
                assert_eq!(outcome, Ok(json!([])), "{method} {params} at {at} with {header}");
            }
        }
        // A session that is given counts, though the header would do.
        let outcome = server.rpc_at("/", &[("authorization", &header)], "webhook.list", json!(["none"])).await;
        assert_eq!(outcome, expired());
    }
    assert_eq!(server.rpc("webhook.list", json!([null])).await, expired());
}

#[tokio::test]
async fn start_session_takes_any_header() {
    let server = TestServer::start().await;
    let session = server.login().await;
    for header in [basic("demo", DEMO_KEY), bearer(DEMO_KEY), bearer(&session)] {
        let started = server.rpc_at("/", &[("authorization", &header)], "startSession", json!([])).await.unwrap();
        let started = started.as_str().unwrap();
        assert!(is_session_key(started) && started != session, "{started}");
        assert_eq!(with_session(&server, started).await, Ok(json!([])));
        server.rpc("endSession", json!([started])).await.unwrap();
    }
    assert_eq!(with_session(&server, &session).await, Ok(json!([])), "it is one of its own");
    let without = server.rpc("startSession", json!([])).await.unwrap_err();
    assert_eq!(without["code"], 2);
    assert!(without["message"].as_str().unwrap().contains("Authorization header"), "{without}");
}

#[tokio::test]
async fn ending_a_session_is_always_done() {
    let server = TestServer::start().await;
    let (first, second) = (server.login().await, server.login().await);
    for params in [
        json!([first]),
        json!([first]),
        json!(["never given out"]),
        json!([""]),
        json!([null]),
        json!([5]),
        json!([]),
        json!({"session": "x"}),
        json!({}),
    ] {
        for (at, _) in PATHS {
            assert_eq!(server.rpc_at(at, &[], "endSession", params.clone()).await, Ok(json!(true)), "{params} at {at}");
        }
    }
    assert_eq!(with_session(&server, &first).await, expired());
    assert_eq!(with_session(&server, &second).await, Ok(json!([])));
    assert_eq!(server.rpc("endSession", json!({"session": second})).await, Ok(json!(true)));
    assert_eq!(with_session(&server, &second).await, expired());
    assert_eq!(with_header(&server, &bearer(&second)).await, denied());
}

#[tokio::test]
async fn a_session_that_is_used_slides_and_one_that_is_not_expires() {
    let (server, hand) = with_manual_clock(Start::default()).await;
    let (used, idle) = (server.login().await, server.login().await);
    for _ in 0..3 {
        pass(&hand, HOUR - TICK);
        assert_eq!(with_session(&server, &used).await, Ok(json!([])));
        writes_done(&server).await;
    }
    assert_eq!(with_session(&server, &idle).await, expired());
    pass(&hand, HOUR - TICK);
    // As a Bearer token it is used as well.
    assert_eq!(with_header(&server, &bearer(&used)).await, Ok(json!([])));
    writes_done(&server).await;
    pass(&hand, HOUR);
    for (at, sign) in PATHS {
        for params in [json!([used, "webhook.list"]), json!({"session": used, "path": "webhook.list"})] {
            let expected = if sign < 0 { -32_005 } else { 5 };
            assert_eq!(code(server.rpc_at(at, &[], "call", params).await), expected, "{at}");
        }
    }
    assert_eq!(with_session(&server, &used).await, expired(), "trying does not revive it");
    assert_eq!(with_header(&server, &bearer(&used)).await, denied());
}

#[tokio::test]
async fn the_operator_says_how_long_sessions_live() {
    let (server, hand) = with_manual_clock(Start::default().flag("session_ttl_s", "60")).await;
    let session = server.login().await;
    assert_eq!(expires_at(&server, &session).await, Some(START.after(MINUTE)));
    // Renewed even so, long before it ends.
    pass(&hand, MINUTE / 2);
    assert_eq!(with_session(&server, &session).await, Ok(json!([])));
    assert_eq!(expires_at(&server, &session).await, Some(START.after(MINUTE / 2 + MINUTE)));
    pass(&hand, MINUTE - TICK);
    assert_eq!(with_session(&server, &session).await, Ok(json!([])));
    writes_done(&server).await;
    pass(&hand, MINUTE);
    assert_eq!(with_session(&server, &session).await, expired());
}

#[tokio::test]
async fn renewals_are_coalesced_to_one_a_minute() {
    let (server, hand) = with_manual_clock(Start::default()).await;
    let session = server.login().await;
    let mut since = START;
    for _ in 0..3 {
        assert_eq!(expires_at(&server, &session).await, Some(since.after(HOUR)));
        for _ in 0..5 {
            pass(&hand, Duration::from_secs(11));
            assert_eq!(with_session(&server, &session).await, Ok(json!([])));
            assert_eq!(expires_at(&server, &session).await, Some(since.after(HOUR)), "renewed within the minute");
        }
        pass(&hand, Duration::from_secs(5));
        since = since.after(MINUTE);
        assert_eq!(with_session(&server, &session).await, Ok(json!([])));
        assert_eq!(expires_at(&server, &session).await, Some(since.after(HOUR)), "not renewed after a minute");
    }
}

#[tokio::test]
async fn a_call_costs_no_write() {
    let (server, hand) = with_manual_clock(Start::default()).await;
    let session = server.login().await;
    let file = server.place.is_file().then(|| server.place.database());
    let version = || match &file {
        // Changes whenever another connection has changed the file.
        Some(file) => file.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap().to_string(),
        // Which transaction has written each row.
        None => {
            let sql = r#"SELECT string_agg(xmin::text, ',' ORDER BY 1) FROM
                (SELECT xmin FROM session UNION ALL SELECT xmin FROM "user" UNION ALL SELECT xmin FROM merchant) AS s (xmin)"#;
            server.place.value(sql)
        }
    };
    let before = version();
    pass(&hand, MINUTE - TICK);
    for _ in 0..20 {
        with_session(&server, &session).await.unwrap();
        with_header(&server, &bearer(&session)).await.unwrap();
        with_header(&server, &basic("demo", DEMO_KEY)).await.unwrap();
        with_header(&server, &bearer(DEMO_KEY)).await.unwrap();
    }
    writes_done(&server).await;
    assert_eq!(version(), before);
    pass(&hand, TICK);
    with_session(&server, &session).await.unwrap();
    writes_done(&server).await;
    assert_ne!(version(), before, "a renewal would have been seen");
}

#[tokio::test]
async fn revoking_ends_sessions_and_keys_at_once() {
    let server = TestServer::start().await;
    let (key, colleague) = (server.user("ann", "acme", ALL), server.user("bob", "acme", ALL));
    let (session, other) = (server.login_as("ann", &key).await, server.login_as("bob", &colleague).await);
    for header in forms("ann", &key) {
        assert_eq!(with_header(&server, &header).await, Ok(json!([])));
    }
    assert_eq!(with_session(&server, &session).await, Ok(json!([])));

    revoke(&server, "ann");
    assert_eq!(with_session(&server, &session).await, expired());
    for header in forms("ann", &key).into_iter().chain([bearer(&session)]) {
        assert_eq!(with_header(&server, &header).await, denied(), "{header}");
        let started = server.rpc_at("/", &[("authorization", &header)], "startSession", json!([])).await;
        assert_eq!(started, denied(), "{header}");
    }
    assert_eq!(login(&server, "ann", &key).await, denied());
    assert_eq!(with_session(&server, &other).await, Ok(json!([])));
    for header in forms("bob", &colleague) {
        assert_eq!(with_header(&server, &header).await, Ok(json!([])));
    }
    let server = Start { place: server.stop().await, ..Start::default() }.go().await;
    assert_eq!(login(&server, "ann", &key).await, denied(), "after a restart as well");
    assert!(login(&server, "bob", &colleague).await.is_ok());
}

#[tokio::test]
async fn a_user_made_beside_the_server_gets_in_at_once() {
    let server = TestServer::start().await;
    assert_eq!(login(&server, "late", "tk_test_late").await, denied());
    let key = server.user("late", "acme", "webhook_read");
    assert!(login(&server, "late", &key).await.is_ok());
}

#[tokio::test]
async fn the_demo_user_is_only_let_in_by_a_server_in_dev_mode() {
    let dev = TestServer::start().await;
    let key = dev.user("ann", "acme", ALL);
    let (demo, ann) = (dev.login().await, dev.login_as("ann", &key).await);
    assert_eq!(with_session(&dev, &demo).await, Ok(json!([])));

    let strict = Start { place: dev.stop().await, ..Start::default() }.strict().go().await;
    assert_eq!(login(&strict, "demo", DEMO_KEY).await, denied());
    assert_eq!(with_session(&strict, &demo).await, expired());
    for header in forms("demo", DEMO_KEY).into_iter().chain([bearer(&demo)]) {
        assert_eq!(with_header(&strict, &header).await, denied(), "{header}");
        let started = strict.rpc_at("/", &[("authorization", &header)], "startSession", json!([])).await;
        assert_eq!(started, denied(), "{header}");
    }
    // Everybody else comes in as before, also by a session from then.
    assert_eq!(with_session(&strict, &ann).await, Ok(json!([])));
    for header in forms("ann", &key) {
        assert_eq!(with_header(&strict, &header).await, Ok(json!([])));
    }

    let dev = Start { place: strict.stop().await, ..Start::default() }.go().await;
    assert_eq!(with_session(&dev, &demo).await, Ok(json!([])));
}

#[tokio::test]
async fn a_bearer_session_is_ended_without_naming_it() {
    let server = TestServer::start().await;
    let session = server.login().await;
    let bearer = format!("Bearer {session}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(server.rpc_at("/", &headers, "endSession", json!([null])).await, Ok(json!(true)));
    assert_eq!(server.rpc("webhook.list", json!([session])).await.unwrap_err()["code"], 5);
}

/// What can be no user's name costs no memory.
#[tokio::test]
async fn names_that_cannot_be_are_refused_without_being_counted() {
    let server = TestServer::start().await;
    let name = "x".repeat(100_000);
    for _ in 0..20 {
        let fault = server.rpc("login", json!([name, "key"])).await.unwrap_err();
        assert_eq!(fault["message"], "Access denied.", "never too many of them");
    }
}
