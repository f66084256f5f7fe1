//! In which order `call` checks, and what it takes for arguments.

use serde_json::{Value, json};

use super::{PATHS, User, code_on, id_of, webhook_data, webhook_with};
use crate::common::{Start, TestServer};

#[tokio::test]
async fn session_then_path_then_permission_then_parameters_then_values() {
    let server = TestServer::start().await;
    let nobody = User::new(&server, "nobody", "acme", "");
    let user = User::demo(&server);
    let bad = json!([webhook_with(json!({"url": "nowhere"}))]);
    // Each call has every mistake that a later check would find.
    for (path, args, without_session, without_permission, with_both) in [
        ("no.such", json!([]), 5, 3, 3),
        ("webhook", json!([]), 5, 4, 4),
        ("login", json!([]), 5, 4, 4),
        ("webhook.create", json!([]), 5, 2, 6),
        ("webhook.create", bad, 5, 2, 101),
        ("webhook.get", json!([]), 5, 2, 6),
        ("webhook.get", json!([999]), 5, 2, 103),
        ("event.publish", json!([]), 5, 2, 6),
        ("event.publish", json!(["nothing", 5]), 5, 2, 107),
    ] {
        for (at, vendor) in PATHS {
            let params = json!(["0123456789abcdef0123456789abcdef", path, args]);
            let error = server.rpc_at(at, &[], "call", params).await.unwrap_err();
            assert_eq!(error["code"], code_on(vendor, without_session), "{path} {args} at {at}: {error}");
        }
        nobody.refused(path, args.clone(), without_permission).await;
        user.refused(path, args, with_both).await;
    }
}

#[tokio::test]
async fn a_session_that_is_given_counts_before_the_header() {
    let server = TestServer::start().await;
    let nobody = User::new(&server, "nobody", "acme", "");
    let user = User::demo(&server);
    let session = server.login().await;
    for (method, params) in [("call", json!([session, "webhook.list"])), ("webhook.list", json!([session]))] {
        assert_eq!(nobody.ask("/", method, params).await.unwrap(), json!([]), "{method}");
    }
    for (method, params) in [("call", json!(["none", "webhook.list"])), ("webhook.list", json!(["none"]))] {
        assert_eq!(user.ask("/", method, params).await.unwrap_err()["code"], 5, "{method}");
    }
}

#[tokio::test]
async fn args_may_be_left_out_or_be_the_sole_argument() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let webhook = user.webhook(webhook_data()).await;
    let id = id_of(&webhook);
    for params in [
        json!([null, "webhook.list"]),
        json!([null, "webhook.list", null]),
        json!([null, "webhook.list", []]),
        json!([null, "webhook.list", {}]),
        json!({"path": "webhook.list"}),
        json!({"session": null, "path": "webhook.list", "args": []}),
    ] {
        let list = user.ask("/", "call", params.clone()).await.unwrap_or_else(|error| panic!("{params}: {error}"));
        assert_eq!(list[0]["webhook_id"], id, "{params}");
    }
    for args in [json!(id), json!(id.to_string()), json!([id]), json!([id, null])] {
        assert_eq!(user.done("webhook.get", args).await, webhook);
    }
    // An object is one argument, and not arguments by name.
    user.refused_field("webhook.get", json!({"webhook_id": id}), 103, "webhook_id").await;
    assert_eq!(user.done("webhook.create", webhook_data()).await, true);
}

#[tokio::test]
async fn surplus_arguments_are_refused_unless_they_are_nothing() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    for nothing in [json!(null), json!([]), json!({}), json!("")] {
        assert_eq!(user.done("webhook.list", json!([nothing, nothing])).await, json!([]));
    }
    let error = user.refused("webhook.list", json!([{}, 7]), 111).await;
    let expected = "Invalid selection. 7 is one parameter too many; webhook.list takes (options?).";
    assert_eq!(error["message"], expected);
    user.refused("event.publish", json!(["order:created", {}, {}, "more"]), 107).await;
}

#[tokio::test]
async fn multi_call_runs_in_order_and_breaks_where_asked() {
    let server = TestServer::start().await;
    let user = User::demo(&server);
    let calls = json!([
        ["webhook.create", [webhook_data(), true]],
        ["no.such", []],
        ["webhook.list"],
        "webhook.list",
        ["webhook.get", [1]],
    ]);
    let run = async |options: Value| -> Vec<Value> {
        let results = user.ask("/", "multiCall", json!([null, calls, options])).await.unwrap();
        results.as_array().unwrap().clone()
    };
    let problem = "There is no method \"no.such\". \"resources\" lists all there are.";
    let fault = json!({
        "isFault": true, "faultCode": 3, "faultMessage": "Invalid api path.", "faultData": {"problem": problem},
    });
    for (options, count) in [
        (json!(null), 5),
        (json!([]), 5),
        (json!({}), 5),
        (json!({"break": 0}), 5),
        (json!({"break": false}), 5),
        (json!({"break": 1}), 2),
        (json!({"break": true}), 2),
        (json!({"break": "1"}), 2),
    ] {
        let results = run(options.clone()).await;
        assert_eq!(results.len(), count, "{options}");
        assert_eq!(results[0]["topics"], "order:*", "{options}");
        assert_eq!(results[1], fault, "{options}");
        if count == 5 {
            assert_eq!(results[2], results[3], "{options}");
            assert_eq!(results[4]["webhook_id"], 1, "{options}");
        }
    }
}

#[tokio::test]
async fn a_multi_call_stops_when_its_results_fill_the_response() {
    let server = Start::default().flag("response_bytes_max", "2000").go().await;
    let user = User::demo(&server);
    for _ in 0..5 {
        user.webhook(webhook_data()).await;
    }
    let list = json!(["webhook.list", []]);
    let results = user.ask("/", "multiCall", json!([null, vec![list; 6]])).await.unwrap();
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), 6);
    assert!(results[0].is_array(), "{}", results[0]);
    assert_eq!((&results[5]["isFault"], &results[5]["faultCode"]), (&json!(true), &json!(0)));
    assert!(results[5]["faultMessage"].as_str().unwrap().contains("2000 bytes"));
}
