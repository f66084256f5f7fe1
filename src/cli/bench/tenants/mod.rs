//! What a neighbour notices of a merchant's attacks: how long he waits for
//! what he does, before an attack and during it, at a server with the default
//! limits that is started for that attack alone.

mod attacker;
mod attacks;
mod neighbour;
mod rpc;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use self::attacker::Tally;
pub use self::attacker::{AttackerArgs, attack};
use self::attacks::Attack;
use self::neighbour::{Errand, Neighbour, Phase, Waits};
use super::process::{Process, ourselves, polite};
use super::{BenchArgs, Failure};

/// What names all attacks.
const ALL: &str = "all";
/// What an attacker says when all is prepared.
const READY: &str = "ready";
/// How long preparing an attack may take, and how long after its time an
/// attacker may come to an end.
const PREPARING_MAX: Duration = Duration::from_secs(90);
const ENDING_MAX: Duration = Duration::from_secs(10);
/// How long a server may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(20);
/// How often it is looked at for that, and the most it works meanwhile.
const REST_LOOK: Duration = Duration::from_millis(250);
const REST_CPU: Duration = Duration::from_millis(30);
/// How long the neighbour is watched before an attack.
const BEFORE: Duration = Duration::from_secs(4);
/// The least that he has to wait longer before it counts, in microseconds.
const NOTICED_US: u64 = 10_000;

/// What a neighbour noticed of an attack.
#[derive(Debug, Serialize)]
pub struct Noticed {
    attack: &'static str,
    what: &'static str,
    /// How the attacker's calls were answered; `None` if he did not come to an end.
    attacker: Option<Tally>,
    waits: Vec<Compared>,
    /// The most memory that the server had during the attack, in bytes.
    peak_rss: Option<u64>,
    /// What it had when it had come to rest, or 20 s later.
    rss_after: Option<u64>,
    /// The files of the store then, in bytes.
    store_bytes: u64,
}

/// What the neighbour waited for, before and during.
#[derive(Debug, Serialize)]
struct Compared {
    what: &'static str,
    before: Waits,
    during: Waits,
    is_ok: bool,
}

/// What may be named on the command line.
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(attacks::ALL.iter().map(|attack| attack.name).chain([ALL]))
}

/// Measures the attacks that are asked for.
pub async fn measure(folder: &Path, args: &BenchArgs) -> Result<Vec<Noticed>, Failure> {
    let is_asked_for = |attack: &&Attack| match args.attack.as_slice() {
        [] => attack.is_worst,
        names => names.iter().any(|name| name == attack.name || name == ALL),
    };
    let mut noticed = Vec::new();
    for attack in attacks::ALL.iter().filter(is_asked_for) {
        let bar = super::measure::spinner(format!("tenants: {}", attack.name));
        let folder = folder.join(attack.name);
        std::fs::create_dir(&folder).map_err(Failure::failed)?;
        let measured = suffer(attack, &folder, args).await;
        bar.finish_and_clear();
        noticed.push(measured.map_err(|failure| failure.about(attack.name))?);
        std::fs::remove_dir_all(&folder).map_err(Failure::failed)?;
    }
    Ok(noticed)
}

async fn suffer(attack: &Attack, folder: &Path, args: &BenchArgs) -> Result<Noticed, Failure> {
    let program = args.server()?;
    let store = format!("sqlite:{}", folder.join("store.db").display());
    let make = |name, merchant, permissions| make_user(&program, &store, name, merchant, permissions);
    let all = "webhook_read,webhook_write,event_write";
    let key = make("neighbour", "neighbour", all)?;
    let (attacker_key, reader_key) =
        (make("attacker", "attacker", all)?, make("attackers-reader", "attacker", "webhook_read")?);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--allow-target", "127.0.0.0/8", "--log", "error", "--store"];
    let server = Process::start(Command::new(&program), &[&serve[..], &[&store]].concat(), None)?;
    let receive = ["bench-receiver", "--bind", "127.0.0.1:0"];
    let receiver = Process::start(polite(&ourselves()?), &receive, None)?;

    let neighbour = Neighbour::settle(&server.address, "neighbour", &key).await?;
    let seconds = args.attack_seconds.to_string();
    let mut attacker = AttackerProcess::start(&[
        ["--attack", attack.name],
        ["--address", &server.address],
        ["--receiver", &receiver.address],
        ["--user", "attacker"],
        ["--key", &attacker_key],
        ["--reader-key", &reader_key],
        ["--seconds", &seconds],
    ])?;
    attacker.prepared().await?;
    rest(&server).await;
    let lasts = Duration::from_secs(args.attack_seconds);
    let before = neighbour.live(BEFORE.min(lasts)).await;
    server.forget_peak();
    attacker.go()?;
    let during = neighbour.live(lasts).await;
    let peak_rss = server.usage().peak_rss;
    let tally = attacker.end().await;
    rest(&server).await;
    let (rss_after, store_bytes) = (server.usage().rss, bytes_in(folder));
    Ok(Noticed {
        attack: attack.name,
        what: attack.what,
        attacker: tally,
        waits: compare(before, during),
        peak_rss,
        rss_after,
        store_bytes,
    })
}

/// Makes a user with the program that will serve; its key.
fn make_user(program: &Path, store: &str, name: &str, merchant: &str, permissions: &str) -> Result<String, Failure> {
    let create = ["user", "create", name, "--merchant", merchant, "--permissions", permissions, "--store", store];
    let made = Command::new(program).args(create).stderr(Stdio::null()).output().map_err(Failure::failed)?;
    match made.status.success() {
        true => Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned()),
        false => Err(Failure::failed(format!("{} can't make a user", program.display()))),
    }
}

/// Waits until the server does next to nothing, for a while at the most.
async fn rest(server: &Process) {
    let until = Instant::now() + REST_MAX;
    let mut before = server.usage().cpu;
    while Instant::now() < until {
        sleep(REST_LOOK).await;
        let now = server.usage().cpu;
        match (before, now) {
            (Some(before), Some(now)) if now.saturating_sub(before) > REST_CPU => {}
            _ => return,
        }
        before = now;
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn compare(before: Phase, during: Phase) -> Vec<Compared> {
    let compare = |(errand, (before, during)): (Errand, (Waits, Waits))| {
        let bound = (before.p99_us * 2).max(before.p99_us + NOTICED_US);
        Compared { what: errand.name(), before, during, is_ok: during.missed == 0 && during.p99_us <= bound }
    };
    Errand::ALL.into_iter().zip(before.into_iter().zip(during)).map(compare).collect()
}

/// The attacker's process, killed when this is dropped.
struct AttackerProcess {
    child: Child,
    stdin: ChildStdin,
    lines: Option<Lines>,
}

type Lines = std::io::Lines<BufReader<ChildStdout>>;

impl AttackerProcess {
    fn start(args: &[[&str; 2]]) -> Result<Self, Failure> {
        let mut child = polite(&ourselves()?)
            .arg("bench-attacker")
            .args(args.concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::failed)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self { child, stdin, lines: Some(BufReader::new(stdout).lines()) }),
            _ => Err(Failure::failed("a process has no input and no output")),
        }
    }

    /// Waits until it is prepared.
    async fn prepared(&mut self) -> Result<(), Failure> {
        match self.line(PREPARING_MAX).await.as_deref() {
            Some(READY) => Ok(()),
            _ => Err(Failure::failed("the attack could not be prepared")),
        }
    }

    /// Gives the word.
    fn go(&mut self) -> Result<(), Failure> {
        self.stdin.write_all(b"go\n").map_err(Failure::failed)
    }

    /// Waits until it has come to an end; what it has to say.
    async fn end(mut self) -> Option<Tally> {
        serde_json::from_str(&self.line(ENDING_MAX).await?).ok()
    }

    async fn line(&mut self, within: Duration) -> Option<String> {
        let mut lines = self.lines.take()?;
        let read = tokio::task::spawn_blocking(move || {
            let line = lines.next().and_then(Result::ok);
            (lines, line)
        });
        let (lines, line) = timeout(within, read).await.ok()?.ok()?;
        self.lines = Some(lines);
        line
    }
}

impl Drop for AttackerProcess {
    fn drop(&mut self) {
        // If it has ended by itself, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For people.
pub fn table(all: &[Noticed]) -> String {
    let mut text = String::from("What a neighbour waits for, before an attack and during it, in ms:\n\n");
    for noticed in all {
        let _ = writeln!(text, "{}: {}", noticed.attack, noticed.what);
        let _ = writeln!(
            text,
            "  {:10} {:>10} {:>10} {:>10} {:>10} {:>12}",
            "", "before p50", "p99", "during p50", "p99", "not done"
        );
        for Compared { what, before, during, is_ok } in &noticed.waits {
            let verdict = if *is_ok { "ok" } else { "NOTICED" };
            let _ = writeln!(
                text,
                "  {what:10} {:>10} {:>10} {:>10} {:>10} {:>12} {verdict}",
                ms(before.p50_us),
                ms(before.p99_us),
                ms(during.p50_us),
                ms(during.p99_us),
                format!("{} of {}", during.missed, during.count)
            );
        }
        let _ = writeln!(
            text,
            "  memory {} MB at most, {} MB after; store {} MB; {}\n",
            mb(noticed.peak_rss),
            mb(noticed.rss_after),
            mb(Some(noticed.store_bytes)),
            calls(noticed.attacker)
        );
    }
    text + "It is noticed if something is not done, or p99 is more than twice as long and more than 10 ms longer."
}

/// Rows of a table in Markdown, below a heading of its own.
pub fn markdown(all: &[Noticed]) -> String {
    let names: Vec<_> = Errand::ALL.iter().map(|errand| errand.name()).collect();
    let mut text =
        format!("| attack | {} | memory | the attacker's calls |\n|{}\n", names.join(" | "), "---|".repeat(8));
    for noticed in all {
        let waits: Vec<_> = noticed.waits.iter().map(cell).collect();
        let (waits, calls) = (waits.join(" | "), calls(noticed.attacker));
        let _ = writeln!(text, "| `{}` | {waits} | {} MB | {calls} |", noticed.attack, mb(noticed.peak_rss));
    }
    text.trim_end().to_owned()
}

fn cell(compared: &Compared) -> String {
    let Compared { before, during, is_ok, .. } = compared;
    let text = match during.missed {
        0 => format!("{} → {}", ms(before.p99_us), ms(during.p99_us)),
        missed => format!("{} → {missed} of {} not done", ms(before.p99_us), during.count),
    };
    if *is_ok { text } else { format!("**{text}**") }
}

fn calls(tally: Option<Tally>) -> String {
    tally.map_or("n/a".to_owned(), |Tally { done, refused, cut }| {
        format!("{done} done, {refused} refused, {cut} cut off")
    })
}

fn ms(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn mb(bytes: Option<u64>) -> String {
    bytes.map_or("n/a".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1_048_576.0))
}
