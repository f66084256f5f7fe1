//! Wrong keys: how many are looked at, whose they are, and who suffers for them.

use super::*;

#[tokio::test]
async fn after_ten_failures_one_more_closes_the_door_for_the_rest_of_the_minute() {
    let (server, hand) = with_manual_clock(quick()).await;
    let other = server.user("other", "acme", ALL);
    let session = server.login().await;
    for n in 0..=10 {
        // By login and by Basic: both count.
        let outcome = match n % 2 {
            0 => login(&server, "demo", "wrong").await,
            _ => with_header(&server, &basic("demo", "wrong")).await,
        };
        assert_eq!(outcome, denied(), "failure {n}");
        pass(&hand, Duration::from_secs(1));
    }
    let left = MINUTE - Duration::from_secs(11);
    assert_eq!(login(&server, "demo", "wrong").await, too_many(left));
    assert_eq!(with_header(&server, &basic("demo", "wrong")).await, too_many(left));
    for (at, sign) in PATHS {
        let error = server.rpc_at(at, &[], "login", json!(["demo", "wrong"])).await.unwrap_err();
        assert_eq!(error["code"], if sign < 0 { -32_002 } else { 2 }, "{at}");
        assert_eq!(error["data"], json!({"retry_after_ms": 49_000}), "{at}");
    }
    // Whoever has the key gets in, whoever is in stays in, and others are not concerned.
    assert!(login(&server, "demo", DEMO_KEY).await.is_ok());
    assert_eq!(with_header(&server, &basic("demo", DEMO_KEY)).await, Ok(json!([])));
    assert_eq!(login(&server, "demo", "wrong").await, too_many(left), "a right key forgives nothing");
    assert_eq!(with_session(&server, &session).await, Ok(json!([])));
    assert_eq!(with_header(&server, &bearer(DEMO_KEY)).await, Ok(json!([])));
    assert!(login(&server, "other", &other).await.is_ok());
    assert_eq!(login(&server, "nobody", "wrong").await, denied());

    pass(&hand, left - TICK);
    assert_eq!(login(&server, "demo", "wrong").await, too_many(TICK));
    pass(&hand, TICK);
    // The count begins anew.
    for n in 0..=10 {
        assert_eq!(login(&server, "demo", "wrong").await, denied(), "failure {n}");
    }
    assert_eq!(login(&server, "demo", "wrong").await, too_many(MINUTE));
}

/// Awaits what the server does not do before its clock has moved on; by how
/// much it did.
async fn meanwhile<T>(hand: &watch::Sender<Timestamp>, asked: impl Future<Output = T>) -> (T, Duration) {
    const STEP: Duration = Duration::from_millis(100);
    let (mut asked, begun, waiting) = (std::pin::pin!(asked), *hand.borrow(), hand.receiver_count());
    loop {
        tokio::select! {
            biased;
            answer = &mut asked => return (answer, hand.borrow().since(begun)),
            () = tokio::task::yield_now() => {
                if hand.receiver_count() > waiting {
                    pass(hand, STEP);
                }
            }
        }
    }
}

/// Or whoever guesses at a user's key would keep that user out.
#[tokio::test]
async fn a_right_key_is_slowed_by_wrong_ones_and_let_in() {
    let (server, hand) = with_manual_clock(Start::default().flag("login_failures_max", "1")).await;
    for _ in 0..2 {
        assert_eq!(login(&server, "demo", "wrong").await, denied());
    }
    let slowdown = Duration::from_secs(1);
    let (outcome, waited) = meanwhile(&hand, login(&server, "demo", DEMO_KEY)).await;
    assert!(outcome.is_ok() && waited >= slowdown, "{outcome:?} after {waited:?}");
    let authorization = basic("demo", DEMO_KEY);
    let (outcome, waited) = meanwhile(&hand, with_header(&server, &authorization)).await;
    assert!(outcome.is_ok() && waited >= slowdown, "{outcome:?} after {waited:?}");
    let (outcome, waited) = meanwhile(&hand, login(&server, "demo", "wrong")).await;
    assert_eq!(outcome.unwrap_err()["code"], 2);
    assert!(waited >= slowdown, "a wrong key is told no sooner");
    let headers = [("secureurl", "demo"), ("privatekey", "demo"), ("token", DEMO_KEY)];
    let asked = server.exchange("GET", "/3dCartWebAPI/v2/Webhooks", &headers, "");
    let ((status, ..), waited) = meanwhile(&hand, asked).await;
    assert!(status == 404 && waited >= slowdown, "{status} after {waited:?}");
    let (mut socket, waited) = (crate::common::socket::Socket::demo(&server).await, slowdown);
    let (outcome, was) = meanwhile(&hand, socket.call("webhook.list", json!([null]))).await;
    assert!(outcome == Ok(json!([])) && was >= waited, "{outcome:?} after {was:?}");
}

/// Logs the demo user in through a proxy that writes these headers.
async fn login_through(server: &TestServer, headers: &[(&str, &str)], key: &str) -> Result<Value, Value> {
    server.rpc_at("/", headers, "login", json!(["demo", key])).await
}

#[tokio::test]
async fn behind_a_proxy_each_client_is_counted_for_itself() {
    let start = || quick().flag("login_failures_max", "1").flag("trusted_proxies", "127.0.0.0/8,10.0.0.0/8");
    let (server, _hand) = with_manual_clock(start()).await;
    for (guesser, neighbour) in [
        (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2")),
        (("x-forwarded-for", "192.0.2.2, 192.0.2.3, 10.0.0.1"), ("x-forwarded-for", "192.0.2.3, 192.0.2.2, 10.0.0.1")),
        (("forwarded", "for=192.0.2.4;proto=https"), ("forwarded", "for=192.0.2.2")),
        (("forwarded", "for=\"[2001:db8::1]:4711\""), ("forwarded", "for=\"[2001:db8:0:1::1]:4711\"")),
    ] {
        for _ in 0..2 {
            assert_eq!(login_through(&server, &[guesser], "wrong").await, denied(), "{guesser:?}");
        }
        assert_eq!(login_through(&server, &[guesser], "wrong").await, too_many(MINUTE), "{guesser:?}");
        assert!(login_through(&server, &[neighbour], DEMO_KEY).await.is_ok());
        assert!(login_through(&server, &[guesser], DEMO_KEY).await.is_ok());
    }
    for neighbour in ["192.0.2.2", "192.0.2.4, 192.0.2.5"] {
        assert_eq!(login_through(&server, &[("x-forwarded-for", neighbour)], "wrong").await, denied());
    }
    // Basic, as itself and as a dialect has it, and over a WebSocket.
    let (guesser, wrong) = (("x-forwarded-for", "192.0.2.1"), basic("demo", "wrong"));
    let headers = [guesser, ("authorization", wrong.as_str())];
    assert_eq!(server.rpc_at("/", &headers, "webhook.list", json!([null])).await, too_many(MINUTE));
    let headers = [guesser, ("secureurl", "demo"), ("privatekey", "demo"), ("token", "wrong")];
    assert_eq!(server.exchange("GET", "/3dCartWebAPI/v2/Webhooks", &headers, "").await.0, 429);
    let headers = [guesser, ("authorization", wrong.as_str())];
    let mut socket = crate::common::socket::Socket::open(&server.url(), "/", &headers).await.unwrap();
    assert_eq!(socket.call("webhook.list", json!([null])).await, too_many(MINUTE));

    // Whatever the users, too.
    let (server, _hand) = with_manual_clock(start().flag("address_login_failures_max", "2")).await;
    for name in ["ann", "bob", "cid"] {
        assert_eq!(server.rpc_at("/", &[guesser], "login", json!([name, "wrong"])).await, denied());
    }
    assert_eq!(login_through(&server, &[guesser], "wrong").await, too_many(MINUTE));
    assert_eq!(login_through(&server, &[("x-forwarded-for", "192.0.2.2")], "wrong").await, denied());

    // Nobody is believed who is no proxy.
    let (server, _hand) = with_manual_clock(quick().flag("login_failures_max", "1")).await;
    for n in 0..2 {
        let made_up = format!("192.0.2.{n}");
        assert_eq!(login_through(&server, &[("x-forwarded-for", &made_up)], "wrong").await, denied());
    }
    assert_eq!(login_through(&server, &[("x-forwarded-for", "192.0.2.9")], "wrong").await, too_many(MINUTE));
}

#[tokio::test]
async fn ten_failures_and_a_success_are_fine_and_unknown_names_are_limited_alike() {
    let (server, _hand) = with_manual_clock(quick()).await;
    for n in 0..10 {
        assert_eq!(login(&server, "demo", "wrong").await, denied(), "failure {n}");
    }
    assert!(login(&server, "demo", DEMO_KEY).await.is_ok());
    for n in 0..=10 {
        assert_eq!(login(&server, "nobody", "wrong").await, denied(), "failure {n}");
    }
    assert_eq!(login(&server, "nobody", "wrong").await, too_many(MINUTE));
}

/// Only here has the loopback more than one address without being set up so.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn another_address_is_free_to_try() {
    let (server, _hand) = with_manual_clock(quick().flag("login_failures_max", "1")).await;
    let elsewhere = client_at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    for _ in 0..2 {
        assert_eq!(login(&server, "demo", "wrong").await, denied());
    }
    assert_eq!(login(&server, "demo", "wrong").await, too_many(MINUTE));
    for (key, expected) in [("wrong", "Access denied."), (DEMO_KEY, "result")] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "login", "params": ["demo", key]}).to_string();
        let (status, text) = crate::common::post(&elsewhere, &server.url(), &[], body).await;
        assert!(status == 200 && text.contains(expected) && !text.contains("attempts"), "{text}");
    }
    assert_eq!(login(&server, "demo", "wrong").await, too_many(MINUTE), "here nothing has changed");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_address_fails_so_often_whatever_the_names() {
    let strict = || quick().flag("address_login_failures_max", "2");
    let (server, hand) = with_manual_clock(strict()).await;
    for name in ["ann", "bob", "cid"] {
        assert_eq!(login(&server, name, "wrong").await, denied());
    }
    assert_eq!(login(&server, "demo", "wrong").await, too_many(MINUTE));
    assert_eq!(with_header(&server, &basic("demo", "wrong")).await, too_many(MINUTE));
    assert!(login(&server, "demo", DEMO_KEY).await.is_ok());
    let elsewhere = client_at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "login", "params": ["demo", "wrong"]}).to_string();
    let (_, text) = crate::common::post(&elsewhere, &server.url(), &[], body).await;
    assert!(text.contains("Access denied.") && !text.contains("attempts"), "{text}");
    pass(&hand, MINUTE);
    assert_eq!(login(&server, "demo", "wrong").await, denied());

    // Behind a proxy that does not name them are many.
    let (server, _hand) = with_manual_clock(strict().flag("trusted_proxies", "127.0.0.0/8")).await;
    for name in ["ann", "bob", "cid", "demo"] {
        assert_eq!(login(&server, name, "wrong").await, denied());
    }
}

/// It can be nobody's, so it is neither hashed nor counted.
#[tokio::test]
async fn what_is_too_long_for_a_key_is_refused_at_once() {
    let (server, _hand) = with_manual_clock(Start::default().flag("login_failures_max", "1")).await;
    let long = "x".repeat(257);
    for _ in 0..4 {
        assert_eq!(login(&server, "demo", &long).await, denied());
        assert_eq!(with_header(&server, &basic("demo", &long)).await, denied());
        assert_eq!(with_header(&server, &bearer(&long)).await, denied());
        assert_eq!(with_session(&server, &long).await, expired());
        assert_eq!(server.rpc("endSession", json!([long])).await, Ok(json!(true)));
    }
    assert!(login(&server, "demo", DEMO_KEY).await.is_ok());
}

/// A client with an address of its own.
fn client_at(address: IpAddr) -> crate::common::Http {
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(address));
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Whoever was known is not guessing: what it has begun is not slowed by others.
#[tokio::test]
async fn who_is_known_is_looked_at_again_without_a_wait() {
    let (server, hand) = with_manual_clock(Start::default().flag("login_failures_max", "1")).await;
    for _ in 0..2 {
        assert_eq!(login(&server, "demo", "wrong").await, denied());
        pass(&hand, TICK);
    }
    let header = basic("demo", DEMO_KEY);
    let headers = [("authorization", header.as_str())];
    let calls = json!([["webhook.count"], ["webhook.count"], ["webhook.count"]]);
    let (results, took) = meanwhile(&hand, server.rpc_at("/", &headers, "multiCall", json!([null, calls]))).await;
    assert_eq!(results, Ok(json!([0, 0, 0])));
    assert!(took < Duration::from_secs(2), "the login alone takes a second: {took:?}");
}
