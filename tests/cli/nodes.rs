//! The servers that share a store, from the command line.

use super::*;
use crate::common::postgres::Postgres;

fn list(folder: &Path, store: &str, more: &[&str]) -> Output {
    run(folder, &[&["node", "list", "--store", store], more].concat())
}

fn listed(folder: &Path, store: &str) -> Value {
    serde_json::from_str(&stdout(&list(folder, store, &["--json"]))).unwrap()
}

/// What differs from moment to moment, and from who answers.
fn lasting(mut cluster: Value) -> Value {
    for node in cluster["nodes"].as_array_mut().unwrap() {
        assert!(node["expires_in_ms"].as_i64().is_some_and(|ms| (1..=60_000).contains(&ms)), "{node}");
        for member in ["expires_in_ms", "is_self", "leases"] {
            node.as_object_mut().unwrap().remove(member).unwrap();
        }
    }
    json!({"nodes": cluster["nodes"], "members": cluster["database"].as_object().unwrap().keys().collect::<Vec<_>>()})
}

#[test]
fn nodes_are_listed_beside_them_and_without_one() {
    let Some(postgres) = Postgres::shared() else {
        tools::left_out("nodes in PostgreSQL: it is not installed; tests/run installs it");
        return;
    };
    let (folder, store) = (tempfile::tempdir().unwrap(), postgres.schema());
    let none = list(folder.path(), &store, &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("there is no such store; name it with --store"), "{}", stderr(&none));

    let start = |name| {
        let own = ["--dev", "--store", &store, "--lease-ttl-ms", "60000", "--node-name", name];
        Running::serve(folder.path(), &own)
    };
    let (mut first, mut second) = (start("left"), start("right"));
    let told = stdout(&list(folder.path(), &store, &[]));
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with("ID  NAME   VERSION  ROLES     STARTED"), "{told}");
    assert!(lines[0].ends_with("EXPIRES    LEASES") || lines[0].ends_with("EXPIRES     LEASES"), "{told}");
    for (line, name) in lines[1..3].iter().zip(["left", "right"]) {
        assert!(line.contains(name) && line.contains("api,send") && line.contains(" in "), "{told}");
    }
    assert!(lines[3].is_empty() && lines[4].starts_with("leases that nobody holds: "), "{told}");
    assert!(lines[4].ends_with(" of 256") && lines[5].starts_with("oldest snapshot: "), "{told}");
    assert!(lines[6].starts_with("dead rows: event ") && lines.len() == 7, "{told}");

    // A server says the same, and which of them it is.
    let asked: Value = serde_json::from_str(&stdout(&second.call(&["node.list"]))).unwrap();
    let own: Vec<_> = asked["nodes"].as_array().unwrap().iter().map(|node| node["is_self"].clone()).collect();
    assert_eq!(own, [false, true]);
    let beside = listed(folder.path(), &store);
    assert!(beside["nodes"].as_array().unwrap().iter().all(|node| node["is_self"] == false), "{beside}");
    assert_eq!(lasting(beside), lasting(asked));

    // Whoever is killed stands there until its word has expired and another notices.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert_eq!(listed(folder.path(), &store)["nodes"].as_array().unwrap().len(), 2);
    second.signal("TERM");
    assert_eq!(second.code(), Some(0), "{}", second.said());
    let nodes = listed(folder.path(), &store)["nodes"].clone();
    assert_eq!((nodes[0]["name"].as_str(), nodes.as_array().unwrap().len()), (Some("left"), 1), "{nodes}");
    postgres.run_in(&store, "UPDATE node SET expires_at = expires_at - 120000");
    let told = stdout(&list(folder.path(), &store, &[]));
    assert!(told.lines().nth(1).is_some_and(|line| line.contains(" ago ")), "{told}");

    postgres.run_in(&store, "DELETE FROM node");
    let empty = list(folder.path(), &store, &[]);
    assert!(stdout(&empty).starts_with("leases that nobody holds: 256 of 256\n"), "{}", stdout(&empty));
    assert!(stderr(&empty).starts_with("tallyhook: there are no servers now"), "{}", stderr(&empty));
    let document = listed(folder.path(), &store);
    assert_eq!((&document["nodes"], &document["free_leases"]), (&json!([]), &json!(256)), "{document}");
}

#[test]
fn a_store_in_a_file_has_one_server_which_knows_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let missing = list(folder.path(), "sqlite:none.db", &[]);
    assert!(stderr(&missing).contains("none.db: there is no such store"), "{}", stderr(&missing));
    let server = Running::serve(folder.path(), &["--dev", "--store", "sqlite:one.db", "--node-name", "alone"]);
    let refused = list(folder.path(), "sqlite:one.db", &["--json"]);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(stderr(&refused).contains("one.db is a file, which has one server"), "{}", stderr(&refused));
    let asked: Value = serde_json::from_str(&stdout(&server.call(&["node.list"]))).unwrap();
    let started_at = asked["nodes"][0]["started_at"].clone();
    assert!(started_at.is_string());
    let alone = json!({
        "node_id": null, "name": "alone", "version": env!("CARGO_PKG_VERSION"), "roles": ["api", "send"],
        "started_at": started_at, "expires_in_ms": null, "is_self": true, "leases": 256,
    });
    assert_eq!(asked, json!({"nodes": [alone], "free_leases": 0, "database": null}));
}

#[test]
fn the_example_of_a_cluster_loses_nothing_and_leaves_nothing_behind() {
    if Postgres::shared().is_none() {
        tools::left_out("the example of a cluster: PostgreSQL is not installed; tests/run installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let example = |argument| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/run");
        let mut example = Command::new(path);
        example.arg(argument).env("TALLYHOOK", env!("CARGO_BIN_EXE_tallyhook")).env("TMPDIR", folder.path());
        example.output().unwrap()
    };
    let said = example("--once");
    let told = stdout(&said);
    assert!(said.status.success(), "{told}{}", stderr(&said));
    let numbers: Vec<_> = told.lines().filter(|line| line.ends_with("signature ok")).collect();
    for number in 1..=6 {
        assert!(numbers.iter().any(|line| line.contains(&format!("  number {number}  "))), "{told}");
    }
    assert!(told.contains("faults 0"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is gone");
    assert!(stdout(&example("--help")).contains("until Ctrl-C"));
    assert_eq!(example("--twice").status.code(), Some(2));
}
