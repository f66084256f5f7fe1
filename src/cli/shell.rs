//! `tallyhook completions` and `tallyhook man`: what a shell and a reader of manuals
//! want, made from the command line itself.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Failure, command, print, tell};

/// What the help of `completions` ends with.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tallyhook completions bash > ~/.local/share/bash-completion/completions/tallyhook
  tallyhook completions zsh > ~/.zfunc/_tallyhook
  tallyhook completions fish > ~/.config/fish/completions/tallyhook.fish

A new shell has them; zsh, if ~/.zfunc is in its fpath before compinit is called.";

/// What the help of `man` ends with.
pub const MAN_EXAMPLES: &str = "\
Examples:
  tallyhook man --out man
  man man/tallyhook-serve.1

It writes a page for the program, and one for each command.";

/// For which shell.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where to write.
#[derive(Args)]
pub struct ManArgs {
    /// The folder to write to; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints what has a shell complete the command line.
pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let (all, mut script) = (command(), Vec::new());
    let name = all.get_name().to_owned();
    // clap offers hidden commands, too.
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut cli = Command::new(name.clone()).version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    clap_complete::generate(args.shell, &mut cli, name, &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

/// Writes the manual, and says which pages.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut cli = command().disable_help_subcommand(true);
    cli.build();
    std::fs::create_dir_all(&args.out).map_err(|cause| cannot_write(&args.out, &cause))?;
    write_page(&cli, &args.out)
}

/// The page of a command, and those of all below it.
fn write_page(command: &Command, folder: &Path) -> Result<(), Failure> {
    let page = clap_mangen::Man::new(command.clone());
    let (path, mut text) = (folder.join(page.get_filename()), Vec::new());
    page.render(&mut text).and_then(|()| std::fs::write(&path, text)).map_err(|cause| cannot_write(&path, &cause))?;
    tell(&path.display().to_string())?;
    let mut below = command.get_subcommands().filter(|command| !command.is_hide_set());
    below.try_for_each(|command| write_page(command, folder))
}

fn cannot_write(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::failed(format!("{} can't be written: {cause}", path.display()))
}
