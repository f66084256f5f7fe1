//! `tallyhook audit`: who has changed what.

use clap::Args;
use serde::Serialize;

use super::flags::StoreFlags;
use super::json::{on_a_line, safe};
use super::user::open_existing;
use super::{Failure, print};
use crate::api::rpc::AuditItem;
use crate::domain::audit::AuditEntry;
use crate::domain::id::AuditId;
use crate::domain::time::Timestamp;

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook audit
  tallyhook audit --merchant acme --since 2026-11-30T00:00:00Z
  tallyhook audit --json | jq 'select(.action == \"webhook.delete\")'
  tallyhook audit --json > audit.jsonl              to keep it for longer
  tallyhook call audit.list '{\"kind\": \"webhook\", \"id\": \"7\"}'
                                the same from a server, for a user with admin

A line is a change: when, whose, by whom and from where, what was done, with what,
and what differs. Whoever is called \"operator\" was at the command line. Of secrets
there is a fingerprint, which says whether one is another, and not which it is.

It works beside a running server, and reads some hundred changes at a time.";

/// Which changes, and how they are printed.
#[derive(Args)]
pub struct AuditArgs {
    /// Only those of this merchant
    #[arg(long, value_name = "NAME")]
    merchant: Option<String>,
    /// Only those from this RFC 3339 time on
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Print each as a JSON object, as audit.list answers it, on a line of its own
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse_rfc3339(text).ok_or("no RFC 3339 time from 1970 on, such as 2026-11-22T03:04:05Z")
}

/// An entry, and whose it is.
#[derive(Serialize)]
struct Line {
    merchant: String,
    #[serde(flatten)]
    entry: AuditItem,
}

/// Prints it.
pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let mut admin = open_existing(&args.store.load()?.store)?;
    let mut after = AuditId(0);
    loop {
        let found = admin.audited(args.merchant.as_deref(), args.since, after).map_err(Failure::failed)?;
        let Some(last) = found.last() else { return Ok(()) };
        after = last.audit_id;
        for entry in found {
            print(&if args.json { as_json(entry)? } else { line(&entry) })?;
        }
    }
}

fn as_json(entry: AuditEntry) -> Result<String, Failure> {
    let merchant = entry.merchant_code.clone();
    let entry = AuditItem::try_from(entry).map_err(Failure::failed)?;
    serde_json::to_string(&Line { merchant, entry }).map(|text| on_a_line(&text)).map_err(Failure::failed)
}

fn line(entry: &AuditEntry) -> String {
    let AuditEntry { at, merchant_code, actor, action, subject, before, after, is_cut, .. } = entry;
    let who = match actor {
        None => "operator".to_owned(),
        Some(actor) => match actor.peer {
            Some(peer) => format!("{} {peer}", actor.name),
            None => actor.name.clone(),
        },
    };
    let change = match (before.as_str(), after.as_str()) {
        ("{}", "{}") => String::new(),
        ("{}", after) => format!(" {after}"),
        (before, "{}") => format!(" was {before}"),
        (before, after) => format!(" {before} -> {after}"),
    };
    let cut = if *is_cut { " (cut)" } else { "" };
    safe(&format!("{} {merchant_code} {who} {} {}{change}{cut}", at.rfc3339_ms(), action.name(), subject.id))
}
