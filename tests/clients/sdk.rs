//! The client packages that `tallyhook sdk` writes: their languages' strictest
//! checkers are content, and the same script does the same in each, against a
//! live server.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{DEMO_KEY, Start};
use crate::tools::{Script, command, installed, left_out, runs};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyhook");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk");
/// Has Node give programs the WebSocket that they have anyway from 22 on.
const WEB_SOCKET: &str = "--experimental-websocket";
/// What a script prints when it wants its session ended.
const END_THE_SESSIONS: &str = "end the sessions";

/// What each script sees.
const SEEN: &str = r#"published: 100
arrived: 100
answered 204: 89
answered 500: 11
twice at once: [204,204]
healed: 11
nothing left to heal: 0
handled once each: true
errors: ["Error: on purpose"]
handled after a replay: 100
altered: 401
for another webhook: 400
above too many gaps: 503
end the sessions
after the session's end: [1,1,1,1,1]
fault: ["NoWebhookError",103,"Webhook not exists. There is no webhook 4711."]
wrong key: "AccessDeniedError"
a wrong field: ["InvalidEventError","topic"]
cancelled: ["Error: enough","Error: enough"]
timed out: true
repeated: [3,true,true]
listed: true
pulled: [2,[2]]
tombstones: [[1,"cancelled",{"n":1}]]
in order: [1,2]
batched: 10
of another store: [204,204,204,2]
begun anew: [2,[100,98],0,[100,100],"OtherStoreError","OtherStoreError","OtherStoreError"]
told once: ["OtherStoreError"]
skipped, then sent again: [1,0,[204,204,204]]
past a number that fails: [2,[2,3],["Error: on purpose"]]
that number again: [1,[2,3,1]]
past what can't be read: [3,3]
backfilled: [3,3,6,3,3,0,3,3]
redirected: true
can't be said: true
without an end: 6
several: [6,{"isFault":true,"faultCode":103,"faultMessage":"Webhook not exists. There is no webhook 4711."}]
by its path: 6
by a public key: [[204,true,false],["SignatureError","SignatureError"],[204,true,true]]
"#;

/// What the script for TypeScript sees besides, before its last lines.
const SUBSCRIBED: &str = r#"subscribed: [1,[1,"pending"]]
events after a break: [2]
deliveries after a break: [{"missed":[{"webhook_id":7,"first_increment_id":1,"last_increment_id":1}]},[2,"pending"]]
no more events: ["Error: enough"]
left: [{"done":true},"the end"]
of none: "NoWebhookError"
nobody there: "TransportError"
"#;

/// Writes the package of a language into a folder.
fn write(language: &str, folder: &Path) {
    let output = command(PROGRAM).args(["sdk", language, "--out"]).arg(folder).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for path in String::from_utf8(output.stdout).expect("it prints text").lines() {
        let text = std::fs::read_to_string(path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
        assert!(!text.contains("TALLYHOOK_VERSION"), "{path}");
    }
}

/// Runs a program to its end, which has to be a good one; what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{said}{complained}");
    said.into_owned()
}

/// The blocks of this language in a package's README, as files beside each other.
fn unpack_readme(package: &Path, language: &str, ending: &str, folder: &Path) -> usize {
    let readme = std::fs::read_to_string(package.join("README.md")).expect("there is a README");
    let fence = format!("```{language}\n");
    let blocks: Vec<_> = readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect();
    for (place, block) in blocks.iter().enumerate() {
        std::fs::write(folder.join(format!("readme_{place}.{ending}")), block).expect("a block can be written");
    }
    blocks.len()
}

/// Runs a script to its end, and ends its session when it asks for that.
async fn see(mut command: Command) -> String {
    let server = Start::default().flag("message_depth_max", "100000").go().await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut script = Script::start(command.args([&server.url(), "demo", DEMO_KEY]).arg(folder.path()));
    let mut seen = String::new();
    while let Some(line) = script.line().await {
        if line == END_THE_SESSIONS {
            assert_eq!(server.place.rows("DELETE FROM session RETURNING user_id").len(), 1);
            script.tell("done");
        }
        seen += &line;
        seen.push('\n');
    }
    // One login for all calls that met the end, which `close` has ended; and one through the relay.
    let sessions = server.place.number("SELECT count(*) FROM session");
    assert_eq!(sessions, 1, "calls at once log in once, and close ends the session");
    seen
}

/// The packages that Node needs; `None`, said loudly, if they are missing.
fn node_modules() -> Option<PathBuf> {
    let modules = installed("HOOKTEST_NODE_PREFIX", "npm").map(|prefix| prefix.join("node_modules"));
    let found = modules.filter(|modules| runs("node") && modules.join("typescript").exists());
    if found.is_none() {
        left_out("the package for TypeScript: node or its packages are missing; tests/run installs them");
    }
    found
}

/// What a program may take for granted.
enum Platform {
    Node,
    Browser,
}

/// Checks and compiles what is in a folder, as strictly as the package itself.
fn compile(modules: &Path, package: &Path, folder: &Path, platform: Platform) {
    let (lib, types) = match platform {
        Platform::Node => ("", r#""node""#),
        Platform::Browser => (r#", "dom""#, ""),
    };
    let options = format!(
        r#"{{"extends": "{}/tsconfig.json", "include": ["*.ts"], "compilerOptions": {{
            "rootDir": ".", "outDir": "out", "lib": ["es2022"{lib}], "types": [{types}],
            "declaration": false, "declarationMap": false }}}}"#,
        package.display()
    );
    std::fs::write(folder.join("tsconfig.json"), options).expect("it can be written");
    std::fs::write(folder.join("package.json"), r#"{"type": "module"}"#).expect("it can be written");
    let own = folder.join("node_modules");
    std::fs::create_dir(&own).expect("it can be made");
    for (name, target) in [("tallyhook", package), ("@types", &modules.join("@types"))] {
        symlink(target, own.join(name)).expect("a package can be linked");
    }
    run(tsc(modules).current_dir(folder));
}

fn tsc(modules: &Path) -> Command {
    let mut tsc = command("node");
    tsc.arg(modules.join("typescript/bin/tsc"));
    tsc
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_package_works() {
    let Some(modules) = node_modules() else { return };
    if !command("node").args([WEB_SOCKET, "-e", ""]).output().is_ok_and(|output| output.status.success()) {
        left_out("the package for TypeScript: node has no WebSocket; it has from 20.10 on");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let package = folder.path().join("package");
    write("typescript", &package);
    symlink(&modules, package.join("node_modules")).expect("packages can be linked");
    run(tsc(&modules).current_dir(&package));

    let scripts = folder.path().join("scripts");
    std::fs::create_dir(&scripts).expect("it can be made");
    let count = unpack_readme(&package, "ts", "ts", &scripts);
    assert_eq!(count, 4);
    std::fs::copy(Path::new(SCRIPTS).join("script.ts"), scripts.join("script.ts")).expect("it can be copied");
    compile(&modules, &package, &scripts, Platform::Node);

    let browser = folder.path().join("browser");
    std::fs::create_dir(&browser).expect("it can be made");
    std::fs::copy(scripts.join("readme_3.ts"), browser.join("readme_3.ts")).expect("it can be copied");
    compile(&modules, &package, &browser, Platform::Browser);

    let mut script = command("node");
    script.arg(WEB_SOCKET).arg(scripts.join("out/script.js"));
    let (before, after) = SEEN.split_at(SEEN.find("several: ").expect("it is seen"));
    assert_eq!(see(script).await, format!("{before}{SUBSCRIBED}{after}"));
}

#[test]
fn the_typescript_package_holds_what_it_exports() {
    let Some(modules) = node_modules() else { return };
    if !runs("npm") {
        left_out("packing the package for TypeScript: npm is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    write("typescript", folder.path());
    symlink(&modules, folder.path().join("node_modules")).expect("packages can be linked");
    run(tsc(&modules).current_dir(folder.path()));
    let args = ["pack", "--dry-run", "--json", "--ignore-scripts", "--offline"];
    let packed = run(command("npm").args(args).current_dir(folder.path()));
    let packed: Value = serde_json::from_str(&packed).expect("npm prints JSON");
    let packed = packed.get(0).or_else(|| packed.get("tallyhook")).expect("npm tells of the package");
    let files: Vec<_> = packed["files"].as_array().expect("npm lists files").iter().collect();
    let has = |path: &str| files.iter().any(|file| file["path"] == path);
    let metadata: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("package.json")).expect("it is there"))
            .expect("it is JSON");
    assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(metadata["dependencies"].as_object().map(serde_json::Map::len), Some(1));
    for export in metadata["exports"].as_object().expect("it has exports").values() {
        for path in ["types", "default"] {
            let path = export[path].as_str().expect("a path").trim_start_matches("./");
            assert!(has(path), "{path} is not packed");
        }
    }
    for path in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "src/index.ts"] {
        assert!(has(path), "{path} is not packed");
    }
}

/// Python with its packages; `None`, said loudly, if they are missing.
fn python() -> Option<PathBuf> {
    let python = installed("HOOKTEST_PYTHON", "venv/bin/python");
    let has = |python: &PathBuf| {
        let import = command(python).args(["-c", "import mypy, flit_core, standardwebhooks, cryptography"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let found = python.filter(has);
    if found.is_none() {
        left_out("the package for Python: Python or its packages are missing; tests/run installs them");
    }
    found
}

/// Checks files as strictly as mypy does, for the oldest Python that the package is for.
fn mypy(python: &Path, package: &Path, cache: &TempDir, files: &[PathBuf]) {
    let mut mypy = command(python);
    mypy.args(["-m", "mypy", "--strict", "--python-version", "3.10", "--cache-dir"]).arg(cache.path());
    run(mypy.args(files).env("MYPYPATH", package.join("src")).current_dir(cache.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_package_works() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let cache = tempfile::tempdir().expect("a temporary folder can be made");
    let package = folder.path().join("package");
    write("python", &package);
    mypy(&python, &package, &cache, &[package.join("src/tallyhook")]);
    assert_eq!(unpack_readme(&package, "python", "py", folder.path()), 4);
    let blocks = (0..4).map(|place| folder.path().join(format!("readme_{place}.py")));
    let script = Path::new(SCRIPTS).join("script.py");
    mypy(&python, &package, &cache, &blocks.chain([script.clone()]).collect::<Vec<_>>());

    let wheels = folder.path().join("wheels");
    let args = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"];
    run(command(&python).args(args).arg(&wheels).arg(&package));
    let wheel = wheels.join(format!("tallyhook-{}-py3-none-any.whl", env!("CARGO_PKG_VERSION")));
    let files = run(command(&python).args(["-m", "zipfile", "--list"]).arg(&wheel));
    for file in ["tallyhook/py.typed", "tallyhook/receiver.py", "LICENSE-MIT"] {
        assert!(files.contains(file), "{file} is not in the wheel:\n{files}");
    }

    // From the wheel, as it would be installed.
    let mut running = command(&python);
    running.arg("-B").arg(script).env("PYTHONPATH", wheel);
    assert_eq!(see(running).await, SEEN);
}

#[test]
fn a_package_has_the_name_that_it_is_given() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut sdk = command(PROGRAM);
    sdk.args(["sdk", "typescript", "--name", "@acme/hooks", "--version", "7.0.1", "--out"]).arg(folder.path());
    run(&mut sdk);
    let metadata = std::fs::read_to_string(folder.path().join("package.json")).expect("it is there");
    let metadata: Value = serde_json::from_str(&metadata).expect("it is JSON");
    assert_eq!((&metadata["name"], &metadata["version"]), (&"@acme/hooks".into(), &"7.0.1".into()));
    let refused = command(PROGRAM).args(["sdk", "python", "--name", "@acme/hooks", "--out", "x"]).output();
    let refused = refused.expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is no name of a package"));
}

#[test]
fn what_can_not_be_written_is_refused() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let refused = command(PROGRAM).args(["sdk", "python", "--out", file]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("can't be written"));
    let refused = command(PROGRAM).args(["sdk", "cobol", "--out", file]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("typescript, python"));
}
