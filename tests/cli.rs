//! The program as a person runs it: its own process, its own output, signals.

mod common;
mod tools;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use common::{Receiver, Reply, basic};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyhook");

fn tallyhook(folder: &Path, args: &[&str]) -> Command {
    let mut command = tools::command(PROGRAM);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    tallyhook(folder, args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `serve` or `listen`, whose stdout is read line by line.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    url: String,
}

impl Running {
    fn start(folder: &Path, args: &[&str], announces: &str) -> Self {
        let mut child = tallyhook(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let Some(url) = line.trim().strip_prefix(announces) else {
            child.kill().unwrap();
            let mut problem = String::new();
            child.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
            panic!("{line:?} {problem}");
        };
        Self { url: url.to_owned(), child, lines }
    }

    fn serve(folder: &Path, args: &[&str]) -> Self {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--log", "warn"], args].concat();
        Self::start(folder, &args, "tallyhook listening on ")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -$0 $1", name, &id]).status().unwrap().success());
    }

    /// All that went to stderr, once it has ended.
    fn said(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// `tallyhook call` against this server.
    fn call(&self, args: &[&str]) -> Output {
        let folder = std::env::temp_dir();
        tallyhook(&folder, &[&["call"], args].concat()).env("TALLYHOOK_URL", &self.url).output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn users_are_made_listed_and_revoked_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &[]);
    let made = stdout(&run(folder.path(), &["user", "create", "ann", "--merchant", "acme"]));
    let key = made.strip_suffix('\n').unwrap();
    assert!(key.starts_with("tk_") && key.len() == 67, "the key, alone: {made:?}");
    let again = run(folder.path(), &["user", "create", "ann", "--merchant", "acme"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("ann"), "{}", stderr(&again));
    let reader = ["user", "create", "bob", "--merchant", "acme", "--permissions", "webhook_read"];
    stdout(&run(folder.path(), &reader));

    let list = stdout(&run(folder.path(), &["user", "list"]));
    assert!(list.starts_with("ID  NAME  MERCHANT") && list.contains("\n1   ann   acme"), "{list}");
    let line = |name: &str| list.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{list}"));
    assert!(line("ann").contains("acme") && line("ann").contains("webhook_read,webhook_write,event_write"), "{list}");
    assert!(line("bob").contains("webhook_read") && !line("bob").contains("webhook_write"), "{list}");
    assert!(!list.contains(key), "keys are shown once");

    let as_ann = ["webhook.list", "--user", "ann", "--key", key];
    assert_eq!(stdout(&server.call(&as_ann)).trim(), "[]");
    stdout(&run(folder.path(), &["user", "disable", "ann"]));
    let refused = server.call(&as_ann);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("fault 119: The user is disabled."), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("tallyhook user enable ann"), "{}", stderr(&refused));
    stdout(&run(folder.path(), &["user", "enable", "ann"]));
    assert_eq!(stdout(&server.call(&as_ann)).trim(), "[]");

    stdout(&run(folder.path(), &["user", "revoke", "ann"]));
    let refused = server.call(&as_ann);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("fault 2: Access denied."), "{}", stderr(&refused));
    let too_late = run(folder.path(), &["user", "enable", "ann"]);
    assert_eq!(too_late.status.code(), Some(1));
    assert!(stderr(&too_late).contains("ann was revoked, which is for ever"), "{}", stderr(&too_late));
    for verb in ["revoke", "disable", "enable"] {
        let unknown = run(folder.path(), &["user", verb, "eve"]);
        assert_eq!(unknown.status.code(), Some(1));
        assert!(stderr(&unknown).contains("there is no user eve"), "{}", stderr(&unknown));
    }

    let everything: Vec<u8> = std::fs::read_dir(folder.path())
        .unwrap()
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!everything.windows(key.len()).any(|window| window == key.as_bytes()), "only the hash is stored");
}

#[test]
fn a_profile_is_made_with_its_user_and_changed_later() {
    let folder = tempfile::tempdir().unwrap();
    let user = |args: &[&str]| run(folder.path(), &[&["user"], args].concat());
    let shop = ["create", "shop", "--merchant", "acme", "--application-name", "The shop", "--developer-name", "Ann"];
    assert!(stdout(&user(&shop)).starts_with("tk_"));
    let bare = ["create", "bare", "--merchant", "acme"];
    stdout(&user(&bare));
    let known = "application_name: The shop\ndeveloper_name: Ann\n";
    assert_eq!(stdout(&user(&["profile", "shop"])), known);
    let nothing = user(&["profile", "bare"]);
    assert_eq!((stdout(&nothing).as_str(), stdout(&user(&["profile", "bare", "--json"])).trim()), ("", "{}"));
    assert_eq!(stderr(&nothing), "tallyhook: nothing is known of the application of bare.\n");
    let shop: Value = serde_json::from_str(&stdout(&user(&["profile", "shop", "--json"]))).unwrap();
    assert_eq!(shop, json!({"application_name": "The shop", "developer_name": "Ann"}));

    let changes = ["profile", "shop", "--application-name", "Shop 2", "--developer-website", "https://example.com/ann"];
    let known = "application_name: Shop 2\ndeveloper_name: Ann\ndeveloper_website: https://example.com/ann\n";
    assert_eq!(stdout(&user(&changes)), known);
    for (said, problem) in [
        (["--application-logo-url", "example.com"], "application_logo_url: is no http or https URL"),
        (["--application-description", &"x".repeat(201)], "application_description: has 201 characters"),
    ] {
        for verb in [&["profile", "shop"][..], &["create", "new", "--merchant", "acme"]] {
            let refused = user(&[verb, &said].concat());
            assert_eq!(refused.status.code(), Some(2));
            assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
        }
    }
    let known = "application_name: Shop 2\ndeveloper_website: https://example.com/ann\n";
    assert_eq!(stdout(&user(&["profile", "shop", "--developer-name", ""])), known);
    let unknown = user(&["profile", "new"]);
    assert_eq!(unknown.status.code(), Some(1), "it was not made");
    assert!(stderr(&unknown).contains("there is no user new"), "{}", stderr(&unknown));
}

#[test]
fn lists_are_told_with_ids_as_json_and_in_narrow_terminals() {
    let folder = tempfile::tempdir().unwrap();
    let user = |args: &[&str]| tallyhook(folder.path(), &[&["user"], args].concat());
    stdout(&user(&["create", "ann", "--merchant", "acme", "--permissions", "webhook_read,admin"]).output().unwrap());
    let listed: Value = serde_json::from_str(&stdout(&user(&["list", "--json"]).output().unwrap())).unwrap();
    assert!(listed[0]["created_at"].is_string(), "{listed}");
    let expected = json!([{
        "user_id": 1, "name": "ann", "merchant": "acme", "permissions": ["webhook_read", "admin"],
        "created_at": listed[0]["created_at"], "disabled_at": null, "revoked_at": null,
    }]);
    assert_eq!(listed, expected);
    let narrow = stdout(&user(&["list"]).env("COLUMNS", "40").output().unwrap());
    assert!(narrow.starts_with("ID           1\nNAME         ann\nMERCHANT     acme\n"), "{narrow}");
    let wide = stdout(&user(&["list"]).env("COLUMNS", "200").output().unwrap());
    assert_eq!(wide.lines().count(), 2, "{wide}");
}

#[test]
fn permissions_are_changed_and_keys_replaced_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &[]);
    let user = |args: &[&str]| run(folder.path(), &[&["user"], args].concat());
    let made = stdout(&user(&["create", "ann", "--merchant", "acme", "--permissions", "webhook_read"]));
    let old = made.trim();
    let publish = |key: &str| server.call(&["event.publish", "order:created", "{}", "--user", "ann", "--key", key]);
    assert!(stderr(&publish(old)).contains("This needs the permission event_write."));
    let updated = user(&["update", "ann", "--permissions", "webhook_read,event_write"]);
    assert!(updated.status.success() && stderr(&updated).contains("webhook_read,event_write"), "{}", stderr(&updated));
    stdout(&publish(old));
    let wrong = user(&["update", "ann", "--permissions", "root"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("\"root\" is none"), "{}", stderr(&wrong));

    let rotated = user(&["rotate-key", "ann"]);
    let second = stdout(&rotated);
    let second = second.strip_suffix('\n').unwrap();
    assert!(second.starts_with("tk_") && second.len() == 67 && second != old, "the key, alone: {second:?}");
    assert!(stderr(&rotated).contains("count until "), "{}", stderr(&rotated));
    for key in [old, second] {
        stdout(&publish(key));
    }
    let third = stdout(&user(&["rotate-key", "ann", "--overlap", "0"]));
    for (key, code) in [(old, 1), (second, 1), (third.trim(), 0)] {
        assert_eq!(publish(key).status.code(), Some(code), "{key}");
    }
    stdout(&user(&["revoke", "ann"]));
    for args in [&["rotate-key", "ann"][..], &["update", "ann", "--permissions", "admin"]] {
        assert!(stderr(&user(args)).contains("ann was revoked, which is for ever"));
    }
    assert_eq!(user(&["rotate-key", "ann", "--overlap", "2592001"]).status.code(), Some(2));
    assert!(stderr(&user(&["rotate-key", "eve"])).contains("there is no user eve"));
}

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
fn variables_of_a_service_of_the_same_name_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = tallyhook(folder.path(), &["serve", "--listen", "127.0.0.1:0"])
        .env("TALLYHOOK_PORT", "tcp://10.96.0.12:8080")
        .env("TALLYHOOK_SERVICE_HOST", "10.96.0.12")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let mut server = Running { child, lines, url: line.clone() };
    if line.is_empty() {
        let mut problem = String::new();
        server.child.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
        panic!("{problem}");
    }
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
    let log = server.said();
    let told = log.lines().find(|line| line.contains("passed over")).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("TALLYHOOK_PORT, TALLYHOOK_SERVICE_HOST"), "{told}");
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
    let topic =
        |args: &[&str]| run(folder, &[&["topic"], args, &merchant, &["--store", "sqlite:tallyhook-dev.db"]].concat());
    let server = Running::serve(folder, &["--dev"]);
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
    let nobody = run(folder, &["topic", "list", "--merchant", "nobody", "--store", "sqlite:tallyhook-dev.db"]);
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
    assert!(folder.path().join("tallyhook-dev.db").exists(), "the store of dev mode is its own");
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

/// What is in flight when the signal comes is finished and recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_what_is_in_flight_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Running::serve(folder.path(), &["--dev"]);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (arrived, mut arrival) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |_, _| {
        arrived.send(()).unwrap();
        tokio::task::block_in_place(|| released.lock().unwrap().recv().unwrap());
        Reply::status(204)
    })
    .await;
    let client = common::http_client();
    let call = async |method: &str, params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (status, answer) =
            common::post(&client, &server.url, &[("authorization", &basic("demo", "demo-key"))], body).await;
        assert_eq!(status, 200, "{answer}");
    };
    call("webhook.create", json!([null, {"url": receiver.url(), "topics": "*"}])).await;
    call("event.publish", json!([null, "order:created", {}])).await;
    arrival.recv().await.unwrap();
    server.signal("TERM");
    release.send(()).unwrap();
    assert_eq!(server.code(), Some(0));
    let store = rusqlite::Connection::open(folder.path().join("tallyhook-dev.db")).unwrap();
    let state: i64 = store.query_row("SELECT state FROM delivery", [], |row| row.get(0)).unwrap();
    assert_eq!(state, 1, "delivered, and recorded as such");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // A receiver that never answers holds the first signal's grace up.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut server = Running::serve(folder.path(), &["--dev", "--grace-ms", "600000"]);
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let webhook = json!({"url": url, "topics": "*"}).to_string();
    stdout(&server.call(&["webhook.create", &webhook]));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    let (_held, _) = silent.accept().await.unwrap();
    server.signal("INT");
    // Two of one kind at the same moment may merge into one: the first must have been heard.
    let mut told = BufReader::new(server.child.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("another signal ends it at once")));
    server.signal("INT");
    assert_eq!(server.code(), Some(130));
}

#[test]
fn a_second_server_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Running::serve(folder.path(), &[]);
    let second = run(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("is being served by another process"), "{}", stderr(&second));
}

/// SQLite keeps a log beside each name of a file.
#[cfg(target_os = "linux")]
#[test]
fn another_name_of_a_store_that_is_served_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Running::serve(folder.path(), &["--store", "sqlite:one.db"]);
    std::fs::hard_link(folder.path().join("one.db"), folder.path().join("two.db")).unwrap();
    let make = |name, store| run(folder.path(), &["user", "create", name, "--merchant", "acme", "--store", store]);
    let second = run(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--store", "sqlite:two.db"]);
    assert!(stderr(&second).contains("is being served by another process"), "{}", stderr(&second));
    assert!(stderr(&make("ann", "sqlite:two.db")).contains("is being served under another name"));
    stdout(&make("ann", "sqlite:one.db"));
    first.signal("TERM");
    assert_eq!(first.code(), Some(0));
    let mut second = Running::serve(folder.path(), &["--store", "sqlite:two.db"]);
    second.signal("TERM");
    assert_eq!(second.code(), Some(0));
    let mut told = String::new();
    second.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("the store has hard links"), "{told}");
}

#[test]
fn a_stop_leaves_one_file_and_a_start_tells_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "info", "--store"];
    let start = |store| Running::start(folder.path(), &[&args[..], &[store]].concat(), "tallyhook listening on ");
    let mut server = start("sqlite:one.db");
    stdout(&server.call(&["webhook.create", r#"{"delivery_mode": "pull", "topics": "*"}"#]));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["one.db", "one.db-mark"]);

    std::fs::copy(folder.path().join("one.db"), folder.path().join("copy.db")).unwrap();
    let mut server = start("sqlite:copy.db");
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
    let mut told = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    let line = told.lines().find(|line| line.contains("the store is open")).unwrap_or_else(|| panic!("{told}"));
    for fact in ["copy.db", "webhooks=1", "pending_at_most=1", "last_event=1", "store_id="] {
        assert!(line.contains(fact), "{fact}: {line}");
    }
}

/// Its receivers notice that the store is another one, and go on.
#[test]
fn a_store_gets_a_new_id() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev", "--store", "sqlite:one.db"];
    let new_id = || run(folder.path(), &["store", "new-id", "--store", "sqlite:one.db"]);
    assert!(stderr(&new_id()).contains("there is no such store"));
    let mut server = Running::serve(folder.path(), &args);
    let listen = ["listen", "--port", "0", "--secret", "my-first-secret"];
    let mut receiver = Running::start(folder.path(), &listen, "tallyhook receiving on ");
    let webhook = json!({"url": receiver.url, "topics": "*", "secret_key": "my-first-secret"}).to_string();
    stdout(&server.call(&["webhook.create", &webhook]));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    assert!(receiver.line().contains("number 1"));
    let refused = new_id();
    assert!(stderr(&refused).contains("is being served"), "{}", stderr(&refused));
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));

    let renewed = new_id();
    let id = stdout(&renewed);
    let old = stderr(&renewed).split_once(" was ").unwrap().1[..8].to_owned();
    assert!(id.trim_end().len() == 8 && id.trim_end() != old, "{id}");
    let server = Running::serve(folder.path(), &args);
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    assert!(receiver.line().contains("number 2"));
    let shout = format!("OTHER STORE: it is webhook 1 of store {} now, and was of store {old}", id.trim_end());
    let line = receiver.line();
    assert!(line.starts_with(&shout), "{line}");
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    assert!(receiver.line().contains("number 3"), "it is said once");
}

#[test]
fn a_store_whose_log_was_cut_takes_another_name_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev", "--store", "sqlite:one.db"];
    let server = Running::serve(folder.path(), &args);
    stdout(&server.call(&["webhook.create", r#"{"delivery_mode": "pull", "topics": "*"}"#]));
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    // It is killed.
    drop(server);
    let log = folder.path().join("one.db-wal");
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() / 2]).unwrap();
    for says_so in [true, false] {
        let mut server = Running::serve(folder.path(), &args);
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        let mut told = String::new();
        server.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(told.contains("the store is behind its mark"), says_so, "{told}");
        assert_eq!(told.contains("It had come to 1 merchants, 1 users, 1 webhooks, 1 events"), says_so, "{told}");
    }
}

#[cfg(unix)]
#[test]
fn a_server_whose_store_is_gone_does_not_end_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Running::serve(folder.path(), &["--dev", "--store", "sqlite:one.db"]);
    std::fs::remove_file(folder.path().join("one.db")).unwrap();
    let refused = stderr(&server.call(&["event.publish", "order:created", "{}"]));
    assert!(refused.contains("not where it was"), "{refused}");
    server.signal("TERM");
    assert_eq!(server.code(), Some(1));
    let mut told = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told.lines().filter(|line| line.contains("one.db was deleted, moved or replaced")).count(), 1, "{told}");
    assert!(told.contains("not where it is looked for"), "{told}");
}

#[test]
fn the_demo_user_works_in_dev_mode_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = ["--store", "sqlite:one.db"];
    drop(Running::serve(folder.path(), &[&["--dev"][..], &store].concat()));
    let server = Running::serve(folder.path(), &store);
    let refused = server.call(&["webhook.list", "--user", "demo", "--key", "demo-key"]);
    assert!(stderr(&refused).contains("fault 2"), "{}", stderr(&refused));
}

#[test]
fn a_server_says_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let told = |args: &[&str], calls: &[&[&str]]| {
        let mut server = Running::serve(folder.path(), args);
        for args in calls {
            stdout(&server.call(args));
        }
        let url = server.url.clone();
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        let said = server.said();
        assert!(said.contains(&format!("How to call it: {url}/docs\n")), "{said}");
        said
    };
    let empty = told(&[], &[]);
    let start = concat!("tallyhook ", env!("CARGO_PKG_VERSION"), " with the store tallyhook.db: users 0, webhooks 0, ");
    assert!(empty.starts_with(start) && empty.contains("no event\n"), "{empty}");
    assert!(empty.contains("Nobody can call it yet"), "{empty}");
    let webhook = json!({"topics": "*", "delivery_mode": "pull"}).to_string();
    let publish = ["event.publish", "order:created", "{}"];
    told(&["--dev"], &[&["webhook.create", &webhook], &publish, &publish]);
    let again = told(&["--dev"], &[]);
    let found = "users 1, webhooks 1, deliveries that have yet to end 2 at the most, the last event is 2\n";
    assert!(again.contains(found), "{again}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), "grace_ms = \"soon\"\nlissten = \"127.0.0.1:1\"\n").unwrap();
    let refused = tallyhook(folder.path(), &["serve", "--config", "t.toml", "--store", "redis://here"])
        .env("TALLYHOOK_READERS_MAX", "0")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let told = stderr(&refused);
    for part in ["grace_ms", "lissten", "listen", "store", "TALLYHOOK_READERS_MAX", "t.toml", "4 mistakes"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!folder.path().join("tallyhook.db").exists());
}

#[test]
fn the_demo_tells_the_whole_story() {
    let folder = tempfile::tempdir().unwrap();
    let told = stdout(&run(folder.path(), &["demo", "--exit"]));
    for part in ["login", "webhook.create", "event.publish", "signature ok", "answered 503", "All 5 deliveries arrived"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn help_teaches() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["user", "--help"],
        &["listen", "--help"],
        &["call", "--help"],
        &["tail", "--help"],
        &["demo", "--help"],
    ] {
        let help = stdout(&run(folder.path(), args));
        assert!(help.contains("Usage: tallyhook") && help.contains("tallyhook "), "{help}");
    }
    assert_eq!(run(folder.path(), &["swerve"]).status.code(), Some(2));
}

#[test]
fn bench_measures_every_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        run(folder.path(), &["bench", "--json", "--events", "150", "--rate", "500", "--pairs", "1", "--hosts", "3"]);
    let report: Value = serde_json::from_str(&stdout(&said)).unwrap();
    let lines: Vec<_> = report["scenarios"].as_array().unwrap().iter().collect();
    let name = |line: &&Value| format!("{}{}", line["scenario"].as_str().unwrap(), line["variant"].as_str().unwrap());
    let names = lines.iter().map(name).collect::<Vec<_>>().join(" ");
    assert_eq!(
        names,
        "steady burst single fanout ordered batched noisywithout noisywith hostilewithout hostilewith backlogwithout \
         backlogwith catch-up distant distant-ordered hosts yielding pooled securehttp securehttps handshakeshttp \
         handshakesresumed handshakesfull"
    );
    for line in lines {
        let hooks = match line["scenario"].as_str().unwrap() {
            "fanout" => 20,
            "hosts" => 3,
            "noisy" | "hostile" | "backlog" => 9,
            _ => 1,
        };
        assert_eq!(line["deliveries"], 150 * hooks, "{line}");
        assert!(line["commits"].as_u64().unwrap() > 3, "{line}");
        // Each row says what was published, and how.
        let (batch, bytes) = match line["scenario"].as_str().unwrap() {
            "single" => (1, 500),
            "steady" | "noisy" | "hostile" | "backlog" => (1, 100),
            _ => (50, 100),
        };
        assert_eq!((&line["events_a_call"], &line["message_bytes"]), (&json!(batch), &json!(bytes)), "{line}");
        assert!(line["delivered_per_s"].as_f64().unwrap() > 0.0 && line["peak_rss"].as_u64().unwrap() > 0, "{line}");
        let slows_down = matches!(line["scenario"].as_str().unwrap(), "yielding" | "pooled");
        assert_eq!(line["slowed"].is_object(), slows_down, "{line}");
        assert!(!slows_down || line["slowed"]["share_of_best"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["scenario"] != "distant" || line["all_arrived_s"].as_f64().unwrap() > 0.1, "{line}");
    }
}

#[test]
fn bench_measures_what_a_neighbour_notices_of_attacks() {
    let folder = tempfile::tempdir().unwrap();
    let attacks = ["--attack", "wrong-logins", "--attack", "half-heads", "--attack-seconds", "1"];
    let said = run(folder.path(), &[&["bench", "--json", "--scenario", "tenants"][..], &attacks].concat());
    let report: Value = serde_json::from_str(&stdout(&said)).unwrap();
    let noticed = report["tenants"].as_array().unwrap();
    assert_eq!(noticed.iter().map(|one| &one["attack"]).collect::<Vec<_>>(), ["wrong-logins", "half-heads"]);
    for one in noticed {
        assert!(one["peak_rss"].as_u64().unwrap() > 0 && one["attacker"].is_object(), "{one}");
        let waits: Vec<_> =
            one["waits"].as_array().unwrap().iter().map(|wait| wait["what"].as_str().unwrap()).collect();
        assert_eq!(waits, ["list", "publish", "delivery", "first", "replay"]);
        assert_eq!(one["waits"][1]["before"]["count"], 20, "{one}");
    }
    // It makes users, and so it needs a server of its own.
    let theirs = run(folder.path(), &["bench", "--scenario", "tenants", "--url", "http://127.0.0.1:9"]);
    assert_eq!(theirs.status.code(), Some(2));
}

#[test]
fn an_attack_that_cannot_be_made_says_so_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let attacks = ["--attack", "wide-publish", "--attack", "wrong-logins", "--attack-seconds", "1"];
    let mut bench = tallyhook(folder.path(), &[&["bench", "--json", "--scenario", "tenants"][..], &attacks].concat());
    let said = bench.env("TALLYHOOK_WEBHOOKS_MAX", "50").output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(stderr(&said).contains("not measured, see above: wide-publish"), "{}", stderr(&said));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    let [wide, wrong] = report["tenants"].as_array().unwrap().as_slice() else { panic!("{report}") };
    let why = wide["failed"].as_str().unwrap();
    assert!(why.contains("webhook.create") && wide["waits"].is_null(), "{wide}");
    assert!(wrong["failed"].is_null() && wrong["waits"].is_array(), "{wrong}");
}

#[test]
fn bench_measures_a_server_that_runs_and_leaves_no_webhook() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev"]);
    let steady = ["bench", "--scenario", "steady", "--events", "50", "--url", &server.url];
    let table = stdout(&run(folder.path(), &steady));
    assert!(table.lines().any(|line| line.starts_with("steady") && line.ends_with("n/a")), "{table}");
    let columns = |start: &str| -> Vec<_> {
        let line = table.lines().find(|line| line.starts_with(start)).unwrap();
        line.split_whitespace().take(4).map(str::to_owned).collect()
    };
    assert_eq!(
        (columns("scenario"), &columns("steady")[..3]),
        (["scenario", "a", "call", "bytes"].map(str::to_owned).into(), &["steady", "1", "100"].map(str::to_owned)[..])
    );
    let listed = stdout(&run(folder.path(), &["call", "--url", &server.url, "webhook.list"]));
    assert_eq!(listed.trim(), "[]");
    let wrong = run(folder.path(), &["bench", "--url", "https://example.com"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("plain http"), "{}", stderr(&wrong));
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
