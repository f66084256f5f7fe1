//! What a person types. Results go to stdout, everything else to stderr; the
//! exit code is 0 if all went well, 1 for a failure, 2 for a wrong command
//! line or configuration, 130 for a second signal.

mod audit;
mod backup;
mod bench;
mod call;
mod check;
mod client;
mod colour;
mod copies;
mod demo;
mod docs;
mod export;
mod flags;
mod folder;
mod health;
mod import;
mod json;
mod key;
mod listen;
mod merchant;
mod method_help;
mod migrate;
mod node;
mod number_log;
mod openrpc;
mod receiver;
mod restore;
mod sdk;
mod serve;
mod shell;
mod signals;
mod socket;
mod store;
mod supervisor;
mod table;
mod tail;
mod target;
mod topic;
mod user;

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind as ClapErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// The merchant that `serve --dev` and `demo` make.
const DEMO_MERCHANT: &str = "demo";
/// Its user.
const DEMO_USER: &str = "demo";
/// The user's API key, which everybody knows; a server that is not in dev mode refuses the user.
const DEMO_KEY: &str = "demo-key";
/// Ended by a signal (128 + SIGINT).
const EXIT_INTERRUPTED: u8 = 130;

const EXAMPLES: &str = "\
Start here:
  tallyhook demo              the whole story in a few seconds
  tallyhook serve --dev       a server for trying things out, and how to call it

In earnest:
  tallyhook user create shop --merchant acme      prints the API key, once
  tallyhook serve --listen 0.0.0.0:8080 --store sqlite:/srv/tallyhook.db

Exit codes: 0 all went well, 1 a failure, 2 a wrong command line or
configuration, 130 ended by a second signal.";

/// A webhook server that loses nothing it has accepted, and numbers what it sends without gaps.
#[derive(Parser)]
#[command(name = "tallyhook", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    #[command(after_help = serve::EXAMPLES)]
    Serve(flags::ServeFlags),
    /// Make, list, disable and revoke users, beside a running server or without one.
    #[command(subcommand, after_help = user::EXAMPLES)]
    User(user::UserCommand),
    /// Make, list, change, pause and resume merchants, beside a running server or without one.
    #[command(subcommand, after_help = merchant::EXAMPLES)]
    Merchant(merchant::MerchantCommand),
    /// Load and print catalogues of topics, beside a running server or without one.
    #[command(subcommand, after_help = topic::EXAMPLES)]
    Topic(topic::TopicCommand),
    /// List the servers that share a store, beside them or without one.
    #[command(subcommand, after_help = node::EXAMPLES)]
    Node(node::NodeCommand),
    /// Print who has changed what, beside a running server or without one.
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::AuditArgs),
    /// Give a store that was put back from an older copy a new id.
    #[command(subcommand, after_help = store::EXAMPLES)]
    Store(store::StoreCommand),
    /// Make and rotate the master keys that encrypt secrets at rest.
    #[command(subcommand, after_help = key::EXAMPLES)]
    Key(key::KeyCommand),
    /// Look whether a store is as it has to be, beside a running server or without one.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Copy a store in a file into another one, beside a running server or without one.
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::BackupArgs),
    /// Put a copy in the place of a store, under a new id.
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::RestoreArgs),
    /// Copy a whole store from a file into PostgreSQL, or back.
    #[command(after_help = migrate::EXAMPLES)]
    Migrate(migrate::MigrateArgs),
    /// Ask a server whether it can do its work; the exit code says so.
    #[command(after_help = health::EXAMPLES)]
    Health(health::HealthArgs),
    /// Receive deliveries on this machine: verify signatures, show numbers, shout at gaps and duplicates.
    #[command(after_help = listen::EXAMPLES)]
    Listen(listen::ListenArgs),
    /// Log in to a server, call a method, and print its result.
    #[command(after_help = call::EXAMPLES, disable_help_flag = true)]
    Call(call::CallArgs),
    /// Show deliveries as they are numbered, tried and ended, or events as they are published.
    #[command(after_help = tail::EXAMPLES)]
    Tail(tail::TailArgs),
    /// Write the webhooks of a server as lines of JSON, from which `import` makes them again.
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Make webhooks of what `export` has written, or of what Svix, Convoy or Outpost list.
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
    /// Print the OpenRPC document: every method with its parameters, result, faults and examples.
    #[command(after_help = openrpc::EXAMPLES)]
    Openrpc(openrpc::OpenrpcArgs),
    /// Write the reference of the interface: a page for a browser, and the OpenRPC document it is made from.
    #[command(after_help = docs::EXAMPLES)]
    Docs(docs::DocsArgs),
    /// Write a client package for TypeScript or Python.
    #[command(after_help = sdk::EXAMPLES)]
    Sdk(sdk::SdkArgs),
    /// Measure a server process on this machine, beside what the machine could do at best.
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// The receiver of a measurement, in a process of its own.
    #[command(hide = true)]
    BenchReceiver(bench::ReceiverArgs),
    /// The attacker of a measurement, in a process of its own.
    #[command(hide = true)]
    BenchAttacker(bench::AttackerArgs),
    /// Print what has a shell complete this command line.
    #[command(after_help = shell::COMPLETIONS_EXAMPLES)]
    Completions(shell::CompletionsArgs),
    /// Write the manual: a page for each command.
    #[command(after_help = shell::MAN_EXAMPLES)]
    Man(shell::ManArgs),
    /// Show it all at work: server, receiver, webhook, events, a failure and its retry.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// The command line or the configuration is wrong.
    fn usage(message: impl Display) -> Self {
        Self { code: 2, message: Some(message.to_string()) }
    }

    /// Something else is.
    fn failed(message: impl Display) -> Self {
        Self { code: 1, message: Some(message.to_string()) }
    }

    /// The same, with what it was about before it.
    fn about(self, what: &str) -> Self {
        Self { message: self.message.map(|message| format!("{what}: {message}")), ..self }
    }

    /// Something is wrong, and stdout says what.
    fn told() -> Self {
        Self { code: 1, message: None }
    }

    /// The reader of stdout has seen enough, as `head` does. There is nothing
    /// left to do, and nothing wrong.
    fn seen_enough() -> Self {
        Self { code: 0, message: None }
    }

    /// Somebody was in a hurry.
    fn interrupted() -> Self {
        Self { code: EXIT_INTERRUPTED, message: None }
    }
}

/// Runs the program on the process's own command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let done = match cli.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::User(command) => user::run(command),
        Command::Merchant(command) => merchant::run(command),
        Command::Topic(command) => topic::run(command),
        Command::Node(command) => node::run(command),
        Command::Audit(args) => audit::run(&args),
        Command::Store(command) => store::run(command),
        Command::Key(command) => key::run(command),
        Command::Check(args) => check::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Listen(args) => listen::run(args),
        Command::Call(args) => call::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Openrpc(args) => openrpc::run(&args),
        Command::Docs(args) => docs::run(&args),
        Command::Sdk(args) => sdk::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchReceiver(args) => bench::receive(&args),
        Command::BenchAttacker(args) => bench::attack(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message {
                say(&format!("tallyhook: {message}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Help and version are what was asked for; the rest is a wrong command line.
fn explain(error: &clap::Error) -> ExitCode {
    if error.kind() == ClapErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() {
        // A reader that has gone away is no reason to fail.
        let _ = error.print();
    } else {
        let text = error.render().to_string();
        say(&format!("tallyhook: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Writes a line of result.
fn print(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Err(Failure::seen_enough()),
        Err(cause) => Err(Failure::failed(format!("can't write to stdout: {cause}"))),
    }
}

/// Writes a line of what is done anyway, whether somebody reads it or not.
fn tell(line: &str) -> Result<(), Failure> {
    match print(line) {
        Err(gone) if gone.code == 0 => Ok(()),
        printed => printed,
    }
}

/// Writes a line for the person at the terminal, if there is one.
fn say(line: &str) {
    // Without stderr there is nowhere left to complain.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The longest text that is read from stdin, in bytes: as long as a body may be.
const STDIN_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Reads a file, or stdin for `-`, as text.
fn read_text(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|cause| Failure::failed(format!("{} can't be read: {cause}", file.display())))
}

/// The command line, as clap knows it.
fn command() -> clap::Command {
    Cli::command()
}

/// The help of a subcommand, as clap lays it out.
fn help_of(name: &str) -> String {
    let mut cli = command();
    cli.build();
    cli.find_subcommand_mut(name).map(|command| command.render_help().to_string()).unwrap_or_default()
}

/// Runs a command that waits for things, on a runtime of its own.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::failed(format!("the system gives no threads: {cause}")))?;
    let done = runtime.block_on(command);
    // Whatever still runs is not waited for: what had to end has ended.
    runtime.shutdown_background();
    done
}

/// How the person called this program, to be repeated in what they may copy.
fn program() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
    if !typed.is_empty() && typed.bytes().all(plain) { typed } else { "tallyhook".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_teaches_with_examples() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("tallyhook {}", command.get_name())), "{}", command.get_name());
        }
    }
}
