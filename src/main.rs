//! The program; see [`tallyhook::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tallyhook::cli::main()
}
