//! A server in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::common::store::Place;
use crate::tools;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tallyhook");

/// A server in a process of its own, which can be killed.
pub struct Process {
    child: Child,
    pub url: String,
    log: PathBuf,
}

impl Process {
    /// With the store of a place, and its log beside it.
    pub fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// What was killed counts as there for a while, in PostgreSQL.
    pub fn start_with(place: &Place, more: &[&str]) -> Self {
        let more = [&["--lease-ttl-ms", "1000"], more].concat();
        Self::with_store(&place.store(), place.path().join("server.log"), &more)
    }

    pub fn with_store(store: &str, log: PathBuf, more: &[&str]) -> Self {
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = tools::command(PROGRAM)
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "warn", "--store"])
            .arg(store)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("tallyhook listening on ").unwrap_or_else(|| panic!("{line:?}"));
        Self { url: url.to_owned(), child, log }
    }

    /// The names of its threads, and where in the kernel each waits; as far as the system tells.
    fn threads(&self) -> Vec<(String, String)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        tasks.map(|task| (read(task.path().join("comm")), read(task.path().join("wchan")))).collect()
    }

    /// SIGTERM: what is in flight ends and is recorded.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    /// Sends it a signal by `kill`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// SIGKILL: nothing of it runs any more when this returns.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("the server at {} (ended: {:?}) said: {log}", self.url, self.child.try_wait());
            eprintln!("what its threads wait for: {:?}", self.threads());
        }
        // Gone already, if it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
