//! `tallyhook demo`: the whole story in one command.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use super::client::{Http, RpcClient, RpcError, Session, Target, TlsOptions};
use super::folder::Folder;
use super::receiver::{Answers, Key, Receiver, Rules, Sight};
use super::serve::{make_demo_user, stop};
use super::signals::Signals;
use super::{DEMO_KEY, DEMO_USER, Failure, block_on, colour, print, program};
use crate::app::{Hooks, Server};
use crate::config::{Config, Sources};
use crate::domain::id::{IncrementId, Span};
use crate::domain::secret::SecretKey;
use crate::telemetry;

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook demo            stays up after the story, for calls of your own
  tallyhook demo --exit     ends after the story, with exit code 0 only if every
                            delivery arrived and was verified

It uses a temporary store and free ports of this machine, and leaves nothing.";

/// The webhook subscribes to these.
const TOPICS: &str = "order:*";
/// What is published. One has no subscriber, and so gets no number.
const EVENTS: [(&str, u32); 6] = [
    ("order:created", 1001),
    ("order:created", 1002),
    ("order:status_changed", 1001),
    ("product:updated", 77),
    ("order:completed", 1001),
    ("order:canceled", 1002),
];
/// The number that the receiver turns away at first.
const TURNED_AWAY: i64 = 2;
/// How long everything may take to arrive. A retry waits about 5 s.
const STORY_TIME: Duration = Duration::from_secs(30);
/// How long a number may be overtaken: longer than a retry waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the demo ends.
#[derive(Args)]
pub struct DemoArgs {
    /// End after the story instead of staying up
    #[arg(long)]
    exit: bool,
}

/// Tells the story.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let folder = Folder::make("demo")?;
    let store = folder.path().join("tallyhook.db");
    let flags = [
        ("listen", "127.0.0.1:0".to_owned()),
        ("dev", "true".to_owned()),
        ("log", "warn".to_owned()),
        ("store", format!("sqlite:{}", store.display())),
    ];
    let config = Config::load(&Sources { flags: flags.into(), ..Sources::default() }).map_err(Failure::failed)?;
    telemetry::init(&config.log, config.log_as_json).map_err(Failure::usage)?;
    make_demo_user(&config)?;
    block_on(demo(config, args.exit))
}

async fn demo(config: Config, exit: bool) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let server = Server::start(config, Hooks::default()).await.map_err(Failure::failed)?;
    let url = server.url();
    let told = tokio::select! {
        told = tell(&url) => told,
        () = signals.next() => return stop(server, &mut signals).await,
    };
    let mut receiver = match told {
        Ok(receiver) => receiver,
        Err(failure) => {
            stop(server, &mut signals).await?;
            return Err(failure);
        }
    };
    if !exit {
        print(&what_next(&program(), &url))?;
        let is_coloured = colour::is_wanted();
        while let Some(sight) = tokio::select! { sight = receiver.next() => sight, () = signals.next() => None } {
            print(&sight.lines(is_coloured))?;
        }
    }
    let stopped = stop(server, &mut signals).await;
    receiver.stop().await;
    stopped
}

/// From the login to the last delivery. Fails if anything does not arrive,
/// arrives twice, or can't be verified.
async fn tell(url: &str) -> Result<Receiver, Failure> {
    let cannot = |cause: std::io::Error| Failure::failed(format!("the receiver can't be started: {cause}"));
    let rpc = |error: RpcError| Failure::failed(error);
    print(&format!("server           {url}, with a temporary store"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
    let target = format!("http://{}/", listener.local_addr().map_err(cannot)?);
    print(&format!("receiver         {target}, which will turn number {TURNED_AWAY} away at first"))?;

    let server = Target::try_new(url).map_err(Failure::failed)?;
    let client = RpcClient::new(Http::new(server, TlsOptions::default()).map_err(Failure::failed)?);
    let session = client.login(DEMO_USER, DEMO_KEY).await.map_err(rpc)?;
    print(&format!("login            as {DEMO_USER}"))?;
    let webhook = create_webhook(&session, &target).await.map_err(rpc)?;
    print(&format!(
        "webhook.create   webhook {}: {TOPICS} to the receiver, with a secret that signs",
        webhook.webhook_id
    ))?;

    let secret = SecretKey::try_new(&webhook.secret_key)
        .map_err(|_| Failure::failed("the webhook came without a secret_key"))?;
    let answers = Answers::TurnAwayOnce(IncrementId(TURNED_AWAY), AtomicBool::new(false));
    let mut receiver =
        Receiver::start(listener, Rules { key: Key::Secret(secret), answers, patience: PATIENCE }).map_err(cannot)?;
    let begin = Instant::now();
    let mut expected = BTreeSet::new();
    for (topic, id) in EVENTS {
        let receipt = publish(&session, topic, id).await.map_err(rpc)?;
        let number = receipt.deliveries.first().map(|delivery| delivery.increment_id);
        let fate = number.map_or("no webhook wants it".to_owned(), |number| {
            format!("number {number} of webhook {}", webhook.webhook_id)
        });
        print(&format!("event.publish    {topic:<22} is event {}, {fate}", receipt.event_id))?;
        expected.extend(number);
    }
    session.end().await;

    print("\nWhat arrives (the server waits about 5 s before it tries again what was turned away):")?;
    let count = expected.len();
    let numbers: Vec<String> = expected.iter().map(i64::to_string).collect();
    tokio::time::timeout(STORY_TIME, watch(&mut receiver, expected))
        .await
        .map_err(|_| Failure::failed(format!("not everything arrived within {} s", STORY_TIME.as_secs())))??;
    print(&format!(
        "\nAll {count} deliveries arrived and were verified, each once: numbers {}. It took {:.1} s.",
        numbers.join(", "),
        begin.elapsed().as_secs_f64()
    ))?;
    Ok(receiver)
}

/// Shows what arrives until nothing is expected any more.
async fn watch(receiver: &mut Receiver, mut expected: BTreeSet<i64>) -> Result<(), Failure> {
    while !expected.is_empty() {
        let sight = receiver.next().await.ok_or_else(|| Failure::failed("the receiver has stopped by itself"))?;
        print(&format!("  {}", sight.lines(colour::is_wanted())))?;
        let Sight::Request(report) = sight else { return Err(Failure::failed("a number is missing")) };
        if let Err(problem) = report.delivery {
            return Err(Failure::failed(format!("a delivery could not be verified: {problem}")));
        }
        for number in report.accepted().into_iter().flat_map(Span::numbers) {
            if !expected.remove(&number.0) {
                return Err(Failure::failed(format!("number {number} was not expected, or came twice")));
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct CreatedWebhook {
    webhook_id: i64,
    secret_key: String,
}

#[derive(Deserialize)]
struct Receipt {
    event_id: i64,
    deliveries: Vec<NumberedDelivery>,
}

#[derive(Deserialize)]
struct NumberedDelivery {
    increment_id: i64,
}

async fn create_webhook(session: &Session<'_>, target: &str) -> Result<CreatedWebhook, RpcError> {
    let webhook = session.call("webhook.create", json!([{ "url": target, "topics": TOPICS }, true])).await?;
    Ok(serde_json::from_str(webhook.get())?)
}

async fn publish(session: &Session<'_>, topic: &str, id: u32) -> Result<Receipt, RpcError> {
    let receipt = session.call("event.publish", json!([topic, { "id": id }])).await?;
    Ok(serde_json::from_str(receipt.get())?)
}

/// What a curious person may do now, to be copied and pasted.
fn what_next(program: &str, url: &str) -> String {
    format!(
        r#"
Both stay up until Ctrl-C. Try in another terminal (user {DEMO_USER}, API key {DEMO_KEY}), and watch this one:
  export TALLYHOOK_URL={url}
  {program} call event.publish order:created '{{"id": 1003}}'
  {program} call delivery.list 1
  {program} call delivery.attempts 1 {TURNED_AWAY}
  {program} call webhook.list
  curl -su {DEMO_USER}:{DEMO_KEY} {url}/ -H 'content-type: application/json' \
    -d '{{"jsonrpc": "2.0", "id": 1, "method": "event.publish", "params": [null, "order:created", {{"id": 1004}}]}}'
"#
    )
}
