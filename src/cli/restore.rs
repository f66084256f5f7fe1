//! `tallyhook restore`: a copy in the place of a store.

use std::path::PathBuf;

use clap::Args;

use super::backup::{Shown, counts};
use super::flags::StoreFlags;
use super::{Failure, say, tell};
use crate::domain::time::Clock;
use crate::store::admin::{Admin, Found};
use crate::store::backup::{Restored, Terms, check_engine, restore};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook restore /backup/tallyhook-2026-11-30.db
  tallyhook restore copy.db --store sqlite:/srv/tallyhook.db --aside
  tallyhook restore copy.db --store sqlite:elsewhere.db --sends

The copy is looked through as tallyhook check does, and put in the place of the
store under a new store id: whatever the old one has sent since the copy was made,
receivers can tell from what this one sends. A store that is served is left alone,
and so is any that is there; with --aside it gets another name, with all that lies
beside it, and nothing of it is deleted.

The first server on it takes events in and numbers them, and sends nothing: look
whether it is what you want. tallyhook store resume has the next start send, or
--sends the first.

Exit code 0 if it is in place, 1 if not, 2 for a wrong command line.";

/// What is put where.
#[derive(Args)]
pub struct RestoreArgs {
    /// The copy, as tallyhook backup made it; it is only read
    #[arg(value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    store: StoreFlags,
    /// Move a store that is there out of the way, rather than refuse
    #[arg(long)]
    aside: bool,
    /// Have the first server on it send at once
    #[arg(long)]
    sends: bool,
}

/// Puts it in place.
pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let config = args.store.load()?.store;
    check_engine(&config).map_err(Failure::usage)?;
    let terms = Terms { moves_aside: args.aside, is_held: !args.sends, now: Clock::system().now() };
    let mut shown = Shown::new();
    let restored = restore(&args.from, &config, terms, |news| shown.tell(&news));
    shown.end();
    let restored = restored.map_err(Failure::failed)?;
    tell(&format!("{config}: {}", counts(&restored.checked)))?;
    let found = Admin::open(&config).map_err(Failure::failed)?.found().map_err(Failure::failed)?;
    say(&what_comes(&restored, &found, args.sends));
    Ok(())
}

/// What becomes of it, and what receivers see.
fn what_comes(restored: &Restored, found: &Found, sends: bool) -> String {
    let Restored { old_id, new_id, aside, .. } = restored;
    let aside = match aside {
        Some(path) => format!("The store that was there is {} now.\n", path.display()),
        None => String::new(),
    };
    let pending = match found.unsettled {
        0 => "Nothing was pending when it was copied.".to_owned(),
        pending => format!(
            "Up to {pending} deliveries were pending when it was copied. They will be sent under the new id, also those \
             that have arrived since."
        ),
    };
    let start = match sends {
        true => "The next start sends.",
        false => {
            "The next start takes events in and sends nothing; \"tallyhook store resume\" has the one after it send."
        }
    };
    format!(
        "{aside}Its id was {old_id} and is {new_id} from now on, which is a part of every webhook-id: so receivers can \
         tell numbers that are given out again from those that they had.\n{pending}\nWhat was accepted since the copy \
         was made is not in it.\n{start}"
    )
}
