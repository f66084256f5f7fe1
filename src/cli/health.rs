//! `tallyhook health`: whether a server can do its work, as an exit code.

use clap::Args;
use http::StatusCode;
use serde::Deserialize;

use super::json::safe;
use super::target::AddressFlags;
use super::{Failure, block_on, print};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook health
  tallyhook health --url http://127.0.0.1:9090     where ops_listen says so

It asks /readyz, and prints \"ready\" or what is wrong. The exit code is 0 if the
server can do all of its work, and 1 if not, or if it does not answer.";

/// Of which server.
#[derive(Args)]
pub struct HealthArgs {
    #[command(flatten)]
    server: AddressFlags,
}

/// What /readyz says.
#[derive(Deserialize)]
struct Told {
    status: String,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    part: String,
    problem: String,
}

/// Asks, and prints the answer.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let target = args.server.target()?.at("readyz").map_err(Failure::usage)?;
    let http = args.server.http(target)?;
    let url = http.target().as_str().to_owned();
    block_on(async {
        let (status, body) = http.get().await.map_err(|problem| Failure::failed(format!("{url}: {problem}")))?;
        let told: Told = serde_json::from_slice(&body).map_err(|_| {
            let hint = "does it answer there, or where its ops_listen says?";
            Failure::failed(format!("{url}: HTTP {status} from something that is no tallyhook server; {hint}"))
        })?;
        if status == StatusCode::OK {
            return print(&safe(&told.status));
        }
        print(&safe(&told.status))?;
        for Problem { part, problem } in told.problems {
            print(&safe(&format!("{part}: {problem}")))?;
        }
        Err(Failure::told())
    })
}
