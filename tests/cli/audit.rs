//! The audit log at the command line: what is done there stands in it, and it is printed.

use super::*;

/// The entries, each without its time and number.
fn entries(folder: &Path, args: &[&str]) -> Vec<Value> {
    let printed = stdout(&run(folder, &[&["audit", "--json"], args].concat()));
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_done_at_the_command_line_stands_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let catalogue = folder.join("topics.json");
    std::fs::write(&catalogue, r#"[{"topic": "order:created"}, {"topic": "order:paid"}]"#).unwrap();
    let (catalogue, permissions) = (catalogue.to_str().unwrap(), "webhook_read,admin");
    for args in [
        &["user", "create", "ann", "--merchant", "acme", "--developer-name", "Ann"][..],
        &["user", "create", "bob", "--merchant", "globex"],
        &["user", "update", "ann", "--permissions", permissions],
        // Nothing differs.
        &["user", "update", "ann", "--permissions", permissions],
        &["user", "profile", "ann", "--developer-name", "Anna"],
        &["user", "profile", "ann"],
        &["user", "rotate-key", "ann"],
        &["user", "disable", "ann"],
        &["user", "disable", "ann"],
        &["user", "enable", "ann"],
        &["topic", "load", catalogue, "--merchant", "acme"],
        &["topic", "load", catalogue, "--merchant", "acme"],
        &["user", "revoke", "ann"],
        &["user", "revoke", "ann"],
    ] {
        stdout(&run(folder, args));
    }
    assert_eq!(run(folder, &["user", "create", "bob", "--merchant", "acme"]).status.code(), Some(1));
    assert_eq!(run(folder, &["user", "enable", "ann"]).status.code(), Some(1));

    let all = entries(folder, &[]);
    let of = |entry: &Value| {
        [&entry["merchant"], &entry["action"], &entry["id"]].map(|name| name.as_str().unwrap().to_owned())
    };
    let seen: Vec<_> = all.iter().map(of).collect();
    let expected = [
        ["acme", "merchant.create", "acme"],
        ["acme", "user.create", "ann"],
        ["globex", "merchant.create", "globex"],
        ["globex", "user.create", "bob"],
        ["acme", "user.update", "ann"],
        ["acme", "user.profile", "ann"],
        ["acme", "user.rotate_key", "ann"],
        ["acme", "user.disable", "ann"],
        ["acme", "user.enable", "ann"],
        ["acme", "topic.register", "order:created"],
        ["acme", "topic.register", "order:paid"],
        ["acme", "user.revoke", "ann"],
    ];
    assert_eq!(seen, expected);
    for entry in &all {
        assert_eq!(
            ["user", "user_id", "peer", "request_id"].map(|member| &entry[member]),
            [&Value::Null; 4],
            "{entry}"
        );
    }
    assert_eq!(all[1]["after"]["developer_name"], "Ann");
    assert_eq!(
        (&all[5]["before"], &all[5]["after"]),
        (&json!({"developer_name": "Ann"}), &json!({"developer_name": "Anna"}))
    );
    assert_eq!(all[4]["after"], json!({"permissions": ["webhook_read", "admin"]}));
    assert!(all[7]["before"]["disabled_at"].is_null() && all[7]["after"]["disabled_at"].is_string());
    assert!(all[11]["after"]["revoked_at"].is_string());

    assert_eq!(entries(folder, &["--merchant", "globex"]).len(), 2);
    assert_eq!(entries(folder, &["--since", "2999-01-01T00:00:00Z"]).len(), 0);
    let since = all[4]["at"].as_str().unwrap();
    assert!(entries(folder, &["--since", since, "--merchant", "acme"]).len() >= 8);
    for (args, code, problem) in [
        (&["--merchant", "nobody"], 1, "there is no merchant nobody"),
        (&["--since", "yesterday"], 2, "no RFC 3339 time"),
    ] {
        let refused = run(folder, &[&["audit"], &args[..]].concat());
        assert_eq!(refused.status.code(), Some(code));
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
}

#[test]
fn it_is_printed_for_people_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let server = Running::serve(folder, &[]);
    let key = stdout(&run(folder, &["user", "create", "ann", "--merchant", "acme"]));
    let as_ann = ["--user", "ann", "--key", key.trim()];
    let create =
        ["webhook.create", r#"{"topics": "order:*", "url": "https://example.com/", "secret_key": "not-to-be-seen"}"#];
    stdout(&server.call(&[&create[..], &as_ann].concat()));
    stdout(&server.call(&[&["webhook.pause", "1"][..], &as_ann].concat()));
    let printed = stdout(&run(folder, &["audit"]));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 4, "{printed}");
    assert!(lines[0].ends_with("Z acme operator merchant.create acme"), "{printed}");
    assert!(lines[2].contains(" acme ann 127.0.0.1 webhook.create 1 {\"name\":\"\""), "{printed}");
    let paused = r#" acme ann 127.0.0.1 webhook.pause 1 {"is_paused":false} -> {"is_paused":true}"#;
    assert!(lines[3].ends_with(paused), "{printed}");
    assert!(!printed.contains("not-to-be-seen") && !printed.contains(key.trim()));
}
