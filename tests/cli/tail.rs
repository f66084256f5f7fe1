//! `tallyhook tail` as a person runs it.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver as Lines, channel};

use serde_json::{Value, json};
use tallyhook::domain::time::Clock;

use crate::common::socket::Socket;
use crate::common::{self, Receiver, Reply, TestServer};
use crate::tools;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyhook");

/// A program of ours, whose lines are read as they come.
struct Running {
    child: Child,
    stdout: Lines<String>,
    stderr: Lines<String>,
}

/// The lines of a stream, read by a thread of their own.
fn lines(stream: impl Read + Send + 'static) -> Lines<String> {
    let (sender, lines) = channel();
    tools::each_line(stream, move |line| sender.send(line).is_ok());
    lines
}

impl Running {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// A tail that shows what happens from when this returns.
    fn tail(url: &str, args: &[&str]) -> Self {
        let mut tail = Self::start(tools::command(PROGRAM).arg("tail").args(args).env("TALLYHOOK_URL", url));
        tail.said("shows what happens");
        tail
    }

    fn line(&mut self) -> String {
        self.stdout.recv_timeout(common::PATIENCE).expect("a line comes")
    }

    /// Reads stderr up to a line with these words.
    fn said(&mut self, words: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(common::PATIENCE).unwrap_or_else(|_| panic!("nobody says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -$0 $1", name, &id]).status().unwrap().success());
    }

    /// The exit code, and what was left to say.
    fn ends(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.stderr.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands between two blanks or more; the time first.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_followed_to_its_end() {
    let server = TestServer::start().await;
    let receiver = Receiver::start(|place, _| Reply::status(if place == 0 { 500 } else { 204 })).await;
    let id =
        server.webhook(json!({"topics": "order:*,product:*", "url": receiver.url(), "retry": [1]})).await["webhook_id"]
            .to_string();
    let mut all = Running::tail(&server.url(), &["--topic", "order:*", "--topic", "product:deleted"]);
    let mut json = Running::tail(&server.url(), &["--webhook", &id, "--json"]);
    server.publish("order:created", json!({"order_id": 7})).await;

    let mut line = all.line();
    if columns(&line).len() == 5 {
        assert_eq!(columns(&line)[1..], ["webhook 1", "number 1", "order:created", "pending"]);
        line = all.line();
    }
    let failed = columns(&line);
    assert_eq!(failed[1..7], ["webhook 1", "number 1", "order:created", "pending", "1 attempt", "500"], "{line}");
    assert!(failed.last().unwrap().starts_with("again at 2"), "{line}");
    let line = all.line();
    assert_eq!(columns(&line)[4..7], ["delivered", "2 attempts", "204"], "{line}");
    assert!(!line.contains('\x1b'), "this is no terminal");
    loop {
        let told: Value = serde_json::from_str(&json.line()).unwrap();
        assert_eq!(told["increment_id"], 1);
        if told["state"] == "delivered" {
            break;
        }
    }
    // What was not asked for is not shown.
    server.publish("product:created", json!({})).await;
    server.publish("product:deleted", json!({})).await;
    let line = all.line();
    assert_eq!(columns(&line)[2..4], ["number 3", "product:deleted"], "{line}");

    for (tail, signal) in [(all, "INT"), (json, "TERM")] {
        tail.signal(signal);
        assert_eq!(tail.ends(), (Some(0), String::new()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_number_and_events() {
    let server = TestServer::start().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    for n in 1..=3 {
        server.publish("order:created", json!({"n": n})).await;
    }
    let mut deliveries = Running::tail(&server.url(), &["--webhook", "1", "--from", "2"]);
    let mut events = Running::tail(&server.url(), &["--events", "--from", "3", "--topic", "*"]);
    let mut live = Running::tail(&server.url(), &["--events", "--topic", "order:*"]);
    server.publish("order:created", json!({"n": 4})).await;
    for number in 2..=4 {
        let line = deliveries.line();
        assert_eq!(columns(&line)[1..], ["webhook 1", &format!("number {number}"), "order:created", "pending"]);
    }
    for (tail, ids) in [(&mut events, 3..=4), (&mut live, 4..=4)] {
        for id in ids {
            let line = tail.line();
            assert_eq!(columns(&line)[1..], [&format!("event {id}"), "order:created", &format!("{{\"n\":{id}}}")]);
        }
    }
}

/// The server is killed and comes back at the same place: the tail does so,
/// too, and has each number once.
#[test]
fn a_lost_connection_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |listen: &str| {
        let mut command = super::tallyhook(folder.path(), &["serve", "--dev", "--log", "error", "--listen", listen]);
        let mut server = Running::start(&mut command);
        let url = server.line().strip_prefix("tallyhook listening on ").unwrap().to_owned();
        (server, url)
    };
    let (server, url) = serve("127.0.0.1:0");
    let call = |args: &[&str]| {
        let called = tools::command(PROGRAM).arg("call").args(args).env("TALLYHOOK_URL", &url).output().unwrap();
        assert!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
    };
    call(&["webhook.create", r#"{"topics": "*", "delivery_mode": "pull"}"#]);
    call(&["event.publish", "order:created", "{}"]);
    let mut one = Running::tail(&url, &["--webhook", "1"]);
    let mut all = Running::tail(&url, &[]);
    call(&["event.publish", "order:created", "{}"]);
    for tail in [&mut one, &mut all] {
        assert!(tail.line().contains("number 2 "));
    }
    // Killed; the second time it stops in an orderly way, and says so.
    drop(server);
    let (server, _) = serve(url.strip_prefix("http://").unwrap());
    call(&["event.publish", "order:created", "{}"]);
    one.said("the connection was lost");
    one.said("connected again; what follows 2 is shown");
    assert!(one.line().contains("number 3 "));
    all.said("connected again; what has changed in between is not shown");
    call(&["event.publish", "order:created", "{}"]);
    for tail in [&mut one, &mut all] {
        // The one that lost more may have come back before the third.
        let line = tail.line();
        assert!(line.contains("number 4 ") || line.contains("number 3 "), "{line}");
    }
    server.signal("TERM");
    one.said("the connection was lost: the server is shutting down");
    assert_eq!(server.ends().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_shown_is_said() {
    let server = TestServer::start().await;
    let key = server.user("ann", "acme", "webhook_read");
    let failed = |url: &str, args: &[&str]| {
        let output = tools::command(PROGRAM).arg("tail").args(args).env("TALLYHOOK_URL", url).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (url, args, code, words) in [
        (server.url(), &["--webhook", "99"][..], 1, "fault 103: Webhook not exists. There is no webhook 99."),
        (server.url(), &["--user", "ann", "--key", "wrong"], 1, "fault 2: Access denied. (as ann)"),
        (server.url(), &["--from", "1"], 2, "--from needs --webhook"),
        (server.url(), &["--topic", "order"], 2, "--topic \"order\" is no topic"),
        (server.url(), &["--webhook", "1", "--events"], 2, "cannot be used with"),
        (format!("{}/nowhere", server.url()), &[], 1, "is this the URL of a tallyhook server?"),
        ("http://127.0.0.1:1".to_owned(), &[], 1, "Is the server running?"),
        ("https://example.com".to_owned(), &[], 2, "has to be told who calls"),
    ] {
        let (ended, said) = failed(&url, args);
        assert_eq!(ended, Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    // Who is revoked is told so, and does not come again.
    let mut tail = Running::tail(&server.url(), &["--events", "--user", "ann", "--key", &key]);
    let publisher = server.user("bob", "acme", "event_write");
    let authorization = [("authorization", &*common::basic("bob", &publisher))];
    let publish = async || server.rpc_at("/", &authorization, "event.publish", json!([null, "a:b", {}])).await.unwrap();
    publish().await;
    tail.line();
    server.place.administer(|admin| admin.revoke_user("ann", Clock::system().now())).unwrap();
    publish().await;
    assert_eq!(tail.ends(), (Some(1), "tallyhook: fault 2: Access denied. (as ann)".to_owned()));
}

/// However much is logged: no key, no header with one, no message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_not_logged() {
    const SECRET: &str = "to be seen by nobody else";
    let folder = tempfile::tempdir().unwrap();
    let log = "trace,tungstenite::protocol=trace";
    let mut server = super::tallyhook(folder.path(), &["serve", "--dev", "--listen", "127.0.0.1:0", "--log", log]);
    let mut server = Running::start(&mut server);
    let url = server.line().strip_prefix("tallyhook listening on ").unwrap().to_owned();
    let authorization = common::basic("demo", common::DEMO_KEY);
    let mut socket = Socket::open(&url, "/", &[("authorization", &authorization)]).await.unwrap();
    let session = socket.call("login", json!(["demo", "a wrong key"])).await;
    assert_eq!(session.unwrap_err()["code"], 2);
    let session = socket.call("login", json!(["demo", common::DEMO_KEY])).await.unwrap();
    socket.call("event.subscribe", json!([session])).await.unwrap();
    socket.call("event.publish", json!([session, "order:created", {"secret": SECRET}])).await.unwrap();
    assert_eq!(socket.news().await["message"]["secret"], SECRET);
    server.signal("TERM");
    socket.closed().await;
    let (code, said) = server.ends();
    assert_eq!(code, Some(0));
    assert!(said.contains(" TRACE ") && said.contains("tungstenite"), "it was to log all: {said}");
    // The key of the demo user stands in what is said to who starts the server.
    let is_told = |line: &&str| line.starts_with("This server is for") || line.contains("curl -su");
    let logged: String = said.lines().filter(|line| !is_told(line)).collect();
    let session = session.as_str().unwrap();
    for text in [SECRET, session, "a wrong key", common::DEMO_KEY, authorization.trim_start_matches("Basic ")] {
        let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
        let list = format!("{:?}", text.as_bytes());
        for form in [text, &hex, list.trim_matches(['[', ']'])] {
            assert!(!logged.contains(form), "{form:?} was logged");
        }
    }
}

mod sqlite_own {
    use super::*;

    /// An older copy of the store is put back, so that what was shown last is not
    /// there any more.
    #[test]
    fn a_store_that_goes_back_is_said_and_followed() {
        let folder = tempfile::tempdir().unwrap();
        let serve = |listen: &str| {
            let mut command = tools::command(PROGRAM);
            command.args(["serve", "--dev", "--log", "error", "--listen", listen]).current_dir(folder.path());
            let mut server = Running::start(&mut command);
            let url = server.line().strip_prefix("tallyhook listening on ").unwrap().to_owned();
            (server, url)
        };
        let stop = |server: Running| {
            server.signal("TERM");
            assert_eq!(server.ends().0, Some(0));
        };
        let (server, url) = serve("127.0.0.1:0");
        let listen = url.strip_prefix("http://").unwrap();
        let call = |args: &[&str]| {
            let called = tools::command(PROGRAM).arg("call").args(args).env("TALLYHOOK_URL", &url).output().unwrap();
            assert!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
        };
        call(&["webhook.create", r#"{"topics": "*", "delivery_mode": "pull"}"#]);
        call(&["event.publish", "order:created", "{}"]);
        stop(server);
        let (store, copy) = (folder.path().join("tallyhook-dev.db"), folder.path().join("copy"));
        std::fs::copy(&store, &copy).unwrap();

        let (server, _) = serve(listen);
        let mut one = Running::tail(&url, &["--webhook", "1"]);
        let mut events = Running::tail(&url, &["--events"]);
        for number in 2..=3 {
            call(&["event.publish", "order:created", "{}"]);
            assert!(one.line().contains(&format!("number {number} ")));
            assert!(events.line().contains(&format!("event {number} ")));
        }
        stop(server);
        std::fs::copy(&copy, &store).unwrap();
        let (_server, _) = serve(listen);
        for tail in [&mut one, &mut events] {
            tail.said("OTHER STORE: it has not come to 3");
        }
        call(&["event.publish", "order:created", "{}"]);
        assert!(one.line().contains("number 2 "));
        assert!(events.line().contains("event 2 "));
    }
}
