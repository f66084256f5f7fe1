//! What `tallyhook bench` measures.

use super::*;
use crate::common::postgres::Postgres;

#[test]
fn bench_measures_every_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["bench", "--json", "--events", "150", "--rate", "500", "--pairs", "1", "--hosts", "3"];
    // Receivers that never answer need not be waited for when a server stops.
    let said = tallyhook(folder.path(), &args).env("TALLYHOOK_GRACE_MS", "500").output().unwrap();
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
fn bench_measures_several_servers_that_share_a_database_and_leaves_it_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let alone = run(folder.path(), &["bench", "--scenario", "burst", "--nodes", "2"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(stderr(&alone).contains("name it with --store"), "{}", stderr(&alone));
    let Some(postgres) = Postgres::shared() else {
        tools::left_out("bench on PostgreSQL: it is not installed; tests/run installs it");
        return;
    };
    let burst = ["bench", "--json", "--scenario", "burst", "--events", "400", "--nodes", "2", "--store"];
    let said = run(folder.path(), &[&burst[..], &[&postgres.schema()]].concat());
    let report: Value = serde_json::from_str(&stdout(&said)).unwrap_or_else(|_| panic!("{}", stderr(&said)));
    let line = &report["scenarios"][0];
    assert_eq!(line["deliveries"], 400, "{line}");
    assert!(line["commits"].as_u64().unwrap() > 8, "of both: {line}");
    assert!(line["database"]["wal_bytes_a_delivery"].as_f64().unwrap() > 100.0, "{line}");
    assert_eq!(line["database"]["statements_a_delivery"], Value::Null, "nobody counts them here");
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tallyhook\\_bench\\_%'";
    assert_eq!(postgres.run(left), "0");
}
