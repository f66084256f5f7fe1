//! Tokens of OAuth 2.0: a token server, a receiver that wants its tokens, and what is between them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::delivery::connect::Resolve;
use tallyhook::domain::id::MerchantId;
use tokio::net::TcpListener;

use crate::common::manual::webhook;
use crate::common::{Arrived, Receiver, Reply, Start, TestServer, log};

const SECRET: &str = "a-client-secret & of tests";
/// As HTTP Basic has `shop` and that (RFC 6749 §2.3.1).
const BASIC: &str = "Basic c2hvcDphLWNsaWVudC1zZWNyZXQrJTI2K29mK3Rlc3Rz";

fn granted(token: &str, expires_in: u64) -> Reply {
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in}).to_string();
    Reply { body, ..Reply::status(200) }.header("content-type", "application/json")
}

/// Grants `token-1`, `token-2`, … for so many seconds each.
async fn token_server(expires_in: u64) -> Receiver {
    Receiver::start(move |n, _| granted(&format!("token-{}", n + 1), expires_in)).await
}

fn client(tokens: &Receiver, more: Value) -> Value {
    let mut own = json!({"token_url": tokens.url(), "client_id": "shop", "client_secret": SECRET});
    own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"oauth2": own, "retry": [60, 60, 60, 60, 60, 60, 60]})
}

fn sent(arrived: &Arrived) -> &str {
    arrived.header("authorization")
}

async fn publish(server: &TestServer, count: usize) {
    let events = vec![json!({"topic": "order:created", "message": {}}); count];
    server.call("event.publish_many", json!([events])).await.unwrap();
}

#[tokio::test]
async fn one_token_is_fetched_for_all_and_nobody_is_shown_it() {
    log::keep();
    let server = TestServer::start().await;
    let tokens = token_server(3_600).await;
    // A receiver that repeats what it was sent.
    let receiver = Receiver::start(|_, arrived| {
        let said = format!("{} {SECRET} {BASIC}", arrived.header("authorization"));
        Reply { body: said.clone(), ..Reply::status(200) }.header("x-echo", &said)
    })
    .await;
    let id = webhook(&server, &receiver, client(&tokens, json!({"scope": "hooks write", "audience": "shop 1"}))).await;
    publish(&server, 20).await;
    for arrived in receiver.arrivals(20).await {
        assert_eq!(sent(&arrived), "Bearer token-1");
    }
    server.settled(id).await;
    let asked = tokens.so_far();
    assert_eq!((asked.len(), sent(&asked[0])), (1, BASIC));
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(asked[0].header("accept"), "application/json");
    assert_eq!(asked[0].body, "grant_type=client_credentials&scope=hooks+write&audience=shop+1");

    let shown = server.call("webhook.get", json!([id])).await.unwrap();
    let expected = json!({
        "token_url": tokens.url(), "client_id": "shop", "scope": "hooks write", "audience": "shop 1",
        "auth_style": "basic",
    });
    assert_eq!(shown["oauth2"], expected);
    let attempts = server.call("delivery.attempts", json!([id, 1])).await.unwrap();
    assert!(attempts[0]["request_headers"].to_string().contains("[redacted]"), "{attempts}");
    let audit = server.call("audit.list", json!([])).await.unwrap();
    assert!(audit.to_string().contains("oauth2_client_secret"), "{audit}");
    let place = server.stop().await;
    let kept = place.rows("SELECT request_headers, response_headers, response_body, error_detail FROM attempt");
    let audited = place.rows("SELECT before, after FROM audit");
    for said in
        [shown.to_string(), attempts.to_string(), audit.to_string(), format!("{kept:?}"), format!("{audited:?}")]
    {
        for secret in ["token-1", "a-client-secret", &BASIC[6..]] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
    assert!(log::lines_with("a-client-secret").is_empty() && log::lines_with("token-1").is_empty());
}

#[tokio::test]
async fn a_token_is_fetched_anew_before_it_expires_and_by_whom_it_is_now() {
    let (server, hand) = Start::default().manual().await;
    let tokens = token_server(100).await;
    let receiver = Receiver::obliging().await;
    let own = json!({"auth_style": "body"});
    let id = webhook(&server, &receiver, client(&tokens, own)).await;
    let mut count = 0;
    let mut next = async |seconds| {
        hand.pass(seconds);
        publish(&server, 1).await;
        count += 1;
        sent(&receiver.arrivals(count).await[count - 1]).to_owned()
    };
    assert_eq!(next(0).await, "Bearer token-1");
    // It is good for 100 s, and used for 90 of them.
    assert_eq!(next(89).await, "Bearer token-1");
    assert_eq!(next(1).await, "Bearer token-2");
    let asked = tokens.so_far();
    assert!(!asked[0].headers.contains_key("authorization"));
    let body = "grant_type=client_credentials&client_id=shop&client_secret=a-client-secret+%26+of+tests";
    assert_eq!((&asked[0].body, &asked[1].body), (&body.into(), &body.into()));
    // Another client has a token of its own.
    server.call("webhook.update", json!([id, client(&tokens, json!({"client_id": "other"}))])).await.unwrap();
    assert_eq!(next(0).await, "Bearer token-3");
    let gone = server.call("webhook.update", json!([id, {"oauth2": null}])).await.unwrap();
    assert_eq!(gone["oauth2"], Value::Null);
    publish(&server, 1).await;
    assert!(!receiver.arrivals(5).await[4].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_once_and_then_the_attempt_counts() {
    let (server, hand) = Start::default().manual().await;
    let tokens = token_server(3_600).await;
    // From the second request on it takes nothing older than token-2, from the fourth on nothing.
    let receiver = Receiver::start(|n, arrived| {
        let is_taken = match n {
            0 => true,
            1..=2 => sent(arrived) == "Bearer token-2",
            _ => false,
        };
        Reply::status(if is_taken { 204 } else { 401 })
    })
    .await;
    let id = webhook(&server, &receiver, client(&tokens, json!({}))).await;
    publish(&server, 1).await;
    server.settled(id).await;
    publish(&server, 1).await;
    let renewed = server.settled(id).await;
    assert!(renewed.iter().all(|one| one["state"] == "delivered" && one["attempts"] == 1), "{renewed:?}");
    publish(&server, 1).await;
    let attempt = server.attempts(id, 3, 1).await.remove(0);
    assert_eq!((&attempt["status_code"], &attempt["error_class"]), (&json!(401), &json!("status")));
    let all: Vec<_> = receiver.so_far().iter().map(|arrived| sent(arrived)[7..].to_owned()).collect();
    assert_eq!(all, ["token-1", "token-1", "token-2", "token-2", "token-3"]);
    // One id goes out however often, and the next attempt is another.
    let ids: Vec<_> = receiver.so_far().iter().map(|arrived| arrived.header("webhook-id").to_owned()).collect();
    assert!(ids[1] == ids[2] && ids[3] == ids[4] && ids[2] != ids[3]);
    hand.pass(600);
    assert_eq!(server.attempts(id, 3, 2).await.len(), 2);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_breaker_opens() {
    let (server, hand) = Start::default().manual().await;
    let is_up = Arc::new(AtomicUsize::new(0));
    let up = Arc::clone(&is_up);
    let tokens = Receiver::start(move |_, arrived| match up.load(Ordering::SeqCst) {
        0 => {
            let body = json!({"error": "invalid_client", "error_description": sent(arrived)}).to_string();
            Reply { body, ..Reply::status(401) }
        }
        _ => granted("good", 60),
    })
    .await;
    let receiver = Receiver::obliging().await;
    let id = webhook(&server, &receiver, client(&tokens, json!({}))).await;
    publish(&server, 1).await;
    for count in 1..=5 {
        let attempts = server.attempts(id, 1, count).await;
        let last = attempts.iter().max_by_key(|attempt| attempt["attempt"].as_i64()).unwrap();
        assert_eq!((&last["error_class"], &last["status_code"]), (&json!("token"), &Value::Null), "{last}");
        assert_eq!(last["error"], "no token from the token server: answered 401 Unauthorized (invalid_client)");
        assert_eq!(last["request_headers"], json!([]), "{last}");
        assert!(!last.to_string().contains(&BASIC[6..]));
        hand.pass(if count < 5 { 120 } else { 0 });
    }
    let shown = server.call("webhook.get", json!([id])).await.unwrap();
    assert_eq!((&shown["breaker"], &shown["consecutive_failures"]), (&json!("open"), &json!(5)));
    assert!(receiver.so_far().is_empty());
    is_up.store(1, Ordering::SeqCst);
    hand.pass(24 * 3_600);
    assert_eq!(sent(&receiver.arrivals(1).await[0]), "Bearer good");
    assert_eq!(server.settled(id).await[0]["state"], "delivered");
}

#[tokio::test]
async fn a_token_server_that_says_nothing_holds_up_nobody_else() {
    let server = TestServer::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let token_url = format!("http://{}/token", silent.local_addr().unwrap());
    let (receiver, other) = (Receiver::obliging().await, Receiver::obliging().await);
    let own = json!({"token_url": token_url, "client_id": "a", "client_secret": "b"});
    let own = json!({"oauth2": own, "timeouts": {"connect_ms": 500, "total_ms": 500}, "retry": []});
    let held = webhook(&server, &receiver, own).await;
    webhook(&server, &other, json!({})).await;
    publish(&server, 3).await;
    other.arrivals(3).await;
    let failed = server.attempts(held, 3, 1).await.remove(0);
    assert_eq!(failed["error_class"], "token");
    assert!(failed["error"].as_str().unwrap().contains("no answer within"), "{failed}");
    server.settled(held).await;
    assert!(receiver.so_far().is_empty());
}

/// Each name has this address.
struct Everywhere(&'static str);

impl Resolve for Everywhere {
    fn resolve(&self, _: MerchantId, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let address = self.0.parse().unwrap();
        async move { Ok(vec![address]) }.boxed()
    }
}

#[tokio::test]
async fn a_token_server_is_guarded_as_receivers_are() {
    let hooks = Hooks { resolver: Arc::new(Everywhere("10.0.0.1")), ..Hooks::default() };
    let server = Start { hooks, ..Start::default() }.go().await;
    let receiver = Receiver::obliging().await;
    let own = |token_url: &str| json!({"oauth2": {"token_url": token_url, "client_id": "a", "client_secret": "a-secret-b"}, "retry": []});
    let mut data = own("http://10.0.0.1/token");
    data["topics"] = json!("*");
    data["url"] = json!(receiver.url());
    let fault = server.call("webhook.create", json!([data])).await.unwrap_err();
    assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(101), &json!("oauth2.token_url")), "{fault}");
    let id = webhook(&server, &receiver, own("http://tokens.test/token")).await;
    publish(&server, 1).await;
    let attempt = server.attempts(id, 1, 1).await.remove(0);
    assert_eq!(attempt["error_class"], "token");
    assert!(attempt["error"].as_str().unwrap().contains("10.0.0.1"), "{attempt}");
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn what_can_not_stand_together_is_refused_in_words() {
    let server = TestServer::start().await;
    let good = json!({"token_url": "https://id.test/token", "client_id": "a", "client_secret": "very-secret"});
    let with = |name: &str, value: Value| {
        let mut own = good.clone();
        own[name] = value;
        own
    };
    let basic = json!({"username": "a", "password": "b"});
    for (data, field) in [
        (json!({"oauth2": good, "basic_auth": basic}), "oauth2"),
        (json!({"oauth2": good, "extra_headers": "authorization: Bearer x"}), "oauth2"),
        (json!({"oauth2": with("token_url", json!("ftp://id.test/"))}), "oauth2.token_url"),
        (json!({"oauth2": with("token_url", json!("https://a:very-secret@id.test/"))}), "oauth2.token_url"),
        (json!({"oauth2": with("client_id", json!(""))}), "oauth2.client_id"),
        (json!({"oauth2": with("client_secret", json!("very-secret\n"))}), "oauth2.client_secret"),
        (json!({"oauth2": with("scope", json!("x".repeat(1_001)))}), "oauth2.scope"),
        (json!({"oauth2": with("auth_style", json!("header"))}), "oauth2.auth_style"),
    ] {
        let mut whole = json!({"topics": "*", "url": "https://receiver.test/hook"});
        whole.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        let fault = server.call("webhook.create", json!([whole])).await.unwrap_err();
        assert_eq!((&fault["code"], &fault["data"]["field"]), (&json!(101), &json!(field)), "{fault}");
        assert!(!fault.to_string().contains("very-secret"), "{fault}");
    }
    for data in [json!({"oauth2": with("more", json!(1))}), json!({"oauth2": {"token_url": "https://id.test/"}})] {
        let mut whole = json!({"topics": "*", "url": "https://receiver.test/hook"});
        whole.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        let fault = server.call("webhook.create", json!([whole])).await.unwrap_err();
        assert!(fault.to_string().contains("oauth2"), "{fault}");
    }
    // Neither by a later change.
    let id =
        server.webhook(json!({"topics": "*", "url": "https://receiver.test/", "oauth2": good})).await["webhook_id"]
            .clone();
    let fault = server.call("webhook.update", json!([id, {"basic_auth": basic}])).await.unwrap_err();
    assert_eq!(fault["data"]["field"], "oauth2", "{fault}");
    server.call("webhook.update", json!([id, {"basic_auth": basic, "oauth2": null}])).await.unwrap();
}
