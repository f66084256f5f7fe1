//! `tallyhook export` and `tallyhook import`, as a person runs them.

use super::*;

/// A server, and a folder to work in.
struct Place {
    folder: tempfile::TempDir,
    server: Running,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Running::serve(folder.path(), &["--dev"]);
        Self { folder, server }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = tallyhook(self.folder.path(), args);
        command.env("TALLYHOOK_URL", &self.server.url).env("COLUMNS", "1000").output().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn call(&self, args: &[&str]) -> Value {
        serde_json::from_str(&stdout(&self.server.call(args))).unwrap()
    }

    /// What an import says of each webhook, and its exit code.
    fn import(&self, args: &[&str]) -> (Vec<Value>, Option<i32>) {
        let done = self.run(&[&["import", "--json"], args].concat());
        let text = String::from_utf8(done.stdout.clone()).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (rows, done.status.code())
    }
}

fn outcomes(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect()
}

/// What is noted of a row, and its fault, as one text.
fn told(row: &Value) -> String {
    format!("{} {}", row["notes"], row["fault"]["message"])
}

#[test]
fn webhooks_move_from_one_server_to_another() {
    let (old, new) = (Place::new(), Place::new());
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    for webhook in [
        json!({"topics": "order:*", "url": "http://127.0.0.1:9/", "secret_key": secret, "extra_headers": "X-Key: 7"}),
        json!({"topics": "*", "delivery_mode": "pull", "signing": "ed25519"}),
    ] {
        stdout(&old.server.call(&["webhook.create", &webhook.to_string()]));
    }
    let plain = old.run(&["export"]);
    assert!(!stdout(&plain).contains("C2FV") && stdout(&plain).contains("extra_headers.x-key"), "{}", stdout(&plain));
    assert!(stderr(&plain).contains("exported 2 webhooks; without secrets"), "{}", stderr(&plain));

    let done = old.run(&["export", "--with-secrets", "--out", "webhooks.jsonl"]);
    assert_eq!(stdout(&done), "");
    assert!(stderr(&done).contains("left_out says what 1 of them have besides"), "{}", stderr(&done));
    let file = old.folder.path().join("webhooks.jsonl");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2);
    let again = old.run(&["export", "--out", "webhooks.jsonl"]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("can't be written"), "{}", stderr(&again));

    let file = file.to_str().unwrap();
    let dry = new.run(&["import", "--dry-run", file]);
    assert!(stdout(&dry).contains(" line 2  2    valid   -  "), "{}", stdout(&dry));
    assert!(stderr(&dry).contains("valid 2; a dry run, nothing was made"), "{}", stderr(&dry));
    assert_eq!(new.call(&["webhook.count"]), 0);
    let done = new.run(&["import", file]);
    let table = stdout(&done);
    assert!(table.starts_with("LINE") && table.contains("webhook 1  http://127.0.0.1:9/"), "{table}");
    assert!(table.contains("public_key whpk_") && table.contains("left out: private_key"), "{table}");
    assert!(!table.contains(secret));
    assert_eq!(new.call(&["webhook.get", "1"])["secret_key"], secret);
    assert_eq!(new.call(&["webhook.get", "1"])["extra_headers"], "X-Key: 7");

    // Once more: nothing is doubled in silence.
    let (rows, code) = new.import(&[file]);
    assert_eq!((outcomes(&rows), code), (vec!["failed"; 2], Some(1)));
    assert_eq!((&rows[0]["fault"]["code"], &rows[0]["same_as"]), (&json!(106), &json!([1])));
    let (rows, code) = new.import(&[file, "--skip-existing"]);
    assert_eq!((outcomes(&rows), code), (vec!["skipped"; 2], Some(0)));
    assert_eq!(new.call(&["webhook.count"]), 2);
    let (rows, code) = new.import(&[file, "--duplicate-existing"]);
    assert_eq!((outcomes(&rows), code), (vec!["created"; 2], Some(0)));

    // From one into the other without a file, and as an array.
    let mut import = tallyhook(new.folder.path(), &["import", "-", "--skip-existing"]);
    import.env("TALLYHOOK_URL", &new.server.url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut import = import.spawn().unwrap();
    let list = stdout(&old.server.call(&["webhook.export"]));
    import.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let done = import.wait_with_output().unwrap();
    assert!(stdout(&done).contains("stdin line 2 ") && stderr(&done).contains("skipped 2"), "{}", stdout(&done));
}

#[test]
fn each_mistake_is_told_with_its_line() {
    let place = Place::new();
    place.write(
        "webhooks.jsonl",
        "\u{feff}{\"webhook\": {\"topics\": \"a:b\", \"url\": \"http://127.0.0.1:9/\"}}\n\n{\"webhook\": \n\
         {\"webhook\": {\"topics\": \"a b\", \"url\": \"http://127.0.0.1:9/\"}}\nnonsense\n\
         {\"webhook\": {\"topics\": \"c:d\", \"url\": \"http://127.0.0.1:9/\"}}",
    );
    let (rows, code) = place.import(&["webhooks.jsonl"]);
    assert_eq!(code, Some(1));
    assert_eq!(outcomes(&rows), ["created", "failed", "failed", "failed", "created"]);
    let places: Vec<_> = rows.iter().map(|row| row["place"].as_str().unwrap()).collect();
    assert_eq!(places, [1, 3, 4, 5, 6].map(|line| format!("webhooks.jsonl line {line}")));
    assert!(told(&rows[1]).contains("is no JSON: EOF"), "{}", rows[1]);
    assert_eq!(rows[2]["fault"]["code"], 101);
    assert!(told(&rows[2]).contains("topics: \\\"a b\\\" is no topic"), "{}", rows[2]);
    assert_eq!(place.call(&["webhook.count"]), 2);

    // One that is too long for any call keeps no other from being tried.
    let line = |topics: &str, description: &str| {
        let webhook = json!({"topics": topics, "url": "http://127.0.0.1:9/", "description": description});
        json!({ "webhook": webhook }).to_string()
    };
    let lines = [line("e:e", ""), line("f:f", &"x".repeat(1_100_000)), line("g:g", "")].join("\n");
    place.write("long.jsonl", &lines);
    let (rows, code) = place.import(&["long.jsonl"]);
    assert_eq!((outcomes(&rows), code), (vec!["created", "failed", "created"], Some(1)));
    assert!(told(&rows[1]).contains("a webhook has up to 524288"), "{}", rows[1]);

    let (rows, _) = place.import(&["webhooks.jsonl", "--duplicate-existing", "--show-secrets"]);
    assert!(rows[0]["secret_key"].as_str().unwrap().starts_with("whsec_"), "{}", rows[0]);
    place.write("empty.jsonl", "\n");
    let done = place.run(&["import", "empty.jsonl"]);
    assert!(stdout(&done).is_empty() && stderr(&done).contains("nothing to import"), "{}", stderr(&done));
    for (args, code, problem) in [
        (&["import", "absent.jsonl"][..], 1, "absent.jsonl can't be read"),
        (&["import"], 2, "<FILE>"),
        (&["import", "-", "-"], 2, "stdin is read once"),
        (&["import", "empty.jsonl", "--topic-map", "empty.jsonl"], 2, "name it with --from"),
        (&["import", "empty.jsonl", "--skip-existing", "--duplicate-existing"], 2, "cannot be used with"),
        (&["import", "webhooks.jsonl", "--from", "svix"], 2, "webhooks.jsonl: what is in it is no JSON"),
        (&["import", "empty.jsonl", "--from", "svix", "--topic-map", "empty.jsonl"], 2, "such as {\"user.signup\""),
        (&["export", "--key", "wrong", "--user", "demo"], 1, "at the login as demo"),
    ] {
        let refused = place.run(args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(problem), "{args:?}: {}", stderr(&refused));
    }
}

#[test]
fn many_webhooks_go_in_several_calls() {
    let place = Place::new();
    let line = |n: usize| json!({"webhook": {"topics": format!("a:b{n}"), "url": "http://127.0.0.1:9/"}}).to_string();
    let lines: Vec<_> = (0..205).map(line).collect();
    place.write("many.jsonl", &lines.join("\n"));
    let (rows, code) = place.import(&["many.jsonl"]);
    assert_eq!((rows.len(), code), (205, Some(0)));
    let ids: Vec<_> = rows.iter().map(|row| row["webhook_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=205).collect::<Vec<_>>(), "in their order");
    let done = place.run(&["export"]);
    assert_eq!(stdout(&done).lines().count(), 205);
}

#[test]
fn endpoints_of_svix_become_webhooks() {
    let place = Place::new();
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let page = json!({
        "data": [
            {
                "id": "ep_1", "uid": "shop", "url": "http://127.0.0.1:9/1", "version": 1, "description": "The shop",
                "disabled": false, "filterTypes": ["user.signup", "order.item.created"], "channels": null,
                "throttleRate": 50, "metadata": {}, "createdAt": "2026-11-01T00:00:00Z",
                "updatedAt": "2026-11-01T00:00:00Z", "secret": {"key": secret},
                "headers": {"headers": {"X-Region": "eu"}, "sensitive": []},
            },
            {
                "id": "ep_2", "url": "http://127.0.0.1:9/2", "description": "", "disabled": true, "filterTypes": null,
                "channels": ["project_7"], "rateLimit": null, "metadata": {"tier": "gold"}, "key": secret,
                "headers": {"headers": {}, "sensitive": ["Authorization"]},
            },
            {"id": "ep_3", "url": "http://127.0.0.1:9/3", "filterTypes": ["signup"], "metadata": {}},
            {"id": "ep_4", "description": "no address"},
            {"id": "ep_5", "url": "http://127.0.0.1:9/5", "secret": "whsk_C2FVsBQIhrscChlQIMV"},
        ],
        "iterator": "iter_1", "prevIterator": null, "done": true,
    });
    place.write("endpoints.json", &format!("{page:#}"));
    let (rows, code) = place.import(&["--from", "svix", "endpoints.json"]);
    assert_eq!(code, Some(1));
    assert_eq!(outcomes(&rows), ["created", "created", "failed", "failed", "created"], "{rows:?}");
    assert_eq!([&rows[0]["was"], &rows[0]["notes"]], [&json!("ep_1"), &json!([])]);
    for (row, parts) in [
        (1, &["left out: its channels", "made switched off", "headers Authorization", "its metadata"][..]),
        (2, &["\"signup\\\" has no counterpart", "no secret, and a new one is made"]),
        (3, &["has no url"]),
        (4, &["its private key", "new public key"]),
    ] {
        for part in parts {
            assert!(told(&rows[row]).contains(part) || rows[row].to_string().contains(part), "{part}: {}", rows[row]);
        }
    }
    assert!(
        rows[0]["place"] == "endpoints.json line 3" && rows[1]["place"].as_str().unwrap() > "endpoints.json line 2"
    );
    let one = place.call(&["webhook.get", "1"]);
    for (member, value) in [
        ("url", json!("http://127.0.0.1:9/1")),
        ("name", json!("shop")),
        ("description", json!("The shop")),
        ("topics", json!("user:signup,order:item.created")),
        ("secret_key", json!(secret)),
        ("extra_headers", json!("X-Region: eu")),
        ("rate_limit", json!({"per_second": 50, "burst": 50})),
        ("is_active", json!(1)),
    ] {
        assert_eq!(one[member], value, "{member}");
    }
    let two = place.call(&["webhook.get", "2"]);
    assert_eq!((&two["topics"], &two["is_active"], &two["secret_key"]), (&json!("*"), &json!(0), &json!(secret)));
    assert_eq!(place.call(&["webhook.get", "3"])["signing"], "ed25519");

    // With a map, and what was there passed over.
    place.write("topics.json", r#"{"signup": "user:signup", "user.signup": "account:created"}"#);
    let args = ["--from", "svix", "endpoints.json", "--topic-map", "topics.json", "--skip-existing"];
    let (rows, _) = place.import(&args);
    assert_eq!(outcomes(&rows), ["created", "skipped", "created", "failed", "skipped"], "{rows:?}");
    assert_eq!(place.call(&["webhook.get", "4"])["topics"], "account:created,order:item.created");
    let said = stderr(&place.run(&[&["import"][..], &args].concat()));
    assert!(said.contains("failed 1, skipped 4") && said.contains("bodies and signatures of tallyhook"), "{said}");
}

#[test]
fn endpoints_and_subscriptions_of_convoy_become_webhooks() {
    let place = Place::new();
    let endpoints = json!({
        "status": true, "message": "Endpoints fetched successfully",
        "data": {
            "content": [
                {
                    "uid": "01A", "name": "shop", "url": "http://127.0.0.1:9/1", "status": "active",
                    "secrets": [
                        {"uid": "s1", "value": "the-old-secret", "expires_at": "2026-11-29T00:00:00Z"},
                        {"uid": "s2", "value": "the-new-secret", "expires_at": null},
                    ],
                    "rate_limit": 600, "rate_limit_duration": "1m", "http_timeout": "10s", "support_email": "a@b.example",
                    "authentication": {"type": "api_key", "api_key": {"header_name": "X-Api", "header_value": "hush"}},
                },
                {
                    "uid": "01B", "title": "old", "target_url": "http://127.0.0.1:9/2", "status": "paused",
                    "secrets": [{"value": "second-secret"}], "rate_limit": 5, "rate_limit_duration": 60,
                    "http_timeout": 0, "authentication": {"type": "oauth2", "oauth2": {"url": "https://id.example"}},
                },
                {"uid": "01C", "name": "idle", "url": "http://127.0.0.1:9/3", "status": "active", "secrets": []},
            ],
            "pagination": {"per_page": 20, "has_next_page": false},
        },
    });
    let subscriptions = json!({
        "data": {
            "content": [
                {
                    "uid": "sub1", "name": "one", "status": "active", "endpoint_metadata": {"uid": "01A"},
                    "filter_config": {
                        "event_types": ["user.signup", "user.*"],
                        "filter": {"headers": {}, "body": {}, "is_flattened": false},
                    },
                    "retry_config": {"type": "linear", "duration": "30s", "retry_count": 7},
                },
                {
                    "uid": "sub2", "name": "two", "status": "active", "endpoint_metadata": {"uid": "01A"},
                    "filter_config": {"event_types": ["user.signup", "order.paid"], "filter": {}},
                },
                {
                    "uid": "sub3", "name": "three", "endpoint_metadata": {"uid": "01B"},
                    "filter_config": {"event_types": ["*"], "filter": {"body": {"amount": {"$gt": 5}}}},
                    "retry_config": {"type": "exponential", "duration": 10, "retry_count": 3},
                },
            ],
        },
    });
    place.write("endpoints.json", &endpoints.to_string());
    place.write("subscriptions.json", &subscriptions.to_string());
    let (rows, code) = place.import(&["--from", "convoy", "endpoints.json", "--dry-run"]);
    assert_eq!((outcomes(&rows), code), (vec!["failed"; 3], Some(1)));
    assert!(told(&rows[0]).contains("has no subscription, which says what it gets"), "{}", rows[0]);
    let (rows, code) = place.import(&["--from", "convoy", "endpoints.json", "subscriptions.json"]);
    assert_eq!((outcomes(&rows), code), (vec!["created", "created", "failed"], Some(1)), "{rows:?}");
    let one = place.call(&["webhook.get", "1"]);
    for (member, value) in [
        ("name", json!("shop")),
        ("topics", json!("user:signup,user:*,order:paid")),
        ("secret_key", json!("the-new-secret")),
        ("extra_headers", json!("X-Api: hush")),
        ("rate_limit", json!({"per_second": 10, "burst": 10})),
        ("timeouts", json!({"connect_ms": 3_000, "total_ms": 10_000})),
        ("retry", json!({"max_retries": 7, "interval_seconds": 30})),
        ("is_active", json!(1)),
    ] {
        assert_eq!(one[member], value, "{member}");
    }
    assert_eq!(rows[0]["notes"], json!(["left out: its support_email"]));
    let two = place.call(&["webhook.get", "2"]);
    assert_eq!(
        (&two["url"], &two["is_active"], &two["name"]),
        (&json!("http://127.0.0.1:9/2"), &json!(0), &json!("old"))
    );
    for part in ["was 5 in 60 s, and is 1 a second", "its authentication oauth2", "the filter of its", "exponential"] {
        assert!(told(&rows[1]).contains(part), "{part}: {}", rows[1]);
    }
    assert_eq!(two["rate_limit"]["per_second"], 1);
}

#[test]
fn destinations_of_outpost_become_webhooks() {
    let place = Place::new();
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let destinations = json!([
        {
            "id": "des_1", "type": "webhook", "topics": ["user.created", "order.shipped"], "disabled_at": null,
            "created_at": "2026-11-01T00:00:00Z", "config": {
                "url": "http://127.0.0.1:9/1", "custom_headers": "{\"X-Region\": \"eu\"}",
            },
            "credentials": {
                "secret": secret, "previous_secret": "whsec_prev", "previous_secret_invalid_at": "2026-11-30T00:00:00Z",
            },
        },
        {
            "id": "des_2", "type": "webhook", "topics": "*", "disabled_at": "2026-11-01T00:00:00Z",
            "config": {"url": "http://127.0.0.1:9/2"}, "credentials": {"secret": "whse**********************"},
        },
        {
            "id": "des_3", "type": "aws_sqs", "topics": ["*"], "disabled_at": null,
            "config": {"endpoint": "https://sqs.example"}, "credentials": {"key": "AKIA************"},
        },
        {
            "id": "des_4", "type": "webhook", "topics": ["*"], "config": {"url": "http://127.0.0.1:9/4"},
            "credentials": {"secret": secret}, "filter": {"data": {"amount": {"$gte": 100}}},
            "delivery_metadata": {"app": "7"}, "metadata": {"tier": "gold"},
        },
    ]);
    place.write("list.json", &format!("{destinations:#}"));
    place.write("page.json", &json!({"models": destinations, "pagination": {"next": null}}).to_string());
    let (rows, code) = place.import(&["--from", "outpost", "list.json"]);
    assert_eq!((outcomes(&rows), code), (vec!["created", "created", "failed", "created"], Some(1)), "{rows:?}");
    let one = place.call(&["webhook.get", "1"]);
    assert_eq!((&one["topics"], &one["secret_key"]), (&json!("user:created,order:shipped"), &json!(secret)));
    assert_eq!((&one["extra_headers"], &one["is_active"]), (&json!("X-Region: eu"), &json!(1)));
    let two = place.call(&["webhook.get", "2"]);
    assert_eq!((&two["topics"], &two["is_active"]), (&json!("*"), &json!(0)));
    assert!(two["secret_key"].as_str().unwrap().len() > 40, "a new one");
    assert_eq!(place.call(&["webhook.get", "3"])["is_active"], 0);
    for (row, parts) in [
        (0, &["its previous secret"][..]),
        (1, &["its secret is masked, and a new one is made"]),
        (2, &["goes to \\\"aws_sqs\\\""]),
        (3, &["its filter", "its delivery_metadata", "its metadata", "switched off"]),
    ] {
        parts.iter().for_each(|part| assert!(told(&rows[row]).contains(part), "{part}: {}", rows[row]));
    }
    let (rows, _) = place.import(&["--from", "outpost", "page.json", "--skip-existing"]);
    assert_eq!(outcomes(&rows), ["skipped", "skipped", "failed", "skipped"]);
}
