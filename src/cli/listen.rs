//! `tallyhook listen`: a receiver for developers.

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

use super::client::{Http, Target, TlsOptions};
use super::receiver::{Answers, Key, Receiver, Rules, Sight};
use super::signals::Signals;
use super::{Failure, block_on, colour, print, program, say};
use crate::config::SECRET_VARIABLE;
use crate::domain::fault::Violation;
use crate::domain::secret::SecretKey;

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook listen                       makes a secret, and shows it
  tallyhook listen --secret my-first-secret
  tallyhook listen --port 9001 --secret whsec_… --forward http://127.0.0.1:3000/webhooks
  tallyhook listen --secret my-first-secret --once      ends after one delivery

Every delivery is a line: its time, webhook, number and topic, and whether its
signature is right. What is verified is answered with 200, or with what
--forward answers; what is not, with 401. Lines that shout:
  GAP: 42 is missing      it has not come within --gap-after-s of a later one
  DUPLICATE 41            it was accepted before; the answer must have got lost
  LATE: 42 has come       and fills the gap that was reported
  OTHER STORE: …          a backup was put back, or it is another server: numbers
                          that were seen before may stand for other events";

/// Where to receive, and what to believe.
#[derive(Args)]
pub struct ListenArgs {
    /// The port to receive on, at 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// The webhook's secret_key, or its public_key; a secret is made and shown, if it is left out
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true)]
    secret: Option<String>,
    /// Post every verified delivery on to this URL, same headers and body, and answer what it answers
    #[arg(long, value_name = "URL")]
    forward: Option<String>,
    /// End after so many verified deliveries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after one verified delivery
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// How long a number may be overtaken by later ones before it is called missing
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=86_400))]
    gap_after_s: u64,
}

/// Receives until a signal comes, or enough has.
pub fn run(args: ListenArgs) -> Result<(), Failure> {
    let wrong_secret = |violation: Violation| format!("--secret {}", violation.problem);
    let (key, made) = match &args.secret {
        Some(text) => (Key::try_new(text).map_err(wrong_secret).map_err(Failure::usage)?, None),
        None => {
            let secret = SecretKey::generate();
            let shown = secret.expose().to_owned();
            (Key::Secret(secret), Some(shown))
        }
    };
    let answers = match &args.forward {
        Some(url) => {
            let target = Target::try_new(url).map_err(Failure::usage)?;
            Answers::Forward(Box::new(Http::new(target, TlsOptions::default()).map_err(Failure::failed)?))
        }
        None => Answers::Accept,
    };
    let rules = Rules { key, answers, patience: Duration::from_secs(args.gap_after_s) };
    let count = if args.once { Some(1) } else { args.count };
    block_on(listen(args.port, rules, count, made))
}

/// Receives; a secret that was `made` for it is shown first.
async fn listen(port: u16, rules: Rules, count: Option<u64>, made: Option<String>) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let cannot = |cause| Failure::failed(format!("can't listen on port {port}: {cause}; name another one with --port"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot)?;
    let mut receiver = Receiver::start(listener, rules).map_err(cannot)?;
    let url = format!("http://{}/", receiver.address());
    print(&format!("tallyhook receiving on {url}"))?;
    if let Some(secret) = made {
        print(&format!("secret_key {secret}"))?;
        say(&first_webhook(&program(), &url, &secret));
    }
    let is_coloured = colour::is_wanted();
    let mut verified = 0;
    while count.is_none_or(|count| verified < count) {
        let sight = tokio::select! {
            sight = receiver.next() => sight,
            () = signals.next() => break,
        };
        let Some(sight) = sight else { return Err(Failure::failed("the receiver has stopped by itself")) };
        print(&sight.lines(is_coloured))?;
        verified += u64::from(matches!(&sight, Sight::Request(report) if report.delivery.is_ok()));
    }
    tokio::select! {
        () = receiver.stop() => Ok(()),
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// How to have a webhook sign with a secret that was made, to be copied and
/// pasted.
fn first_webhook(program: &str, url: &str, secret: &str) -> String {
    format!(
        r#"
No --secret was given, so one was made, for as long as this receiver runs. In another terminal:
  {program} call webhook.create '{{"url": "{url}", "topics": "*", "secret_key": "{secret}"}}' true
"#
    )
}
