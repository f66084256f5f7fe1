//! The OpenRPC document: the same at every door, the same as at the last
//! review, and true: what the examples send and get is what it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};
use tallyhook::domain::fault::FAULTS;

use crate::common;
use crate::examples::{self, Bench};
use crate::tools::{command, installed, left_out, runs};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openrpc.json");

/// Of a server that listens where it does by default.
fn document() -> Value {
    tallyhook::api::rpc::openrpc("http://127.0.0.1:8080/")
}

/// What the document says, ready to be asked.
struct Described {
    methods: BTreeMap<String, Method>,
}

struct Method {
    params: Vec<(String, bool, Validator)>,
    result: Validator,
    /// The name of its notifications, and what they tell.
    notification: Option<(String, Validator)>,
    codes: BTreeSet<i64>,
    examples: Vec<Value>,
}

impl Described {
    fn new() -> Self {
        let document = document();
        let validator = |schema: &Value| {
            let whole = json!({"allOf": [schema], "components": document["components"]});
            let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true);
            options.build(&whole).unwrap_or_else(|problem| panic!("{schema}: {problem}"))
        };
        let described = |method: &Value| {
            let params = method["params"].as_array().unwrap().iter();
            let params = params.map(|param| {
                assert!(!param["description"].as_str().unwrap_or_default().is_empty(), "{}: {param}", method["name"]);
                (text(&param["name"]), param["required"] == true, validator(&param["schema"]))
            });
            let codes = method["errors"].as_array().unwrap().iter();
            // Not by reference: some tools read code and message here, and nowhere else.
            let components: Vec<_> = document["components"]["errors"].as_object().unwrap().values().collect();
            let codes = codes.map(|error| {
                assert!(components.contains(&error), "{}: {error}", method["name"]);
                error["code"].as_i64().unwrap()
            });
            Method {
                params: params.collect(),
                result: validator(&method["result"]["schema"]),
                notification: method
                    .get("x-notification")
                    .map(|notification| (text(&notification["method"]), validator(&notification["schema"]))),
                codes: codes.collect(),
                examples: method["examples"].as_array().unwrap().clone(),
            }
        };
        let methods = document["methods"].as_array().unwrap().iter();
        Self { methods: methods.map(|method| (text(&method["name"]), described(method))).collect() }
    }

    fn check_notification(&self, told: &Value) {
        let named = self.methods.values().filter_map(|method| method.notification.as_ref());
        let (_, schema) =
            named.into_iter().find(|(name, _)| told["method"] == *name).unwrap_or_else(|| panic!("{told}"));
        schema.validate(&told["params"]["result"]).unwrap_or_else(|problem| panic!("{told}: {problem}"));
    }
}

impl Method {
    /// Checks the parameters of a call that was answered with a result.
    fn check_params(&self, params: &Value) -> Result<(), String> {
        let named: Map<String, Value> = match params {
            Value::Array(values) => {
                let names = self.params.iter().map(|(name, ..)| name.clone());
                names.zip(values.iter().cloned()).collect()
            }
            Value::Object(members) => members.clone(),
            _ => Map::new(),
        };
        for (name, is_required, schema) in &self.params {
            match named.get(name) {
                Some(value) => schema.validate(value).map_err(|problem| format!("{name} {value}: {problem}"))?,
                None if *is_required && name != "session" => return Err(format!("{name} is missing")),
                None => {}
            }
        }
        Ok(())
    }

    fn check_result(&self, result: &Value) -> Result<(), String> {
        self.result.validate(result).map_err(|problem| format!("result {result}: {problem}"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn it_is_as_at_the_last_review() {
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(SNAPSHOT).unwrap()).unwrap();
    let found = examples::differences(&kept, &document());
    assert!(
        found.is_empty(),
        "The interface has changed:\n{}\n\nIf that is meant: tallyhook openrpc > tests/openrpc.json",
        found.join("\n")
    );
}

#[tokio::test]
async fn it_is_the_same_at_every_door() {
    let printed = |args: &[&str]| {
        let output = command(env!("CARGO_BIN_EXE_tallyhook")).arg("openrpc").args(args).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(printed(&[]), document());
    let server = common::TestServer::start().await;
    let here = format!("{}/", server.url());
    let elsewhere = common::Start::default().flag("public_url", "https://hooks.example.com/rpc").go().await;
    for (server, url) in [(&server, here.as_str()), (&elsewhere, "https://hooks.example.com/rpc")] {
        let expected = printed(&["--url", url]);
        assert_eq!(expected["servers"][0]["url"], url);
        assert_eq!(server.rpc("rpc.discover", json!([])).await.unwrap(), expected);
        let (status, body) = common::get(&server.url(), "/openrpc.json").await;
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, expected));
    }
}

/// The page for people tells of all that the document does.
#[tokio::test]
async fn the_reference_has_every_method_type_and_fault() {
    let server = common::TestServer::start().await;
    let (status, page) = common::get(&server.url(), "/docs").await;
    assert_eq!(status, 200);
    let document = document();
    let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let methods = document["methods"].as_array().unwrap().iter().map(|method| text(&method["name"]));
    let types = names(&document["components"]["schemas"]).into_iter().map(|name| format!("type-{name}"));
    for anchor in methods.chain(types) {
        assert!(page.contains(&format!("id=\"{anchor}\"")), "{anchor}");
    }
    let links = page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    for link in links {
        assert!(page.contains(&format!("id=\"{link}\"")), "nothing is at #{link}");
    }
    for entry in FAULTS {
        assert!(page.contains(&format!("<td>{}</td>", entry.code.number())), "{}", entry.code.number());
    }
    assert!(
        page.contains("<code>webhook</code> <span class=\"kind\"><a href=\"#type-NewWebhookData\">NewWebhookData</a>")
    );

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/reference");
    let args = ["docs", "--dev", "--url", &format!("{}/", server.url()), "--out"];
    let written = command(env!("CARGO_BIN_EXE_tallyhook")).args(args).arg(&out).output().unwrap();
    assert!(written.status.success());
    assert_eq!(std::fs::read_to_string(out.join("index.html")).unwrap(), page);
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(out.join("openrpc.json")).unwrap()).unwrap();
    assert_eq!(kept["methods"], document["methods"]);
    let refused = command(env!("CARGO_BIN_EXE_tallyhook")).args(["docs", "--out", SNAPSHOT]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("can't be written"));
}

/// An example of a server that knows no demo user is one that its reader can use.
#[tokio::test]
async fn the_examples_of_the_reference_fit_the_server() {
    let page = async |start: common::Start| common::get(&start.go().await.url(), "/docs").await.1;
    let (demo, own) = (page(common::Start::default()).await, page(common::Start::default().strict()).await);
    // As templates escape it.
    let own_user = "-u &#34;$TALLYHOOK_USER:$TALLYHOOK_KEY&#34;";
    assert!(demo.contains("-u demo:demo-key") && !demo.contains("TALLYHOOK_KEY"));
    assert!(own.contains(own_user) && own.contains("export TALLYHOOK_USER"));
    assert!(!own.contains("demo-key"), "nobody gets in with that");
    let printed = |args: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut docs = command(env!("CARGO_BIN_EXE_tallyhook"));
        assert!(docs.arg("docs").args(args).arg("--out").arg(folder.path()).output().unwrap().status.success());
        std::fs::read_to_string(folder.path().join("index.html")).unwrap()
    };
    assert!(printed(&[]).contains(own_user));
    assert!(printed(&["--dev"]).contains("-u demo:demo-key"));
}

/// Who looks up how a webhook is made finds the plain way first, and what it takes.
#[tokio::test]
async fn the_reference_begins_with_what_most_look_for() {
    let document = document();
    for method in document["methods"].as_array().unwrap() {
        let (name, examples) = (text(&method["name"]), method["examples"].as_array().unwrap());
        let is_plain = |example: &Value| [name.clone(), format!("{name}.registered")].contains(&text(&example["name"]));
        if examples.iter().any(is_plain) {
            assert!(is_plain(&examples[0]), "{name}: {}", examples[0]["name"]);
        }
    }
    let page = common::get(&common::TestServer::start().await.url(), "/docs").await.1;
    let section = page.split("<section>").find(|section| section.contains("id=\"webhook.create\"")).unwrap();
    for part in ["<summary>Fields of NewWebhookData</summary>", "<code>extra_headers</code>", "<code>secret_key</code>"]
    {
        assert!(section.contains(part), "{part}");
    }
    // The first thing that a keyboard reaches, where copies go without a clipboard, and what can be searched.
    let body = page.split_once("<body>").unwrap().1;
    assert!(body.trim_start().starts_with("<a class=\"skip\" href=\"#content\">"));
    assert!(body.contains("<main id=\"content\"") && body.contains("execCommand(\"copy\")"));
    assert!(body.contains("type=\"search\"") && body.contains("id=\"fault-103\""));
}

/// Every method of `resources`, and of `rpc-examples/`, stands there, with an
/// example whose values fit.
#[tokio::test]
async fn every_method_is_described_with_examples() {
    let server = common::TestServer::start().await;
    let session = server.login().await;
    let described = Described::new();
    let resources = server.rpc("resources", json!([session])).await.unwrap();
    for resource in resources.as_array().unwrap() {
        for method in resource["methods"].as_array().unwrap() {
            assert!(described.methods.contains_key(method["path"].as_str().unwrap()), "{method}");
        }
    }
    for (name, method) in &described.methods {
        assert!(!method.examples.is_empty(), "{name} has no example");
        for example in &method.examples {
            let params = example["params"].as_array().unwrap().iter();
            let params: Map<_, _> = params.map(|param| (text(&param["name"]), param["value"].clone())).collect();
            let checked = method.check_params(&params.into()).and(method.check_result(&example["result"]["value"]));
            checked.unwrap_or_else(|problem| panic!("{}: {problem}", example["name"]));
        }
    }
}

/// What is really sent and answered is what the document describes, and no
/// method raises a fault that it does not name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_describes_what_the_examples_send_and_get() {
    let server = common::TestServer::start().await;
    let examples = examples::of_rpc();
    let receiver = examples::receiver().await;
    let receiver_url = format!("http://127.0.0.1:{}", receiver.port());
    let commits = Some(server.commits());
    let bench = Bench { examples: &examples, server_url: &server.url(), receiver_url: &receiver_url, commits };
    let described = Described::new();
    let (mut results, mut faults, mut notifications) = (0, 0, 0);
    for (name, example) in &examples {
        // On the vendor's paths codes differ, and what breaks the protocol is no method's matter.
        let is_vendor = example["path"].as_str().is_some_and(|path| path.contains("jsonrpc"));
        let is_in_trouble = example.get("needs").is_some_and(|need| need != "websocket");
        if is_in_trouble || is_vendor || name.starts_with("protocol.") {
            continue;
        }
        for (request, answer) in bench.exchanges(name).await.unwrap() {
            if request.is_empty() {
                notifications += 1;
                described.check_notification(&serde_json::from_str(&answer).unwrap());
                continue;
            }
            let (Ok(request), Ok(answer)) = (serde_json::from_str(&request), serde_json::from_str(&answer)) else {
                continue;
            };
            for (method, params, answer) in calls(request, answer) {
                let Some(method) = described.methods.get(&method) else { continue };
                let checked = match answer {
                    Ok(result) => {
                        results += 1;
                        method.check_params(&params).and(method.check_result(&result))
                    }
                    Err(code) => {
                        faults += 1;
                        let is_known = method.codes.contains(&code) || code == 6;
                        if is_known { Ok(()) } else { Err(format!("{code} is not among its errors")) }
                    }
                };
                checked.unwrap_or_else(|problem| panic!("{name}: {params}: {problem}"));
            }
        }
    }
    println!("{results} results, {faults} faults and {notifications} notifications are as the document says");
    assert!(results > 100 && faults > 20 && notifications >= 4, "{results} {faults} {notifications}");
}

/// Node, and the folder of its packages; `None`, said loudly, if they are missing.
fn node() -> Option<PathBuf> {
    let modules = installed("HOOKTEST_NODE_PREFIX", "npm").map(|prefix| prefix.join("node_modules"));
    let are_there =
        |modules: &PathBuf| ["@open-rpc/test-coverage", "axe-core"].iter().all(|name| modules.join(name).exists());
    let found = modules.filter(|modules| runs("node") && are_there(modules));
    if found.is_none() {
        left_out("OpenRPC's own tools, and a browser: node or their packages are missing; tests/run installs them");
    }
    found
}

/// What `tools/reference.mjs` sees in a browser.
const SEEN: &str = r#"axe, light, 1200: []
axe, light, 400: []
axe, dark, 1200: []
axe, dark, 400: []
copied without a clipboard: ["undefined",true]
by keyboard: ["Skip to the text","OpenRPC document"]
found: ["webhook.create","settled_through in WebhookHealth","fault 103",null]
led to: "rate_limit"
errors: []
"#;

/// On a server that its readers reach by name, without TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_works_in_a_browser() {
    const NO_BROWSER: i32 = 3;
    let Some(modules) = node() else { return };
    let server = common::Start::default().strict().go().await;
    let port = server.url().rsplit_once(':').unwrap().1.to_owned();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/reference.mjs");
    let mut browser = command("node");
    browser.arg(script).arg(modules).arg(port);
    let output = tokio::task::spawn_blocking(move || browser.output().unwrap()).await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_BROWSER) {
        left_out(&format!("the reference in a browser, which does not start here: {complaint}"));
        return;
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), SEEN, "{complaint}");
}

#[test]
fn the_meta_schema_takes_it() {
    const VALIDATE: &str = "const {validateOpenRPCDocument} = require('@open-rpc/schema-utils-js');
        const found = validateOpenRPCDocument(JSON.parse(require('fs').readFileSync(process.argv[1])));
        if (found !== true) { console.error(found); process.exit(1); }";
    let Some(modules) = node() else { return };
    let output = command("node").args(["-e", VALIDATE, "--", SNAPSHOT]).env("NODE_PATH", modules).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// OpenRPC's own coverage tool makes every call of the examples. It sends no
/// header, so a relay logs in for it, and the store holds what they speak of:
/// webhook 1 with a delivery, 2 to be deleted, and 3 whose delivery fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coverage_tool_is_content() {
    let Some(modules) = node() else { return };
    let server = common::TestServer::start().await;
    let receiver = examples::receiver().await;
    let receiver_url = format!("http://127.0.0.1:{}", receiver.port());
    for (topics, place) in [("order:created", ""), ("doomed:created", ""), ("order:created", "/500")] {
        server.webhook(json!({"topics": topics, "url": format!("{receiver_url}{place}")})).await;
    }
    server.user("ann", "demo", "webhook_read,event_write");
    server.publish("order:created", json!({"order_id": 7})).await;
    for webhook in [1, 3] {
        server.attempts(webhook, 1, 1).await;
    }

    let relay = relay(server.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openrpc.json");
    let mut document = tallyhook::api::rpc::openrpc(&relay);
    without_formats(&mut document);
    let methods = document["methods"].as_array_mut().unwrap();
    let is_for_operators = |method: &Value| method["name"].as_str().unwrap().starts_with("merchant.");
    // It speaks HTTP, and calls as a user who is no operator; rpc_examples.rs runs the others.
    methods.retain(|method| method.get("x-transport").is_none() && !is_for_operators(method));
    // What takes away what others speak of goes last.
    methods.sort_by_key(|method| method["name"] == "event.erase");
    std::fs::write(&path, document.to_string().replace("https://example.com/hook", &receiver_url)).unwrap();
    let mut tool = command("node");
    tool.arg(modules.join("@open-rpc/test-coverage/bin/cli.js")).arg("-s").arg(&path);
    tool.args(["--reporters", "console", "--transport", "http"]);
    let output = tokio::task::spawn_blocking(move || tool.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The tool's validator knows no format at all, and stops at the first.
fn without_formats(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // A member that is called so has a schema of its own.
            if members.get("format").is_some_and(Value::is_string) && members.contains_key("type") {
                members.remove("format");
            }
            members.values_mut().for_each(without_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(without_formats),
        _ => {}
    }
}

/// Hands calls on, as the demo user; its URL.
async fn relay(server: String) -> String {
    let (client, authorization) = (common::http_client(), common::basic("demo", common::DEMO_KEY));
    let handle = move |body: String| {
        let (client, authorization, server) = (client.clone(), authorization.clone(), server.clone());
        async move {
            let headers = [("authorization", authorization.as_str())];
            let (_, answer) = common::post(&client, &server, &headers, body).await;
            ([("content-type", "application/json")], answer)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(axum::routing::post(handle));
    let service = hyper_util::service::TowerToHyperService::new(router);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service.clone());
            tokio::spawn(serving);
        }
    });
    url
}

/// The calls in a request, each with its parameters and its result or code;
/// one through `call` as itself, unless its path was refused.
fn calls(request: Value, answer: Value) -> Vec<(String, Value, Result<Value, i64>)> {
    let (Value::Object(request), Value::Object(answer)) = (request, answer) else { return Vec::new() };
    let Some(method) = request.get("method").and_then(Value::as_str) else { return Vec::new() };
    let outcome = match (answer.get("error"), answer.get("result")) {
        (Some(Value::Object(error)), _) => Err(error["code"].as_i64().unwrap()),
        (_, result) => Ok(result.cloned().unwrap_or(Value::Null)),
    };
    let params = request.get("params").cloned().unwrap_or(Value::Null);
    let mut found = vec![(method.to_owned(), params.clone(), outcome.clone())];
    if method == "call" {
        let member = |place: usize, name: &str| match &params {
            Value::Array(values) => values.get(place).cloned(),
            params => params.get(name).cloned(),
        };
        let args = match member(2, "args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(args)) => args,
            Some(sole) => vec![sole],
        };
        // 3 and 4 are of the path itself.
        if let (Some(Value::String(path)), false) = (member(1, "path"), matches!(outcome, Err(3 | 4))) {
            let params = [Value::Null].into_iter().chain(args).collect();
            found = vec![(path, params, outcome)];
        }
    }
    found
}
