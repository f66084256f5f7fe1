//! `tallyhook import`: webhooks of what was exported here, or at another platform.

mod convoy;
mod found;
mod outpost;
mod svix;
mod topics;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::found::{Found, Source};
use self::topics::TopicMap;
use super::client::{RpcClient, Session};
use super::json::{on_a_line, safe};
use super::target::{ServerFlags, log_in};
use super::{Failure, block_on, print, read_text, say, table};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook import webhooks.jsonl --dry-run      what would come of each line
  tallyhook import webhooks.jsonl
  tallyhook import webhooks.jsonl --skip-existing      again, after some have failed
  tallyhook import --from svix endpoints.json --topic-map topics.json
  tallyhook import --from convoy endpoints.json subscriptions.json
  tallyhook import --from outpost destinations.json --json | jq 'select(.notes != [])'

It reads the lines of `tallyhook export`, or with --from what another platform has
listed: its answers as they are, pages one after the other, or an object a line.
Each webhook is made on its own, and a table says what came of each line, with what
could not be carried over. One whose URL and topics there are already is refused,
unless --skip-existing or --duplicate-existing says what else to do with it.

Topics of other platforms: the first dot becomes a colon, user.signup user:signup;
or as --topic-map says, an object such as {\"user.signup\": \"account:created\"}. A
webhook whose topic has no counterpart fails. One that would get more events than
before, or lacks what its receiver asks for, is made switched off.

Exit code 0 if nothing failed, 1 if something did, 2 for a wrong command line or a
file that is no JSON.";

/// So many webhooks, or so many bytes of them, go in one call.
const CALL_WEBHOOKS_MAX: usize = 100;
const CALL_BYTES_MAX: usize = 512 * 1_024;
/// The longest webhook that a server takes, in bytes of JSON.
const LINE_BYTES_MAX: usize = 512 * 1_024;
/// How often a line says how far it is, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Where webhooks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Origin {
    /// `tallyhook export`
    Tallyhook,
    /// The list of an application's endpoints
    Svix,
    /// The lists of a project's endpoints and subscriptions
    Convoy,
    /// The list of a tenant's destinations
    Outpost,
}

/// What to import, into which server, and how.
#[derive(Args)]
pub struct ImportArgs {
    /// Files with webhooks; - for stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What has written them
    #[arg(long, value_enum, default_value_t = Origin::Tallyhook)]
    from: Origin,
    /// Make nothing, and say what would come of each line
    #[arg(long)]
    dry_run: bool,
    /// Pass over webhooks whose URL and topics there are already
    #[arg(long, conflicts_with = "duplicate_existing")]
    skip_existing: bool,
    /// Make one more of webhooks whose URL and topics there are already
    #[arg(long)]
    duplicate_existing: bool,
    /// A file that says how the topics of another platform are called here: a JSON object of theirs and ours
    #[arg(long, value_name = "FILE")]
    topic_map: Option<PathBuf>,
    /// Show the secrets that are made, for webhooks that came without one
    #[arg(long)]
    show_secrets: bool,
    /// Print what came of each as a JSON object, on a line of its own
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Imports them, and prints what came of each.
pub fn run(args: &ImportArgs) -> Result<(), Failure> {
    if args.topic_map.is_some() && args.from == Origin::Tallyhook {
        return Err(Failure::usage("--topic-map goes with the topics of another platform; name it with --from"));
    }
    if args.files.iter().filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::usage("only one file can be -, for stdin is read once"));
    }
    let target = args.server.target()?;
    let (user, key) = args.server.credentials(&target)?;
    let found = read(args)?;
    let client = RpcClient::new(args.server.http(target)?);
    block_on(async {
        let session = log_in(&client, &user, &key).await?;
        let mut rows: Vec<Row> = Vec::with_capacity(found.len());
        let ended = import(&session, found, args, &mut rows).await;
        session.end().await;
        show(&rows, args)?;
        ended?;
        match rows.iter().any(|row| row.outcome == FAILED) {
            true => Err(Failure::told()),
            false => Ok(()),
        }
    })
}

fn read(args: &ImportArgs) -> Result<Vec<Found>, Failure> {
    let mut sources = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let name = if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() };
        sources.push(Source::new(name, &read_text(file)?));
    }
    let topics = match &args.topic_map {
        Some(file) => TopicMap::read(&file.display().to_string(), &read_text(file)?)?,
        None => TopicMap::default(),
    };
    match args.from {
        Origin::Tallyhook => Ok(sources.iter().flat_map(exported).collect()),
        Origin::Svix => svix::read(&sources, &topics),
        Origin::Convoy => convoy::read(&sources, &topics),
        Origin::Outpost => outpost::read(&sources, &topics),
    }
}

/// What was exported: a webhook a line, of which one that is no JSON spoils no other; or an array of them.
fn exported(source: &Source) -> Vec<Found> {
    if source.text().trim_start().starts_with('[')
        && let Ok(objects) = source.objects(&[])
    {
        return objects.into_iter().map(|raw| exported_line(source.place(raw.get()), raw.get())).collect();
    }
    let lines = (1..).zip(source.text().lines()).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| exported_line(source.place_of_line(number), line)).collect()
}

/// What is told of a line; what is wrong with it otherwise is for the server to say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Exported {
    webhook_id: Value,
    webhook: BTreeMap<String, Value>,
    left_out: Vec<String>,
}

fn exported_line(place: String, text: &str) -> Found {
    let line: Result<Box<RawValue>, _> = serde_json::from_str(text);
    let told: Exported = serde_json::from_str(text).unwrap_or_default();
    let notes = match told.left_out.is_empty() {
        true => Vec::new(),
        false => vec![format!("left out: {}", told.left_out.join(", "))],
    };
    Found {
        place,
        was: told.webhook_id.as_i64().map_or("-".to_owned(), |id| id.to_string()),
        line: line.map_err(|cause| format!("is no JSON: {cause}")),
        url: told.webhook.get("url").and_then(Value::as_str).unwrap_or_default().to_owned(),
        notes,
    }
}

const FAILED: &str = "failed";

/// What came of a webhook, as it is printed.
#[derive(Serialize)]
struct Row {
    place: String,
    was: String,
    outcome: String,
    webhook_id: Option<i64>,
    url: String,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    same_as: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Told>,
}

/// Why there is no webhook.
#[derive(Deserialize, Serialize)]
struct Told {
    /// The fault of the server; a line that could not be sent has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
    message: String,
}

/// What the server says came of a line.
#[derive(Deserialize)]
struct Imported {
    outcome: String,
    webhook_id: Option<i64>,
    #[serde(default)]
    same_as: Vec<i64>,
    secret_key: Option<String>,
    public_key: Option<String>,
    fault: Option<Told>,
}

impl Row {
    fn new(found: Found, imported: Imported) -> Self {
        let Found { place, was, url, notes, .. } = found;
        let Imported { outcome, webhook_id, same_as, secret_key, public_key, fault } = imported;
        Self { place, was, outcome, webhook_id, url, notes, secret_key, public_key, same_as, fault }
    }

    fn failed(found: Found, message: String) -> Self {
        let fault = Some(Told { code: None, message });
        let imported = Imported {
            outcome: FAILED.to_owned(),
            webhook_id: None,
            same_as: Vec::new(),
            secret_key: None,
            public_key: None,
            fault,
        };
        Self::new(found, imported)
    }
}

/// Imports all, some at a time, in their order.
async fn import(
    session: &Session<'_>,
    found: Vec<Found>,
    args: &ImportArgs,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let existing = match (args.skip_existing, args.duplicate_existing) {
        (true, _) => "skip",
        (_, true) => "create",
        _ => "refuse",
    };
    let options = json!({"dry_run": args.dry_run, "existing": existing, "with_secrets": args.show_secrets});
    let mut progress = Progress::new(found.len());
    let (all, mut found) = (found.len(), found.into_iter().map(of_fitting_length).peekable());
    while let Some(first) = found.next() {
        let mut bytes = bytes_of(&first);
        let mut some = vec![first];
        while let Some(next) =
            found.next_if(|next| some.len() < CALL_WEBHOOKS_MAX && bytes + bytes_of(next) <= CALL_BYTES_MAX)
        {
            bytes += bytes_of(&next);
            some.push(next);
        }
        import_some(session, some, &options, rows)
            .await
            .map_err(|failure| failure.about(&format!("{} of {all} were tried", rows.len())))?;
        progress.tell(rows.len());
    }
    progress.bar.finish_and_clear();
    Ok(())
}

/// The same, with what is too long for any server told at once: it would keep others from being
/// tried.
fn of_fitting_length(mut found: Found) -> Found {
    let bytes = bytes_of(&found);
    if bytes > LINE_BYTES_MAX {
        found.line = Err(format!("has {bytes} bytes; a webhook has up to {LINE_BYTES_MAX}"));
    }
    found
}

fn bytes_of(found: &Found) -> usize {
    found.line.as_ref().map_or(0, |line| line.get().len())
}

async fn import_some(
    session: &Session<'_>,
    some: Vec<Found>,
    options: &Value,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let lines: Vec<&RawValue> = some.iter().filter_map(|found| found.line.as_deref().ok()).collect();
    let imported: Vec<Imported> = match lines.is_empty() {
        true => Vec::new(),
        false => {
            let answer = session.call("webhook.import", (lines, options)).await.map_err(Failure::failed)?;
            serde_json::from_str(answer.get()).map_err(Failure::failed)?
        }
    };
    let mut imported = imported.into_iter();
    for mut found in some {
        rows.push(match std::mem::replace(&mut found.line, Err(String::new())) {
            Err(problem) => Row::failed(found, problem),
            Ok(_) => match imported.next() {
                Some(imported) => Row::new(found, imported),
                None => return Err(Failure::failed("the server has not answered for each webhook")),
            },
        });
    }
    Ok(())
}

/// What a person sees meanwhile.
struct Progress {
    /// Shows itself only to a terminal.
    bar: ProgressBar,
    said_at: std::time::Instant,
}

impl Progress {
    fn new(all: usize) -> Self {
        let style = ProgressStyle::with_template("importing [{bar:40}] {pos}/{len}, {eta} to go")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(all as u64).with_style(style), said_at: std::time::Instant::now() }
    }

    fn tell(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && self.said_at.elapsed() >= LINE_INTERVAL {
            self.said_at = std::time::Instant::now();
            say(&format!("tallyhook: {done} of {} webhooks", self.bar.length().unwrap_or_default()));
        }
    }
}

fn show(rows: &[Row], args: &ImportArgs) -> Result<(), Failure> {
    if args.json {
        for row in rows {
            print(&on_a_line(&serde_json::to_string(row).map_err(Failure::failed)?))?;
        }
    } else if !rows.is_empty() {
        let heads = ["LINE", "WAS", "BECAME", "URL", "NOTES"];
        let cells: Vec<_> = rows.iter().map(|row| cells(row).map(|cell| safe(&cell))).collect();
        print(&table::of(&heads, &cells, table::width()))?;
    }
    say(&summary(rows, args));
    Ok(())
}

fn cells(row: &Row) -> [String; 5] {
    let became = match row.webhook_id {
        Some(id) => format!("webhook {id}"),
        None => row.outcome.clone(),
    };
    let mut notes = Vec::new();
    if let Some(Told { code, message }) = &row.fault {
        notes.push(code.map_or(message.clone(), |code| format!("fault {code}: {message}")));
    }
    if !row.same_as.is_empty() {
        let ids: Vec<_> = row.same_as.iter().map(i64::to_string).collect();
        notes.push(format!("same URL and topics: webhook {}", ids.join(", ")));
    }
    notes.extend(row.secret_key.iter().map(|secret| format!("secret_key {secret}")));
    notes.extend(row.public_key.iter().map(|key| format!("public_key {key}")));
    notes.extend(row.notes.iter().cloned());
    let url = if row.url.is_empty() { "-" } else { &row.url };
    [row.place.clone(), row.was.clone(), became, url.to_owned(), notes.join("; ")]
}

fn summary(rows: &[Row], args: &ImportArgs) -> String {
    let mut counts = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row.outcome.as_str()).or_insert(0) += 1);
    let mut text = String::from("tallyhook: ");
    match counts.is_empty() {
        true => text.push_str("there is nothing to import"),
        false => {
            let counts: Vec<_> = counts.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
            text.push_str(&counts.join(", "));
        }
    }
    if args.dry_run {
        text.push_str("; a dry run, nothing was made");
    }
    if args.from != Origin::Tallyhook && rows.iter().any(|row| row.outcome != FAILED) {
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "\ntallyhook: deliveries have bodies and signatures of tallyhook: see the page on moving, before receivers \
             get any"
        );
    }
    text
}
