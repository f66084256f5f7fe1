//! Who has the right credentials, and is refused all the same: a user that
//! calls too often, or is disabled.

use serde_json::{Value, json};

use super::*;

/// Too many calls, and when the next one may come.
fn hurried(wait_ms: u64) -> Result<Value, Value> {
    let message = format!("Too many calls. Retry in {wait_ms} ms.");
    Err(json!({"code": 120, "message": message, "data": {"retry_after_ms": wait_ms}}))
}

#[tokio::test]
async fn calls_of_a_user_are_counted_together_however_they_come() {
    let start = Start::default().flag("calls_per_second_max", "2").flag("calls_burst_max", "5");
    let (server, hand) = with_manual_clock(start).await;
    let key = server.user("ann", "acme", ALL);
    let colleague = server.user("bob", "acme", ALL);
    let session = server.login_as("ann", &key).await;
    assert_eq!(with_session(&server, &session).await, Ok(json!([])));
    for header in forms("ann", &key) {
        assert_eq!(with_header(&server, &header).await, Ok(json!([])));
    }
    let api_key = [("x-api-key", key.as_str())];
    let list = async || server.exchange("GET", "/v1/webhooks/subscriptions", &api_key, "").await;
    assert_eq!(list().await.0, 200);

    assert_eq!(with_session(&server, &session).await, hurried(500));
    for header in forms("ann", &key) {
        assert_eq!(with_header(&server, &header).await, hurried(500));
        let started = server.rpc_at("/", &[("authorization", &header)], "startSession", json!([])).await;
        assert_eq!(started, hurried(500));
    }
    assert_eq!(login(&server, "ann", &key).await, hurried(500));
    for (at, sign) in PATHS {
        let expected = if sign < 0 { -32_120 } else { 120 };
        assert_eq!(code(server.rpc_at(at, &[], "call", json!([session, "webhook.list"])).await), expected, "{at}");
    }
    let (status, headers, text) = list().await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert!(text.contains("Too many calls. Retry in 500 ms."), "{text}");
    // Others are not concerned, a wrong key is one as ever, and a session can be ended.
    assert_eq!(with_header(&server, &bearer(&colleague)).await, Ok(json!([])));
    assert_eq!(login(&server, "ann", "wrong").await, denied());
    assert_eq!(server.rpc("endSession", json!([session])).await, Ok(json!(true)));

    pass(&hand, Duration::from_millis(499));
    assert_eq!(with_header(&server, &bearer(&key)).await, hurried(1));
    pass(&hand, TICK);
    assert_eq!(with_header(&server, &bearer(&key)).await, Ok(json!([])));
    assert_eq!(with_header(&server, &bearer(&key)).await, hurried(500));
}

#[tokio::test]
async fn each_call_of_many_is_counted() {
    let start = Start::default().flag("calls_per_second_max", "1").flag("calls_burst_max", "3");
    let (server, hand) = with_manual_clock(start).await;
    let key = server.user("ann", "acme", ALL);
    let header = bearer(&key);
    let headers = [("authorization", header.as_str())];
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "webhook.list", "params": [null]});
    let (_, text) = server.post("/", &headers, json!([call, call, call, call]).to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    let codes: Vec<_> = answers.iter().map(|answer| answer["error"]["code"].as_i64()).collect();
    assert_eq!(codes, [None, None, None, Some(120)]);

    pass(&hand, MINUTE);
    let calls = json!([null, vec!["webhook.list"; 4]]);
    let results = server.rpc_at("/", &headers, "multiCall", calls).await.unwrap();
    let fault = json!({"isFault": true, "faultCode": 120, "faultMessage": "Too many calls. Retry in 1000 ms."});
    assert_eq!(results, json!([[], [], [], fault]));
    assert_eq!(with_header(&server, &header).await, hurried(1_000));
}

/// In every form, and from the moment on; only who has the right key is told.
#[tokio::test]
async fn a_disabled_user_is_told_so_until_it_is_enabled_again() {
    let (server, hand) = with_manual_clock(Start::default()).await;
    let (key, colleague) = (server.user("ann", "acme", ALL), server.user("bob", "acme", ALL));
    let (session, ended) = (server.login_as("ann", &key).await, server.login_as("ann", &key).await);
    server.rpc("endSession", json!([ended])).await.unwrap();
    let expiry = expires_at(&server, &session).await;
    pass(&hand, HOUR / 2);

    // Twice, which changes nothing.
    for _ in 0..2 {
        set_enabled(&server, "ann", false);
        assert_eq!(login(&server, "ann", &key).await, disabled("ann"));
        assert_eq!(with_session(&server, &session).await, disabled("ann"));
        for header in forms("ann", &key).into_iter().chain([bearer(&session)]) {
            assert_eq!(with_header(&server, &header).await, disabled("ann"), "{header}");
            let started = server.rpc_at("/", &[("authorization", &header)], "startSession", json!([])).await;
            assert_eq!(started, disabled("ann"), "{header}");
        }
    }
    for (at, sign) in PATHS {
        let expected = if sign < 0 { -32_119 } else { 119 };
        for (method, params) in [
            ("login", json!(["ann", key])),
            ("call", json!([session, "webhook.list"])),
            ("multiCall", json!([session, []])),
        ] {
            assert_eq!(code(server.rpc_at(at, &[], method, params).await), expected, "{method} at {at}");
        }
    }
    // Whoever does not know the key learns nothing.
    assert_eq!(login(&server, "ann", "wrong").await, denied());
    assert_eq!(with_header(&server, &basic("ann", &colleague)).await, denied());
    assert_eq!(with_session(&server, &ended).await, expired());
    assert!(login(&server, "bob", &colleague).await.is_ok());
    assert_eq!(expires_at(&server, &session).await, expiry, "trying does not renew it");

    set_enabled(&server, "ann", true);
    assert_eq!(with_session(&server, &session).await, Ok(json!([])));
    for header in forms("ann", &key) {
        assert_eq!(with_header(&server, &header).await, Ok(json!([])));
    }
    assert!(login(&server, "ann", &key).await.is_ok());
    // A session goes on to expire while its user is disabled.
    writes_done(&server).await;
    set_enabled(&server, "ann", false);
    pass(&hand, HOUR);
    assert_eq!(with_session(&server, &session).await, expired());
    // What is revoked is not disabled besides.
    revoke(&server, "ann");
    assert_eq!(login(&server, "ann", &key).await, denied());
    assert_eq!(with_header(&server, &bearer(&key)).await, denied());
}

/// Both keys count for a while, in every form, and what the old one has opened
/// ends with it.
#[tokio::test]
async fn a_key_that_was_replaced_counts_until_its_time_is_over() {
    let (server, hand) = with_manual_clock(quick()).await;
    let old = server.user("ann", "acme", ALL);
    let before = server.login_as("ann", &old).await;
    let rotate = |key: &str, until| {
        server.place.administer(|admin| admin.rotate_key("ann", KeyHash::of(key), until, START)).unwrap();
    };
    let end = START.after(2 * HOUR);
    rotate("tk_new", end);
    let during = server.login_as("ann", &old).await;
    let headers = [("authorization", &*bearer(&old))];
    let started = server.rpc_at("/", &headers, "startSession", json!([])).await.unwrap();
    let after = server.login_as("ann", "tk_new").await;
    for key in [&*old, "tk_new"] {
        for form in forms("ann", key) {
            with_header(&server, &form).await.unwrap();
        }
    }
    let of_old = [&*before, &during, started.as_str().unwrap()];
    for _ in 0..4 {
        for session in of_old {
            with_session(&server, session).await.unwrap();
            assert!(expires_at(&server, session).await.unwrap() <= end, "it is renewed up to the end of its key");
        }
        with_session(&server, &after).await.unwrap();
        writes_done(&server).await;
        pass(&hand, HOUR / 2);
    }
    for form in forms("ann", &old) {
        assert_eq!(with_header(&server, &form).await, denied());
    }
    for session in of_old {
        assert_eq!(with_session(&server, session).await, expired());
    }
    with_session(&server, &after).await.unwrap();
    // Without an overlap the one before is worthless at once, and of three the first is.
    let now = START.after(2 * HOUR);
    rotate("tk_third", now);
    assert_eq!(login(&server, "ann", "tk_new").await, denied());
    assert_eq!(with_session(&server, &after).await, expired());
    login(&server, "ann", "tk_third").await.unwrap();
    rotate("tk_fourth", now.after(HOUR));
    rotate("tk_fifth", now.after(HOUR));
    for (key, counts) in [("tk_third", false), ("tk_fourth", true), ("tk_fifth", true)] {
        assert_eq!(login(&server, "ann", key).await.is_ok(), counts, "{key}");
    }
}

/// The same by whoever may do everything within the merchant.
#[tokio::test]
async fn an_administrator_changes_permissions_and_keys_of_his_merchant() {
    let (server, hand) = with_manual_clock(quick()).await;
    let (boss, ann) = (server.user("boss", "acme", "admin"), server.user("ann", "acme", "webhook_read"));
    server.user("eve", "other", ALL);
    let call = async |key: &str, method: &str, params: Value| {
        server.rpc_at("/", &[("authorization", &bearer(key))], method, params).await
    };
    let publish = json!([null, "order:created", {}]);
    assert_eq!(code(call(&ann, "event.publish", publish.clone()).await), 2);
    let changes = json!([null, "ann", {"permissions": ["event_write", "webhook_read"]}]);
    assert_eq!(code(call(&ann, "user.update", changes.clone()).await), 2, "not by herself");
    let changed = call(&boss, "user.update", changes).await.unwrap();
    assert_eq!((&changed["name"], &changed["permissions"]), (&json!("ann"), &json!(["webhook_read", "event_write"])));
    call(&ann, "event.publish", publish.clone()).await.unwrap();

    let rotated = call(&boss, "user.rotate_key", json!([null, "ann", 3_600])).await.unwrap();
    let new = rotated["api_key"].as_str().unwrap();
    assert!(new.starts_with("tk_") && new.len() == 67, "{rotated}");
    assert_eq!(rotated["old_key_until"], START.after(HOUR).rfc3339_ms());
    for key in [&*ann, new] {
        call(key, "event.publish", publish.clone()).await.unwrap();
    }
    pass(&hand, HOUR);
    assert_eq!(code(call(&ann, "event.publish", publish.clone()).await), 2);
    call(new, "event.publish", publish).await.unwrap();

    let refused = async |method, params| code(call(&boss, method, params).await);
    for (name, expected) in [("eve", 121), ("nobody", 121), ("demo", 121)] {
        assert_eq!(refused("user.rotate_key", json!([null, name])).await, expected, "{name}");
        assert_eq!(refused("user.update", json!([null, name, {"permissions": ["admin"]}])).await, expected, "{name}");
    }
    for changes in
        [json!({"permissions": []}), json!({"permissions": ["root"]}), json!({"permissions": "admin"}), json!({})]
    {
        assert_eq!(refused("user.update", json!([null, "ann", changes])).await, 122, "{changes}");
    }
    for overlap in [-1, 2_592_001] {
        assert_eq!(refused("user.rotate_key", json!([null, "ann", overlap])).await, 122);
    }
    // Everybody knows the key of the demo user.
    assert_eq!(code(call(DEMO_KEY, "user.rotate_key", json!([null, "demo"])).await), 122);
    revoke(&server, "ann");
    assert_eq!(refused("user.rotate_key", json!([null, "ann"])).await, 121);
}

/// What lasts is looked at again before it gives something.
#[tokio::test]
async fn who_is_sent_away_gets_no_more_of_what_has_begun() {
    let server = TestServer::start().await;
    let colleague = server.user("bob", "acme", ALL);
    let bob = basic("bob", &colleague);
    let call = async |method, params| server.rpc_at("/", &[("authorization", &bob)], method, params).await.unwrap();
    let wish = json!([{"topics": "*", "delivery_mode": "pull"}]);
    for (n, form) in ["session", "basic", "bearer", "disabled"].into_iter().enumerate() {
        call("webhook.create", json!([null, wish[0]])).await;
        let webhooks = call("webhook.list", json!([null])).await;
        let webhooks = webhooks.as_array().unwrap();
        let (pulled, before) = (&webhooks.last().unwrap()["webhook_id"], webhooks.len());
        let name = format!("ann{n}");
        let key = server.user(&name, "acme", ALL);
        let session = server.login_as(&name, &key).await;
        let (header, expected) = match form {
            "session" => (bearer(&session), 2),
            "bearer" => (bearer(&key), 2),
            "basic" => (basic(&name, &key), 2),
            _ => (basic(&name, &key), 119),
        };
        let calls =
            json!([["webhook.create", wish], ["delivery.pull", [pulled, 0, 10, 30_000]], ["webhook.create", wish]]);
        let headers = [("authorization", header.as_str())];
        let lasting = server.rpc_at("/", &headers, "multiCall", json!([null, calls]));
        let meanwhile = async {
            server.until(async || (call("webhook.count", json!([null])).await != json!(before)).then_some(())).await;
            match form {
                "disabled" => set_enabled(&server, &name, false),
                _ => revoke(&server, &name),
            }
            call("event.publish", json!([null, "order:created", {}])).await;
        };
        let (results, ()) = tokio::join!(lasting, meanwhile);
        let results = results.unwrap();
        assert_eq!(results[0], true, "{results}");
        for later in [&results[1], &results[2]] {
            assert_eq!((&later["isFault"], &later["faultCode"]), (&json!(true), &json!(expected)), "{form}: {results}");
        }
        assert_eq!(call("webhook.count", json!([null])).await, json!(before + 1));
    }
}
