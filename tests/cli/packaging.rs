//! What an operator installs, and what the program does for whoever starts it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::*;
use crate::tools::{installed, left_out, runs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

#[test]
fn a_supervisor_is_told_when_it_serves_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut said = [0; 256];
        let length = socket.recv(&mut said).unwrap();
        String::from_utf8(said[..length].to_vec()).unwrap().trim_end().to_owned()
    };
    let mut command = tallyhook(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
    let child = command.env("NOTIFY_SOCKET", &path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut server = Running::of(child, "tallyhook listening on ");
    assert_eq!(told(), "READY=1");
    // As by systemctl reload; there is nothing to read anew.
    server.signal("HUP");
    assert_eq!(stdout(&health(&server.url)), "ready\n");
    server.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(server.code(), Some(0));
    let gone = health(&server.url);
    assert_eq!((gone.status.code(), gone.stdout.len()), (Some(1), 0));
    assert!(stderr(&gone).starts_with(&format!("tallyhook: {}/readyz: ", server.url)), "{}", stderr(&gone));
}

fn health(url: &str) -> Output {
    run(&std::env::temp_dir(), &["health", "--url", url])
}

#[test]
fn health_tells_a_server_that_is_not_ready_from_something_else() {
    let answers = |status: &str, body: &str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).lines().next().unwrap().to_owned()
        });
        let told = health(&url);
        assert_eq!(serving.join().unwrap(), "GET /readyz HTTP/1.1");
        told
    };
    let problems = r#"{"status": "not ready", "problems": [{"part": "store", "problem": "its disk is full"}]}"#;
    let told = answers("503 Service Unavailable", problems);
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&told.stdout), "not ready\nstore: its disk is full\n");
    let told = answers("404 Not Found", "nothing here");
    assert_eq!(told.status.code(), Some(1));
    assert!(
        stderr(&told).contains("HTTP 404 Not Found from something that is no tallyhook server"),
        "{}",
        stderr(&told)
    );
}

/// Whether systemd takes the unit, and how much of the system a server could reach that
/// somebody has broken into: 0 is nothing, 10 all.
#[test]
fn the_unit_is_right_and_confined() {
    if !runs("systemd-analyze") {
        return left_out("the unit for systemd: it is not installed");
    }
    let unit = Path::new(ROOT).join("packaging/tallyhook.service");
    let analyzed = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=20"])
        .arg(&unit)
        .output()
        .unwrap();
    assert!(analyzed.status.success(), "{}{}", String::from_utf8_lossy(&analyzed.stdout), stderr(&analyzed));

    // With the program where it is here, it has nothing to complain about.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("tallyhook.service");
    std::fs::write(&copy, file("packaging/tallyhook.service").replace("/usr/bin/tallyhook", PROGRAM)).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
    let said = stderr(&verified);
    let own: Vec<_> = said.lines().filter(|line| line.contains("tallyhook.service")).collect();
    assert!(verified.status.success() && own.is_empty(), "{said}");
}

#[test]
fn the_configuration_of_the_package_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = Path::new(ROOT).join("packaging/tallyhook.toml");
    let text = file("packaging/tallyhook.toml");
    // What stands there as an example is right, too.
    let all = folder.path().join("all.toml");
    let uncommented: Vec<_> =
        text.lines().map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line)).collect();
    std::fs::write(&all, uncommented.join("\n").replace("127.0.0.1:9090", "127.0.0.1:0")).unwrap();
    for config in [&config, &all] {
        let store = format!("sqlite:{}", folder.path().join("hooks.db").display());
        let config = config.to_str().unwrap();
        let mut server = Running::serve(folder.path(), &["--config", config, "--store", &store]);
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
    }
}

#[test]
fn the_container_is_built_as_its_linter_wants_it() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(file("compose.yaml").contains(&format!("image: tallyhook:{version}\n")), "another version");
    assert!(file("Dockerfile").contains(&format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"))), "another Rust");
    let Some(python) = installed("HOOKTEST_PYTHON", "venv/bin/python") else {
        return left_out("the linter of the Dockerfile: it is not installed; run tests/run");
    };
    let linted = Command::new(python.with_file_name("hadolint")).arg("Dockerfile").current_dir(ROOT).output().unwrap();
    assert!(linted.status.success(), "{}{}", String::from_utf8_lossy(&linted.stdout), stderr(&linted));
}

#[test]
fn a_shell_completes_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        let script = stdout(&run(folder.path(), &["completions", shell]));
        assert!(script.contains("migrate") && script.contains("ops-listen"), "{shell}");
    }
    let script = folder.path().join("tallyhook.bash");
    std::fs::write(&script, stdout(&run(folder.path(), &["completions", "bash"]))).unwrap();
    let complete = |line: &str| {
        let words = format!("COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))");
        let call = r#"_tallyhook tallyhook "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}""#;
        let all = format!("source {}; {words}; {call}; echo \"${{COMPREPLY[@]}}\"", script.display());
        stdout(&Command::new("bash").args(["-c", &all]).output().unwrap())
    };
    assert_eq!(complete("tallyhook mig"), "migrate\n");
    assert_eq!(complete("tallyhook serve --ops"), "--ops-listen\n");
    assert_eq!(complete("tallyhook user rot"), "rotate-key\n");
    assert!(!complete("tallyhook bench").contains("bench-"), "what is no command for people is not offered");
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let written = stdout(&run(folder.path(), &["man", "--out", "man"]));
    let pages: Vec<_> = written.lines().map(|line| line.strip_prefix("man/").unwrap()).collect();
    for page in ["tallyhook.1", "tallyhook-serve.1", "tallyhook-user.1", "tallyhook-user-create.1", "tallyhook-call.1"]
    {
        assert!(pages.contains(&page), "{page} of {pages:?}");
    }
    assert!(pages.iter().all(|page| !page.contains("help") && !page.contains("bench-")), "{pages:?}");
    let page = |name: &str| std::fs::read_to_string(folder.path().join("man").join(name)).unwrap();
    assert!(page("tallyhook-serve.1").contains("ops\\-listen"));
    assert!(page("tallyhook-user-create.1").contains("user create"), "it says how it is called");
}
