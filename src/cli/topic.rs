//! `tallyhook topic`: catalogues of topics.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::flags::StoreFlags;
use super::json::on_a_line;
use super::user::open_existing;
use super::{Failure, print, read_text, say};
use crate::api::rpc::catalogue;
use crate::domain::time::Clock;
use crate::store::admin::Loaded;

/// The topics of the platforms whose clients are served.
pub const BUILT_IN: &str = include_str!("../../templates/catalogue.json");

/// What its help ends with.
pub const EXAMPLES: &str = r#"Examples:
  tallyhook topic load topics.json --merchant acme
  tallyhook topic built-in | tallyhook topic load - --merchant acme
  tallyhook topic list --merchant acme > topics.json

A catalogue is a JSON array. Of its topics only "topic" must be there:
  [{"topic": "order:created", "name": "Order created", "category": "order",
    "description": "An order has been placed.", "event_type": 1,
    "message_schema": {"type": "object", "required": ["order_id"]},
    "validation": "reject", "deprecated": 0, "discontinued": 0}]

All work beside a running server, which notices at once."#;

/// What can be done with catalogues.
#[derive(Subcommand)]
pub enum TopicCommand {
    /// Put the topics of a file into a merchant's catalogue; what it has of them already is changed to what the file
    /// says, and what the file leaves out stays.
    Load(LoadArgs),
    /// Print a merchant's catalogue, so that it can be loaded again.
    List(ListArgs),
    /// Print the built-in catalogue: the topics of ShipStream, UltraCart and 3dcart, and the server's own.
    BuiltIn,
}

/// What to load, and for whom.
#[derive(Args)]
pub struct LoadArgs {
    /// The catalogue; - for stdin
    file: PathBuf,
    /// Whose catalogue it becomes
    #[arg(long, value_name = "NAME")]
    merchant: String,
    #[command(flatten)]
    store: StoreFlags,
}

/// Whose to print.
#[derive(Args)]
pub struct ListArgs {
    /// Whose catalogue
    #[arg(long, value_name = "NAME")]
    merchant: String,
    #[command(flatten)]
    store: StoreFlags,
}

/// Does it.
pub fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Load(args) => load(&args),
        TopicCommand::List(args) => list(&args),
        TopicCommand::BuiltIn => print(BUILT_IN.trim_end()),
    }
}

fn load(args: &LoadArgs) -> Result<(), Failure> {
    let text = read_text(&args.file)?;
    let topics =
        catalogue::read(&text).map_err(|problem| Failure::failed(format!("{}: {problem}", args.file.display())))?;
    let config = args.store.load()?;
    let mut admin = open_existing(&config.store)?;
    let loaded = admin.load_topics(&args.merchant, topics, config.service.topics_max, Clock::system().now());
    let Loaded { registered, changed, same } = loaded.map_err(Failure::failed)?;
    say(&format!(
        "tallyhook: the catalogue of {} has {registered} more topics, {changed} changed, {same} were so already.",
        args.merchant
    ));
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut admin = open_existing(&args.store.load()?.store)?;
    let entries = admin.topics(&args.merchant).map_err(Failure::failed)?;
    let text = catalogue::write(entries).map_err(Failure::failed)?;
    print(&text.lines().map(on_a_line).collect::<Vec<_>>().join("\n"))
}
