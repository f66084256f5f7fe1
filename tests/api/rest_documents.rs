//! The OpenAPI documents of the REST dialects: well made, as a linter sees it,
//! and true, as far as a fuzzer can tell that sends what they allow and what
//! they forbid.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::delivery::connect::Resolve;
use url::{Host, Url};

use crate::common::store::is_postgres;
use crate::common::{self, Receiver, Start, TestServer};
use crate::tools::{command, installed, left_out, runs};

const LINT_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/redocly.yaml");
const CHECKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/schemathesis/checks.py");

/// The webhooks that there are before anything is sent; 1 has had the events.
const WEBHOOKS: usize = 10;
const EVENTS: usize = 50;
/// At least so many of a hundred requests are to be answered with what was asked for.
const SUCCESSES_MIN_PERCENT: usize = 25;

/// How a dialect is fuzzed.
struct Fuzz {
    dialect: &'static str,
    /// Credentials, by the names of the security schemes.
    credentials: &'static [(&'static str, &'static str)],
    /// Headers that are sent besides.
    headers: &'static [(&'static str, &'static str)],
    /// The most requests that one phase makes of one operation at random.
    examples_max: usize,
    /// Where the values of parameters come from; TOML.
    values: &'static str,
}

const FUZZES: &[Fuzz] = &[
    Fuzz {
        dialect: "ultracart",
        credentials: &[("SimpleKey", KEY)],
        headers: &[],
        examples_max: 30,
        values: r#"
            [dictionaries]
            urls = { values = ["https://example.com/old-hook", "https://example.com:8080/?a=1"] }
            kept = { values = ["https://example.com/hook", "https://example.com/?a=1"] }
            ids = { values = [1] }
            requests = { values = ["msg_STORE_1_1.1", "msg_STORE_1_50.1"] }

            [parameters]
            "path.webhookOid" = { dictionary = "ids", probability = 0.8 }
            "path.requestId" = { dictionary = "requests", probability = 0.8 }
            "query.requestId" = { dictionary = "requests", probability = 0.5 }
            "body.webhook_url" = { dictionary = "urls" }

            # Webhook 1 must not get a URL by which another operation deletes.
            [[operations]]
            include-operation-id = "updateWebhook"
            parameters = { "body.webhook_url" = { dictionary = "kept" } }

            [[operations]]
            include-operation-id = "deleteWebhook"
            parameters = { "path.webhookOid" = 2 }
        "#,
    },
    Fuzz {
        dialect: "babel",
        credentials: &[("ApiKey", KEY)],
        headers: &[],
        examples_max: 40,
        values: r#"
            [dictionaries]
            urls = { values = ["https://example.com/hook", "http://example.com:8080/?a=1"] }
            subscriptions = { values = ["isActive eq true", "id gt 3 and name contains a", "createdAt lt 2026-01-01T00:00:00Z"] }
            events = { values = ["isSuccess eq true", "id gt 3 and payload contains 1", "statusCode eq 204"] }
            numbers = { values = [1, 2, 3, 50, 51] }
            ids = { values = [1] }

            [parameters]
            "path.id" = { dictionary = "ids", probability = 0.8 }
            "path.eventId" = { dictionary = "numbers", probability = 0.8 }
            "query.filter" = { dictionary = "subscriptions" }
            "body.subscription.url" = { dictionary = "urls" }

            [[operations]]
            include-operation-id = "getEvents"
            parameters = { "query.filter" = { dictionary = "events" } }

            [[operations]]
            include-operation-id = "deleteSubscription"
            parameters = { "path.id" = 2 }
        "#,
    },
    Fuzz {
        dialect: "3dcart",
        credentials: &[("SecureURL", "acme"), ("PrivateKey", "ann"), ("Token", KEY)],
        headers: &[],
        examples_max: 12,
        values: THREE_D_CART,
    },
    // The same operations, answered in XML.
    Fuzz {
        dialect: "3dcart",
        credentials: &[("SecureURL", "acme"), ("PrivateKey", "ann"), ("Token", KEY)],
        headers: &[("Accept", "application/xml")],
        examples_max: 4,
        values: THREE_D_CART,
    },
];

/// What the user ann of the merchant acme calls with.
const KEY: &str = "tk_test_ann";

const THREE_D_CART: &str = r#"
    [dictionaries]
    urls = { values = ["https://example.com/hook", "http://example.com:8080/?a=1"] }
    ids = { values = [1] }
    kinds = { values = [1, 2, 3] }

    [parameters]
    "path.id" = { dictionary = "ids", probability = 0.8 }
    "body.Url" = { dictionary = "urls" }
    "body.EventType" = { dictionary = "kinds", probability = 0.8 }

    [[operations]]
    include-operation-id = "deleteV2"
    parameters = { "path.id" = 2 }

    [[operations]]
    include-operation-id = "deleteV2Singular"
    parameters = { "path.id" = 3 }

    [[operations]]
    include-operation-id = "deleteV1"
    parameters = { "path.id" = 4 }

    [[operations]]
    include-operation-id = "deleteV1Singular"
    parameters = { "path.id" = 5 }
"#;

impl Fuzz {
    /// The configuration of Schemathesis. Nothing in it is left to chance, to
    /// what an earlier run found, or to how fast the machine is.
    fn config(&self) -> String {
        let auth: String =
            self.credentials.iter().map(|(scheme, value)| format!("{scheme} = {{ api_key = {value:?} }}\n")).collect();
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        let Self { examples_max, values, .. } = self;
        // A database takes longer for each, and what dialects make of requests is the same with it.
        let examples_max = if is_postgres() { examples_max.div_ceil(4) } else { *examples_max };
        format!(
            r#"
            hooks = {CHECKS:?}
            suppress-health-check = ["all"]
            request-timeout = 60.0
            continue-on-failure = true
            workers = 1
            cache.enabled = false

            [headers]
            {headers}
            [auth.openapi]
            {auth}
            [generation]
            deterministic = true
            database = "none"
            max-examples = {examples_max}

            [checks]
            # In their places are those of the hooks.
            positive_data_acceptance.enabled = false
            negative_data_rejection.enabled = false

            [phases]
            # The documents have no links.
            stateful.enabled = false
            # What the server has made up is not the same each time.
            examples.extra-data-sources.responses = false
            coverage.extra-data-sources.responses = false
            fuzzing.extra-data-sources.responses = false
            fuzzing.error-feedback.enabled = false
            {values}"#
        )
    }
}

async fn document(server: &TestServer, dialect: &str) -> Value {
    let (status, body) = common::get(&server.url(), &format!("/openapi/{dialect}.json")).await;
    assert_eq!(status, 200, "{dialect}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn every_dialect_is_fuzzed() {
    for name in tallyhook::api::rest::dialect_names() {
        assert!(FUZZES.iter().any(|fuzz| fuzz.dialect == name), "{name}");
    }
}

/// Strict generators of clients make one function for each kind of JSON that a
/// body may be in, and two of one name don't go together; they name the client
/// after the document, and have a `Response` of their own.
#[tokio::test]
async fn strict_generators_make_clients_that_work() {
    let server = TestServer::start().await;
    for name in tallyhook::api::rest::dialect_names() {
        let document = document(&server, name).await;
        let title = document["info"]["title"].as_str().unwrap();
        assert!(title.starts_with(|c: char| c.is_ascii_alphabetic()), "{title}");
        assert_eq!(document["components"]["schemas"].get("Response"), None, "{name}");
        let operations = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
        for (method, operation) in operations {
            let Some(content) = operation["requestBody"]["content"].as_object() else { continue };
            let kinds: Vec<_> = content.keys().filter(|kind| kind.contains("json")).collect();
            assert_eq!(kinds, ["application/json"], "{name}: {method} {}", operation["operationId"]);
        }
    }
    // It is read all the same.
    let headers = [("x-api-key", common::DEMO_KEY), ("content-type", "application/json-patch+json")];
    let body = r#"{"subscription": {"eventType": "order:created", "url": "https://example.com/"}}"#;
    let (status, _, text) = server.exchange("POST", "/v1/webhooks/subscriptions", &headers, body).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn the_linter_finds_nothing() {
    let modules = installed("HOOKTEST_NODE_PREFIX", "npm").map(|prefix| prefix.join("node_modules"));
    let tool = modules.map(|modules| modules.join("@redocly/cli/bin/cli.js"));
    let Some(tool) = tool.filter(|tool| runs("node") && tool.exists()) else {
        left_out("@redocly/cli: node or the package is missing; tests/run installs them");
        return;
    };
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut lint = command("node");
    lint.arg(tool).args(["lint", "--config", LINT_CONFIG, "--max-problems", "1000"]).current_dir(&folder);
    lint.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    for name in tallyhook::api::rest::dialect_names() {
        let path = folder.path().join(format!("{name}.json"));
        std::fs::write(&path, document(&server, name).await.to_string()).unwrap();
        lint.arg(path);
    }
    let output = lint.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

/// Knows the receiver of this process, and nobody else: what the fuzzer makes
/// up is delivered nowhere.
struct NobodyElse;

impl Resolve for NobodyElse {
    fn resolve(
        &self,
        _: tallyhook::domain::id::MerchantId,
        host: String,
    ) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        async move {
            match host.as_str() {
                "receiver.test" => Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
        .boxed()
    }
}

/// A server with a catalogue and a few webhooks of ann's, one of which has had events.
async fn server(dialect: &str, receiver: &Receiver) -> TestServer {
    let hooks = Hooks { resolver: Arc::new(NobodyElse), ..Hooks::default() };
    let start = Start { hooks, ..Start::default() }.strict().flag("allow_target", "127.0.0.1");
    // Wrong credentials are sent on purpose.
    let server = start.flag("login_failures_max", "1000000").go().await;
    assert_eq!(server.user("ann", "acme", "admin"), KEY);
    let session = server.login_as("ann", KEY).await;
    for topic in ["order:created", "product:created", "product:updated"] {
        server.rpc("topic.register", json!([session, topic])).await.unwrap();
    }
    let url = format!("http://receiver.test:{}/", receiver.port());
    for number in 1..=WEBHOOKS {
        let topics = if number == 1 { "order:*" } else { "product:*" };
        let format = if dialect == "ultracart" { dialect } else { "3dcart" };
        let data = json!({"name": "shop", "topics": topics, "url": url, "format": format});
        server.rpc("webhook.create", json!([session, data])).await.unwrap();
    }
    let events: Vec<_> =
        (1..=EVENTS).map(|number| json!({"topic": "order:created", "message": {"order_id": number}})).collect();
    server.rpc("event.publish_many", json!([session, events])).await.unwrap();
    receiver.arrivals(EVENTS).await;
    server
}

/// The interpreter that has Schemathesis; `None`, said loudly, if there is none.
fn python() -> Option<PathBuf> {
    let python = installed("HOOKTEST_PYTHON", "venv/bin/python");
    let has = |python: &PathBuf| {
        let output = command(python).args(["-c", "import schemathesis"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = python.filter(has);
    if found.is_none() {
        left_out("Schemathesis: Python or the package is missing; tests/run installs them");
    }
    found
}

/// What the documents allow is done, what they forbid is refused, and every
/// answer is one of which they tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fuzzer_finds_nothing() {
    let Some(python) = python() else { return };
    // Side by side: the tool uses one processor.
    join_all(FUZZES.iter().map(|fuzz| send_what_is_made_up(fuzz, &python))).await;
}

/// Has the tool fuzz a dialect, on a server of its own.
async fn send_what_is_made_up(fuzz: &Fuzz, python: &Path) {
    let receiver = Receiver::obliging().await;
    let server = server(fuzz.dialect, &receiver).await;
    let folder = tempfile::tempdir().unwrap();
    let (config, path) = (folder.path().join("schemathesis.toml"), folder.path().join("openapi.json"));
    let document = document(&server, fuzz.dialect).await;
    let store_id = server.place.value("SELECT value FROM meta WHERE key = 'store_id'");
    std::fs::write(&config, fuzz.config().replace("STORE", &store_id)).unwrap();
    std::fs::write(&path, document.to_string()).unwrap();
    let report = folder.path().join("report.ndjson");
    let mut tool = command(python);
    tool.args(["-B", "-m", "schemathesis.cli", "--config-file"]).arg(&config).arg("run").arg(&path);
    tool.args(["--url", &server.url(), "--no-color", "--report", "ndjson", "--report-ndjson-path"]).arg(&report);
    tool.current_dir(&folder).env("NO_PROXY", "*").env("PYTHONHASHSEED", "0");
    let output = tokio::task::spawn_blocking(move || tool.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}: {said}{}", fuzz.dialect, String::from_utf8_lossy(&output.stderr));
    check_depth(&document, &report);
    check_targets(&server);
}

/// Every operation has been done, and a good share of all requests.
fn check_depth(document: &Value, report: &Path) {
    // How many requests were made of each operation, and how many were answered with what was asked for.
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for line in std::fs::read_to_string(report).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let recorder = &line["ScenarioFinished"]["recorder"];
        for interaction in recorder["interactions"].as_object().into_iter().flatten().map(|(_, value)| value) {
            let (made, done) = counts.entry(recorder["label"].as_str().unwrap().to_owned()).or_default();
            *made += 1;
            *done += usize::from(interaction["response"]["status_code"].as_u64().is_some_and(|code| code / 100 == 2));
        }
    }
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_ascii_uppercase()))
    });
    for operation in operations {
        let (made, done) = counts.get(&operation).copied().unwrap_or_default();
        println!("{operation}: {done} of {made}");
        assert!(done > 0, "{operation} has never been done in {made} requests");
    }
    let (made, done) = counts.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert!(done * 100 >= made * SUCCESSES_MIN_PERCENT, "only {done} of {made} were done");
}

/// No webhook has an address for a host, so each delivery had to ask the
/// resolver, which knows nobody.
fn check_targets(server: &TestServer) {
    for url in server.place.rows("SELECT url FROM webhook WHERE url IS NOT NULL").iter().flatten() {
        assert!(matches!(Url::parse(url).unwrap().host(), Some(Host::Domain(_))), "{url}");
    }
}
