//! Stock JSON-RPC clients call the server as they come: by position and by
//! name, with notifications and batches.

mod common;
mod tools;

use std::process::Command;

use common::{DEMO_KEY, TestServer};
use tools::{Script, command, installed, left_out, runs};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stock/");

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsonrpclib_pelix_works() {
    let python = installed("HOOKTEST_PYTHON", "venv/bin/python");
    let has = |python: &std::path::PathBuf| {
        command(python).args(["-c", "import jsonrpclib"]).output().is_ok_and(|output| output.status.success())
    };
    let Some(python) = python.filter(has) else {
        left_out("jsonrpclib-pelix: Python or the package is missing; tests/run installs them");
        return;
    };
    let mut script = command(python);
    script.arg("-B").arg(format!("{SCRIPTS}pelix.py"));
    check(script).await;
}
