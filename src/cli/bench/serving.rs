//! The servers of a run, and the store that they share.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::args::BenchArgs;
use super::process::{Process, Usage};
use crate::cli::Failure;
use crate::store::{DatabaseWork, Scratch};

/// A store that goes when this does, or with the folder that it is in.
pub struct Room {
    /// Where a server finds it.
    pub store: String,
    scratch: Option<Scratch>,
}

impl Room {
    /// In the database that is asked for, or else in a file in that folder.
    pub fn make(folder: &Path, args: &BenchArgs) -> Result<Self, Failure> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(url) = &args.store else {
            let store = format!("sqlite:{}", folder.join("store.db").display());
            return Ok(Self { store, scratch: None });
        };
        let name = format!("tallyhook_bench_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::make(url, &name).map_err(|cause| Failure::failed(format!("--store: {cause}")))?;
        Ok(Self { store: scratch.url().to_owned(), scratch: Some(scratch) })
    }

    /// What its database has done so far, if it is in one.
    pub fn work(&mut self) -> Result<Option<DatabaseWork>, Failure> {
        self.scratch.as_mut().map(Scratch::work).transpose().map_err(Failure::failed)
    }
}

/// Servers that share a store.
pub struct Servers {
    processes: Vec<Process>,
    logs: Vec<PathBuf>,
    /// They end before it goes.
    pub room: Room,
}

impl Servers {
    /// Starts as many as are asked for, with these flags besides.
    pub fn start(folder: &Path, args: &BenchArgs, more: &[&str]) -> Result<Self, Failure> {
        let room = Room::make(folder, args)?;
        let (mut processes, mut logs) = (Vec::new(), Vec::new());
        for number in 1..=args.nodes {
            let log = folder.join(format!("server-{number}.log"));
            let mut serve = vec!["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "warn,tallyhook::store=info"];
            serve.extend(["--store", &room.store]);
            serve.extend(more);
            processes.push(Process::start(Command::new(args.server()?), &serve, Some(&log))?);
            logs.push(log);
        }
        Ok(Self { processes, logs, room })
    }

    /// Where they listen.
    pub fn addresses(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.address.clone()).collect()
    }

    /// What all of them have used.
    pub fn usage(&self) -> Usage {
        let all = || self.processes.iter().map(Process::usage);
        Usage {
            cpu: all().map(|usage| usage.cpu).sum(),
            rss: all().map(|usage| usage.rss).sum(),
            peak_rss: all().map(|usage| usage.peak_rss).sum(),
        }
    }

    /// Has them end in good order; how often they committed, which is known only if
    /// they did.
    pub fn stop(self) -> Option<u64> {
        let are_stopped = self.processes.into_iter().map(Process::stop).collect::<Vec<_>>().into_iter().all(|ok| ok);
        let read = |log: &PathBuf| std::fs::read_to_string(log).ok().as_deref().and_then(commits);
        are_stopped.then(|| self.logs.iter().map(read).sum()).flatten()
    }
}

/// What a server's log says at its end.
fn commits(log: &str) -> Option<u64> {
    let (_, rest) = log.rsplit_once("commits=")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
