//! What the documents say: their examples are those of `rpc-examples/`, their
//! tables those of the code, their commands and receivers work as they stand
//! there, and whatever they name is there.

mod common;
mod examples;
#[path = "common/files.rs"]
mod files;
#[path = "readme/log_fields.rs"]
mod log_fields;
#[path = "readme/names.rs"]
mod names;
#[path = "readme/pages.rs"]
mod pages;
mod tools;
#[path = "readme/wire.rs"]
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tallyhook::domain::fault::FAULTS;
use tallyhook::metrics::{Kind, Listed, Metrics};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use common::{PATIENCE, TestServer};
use pages::{blocks, readme, snippets, table};
use tools::{command, each_line, installed, left_out, runs};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyhook");

#[test]
fn their_examples_are_those_of_the_folder() {
    let examples = examples::load();
    let mut shown: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for block in blocks().into_iter().filter(|block| block.language == "json") {
        let marker = block.marker.unwrap_or_default();
        if marker.starts_with(wire::MARKER) {
            continue;
        }
        let name = marker
            .strip_prefix("example: ")
            .unwrap_or_else(|| panic!("{}: this block names no example:\n{}", block.page, block.text));
        let value = serde_json::from_str(&block.text).unwrap_or_else(|e| panic!("{name}: {e}\n{}", block.text));
        shown.entry(name.to_owned()).or_default().push(value);
    }
    assert!(shown.len() >= 7, "the documents show {} examples", shown.len());
    for (name, values) in shown {
        let example = examples.get(&name).unwrap_or_else(|| panic!("there is no example {name}"));
        let [request, response, notifications @ ..] = values.as_slice() else {
            panic!("{name}: a request and a response, not {} blocks", values.len())
        };
        let notifications = notifications.iter().enumerate().map(|(place, shown)| {
            let told = &example["notifications"][place];
            assert!(told.is_object(), "{name} has no notification {place}");
            (told, shown)
        });
        let parts = [(&example["request"], request), (&example["response"], response)];
        for (known, shown) in parts.into_iter().chain(notifications) {
            let lines = examples::differences(&examples::with_free_values(known), shown);
            assert!(lines.is_empty(), "{name}: {lines:#?}");
        }
    }
}

#[test]
fn their_faults_are_those_of_the_table() {
    let shown: Vec<_> =
        table("docs/calling.md", "Faults").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let known: Vec<_> =
        FAULTS.iter().map(|entry| (entry.code.number().to_string(), entry.message.to_owned())).collect();
    assert_eq!(shown, known);
}

#[test]
fn their_metrics_are_those_that_are_counted() {
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let quoted = |name: &&str| format!("`{name}`");
    let row = |metric: Listed| {
        let labels = metric.labels.iter().map(quoted).collect::<Vec<_>>().join(", ");
        let (name, help) = (quoted(&&*metric.name), metric.help.trim_end_matches('.'));
        vec![name, kind(metric.kind).to_owned(), labels, metric.unit.to_owned(), help.to_owned()]
    };
    let known: Vec<_> = Metrics::default().list().into_iter().map(row).collect();
    let lines: Vec<_> = known.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
    assert_eq!(table("docs/operating.md", "Metrics"), known, "the table has to be:\n{}", lines.join("\n"));
}

#[test]
fn their_methods_are_those_of_the_examples() {
    let shown: BTreeSet<_> =
        table("docs/calling.md", "Methods").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(shown, names::methods());
}

#[test]
fn their_configuration_table_is_that_of_the_code() {
    let pages = pages::docs();
    let page = pages.iter().find(|page| page.path == "docs/configuration.md").expect("there is such a page");
    let shown = page.text.split_once("<!-- config table -->\n").and_then(|(_, rest)| rest.split_once("<!-- end -->"));
    let (shown, _) = shown.expect("the table stands between its markers");
    let known = tallyhook::config::markdown_table();
    assert!(shown.trim() == known.trim(), "the table must read:\n{known}");
}

#[test]
fn they_name_the_lowest_rust_version() {
    let cargo = include_str!("../Cargo.toml");
    let lowest = cargo
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .expect("Cargo.toml names it")
        .trim_matches('"');
    let contributing = include_str!("../CONTRIBUTING.md");
    for text in [readme().text.as_str(), contributing] {
        assert!(text.contains(&format!("a Rust toolchain, {lowest} or newer")), "{lowest}");
    }
}

/// A child process whose lines can be waited for; ends with this.
struct Process {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the process starts");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = unbounded_channel();
        each_line(stdout, move |line| sender.send(line).is_ok());
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        line.expect("the process prints in time").expect("the process is still there")
    }

    /// What follows `start` on the next line.
    async fn line_after(&mut self, start: &str) -> String {
        let line = self.line().await;
        line.strip_prefix(start).unwrap_or_else(|| panic!("{line:?} starts with {start:?}")).to_owned()
    }

    /// Everything up to the end of the process, which must be a good one.
    async fn finish(mut self) -> String {
        let mut text = String::new();
        let reading = async {
            while let Some(line) = self.lines.recv().await {
                text += &line;
                text.push('\n');
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the process ends in time");
        assert!(self.child.wait().expect("it can be waited for").success(), "{text}");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// How to run a receiver of the documents: the interpreter, and where its modules lie.
struct Interpreter {
    program: OsString,
    node_modules: Option<PathBuf>,
}

/// `None`, said loudly, if it can't be run here.
fn interpreter(file: &str) -> Option<Interpreter> {
    let is_plain = file.starts_with("plain_");
    let found = if file.ends_with(".py") {
        let with_library = installed("HOOKTEST_PYTHON", "venv/bin/python").map(OsString::from);
        let program = with_library.or_else(|| (is_plain && runs("python3")).then(|| "python3".into()));
        program.map(|program| Interpreter { program, node_modules: None })
    } else {
        let node_modules = installed("HOOKTEST_NODE_PREFIX", "npm").map(|prefix| prefix.join("node_modules"));
        let is_ready = runs("node") && (is_plain || node_modules.is_some());
        is_ready.then(|| Interpreter { program: "node".into(), node_modules })
    };
    if found.is_none() {
        left_out(&format!("{file} of the documents: its interpreter or library is missing; tests/run installs them"));
    }
    found
}

/// Runs a receiver of the documents with a secret; gives the URL it listens on too.
async fn start_receiver(folder: &Path, file: &str, with: &Interpreter, secret: &str) -> (Process, String) {
    let path = folder.join(file);
    std::fs::write(&path, &snippets()[file]).expect("a snippet can be written");
    let modules = folder.join("node_modules");
    if let Some(node_modules) = with.node_modules.as_ref().filter(|_| !modules.exists()) {
        std::os::unix::fs::symlink(node_modules, modules).expect("modules can be linked");
    }
    let mut process = Process::start(command(&with.program).arg(path).args(["0", secret]));
    let port = process.line_after("listening on ").await;
    (process, format!("http://127.0.0.1:{port}/"))
}

/// Registers a webhook and returns its id.
async fn create(server: &TestServer, topic: &str, url: &str, secret: &str) -> i64 {
    let webhook = server.webhook(json!({"topics": topic, "url": url, "secret_key": secret})).await;
    webhook["webhook_id"].as_i64().expect("a webhook has a number")
}

async fn a_receiver_verifies(file: &str) {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let Some(interpreter) = interpreter(file) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = TestServer::start().await;
    let (mut receiver, url) = start_receiver(folder.path(), file, &interpreter, SECRET).await;

    let wrong = create(&server, "wrong:secret", &url, OTHER).await;
    server.publish("wrong:secret", json!({})).await;
    assert_eq!(server.attempts(wrong, 1, 1).await[0]["status_code"], 401);

    let right = create(&server, "order:*", &url, SECRET).await;
    // The text and the long number would not survive a careless reader of the body.
    server.publish("order:created", json!({"name": "Ünï ☃", "id": 9_007_199_254_740_993_i64})).await;
    assert_eq!(receiver.line().await, "1 order:created");
    assert_eq!(server.attempts(right, 1, 1).await[0]["status_code"], 204);
    server.publish("order:canceled", json!({})).await;
    assert_eq!(receiver.line().await, "2 order:canceled");

    if file.starts_with("plain_") {
        // The plain ones take any secret, whether it is base64 or not.
        let (mut receiver, url) = start_receiver(folder.path(), file, &interpreter, "my-first-secret").await;
        create(&server, "product:*", &url, "my-first-secret").await;
        server.publish("product:created", json!({})).await;
        assert_eq!(receiver.line().await, "1 product:created");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_receiver_verifies() {
    a_receiver_verifies("receiver.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_python_receiver_verifies() {
    a_receiver_verifies("plain_receiver.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_javascript_receiver_verifies() {
    a_receiver_verifies("receiver.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_javascript_receiver_verifies() {
    a_receiver_verifies("plain_receiver.mjs").await;
}

/// A server that is killed twice while it works, a way on which every third
/// delivery is lost for good, and a message too deep for the receiver's parser:
/// it has each number once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_healing_receiver_misses_nothing() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const EVENTS: usize = 60;
    const DEEP: usize = EVENTS / 4;
    const LEVELS: usize = 50_000;
    let Some(interpreter) = interpreter("healing_receiver.py") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let client = common::http_client();
    let (kept, mut lost_and_kept) = unbounded_channel();
    let is_lossy = Arc::new(AtomicBool::new(true));
    let theirs = Arc::clone(&is_lossy);
    let way = common::Receiver::start(move |place, arrived| {
        if place % 3 == 1 && theirs.load(Ordering::SeqCst) {
            return common::Reply::status(500);
        }
        kept.send(arrived.clone()).expect("the test goes on");
        common::Reply::status(204)
    })
    .await;

    let serve = |listen: &str| {
        let args = ["serve", "--dev", "--log", "error", "--message-depth-max", "100000", "--listen", listen];
        Process::start(command(PROGRAM).args(args).current_dir(folder.path()))
    };
    let mut server = serve("127.0.0.1:0");
    let url = server.line_after("tallyhook listening on ").await;
    let listen = url.strip_prefix("http://").expect("it is http").to_owned();
    let call = async |path: &str, args: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "call", "params": [null, path, args]}).to_string();
        let body = body.replace("\"deep\"", &format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS)));
        let authorization = common::basic("demo", "demo-key");
        let (_, text) = common::post(&client, &url, &[("authorization", &authorization)], body).await;
        serde_json::from_str::<Value>(&text).expect("the server answers with JSON")["result"].clone()
    };
    // Without retries, what is lost on the way is abandoned.
    let data = json!({"topics": "*", "url": way.url(), "secret_key": SECRET, "retry": []});
    let id = call("webhook.create", json!([data, true])).await["webhook_id"].clone();

    let path = folder.path().join("healing_receiver.py");
    std::fs::write(&path, &snippets()["healing_receiver.py"]).expect("a snippet can be written");
    let mut receiver = Process::start(command(&interpreter.program).arg(path).args([
        "0",
        SECRET,
        &url,
        "demo:demo-key",
        &id.to_string(),
    ]));
    let port = receiver.line_after("listening on ").await;
    let forwarding = tokio::spawn(async move {
        let client = common::http_client();
        while let Some(arrived) = lost_and_kept.recv().await {
            let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers = names.map(|name| (name, arrived.header(name)));
            let body = String::from_utf8(arrived.body.to_vec()).expect("it is JSON");
            let (status, _) = common::post(&client, &format!("http://127.0.0.1:{port}/"), &headers, body).await;
            assert_eq!(status, if arrived.body.len() > LEVELS { 500 } else { 204 });
        }
    });

    for event in 1..=EVENTS {
        if event % (EVENTS / 3) == 0 {
            // SIGKILL, at once after the last answer.
            drop(server);
            server = serve(&listen);
            server.line_after("tallyhook listening on ").await;
        }
        let n = if event == DEEP { json!("deep") } else { event.into() };
        call("event.publish", json!(["order:created", {"n": n}])).await;
    }
    is_lossy.store(false, Ordering::SeqCst);
    // What comes last is no gap before something comes after it.
    call("event.publish", json!(["order:created", {"n": 0}])).await;
    let last = call("webhook.get", json!([id])).await["increment_id"].as_u64().expect("it is a number");
    let mut numbers = Vec::new();
    for _ in 0..last {
        let line = receiver.line().await;
        numbers
            .push(line.split(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("a line has a number"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "each number once");
    // Under another id of the store, numbers stand for themselves.
    drop(server);
    let renewed = Process::start(
        command(PROGRAM).args(["store", "new-id", "--store", "sqlite:tallyhook-dev.db"]).current_dir(folder.path()),
    );
    let store_id = renewed.finish().await;
    server = serve(&listen);
    server.line_after("tallyhook listening on ").await;
    call("event.publish", json!(["order:created", {"n": 0}])).await;
    assert_eq!(receiver.line_after("OTHER STORE ").await, store_id.trim_end());
    // What was not recorded when it was killed comes again, too.
    let news = format!("{} order:created", last + 1);
    while receiver.line().await != news {}
    let abandoned = call("delivery.list", json!([id, {"state": "abandoned"}])).await;
    assert!(abandoned.as_array().expect("it is a list").len() >= EVENTS / 4, "{abandoned}");
    forwarding.abort();
}

#[test]
fn every_snippet_is_tested() {
    let tested = [
        "every-day.sh",
        "first-day.sh",
        "first-delivery-calls.sh",
        "first-delivery-curl.sh",
        "first-delivery-receiver.sh",
        "first-delivery-server.sh",
        "healing_receiver.py",
        "lost-key.sh",
        "lost-secret.sh",
        "plain_receiver.mjs",
        "plain_receiver.py",
        "receiver-storm.sh",
        "receiver.mjs",
        "receiver.py",
        "restore.sh",
        "sdk.sh",
        "tail.sh",
        "tallyhook.toml",
    ];
    assert_eq!(snippets().into_keys().collect::<Vec<_>>(), tested);
}

/// A command of the documents as it stands there, but for the program's place and the ports.
fn shell(snippet: &str, changes: &[(&str, &str)]) -> Command {
    let mut text = snippets()[snippet].replace("target/release/tallyhook", PROGRAM);
    for (from, to) in changes {
        assert!(text.contains(from), "{snippet} has {from}");
        text = text.replace(from, to);
    }
    let mut command = command("bash");
    // The last command takes the shell's place, so that ending one ends the other.
    let text = if text.lines().count() == 1 { format!("exec {text}") } else { text };
    command.args(["-euc", &text]);
    command
}

/// What an operator types on a first day, on every day and on a bad one, in one shell.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_days_of_an_operator() {
    const DAYS: [&str; 6] =
        ["first-day.sh", "every-day.sh", "lost-key.sh", "lost-secret.sh", "receiver-storm.sh", "restore.sh"];
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder can be made");
    std::os::unix::fs::symlink(PROGRAM, bin.join("tallyhook")).expect("the program can be linked");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    // Its own part of the loopback network, whose ports nobody else has.
    let process = std::process::id();
    let address = format!("127.{}.{}.{}", 1 + (process >> 16) % 250, (process >> 8) % 256, process % 254 + 1);
    let all: String = DAYS.map(|day| snippets()[day].replace("127.0.0.1", &address)).join("\n");
    let script = format!("trap 'kill %% 2>/dev/null; wait' EXIT\n{all}\necho the end\n");
    let mut shell = command("bash");
    shell.args(["-euc", &script]).env("PATH", path).current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || shell.output().expect("bash runs")).await.expect("it ends");
    let (said, problems) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("the end\n"), "{said}\n{problems}");
    assert!(said.contains("\"increment_id\": 1") && said.contains("nothing to tell"), "{said}");
    assert!(!said.contains("not encrypted"), "{said}");
    assert!(problems.contains("Its id was"), "{problems}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_delivery_by_hand() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let flags = [("--dev", "--dev --listen 127.0.0.1:0")];
    let mut server = Process::start(shell("first-delivery-server.sh", &flags).current_dir(folder.path()));
    let server_url = server.line_after("tallyhook listening on ").await;
    let mut receiver = Process::start(&mut shell("first-delivery-receiver.sh", &[("--port 9000", "--port 0")]));
    let receiver_url = receiver.line_after("tallyhook receiving on ").await;

    let changes = [("http://127.0.0.1:9000/", receiver_url.as_str())];
    let calls =
        Process::start(shell("first-delivery-calls.sh", &changes).env("TALLYHOOK_URL", &server_url)).finish().await;
    assert!(calls.starts_with("true\n"), "{calls}");
    assert!(calls.contains(r#""increment_id": 1"#) && calls.contains(r#""topic": "order:created""#), "{calls}");
    let seen = receiver.line().await;
    assert!(seen.contains("webhook 1  number 1  order:created  signature ok"), "{seen}");

    if !runs("curl") {
        left_out("the documents' call with curl: curl is not installed");
        return;
    }
    let changes = [("http://127.0.0.1:8080", server_url.as_str())];
    let said = Process::start(&mut shell("first-delivery-curl.sh", &changes)).finish().await;
    let said: Value = serde_json::from_str(&said).expect("curl prints the answer");
    assert_eq!(said["result"]["deliveries"], json!([{"webhook_id": 1, "increment_id": 2}]));
    let seen = receiver.line().await;
    assert!(seen.contains("webhook 1  number 2  order:created  signature ok"), "{seen}");
}

/// A line with 9 in the place of each number, and one blank between its columns.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.split_whitespace().flat_map(|word| word.chars().chain([' '])) {
        if !(c.is_ascii_digit() && shape.ends_with('9')) {
            shape.push(if c.is_ascii_digit() { '9' } else { c });
        }
    }
    shape
}

/// What the recording shows is what there is to see. Of a number that changes
/// faster than it is told, a line may be missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recording_of_tail_is_true() {
    let recording = blocks().into_iter().find(|block| block.marker.as_deref() == Some("recording: tail.sh"));
    let recorded: Vec<String> = recording.expect("there is a recording").text.lines().map(shape).collect();
    let server = TestServer::start().await;
    let receiver = common::Receiver::start(|_, _| common::Reply::status(200)).await;
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let nowhere = format!("http://{}/", deaf.local_addr().expect("it has an address"));
    drop(deaf);
    server.webhook(json!({"topics": "order:*", "url": receiver.url()})).await;
    server.webhook(json!({"topics": "order:created", "url": nowhere, "retry": [1]})).await;
    let mut tail = Process::start(shell("tail.sh", &[(" tail", " tail 2>&1")]).env("TALLYHOOK_URL", server.url()));
    tail.line_after("tallyhook: shows what happens").await;

    server.publish("order:created", json!({"order_id": 7})).await;
    server.publish("order:canceled", json!({"order_id": 7})).await;
    let mut seen = BTreeSet::new();
    let ends = |line: &&String| line.contains("delivered") || line.contains("abandoned");
    while !recorded.iter().filter(ends).all(|line| seen.contains(line)) {
        let line = shape(&tail.line().await);
        assert!(recorded.contains(&line), "{line:?} is not as recorded:\n{}", recorded.join("\n"));
        seen.insert(line);
    }
}

#[tokio::test]
async fn the_client_packages_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let written = Process::start(shell("sdk.sh", &[]).current_dir(folder.path())).finish().await;
    for path in ["clients/typescript/package.json", "clients/python/pyproject.toml"] {
        assert!(written.lines().any(|line| line == path) && folder.path().join(path).exists(), "{written}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_of_the_quick_start_ends_well() {
    let told = Process::start(command(PROGRAM).args(["demo", "--exit"])).finish().await;
    assert!(told.contains("deliveries arrived and were verified"), "{told}");
}

#[test]
fn the_configuration_file_is_taken() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("tallyhook.toml");
    std::fs::write(&file, &snippets()["tallyhook.toml"]).expect("a snippet can be written");
    let sources = tallyhook::config::Sources { file: Some(file), ..Default::default() };
    tallyhook::config::Config::load(&sources).expect("the configuration has no mistake");
}
