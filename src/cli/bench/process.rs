//! The processes of a measurement, and what they cost.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cli::Failure;

/// Clock ticks a second in `/proc` (`sysconf(_SC_CLK_TCK)`), 100 on every
/// Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process of this program, or of another version, killed when it is dropped.
pub struct Process {
    child: Child,
    /// What it said it listens on, without the scheme.
    pub address: String,
}

/// What a process has used so far; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on the processors.
    pub cpu: Option<Duration>,
    /// The memory it has now, in bytes.
    pub rss: Option<u64>,
    /// The most memory it has had, in bytes.
    pub peak_rss: Option<u64>,
}

/// This program.
pub fn ourselves() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(Failure::failed)
}

/// A command that runs a program behind all others of the machine, if the
/// system has `nice`.
pub fn polite(program: &Path) -> Command {
    let is_there = Command::new("nice").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(program);
    command
}

impl Process {
    /// Starts a program of ours with these arguments, and waits for the line that
    /// ends with its URL. What it logs goes into a file, if there is one.
    pub fn start(mut program: Command, args: &[&str], log: Option<&Path>) -> Result<Self, Failure> {
        let log = match log {
            Some(path) => Stdio::from(File::create(path).map_err(Failure::failed)?),
            None => Stdio::null(),
        };
        let mut child = program
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(Failure::failed)?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or_else(|| Failure::failed("a process has no output"))?;
        BufReader::new(stdout).read_line(&mut line).map_err(Failure::failed)?;
        match line.trim().rsplit_once("http://") {
            Some((_, address)) => Ok(Self { child, address: address.to_owned() }),
            None => {
                // It has ended, or is of no use.
                let _ = child.kill();
                let _ = child.wait();
                Err(Failure::failed(format!("`tallyhook {}` did not start", args.join(" "))))
            }
        }
    }

    /// Has it end in good order (SIGTERM); true if it did.
    pub fn stop(mut self) -> bool {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).stderr(Stdio::null()).status();
        asked.is_ok_and(|asked| asked.success()) && self.child.wait().is_ok_and(|ended| ended.success())
    }

    /// What it has used since it started.
    pub fn usage(&self) -> Usage {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).ok();
        let cpu = || {
            // Behind the name, which may hold anything but ends at the last parenthesis.
            let stat = read("stat")?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
            let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
            Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
        };
        let memory = |name: &str| {
            let status = read("status")?;
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
        };
        Usage { cpu: cpu(), rss: memory("VmRSS:"), peak_rss: memory("VmHWM:") }
    }

    /// Has the most memory counted from now on, where the system can do that.
    pub fn forget_peak(&self) {
        // Elsewhere the peak is that of its whole life, which is no less.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has ended by itself, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
