//! Copies of a store: made beside a server that is busy, put back, refused.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rusqlite::Connection;

use super::*;

#[test]
fn a_store_in_postgresql_is_left_to_its_own_tools() {
    let folder = tempfile::tempdir().unwrap();
    let store = ["--store", "postgres://hook:a-secret@127.0.0.1:1/hooks"];
    for args in [&["backup", "--to", "copy.db"][..], &["restore", "copy.db"]] {
        let refused = run(folder.path(), &[args, &store].concat());
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("pg_dump") && told.contains("docs/backup.md") && !told.contains("a-secret"), "{told}");
    }
}

mod sqlite_own {
    use super::*;

    const ONE: &str = "sqlite:one.db";

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A store in `one.db` with a webhook that pulls and so many events, which nobody serves.
    fn make_store(folder: &Path, events: usize) {
        let mut server = Running::serve(folder, &["--dev", "--store", ONE]);
        stdout(&server.call(&["webhook.create", r#"{"delivery_mode": "pull", "topics": "*"}"#]));
        for _ in 0..events {
            stdout(&server.call(&["event.publish", "order:created", "{}"]));
        }
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
    }

    /// Calls a server that is busy, in this process.
    async fn call(client: &common::Http, url: &str, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (_, answer) = common::post(client, url, &[("authorization", &basic("demo", "demo-key"))], body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    async fn until(done: impl Fn() -> bool) {
        let waiting = async {
            while !done() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(common::PATIENCE, waiting).await.expect("it comes to be");
    }

    /// Each number is accounted for, and none is given out again under the old id.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_of_a_busy_store_is_whole_and_goes_on_under_another_id() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let receiver = Receiver::start(|_, _| Reply::status(204)).await;
        let mut server = Running::serve(folder, &["--dev", "--store", ONE]);
        let client = common::http_client();
        let webhook = json!([null, {"url": receiver.url(), "topics": "*"}]);
        call(&client, &server.url, "webhook.create", webhook).await;

        let (published, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut load = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (client, url) = (client.clone(), server.url.clone());
            let (published, is_over) = (Arc::clone(&published), Arc::clone(&is_over));
            load.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    call(
                        &client,
                        &url,
                        "event.publish",
                        json!([null, "order:created", {"padding": "x".repeat(2_000)}]),
                    )
                    .await;
                    published.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until(|| published.load(Ordering::Relaxed) > 100).await;
        let before = published.load(Ordering::Relaxed);
        let own = folder.to_owned();
        let copying = move || run(&own, &["backup", "--store", ONE, "--to", "copy.db"]);
        let told = stdout(&tokio::task::spawn_blocking(copying).await.unwrap());
        assert!(told.starts_with("copy.db: webhooks 1, "), "{told}");
        let after = published.load(Ordering::Relaxed);
        assert!(after > before, "it held up nobody");
        // What the copy does not know of.
        until(|| published.load(Ordering::Relaxed) > after + 20).await;
        is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = load.join_next().await {
            ended.expect("no call has failed");
        }
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));

        assert_eq!(std::fs::metadata(folder.join("copy.db")).unwrap().permissions().mode() & 0o777, 0o600);
        let beside: Vec<_> = names(folder).into_iter().filter(|name| name.starts_with("copy.db")).collect();
        assert_eq!(beside, ["copy.db"]);
        let restored = run(folder, &["restore", "copy.db", "--store", "sqlite:two.db"]);
        stdout(&restored);
        let said = stderr(&restored);
        assert!(said.contains("sends nothing") && said.contains("so receivers can tell"), "{said}");
        assert_eq!(std::fs::metadata(folder.join("two.db")).unwrap().permissions().mode() & 0o777, 0o600);
        stdout(&run(folder, &["check", "--store", "sqlite:two.db"]));

        // Held back: it numbers, and sends nothing.
        let arrived = receiver.so_far().len();
        let mut server = Running::serve(folder, &["--dev", "--store", "sqlite:two.db"]);
        let receipt = call(&client, &server.url, "event.publish", json!([null, "order:created", {"is": "new"}])).await;
        let number = receipt["deliveries"][0]["increment_id"].as_u64().unwrap();
        assert!((before as u64..=after as u64 + 4).contains(&number), "{before} {number} {after}");
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        let log = server.said();
        assert!(log.contains("the store is held back") && log.contains("restored from copy.db"), "{log}");
        assert_eq!(receiver.so_far().len(), arrived);

        stdout(&run(folder, &["store", "resume", "--store", "sqlite:two.db"]));
        let mut server = Running::serve(folder, &["--dev", "--store", "sqlite:two.db"]);
        let is_new = |arrival: &common::Arrived| arrival.json()["message"]["is"] == "new";
        until(|| receiver.so_far().iter().any(is_new)).await;
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        assert!(!server.said().contains("held back"));
        stdout(&run(folder, &["check", "--store", "sqlite:two.db"]));

        let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for arrival in receiver.so_far() {
            let event = arrival.json();
            events.entry(arrival.header("webhook-id").to_owned()).or_default().insert(event["event_id"].to_string());
        }
        assert!(events.values().all(|events| events.len() == 1), "an id stands for one event: {events:?}");
        let stores: BTreeSet<_> = events.keys().map(|id| id.split('_').nth(1).unwrap().to_owned()).collect();
        assert_eq!(stores.len(), 2, "{stores:?}");
        let again = events.keys().filter(|id| id.ends_with(&format!("_1_{number}"))).count();
        assert_eq!(again, 2, "the number was given out again, under another id");
    }

    #[test]
    fn nothing_is_overwritten_and_what_is_served_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        make_store(folder, 3);
        let refused = |args: &[&str], words: &str| {
            let before = names(folder);
            let output = run(folder, args);
            let told = stderr(&output);
            assert!(output.status.code() == Some(1) && told.contains(words), "{args:?}: {told}");
            assert_eq!(names(folder), before, "{args:?}");
        };
        let back_up = ["backup", "--store", ONE, "--to", "copy.db"];
        stdout(&run(folder, &back_up));
        refused(&back_up, "copy.db is there already, and nothing is overwritten");
        refused(&["backup", "--store", "sqlite:other.db", "--to", "new.db"], "there is no such store");
        std::fs::write(folder.join("new.db.part"), "").unwrap();
        refused(&["backup", "--store", ONE, "--to", "new.db"], "new.db.part is there already");
        std::fs::remove_file(folder.join("new.db.part")).unwrap();
        refused(&["restore", "copy.db", "--store", ONE], "--aside moves it out of the way");
        refused(&["restore", "none.db", "--store", "sqlite:new.db"], "there is no such file");
        std::fs::write(folder.join("text.db"), "what somebody has written").unwrap();
        refused(&["restore", "text.db", "--store", "sqlite:new.db"], "is no tallyhook store");
        std::fs::copy(folder.join("copy.db"), folder.join("torn.db")).unwrap();
        std::fs::write(folder.join("torn.db-wal"), "a log").unwrap();
        refused(&["restore", "torn.db", "--store", "sqlite:new.db"], "a log lies beside it");

        let aside = ["restore", "copy.db", "--store", ONE, "--aside"];
        let server = Running::serve(folder, &["--store", ONE]);
        refused(&aside, "is being served by another process");
        drop(server);
        let before = names(folder);
        let restored = run(folder, &aside);
        stdout(&restored);
        let gone = |name: &&String| name.starts_with("one.db");
        let moved: BTreeSet<_> = names(folder).into_iter().filter(|name| name.starts_with("one.db.before-")).collect();
        // The server was killed, so what SQLite has beside the store is there, too.
        assert_eq!(moved.len(), before.iter().filter(gone).count(), "{moved:?} {before:?}");
        let old = moved.iter().find(|name| name.ends_with('Z')).unwrap();
        assert!(stderr(&restored).contains(old.as_str()));
        stdout(&run(folder, &["check", "--store", &format!("sqlite:{old}")]));
        stdout(&run(folder, &["check", "--store", ONE]));

        let sends = ["restore", "copy.db", "--store", "sqlite:new.db", "--sends"];
        assert!(stderr(&run(folder, &sends)).contains("The next start sends."));
        let told = stdout(&run(folder, &["store", "resume", "--store", "sqlite:new.db"]));
        assert!(told.contains("was not held back"), "{told}");
        let told = stdout(&run(folder, &["store", "resume", "--store", ONE]));
        assert!(told.contains("no longer held back"), "{told}");
    }

    #[test]
    fn a_server_copies_its_store_when_that_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let copies = folder.join("copies");
        std::fs::create_dir(&copies).unwrap();
        for name in ["one-20260101T000000Z.db", "one-20260102T000000Z.db", "one-20260103T000000Z.db.part"] {
            std::fs::write(copies.join(name), "").unwrap();
        }
        let serve = || {
            let args = ["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "info", "--store", ONE];
            let plan = ["--backup-dir", "copies", "--backup-keep", "2"];
            Running::start(folder, &[&args[..], &plan].concat(), "tallyhook listening on ")
        };
        let mut server = serve();
        let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines().map(Result::unwrap);
        log.find(|line| line.contains("the store was copied")).unwrap();
        // What is due next is said once what is too much has gone.
        log.find(|line| line.contains("copied when that is due")).unwrap();
        let made = names(&copies);
        assert!(made.len() == 2 && made.contains("one-20260102T000000Z.db"), "{made:?}");
        stdout(&run(&copies, &["check", "--store", &format!("sqlite:{}", made.last().unwrap())]));
        let metrics = tokio::runtime::Runtime::new().unwrap().block_on(crate::common::get(&server.url, "/metrics")).1;
        let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<i64>().ok());
        assert_eq!(value("tallyhook_copies_total{outcome=\"made\"}"), Some(1), "{metrics}");
        assert!(value("tallyhook_copy_timestamp_seconds") > Some(1_790_000_000), "{metrics}");
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));

        // The last one is young enough.
        let mut server = serve();
        let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let due = log.find(|line| line.contains("copied when that is due")).unwrap();
        let day = |text: &str| text.split_once('T').unwrap().0.to_owned();
        assert!(day(due.split_once("due=\"").unwrap().1) > day(&due), "it is tomorrow: {due}");
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        assert_eq!(names(&copies), made);
    }

    #[test]
    fn a_folder_for_copies_has_to_be_there_and_a_store_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for (args, words) in [
            (["--backup-dir", "nowhere", "--store", ONE], "nowhere is no folder"),
            (["--backup-dir", ".", "--store", "postgres://hook@127.0.0.1:1/hooks"], "is for a store in a file"),
        ] {
            let refused = run(dir.path(), &[&["serve"][..], &args].concat());
            assert_eq!(refused.status.code(), Some(2));
            assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
        }
    }

    /// Spoils the page in which the tree of a table begins.
    fn spoil(store: &Path, table: &str) {
        let conn = Connection::open(store).unwrap();
        let root: u32 =
            conn.query_row("SELECT rootpage FROM sqlite_master WHERE name = ?1", [table], |row| row.get(0)).unwrap();
        let page_bytes: u32 = conn.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        drop(conn);
        let mut bytes = std::fs::read(store).unwrap();
        bytes[((root - 1) * page_bytes) as usize] ^= 0xff;
        std::fs::write(store, bytes).unwrap();
    }

    #[test]
    fn what_is_damaged_is_named_and_not_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        make_store(folder, 3);
        stdout(&run(folder, &["backup", "--store", ONE, "--to", "copy.db"]));
        spoil(&folder.join("copy.db"), "delivery");
        let before = names(folder);
        let refused = run(folder, &["restore", "copy.db", "--store", "sqlite:two.db"]);
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("table delivery: ") && told.contains("it was not put back"), "{told}");
        assert_eq!(names(folder), before);
        let checked = run(folder, &["check", "--store", "sqlite:copy.db"]);
        let told = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.status.code() == Some(1) && told.contains("the file: table delivery: "), "{told}");

        spoil(&folder.join("one.db"), "event");
        let refused = run(folder, &["backup", "--store", ONE, "--to", "new.db"]);
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("table event: ") && told.contains("it was not kept"), "{told}");
        assert_eq!(names(folder), before);
    }
}
