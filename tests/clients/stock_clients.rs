//! Clients of others call the server as they come: stock JSON-RPC clients, by
//! position and by name, with notifications and batches; and UltraCart's own.

use std::process::Command;

use crate::common::{DEMO_KEY, Receiver, TestServer};
use crate::tools::{Script, command, installed, left_out, runs};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/stock/");

/// What each of them sees.
const SEEN: &str = r#"by position: 32
by name: 1
through call: [{"webhook_id":1,"increment_id":1}]
fault: [103,"Webhook not exists. There is no webhook 4711."]
after a notification: 2
multiCall: [1,103]
batch: [1,103]
after a batch: 3
end: true
"#;

/// Runs a script against a server of its own.
async fn check(mut command: Command) {
    let server = TestServer::start().await;
    let mut script = Script::start(command.args([&server.url(), "demo", DEMO_KEY]));
    let mut seen = String::new();
    while let Some(line) = script.line().await {
        seen += &line;
        seen.push('\n');
    }
    assert_eq!(seen, SEEN);
}

/// A script for Node that needs a package; `None`, said loudly, if it is missing.
fn node(script: &str, package: &str) -> Option<Command> {
    let modules = installed("HOOKTEST_NODE_PREFIX", "npm").map(|prefix| prefix.join("node_modules"));
    let Some(modules) = modules.filter(|modules| runs("node") && modules.join(package).exists()) else {
        left_out(&format!("{package}: node or the package is missing; tests/run installs them"));
        return None;
    };
    let mut node = command("node");
    node.arg(format!("{SCRIPTS}{script}")).env("NODE_PATH", modules);
    Some(node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jayson_works() {
    let Some(script) = node("jayson.mjs", "jayson") else { return };
    check(script).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_rpc_2_works() {
    let Some(script) = node("json_rpc_2.mjs", "json-rpc-2.0") else { return };
    check(script).await;
}

/// A script for Python that needs a package; `None`, said loudly, if it is missing.
fn python(script: &str, package: &str, module: &str) -> Option<Command> {
    let python = installed("HOOKTEST_PYTHON", "venv/bin/python");
    let has = |python: &std::path::PathBuf| {
        let output = command(python).args(["-c", &format!("import {module}")]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(python) = python.filter(has) else {
        left_out(&format!("{package}: Python or the package is missing; tests/run installs them"));
        return None;
    };
    let mut command = command(python);
    command.arg("-B").arg(format!("{SCRIPTS}{script}"));
    Some(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsonrpclib_pelix_works() {
    let Some(script) = python("pelix.py", "jsonrpclib-pelix", "jsonrpclib") else { return };
    check(script).await;
}

/// What UltraCart's client sees.
const SEEN_BY_ULTRACART: &str = r#"categories: [10,43]
inserted: [1,"basic",32,32]
subscribed: [["order_create","order_update"]]
listed: [1,1,false,10]
updated: [true,"LlamaLlamaRedPajama",false]
subscribed: [["order_create","order_update"]]
published: [[{"webhook_id":1,"increment_id":1}]]
summaries: [[[true,204,["order_create"],["DEMO-1"]]]]
log: [1,true,"{\"events\": [{\"order_create\": {\"order_id\":\"DEMO-1\",\"items\":[]}}]}"]
headers: ["[redacted]","1"]
reflow: ["order_create",true,true]
deleted by URL: [1]
deleted: [null,0]
no such webhook: [404,"404",true]
no such authentication: [400,"400",true]
no such key: [401,"401",true]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ultracarts_own_client_works() {
    let Some(mut command) = python("ultracart_client.py", "ultracart_rest_sdk", "ultracart") else { return };
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    let mut script = Script::start(command.args([&server.url(), "demo", DEMO_KEY, &receiver.url()]));
    let mut seen = String::new();
    while let Some(line) = script.line().await {
        if line.starts_with("published") {
            receiver.arrivals(1).await;
            server.settled(1).await;
            script.tell("it is there");
        }
        seen += &line;
        seen.push('\n');
    }
    assert_eq!(seen, SEEN_BY_ULTRACART);
}
