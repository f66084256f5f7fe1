//! `tallyhook export`: the webhooks of a server as lines of JSON.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::{RpcClient, Session};
use super::json::on_a_line;
use super::target::{ServerFlags, log_in};
use super::{Failure, block_on, print, say};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook export > webhooks.jsonl
  tallyhook export --with-secrets --out webhooks.jsonl    for a move: receivers notice nothing
  tallyhook export | jq -r '.webhook.url'

A line is a webhook: webhook_id, which one it was; webhook, what webhook.create
takes; and left_out, what it has besides. Without --with-secrets that is what signs,
the password of basic_auth, and the values of headers. The keys of certificates, and
those that sign by ed25519, never leave a server. `tallyhook import` makes webhooks
of the lines.

A file that is made with --out is for its owner's eyes alone, and must not be there
yet.";

/// Of which server, and how.
#[derive(Args)]
pub struct ExportArgs {
    /// With what signs, passwords and values of headers; the user needs the permission webhook_write
    #[arg(long)]
    with_secrets: bool,
    /// Write a new file rather than to stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    server: ServerFlags,
}

/// Writes them.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let target = args.server.target()?;
    let (user, key) = args.server.credentials(&target)?;
    let client = RpcClient::new(args.server.http(target)?);
    block_on(async {
        let session = log_in(&client, &user, &key).await?;
        let exported = match &args.out {
            None => export(&session, args.with_secrets, print).await,
            Some(path) => to_file(&session, args.with_secrets, path).await,
        };
        session.end().await;
        say(&summary(&exported?, args.with_secrets));
        Ok(())
    })
}

/// What was exported.
#[derive(Default)]
struct Exported {
    webhooks: usize,
    /// Of how many something was left out though secrets were asked for.
    incomplete: usize,
}

fn summary(exported: &Exported, with_secrets: bool) -> String {
    let Exported { webhooks, incomplete } = exported;
    let left_out = match (with_secrets, incomplete) {
        (false, _) => "; without secrets, which --with-secrets adds".to_owned(),
        (true, 0) => String::new(),
        (true, incomplete) => format!("; left_out says what {incomplete} of them have besides"),
    };
    format!("tallyhook: exported {webhooks} webhooks{left_out}")
}

/// A file that was not finished is not left behind.
async fn to_file(session: &Session<'_>, with_secrets: bool, path: &Path) -> Result<Exported, Failure> {
    let cannot = |cause: std::io::Error| Failure::failed(format!("{} can't be written: {cause}", path.display()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(cannot)?;
    let exported = export(session, with_secrets, |line| writeln!(file, "{line}").map_err(cannot)).await;
    let exported = exported.and_then(|exported| file.sync_all().map_err(cannot).map(|()| exported));
    if exported.is_err() {
        let _ = std::fs::remove_file(path);
    }
    exported
}

/// What of a line has to be known to go on, and for the summary.
#[derive(Deserialize)]
struct Line {
    webhook_id: i64,
    left_out: Vec<String>,
}

async fn export(
    session: &Session<'_>,
    with_secrets: bool,
    mut write: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Exported, Failure> {
    let (mut after, mut exported) = (0, Exported::default());
    loop {
        let options = json!([{"with_secrets": with_secrets, "after_webhook_id": after}]);
        let page = session.call("webhook.export", options).await.map_err(Failure::failed)?;
        // A page may be shorter than was asked for, and there be more; the last has nothing.
        let lines: Vec<&RawValue> = serde_json::from_str(page.get()).map_err(Failure::failed)?;
        if lines.is_empty() {
            return Ok(exported);
        }
        for line in lines {
            let Line { webhook_id, left_out } = serde_json::from_str(line.get()).map_err(Failure::failed)?;
            write(&on_a_line(line.get()))?;
            after = webhook_id;
            exported.webhooks += 1;
            exported.incomplete += usize::from(!left_out.is_empty());
        }
    }
}
