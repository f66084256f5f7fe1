//! The program as a person runs it: its own process, its own output, signals.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tools/mod.rs"]
mod tools;

mod audit;
mod backup;
mod bench;
mod calling;
mod carrying;
mod check;
mod keys;
mod logs;
mod merchants;
mod migrate;
mod monitoring;
mod nodes;
mod packaging;
mod store;
mod tail;
mod tls;
mod users;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};

use common::postgres::Postgres;
use common::store::is_postgres;
use common::{Receiver, Reply, basic};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyhook");

/// With the store of the folder, whatever the run's engine is, unless `args` name another.
fn tallyhook(folder: &Path, args: &[&str]) -> Command {
    let mut command = tools::command(PROGRAM);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    if is_postgres() {
        command.env("TALLYHOOK_STORE", store_of(folder));
    }
    command
}

/// A store that a folder has besides that of dev mode.
fn store_of(folder: &Path) -> String {
    static SCHEMAS: LazyLock<Mutex<HashMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
    if !is_postgres() {
        return format!("sqlite:{}", folder.join("one.db").display());
    }
    let make = || Postgres::shared().expect("PostgreSQL is installed").schema();
    SCHEMAS.lock().unwrap().entry(folder.to_owned()).or_insert_with(make).clone()
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
        let child = tallyhook(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self::of(child, announces)
    }

    /// With what its first line says behind that.
    fn of(mut child: Child, announces: &str) -> Self {
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
    let server = Running::serve(folder.path(), &["--dev"]);
    let listed: Value = serde_json::from_str(&stdout(&server.call(&["delivery.list", "1"]))).unwrap();
    assert_eq!((&listed[0]["state"], &listed[0]["attempts"]), (&json!("delivered"), &json!(1)), "it is recorded");
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
fn the_demo_user_works_in_dev_mode_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = ["--store", &store_of(folder.path())];
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
    let start = concat!("tallyhook ", env!("CARGO_PKG_VERSION"), " with the store ");
    let name = if is_postgres() { "/postgres: " } else { " tallyhook.db: " };
    assert!(empty.starts_with(start) && empty.contains("no event\n"), "{empty}");
    assert!(empty.contains(&format!("{name}users 0, webhooks 0, ")), "{empty}");
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
        &["check", "--help"],
        &["migrate", "--help"],
        &["call", "--help"],
        &["tail", "--help"],
        &["demo", "--help"],
    ] {
        let help = stdout(&run(folder.path(), args));
        assert!(help.contains("Usage: tallyhook") && help.contains("tallyhook "), "{help}");
    }
    assert_eq!(run(folder.path(), &["swerve"]).status.code(), Some(2));
}
