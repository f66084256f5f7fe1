//! What a neighbour notices of a merchant's attacks: how long he waits for
//! what he does, before an attack and during it, at a server with the default
//! limits that is started for that attack alone, or for all of them together.

mod attacker;
mod attacking;
mod attacks;
mod neighbour;
mod process;
mod row;
mod rpc;
mod show;
mod tally;
pub mod trial;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use self::attacking::{AttackerArgs, attack};
use self::attacks::Attack;
use self::neighbour::{Errand, Neighbour, Phase, Waits};
use self::process::AttackerProcess;
pub use self::row::Row;
use self::row::{Compared, Noticed};
pub use self::show::{markdown, table};
use self::tally::Tally;
use self::trial::{Trial, asked_for};
use super::args::BenchArgs;
use super::process::{Process, ourselves, polite};
use super::serving::Room;
use crate::cli::Failure;

/// What a user may be allowed who publishes.
const ALL_PERMISSIONS: &str = "webhook_read,webhook_write,event_write";
/// The last byte of the address that the first attacker calls from; the others follow.
const FIRST_ATTACKER: u8 = 66;
/// How long a server may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(20);
/// How often it is looked at for that, and the most it works meanwhile.
const REST_LOOK: Duration = Duration::from_millis(250);
const REST_CPU: Duration = Duration::from_millis(30);
/// How long the neighbour is watched before an attack.
const BEFORE: Duration = Duration::from_secs(4);
/// The least that he has to wait longer before it counts, in microseconds.
const NOTICED_US: u64 = 10_000;

/// Measures the attacks that are asked for. One that can't be made says so in
/// its row, and the others go on.
pub async fn measure(folder: &Path, args: &BenchArgs) -> Vec<Row> {
    let mut rows = Vec::new();
    for trial in asked_for(&args.attack) {
        let Trial { name: attack, what, .. } = trial;
        let bar = super::measure::spinner(format!("tenants: {attack}"));
        let noticed = suffer(trial, &folder.join(attack), args).await;
        bar.finish_and_clear();
        let (noticed, failed) = match noticed {
            Ok(noticed) => (Some(noticed), None),
            Err(failure) => (None, Some(failure.message.unwrap_or_default())),
        };
        rows.push(Row { attack, what, noticed, failed });
    }
    rows
}

async fn suffer(trial: Trial, folder: &Path, args: &BenchArgs) -> Result<Noticed, Failure> {
    std::fs::create_dir(folder).map_err(Failure::failed)?;
    let measured = suffer_in(trial, folder, args).await;
    // Some stores are large, and need not wait for the end.
    std::fs::remove_dir_all(folder).map_err(Failure::failed)?;
    measured
}

async fn suffer_in(trial: Trial, folder: &Path, args: &BenchArgs) -> Result<Noticed, Failure> {
    let (site, key) = Site::open(folder, args)?;
    let neighbour = Neighbour::set_up(&site.server.address, "neighbour", &key).await?;
    let mut attackers = Vec::new();
    // One after the other, so that each has the time that it has alone.
    for (number, attack) in (0..).zip(trial.attacks) {
        let named = |failure: Failure| failure.about(attack.name);
        let mut attacker = site.attacker(attack, number, args.attack_seconds).map_err(named)?;
        attacker.prepared().await.map_err(named)?;
        attackers.push(attacker);
    }
    let server = &site.server;
    rest(server).await;
    let lasts = Duration::from_secs(args.attack_seconds);
    let before = neighbour.live(BEFORE.min(lasts)).await;
    server.forget_peak();
    for attacker in &mut attackers {
        attacker.go()?;
    }
    let during = neighbour.live(lasts).await;
    let peak_rss = server.usage().peak_rss;
    let mut tally = Some(Tally::default());
    for attacker in attackers {
        tally = tally.zip(attacker.end().await).map(|(sum, one)| sum + one);
    }
    rest(server).await;
    let (rss_after, store_bytes) = (server.usage().rss, bytes_in(folder));
    Ok(Noticed { attacker: tally, waits: compare(before, during), peak_rss, rss_after, store_bytes })
}

/// Where a trial takes place.
struct Site {
    program: PathBuf,
    server: Process,
    /// The attackers' receiver.
    receiver: Process,
    room: Room,
}

impl Site {
    /// Starts the processes; and the neighbour's key.
    fn open(folder: &Path, args: &BenchArgs) -> Result<(Self, String), Failure> {
        let program = args.server()?;
        let room = Room::make(folder, args)?;
        let key = make_user(&program, &room.store, "neighbour", "neighbour", ALL_PERMISSIONS)?;
        let serve = ["serve", "--listen", "127.0.0.1:0", "--allow-target", "127.0.0.0/8", "--log", "error", "--store"];
        let server = Process::start(Command::new(&program), &[&serve[..], &[&room.store]].concat(), None)?;
        let receive = ["bench-receiver", "--bind", "127.0.0.1:0"];
        let receiver = Process::start(polite(&ourselves()?), &receive, None)?;
        Ok((Self { program, server, receiver, room }, key))
    }

    /// Starts an attacker, who has a merchant and an address of his own.
    fn attacker(&self, attack: &Attack, number: u8, seconds: u64) -> Result<AttackerProcess, Failure> {
        let (user, reader) = (format!("attacker-{number}"), format!("reader-{number}"));
        let make = |name: &str, permissions| make_user(&self.program, &self.room.store, name, &user, permissions);
        AttackerProcess::start(&[
            ["--attack", attack.name],
            ["--from", &Ipv4Addr::new(127, 0, 0, FIRST_ATTACKER + number).to_string()],
            ["--address", &self.server.address],
            ["--receiver", &self.receiver.address],
            ["--user", &user],
            ["--key", &make(&user, ALL_PERMISSIONS)?],
            ["--reader-key", &make(&reader, "webhook_read")?],
            ["--seconds", &seconds.to_string()],
        ])
    }
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
