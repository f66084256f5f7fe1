//! The process of an attacker, seen from outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use super::super::process::{ourselves, polite};
use super::tally::Tally;
use crate::cli::Failure;

/// What an attacker says when all is prepared; anything else is why it can't be.
pub const READY: &str = "ready";
/// How long preparing an attack may take, and how long after its time an
/// attacker may come to an end.
const PREPARING_MAX: Duration = Duration::from_secs(90);
const ENDING_MAX: Duration = Duration::from_secs(10);

/// An attacker's process, killed when this is dropped.
pub struct AttackerProcess {
    child: Child,
    stdin: ChildStdin,
    lines: Option<Lines>,
}

type Lines = std::io::Lines<BufReader<ChildStdout>>;

impl AttackerProcess {
    /// Starts it with these arguments.
    pub fn start(args: &[[&str; 2]]) -> Result<Self, Failure> {
        let mut child = polite(&ourselves()?)
            .arg("bench-attacker")
            .args(args.concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Failure::failed)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self { child, stdin, lines: Some(BufReader::new(stdout).lines()) }),
            _ => Err(Failure::failed("a process has no input and no output")),
        }
    }

    /// Waits until it is prepared; fails with why it can't be.
    pub async fn prepared(&mut self) -> Result<(), Failure> {
        match self.line(PREPARING_MAX).await.as_deref() {
            Some(READY) => Ok(()),
            Some(why) => Err(Failure::failed(format!("it can't be prepared: {why}"))),
            None => Err(Failure::failed(format!("it was not prepared within {PREPARING_MAX:?}"))),
        }
    }

    /// Gives the word.
    pub fn go(&mut self) -> Result<(), Failure> {
        self.stdin.write_all(b"go\n").map_err(Failure::failed)
    }

    /// Waits until it has come to an end; what it has to say.
    pub async fn end(mut self) -> Option<Tally> {
        serde_json::from_str(&self.line(ENDING_MAX).await?).ok()
    }

    async fn line(&mut self, within: Duration) -> Option<String> {
        let mut lines = self.lines.take()?;
        let read = tokio::task::spawn_blocking(move || {
            let line = lines.next().and_then(Result::ok);
            (lines, line)
        });
        let (lines, line) = timeout(within, read).await.ok()?.ok()?;
        self.lines = Some(lines);
        line
    }
}

impl Drop for AttackerProcess {
    fn drop(&mut self) {
        // If it has ended by itself, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
