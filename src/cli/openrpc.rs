//! `tallyhook openrpc`: the document, without a server.

use clap::Args;

use super::{Failure, print};
use crate::api::rpc;

/// What its help ends with.
pub const EXAMPLES: &str = "Examples:
  tallyhook openrpc
  tallyhook openrpc --url https://hooks.example.com/ > openrpc.json

It is the same document that a server gives at /openrpc.json, and as the result
of rpc.discover. See https://open-rpc.org for what can be made from it.";

/// What to put in.
#[derive(Args)]
pub struct OpenrpcArgs {
    /// Where the server is called, which the document says in servers[0]
    #[arg(long, default_value = "http://127.0.0.1:8080/")]
    url: String,
}

/// Prints the document.
pub fn run(args: &OpenrpcArgs) -> Result<(), Failure> {
    print(&format!("{:#}", rpc::openrpc(&args.url)))
}
