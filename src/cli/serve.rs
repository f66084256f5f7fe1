//! `tallyhook serve`: the server, until a signal stops it.

use std::sync::Arc;

use super::copies;
use super::flags::ServeFlags;
use super::signals::{Hangups, Signals};
use super::supervisor;
use super::topic::BUILT_IN;
use super::{DEMO_KEY, DEMO_MERCHANT, DEMO_USER, Failure, block_on, program, say, tell};
use crate::api::rpc::catalogue;
use crate::app::{Hooks, Server};
use crate::config::Config;
use crate::domain::secret::KeyHash;
use crate::domain::time::Clock;
use crate::store::admin::{Admin, Found};
use crate::store::{self, Trouble};
use crate::telemetry;

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook serve --dev           user demo, API key demo-key, loopback only
  tallyhook serve --listen 0.0.0.0:8080 --store sqlite:/srv/tallyhook.db
  tallyhook serve --config tallyhook.toml     lines such as grace_ms = 5000
  tallyhook serve --allow-target 10.1.0.0/16 --allow-target 192.168.7.9
  tallyhook serve --listen 0.0.0.0:8443 --tls-cert chain.pem --tls-key key.pem
  TALLYHOOK_LOG=debug tallyhook serve
  tallyhook serve --paused        takes events in and numbers them, and sends nothing

When it is ready it prints one line: tallyhook listening on http://ADDRESS,
with https:// if it speaks TLS. systemd is told so, too, if it has started this as
a service of Type=notify. A browser finds how to call it there. To stderr it says
which version it is, and
what lies in its store.
SIGTERM or SIGINT lets what is in progress end within --grace-ms; a second one
ends it at once. With TLS or a master key, SIGHUP has their files read anew.";

/// Serves until a signal comes.
pub fn run(flags: &ServeFlags) -> Result<(), Failure> {
    let config = flags.load()?;
    telemetry::init(&config.log, config.log_as_json).map_err(Failure::usage)?;
    if !config.passed_over.is_empty() {
        let variables = config.passed_over.join(", ");
        tracing::info!(variables, "variables that the platform sets for a service of this name are passed over");
    }
    if config.dev {
        make_demo_user(&config)?;
    }
    raise_file_limit();
    block_on(serve(config))
}

/// Each connection is an open file, and the usual limit of 1,024 is meant for
/// programs that know no better; the hard limit is what the operator set.
pub fn raise_file_limit() {
    if let Err(cause) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%cause, "the limit of open files could not be raised");
    }
}

/// Makes the user that everybody knows, with the built-in catalogue, unless it
/// is there.
pub fn make_demo_user(config: &Config) -> Result<(), Failure> {
    let now = Clock::system().now();
    let mut admin = Admin::open(&config.store).map_err(Failure::failed)?;
    let topics = catalogue::read(BUILT_IN).map_err(Failure::failed)?;
    admin.ensure_demo(DEMO_USER, DEMO_MERCHANT, KeyHash::of(DEMO_KEY), topics, now).map_err(Failure::failed)
}

/// Lets what is in progress end, unless another signal comes. Fails if the
/// store is not left where it was.
pub async fn stop(server: Server, signals: &mut Signals) -> Result<(), Failure> {
    tokio::select! {
        trouble = server.shutdown() => match trouble {
            Some(Trouble::TakenAway(_)) => Err(Failure::failed("what the store has is not where it is looked for at the next start")),
            _ => Ok(()),
        },
        () = signals.next() => Err(Failure::interrupted()),
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let (dev, store, backups) = (config.dev, config.store.clone(), config.backups.clone());
    let (for_machines, changed) = (config.log_as_json, config.changed.join(" "));
    // Without files to read anew, it ends the server as it ends any program; but whoever started
    // it as a service means by it that there may be some.
    let has_files = config.api.tls.is_some() || !store.vault().ids().is_empty();
    let mut hangups = (has_files || supervisor::is_there()).then(Hangups::catch).transpose()?;
    // Before the server has it: a process that opens the file of its store and closes it again loses the locks that
    // SQLite has on it (see `ServeLock`), and with them its log to the next program that comes by.
    let found =
        tokio::task::block_in_place(|| Admin::open(&store).map_err(Failure::failed)?.found().map_err(Failure::failed));
    let server = tokio::select! {
        server = Server::start(config, Hooks::default()) => server.map_err(Failure::failed)?,
        () = signals.next() => return Ok(()),
    };
    let url = server.url();
    tell(&format!("tallyhook listening on {url}"))?;
    let (version, ops_url) = (env!("CARGO_PKG_VERSION"), server.ops_url());
    tracing::info!(version, url, ops_url, %store, changed, "the server is ready");
    supervisor::tell_ready();
    match found {
        Ok(_) if for_machines => {}
        Ok(found) => say(&greeting(&store, found, &url)),
        Err(failure) => tracing::warn!(cause = ?failure, "the store could not be looked at"),
    }
    if dev && !for_machines {
        say(&first_call(&program(), &url));
    }
    let copies = match (backups, &store) {
        (Some(plan), store::Config::File(file)) => {
            Some(tokio::spawn(copies::make(plan, file.path.clone(), Arc::clone(server.metrics()))))
        }
        _ => None,
    };
    let hung_up = async |hangups: &mut Option<Hangups>| match hangups {
        Some(hangups) => hangups.next().await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = hung_up(&mut hangups) => server.reload(),
        }
    }
    supervisor::tell_stopping();
    if let Some(copies) = copies {
        copies.abort();
    }
    match for_machines {
        true => tracing::info!("the server stops; what is in progress may end"),
        false => say("tallyhook: stopping; what is in progress may end; another signal ends it at once"),
    }
    stop(server, &mut signals).await
}

/// What runs here, on what, and where to read of it.
fn greeting(store: &store::Config, found: Found, url: &str) -> String {
    let Found { users, webhooks, unsettled, last_event } = found;
    let last_event = last_event.map_or_else(|| "no event".to_owned(), |id| format!("the last event is {id}"));
    let hint = match users {
        0 => "\nNobody can call it yet; \"tallyhook user create NAME --merchant NAME\" makes a user.",
        _ => "",
    };
    format!(
        "tallyhook {} with the store {}: users {users}, webhooks {webhooks}, deliveries that have yet to end \
         {unsettled} at the most, {last_event}\nHow to call it: {url}/docs{hint}",
        env!("CARGO_PKG_VERSION"),
        store
    )
}

/// How to make a first call, to be copied and pasted.
fn first_call(program: &str, url: &str) -> String {
    const SECRET: &str = "my-first-secret";
    format!(
        r#"
This server is for trying things out: anyone on this machine can log in as {DEMO_USER} with the API key {DEMO_KEY}.

In a second terminal, receive:
  {program} listen --port 9000 --secret {SECRET}

In a third, register that receiver, publish, and look at what became of it:
  export TALLYHOOK_URL={url}
  {program} call webhook.create '{{"url": "http://127.0.0.1:9000/", "topics": "*", "secret_key": "{SECRET}"}}' true
  {program} call event.publish order:created '{{"order_id": 7}}'
  {program} call delivery.list 1        # or the webhook_id that you were given

The same with curl:
  curl -su {DEMO_USER}:{DEMO_KEY} {url}/ -H 'content-type: application/json' \
    -d '{{"jsonrpc": "2.0", "id": 1, "method": "event.publish", "params": [null, "order:created", {{"order_id": 8}}]}}'
"#
    )
}
