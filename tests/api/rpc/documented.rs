//! The requests that ShipStream's documentation of webhooks prints get the
//! answers that it prints. The texts are the vendor's, to the byte; only session
//! and ids are replaced.

use serde_json::{Value, json};

use super::{ALL, PATHS, code_on};
use crate::common::Start;

const SESSION: &str = "be1c13ed4e03f0ed7f1e4053dfff9658";

const LIST: &str = r#"{
    "jsonrpc" : 2.0,
    "id" : 1234,
    "method" : "call",
    "params" : [
        "be1c13ed4e03f0ed7f1e4053dfff9658",
        "webhook.list",
        []
    ]
}"#;
const LISTED: &str = r#"{
    "jsonrpc" : 2.0,
    "id" : 1234,
    "error" : null,
    "result" : [
        {
            "webhook_id" : 1,
            "is_active" : 1,
            "topics" : "order:*",
            "url" : "http://example.com",
            "extra_headers" : "",
            "secret_key" : "2RUJ8NXLnLRrAj3"
        }
    ]
}"#;
const CREATE: &str = r#"{
    "jsonrpc" : 2.0,
    "id" : 1234,
    "method" : "call",
    "params" : [
        "be1c13ed4e03f0ed7f1e4053dfff9658",
        "webhook.create",
        [
            {
                "is_active" : 1,
                "topics" : "order:*",
                "url" : "http://example.com",
                "extra_headers" : "",
                "secret_key" : "2RUJ8NXLnLRrAj3"
            }
        ]
    ]
}"#;
const UPDATE_STATUS: &str = r#"{
    "jsonrpc" : 2.0,
    "id" : 1234,
    "method" : "call",
    "params" : [
        "be1c13ed4e03f0ed7f1e4053dfff9658",
        "webhook.update_status",
        [
            {
                "status" : 1
            }
        ]
    ]
}"#;
const DELETE: &str = r#"{
    "jsonrpc" : 2.0,
    "id" : 1234,
    "method" : "call",
    "params" : [
        "be1c13ed4e03f0ed7f1e4053dfff9658",
        "webhook.delete",
        [
            123
        ]
    ]
}"#;
/// The same for create, update_status and delete.
const DONE: &str = r#"{
    "jsonrpc" : 2.0,
    "error" : null,
    "result" : true
}"#;

/// The documented answer, with the id of the request where its sample left it
/// out, and the documented property that its sample of a webhook lacks.
fn expected(sample: &str, webhook_id: i64) -> Value {
    let mut answer: Value = serde_json::from_str(sample).unwrap();
    answer["id"] = json!(1234);
    for item in answer["result"].as_array_mut().into_iter().flatten() {
        item["webhook_id"] = webhook_id.into();
        item["increment_id"] = 0.into();
    }
    answer
}

/// Like `expected`, and in the documented raw shape.
fn check(text: &str, sample: &str, webhook_id: i64) {
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected(sample, webhook_id), "{text}");
    assert!(text.starts_with(r#"{"jsonrpc":2.0,"#), "{text}");
    assert!(text.contains(r#","error":null,"result":"#), "{text}");
}

#[tokio::test]
async fn documented_requests_get_the_documented_answers_on_every_path() {
    let server = Start::default().strict().go().await;
    let key = server.user("sample", "acme", ALL);
    let session = server.login_as("sample", &key).await;
    for ((at, _), webhook_id) in PATHS.into_iter().zip(1..) {
        let ask = async |sample: &str| {
            let (status, text) = server.post(at, &[], sample.replace(SESSION, &session)).await;
            assert_eq!(status, 200, "{at}: {text}");
            text
        };
        check(&ask(CREATE).await, DONE, 0);
        let listed = ask(LIST).await;
        check(&listed, LISTED, webhook_id);
        // In this order, and nothing else: clients compare and display what they get.
        let item = format!(
            r#""result":[{{"webhook_id":{webhook_id},"increment_id":0,"is_active":1,"topics":"order:*","url":"http://example.com","extra_headers":"","secret_key":"2RUJ8NXLnLRrAj3"}}]"#
        );
        assert!(listed.contains(&item), "{at}: {listed}");
        check(&ask(UPDATE_STATUS).await, DONE, 0);
        check(&ask(LIST).await, LISTED, webhook_id);
        check(&ask(&DELETE.replace("123\n", &format!("{webhook_id}\n"))).await, DONE, 0);
        assert!(ask(LIST).await.ends_with(r#""error":null,"result":[]}"#), "{at}");
    }
}

#[tokio::test]
async fn its_requests_that_fail_are_answered_in_its_shape() {
    let server = Start::default().strict().go().await;
    let key = server.user("sample", "acme", ALL);
    let session = server.login_as("sample", &key).await;
    for (at, vendor) in PATHS {
        let (status, text) = server.post(at, &[], DELETE.replace(SESSION, &session)).await;
        let expected = format!(
            r#"{{"jsonrpc":2.0,"id":1234,"error":{{"code":{},"message":"Webhook not exists. There is no webhook 123."}},"result":null}}"#,
            code_on(vendor, 103),
        );
        assert_eq!((status, text), (200, expected), "{at}");

        // The documented session key, which this server has not given out.
        let (status, text) = server.post(at, &[], LIST.to_owned()).await;
        let expected = format!(
            r#"{{"jsonrpc":2.0,"id":1234,"error":{{"code":{},"message":"Session expired. Try to relogin."}},"result":null}}"#,
            code_on(vendor, 5),
        );
        assert_eq!((status, text), (200, expected), "{at}");
    }
}

#[tokio::test]
async fn a_request_with_the_version_as_text_is_answered_by_the_specification() {
    let server = Start::default().strict().go().await;
    let key = server.user("sample", "acme", ALL);
    let session = server.login_as("sample", &key).await;
    for (at, _) in PATHS {
        let request = LIST.replace(SESSION, &session).replace("2.0", "\"2.0\"");
        let (_, text) = server.post(at, &[], request.clone()).await;
        assert_eq!(text, r#"{"jsonrpc":"2.0","result":[],"id":1234}"#, "{at}");
        let (_, text) = server.post(at, &[], request.replace("1234", "\"1234\"")).await;
        assert_eq!(text, r#"{"jsonrpc":"2.0","result":[],"id":"1234"}"#, "{at}");
        // As some PHP and JavaScript clients write the number.
        for number in ["2", "2.00", "2e0"] {
            let (_, text) = server.post(at, &[], request.replace("\"2.0\"", number)).await;
            assert_eq!(text, r#"{"jsonrpc":2.0,"id":1234,"error":null,"result":[]}"#, "{at} {number}");
        }
    }
}
