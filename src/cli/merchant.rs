//! `tallyhook merchant`: for whom the server works.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::flags::StoreFlags;
use super::json::pretty;
use super::user::open_existing;
use super::{Failure, print, say, table};
use crate::domain::fault::Violation;
use crate::domain::merchant::{Merchant, QuotaChanges, Quotas};
use crate::domain::secret::{KeyHash, generate_api_key};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::user::{Permissions, check_name};
use crate::store::admin::{Admin, AdminError};
use crate::store::{FirstUser, Holdings, MerchantAlteration};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook merchant create acme
  KEY=$(tallyhook merchant create acme --user shop)     with its first user; stdout has only the key
  tallyhook merchant create acme --webhooks 20 --calls-per-second 50
  tallyhook merchant list
  tallyhook merchant get acme --json
  tallyhook merchant update acme --webhooks 100
  tallyhook merchant update acme --webhooks none        as many as every merchant may have
  tallyhook merchant pause acme      nothing is published and delivered until it is resumed
  tallyhook merchant resume acme     and what has waited goes out

All work beside a running server. It refuses to publish for a paused merchant at
once, and has stopped sending a few seconds later.";

/// What can be done with merchants.
#[derive(Subcommand)]
pub enum MerchantCommand {
    /// List all merchants.
    List(ListArgs),
    /// Make a merchant, and its first user if one is named, and print that one's API key.
    Create(CreateArgs),
    /// Show a merchant, with what it may have and what it has.
    Get(GetArgs),
    /// Change how much a merchant may have.
    Update(UpdateArgs),
    /// Have nothing published and delivered for a merchant until it is resumed; its users may log in and read.
    Pause(NameArgs),
    /// Have a paused merchant go on, also with what has waited.
    Resume(NameArgs),
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

/// Which merchant to make.
#[derive(Args)]
pub struct CreateArgs {
    /// The merchant's code, unique in the store: letters, digits and _ . @ -
    name: String,
    /// Its first user, unique in the store: letters, digits and _ . @ -
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What that user may do, with commas: webhook_read, webhook_write, event_write, admin, operator
    #[arg(long, value_name = "LIST", default_value = "admin", requires = "user")]
    permissions: String,
    #[command(flatten)]
    store: StoreFlags,
    // The last, since what follows would stand under its heading.
    #[command(flatten)]
    quotas: QuotaFlags,
}

/// Which merchant to show.
#[derive(Args)]
pub struct GetArgs {
    /// The merchant's code
    name: String,
    /// Print it as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// What to change of a merchant.
#[derive(Args)]
pub struct UpdateArgs {
    /// The merchant's code
    name: String,
    #[command(flatten)]
    store: StoreFlags,
    // The last, since what follows would stand under its heading.
    #[command(flatten)]
    quotas: QuotaFlags,
}

/// Which merchant.
#[derive(Args)]
pub struct NameArgs {
    /// The merchant's code
    name: String,
    #[command(flatten)]
    store: StoreFlags,
}

/// How much it may have: what is left out stays.
#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "How much it may have; none is as much as every merchant")]
struct QuotaFlags {
    /// Webhooks
    #[arg(long, value_name = "N|none", value_parser = quota)]
    webhooks: Option<Said>,
    /// Deliveries that are to be sent; beyond it nothing is published
    #[arg(long, value_name = "N|none", value_parser = quota)]
    pending_deliveries: Option<Said>,
    /// Events that are published in a day of UTC
    #[arg(long, value_name = "N|none", value_parser = quota)]
    events_per_day: Option<Said>,
    /// Calls of all its users in a second, at each server
    #[arg(long, value_name = "N|none", value_parser = quota)]
    calls_per_second: Option<Said>,
}

/// A quota, or that there is none.
#[derive(Clone, Copy)]
struct Said(Option<i64>);

fn quota(text: &str) -> Result<Said, &'static str> {
    match text {
        "none" => Ok(Said(None)),
        text => text.parse().map(|quota| Said(Some(quota))).map_err(|_| "write a whole number, or none"),
    }
}

impl From<QuotaFlags> for QuotaChanges {
    fn from(flags: QuotaFlags) -> Self {
        let QuotaFlags { webhooks, pending_deliveries, events_per_day, calls_per_second } = flags;
        let said = |quota: Option<Said>| quota.map(|Said(quota)| quota);
        Self {
            webhooks: said(webhooks),
            pending_deliveries: said(pending_deliveries),
            events_per_day: said(events_per_day),
            calls_per_second: said(calls_per_second),
        }
    }
}

/// Does it.
pub fn run(command: MerchantCommand) -> Result<(), Failure> {
    match command {
        MerchantCommand::List(args) => list(&args),
        MerchantCommand::Create(args) => create(&args),
        MerchantCommand::Get(args) => get(&args),
        MerchantCommand::Update(args) => update(&args),
        MerchantCommand::Pause(args) => pause(&args, true),
        MerchantCommand::Resume(args) => pause(&args, false),
    }
}

fn wrong(violation: Violation) -> Failure {
    Failure::usage(format!("{}: {}", violation.field, violation.problem))
}

fn failed(error: AdminError) -> Failure {
    match error {
        AdminError::Quota(violation) => wrong(violation),
        other => Failure::failed(other),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let merchants = open_existing(&args.store.load()?.store)?.merchants().map_err(failed)?;
    if args.json {
        return print(&pretty(&Value::from_iter(merchants.iter().map(as_json)).to_string()));
    }
    if merchants.is_empty() {
        say("tallyhook: there are no merchants yet; \"tallyhook merchant create\" makes one.");
        return Ok(());
    }
    print(&table::of(&COLUMNS, &merchants.iter().map(row).collect::<Vec<_>>(), table::width()))
}

fn create(args: &CreateArgs) -> Result<(), Failure> {
    check_name("merchant", &args.name).map_err(wrong)?;
    let quotas = QuotaChanges::from(args.quotas).apply(Quotas::default()).map_err(wrong)?;
    let key = generate_api_key();
    let user = args.user.as_ref().map(|name| {
        check_name("user", name)?;
        let permissions = Permissions::try_new(&args.permissions)?;
        Ok(FirstUser { name: name.clone(), key: KeyHash::of(&key), permissions })
    });
    let user = user.transpose().map_err(wrong)?;
    let config = args.store.load()?.store;
    let mut admin = Admin::open(&config).map_err(Failure::failed)?;
    let made = admin.create_merchant(&args.name, quotas, user.clone(), Clock::system().now()).map_err(failed)?;
    let Some(user) = user else {
        say(&format!("tallyhook: made merchant {}; \"tallyhook user create\" makes its users.", made.code));
        return Ok(());
    };
    say(&format!(
        "tallyhook: made merchant {} and its user {}, with {}. Its API key is shown only now:",
        made.code, user.name, user.permissions
    ));
    print(&key)
}

fn get(args: &GetArgs) -> Result<(), Failure> {
    let mut admin = open_existing(&args.store.load()?.store)?;
    let merchant = admin.merchant(&args.name).map_err(failed)?;
    let used = admin.holdings(merchant.merchant_id).map_err(failed)?;
    let day = used.event_day.map(|day| day.at(Clock::system().now()).events);
    let events_today = merchant.terms.quotas.events_per_day.map(|_| day.unwrap_or(0));
    if args.json {
        let mut shown = as_json(&merchant);
        let Holdings { webhooks, users, .. } = used;
        shown["used"] = json!({ "webhooks": webhooks, "users": users, "events_today": events_today });
        return print(&pretty(&shown.to_string()));
    }
    print(&format!("merchant: {}", merchant.code))?;
    print(&format!("created_at: {}", merchant.created_at))?;
    print(&format!("paused_at: {}", time(merchant.terms.paused_at)))?;
    for (name, quota) in merchant.terms.quotas.members() {
        print(&format!("quotas.{name}: {}", shown_quota(quota)))?;
    }
    print(&format!("used.webhooks: {}\nused.users: {}", used.webhooks, used.users))?;
    print(&format!("used.events_today: {}", shown_quota(events_today)))
}

fn update(args: &UpdateArgs) -> Result<(), Failure> {
    let said = QuotaChanges::from(args.quotas);
    if said.is_empty() {
        return Err(Failure::usage("there is nothing to change; give a quota, such as --webhooks 20"));
    }
    let what = MerchantAlteration::Quotas(said);
    let mut admin = open_existing(&args.store.load()?.store)?;
    let merchant = admin.alter_merchant(&args.name, what, Clock::system().now()).map_err(failed)?;
    let quotas = merchant.terms.quotas.members().map(|(name, quota)| format!("{name} {}", shown_quota(quota)));
    say(&format!("tallyhook: {} may have: {}.", merchant.code, quotas.join(", ")));
    Ok(())
}

fn pause(args: &NameArgs, is_paused: bool) -> Result<(), Failure> {
    let mut admin = open_existing(&args.store.load()?.store)?;
    let what = MerchantAlteration::Paused(is_paused);
    let merchant = admin.alter_merchant(&args.name, what, Clock::system().now()).map_err(failed)?;
    let code = merchant.code;
    say(&match merchant.terms.paused_at {
        Some(since) => {
            format!("tallyhook: {code} is paused since {since}; \"tallyhook merchant resume {code}\" ends it.")
        }
        None => format!("tallyhook: {code} is not paused."),
    });
    Ok(())
}

const COLUMNS: [&str; 8] = ["ID", "MERCHANT", "WEBHOOKS", "PENDING", "EVENTS/DAY", "CALLS/S", "CREATED", "PAUSED"];

fn row(merchant: &Merchant) -> [String; 8] {
    let [webhooks, pending, events, calls] = merchant.terms.quotas.members().map(|(_, quota)| shown_quota(quota));
    [
        merchant.merchant_id.to_string(),
        merchant.code.clone(),
        webhooks,
        pending,
        events,
        calls,
        merchant.created_at.rfc3339_ms(),
        time(merchant.terms.paused_at),
    ]
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), Timestamp::rfc3339_ms)
}

fn shown_quota(quota: Option<u32>) -> String {
    quota.map_or_else(|| "-".to_owned(), |quota| quota.to_string())
}

fn as_json(merchant: &Merchant) -> Value {
    let quotas = merchant.terms.quotas.members().map(|(name, quota)| (name.to_owned(), json!(quota)));
    json!({
        "merchant_id": merchant.merchant_id.0,
        "merchant": merchant.code,
        "created_at": merchant.created_at.rfc3339_ms(),
        "paused_at": merchant.terms.paused_at.map(Timestamp::rfc3339_ms),
        "quotas": Value::Object(quotas.into_iter().collect()),
    })
}
