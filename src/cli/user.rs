//! `tallyhook user`: who may call.

use clap::{Args, Subcommand};

use super::flags::StoreFlags;
use super::{Failure, print, say};
use crate::domain::fault::Violation;
use crate::domain::secret::{KeyHash, generate_api_key};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::user::{Permissions, Profile, User, check_name};
use crate::store::sqlite;
use crate::store::sqlite::admin::{Admin, AdminError, NewUser};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook user create shop --merchant acme
  tallyhook user create viewer --merchant acme --permissions webhook_read
  KEY=$(tallyhook user create ci --merchant acme)    stdout has only the key
  tallyhook user list
  tallyhook user profile shop --application-name 'The shop' --developer-name Ann
  tallyhook user profile shop --developer-name ''    removes it, and shows the rest
  tallyhook user disable viewer    refused until it is enabled again
  tallyhook user enable viewer
  tallyhook user revoke viewer     for ever

All work beside a running server, which notices at once. Of the API key only a
hash is stored, so it is shown once, when the user is made.";

/// What can be done with users.
#[derive(Subcommand)]
pub enum UserCommand {
    /// Make a user, and its merchant if that is missing, and print the new API key.
    Create(CreateArgs),
    /// List all users.
    List(StoreFlags),
    /// Change what is told of a user's application, and show it.
    Profile(ProfileArgs),
    /// Refuse a user until it is enabled again; its API key and its sessions stay.
    Disable(NameArgs),
    /// Let a disabled user in again.
    Enable(NameArgs),
    /// Make a user's API key worthless and end its sessions, for ever.
    Revoke(NameArgs),
}

/// Whom to make.
#[derive(Args)]
pub struct CreateArgs {
    /// The user's name, unique in the store: letters, digits and _ . @ -
    name: String,
    /// The merchant it acts for
    #[arg(long, value_name = "NAME")]
    merchant: String,
    /// What it may do, with commas: webhook_read, webhook_write, event_write, admin
    #[arg(long, value_name = "LIST", default_value = "webhook_read,webhook_write,event_write")]
    permissions: String,
    #[command(flatten)]
    store: StoreFlags,
    // The last, since what follows would stand under its heading.
    #[command(flatten)]
    profile: ProfileFlags,
}

/// What to change of a profile.
#[derive(Args)]
pub struct ProfileArgs {
    /// The user's name
    name: String,
    #[command(flatten)]
    store: StoreFlags,
    // The last, since what follows would stand under its heading.
    #[command(flatten)]
    profile: ProfileFlags,
}

/// What a user's application is: what is left out stays, and what is empty is
/// removed.
#[derive(Args, Clone)]
#[command(next_help_heading = "What its application is, for people; an empty value removes")]
struct ProfileFlags {
    /// Its name, up to 200 characters
    #[arg(long, value_name = "TEXT")]
    application_name: Option<String>,
    /// What it does, up to 200 characters
    #[arg(long, value_name = "TEXT")]
    application_description: Option<String>,
    /// Where its logo is, up to 1000 characters
    #[arg(long, value_name = "URL")]
    application_logo_url: Option<String>,
    /// Who makes it, up to 200 characters
    #[arg(long, value_name = "TEXT")]
    developer_name: Option<String>,
    /// Where its makers are on the web, up to 1000 characters
    #[arg(long, value_name = "URL")]
    developer_website: Option<String>,
}

/// Which user.
#[derive(Args)]
pub struct NameArgs {
    /// The user's name
    name: String,
    #[command(flatten)]
    store: StoreFlags,
}

impl From<ProfileFlags> for Profile {
    fn from(flags: ProfileFlags) -> Self {
        let ProfileFlags {
            application_name,
            application_description,
            application_logo_url,
            developer_name,
            developer_website,
        } = flags;
        Self { application_name, application_description, application_logo_url, developer_name, developer_website }
    }
}

/// Does it.
pub fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Create(args) => create(&args),
        UserCommand::List(store) => list(&store),
        UserCommand::Profile(args) => profile(&args),
        UserCommand::Disable(args) => set_enabled(&args, false),
        UserCommand::Enable(args) => set_enabled(&args, true),
        UserCommand::Revoke(args) => revoke(&args),
    }
}

fn wrong(violation: Violation) -> Failure {
    Failure::usage(format!("{}: {}", violation.field, violation.problem))
}

fn create(args: &CreateArgs) -> Result<(), Failure> {
    check_name("name", &args.name).map_err(wrong)?;
    check_name("merchant", &args.merchant).map_err(wrong)?;
    let permissions = Permissions::try_new(&args.permissions).map_err(wrong)?;
    let profile = Profile::default().changed(args.profile.clone().into()).map_err(wrong)?;
    let config = args.store.load()?.store;
    let key = generate_api_key();
    let (name, merchant) = (&args.name, &args.merchant);
    let user = NewUser { name, merchant, permissions, key: KeyHash::of(&key), is_demo: false, profile };
    let user = Admin::open(&config)
        .map_err(Failure::failed)?
        .create_user(&user, Clock::system().now())
        .map_err(Failure::failed)?;
    say(&format!(
        "tallyhook: made user {} of merchant {}, with {}. Its API key is shown only now:",
        user.name, user.merchant_code, user.permissions
    ));
    print(&key)
}

fn list(store: &StoreFlags) -> Result<(), Failure> {
    let users = open_existing(&store.load()?.store)?.users().map_err(Failure::failed)?;
    print(&table(&users))
}

fn profile(args: &ProfileArgs) -> Result<(), Failure> {
    let mut admin = open_existing(&args.store.load()?.store)?;
    let changed = admin.change_profile(&args.name, args.profile.clone().into()).map_err(|error| match error {
        AdminError::Profile(violation) => wrong(violation),
        other => Failure::failed(other),
    })?;
    changed.members().try_for_each(|(name, text)| print(&format!("{name}: {text}")))
}

fn set_enabled(args: &NameArgs, enabled: bool) -> Result<(), Failure> {
    let name = &args.name;
    open_existing(&args.store.load()?.store)?
        .set_enabled(name, enabled, Clock::system().now())
        .map_err(Failure::failed)?;
    say(&match enabled {
        true => format!("tallyhook: enabled {name}."),
        false => format!("tallyhook: disabled {name}; it is refused until \"tallyhook user enable {name}\"."),
    });
    Ok(())
}

fn revoke(args: &NameArgs) -> Result<(), Failure> {
    open_existing(&args.store.load()?.store)?
        .revoke_user(&args.name, Clock::system().now())
        .map_err(Failure::failed)?;
    say(&format!("tallyhook: revoked {}; its API key is worthless and its sessions have ended.", args.name));
    Ok(())
}

/// A store that is looked at or taken from must be there: making an empty
/// one would hide that its name was mistyped.
pub fn open_existing(config: &sqlite::Config) -> Result<Admin, Failure> {
    if !config.path.exists() {
        let path = config.path.display();
        return Err(Failure::failed(format!("{path}: there is no such store; name it with --store sqlite:PATH")));
    }
    Admin::open(config).map_err(Failure::failed)
}

/// Columns as wide as their widest entry.
fn table(users: &[User]) -> String {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), Timestamp::rfc3339_ms);
    let mut rows = vec![["NAME", "MERCHANT", "PERMISSIONS", "CREATED", "DISABLED", "REVOKED"].map(str::to_owned)];
    rows.extend(users.iter().map(|user| {
        [
            user.name.clone(),
            user.merchant_code.clone(),
            user.permissions.to_string(),
            user.created_at.rfc3339_ms(),
            time(user.disabled_at),
            time(user.revoked_at),
        ]
    }));
    let widths: [usize; 6] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{MerchantId, UserId};

    #[test]
    fn the_table_lines_up() {
        let user = |name: &str, disabled_at, revoked_at| User {
            user_id: UserId(1),
            merchant_id: MerchantId(1),
            merchant_code: "acme".to_owned(),
            name: name.to_owned(),
            permissions: Permissions::try_new("event_write").unwrap(),
            is_demo: false,
            created_at: Timestamp(0),
            disabled_at,
            revoked_at,
        };
        let expected = "\
NAME         MERCHANT  PERMISSIONS  CREATED                   DISABLED                  REVOKED
shop         acme      event_write  1970-01-01T00:00:00.000Z  1970-01-01T00:00:02.000Z  -
a-long-name  acme      event_write  1970-01-01T00:00:00.000Z  -                         1970-01-01T00:00:01.000Z";
        let users = [user("shop", Some(Timestamp(2_000)), None), user("a-long-name", None, Some(Timestamp(1_000)))];
        assert_eq!(table(&users), expected);
    }
}
