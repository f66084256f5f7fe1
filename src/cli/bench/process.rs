//! The processes of a measurement, and what they cost.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Failure;

/// Clock ticks a second in `/proc` (`sysconf(_SC_CLK_TCK)`), 100 on every
/// Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process of this same program, killed when it is dropped.
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
    /// The most memory it has had, in bytes.
    pub peak_rss: Option<u64>,
}

impl Process {
    /// Starts this program with these arguments, and waits for the line that
    /// ends with its URL. What it logs goes into a file, if there is one.
    pub fn start(args: &[&str], log: Option<&Path>) -> Result<Self, Failure> {
        let log = match log {
            Some(path) => Stdio::from(File::create(path).map_err(Failure::failed)?),
            None => Stdio::null(),
        };
        let program = std::env::current_exe().map_err(Failure::failed)?;
        let mut child = Command::new(program)
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
        let peak_rss = || {
            let status = read("status")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
        };
        Usage { cpu: cpu(), peak_rss: peak_rss() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has ended by itself, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
