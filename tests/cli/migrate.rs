//! Moving a store into the other engine: all of it, whatever interrupts it, and nothing
//! that is served or not equal.

use std::collections::BTreeSet;
use std::time::Instant;

use super::check::Caller;
use super::*;
use crate::common::PATIENCE;
use crate::common::postgres::Postgres;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;

/// PostgreSQL, if this machine has it.
fn postgres() -> Option<&'static Postgres> {
    let server = Postgres::shared();
    if server.is_none() {
        tools::left_out("moving a store into PostgreSQL: it is not installed; tests/run installs it");
    }
    server
}

fn migrate(folder: &Path, from: &str, to: &str) -> Output {
    run(folder, &["migrate", "--from", from, "--to", to])
}

/// It fails for that reason.
fn refused(folder: &Path, from: &str, to: &str, code: i32, why: &str) {
    let done = migrate(folder, from, to);
    assert_eq!(done.status.code(), Some(code), "{}", stderr(&done));
    assert!(stderr(&done).contains(why), "{why}: {}", stderr(&done));
}

fn serve(folder: &Path, store: &str) -> Running {
    Running::serve(folder, &["--dev", "--store", store])
}

fn stop(mut server: Running) {
    server.signal("TERM");
    assert_eq!(server.code(), Some(0), "{}", server.said());
}

fn plant(file: &Path, sql: &str) {
    Connection::open(file).unwrap().execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).unwrap();
}

/// All rows of all tables of a file, but for the ids of attempts, which another engine
/// has not, and with texts as PostgreSQL can hold them.
fn rows(file: &Path) -> BTreeSet<String> {
    let conn = Connection::open(file).unwrap();
    let read = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let held = |cell| match cell {
        Cell::Text(text) => Cell::Text(text.replace('\0', "\u{fffd}")),
        cell => cell,
    };
    let mut all = BTreeSet::new();
    for table in read("SELECT name FROM sqlite_master WHERE type = 'table'") {
        let columns = format!("SELECT name FROM pragma_table_info('{table}') WHERE name <> 'attempt_id'");
        let columns = read(&columns).join(", ");
        let mut statement = conn.prepare(&format!("SELECT {columns} FROM {table}")).unwrap();
        let cells = |row: &rusqlite::Row<'_>| (0..row.as_ref().column_count()).map(|place| row.get(place)).collect();
        let found: Vec<Vec<Cell>> = statement.query_map([], cells).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(!found.is_empty(), "there is something of every table: {table}");
        let told = found.into_iter().map(|row| row.into_iter().map(held).collect::<Vec<_>>());
        all.extend(told.map(|row| format!("{table} {row:?}")));
    }
    all
}

/// A store in `one.db` with something of every table: three deliveries of webhook 1 that
/// are tried again in an hour, but the first now; what webhook 2 pulls; a webhook that is
/// deleted; a replay of number 2 of webhook 1, and event 3 yet to be numbered for webhook
/// 2. Seven events that came later are gone.
async fn everything(folder: &Path, receiver: &Receiver) {
    let server = serve(folder, "sqlite:one.db");
    let caller = Caller::of(&server);
    caller.webhook(json!({"topics": "order:*", "url": receiver.url(), "retry": [3600], "name": "zürich"})).await;
    caller.webhook(json!({"topics": "order:*", "delivery_mode": "pull"})).await;
    let deleted = caller.webhook(json!({"topics": "other:*", "delivery_mode": "pull"})).await;
    for number in 1..=3 {
        let options = json!({"idempotency_key": format!("key {number}")});
        caller.call("event.publish", json!([null, "order:created", {"order_id": number}, options])).await;
    }
    receiver.arrivals(3).await;
    caller.call("delivery.cancel", json!([null, 2, 2])).await;
    caller.call("webhook.delete", json!([null, deleted])).await;
    assert!(caller.call("login", json!(["demo", "demo-key"])).await.is_string());
    stop(server);
    plant(
        &folder.join("one.db"),
        "INSERT INTO merchant (merchant_id, code, created_at) VALUES (77, 'acme', 5);
        INSERT INTO user (merchant_id, name, key_hash, permissions, created_at, disabled_at, application_name,
            old_key_hash, old_key_until) VALUES (77, 'ann', x'00ff', 15, 5, 6, 'shop', x'01', 9223372036854775807);
        INSERT INTO token (merchant_id, user_id, name, key_hash, permissions, confinement, created_at, expires_at)
            VALUES (77, (SELECT user_id FROM user WHERE name = 'ann'), 'portal', x'0a', 3,
                '{\"label\":{\"customer\":\"42\"}}', 5, 9223372036854775807);
        INSERT INTO job (webhook_id, kind, next_id, last_id, since, topics, merchant_id, created_at)
            VALUES (1, 'replay', 2, 2, 0, '', 1, 5);
        INSERT INTO fanout (merchant_id, events) VALUES (1, '[[3, null, [2]]]');
        INSERT INTO notice VALUES (1, 'delivery_abandoned', 2, 1, 3, 9000000000000);
        INSERT INTO idempotency VALUES (1, 'a' || char(0), x'01', 1, '', 9000000000000),
            (1, 'ab', x'02', 1, '', 9000000000000), (77, 'z' || char(65533), x'03', 1, '', 9000000000000);
        UPDATE attempt SET error_detail = 'a' || char(0) || 'b' WHERE increment_id = 2;
        UPDATE attempt SET started_at = started_at + 100000 * (4 - increment_id), response_body = x'00ff';
        UPDATE delivery SET event_id = -event_id WHERE webhook_id = 2 AND increment_id = 2;
        UPDATE delivery SET next_attempt_at = 1 WHERE webhook_id = 1 AND increment_id = 1;
        UPDATE sqlite_sequence SET seq = seq + 7 WHERE name = 'event'",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_store_goes_there_and_back_and_its_servers_go_on() {
    let Some(database) = postgres() else { return };
    let (folder, to) = (tempfile::tempdir().unwrap(), database.schema());
    let folder = folder.path();
    let receiver = Receiver::start(|_, _| Reply::status(503)).await;
    everything(folder, &receiver).await;
    let before = rows(&folder.join("one.db"));
    let bytes = std::fs::read(folder.join("one.db")).unwrap();
    let files = || std::fs::read_dir(folder).unwrap().count();
    let files_before = files();

    let there = migrate(folder, "sqlite:one.db", &to);
    let told = stdout(&there);
    for part in
        ["copied and equal: merchant 2, user 2, session 1, token 1, webhook 3,", "delivery 6, attempt 3,", "U+FFFD: 2;"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(stderr(&there).contains("and never one.db again"), "{}", stderr(&there));
    assert!(std::fs::read(folder.join("one.db")).unwrap() == bytes, "it was left as it was");
    assert_eq!(files(), files_before);

    assert_eq!(
        database.run_in(&to, "SELECT nextval('event_id'), nextval('webhook_id'), nextval('topic_topic_id_seq')"),
        "11|4|68"
    );
    database.run_in(&to, "SELECT setval('event_id', 10), setval('webhook_id', 3), setval('topic_topic_id_seq', 67)");

    // A mark that another store has left there is not this one's.
    std::fs::write(folder.join("two.db-mark"), std::fs::read(folder.join("one.db-mark")).unwrap()).unwrap();
    stdout(&migrate(folder, &to, "sqlite:two.db"));
    let after = rows(&folder.join("two.db"));
    let (lost, new) = (before.difference(&after), after.difference(&before));
    assert_eq!((lost.collect::<Vec<_>>(), new.collect::<Vec<_>>()), (vec![], vec![]));
    let ends = "SELECT group_concat(increment_id) FROM (SELECT increment_id FROM attempt ORDER BY attempt_id)";
    let ends: String = Connection::open(folder.join("two.db")).unwrap().query_row(ends, [], |row| row.get(0)).unwrap();
    assert_eq!(ends, "3,2,1", "attempts are in the order of their ends");

    for (round, store) in [to.as_str(), "sqlite:two.db"].into_iter().enumerate() {
        let server = serve(folder, store);
        let caller = Caller::of(&server);
        let published = caller.call("event.publish", json!([null, "order:created", {}])).await;
        // In PostgreSQL what could have come to a notice has drawn an id, which is lost.
        let next = if round == 0 { 11..=20 } else { 11..=11 };
        assert!(next.contains(&published["event_id"].as_i64().unwrap()), "{published}");
        assert_eq!(published["deliveries"][0], json!({"webhook_id": 1, "increment_id": 4}));
        let repeated =
            caller.call("event.publish", json!([null, "order:created", {"order_id": 2}, {"idempotency_key": "key 2"}]));
        assert_eq!(repeated.await["event_id"], 2, "keys are remembered");
        assert_eq!(caller.webhook(json!({"topics": "x:y", "delivery_mode": "pull"})).await, 4);
        // Number 1 was due, 2 is replayed, 4 is new.
        let all = receiver.arrivals(3 + 3 * (round + 1)).await;
        let ids = |arrived: &[common::Arrived]| -> Vec<String> {
            let mut ids: Vec<_> =
                arrived.iter().map(|one| one.headers["webhook-id"].to_str().unwrap().to_owned()).collect();
            ids.sort();
            ids
        };
        let (first, again) = (ids(&all[..3]), ids(&all[3 * (round + 1)..]));
        assert_eq!(again[..2], first[..2], "the numbers 1 and 2 have the names that they had");
        let began = Instant::now();
        while caller.call("delivery.count", json!([null, 2])).await != 5 {
            assert!(began.elapsed() < PATIENCE, "event 3 is numbered for webhook 2");
        }
        stop(server);
        stdout(&run(folder, &["check", "--store", store]));
    }
}

/// A file with so many events, each with a delivery that has ended.
fn many(folder: &Path, name: &str, rows: usize) {
    let store = format!("sqlite:{name}");
    stdout(&run(folder, &["user", "create", "ann", "--merchant", "acme", "--store", &store]));
    plant(
        &folder.join(name),
        &format!(
            "BEGIN;
            INSERT INTO webhook (merchant_id, user_id, name, description, is_active, topics, extra_headers, secret_key,
                old_secrets, format, retry, delivery_mode, expansions, created_at, updated_at, last_increment_id)
                VALUES (1, 1, '', '', 1, '*', '', 'x', '[]', 'envelope', 'default', 'parallel', '{{}}', 5, 5, {rows});
            WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})
            INSERT INTO event (merchant_id, topic, message, created_at, published_at)
                SELECT 1, 'a:b', '{{\"pad\": \"' || printf('%.*c', 50, 'x') || '\"}}', 5, 5 FROM n;
            INSERT INTO delivery (webhook_id, increment_id, event_id, format, created_at, state, ended_at, attempts)
                SELECT 1, event_id, event_id, 0, 5, 1, 5, 1 FROM event;
            INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, queue_delay_ms, duration_us,
                request_headers, response_headers, response_body, is_compressed)
                SELECT 1, event_id, 1, 5, 5, 5, 'a: b', '', x'', 0 FROM event;
            COMMIT"
        ),
    );
}

/// Begins to move a store, and stands still once it notes that so many rows are moved.
fn begin(folder: &Path, from: &str, to: &str, rows: u64, noted: impl Fn() -> String) -> Running {
    let args = ["migrate", "--from", from, "--to", to];
    let mut child = tallyhook(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut begun = Running { child, lines, url: String::new() };
    loop {
        let noted: Value = serde_json::from_str(&noted()).unwrap_or_default();
        if noted["rows"].as_u64().is_some_and(|moved| moved >= rows) {
            begun.signal("STOP");
            assert!(begun.child.try_wait().unwrap().is_none(), "it has ended: {}", begun.said());
            return begun;
        }
        assert!(begun.child.try_wait().unwrap().is_none(), "it has ended: {}", begun.said());
    }
}

const NOTED: &str = "SELECT value FROM meta WHERE key = 'copied_through'";

#[test]
fn what_was_interrupted_is_gone_on_with_and_a_difference_is_found() {
    let Some(database) = postgres() else { return };
    let (folder, to) = (tempfile::tempdir().unwrap(), database.schema());
    let folder = folder.path();
    many(folder, "one.db", 30_000);
    many(folder, "other.db", 1);
    let noted = || {
        let has_tables = database.run_in(&to, "SELECT to_regclass('meta') IS NOT NULL");
        if has_tables == "t" { database.run_in(&to, NOTED) } else { String::new() }
    };

    // Killed.
    let mut begun = begin(folder, "sqlite:one.db", &to, 100, noted);
    refused(folder, "sqlite:one.db", "sqlite:three.db", 2, "one of the two has to be sqlite:PATH");
    refused(folder, "sqlite:one.db", &database.schema(), 1, "is being served by another process");
    begun.child.kill().unwrap();
    begun.child.wait().unwrap();
    database.run_in(
        &to,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON delivery FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    );

    // Nobody else opens it.
    let not_whole = "holds no whole store yet, but the beginnings of a copy of store ";
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["check"],
        &["user", "create", "ann", "--merchant", "acme"],
        &["store", "new-id"],
    ] {
        let done = run(folder, &[args, &["--store", &to]].concat());
        assert_eq!(done.status.code(), Some(1), "{args:?}");
        assert!(stderr(&done).contains(not_whole), "{args:?}: {}", stderr(&done));
    }
    refused(folder, &to, "sqlite:three.db", 1, not_whole);
    refused(folder, "sqlite:other.db", &to, 1, "it holds the beginnings of a copy of store ");

    // The connection that keeps others away is lost.
    let mut begun = begin(folder, "sqlite:one.db", &to, 31_000, noted);
    refused(folder, "sqlite:other.db", &to, 1, "it holds the beginnings of a copy");
    let lost = database.run_in(
        &to,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE relation = 'node'::regclass AND mode = 'ExclusiveLock'",
    );
    assert_eq!(lost, "1");
    begun.signal("CONT");
    assert_eq!(begun.code(), Some(1));
    let said = begun.said();
    assert!(said.contains("the same command goes on from there"), "{said}");
    database.run_in(&to, "DROP TRIGGER slow ON delivery");

    // Others write to it before it is whole.
    let store_id = database.run_in(&to, "SELECT value FROM meta WHERE key = 'store_id'");
    let like_first = |id| {
        format!(
            "INSERT INTO event SELECT {id}, merchant_id, created_at, published_at, topic, message FROM event WHERE event_id = 1;"
        )
    };
    let planted = [
        "UPDATE meta SET value = 'other' WHERE key = 'store_id';",
        "UPDATE event SET message = '{}', topic = 'a:c' WHERE event_id = 17;",
        "DELETE FROM event WHERE event_id = 4000;",
        &like_first(30_001),
        "INSERT INTO idempotency VALUES (1, 'key', '', 1, '', 5);",
        "UPDATE delivery SET state = 0, ended_at = NULL WHERE increment_id = 500;",
    ];
    database.run_in(&to, &planted.concat());
    let done = migrate(folder, "sqlite:one.db", &to);
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    let told = String::from_utf8(done.stdout.clone()).unwrap();
    let found = [
        &format!("the store id was {store_id}, and is other"),
        "event (event_id 17) has another topic, message",
        "event (event_id 4000) is missing",
        "event (event_id 30001) is only in the copy",
        "idempotency had 0 rows, and has 1",
        "delivery (webhook_id 1, increment_id 500) has another state, ended_at",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), found);
    assert!(stderr(&done).contains("stays closed"), "{}", stderr(&done));
    let check = run(folder, &["check", "--store", &to]);
    assert!(stderr(&check).contains(not_whole), "{}", stderr(&check));
    let back = [
        &format!("UPDATE meta SET value = '{store_id}' WHERE key = 'store_id';"),
        "DELETE FROM event WHERE event_id IN (17, 30001);",
        &like_first(17),
        &like_first(4_000),
        "DELETE FROM idempotency;",
        "UPDATE delivery SET state = 1, ended_at = 5 WHERE increment_id = 500;",
    ];
    database.run_in(&to, &back.concat());
    let done = stdout(&migrate(folder, "sqlite:one.db", &to));
    assert!(done.contains("event 30000") && done.contains("delivery 30000, attempt 30000"), "{done}");
    refused(folder, "sqlite:one.db", &to, 1, "it holds a store already");

    // And back.
    let file = folder.join("back.db");
    let noted = || {
        let read = |conn: Connection| conn.query_row(NOTED, [], |row| row.get::<_, String>(0));
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(&file, flags).and_then(read).unwrap_or_default()
    };
    let mut begun = begin(folder, &to, "sqlite:back.db", 31_000, noted);
    refused(folder, &to, "sqlite:three.db", 1, "somebody else is at work on it");
    let serve = run(folder, &["serve", "--listen", "127.0.0.1:0", "--store", &to]);
    assert!(stderr(&serve).contains("is being copied by tallyhook migrate"), "{}", stderr(&serve));
    begun.child.kill().unwrap();
    begun.child.wait().unwrap();
    let check = run(folder, &["check", "--store", "sqlite:back.db"]);
    assert!(stderr(&check).contains("is no whole store yet"), "{}", stderr(&check));
    plant(&file, "UPDATE event SET topic = 'a:c' WHERE event_id = 5");
    let done = migrate(folder, &to, "sqlite:back.db");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "event (event_id 5) has another topic\n", "{}", stderr(&done));
    plant(&file, "UPDATE event SET topic = 'a:b' WHERE event_id = 5");
    stdout(&migrate(folder, &to, "sqlite:back.db"));
    refused(folder, &to, "sqlite:back.db", 1, "it holds a store already");
}

#[test]
fn what_is_served_or_not_ours_is_left_alone() {
    let Some(database) = postgres() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (empty, served) = (database.schema(), database.schema());
    refused(folder, "sqlite:one.db", &empty, 1, "there is no such store; name it with --from");
    refused(folder, &empty, "sqlite:one.db", 1, "there is no such store; name it with --from");
    refused(folder, "one.db", &empty, 2, "--from: ");
    assert_eq!(run(folder, &["migrate", "--from", "sqlite:one.db"]).status.code(), Some(2));
    assert!(!folder.join("one.db").exists());

    let server = serve(folder, "sqlite:one.db");
    refused(folder, "sqlite:one.db", &empty, 1, "is being served by another process");
    stop(server);
    let server = serve(folder, &served);
    refused(folder, &served, "sqlite:two.db", 1, "is being served by the node ");
    refused(folder, "sqlite:one.db", &served, 1, "it holds a store already");
    stop(server);
    refused(folder, "sqlite:one.db", &served, 1, "it holds a store already");
    refused(folder, &served, "sqlite:one.db", 1, "it holds a store already");
    assert!(!folder.join("two.db").exists());

    std::fs::write(folder.join("text.db"), "no database, but a text").unwrap();
    refused(folder, &served, "sqlite:text.db", 1, "is no tallyhook store");
    database.run_in(&empty, "CREATE TABLE own (id BIGINT)");
    refused(folder, "sqlite:one.db", &empty, 1, "the database holds other tables");
    plant(&folder.join("one.db"), "PRAGMA user_version = 5");
    refused(folder, "sqlite:one.db", &database.schema(), 1, "was written by an older tallyhook (schema 5;");
    refused(folder, &served, "sqlite:one.db", 1, "was written by an older tallyhook (schema 5;");
}
