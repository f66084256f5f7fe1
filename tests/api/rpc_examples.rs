//! Every example of `rpc-examples/` and its `rest/` gets the answer it says, from
//! a server in this process, through the shell runner, and from servers in trouble.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use futures_util::future::select_all;
use serde_json::{Value, json};
use tallyhook::api::rest::dialect_names;
use tallyhook::domain::fault::{FAULTS, FaultCode};
use tallyhook::domain::merchant::QuotaChanges;
use tallyhook::domain::time::Clock;
use tallyhook::domain::user::{Permission, Permissions};
use tallyhook::store::MerchantAlteration;

use crate::common::store::Place;
use crate::common::{self, openapi};
use crate::examples::{self, Bench, Examples, differences, text_of};
use crate::tools::{self, left_out, runs};

/// Every method there is, as the server's own document has them, and the one
/// that gives it.
fn methods() -> BTreeSet<String> {
    let document = tallyhook::api::rpc::openrpc("https://example.com/");
    let described = document["methods"].as_array().unwrap().iter();
    described.map(|method| text_of(method, "name").to_owned()).chain(["rpc.discover".to_owned()]).collect()
}

/// True of those that are reached through `call`, too.
fn is_of_resource(method: &str) -> bool {
    method.contains('.') && !method.starts_with("rpc.")
}

fn without_needs(examples: &Examples) -> Vec<&str> {
    examples.values().filter(|example| example.get("needs").is_none()).map(|example| text_of(example, "name")).collect()
}

fn with_need<'a>(examples: &'a Examples, need: &str) -> Vec<&'a str> {
    examples.values().filter(|example| example["needs"] == need).map(|example| text_of(example, "name")).collect()
}

/// Where a receiver listens, without a path.
fn origin(receiver: &common::Receiver) -> String {
    format!("http://127.0.0.1:{}", receiver.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_gets_its_answer_in_any_order_and_again() {
    let server = common::TestServer::start().await;
    let examples = examples::load();
    let receiver = examples::receiver().await;
    let commits = Some(server.commits());
    let bench = Bench { examples: &examples, server_url: &server.url(), receiver_url: &origin(&receiver), commits };
    let names = without_needs(&examples);
    let mut failures = Vec::new();
    for name in names.iter().chain(names.iter().rev()) {
        if let Err(problem) = bench.run(name).await {
            failures.push(format!("{name}\n  {problem}"));
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    for method in ["webhook.count", "topic.count"] {
        assert_eq!(server.call(method, json!([])).await, Ok(json!(0)), "what examples make is deleted: {method}");
    }
}

#[test]
fn every_method_has_an_example_in_each_of_its_forms() {
    let examples = examples::load();
    let mut called = BTreeSet::new();
    let mut registered = BTreeSet::new();
    for request in examples.values().map(|example| &example["request"]) {
        let method = text_of(request, "method");
        registered.insert(method);
        if method == "call" {
            called.extend(request["params"][1].as_str());
        }
    }
    for method in methods() {
        let method = method.as_str();
        assert!(registered.contains(method), "no example calls {method} as a method of its own");
        assert!(!is_of_resource(method) || called.contains(method), "no example reaches {method} through call");
    }
}

/// Each is named after the operation that it is of, unless nothing is there.
#[tokio::test]
async fn every_operation_of_a_dialect_has_an_example() {
    let server = common::TestServer::start().await;
    let examples = examples::of_rest();
    let dialect_of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    for dialect in dialect_names() {
        let (_, document) = common::get(&server.url(), &format!("/openapi/{dialect}.json")).await;
        let document: Value = serde_json::from_str(&document).expect("the document is JSON");
        let operations = openapi::operations(&document).map(|operation| text_of(operation, "operationId"));
        let (mut shown, mut statuses) = (BTreeSet::new(), BTreeSet::new());
        for (name, example) in examples.iter().filter(|(name, _)| dialect_of(name) == dialect) {
            let status = example["status"].as_u64().unwrap_or(200);
            statuses.insert(status);
            let method = example["method"].as_str().unwrap_or("POST");
            let Some(operation) = openapi::operation_of(&document, method, text_of(example, "path")) else {
                assert!(matches!(status, 404 | 405), "{name} goes to no operation");
                continue;
            };
            let id = text_of(operation, "operationId");
            assert_eq!(name.split('.').nth(1), Some(id), "{name} is named after its operation");
            if status < 300 {
                shown.insert(id);
            }
        }
        for operation in operations {
            assert!(shown.contains(operation), "no example in rest/ is a {dialect}.{operation} that succeeds");
        }
        for status in [400, 401, 404] {
            assert!(statuses.contains(&status), "no example of {dialect} gets {status}");
        }
    }
    for name in examples.keys() {
        assert!(dialect_names().any(|dialect| dialect_of(name) == dialect), "{name} is of no dialect");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_that_the_server_names_has_an_example() {
    let server = common::TestServer::start().await;
    let examples = examples::load();
    let bench =
        Bench { examples: &examples, server_url: &server.url(), receiver_url: "http://127.0.0.1:9", commits: None };
    let resources = bench.ask("resources").await.expect("resources answers");
    let named: BTreeSet<_> = dotted_words(&resources["result"]).into_iter().collect();
    let known: BTreeSet<_> = methods().into_iter().filter(|method| is_of_resource(method)).collect();
    assert_eq!(named, known);
}

/// Every text that is a method's path, wherever it stands.
fn dotted_words(value: &Value) -> Vec<String> {
    let is_path = |text: &str| {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        text.split_once('.').is_some_and(|(resource, verb)| is_word(resource) && is_word(verb))
    };
    match value {
        Value::String(text) if is_path(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(dotted_words).collect(),
        Value::Object(members) => members.values().flat_map(dotted_words).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_fault_has_an_example() {
    let examples = examples::load();
    let mut codes = BTreeSet::new();
    for example in examples.values() {
        codes.extend(example["response"]["error"]["code"].as_i64());
    }
    for entry in FAULTS.iter().filter(|entry| entry.code != FaultCode::Unknown) {
        let code = i64::from(entry.code.number());
        assert!(codes.contains(&code), "no example gets fault {code}");
    }
    for code in [-32_700, -32_600, -32_601, -32_602, -32_101, -32_005] {
        assert!(codes.contains(&code), "no example gets {code}");
    }
}

#[test]
fn what_examples_need_is_tested_here() {
    let examples = examples::load();
    let needs: BTreeSet<_> = examples.values().filter_map(|example| example["needs"].as_str()).collect();
    assert_eq!(
        needs,
        BTreeSet::from([
            "another-user",
            "call-quota",
            "call-rate",
            "operator",
            "quota",
            "store-unwritable",
            "user-disabled",
            "websocket",
            "write-queue-full"
        ])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions() {
    let server = common::TestServer::start().await;
    let examples = examples::load();
    let receiver = examples::receiver().await;
    let commits = Some(server.commits());
    let bench = Bench { examples: &examples, server_url: &server.url(), receiver_url: &origin(&receiver), commits };
    let names = with_need(&examples, "websocket");
    for name in names.iter().chain(names.iter().rev()) {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

/// The program itself, serving a store of its own in dev mode.
struct Program {
    child: Child,
    url: String,
    place: Place,
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(flags: &[&str]) -> Self {
        let place = Place::new();
        let mut command = tools::command(env!("CARGO_BIN_EXE_tallyhook"));
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "off", "--store"]);
        command.arg(place.store()).args(flags);
        let stderr = place.path().join("stderr");
        let kept = File::create(&stderr).expect("a file for stderr can be made");
        let mut child = command.stdout(Stdio::piped()).stderr(kept).spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let url = loop {
            let mut line = String::new();
            let length = stdout.read_line(&mut line).expect("what the program prints can be read");
            assert!(length > 0, "the program ended: {}", std::fs::read_to_string(&stderr).unwrap_or_default());
            if let Some(url) = line.trim_end().strip_prefix("tallyhook listening on ") {
                break url.to_owned();
            }
        };
        Self { child, url, place, _stdout: stdout }
    }

    fn bench<'a>(&'a self, examples: &'a Examples) -> Bench<'a> {
        Bench { examples, server_url: &self.url, receiver_url: "http://127.0.0.1:9", commits: None }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Makes the webhook that examples with a need take for granted: number 1.
async fn make_first_webhook(bench: &Bench<'_>) {
    let made = bench.ask("webhook.create.returned").await.expect("a webhook can be made");
    assert_eq!(made["result"]["webhook_id"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_written() {
    let examples = examples::load();
    let program = Program::start(&["--busy-timeout-ms", "0"]);
    let bench = program.bench(&examples);
    make_first_webhook(&bench).await;
    let _held = program.place.refuse_changes();
    for name in with_need(&examples, "store-unwritable") {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_queue_that_is_full() {
    /// One change that the writer has taken, one that fills the queue, and some to spare:
    /// in PostgreSQL the writer puts those aside that come before it begins to wait.
    const TRIES: usize = 8;
    let examples = examples::load();
    let program = Program::start(&["--busy-timeout-ms", "600000", "--write-queue-max", "1"]);
    let bench = program.bench(&examples);
    make_first_webhook(&bench).await;
    let _held = program.place.hold();
    for name in with_need(&examples, "write-queue-full") {
        // Those that are not refused wait for the store, and make another one be refused.
        let tries = (0..TRIES).map(|_| Box::pin(bench.run(name)));
        let first = tokio::time::timeout(common::PATIENCE, select_all(tries)).await;
        let (outcome, ..) = first.unwrap_or_else(|_| panic!("{name}: none is refused"));
        outcome.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_webhooks_as_there_may_be() {
    let examples = examples::load();
    let program = Program::start(&["--webhooks-max", "1"]);
    let bench = program.bench(&examples);
    make_first_webhook(&bench).await;
    for name in with_need(&examples, "quota") {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_is_disabled() {
    let examples = examples::load();
    let server = common::TestServer::start().await;
    server.place.administer(|admin| admin.set_enabled("demo", false, Clock::system().now())).unwrap();
    let bench =
        Bench { examples: &examples, server_url: &server.url(), receiver_url: "http://127.0.0.1:9", commits: None };
    for name in with_need(&examples, "user-disabled") {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_of_the_merchant() {
    let examples = examples::load();
    let server = common::TestServer::start().await;
    server.user("ann", "demo", "webhook_read,event_write");
    let bench =
        Bench { examples: &examples, server_url: &server.url(), receiver_url: "http://127.0.0.1:9", commits: None };
    for name in with_need(&examples, "another-user") {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_calls_too_often() {
    let examples = examples::load();
    // The clock stands still, however slow the machine is.
    let (server, _hand) = common::Start::default().flag("calls_per_second_max", "1").manual().await;
    let bench =
        Bench { examples: &examples, server_url: &server.url(), receiver_url: "http://127.0.0.1:9", commits: None };
    for name in with_need(&examples, "call-rate") {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

/// The user may do everything, and everything at the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator() {
    let examples = examples::load();
    let server = common::TestServer::start().await;
    let permissions = Permissions::all().with(Permission::Operator);
    server.place.administer(|admin| admin.change_permissions("demo", permissions, Clock::system().now())).unwrap();
    let receiver = examples::receiver().await;
    let commits = Some(server.commits());
    let bench = Bench { examples: &examples, server_url: &server.url(), receiver_url: &origin(&receiver), commits };
    let names = with_need(&examples, "operator");
    for name in names.iter().chain(names.iter().rev()) {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merchant_that_calls_too_often() {
    let examples = examples::load();
    let (server, _hand) = common::Start::default().manual().await;
    let one = QuotaChanges { calls_per_second: Some(Some(1)), ..QuotaChanges::default() };
    let what = MerchantAlteration::Quotas(one);
    server.place.administer(|admin| admin.alter_merchant("demo", what, Clock::system().now())).unwrap();
    let bench =
        Bench { examples: &examples, server_url: &server.url(), receiver_url: "http://127.0.0.1:9", commits: None };
    for name in with_need(&examples, "call-quota") {
        bench.run(name).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

/// Runs a copy of the shell runner in a folder of its own.
fn run_shell(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(folder.join("run")).args(arguments).output().expect("the runner starts")
}

fn copy_runner(folder: &Path) {
    for name in ["run", "runner.py"] {
        std::fs::copy(examples::folder().join(name), folder.join(name)).expect("the runner can be copied");
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// False, and says so loudly, if the shell runner can't run here.
fn has_runner_tools() -> bool {
    let missing: Vec<_> = ["curl", "python3"].into_iter().filter(|tool| !runs(tool)).collect();
    if !missing.is_empty() {
        left_out(&format!("rpc-examples/run: not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_runner_runs_them_all() {
    if !has_runner_tools() {
        return;
    }
    let server = common::TestServer::start().await;
    let url = server.url();
    let output = tokio::task::spawn_blocking(move || run_shell(&examples::folder(), &[&url])).await.expect("it ran");
    let said = said(&output);
    let examples = examples::load();
    let passed = without_needs(&examples).len();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().last(), Some(format!("{passed} passed, 0 failed").as_str()), "{said}");
    for example in examples.values() {
        let name = text_of(example, "name");
        let expected = if example.get("needs").is_some() { format!("needs {name} ") } else { format!("ok    {name}") };
        assert!(said.lines().any(|line| line.starts_with(&expected)), "no line {expected:?} in\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_runner_says_what_differs() {
    if !has_runner_tools() {
        return;
    }
    let server = common::TestServer::start().await;
    let url = server.url();
    let copy = tempfile::tempdir().expect("a temporary folder can be made");
    copy_runner(copy.path());
    std::fs::copy(examples::folder().join("login.json"), copy.path().join("login.json")).expect("it can be copied");
    let mut wrong = examples::load()["globalFaults"].clone();
    wrong["response"]["jsonrpc"] = json!("2.0");
    wrong["response"]["result"][2]["message"] = json!("<int>");
    wrong["response"]["more"] = json!(1);
    std::fs::write(copy.path().join("globalFaults.json"), wrong.to_string()).expect("an example can be written");
    let run = move |arguments: &[&str]| run_shell(copy.path(), arguments);
    tokio::task::spawn_blocking(move || {
        let output = run(&[&url, "--only", "globalFaults", "--only", "login"]);
        let printed = said(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        for line in [
            "FAIL  globalFaults",
            "        /jsonrpc: expected \"2.0\", got 2.0",
            "        /result/2/message: expected \"<int>\", got \"Access denied.\"",
            "        /more: expected 1, got nothing",
            "ok    login",
            "1 passed, 1 failed",
        ] {
            assert!(printed.lines().any(|printed| printed == line), "no line {line:?} in\n{printed}");
        }

        let output = run(&[&url, "--key", "wrong"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let output = run(&["http://127.0.0.1:1"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let output = run(&[&url, "--only", "nothing"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    })
    .await
    .expect("the runner did as expected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_runners_say_what_differs_in_rest() {
    let nothing = json!({"method": "GET", "path": "/v1/webhooks/a/${topic}", "headers": {"x-api-key": "${key}"}});
    let mut step = nothing.clone();
    step["name"] = json!("step");
    step["before"] = json!([nothing]);
    let mut whole = nothing.clone();
    whole["name"] = json!("whole");
    whole["response_headers"] = json!({"Content-Type": "<string>/plain", "content-length": "<int>", "x-none": "<any>"});
    whole["response_text"] = json!("{\"success\":true,<any>}");
    let cases: [(&str, &[&str]); 2] = [
        ("step", &["HTTP status: expected 2xx, got 404"]),
        (
            "whole",
            &[
                "HTTP status: expected 200, got 404",
                r#"header Content-Type: expected "<string>/plain", got "application/json""#,
                r#"header x-none: expected "<any>", got nothing"#,
                r#"body: expected "{\"success\":true,<any>}", got "{\"success\":false,"#,
            ],
        ),
    ];
    let server = common::TestServer::start().await;
    let examples = Examples::from([("step".to_owned(), step), ("whole".to_owned(), whole)]);
    let bench =
        Bench { examples: &examples, server_url: &server.url(), receiver_url: "http://127.0.0.1:9", commits: None };
    for (name, expected) in cases {
        let told = bench.run(name).await.expect_err("it fails");
        check_lines(&told, expected);
    }
    if !has_runner_tools() {
        return;
    }
    let copy = tempfile::tempdir().expect("a temporary folder can be made");
    copy_runner(copy.path());
    std::fs::create_dir(copy.path().join("rest")).expect("a folder can be made");
    for (name, example) in &examples {
        let path = copy.path().join("rest").join(format!("{name}.json"));
        std::fs::write(path, example.to_string()).expect("an example can be written");
    }
    let url = server.url();
    let run =
        tokio::task::spawn_blocking(move || cases.map(|(name, _)| run_shell(copy.path(), &[&url, "--only", name])));
    for ((_, expected), output) in cases.into_iter().zip(run.await.expect("it ran")) {
        let told = said(&output);
        let lines: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("        ")).collect();
        check_lines(&lines.join("\n"), expected);
    }
}

/// Each line holds what is expected of it, and there are no others.
fn check_lines(told: &str, expected: &[&str]) {
    let lines: Vec<_> = told.lines().collect();
    let fits = lines.len() == expected.len() && lines.iter().zip(expected).all(|(line, part)| line.contains(part));
    assert!(fits, "expected {expected:#?} in\n{told}");
}

#[test]
fn answers_are_compared_to_the_type() {
    let same = |expected: Value, got: Value| {
        let lines = differences(&expected, &got);
        assert!(lines.is_empty(), "{lines:?}");
    };
    let differ = |expected: Value, got: Value, place: &str| {
        let lines = differences(&expected, &got);
        assert!(lines.iter().any(|line| line.starts_with(&format!("{place}: "))), "{expected} and {got}: {lines:?}");
    };
    same(json!({"a": [1, "x", null], "b": 2.0}), json!({"b": 2.0, "a": [1, "x", null]}));
    differ(json!({"jsonrpc": 2.0}), json!({"jsonrpc": "2.0"}), "/jsonrpc");
    differ(json!({"jsonrpc": 2.0}), json!({"jsonrpc": 2}), "/jsonrpc");
    differ(json!({"is_active": 1}), json!({"is_active": true}), "/is_active");
    differ(json!({"a": null}), json!({}), "/a");
    differ(json!({}), json!({"a": null}), "/a");
    differ(json!([1]), json!([1, 2]), "/");
    differ(json!([{"a": 1}]), json!([{"a": 2}]), "/0/a");

    same(json!(["<any>", "<int>", "<string>"]), json!([null, -7, ""]));
    differ(json!(["<int>"]), json!([7.5]), "/0");
    same(json!(["<number>", "<number>"]), json!([7.5, 7]));
    differ(json!(["<number>"]), json!(["7"]), "/0");
    differ(json!(["<int>"]), json!(["7"]), "/0");
    differ(json!(["<string>"]), json!([7]), "/0");
    same(json!("<time>"), json!("2026-11-22T03:04:05.678Z"));
    differ(json!("<time>"), json!("2026-11-22T03:04:05Z"), "/");
    same(json!("<date>"), json!("04/25/2019 16:24"));
    differ(json!("<date>"), json!("25/04/2019 16:24"), "/");
    same(json!("<session>"), json!("be1c13ed4e03f0ed7f1e4053dfff9658"));
    differ(json!("<session>"), json!("BE1C13ED4E03F0ED7F1E4053DFFF9658"), "/");
    same(json!("Retry in <int> s, <string>."), json!("Retry in 42 s, please."));
    differ(json!("Retry in <int> s."), json!("Retry in a few s."), "/");

    same(json!(["<more>", 3]), json!([1, 2, 3]));
    differ(json!(["<more>", 3]), json!([3, 4]), "/1");
    same(json!([1, "<more>"]), json!([1]));
    same(json!(["<more>", 2, "<more>"]), json!([1, 2, 3]));
    differ(json!(["<more>", 2, "<more>"]), json!([1, 3]), "/1");
    differ(json!(["<more>", 2]), json!([]), "/");
}
