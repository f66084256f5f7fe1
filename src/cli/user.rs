//! `tallyhook user`: who may call.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::flags::StoreFlags;
use super::json::{pretty, safe};
use super::{Failure, print, say, table};
use crate::domain::fault::Violation;
use crate::domain::secret::{KeyHash, generate_api_key};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::user::{Permissions, Profile, User, check_name};
use crate::store;
use crate::store::admin::{self, Admin, AdminError, NewUser};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook user create shop --merchant acme
  tallyhook user create viewer --merchant acme --permissions webhook_read
  KEY=$(tallyhook user create ci --merchant acme)    stdout has only the key
  tallyhook user list
  tallyhook user list --json
  tallyhook user profile shop --application-name 'The shop' --developer-name Ann
  tallyhook user profile shop --developer-name ''    removes it, and shows the rest
  tallyhook user update viewer --permissions webhook_read,event_write
  tallyhook user rotate-key shop --overlap 3600     both keys count for an hour
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
    List(ListArgs),
    /// Change what a user may do.
    Update(UpdateArgs),
    /// Replace a user's API key, and print the new one; the old one counts for a while yet.
    RotateKey(RotateKeyArgs),
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
    /// What it may do, with commas: webhook_read, webhook_write, event_write, admin, operator
    #[arg(long, value_name = "LIST", default_value = "webhook_read,webhook_write,event_write")]
    permissions: String,
    #[command(flatten)]
    store: StoreFlags,
    // The last, since what follows would stand under its heading.
    #[command(flatten)]
    profile: ProfileFlags,
}

/// How to list them.
#[derive(Args)]
pub struct ListArgs {
    /// Print them as a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// What to change of a user.
#[derive(Args)]
pub struct UpdateArgs {
    /// The user's name
    name: String,
    /// What it may do from now on, with commas: webhook_read, webhook_write, event_write, admin, operator
    #[arg(long, value_name = "LIST")]
    permissions: String,
    #[command(flatten)]
    store: StoreFlags,
}

/// Whose key to replace.
#[derive(Args)]
pub struct RotateKeyArgs {
    /// The user's name
    name: String,
    /// How long the old key counts, and the sessions that there are, up to 30 days; 0 ends them now
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(..=2_592_000))]
    overlap: u64,
    #[command(flatten)]
    store: StoreFlags,
}

/// What to change of a profile.
#[derive(Args)]
pub struct ProfileArgs {
    /// The user's name
    name: String,
    /// Print it as a JSON object
    #[arg(long)]
    json: bool,
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
        UserCommand::List(args) => list(&args),
        UserCommand::Update(args) => update(&args),
        UserCommand::RotateKey(args) => rotate_key(&args),
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

fn list(args: &ListArgs) -> Result<(), Failure> {
    let users = open_existing(&args.store.load()?.store)?.users().map_err(Failure::failed)?;
    if args.json {
        return print(&pretty(&Value::from_iter(users.iter().map(as_json)).to_string()));
    }
    if users.is_empty() {
        say("tallyhook: there are no users yet; \"tallyhook user create\" makes one.");
        return Ok(());
    }
    print(&table::of(&COLUMNS, &users.iter().map(row).collect::<Vec<_>>(), table::width()))
}

fn update(args: &UpdateArgs) -> Result<(), Failure> {
    let permissions = Permissions::try_new(&args.permissions).map_err(wrong)?;
    let mut admin = open_existing(&args.store.load()?.store)?;
    let user = admin.change_permissions(&args.name, permissions, Clock::system().now()).map_err(Failure::failed)?;
    say(&format!("tallyhook: {} has {} now.", user.name, user.permissions));
    Ok(())
}

fn rotate_key(args: &RotateKeyArgs) -> Result<(), Failure> {
    let (key, name) = (generate_api_key(), &args.name);
    let now = Clock::system().now();
    let until = now.after(Duration::from_secs(args.overlap));
    let mut admin = open_existing(&args.store.load()?.store)?;
    admin.rotate_key(name, KeyHash::of(&key), until, now).map_err(Failure::failed)?;
    say(&match args.overlap {
        0 => format!("tallyhook: the old key of {name} is worthless and its sessions have ended."),
        _ => format!("tallyhook: the old key of {name}, and its sessions, count until {until}."),
    });
    say("The new API key is shown only now:");
    print(&key)
}

fn profile(args: &ProfileArgs) -> Result<(), Failure> {
    let mut admin = open_existing(&args.store.load()?.store)?;
    let changed = admin.change_profile(&args.name, args.profile.clone().into(), Clock::system().now());
    let changed = changed.map_err(|error| match error {
        AdminError::Profile(violation) => wrong(violation),
        other => Failure::failed(other),
    })?;
    if args.json {
        let members = changed.members().map(|(name, text)| (name.to_owned(), Value::from(text)));
        return print(&pretty(&Value::Object(members.collect()).to_string()));
    }
    if changed.members().next().is_none() {
        say(&format!("tallyhook: nothing is known of the application of {}.", args.name));
    }
    changed.members().try_for_each(|(name, text)| print(&format!("{name}: {}", safe(text))))
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

/// Opens a store that is looked at or taken from.
pub fn open_existing(config: &store::Config) -> Result<Admin, Failure> {
    check_exists(config)?;
    Admin::open(config).map_err(Failure::failed)
}

/// Fails if there is no such store: making an empty one would hide that its
/// name was mistyped.
pub fn check_exists(config: &store::Config) -> Result<(), Failure> {
    if admin::is_there(config).map_err(Failure::failed)? {
        return Ok(());
    }
    Err(Failure::failed(format!("{config}: there is no such store; name it with --store")))
}

const COLUMNS: [&str; 7] = ["ID", "NAME", "MERCHANT", "PERMISSIONS", "CREATED", "DISABLED", "REVOKED"];

fn row(user: &User) -> [String; 7] {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), Timestamp::rfc3339_ms);
    [
        user.user_id.to_string(),
        user.name.clone(),
        user.merchant_code.clone(),
        user.permissions.to_string(),
        user.created_at.rfc3339_ms(),
        time(user.disabled_at),
        time(user.revoked_at),
    ]
}

fn as_json(user: &User) -> Value {
    json!({
        "user_id": user.user_id.0,
        "name": user.name,
        "merchant": user.merchant_code,
        "permissions": user.permissions.names().collect::<Vec<_>>(),
        "created_at": user.created_at.rfc3339_ms(),
        "disabled_at": user.disabled_at.map(Timestamp::rfc3339_ms),
        "revoked_at": user.revoked_at.map(Timestamp::rfc3339_ms),
    })
}
