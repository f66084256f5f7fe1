//! Logs, to stderr. Nothing that is logged holds a secret or a body.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is a level, or a list such as
/// `info,tallyhook::delivery=debug`; fails with what is wrong about it.
/// A second call changes nothing.
pub fn init(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|cause| cause.to_string())?;
    // Already set up: by an earlier server of the same process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}
