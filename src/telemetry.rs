//! Logs, to stderr. Nothing that is logged holds a secret or a body.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

/// Who shows too much beyond a level: whole messages, with the keys of those who log in;
/// the values of statements, which are the rows.
const TELLTALES: [(&str, Level); 2] = [("tungstenite", Level::DEBUG), ("tokio_postgres", Level::INFO)];

/// Starts logging, as lines for people, or each as an object of JSON. `filter` is a level,
/// or a list such as `info,tallyhook::delivery=debug`; fails with what is wrong about it.
/// A second call changes nothing.
pub fn init(filter: &str, as_json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|cause| cause.to_string())?;
    // Already set up: by an earlier server of the same process.
    let lines = fmt::layer().with_writer(std::io::stderr);
    let layer = match as_json {
        true => lines.json().flatten_event(true).with_span_list(false).boxed(),
        false => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let _ = tracing_subscriber::registry().with(filter).with(filter_fn(is_discreet)).with(layer).try_init();
    Ok(())
}

/// False of what no filter may ask for.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    TELLTALES.iter().all(|(target, most)| !metadata.target().starts_with(target) || metadata.level() <= most)
}
