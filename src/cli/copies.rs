//! Copies of the store that are made again and again while it is served.
//!
//! Each is made by a process of its own: how long it takes is no matter of the server's then,
//! and a process that opens the file of a store and closes it again would lose the locks that
//! SQLite has on it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tracing::{error, info, warn};

use crate::config::Backups;
use crate::domain::time::{Clock, Timestamp};
use crate::metrics::Metrics;

/// How the time of a copy stands in its name.
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// What the name of a copy ends with.
const ENDING: &str = ".db";
/// What that of one ends with that is not whole.
const PART: &str = ".db.part";
/// When to try again what failed, unless the next is due before.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// The copies of one store.
struct Copies {
    plan: Backups,
    store: PathBuf,
    /// What their names begin with.
    begin: String,
}

/// Makes a copy whenever one is due, and deletes those that are too many, until it is dropped.
pub async fn make(plan: Backups, store: PathBuf, metrics: Arc<Metrics>) {
    let stem = store.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let copies = Copies { plan, store, begin: format!("{stem}-") };
    let [made, failed] = ["made", "failed"].map(|outcome| metrics.copies.child(&[outcome]));
    let clock = Clock::system();
    let mut not_before = clock.now();
    loop {
        let youngest = copies.times().last().map_or(0, |time| time.unix_seconds());
        metrics.copy_timestamp_seconds.set(youngest);
        let due = copies.due(clock.now()).max(not_before);
        info!(dir = %copies.plan.dir.display(), due = due.rfc3339_s(), "the store is copied when that is due");
        while clock.now() < due {
            clock.wait_until(Some(due)).await;
        }
        match copies.copy(clock.now()).await {
            Ok(path) => {
                made.inc();
                info!(copy = %path.display(), "the store was copied");
            }
            Err(problem) => {
                failed.inc();
                error!(problem, "the store was not copied as it is to be; it is tried again");
                not_before = clock.now().after(RETRY_AFTER.min(copies.plan.every));
            }
        }
        copies.prune();
    }
}

impl Copies {
    /// When the next one is.
    fn due(&self, now: Timestamp) -> Timestamp {
        match self.times().last() {
            // One that is of later than now was made before the clock went back.
            Some(last) => last.after(self.plan.every).min(now.after(self.plan.every)),
            None => now,
        }
    }

    /// When those were made that there are, the oldest first.
    fn times(&self) -> Vec<Timestamp> {
        let mut times: Vec<_> = self.names(ENDING).into_iter().filter_map(|name| self.time_of(&name)).collect();
        times.sort();
        times
    }

    fn time_of(&self, name: &str) -> Option<Timestamp> {
        Timestamp::parse_utc_bound(TIME, name.strip_prefix(&self.begin)?.strip_suffix(ENDING)?)
    }

    /// What there is of ours that ends so.
    fn names(&self, ending: &str) -> Vec<String> {
        let entries =
            std::fs::read_dir(&self.plan.dir).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>());
        let names = entries.unwrap_or_default().into_iter().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&self.begin) && name.ends_with(ending)).collect()
    }

    fn path(&self, time: Timestamp) -> PathBuf {
        self.plan.dir.join(format!("{}{}{ENDING}", self.begin, time.print(TIME)))
    }

    /// Makes one. The error says what the process said.
    async fn copy(&self, now: Timestamp) -> Result<PathBuf, String> {
        // What is not whole is of a process that was killed with its server.
        self.names(PART).iter().for_each(|name| delete(&self.plan.dir.join(name)));
        let path = self.path(now);
        let mut store = OsString::from("sqlite:");
        store.push(&self.store);
        let program = std::env::current_exe().map_err(|cause| format!("the program can't be found: {cause}"))?;
        let mut command = Command::new(program);
        command.arg("backup").arg("--store").arg(store).arg("--to").arg(&path);
        // What is said to the server is not said to this.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYHOOK_")) {
            command.env_remove(name);
        }
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.map_err(|cause| format!("no process can be started: {cause}"))?;
        match output.status.success() {
            true => Ok(path),
            false => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
        }
    }

    /// Deletes the oldest, but for those that are to be kept.
    fn prune(&self) {
        let times = self.times();
        let too_many = times.len().saturating_sub(self.plan.keep);
        times[..too_many].iter().for_each(|time| delete(&self.path(*time)));
    }
}

fn delete(path: &Path) {
    if let Err(cause) = std::fs::remove_file(path) {
        warn!(%cause, path = %path.display(), "an old copy can't be deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_is_not_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Backups { dir: folder.path().to_owned(), every: DAY, keep: 2 };
        let copies = Copies { plan, store: "a.db".into(), begin: "a-".to_owned() };
        let now = Timestamp::parse_rfc3339("2026-11-30T12:00:00Z").unwrap();
        assert_eq!(copies.due(now), now, "there is none");
        let ours = ["a-20261127T120000Z.db", "a-20261128T120000Z.db", "a-20261129T130000Z.db"];
        let others = ["a-20261101.db", "b-20261101T120000Z.db", "a-20261101T120000Z.db.part", "a.db", "a-x.db"];
        for name in ours.iter().chain(&others) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(copies.due(now), Timestamp::parse_rfc3339("2026-11-30T13:00:00Z").unwrap());
        copies.prune();
        let is_there = |name: &&str| folder.path().join(name).exists();
        assert_eq!(ours.iter().map(is_there).collect::<Vec<_>>(), [false, true, true]);
        assert!(others.iter().all(|name: &&str| is_there(name)));
        // The clock went back by a week.
        let before = Timestamp::parse_rfc3339("2026-11-23T12:00:00Z").unwrap();
        assert_eq!(copies.due(before), before.after(DAY));
    }
}
