//! Faults of every kind, planted in SQL in a store that was healthy.

use super::*;

/// Webhooks that pull, each with four deliveries that wait.
const WEBHOOKS: i64 = 18;
/// Events that go to all of them, and others that go nowhere.
const EVENTS: usize = 4;

/// A healthy store: user 1 of merchant 1, webhooks with the events 1 to 4, and the
/// events 5 to 7, which nobody gets.
async fn healthy(place: &Place) {
    let mut server = place.serve();
    let caller = Caller::of(&server);
    for _ in 0..WEBHOOKS {
        caller.webhook(pulled("order:*")).await;
    }
    caller.publish("order:created", EVENTS).await;
    caller.publish("other:thing", 3).await;
    Place::stop(&mut server);
    assert_eq!(place.faults(), [""; 0]);
}

/// Sets what a row of a delivery says.
fn set(webhook: i64, number: i64, what: &str) -> String {
    format!("UPDATE delivery SET {what} WHERE webhook_id = {webhook} AND increment_id = {number};")
}

/// A row like the first of a webhook's.
fn like_first(webhook: i64, to: i64, number: i64) -> String {
    format!(
        "INSERT INTO delivery (webhook_id, increment_id, event_id, format, created_at)
            SELECT {to}, {number}, event_id, format, created_at FROM delivery
            WHERE webhook_id = {webhook} AND increment_id = 1;"
    )
}

fn delete(webhook: i64, number: i64) -> String {
    format!("DELETE FROM delivery WHERE webhook_id = {webhook} AND increment_id = {number};")
}

/// Plants faults in a store, and compares what is found with what they come to.
async fn find(place: &Place, planted: &[(String, Vec<&str>)]) {
    healthy(place).await;
    place.plant(&planted.iter().map(|(sql, _)| sql.as_str()).collect::<String>());
    let mut expected: Vec<&str> = planted.iter().flat_map(|(_, expected)| expected.clone()).collect();
    expected.sort_unstable();
    let found = place.faults();
    let missed: Vec<_> = expected.iter().filter(|fault| !found.iter().any(|one| one == *fault)).collect();
    let others: Vec<_> = found.iter().filter(|fault| !expected.contains(&fault.as_str())).collect();
    assert!(missed.is_empty() && others.is_empty(), "missed: {missed:#?}\nothers: {others:#?}");
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_marks() {
    for place in Place::each() {
        let mut planted = vec![
            (delete(1, 2), vec!["webhook 1 number 2: all up to 3, which is there"]),
            (delete(2, 1) + &delete(2, 2), vec!["webhook 2 numbers 1-2: all up to 3, which is there"]),
            (
                like_first(3, 3, 0) + &set(3, 0, "state = 1, ended_at = 5"),
                vec!["webhook 3 number 0: numbers from 1 on"],
            ),
            (
                "UPDATE webhook SET settled_through = 1, acknowledged_through = -1, pulled_through = 9
                    WHERE webhook_id = 4;"
                    .to_owned(),
                vec![
                    "webhook 4: 0 to 4, the last number",
                    "webhook 4: 0 to 4, the last number",
                    "webhook 4 number 1: it has ended, for settled_through is 1",
                ],
            ),
            ("UPDATE webhook SET settled_through = 5 WHERE webhook_id = 5;".to_owned(), {
                let mut all = vec!["webhook 5: 0 to 4, the last number"];
                all.extend([
                    "webhook 5 number 1: it has ended, for settled_through is 5",
                    "webhook 5 number 2: it has ended, for settled_through is 5",
                    "webhook 5 number 3: it has ended, for settled_through is 5",
                    "webhook 5 number 4: it has ended, for settled_through is 5",
                ]);
                all
            }),
            // What had ended and is sent again lies below it, and that is well.
            (
                set(6, 1, "next_attempt_at = 5, resends_asked = 1")
                    + "UPDATE webhook SET settled_through = 1 WHERE webhook_id = 6;",
                vec![],
            ),
        ];
        match place.is_sqlite() {
            true => planted.extend([
                (delete(7, 4), vec!["webhook 7 number 4: all up to 4, the last that was given out"]),
                (
                    "UPDATE webhook SET last_increment_id = 3 WHERE webhook_id = 8;".to_owned(),
                    vec!["webhook 8 number 4: none beyond 3, the last that was given out"],
                ),
                (
                    "DELETE FROM delivery WHERE webhook_id = 9;".to_owned(),
                    vec!["webhook 9 numbers 1-4: all up to 4, the last that was given out"],
                ),
            ]),
            false => planted.push((
                "ALTER TABLE delivery DROP CONSTRAINT delivery_pkey;".to_owned() + &like_first(7, 7, 4),
                vec!["webhook 7 number 4: one"],
            )),
        }
        find(&place, &planted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standings_and_batches() {
    const UNREADABLE: &str = "what the program writes";
    for place in Place::each() {
        let rule = |place: &str, words: &str| -> &'static str { format!("{place}: {words}").leak() };
        let ended = "ended_at is set unless it is pending";
        let reason = "a reason is set if it was abandoned or cancelled, and else not";
        let planted = vec![
            (set(1, 1, "state = 9"), vec![rule("webhook 1 number 1", UNREADABLE)]),
            (set(1, 2, "reason = 'a whim'"), vec![rule("webhook 1 number 2", UNREADABLE)]),
            (set(1, 3, "attempts = -1"), vec![rule("webhook 1 number 3", UNREADABLE)]),
            (set(1, 4, "format = 77"), vec![rule("webhook 1 number 4", UNREADABLE)]),
            (set(2, 1, "state = 1"), vec![rule("webhook 2 number 1", ended)]),
            (set(2, 2, "ended_at = 5"), vec![rule("webhook 2 number 2", ended)]),
            (set(2, 3, "state = 2, ended_at = 5"), vec![rule("webhook 2 number 3", reason)]),
            (
                set(2, 4, "state = 1, ended_at = 5, reason = 'cancelled_by_owner'"),
                vec![rule("webhook 2 number 4", reason)],
            ),
            (
                set(3, 1, "state = 3, ended_at = 5, reason = 'cancelled_by_owner', next_attempt_at = 5"),
                vec![rule("webhook 3 number 1", "next_attempt_at is not set if it was abandoned or cancelled")],
            ),
            (
                set(3, 2, "attempts = 1"),
                vec![rule("webhook 3 number 2", "next_attempt_at is set if it is pending and was tried")],
            ),
            (
                set(3, 3, "attempts = 1, policy_start = 2, next_attempt_at = 5"),
                vec![rule("webhook 3 number 3", "policy_start is at most attempts")],
            ),
            (
                set(3, 4, "event_id = -event_id"),
                vec![rule("webhook 3 number 4", "it is not to be sent if it was forgotten")],
            ),
            (set(4, 1, "batch_first = 1"), vec!["webhook 4 number 1: both ends"]),
            (set(4, 2, "batch_last = 2"), vec!["webhook 4 number 2: both ends"]),
            (
                set(4, 3, "batch_first = 1, batch_last = 2"),
                vec!["webhook 4 number 3: itself in it, and at most 100 numbers"],
            ),
            (
                set(4, 4, "batch_first = 1, batch_last = 101"),
                vec!["webhook 4 number 4: itself in it, and at most 100 numbers"],
            ),
            // One of the middle does not say so, one is in none, and two have another end.
            (
                set(5, 1, "batch_first = 1, batch_last = 3") + &set(5, 3, "batch_first = 1, batch_last = 3"),
                vec!["webhook 5 numbers 1-3: all 3"],
            ),
            (set(6, 4, "batch_first = 4, batch_last = 5"), vec!["webhook 6 numbers 4-5: all 2"]),
            (
                set(7, 1, "batch_first = 1, batch_last = 2") + &set(7, 2, "batch_first = 1, batch_last = 3"),
                vec!["webhook 7 numbers 1-2: all 2", "webhook 7 numbers 1-3: all 3"],
            ),
            // These are as they may be.
            (
                [1, 2, 3].map(|number| set(8, number, "batch_first = 1, batch_last = 3, next_attempt_at = 5")).concat()
                    + &set(8, 4, "batch_first = 4, batch_last = 4, next_attempt_at = 5"),
                vec![],
            ),
            (set(9, 1, "state = 1, ended_at = 5, attempts = 2, next_attempt_at = 5, policy_start = 2"), vec![]),
            (set(9, 2, "state = 3, ended_at = 5, reason = 'cancelled_by_owner', event_id = -event_id"), vec![]),
        ];
        find(&place, &planted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_what_belongs_to_nothing() {
    for place in Place::each() {
        let attempt = |webhook: i64, number: i64, attempt: i64| {
            format!(
                "INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, queue_delay_ms, duration_us,
                    request_headers, response_headers, response_body, is_compressed)
                    SELECT {webhook}, {number}, {attempt}, 5, 5, 5, '', '', key_hash, is_demo FROM \"user\"
                    WHERE user_id = 1;"
            )
        };
        let event = "INSERT INTO event (event_id, merchant_id, topic, message, created_at, published_at)
            VALUES (2000000, 1, 'a:b', '{}', 5, 5);";
        let forget_id = "UPDATE sqlite_sequence SET seq = 7 WHERE name = 'event';";
        let planted = vec![
            (
                "DELETE FROM event WHERE event_id = 5;".to_owned() + &set(1, 1, "event_id = 5"),
                vec!["webhook 1 number 1: an event that is kept"],
            ),
            // It is sent again, though it was delivered.
            (
                set(1, 2, "event_id = 5, state = 1, ended_at = 5, next_attempt_at = 5"),
                vec!["webhook 1 number 2: an event that is kept"],
            ),
            (set(1, 3, "event_id = 5, state = 1, ended_at = 5"), vec![]),
            (
                "UPDATE event SET merchant_id = 888 WHERE event_id = 6;".to_owned() + &set(2, 1, "event_id = 6"),
                vec!["webhook 2 number 1: an event of merchant 1", "event 6: a merchant"],
            ),
            (
                set(2, 2, "event_id = 1000000"),
                vec!["webhook 2 number 2: an event from 1 to 7, the last that was given out"],
            ),
            (
                set(2, 3, "event_id = -1000000, state = 1, ended_at = 5"),
                vec!["webhook 2 number 3: an event from 1 to 7, the last that was given out"],
            ),
            (
                event.to_owned() + if place.is_sqlite() { forget_id } else { "" },
                vec!["event 2000000: ids up to 7, the last that was given out"],
            ),
            (
                attempt(3, 1, 1) + &attempt(3, 99, 1) + &attempt(3, 99, 2) + &attempt(999, 1, 1),
                vec![
                    "webhook 3 number 1 attempt 1: one of those",
                    "webhook 3 number 99: attempts of deliveries",
                    // Its delivery is there, though its webhook is not.
                    "webhook 999 number 1 attempt 1: one of those",
                ],
            ),
            (set(3, 2, "attempts = 2, next_attempt_at = 5") + &attempt(3, 2, 1) + &attempt(3, 2, 2), vec![]),
            (
                like_first(1, 999, 1) + &like_first(1, 999, 2),
                vec!["webhook 999: deliveries of webhooks that are there"],
            ),
            (
                "INSERT INTO notice (webhook_id, kind, count, first_increment_id, last_increment_id, due_at) VALUES
                    (999, 'delivery_abandoned', 1, 1, 1, 5), (999, 'webhook_disabled', 1, 1, 1, 5),
                    (1, 'webhook_disabled', 1, 1, 1, 5);
                INSERT INTO log_size (webhook_id, bytes, emptied_number, emptied_attempt) VALUES
                    (999, 0, 0, 0), (1, 0, 0, 0);
                INSERT INTO job (job_id, webhook_id, kind, next_id, last_id, since, topics, merchant_id, is_of_all,
                    created_at) SELECT 3, 999, 'replay', 1, 1, 5, '', 1, is_demo, 5 FROM \"user\" WHERE user_id = 1;"
                    .to_owned(),
                vec!["notice of webhook 999: a webhook", "log size of webhook 999: a webhook", "job 3: a webhook"],
            ),
            (
                "INSERT INTO \"user\" (user_id, merchant_id, name, key_hash, permissions, is_demo, created_at)
                    SELECT 9, 888, 'stray', permissions_hash, permissions, is_demo, created_at FROM
                    (SELECT *, key_hash AS permissions_hash FROM \"user\" WHERE user_id = 1) AS u;"
                    .replace(
                        "permissions_hash, permissions,",
                        if place.is_sqlite() { "x'00', permissions," } else { "'\\x00', permissions," },
                    ),
                vec!["user 9: a merchant"],
            ),
            ("UPDATE webhook SET user_id = 777 WHERE webhook_id = 4;".to_owned(), vec!["webhook 4: a user"]),
            (
                "UPDATE webhook SET merchant_id = 888 WHERE webhook_id = 5;
                UPDATE delivery SET state = 1, ended_at = 5 WHERE webhook_id = 5;"
                    .to_owned(),
                vec!["webhook 5: a merchant", "webhook 5: a user of its own merchant 888"],
            ),
            (
                "INSERT INTO fanout (fanout_id, merchant_id, events) VALUES (1, 888, '[]'), (2, 1, '[[5, null, [1]]]'),
                    (3, 1, 'nonsense'), (4, 1, '[[7, null, [1, 2]]]'), (5, 1, '[]');"
                    .to_owned(),
                vec!["fanout 1: a merchant", "fanout 2: an event of merchant 1", "fanout 3: what the program writes"],
            ),
            (
                "INSERT INTO topic (topic_id, merchant_id, topic, category, name, description, event_type, validation,
                    is_deprecated, is_discontinued, created_at, updated_at)
                    SELECT 1000, 888, 'a:b', '', '', '', 1, 'off', is_demo, is_demo, 5, 5 FROM \"user\"
                    WHERE user_id = 1;"
                    .to_owned(),
                vec!["topic 1000: a merchant"],
            ),
            (
                "INSERT INTO audit (audit_id, merchant_id, at, action, kind, subject, before, after, is_cut)
                    SELECT 1000, 888, 5, 'webhook.pause', 'webhook', '1', '{}', '{}', is_demo FROM \"user\"
                    WHERE user_id = 1;"
                    .to_owned(),
                vec!["entry of the audit log 1000: a merchant"],
            ),
        ];
        find(&place, &planted).await;
        some_are_told_and_all_are_counted(&place, planted.iter().map(|(_, faults)| faults.len()).sum());
    }
}

fn some_are_told_and_all_are_counted(place: &Place, count: usize) {
    let checked = place.check(&["--max", "2"]);
    assert_eq!(checked.status.code(), Some(1));
    let told = String::from_utf8(checked.stdout).unwrap();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    assert!(lines[2].starts_with(&format!("and {} more faults", count - 2)), "{told}");
    assert!(lines[3].contains(&format!("; faults {count}; ")), "{told}");
    let checked = place.check(&["--json", "--max", "5"]);
    assert_eq!(checked.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((told["faults"].as_array().unwrap().len(), &told["faults_found"]), (5, &json!(count)));
    let orphan = &told["faults"][0];
    assert_eq!((&orphan["kind"], &orphan["webhook_id"]), (&json!("orphan"), &json!(4)), "{told}");
    assert_eq!(orphan["where"], "webhook 4", "{told}");
    assert!(orphan["found"].as_str().unwrap().contains("user 777"), "{told}");
}

/// Faults at the seams of parts, and beyond the first part.
#[tokio::test(flavor = "multi_thread")]
async fn seams_hide_nothing() {
    for place in Place::each() {
        healthy(&place).await;
        // 18 webhooks of 4 come first, so the first part ends at number 932 of this one.
        let (first, last) = (19, 3_000);
        let marks = if place.is_sqlite() { "last_increment_id = 3000," } else { "" };
        let copied = webhook_columns(&place);
        place.plant(&format!(
            "INSERT INTO webhook (webhook_id, {copied}) SELECT {first}, {copied} FROM webhook WHERE webhook_id = 1;
            INSERT INTO webhook (webhook_id, {copied}) SELECT 20, {copied} FROM webhook WHERE webhook_id = 1;
            DELETE FROM delivery WHERE webhook_id >= {first};
            WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {last})
            INSERT INTO delivery (webhook_id, increment_id, event_id, format, created_at, state, ended_at, attempts,
                batch_first, batch_last)
                SELECT w.webhook_id, n, 1, 0, 5, 1, 5, 1, n - (n - 1) % 7,
                    CASE WHEN n - (n - 1) % 7 + 6 > {last} THEN {last} ELSE n - (n - 1) % 7 + 6 END
                FROM n, webhook w WHERE w.webhook_id >= {first};
            UPDATE webhook SET {marks} settled_through = {last} WHERE webhook_id >= {first};"
        ));
        assert_eq!(place.faults(), [""; 0]);
        // Of batches 925-931 and 932-938, 933 begins the second part.
        place.plant(&(set(19, 930, "batch_last = 932") + &set(19, 936, "batch_first = NULL, batch_last = NULL")));
        let expected = [
            "webhook 19 numbers 925-931: all 7",
            "webhook 19 numbers 925-932: all 8",
            "webhook 19 numbers 932-938: all 7",
        ];
        assert_eq!(place.faults(), expected);
        place.plant(&(set(19, 930, "batch_last = 931") + &set(19, 936, "batch_first = 932, batch_last = 938")));
        let in_none = "UPDATE delivery SET batch_first = NULL, batch_last = NULL WHERE";
        place.plant(&format!("{in_none} increment_id BETWEEN 932 AND 938; {in_none} increment_id < 8;"));
        place.plant(&[delete(19, 932), delete(19, 933), delete(20, 1)].concat());
        assert_eq!(
            place.faults(),
            [
                "webhook 19 numbers 932-933: all up to 934, which is there",
                "webhook 20 number 1: all up to 2, which is there"
            ]
        );
    }
}

/// The columns of a webhook but its id.
fn webhook_columns(place: &Place) -> String {
    let columns: Vec<String> = match place.server {
        None => {
            let file = rusqlite::Connection::open(place.folder.path().join("one.db")).unwrap();
            let mut statement = file.prepare("SELECT name FROM pragma_table_info('webhook')").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        }
        Some(server) => {
            let sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 'webhook'
                AND table_schema = current_schema()";
            server.run_in(&place.store, sql).lines().map(str::to_owned).collect()
        }
    };
    columns.into_iter().filter(|name| name != "webhook_id").collect::<Vec<_>>().join(", ")
}
