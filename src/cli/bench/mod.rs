//! `tallyhook bench`: a real server process against a real receiver process.

mod args;
mod ceiling;
mod hostile;
mod load;
mod measure;
mod pace;
mod process;
mod report;
mod runs;
mod scenario;
mod serving;
mod sink;
mod tenants;
mod tls;

pub use self::args::BenchArgs;
use self::measure::Theirs;
use self::report::Report;
use self::scenario::Scenario;
pub use self::sink::ReceiverArgs;
pub use self::tenants::{AttackerArgs, attack};
use super::client::Target;
use super::folder::Folder;
use super::{Failure, block_on, print};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook bench                          every scenario but tenants
  tallyhook bench --scenario burst         as fast as it goes, one webhook
  tallyhook bench --scenario burst --batch 1 --message-bytes 500
  tallyhook bench --scenario steady --rate 500
  tallyhook bench --json > figures.json
  tallyhook bench --url http://127.0.0.1:8080 --scenario steady
  tallyhook bench --scenario distant --latency-ms 300
  tallyhook bench --scenario fanout --tls --hosts 20
  tallyhook bench --scenario burst --store postgres://hook@db/measure --nodes 3
  tallyhook bench --scenario tenants                  the ten worst attacks
  tallyhook bench --scenario tenants --attack all --markdown
  tallyhook bench --scenario tenants --attack together      all at one server, at once

Each scenario starts a server and a receiver of its own on loopback, with a
store in the temporary folder (TMPDIR) that is removed at the end. The ceiling
is measured in the same run: the same signed POSTs from a bare client to the
same receiver, the same rows into SQLite in batches, and one fdatasync. Build
with --release, or the figures mean nothing.

Each row says how many events a call publishes, and how many bytes of padding a
message has, to which the time adds 34. single is what a program comes to that
publishes each event as it happens.

noisy, hostile, backlog, secure and handshakes compare: their runs alternate,
and the median of each counts. All of them together take about ten minutes, and backlog
needs 1 GB in the temporary folder.

distant, yielding and pooled have a receiver that is not on loopback, as it
were: it answers after a time, though it has thousands of requests at once.

With --tls the receivers speak https; an authority is made for that, and the
server is told to trust it (--ca-file). --hosts spreads webhooks over loopback
addresses, each of which is a host with connections and sessions of its own.
hosts is 200 webhooks at 200 hosts 100 ms away over https. secure and handshakes
compare what a delivery costs the server's processor: on connections that are
kept, over http and over https; and on a new connection for each, over http, over
https with sessions that are resumed, and over https with full handshakes.

tenants starts a server with the default limits for each attack. A neighbour
makes calls at a steady rate on connections of his own, for some seconds before
an attack and during it, and what he waits for is compared. The attacker is
another merchant, or nobody that the server knows, calls from another loopback
address, has bounds of count and time, and runs with its receiver in processes
behind all others (nice 10), so that it is the server that is measured and not
the load. That some of its calls are refused is no failure; it is shown how
many were. One that can't be made says so, the others go on, and the exit code
is 1 at the end. All attacks, one after the other, take about ten minutes.
together is all of them at once at one server, each by a merchant, a process
and an address of its own: so many take the processors from the neighbour's
own client, too, and it is the server's memory that counts there.

With --store the servers keep what they are told in that database of PostgreSQL,
each run in a schema of its own, which goes at the end; the user needs the right
to make one. --nodes starts several servers on it, and the load is spread over
them; their memory and processor time are added up. What a delivery cost the
database is told, too: bytes of its log, of which nobody else may write
meanwhile, and statements, if the extension pg_stat_statements counts them.

With --url the load goes to a server that runs already. It must reach the
receiver (--receive-on; for loopback it has to be in dev mode, or be told
--allow-target), and is left with the events, but without the webhooks.";

/// Measures, and prints the figures.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let scenarios = args.scenarios();
    if args.url.is_some() && scenarios.contains(&Scenario::Tenants) {
        return Err(Failure::usage(
            "tenants makes users of its own, and so needs a server of its own; leave out --url",
        ));
    }
    if args.nodes > 1 && args.store.is_none() {
        return Err(Failure::usage(
            "--nodes: a store that several servers share is in a database; name it with --store",
        ));
    }
    let theirs = args.url.as_deref().map(|url| theirs(url, args)).transpose()?;
    block_on(async {
        let folder = Folder::make("bench")?;
        let mut report = Report::new(measure::measure_ceiling(folder.path(), args).await?);
        for scenario in scenarios {
            match scenario {
                Scenario::Tenants => report.add_tenants(tenants::measure(folder.path(), args).await),
                _ => report.add(measure::measure(scenario, folder.path(), args, theirs.as_ref()).await?),
            }
        }
        print(&match (args.json, args.markdown) {
            (true, _) => report.json(),
            (false, true) => report.markdown(),
            (false, false) => report.table(),
        })?;
        match report.failed().as_slice() {
            [] => Ok(()),
            failed => Err(Failure::failed(format!("not measured, see above: {}", failed.join(", ")))),
        }
    })
}

/// The server to measure, and who is known there.
fn theirs(url: &str, args: &BenchArgs) -> Result<Theirs, Failure> {
    let target = Target::try_new(url).map_err(Failure::usage)?;
    let address = target.plain_address().ok_or_else(|| Failure::usage(format!("{url}: the load is plain http")))?;
    let (user, key) = args.login.credentials(&target)?;
    Ok(Theirs { address, user, key })
}

/// Runs the receiver process.
pub fn receive(args: &ReceiverArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(sink::receive(args, print))
}
