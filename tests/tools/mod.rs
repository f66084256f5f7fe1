//! Programs of the machine that tests run, and what to say when one is missing.

#![allow(dead_code, reason = "each test program that includes this uses a part of it")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command without settings for tallyhook that the environment may have.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYHOOK_")) {
        command.env_remove(name);
    }
    command
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
