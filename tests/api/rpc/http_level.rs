//! What HTTP says before and around a call.

use serde_json::{Value, json};

use super::{PATHS, User, rows, webhook_data};
use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, Start, TestServer, basic};

const JSON: (&str, &str) = ("content-type", "application/json");
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"webhook.list","params":[null]}"#;
const EMPTY_LIST: &str = r#"{"jsonrpc":"2.0","result":[],"id":1}"#;

/// A refusal before a call could be read: an error of the specification, with
/// words for people.
fn check_refusal(text: &str, words: &str) {
    let answer: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &Value::Null), "{text}");
    assert_eq!(answer["error"]["code"], -32_600, "{text}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{text}");
    assert_eq!(answer.get("result"), None, "{text}");
}

#[tokio::test]
async fn a_body_that_is_too_long() {
    let server = Start::default().flag("body_bytes_max", "1024").go().await;
    let authorization = basic("demo", DEMO_KEY);
    let headers = [JSON, ("authorization", authorization.as_str())];
    for (at, _) in PATHS {
        let fits = format!("{LIST}{}", " ".repeat(1_024 - LIST.len()));
        let (status, _, text) = server.exchange("POST", at, &headers, &fits).await;
        assert_eq!((status, text.as_str()), (200, EMPTY_LIST), "{at}");
        let (status, answered, text) = server.exchange("POST", at, &headers, &format!("{fits} ")).await;
        assert_eq!(status, 413, "{at}");
        assert_eq!(answered["content-type"], "application/json", "{at}");
        check_refusal(&text, "longer than 1024 bytes");
    }
}

#[tokio::test]
async fn a_body_of_another_kind() {
    let server = TestServer::start().await;
    let authorization = basic("demo", DEMO_KEY);
    for (at, _) in PATHS {
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/html"]
        {
            let headers = [("content-type", kind), ("authorization", &authorization)];
            let (status, _, text) = server.exchange("POST", at, &headers, LIST).await;
            assert_eq!(status, 415, "{kind} at {at}");
            check_refusal(&text, "Content-Type: application/json");
        }
        for kind in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;charset=UTF-8",
            "application/json-rpc",
            "application/vnd.api+json",
        ] {
            let headers = [("content-type", kind), ("authorization", &authorization)];
            let (status, _, text) = server.exchange("POST", at, &headers, LIST).await;
            assert_eq!((status, text.as_str()), (200, EMPTY_LIST), "{kind} at {at}");
        }
        let (status, _, text) = server.exchange("POST", at, &[("authorization", &authorization)], LIST).await;
        assert_eq!((status, text.as_str()), (200, EMPTY_LIST), "no Content-Type at {at}");
    }
}

#[tokio::test]
async fn other_methods_and_other_paths() {
    let server = TestServer::start().await;
    for (at, _) in PATHS {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let (status, headers, text) = server.exchange(method, at, &[JSON], "").await;
            assert_eq!(status, 405, "{method} {at}");
            assert_eq!(headers["allow"], "POST", "{method} {at}");
            check_refusal(&text, "by POST");
        }
        assert_eq!(server.exchange("HEAD", at, &[], "").await.0, 405, "{at}");
    }
    for at in ["/nowhere", "/rpc//", "/api", "/api/jsonrpc/x", "/RPC", "//", "/docs/"] {
        for method in ["GET", "POST"] {
            let (status, _, text) = server.exchange(method, at, &[JSON], LIST).await;
            assert_eq!(status, 404, "{method} {at}");
            check_refusal(&text, "nothing at this path");
        }
    }
}

/// A person who opens the server's root gets a page; clients get what they got.
#[tokio::test]
async fn a_browser_at_the_root_is_led_to_the_reference() {
    const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    let server = TestServer::start().await;
    for method in ["GET", "HEAD"] {
        let (status, headers, text) = server.exchange(method, "/", &[BROWSER], "").await;
        assert_eq!((status, &headers["location"], &*text), (303, &"docs".parse().unwrap(), ""), "{method}");
        assert_eq!(headers["vary"], "accept");
    }
    let (status, headers, _) = server.exchange("GET", "/docs", &[BROWSER], "").await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/html; charset=utf-8"));
    for accept in ["application/json", "*/*"] {
        let (status, _, text) = server.exchange("GET", "/", &[("accept", accept)], "").await;
        assert_eq!(status, 405, "{accept}");
        check_refusal(&text, "/docs");
    }
    let user = User::demo(&server);
    let headers = [BROWSER, JSON, ("authorization", user.authorization.as_str())];
    let (status, _, text) = server.exchange("POST", "/", &headers, LIST).await;
    assert_eq!((status, &*text), (200, EMPTY_LIST), "a call is a call, whatever it accepts");
    assert_eq!(server.exchange("GET", "/rpc", &[BROWSER], "").await.0, 405);
}

/// Some middleware puts it there.
#[tokio::test]
async fn a_slash_at_the_end_makes_no_difference() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (at, vendor) in [("/rpc/", false), ("/api/jsonrpc/", true), ("/backend/api/jsonrpc/", true)] {
        assert_eq!(user.post(at, LIST).await, EMPTY_LIST, "{at}");
        let error = user.ask(at, "webhook.get", json!([null, 7])).await.unwrap_err();
        assert_eq!(error["code"], if vendor { -32_103 } else { 103 }, "{at}");
        assert_eq!(server.exchange("GET", at, &[], "").await.0, 405, "{at}");
        let headers = [("authorization", user.authorization.as_str())];
        let mut socket = Socket::open(&server.url(), at, &headers).await.unwrap();
        assert_eq!(socket.call("webhook.list", json!([null])).await, Ok(json!([])), "{at}");
    }
}

/// The vendor's own middleware asks so whether there is anybody.
#[tokio::test]
async fn an_empty_body_on_the_vendors_paths_lacks_a_method() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    const NO_METHOD: &str = r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"No method specified."},"id":null}"#;
    const EMPTY: &str = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error","data":{"problem":"The body is empty; a call is a JSON object."}},"id":null}"#;
    for (at, vendor) in PATHS {
        let expected = if vendor { NO_METHOD } else { EMPTY };
        for body in ["", " \r\n", "\u{feff}"] {
            assert_eq!(user.post(at, body).await, expected, "{body:?} at {at}");
        }
        let mut socket = Socket::open(&server.url(), at, &[]).await.unwrap();
        socket.send_text(" ").await;
        assert_eq!(socket.text().await, expected, "{at}");
    }
}

#[tokio::test]
async fn a_fault_is_an_answer_like_any_other() {
    let server = TestServer::start().await;
    for (at, _) in PATHS {
        for body in [LIST, r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#, "{", "[]", "5", ""] {
            let (status, headers, _) = server.exchange("POST", at, &[JSON], body).await;
            assert_eq!(status, 200, "{body} at {at}");
            assert_eq!(headers["content-type"], "application/json", "{body} at {at}");
        }
    }
}

#[tokio::test]
async fn the_specifications_errors_have_its_codes_on_every_path() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (at, _) in PATHS {
        for bad in ["{", "nonsense", "[{]", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"} x"] {
            let mut answer: Value = serde_json::from_str(&user.post(at, bad).await).unwrap();
            let problem = answer["error"]["data"].take();
            assert!(
                problem["problem"].as_str().unwrap().starts_with("The body is no JSON: "),
                "{bad} at {at}: {problem}"
            );
            let error = json!({"code": -32_700, "message": "Parse error", "data": null});
            assert_eq!(answer, json!({"jsonrpc": "2.0", "error": error, "id": null}), "{bad} at {at}");
        }
        for (body, code, id) in [
            (r#"{"jsonrpc":"2.0","id":"a","method":5}"#, -32_600, json!("a")),
            (r#"{"jsonrpc":"1.0","id":7,"method":"webhook.list"}"#, -32_600, json!(7)),
            (r#"{"id":7,"method":"webhook.list"}"#, -32_600, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":"webhook.list","params":"x"}"#, -32_600, json!(7)),
            (r#"{"jsonrpc":"2.0","id":[7],"method":"webhook.list"}"#, -32_600, json!(null)),
            (r#"{"jsonrpc":"2.0","id":7.5,"method":"no.such"}"#, -32_601, json!(7.5)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"no.such"}"#, -32_601, json!(null)),
            (r#"{"jsonrpc":"2.0","id":-7,"method":"webhook.get","params":[null]}"#, -32_602, json!(-7)),
            ("[]", -32_600, json!(null)),
            ("5", -32_600, json!(null)),
        ] {
            let answer: Value = serde_json::from_str(&user.post(at, body).await).unwrap();
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{body} at {at}: {answer}");
        }
    }
}

#[tokio::test]
async fn notifications_run_and_are_answered_by_nothing() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let publish =
        |n: usize| format!(r#"{{"jsonrpc":"2.0","method":"event.publish","params":[null,"a:b",{{"n":{n}}}]}}"#);
    for (n, (at, _)) in PATHS.into_iter().enumerate() {
        assert_eq!(user.post(at, publish(n)).await, "");
        assert_eq!(user.post(at, format!("[{},{}]", publish(n), publish(n))).await, "");
        // Nobody hears of what goes wrong, either.
        for failing in [
            r#"{"jsonrpc":"2.0","method":"no.such"}"#,
            r#"{"jsonrpc":"2.0","method":"event.publish","params":[null,"a:b"]}"#,
            r#"{"jsonrpc":"2.0","method":"call","params":["none","webhook.list"]}"#,
        ] {
            assert_eq!(user.post(at, failing).await, "", "{failing} at {at}");
        }
        assert_eq!(rows(&server, "event"), i64::try_from(3 * (n + 1)).unwrap(), "{at}");
    }
}

#[tokio::test]
async fn a_batch_may_mix_both_shapes() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for ((at, vendor), id) in PATHS.into_iter().zip(1..) {
        let create = json!({"jsonrpc": 2.0, "id": 1, "method": "webhook.create", "params": [null, webhook_data()]});
        let batch = format!(
            r#"[{create},
                {{"jsonrpc":"2.0","id":"two","method":"webhook.update_status","params":[null,{{"webhook_id":{id},"status":0}}]}},
                {{"jsonrpc":"2.0","method":"event.publish","params":[null,"a:b",{{}}]}},
                {{"jsonrpc":2.0,"method":"webhook.delete","params":[null,{id}]}},
                5,
                {{"jsonrpc":2.0,"id":"six","method":"webhook.delete","params":[null,{id}]}},
                {{"jsonrpc":"2.0","id":7,"method":"no.such"}}]"#
        );
        let gone = format!(
            r#"{{"code":{},"message":"Webhook not exists. There is no webhook {id}."}}"#,
            if vendor { -32_103 } else { 103 }
        );
        let expected = [
            r#"{"jsonrpc":2.0,"id":1,"error":null,"result":true}"#.to_owned(),
            r#"{"jsonrpc":"2.0","result":true,"id":"two"}"#.to_owned(),
            r#"{"jsonrpc":2.0,"error":null,"result":true}"#.to_owned(),
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}"#.to_owned(),
            format!(r#"{{"jsonrpc":2.0,"id":"six","error":{gone},"result":null}}"#),
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found","data":{"problem":"There is no method \"no.such\"."}},"id":7}"#.to_owned(),
        ];
        assert_eq!(user.post(at, batch).await, format!("[{}]", expected.join(",")), "{at}");
        assert_eq!(rows(&server, "event"), id, "{at}");
    }
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let server = Start::default().flag("batch_calls_max", "2").flag("multi_calls_max", "2").go().await;
    let user = User::demo(&server);
    let publish = r#"{"jsonrpc":"2.0","id":1,"method":"event.publish","params":[null,"a:b",{}]}"#;
    for (at, _) in PATHS {
        let answer = user.post(at, format!("[{LIST},{LIST}]")).await;
        assert_eq!(answer, format!("[{EMPTY_LIST},{EMPTY_LIST}]"), "{at}");
        let answer: Value =
            serde_json::from_str(&user.post(at, format!("[{publish},{publish},{publish}]")).await).unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32_600), &Value::Null), "{at}: {answer}");
        let call = json!(["event.publish", ["a:b", {}]]);
        let error = user.ask(at, "multiCall", json!([null, [call, call, call]])).await.unwrap_err();
        assert_eq!((&error["code"], &error["data"]["field"]), (&json!(-32_602), &json!("calls")), "{at}: {error}");
    }
    assert_eq!(rows(&server, "event"), 0, "refused as a whole");
}

#[tokio::test]
async fn webhooks_start_as_the_path_has_them() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for (at, vendor) in PATHS {
        let expected = if vendor { ("shipstream", "shipstream") } else { ("envelope", "default") };
        for (method, params) in [
            ("webhook.create", json!([null, webhook_data(), true])),
            ("call", json!([null, "webhook.create", [webhook_data(), true]])),
        ] {
            let webhook = user.ask(at, method, params).await.unwrap();
            assert_eq!((&webhook["format"], &webhook["retry"]), (&json!(expected.0), &json!(expected.1)), "{at}");
        }
        let mut data = webhook_data();
        data["format"] = json!(if vendor { "envelope" } else { "shipstream" });
        let webhook = user.ask(at, "webhook.create", json!([null, data, true])).await.unwrap();
        assert_eq!(webhook["format"], data["format"], "{at}");
    }
}

/// A page of another site, be it under a name that its owner has point here,
/// reaches nothing of a server whose key everybody knows.
#[tokio::test]
async fn in_dev_mode_only_its_own_hosts_are_served() {
    let server = Start::default().flag("public_url", "https://hooks.example.com/").go().await;
    let authorization = basic("demo", DEMO_KEY);
    let own = server.url();
    let port = own.rsplit(':').next().unwrap();
    let foreign = format!("evil.example:{port}");
    let from_foreign = format!("http://{foreign}");
    for (method, at) in [
        ("POST", "/"),
        ("POST", "/api/jsonrpc"),
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/openrpc.json"),
        ("GET", "/openapi/babel.json"),
        ("GET", "/v1/webhooks/subscriptions"),
        ("GET", "/nothing"),
    ] {
        for headers in [
            &[("host", foreign.as_str())][..],
            &[("host", foreign.as_str()), ("origin", from_foreign.as_str())],
            &[("origin", from_foreign.as_str())],
            &[("origin", "null")],
        ] {
            let headers = [headers, &[JSON, ("authorization", authorization.as_str())]].concat();
            let body = if method == "POST" { LIST } else { "" };
            let (status, _, text) = server.exchange(method, at, &headers, body).await;
            assert!(status == 421 && text.contains("public_url"), "{method} {at} {headers:?}: {status} {text}");
        }
    }
    for host in [format!("localhost:{port}"), format!("[::1]:{port}"), "hooks.example.com".to_owned()] {
        let origin = format!("https://{host}");
        let headers = [JSON, ("host", host.as_str()), ("origin", &origin), ("authorization", &authorization)];
        let (status, _, text) = server.exchange("POST", "/", &headers, LIST).await;
        assert_eq!((status, text.as_str()), (200, EMPTY_LIST), "{host}");
    }

    // Elsewhere, names are whatever leads there.
    let server = Start::default().strict().go().await;
    let (status, _, _) = server.exchange("GET", "/docs", &[("host", "hooks.example.org")], "").await;
    assert_eq!(status, 200);
}

/// A browser sends that to anywhere, without asking first.
#[tokio::test]
async fn a_page_must_say_what_its_body_is() {
    let server = TestServer::start().await;
    let (origin, authorization) = (server.url(), basic("demo", DEMO_KEY));
    let headers = [("origin", origin.as_str()), ("authorization", authorization.as_str())];
    for at in ["/", "/rpc", "/api/jsonrpc", "/v1/webhooks/subscriptions"] {
        let (status, _, text) = server.exchange("POST", at, &headers, LIST).await;
        assert!(status == 415 && text.contains("Content-Type"), "{at}: {status} {text}");
    }
    let typed = [&headers[..], &[JSON]].concat();
    let (status, _, text) = server.exchange("POST", "/", &typed, LIST).await;
    assert_eq!((status, text.as_str()), (200, EMPTY_LIST));
}
