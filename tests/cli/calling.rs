//! Calling a server, and watching what it sends, from the command line.

use super::*;

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    stdout(&run(folder.path(), &["user", "create", "ann", "--merchant", "acme"]));
    for args in [
        &["openrpc"][..],
        &["user", "list"],
        &["topic", "list", "--merchant", "acme"],
        &["topic", "built-in"],
        &["call", "--help"],
        &["call", "webhook.list", "--help"],
        &["docs", "--out", "docs"],
        &["sdk", "python", "--out", "sdk"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = tallyhook(folder.path(), args).stdout(writer).output().unwrap();
        assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""), "{args:?}");
    }
    // What is written besides is all there.
    assert!(folder.path().join("docs/openrpc.json").exists() && folder.path().join("sdk/pyproject.toml").exists());
}

#[test]
fn a_receiver_without_a_secret_makes_one_and_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev"]);
    let mut receiver = Running::start(folder.path(), &["listen", "--port", "0", "--once"], "tallyhook receiving on ");
    let line = receiver.line();
    let secret = line.strip_prefix("secret_key ").unwrap_or_else(|| panic!("{line}"));
    assert!(secret.starts_with("whsec_"), "{line}");
    let webhook = json!({"url": receiver.url, "topics": "*", "secret_key": secret}).to_string();
    stdout(&server.call(&["webhook.create", &webhook]));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    let line = receiver.line();
    assert!(line.contains("signature ok"), "{line}");
    assert_eq!(receiver.code(), Some(0));
    let hint = receiver.said();
    assert!(hint.contains("webhook.create") && hint.contains(secret), "{hint}");
}

#[test]
fn what_was_mistyped_is_told_with_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev"]);
    for (args, code, told) in [
        (
            &["webhook.lst"][..],
            1,
            "fault 3: Invalid api path. There is no method \"webhook.lst\". Did you mean webhook.list?",
        ),
        (&["webhook.show"], 1, "There are webhook.list, webhook.create"),
        (&["shop.list"], 1, "\"resources\" lists all there are."),
        (&["resorces"], 1, "There is no method \"resorces\". Did you mean resources?"),
        (&["resourceFaults", "webhok"], 1, "Did you mean webhook?"),
        (&["event.publish"], 1, "exception.log\". topic is missing; event.publish takes (topic, message, options?)."),
        (
            &["event.publish", "order:created", "{\"a\": }"],
            2,
            "argument 2: it begins like JSON and is none: expected value at line 1 column 7",
        ),
        (&["webhook.lst", "--help"], 2, "there is no method \"webhook.lst\"; did you mean webhook.list?"),
    ] {
        let refused = server.call(args);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(code), 0), "{args:?}");
        assert!(stderr(&refused).contains(told), "{args:?}: {}", stderr(&refused));
    }
    // What others wrote can't command the terminal.
    let hidden = server.call(&["topic.register", "order:created", "{\"colour\u{202e}\u{200b}\": 1}"]);
    assert!(stderr(&hidden).is_ascii() && stderr(&hidden).contains("\\u202e"), "{}", stderr(&hidden));
}

#[test]
fn arguments_are_read_from_files_and_from_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let server = Running::serve(folder, &["--dev"]);
    std::fs::write(folder.join("order.json"), "\u{feff}{\"order_id\": 7}\n").unwrap();
    let publish = |message: &str, typed: &str| -> Value {
        let mut call = tallyhook(folder, &["call", "event.publish", "order:created", message]);
        let call = call.env("TALLYHOOK_URL", &server.url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut call = call.spawn().unwrap();
        call.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        serde_json::from_str(&stdout(&call.wait_with_output().unwrap())).unwrap()
    };
    for (message, typed, order) in [("@order.json", "", 7), ("-", "{\"order_id\": 8}", 8)] {
        let event = publish(message, typed)["event_id"].to_string();
        let event: Value = serde_json::from_str(&stdout(&server.call(&["event.get", &event]))).unwrap();
        assert_eq!(event["message"], json!({"order_id": order}));
    }
}

#[test]
fn a_method_has_help_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let help = stdout(&run(folder.path(), &["call", "event.publish", "--help"]));
    for part in [
        "Usage: tallyhook call event.publish TOPIC MESSAGE [OPTIONS]",
        "  topic: string, required",
        "    options.idempotency_key: string or null, 1 to 255 characters",
        "call event.publish order:created '{\"order_id\":7}' '{",
        "108  Idempotency key already used",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    // Members of what has a name are told, too.
    let help = stdout(&run(folder.path(), &["call", "webhook.create", "-h"]));
    assert!(help.contains("webhook.topics: ") && help.contains("webhook.secret_key: "), "{help}");
}

#[test]
fn catalogues_are_loaded_and_printed_beside_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let merchant = ["--merchant", "demo"];
    let store = store_of(folder);
    let topic = |args: &[&str]| run(folder, &[&["topic"], args, &merchant, &["--store", &store]].concat());
    let server = Running::serve(folder, &["--dev", "--store", &store]);
    let built_in: Value = serde_json::from_str(&stdout(&run(folder, &["topic", "built-in"]))).unwrap();
    let built_in = built_in.as_array().unwrap();
    // It is there from the start.
    let count: Value = serde_json::from_str(&stdout(&server.call(&["topic.count"]))).unwrap();
    assert_eq!(count, built_in.len());
    let printed: Value = serde_json::from_str(&stdout(&topic(&["list"]))).unwrap();
    assert!(printed.as_array().unwrap().iter().any(|entry| entry["topic"] == "inventory:adjustment"));

    let file = folder.join("topics.json");
    let schema = json!({"required": ["order_id"]});
    let own = json!([{"topic": "order:created", "message_schema": schema}, {"topic": "own:topic"}, built_in[1]]);
    std::fs::write(&file, own.to_string()).unwrap();
    let loaded = topic(&["load", "topics.json"]);
    assert!(loaded.status.success());
    assert!(stderr(&loaded).contains("1 more topics, 1 changed, 1 were so already"), "{}", stderr(&loaded));
    // The running server goes by it at once.
    let refused = server.call(&["event.publish", "order:created", "{}"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("\"order_id\" is a required property"), "{}", stderr(&refused));

    // What was printed can be loaded, and changes nothing.
    std::fs::write(&file, stdout(&topic(&["list"]))).unwrap();
    let again = stderr(&topic(&["load", "topics.json"]));
    assert!(again.contains(&format!("0 more topics, 0 changed, {} were so already", built_in.len() + 1)), "{again}");

    // Numbers may change places, and those that are said come before those that are given.
    let swapped = json!([{"topic": "late:topic"}, {"topic": "own:topic", "event_type": 1}, {"topic": "order:created", "event_type": 68}]);
    std::fs::write(&file, swapped.to_string()).unwrap();
    let loaded = topic(&["load", "topics.json"]);
    assert!(stderr(&loaded).contains("1 more topics, 2 changed"), "{}", stderr(&loaded));
    let back = json!([{"topic": "own:topic", "event_type": 68}, {"topic": "order:created", "event_type": 1}]);
    std::fs::write(&file, back.to_string()).unwrap();
    assert!(topic(&["load", "topics.json"]).status.success());
    // All or nothing, and what was wrong is said.
    std::fs::write(&file, r#"[{"topic": "new:topic"}, {"topic": "other:topic", "event_type": 1}]"#).unwrap();
    let refused = topic(&["load", "topics.json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("other:topic: event_type: 1 is that of order:created"), "{}", stderr(&refused));
    let count: Value = serde_json::from_str(&stdout(&server.call(&["topic.count"]))).unwrap();
    assert_eq!(count, built_in.len() + 2);
    std::fs::write(&file, r#"[{"topic": "order"}]"#).unwrap();
    assert!(stderr(&topic(&["load", "topics.json"])).contains("topics.json: topic 1 of the array"));
    let nobody = run(folder, &["topic", "list", "--merchant", "nobody", "--store", &store]);
    assert!(stderr(&nobody).contains("there is no merchant nobody"), "{}", stderr(&nobody));
}

#[test]
fn a_dev_server_is_called_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev"]);
    let mut receiver = Running::start(
        folder.path(),
        &["listen", "--port", "0", "--secret", "my-first-secret", "--count", "2"],
        "tallyhook receiving on ",
    );
    let webhook = json!({"url": receiver.url, "topics": "*", "secret_key": "my-first-secret"}).to_string();
    let made: Value = serde_json::from_str(&stdout(&server.call(&["webhook.create", &webhook, "true"]))).unwrap();
    assert_eq!(made["webhook_id"], 1);
    let receipt = stdout(&server.call(&["event.publish", "order:created", "{\"order_id\": 7}"]));
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["deliveries"], json!([{"webhook_id": 1, "increment_id": 1}]));
    let line = receiver.line();
    assert!(line.contains("webhook 1") && line.contains("number 1") && line.contains("order:created"), "{line}");
    assert!(line.contains("signature ok"), "{line}");
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    assert!(receiver.line().contains("number 2"));
    assert_eq!(receiver.code(), Some(0), "two were asked for");

    let fault = server.call(&["webhook.delete", "99"]);
    assert_eq!((fault.status.code(), fault.stdout.len()), (Some(1), 0));
    assert!(stderr(&fault).contains("fault 103: Webhook not exists."), "{}", stderr(&fault));
    if !is_postgres() {
        assert!(folder.path().join("tallyhook-dev.db").exists(), "the store of dev mode is its own");
    }
}

#[test]
fn a_wrong_signature_is_turned_away_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev"]);
    let mut receiver = Running::start(
        folder.path(),
        &["listen", "--port", "0", "--secret", "another-secret"],
        "tallyhook receiving on ",
    );
    let webhook = json!({"url": receiver.url, "topics": "*", "secret_key": "my-first-secret", "retry": []}).to_string();
    stdout(&server.call(&["webhook.create", &webhook]));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    let line = receiver.line();
    assert!(!line.contains("signature ok") && line.contains("401"), "{line}");
}

#[test]
fn webhooks_and_servers_are_paused_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev", "--paused"]);
    let json = |output: Output| -> Value { serde_json::from_str(&stdout(&output)).unwrap() };
    let webhook = r#"{"url": "http://127.0.0.1:9/", "topics": "*", "retry": []}"#;
    stdout(&server.call(&["webhook.create", webhook]));
    assert_eq!(json(server.call(&["webhook.pause", "1"]))["is_paused"], 1);
    assert_eq!(json(server.call(&["webhook.resume", "1"]))["is_paused"], 0);
    let receipt = json(server.call(&["event.publish", "order:created", "{}"]));
    assert_eq!(receipt["deliveries"][0]["increment_id"], 1, "it is numbered");
    let told = stderr(&server.call(&["webhook.test", "1"]));
    assert!(told.contains("started with --paused"), "{told}");
    let listed = json(server.call(&["delivery.list", "1"]));
    assert_eq!((&listed[0]["state"], &listed[0]["attempts"]), (&json!("pending"), &json!(0)));
}
