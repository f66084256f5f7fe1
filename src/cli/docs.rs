//! `tallyhook docs`: the reference, as files.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, tell};
use crate::api::rpc::{self, Audience};

/// What its help ends with.
pub const EXAMPLES: &str = "Examples:
  tallyhook docs --out reference
  tallyhook docs --out public --url https://hooks.example.com/
  tallyhook docs --out demo --dev

It writes index.html and openrpc.json. A running server has the same page at
/docs.";

/// What to write, and where.
#[derive(Args)]
pub struct DocsArgs {
    /// The folder to write to; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where the server is called, for the examples
    #[arg(long, default_value = "http://127.0.0.1:8080/")]
    url: String,
    /// Of a server with --dev: the demo user makes the calls of the examples
    #[arg(long)]
    dev: bool,
}

/// Writes the files, and says which.
pub fn run(args: &DocsArgs) -> Result<(), Failure> {
    let document = rpc::openrpc(&args.url);
    let audience = if args.dev { Audience::Demo } else { Audience::Own };
    std::fs::create_dir_all(&args.out).map_err(|cause| cannot_write(&args.out, &cause))?;
    for (name, text) in
        [("index.html", rpc::reference(&document, audience)), ("openrpc.json", format!("{document:#}\n"))]
    {
        let path = args.out.join(name);
        std::fs::write(&path, text).map_err(|cause| cannot_write(&path, &cause))?;
        tell(&path.display().to_string())?;
    }
    Ok(())
}

fn cannot_write(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::failed(format!("{} can't be written: {cause}", path.display()))
}
