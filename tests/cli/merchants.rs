//! Merchants, from the command line.

use super::*;

#[test]
fn merchants_are_made_changed_and_paused_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &[]);
    let merchant = |args: &[&str]| run(folder.path(), &[&["merchant"], args].concat());
    let made = merchant(&["create", "acme", "--user", "ann", "--permissions", "webhook_read,event_write"]);
    assert!(stderr(&made).contains("made merchant acme and its user ann, with webhook_read,event_write"), "{made:?}");
    let key = stdout(&made).trim().to_owned();
    assert!(key.starts_with("tk_") && key.len() == 67, "the key, alone: {made:?}");
    let again = merchant(&["create", "acme"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("there is a merchant acme already"), "{}", stderr(&again));
    let taken = merchant(&["create", "globex", "--user", "ann"]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).contains("there is a user ann already"), "{}", stderr(&taken));
    let alone = merchant(&["create", "globex", "--webhooks", "20", "--calls-per-second", "50"]);
    assert!(alone.status.success() && stdout(&alone).is_empty(), "{alone:?}");

    let listed: Value = serde_json::from_str(&stdout(&merchant(&["list", "--json"]))).unwrap();
    let codes: Vec<_> = listed.as_array().unwrap().iter().map(|merchant| merchant["merchant"].clone()).collect();
    assert_eq!(codes, ["acme", "globex"]);
    assert_eq!(
        listed[1]["quotas"],
        json!({"webhooks": 20, "pending_deliveries": null, "events_per_day": null, "calls_per_second": 50})
    );
    let table = stdout(&merchant(&["list"]));
    assert!(table.starts_with("ID  MERCHANT  WEBHOOKS  PENDING  EVENTS/DAY  CALLS/S  CREATED"), "{table}");

    let updated = merchant(&["update", "globex", "--webhooks", "none"]);
    assert!(
        stderr(&updated)
            .contains("globex may have: webhooks -, pending_deliveries -, events_per_day -, calls_per_second 50."),
        "{}",
        stderr(&updated)
    );
    for (args, problem) in [
        (&["update", "globex"][..], "there is nothing to change"),
        (&["update", "globex", "--webhooks", "0"], "quotas.webhooks: 0 is outside 1 to 1000000"),
        (&["update", "globex", "--webhooks", "many"], "write a whole number, or none"),
        (&["create", "two words"], "merchant: "),
    ] {
        let refused = merchant(args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
    for verb in ["get", "pause", "resume"] {
        let unknown = merchant(&[verb, "nowhere"]);
        assert_eq!(unknown.status.code(), Some(1));
        assert!(stderr(&unknown).contains("there is no merchant nowhere"), "{}", stderr(&unknown));
    }

    let publish = || server.call(&["event.publish", "order:created", "{}", "--user", "ann", "--key", &key]);
    stdout(&publish());
    let paused = merchant(&["pause", "acme"]);
    assert!(stderr(&paused).contains("tallyhook merchant resume acme"), "{}", stderr(&paused));
    let refused = publish();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("fault 126: The merchant is paused."), "{}", stderr(&refused));
    let shown: Value = serde_json::from_str(&stdout(&merchant(&["get", "acme", "--json"]))).unwrap();
    assert!(shown["paused_at"].is_string(), "{shown}");
    assert_eq!(shown["used"], json!({"webhooks": 0, "users": 1, "events_today": null}));
    stdout(&merchant(&["resume", "acme"]));
    stdout(&publish());
    let shown = stdout(&merchant(&["get", "acme"]));
    assert!(shown.starts_with("merchant: acme\ncreated_at: ") && shown.contains("\npaused_at: -\n"), "{shown}");
    let log = stdout(&run(folder.path(), &["audit", "--merchant", "acme"]));
    let actions = ["merchant.create", "user.create", "merchant.pause", "merchant.resume"];
    let lines: Vec<_> = log.lines().collect();
    assert!(lines.len() == 4 && lines.iter().zip(actions).all(|(line, action)| line.contains(action)), "{log}");
    assert!(!log.contains(&key));
}
