//! What a server tells its log, as an operator who collects it gets it.

use super::*;

fn serve(folder: &Path, more: &[&str]) -> Running {
    let own = ["serve", "--listen", "127.0.0.1:0", "--dev", "--grace-ms", "5000"];
    Running::start(folder, &[&own[..], more].concat(), "tallyhook listening on ")
}

/// Every line of the log, once the server has ended.
fn lines(server: &mut Running) -> Vec<Value> {
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
    let said = server.said();
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|cause| panic!("{cause}: {line}"))).collect()
}

/// What was said of that, without what differs from run to run.
fn told(lines: &[Value], message: &str) -> Vec<Value> {
    let mut found: Vec<_> = lines.iter().filter(|line| line["message"] == message).cloned().collect();
    for line in &mut found {
        let line = line.as_object_mut().unwrap();
        for name in ["timestamp", "target", "message"] {
            assert!(line.remove(name).is_some_and(|value| value.is_string()), "{line:?} has no {name}");
        }
        line.remove("span");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_for_machines_say_what_became_of_a_webhook_and_who_did_what() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(folder.path(), &["--log-format", "json", "--calls-burst-max", "1000"]);
    let url = server.url.clone();
    let client = common::http_client();
    let call = async |key: &str, method: &str, params: Value| -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (_, answer) = common::post(&client, &url, &[("authorization", &basic("demo", key))], body).await;
        serde_json::from_str(&answer).unwrap()
    };
    let done = async |method: &str, params: Value| call("demo-key", method, params).await["result"].clone();
    let until = async |method: &str, params: Value, see: &dyn Fn(&Value) -> bool| {
        let look = async {
            while !see(&done(method, params.clone()).await) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(common::PATIENCE, look).await.expect("it comes to be");
    };
    let attempts = |count: usize| move |found: &Value| found.as_array().is_some_and(|all| all.len() >= count);

    // The first six fail, then all is well; what is sent once more at once gets through.
    let failing = Receiver::start(|place, _| Reply::status(if place < 6 { 500 } else { 204 })).await;
    let leaving = Receiver::start(|place, _| Reply::status(if place == 0 { 410 } else { 204 })).await;
    let refusing = Receiver::start(|_, _| Reply::status(400)).await;
    let secret = "a-secret-that-nobody-logs";
    let webhook = async |data: Value| done("webhook.create", json!([null, data, true])).await["webhook_id"].clone();
    let first = webhook(json!({"url": failing.url(), "topics": "order:*", "secret_key": secret})).await;
    let gone = webhook(json!({"url": leaving.url(), "topics": "item:*"})).await;
    let once = webhook(json!({"url": refusing.url(), "topics": "cart:*", "retry": []})).await;
    for number in 1..=6 {
        done("event.publish", json!([null, "order:created", {"secret": "in a body"}])).await;
        until("delivery.attempts", json!([null, first, number]), &attempts(1)).await;
        if number >= 5 {
            break;
        }
    }
    done("delivery.retry", json!([null, first, 1])).await;
    until("delivery.attempts", json!([null, first, 1]), &attempts(2)).await;
    done("delivery.retry", json!([null, first, 1])).await;
    until("delivery.get", json!([null, first, 1]), &|found| found["state"] == "delivered").await;
    done("event.publish", json!([null, "item:created", {}])).await;
    until("delivery.attempts", json!([null, gone, 1]), &attempts(1)).await;
    done("webhook.enable", json!([null, gone])).await;
    until("delivery.get", json!([null, gone, 1]), &|found| found["state"] == "delivered").await;
    done("event.publish", json!([null, "cart:created", {}])).await;
    until("delivery.get", json!([null, once, 1]), &|found| found["state"] == "abandoned").await;
    done("webhook.pause", json!([null, first])).await;
    done("webhook.delete", json!([null, once])).await;
    for key in ["wrong-key", "another-wrong-key"] {
        assert!(call(key, "webhook.list", json!([])).await["error"]["code"] == 2);
    }

    let lines = lines(&mut server);
    let all = serde_json::to_string(&lines).unwrap();
    for hidden in [secret, "in a body", "demo-key", "wrong-key"] {
        assert!(!all.contains(hidden), "{hidden} is logged: {all}");
    }
    let ready = told(&lines, "the server is ready");
    assert_eq!((&ready[0]["version"], ready.len()), (&json!(env!("CARGO_PKG_VERSION")), 1), "{ready:?}");
    assert_eq!((&ready[0]["url"], &ready[0]["ops_url"]), (&json!(url), &json!(url)));
    let changed = ready[0]["changed"].as_str().unwrap();
    assert!(changed.contains("log_format=json") && changed.contains("calls_burst_max=1000"), "{changed}");
    assert!(!changed.contains("sessions_max"), "{changed}");

    let id = |webhook: &Value| json!(webhook.to_string());
    let of = |message: &str, webhook: &Value| -> Vec<Value> {
        told(&lines, message).into_iter().filter(|line| line["webhook_id"] == id(webhook)).collect()
    };
    let by_demo =
        |line: &Value| (line["merchant"].clone(), line["peer"].clone()) == (json!("demo"), json!("127.0.0.1"));
    for (message, webhook) in [
        ("a webhook was made", &first),
        ("a webhook was made", &gone),
        ("a webhook was enabled", &gone),
        ("a webhook was paused", &first),
        ("a webhook was deleted", &once),
    ] {
        let found = of(message, webhook);
        assert!(found.len() == 1 && by_demo(&found[0]) && found[0]["level"] == "INFO", "{message}: {found:?}");
    }
    let fails =
        json!({"level": "WARN", "webhook_id": id(&first), "increment_id": "1", "error": "status", "status": 500});
    assert_eq!(of("a receiver begins to fail", &first), [fails]);
    let opens = of("a breaker opens: the receiver is only probed from now on", &first);
    assert_eq!((opens.len(), &opens[0]["level"]), (1, &json!("WARN")), "{opens:?}");
    assert_eq!(of("a breaker closes: the receiver takes deliveries again", &first).len(), 1);
    let abandoned =
        json!({"level": "WARN", "webhook_id": id(&once), "increment_id": "1", "error": "status", "status": 400});
    assert_eq!(of("a delivery is abandoned", &once), [abandoned]);
    let disabled = json!({"level": "WARN", "webhook_id": id(&gone), "reason": "gone"});
    assert_eq!(of("a webhook is disabled: nothing is sent until it is enabled", &gone), [disabled]);
    assert_eq!(of("a webhook that was disabled has recovered", &gone).len(), 1);
    let logins = told(&lines, "a login failed");
    let login = json!({"level": "WARN", "user": "demo", "peer": "127.0.0.1", "withheld": 0});
    assert_eq!(logins, [login.clone(), login]);
    assert_eq!(told(&lines, "what had ended long ago was pruned").len(), 1, "{all}");
}

#[test]
fn lines_for_people_are_no_json_and_say_who_serves_what() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(folder.path(), &["--node-name", "here"]);
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
    let said = server.said();
    let ready = said.lines().find(|line| line.contains("the server is ready")).unwrap_or_else(|| panic!("{said}"));
    assert!(ready.contains("INFO tallyhook") && ready.contains("node_name=here") && !ready.contains('{'), "{ready}");
    assert!(said.contains("How to call it"), "{said}");
    let refused = tallyhook(folder.path(), &["serve", "--log-format", "xml"]).output().unwrap();
    assert!(stderr(&refused).contains("\"xml\" is no format of the log; write text or json"), "{}", stderr(&refused));
}
