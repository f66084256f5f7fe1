//! `tallyhook store`: the store itself.

use clap::Subcommand;

use super::flags::StoreFlags;
use super::user::check_exists;
use super::{Failure, print, say};
use crate::domain::time::Clock;
use crate::store::{admin, backup};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook store new-id
  tallyhook store new-id --store sqlite:/srv/tallyhook.db
  tallyhook store resume          after tallyhook restore

An older copy of a store gives numbers out again that its receivers have had for
other events. Under a new id, which is a part of every webhook-id, they can tell.
Stop the server first, put the copy in place, and start it again afterwards.
Of a copy that tallyhook backup made, tallyhook restore does all of that. What it
has put in place sends nothing until resume.";

/// What can be done with a store.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Give a store that was put back from an older copy a new id, and print it.
    NewId(StoreFlags),
    /// Have a store that was restored send again, from the next start on.
    Resume(StoreFlags),
}

/// Does it.
pub fn run(command: StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::NewId(store) => new_id(&store),
        StoreCommand::Resume(store) => resume(&store),
    }
}

fn new_id(store: &StoreFlags) -> Result<(), Failure> {
    let config = store.load()?.store;
    check_exists(&config)?;
    let (old, new) = admin::renew_store_id(&config, Clock::system().now()).map_err(Failure::failed)?;
    say(&format!("tallyhook: the id of {} was {old}. Receivers will notice the new one:", config));
    print(&new.to_string())
}

fn resume(store: &StoreFlags) -> Result<(), Failure> {
    let config = store.load()?.store;
    check_exists(&config)?;
    match backup::resume(&config).map_err(Failure::failed)? {
        true => print(&format!("{config} is no longer held back: the next start sends what is pending")),
        false => print(&format!("{config} was not held back")),
    }
}
