//! The store, as whoever starts and stops a server sees it.

use super::*;

/// Its receivers notice that the store is another one, and go on.
#[test]
fn a_store_gets_a_new_id() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path());
    let args = ["--dev", "--store", &store];
    let new_id = || run(folder.path(), &["store", "new-id", "--store", &store]);
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

mod sqlite_own {
    use super::*;

    #[test]
    fn a_second_server_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Running::serve(folder.path(), &[]);
        let second = run(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!(second.status.code(), Some(1));
        assert!(stderr(&second).contains("is being served by another process"), "{}", stderr(&second));
    }

    /// Whoever closes a file last takes its log away, and the server is still there.
    #[test]
    fn another_program_may_look_into_a_store_that_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let server = Running::serve(folder.path(), &["--dev", "--store", "sqlite:one.db"]);
        for _ in 0..2 {
            stdout(&server.call(&["event.publish", "order:created", "{}"]));
            let other = rusqlite::Connection::open(folder.path().join("one.db")).unwrap();
            other.execute("UPDATE meta SET value = value", []).unwrap();
            other.close().unwrap();
            assert!(folder.path().join("one.db-wal").exists());
        }
        stdout(&server.call(&["event.publish", "order:created", "{}"]));
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
        let left =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
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
        assert_eq!(
            told.lines().filter(|line| line.contains("one.db was deleted, moved or replaced")).count(),
            1,
            "{told}"
        );
        assert!(told.contains("not where it is looked for"), "{told}");
    }
}
