//! Users, from the command line.

use super::*;

#[test]
fn users_are_made_listed_and_revoked_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &[]);
    let made = stdout(&run(folder.path(), &["user", "create", "ann", "--merchant", "acme"]));
    let key = made.strip_suffix('\n').unwrap();
    assert!(key.starts_with("tk_") && key.len() == 67, "the key, alone: {made:?}");
    let again = run(folder.path(), &["user", "create", "ann", "--merchant", "acme"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("ann"), "{}", stderr(&again));
    let reader = ["user", "create", "bob", "--merchant", "acme", "--permissions", "webhook_read"];
    stdout(&run(folder.path(), &reader));

    let list = stdout(&run(folder.path(), &["user", "list"]));
    assert!(list.starts_with("ID  NAME  MERCHANT") && list.contains("\n1   ann   acme"), "{list}");
    let line = |name: &str| list.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{list}"));
    assert!(line("ann").contains("acme") && line("ann").contains("webhook_read,webhook_write,event_write"), "{list}");
    assert!(line("bob").contains("webhook_read") && !line("bob").contains("webhook_write"), "{list}");
    assert!(!list.contains(key), "keys are shown once");

    let as_ann = ["webhook.list", "--user", "ann", "--key", key];
    assert_eq!(stdout(&server.call(&as_ann)).trim(), "[]");
    stdout(&run(folder.path(), &["user", "disable", "ann"]));
    let refused = server.call(&as_ann);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("fault 119: The user is disabled."), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("tallyhook user enable ann"), "{}", stderr(&refused));
    stdout(&run(folder.path(), &["user", "enable", "ann"]));
    assert_eq!(stdout(&server.call(&as_ann)).trim(), "[]");

    stdout(&run(folder.path(), &["user", "revoke", "ann"]));
    let refused = server.call(&as_ann);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("fault 2: Access denied."), "{}", stderr(&refused));
    let too_late = run(folder.path(), &["user", "enable", "ann"]);
    assert_eq!(too_late.status.code(), Some(1));
    assert!(stderr(&too_late).contains("ann was revoked, which is for ever"), "{}", stderr(&too_late));
    for verb in ["revoke", "disable", "enable"] {
        let unknown = run(folder.path(), &["user", verb, "eve"]);
        assert_eq!(unknown.status.code(), Some(1));
        assert!(stderr(&unknown).contains("there is no user eve"), "{}", stderr(&unknown));
    }

    let files = std::fs::read_dir(folder.path()).unwrap();
    let everything: Vec<u8> = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!everything.windows(key.len()).any(|window| window == key.as_bytes()), "only the hash is stored");
}

#[test]
fn a_profile_is_made_with_its_user_and_changed_later() {
    let folder = tempfile::tempdir().unwrap();
    let user = |args: &[&str]| run(folder.path(), &[&["user"], args].concat());
    let shop = ["create", "shop", "--merchant", "acme", "--application-name", "The shop", "--developer-name", "Ann"];
    assert!(stdout(&user(&shop)).starts_with("tk_"));
    let bare = ["create", "bare", "--merchant", "acme"];
    stdout(&user(&bare));
    let known = "application_name: The shop\ndeveloper_name: Ann\n";
    assert_eq!(stdout(&user(&["profile", "shop"])), known);
    let nothing = user(&["profile", "bare"]);
    assert_eq!((stdout(&nothing).as_str(), stdout(&user(&["profile", "bare", "--json"])).trim()), ("", "{}"));
    assert_eq!(stderr(&nothing), "tallyhook: nothing is known of the application of bare.\n");
    let shop: Value = serde_json::from_str(&stdout(&user(&["profile", "shop", "--json"]))).unwrap();
    assert_eq!(shop, json!({"application_name": "The shop", "developer_name": "Ann"}));

    let changes = ["profile", "shop", "--application-name", "Shop 2", "--developer-website", "https://example.com/ann"];
    let known = "application_name: Shop 2\ndeveloper_name: Ann\ndeveloper_website: https://example.com/ann\n";
    assert_eq!(stdout(&user(&changes)), known);
    for (said, problem) in [
        (["--application-logo-url", "example.com"], "application_logo_url: is no http or https URL"),
        (["--application-description", &"x".repeat(201)], "application_description: has 201 characters"),
    ] {
        for verb in [&["profile", "shop"][..], &["create", "new", "--merchant", "acme"]] {
            let refused = user(&[verb, &said].concat());
            assert_eq!(refused.status.code(), Some(2));
            assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
        }
    }
    let known = "application_name: Shop 2\ndeveloper_website: https://example.com/ann\n";
    assert_eq!(stdout(&user(&["profile", "shop", "--developer-name", ""])), known);
    let unknown = user(&["profile", "new"]);
    assert_eq!(unknown.status.code(), Some(1), "it was not made");
    assert!(stderr(&unknown).contains("there is no user new"), "{}", stderr(&unknown));
}

#[test]
fn lists_are_told_with_ids_as_json_and_in_narrow_terminals() {
    let folder = tempfile::tempdir().unwrap();
    let user = |args: &[&str]| tallyhook(folder.path(), &[&["user"], args].concat());
    stdout(&user(&["create", "ann", "--merchant", "acme", "--permissions", "webhook_read,admin"]).output().unwrap());
    let listed: Value = serde_json::from_str(&stdout(&user(&["list", "--json"]).output().unwrap())).unwrap();
    assert!(listed[0]["created_at"].is_string(), "{listed}");
    let expected = json!([{
        "user_id": 1, "name": "ann", "merchant": "acme", "permissions": ["webhook_read", "admin"],
        "created_at": listed[0]["created_at"], "disabled_at": null, "revoked_at": null,
    }]);
    assert_eq!(listed, expected);
    let narrow = stdout(&user(&["list"]).env("COLUMNS", "40").output().unwrap());
    assert!(narrow.starts_with("ID           1\nNAME         ann\nMERCHANT     acme\n"), "{narrow}");
    let wide = stdout(&user(&["list"]).env("COLUMNS", "200").output().unwrap());
    assert_eq!(wide.lines().count(), 2, "{wide}");
}

#[test]
fn permissions_are_changed_and_keys_replaced_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &[]);
    let user = |args: &[&str]| run(folder.path(), &[&["user"], args].concat());
    let made = stdout(&user(&["create", "ann", "--merchant", "acme", "--permissions", "webhook_read"]));
    let old = made.trim();
    let publish = |key: &str| server.call(&["event.publish", "order:created", "{}", "--user", "ann", "--key", key]);
    assert!(stderr(&publish(old)).contains("This needs the permission event_write."));
    let updated = user(&["update", "ann", "--permissions", "webhook_read,event_write"]);
    assert!(updated.status.success() && stderr(&updated).contains("webhook_read,event_write"), "{}", stderr(&updated));
    stdout(&publish(old));
    let wrong = user(&["update", "ann", "--permissions", "root"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("\"root\" is none"), "{}", stderr(&wrong));

    let rotated = user(&["rotate-key", "ann"]);
    let second = stdout(&rotated);
    let second = second.strip_suffix('\n').unwrap();
    assert!(second.starts_with("tk_") && second.len() == 67 && second != old, "the key, alone: {second:?}");
    assert!(stderr(&rotated).contains("count until "), "{}", stderr(&rotated));
    for key in [old, second] {
        stdout(&publish(key));
    }
    let third = stdout(&user(&["rotate-key", "ann", "--overlap", "0"]));
    for (key, code) in [(old, 1), (second, 1), (third.trim(), 0)] {
        assert_eq!(publish(key).status.code(), Some(code), "{key}");
    }
    stdout(&user(&["revoke", "ann"]));
    for args in [&["rotate-key", "ann"][..], &["update", "ann", "--permissions", "admin"]] {
        assert!(stderr(&user(args)).contains("ann was revoked, which is for ever"));
    }
    assert_eq!(user(&["rotate-key", "ann", "--overlap", "2592001"]).status.code(), Some(2));
    assert!(stderr(&user(&["rotate-key", "eve"])).contains("there is no user eve"));
}
