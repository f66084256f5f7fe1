//! Programs of the machine that tests run, and what to say when one is missing.

#![allow(dead_code, reason = "each test program that includes this uses a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long a script may print nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command without settings for tallyhook that the environment may have.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYHOOK_")) {
        command.env_remove(name);
    }
    command
}

/// Hands on the lines of a stream, read by a thread of their own, as long as
/// they are taken.
pub fn each_line(stream: impl Read + Send + 'static, mut take: impl FnMut(String) -> bool + Send + 'static) {
    std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).all(&mut take));
}

/// A program that prints lines, and may be told some. It ends with this.
pub struct Script {
    child: Child,
    stdin: ChildStdin,
    lines: UnboundedReceiver<String>,
}

impl Script {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the script starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = unbounded_channel();
        each_line(stdout, move |line| sender.send(line).is_ok());
        Self { child, stdin, lines }
    }

    /// The next line; `None` when it has ended, which has to be a good end.
    pub async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await.expect("the script prints in time");
        if line.is_none() {
            assert!(self.child.wait().expect("it can be waited for").success(), "the script fails");
        }
        line
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the script reads");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// True if the program is there.
pub fn runs(program: impl AsRef<OsStr>) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// What `tests/run` has installed: named by a variable, or where it puts it.
pub fn installed(variable: &str, place: &str) -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test-tools").join(place);
    std::env::var_os(variable).map(PathBuf::from).or_else(|| usual.exists().then_some(usual))
}

/// Says loudly that a part was not tested; fails if nothing may be left out.
pub fn left_out(what: &str) {
    // Not eprintln: what that prints is shown only when the test fails.
    _ = writeln!(std::io::stderr(), "\nLEFT OUT: {what}");
    assert!(std::env::var_os("HOOKTESTS_COMPLETE").is_none_or(|value| value != "1"), "left out: {what}");
}
